"""Hyperliquid against recordings: what its numbers mean was read off them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from plugins import ledger
from transforms.roster import source
from transforms.sources.contract import Answer, Ask, Series
from transforms.sources.hyperliquid import CANDLES, CONTEXTS, FUNDING, META
from transforms.windows import HOUR, Window, to_ms, utc

HYPERLIQUID = source("hyperliquid")
#: the multivenue recording's stamps plus this are the venue's
HOURS_SHIFTED = 1


def answer(body: object) -> Answer:
    return Answer(200, json.dumps(body).encode(), utc("2026-05-28T10:20:01"), {"Content-Type": "application/json"})


def reasons(decoded) -> list[str]:
    return [reject.reason_code for reject in decoded.rejects]


def as_settlements(rows: pd.DataFrame, name: str) -> list[dict]:
    return [
        {"coin": name, "fundingRate": f"{rate:.12f}", "time": to_ms(at.to_pydatetime())}
        for at, rate in zip(rows.settled_at, rows.funding_rate, strict=True)
    ]


def recorded_settlements(recordings, recording: str, name: str) -> tuple[pd.DataFrame, dict]:
    held = pd.read_parquet(recordings / "series" / "funding_settlements.parquet")
    held = held[(held.venue == "hyperliquid") & (held.recording == recording) & (held.symbol == name)].sort_values("settled_at")
    start, end = held.settled_at.iloc[0].floor("h").to_pydatetime() - HOUR, held.settled_at.iloc[-1].ceil("h").to_pydatetime()
    series = Series("hyperliquid", FUNDING, name, Window(utc(start.isoformat()), utc(end.isoformat())), HOUR)
    decoded = HYPERLIQUID.decode(Ask(series, "api", "/info"), answer(as_settlements(held, name)))
    assert not decoded.rejects
    table = decoded.tables["funding"].to_pylist()
    assert len(table) == len(held)
    return held, {row["as_of"]: row["funding_rate"] for row in table}


@pytest.mark.recordings
@pytest.mark.parametrize("recording", ["yuchengzhang966", "ZuShen168"])
@pytest.mark.parametrize("name", ["BTC", "ETH"])
def test_native_settlements_lie_an_hour_after_those_of_the_multivenue_recording(recordings, recording, name):
    """The multivenue recording names the hour's START, the venue the instant of payment: ours are the venue's, one hour later."""
    _, ours = recorded_settlements(recordings, recording, name)
    other = pd.read_parquet(recordings / "series" / "multivenue_1h_funding_rates.parquet")
    other = other[(other.venue == "hyperliquid") & (other.coin == name)]
    theirs = dict(zip(other.timestamp.dt.to_pydatetime(), other.funding_rate, strict=True))

    def alike(hours: int) -> float:
        pairs = [(ours[at + hours * HOUR], rate) for at, rate in theirs.items() if at + hours * HOUR in ours]
        assert len(pairs) > 1500
        return float(np.corrcoef(np.array(pairs).T)[0, 1])

    found = {hours: alike(hours) for hours in (-2, -1, 0, 1, 2)}
    assert max(found, key=found.get) == HOURS_SHIFTED, found
    assert found[HOURS_SHIFTED] > 0.96
    assert found[HOURS_SHIFTED] - found[0] > 0.05


@pytest.mark.recordings
def test_recorded_rates_are_fractions_of_an_eighth_of_the_average_premium(recordings):
    """What `rate_scale` and the interval rest on, and why this premium is no instant's: (P + clamp(1e-4 - P, -5e-4, 5e-4)) / 8."""
    held, ours = recorded_settlements(recordings, "yuchengzhang966", "ETH")
    premium = held.premium.to_numpy()
    expected = (premium + np.clip(1e-4 - premium, -5e-4, 5e-4)) / 8.0
    assert np.abs(expected - np.array(list(ours.values()))).max() < 1e-9


@pytest.mark.recordings
@pytest.mark.parametrize("name", ["BTC", "SOL", "HYPE"])
def test_bars_cut_after_a_thousand_rows_are_missing_hours_and_no_calm(recordings, name):
    held = pd.read_parquet(recordings / "series" / "multivenue_1h_candles.parquet")
    held = held[(held.venue == "hyperliquid") & (held.coin == name)].sort_values("timestamp")
    assert len(held) == 1000
    first = held.timestamp.iloc[0].to_pydatetime()
    series = Series("hyperliquid", CANDLES, name, Window(utc(first.isoformat()), utc(first.isoformat()) + 5000 * HOUR), HOUR)
    rows = [
        {
            "t": to_ms(at.to_pydatetime()),
            "T": to_ms(at.to_pydatetime()) + 3_599_999,
            "s": name,
            "i": "1h",
            **{letter: f"{value:.10g}" for letter, value in zip("ohlcv", numbers, strict=True)},
            "n": 1,
        }
        for at, *numbers in held[["timestamp", "o", "h", "l", "c", "v"]].itertuples(index=False)
    ]
    decoded = HYPERLIQUID.decode(Ask(series, "api", "/info"), answer(rows))
    assert not decoded.rejects
    got = set(decoded.tables["candles"]["as_of"].to_pylist())
    row = ledger.coverage_row("hyperliquid", CANDLES, name, "candles", series.window, series, got, answers=1, failed=0)
    assert (row["expected"], row["received"], row["missing"], row["complete"]) == (5000, 1000, 4000, False)
    later = Window(max(got), series.window.end)
    empty = ledger.coverage_row("hyperliquid", CANDLES, name, "candles", later, replace(series, window=later), got, answers=1, failed=0)
    assert (empty["received"], empty["complete"]) == (0, False)


