"""Facts that must hold on real option chains: Deribit, BTC and ETH, 33 days of April and May 2026 and one answer of June 2025."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from transforms import options
from transforms.features.options import FEATURES
from transforms.features.panel import Panel
from transforms.schema import arrow_schema
from transforms.spec import SPEC
from transforms.tables import TABLES
from transforms.windows import DAY, HOUR, utc

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
SERIES = RECORDINGS / "series"
#: book summaries of all BTC options, as Deribit answered on 2025-06-14 21:58 UTC (the file's name is in the recorder's time)
ANSWER = RECORDINGS / "payloads" / "recorded" / "deribit" / "BTC_option_instruments_20250615_055819.json"
pytestmark = [
    pytest.mark.recordings,
    pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings are not beside this checkout (../shared/recordings)"),
]
ASSETS = ("BTC", "ETH")
DAYS = 33


def _table(name: str, frame: pd.DataFrame, **columns: object) -> pa.Table:
    """A core table said by Deribit, known a minute after as_of."""
    filled = {"source": "deribit", "venue": "deribit", "flags": "", "revision": 0, "raw_sha256": "0" * 64, **columns}
    filled |= {"known_at": filled["as_of"] + HOUR / 60, "fetched_at": filled["as_of"], "date": filled["as_of"].dt.date}
    rows = pd.DataFrame({column: filled[column] for column in TABLES[name].columns}, index=frame.index)
    return pa.Table.from_pandas(rows, schema=arrow_schema(TABLES[name]), preserve_index=False)


@cache
def recorded() -> pd.DataFrame:
    """One row per option and day: volatilities as fractions, open interest in coins, prices in coins."""
    rows = pd.read_parquet(SERIES / "deribit_option_chain_daily.parquet")
    rows["expiry"] = pd.to_datetime(rows.expiry_datetime, utc=True)
    rows["years"] = (rows.expiry - rows.timestamp) / DAY / 365
    return rows


def dvol(column: str, file: str, start: str, end: str) -> pa.Table:
    """The daily close of DVOL, known a minute after the day."""
    rows = pd.read_parquet(SERIES / file)
    day = pd.to_datetime(rows["date"] if "date" in rows else rows["timestamp"], utc=True)
    chosen = rows[column].notna() & (day >= start) & (day <= end)
    level = rows[column][chosen] / 100
    who = {"asset": "BTC", "instrument": "BTC", "interval_h": 24.0}
    return _table("volatility_index", rows[chosen], as_of=day[chosen] + DAY, implied_volatility=level, **who)


@cache
def panel(cadence: str = "1d") -> Panel:
    rows = recorded()
    chain = _table(
        "option_chain",
        rows,
        as_of=rows.timestamp,
        instrument=rows.instrument_name,
        asset=rows.currency,
        expiry_at=rows.expiry,
        strike_usd=rows.strike,
        option_type=rows.option_type,
        settlement="coin",
        open_interest_base=rows.open_interest,
        volume_24h_base=rows.volume,
        mark_iv=rows.implied_volatility,
        underlying_usd=rows.underlying,
        index_usd=rows.index_price,
    )
    core = {
        "option_chain": chain,
        "volatility_index": dvol("dvol_kittycapital", "dvol_btc_daily_captures.parquet", "2026-04-20", "2026-06-01"),
    }
    start, end = utc("2026-04-27"), utc("2026-05-30")
    return Panel(core, start=start, window_start=start, end=end, rule=SPEC.cadence(cadence), spec=SPEC, assets=ASSETS)


@cache
def answered() -> Panel:
    rows = pd.DataFrame(json.loads(ANSWER.read_text()))
    name = rows.instrument_name.str.split("-", expand=True)
    asked = pd.to_datetime(np.full(len(rows), rows.creation_timestamp.max()), unit="ms", utc=True).astype("datetime64[us, UTC]")
    chain = _table(
        "option_chain",
        rows,
        as_of=pd.Series(asked, index=rows.index),
        instrument=rows.instrument_name,
        asset="BTC",
        expiry_at=pd.to_datetime(name[1], format="%d%b%y", utc=True) + 8 * HOUR,
        strike_usd=name[2].astype(float),
        option_type=np.where(name[3] == "C", "call", "put"),
        settlement="coin",
        open_interest_base=rows.open_interest,
        volume_24h_base=rows.volume,
        mark_iv=rows.mark_iv / 100,
        underlying_usd=rows.underlying_price,
        index_usd=rows.estimated_delivery_price,
    )
    core = {"option_chain": chain, "volatility_index": dvol("dvol", "deribit_dvol_btc_daily.parquet", "2025-06-10", "2025-06-16")}
    start, end = utc("2025-06-14"), utc("2025-06-15")
    return Panel(core, start=start, window_start=start, end=end, rule=SPEC.cadence("1d"), spec=SPEC, assets=["BTC"])


def series(name: str, asset: str = "BTC") -> np.ndarray:
    return FEATURES[name].compute(panel()).value[ASSETS.index(asset)]


# --- what the recordings say about themselves ------------------------------------------------------------------------------------


def test_call_and_put_of_one_strike_quote_one_volatility():
    """27,330 pairs, 99.7 % equal to the last digit, the largest difference 0.13 points: our strike's volatility is their mean."""
    pairs = recorded().pivot_table(
        index=["snapshot", "currency", "expiry", "strike"], columns="option_type", values=["implied_volatility", "mark_price", "underlying"]
    )
    assert len(pairs) == 27_330
    assert pairs.notna().all(axis=None)
    gap = (pairs.implied_volatility.call - pairs.implied_volatility.put).abs()
    assert (gap == 0).mean() > 0.997
    assert gap.max() < 0.0015


