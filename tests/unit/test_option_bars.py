"""Options on the grid: which snapshot a bar reads, when it stops reading it, and that nothing later ever changes it."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from tests.property.synthetic import core_table, micros
from tests.unit.option_chains import FINE, SURFACE, but, chain, listed, together
from transforms.asof import UnusableInput
from transforms.estimators import HOUR_US
from transforms.features import options as family
from transforms.features.contract import Why
from transforms.features.options import FEATURES
from transforms.features.panel import Panel
from transforms.option_book import MEASURES, measure
from transforms.spec import SPEC
from transforms.windows import utc

T0 = micros("2026-05-01")
MINUTE_US = HOUR_US // 60
#: minutes after the hour at which a chain is asked for; known a minute later
ASKED = 55 * MINUTE_US
ASSETS = ("BTC", "ETH")
#: what SURFACE says
OWN = dict(zip(MEASURES, measure(SURFACE, SPEC.options), strict=True))


def panel_of(*tables, bars=24, cadence="1h", first=0, spec=SPEC, assets=ASSETS):
    """A panel of the bars first + 1 ... bars after T0."""
    core = {}
    for name, table in tables:
        core[name] = pa.concat_tables([core[name], table]) if name in core else table
    rule = spec.cadence(cadence)
    start = utc("2026-05-01")
    return Panel(
        core, start=start + first * rule.step, window_start=start, end=start + bars * rule.step, rule=rule, spec=spec, assets=assets
    )


def at(hour, rows=SURFACE, **more):
    """A chain asked for five minutes before a full hour."""
    return "option_chain", chain(T0 + (hour - 1) * HOUR_US + ASKED, rows, **more)


def index(hours, values, **more):
    columns = {"asset": "BTC", "instrument": "BTC", "source": "deribit", "venue": "deribit", "interval_h": 1.0, **more}
    return "volatility_index", core_table("volatility_index", T0 + np.asarray(hours) * HOUR_US, implied_volatility=values, **columns)


def found(panel, name):
    return FEATURES[name].compute(panel)


def bits(panel):
    """Everything the family says on the panel, as bits."""
    shape = (len(panel.assets), panel.bars)
    every = [
        np.stack([np.broadcast_to(part, shape).astype(float) + 0.0 for part in (m.value, m.age_h, m.why)]) for m in computed(panel).values()
    ]
    return np.where(np.isnan(every), np.nan, every).view(np.int64)


def computed(panel):
    return {name: feature.compute(panel) for name, feature in FEATURES.items()}


def scaled(rows, factor):
    """The same chain with more calls and another smile."""
    return but(rows, interest=rows.interest * np.where(rows.call == 1, factor, 1.0), volatility=rows.volatility * factor)


# --- which snapshot -------------------------------------------------------------------------------------------------------------


def test_a_bar_reads_the_newest_whole_snapshot_no_older_than_the_carry_limit():
    panel = panel_of(at(3), at(5, scaled(SURFACE, 1.5)), bars=14)
    pcr = found(panel, "call_put_oi_log")
    first, second = math.log(3 / 2), math.log(3 * 1.5 / 2)
    assert pcr.value[0] == pytest.approx([math.nan] * 2 + [first] * 2 + [second] * 6 + [math.nan] * 4, nan_ok=True)
    assert pcr.age_h[0, 2] == pytest.approx(5 / 60)
    assert pcr.age_h[0, 9] == pytest.approx(5 + 5 / 60)
    assert (pcr.why[0, [1, 10]] == Why.NO_INPUT).all()
    assert np.isnan(pcr.value[1]).all()  # ETH has no chain


def test_daily_bars_carry_a_day():
    panel = panel_of(at(17), bars=3, cadence="1d")
    assert np.isfinite(found(panel, "implied_volatility_30d").value[0]).tolist() == [True, False, False]


def test_strikes_of_two_snapshots_are_never_mixed():
    """The newer answer lists only one strike: it is read alone, though the older one is still young."""
    panel = panel_of(at(3), at(4, listed(30, [100.0], 2.0, 1.0)), bars=5)
    assert found(panel, "effective_strikes").value[0, 3] == 1.0
    assert found(panel, "effective_strikes").value[0, 2] > 50


def test_each_snapshot_is_measured_once_and_only_if_a_bar_reads_it(monkeypatch):
    seen = []
    monkeypatch.setattr(family, "measure", lambda rows, rule: seen.append(len(rows.strike)) or measure(rows, rule))
    unread = ("option_chain", chain(T0 + HOUR_US + 10 * MINUTE_US))
    panel = panel_of(unread, at(2), at(4), at(4, asset="ETH"), bars=20)
    computed(panel)
    assert seen == [len(SURFACE.strike)] * 3


def test_both_settlements_are_read_on_their_own_clocks():
    """Asked for ten seconds apart: the newer answer does not push the older one out."""
    dollars = but(SURFACE, settlement=1, interest=np.where(SURFACE.call == 1, 5.0, 1.0))
    panel = panel_of(at(1), ("option_chain", chain(T0 + ASKED + 10_000_000, dollars)), bars=8)
    pcr = found(panel, "call_put_oi_log")
    assert pcr.value[0, 0] == pytest.approx(math.log((3 + 5) / (2 + 1)))
    assert pcr.age_h[0, 0] == pytest.approx((300 - 10) / 3600)
    assert found(panel, "max_pain_coin_usd").value[0, 0] == OWN["max_pain_coin_usd"]


def test_the_first_venue_named_by_the_rule_is_read_others_are_not():
    okx = at(8, scaled(SURFACE, 2.0), venue="okx")
    panel = panel_of(at(3), okx, bars=12)
    assert found(panel, "call_put_oi_log").value[0, 5] == pytest.approx(math.log(3 / 2))
    assert np.isnan(found(panel, "call_put_oi_log").value[0, 9])
    both = replace(SPEC, options=replace(SPEC.options, venues=("deribit", "okx")))
    panel = panel_of(at(3), okx, bars=12, spec=both)
    assert found(panel, "call_put_oi_log").value[0, [5, 9]] == pytest.approx([math.log(3 / 2), math.log(6 / 2)])


def test_rows_of_another_source_are_not_read():
    assert np.isnan(found(panel_of(at(3, source="coinalyze"), bars=5), "strike_hhi").value).all()


def test_of_revisions_the_highest_that_the_bar_can_see():
    """One option's open interest is restated at 05:30: bars before that keep what they said."""
    row = SURFACE.take(np.flatnonzero((SURFACE.strike == 100.0) & (SURFACE.call == 1))[:1])
    restated = at(3, but(row, interest=1003.0), revision=1, delay=2 * HOUR_US + 35 * MINUTE_US)
    panel = panel_of(at(3), restated, bars=8)
    calls, puts = (SURFACE.interest[SURFACE.call == side].sum() for side in (1, 0))
    before, after = math.log(calls / puts), math.log((calls + 1000) / puts)
    assert found(panel, "call_put_oi_log").value[0, 2:8] == pytest.approx([before] * 3 + [after] * 3)


