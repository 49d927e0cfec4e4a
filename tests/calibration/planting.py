"""Defects planted in data that has none: what share of them does its detector see?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from tests.calibration import recorded
from tests.property import synthetic
from transforms.detectors import DETECTORS, Inputs
from transforms.schema import arrow_schema
from transforms.tables import TABLES

BY_NAME = {one.name: one for one in DETECTORS}
KEY = ["source", "venue", "instrument"]


class Planted(NamedTuple):
    """Data with defects in it: each is (instrument, first us, last us); a finding that overlaps one has seen it."""

    inputs: Inputs
    spans: list[tuple[str, int, int]]


class Trial(NamedTuple):
    detector: str
    defect: str
    data: str
    plant: Callable[[np.random.Generator], Planted]


def micros(stamps: pd.Series) -> np.ndarray:
    return stamps.astype("int64").to_numpy() if stamps.dt.unit == "us" else stamps.astype("int64").to_numpy() // 1000


def altered(
    tables: Mapping[str, pa.Table],
    table: str,
    rng: np.random.Generator,
    rows: int | None,
    change: Callable[[pd.DataFrame, np.ndarray], pd.DataFrame],
    *,
    skip: int = 60,
    share: float = 1.0,
    where: Callable[[pd.DataFrame], pd.Series] | None = None,
    at: Callable[[pd.DataFrame], int] | None = None,
) -> Planted:
    """`change(track, positions)` at a random place of each track of a table, not among its first `skip` rows.

    rows: how many rows it lasts; None = to the end. share: of the tracks that get one. at: the place instead of a random one.
    """
    frame = tables[table].to_pandas()
    parts, spans = [], []
    supply = table == "stablecoin_supply"  # its coins are its instruments
    key = ["source", "stablecoin"] if supply else [*KEY, *(["ratio_metric"] if table == "long_short" else [])]
    for _, track in frame.groupby(key, sort=True):
        track = track.sort_values(["as_of", "revision"]).drop_duplicates("as_of", keep="last").reset_index(drop=True)  # noqa: PLW2901
        if len(track) > skip + 12 and rng.random() < share and (where is None or where(track).iloc[0]):
            begin = int(rng.integers(skip, len(track) - max(8, rows or 8))) if at is None else at(track)
            span = np.arange(begin, len(track) if rows is None else min(len(track), begin + rows))
            stamps = micros(track.as_of)
            spans.append((track["stablecoin" if supply else "instrument"][0], int(stamps[begin]), int(stamps[span[-1]])))
            track = change(track, span)  # noqa: PLW2901
        parts.append(track)
    whole = pd.concat(parts, ignore_index=True)
    return Planted(
        Inputs({**tables, table: pa.Table.from_pandas(whole, schema=arrow_schema(TABLES[table]), preserve_index=False)}, {}), spans
    )


def times(factor: float, *columns: str) -> Callable[[pd.DataFrame, np.ndarray], pd.DataFrame]:
    def change(track: pd.DataFrame, span: np.ndarray) -> pd.DataFrame:
        track = track.copy()
        for column in columns:
            track.loc[span, column] *= factor
        return track

    return change


def held(*columns: str) -> Callable[[pd.DataFrame, np.ndarray], pd.DataFrame]:
    def change(track: pd.DataFrame, span: np.ndarray) -> pd.DataFrame:
        track = track.copy()
        for column in columns:
            track.loc[span, column] = track.loc[span[0] - 1, column]
        return track

    return change


def relabelled(track: pd.DataFrame, span: np.ndarray) -> pd.DataFrame:
    """From here on each row carries the stamp of the one before."""
    track = track.copy()
    early = track.as_of.shift(1)
    track.loc[span, "as_of"] = early[span]
    return track.drop(index=span[0] - 1).reset_index(drop=True)


def dropped(track: pd.DataFrame, span: np.ndarray) -> pd.DataFrame:
    return track.drop(index=span).reset_index(drop=True)


def redrawn(track: pd.DataFrame, span: np.ndarray) -> pd.DataFrame:
    track = track.copy()
    odds = np.log(track.long_share / track.short_share)[span] + 0.3
    track.loc[span, "long_share"] = 1 / (1 + np.exp(-odds))
    track.loc[span, "short_share"] = 1 - track.loc[span, "long_share"]
    return track


OI = ("open_interest_native", "open_interest_base", "open_interest_usd")
COPIED = "coinalyze"


def copied(tables: Mapping[str, pa.Table], table: str, name: str) -> dict[str, pa.Table]:
    """One table, and a second source that says the same of the instruments of one venue."""
    frame = tables[table].to_pandas()
    both = pd.concat([frame[frame.venue == name], frame[frame.venue == name].assign(source=COPIED)], ignore_index=True)
    return {table: pa.Table.from_pandas(both, schema=arrow_schema(TABLES[table]), preserve_index=False)}


def extreme(tables: Mapping[str, pa.Table]) -> Callable[[pd.DataFrame], int]:
    """The row of a track at which its candle moved most, of those that have rows around them."""
    bars = tables["candles"].to_pandas().sort_values("as_of")
    moves = {name: one.set_index("as_of").close_usd.pipe(np.log).diff().abs() for name, one in bars.groupby(["venue", "instrument"])}

    def place(track: pd.DataFrame) -> int:
        size = track.as_of.map(moves[track.venue[0], track.instrument[0]]).to_numpy(dtype=float).copy()
        size[:60] = size[-8:] = 0.0
        return int(np.nanargmax(size))

    return place


def _one_day(track: pd.DataFrame) -> int:
    return min(len(track) - 8, max(60, int((track.as_of < pd.Timestamp("2023-03-15", tz="UTC")).sum())))


def no_copy(track: pd.DataFrame) -> pd.Series:
    return track.source == COPIED


def _cut(rng: np.random.Generator) -> Planted:
    """Hourly candles of two venues: a window of 1,200 to 3,000 h was asked for and 1,000 rows came."""
    tables = recorded.multivenue().inputs.tables
    frame = tables["candles"].to_pandas()
    frame = frame[frame.venue.isin(["binance", "bybit"])]
    parts, spans, asked = [], [], []
    hour = pd.Timedelta(hours=1)
    for (source, _, instrument), track in frame.groupby(KEY):
        track = track.sort_values("as_of").reset_index(drop=True)  # noqa: PLW2901
        while True:  # the recorder's own holes last weeks: no venue answers so
            length, head = int(rng.integers(1200, 3000)), bool(rng.random() < 0.5)
            begin = int(rng.integers(0, len(track) - length))
            whole = track.iloc[begin : begin + length]
            if whole.as_of.diff().max() <= 24 * hour:
                break
        part = whole.iloc[-1000:] if head else whole.iloc[:1000]
        start, end = whole.as_of.iloc[0] - hour, whole.as_of.iloc[-1]
        expected = round((end - start) / hour)
        given = {
            "source": source,
            "endpoint": "candles",
            "instrument": instrument,
            "target": "candles",
            "window_start": start,
            "window_end": end,
        }
        given |= {
            "expected": expected,
            "received": 1000,
            "missing": expected - 1000,
            "refused": 0,
            "missing_stamps": "[]",
            "complete": False,
        }
        asked.append(given | {"answers": 1, "run_id": "planted", "recorded_at": end, "date": end.date()})
        parts.append(part)
        spans.append((instrument, start.value // 1000, end.value // 1000))
    table = pa.Table.from_pandas(pd.concat(parts), schema=arrow_schema(TABLES["candles"]), preserve_index=False)
    return Planted(Inputs({"candles": table}, {}, pa.Table.from_pylist(asked, schema=arrow_schema(TABLES["coverage"]))), spans)


def _vintage(rng: np.random.Generator) -> Planted:
    """DVOL told anew: half of its settled days moved by 6 to 30 %."""
    table = recorded.slow().inputs.tables["volatility_index"]
    frame = table.to_pandas()
    again = frame.sample(frac=0.5, random_state=int(rng.integers(1 << 30)))
    asked = frame.as_of.max() + pd.Timedelta(days=5)
    factor = 1 + rng.uniform(0.06, 0.3, len(again)) * rng.choice([-1, 1], len(again))
    again = again.assign(
        implied_volatility=again.implied_volatility * factor, revision=1, raw_sha256="f" * 64, fetched_at=asked, known_at=asked
    )
    both = pa.Table.from_pandas(pd.concat([frame, again]), schema=table.schema, preserve_index=False)
    span = ("BTC-DVOL", again.as_of.min().value // 1000, again.as_of.max().value // 1000)
    return Planted(Inputs({"volatility_index": both}, {}), [span])


def _sides(rng: np.random.Generator) -> Planted:
    """Coinalyze's liquidations with their sum as the total; of one row per contract a twentieth is lost."""
    tables = recorded.coinalyze().inputs.tables
    sums = tables["liquidations"].to_pandas()
    sums["total_liquidated_base"] = sums.long_liquidated_base + sums.short_liquidated_base
    columns = [*KEY, "asset", "as_of", "known_at", "interval_h", "total_liquidated_base"]
    found = altered(
        {"liquidations": tables["liquidations"]}, "liquidations", rng, 1, times(0.95, "long_liquidated_base", "short_liquidated_base")
    )
    totals = pa.Table.from_pandas(sums[columns], preserve_index=False)
    return found._replace(inputs=replace(found.inputs, tables={**found.inputs.tables, "liquidation_totals": totals}))


