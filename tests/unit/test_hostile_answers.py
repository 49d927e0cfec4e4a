"""Binance, Bybit, OKX: answers that are well-formed and cannot be true. What no damage of bytes makes: another unit, another coin, a zero."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.payloads.reader import one
from transforms.reading import Sieve
from transforms.roster import source
from transforms.sources.contract import Answer, Ask, Decoded, Instrument, Series
from transforms.sources.rows import JITTER, priced
from transforms.windows import HOUR, Window, to_ms, utc

JSON = {"Content-Type": "application/json"}
SNAPSHOTS = [
    ("binance", "openInterest", ("time",)),
    ("binance", "premiumIndex", ("time",)),
    ("binance", "exchangeInfo", ("serverTime",)),
    ("binance", "coinOpenInterest", ("time",)),
    ("binance", "coinPremiumIndex", (0, "time")),
    ("binance", "coinExchangeInfo", ("serverTime",)),
    ("bybit", "tickers", ("time",)),
    ("bybit", "instruments-info", ("time",)),
    ("okx", "open-interest", ("data", 0, "ts")),
    ("okx", "funding-rate", ("data", 0, "ts")),
    ("okx", "mark-price", ("data", 0, "ts")),
]


def decode(name: str, endpoint: str, change) -> Decoded:
    """The payload after `change(tree)`, decoded."""
    payload = one(name, f"{endpoint}.json")
    tree = json.loads(payload.answer.body)
    change(tree)
    return source(name).decode(payload.ask, replace(payload.answer, body=json.dumps(tree).encode()))


def reasons(decoded: Decoded) -> set[str]:
    return {reject.reason_code for reject in decoded.rejects}


def put(path, turn):
    def change(tree):
        for key in path[:-1]:
            tree = tree[key]
        tree[path[-1]] = turn(tree[path[-1]])

    return change


def nothing(tree) -> None:
    pass


# -- snapshots


@pytest.mark.parametrize("turned", ["zero", "seconds", "two days before"])
@pytest.mark.parametrize(("name", "endpoint", "path"), SNAPSHOTS, ids=[f"{name} {endpoint}" for name, endpoint, _ in SNAPSHOTS])
def test_b6_a_snapshot_in_another_unit_of_time_is_no_row_of_1970(name, endpoint, path, turned):
    """A stamp of 0, or of seconds where milliseconds are due, would be a row of January 1970 that says it was known then."""
    turns = {"zero": lambda at: 0, "seconds": lambda at: at // 1000, "two days before": lambda at: at - 2 * 86_400_000}
    decoded = decode(name, endpoint, put(path, lambda at: type(at)(turns[turned](int(at)))))
    assert reasons(decoded) == {"STAMP"}
    assert not any(table.num_rows for table in decoded.tables.values())


def test_a_snapshot_that_is_late_stays_at_its_own_stamp_within_the_window_it_was_asked_for():
    late = decode("binance", "openInterest", put(("time",), lambda at: at - 30 * 60_000))
    assert late.tables["open_interest"].column("as_of")[0].as_py().hour == 11
    assert not late.rejects
    assert reasons(decode("binance", "openInterest", put(("time",), lambda at: at - 5 * 3_600_000))) == {"STAMP"}


# -- values


@pytest.mark.parametrize("text", ["0", "0.00000000", "-0", "1e-400"])
def test_a11_open_interest_worth_nothing_is_put_aside(text):
    decoded = decode("binance", "openInterestHist", put((0, "sumOpenInterestValue"), lambda old: text))
    assert [reject.reason_code for reject in decoded.rejects] == ["ZERO_OPEN_INTEREST"]


@pytest.mark.parametrize(
    ("name", "endpoint", "bar"),
    [
        ("binance", "klines", (0,)),
        ("binance", "coinKlines", (0,)),
        ("bybit", "kline", ("result", "list", 0)),
        ("okx", "history-candles", ("data", 0)),
    ],
)
@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_a_price_of_zero_is_no_price(name, endpoint, bar, place):
    decoded = decode(name, endpoint, put((*bar, place), lambda old: "0.00"))
    assert [reject.reason_code for reject in decoded.rejects] == ["VALUE"]


def test_minus_nothing_is_nothing():
    """Both signs of zero for one settlement are one value: neither a contradiction nor, later, a restatement."""

    def twice(rows):
        rows[0]["fundingRate"] = "0.00000000"
        rows.append(rows[0] | {"fundingRate": "-0.00000000"})

    decoded = decode("binance", "fundingRate", twice)
    assert not decoded.rejects
    assert all(str(rate) != "-0.0" for rate in decoded.tables["funding"].column("funding_rate").to_pylist())


@pytest.mark.parametrize("minutes", [-480, 10**30, 10**400])
def test_an_interval_beyond_all_measure_is_put_aside_alone(minutes):
    whole = decode("bybit", "instruments-info", nothing).tables["instruments"].num_rows
    decoded = decode("bybit", "instruments-info", put(("result", "list", 0, "fundingInterval"), lambda old: minutes))
    assert reasons(decoded) == {"SHAPE"}
    assert decoded.tables["instruments"].num_rows == whole - 1


# -- listings


@pytest.mark.parametrize(
    ("name", "endpoint", "path", "told"),
    [
        ("binance", "exchangeInfo", ("symbols", 0, "baseAsset"), "ETH"),
        ("binance", "exchangeInfo", ("symbols", 0, "symbol"), ""),
        ("binance", "exchangeInfo", ("symbols", 0, "marginAsset"), "BTC"),
        ("bybit", "instruments-info", ("result", "list", 0, "baseCoin"), "XRP"),
        ("bybit", "instruments-info", ("result", "list", 0, "settleCoin"), "XRP"),
        ("okx", "instruments", ("data", 0, "settleCcy"), "XRP"),
    ],
)
def test_e5_a_listing_that_contradicts_itself_is_put_aside(name, endpoint, path, told):
    """A name of one coin over another one's base asset; a contract paid in a third coin (quanto), which is neither linear nor inverse."""
    whole = decode(name, endpoint, nothing).tables["instruments"].num_rows
    decoded = decode(name, endpoint, put(path, lambda old: told))
    assert reasons(decoded) == {"CONVENTION"}
    assert decoded.tables["instruments"].num_rows == whole - 1


