"""Laws of decoding that hold for every payload of every source: what is declared decides, one key has one value, a thousand coins are a thousand."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.answers import ALL, JSON, decode, rows_of
from tests.payloads.reader import Payload
from transforms import conventions
from transforms.conventions import entries
from transforms.roster import source
from transforms.sources.contract import Decoded, Unreadable
from transforms.tables import TABLES

# -- what is declared decides


@contextmanager
def declared(endpoint: str, name: str, what: str, change: Any):
    """The entries of one endpoint and kind with another value."""
    held = defaultdict(list)
    for one in entries(name):
        hit = (one.dataset, one.what) == (endpoint, what) and one.value is not None
        held[one.dataset, one.what].append(replace(one, value=change(one.value)) if hit else one)
    found = {key: tuple(some) for key, some in held.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conventions, "_of", lambda asked, plain=conventions._of: found if asked == name else plain(asked))
        yield


def with_entry(payload: Payload, what: str, change: Any) -> Decoded:
    with declared(payload.endpoint, payload.source, what, change):
        return decode(payload)


def says(payload: Payload, what: str) -> bool:
    return any((one.dataset, one.what) == (payload.endpoint, what) and one.value is not None for one in entries(payload.source))


def of(*whats: str) -> Any:
    found = [(payload, what) for payload in ALL for what in whats if says(payload, what)]
    assert found
    return pytest.mark.parametrize(("payload", "what"), found, ids=str)


@of("lag")
def test_the_declared_lag_is_what_lies_between_an_instant_and_our_knowing(payload, what):
    """Where rows say themselves when they became known, it is the least that lies between."""
    rows, later = rows_of(decode(payload)), rows_of(with_entry(payload, what, lambda lag: lag + timedelta(days=400)))
    assert len(rows) == len(later) > 0
    for (_, before), (_, after) in zip(rows, later, strict=True):
        assert before["known_at"] > before["as_of"]
        assert after["known_at"] - after["as_of"] >= timedelta(days=400)
        assert after | {"known_at": None} == before | {"known_at": None}


@of("oi_sides")
def test_the_declared_sides_divide_coins_and_usd(payload, what):
    """Bybit's own figure of one side, beside it since 2026-06-11, would contradict: then nothing is read."""
    found = with_entry(payload, what, lambda sides: sides * 2)
    if found.rejects:
        assert {reject.reason_code for reject in found.rejects} == {"CONVENTION"}
        assert b"singleOpenInterest" in payload.answer.body
        return
    rows, halves = ([row for name, row in rows_of(one) if name == "open_interest"] for one in (decode(payload), found))
    for before, after in zip(rows, halves, strict=True):
        assert (after["oi_sides"], after["open_interest_native"]) == (2 * before["oi_sides"], before["open_interest_native"])
        for name in ("open_interest_base", "open_interest_usd"):
            assert after[name] == (before[name] if before[name] is None else before[name] / 2)


@of("rate_scale", "volatility_scale")
def test_the_declared_scale_multiplies_rates(payload, what):
    """Half the scale, half the rates, and nothing else moves."""
    rows = rows_of(decode(payload))
    found = with_entry(payload, what, lambda scale: scale / 2)
    assert len(rows_of(found)) == len(rows)
    moved = 0
    for (_, before), (_, after) in zip(rows, rows_of(found), strict=True):
        for name, value in before.items():
            if after[name] != value:
                assert after[name] == value / 2
                moved += 1
    assert moved


@of("native_unit", "liquidation_sides", "label")
def test_a_word_that_no_decoder_knows_reads_nothing(payload, what):
    """Coin Metrics' units are only passed on: there the rows say it."""
    try:
        found = with_entry(payload, what, lambda _: "furlongs")
    except (LookupError, Unreadable) as refused:
        assert "furlongs" in str(refused)  # noqa: PT017 - some of them do not raise
    else:
        assert {row["metric_unit"] for _, row in rows_of(found)} == {"furlongs"}


@of("ratio_metric", "funding_kind", "completeness", "price_kind", "instrument_status")
def test_a_declared_word_is_the_one_that_rows_carry(payload, what):
    found = rows_of(with_entry(payload, what, lambda _: "another"))
    assert {row[what] for _, row in found if what in row} - {"DELISTED"} == {"another"}


# -- one key, one value


