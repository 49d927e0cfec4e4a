"""Binance COIN-M: contracts of a fixed size in USD, coins as the venue states them, pairs and their perpetuals."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms.instruments import binance_coin_asset, tradable
from transforms.roster import source
from transforms.sources import binance_coin as coin
from transforms.sources.contract import Answer, Ask, Instrument, Series, Unreadable, ask_from_json, ask_to_json
from transforms.windows import HOUR, Window, from_ms, to_ms, utc

BINANCE = source("binance")
NOW = utc("2026-05-28T10:20")
PERP = Instrument("BTCUSD_PERP", "binance", "BTC", payoff="inverse", contract_size=100.0, contract_unit="usd", quote_asset="USD")
BTC = Instrument("BTCUSDT", "binance", "BTC")
HISTORIES = [name for name in coin.PATHS if name not in (*coin.SNAPSHOTS, "coinExchangeInfo")]


def decode(file: str, change=lambda tree: None, **asked):
    """The payload after `change(tree)`, decoded."""
    payload = one("binance", file)
    tree = json.loads(payload.answer.body)
    change(tree)
    ask = replace(payload.ask, series=replace(payload.ask.series, **asked)) if asked else payload.ask
    return BINANCE.decode(ask, replace(payload.answer, body=json.dumps(tree).encode()))


def rows(decoded, table):
    return decoded.tables[table].to_pylist()


def reasons(decoded) -> list[str]:
    return [reject.reason_code for reject in decoded.rejects]


def planned(start: str, end: str, now=NOW, instruments=(PERP,)) -> dict[str, list[Series]]:
    found: dict[str, list[Series]] = {}
    for series in BINANCE.plan(Window(utc(start), utc(end)), instruments, now):
        found.setdefault(series.endpoint, []).append(series)
    return found


# -- what is asked


def test_a5_histories_are_asked_by_pair_and_contract_type():
    """ccxt asks with pair=BTCUSD_PERP&contractType=CURRENT_QUARTER: an empty list, or another contract's numbers."""
    routes = planned("2026-05-27", "2026-05-28")
    for endpoint in coin.BY_TYPE:
        (series,) = routes[endpoint]
        (ask,) = BINANCE.asks(series)
        params = dict(ask.params)
        assert (ask.host, ask.path, series.instrument) == ("dapi", coin.PATHS[endpoint], "BTCUSD_PERP")
        assert (params["pair"], params["contractType"], params["period"]) == ("BTCUSD", "PERPETUAL", "1h")
        assert "contract_size" not in params
    for endpoint in coin.RATIOS:
        (series,) = routes[endpoint]
        params = dict(next(iter(BINANCE.asks(series))).params)
        assert (series.instrument, params["pair"]) == ("BTCUSD_PERP", "BTCUSD")
        assert not {"contractType", "symbol"} & set(params)


def test_a7_what_is_older_than_thirty_days_is_not_asked_of_futures_data():
    routes = planned("2026-03-01", "2026-05-28")
    kept = Window(utc("2026-04-28T12:00"), utc("2026-05-28"))
    assert [series.window for endpoint in (*coin.BY_TYPE, *coin.RATIOS) for series in routes[endpoint]] == [kept] * 5
    assert routes["coinKlines"][0].window.start == utc("2026-03-01")
    assert set(planned("2022-05-01", "2022-06-01")) == {"coinFundingRate", *coin.BARS}


def test_usdt_margined_contracts_are_asked_of_their_own_exchange_and_inverse_ones_of_theirs():
    routes = planned("2026-05-28T08:00", "2026-05-28T10:00", instruments=(PERP, BTC))
    both = [ask for found in routes.values() for series in found for ask in BINANCE.asks(series)]
    assert {ask.host for ask in both} == {"fapi", "dapi"}
    for ask in both:
        names = {value for name, value in ask.params if name in ("symbol", "pair")}
        assert names <= ({"BTCUSD_PERP", "BTCUSD"} if ask.host == "dapi" else {"BTCUSDT"})
        assert ask.budget.startswith("coin_") is (ask.host == "dapi")


def test_the_catalogue_asks_both_exchanges_and_each_answer_says_which_it_is_of():
    asks = list(BINANCE.asks(BINANCE.catalogue(NOW)))
    assert [(ask.host, ask.path, ask.series.endpoint) for ask in asks] == [
        ("fapi", "/fapi/v1/exchangeInfo", "exchangeInfo"),
        ("dapi", "/dapi/v1/exchangeInfo", "coinExchangeInfo"),
    ]
    assert [ask_from_json(ask_to_json(ask)) for ask in asks] == asks


