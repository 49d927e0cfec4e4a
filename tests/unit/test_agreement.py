"""Two voices about one thing: what counts as the same thing, from where on they disagree, and what follows from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.synthetic import core_table, micros
from transforms.agreement import comparisons, worst
from transforms.features.panel import Panel
from transforms.index.build import Stamp, derive
from transforms.spec import SPEC
from transforms.windows import Window, utc

HOUR = 3_600_000_000
SPAN = Window(utc("2026-03-01"), utc("2026-03-05"))
WHEN = np.arange(micros("2026-03-01T01:00"), micros("2026-03-05") + 1, HOUR)
DAYS = WHEN[WHEN % (24 * HOUR) == 0]
STAMP = Stamp("simulated", "reconstructed", "0" * 64)
VENUE = {"instrument": "BTCUSDT", "asset": "BTC"}
SECOND = {"source": "coinalyze", "instrument": "BTCUSDT_PERP.A", "asset": "BTC"}
NATIVE = {"native_unit": "base", "oi_sides": 1}
BAR = {"open_usd": None, "high_usd": None, "low_usd": None, "trades": None, "taker_buy_base": None, "volume_base": 1.0}


def interest(when, amount, who, **columns):
    given_ = {"open_interest_native": amount, "open_interest_base": amount, "open_interest_usd": amount * 100.0, **NATIVE, **columns}
    return core_table("open_interest", when, **given_, **who)


def market(off=1.0, close=100.0, paid=1e-4):
    """Hourly Binance, and Coinalyze's daily rows of the same contract `off` by a factor."""
    amount = 1000.0 + np.arange(len(WHEN))
    at_ends = amount[np.isin(WHEN, DAYS)]
    settled = WHEN[WHEN % (8 * HOUR) == 0]
    told = {"funding_kind": "settlement", "funding_interval_h": 8.0}
    return {
        "open_interest": [interest(WHEN, amount, VENUE), interest(DAYS, at_ends * off, SECOND)],
        "candles": [
            core_table("candles", WHEN, close_usd=100.0, interval_h=1.0, **BAR, **VENUE),
            core_table("candles", DAYS, close_usd=close, interval_h=24.0, **BAR, **SECOND),
        ],
        "funding": [
            core_table("funding", settled, funding_rate=np.where(settled % (24 * HOUR) == 0, 5e-4, 1e-4), **told, **VENUE),
            core_table("funding", DAYS, funding_rate=paid, **told, **SECOND),
        ],
    }


def joined(parts):
    return {name: pa.concat_tables(tables) for name, tables in parts.items()}


def panel(parts):
    rule = SPEC.cadence("1h")
    return Panel(joined(parts), start=SPAN.start, window_start=SPAN.start, end=SPAN.end, rule=rule, spec=SPEC)


def last(parts):
    return {one.quantity: float(one.excess[-1]) for one in comparisons(panel(parts)) if one.other == "coinalyze"}


def test_voices_that_say_the_same_agree_to_the_last_digit():
    assert last(market()) == {"open_interest": 0.0, "funding": 0.0, "price": 0.0}


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 2.0))
def test_open_interest_is_measured_in_its_two_percent(off):
    assert last(market(off))["open_interest"] == pytest.approx(abs(1 / off - 1) / 0.02, rel=1e-9)


@pytest.mark.parametrize(("close", "breach"), [(100.0999, False), (100.11, True), (99.89, True)])
def test_ten_basis_points_of_price(close, breach):
    assert (last(market(close=close))["price"] >= 1.0) is breach


def test_settlements_agree_exactly_or_not_at_all():
    assert last(market(paid=1e-4 + 9e-9))["funding"] == pytest.approx(0.9, rel=1e-6)
    assert last(market(paid=1e-4 + 2e-8))["funding"] == pytest.approx(2.0, rel=1e-6)


def test_a_day_closes_with_the_settlement_before_its_end():
    """The settlement at midnight, 5e-4 here, belongs to the day that begins with it."""
    assert last(market(paid=5e-4))["funding"] > 1.0


def test_a_comparison_is_forgotten_after_its_time():
    parts = market(1.5)
    parts["open_interest"][1] = interest(DAYS[:1], np.array([5000.0]), SECOND)
    found = next(one for one in comparisons(panel(parts)) if one.quantity == "open_interest")
    known = np.isfinite(found.difference)
    age_h = (WHEN - DAYS[0]) / HOUR
    assert known.tolist() == ((age_h >= 0) & (age_h <= SPEC.agreement.max_age_h)).tolist()


def test_another_contract_of_the_venue_is_another_thing():
    parts = market()
    parts["open_interest"][1] = interest(DAYS, np.full(len(DAYS), 5.0), {**SECOND, "instrument": "BTCUSDC_PERP.A"})
    assert "open_interest" not in last(parts)


