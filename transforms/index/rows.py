"""From grids to rows: the published tables of a window, in declared schema and key order."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.agreement import comparisons, day_ends
from transforms.estimators import Bools, Floats, Ints
from transforms.features.contract import WORDS, Measured, Why
from transforms.features.levels import Gate
from transforms.features.memory import widened
from transforms.features.panel import Panel
from transforms.schema import arrow_schema, in_key_order
from transforms.signals.contract import State, wording
from transforms.spec import Spec
from transforms.tables import TABLES
from transforms.windows import partition_days

_INSTANT: Final = pa.timestamp("us", tz="UTC")
#: rows of a chunk that columns with one value share
_CHUNK: Final = 65_536
#: texts of a reason by `state * len(Why) + why`
REASONS: Final = tuple(wording(state, why) for state, why in product(State, Why))


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every published row carries about the run: vocabulary `market`, `vintage`, `code_sha`."""

    market: str
    vintage: str
    code_sha: str


def words(codes: NDArray[Any], values: Sequence[str | None]) -> pa.Array:
    """values[codes] as a string column."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values, type=pa.string())).cast(pa.string())


def numbers(values: NDArray[Any]) -> pa.Array:
    """A float column: NaN becomes null, -0.0 becomes 0."""
    found = values.astype(np.float64) + 0.0
    return pa.array(found, mask=~np.isfinite(found))


def instants(values: Ints, known: Bools | None = None) -> pa.Array:
    """A column of instants; null where not known."""
    return pa.array(values, mask=None if known is None else ~known).cast(_INSTANT)


def repeated(value: str, count: int) -> pa.ChunkedArray:
    """A column of one value whose chunks share their memory."""
    chunk = pa.array([value] * min(count, _CHUNK), type=pa.string())
    return pa.chunked_array([chunk.slice(0, min(_CHUNK, count - at)) for at in range(0, count, _CHUNK)], type=pa.string())


class Frame:
    """What the rows of all tables share: which (asset, bar) pairs are kept, in key order, and the stamp.

    keep: (assets, bars) from the panel's bar `first` on. Grids are (assets or 1, bars) of the same bars.
    """

    def __init__(self, panel: Panel, keep: Bools, first: int, cadence: str, spec: Spec, stamp: Stamp) -> None:
        self.keep = keep
        self.panel = panel
        self.first = first
        self.shape = keep.shape
        self.when = panel.when[first:]
        self.cutoff = panel.cutoff[first:]
        self.asset, self.bar = np.nonzero(keep)
        self.constants = {
            "cadence": cadence,
            "market": stamp.market,
            "vintage": stamp.vintage,
            "index_version": spec.index_version,
            "spec_sha256": spec.sha256,
            "code_sha": stamp.code_sha,
        }

    def of_panel(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of all bars of the panel, (assets or 1, bars): those of the frame's bars."""
        return widened(values[:, self.first :], self.shape)

    def stacked(self, values: Iterable[NDArray[Any]]) -> NDArray[Any]:
        """Grids side by side: for each kept pair, one value of each."""
        return np.stack([widened(grid, self.shape)[self.keep] for grid in values], axis=1).ravel()

    def tiled(self, values: Sequence[str]) -> pa.Array:
        """The same words for every kept pair."""
        return words(np.tile(np.arange(len(values)), len(self.asset)), values)

    def rows(self, name: str, width: int, columns: Mapping[str, pa.Array]) -> pa.Table:
        """A table of `width` rows for each kept pair."""
        return self.table(name, words(np.repeat(self.asset, width), self.panel.assets), np.repeat(self.bar, width), columns)

    def table(self, name: str, asset: pa.Array, bar: Ints, columns: Mapping[str, pa.Array]) -> pa.Table:
        """A table with one row per entry of `asset` and `bar` (a bar of the frame)."""
        count = len(bar)
        as_of = instants(self.when[bar])
        common: dict[str, pa.Array | pa.ChunkedArray] = {
            "asset": asset,
            "as_of": as_of,
            "known_at": instants(self.cutoff[bar]),
            "date": partition_days(as_of),
            **{column: repeated(value, count) for column, value in self.constants.items()},
        }
        return pa.table([{**common, **columns}[column] for column in TABLES[name].columns], schema=arrow_schema(TABLES[name]))

    def listed(self, name: str, found: Sequence[Mapping[str, Any]]) -> pa.Table:
        """A table from few rows, each with `asset` (name), `bar` (of the frame) and the table's own columns as plain values."""
        bar = np.array([row["bar"] for row in found], dtype=np.int64)
        columns = {
            column: pa.array([row[column] for row in found], type=arrow_schema(TABLES[name]).field(column).type)
            for column in TABLES[name].columns
            if found and column in found[0]
        }
        if not found:
            return arrow_schema(TABLES[name]).empty_table()
        return in_key_order(TABLES[name], self.table(name, columns.pop("asset"), bar, columns))


