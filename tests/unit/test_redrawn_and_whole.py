"""Detectors whose proof is another series: redrawn cohorts and their witnesses, totals and their parts. Histories made by hand."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.test_detectors import LAG, START, at, bars, contract, core
from transforms.detectors import Inputs
from transforms.detectors.ratios import CohortRedraw
from transforms.detectors.whole import SidesBesideTotal, TotalBelowPart
from transforms.reading import to_us
from transforms.windows import HOUR

#: rows of a history, and the one at which the cohort is redrawn
COUNT, STEP = 40, 30
STILL = (0.0,) * COUNT


def stepping(by, usual=0.0):
    """Log odds that go up and down by `usual`; at STEP, which comes after an up, they step by `by`, and stay."""
    return [usual * (n % 2) if n < STEP else usual + by for n in range(COUNT)]


def ratio(metric, odds, late=None):
    """A long share by its log odds; share s has ln(s / (1 - s))."""
    who = {"venue": "binance", "instrument": "BTCUSDT", "asset": "BTC", "ratio_metric": metric}
    shares = 1 / (1 + np.exp(-np.asarray(odds)))
    return [who | {"n": n, "long_share": one} | ({"late": late} if late and n == STEP else {}) for n, one in enumerate(shares)]


def closes(logs, without=(), late=None):
    rows = bars("binance", [1.0] * COUNT)
    found = [one | {"close_usd": 5e4 * np.exp(log)} for one, log in zip(rows, logs, strict=True) if one["n"] not in without]
    return [one | {"late": late} if late and one["n"] == STEP else one for one in found]


def implied(logs):
    rows = contract("binance", [1000.0] * COUNT)
    return [one | {"open_interest_usd": one["open_interest_usd"] * np.exp(log)} for one, log in zip(rows, logs, strict=True)]


def moved(by):
    return [by * (n >= STEP) for n in range(COUNT)]


def redrawn(top, everyone=STILL, prices=STILL, value=None, *, metric="top_positions", **said):
    rows = [*ratio(metric, top), *([] if everyone is None else ratio("global_account", everyone, said.pop("late_accounts", None)))]
    tables = {"long_short": core("long_short", rows)}
    if prices is not None:
        tables["candles"] = core("candles", closes(prices, **said))
    if value is not None:
        tables["open_interest"] = core("open_interest", implied(value))
    return CohortRedraw().find(Inputs(tables, {}))


def test_a_top_ratio_that_steps_while_all_else_stands_still_is_told_in_log_odds():
    """From 50 % to 60 % is ln 1.5; a still night counts as steps of 0.008."""
    (one,) = redrawn(moved(np.log(1.5)))
    assert (one.observed, one.expected) == (pytest.approx(np.log(1.5)), 0.008)
    assert (one.window_start, one.window_end, one.rows, one.consequence) == (at(STEP - 1), at(STEP), 1, "flag")
    assert one.series == "ratio_metric=top_positions"
    assert one.known_at == to_us(START + STEP * HOUR + LAG)
    assert redrawn(moved(np.log(1.5)), metric="somebody_else") == [], "only a chosen cohort can be redrawn"


@pytest.mark.parametrize(("by", "usual", "seen"), [(0.099, 0.0, 0), (-0.101, 0.0, 1), (0.23, 0.02, 0), (0.25, 0.02, 1)])
def test_a_step_is_a_tenth_in_log_odds_and_twelve_usual_ones(by, usual, seen):
    assert len(redrawn(np.asarray(stepping(by, usual)))) == seen


def test_all_accounts_or_the_price_that_move_four_usual_steps_are_the_market():
    top = moved(0.3)
    assert len(redrawn(top, everyone=moved(0.031))) == 1
    assert redrawn(top, everyone=moved(-0.033)) == [], "4 x 0.008"
    unsteady = np.array([0.001 * (n % 2) for n in range(COUNT)])
    assert len(redrawn(top, prices=unsteady - np.array(moved(0.0028)))) == 1, "0.0038 below the hour before, where hours move 0.001"
    assert redrawn(top, prices=unsteady - np.array(moved(0.0032))) == [], "0.0042"


def test_without_both_witnesses_at_both_instants_nothing_is_said():
    top = moved(0.3)
    assert redrawn(top, everyone=None) == []
    assert redrawn(top, prices=None) == []
    assert redrawn(top, everyone=None, value=STILL) == [], "two prices are one witness"
    assert redrawn(top, without=(STEP,)) == []
    assert redrawn(top, without=(STEP - 1,)) == []


def test_a_candle_between_the_instants_does_not_stand_for_the_one_at_the_end():
    ratios = core("long_short", [*ratio("top_positions", moved(0.3)), *ratio("global_account", STILL)])
    hourly, half = closes(STILL), closes(STILL)[STEP] | {"n": STEP - 0.5}
    for rows, seen in (([*hourly, half], 1), ([*closes(STILL, without=(STEP,)), half], 0)):
        assert len(CohortRedraw().find(Inputs({"long_short": ratios, "candles": core("candles", rows)}, {}))) == seen


def test_value_over_amount_is_the_price_where_there_is_no_candle():
    top = moved(0.3)
    assert len(redrawn(top, prices=None, value=STILL)) == 1
    assert redrawn(top, prices=None, value=moved(0.01)) == []
    assert len(redrawn(top, value=moved(0.01))) == 1, "the candle is the better word"
    assert redrawn(top, prices=moved(0.01), value=STILL) == []


@pytest.mark.parametrize("witness", ["late", "late_accounts"])
def test_a_redraw_is_known_when_its_last_witness_is(witness):
    (one,) = redrawn(moved(0.3), **{witness: timedelta(hours=3)})
    assert one.known_at == to_us(START + (STEP + 3) * HOUR + LAG)


# -- totals and their parts


def supply(total, parts, **late):
    """One day of supply of one source; late: coin -> how late it was known."""
    amounts = {"ALL": total, **parts}
    return [
        {"venue": "defillama", "stablecoin": coin, "n": 0, "circulating_usd": amount} | ({"late": late[coin]} if coin in late else {})
        for coin, amount in amounts.items()
    ]


def below(rows):
    return TotalBelowPart().find(Inputs({"stablecoin_supply": core("stablecoin_supply", rows)}, {}))


@pytest.mark.parametrize(("usdc", "seen"), [(39.0, 0), (40.9, 0), (41.1, 1)])
def test_parts_may_exceed_their_total_by_a_hundredth(usdc, seen):
    """60 + usdc against a total of 100: the slack is the total's, against the parts."""
    found = below(supply(100.0, {"USDT": 60.0, "USDC": usdc}))
    said = [(one.instrument, one.observed, one.expected, one.rows, one.consequence) for one in found]
    assert said == [("ALL", 100.0, 60.0 + usdc, 1, "quarantine")] * seen