def test_a_dated_inverse_contract_is_never_asked_for_by_its_pair():
    """pair=BTCUSD and PERPETUAL would answer with the perpetual's open interest, to be stored as the dated contract's."""
    dated = Instrument("BTCUSD_260626", "binance", "BTC", payoff="inverse", contract_size=100.0, contract_unit="usd", quote_asset="USD")
    now = utc("2026-05-28T10:20")
    asked = source("binance").plan(Window(now - HOUR, now), [dated], now)
    assert {series.instrument for series in asked} == {""}  # the terms of all contracts


# -- pages


def settlements(name: str, start: str, days: int) -> tuple[Ask, list[int]]:
    """The first page's question, and the hourly settlements of its span, Unix milliseconds."""
    window = Window(utc(start), utc(start) + timedelta(days=days))
    symbol, options = "BTCUSDT", (("category", "linear"),) if name == "bybit" else ()
    ask = next(
        iter(source(name).asks(Series(name, {"binance": "fundingRate", "bybit": "funding-history"}[name], symbol, window, None, options)))
    )
    spans = dict(ask.params)
    first = int(spans["startTime"]) - to_ms(utc("1970-01-01") + JITTER)
    return ask, list(range(first + 3_600_000, int(spans["endTime"]) + 1, 3_600_000))


def told(name: str, stamps: list[int]) -> bytes:
    if name == "binance":
        return json.dumps([{"symbol": "BTCUSDT", "fundingTime": at, "fundingRate": "0.0001"} for at in stamps]).encode()
    rows = [{"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateTimestamp": str(at)} for at in stamps]
    return json.dumps({"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": rows}, "time": stamps[-1]}).encode()


@pytest.mark.parametrize("stray", [0, 1_000_000_000_000, 4_000_000_000_000])
@pytest.mark.parametrize("name", ["binance", "bybit"])
def test_a_stamp_from_elsewhere_does_not_end_the_walk(name, stray):
    ask, due = settlements(name, "2024-03-01", 200)
    limit = int(dict(ask.params)["limit"])
    oldest_first = name == "binance"
    seen: set[int] = set()
    turns = 0
    question: Ask | None = ask
    while question is not None:
        turns += 1
        assert turns < 40
        params = dict(question.params)
        held = [at for at in due if int(params["startTime"]) <= at <= int(params["endTime"])]
        page = (held[: limit - 1] if oldest_first else held[::-1][: limit - 1]) + [stray]
        seen |= set(page) - {stray}
        question = source(name).follow(question, Answer(200, told(name, page), utc("2026-01-01"), JSON))
    assert seen == set(due)


