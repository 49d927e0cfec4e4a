"""Bybit: two-sided open interest across its break, amounts in their units, snapshots. What is asked: test_bybit_asking.py."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms import conventions
from transforms.conventions import Entry
from transforms.instruments import tradable
from transforms.roster import source
from transforms.sources.contract import Answer, Ask, Instrument, Series, Unreadable
from transforms.windows import HOUR, Window, to_ms, utc

BYBIT = source("bybit")
BREAK = utc("2026-06-11")
NOW = utc("2026-07-20T12:20")
JSON = {"Content-Type": "application/json"}
HISTORIES = ("open-interest", "inverse-open-interest", "account-ratio", "kline", "inverse-kline", "premium-index-price-kline")
ENDPOINTS = tuple(BYBIT.endpoints)
BTC = Instrument("BTCUSDT", "bybit", "BTC", listed_at=utc("2020-03-15"))
INVERSE = Instrument("BTCUSD", "bybit", "BTC", listed_at=utc("2018-11-14"), payoff="inverse", contract_unit="usd", quote_asset="USD")


def decode(endpoint: str, change=lambda tree: None, ask: Ask | None = None, **answered):
    """The payload after `change(tree)`, decoded."""
    payload = one("bybit", f"{endpoint}.json")
    tree = json.loads(payload.answer.body)
    change(tree)
    return BYBIT.decode(ask or payload.ask, replace(payload.answer, body=json.dumps(tree).encode(), **answered))


def rows(tree):
    return tree["result"]["list"]


def reasons(decoded) -> list[str]:
    return [reject.reason_code for reject in decoded.rejects]


def wrapped(result, code=0, message="OK") -> bytes:
    return json.dumps({"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": to_ms(NOW)}).encode()


def told(amounts, first, single_since=None, endpoint="open-interest", symbol="BTCUSDT") -> bytes:
    """Hourly open interest from `first` on, one-sided `amounts` told twice; the venue's own half from `single_since` on."""
    stamps = [first + n * HOUR for n in range(len(amounts))]
    listed = [
        {"openInterest": f"{2 * amount:.8f}", "timestamp": str(to_ms(at))}
        | ({"singleOpenInterest": f"{amount:.3f}"} if single_since is not None and at >= single_since else {})
        for at, amount in zip(stamps, amounts, strict=True)
    ]
    category = "inverse" if endpoint.startswith("inverse") else "linear"
    return wrapped({"symbol": symbol, "category": category, "list": listed[::-1], "nextPageCursor": ""})


# -- A1: both sides


