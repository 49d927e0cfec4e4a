"""OKX: terms of contracts, dead feeds, ratios, bars, funding. Forced orders: test_okx_orders.py; questions and errors: test_okx_asking.py."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.okx_answers import JSON, NOW, OKX, decode, planned, reasons, table
from transforms.sources.contract import Answer, Ask, Series, Unreadable
from transforms.sources.okx import PATHS, RUBIK
from transforms.windows import HOUR, Window, from_ms, to_ms, utc

# -- open interest


def test_a4_contracts_become_coins_and_usd():
    row = table(decode("open-interest-history"))[0]
    assert (row["as_of"], row["known_at"]) == (utc("2026-05-20T11:00"), utc("2026-05-20T11:05"))
    assert (row["instrument"], row["asset"], row["venue"]) == ("BTC-USDT-SWAP", "BTC", "okx")
    assert (row["open_interest_native"], row["native_unit"], row["oi_sides"]) == (2710350.12, "contracts", 1)
    assert row["open_interest_base"] == pytest.approx(27103.5012, rel=1e-12)
    assert row["open_interest_usd"] == 2921757421.1


def test_a1_the_snapshot_counts_one_side_as_the_history_does():
    """2712040.37 contracts of 0.01 BTC, which the venue states as 27120.4037 coins and 2923579518.9 USD beside them."""
    row = table(decode("open-interest"))[0]
    assert (row["open_interest_native"], row["native_unit"], row["oi_sides"]) == (2712040.37, "contracts", 1)
    assert row["open_interest_base"] == pytest.approx(27120.4037, rel=1e-12)
    assert row["open_interest_usd"] == 2923579518.9


def test_a4_inverse_contracts_of_100_usd_become_the_coins_the_venue_counts():
    row = table(decode("open-interest-history", suffix="-inverse"))[0]
    assert row["open_interest_native"] == 5_400_000.0
    assert row["open_interest_base"] == pytest.approx(5009.276438, rel=1e-12)
    assert row["open_interest_usd"] == 540_000_000.0


@pytest.mark.parametrize(("suffix", "size"), [("", "0.1"), ("", "0.00985"), ("-inverse", "10.0"), ("-inverse", "0.01")])
def test_a_contract_of_another_size_is_another_contract(suffix, size):
    payoff = "inverse" if suffix else "linear"
    decoded = decode("open-interest-history", suffix=suffix, options=(("payoff", payoff), ("contract_size", size)))
    assert reasons(decoded) == ["CONVENTION"] * 3
    assert table(decoded) == []


@pytest.mark.parametrize(
    "options", [(), (("payoff", "linear"),), (("payoff", "quanto"), ("contract_size", "1")), (("payoff", "linear"), ("contract_size", "0"))]
)
def test_without_its_terms_no_contract_is_read(options):
    with pytest.raises(Unreadable) as caught:
        decode("open-interest-history", options=options)
    assert caught.value.reject.reason_code == "CONVENTION"


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a11_a_zero_among_the_amounts_is_no_open_interest(place):
    decoded = decode("open-interest-history", lambda data: data[1].__setitem__(place, "0"))
    assert reasons(decoded) == ["ZERO_OPEN_INTEREST"]
    assert len(table(decoded)) == 2


@pytest.mark.recordings
def test_a_dead_feed_is_refused_whole(recordings):
    """Recorded: weeks in which somebody's OKX feed said "0" for everything. No row of it may pass, and each has its reason."""
    held = json.loads((recordings / "defects" / "okx_dead_feed_open_interest.json").read_text())
    dead = 0
    for snapshot in held:
        for symbol, oi in snapshot["oi"].items():
            name = f"{symbol.removesuffix('USDT')}-USDT-SWAP"
            at = from_ms(snapshot["unix"] * 1000)
            row = {"instType": "SWAP", "instId": name, "oi": oi, "oiCcy": "0", "oiUsd": snapshot["oi_value"][symbol], "ts": str(to_ms(at))}
            series = Series("okx", "open-interest", name, Window(at - HOUR, at), None, (("payoff", "linear"), ("contract_size", "1.0")))
            body = json.dumps({"code": "0", "msg": "", "data": [row]}).encode()
            decoded = OKX.decode(Ask(series, "api", PATHS["open-interest"]), Answer(200, body, at, JSON))
            assert reasons(decoded) == ["ZERO_OPEN_INTEREST"]
            assert table(decoded) == []
            dead += 1
    assert dead > 100


def test_a10_a_snapshot_is_never_later_than_our_asking():
    assert table(decode("open-interest"))[0]["as_of"] == utc("2026-05-20T12:00:01")
    assert table(decode("open-interest", fetched_at=utc("2026-05-20T11:59:58")))[0]["as_of"] == utc("2026-05-20T11:59:58")


