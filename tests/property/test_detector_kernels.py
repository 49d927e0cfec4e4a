"""What detectors count with, against the same said slowly, row by row, from the sentences in their docstrings."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.detectors.contract import Lines
from transforms.detectors.feeds import _reached
from transforms.detectors.numbers import breaks, excursions, trailing_median
from transforms.detectors.units import _known_when, _since, runs

SIZE, LEAST, MAX_AGE = 5, 3, 40
FACTORS = np.array([4.0, -4.0])
STEP, LEVEL = 1.0, 2.0


@st.composite
def tracks(draw, values):
    """(values, as_of, starts): up to three tracks, an empty one among them at times, instants rising by 1 to 60 within each."""
    told = draw(
        st.lists(st.lists(st.tuples(values, st.sampled_from([1, 1, 1, 2, 10, 39, 40, 41, 60])), max_size=24), min_size=1, max_size=3)
    )
    starts = np.cumsum([0, *(len(one) for one in told)]).astype(np.int64)
    as_of = np.concatenate([np.cumsum([step for _, step in one]) for one in told]).astype(np.int64)
    return np.array([value for one in told for value, _ in one], dtype=np.float64), as_of, starts


#: around one level, a factor up, a factor down, anything, nothing
LOGS = st.one_of(st.integers(-2, 2).map(lambda n: n / 2), st.sampled_from([4.0, 4.5, 5.0, 3.0, -4.0, -3.5, 2.0, -2.0, math.nan]))
SIZES = st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0, 6.0, 9.0, 12.0, 14.0, 20.0, 31.0, math.nan])


@settings(deadline=None)
@given(tracks(LOGS))
def test_the_median_is_of_the_rows_strictly_before(told):
    values, _, starts = told
    wanted = np.full(len(values), np.nan)
    for a, b in pairwise(starts):
        for i in range(a, b):
            known = [x for x in values[max(a, i - SIZE) : i] if not math.isnan(x)]
            if len(known) >= LEAST:
                wanted[i] = median(known)
    np.testing.assert_array_equal(trailing_median(values, starts, SIZE, LEAST), wanted)


class Level:
    """Median of the last SIZE sound rows; forgotten where its newest row, or the break that goes on, is older than MAX_AGE."""

    def __init__(self):
        self.sound, self.newest, self.broken, self.since = [], 0, 0.0, 0

    def at(self, when):
        stale = when - self.newest > MAX_AGE or (self.broken and when - self.since > MAX_AGE)
        if self.sound and stale:
            self.sound, self.broken = [], 0.0
        return median(self.sound[-SIZE:]) if len(self.sound) >= LEAST else math.nan

    def put(self, when, value):
        self.sound.append(value)
        self.newest = when


def slow_breaks(values, as_of, starts):
    off, level = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for a, b in pairwise(starts):
        own, prior = Level(), math.nan
        for i in range(a, b):
            x, when = values[i], as_of[i]
            if math.isnan(x):
                continue
            level[i] = own.at(when)
            apart = x - level[i]
            if own.broken and not math.isnan(apart) and abs(apart) < abs(apart - own.broken):
                own.broken = 0.0
            elif not own.broken:
                for factor in FACTORS:
                    if abs(apart - factor) < LEVEL and abs(x - prior - factor) < STEP:
                        own.broken, own.since = factor, when
            if own.broken:
                off[i] = own.broken
            else:
                own.put(when, x)
            prior = x
    return off, level


@settings(max_examples=250, deadline=None)
@given(tracks(LOGS))
def test_a_break_is_a_step_and_a_distance_and_lasts_while_it_is_nearer(told):
    found = breaks(*told, SIZE, LEAST, MAX_AGE, FACTORS, STEP, LEVEL)
    for mine, theirs in zip(found, slow_breaks(*told), strict=True):
        np.testing.assert_array_equal(mine, theirs)


ENTER, LEAVE, FLOOR = 10.0, 3.0, 1.25


def slow_excursions(values, as_of, starts):
    bad, level = np.zeros(len(values), dtype=bool), np.full(len(values), np.nan)
    for a, b in pairwise(starts):
        own = Level()
        for i in range(a, b):
            x, when = values[i], as_of[i]
            if math.isnan(x):
                continue
            middle = own.at(when)
            level[i] = middle if math.isnan(middle) else max(FLOOR, middle)
            if own.broken and x < LEAVE * level[i]:
                own.broken = 0.0
            elif not own.broken and x > ENTER * level[i]:
                own.broken, own.since = 1.0, when
            bad[i] = bool(own.broken)
            if not bad[i]:
                own.put(when, x)
    return bad, level


@settings(max_examples=250, deadline=None)
@given(tracks(SIZES))
def test_an_excursion_goes_on_until_it_is_back_below_its_lower_bound(told):
    found = excursions(*told, SIZE, LEAST, MAX_AGE, ENTER, LEAVE, FLOOR)
    for mine, theirs in zip(found, slow_excursions(*told), strict=True):
        np.testing.assert_array_equal(mine, theirs)


# -- runs

HITS = st.lists(st.lists(st.booleans(), min_size=1, max_size=9), max_size=4)


def grouped(told):
    """(hit, first row of its track, spans of the runs)."""
    hit = np.array([one for track in told for one in track], dtype=bool)
    heads = {int(n) for n in np.cumsum([0, *(len(track) for track in told)])[:-1]}
    first = np.array([n in heads for n in range(len(hit))], dtype=bool)
    spans, begin = [], None
    for n in range(len(hit) + 1):
        if begin is not None and (n == len(hit) or n in heads or not hit[n]):
            spans.append(range(begin, n))
            begin = None
        if n < len(hit) and hit[n] and begin is None:
            begin = n
    return hit, first, spans


def learnt(told, data):
    """When each row and all before it in its track were known: never falling within a track."""
    found = [np.maximum.accumulate(data.draw(st.lists(st.integers(0, 9), min_size=len(one), max_size=len(one)))) for one in told]
    return np.concatenate([np.zeros(0), *found]).astype(np.int64)


@settings(deadline=None)
@given(HITS, st.data())
def test_a_run_counts_within_its_track_and_is_known_when_it_was_long_enough(told, data):
    hit, first, spans = grouped(told)
    known = learnt(told, data)
    least = data.draw(st.integers(1, 4))
    count, bad, sure = np.zeros(len(hit), dtype=int), np.zeros(len(hit), dtype=bool), known.copy()
    for span in spans:
        count[span] = np.arange(1, len(span) + 1)
        if len(span) >= least:
            bad[span] = True
            sure[span] = np.maximum(known[span], known[span[least - 1]])
    found = runs(hit, first)
    assert found.tolist() == count.tolist()
    assert _since(found, least).tolist() == bad.tolist()
    # what is not suspect has no instant of proof
    assert _known_when(found, least, known)[bad].tolist() == sure[bad].tolist()


@settings(deadline=None)
@given(HITS, st.data())
def test_once_long_a_run_is_suspect_whole_and_known_from_then_on(told, data):
    hit, first, spans = grouped(told)
    every = st.lists(st.booleans(), min_size=len(hit), max_size=len(hit))
    long = hit & np.array(data.draw(every), dtype=bool)
    known = learnt(told, data)
    as_of = np.arange(len(hit), dtype=np.int64) * 3600
    held = Lines("marks", "", [], np.array([0, len(hit)]), np.zeros(len(hit), dtype=np.int64), as_of, known, known, {})
    bad, sure, proof = np.zeros(len(hit), dtype=bool), known.copy(), np.zeros(len(hit), dtype=np.int64)
    for span in spans:
        proofs = [n for n in span if long[n]]
        if proofs:
            bad[span] = True
            sure[span] = np.maximum(known[span], known[proofs[0]])
            proof[span] = as_of[proofs[0]]
    found, when, stamps = _reached(runs(hit, first), long, held)
    assert found.tolist() == bad.tolist()
    assert when.tolist() == sure.tolist()
    assert stamps.tolist() == proof.tolist()


@pytest.mark.parametrize("steps", [1, 3])
@settings(deadline=None)
@given(tracks(LOGS))
def test_a_row_before_is_of_the_same_track(steps, told):
    values, as_of, starts = told
    track = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    held = Lines("marks", "", [], starts, track, as_of, as_of, as_of, {})
    wanted = [values[i - steps] if i - steps >= a else math.nan for a, b in pairwise(starts) for i in range(a, b)]
    np.testing.assert_array_equal(held.before(values, steps), wanted)
    assert held.first.tolist() == [i == a for a, b in pairwise(starts) for i in range(a, b)]
