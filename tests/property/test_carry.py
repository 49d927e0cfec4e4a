"""One more bar from carried state is the bar of `derive` over everything, content hash for content hash, however the bars are dealt out."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property import laws
from tests.property.synthetic import SHORT, market
from transforms import rolling
from transforms.asof import UnusableInput
from transforms.estimators import DAY_US, HOUR_US
from transforms.index.build import OUTPUT
from transforms.index.carry import Carried, advance, carried
from transforms.signals import scores
from transforms.windows import CADENCES, Window, utc

CADENCE_NAMES = ("1h", "1d")
#: bar after bar over these, each from a state made at its start
SPANS = {
    "DDD enters": ("1h", utc("2023-12-18T16:00"), 62),
    "a quarter begins": ("1h", utc("2023-12-31T16:00"), 16),
    "the daily history": ("1d", utc("2023-11-28"), 60),
}
Core = Mapping[str, pa.Table]


@cache
def case(cadence: str) -> laws.Case:
    return laws.case(cadence, SHORT[cadence], market(cadence))


@cache
def everything(cadence: str) -> dict[str, pa.Table]:
    return laws.tables(case(cadence), case(cadence).core, case(cadence).window)


def known_between(core: Core, cadence: str, after: datetime | None, until: datetime) -> dict[str, pa.Table]:
    """Rows that became known to bars after one instant, up to another."""
    delay = SHORT[cadence].publication_delay
    found = {}
    for name, table in core.items():
        known = pc.less_equal(table.column("known_at"), until + delay)
        if after is not None:
            known = pc.and_(known, pc.greater(table.column("known_at"), after + delay))
        found[name] = table.filter(known)
    return found


@cache
def state_at(cadence: str, instant: datetime) -> Carried:
    window = Window(case(cadence).window.start, instant)
    return carried(known_between(case(cadence).core, cadence, None, instant), window, cadence, SHORT[cadence])


def one_more(state: Carried, core: Core, until: datetime) -> tuple[dict[str, pa.Table], Carried]:
    fresh = known_between(core, state.cadence, state.as_of, until)
    return advance(state, fresh, until, SHORT[state.cadence], laws.STAMP)


def differing(made: Mapping[str, pa.Table], whole: Mapping[str, pa.Table], window: Window) -> list[str]:
    """Tables whose rows in the window differ."""
    theirs = laws.hashes(laws.between(whole, window))
    assert set(made) == set(OUTPUT) == set(theirs)
    return [name for name, own in laws.hashes(made).items() if own != theirs[name]]


@cache
def bar_by_bar(span: str) -> tuple[list[tuple[datetime, list[str]]], list[Carried]]:
    """(bars that differ from the whole and in what, states)."""
    cadence, start, count = SPANS[span]
    wrong, states = [], [state_at(cadence, start)]
    for _ in range(count):
        until = states[-1].as_of + CADENCES[cadence]
        made, state = one_more(states[-1], case(cadence).core, until)
        if found := differing(made, everything(cadence), Window(states[-1].as_of, until)):
            wrong.append((until, found))
        states.append(state)
    return wrong, states


@pytest.mark.parametrize("span", SPANS)
def test_each_bar_is_the_bar_of_everything(span):
    assert bar_by_bar(span)[0] == []


@pytest.mark.parametrize("span", SPANS)
def test_several_bars_at_once_are_the_bars_one_by_one(span):
    cadence, start, count = SPANS[span]
    state, rng, left = state_at(cadence, start), np.random.default_rng(1), count
    while left:
        steps = min(left, int(rng.integers(2, 20)))
        until = state.as_of + steps * CADENCES[cadence]
        made, after = one_more(state, case(cadence).core, until)
        assert differing(made, everything(cadence), Window(state.as_of, until)) == []
        state, left = after, left - steps
    assert alike(state, bar_by_bar(span)[1][-1])


def alike(one: Carried, other: Carried) -> bool:
    """The same bits, whatever the order of the rows."""
    same = one.memory.assets == other.memory.assets and one.memory.instruments == other.memory.instruments
    for mine, theirs in (
        (one.memory.tapes, other.memory.tapes),
        *zip(one.recursion.states.values(), other.recursion.states.values(), strict=True),
    ):
        same &= mine.keys() == theirs.keys() and all(np.array_equal(mine[k], theirs[k], equal_nan=mine[k].dtype.kind == "f") for k in mine)
    return same


def test_the_spans_hold_what_they_are_meant_to_test():
    readings = everything("1h")["readings"]

    def assets(span: Window) -> set[str]:
        return set(laws.between({"readings": readings}, span)["readings"].column("asset").to_pylist())

    cadence, start, count = SPANS["DDD enters"]
    end = start + count * CADENCES[cadence]
    assert "DDD" not in assets(Window(start, start + timedelta(hours=1)))
    assert "DDD" in assets(Window(end - timedelta(hours=1), end))
    for cadence, start, count in SPANS.values():
        fresh = known_between(case(cadence).core, cadence, start, start + count * CADENCES[cadence])
        late = [pc.any(pc.less(table.column("as_of"), start - timedelta(hours=1))).as_py() for table in fresh.values()]
        again = [pc.any(pc.greater(table.column("revision"), 0)).as_py() for table in fresh.values()]
        assert any(late)
        assert any(again)
    for name in ("a quarter begins", "the daily history"):
        cadence, start, count = SPANS[name]
        points = everything(cadence)["checkpoints"].column("as_of").to_pylist()
        assert utc("2024-01-01") in points
        assert start < utc("2024-01-01") < start + count * CADENCES[cadence]
    silent = everything("1d")["readings"].filter(pc.equal(everything("1d")["readings"].column("asset"), "CCC")).column("as_of").to_pylist()
    assert SPANS["the daily history"][1] < max(silent) < case("1d").window.end - timedelta(days=5)


@pytest.mark.parametrize("cadence", CADENCE_NAMES)
def test_a_restated_past_changes_later_bars_as_in_everything(cadence):
    """Every second row of the last 60 bars is told anew, halved: carried samples stay, what is read again is read anew."""
    step = CADENCES[cadence]
    cut = case(cadence).window.start + 30 * step
    core = laws.with_late_rows(case(cadence), cut)
    until = cut + 12 * step
    theirs = laws.tables(case(cadence), core, Window(case(cadence).window.start, until))
    state = state_at(cadence, cut)
    for _ in range(12):
        before = state.as_of
        made, state = one_more(state, core, before + step)
        assert differing(made, theirs, Window(before, state.as_of)) == []
    assert differing(laws.between(theirs, Window(cut, until)), everything(cadence), Window(cut, until))


def test_the_state_after_a_checkpoint_is_the_state_after_everything():
    cadence, until = "1d", utc("2024-01-20")
    rest = Window(utc("2024-01-01"), until)
    before = laws.checkpoint_for(everything(cadence), rest)
    assert before is not None
    known = laws.within_lookback(replace(case(cadence), core=known_between(case(cadence).core, cadence, None, until)), rest)
    continued = carried(known, rest, cadence, SHORT[cadence], before=before)
    window = Window(until, until + 3 * CADENCES[cadence])
    made, _ = one_more(continued, case(cadence).core, window.end)
    assert differing(made, everything(cadence), window) == []


def test_named_assets_have_a_row_at_every_bar():
    cadence, start, count, assets = "1d", utc("2023-12-01"), 6, ["AAA", "DDD", "ZZZ"]
    window = Window(start, start + count * CADENCES[cadence])
    theirs = laws.derive(
        case(cadence).core, Window(case(cadence).window.start, window.end), cadence, SHORT[cadence], assets=assets, stamp=laws.STAMP
    )
    known = known_between(case(cadence).core, cadence, None, start)
    state = carried(known, Window(case(cadence).window.start, start), cadence, SHORT[cadence], assets=assets)
    made, _ = one_more(state, case(cadence).core, window.end)
    assert differing(made, theirs, window) == []
    assert made["readings"].num_rows >= count * len(assets)


# --- a state is a value -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cadence", CADENCE_NAMES)
def test_a_state_can_be_pickled_and_used_again(cadence):
    state = state_at(cadence, case(cadence).window.start + 30 * CADENCES[cadence])
    packed = pickle.dumps(state)
    until = state.as_of + CADENCES[cadence]
    made, after = one_more(state, case(cadence).core, until)
    again, after_again = one_more(pickle.loads(packed), case(cadence).core, until)
    assert laws.hashes(made) == laws.hashes(again)
    assert alike(after, after_again)
    assert alike(state, pickle.loads(packed))
    assert len(packed) < 2 * state.size


def test_a_state_does_not_grow():
    """Sixty bars later, with the same instruments, it holds as much: cost and size do not know how long the history is."""
    states = [state for state in bar_by_bar("DDD enters")[1] if "DDD" in state.memory.assets]
    assert len(states) > 50
    assert states[-1].memory.size == states[30].memory.size
    assert max(one.size for one in states[30:]) < 1.1 * states[30].size


def test_an_instrument_that_has_been_silent_for_long_is_forgotten():
    """Contracts come and go for years: a state holds those that a window still knows, and the next bar does not miss the others."""
    start = case("1h").window.end - timedelta(hours=100)
    state = state_at("1h", start)
    assert "CCC" in state.memory.assets
    assert [asset for asset, *_ in state.memory.instruments] == ["AAA", "AAA", "BBB", "DDD"]
    made, _ = one_more(state, case("1h").core, start + timedelta(hours=2))
    assert differing(made, everything("1h"), Window(start, start + timedelta(hours=2))) == []


def test_terms_that_newer_ones_stand_before_are_not_carried():
    state = state_at("1h", case("1h").window.start + timedelta(hours=30))
    assert state.rows["funding_terms"].num_rows == len(state.memory.instruments)


# --- rows that cannot be ----------------------------------------------------------------------------------------------------------------


def test_a_row_that_a_made_bar_should_have_seen_is_refused():
    state = state_at("1h", case("1h").window.start + timedelta(hours=30))
    fresh = known_between(case("1h").core, "1h", state.as_of - timedelta(hours=1), state.as_of + timedelta(hours=1))
    changed = fresh["candles"].column("close_usd").to_numpy() * 1.5
    other = fresh["candles"].set_column(fresh["candles"].column_names.index("close_usd"), "close_usd", pa.array(changed))
    with pytest.raises(UnusableInput, match="derive again from the checkpoint"):
        advance(state, fresh | {"candles": other}, state.as_of + timedelta(hours=1), SHORT["1h"], laws.STAMP)


def test_rows_the_state_has_seen_may_come_again():
    state = state_at("1h", case("1h").window.start + timedelta(hours=30))
    until = state.as_of + timedelta(hours=1)
    fresh = known_between(case("1h").core, "1h", state.as_of - timedelta(hours=2), until)
    made, _ = advance(state, fresh, until, SHORT["1h"], laws.STAMP)
    assert differing(made, everything("1h"), Window(state.as_of, until)) == []


def test_rows_that_come_early_wait_until_they_are_known():
    """All rows of a day at once, and no more for each of its hours: also when no bar is asked for yet."""
    state = state_at("1h", case("1h").window.start + timedelta(hours=30))
    fresh = known_between(case("1h").core, "1h", state.as_of, state.as_of + timedelta(hours=24))
    made, waiting = advance(state, fresh, state.as_of, SHORT["1h"], laws.STAMP)
    assert not any(table.num_rows for table in made.values())
    for _ in range(24):
        window = Window(waiting.as_of, waiting.as_of + timedelta(hours=1))
        made, waiting = advance(waiting, {}, window.end, SHORT["1h"], laws.STAMP)
        assert differing(made, everything("1h"), window) == []


def test_what_does_not_fit_the_state_is_refused():
    state = state_at("1h", case("1h").window.start + timedelta(hours=30))
    with pytest.raises(ValueError, match="derive bars that have been again"):
        advance(state, {}, state.as_of - timedelta(hours=1), SHORT["1h"], laws.STAMP)
    with pytest.raises(ValueError, match="derive again under the new one"):
        advance(state, {}, state.as_of + timedelta(hours=1), SHORT["1d"], laws.STAMP)
    lean = {"candles": case("1h").core["candles"].drop_columns(["close_usd"])}
    with pytest.raises(UnusableInput, match="comes without close_usd"):
        advance(state, lean, state.as_of + timedelta(hours=1), SHORT["1h"], laws.STAMP)


# --- kernels that begin at a later bar ----------------------------------------------------------------------------------------------


@st.composite
def grids(draw, rows: int = 3):
    bars = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.round(rng.normal(0, 1, (rows, bars)), draw(st.integers(0, 3)))
    values[rng.random(values.shape) < draw(st.sampled_from([0.0, 0.3, 0.9]))] = np.nan
    return values, draw(st.integers(0, bars - 1))


@settings(max_examples=60, deadline=None)
@given(grids())
def test_a_kernel_that_begins_later_says_the_same_from_there(made):
    values, first = made
    grid = np.arange(values.shape[1]) % 3 == 0
    for early, late in (
        (rolling.bands(values, grid, 5, 17, 2, 0.1), rolling.bands(values, grid, 5, 17, 2, 0.1, first)),
        (
            rolling.average_weights(values, np.abs(values), np.ones(values.shape), np.array([0, 1, 0]), np.array([0, 3]), 6, 0.6),
            rolling.average_weights(values, np.abs(values), np.ones(values.shape), np.array([0, 1, 0]), np.array([0, 3]), 6, 0.6, first),
        ),
        (
            (scores.trailing_quantile(values, np.arange(values.shape[1]) * HOUR_US, grid, 0, 20 * HOUR_US, 0.9, 2),),
            (scores.trailing_quantile(values, np.arange(values.shape[1]) * HOUR_US, grid, first, 20 * HOUR_US, 0.9, 2),),
        ),
    ):
        for one, other in zip(early, late, strict=True):
            assert np.array_equal(one[:, first:], other[:, first:], equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(grids(), st.booleans(), st.booleans())
def test_a_score_by_counting_is_the_score_by_sorting(made, anchored, regular):
    values, _ = made
    bars = values.shape[1]
    when = (450_000 + np.arange(bars, dtype=np.int64)) * HOUR_US
    reference = np.arange(bars) % 4 == 0 if regular else np.random.default_rng(bars).random(bars) < 0.4
    how = (round(1.5 * DAY_US), DAY_US, 1 / 6, 0.3, anchored, 0.2 if anchored else 0.0)
    sorted_ = scores._of_many(values, np.isfinite(values), when, reference, 0, *how)
    for bar in range(bars):
        counted = scores.ecdf_scores(
            values[:, : bar + 1], np.isfinite(values[:, : bar + 1]), when[: bar + 1], reference[: bar + 1], bar, *how
        )
        for one, other in zip(sorted_, counted, strict=True):
            assert np.array_equal(one[:, bar], other[:, bar], equal_nan=True)
