"""What every source must do with a bad answer, whoever it is: give a reason; never a wrong number, never a crash."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.answers import ALL, PAIRED, decode, each, each_json, each_source, outcome, rows_of
from transforms.roster import source
from transforms.sources.contract import (
    Answer,
    Decoded,
    Reject,
    Unreadable,
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all values of a JSON tree, the root left out."""
    found = [path] if path else []
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        found += places(value, (*path, key))
    return found


def drop(holder: Any, key: Any) -> None:
    del holder[key]


def null(holder: Any, key: Any) -> None:
    holder[key] = None


def swap_type(holder: Any, key: Any) -> None:
    """A number for a string, a string for anything else: never the same value in another dress that a shape may accept."""
    holder[key] = 17 if isinstance(holder[key], str) else "seventeen"


def nest(holder: Any, key: Any) -> None:
    holder[key] = {"deeper": [holder[key]]}


DAMAGES: dict[str, Callable[[Any, Any], None]] = {"drop": drop, "null": null, "swap_type": swap_type, "nest": nest}


def same_but_for_nulls(row: dict[str, Any], clean: dict[str, Any]) -> bool:
    """A value may become null where its column allows it; it may never become another value.

    Shares may differ by the vendor's rounding: without the ratio they follow from long and short in percent.
    """
    rounded = ("long_share", "short_share")
    return all(
        value is None or value == clean[name] or (name in rounded and math.isclose(value, clean[name], abs_tol=1e-3))
        for name, value in row.items()
    )


@each_json
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damage_gives_reasons_and_never_another_value(payload, data):
    tree = json.loads(payload.answer.body)
    path = data.draw(st.sampled_from(places(tree)), label="path")
    damage = data.draw(st.sampled_from(sorted(DAMAGES)), label="damage")
    holder = tree
    for key in path[:-1]:
        holder = holder[key]
    DAMAGES[damage](holder, path[-1])
    clean = rows_of(decode(payload))
    decoded = outcome(payload, json.dumps(tree).encode())
    if isinstance(decoded, Reject):
        assert decoded.reason_code in ("SHAPE", "VENUE_ERROR")
        return
    for name, row in rows_of(decoded):
        if name == "instruments":
            continue  # a listing's words are free text: a changed one is another word
        assert any(name == other and same_but_for_nulls(row, whole) for other, whole in clean), (name, row)


@each_json
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_order_and_spacing_do_not_matter(payload, data):
    tree = json.loads(payload.answer.body)

    def shuffled(node: Any) -> Any:
        if isinstance(node, dict):
            beside = isinstance(node.get("timestamp"), list)  # columns side by side share one order, which is theirs
            return {key: node[key] if beside else shuffled(node[key]) for key in data.draw(st.permutations(sorted(node)))}
        if isinstance(node, list) and payload.endpoint in PAIRED:
            return [shuffled(part) for part in node]
        if isinstance(node, list) and node and isinstance(node[0], dict | list):
            return data.draw(st.permutations([shuffled(part) for part in node]))
        return node

    decoded = decode(payload, json.dumps(shuffled(tree), indent=3).encode())
    assert not decoded.rejects
    before, after = ([(name, json.dumps(row, default=str)) for name, row in rows_of(d)] for d in (decode(payload), decoded))
    assert sorted(before) == sorted(after)


@each_json
@given(cut=st.floats(0, 1, exclude_max=True))
@settings(max_examples=25, deadline=None)
def test_a_truncated_answer_is_named_so(payload, cut):
    body = payload.answer.body.rstrip()
    with pytest.raises(Unreadable) as caught:
        decode(payload, body[: math.floor(cut * len(body))])
    assert caught.value.reject.reason_code == "TRUNCATED"


@each
@given(noise=st.binary(max_size=200))
@settings(max_examples=25, deadline=None)
def test_noise_is_unreadable_and_nothing_worse(payload, noise):
    with pytest.raises(Unreadable):
        decode(payload, b"\x00" + noise)


@each
@given(place=st.integers(min_value=0), flip=st.integers(1, 255))
@settings(max_examples=40, deadline=None)
def test_a_flipped_byte_raises_nothing_but_unreadable(payload, place, flip):
    body = bytearray(payload.answer.body)
    body[place % len(body)] ^= flip
    found = outcome(payload, bytes(body))
    assert isinstance(found, Decoded) or found.detail