@pytest.mark.parametrize(("endpoint", "column"), [("open-interest", "open_interest_base"), ("inverse-open-interest", "open_interest_usd")])
@pytest.mark.parametrize("single_since", [None, utc("2020-01-01"), BREAK, BREAK + 3 * HOUR])
def test_a1_the_one_sided_number_is_continuous_across_2026_06_11(endpoint, column, single_since):
    """Whether the venue adds the new field to old stamps, from its date on, or some hours late: the decoded number does not move."""
    one = BTC if endpoint == "open-interest" else INVERSE
    window = Window(BREAK - 12 * HOUR, BREAK + 12 * HOUR)
    parts = [series for series in BYBIT.plan(window, [one], NOW) if series.endpoint == endpoint]
    assert [part.window for part in parts] == [Window(window.start, BREAK), Window(BREAK, window.end)]
    found = {}
    for part in parts:
        (ask,) = BYBIT.asks(part)
        stamps = part.expected()
        body = told([25_000.0 + to_ms(at) // 3_600_000 % 7 for at in stamps], stamps[0], single_since, endpoint, one.instrument)
        decoded = BYBIT.decode(ask, Answer(200, body, NOW))
        assert not decoded.rejects
        late = single_since is None or single_since > stamps[0]
        assert bool(decoded.notes) is (late and part.window.start >= BREAK), "a figure that is due and missing is noted"
        for row in decoded.tables["open_interest"].to_pylist():
            found[row["as_of"]] = row
            assert row["oi_sides"] == 2
            assert row["open_interest_native"] == 2 * row[column]
    assert sorted(found) == window.grid(HOUR)
    assert [found[at][column] for at in found] == [25_000.0 + to_ms(at) // 3_600_000 % 7 for at in found]


def test_a1_one_answer_across_the_break_is_continuous_too():
    """A stored answer that no plan cut at the break."""
    window = Window(BREAK - 3 * HOUR, BREAK + 3 * HOUR)
    ask = next(iter(BYBIT.asks(Series("bybit", "open-interest", "BTCUSDT", window, HOUR))))
    decoded = BYBIT.decode(ask, Answer(200, told([100.0] * 6, BREAK - 2 * HOUR, BREAK), NOW))
    assert not decoded.rejects
    assert set(decoded.tables["open_interest"]["open_interest_base"].to_pylist()) == {100.0}


@pytest.mark.parametrize("endpoint", ["open-interest", "inverse-open-interest"])
@given(factor=st.floats(0.0, 4.0))
@settings(max_examples=50)
def test_a1_two_figures_that_disagree_are_no_row(endpoint, factor):
    """A venue that halves openInterest, or doubles the new field, is put aside and never read as deleveraging."""

    def change(tree):
        rows(tree)[1]["singleOpenInterest"] = f"{float(rows(tree)[1]['openInterest']) / 2 * factor:.6f}"

    decoded = decode(endpoint, change)
    if abs(factor - 1.0) > 1.1e-3:
        assert reasons(decoded) == ["CONVENTION"]
        assert "singleOpenInterest" in decoded.rejects[0].detail
    elif abs(factor - 1.0) < 0.9e-3:
        assert not decoded.rejects
        assert decoded.tables["open_interest"].equals(decode(endpoint).tables["open_interest"])


@pytest.mark.parametrize("told_as", ["nan", "inf", "-1", "1e999", "many", "0"])
def test_a1_a_one_sided_figure_that_is_none_is_no_agreement(told_as):
    decoded = decode("open-interest", lambda tree: rows(tree)[0].update(singleOpenInterest=told_as))
    assert reasons(decoded) == ["CONVENTION"]


def test_a1_a_one_sided_figure_before_its_declared_date_is_not_guessed_at():
    decoded = decode("open-interest", fetched_at=BREAK - HOUR)
    assert set(reasons(decoded)) == {"CONVENTION"}
    assert decoded.tables["open_interest"].num_rows == 0


def test_a1_a_redefinition_takes_one_dated_entry(monkeypatch):
    """openInterest of one side from some day on: declared, the same rows pass, undivided."""
    since = utc("2026-07-20")
    day = conventions._of("bybit")

    def declared(name):
        entry = Entry("bybit", "open-interest", "oi_sides", 1, "invented for this test", since)
        return {**day, ("open-interest", "oi_sides"): (*day["open-interest", "oi_sides"], entry)} if name == "bybit" else {}

    monkeypatch.setattr(conventions, "_of", declared)
    assert set(reasons(decode("open-interest"))) == {"CONVENTION"}

    def halved(tree):
        for row in rows(tree):
            row["openInterest"] = row["singleOpenInterest"]

    decoded = decode("open-interest", halved)
    assert not decoded.rejects
    assert decoded.tables["open_interest"]["open_interest_base"].to_pylist()[0] == 27105.159


def test_a4_linear_is_counted_in_coins_and_inverse_in_usd():
    linear = decode("open-interest").tables["open_interest"].to_pylist()[0]
    assert (linear["native_unit"], linear["open_interest_native"], linear["open_interest_base"]) == ("base", 54210.318, 27105.159)
    assert linear["open_interest_usd"] is None
    inverse = decode("inverse-open-interest").tables["open_interest"].to_pylist()[0]
    assert (inverse["native_unit"], inverse["open_interest_native"], inverse["open_interest_usd"]) == ("usd", 402318551.0, 201159275.5)
    assert (inverse["open_interest_base"], inverse["asset"]) == (None, "BTC")


def test_a11_open_interest_of_zero_is_put_aside():
    zero = {"openInterest": "0.00000000", "singleOpenInterest": "0"}
    decoded = decode("open-interest", lambda tree: rows(tree)[2].update(zero))
    assert reasons(decoded) == ["ZERO_OPEN_INTEREST"]
    assert decoded.tables["open_interest"].num_rows == 3


# -- other histories


def test_e1_the_ratio_is_one_of_accounts():
    row = decode("account-ratio").tables["long_short"].to_pylist()[0]
    assert (row["ratio_metric"], row["long_share"], row["short_share"], row["asset"]) == ("global_account", 0.6312, 0.3688, "SHIB")
    assert row["as_of"] == utc("2026-07-20T11:00")
    assert row["known_at"] - row["as_of"] == timedelta(minutes=5)


def test_bars_are_stamped_at_their_end_and_counted_in_coins():
    row = decode("kline").tables["candles"].to_pylist()[0]
    assert row["as_of"] == utc("2026-07-20T11:00")
    assert row["close_usd"] == pytest.approx(1.222e-5)
    assert row["volume_base"] == 18344210e3
    assert (row["taker_buy_base"], row["trades"], row["interval_h"]) == (None, None, 1.0)
    inverse = decode("inverse-kline").tables["candles"].to_pylist()[0]
    assert inverse["volume_base"] == 365.01872211, "the volume of an inverse contract is in USD, its turnover in coins"
    assert inverse["volume_base"] * inverse["close_usd"] == pytest.approx(1208445, rel=0.01)


def test_the_bar_that_still_runs_is_no_row():
    def running(tree):
        rows(tree).insert(0, [str(to_ms(utc("2026-07-20T11:00"))), *rows(tree)[0][1:]])

    for endpoint in ("kline", "inverse-kline", "premium-index-price-kline"):
        decoded = decode(endpoint, running)
        assert reasons(decoded) == ["STAMP"]
        assert next(iter(decoded.tables.values())).num_rows == 3


def test_the_premium_is_the_close_of_its_bar():
    table = decode("premium-index-price-kline").tables["premiums"]
    assert table["premium_share"].to_pylist() == [-0.000254, -0.000211, -0.000187]

    def outside(tree):
        rows(tree)[1][4] = "0.000032"

    assert reasons(decode("premium-index-price-kline", outside)) == ["VALUE"]


def test_settlements_are_paid_and_do_not_say_their_interval():
    table = decode("funding-history").tables["funding"].to_pylist()
    assert {(row["funding_kind"], row["funding_interval_h"]) for row in table} == {("settlement", None)}
    assert [row["funding_rate"] for row in table][1] == -3.412e-5


@pytest.mark.parametrize("endpoint", HISTORIES)
@pytest.mark.parametrize("by", [1, 60_000, 3_600_000 * 24, 10**15, -(10**13)])
def test_a_stamp_off_the_grid_or_outside_the_window_is_put_aside(endpoint, by):
    def moved(tree):
        row = rows(tree)[0]
        place = 0 if isinstance(row, list) else "timestamp"
        row[place] = str(int(row[place]) + by)

    assert reasons(decode(endpoint, moved)) in (["STAMP"], ["VALUE"])


@pytest.mark.parametrize("endpoint", [*HISTORIES, "funding-history", "tickers"])
def test_rows_of_another_symbol_or_category_are_put_aside(endpoint):
    def other(tree):
        for holder in [tree["result"], *rows(tree)]:
            if "symbol" in holder:
                holder["symbol"] = "SOLUSDT"

    decoded = decode(endpoint, other)
    assert set(reasons(decoded)) == {"CONVENTION"}
    assert all(table.num_rows == 0 for table in decoded.tables.values())
    if endpoint != "account-ratio":  # says no category
        with pytest.raises(Unreadable, match="category") as caught:
            decode(endpoint, lambda tree: tree["result"].update(category="spot"))
        assert caught.value.reject.reason_code == "CONVENTION"


def test_rows_without_a_symbol_above_them_are_nobodys():
    for endpoint in set(HISTORIES) - {"account-ratio"}:
        with pytest.raises(Unreadable, match="symbol") as caught:
            decode(endpoint, lambda tree: tree["result"].pop("symbol"))
        assert caught.value.reject.reason_code == "SHAPE"


def test_two_values_for_one_stamp_are_both_put_aside_and_a_repetition_stays():
    assert decode("account-ratio", lambda tree: rows(tree).append(rows(tree)[0])).tables["long_short"].num_rows == 4

    def contradict(tree):
        rows(tree).append({**rows(tree)[0], "buyRatio": "0.5", "sellRatio": "0.5"})

    assert reasons(decode("account-ratio", contradict)) == ["DUPLICATE_KEY"] * 2


# -- snapshots


def test_c7_a_displayed_rate_is_a_quote_with_its_interval():
    tables = decode("tickers").tables
    (mark,), (rate,) = tables["marks"].to_pylist(), tables["funding"].to_pylist()
    assert (mark["mark_usd"], mark["index_usd"]) == (pytest.approx(1.32208e-5), pytest.approx(1.32244e-5))
    assert (rate["funding_rate"], rate["funding_kind"], rate["funding_interval_h"], rate["asset"]) == (5.107e-5, "quote", 4.0, "PEPE")
    assert mark["as_of"] == rate["as_of"] == utc("2026-07-20T12:00:02.417")


def test_a10_a_snapshot_is_never_later_than_our_asking():
    table = decode("tickers", fetched_at=utc("2026-07-20T12:00:01")).tables["marks"]
    assert table["as_of"].to_pylist() == [utc("2026-07-20T12:00:01")]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("markPrice", "0", "VALUE"),
        ("indexPrice", "", "VALUE"),
        ("fundingRate", "", "VALUE"),
        ("fundingRate", "0.8", "VALUE"),
        ("fundingIntervalHour", "0", "VALUE"),
        ("nextFundingTime", "", "CONVENTION"),
        ("nextFundingTime", "1784520000000", "CONVENTION"),
    ],
)
def test_what_cannot_be_is_put_aside_alone(field, value, reason):
    decoded = decode("tickers", lambda tree: rows(tree)[0].update({field: value}))
    assert reasons(decoded) == [reason]
    assert sum(table.num_rows for table in decoded.tables.values()) == 1


def test_a_listing_says_what_contracts_are():
    found = {row["instrument"]: row for row in decode("instruments-info").tables["instruments"].to_pylist()}
    shib, dated = found["SHIB1000USDT"], found["BTCUSDT-25DEC26"]
    assert (shib["asset"], shib["base_asset"], shib["base_multiplier"], shib["funding_interval_h"]) == ("SHIB", "SHIB1000", 1000.0, 8.0)
    assert (shib["payoff"], shib["contract_size"], shib["contract_unit"], shib["delivery_at"]) == ("linear", 1.0, "base", None)
    assert (dated["contract_type"], dated["delivery_at"], dated["funding_interval_h"]) == ("LinearFutures", utc("2026-12-25T08:00"), None)
    assert found["1000PEPEUSDT"]["funding_interval_h"] == 4.0
    assert found["BTCUSDT"]["listed_at"] == utc("2020-03-15")


def test_listed_contracts_of_ours_are_usdt_perpetuals_and_two_inverse_ones():
    assert [one.instrument for one in tradable(decode("instruments-info").tables["instruments"], BYBIT.listing)] == [
        "1000PEPEUSDT",
        "BTCUSDT",
        "SHIB1000USDT",
    ]
    payload = one("bybit", "instruments-info.json")
    ask = next(ask for ask in BYBIT.asks(payload.ask.series) if ("category", "inverse") in ask.params)

    def inverse(tree):
        tree["result"]["category"] = "inverse"
        template = {**rows(tree)[2], "contractType": "InversePerpetual", "quoteCoin": "USD"}
        tree["result"]["list"] = [
            {**template, "symbol": f"{coin}USD", "baseCoin": coin, "settleCoin": coin} for coin in ("BTC", "ETH", "XRP")
        ] + [{**template, "symbol": "BTCUSDZ26", "contractType": "InverseFutures", "settleCoin": "BTC"}]

    decoded = decode("instruments-info", inverse, ask)
    assert not decoded.rejects
    assert {(row["payoff"], row["contract_unit"]) for row in decoded.tables["instruments"].to_pylist()} == {("inverse", "usd")}
    ours = tradable(decoded.tables["instruments"], BYBIT.listing)
    assert [(one.instrument, one.payoff) for one in ours] == [("BTCUSD", "inverse"), ("ETHUSD", "inverse")]


def test_e5_contracts_that_do_not_trade_stay_in_the_snapshot_and_are_not_asked_about():
    asked = {(dict(ask.params)["category"], dict(ask.params)["status"]) for ask in BYBIT.asks(BYBIT.catalogue(NOW))}
    assert asked == {
        (category, status) for category in ("linear", "inverse") for status in ("Trading", "PreLaunch", "Delivering", "Closed")
    }

    def closed(tree):
        rows(tree)[2].update(status="Closed", deliveryTime=str(to_ms(utc("2026-07-01"))))

    table = decode("instruments-info", closed).tables["instruments"]
    (gone,) = [row for row in table.to_pylist() if row["instrument"] == "BTCUSDT"]
    assert (gone["instrument_status"], gone["delivery_at"]) == ("Closed", utc("2026-07-01"))
    assert "BTCUSDT" not in [one.instrument for one in tradable(table, BYBIT.listing)]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"baseCoin": "PEPE1000"}, "multiplier"), ({"baseCoin": "100FOO"}, "multiplier"), ({"contractType": "LinearSwap"}, "type")],
)
def test_a_contract_nobody_declared_is_put_aside(change, said):
    decoded = decode("instruments-info", lambda tree: rows(tree)[0].update(change))
    assert reasons(decoded) == ["CONVENTION"]
    assert said in decoded.rejects[0].detail


