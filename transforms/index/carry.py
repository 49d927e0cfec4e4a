"""One more hour: what the bars so far leave for the next one, and the next one from that, bit for bit what `derive` makes of everything.

`derive` reads the look-back of every window again, two years and more for one bar. Here each bar reads the rows that have become known since
the bar before it and a state of fixed size; what it costs does not depend on how long the history is.

A sample taken at a bar stays what it was, so samples are carried. What reads the past again at each bar (settlements of a day, growth of a
supply) finds the rows it may read. Everything else that looks back says so through `Panel.past` (transforms/features/memory.py), and the
modules with a memory of their own hand over their state (transforms/index/segments.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import asof
from transforms.asof import UnusableInput
from transforms.features import FEATURES
from transforms.features.contract import Feature
from transforms.features.memory import NOBODY, Memory
from transforms.features.panel import INSTRUMENT, Panel
from transforms.index.build import OUTPUT, Checkpoint, Stamp, published
from transforms.index.measure import Measurement, measure, measured_on, voices
from transforms.index.rows import moment
from transforms.index.segments import Recursion
from transforms.index.walk import Walked, walk
from transforms.rules import CadenceRule
from transforms.schema import empty
from transforms.signals import SIGNALS
from transforms.signals.contract import Signal
from transforms.spec import Spec
from transforms.tables import TABLES
from transforms.windows import Window

_INSTANT: Final = pa.timestamp("us", tz="UTC")
#: a run of which nothing is published still goes through everything that reads the past
_UNSAID: Final = Stamp("simulated", "reconstructed", "")


@dataclass(frozen=True, slots=True)
class Carried:
    """Everything the bar after `as_of` needs.

    rows: core rows that a later bar may still read; memory: samples, measured values, scores and percentiles that are looked back on;
    recursion: state of the modules with a memory of their own. assets: named ones, None for whoever is heard of. It is a value: advancing
    from it leaves it as it was, and it belongs to one specification and one cadence.
    """

    as_of: datetime
    cadence: str
    spec_sha256: str
    assets: tuple[str, ...] | None
    rows: Mapping[str, pa.Table] = field(repr=False)
    memory: Memory = field(repr=False)
    recursion: Recursion = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes it holds."""
        states: int = sum(array.nbytes for state in self.recursion.states.values() for array in state.values())
        rows: int = sum(table.nbytes for table in self.rows.values())
        return self.memory.size + states + rows


def row_spans(spec: Spec, rule: CadenceRule) -> dict[str, timedelta]:
    """How old a core row may be at a bar that reads it, by table: what is carried forward, and what is read again at each bar."""
    rules = spec.features
    supply_h = 24 * max(1.0, *rules.supply_growth_d) + rules.supply_age_h + rules.supply_base_tolerance_h
    compared_h = spec.agreement.max_age_h + spec.agreement.settlement_reach_h
    hours = {
        "candles": max(rule.carry_h, rule.step_h, compared_h),
        "open_interest": max(rule.carry_h, compared_h),
        #: the window, and as far before it the settlement from which its first interval follows
        "funding": max(2 * rules.funding_window_h, compared_h),
        "funding_terms": 24 * rules.terms_age_d,
        "premiums": rule.carry_h,
        "long_short": rule.carry_h,
        "taker_flow": rule.step_h,
        "liquidations": rule.step_h,
        "option_chain": rule.carry_h,
        "volatility_index": rule.carry_h,
        "stablecoin_supply": supply_h,
    }
    return {name: timedelta(hours=span) + 2 * rule.step for name, span in hours.items()}


def carried(
    core: Mapping[str, pa.Table],
    window: Window,
    cadence: str,
    spec: Spec,
    *,
    assets: Sequence[str] | None = None,
    before: Checkpoint | None = None,
    features: Mapping[str, Feature] = FEATURES,
    signals: Mapping[str, Signal] = SIGNALS,
) -> Carried:
    """The state after the window's last bar, by a full derivation: arguments, errors and cost are those of `derive`."""
    if before is not None and before.as_of > window.start:
        raise ValueError(f"found a checkpoint of {before.as_of} for the window {window}; hand over one at or before its start")
    run = window if before is None else Window(before.as_of, window.end)
    also = () if assets is not None else (NOBODY, *(before.assets if before is not None else ()))
    rows = _read_rows(core, cadence, spec)
    one = measure(rows, run, cadence, spec, assets=assets, also=also, features=features, signals=signals)
    if one.panel.bars == one.panel.window_first:
        raise ValueError(f"found no bar of {cadence} in {run}; hand over a window with one")
    found = walk(one, cadence, spec, before)
    published(one, found, one.panel.bars - 1, cadence, spec, _UNSAID, whatever=assets is not None)
    return _after(one, found, rows, cadence, None if assets is None else tuple(assets))