def test_two_rows_of_one_revision_that_differ_are_unusable():
    panel = panel_of(at(3), at(3, but(SURFACE, interest=9.0)), bars=5)
    with pytest.raises(UnusableInput, match=r"two rows of one option and revision 0 at 2026-05-01T02:55.* differ in interest"):
        found(panel, "strike_hhi")
    twice = panel_of(at(3), at(3), bars=5)
    assert bits(twice).tobytes() == bits(panel_of(at(3), bars=5)).tobytes()


@pytest.mark.parametrize(("column", "word"), [("option_type", "straddle"), ("settlement", "gold")])
def test_words_outside_the_vocabulary_are_unusable(column, word):
    with pytest.raises(UnusableInput, match=f"{column} outside"):
        found(panel_of(at(3, **{column: word}), bars=5), "strike_hhi")


@pytest.mark.parametrize("wrong", [{"venues": ()}, {"venues": ("nasdaq",)}, {"settlements": ("gold",)}])
def test_a_rule_that_names_what_does_not_exist_is_refused(wrong):
    spec = replace(SPEC, options=replace(SPEC.options, **wrong))
    with pytest.raises(ValueError, match=f"OptionRule.{next(iter(wrong))} of the spec; name one or more of"):
        found(panel_of(at(3), bars=5, spec=spec), "strike_hhi")