@given(st.integers(0, 24 * 40), st.integers(1, 24 * 40))
@settings(max_examples=40)
def test_pages_hold_every_hour_once(offset, length):
    start = utc("2026-04-01") + offset * HOUR
    for endpoint in ("coinOpenInterestHist", "coinTakerBuySellVol", "coinGlobalLongShortAccountRatio", "coinKlines"):
        series = Series("binance", endpoint, "BTCUSD_PERP", Window(start, start + length * HOUR), HOUR)
        back = HOUR if endpoint in ("coinTakerBuySellVol", "coinKlines") else timedelta(0)
        stamps = []
        for ask in BINANCE.asks(series):
            params = dict(ask.params)
            page = range(int(params["startTime"]), int(params["endTime"]) + 1, 3_600_000)
            assert len(page) <= int(params["limit"]) <= (1500 if endpoint == "coinKlines" else 500)
            stamps += [from_ms(at) + back for at in page]
        assert stamps == series.expected()


def test_no_request_spans_more_than_the_venue_allows():
    """Recorded: -4088, Maximum time interval is 200 days."""
    for endpoint in ("coinFundingRate", "coinKlines", "coinPremiumIndexKlines"):
        for series in planned("2021-01-01", "2026-05-28")[endpoint]:
            for ask in BINANCE.asks(series):
                params = dict(ask.params)
                assert int(params["endTime"]) - int(params["startTime"]) <= 200 * 86_400_000


def test_a_full_page_of_inverse_settlements_goes_on():
    (ask,) = BINANCE.asks(Series("binance", "coinFundingRate", "BTCUSD_PERP", Window(utc("2026-01-01"), utc("2026-01-20"))))
    first = to_ms(utc("2026-01-01"))
    full = [{"symbol": "BTCUSD_PERP", "fundingTime": first + n * 60_000, "fundingRate": "0.0001"} for n in range(1, 1001)]
    onward = BINANCE.follow(ask, Answer(200, json.dumps(full).encode(), NOW))
    assert onward is not None
    assert dict(onward.params)["startTime"] == str(first + 1000 * 60_000 + 1)
    assert BINANCE.follow(ask, Answer(200, json.dumps(full[:999]).encode(), NOW)) is None


# -- what the numbers are


def test_a4_open_interest_is_contracts_coins_as_stated_and_dollars_by_contract_size():
    row = rows(decode("coinOpenInterestHist.json"), "open_interest")[0]
    assert (row["instrument"], row["asset"], row["native_unit"], row["oi_sides"]) == ("BTCUSD_PERP", "BTC", "contracts", 1)
    assert row["open_interest_native"] == 5120344.0
    assert row["open_interest_base"] == 4771.52633855
    assert row["open_interest_usd"] == 512_034_400.0
    assert row["as_of"] == utc("2026-05-20T09:00")


def test_a4_the_size_of_a_contract_is_the_listings_and_never_guessed():
    ten = decode("coinOpenInterestHist.json", options=((coin.SIZE, "10"),))
    assert rows(ten, "open_interest")[0]["open_interest_usd"] == 51_203_440.0
    with pytest.raises(Unreadable) as caught:
        decode("coinOpenInterestHist.json", options=())
    assert caught.value.reject.reason_code == "CONVENTION"
    (series,) = planned("2026-05-27", "2026-05-28", instruments=(replace(PERP, contract_size=10.0),))["coinOpenInterestHist"]
    assert dict(series.options) == {coin.SIZE: "10"}


@pytest.mark.parametrize("change", [{"contractType": "CURRENT_QUARTER"}, {"pair": "BTCUSD_PERP"}, {"pair": "ETHUSD"}])
@pytest.mark.parametrize("file", ["coinOpenInterestHist.json", "coinTakerBuySellVol.json"])
def test_a5_another_contract_type_or_pair_is_put_aside(file, change):
    decoded = decode(file, lambda tree: tree[1].update(change))
    assert reasons(decoded) == ["CONVENTION"]
    assert "asked for BTCUSD PERPETUAL" in decoded.rejects[0].detail


@pytest.mark.parametrize("field", ["sumOpenInterest", "sumOpenInterestValue"])
def test_a11_zero_open_interest_is_put_aside(field):
    assert reasons(decode("coinOpenInterestHist.json", lambda tree: tree[0].update({field: "0.00000000"}))) == ["ZERO_OPEN_INTEREST"]


