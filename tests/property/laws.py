"""The laws every feature, every signal and the whole derivation obey, as checks that say what broke them.

Each check returns the names of the quantities that break the law; an empty list means that it holds. Values are compared as bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa

from tests.property.synthetic import ASSETS, SPAN, known_by
from transforms.features import FEATURES
from transforms.features.contract import Feature
from transforms.index.build import Stamp, derive, lookback, measure, stored
from transforms.index.checkpoint import Checkpoint
from transforms.index.measure import Measurement
from transforms.schema import content_sha256
from transforms.signals import SIGNALS
from transforms.signals.contract import Signal
from transforms.spec import Spec
from transforms.tables import TABLES
from transforms.windows import CADENCES, Window, to_ms

STAMP = Stamp("simulated", "reconstructed", "0" * 64)
Core = Mapping[str, pa.Table]
Bits = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A method on a made-up market: what is checked, where the leaks are planted."""

    cadence: str
    spec: Spec
    core: Core
    window: Window
    features: Mapping[str, Feature]
    signals: Mapping[str, Signal]


def case(cadence: str, spec: Spec, core: Core, features: Mapping[str, Feature] = FEATURES, signals: Mapping[str, Signal] = SIGNALS) -> Case:
    span = SPAN[cadence]
    return Case(cadence, spec, core, Window(span.start + (span.end - span.start) / 2, span.end), features, signals)


def measured(case: Case, core: Core, window: Window) -> Measurement:
    return measure(core, window, case.cadence, case.spec, assets=ASSETS, features=case.features, signals=case.signals)


def observe(case: Case, core: Core, window: Window) -> Bits:
    """Everything measured in a window as bits: feature:name, signal:name, part:name -> int64 of (assets, bars, parts)."""
    one = measured(case, core, window)
    first, shape = one.panel.window_first, (len(one.panel.assets), one.panel.bars)

    def bits(*parts: np.ndarray) -> np.ndarray:
        grids = [np.broadcast_to(part, shape)[:, first:].astype(np.float64) + 0.0 for part in parts]
        stacked = np.stack([np.where(np.isnan(grid), np.nan, grid) for grid in grids], axis=2)
        return np.ascontiguousarray(stacked).view(np.int64)

    found = {f"feature:{name}": bits(f.value, f.age_h, f.why) for name, f in one.features.items()}
    found |= {f"part:{name}": bits(r.p, r.factor, r.history_d, r.state, r.why) for name, r in (one.ranked | one.controls).items()}
    return found | {f"signal:{name}": bits(s.score, s.factor, s.history_d, s.state, s.why) for name, s in one.scored.items()}


def differing(one: Bits, other: Bits, bars: slice = slice(None)) -> list[str]:
    return [name for name in one if not np.array_equal(one[name][:, bars], other[name][:, bars])]


def cuts(case: Case, count: int, seed: int = 3) -> list[datetime]:
    """Random bars inside the window."""
    bars = case.window.grid(CADENCES[case.cadence])
    return [bars[n] for n in sorted(np.random.default_rng(seed).choice(len(bars) - 1, count, replace=False))]


def publication_us(case: Case, cut: datetime) -> int:
    return to_ms(cut + case.spec.publication_delay) * 1000


def upto(case: Case, cut: datetime) -> slice:
    return slice(0, len(Window(case.window.start, cut).grid(CADENCES[case.cadence])))


def truncated(case: Case, whole: Bits, cut: datetime) -> list[str]:
    """Without the rows that were not known at the cut, bars up to it are the same."""
    known = known_by(case.core, publication_us(case, cut))
    core = {name: table.filter(pa.array(known[name])) for name, table in case.core.items()}
    return differing(whole, observe(case, core, case.window), upto(case, cut))


def poisoned(case: Case, whole: Bits, cut: datetime) -> list[str]:
    """With every number that was not known at the cut multiplied by something random, bars up to it are the same."""
    known, rng = known_by(case.core, publication_us(case, cut)), np.random.default_rng(5)
    core = {}
    for name, table in case.core.items():
        for column in table.column_names:
            if pa.types.is_floating(table.schema.field(column).type) and column not in {"interval_h", "funding_interval_h"}:
                values = table.column(column).to_numpy()
                ruined = np.where(known[name], values, values * rng.uniform(0.2, 0.9, len(values)))
                table = table.set_column(table.column_names.index(column), column, pa.array(ruined, from_pandas=True))  # noqa: PLW2901
        core[name] = table
    return differing(whole, observe(case, core, case.window), upto(case, cut))