def lists(tree: Any) -> list[list[Any]]:
    """Lists of rows: of objects, or of lists."""
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    mine = [tree] if isinstance(tree, list) and tree and isinstance(tree[0], dict | list) else []
    return [*mine, *(found for one in inner for found in lists(one))]


def leaves(row: Any) -> list[tuple[Any, Any]]:
    """Holder and key of every number and text of a row."""
    pairs = list(row.items()) if isinstance(row, dict) else list(enumerate(row))
    deep = [leaf for _, value in pairs if isinstance(value, dict | list) for leaf in leaves(value)]
    return [*((row, key) for key, value in pairs if isinstance(value, str | int | float) and not isinstance(value, bool)), *deep]


def nudged(value: Any) -> Any:
    """A little more of a number; another word."""
    if isinstance(value, str):
        try:
            return repr(float(value) * 1.0001)
        except ValueError:
            return value + "X"
    return value + 1 if isinstance(value, int) else value * 1.0001


@pytest.mark.parametrize("payload", [one for one in JSON if lists(json.loads(one.answer.body))], ids=str)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_key_that_has_two_values_has_none(payload, data):
    """A row said twice, the second time with one thing changed: nobody can say which one is right."""
    tree = json.loads(payload.answer.body)
    some = lists(tree)
    rows = data.draw(st.sampled_from(some))
    again = json.loads(json.dumps(data.draw(st.sampled_from(rows))))
    holder, key = data.draw(st.sampled_from(leaves(again) or [({"none": 0}, "none")]))
    holder[key] = nudged(holder[key])
    rows.insert(data.draw(st.integers(0, len(rows))), again)
    try:
        found = decode(payload, json.dumps(tree).encode())
    except Unreadable:
        return
    seen: dict[Any, Any] = {}
    for name, row in rows_of(found):
        key = (name, *(row[column] for column in TABLES[name].key))
        assert seen.setdefault(key, row) == row


# -- two sides

SIDES = {"long": "short", "buy": "sell", "short": "long", "sell": "buy"}
_SIDE = re.compile("|".join(SIDES), re.IGNORECASE)
SIDED = ("long_share", "short_share", "taker_buy_base", "taker_sell_base", "long_liquidated_base", "short_liquidated_base")


def other_side(text: str) -> str:
    """The name with long for short and buy for sell, where it names one side only."""

    def turned(found: re.Match[str]) -> str:
        word = SIDES[found[0].lower()]
        return word.capitalize() if found[0][0].isupper() else word

    return _SIDE.sub(turned, text) if len({one.lower() for one in _SIDE.findall(text)}) == 1 else text


def turned_over(tree: Any) -> Any:
    """Each side under the other's name; the ratio stated beside them (longShortRatio, buySellRatio) turned over with them."""
    if isinstance(tree, dict):
        return {other_side(key): over(key, turned_over(value)) for key, value in tree.items()}
    return [turned_over(one) for one in tree] if isinstance(tree, list) else tree


def over(key: str, value: Any) -> Any:
    ratio = key.endswith("Ratio") and len({one.lower() for one in _SIDE.findall(key)}) == 2
    return str(1 / float(value)) if ratio and isinstance(value, str) and float(value) else value


#: answers whose fields name their sides one by one
NAMED_SIDES = [
    one
    for one in JSON
    if turned_over(json.loads(one.answer.body)) != json.loads(one.answer.body)
    if source(one.source).endpoints[one.endpoint] in ("long_short", "taker_flow", "liquidations")
]


@pytest.mark.parametrize("payload", NAMED_SIDES, ids=str)
def test_longs_for_shorts_are_shorts_for_longs(payload):
    """Each side is read from its own field."""
    tree = turned_over(json.loads(payload.answer.body))
    before, after = decode(payload), decode(payload, json.dumps(tree).encode())
    assert not after.rejects
    for (_, was), (_, now) in zip(rows_of(before), rows_of(after), strict=True):
        for name in SIDED:
            if was.get(name) is not None:
                assert now[other_side(name)] == was[name]


# -- rates

#: whose rates are not fractions as served: per cent
PER_CENT = ("coinalyze",)
RATES = ("funding_rate", "funding_cap_rate", "funding_floor_rate")


def numbers(tree: Any) -> set[float]:
    """Every number of a tree, also those that stand as texts."""
    found = set()
    for holder, key in leaves(tree if isinstance(tree, dict | list) else [tree]):
        with suppress(ValueError):
            found.add(float(holder[key]))
    return found