def test_marks_obey_put_call_parity():
    """In coins `call - put = 1 - K/F`, but for the seconds between two tickers (the recorder asked for one option after the other)."""
    pairs = recorded().pivot_table(
        index=["snapshot", "currency", "expiry", "strike"], columns="option_type", values=["mark_price", "underlying"]
    )
    strike = pairs.index.get_level_values("strike").to_numpy()
    off = (pairs.mark_price.call - pairs.mark_price.put - (1 - strike / pairs.underlying.call)).abs()
    assert off.median() < 3e-5
    assert off.quantile(0.99) < 6e-4
    assert off.max() < 2e-3


def test_our_delta_is_deribits():
    """Undiscounted Black-76 delta on each option's own forward: Deribit does not adjust it for the coin premium."""
    rows = recorded()
    each = zip(rows.underlying, rows.strike, rows.implied_volatility, rows.years, strict=True)
    own = np.array([options.call_delta(*one) for one in each]) - (rows.option_type == "put")
    off = (own - rows.delta).abs()
    assert off.median() < 2e-4
    assert off.quantile(0.99) < 0.01
    assert off.max() < 0.05  # hours before expiry, where a tick of the forward moves delta
    assert off[rows.years > 14 / 365].max() < 0.008


def test_our_price_is_deribits_mark():
    rows = recorded()
    each = zip(rows.underlying, rows.strike, rows.implied_volatility, rows.years, rows.option_type == "call", strict=True)
    own = np.array([options.black_price(*one) for one in each]) / rows.underlying
    off = (own - rows.mark_price).abs()
    assert off.median() < 1e-5
    assert off.quantile(0.99) < 5e-4


# --- what the features say ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asset", ASSETS)
@pytest.mark.parametrize("name", sorted(set(FEATURES) - {"dvol", "dvol_gap", "variance_premium_30d", "gamma_1pct_flow_usd"}))
def test_a_real_chain_answers_every_question(name, asset):
    assert np.isfinite(series(name, asset)).all()
    assert len(series(name, asset)) == DAYS


def test_an_hourly_bar_reads_a_chain_for_six_hours():
    hourly = FEATURES["risk_reversal_25d"].compute(panel("1h")).value
    assert np.isfinite(hourly).sum(axis=1).tolist() == [6 * DAYS, 6 * DAYS]


def test_levels_of_april_and_may_2026():
    """Calm market, puts dearer than calls, rising term structure, a few dozen strikes, two thirds of the gamma within one expected move."""
    expected = {
        "implied_volatility_30d": ((0.33, 0.40), (0.45, 0.59)),
        "risk_reversal_25d": ((-0.08, -0.03), (-0.07, -0.015)),
        "butterfly_25d": ((0.003, 0.010), (0.007, 0.015)),
        "volatility_term_slope": ((0.02, 0.24), (0.09, 0.34)),
        "call_put_oi_log": ((0.35, 0.48), (0.54, 0.75)),
        "effective_strikes": ((35, 39), (28, 32)),
        "strike_concentration_7d": ((0.05, 0.5), (0.05, 0.5)),
        "gamma_concentration": ((0.59, 0.80), (0.62, 0.82)),
        "gamma_1pct_short_usd": ((-6.5e8, -3.6e8), (-1.2e8, -0.4e8)),
    }
    for name, ranges in expected.items():
        for asset, (low, high) in zip(ASSETS, ranges, strict=True):
            found = series(name, asset)
            assert low < found.min(), (name, asset, found.min())
            assert found.max() < high, (name, asset, found.max())
    for asset in ASSETS:
        assert (np.abs(series("gamma_1pct_equity_usd", asset)) < -series("gamma_1pct_short_usd", asset)).all()


