"""Laws of the detectors: they look back only, they change nothing, order does not matter, and findings lay on the rows they name."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.detecting import inspect, wanted
from tests.calibration.planting import OI, TRIALS, altered, held, rate, relabelled, times
from tests.property.synthetic import market
from transforms.detectors import DETECTORS, Inputs, find_all, suspect
from transforms.schema import arrow_schema
from transforms.tables import TABLES

#: what a finding may still learn after it was made
GROWS = {"window_end", "rows"}
MADE = [trial for trial in TRIALS if trial.data == "made-up market"]
DEFECTS = {
    "unit_break": times(100.0, *OI),
    "side_break": times(0.5, *OI),
    "label_shift": relabelled,
    "dead_feed": held(*OI),
}


def at_once(tables):
    """Every row known five minutes after its instant, no restatement: knowledge comes in order."""
    found = {}
    for name, table in tables.items():
        rows = table.filter(pc.equal(table.column("revision"), 0))
        known = pc.add(rows.column("as_of"), pa.scalar(timedelta(minutes=5)))
        found[name] = rows.set_column(rows.column_names.index("known_at"), rows.schema.field("known_at"), known)
    return found


def known_by(tables, instant):
    cut = pa.scalar(instant, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    return {name: table.filter(pc.less_equal(table.column("known_at"), cut)) for name, table in tables.items()}


def said(one):
    return tuple("nan" if value != value else value for f in fields(one) if f.name not in GROWS for value in [getattr(one, f.name)])  # noqa: PLR0124


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 500), defect=st.sampled_from(sorted(DEFECTS)), share=st.floats(0.3, 0.95))
def test_what_comes_later_changes_no_finding(seed, defect, share):
    rng = np.random.default_rng(seed)
    rows = {"unit_break": 24, "dead_feed": 30}.get(defect)
    tables = at_once(altered(at_once(market("1h", seed)), "open_interest", rng, rows, DEFECTS[defect], share=0.5).inputs.tables)
    stamps = np.asarray(tables["candles"].column("known_at").cast(pa.int64()))
    instant = int(stamps.min() + share * (stamps.max() - stamps.min()))
    whole = {said(one): one for one in find_all(Inputs(tables, {})) if one.known_at <= instant}
    then = {said(one): one for one in find_all(Inputs(known_by(tables, instant), {}))}
    assert set(whole) == set(then)
    for key, one in then.items():
        assert one.window_end <= whole[key].window_end
        assert one.rows <= whole[key].rows


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 500), share=st.floats(0.3, 0.95))
def test_late_and_restated_rows_were_not_used_before_they_were_known(seed, share):
    """Poison: what is not known yet is made absurd; what was found before stays found."""
    tables = market("1h", seed)
    stamps = np.asarray(tables["candles"].column("known_at").cast(pa.int64()))
    instant = int(stamps.min() + share * (stamps.max() - stamps.min()))
    one_revision = {name: table.filter(pc.equal(table.column("revision"), 0)) for name, table in tables.items()}
    interest = one_revision["open_interest"]
    late = np.asarray(interest.column("known_at").cast(pa.int64())) > instant
    absurd = pa.array(np.where(late, 1e15, np.asarray(interest.column("open_interest_base"))))
    at = interest.column_names.index("open_interest_base")
    poisoned = {**one_revision, "open_interest": interest.set_column(at, interest.schema.field(at), absurd)}
    before = {said(one) for one in find_all(Inputs(one_revision, {})) if one.known_at <= instant}
    after = {said(one) for one in find_all(Inputs(poisoned, {})) if one.known_at <= instant}
    assert before == after


@pytest.mark.parametrize("trial", MADE, ids=lambda trial: f"{trial.detector}: {trial.defect}")
def test_planted_defects_are_seen(trial):
    seen, planted = rate(trial, seeds=2)
    assert seen == planted > 0


def test_nothing_is_changed_and_order_does_not_matter():
    rng = np.random.default_rng(1)
    planted = altered(market("1h", 1), "open_interest", rng, 24, times(1000.0, *OI))
    copies = {name: pa.table(table.to_pydict(), schema=table.schema) for name, table in planted.inputs.tables.items()}
    first = [repr(one) for one in find_all(planted.inputs)]
    assert all(planted.inputs.tables[name].equals(copies[name]) for name in copies)
    shuffled = {name: table.take(rng.permutation(table.num_rows)) for name, table in copies.items()}
    assert [repr(one) for one in find_all(Inputs(shuffled, {}))] == first != []


def test_a_market_without_rows_has_no_defects():
    nothing = {name: arrow_schema(table).empty_table() for name, table in TABLES.items() if table.layer == "core"}
    coverage = arrow_schema(TABLES["coverage"]).empty_table()
    assert find_all(Inputs(nothing, nothing, coverage)) == []
    assert find_all(Inputs({}, {})) == []


def test_a1_half_of_the_open_interest_is_never_deleveraging():
    """With the peer halving too, the market did it; alone, the venue's count did."""
    tables = at_once(market("1h", 3))
    halved = altered(tables, "open_interest", np.random.default_rng(0), None, times(0.5, *OI), where=lambda t: t.instrument == "AAAUSDT")
    ((_, first, _),) = halved.spans
    (one,) = [f for f in find_all(halved.inputs) if f.detector == "side_break"]
    assert (one.instrument, one.factor, one.consequence) == ("AAAUSDT", 2.0, "quarantine")
    assert one.window_start < first <= one.window_end
    frame = halved.inputs.tables["open_interest"].to_pandas()
    stamp = np.datetime64(first, "us")
    peer = (frame.instrument == "AAAUSD") & (frame.as_of.dt.tz_localize(None).to_numpy() >= stamp)
    frame.loc[peer, list(OI)] *= 0.5
    bars = tables["candles"].to_pandas()
    busy = bars.as_of.dt.tz_localize(None).to_numpy() == stamp
    bars.loc[busy, "volume_base"] = 1e6
    both = {
        **tables,
        "open_interest": pa.Table.from_pandas(frame, schema=tables["open_interest"].schema, preserve_index=False),
        "candles": pa.Table.from_pandas(bars, schema=tables["candles"].schema, preserve_index=False),
    }
    assert [f for f in find_all(Inputs(both, {})) if f.detector == "side_break"] == []