def test_an_older_answer_without_usd_leaves_it_null():
    decoded = decode("open-interest", lambda data: data[0].pop("oiUsd"))
    assert not decoded.rejects
    assert table(decoded)[0]["open_interest_usd"] is None


def test_a6_open_interest_is_asked_by_contract_and_never_of_a_currency():
    assert not any("open-interest-volume" in path for path in PATHS.values())
    (ask,) = OKX.asks(next(series for series in planned() if series.endpoint == "open-interest-history"))
    assert ask.path.endswith("/contracts/open-interest-history")
    assert dict(ask.params)["instId"] == "BTC-USD-SWAP"
    assert "ccy" not in dict(ask.params)


# -- positioning and flow


@given(st.floats(0.0, 1000.0).map(lambda ratio: f"{ratio:.6f}"))
@settings(max_examples=60)
def test_e1_a_ratio_is_long_over_short_and_becomes_two_shares(ratio):
    (row, *_) = table(decode("long-short-account-ratio-contract", lambda data: data[0].__setitem__(1, ratio)))
    assert row["long_share"] + row["short_share"] == pytest.approx(1.0, abs=1e-15)
    assert row["long_share"] == pytest.approx(float(ratio) * row["short_share"], rel=1e-12, abs=1e-15)


def test_e1_three_ratios_have_three_names():
    metrics = {endpoint: {row["ratio_metric"] for row in table(decode(endpoint))} for endpoint in RUBIK if "ratio" in endpoint}
    assert sorted(metrics.values(), key=str) == [{"global_account"}, {"top_account"}, {"top_position"}]


@pytest.mark.parametrize("ratio", ["-1", "-0.5", "", "nan", "inf", "1_0", "1e999"])
def test_what_is_no_ratio_is_put_aside_alone(ratio):
    decoded = decode("long-short-account-ratio-contract", lambda data: data[0].__setitem__(1, ratio))
    assert reasons(decoded) == ["VALUE"]
    assert len(table(decoded)) == 2


def test_sells_stand_before_buys_and_are_asked_for_in_coins():
    row = table(decode("taker-volume-contract"))[0]
    assert (row["taker_sell_base"], row["taker_buy_base"], row["interval_h"]) == (1410.25, 1530.75, 1.0)
    assert row["as_of"] == utc("2026-05-20T11:00")
    for series in planned():
        if series.endpoint == "taker-volume-contract":
            assert all(dict(ask.params)["unit"] == "0" for ask in OKX.asks(series))


# -- bars


def test_a_bar_is_stamped_at_its_end_and_counted_in_coins():
    row = table(decode("history-candles"))[0]
    assert (row["as_of"], row["known_at"], row["close_usd"]) == (utc("2026-05-20T11:00"), utc("2026-05-20T11:01"), 107801.2)
    assert (row["volume_base"], row["taker_buy_base"], row["trades"]) == (3210.445, None, None)
    assert table(decode("history-candles", suffix="-inverse"))[0]["volume_base"] == 382.331


@pytest.mark.parametrize(("confirm", "reason"), [("0", "VALUE"), ("2", "CONVENTION"), ("", "CONVENTION")])
def test_only_a_bar_that_is_over_is_a_bar(confirm, reason):
    decoded = decode("history-candles", lambda data: data[0].__setitem__(8, confirm))
    assert reasons(decoded) == [reason]
    assert len(table(decoded)) == 2


# -- funding


def test_c4_what_was_paid_is_the_realized_rate():
    rows = table(decode("funding-rate-history"))
    assert [row["funding_rate"] for row in rows] == [0.00007, -0.0000049, 0.0001]
    assert {(row["funding_kind"], row["funding_interval_h"]) for row in rows} == {("settlement", None)}


@pytest.mark.parametrize(("begun", "onward", "hours"), [("12:00", "20:00", 4.0), ("15:00", "17:00", 1.0), ("10:00", "22:00", 6.0)])
def test_c1_a_quote_covers_the_interval_its_own_stamps_say(begun, onward, hours):
    def change(data):
        data[0] |= {"ts": str(to_ms(utc("2026-05-20T11:59"))), "prevFundingTime": str(to_ms(utc(f"2026-05-20T{begun}")))}
        data[0]["nextFundingTime"] = str(to_ms(utc(f"2026-05-20T{onward}")))

    decoded = decode("funding-rate", change)
    assert [row["funding_interval_h"] for name in ("funding", "funding_terms") for row in table(decoded, name)] == [hours, hours]