def test_an_error_is_no_answer_even_where_rows_stand_beside_it():
    with pytest.raises(Unreadable) as caught:
        decode("open-interest", lambda tree: tree.update(retCode=10016))
    assert caught.value.reject.reason_code == "VENUE_ERROR"


# -- recordings and documents of the venue


def shaped(endpoint: str, body: bytes, start: str, end: str, symbol: str, category: str):
    series = Series("bybit", endpoint, symbol, Window(utc(start), utc(end)), None, (("category", category),))
    ask = (
        next(iter(BYBIT.asks(series)))
        if endpoint in ("funding-history", "tickers")
        else Ask(series, "api", "/v5/market/", (("category", category), ("symbol", symbol)))
    )
    return BYBIT.decode(ask, Answer(200, body, utc("2026-01-01"), JSON))


DOCUMENTED = [
    ("open-interest", "JsonResponses__Derivatives__ExchangeData__GetOpenInterestAsync.txt", "BTCUSDT", 2),
    ("inverse-open-interest", "Endpoints__V5Api__ExchangeData__GetOpenInterest.txt", "BTCUSD", 2),
    ("account-ratio", "Endpoints__V5Api__ExchangeData__GetLongShortRatio.txt", "BTCUSDT", 1),
    ("inverse-kline", "Endpoints__V5Api__ExchangeData__GetKlines.txt", "BTCUSD", 3),
    ("premium-index-price-kline", "Endpoints__V5Api__ExchangeData__GetPremiumIndexPriceKlines.txt", "BTCUSDT", 2),
    ("funding-history", "JsonResponses__Derivatives__ExchangeData__GetFundingRateAsync.txt", "BTCUSDT", 2),
    ("funding-history", "Endpoints__V5Api__ExchangeData__GetFundingRateHistory.txt", "ETHPERP", 1),
    ("tickers", "Endpoints__V5Api__ExchangeData__GetLinearInverseTickers.txt", "BTCUSD", 2),
]