def with_late_rows(case: Case, cut: datetime) -> dict[str, pa.Table]:
    """The market with restatements of the past that arrive after the cut: every second row of the 60 bars before it, halved."""
    core = {}
    publication = publication_us(case, cut)
    for name, table in case.core.items():
        as_of = table.column("as_of").cast(pa.int64()).to_numpy()
        first = table.column("revision").to_numpy() == 0
        recent = np.flatnonzero(first & (as_of <= to_ms(cut) * 1000) & (as_of > to_ms(cut - 60 * CADENCES[case.cadence]) * 1000))[::2]
        late = table.take(recent)
        known = pa.array(np.full(len(recent), publication + 1)).cast(table.schema.field("known_at").type)
        late = late.set_column(late.column_names.index("known_at"), "known_at", known)
        late = late.set_column(late.column_names.index("revision"), "revision", pa.array(np.full(len(recent), 9)))
        for column in late.column_names:
            if pa.types.is_floating(late.schema.field(column).type) and column not in {"interval_h", "funding_interval_h"}:
                halved = pa.array(late.column(column).to_numpy() / 2, from_pandas=True)
                late = late.set_column(late.column_names.index(column), column, halved)
        core[name] = pa.concat_tables([table, late.cast(table.schema)])
    return core


def surprised(case: Case, whole: Bits, cut: datetime) -> list[str]:
    """With rows of the past that arrive after the cut, bars up to it are the same."""
    return differing(whole, observe(case, with_late_rows(case, cut), case.window), upto(case, cut))


def pieces(case: Case, count: int, seed: int) -> list[Window]:
    """The window cut at random bars."""
    edges = [case.window.start, *cuts(case, count, seed), case.window.end]
    return [Window(a, b) for a, b in pairwise(edges)]


def within_lookback(case: Case, window: Window) -> dict[str, pa.Table]:
    """The rows of a market that reach back no further than the declared look-back."""
    oldest = to_ms(window.start - lookback(case.spec, case.cadence, case.features)) * 1000
    return {name: table.filter(pa.array(table.column("as_of").cast(pa.int64()).to_numpy() >= oldest)) for name, table in case.core.items()}


def unsplittable(case: Case, whole: Bits) -> list[str]:
    """Computed piece by piece, last piece first, each from its look-back alone, every bar is the same."""
    parts = [observe(case, within_lookback(case, piece), piece) for piece in reversed(pieces(case, 5, 11))]
    joined = {name: np.concatenate([part[name] for part in reversed(parts)], axis=1) for name in whole}
    return differing(whole, joined)


LAWS: dict[str, Callable[[Case, Bits], list[str]]] = {
    "truncation": lambda case, whole: sorted({name for cut in cuts(case, 6) for name in truncated(case, whole, cut)}),
    "poisoning": lambda case, whole: sorted({name for cut in cuts(case, 4, 4) for name in poisoned(case, whole, cut)}),
    "late rows": lambda case, whole: sorted({name for cut in cuts(case, 4, 5) for name in surprised(case, whole, cut)}),
    "split equals whole": unsplittable,
}


def tables(case: Case, core: Core, window: Window, before: Checkpoint | None = None) -> dict[str, pa.Table]:
    """The published tables, assets taken from the rows."""
    return derive(core, window, case.cadence, case.spec, stamp=STAMP, before=before, features=case.features, signals=case.signals)


def checkpoint_for(made: Mapping[str, pa.Table], window: Window) -> Checkpoint | None:
    """The last checkpoint at or before the start of a window, as it was stored."""
    rows = made["checkpoints"]
    early = rows.filter(pa.compute.less_equal(rows.column("as_of"), pa.scalar(window.start, rows.schema.field("as_of").type)))
    if not early.num_rows:
        return None
    return stored(early.filter(pa.compute.equal(early.column("as_of"), pa.compute.max(early.column("as_of")))))


def hashes(found: Mapping[str, pa.Table]) -> dict[str, str]:
    return {name: content_sha256(TABLES[name], table) for name, table in found.items()}


def up_to(found: Mapping[str, pa.Table], cut: datetime) -> dict[str, pa.Table]:
    end = pa.scalar(to_ms(cut) * 1000).cast(pa.timestamp("us", tz="UTC"))
    return {name: table.filter(pa.compute.less_equal(table.column("as_of"), end)) for name, table in found.items()}


def between(found: Mapping[str, pa.Table], window: Window) -> dict[str, pa.Table]:
    """Rows whose as_of lies in a window."""
    low, high = (pa.scalar(to_ms(instant) * 1000).cast(pa.timestamp("us", tz="UTC")) for instant in (window.start, window.end))
    return {
        name: table.filter(
            pa.compute.and_(pa.compute.greater(table.column("as_of"), low), pa.compute.less_equal(table.column("as_of"), high))
        )
        for name, table in found.items()
    }
