"""Series as compact data for the page: thinned without hiding extremes, numbers as small integers, and paths of small SVG drawings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plugins.readings import ORIGIN, Event, Floats, Ladder, Series
from transforms.windows import CADENCES, to_ms

Places = npt.NDArray[np.intp]

#: Rows drawn per series at most (about), and how many of the newest are drawn without thinning.
DRAWN: Final = 4000
TAIL: Final = 1000
#: Newest events of a series that are drawn; the others are counted.
EVENTS: Final = 300
#: The ladder shows this many steps of price on either side, each so wide (log).
RUNGS: Final = 24
RUNG_LOG: Final = 0.01


def thin(one: Series, drawn: int = DRAWN, tail: int = TAIL) -> Places:
    """Positions of the rows to draw, ascending: all of the newest `tail`, and of each bucket of time before them the rows that hold the
    lowest and the highest S, F, X, price and drawdown, the best and the worst status, the first and the last row. Nothing is averaged.

    >>> import numpy as np
    >>> flat, level, none = np.zeros(9000), np.full(9000, 50.0), np.full(9000, -1, "int8"); level[4321] = 3.0
    >>> spike = Series("BTC", "1h", np.arange(9000) * 3_600_000, flat, level, flat, flat, flat, flat, none, none, {})
    >>> bool(4321 in thin(spike)), len(thin(spike)) <= 4000
    (True, True)
    """
    rows = one.at_ms.size
    if rows <= drawn:
        return np.arange(rows)
    tail = min(tail, drawn // 2)
    head = rows - tail
    columns: Sequence[npt.NDArray[Any]] = (one.s, one.f, one.x, one.price_usd, one.drawdown, one.status)
    buckets = max((drawn - tail) // (2 * len(columns) + 2), 1)
    at = one.at_ms[:head]
    edges = np.unique(np.searchsorted(at, np.linspace(at[0], at[-1] + 1, buckets + 1)))
    kept: list[int] = []
    for first, last in pairwise(edges):
        kept += [first, last - 1]
        for values in columns:
            part = values[first:last]
            known = np.isfinite(part)
            if known.any():
                kept += [first + int(np.argmin(np.where(known, part, np.inf))), first + int(np.argmax(np.where(known, part, -np.inf)))]
    return np.concatenate([np.unique(np.array(kept, dtype=np.intp)), np.arange(head, rows)])


def _scaled(values: Floats, unit: int) -> list[int | None]:
    """Integers in units of 1/`unit`; None where a value is missing."""
    rounded = np.rint(np.where(np.isfinite(values), values, 0.0) * unit).astype(np.int64).tolist()
    return [number if known else None for number, known in zip(rounded, np.isfinite(values).tolist(), strict=True)]


def _points(parts: Mapping[str, Floats], explained: Floats, places: Places) -> dict[str, list[int]]:
    """Contributions in 1/100 point, rounded by largest remainder so that each drawn row still adds up to what it explains."""
    if not parts:
        return {}
    exact = np.round(np.stack([values[places] for values in parts.values()]) * 100, 9)
    lower = np.floor(exact)
    total = np.where(np.isfinite(explained), explained, exact.sum(axis=0) / 100)
    missing = np.rint(total * 100) - lower.sum(axis=0)
    rank = np.argsort(np.argsort(lower - exact, axis=0, kind="stable"), axis=0)
    whole = (lower + (rank < missing)).astype(np.int64)
    return {name: row.tolist() for name, row in zip(parts, whole, strict=True)}


def _speaking(parts: Mapping[str, Floats]) -> dict[str, Floats]:
    """Components that add anything at all; one whose inputs do not exist here is not drawn."""
    return {name: points for name, points in parts.items() if np.any(points)}


def _regimes(one: Series) -> list[list[int]]:
    """Spans of one regime: start and end in minutes after the first bar's end, and the regime's place in REGIMES. Gaps belong to none."""
    step = CADENCES[one.cadence] // timedelta(minutes=1)
    minutes = ((one.at_ms - one.at_ms[0]) // 60_000).tolist()
    spans: list[list[int]] = []
    for end, code in zip(minutes, one.regime.tolist(), strict=True):
        if spans and spans[-1][1] >= end - step and spans[-1][2] == code:
            spans[-1][1] = end
        else:
            spans.append([end - step, end, code])
    return [span for span in spans if span[2] >= 0]


def _warning(one: Event, start_ms: int) -> list[Any]:
    """An event for the page: minutes after the first bar's end, kind, side, severity in 1/100, reason, record."""
    return [(to_ms(one.at) - start_ms) // 60_000, one.event_type, one.side, round(100 * one.severity), one.found, one.track_record]


def payload(one: Series) -> str:
    """A series as compact JSON for the page: minutes as differences, numbers and contributions in 1/100 point, drawdown in 1/10,000.

    `breaks` are the drawn positions before which a published row is missing: no line is drawn across.
    """
    places = thin(one)
    at = one.at_ms[places]
    step_ms = CADENCES[one.cadence].total_seconds() * 1000
    gap = np.concatenate([[0], np.cumsum(np.diff(one.at_ms) > 1.5 * step_ms)])[places]
    price = [float(f"{value:.6g}") if np.isfinite(value) else None for value in one.price_usd[places].tolist()]
    return json.dumps(
        {
            "asset": one.asset,
            "cadence": one.cadence,
            "rows": int(one.at_ms.size),
            "start": int(at[0]),
            "minutes": [0, *(np.diff(at) // 60_000).tolist()],
            "s": _scaled(one.s[places], 100),
            "f": _scaled(one.f[places], 100),
            "x": _scaled(one.x[places], 100),
            "price": price,
            "drawdown": _scaled(one.drawdown[places], 10_000),
            "confidence": _scaled(one.confidence[places], 100),
            "status": "".join("?" if code < 0 else str(code) for code in one.status[places].tolist()),
            "breaks": (np.flatnonzero(np.diff(gap)) + 1).tolist(),
            "regimes": _regimes(one),
            "warned": len(one.events),
            "events": [_warning(event, int(at[0])) for event in one.events[-EVENTS:]],
            "parts": {
                index: _points(_speaking(parts), one.number(index)[places] - ORIGIN[index], places) for index, parts in one.parts.items()
            },
        },
        separators=(",", ":"),
    )


def sparkline(one: Series, points: int = 90) -> str:
    """SVG path of the newest `points` rows' S in a box of 100 x 100 (y down); a new sub-path after each missing value."""
    values = one.s[-points:]
    across = max(values.size - 1, 1)
    path, pen = [], "M"
    for i, value in enumerate(values.tolist()):
        if np.isfinite(value):
            path.append(f"{pen}{i / across * 100:.1f} {100 - value:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(path)


def rungs(one: Ladder) -> tuple[Floats, Floats]:
    """Shares of open interest (long, short) by step of price, lowest first: RUNGS steps below the price and RUNGS above it.

    What lies further away is left to `beyond`.
    """
    step = np.floor(np.log(one.level_usd / one.price_usd) / RUNG_LOG).astype(np.int64) + RUNGS
    inside = (step >= 0) & (step < 2 * RUNGS)
    long, short = (
        np.bincount(step[inside], weights=share[inside], minlength=2 * RUNGS).astype(np.float64)
        for share in (one.long_share, one.short_share)
    )
    return long, short


def beyond(one: Ladder) -> tuple[float, float]:
    """Shares of open interest (long, short) outside the drawn steps."""
    long, short = rungs(one)
    return max(0.0, float(one.long_share.sum() - long.sum())), max(0.0, float(one.short_share.sum() - short.sum()))


def bars(shares: Floats, most: float) -> str:
    """SVG path of horizontal bars in a box of 100 x 2 RUNGS (y down, the highest price on top); `most` fills the width."""
    path = []
    for step, share in enumerate(shares.tolist()):
        if share > 0:
            width = 100 * share / most
            path.append(f"M0 {2 * RUNGS - 1 - step + 0.1:g}h{width:.2f}v.8h-{width:.2f}z")
    return "".join(path)