def _midnights(rng: np.random.Generator) -> Planted:
    """Day files of Binance open interest that both hold 00:00."""
    frame = recorded.positioning().inputs.tables["open_interest"].to_pandas()
    frame = frame[frame.venue == "binance"]
    day = frame.as_of.dt.floor("D").astype(str)
    again = frame[frame.as_of == frame.as_of.dt.floor("D")]
    both = pd.concat(
        [frame.assign(raw_sha256=day), again.assign(raw_sha256=(again.as_of - pd.Timedelta(days=1)).dt.floor("D").astype(str))]
    )
    span = (int(again.as_of.min().value // 1000), int(again.as_of.max().value // 1000))
    table = pa.Table.from_pandas(both, schema=arrow_schema(TABLES["open_interest"]), preserve_index=False)
    return Planted(Inputs({}, {"open_interest": table}), [(name, *span) for name in sorted(set(frame.instrument))])


def _stale(rng: np.random.Generator) -> Planted:
    """Candles fall by 10 % from one hour on; the open interest of that and the next five hours is known six hours later."""
    tables = synthetic.market("1h", int(rng.integers(1000)))
    fallen = altered(tables, "candles", rng, None, times(0.9, "close_usd", "high_usd", "low_usd"))
    frame = tables["open_interest"].to_pandas()
    for name, first, _ in fallen.spans:
        since = pd.Timestamp(first, unit="us", tz="UTC")
        slow = (frame.instrument == name) & (frame.as_of >= since) & (frame.as_of < since + pd.Timedelta(hours=6))
        frame.loc[slow, "known_at"] += pd.Timedelta(hours=6)
    late = pa.Table.from_pandas(frame, schema=arrow_schema(TABLES["open_interest"]), preserve_index=False)
    return Planted(Inputs({**fallen.inputs.tables, "open_interest": late}, {}), [(name, at, at) for name, at, _ in fallen.spans])


def _rates(rng: np.random.Generator) -> Planted:
    """Settlements of 2026, six contracts of one venue: in percent from one instant on."""
    frame = recorded.settlements().inputs.tables["funding"].to_pandas()
    frame = frame[(frame.source == COPIED) & (frame.as_of >= "2026-01-01") & (frame.venue == rng.choice(["binance", "bybit"]))]
    instant = frame.as_of.drop_duplicates().sort_values().iloc[int(rng.integers(60, 600))]
    rate = frame.funding_rate.where(frame.as_of < instant, (frame.funding_rate * 100).clip(-0.75, 0.75))
    table = pa.Table.from_pandas(frame.assign(funding_rate=rate), schema=arrow_schema(TABLES["funding"]), preserve_index=False)
    spans = [(name, instant.value // 1000, frame.as_of.max().value // 1000) for name in sorted(set(frame.instrument))]
    return Planted(Inputs({"funding": table}, {}), spans)


def _on(data: Callable[[], recorded.Clean], table: str, rows: int | None, change, **more):
    return lambda rng: altered(data().inputs.tables, table, rng, rows, change, **more)


def _made_up(table: str, rows: int | None, change, **more):
    return lambda rng: altered(synthetic.market("1h", int(rng.integers(1000))), table, rng, rows, change, **more)


def _twin(data: Callable[[], recorded.Clean], table: str, venue: str, rows: int | None, change, **more):
    return lambda rng: altered(copied(data().inputs.tables, table, venue), table, rng, rows, change, where=no_copy, **more)


def _crash(change, rows: int):
    return lambda rng: altered(
        recorded.coinalyze().inputs.tables, "open_interest", rng, rows, change, at=extreme(recorded.coinalyze().inputs.tables)
    )


DAILY, QUARTER, HOURLY, MADE = "coinalyze daily", "quarter-hours", "seven venues, hourly", "made-up market"
TRIALS = (
    *(
        Trial("unit_break", f"x{f:g} for a day, open interest", DAILY, _on(recorded.coinalyze, "open_interest", 1, times(f, *OI)))
        for f in (100.0, 1000.0, 0.01, 0.001)
    ),
    Trial("unit_break", "x100 for a day, open interest", QUARTER, _on(recorded.positioning, "open_interest", 96, times(100.0, *OI))),
    Trial("unit_break", "x100 for a day, price", HOURLY, _on(recorded.multivenue, "candles", 24, times(100.0, "close_usd"))),
    Trial("unit_break", "x100 for a day, open interest", MADE, _made_up("open_interest", 24, times(100.0, *OI))),
    Trial("rate_unit_break", "x100 from an instant on, all contracts", "settlements of 2026", _rates),
    Trial(
        "side_break",
        "x0.5 from an instant on, no other venue",
        DAILY,
        _on(recorded.coinalyze, "open_interest", None, times(0.5, *OI), share=0.3),
    ),
    Trial(
        "side_break",
        "x0.5 from one day on, all contracts of the venue",
        DAILY,
        _on(recorded.coinalyze, "open_interest", None, times(0.5, *OI), at=_one_day),
    ),
    Trial(
        "side_break",
        "x0.5 from an instant on",
        QUARTER,
        _on(recorded.positioning, "open_interest", None, times(0.5, *OI), where=lambda t: t.venue == "bybit"),
    ),
    Trial(
        "side_break",
        "x2 from an instant on",
        QUARTER,
        _on(recorded.positioning, "open_interest", None, times(2.0, *OI), where=lambda t: t.venue == "bybit"),
    ),
    Trial("side_break", "x0.5 from an instant on", MADE, _made_up("open_interest", None, times(0.5, *OI), share=0.4)),
    Trial("side_break", "x2 from an instant on", MADE, _made_up("open_interest", None, times(2.0, *OI), share=0.4)),
    Trial("label_shift", "one step, against its candles", MADE, _made_up("open_interest", 200, relabelled)),
    Trial(
        "label_shift",
        "one step, against a second source",
        QUARTER,
        _twin(recorded.positioning, "open_interest", "binance", 800, relabelled, skip=300),
    ),
    Trial(
        "label_shift",
        "one step, against a second source",
        HOURLY,
        _twin(recorded.multivenue, "candles", "binance", 800, relabelled, skip=300),
    ),
    Trial("dead_feed", "constant for 24 h", QUARTER, _on(recorded.positioning, "open_interest", 96, held(*OI))),
    Trial("dead_feed", "constant for 24 h", MADE, _made_up("open_interest", 24, held(*OI))),
    Trial("dead_feed", "zero for 24 h", QUARTER, _on(recorded.positioning, "open_interest", 96, times(0.0, *OI))),
    Trial("dead_feed", "zero for 24 h", MADE, _made_up("open_interest", 24, times(0.0, *OI))),
    Trial("carried_forward", "six rows repeated", QUARTER, _on(recorded.positioning, "open_interest", 6, held(*OI))),
    Trial("carried_forward", "six rows repeated", HOURLY, _on(recorded.multivenue, "candles", 6, held("close_usd", "volume_base"))),
    Trial("missing_in_crash", "the row of the most extreme day is missing", DAILY, _crash(dropped, 1)),
    Trial("stale_in_stress", "a fall of 10 % in an hour, open interest six hours late", MADE, _stale),
    Trial("truncated_history", "1,000 rows of 1,200 to 3,000", HOURLY, _cut),
    Trial(
        "cohort_redraw",
        "log odds of top ratios + 0.3 from an instant on",
        QUARTER,
        _on(recorded.positioning, "long_short", None, redrawn, skip=120, where=lambda t: t.ratio_metric.str.startswith("top_")),
    ),
    Trial(
        "total_below_part",
        "the total x0.4 on one day",
        "supply",
        _on(recorded.slow, "stablecoin_supply", 1, times(0.4, "circulating_usd"), where=lambda t: t.stablecoin == "ALL"),
    ),
    Trial("invented_history", "half of DVOL's days told anew", "DVOL", _vintage),
    Trial("sides_beside_total", "5 % of both sides lost", DAILY, _sides),
    Trial("duplicated_midnight", "00:00 in both files", QUARTER, _midnights),
)


def rate(trial: Trial, seeds: int = 3) -> tuple[int, int]:
    """(seen, planted)."""
    seen, planted = 0, 0
    for seed in range(seeds):
        one = trial.plant(np.random.default_rng(seed))
        found = BY_NAME[trial.detector].find(one.inputs)
        planted += len(one.spans)
        seen += sum(
            any(f.instrument == name and f.window_end >= first and f.window_start <= last for f in found) for name, first, last in one.spans
        )
    return seen, planted
