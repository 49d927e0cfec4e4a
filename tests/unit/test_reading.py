"""What is wrong with a whole answer, by its reason code."""

from __future__ import annotations

import msgspec
import pytest

from transforms.reading import Shape
from transforms.sources.contract import Unreadable


class Row(msgspec.Struct, forbid_unknown_fields=True):
    a: float


class Refusal(msgspec.Struct):
    code: int
    msg: str


def refusal(body: bytes) -> str:
    """What a venue says in its own form, else nothing."""
    try:
        told = msgspec.json.decode(body, type=Refusal)
    except msgspec.DecodeError:
        return ""
    return f"{told.code} {told.msg}"


SHAPE = Shape(Row, refusal)


def reason(body, *, whole=True):
    with pytest.raises(Unreadable) as caught:
        SHAPE.many(body, "marks") if whole else SHAPE.one(body, "marks")
    reject = caught.value.reject
    assert reject.target == "marks"
    return reject


@pytest.mark.parametrize("whole", [True, False], ids=["list", "object"])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<html>502 Bad Gateway</html>", "CONTENT_TYPE"),
        ("\ufeff \r\n<!DOCTYPE html>".encode(), "CONTENT_TYPE"),
        (b'{"code":-1121,"msg":"Invalid symbol."}', "VENUE_ERROR"),
        (b'"maintenance"', "SHAPE"),
        (b"null", "SHAPE"),
        (b"", "TRUNCATED"),
        (b"   ", "TRUNCATED"),
        (b"Service unavailable", "MALFORMED"),
        (b"\x1f\x8b\x08\x00", "MALFORMED"),
    ],
)
def test_an_answer_that_is_no_data_says_what_it_is(body, code, whole):
    assert reason(body, whole=whole).reason_code == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"a": 1.5, "a"', "TRUNCATED"),
        (b'{"a": 1', "TRUNCATED"),
        (b'{"a": 1.', "TRUNCATED"),
        (b'{"a": 1.5e', "TRUNCATED"),
        (b'{"a": -', "TRUNCATED"),
        (b'{"a": 1.}', "MALFORMED"),
        (b'{"a" 1.5}', "MALFORMED"),
        (b'{"a": 1.5}]', "MALFORMED"),
        (b'{"a": 1.5}x', "MALFORMED"),
        (b'{"a": 1.5} {"a": 2.5}', "MALFORMED"),
    ],
)
def test_cut_is_what_ends_in_the_middle_and_malformed_what_goes_on_after_a_fault(body, code):
    assert reason(body, whole=False).reason_code == code
    assert reason(b"[" + body + (b"" if code == "TRUNCATED" else b"]"), whole=True).reason_code == code
    assert reason(b"[" * 100_000).reason_code == "MALFORMED", "deeper than anybody reads"


def test_one_character_too_many_is_no_cut():
    assert reason(b'[{"a": 1.5}]]').reason_code == "MALFORMED"


def test_the_other_shape_is_no_list_and_no_object():
    assert reason(b'{"a": 1.5}').reason_code == "SHAPE"
    assert reason(b'[{"a": 1.5}]', whole=False).reason_code == "SHAPE"


def test_a_venues_own_words_and_the_end_of_a_cut_answer_are_kept():
    assert reason(b'{"code":-1121,"msg":"Invalid symbol."}').detail == "-1121 Invalid symbol."
    cut = b"[" + b'{"a": 1.5}, ' * 500 + b'{"a": 9.2'
    told = reason(cut)
    assert told.detail == f"the answer ends after {len(cut)} bytes, in the middle"
    assert told.row == cut[-2000:].decode()
    assert reason(b'"' + b"x" * 5000 + b'"').row == '"' + "x" * 1999, "of others their beginning"