@pytest.mark.parametrize("payload", [one for one in JSON if any(name in row for _, row in rows_of(decode(one)) for name in RATES)], ids=str)
def test_a_rate_is_the_fraction_that_the_venue_printed(payload):
    printed = {one / 100 if payload.source in PER_CENT else one for one in numbers(json.loads(payload.answer.body))}
    rates = {row[name] for _, row in rows_of(decode(payload)) for name in RATES if row.get(name) is not None}
    assert any(rates)
    assert all(any(rate == pytest.approx(one, rel=1e-12) for one in printed) for rate in rates)


# -- spans


@pytest.mark.parametrize("payload", [one for one in ALL if one.ask.series.step], ids=str)
def test_rows_of_a_grid_speak_of_its_steps(payload):
    for _, row in rows_of(decode(payload)):
        assert timedelta(hours=row.get("interval_h") or 0) in (timedelta(0), payload.ask.series.step)


# -- bars


@pytest.mark.parametrize("payload", [one for one in JSON if source(one.source).endpoints[one.endpoint] == "candles"], ids=str)
def test_a_bar_holds_its_open_and_its_close(payload):
    rows = decode(payload).tables["candles"].to_pylist()
    assert all(row["low_usd"] <= min(row["open_usd"], row["close_usd"]) for row in rows)
    assert all(max(row["open_usd"], row["close_usd"]) <= row["high_usd"] for row in rows)
    assert any(row["low_usd"] < row["high_usd"] and row["open_usd"] != row["close_usd"] for row in rows)


# -- a thousand coins

#: how a venue spells a contract on a thousand coins, where it lists such a one
THOUSAND = {
    "binance": ("BTCUSDT", "1000BTCUSDT"),
    "bybit": ("BTCUSDT", "1000BTCUSDT"),
    "okx": ("BTC-USDT-SWAP", "1000BTC-USDT-SWAP"),
    "gate": ("BTC_USDT", "1000BTC_USDT"),
    "kraken_futures": ("PF_XBTUSD", "PF_1000XBTUSD"),
    "bitget": ("1000BONKUSDT", "BONKUSDT"),
    "coinalyze": ("BTCUSDT_PERP.A", "1000BTCUSDT_PERP.A"),
}
PRICES = ("open_usd", "high_usd", "low_usd", "close_usd", "mark_usd", "price_usd")
AMOUNTS = (
    "volume_base",
    "taker_buy_base",
    "taker_sell_base",
    "long_liquidated_base",
    "short_liquidated_base",
    "open_interest_base",
    "amount_base",
)
RENAMED = [one for one in JSON if THOUSAND.get(one.source, ("",))[0] in one.ask.series.instruments]


@pytest.mark.parametrize("payload", RENAMED, ids=str)
def test_e5_the_same_answer_about_a_thousand_coins(payload):
    """Prices are of one coin and amounts in coins: what is called 1000BTC costs a thousandth and is a thousand times as much."""
    plain, thousand = THOUSAND[payload.source]
    factor = 1000.0 if thousand.startswith(("1000", "PF_1000")) else 0.001
    series = payload.ask.series
    ask = replace(
        payload.ask,
        series=replace(series, instrument=series.instrument.replace(plain, thousand)),
        params=tuple((name, thousand if value == plain else value) for name, value in payload.ask.params),
    )
    answer = replace(payload.answer, body=payload.answer.body.replace(f'"{plain}"'.encode(), f'"{thousand}"'.encode()))
    before, found = decode(payload), source(payload.source).decode(ask, answer)
    assert found.rejects == before.rejects
    was = [row for _, row in rows_of(before) if row["instrument"] == plain]
    now = [row for _, row in rows_of(found) if row["instrument"] == thousand]
    assert len(was) == len(now) > 0
    for old, new in zip(was, now, strict=True):
        for name, value in old.items():
            if value is None or name in ("instrument", "asset"):
                assert (new[name] is None) is (value is None)
            elif name in PRICES or (name == "index_usd" and "mark_usd" in old):
                assert new[name] == pytest.approx(value / factor, rel=1e-12)
            elif name in AMOUNTS:
                assert new[name] == pytest.approx(value * factor, rel=1e-12)
            else:
                assert new[name] == value, name
