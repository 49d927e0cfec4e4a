"""Decisions about rows that were put aside: what names a row, and what a decision does to the answer it bears on."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from tests.conformance.answers import ALL
from tests.payloads.reader import one
from transforms.reading import Sieve
from transforms.roster import source
from transforms.rulings import Rulings, is_released, part_id, plain, released, row_id, ruled
from transforms.tables import TABLES
from transforms.windows import utc

PAYLOAD = one("bybit", "open-interest.json")
TABLE = TABLES["open_interest"]
ROWS = source("bybit").decode(PAYLOAD.ask, PAYLOAD.answer).tables["open_interest"]
ROW = ROWS.to_pylist()[0]


def other(value):
    if isinstance(value, str | float | int):
        return value + type(value)(1)
    return utc("2030-01-01") if value is None or not hasattr(value, "year") else value + timedelta(hours=1)


@pytest.mark.parametrize("column", [name for name in TABLE.content if name in ROW])
def test_a_row_is_named_by_what_it_says_and_not_by_when_we_learnt_it(column):
    learnt = column in ("known_at", "revision", "flags", "date")
    assert (row_id(TABLE, ROW | {column: other(ROW[column])}) == row_id(TABLE, ROW)) is learnt


def test_the_evidence_of_a_row_has_the_name_of_the_row():
    stored = json.loads(json.dumps({name: plain(value) for name, value in ROW.items()}))
    assert row_id(TABLE, stored) == row_id(TABLE, ROW)
    assert plain(float("nan")) == "nan"
    assert plain(1.5) == 1.5


def test_each_word_of_a_part_is_of_its_name():
    words = ["bybit", "kline", "BTCUSDT", "candles", "VALUE", "{}", "sha"]
    names = {part_id(*words[:n], "else", *words[n + 1 :]) for n in range(len(words))}
    assert len(names | {part_id(*words)}) == len(words) + 1


def test_a_released_row_says_so_once_and_is_known_no_earlier_than_its_release():
    """Four rows known at 13:05, 14:05 ...: a release between them moves only what was known before it."""
    known = ROWS["known_at"].to_pylist()
    moment = sorted(known)[1] + timedelta(minutes=1)
    flags = pa.array(["", "SUSPECT", "RELEASED SUSPECT", "UNRELEASED"])
    rows = ROWS.append_column("flags", flags)
    assert is_released(rows).tolist() == [False, False, True, False]
    found = released(rows, moment)
    assert found["known_at"].to_pylist() == [max(at, moment) for at in known]
    assert found["flags"].to_pylist() == ["RELEASED", "SUSPECT RELEASED", "RELEASED SUSPECT", "UNRELEASED RELEASED"]
    assert is_released(found).all()


def test_a_rejected_part_is_put_aside_again_with_its_old_reason_and_no_other_is():
    texts = ["one", "two", "three"]
    barred = {("marks", "two"): ("STAMP", "as it was then"), ("candles", "three"): ("STAMP", "of another table")}
    with ruled(Rulings(barred=barred)):
        sieve = Sieve("marks", texts)
        sieve.refuse(np.array([False, True, False]), "VALUE", lambda _: "found again")
    assert sieve.keep.tolist() == [True, False, True]
    assert [(one.reason_code, one.detail, one.row) for one in sieve.rejects] == [("STAMP", "as it was then", "two")]
    assert Sieve("marks", texts).keep.all(), "outside the block nothing is in force"


def test_a_released_part_passes_the_reason_it_was_released_for_and_no_other():
    waived = frozenset({("marks", "VALUE", "two"), ("candles", "VALUE", "one")})
    bad = np.array([True, True, False])
    with ruled(Rulings(waived)):
        sieve = Sieve("marks", ["one", "two", "three"])
        sieve.refuse(bad, "VALUE", lambda _: "too large")
        assert sieve.keep.tolist() == [False, True, True]
        assert bad.tolist() == [True, True, False], "the caller's mask is its own"
        sieve.refuse(bad, "STAMP", lambda _: "elsewhere")
    assert sieve.keep.tolist() == [False, False, True]
    assert [(one.reason_code, one.row) for one in sieve.rejects] == [("VALUE", "one"), ("STAMP", "two")]


@pytest.mark.parametrize("payload", [one for one in ALL if one.is_json], ids=str)
def test_rows_of_an_answer_have_names_of_their_own(payload):
    for name, rows in source(payload.source).decode(payload.ask, payload.answer).tables.items():
        names = [row_id(TABLES[name], row) for row in rows.to_pylist()]
        assert len(set(names)) == len(names)