@pytest.mark.recordings
@pytest.mark.parametrize(("endpoint", "file", "symbol", "count"), DOCUMENTED)
def test_documented_answers_decode_whole(recordings, endpoint, file, symbol, count):
    text = (recordings / "payloads" / "documented" / "bybit" / file).read_text()
    category = "inverse" if symbol.endswith("USD") else "linear"
    decoded = shaped(endpoint, text[text.index("{") :].encode(), "2020-01-01", "2025-01-01", symbol, category)
    assert (list(decoded.rejects), list(decoded.notes)) == ([], [])
    assert decoded.rows == count


@pytest.mark.recordings
def test_mixed_fixtures_fit_the_shapes(recordings):
    """Their values are made up in places: a launch of minute 8, bars off the hour; what is wrong has its reason."""
    folder = recordings / "payloads" / "mixed" / "bybit"
    funding = shaped(
        "funding-history", (folder / "http_get_funding_history.json").read_bytes(), "2024-01-01", "2025-01-01", "BTCUSDT", "linear"
    )
    assert (reasons(funding), funding.rows) == ([], 2)
    for name, symbols, fault in (
        ("linear_symbol_type", ["TSLAUSDT"], []),
        ("inverse_symbol_type", ["BRENTUSD"], []),
        ("linear", [], ["VALUE", "VALUE"]),
        ("inverse", [], ["VALUE"]),
    ):
        body = (folder / f"http_get_instruments_{name}.json").read_bytes()
        decoded = shaped("instruments-info", body, "2017-01-01", "2025-01-01", "", name.split("_")[0])
        assert decoded.tables["instruments"]["instrument"].to_pylist() == symbols
        assert reasons(decoded) == fault, "8 minutes between settlements are less than the shortest interval"