def test_a_snapshot_states_no_coins():
    (row,) = rows(decode("coinOpenInterest.json"), "open_interest")
    assert (row["open_interest_native"], row["open_interest_base"], row["open_interest_usd"]) == (5129117.0, None, 512_911_700.0)


def test_bars_and_flows_are_in_coins_though_the_venue_counts_contracts():
    bar = rows(decode("coinKlines.json"), "candles")[0]
    assert (bar["volume_base"], bar["taker_buy_base"]) == (75.72920963, 39.03441622)
    assert bar["low_usd"] < 81244 * 100 / bar["volume_base"] < bar["high_usd"]
    assert bar["as_of"] == utc("2026-05-20T09:00")
    flow = rows(decode("coinTakerBuySellVol.json"), "taker_flow")[0]
    assert (flow["taker_buy_base"], flow["taker_sell_base"]) == (37.4717, 36.8501)
    assert (flow["as_of"], flow["interval_h"]) == (utc("2026-05-20T09:00"), 1.0)


@pytest.mark.parametrize("endpoint", coin.RATIOS)
def test_a_ratio_of_another_pair_is_put_aside(endpoint):
    assert reasons(decode(f"{endpoint}.json", lambda tree: tree[2].update(pair="BTCUSD"))) == ["CONVENTION"]


def test_e1_each_ratio_goes_by_its_own_name():
    for endpoint, metric in zip(coin.RATIOS, ("global_account", "top_account", "top_position"), strict=True):
        found = rows(decode(f"{endpoint}.json"), "long_short")
        assert {(row["instrument"], row["asset"], row["ratio_metric"]) for row in found} == {("ETHUSD_PERP", "ETH", metric)}


def test_a_dated_contract_has_a_mark_and_no_funding():
    """Recorded: lastFundingRate is an empty text and nextFundingTime 0."""

    def dated(tree):
        tree.append({**tree[0], "symbol": "BTCUSD_260626", "lastFundingRate": "", "interestRate": "", "nextFundingTime": 0})

    decoded = decode("coinPremiumIndex.json", dated, instrument="")
    assert [row["instrument"] for row in rows(decoded, "marks")] == ["BTCUSD_PERP", "BTCUSD_260626"]
    assert [row["instrument"] for row in rows(decoded, "funding")] == ["BTCUSD_PERP"]
    assert reasons(decoded) == ["CONVENTION"]


def test_the_listing_says_what_a_contract_is_worth_and_keeps_what_no_longer_trades():
    listed = decode("coinExchangeInfo.json")
    told = {row["instrument"]: row for row in rows(listed, "instruments")}
    assert {(row["payoff"], row["contract_unit"], row["quote_asset"]) for row in told.values()} == {("inverse", "usd", "USD")}
    assert {name: row["contract_size"] for name, row in told.items()} == {
        "BTCUSD_PERP": 100.0,
        "ETHUSD_PERP": 10.0,
        "BTCUSD_260626": 100.0,
        "GALAUSD_PERP": 10.0,
    }
    assert told["BTCUSD_PERP"]["delivery_at"] is None
    assert told["BTCUSD_260626"]["delivery_at"] == utc("2026-06-26T08:00")
    assert told["GALAUSD_PERP"]["instrument_status"] == "DELIVERING"
    chosen = tradable(listed.tables["instruments"], BINANCE.listing)
    assert [(one.instrument, one.payoff, one.contract_size) for one in chosen] == [
        ("BTCUSD_PERP", "inverse", 100.0),
        ("ETHUSD_PERP", "inverse", 10.0),
    ]


@pytest.mark.parametrize(
    "change", [{"marginAsset": "USDT"}, {"quoteAsset": "USDT"}, {"baseAsset": "ETH", "marginAsset": "ETH"}, {"symbol": "BTCUSDT"}]
)
def test_a_contract_of_another_kind_is_put_aside_in_a_listing(change):
    decoded = decode("coinExchangeInfo.json", lambda tree: tree["symbols"][0].update(change))
    assert reasons(decoded) == ["CONVENTION"]
    assert decoded.tables["instruments"].num_rows == 3


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTCUSD", "BTCUSD_", "BTCUSD_QUARTER", "USD_PERP", "1000PEPEUSD_PERP", ""])
def test_e5_other_spellings_raise(symbol):
    with pytest.raises(LookupError):
        binance_coin_asset(symbol)


