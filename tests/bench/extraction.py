"""Fetch and decode, against a plain requests + json + pandas client on the same sandbox process."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa

from plugins.fetcher import Fetched, fetch
from sandbox.process import running
from tests.bench import plain_client as plain
from tests.bench.ccxt_client import Unified
from tests.bench.measuring import Cost, Section, cpu_of, interleaved, seconds, times
from transforms.roster import source
from transforms.sources.binance import FUTURES_DATA_ROWS, QUARTER
from transforms.sources.contract import Ask, Series
from transforms.windows import HOUR, Window, floor, utc

NOW = utc("2026-08-01")
LATENCY_S = 0.05
WIDTH = 16
ROUNDS = 3
PAGES = 4  # of each series: what lies whole in the 30 days that REST keeps
TIMES = 4  # each series is asked so often: the sandbox has three contracts
QUARTER_OF_DAYS = Window(utc("2026-01-01"), utc("2026-04-01"))
BINANCE = source("binance")


def page_series() -> list[Series]:
    """Open interest and three ratios of three contracts in full pages of 500 rows."""
    span = QUARTER * FUTURES_DATA_ROWS
    end = floor(NOW - HOUR, span)
    window = Window(end - PAGES * span, end)
    return TIMES * [
        Series("binance", endpoint, symbol, window, QUARTER, (("period", "15m"),))
        for endpoint in plain.NUMBERS
        for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    ]


def archive_series() -> list[Series]:
    return [Series("binance", "archiveMetrics", "BTCUSDT", QUARTER_OF_DAYS, QUARTER)]


def decoded(fetched: Sequence[Fetched]) -> dict[str, pa.Table]:
    """Rows of all answers; anything but accepted answers without rejects raises: both sides must do the whole work."""
    parts: dict[str, list[pa.Table]] = {}
    for one in fetched:
        if one.disposition.verb != "accept":
            raise RuntimeError(f"the sandbox answered {one.disposition}")
        found = BINANCE.decode(one.ask, one.answer)
        if found.rejects:
            raise RuntimeError(f"a clean page has rejects: {found.rejects[0]}")
        for name, rows in found.tables.items():
            parts.setdefault(name, []).append(rows)
    return {name: pa.concat_tables(tables) for name, tables in parts.items()}


class Ours:
    """The fetcher and the source's decoder."""

    def __init__(self, address: str) -> None:
        self.hosts = {host: f"{address}/binance.{host}" for host in BINANCE.hosts}

    def fetched(self, series: Sequence[Series]) -> list[Fetched]:
        return fetch(BINANCE, series, hosts=self.hosts, now=lambda: datetime.now(UTC), in_flight=WIDTH, budget_scale=1e4)

    def tables(self, series: Sequence[Series]) -> dict[str, pa.Table]:
        return decoded(self.fetched(series))

    def urls(self, series: Sequence[Series]) -> list[str]:
        asks: list[Ask] = [ask for one in series for ask in BINANCE.asks(one)]
        return [self.hosts[ask.host] + ask.target for ask in asks]


def same_pages(ours: dict[str, pa.Table], frame: pd.DataFrame) -> float:
    """Largest relative difference between both sides' values; another number of rows or another stamp raises."""
    splits = ours["long_short"].to_pandas()
    stocks = ours["open_interest"].to_pandas()
    metric = {
        "globalLongShortAccountRatio": "global_account",
        "topLongShortAccountRatio": "top_account",
        "topLongShortPositionRatio": "top_position",
    }
    worst = 0.0
    for endpoint, theirs in frame.groupby("endpoint"):
        if endpoint == "openInterestHist":
            mine, pairs = (
                stocks,
                (("open_interest_native", "sumOpenInterest"), ("open_interest_usd", "sumOpenInterestValue")),
            )
        else:
            mine = splits[splits["ratio_metric"] == metric[str(endpoint)]]
            pairs = (("long_share", "longAccount"), ("short_share", "shortAccount"))
        mine, theirs = mine.sort_values(["instrument", "as_of"]), theirs.sort_values(["symbol", "timestamp"])  # noqa: PLW2901
        worst = max(worst, agree(mine, theirs, ("instrument", "symbol"), ("as_of", "timestamp"), pairs))
    return worst