@pytest.mark.recordings
@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_recorded_stocks_stand_at_their_stamps(recordings, symbol):
    """What the conventions say was measured: open interest and ratio at T are of T, amounts of linear bars are in coins."""
    held = pd.read_parquet(recordings / "series" / "bybit_positioning_15m.parquet")
    frame = held[held["symbol"] == symbol].set_index("timestamp").sort_index()
    change, volume = np.log(frame["oi"]).diff().abs(), np.log(frame["perp_volume"])
    assert change.corr(volume.shift(1)) > 0.55, "the volume of the bar that ends at the stamp"
    assert max(change.corr(volume), change.corr(volume.shift(-1))) < 0.45
    beside = pd.read_parquet(recordings / "series" / "binance_positioning_15m.parquet")
    theirs = beside[beside["symbol"] == symbol].set_index("timestamp").sort_index()["global_ls_long"].diff()
    ours = frame["ls_buy_ratio"].diff()
    assert ours.corr(theirs) > 0.35
    assert max(ours.corr(theirs.shift(by)) for by in (-2, -1, 1, 2)) < 0.25
    price = frame["perp_quote_volume"] / frame["perp_volume"]
    assert ((price >= frame["perp_low"] * 0.9999) & (price <= frame["perp_high"] * 1.0001)).all()