@pytest.mark.parametrize("absent", [None, ""])
def test_c1_without_its_beginning_the_interval_after_the_settlement_stands_for_it(absent):
    def change(data):
        data[0] |= {"prevFundingTime": absent, "nextFundingTime": str(to_ms(utc("2026-05-20T20:00")))}

    assert table(decode("funding-rate", change))[0]["funding_interval_h"] == 4.0


def test_c7_a_rate_that_is_due_already_is_no_quote():
    decoded = decode("funding-rate", lambda data: data[0].update(fundingTime=data[0]["ts"]))
    assert set(reasons(decoded)) == {"CONVENTION"}
    assert all(not table(decoded, name) for name in decoded.tables)


def test_c7_a_quote_says_so_and_brings_cap_and_floor():
    decoded = decode("funding-rate")
    (row,), (terms,) = table(decoded, "funding"), table(decoded, "funding_terms")
    assert (row["funding_rate"], row["funding_kind"], row["funding_interval_h"]) == (0.0000634512, "quote", 8.0)
    assert (terms["funding_cap_rate"], terms["funding_floor_rate"]) == (0.00375, -0.00375)


# -- answers of the venue as documents and fixtures show them


def shown(recordings, folder: str, file: str) -> bytes:
    text = (recordings / "payloads" / folder / "okx" / file).read_text()
    return text[text.index("{") :].encode()


def read(endpoint: str, name: str, body: bytes, size: float, payoff="linear", step=None):
    series = Series("okx", endpoint, name, Window(utc("2018-01-01"), NOW), step, (("payoff", payoff), ("contract_size", repr(size))))
    return OKX.decode(Ask(series, "api", PATHS[endpoint]), Answer(200, body, NOW, JSON))


@pytest.mark.recordings
def test_the_documents_funding_is_read(recordings):
    history = shown(recordings, "documented", "Endpoints__UnifiedApi__ExchangeData__GetFundingRateHistory.txt")
    tail = b"]}" if history.rstrip().endswith(b"]") else b""  # the example lacks its last brace
    decoded = read("funding-rate-history", "BTC-USD-SWAP", history.rstrip() + tail[1:], 100.0, "inverse")
    assert [row["funding_rate"] for row in table(decoded)] == [0.0000746572360545, 0.0002279755647389]
    decoded = read("funding-rate-history", "BTC-USDT-SWAP", shown(recordings, "mixed", "http_get_funding_rate_history.json"), 0.01)
    assert [row["funding_rate"] for row in table(decoded)] == [0.00015, -0.00002]
    quote = read(
        "funding-rate", "BTC-USDT-SWAP", shown(recordings, "documented", "Endpoints__UnifiedApi__ExchangeData__GetFundingRates.txt"), 0.01
    )
    assert (table(quote)[0]["funding_rate"], table(quote)[0]["funding_interval_h"]) == (0.000079238688534, 8.0)
    assert not quote.rejects
    assert not quote.notes


@pytest.mark.recordings
def test_the_fixtures_listing_and_mark_are_read(recordings):
    decoded = read("instruments", "", shown(recordings, "mixed", "http_get_instruments_swap.json"), 1.0)
    assert not decoded.rejects
    assert [(row["instrument"], row["payoff"], row["contract_size"], row["contract_unit"]) for row in table(decoded)] == [
        ("BTC-USD-SWAP", "inverse", 100.0, "usd"),
        ("ETH-USDT-SWAP", "linear", 0.1, "base"),
        ("BTC-USDT-SWAP", "linear", 0.01, "base"),
    ]
    (row,) = table(read("mark-price", "BTC-USDT-SWAP", shown(recordings, "mixed", "http_get_mark_price.json"), 0.01))
    assert (row["mark_usd"], row["index_usd"]) == (84660.1, None)


@pytest.mark.recordings
def test_the_fixtures_bars_have_the_declared_places_and_fail_by_their_minutes_alone(recordings):
    decoded = read("history-candles", "BTC-USDT-SWAP", shown(recordings, "mixed", "http_get_candlesticks_full.json"), 0.01, step=HOUR)
    assert set(reasons(decoded)) == {"STAMP"}
    whole = read("history-candles", "BTC-USDT-SWAP", shown(recordings, "mixed", "http_get_candlesticks_full.json"), 0.01)
    assert [row["volume_base"] for row in table(whole)] == [10.4037, 71.6404]


@pytest.mark.recordings
def test_the_documents_open_interest_is_no_market(recordings):
    """5000 contracts of 0.01 BTC are not 555.55 BTC: a made-up example, and the terms say so."""
    body = shown(recordings, "documented", "Endpoints__UnifiedApi__ExchangeData__GetOpenInterests.txt")
    assert reasons(read("open-interest", "BTC-USDT-SWAP", body, 0.01)) == ["CONVENTION"]