def same_days(ours: dict[str, pa.Table], frame: pd.DataFrame) -> float:
    frame = frame.assign(as_of=frame["create_time"].dt.tz_localize("UTC")).sort_values("as_of")
    stocks = ours["open_interest"].to_pandas().sort_values("as_of")
    pairs = (("open_interest_native", "sum_open_interest"), ("open_interest_usd", "sum_open_interest_value"))
    worst = agree(stocks, frame, ("instrument", "symbol"), ("as_of", "as_of"), pairs)
    splits = ours["long_short"].to_pandas()
    for metric, rows in splits.groupby("ratio_metric"):
        shares = (("long_share", f"{metric}_long"), ("short_share", f"{metric}_short"))
        worst = max(worst, agree(rows.sort_values("as_of"), frame, ("instrument", "symbol"), ("as_of", "as_of"), shares))
    return worst


def agree(mine: pd.DataFrame, theirs: pd.DataFrame, who: tuple[str, str], when: tuple[str, str], pairs: Sequence[tuple[str, str]]) -> float:
    """Rows of both sides one by one: same contract, same instant, and how far the numbers differ."""
    if len(mine) != len(theirs) or not len(mine):
        raise RuntimeError(f"{len(mine)} rows of ours, {len(theirs)} of the peer")
    if not (mine[who[0]].to_numpy() == theirs[who[1]].to_numpy()).all():
        raise RuntimeError("contracts differ")
    stamps = [
        side.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[us]") for side in (mine[when[0]], theirs[when[1]])
    ]
    if not (stamps[0] == stamps[1]).all():
        raise RuntimeError("stamps differ")
    worst = 0.0
    for a, b in pairs:
        one, other = mine[a].to_numpy(float), theirs[b].to_numpy(float)
        worst = max(worst, float(np.max(np.abs(one - other) / np.abs(other))))
    if not worst < 1e-12:
        raise RuntimeError(f"values differ by {worst}")
    return worst


def plain_decoded(fetched: Sequence[Fetched]) -> pd.DataFrame:
    """The peer's decoding of bytes that are already here."""
    if fetched[0].ask.accept == "zip":
        frames = [plain.day_frame(one.answer.body, one.answer.companion.decode()) for one in fetched]
    else:
        frames = [plain.page_frame(one.ask.series.endpoint, json.loads(one.answer.body)) for one in fetched]
    return pd.concat(frames, ignore_index=True)


def run(rounds: int = ROUNDS) -> Section:
    section = Section("Extraction and decoding")
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder, "latency.json")
        rules.write_text(json.dumps([{"path": ".", "kind": "timeout", "params": {"seconds": LATENCY_S}}]))
        with running("--limits-scale", "10000", "--now", f"{NOW.isoformat()}", "--faults", str(rules)) as child:
            ours = Ours(child.address)
            server = next(one.pid for one in psutil.Process().children() if "sandbox" in " ".join(one.cmdline()))
            counters = {"server": lambda: cpu_of(server)[0]}
            section.say(
                f"Both sides ask one sandbox process that holds every answer for {LATENCY_S * 1000:.0f} ms, as a venue on another continent "
                f"does. Peer: `requests.Session`, `r.json()`, one DataFrame a page with `to_numeric` and `to_datetime`; for the archive "
                f"`zipfile` and `pandas.read_csv`. It checks the status and nothing else; ours also checks every field, limit, stamp and "
                f"symbol, and keeps the bytes. Median of {rounds} interleaved rounds; CPU is the client's."
            )
            for title, series, read, check in (
                ("pages of 500 rows (openInterestHist and three ratios)", page_series(), plain.page, same_pages),
                ("days of the metrics archive (zip and CHECKSUM each)", archive_series(), plain.day, same_days),
            ):
                urls = ours.urls(series)
                held = ours.fetched(series)
                tables = decoded(held)
                worst = check(tables, plain_decoded(held))
                rows = sum(table.num_rows for table in tables.values())
                got = interleaved(
                    {
                        f"ours, {WIDTH} in flight": lambda series=series: ours.tables(series),
                        "plain, one after the other": lambda read=read, urls=urls: plain.one_after_the_other(read, urls),
                        f"plain, {WIDTH} threads": lambda read=read, urls=urls: plain.in_threads(read, urls, WIDTH),
                    },
                    rounds,
                    counters,
                )
                alone = interleaved(
                    {
                        "ours, decoding alone": lambda held=held: decoded(held),
                        "plain, decoding alone": lambda held=held: plain_decoded(held),
                    },
                    rounds,
                )
                section.say(
                    f"**{len(urls)} {title}**: {rows:,} rows; values of both sides compared before timing, largest relative difference "
                    f"{worst:.1e}."
                )
                section.table(["client", "wall, ours = 1", "CPU, ours = 1", "wall s", "CPU s", "server CPU s"], _rows(got, alone))
                first = got[f"ours, {WIDTH} in flight"]
                threads = got[f"plain, {WIDTH} threads"]
                section.verdicts.append(
                    (
                        f"extraction, {title}: CPU of the plain threaded client",
                        "more than ours",
                        f"{times(threads['cpu'] / first['cpu'])} x ours",
                        threads["cpu"] > first["cpu"],
                    )
                )
            _beside_ccxt(section, ours, child.address, rounds, counters)
    section.say(
        "How to read it: wall of `one after the other` is almost all latency; with the same width the server and the latency bound both "
        "clients, so CPU is the row that tells them apart. `decoding alone` starts from the same bytes in memory."
    )
    return section