def advance(
    state: Carried,
    fresh: Mapping[str, pa.Table],
    until: datetime,
    spec: Spec,
    stamp: Stamp,
    *,
    features: Mapping[str, Feature] = FEATURES,
    signals: Mapping[str, Signal] = SIGNALS,
) -> tuple[dict[str, pa.Table], Carried]:
    """(tables of OUTPUT for as_of in (state.as_of, until], the state after them): the rows of `derive` over everything.

    fresh: core rows that have become known since the state's last bar; rows that restate the past change the bars from then on, new
    instruments and assets may come. Rows handed over before their known_at wait for it. Raises UnusableInput where a row should have been
    seen by a bar that is already made, ValueError for another specification or an instant before the state's.
    """
    if spec.sha256 != state.spec_sha256:
        raise ValueError(
            f"found a state of specification {state.spec_sha256[:12]} to advance by {spec.sha256[:12]}; derive again under the new one"
        )
    if until < state.as_of:
        raise ValueError(
            f"found {until} to advance to from {state.as_of}; derive bars that have been again from the checkpoint before them"
        )
    rows = _joined(state, _read_rows(fresh, state.cadence, spec), spec)
    rule = spec.cadence(state.cadence)
    if until == state.as_of or not Window(state.as_of, until).grid(rule.step):
        return {name: empty(TABLES[name]) for name in OUTPUT}, _with_rows(state, rows)
    panel = Panel(
        rows,
        start=state.as_of,
        window_start=state.as_of,
        end=until,
        rule=rule,
        spec=spec,
        assets=state.assets,
        memory=state.memory,
    )
    one = measured_on(panel, state.cadence, features, signals)
    found = walk(one, state.cadence, spec, state.recursion)
    made = published(one, found, 0, state.cadence, spec, stamp, whatever=state.assets is not None)
    return made, _after(one, found, rows, state.cadence, state.assets)


def _after(one: Measurement, found: Walked, rows: Mapping[str, pa.Table], cadence: str, assets: tuple[str, ...] | None) -> Carried:
    panel = one.panel
    spans = row_spans(panel.spec, panel.rule)
    kept = {name: _still_read(table, int(panel.when[-1]), int(panel.cutoff[-1]), spans[name]) for name, table in rows.items()}
    if "funding_terms" in kept:
        kept["funding_terms"] = _newest_terms(kept["funding_terms"], int(panel.when[-1]), int(panel.cutoff[-1]))
    return Carried(moment(int(panel.when[-1])), cadence, panel.spec.sha256, assets, kept, panel.tapes.left(), found.after)


def _with_rows(state: Carried, rows: Mapping[str, pa.Table]) -> Carried:
    return replace(state, rows=rows)


# --- rows -------------------------------------------------------------------------------------------------------------------------


def _read_rows(core: Mapping[str, pa.Table], cadence: str, spec: Spec) -> dict[str, pa.Table]:
    """Rows of the tables and sources the cadence reads, with the columns that a bar reads."""
    found = {}
    heard = pa.array(voices(spec.cadence(cadence)))
    for name in sorted(row_spans(spec, spec.cadence(cadence))):
        table = core.get(name)
        columns = [*TABLES[name].decoded, "revision"]
        if table is None:
            continue
        lacking = [column for column in columns if column not in table.column_names]
        if lacking:
            raise UnusableInput(f"core table {name} comes without {', '.join(lacking)}; hand over the columns of TABLES[{name!r}]")
        own = table.select(columns)
        found[name] = own.filter(pc.is_in(own.column("source").cast(pa.string()), value_set=heard))
    return found


def _still_read(table: pa.Table, as_of: int, cutoff: int, span: timedelta) -> pa.Table:
    """Rows that a bar after `as_of` may read: young enough, or not yet known."""
    oldest = pa.scalar(as_of - span // timedelta(microseconds=1)).cast(_INSTANT)
    later = pc.greater(table.column("known_at"), pa.scalar(cutoff).cast(_INSTANT))
    return table.filter(pc.or_(pc.greater_equal(table.column("as_of"), oldest), later)).combine_chunks()


def _newest_terms(table: pa.Table, as_of: int, cutoff: int) -> pa.Table:
    """Terms without those that newer ones, known by now, stand before at every later bar: a venue tells those of all its contracts each time."""
    if not table.num_rows:
        return table
    number, tracks = asof.tracks_of(table, INSTRUMENT)
    when, hours = asof.micros(table.column("as_of")), asof.floats(table.column("funding_interval_h"))
    stands = np.isfinite(hours) & (hours > 0) & (when <= as_of) & (asof.micros(table.column("known_at")) <= cutoff)
    newest = np.full(len(tracks), np.iinfo(np.int64).min)
    np.maximum.at(newest, number[stands], when[stands])
    return table.filter(pa.array(when >= newest[number]))


def _joined(state: Carried, fresh: Mapping[str, pa.Table], spec: Spec) -> dict[str, pa.Table]:
    """Carried and fresh rows. Raises UnusableInput for fresh ones that the state's last bar should have seen and has not."""
    cutoff = pa.scalar(state.as_of + spec.publication_delay).cast(_INSTANT)
    found = dict(state.rows)
    for name, table in fresh.items():
        known = pc.less_equal(table.column("known_at"), cutoff)
        if pc.any(known).as_py():
            _check_seen(name, table.filter(known), state)
        later = table.filter(pc.invert(known))
        if later.num_rows:
            found[name] = pa.concat_tables([found[name], later.cast(found[name].schema)]) if name in found else later
    return found


def _check_seen(name: str, table: pa.Table, state: Carried) -> None:
    """Rows that were known before must be among the carried ones."""
    held = state.rows.get(name)
    seen = set() if held is None else {repr(row) for row in held.to_pylist()}
    for row in table.to_pylist():
        if repr(row) not in seen:
            raise UnusableInput(
                f"{name} brings a row of {row['as_of']} known at {row['known_at']}, which the bar at {state.as_of} should have seen and has "
                "not; derive again from the checkpoint before it"
            )