@each_json
@pytest.mark.parametrize("depth", [100, 20_000])
def test_deep_nesting_is_put_aside(payload, depth):
    with pytest.raises(Unreadable) as caught:
        decode(payload, b'{"a":' * depth + b"1" + b"}" * depth)
    assert caught.value.reject.reason_code in ("SHAPE", "MALFORMED")


@each
def test_a_page_of_markup_is_no_answer(payload):
    page = b"<!DOCTYPE html><html><body>Service unavailable</body></html>"
    verdict = source(payload.source).classify(payload.ask, Answer(200, page, payload.answer.fetched_at, {"Content-Type": "text/html"}))
    assert (verdict.verb, verdict.reason_code) == ("reject", "CONTENT_TYPE")
    if payload.is_json:  # served as JSON by a confused proxy
        with pytest.raises(Unreadable) as caught:
            decode(payload, page)
        assert caught.value.reject.reason_code == "CONTENT_TYPE"


PAGES = {
    "chinese": "<html><head><title>系统维护中</title></head><body>请稍后再试</body></html>".encode("gb18030"),
    "japanese": "ただいまメンテナンス中です".encode("shift_jis"),
    "russian": "Слишком много запросов".encode("koi8-r"),
    "arabic": "الخدمة غير متوفرة مؤقتًا".encode(),
    "german, as JSON": '{"fehler": "Dienst derzeit nicht verfügbar"}'.encode(),
    "korean, as JSON": '["점검 중"]'.encode("utf-16"),
    "nothing": b"",
    "an empty word": b'""',
}


@each
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_an_error_page_of_any_language_gives_a_reason(payload, page):
    with pytest.raises(Unreadable) as caught:
        decode(payload, page)
    assert caught.value.reject.detail


DRESSES = (
    "1,234.5",
    "1.234,5",
    "\u0663\u0664",
    "\uff11\uff12",
    "1_000",
    " 12 ",
    "0x10",
    "1e999",
    "NaN",
    "Infinity",
    "-",
    "12 BTC",
    "\u221e",
)


@each_json
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_number_in_another_dress_is_no_number(payload, data):
    """Only plain decimal digits count; a text that some parser would take for a number becomes a reason, never a value."""
    tree = json.loads(payload.answer.body)
    numeric = [path for path in places(tree) if _number_text(_at(tree, path))]
    if not numeric:
        return
    path = data.draw(st.sampled_from(numeric), label="path")
    _at(tree, path[:-1])[path[-1]] = data.draw(st.sampled_from(DRESSES), label="dress")
    clean, decoded = rows_of(decode(payload)), outcome(payload, json.dumps(tree).encode())
    if isinstance(decoded, Reject):
        return
    for name, row in rows_of(decoded):
        if name != "instruments":
            assert any(name == other and same_but_for_nulls(row, whole) for other, whole in clean), (name, row)


#: what a JSON text may hold where a value is due, as it would come over the wire
TOKENS = (
    *("0", "-0", "-0.0", "1e308", "1e400", "1e-400", str(2**63), str(2**64), str(10**30), "9" * 400, "9" * 5000),
    *('""', '"-0"', '"1e400"', '"\\u0000"', '"\\ud800"', '"9223372036854775808"', f'"{"9" * 3000}"', "true", "[]", "{}"),
    *('"9999-12-31T23:59:59.999999Z"', '"9999-12-31T23:00:00-14:00"', '"0001-01-01T00:00:00Z"', '"0001-01-01T00:00:00+14:00"'),
    *("253402300799", "253402300799999", "253402300799999999", '"253402300799"', '"253402300799999"', '"999999999999999999"'),
)