# --- time that passes -----------------------------------------------------------------------------------------------------------


def test_what_belongs_to_an_expiry_ends_with_it():
    """A chain read at 03:00 whose attracting expiry ends at 04:55: from 05:00 on it is stale; the smile is not."""
    rows = together(listed(2 / 24, FINE, 50.0, 50.0), SURFACE)
    panel = panel_of(at(3, rows), bars=8)
    hours = found(panel, "option_expiry_h")
    assert hours.value[0, 2:4] == pytest.approx([1 + 55 / 60, 55 / 60])
    for name in ("option_expiry_h", "max_pain_usd", "max_pain_coin_usd", "expected_move_usd", "strike_distance_em"):
        got = found(panel, name)
        assert np.isfinite(got.value[0, 2:4]).all()
        assert np.isnan(got.value[0, 4:8]).all()
        assert (got.why[0, 4:8] == Why.STALE).all()
    assert np.isfinite(found(panel, "implied_volatility_30d").value[0, 2:8]).all()


def test_reasons():
    quiet = but(SURFACE, volume=0.0)
    panel = panel_of(at(2, quiet), at(4, listed(30, [101.0], 2.0, 1.0)), bars=5)
    assert found(panel, "call_put_volume_log").why[0, 1] == Why.FLAT
    assert found(panel, "implied_volatility_30d").why[0, 3] == Why.TOO_FEW
    assert found(panel, "risk_reversal_25d").why[0, 1] == Why.FINE
    flow = found(panel, "gamma_1pct_flow_usd")
    assert np.isnan(flow.value).all()
    assert (flow.why == Why.NO_INPUT).all()


def test_the_look_back_of_every_feature_covers_what_it_reads():
    for feature in FEATURES.values():
        for rule in SPEC.cadences:
            assert feature.lookback(SPEC, rule) / rule.step >= rule.carry_h / rule.step_h + 1


# --- volatility index and premium -----------------------------------------------------------------------------------------------


def test_dvol_and_the_gap_to_our_own_strip():
    panel = panel_of(at(3), index([2, 3, 4], [0.5, 0.61, 0.62]), bars=12)
    dvol, gap = found(panel, "dvol"), found(panel, "dvol_gap")
    assert dvol.value[0] == pytest.approx([math.nan, 0.5, 0.61] + [0.62] * 7 + [math.nan] * 2, nan_ok=True)
    own = OWN["dvol_style_volatility_30d"]
    assert gap.value[0, 2:4] == pytest.approx([own - 0.61, own - 0.62])
    assert np.isnan(gap.value[0, [1, 9]]).all()
    assert gap.why[0, [1, 9]].tolist() == [Why.NO_INPUT, Why.NO_INPUT]


@pytest.mark.parametrize("bad", [0.0, -0.5, math.nan, math.inf])
def test_a_volatility_index_that_is_not_finite_and_positive_counts_as_not_received(bad):
    assert found(panel_of(index([2, 3], [0.5, bad]), bars=4), "dvol").value[0, 1:].tolist() == [0.5] * 3


def test_intervals_longer_than_a_bar_are_not_read_and_the_shortest_prevails():
    daily = index([24], [0.9], interval_h=24.0)
    assert found(panel_of(daily, index([24], [0.5]), bars=25), "dvol").value[0, 23] == 0.5
    assert np.isnan(found(panel_of(daily, bars=25), "dvol").value).all()
    assert found(panel_of(daily, bars=1, cadence="1d"), "dvol").value[0, 0] == 0.9
    assert found(panel_of(daily, index([24], [0.5]), bars=1, cadence="1d"), "dvol").value[0, 0] == 0.5


def test_variance_premium_is_implied_less_realised():
    """Price moves by 1 % every hour: realised volatility sqrt(8760) % p.a."""
    hours = np.arange(1, 31 * 24 + 1)
    price = 100 * 1.01 ** (hours % 2)
    unknown = {"open_usd": None, "high_usd": None, "low_usd": None, "trades": None, "taker_buy_base": None}
    candles = core_table(
        "candles", T0 + hours * HOUR_US, asset="BTC", instrument="BTCUSDT", interval_h=1.0, close_usd=price, volume_base=1.0, **unknown
    )
    panel = panel_of(("candles", candles), at(31 * 24), bars=31 * 24)
    premium = found(panel, "variance_premium_30d")
    implied = found(panel, "implied_volatility_30d").value[0, -1]
    assert premium.value[0, -1] == pytest.approx(implied**2 - 8760 * math.log(1.01) ** 2, rel=1e-6)
    assert np.isnan(premium.value[0, :-1]).all()
    assert np.isnan(found(panel_of(at(5), bars=6), "variance_premium_30d").value).all()