def test_max_pain_of_the_coin_pay_out_is_never_lower_and_often_another_strike():
    differs = {asset: int((series("max_pain_coin_usd", asset) != series("max_pain_usd", asset)).sum()) for asset in ASSETS}
    assert differs == {"BTC": 9, "ETH": 12}
    for asset, most in (("BTC", 2000.0), ("ETH", 200.0)):
        gap = series("max_pain_coin_usd", asset) - series("max_pain_usd", asset)
        assert gap.min() == 0
        assert gap.max() == most


def test_the_attracting_expiry_is_the_monthly_one():
    """29 May until it is 35 days from the quarterly one of 26 June, whose open interest is larger."""
    ends = [utc("2026-05-29") if day < 25 else utc("2026-06-26") for day in range(DAYS)]
    bars = [utc("2026-04-28") + day * DAY for day in range(DAYS)]
    assert series("option_expiry_h").tolist() == [(end + 8 * HOUR - bar) / HOUR for end, bar in zip(ends, bars, strict=True)]


# --- against the venue's own index -----------------------------------------------------------------------------------------------


def test_dvol_lies_between_the_volatility_at_the_forward_and_the_whole_strip():
    """DVOL - at the forward: 1.5 points on average; whole strip - DVOL: 2.9. The chain is seven hours older than DVOL's close: on one day of
    the 33 that changes the order.
    """
    index = series("dvol")
    centre, whole = series("implied_volatility_30d"), series("vix_style_volatility_30d")
    assert (centre < index).sum() == DAYS - 1
    assert (index < whole).all()
    assert np.mean(index - centre) == pytest.approx(0.0153, abs=0.001)
    assert np.mean(whole - index) == pytest.approx(0.0290, abs=0.001)
    assert np.corrcoef(centre, index)[0, 1] > 0.9
    assert np.corrcoef(whole, index)[0, 1] > 0.9


def test_the_strip_without_far_wings_reproduces_dvol():
    """0.2 points apart on average, 1.6 at most: no day of these would raise METHODOLOGY's alarm of 2 points."""
    gap = series("dvol_gap")
    assert len(gap) == DAYS
    assert abs(gap.mean()) < 0.003
    assert np.abs(gap).max() < 0.017
    assert np.isnan(series("dvol_gap", "ETH")).all()  # no recording of ETH's DVOL


def test_a_year_earlier_the_same_strip_reproduces_dvol_to_a_quarter_of_a_point():
    """Out of sample: OptionRule.dvol_delta was chosen on the chains of 2026."""
    gap = FEATURES["dvol_gap"].compute(answered())
    assert abs(gap.value[0, 0]) < 0.0025
    assert gap.age_h[0, 0] == pytest.approx(2.03, abs=0.01)


def test_june_2025_expiry():
    """The chain of 27 June 2025 two weeks before: max pain 100,000 (102,000 on the day), put/call ratio 0.66 (0.75 on the day)."""
    value = {name: FEATURES[name].compute(answered()).value[0, 0] for name in FEATURES if name != "variance_premium_30d"}
    assert value["option_expiry_h"] == 12 * 24 + 8
    assert (value["max_pain_usd"], value["max_pain_coin_usd"]) == (100_000, 100_000)
    assert value["implied_volatility_30d"] == pytest.approx(0.398, abs=0.001)
    assert math.exp(-value["call_put_oi_log"]) == pytest.approx(0.62, abs=0.01)
    rows = pd.DataFrame(json.loads(ANSWER.read_text()))
    june = rows[rows.instrument_name.str.contains("-27JUN25-")]
    puts = june.instrument_name.str.endswith("P")
    assert june.open_interest.sum() == pytest.approx(131_204.4)
    assert june.open_interest[puts].sum() / june.open_interest[~puts].sum() == pytest.approx(0.659, abs=0.001)