def four_venues(odd):
    names = ("binance", "bybit", "okx", "hyperliquid")
    prices = dict(zip(names, (100.0, 100.0, 100.1, odd), strict=True))
    who = {name: {"source": name, "venue": name, "instrument": f"BTC-{name}", "asset": "BTC"} for name in names}
    return {
        "open_interest": [interest(WHEN, np.full(len(WHEN), 10.0), who[name]) for name in names],
        "candles": [core_table("candles", WHEN, close_usd=prices[name], interval_h=1.0, **BAR, **who[name]) for name in names],
    }


def panel_of_all(parts):
    rule = replace(SPEC.cadence("1h"), sources=("binance", "bybit", "okx", "hyperliquid"))
    return Panel(joined(parts), start=SPAN.start, window_start=SPAN.start, end=SPAN.end, rule=rule, spec=SPEC)


def test_a_venue_is_held_against_the_median_of_all():
    found = {one.venue: float(one.excess[-1]) for one in comparisons(panel_of_all(four_venues(103.0)))}
    middle = 100.05
    assert found["hyperliquid"] == pytest.approx((103.0 / middle - 1.0) / 0.02, rel=1e-9)
    assert max(value for venue, value in found.items() if venue != "hyperliquid") < 1.0
    assert worst(panel_of_all(four_venues(103.0)))[0][0, -1] == found["hyperliquid"]


def test_two_venues_have_no_median():
    parts = {name: tables[:2] for name, tables in four_venues(103.0).items()}
    assert comparisons(panel_of_all(parts)) == []


def test_venues_are_counted_not_contracts_and_at_each_bar():
    """Prices 100, 100, 100.1 and 103; the median of four is 100.05, without the last two venues it is none."""
    parts = four_venues(103.0)
    second = {**VENUE, "source": "binance", "venue": "binance", "instrument": "BTCUSDC"}
    doubled = {name: tables[:2] for name, tables in parts.items()}
    doubled["open_interest"] = [*doubled["open_interest"], interest(WHEN, np.full(len(WHEN), 10.0), second)]
    doubled["candles"] = [*doubled["candles"], core_table("candles", WHEN, close_usd=103.0, interval_h=1.0, **BAR, **second)]
    assert comparisons(panel_of_all(doubled)) == [], "three contracts of two venues"
    half = len(WHEN) // 2
    parts["candles"] = [one if n < 2 else one.slice(0, half + n) for n, one in enumerate(parts["candles"])]
    found = {one.venue: one.difference for one in comparisons(panel_of_all(parts))}
    four, three = 100.0 / 100.05, 100.0 / 100.0
    told = found["binance"]
    assert told[half + 1] == pytest.approx(1.0 - four)
    assert told[half + 2] == pytest.approx(1.0 - three), "100, 100 and 103 are left: their middle is 100"
    assert np.isnan(told[half + 3 :]).all()
    assert found["hyperliquid"][half + 2] == pytest.approx(0.03)


def test_how_old_a_comparison_is_counts_in_hours_from_the_newest_instant_compared():
    """Open interest was compared at the first midnight alone, settlements at the second too."""
    parts = market(1.5)
    parts["open_interest"][1] = parts["open_interest"][1].slice(0, 1)
    parts["candles"].pop()
    parts["funding"][1] = parts["funding"][1].slice(0, 2)
    age = worst(panel(parts))[1][0]
    first = int(np.flatnonzero(DAYS[0] == WHEN)[0])
    assert np.isnan(age[:first]).all()
    assert age[first : first + 24].tolist() == list(range(24))
    assert age[first + 24 : first + 48].tolist() == list(range(24))


@pytest.mark.parametrize(("off", "said"), [(1.0, False), (1.1, True)])
def test_a_breach_is_an_event_lowers_confidence_and_replaces_nothing(off, said):
    found = derive(joined(market(off)), SPAN, "1h", SPEC, stamp=STAMP)
    agreed = derive(joined(market()), SPAN, "1h", SPEC, stamp=STAMP)
    raised = [row for row in found["events"].to_pylist() if "SOURCE_DISAGREEMENT" in row.values()]
    assert bool(raised) is said
    trust, before = (one["readings"].column("conf_agreement").to_pylist() for one in (found, agreed))
    after = [now / then for now, then in zip(trust, before, strict=True)]
    assert set(np.round(after, 9)) == ({1.0, SPEC.confidence.agreement_breach} if said else {1.0})
    used = [one["features"].filter(_is(one["features"], "oi_usd")).column("feature_value").to_pylist() for one in (found, agreed)]
    assert used[0] == used[1]
    evidence = [row for row in found["agreement"].to_pylist() if row["quantity"] == "open_interest"]
    assert len(evidence) == len(DAYS)
    assert {row["agrees"] for row in evidence} == {not said}
    assert {(row["source"], row["other_source"], row["instrument"]) for row in evidence} == {("binance", "coinalyze", "BTCUSDT")}


def _is(table, feature):
    return pc.equal(table.column("feature"), feature)
