"""Stamps that are a step or an hour away from what they describe, on histories made by hand: at which lag, from where on, known when."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.test_detectors import LAG, START, at, bars, contract, core
from transforms.detectors import Inputs
from transforms.detectors.labels import LabelShift
from transforms.reading import to_us

#: hours of both sources, how many are judged together, and how far a witness must be past a row before it is judged
COUNT, JUDGED, FARTHEST = 200, 168, 12


def pair(table, rows, lag, count=COUNT):
    """The venue's own rows, and an aggregator's that stand `lag` hours after what they describe."""
    own = {"venue": "binance", "instrument": "BTCUSDT", "asset": "BTC", **({"funding_kind": "settlement"} if table == "funding" else {})}
    found = [own | row | {"n": n} for n, row in enumerate(rows(np.arange(count)))]
    found += [own | row | {"source": "coinalyze", "n": n} for n, row in enumerate(rows(np.arange(count) - lag))]
    return LabelShift().find(Inputs({table: core(table, found)}, {}))


def interest(slope):
    """Coins that grow by `slope` an hour, in logs."""
    return lambda hours: [{"open_interest_base": one, "open_interest_usd": 5e4 * one} for one in 1000 * np.exp(slope * hours)]


def rates(slope):
    """Rates that grow by `slope` an hour."""
    return lambda hours: [{"funding_rate": one} for one in 1e-5 + slope * hours]


@pytest.mark.parametrize("lag", [1, -1, 2, -3, 9, -12])
def test_the_copy_that_fits_at_a_lag_is_told_from_its_first_row_on(lag):
    """At a growth of a hundredth an hour the copy misses by `lag` hundredths as labelled, and by nothing at the lag."""
    (one,) = pair("open_interest", interest(0.01), lag)
    assert (one.source, one.consequence, one.rows) == ("coinalyze", "quarantine", COUNT)
    assert (one.observed, one.expected) == (pytest.approx(abs(lag) * 0.01, rel=1e-6), pytest.approx(0.0, abs=1e-9))
    # the first 168 are judged together where the 168th is, and that is when the witness is twelve hours past it; at -12, later: the first
    # twelve rows of the copy that find no row of the witness at their lag are within the fifth that may be missing
    assert (one.window_start, one.window_end) == (at(0) - 1, at(COUNT - 1))
    assert one.proved_as_of == at(JUDGED - 1 + FARTHEST)
    assert one.known_at == at(JUDGED - 1 + FARTHEST) + to_us(START + LAG) - to_us(START)


def test_a_lag_that_nobody_tries_is_not_found_and_too_few_rows_prove_nothing():
    assert pair("open_interest", interest(0.01), 0) == []
    assert pair("open_interest", interest(0.01), 1, JUDGED + FARTHEST - 1) == []


@pytest.mark.parametrize("more", [0, 1, 5, 11, 12, 30])
def test_what_comes_later_makes_the_finding_longer_and_nothing_else(more):
    """Rows that came while the witness was on its way to the proof are in doubt like those before them: one finding, not two."""
    (first,) = pair("open_interest", interest(0.01), 1, JUDGED + FARTHEST)
    (one,) = pair("open_interest", interest(0.01), 1, JUDGED + FARTHEST + more)
    assert (one.rows, one.window_end) == (JUDGED + FARTHEST + more, at(JUDGED + FARTHEST + more - 1))
    assert replace(one, rows=first.rows, window_end=first.window_end) == replace(first, expected=one.expected, factor=one.factor)


@pytest.mark.parametrize(
    ("table", "rows", "seen"),
    [
        ("open_interest", interest(1.9e-4), 0),
        ("open_interest", interest(2.1e-4), 1),
        ("funding", rates(1.9e-7), 0),
        ("funding", rates(2.1e-7), 1),
    ],
    ids=["logs below", "logs above", "rates below", "rates above"],
)
def test_sources_that_miss_each_other_by_rounding_agree(table, rows, seen):
    """Two hundredths of a per cent of an amount, in logs; 2e-7 of a rate, as it stands."""
    found = pair(table, rows, 1)
    assert len(found) == seen
    if seen:
        assert found[0].observed == pytest.approx(2.1e-4 if table == "open_interest" else 2.1e-7, rel=1e-6)


def test_value_over_amount_fits_the_candle_of_the_step_before():
    """Prices grow by 0.01 an hour in logs, and what the amount implies is an hour old: 48 rows, and the candle after the last of them."""
    found = []
    for count in (48, 49, 60):
        rows = contract("okx", [1000.0] * count)
        close = 5e4 * np.exp(0.01 * np.arange(count))
        for n, row in enumerate(rows):
            row["open_interest_usd"] = row["open_interest_base"] * close[n] * np.exp(-0.01)
        candles = [one | {"close_usd": price} for one, price in zip(bars("okx", [1.0] * count), close, strict=True)]
        found.append(LabelShift().find(Inputs({"open_interest": core("open_interest", rows), "candles": core("candles", candles)}, {})))
    assert found[0] == []
    for (one,), rows in zip(found[1:], (49, 60), strict=True):
        assert (one.table, one.rows, one.consequence) == ("open_interest", rows, "quarantine")
        assert (one.observed, one.expected) == (pytest.approx(0.01, rel=1e-6), pytest.approx(0.0, abs=1e-9))
        assert one.proved_as_of == at(48)


def settlements(*hours):
    """Binance settles from 00:00 on; rows at these hours after START, a midnight."""
    who = {"venue": "binance", "instrument": "BTCUSDT", "asset": "BTC", "funding_kind": "settlement", "funding_rate": 1e-4}
    rows = core("funding", [who | {"n": n} for n in hours])
    return [
        (one.window_start, one.window_end, one.rows, one.observed, one.expected, one.proved_as_of, one.known_at)
        for one in LabelShift().find(Inputs({"funding": rows}, {}))
    ]


def test_three_settlements_in_a_row_at_hours_of_nobody_are_in_local_time():
    """Hours 27, 35, 43 and 51 are 03:00, 11:00, 19:00 and 03:00. The gap before the first is no interval: it proves nothing, but is in doubt."""
    late = 5 * 60_000_000
    assert settlements(0, 8, 16, 27, 35, 43) == [], "two intervals"
    assert settlements(0, 8, 16, 27, 35, 43, 51) == [(at(16), at(51), 4, 3.0, 0.0, at(51), at(51) + late)]
    assert settlements(0, 8, 16, 27, 35, 43, 51, 59) == [(at(16), at(59), 5, 3.0, 0.0, at(51), at(51) + late)]
    assert settlements(0, 8, 16, 27, 35, 43, 48, 56, 64) == [], "two, then right again"
    assert settlements(0, 8, 16, 24, 28, 32, 36, 40) == [], "another interval at its own hours"
    assert settlements(*range(0, 48, 8), *range(51, 99, 4)) == [(at(40), at(95), 12, 3.0, 0.0, at(63), at(63) + late)], "every four hours"