@pytest.mark.parametrize("endpoint", HISTORIES)
def test_another_exchanges_symbol_makes_the_answer_unreadable(endpoint):
    series = Series("binance", endpoint, "BTCUSDT", Window(utc("2026-01-01"), utc("2026-01-02")), HOUR, ((coin.SIZE, "100"),))
    with pytest.raises(Unreadable) as caught:
        BINANCE.decode(Ask(series, "dapi", "/"), Answer(200, b"[]", NOW))
    assert caught.value.reject.reason_code == "CONVENTION"


# -- what the venue really answered


def recorded(recordings, name):
    held = json.loads((recordings / "payloads" / "recorded" / "binance" / f"{name}.json").read_text())
    return [(dict(part.split("=") for part in one["queryString"].split("&") if part), one["data"]) for one in held if one["data"]]


def told(endpoint, instrument, data, **options):
    series = Series("binance", endpoint, instrument, Window(utc("2019-01-01"), utc("2026-01-01")), None, tuple(options.items()))
    return BINANCE.decode(Ask(series, "dapi", coin.PATHS[endpoint]), Answer(200, json.dumps(data).encode(), utc("2026-06-01")))


@pytest.mark.recordings
def test_recorded_answers_of_plain_endpoints_decode_whole(recordings):
    for name, endpoint in (("exchangeInfo", "coinExchangeInfo"), ("fundingRate", "coinFundingRate"), ("openInterest", "coinOpenInterest")):
        for asked, data in recorded(recordings, f"dapi__v1__{name}"):
            decoded = told(endpoint, asked.get("symbol", ""), data, contract_size="100")
            assert decoded.rows > 0
            assert (list(decoded.rejects), list(decoded.notes)) == ([], [])
    for asked, data in recorded(recordings, "dapi__v1__premiumIndex"):
        decoded = told("coinPremiumIndex", asked.get("symbol", ""), data)
        assert decoded.tables["marks"].num_rows == len(data)
        assert {row["instrument"][-5:] for row in rows(decoded, "funding")} == {"_PERP"}
        assert not decoded.notes


@pytest.mark.recordings
def test_recorded_bars_are_worth_their_contracts_at_a_price_inside(recordings):
    seen = 0
    for asked, data in recorded(recordings, "dapi__v1__klines"):
        if isinstance(data, dict):
            with pytest.raises(Unreadable) as caught:
                told("coinKlines", asked["symbol"], data)
            assert caught.value.reject.reason_code == "VENUE_ERROR"
            continue
        assert {reject.reason_code for reject in told("coinKlines", asked["symbol"], data).rejects} == {"STAMP"}, "bars of other intervals"
        size = 100.0 if asked["symbol"].startswith("BTC") else 10.0
        for bar in data:
            average = float(bar[5]) * size / float(bar[7])
            assert float(bar[3]) <= average <= float(bar[2])
            seen += 1
    assert seen > 10


@pytest.mark.recordings
def test_a4_recorded_values_are_coins_against_the_documents_example(recordings):
    """BTC of 2020-10-18 was worth 11,500 USD: what lies beside the contracts is coins. The recorded contract is the quarter's, so A5 refuses it."""
    for name, contracts, coins in (
        ("openInterestHist", "sumOpenInterest", "sumOpenInterestValue"),
        ("takerBuySellVol", "takerBuyVol", "takerBuyVolValue"),
    ):
        endpoint = f"coin{name[0].upper()}{name[1:]}"
        for asked, data in recorded(recordings, f"futures__data__{name}"):
            if "pair" not in asked:
                continue
            assert {reject.reason_code for reject in told(endpoint, "BTCUSD_PERP", data, contract_size="100").rejects} == {"CONVENTION"}
            assert all(11_200 < float(row[contracts]) * 100 / float(row[coins]) < 11_800 for row in data)
            decoded = told(endpoint, "BTCUSD_PERP", [{**row, "contractType": "PERPETUAL"} for row in data], contract_size="100")
            assert not decoded.rejects
            assert decoded.rows == len(data)


@pytest.mark.recordings
def test_recorded_ratios_of_pairs_decode_whole(recordings):
    for name in ("globalLongShortAccountRatio", "topLongShortAccountRatio", "topLongShortPositionRatio"):
        for asked, data in recorded(recordings, f"futures__data__{name}"):
            if "pair" in asked:
                decoded = told(f"coin{name[0].upper()}{name[1:]}", "BTCUSD_PERP", data)
                assert decoded.rows == len(data)
                assert not decoded.rejects