# --- causality ------------------------------------------------------------------------------------------------------------------


def history():
    """Chains of two assets and an index over two days: gaps, late answers, restatements, a settlement that comes late."""
    rng = np.random.default_rng(5)
    parts = []
    for asset in ASSETS:
        for hour in range(1, 49):
            if rng.random() < 0.3 or 20 <= hour < 29:
                continue
            rows = scaled(SURFACE, rng.uniform(0.5, 1.5))
            rows = together(rows, listed(rng.uniform(0.5, 5) / 24, FINE, 300.0, 200.0, volatility=0.4))
            if hour > 30 and asset == "BTC":
                rows = together(rows, but(scaled(SURFACE, rng.uniform(0.5, 1.5)), settlement=1))
            parts.append(at(hour, rows, asset=asset, delay=3 * HOUR_US if rng.random() < 0.2 else MINUTE_US))
            if rng.random() < 0.3:
                some = rows.take(np.flatnonzero(rng.random(len(rows.strike)) < 0.2))
                parts.append(at(hour, scaled(some, 1.3), asset=asset, revision=1, delay=2 * HOUR_US))
        parts.append(index(np.arange(1, 49), rng.uniform(0.3, 0.9, 48), asset=asset))
    return parts


def changed(parts, keep, change):
    """The history with the rows that `keep` refuses changed, or left out."""
    found = []
    for name, table in parts:
        known = keep(table.column("known_at").cast(pa.int64()).to_numpy())
        found.append((name, table.filter(pa.array(known))))
        if change is not None and not known.all():
            found.append((name, change(table.filter(pa.array(~known)))))
    return found


def spoiled(table):
    """Every amount, price and volatility multiplied."""
    for place, field in enumerate(table.schema):
        if pa.types.is_floating(field.type) and field.name not in ("interval_h", "strike_usd"):
            table = table.set_column(place, field, pa.array(table.column(place).to_numpy() * 3.7))
    return table


@pytest.mark.parametrize("change", [None, spoiled], ids=["left out", "spoiled"])
@pytest.mark.parametrize("cut", [7, 19, 33, 47])
def test_what_is_known_later_changes_no_earlier_bar(cut, change):
    parts = history()
    publication = T0 + cut * HOUR_US + SPEC.publication_delay // timedelta(microseconds=1)
    before = changed(parts, lambda known: known <= publication, change)
    whole, known = bits(panel_of(*parts, bars=48)), bits(panel_of(*before, bars=48))
    assert np.array_equal(whole[..., :cut], known[..., :cut])
    assert not np.array_equal(whole, known)


def test_split_equals_whole():
    parts, edges = history(), (0, 11, 12, 29, 48)
    whole = bits(panel_of(*parts, bars=48))
    reach = max(feature.lookback(SPEC, SPEC.cadence("1h")) for name, feature in FEATURES.items() if name != "variance_premium_30d")
    for first, last in pairwise(edges):
        oldest = T0 + first * HOUR_US - reach // timedelta(microseconds=1)
        own = [(name, table.filter(pa.array(table.column("as_of").cast(pa.int64()).to_numpy() >= oldest))) for name, table in parts]
        assert np.array_equal(bits(panel_of(*own, bars=last, first=first)), whole[..., first:last])


def test_order_of_rows_and_names_of_other_assets_say_nothing():
    parts = history()
    rng = np.random.default_rng(1)
    shuffled = [(name, table.take(rng.permutation(table.num_rows))) for name, table in reversed(parts)]
    whole = bits(panel_of(*parts, bars=48))
    assert np.array_equal(whole, bits(panel_of(*shuffled, bars=48)))
    alone = bits(panel_of(*parts, bars=48, assets=("BTC",)))
    assert np.array_equal(whole[:, :, :1], alone)