@pytest.mark.recordings
def test_recorded_and_documented_answers_fit_the_shapes(recordings):
    folder = recordings / "payloads"
    window = Window(utc("2020-01-01"), utc("2026-12-01"))

    def documented(name: str) -> object:
        text = (folder / "documented" / "hyperliquid" / name).read_text()
        return json.loads(text[min(place for mark in "[{" if (place := text.find(mark)) >= 0) :])

    for name, body in (
        ("ETH", documented("Endpoints__Futures__ExchangeData__GetFundingRateHistory.txt")),
        ("BTC", json.loads((folder / "mixed" / "hyperliquid" / "http_funding_history.json").read_text())),
    ):
        decoded = HYPERLIQUID.decode(Ask(Series("hyperliquid", FUNDING, name, window), "api", "/info"), answer(body))
        # the second is hand-made: it settles at 20 min past the hour, which the venue never did
        assert (set(reasons(decoded)), list(decoded.notes)) == ({"STAMP"} if name == "BTC" else set(), [])
        assert decoded.rows == len(body)
    for body in (
        documented("Endpoints__Futures__ExchangeData__GetExchangeInfo.txt"),
        json.loads((folder / "mixed" / "hyperliquid" / "http_meta_perp_sample.json").read_text()),
    ):
        decoded = HYPERLIQUID.decode(Ask(Series("hyperliquid", META, "", window), "api", "/info"), answer(body))
        assert (list(decoded.rejects), list(decoded.notes)) == ([], [])
        assert decoded.rows == len(body["universe"])
    body = documented("Endpoints__Futures__ExchangeData__GetExchangeInfoAndTickers.txt")
    decoded = HYPERLIQUID.decode(Ask(Series("hyperliquid", CONTEXTS, "BTC,ETH,HPOS", window), "api", "/info"), answer(body))
    assert (list(decoded.rejects), list(decoded.notes)) == ([], [])
    assert [table.num_rows for table in decoded.tables.values()] == [3, 3, 3, 3]


@pytest.mark.recordings
def test_the_recorded_contexts_are_read_whole(recordings):
    """All 230 coins of the venue's own dex: a fifth of them delisted, with neither a book nor open interest; and the premium is the instant's."""
    pushed = json.loads((recordings / "payloads" / "recorded" / "hyperliquid" / "ws_all_dexs_asset_ctxs.json").read_text())
    states = dict(pushed["data"]["ctxs"])[""]
    universe = [{"name": f"C{n}", "szDecimals": 1, "maxLeverage": 3} for n in range(len(states))]
    series = Series("hyperliquid", CONTEXTS, "", Window(utc("2026-01-01"), utc("2026-12-01")))
    decoded = HYPERLIQUID.decode(Ask(series, "api", "/info"), answer([{"universe": universe}, states]))
    assert (list(decoded.rejects), list(decoded.notes)) == ([], [])
    trading = [state for state in states if float(state["openInterest"]) > 0]
    assert decoded.tables["open_interest"].num_rows == decoded.tables["premiums"].num_rows == len(trading) < len(states)
    for state, premium in zip(trading, decoded.tables["premiums"]["premium_share"].to_pylist(), strict=True):
        bid, ask, oracle = float(state["impactPxs"][0]), float(state["impactPxs"][1]), float(state["oraclePx"])
        assert premium == pytest.approx((max(bid - oracle, 0.0) - max(oracle - ask, 0.0)) / oracle, abs=2e-9)


@pytest.mark.recordings
def test_a3_the_venue_s_weight_would_halve_at_most(recordings):
    """How wrong the quantity index could be: its change is the weighted mean of the venues' links, so the error is the error of the weight
    times the distance between this venue's link and the others'."""
    held = pd.read_parquet(recordings / "series" / "multivenue_1h_open_interest.parquet")
    held = held[held.timestamp <= pd.Timestamp("2026-03-07T11:00", tz="UTC")].sort_values("timestamp")  # when all seven venues were seen
    weights = {}
    for name in ("BTC", "ETH", "SOL"):
        usd = held[held.coin == name].groupby("venue").oi_usd.last()
        own, others = usd["hyperliquid"], usd.drop("hyperliquid").sum()
        weights[name] = (own / (own + others), own / 2 / (own / 2 + others))
    assert weights["BTC"] == pytest.approx((0.132, 0.070), abs=0.001)
    for one_sided, two_sided in weights.values():
        assert two_sided < one_sided < 2 * two_sided < 0.17
        assert one_sided - two_sided < 0.07