def feature_rows(frame: Frame, features: Mapping[str, Measured], fresh_h: Mapping[str, float], sparse: Container[str]) -> pa.Table:
    """Features of the panel's bars, (assets or 1, bars); a known value whose input is older than its limit says so.

    A feature of a source without history (`sparse`) has a row only where it has a value.
    """
    names = sorted(features)
    whys = []
    for name in names:
        one = features[name]
        stale = np.isfinite(one.value) & ~one.fresh(fresh_h[name])
        whys.append(frame.of_panel(np.where(stale, np.int8(Why.STALE), one.why)))
    columns = {
        "feature": frame.tiled(names),
        "feature_value": numbers(frame.stacked(frame.of_panel(features[name].value) for name in names)),
        "input_age_h": numbers(frame.stacked(frame.of_panel(features[name].age_h) for name in names)),
        "reason": words(frame.stacked(whys), [WORDS[why] for why in Why]),
    }
    found = frame.rows("features", len(names), columns)
    if not any(name in sparse for name in names):
        return found
    dense = np.tile([name not in sparse for name in names], len(frame.asset))
    return found.filter(pc.or_(pa.array(dense), pc.is_valid(found.column("feature_value"))))


@dataclass(frozen=True, slots=True)
class Line:
    """One input of one index on the frame's bars: what becomes a row of contributions for each kept pair and venue.

    reason: code into REASONS; by_venue: does the input come from venues (else `all`).
    """

    index_name: str
    component: str
    feature: str
    weight: float
    sign: int
    score: Floats
    factor: Floats
    history_d: Floats
    points: Floats
    reason: NDArray[Any]
    by_venue: bool


def contribution_rows(frame: Frame, lines: Sequence[Line], shares: Floats, venues: Sequence[str]) -> pa.Table:
    """Contributions, each split by the venues' weights in averages, (assets, venues, bars); where no weight is known: `all`.

    The last venue takes what rounding leaves, so the parts of an input add up to it exactly.
    """
    lines = sorted(lines, key=lambda line: (line.index_name, line.component, line.feature))
    names, places = [*venues, "all"], []
    parts: list[dict[str, NDArray[Any]]] = []
    whole = shares.sum(axis=1) > 0
    for rank, line in enumerate(lines):
        left, left_weight = np.broadcast_to(line.points, frame.shape).copy(), np.full(frame.shape, line.weight)
        split = whole & line.by_venue
        voices = [v for v in range(len(venues)) if (shares[:, v] > 0).any()] if line.by_venue else []
        last = np.full(frame.shape, -1)
        for v in voices:
            last = np.where(shares[:, v] > 0, v, last)
        for v in voices:
            own = split & (shares[:, v] > 0)
            ends = own & (last == v)
            points = np.where(ends, left, line.points * shares[:, v])
            weight = np.where(ends, left_weight, line.weight * shares[:, v])
            left, left_weight = np.where(own, left - points, left), np.where(own, left_weight - weight, left_weight)
            parts.append({"on": own, "points": points, "weight": weight, "venue": np.full(frame.shape, v)})
            places.append(rank)
        if not (line.by_venue and whole.all()):
            rest = ~split
            parts.append({"on": rest, "points": left, "weight": left_weight, "venue": np.full(frame.shape, len(venues))})
            places.append(rank)
    chosen = [part["on"] & frame.keep for part in parts]
    asset, bar = (np.concatenate([np.nonzero(on)[axis] for on in chosen]) for axis in (0, 1))
    place = np.repeat(places, [int(on.sum()) for on in chosen])
    venue = np.concatenate([part["venue"][on] for part, on in zip(parts, chosen, strict=True)])
    order = np.lexsort((venue_rank(names)[venue], place, bar, asset))
    asset, bar, place, venue = asset[order], bar[order], place[order], venue[order]

    def gathered(grids: Iterable[NDArray[Any]]) -> NDArray[Any]:
        stacked = [widened(grid, frame.shape) for grid in grids]
        found = np.concatenate([stacked[p][on] for p, on in zip(places, chosen, strict=True)])
        return found[order]

    def of_part(name: str) -> NDArray[Any]:
        return np.concatenate([part[name][on] for part, on in zip(parts, chosen, strict=True)])[order]

    columns = {
        "index_name": words(place, [line.index_name for line in lines]),
        "component": words(place, [line.component for line in lines]),
        "feature": words(place, [line.feature for line in lines]),
        "by_venue": words(venue, names),
        "weight": numbers(of_part("weight")),
        "sign": pa.array(np.array([line.sign for line in lines], dtype=np.int64)[place]),
        "score": numbers(gathered(line.score for line in lines)),
        "stale_factor": numbers(gathered(line.factor for line in lines)),
        "history_days": numbers(gathered(line.history_d for line in lines)),
        "contribution": numbers(of_part("points")),
        "reason": words(gathered(line.reason for line in lines), REASONS),
    }
    return frame.table("contributions", words(asset, frame.panel.assets), bar, columns)


