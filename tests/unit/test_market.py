"""The simulated market: one path whoever asks, nothing after the clock, and behaviour like a market's."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.market import DAY_MS, HOUR_MS, RATIOS, Rows, frozen
from sandbox.simulated import GENESIS_MS, SimulatedMarket
from sandbox.simulation import FLUSH, LONGS, MARKET, STEP_MS, funding_rate, market_path
from transforms.windows import utc

NOW = utc("2026-11-22T13:07")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
FIVE, HOUR = STEP_MS, HOUR_MS


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(7, frozen(NOW))


def same(one: Rows, other: Rows) -> bool:
    return one.at.tobytes() == other.at.tobytes() and all(one[name].tobytes() == other[name].tobytes() for name in one.columns)


def everything(market, symbol, start, end):
    """All ranged answers of one symbol, by name."""
    out = {
        "positioning": market.positioning(symbol, FIVE, start, end),
        "taker": market.taker(symbol, HOUR, start, end),
        "bars": market.bars(symbol, HOUR, start, end),
        "settlements": market.settlements(symbol, start, end),
    }
    for what in ("open-interest", "funding-rate", "long-short-ratio", "liquidation", "ohlcv"):
        out[what] = market.aggregate(what, f"{symbol}_PERP.A", DAY_MS, start, end)
    return out


@settings(max_examples=25, deadline=None)
@given(day=st.integers(1, 600), length=st.integers(1, 40), symbol=st.sampled_from(SYMBOLS))
def test_a_closed_range_never_changes_when_the_clock_moves_on(market, day, length, symbol):
    start = GENESIS_MS + day * DAY_MS
    end = start + length * DAY_MS - 1
    early = SimulatedMarket(7, lambda: end + 1)
    then, now = everything(early, symbol, start, end), everything(market, symbol, start, end)
    # the flow bucket and the bar that end exactly at the clock are closed; nothing is running
    assert all(same(then[name], now[name]) for name in now)


def test_hours_asked_in_any_order_give_the_same_bytes(market):
    other = SimulatedMarket(7, frozen(NOW))
    hours = [GENESIS_MS + n * HOUR for n in range(5000, 5100)]
    forward = {at: everything(market, "ETHUSDT", at, at + HOUR - 1) for at in hours}
    random.Random(3).shuffle(hours)
    for at in hours:
        again = everything(other, "ETHUSDT", at, at + HOUR - 1)
        assert all(same(forward[at][name], again[name]) for name in again)


def test_pieces_add_up_to_the_whole(market):
    start, end = GENESIS_MS + 100 * DAY_MS, GENESIS_MS + 130 * DAY_MS
    whole = market.positioning("BTCUSDT", FIVE, start, end)
    cuts = [start, start + 7 * DAY_MS + 12345, start + 11 * DAY_MS, end + 1]
    pieces = [market.positioning("BTCUSDT", FIVE, a, b - 1) for a, b in itertools.pairwise(cuts)]
    assert np.concatenate([piece.at for piece in pieces]).tobytes() == whole.at.tobytes()
    assert np.concatenate([piece["oi_base"] for piece in pieces]).tobytes() == whole["oi_base"].tobytes()


def test_another_seed_is_another_market(market):
    other = SimulatedMarket(8, frozen(NOW))
    span = (GENESIS_MS, GENESIS_MS + 5 * DAY_MS)
    assert not same(market.bars("BTCUSDT", HOUR, *span), other.bars("BTCUSDT", HOUR, *span))


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_nothing_is_shown_before_it_happened(market, symbol):
    now, far = market.now_ms(), market.now_ms() + 30 * DAY_MS
    assert market.positioning(symbol, FIVE, 0, far).at[-1] <= now
    assert market.taker(symbol, HOUR, 0, far).at[-1] + HOUR <= now
    assert market.settlements(symbol, 0, far).at[-1] <= now
    running = market.bars(symbol, HOUR, 0, far)
    assert running.at[-1] <= now < running.at[-1] + HOUR
    five = market.bars(symbol, FIVE, running.at[-1], far)
    assert five.at[-1] + FIVE <= now
    assert running["close"][-1] == five["close"][-1]
    assert market.fear_greed().at[-1] <= now
    assert market.supply(None).at[-1] <= now


def test_the_path_is_extended_when_time_goes_on():
    clock = [GENESIS_MS + 2 * DAY_MS]
    market = SimulatedMarket(7, lambda: clock[0])
    before = market.bars("BTCUSDT", HOUR, 0, 2**60)
    clock[0] += 9 * DAY_MS
    after = market.bars("BTCUSDT", HOUR, 0, 2**60)
    assert len(after) == 11 * 24
    assert same(after.take(slice(0, len(before))), before)


def test_a_clock_before_the_market_began_says_so():
    with pytest.raises(ValueError, match="begins at 2025-01-01"):
        SimulatedMarket(7, frozen(utc("2024-12-31")))


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_hourly_bars_are_the_five_minute_bars_added_up(market, symbol):
    end = GENESIS_MS + 400 * DAY_MS - 1
    fine, coarse = market.bars(symbol, FIVE, 0, end), market.bars(symbol, HOUR, 0, end)
    shaped = {name: fine[name].reshape(-1, 12) for name in fine.columns}
    assert (coarse["open"] == shaped["open"][:, 0]).all()
    assert (coarse["close"] == shaped["close"][:, -1]).all()
    assert (coarse["high"] == shaped["high"].max(axis=1)).all()
    assert (coarse["low"] == shaped["low"].min(axis=1)).all()
    for name in ("volume", "taker_buy", "trades", "quote_volume"):
        assert np.allclose(coarse[name], shaped[name].sum(axis=1), rtol=1e-12)
    for bars in (fine, coarse):
        assert (bars["low"] <= np.minimum(bars["open"], bars["close"])).all()
        assert (bars["high"] >= np.maximum(bars["open"], bars["close"])).all()
        assert (bars["low"] > 0).all()
        assert (bars["taker_buy"] <= bars["volume"]).all()
        assert (bars["taker_buy_quote"] <= bars["quote_volume"]).all()
    assert (fine["open"][1:] == fine["close"][:-1]).all()


def test_taker_flow_is_the_volume_of_the_bar(market):
    flow = market.taker("BTCUSDT", HOUR, 0, GENESIS_MS + 300 * DAY_MS)
    bars = market.bars("BTCUSDT", HOUR, 0, GENESIS_MS + 300 * DAY_MS)
    here = np.isin(bars.at, flow.at)
    assert np.allclose(flow["buy"] + flow["sell"], bars["volume"][here], rtol=1e-12)
    imbalance, returns = flow["ratio"], np.log(bars["close"] / bars["open"])[here]
    assert np.corrcoef(np.log(imbalance), returns)[0, 1] > 0.2


@given(premium=st.floats(-0.01, 0.01), cap=st.floats(0.0006, 0.02))
def test_funding_follows_the_clamp_formula(premium, cap):
    inner = min(0.0005, max(-0.0005, 0.0001 - premium))
    expected = min(cap, max(-cap, premium + inner))
    assert funding_rate(np.array([premium]), cap)[0] == pytest.approx(expected, abs=5.1e-9)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_funding_stays_within_its_caps_every_eight_hours_with_some_jitter(market, symbol):
    rows = market.settlements(symbol, 0, 2**60)
    assert (np.abs(rows["rate"]) <= market.contract(symbol).cap).all()
    jitter = rows.at % (8 * HOUR)
    assert jitter.max() <= 20
    assert (jitter == 0).any()
    assert (jitter > 0).any()
    assert (np.diff(rows.at // (8 * HOUR)) == 1).all()
    pinned = (rows["rate"] == 0.0001).mean()
    assert 0.2 < pinned < 0.9
    assert (rows["rate"] < 0).any()


def test_ratios_are_shares_and_heads_lean_long(market):
    rows = market.positioning("BTCUSDT", HOUR, 0, 2**60)
    for name in RATIOS:
        assert np.allclose(rows[f"{name}_long"] + rows[f"{name}_short"], 1.0)
        assert np.allclose(rows[f"{name}_ratio"], rows[f"{name}_long"] / rows[f"{name}_short"], rtol=1e-3)
    assert np.median(rows["global_account_ratio"]) > 1.3
    assert abs(np.log(np.median(rows["top_position_ratio"]))) < 0.4


def test_regimes_do_what_their_names_say():
    steps = 199_992
    clock = GENESIS_MS + steps * STEP_MS
    market = SimulatedMarket(7, lambda: clock)
    state = market_path(7, steps)
    regime, lit = state[MARKET.index("regime")], state[MARKET.index("outage")] == 0
    bars = market.bars("BTCUSDT", FIVE, 0, clock - 1)
    returns = np.log(bars["close"] / bars["open"])
    coins = market.aggregate("open-interest", "BTCUSDT_PERP.A", FIVE, 0, clock - 1)["c"]
    growth = np.diff(np.log(coins), prepend=np.log(coins[0]))
    forced = market.aggregate("liquidation", "BTCUSDT_PERP.A", FIVE, 0, clock - 1)
    flush, longs = regime == FLUSH, regime == LONGS
    assert returns[flush].mean() < 0 < returns[longs].mean()
    assert growth[flush].mean() < 0 < growth[longs].mean()
    assert forced["l"][flush].mean() > 10 * forced["l"][~flush].mean()
    assert forced["l"][flush].sum() > 2 * forced["s"][flush].sum()
    hourly = np.abs(np.log(bars["close"][11::12] / bars["open"][::12]))
    assert np.corrcoef(hourly[1:], hourly[:-1])[0, 1] > 0.15, "volatility clusters"
    assert not lit.all()


def test_outages_blind_positioning_for_an_hour_or_more_but_not_the_bars(market):
    rows, bars = market.positioning("BTCUSDT", FIVE, 0, 2**60), market.bars("BTCUSDT", FIVE, 0, 2**60)
    gaps = np.diff(rows.at)
    assert (gaps > HOUR).any()
    assert (np.diff(bars.at) == FIVE).all()
    flow = market.taker("BTCUSDT", FIVE, 0, 2**60)
    assert len(flow) < len(bars)


def test_the_newest_supply_is_restated_later_and_then_settles():
    day = utc("2026-03-10")
    shown = {}
    for hour in (1, 6, 12, 23, 25, 26, 48, 500):
        market = SimulatedMarket(7, lambda hour=hour: int(day.timestamp()) * 1000 + hour * HOUR)
        rows = market.supply("1")
        shown[hour] = float(rows["circulating"][rows.at == int(day.timestamp()) * 1000][0])
        settled = rows.take(rows.at < int(day.timestamp()) * 1000 - 2 * DAY_MS)["circulating"]
        shown.setdefault("past", settled.tobytes())
        assert settled.tobytes() == shown["past"], "days that are over for long do not move"
    assert shown[26] == shown[48] == shown[500]
    assert len({shown[1], shown[6], shown[12], shown[23], shown[26]}) == 5
    assert max(abs(shown[hour] / shown[26] - 1) for hour in (6, 12, 23, 25)) < 0.02


def test_supply_total_is_more_than_its_coins_and_unknown_coins_are_unknown(market):
    coins = [market.supply(coin)["circulating"] for coin in ("1", "2", "5")]
    assert (market.supply(None)["circulating"] > sum(coins)).all()
    assert market.supply("999") is None


def test_fear_and_greed_looks_back_at_returns(market):
    rows = market.fear_greed()
    daily = market.bars("BTCUSDT", DAY_MS, 0, 2**60)
    opens = dict(zip(daily.at.tolist(), daily["open"].tolist(), strict=True))
    month = [np.log(opens[at] / opens[at - 30 * DAY_MS]) for at in rows.at.tolist()]
    assert ((rows["value"] >= 0) & (rows["value"] <= 100)).all()
    assert np.corrcoef(rows["value"], month)[0, 1] > 0.6


def test_the_daily_funding_closes_with_the_settlement_of_16h(market):
    day = GENESIS_MS + 200 * DAY_MS
    bar = market.aggregate("funding-rate", "BTCUSDT_PERP.A", DAY_MS, day, day)
    settled = market.settlements("BTCUSDT", day + 16 * HOUR, day + 17 * HOUR)
    assert bar["c"][0] == pytest.approx(100 * settled["rate"][0], abs=1e-12)
