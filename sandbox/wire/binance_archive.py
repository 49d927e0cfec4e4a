"""data.binance.vision: daily metrics and monthly fundingRate zips with their CHECKSUM, and S3's XML for what is not there.

A file appears one day after its span has ended. Bytes are deterministic: the archive of a day is the same whenever it is asked.
Label rule of metrics (binance-public-data issue 491): END of the five minutes before 2026-06-25, START from that day on; after the
switch the row labelled T holds the snapshot of T + 5 min and the flow of [T, T + 5 min).
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final

import numpy as np

from sandbox.market import DAY_MS, RATIOS, Market, Stamps, day_ms
from sandbox.wire.reply import Query, Reply, render
from transforms.windows import from_ms

FIVE_MINUTES_MS: Final = 300_000
START_LABELS_FROM: Final = date(2026, 6, 25)
METRICS_HEADER: Final = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio"
)
FUNDING_HEADER: Final = "calc_time,funding_interval_hours,last_funding_rate"
_METRICS: Final = re.compile(r"/data/futures/um/daily/metrics/([A-Z0-9]+)/\1-metrics-(\d{4}-\d\d-\d\d)\.zip")
_FUNDING: Final = re.compile(r"/data/futures/um/monthly/fundingRate/([A-Z0-9]+)/\1-fundingRate-(\d{4}-\d\d)\.zip")


class Vision:
    """data.binance.vision over a market that has an archive; of any other market every file is missing."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._metrics = lru_cache(maxsize=4096)(self._make_metrics)
        self._funding = lru_cache(maxsize=512)(self._make_funding)

    def answer(self, query: Query) -> Reply:
        path = query.path.removesuffix(".CHECKSUM")
        made = self._find(path)
        if made is None:
            return _no_such_key(query.path)
        content, stored_ms = made
        if path != query.path:
            text = f"{hashlib.sha256(content).hexdigest()}  {path.rsplit('/', 1)[1]}\n".encode()
            return Reply(200, text, "binary/octet-stream", _headers(text, stored_ms))
        return Reply(200, content, "application/zip", _headers(content, stored_ms))

    def _find(self, path: str) -> tuple[bytes, int] | None:
        """Content and time of storing; None for what the archive does not hold (yet)."""
        if not self.market.has_archive():
            return None
        metrics, funding = _METRICS.fullmatch(path), _FUNDING.fullmatch(path)
        found = metrics or funding
        if found is None or self.market.contract(found[1]) is None:
            return None
        try:
            first = date.fromisoformat(found[2] if metrics else f"{found[2]}-01")
        except ValueError:
            return None
        after = first + timedelta(days=1) if metrics else (first + timedelta(days=31)).replace(day=1)
        stored = day_ms(after) + DAY_MS
        if stored > self.market.now_ms():
            return None
        content = self._metrics(found[1], first) if metrics else self._funding(found[1], first, after)
        return None if content is None else (content, stored)

    def _make_metrics(self, symbol: str, day: date) -> bytes | None:
        start = day_ms(day)
        snapshots = self.market.positioning(symbol, FIVE_MINUTES_MS, start + FIVE_MINUTES_MS, start + DAY_MS)
        flow = self.market.taker(symbol, FIVE_MINUTES_MS, start, start + DAY_MS - FIVE_MINUTES_MS)
        ends, here, there = np.intersect1d(snapshots.at, flow.at + FIVE_MINUTES_MS, assume_unique=True, return_indices=True)
        if not len(ends):
            return None
        labels = ends if day < START_LABELS_FROM else ends - FIVE_MINUTES_MS
        global_account, top_account, top_position = (snapshots[f"{name}_ratio"][here] for name in RATIOS)
        text = _lines(
            labels,
            f",{symbol},",
            [
                ("", "%.8f", snapshots["oi_base"][here]),
                (",", "%.8f", snapshots["oi_usd"][here]),
                (",", "%.8f", top_account),
                (",", "%.8f", top_position),
                (",", "%.8f", global_account),
                (",", "%.8f", flow["ratio"][there]),
            ],
        )
        return _zip(f"{symbol}-metrics-{day}.csv", f"{METRICS_HEADER}\n{text}\n", day)

    def _make_funding(self, symbol: str, first: date, after: date) -> bytes | None:
        rows = self.market.settlements(symbol, day_ms(first), day_ms(after) - 1)
        if not len(rows):
            return None
        text = render([("", "%d", rows.at), (",8,", "%.8f", rows["rate"])], "", "\n")
        return _zip(f"{symbol}-fundingRate-{first:%Y-%m}.csv", f"{FUNDING_HEADER}\n{text}\n", first)


def _lines(labels: Stamps, symbol: str, pieces: list[tuple[str, str, np.ndarray]]) -> str:
    stamps = np.datetime_as_string(labels.astype("datetime64[ms]"), unit="s")
    values = render(pieces, "", "\n").split("\n")
    return "\n".join(f"{stamp.replace('T', ' ')}{symbol}{value}" for stamp, value in zip(stamps.tolist(), values, strict=True))


def _zip(member: str, text: str, day: date) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(member, (day.year, day.month, day.day, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, text, compresslevel=3)
    return buffer.getvalue()


def _headers(content: bytes, stored_ms: int) -> dict[str, str]:
    stored: datetime = from_ms(stored_ms).astimezone(UTC)
    etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return {"ETag": f'"{etag}"', "Last-Modified": f"{stored:%a, %d %b %Y %H:%M:%S} GMT"}


def _no_such_key(path: str) -> Reply:
    key = re.sub(r"[^\w./-]", "?", path.lstrip("/"))
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message>'
        f"<Key>{key}</Key><RequestId>0</RequestId><HostId>0</HostId></Error>"
    )
    return Reply(404, text.encode(), "application/xml")
