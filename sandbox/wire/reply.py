"""What a venue's endpoint is asked and answers, and the one fast way rows become JSON or CSV text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Query:
    """A GET below the venue's base address, or a POST where there is a body. `headers` names are lower case."""

    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, bytes and headers, before faults."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class Venue(Protocol):
    """One host of one source."""

    def answer(self, query: Query) -> Reply:
        """Never raises for anything a client can send."""


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply from plain objects."""
    return Reply(status, json.dumps(value, separators=(",", ":")).encode(), JSON, headers or {})


def seconds(wait: float) -> str:
    """A Retry-After that is never too short: whole seconds, rounded up."""
    return str(max(1, int(-(-wait // 1))))


#: float64 or int64
Column = NDArray[Any]


def render(pieces: Sequence[tuple[str, str, Column]], end: str, between: str) -> str:
    """Rows as text: for each row every piece's literal and its value under a %-code, then `end`; rows joined by `between`.

    A NaN becomes null, without the quotes that its code carries.

    >>> render([('{"t":', "%d", np.array([1, 2])), (',"c":', '"%.2f"', np.array([0.5, np.nan]))], "}", ",")
    '{"t":1,"c":"0.50"},{"t":2,"c":null}'
    """
    count = len(pieces[0][2])
    if not count:
        return ""
    template, columns = "", []
    for literal, code, column in pieces:
        template += literal.replace("%", "%%")
        unknown = np.isnan(column) if column.dtype.kind == "f" else np.zeros(0, dtype=bool)
        if unknown.any():
            template += "%s"
            columns.append(["null" if gone else code % value for value, gone in zip(column.tolist(), unknown.tolist(), strict=True)])
        else:
            template += code
            columns.append(column.tolist())
    flat: list[Any] = [None] * (count * len(columns))
    for n, values in enumerate(columns):
        flat[n :: len(columns)] = values
    row = between + template + end.replace("%", "%%")
    return (row * count % tuple(flat))[len(between) :]


def json_rows(pieces: Sequence[tuple[str, str, Column]], end: str) -> bytes:
    """A JSON array of the rendered rows."""
    return f"[{render(pieces, end, ',')}]".encode()
