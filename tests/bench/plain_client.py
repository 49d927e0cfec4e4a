"""The peer of the extraction: what one writes first, and well: a requests session, r.json(), a pandas frame for every page.

Same questions, same columns out. It checks a status and nothing else: no paging proof, no retry, no reason for a bad row.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import requests
from requests.adapters import HTTPAdapter

NUMBERS = {
    "openInterestHist": ["sumOpenInterest", "sumOpenInterestValue"],
    "globalLongShortAccountRatio": ["longAccount", "shortAccount", "longShortRatio"],
    "topLongShortAccountRatio": ["longAccount", "shortAccount", "longShortRatio"],
    "topLongShortPositionRatio": ["longAccount", "shortAccount", "longShortRatio"],
}


def session(width: int) -> requests.Session:
    """One session with a connection for each of `width` threads."""
    made = requests.Session()
    made.mount("http://", HTTPAdapter(pool_connections=width, pool_maxsize=width))
    return made


def endpoint_of(url: str) -> str:
    return url.split("?", 1)[0].rsplit("/", 1)[1]


def page_frame(endpoint: str, rows: list[dict[str, object]]) -> pd.DataFrame:
    """A page as a typed frame."""
    frame = pd.DataFrame(rows)
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="ms", utc=True)
    for column in NUMBERS[endpoint]:
        frame[column] = pd.to_numeric(frame[column])
    frame["endpoint"] = endpoint
    return frame


def page(client: requests.Session, url: str) -> pd.DataFrame:
    answer = client.get(url, timeout=30)
    answer.raise_for_status()
    return page_frame(endpoint_of(url), answer.json())


def day_frame(body: bytes, checksum: str) -> pd.DataFrame:
    """A day of the archive, checked against its published hash, on the 15-minute grid; shares from the ratios."""
    if hashlib.sha256(body).hexdigest() != checksum.split(maxsplit=1)[0]:
        raise ValueError("checksum")
    with zipfile.ZipFile(io.BytesIO(body)) as archive, archive.open(archive.namelist()[0]) as member:
        frame = pd.read_csv(member, parse_dates=["create_time"])
    frame = frame[frame["create_time"].dt.minute % 15 == 0].copy()
    for name, column in (
        ("global_account", "count_long_short_ratio"),
        ("top_account", "count_toptrader_long_short_ratio"),
        ("top_position", "sum_toptrader_long_short_ratio"),
    ):
        frame[f"{name}_long"] = frame[column] / (1 + frame[column])
        frame[f"{name}_short"] = 1 / (1 + frame[column])
    return frame


def day(client: requests.Session, url: str) -> pd.DataFrame:
    body, checksum = client.get(url, timeout=30), client.get(f"{url}.CHECKSUM", timeout=30)
    body.raise_for_status()
    checksum.raise_for_status()
    return day_frame(body.content, checksum.text)


def one_after_the_other(read: Callable[[requests.Session, str], pd.DataFrame], urls: Iterable[str]) -> pd.DataFrame:
    with session(1) as client:
        return pd.concat([read(client, url) for url in urls], ignore_index=True)


def in_threads(read: Callable[[requests.Session, str], pd.DataFrame], urls: Iterable[str], width: int) -> pd.DataFrame:
    with session(width) as client, ThreadPoolExecutor(width) as pool:
        return pd.concat(pool.map(lambda url: read(client, url), urls), ignore_index=True)
