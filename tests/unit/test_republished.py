"""Files published again: which are looked at, which are read once more, and what stays on record of both versions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.faults import Rule, republished, spoiled
from sandbox.market import frozen
from sandbox.simulated import SimulatedMarket
from sandbox.wire.binance_archive import Vision
from sandbox.wire.reply import Query
from tests.payloads.reader import one
from transforms.republished import held
from transforms.roster import ARCHIVES, SOURCES, source
from transforms.sources.binance import QUARTER, RECHECKED
from transforms.sources.contract import Answer, Ask, Series, Unreadable, ask_from_json, ask_to_json
from transforms.windows import Window, from_ms, utc

BINANCE = source("binance")
NOW = utc("2026-11-22T13:07")
READ = utc("2026-11-20T05:00")
DAY = Window.day(date(2026, 10, 1))
FILE = "/data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2026-10-01.zip"


@pytest.fixture(scope="module")
def archive():
    return Vision(SimulatedMarket(7, frozen(NOW)))


def get(archive, target, *, new: bool):
    """What the archive serves; `new`: after it published its files again."""
    reply = archive.answer(Query(target))
    if new:
        reply = spoiled(Rule("archive", "republish"), target, reply, lambda other: archive.answer(Query(other)))
    assert reply.status == 200
    return reply


def told(archive, ask: Ask, at=READ, *, new=False):
    """The ask answered as the fetcher does, companion included, and decoded."""
    reply = get(archive, ask.target, new=new)
    companion = get(archive, ask.companion, new=new).body if ask.companion else b""
    answer = Answer(reply.status, reply.body, at, {"Content-Type": reply.content_type}, companion)
    assert BINANCE.classify(ask, answer).verb == "accept"
    return BINANCE.decode(ask, answer)


def metrics(window=DAY) -> Ask:
    (ask,) = BINANCE.asks(Series("binance", "archiveMetrics", "BTCUSDT", window, QUARTER))
    return ask


def funding() -> Ask:
    (ask,) = BINANCE.asks(Series("binance", "archiveFundingRate", "BTCUSDT", Window(utc("2026-09-01"), utc("2026-09-30T23:00"))))
    return ask


def files(*decoded):
    return [row for one in decoded for row in one.tables["archive_files"].to_pylist()]


def rechecked(archive, rows, *, new, now=NOW):
    """Series of the check, and of what is to be read again."""
    looked = list(BINANCE.plan_recheck(rows, now))
    seen = files(*(told(archive, ask, now, new=new) for series in looked for ask in BINANCE.asks(series)))
    return looked, list(BINANCE.plan_republished(rows, seen))


def test_b2_a_file_that_was_read_leaves_both_of_its_hashes(archive):
    for ask in (metrics(), funding()):
        (row,) = files(told(archive, ask))
        assert row["checksum_sha256"] == row["file_sha256"] == hashlib.sha256(get(archive, ask.path, new=False).body).hexdigest()
        assert (row["endpoint"], row["file"], row["instrument"], row["as_of"]) == (ask.series.endpoint, ask.path, "BTCUSDT", READ)
        assert row["window_start"] < row["window_end"]


def test_b5_a_republished_file_is_asked_for_again_and_an_untouched_one_is_not(archive):
    rows = files(told(archive, metrics()), told(archive, funding()))
    looked, again = rechecked(archive, rows, new=False)
    assert len(looked) == 2
    assert again == []
    looked, again = rechecked(archive, rows, new=True)
    assert [(series.endpoint, series.step) for series in again] == [("archiveMetrics", QUARTER), ("archiveFundingRate", None)]
    for series, first in zip(again, (metrics(), funding()), strict=True):
        (ask,) = BINANCE.asks(series)
        assert (ask.path, ask.companion, ask.accept) == (first.path, first.companion, "zip")
        assert ask_from_json(ask_to_json(ask)) == ask
        before, after = told(archive, first), told(archive, ask, NOW, new=True)
        table = BINANCE.endpoints[series.endpoint]
        column = {"open_interest": "open_interest_base", "funding": "funding_rate"}[table]
        old, new = (found.tables[table].to_pylist() for found in (before, after))
        assert [row["as_of"] for row in old] == [row["as_of"] for row in new]
        changed = [row["as_of"] for row, other in zip(old, new, strict=True) if row[column] != other[column]]
        assert 0 < len(changed) < len(old)
        if "long_short" in before.tables:
            assert before.tables["long_short"].equals(after.tables["long_short"])


def test_b5_the_new_version_is_the_one_that_is_held_from_then_on(archive):
    rows = files(told(archive, metrics()))
    _, (series,) = rechecked(archive, rows, new=True)
    (ask,) = BINANCE.asks(series)
    rows += files(told(archive, ask, NOW, new=True))
    assert rechecked(archive, rows, new=True)[1] == []
    assert [one.window for one in rechecked(archive, rows, new=False)[1]] == [DAY], "and back again is one more version"
    assert len({row["file_sha256"] for row in rows}) == 2, "both versions stay on record"


def test_a_check_asks_for_the_checksum_alone_and_leaves_a_row_without_a_file(archive):
    rows = files(told(archive, metrics()))
    (series,) = BINANCE.plan_recheck(rows, NOW)
    (ask,) = BINANCE.asks(series)
    assert (ask.path, ask.accept, ask.companion, ask.budget) == (f"{FILE}.CHECKSUM", "text", "", "archive")
    (row,) = files(told(archive, ask, NOW))
    assert (row["file_sha256"], row["checksum_sha256"], row["file"]) == (None, rows[0]["checksum_sha256"], FILE)
    assert (row["endpoint"], row["as_of"], row["asset"]) == ("archiveMetrics", NOW, "BTC")
    assert rechecked(archive, [*rows, row], new=False)[1] == []
    assert list(BINANCE.plan_recheck([row], NOW)) == [], "what was never read is not looked at"


def test_a_file_is_looked_at_for_some_weeks_after_it_was_read(archive):
    rows = files(told(archive, metrics()))
    assert len(list(BINANCE.plan_recheck(rows, READ + RECHECKED - timedelta(seconds=1)))) == 1
    assert list(BINANCE.plan_recheck(rows, READ + RECHECKED)) == []
    looked = [{**rows[0], "file_sha256": None, "as_of": READ + timedelta(days=59)}]
    assert list(BINANCE.plan_recheck(rows + looked, READ + RECHECKED)) == [], "to look is not to read"


def test_b7_only_the_part_that_came_from_the_archive_is_read_again(archive):
    """The rest of the day came by REST, whose shares have fewer digits: read from the file they would look restated."""
    morning = Window(DAY.start, DAY.start + 12 * timedelta(hours=1))
    rows = files(told(archive, metrics(morning)))
    _, (series,) = rechecked(archive, rows, new=True)
    assert series.window == morning
    (ask,) = BINANCE.asks(series)
    assert max(told(archive, ask, NOW, new=True).tables["long_short"]["as_of"].to_pylist()) == morning.end


def test_b7_the_first_settlement_of_a_month_lies_in_its_own_file(archive):
    series = Series("binance", "archiveFundingRate", "BTCUSDT", Window(utc("2026-08-31T20:00"), utc("2026-09-30T23:00")))
    august, september = BINANCE.asks(series)
    rows = files(told(archive, august), told(archive, september))
    again = rechecked(archive, rows, new=True)[1]
    asks = [ask for one in again for ask in BINANCE.asks(one)]
    assert sorted(ask.path for ask in asks) == [august.path, september.path]
    settled = [row["as_of"] for ask in asks for row in told(archive, ask, NOW, new=True).tables["funding"].to_pylist()]
    first = [row["as_of"] for ask in (august, september) for row in told(archive, ask).tables["funding"].to_pylist()]
    assert sorted(settled) == sorted(first)
    assert utc("2026-09-01") in settled


def part(first, last, at):
    """Quarter-hours of the day that were read at a minute."""
    window = {"window_start": DAY.start + first * QUARTER, "window_end": DAY.start + last * QUARTER}
    named = {"endpoint": "archiveMetrics", "instrument": "BTCUSDT", "file": FILE, "checksum_sha256": "v", "file_sha256": "v"}
    return window | named | {"as_of": READ + timedelta(minutes=at)}


@pytest.mark.parametrize(
    ("parts", "kept"),
    [
        ([(0, 96, 5), (8, 16, 3)], [(0, 96)]),
        ([(0, 96, 5), (8, 16, 5)], [(0, 96)]),
        ([(0, 96, 5), (8, 16, 6)], [(0, 96), (8, 16)]),
        ([(0, 96, 5), (0, 16, 3), (16, 96, 4)], [(0, 96)]),
        ([(0, 48, 5), (40, 96, 3)], [(0, 48), (40, 96)]),
        ([(0, 48, 5), (48, 96, 3)], [(0, 48), (48, 96)]),
        ([(0, 96, 5), (0, 96, 7), (0, 48, 6)], [(0, 96)]),
    ],
)
def test_a_part_inside_another_that_was_read_no_earlier_is_not_read_again_by_itself(parts, kept):
    rows = [part(*one) for one in parts]
    for some in (rows, rows[::-1]):
        assert [((one.window.start - DAY.start) // QUARTER, (one.window.end - DAY.start) // QUARTER) for one in held(some)] == kept


def test_the_same_window_of_another_file_is_no_part_of_this_one():
    other = part(0, 96, 9) | {"file": FILE.replace("10-01", "10-02")}
    assert len(held([part(8, 16, 3), other])) == 2


PARTS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 12), st.integers(0, 50), st.booleans()), max_size=12)


@given(PARTS)
def test_nothing_that_was_read_is_left_out_and_nothing_is_read_from_two_versions(parts):
    """Whatever parts of one file were read when: each instant that was read lies in a held part, and that part is of no older reading."""
    rows = []
    for start, length, at, whole in parts:
        rows.append(
            {
                "endpoint": "archiveMetrics",
                "instrument": "BTCUSDT",
                "file": FILE,
                "window_start": DAY.start + start * QUARTER,
                "window_end": DAY.start + (start + length) * QUARTER,
                "checksum_sha256": f"v{at}",
                "file_sha256": f"v{at}" if whole else None,
                "as_of": from_ms(1_790_000_000_000 + at),
            }
        )
    found = held(rows)
    assert sorted(found, key=lambda one: one.window) == found
    for row in rows:
        if row["file_sha256"] is not None:
            part = Window(row["window_start"], row["window_end"])
            covering = [one for one in found if one.window.start <= part.start and part.end <= one.window.end]
            assert any(one.read_at >= row["as_of"] for one in covering)


@pytest.mark.parametrize("body", [b"", b"<html>", b"0" * 64, b"xyz  BTCUSDT-metrics-2022-05-09.zip\n", b"0" * 64 + b"  another.zip\n"])
def test_a_checksum_of_another_form_or_file_is_put_aside(body):
    payload = one("binance", "BTCUSDT-metrics-2022-05-09.zip.CHECKSUM")
    with pytest.raises(Unreadable) as caught:
        BINANCE.decode(payload.ask, replace(payload.answer, body=body))
    assert caught.value.reject.reason_code == "CHECKSUM"


def test_sources_without_files_have_nothing_to_look_at():
    assert [name for name in SOURCES if list(source(name).plan_recheck([], NOW))] == []
    for name in set(SOURCES) - set(ARCHIVES):
        assert list(source(name).plan_republished([], [])) == []


def test_the_fault_changes_a_file_and_its_checksum_alike_and_nothing_else(archive):
    old, new = (get(archive, FILE, new=new).body for new in (False, True))
    assert old != new
    assert republished(old, {}) == new == get(archive, FILE, new=True).body
    digest, name = get(archive, f"{FILE}.CHECKSUM", new=True).body.decode().split()
    assert (digest, name) == (hashlib.sha256(new).hexdigest(), FILE.rsplit("/", 1)[1])
    rule = Rule("archive", "republish")
    listing = get(archive, FILE, new=False)
    assert spoiled(rule, "/fapi/v1/exchangeInfo", listing, lambda _: listing) is listing
    assert json.dumps(rule.kind) == '"republish"'