@pytest.mark.parametrize(("late", "hours"), [({"USDC": 3}, 3), ({"ALL": 2}, 2), ({"ALL": 2, "USDT": 5}, 5), ({}, 0)])
def test_a_total_is_wrong_from_when_it_and_its_parts_were_known(late, hours):
    rows = supply(100.0, {"USDT": 60.0, "USDC": 80.0}, **{coin: timedelta(hours=one) for coin, one in late.items()})
    (one,) = below(rows)
    assert one.known_at == to_us(START + LAG + hours * HOUR)


def test_parts_are_of_the_same_source_and_day():
    rows = supply(100.0, {"USDT": 60.0})
    assert below([*rows, {"venue": "another", "stablecoin": "USDC", "n": 0, "circulating_usd": 80.0}]) == []
    assert below([*rows, {"venue": "defillama", "stablecoin": "USDC", "n": 24, "circulating_usd": 80.0}]) == []


def liquidated(long, short):
    who = {"venue": "bybit", "instrument": "BTCUSDT", "asset": "BTC", "interval_h": 1.0}
    return [who | {"n": n, "long_liquidated_base": long, "short_liquidated_base": short} for n in range(2)]


def stated(total, late=timedelta(0)):
    """What a source says the sum is, known so late; at the second instant."""
    moment = START + HOUR
    row = {
        "source": "bybit",
        "venue": "bybit",
        "instrument": "BTCUSDT",
        "as_of": moment,
        "known_at": moment + LAG + late,
        "interval_h": 1.0,
    }
    kind = pa.timestamp("us", tz="UTC")
    found = pa.Table.from_pylist([row | {"total_liquidated_base": total}])
    for name in ("as_of", "known_at"):
        found = found.set_column(found.column_names.index(name), name, found.column(name).cast(kind))
    return found


def beside(total, **late):
    tables = {"liquidations": core("liquidations", liquidated(60.0, 40.0)), "liquidation_totals": stated(total, **late)}
    return [(one.observed, one.expected, one.window_end, one.known_at) for one in SidesBesideTotal().find(Inputs(tables, {}))]


def test_sides_beside_a_stated_total_are_wrong_from_when_both_were_known():
    known = to_us(START + HOUR + LAG)
    assert beside(100.4) == [], "half a per cent"
    assert beside(100.6) == [(100.0, 100.6, at(1), known)]
    assert beside(99.4) == [(100.0, 99.4, at(1), known)]
    assert beside(200.0, late=timedelta(hours=7)) == [(100.0, 200.0, at(1), known + 7 * 3_600_000_000)]