def test_findings_lie_on_the_rows_they_name():
    planted = altered(market("1h", 2), "open_interest", np.random.default_rng(2), 24, times(100.0, *OI))
    table = planted.inputs.tables["open_interest"]
    found = [one for one in find_all(planted.inputs) if one.detector == "unit_break"]
    mask = suspect("open_interest", table, found)
    when = np.asarray(table.column("as_of").cast(pa.int64()))
    names = np.array(table.column("instrument").to_pylist())
    wanted = np.zeros(len(mask), dtype=bool)
    for name, first, last in planted.spans:
        wanted |= (names == name) & (when >= first) & (when <= last)
    assert (mask == wanted).all()
    assert mask.sum() == 24 * len(planted.spans)
    assert not suspect("candles", planted.inputs.tables["candles"], found).any()
    assert not suspect("open_interest", table, found, "flag").any()
    elsewhere = [replace(one, venue="okx") for one in found]
    assert not suspect("open_interest", table, elsewhere).any()


def test_inspect_writes_evidence_and_masks():
    planted = altered(market("1h", 2), "open_interest", np.random.default_rng(2), 24, times(100.0, *OI))
    recorded_at = datetime(2024, 1, 5, tzinfo=UTC)
    found = inspect(planted.inputs.tables, "run", recorded_at)
    assert found.findings.schema == arrow_schema(TABLES["findings"])
    assert "UNIT_BREAK" in found.findings.column("reason_code").to_pylist()
    assert found.quarantine["open_interest"]["UNIT_BREAK"].sum() >= 24 * len(planted.spans)
    late = inspect(planted.inputs.tables, "run", recorded_at, since=recorded_at + timedelta(days=1))
    assert late.findings.num_rows == 0


def test_an_hour_asks_for_no_year_and_a_retold_history_does():
    """InventedHistory alone looks back a year: it is woken by settled values said anew, not by every row that arrives."""
    rows = at_once(market("1h", 2))["open_interest"]
    newest = rows.filter(pc.equal(rows.column("as_of"), pc.max(rows.column("as_of"))))
    asked = pc.add(newest.column("as_of"), pa.scalar(timedelta(minutes=6)))
    hour = newest.set_column(newest.column_names.index("fetched_at"), newest.schema.field("fetched_at"), asked)
    assert max(wanted({"open_interest": hour}).values()) == timedelta(days=60)
    retold = hour.set_column(hour.column_names.index("revision"), hour.schema.field("revision"), pa.array([1] * len(hour), pa.int64()))
    assert max(wanted({"open_interest": retold}).values()) == timedelta(days=60), "restated while young: no history"
    late = pc.add(newest.column("as_of"), pa.scalar(timedelta(days=4)))
    retold = retold.set_column(retold.column_names.index("fetched_at"), retold.schema.field("fetched_at"), late)
    assert {one.name: back for one, back in wanted({"open_interest": retold}).items()}["invented_history"] == timedelta(days=365)
    assert wanted({"instruments": hour}) == {}


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 500), defect=st.sampled_from(sorted(DEFECTS)), share=st.floats(0.5, 0.95))
def test_what_a_detector_wants_is_enough_to_judge_what_arrives(seed, defect, share):
    """The detectors that rows wake, with the history they ask for, say about these rows what all of them say with all of history."""
    rng = np.random.default_rng(seed)
    rows = {"unit_break": 24, "dead_feed": 30}.get(defect)
    tables = at_once(altered(at_once(market("1h", seed)), "open_interest", rng, rows, DEFECTS[defect], share=0.5).inputs.tables)
    stamps = np.asarray(tables["open_interest"].column("as_of").cast(pa.int64()))
    since = int(stamps.min() + share * (stamps.max() - stamps.min()))
    cut = pa.scalar(since, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    arriving = {name: new for name, table in tables.items() if (new := table.filter(pc.greater(table.column("as_of"), cut))).num_rows}
    asked = wanted(arriving)
    near = {}
    for name, table in tables.items():
        back = max((span for one, span in asked.items() if name in one.reads), default=None)
        if back is not None:
            near[name] = table.filter(pc.greater(table.column("as_of"), pc.subtract(cut, pa.scalar(back))))
    mine = [one for one in find_all(Inputs(near, {}), list(asked)) if one.window_end > since]
    assert {said(one) for one in mine} == {said(one) for one in find_all(Inputs(tables, {})) if one.window_end > since}


def test_each_detector_says_who_it_is():
    names = [one.name for one in DETECTORS]
    assert len(set(names)) == len(names)
    for one in DETECTORS:
        assert one.catches
        assert one.rule_text
        assert 0 <= one.lookback_h < float("inf")
        assert set(one.reads) <= {name for name, table in TABLES.items() if table.layer == "core"}