def venue_rank(names: Sequence[str]) -> Ints:
    """Place of each name in alphabetical order."""
    order = sorted(range(len(names)), key=names.__getitem__)
    found = np.empty(len(names), dtype=np.int64)
    found[order] = np.arange(len(names))
    return found


def regime_rows(frame: Frame, explained: Mapping[tuple[int, int], Mapping[str, Any]], shift: int) -> pa.Table:
    """Changes of regime; `explained` by (asset, bar of the run), the frame begins `shift` bars later."""
    found = [
        {
            "asset": frame.panel.assets[a],
            "bar": t - shift,
            "regime_before": reason["from"],
            "regime": reason["to"],
            "rule": reason["rule"],
            "explanation_json": json.dumps(reason["compared"], separators=(",", ":")),
        }
        for (a, t), reason in sorted(explained.items())
        if t >= shift and frame.keep[a, t - shift]
    ]
    return frame.listed("regime_changes", found)


def outlier_rows(frame: Frame, gates: Mapping[str, Gate]) -> pa.Table:
    """Values beyond the outlier gate's limit."""
    panel, found = frame.panel, []
    for quantity, gate in sorted(gates.items()):
        for i, t in np.argwhere((gate.aside | gate.flagged)[:, frame.first :]).tolist():
            asset, venue, instrument = panel.instruments[i]
            if not frame.keep[panel.assets.index(asset), t]:
                continue
            at = t + frame.first
            observed = float(gate.values[i, at])
            found.append(
                {
                    "asset": asset,
                    "bar": t,
                    "venue": venue,
                    "instrument": instrument,
                    "quantity": quantity,
                    "observed": observed,
                    "deviation": float(gate.off[i, at]),
                    "mad": float(gate.mad[i, at]),
                    "treatment": "set aside" if gate.aside[i, at] else "used: no second venue",
                }
            )
    return frame.listed("outliers", found)


def agreement_rows(frame: Frame) -> pa.Table:
    """What sources said about the same thing, as the bars that end a day saw it."""
    panel, found = frame.panel, []
    ends = np.flatnonzero(day_ends(frame.when))
    for one in comparisons(panel):
        seen = frame.keep[panel.assets.index(one.asset)] & np.isfinite(one.difference[frame.first :])
        for t in ends[seen[ends]].tolist():
            at = t + frame.first
            found.append(
                {
                    "asset": one.asset,
                    "bar": t,
                    "quantity": one.quantity,
                    "venue": one.venue,
                    "instrument": one.instrument,
                    "source": one.source,
                    "other_source": one.other,
                    "compared_at": moment(int(one.at[at])),
                    "observed": float(one.own[at]),
                    "other_value": float(one.theirs[at]),
                    "difference": float(one.difference[at]),
                    "tolerance": one.tolerance,
                    "agrees": bool(np.rint(one.excess[at] * 1e6) < 1e6),
                }
            )
    return frame.listed("agreement", found)


def moment(stamp_us: int) -> datetime:
    """UTC instant of microseconds since the epoch."""
    return datetime.fromtimestamp(stamp_us / 1e6, tz=UTC)
