"""What every source must do, whoever it is: a payload for each endpoint, pure decoding, and a reason for everything that is wrong."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import Payload, metadata, payloads, sha256_of
from transforms.roster import SOURCES, source
from transforms.schema import arrow_schema
from transforms.sources.contract import (
    Answer,
    Ask,
    Decoded,
    Instrument,
    Reject,
    Series,
    Unreadable,
    ask_from_json,
    ask_to_json,
)
from transforms.tables import TABLES
from transforms.windows import Window, utc

ALL = payloads()
JSON = [payload for payload in ALL if payload.is_json]
each = pytest.mark.parametrize("payload", ALL, ids=str)
GRIDDED = [payload for payload in ALL if payload.ask.series.step is not None]
each_gridded = pytest.mark.parametrize("payload", GRIDDED, ids=str)
each_json = pytest.mark.parametrize("payload", JSON, ids=str)
#: answers whose lists are paired by their places: there the order is part of what is said
PAIRED = {"metaAndAssetCtxs"}
each_source = pytest.mark.parametrize("name", SOURCES)


def decode(payload: Payload, body: bytes | None = None, **changed: Any) -> Decoded:
    answer = replace(payload.answer, **({"body": body} if body is not None else {}), **changed)
    return source(payload.source).decode(payload.ask, answer)


def outcome(payload: Payload, body: bytes) -> Decoded | Reject:
    """What a decoder says to `body`; anything but Unreadable goes up."""
    try:
        return decode(payload, body)
    except Unreadable as unreadable:
        return unreadable.reject


def rows_of(decoded: Decoded) -> list[tuple[str, dict[str, Any]]]:
    return [(name, row) for name, table in decoded.tables.items() for row in table.to_pylist()]


# -- what a source declares


@each_source
def test_a_payload_stands_for_each_endpoint(name):
    held = {payload.endpoint for payload in ALL if payload.source == name}
    missing = set(source(name).endpoints) - held
    assert not missing, f"add a payload to tests/payloads/{name} and its metadata.json for: {', '.join(sorted(missing))}"


@each_source
def test_payloads_say_where_they_come_from_and_are_what_they_were(name):
    about = metadata(name)
    assert about["origin"]
    assert about["licence"]
    for file, said in about["files"].items():
        assert said["sha256"] == sha256_of(name, file), f"{name}/{file} changed without its metadata.json"


@each_source
def test_endpoints_fill_core_tables(name):
    found = source(name)
    for endpoint, target in found.endpoints.items():
        assert all(TABLES[table].layer == "core" for table in (target, *found.also.get(endpoint, ())))
    assert set(found.also) <= set(found.endpoints)


@each
def test_asks_name_declared_hosts_and_budgets_and_survive_storage(payload):
    found = source(payload.source)
    for ask in found.asks(payload.ask.series):
        assert ask.host in found.hosts
        assert 0 < ask.weight <= found.budgets[ask.budget].heaviest
        assert ask_from_json(ask_to_json(ask)) == ask


@each_source
def test_planned_series_are_of_the_source_and_cover_no_future(name):
    found, now = source(name), utc("2026-05-28T10:20")
    instruments = [Instrument(**one) for one in metadata(name).get("instruments", [])]
    planned = list(found.plan(Window(utc("2026-03-01"), utc("2026-07-01")), instruments, now))
    assert planned
    for series in planned:
        assert series.source == name
        assert series.endpoint in found.endpoints
        assert list(found.asks(series))
        if series.step is not None:
            assert series.window.end <= now


@each_source
def test_nothing_is_planned_for_a_window_that_has_not_begun(name):
    instruments = [Instrument("BTCUSDT", "binance", "BTC")]
    window = Window(utc("2026-06-01"), utc("2026-06-02"))
    assert list(source(name).plan(window, instruments, utc("2026-05-28"))) == []


# -- decoding a good answer


@each
def test_rows_are_exactly_of_the_declared_tables(payload):
    found = source(payload.source)
    decoded = decode(payload)
    declared = (found.endpoints[payload.endpoint], *found.also.get(payload.endpoint, ()))
    assert tuple(decoded.tables) == declared
    assert list(decoded.rejects) == []
    assert list(decoded.notes) == []
    for name, table in decoded.tables.items():
        assert table.num_rows > 0
        assert table.schema.equals(arrow_schema(TABLES[name], TABLES[name].decoded))
        table.validate(full=True)
        for column, spec in TABLES[name].fields.items():
            if column in table.column_names:
                assert spec.nullable or table.column(column).null_count == 0, column
                assert not spec.allowed or set(table.column(column).to_pylist()) <= set(spec.allowed)


@each
def test_a_row_is_known_after_what_it_describes(payload):
    for _, row in rows_of(decode(payload)):
        assert row["known_at"] > row["as_of"]


@each
def test_decoding_is_pure(payload):
    ask, answer = copy.deepcopy(payload.ask), copy.deepcopy(payload.answer)
    first, second = decode(payload), decode(payload)
    assert first.tables.keys() == second.tables.keys()
    assert all(first.tables[name].equals(second.tables[name]) for name in first.tables)
    assert (ask, answer) == (payload.ask, payload.answer)


@each_gridded
def test_a_complete_answer_covers_the_expected_grid(payload):
    series = payload.ask.series
    table = decode(payload).tables[source(payload.source).endpoints[payload.endpoint]]
    names = table["instrument"].to_pylist() if "instrument" in table.column_names else [series.instrument] * table.num_rows
    got = sorted(zip(names, table["as_of"].to_pylist(), strict=True))
    assert got == sorted((name, stamp) for name in series.instruments for stamp in series.expected() or [])


@each_gridded
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_no_row_leaves_the_window_asked_for(payload, data):
    series = payload.ask.series
    grid = series.window.grid(series.step)
    first = data.draw(st.integers(0, len(grid) - 1))
    last = data.draw(st.integers(first, len(grid) - 1))
    part = Window(grid[first] - series.step, grid[last])
    narrowed = replace(payload.ask, series=replace(series, window=part))
    whole = {name: {json.dumps(row, default=str) for row in table.to_pylist()} for name, table in decode(payload).tables.items()}
    decoded = source(payload.source).decode(narrowed, payload.answer)
    for name, row in rows_of(decoded):
        assert row["as_of"] in part
        assert json.dumps(row, default=str) in whole[name]
    assert {reject.reason_code for reject in decoded.rejects} <= {"STAMP"}


# -- bad answers


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


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _number_text(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip("-").replace(".", "", 1).isdecimal()


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
        once = {(name, json.dumps(row, default=str)) for name, row in rows_of(decode(payload))}
        assert {(name, json.dumps(row, default=str)) for name, row in rows_of(decoded)} <= once


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


# -- recordings of the venue itself

PERIODS = {"5m": timedelta(minutes=5), "4h": timedelta(hours=4), "1d": timedelta(days=1)}


@pytest.mark.recordings
def test_recorded_binance_answers_fit_the_shapes(recordings):
    """Every recorded USD-M answer decodes whole, but for klines of other intervals than ours, which must fail by their stamps alone."""
    seen: dict[str, int] = {}
    for file in sorted((recordings / "payloads" / "recorded" / "binance").glob("f*.json")):
        for recorded in json.loads(file.read_text()):
            endpoint = recorded["path"].rsplit("/", 1)[-1]
            asked = {name: values[0] for name, values in parse_qs(recorded["queryString"]).items()}
            coin_margined, empty = "pair" in asked, recorded["data"] is None
            if endpoint not in source("binance").endpoints or coin_margined or empty:
                continue
            every = endpoint in ("fundingInfo", "exchangeInfo")
            step = PERIODS.get(asked.get("period", asked.get("interval", "")))
            series = Series(
                "binance", endpoint, "" if every else asked.get("symbol", ""), Window(utc("2019-01-01"), utc("2026-01-01")), step
            )
            answer = Answer(200, json.dumps(recorded["data"]).encode(), utc("2026-06-01"))
            decoded = source("binance").decode(Ask(series, "fapi", recorded["path"]), answer)
            if endpoint == "klines":
                assert {reject.reason_code for reject in decoded.rejects} == {"STAMP"}
            else:
                assert not decoded.rejects, (file.name, recorded["queryString"], decoded.rejects[:2])
            assert not decoded.notes
            seen[endpoint] = seen.get(endpoint, 0) + decoded.rows
    assert set(source("binance").endpoints) - set(seen) == {"archiveMetrics", "archiveFundingRate", "premiumIndexKlines"}
    assert all(seen.values())


def test_the_house_counts_every_row_of_an_answer():
    decoded = Decoded({"marks": pa.table({"a": [1, 2]})}, ())
    assert decoded.rows == 2
