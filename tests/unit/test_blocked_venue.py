"""A venue that refuses us (451) is out of the numbers by rule: coverage says how much is left, and below its limits the index says so (3.5)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.property.synthetic import SHORT, core_table, micros
from transforms.index.build import Stamp, derive
from transforms.windows import Window, utc

HOUR = 3_600_000_000
VENUES = ("binance", "bybit", "okx", "hyperliquid")
SPAN = Window(utc("2026-03-01"), utc("2026-03-13"))
REFUSED_AT = pd.Timestamp("2026-03-11", tz="UTC")
BLOCKED = micros("2026-03-11")
WHEN = np.arange(micros("2026-03-01T01:00"), micros("2026-03-13") + 1, HOUR)
STAMP = Stamp("simulated", "reconstructed", "0" * 64)


def market(refusing):
    """Four venues of equal open interest; those that refuse say nothing from BLOCKED on."""
    rng = np.random.default_rng(3)
    price = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.004, len(WHEN))))
    parts = {"open_interest": [], "candles": [], "funding": [], "long_short": []}
    for venue in VENUES:
        told = WHEN <= BLOCKED if venue in refusing else np.ones(len(WHEN), dtype=bool)
        who = {"source": venue, "venue": venue, "instrument": f"BTC-{venue}", "asset": "BTC"}
        amount = 1000.0 * np.exp(np.cumsum(rng.normal(0, 0.002, len(WHEN))))[told]
        interest = {"open_interest_native": amount, "open_interest_base": amount, "open_interest_usd": amount * price[told]}
        bars = {"open_usd": None, "high_usd": None, "low_usd": None, "trades": None, "taker_buy_base": amount * 0.4, "volume_base": amount}
        share = np.clip(0.5 + np.cumsum(rng.normal(0, 0.01, len(WHEN))), 0.2, 0.8)[told]
        paid = told & ((WHEN // HOUR) % 8 == 0)
        parts["open_interest"].append(core_table("open_interest", WHEN[told], native_unit="base", oi_sides=1, **interest, **who))
        parts["candles"].append(core_table("candles", WHEN[told], close_usd=price[told], interval_h=1.0, **bars, **who))
        rates = rng.normal(1e-4, 1e-4, len(WHEN))[paid]
        parts["funding"].append(
            core_table("funding", WHEN[paid], funding_rate=rates, funding_kind="settlement", funding_interval_h=8.0, **who)
        )
        parts["long_short"].append(
            core_table("long_short", WHEN[told], ratio_metric="global_account", long_share=share, short_share=1 - share, **who)
        )
    return {name: pa.concat_tables(tables) for name, tables in parts.items()}


def readings(refusing):
    found = derive(market(refusing), SPAN, "1h", SHORT["1h"], assets=["BTC"], stamp=STAMP)["readings"]
    return found.filter(pc.equal(found.column("asset"), "BTC")).to_pandas().set_index("as_of")


@pytest.mark.parametrize(
    ("refusing", "share"), [((), 1.0), (("binance",), 0.75), (("binance", "okx"), 0.5), (("binance", "okx", "bybit"), 0.25)]
)
def test_g1_a_blocked_venue_lowers_coverage_and_the_index_goes_on_by_rule(refusing, share):
    said = readings(refusing)  # judged two hours after what was carried has run out
    before, after = said.loc[:REFUSED_AT].iloc[-1], said.loc[REFUSED_AT + pd.Timedelta(hours=8)]
    assert before.conf_coverage == pytest.approx(1.0)
    assert len(said) == len(WHEN), "every hour is published, whatever is known of it"
    assert after.conf_coverage == pytest.approx(share, abs=0.03)
    if share >= 0.6:
        assert np.isfinite(after.s)
        assert "coverage" not in after.reason
    elif share >= 0.3:
        assert np.isfinite(after.s)
        assert (after.status, "coverage" in after.reason) == ("indicative", True)
    else:
        assert after.status == "withheld"
        assert not np.isfinite(after.s)
        assert "coverage" in after.reason


def test_g1_the_refusal_itself_moves_nothing():
    """The venue leaves by chain-linking: what the others say is all that is left, and the quantity index does not jump (3.4)."""
    whole, less = readings(()), readings(("binance",))
    gone = REFUSED_AT + pd.Timedelta(hours=7)
    assert whole.loc[:REFUSED_AT].equals(less.loc[:REFUSED_AT])
    moves = less.loc[REFUSED_AT:gone].s.diff().abs().max()
    usual = less.loc[:REFUSED_AT].s.diff().abs().quantile(0.99)
    assert moves <= usual