@each_json
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_token_in_any_place_is_a_row_that_can_be_read_back_or_a_reason(payload, data):
    """Neither the decoder, nor the question for the next page, nor the reading of a stamp falls over; nothing lies outside of the present."""
    tree = json.loads(payload.answer.body)
    path = data.draw(st.sampled_from(places(tree)), label="path")
    token = data.draw(st.sampled_from(TOKENS), label="token")
    _at(tree, path[:-1])[path[-1]] = mark = "a place like no other"
    body = json.dumps(tree).replace(json.dumps(mark), token).encode()
    answer = replace(payload.answer, body=body)
    venue = source(payload.source)
    assert venue.classify(payload.ask, answer).verb in ("accept", "retry", "reject")
    venue.follow(payload.ask, answer)
    decoded = outcome(payload, body)
    if isinstance(decoded, Decoded):
        for _, row in rows_of(decoded):
            assert payload.ask.series.window.start < row["as_of"] <= payload.answer.fetched_at
            assert not any(math.copysign(1.0, value) < 0.0 for value in row.values() if value == 0.0 and isinstance(value, float))


@pytest.mark.parametrize(
    ("header", "wait"),
    [("7", 7.0), (" 7 ", 7.0), ("\u00b2", None), ("\u0663", None), ("-1", None), ("", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)],
)
@each_source
def test_a_wait_that_is_no_number_of_seconds_is_our_own_back_off(name, header, wait):
    """A header is Latin-1: a superscript two is a digit to Python, and no number."""
    payload = next(one for one in ALL if one.source == name)
    verdict = source(name).classify(payload.ask, Answer(503, b"", payload.answer.fetched_at, {"Retry-After": header}))
    assert (verdict.verb, verdict.wait) == ("retry", wait)


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _number_text(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip("-").replace(".", "", 1).isdecimal()


def said(row: tuple[str, dict[str, Any]]) -> str:
    """A row as text. Orders without a name of their own are told apart by counting: how often one came is in its id."""
    return json.dumps([row[0], {name: value for name, value in row[1].items() if name != "trade_id"}], default=str)


@each_json
def test_an_answer_ten_times_as_long_holds_the_same_rows(payload):
    """A venue that repeats itself: every row is one of those it sent once, or it is put aside."""
    tree = json.loads(payload.answer.body)
    lists = [path for path in [(), *places(tree)] if isinstance(_at(tree, path), list) and _at(tree, path)]
    if not lists:
        return
    path = max(lists, key=lambda one: len(_at(tree, one)))
    longer = _at(tree, path) * 10
    if path:
        _at(tree, path[:-1])[path[-1]] = longer
    else:
        tree = longer
    decoded = outcome(payload, json.dumps(tree).encode())
    if isinstance(decoded, Decoded):
        once = {said(row) for row in rows_of(decode(payload))}
        assert {said(row) for row in rows_of(decoded)} <= once


@each_json
def test_a_field_out_of_the_document_is_noted_and_nothing_changes(payload):
    tree = json.loads(payload.answer.body)
    rows = next(branch for branch in (tree, *(tree.values() if isinstance(tree, dict) else ())) if isinstance(branch, list | dict))
    if isinstance(rows, list) and isinstance(rows[0], list):
        rows[0].append("a thirteenth element")
    else:
        (rows[0] if isinstance(rows, list) else tree)["brandNew"] = {"a": 1}
    decoded, clean = decode(payload, json.dumps(tree).encode()), decode(payload)
    assert all(decoded.tables[name].equals(clean.tables[name]) for name in clean.tables)
    assert not decoded.rejects
    open_listing = payload.endpoint in ("exchangeInfo", "future-markets")
    assert bool(decoded.notes) is not open_listing


@each
@pytest.mark.parametrize(
    ("status", "verb", "reason"),
    [
        (0, "retry", "HTTP_EXHAUSTED"),
        (429, "retry", "HTTP_EXHAUSTED"),
        (500, "retry", "HTTP_EXHAUSTED"),
        (503, "retry", "HTTP_EXHAUSTED"),
        (404, "reject", "HTTP_STATUS"),
        (302, "reject", "HTTP_STATUS"),
        (403, "reject", "HTTP_BLOCKED"),
        (451, "reject", "HTTP_BLOCKED"),
        (418, "reject", "HTTP_BANNED"),
    ],
)
def test_a_status_decides_before_the_body(payload, status, verb, reason):
    verdict = source(payload.source).classify(payload.ask, Answer(status, b"", payload.answer.fetched_at))
    assert (verdict.verb, verdict.reason_code) == (verb, reason)
    assert verdict.detail or status == 0


@each
def test_a_good_answer_is_accepted(payload):
    assert source(payload.source).classify(payload.ask, payload.answer).verb == "accept"
