"""The payloads of all sources, and what their decoders say to them: shared by the tests of good and of bad answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.payloads.reader import Payload, payloads
from transforms.roster import SOURCES, source
from transforms.sources.contract import Decoded, Reject, Unreadable

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