def _beside_ccxt(section: Section, ours: Ours, address: str, rounds: int, counters: dict[str, Callable[[], float]]) -> None:
    """The one of the four endpoints that ccxt's unified API reaches as it is: open interest."""
    series = [one for one in page_series() if one.endpoint == "openInterestHist"]
    urls, peer = ours.urls(series), Unified(address)
    mine = {
        (row["instrument"], row["as_of"].timestamp()): row["open_interest_base"] for row in ours.tables(series)["open_interest"].to_pylist()
    }
    theirs = {
        (row["info"]["symbol"], row["timestamp"] / 1000): row["openInterestAmount"] for page in peer.pages(urls, WIDTH) for row in page
    }
    if mine != theirs:
        raise RuntimeError(f"{len(mine)} values of ours and {len(theirs)} of ccxt are not the same")
    got = interleaved(
        {
            f"ours, {WIDTH} in flight": lambda: ours.tables(series),
            f"ccxt, unified call, {WIDTH} in flight": lambda: peer.pages(urls, WIDTH),
            f"plain, {WIDTH} threads": lambda: plain.in_threads(plain.page, urls, WIDTH),
        },
        rounds,
        counters,
    )
    first, other = got[f"ours, {WIDTH} in flight"], got[f"ccxt, unified call, {WIDTH} in flight"]
    rate = {name: len(urls) / cost["wall"] for name, cost in got.items()}
    section.say(
        f"**{len(urls)} pages of open interest, ccxt's unified call beside**: {len(mine):,} values, equal on both sides. Pages a second: "
        + ", ".join(f"{name} {found:.0f}" for name, found in rate.items())
        + "; CPU a page: "
        + ", ".join(f"{name} {1000 * cost['cpu'] / len(urls):.1f} ms" for name, cost in got.items())
        + ". ccxt makes dicts of floats beside the venue's strings and checks nothing; it can reach one of the four endpoints by a unified "
        "call whose numbers mean what they say (the ratio call does not say which ratio)."
    )
    section.table(["client", "wall, ours = 1", "CPU, ours = 1", "wall s", "CPU s", "server CPU s"], _rows(got, {}))
    section.verdicts.append(
        (
            "extraction, pages of open interest: CPU of ccxt's unified call",
            "more than ours",
            f"{times(other['cpu'] / first['cpu'])} x ours",
            other["cpu"] > first["cpu"],
        )
    )


def _rows(got: dict[str, Cost], alone: dict[str, Cost]) -> list[list[str]]:
    rows = []
    for group in (one for one in (got, alone) if one):
        base = next(iter(group.values()))
        for name, cost in group.items():
            server = seconds(cost["server"]) if "server" in cost else ""
            rows.append(
                [
                    name,
                    times(cost["wall"] / base["wall"]),
                    times(cost["cpu"] / base["cpu"]),
                    seconds(cost["wall"]),
                    seconds(cost["cpu"]),
                    server,
                ]
            )
    return rows
