"""What every source must do, whoever it is: a payload for each endpoint, and pure decoding. Bad answers: test_bad_answers.py."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.answers import ALL, decode, each, each_gridded, each_source, rows_of
from tests.payloads.reader import metadata, sha256_of
from transforms.roster import source
from transforms.schema import arrow_schema
from transforms.sources.contract import (
    Answer,
    Ask,
    Decoded,
    Instrument,
    Series,
    ask_from_json,
    ask_to_json,
)
from transforms.tables import TABLES
from transforms.windows import Window, utc

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
        if TABLES[name].snapshot:
            continue  # it tells when something was seen, not when it happened
        assert row["as_of"] in part
        assert json.dumps(row, default=str) in whole[name]
    assert {reject.reason_code for reject in decoded.rejects} <= {"STAMP"}


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
    ours = {name for name in source("binance").endpoints if not name.startswith("coin")}  # of COIN-M: test_binance_coin.py
    assert ours - set(seen) == {"archiveMetrics", "archiveFundingRate", "archiveChecksums", "premiumIndexKlines"}
    assert all(seen.values())


def test_the_house_counts_every_row_of_an_answer():
    decoded = Decoded({"marks": pa.table({"a": [1, 2]})}, ())
    assert decoded.rows == 2