def test_a_wait_in_other_digits_is_no_wait():
    """`"²".isdigit()` holds, and no parser reads it: a header must not stop a run."""
    payload = one("binance", "klines.json")
    verdict = source("binance").classify(payload.ask, Answer(429, b"", utc("2026-05-28"), {"Retry-After": "²"}))
    assert (verdict.verb, verdict.wait) == ("retry", None)


# -- fields in each other's place


def exchanged(row: tuple[object, ...], first: object, second: object):
    def change(tree):
        for key in row:
            tree = tree[key]
        tree[first], tree[second] = tree[second], tree[first]

    return change


@pytest.mark.parametrize(
    ("name", "endpoint", "row", "first", "second"),
    [
        ("binance", "globalLongShortAccountRatio", (0,), "longAccount", "shortAccount"),
        ("binance", "topLongShortAccountRatio", (0,), "longAccount", "shortAccount"),
        ("binance", "topLongShortPositionRatio", (0,), "longAccount", "shortAccount"),
        ("binance", "takerlongshortRatio", (0,), "buyVol", "sellVol"),
        ("binance", "coinGlobalLongShortAccountRatio", (0,), "longAccount", "shortAccount"),
        ("binance", "coinTopLongShortPositionRatio", (0,), "longPosition", "shortPosition"),
        ("binance", "klines", (0,), 5, 7),
        ("bybit", "kline", ("result", "list", 0), 5, 6),
        ("bybit", "inverse-kline", ("result", "list", 0), 5, 6),
        ("okx", "history-candles", ("data", 0), 5, 6),
        ("okx", "history-candles", ("data", 0), 6, 7),
    ],
)
def test_exchanged_fields_contradict_what_stands_beside_them(name, endpoint, row, first, second):
    """Long for short, buys for sells, contracts or USD for coins: all are numbers within their limits."""
    decoded = decode(name, endpoint, exchanged(row, first, second))
    assert [reject.reason_code for reject in decoded.rejects] == ["CONVENTION"]


def recorded(recordings, file: str) -> list:
    """All rows of a recorded endpoint."""
    calls = json.loads((recordings / "payloads" / "recorded" / "binance" / f"{file}.json").read_bytes())
    return [row for call in calls for row in call["data"] or []]


@pytest.mark.recordings
@pytest.mark.parametrize(
    ("endpoint", "least"),
    [("globalLongShortAccountRatio", 90), ("topLongShortAccountRatio", 18), ("topLongShortPositionRatio", 40), ("takerlongshortRatio", 10)],
)
def test_recorded_ratios_agree_with_what_stands_beside_them(recordings, endpoint, least):
    """The venue's own answers of 2020: the comparison puts none of them aside."""
    rows = recorded(recordings, f"futures__data__{endpoint}")
    for row in rows:
        at = utc("1970-01-01") + timedelta(milliseconds=row["timestamp"])
        name, symbol = endpoint, row.get("symbol", "BTCUSDT")
        if "pair" in row:  # the file holds both exchanges' answers
            name, symbol = f"coin{endpoint[0].upper()}{endpoint[1:]}", f"{row['pair']}_PERP"
        series = Series("binance", name, symbol, Window(at - HOUR, at + HOUR))
        found = source("binance").decode(Ask(series, "fapi", "/"), Answer(200, json.dumps([row]).encode(), utc("2026-01-01"), JSON))
        assert not found.rejects
    assert len(rows) >= least


@pytest.mark.recordings
def test_recorded_volumes_were_paid_for_within_their_bars(recordings):
    """The venue's own bars of 2019 to 2023, 5 minutes to a day long: as they are, and with volume and worth exchanged."""
    rows = [row for row in recorded(recordings, "fapi__v1__klines") if float(row[5]) > 0]
    high, low, volume, worth = ([row[place] for row in rows] for place in (2, 3, 5, 7))
    sound, turned = Sieve("candles", [str(row) for row in rows]), Sieve("candles", [str(row) for row in rows])
    priced(sound, worth, volume, high, low)
    priced(turned, volume, worth, high, low)
    assert (len(sound.rejects), len(turned.rejects)) == (0, len(rows))
    assert len(rows) >= 20
