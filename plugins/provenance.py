"""The way back: from an index value to the bytes a venue sent, with every step recomputed where it can be.

    value of S -> contributions -> weight, score -> feature value -> core rows it was measured from -> stored answer -> SHA-256 of its bytes

`trace` collects, `render` prints. Nothing here writes anything.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from plugins.errors import NotFound
from plugins.proofs import AnswerProof, Answers, Fragment, Reader, find_fragment
from plugins.readings import ADDITIVITY, MARKET_WORDS
from transforms.index.attribution import HALF_RANGE, displayed
from transforms.tables import TABLES, Table
from transforms.windows import CADENCES, partition_day

WIDTH: Final = 100
#: Rows and answers shown per input table; all rows are counted, and the answers of the rows shown are checked.
SHOWN: Final = 3


#: What a feature reads: core tables, and how far back from `as_of` each is read.
Inputs = Mapping[str, Sequence[tuple[str, timedelta]]]


@dataclass(frozen=True, slots=True)
class CoreRow:
    """One core row and the part of the answer it was read from."""

    row: Mapping[str, Any]
    values: Mapping[str, Any]
    proof: AnswerProof
    fragment: Fragment | None


@dataclass(frozen=True, slots=True)
class InputTrace:
    """The rows of one core table inside a feature's window `(start, end]`, newest first; `rows` of them are shown."""

    table: str
    start: datetime
    end: datetime
    found: int
    answers: int
    rows: tuple[CoreRow, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything on the way from one value to its bytes."""

    asset: str
    cadence: str
    as_of: datetime
    feature: str
    sentiment: Mapping[str, Any]
    contributions: tuple[Mapping[str, Any], ...]
    contribution: Mapping[str, Any]
    measured: Mapping[str, Any] | None
    inputs: tuple[InputTrace, ...]

    @property
    def residual(self) -> float | None:
        """Sum of contributions minus (S - 50); None when S is withheld."""
        s = self.sentiment["s"]
        return None if s is None else math.fsum(row["contribution"] for row in self.contributions) - (s - 50.0)

    @property
    def recomputed(self) -> float:
        """50 x weight x sign x score x stale factor, points."""
        row = self.contribution
        points: float = HALF_RANGE * row["weight"] * row["sign"] * (row["score"] or 0.0) * row["stale_factor"]
        return points

    @property
    def problems(self) -> list[str]:
        """What does not hold; empty when every step was verified."""
        found = []
        if self.residual is not None and abs(self.residual) > ADDITIVITY:
            found.append(f"contributions differ from S - 50 by {self.residual:.3g}")
        if abs(self.recomputed - self.contribution["contribution"]) > ADDITIVITY:
            found.append(f"the contribution recomputes to {self.recomputed:.9f}, stored is {self.contribution['contribution']:.9f}")
        proofs = {one.proof.raw_sha256: one.proof for part in self.inputs for one in part.rows}
        return found + [f"answer {sha[:12]}: {proof.problem}" for sha, proof in proofs.items() if proof.problem]


def trace(
    asset: str,
    cadence: str,
    as_of: datetime,
    feature: str = "",
    *,
    read: Reader,
    open_bundle: Callable[[str], pa.Table],
    inputs: Inputs,
    shown: int = SHOWN,
) -> Trace:
    """Follow one value back. An empty `feature` takes the one with the largest contribution.

    `read` is `Lake.read`; `open_bundle` gives the rows of a bundle (columns raw_sha256, body); `inputs` says what each feature reads.
    Raises NotFound when there is no such value, and says which there are.
    """
    if cadence not in CADENCES:
        raise NotFound(f"There is no cadence {cadence!r}: choose {' or '.join(CADENCES)}.")
    as_of = as_of.astimezone(UTC)
    day = partition_day(as_of)
    where: dict[str, str | Sequence[str]] = {"asset": asset, "cadence": cadence}
    stamped = {name: read(name, days=(day, day), where=where).to_pylist() for name in ("sentiment", "contributions", "features")}
    at = {name: [row for row in rows if row["as_of"] == as_of] for name, rows in stamped.items()}
    if not at["sentiment"]:
        raise NotFound(_nothing(asset, cadence, as_of, [row["as_of"] for row in stamped["sentiment"]]))
    parts = sorted(at["contributions"], key=lambda row: -abs(row["contribution"]))
    if not parts:
        raise NotFound(f"S of {asset} {cadence} at {as_of:%Y-%m-%dT%H:%MZ} has no contributions in the lake: derive that day again.")
    chosen = next((row for row in parts if row["feature"] == (feature or parts[0]["feature"])), None)
    if chosen is None:
        names = ", ".join(sorted(row["feature"] for row in parts))
        raise NotFound(f"S of {asset} {cadence} has no constituent {feature!r}: choose one of {names}.")
    name = chosen["feature"]
    walk = _Walk(asset, as_of, at["sentiment"][0]["known_at"], read, Answers(read, open_bundle), shown)
    return Trace(
        asset=asset,
        cadence=cadence,
        as_of=as_of,
        feature=name,
        sentiment=at["sentiment"][0],
        contributions=tuple(parts),
        contribution=chosen,
        measured=next((row for row in at["features"] if row["feature"] == name), None),
        inputs=tuple(walk.back(table, span) for table, span in inputs.get(name, ())),
    )


def _nothing(asset: str, cadence: str, as_of: datetime, near: list[datetime]) -> str:
    words = f"There is no value of S for {asset} {cadence} at {as_of:%Y-%m-%dT%H:%M:%SZ}"
    if near:
        closest = sorted(near, key=lambda other: abs(other - as_of))[:3]
        return f"{words}: the nearest of that day are {', '.join(f'{other:%Y-%m-%dT%H:%MZ}' for other in sorted(closest))}."
    return f"{words}, nor any on that day: see the report for the range covered (as_of is the END of the interval)."


@dataclass(frozen=True, slots=True)
class _Walk:
    """The walk from one value into the core tables, as its own instant knew them."""

    asset: str
    as_of: datetime
    known_at: datetime
    read: Reader
    answers: Answers
    shown: int

    def back(self, table: str, span: timedelta) -> InputTrace:
        """Rows of one table with as_of in `(as_of - span, as_of]` that were known at `known_at`, each in the revision known then."""
        declared = TABLES[table]
        start = self.as_of - span
        where: dict[str, str | Sequence[str]] | None = {"asset": self.asset} if "asset" in declared.columns else None
        days = (partition_day(start + timedelta(microseconds=1)), partition_day(self.as_of))
        newest: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in self.read(table, days=days, where=where).to_pylist():
            if not start < row["as_of"] <= self.as_of or row["known_at"] > self.known_at:
                continue
            key = tuple(row[column] for column in declared.key)
            if key not in newest or row["revision"] > newest[key]["revision"]:
                newest[key] = row
        rows = sorted(newest.values(), key=lambda row: tuple(str(row[column]) for column in declared.key))
        rows.sort(key=lambda row: row["as_of"], reverse=True)
        return InputTrace(
            table=table,
            start=start,
            end=self.as_of,
            found=len(rows),
            answers=len({row["raw_sha256"] for row in rows}),
            rows=tuple(self._row(declared, row) for row in rows[: self.shown]),
        )

    def _row(self, table: Table, row: Mapping[str, Any]) -> CoreRow:
        described = {*table.key, "asset", "known_at", "flags", "revision", "fetched_at", "raw_sha256", "date"}
        values = {name: row[name] for name in table.columns if name not in described and row[name] is not None}
        proof, body = self.answers.prove(row)
        return CoreRow(row, values, proof, find_fragment(body, row, values) if body else None)


def render(found: Trace) -> str:
    """The trace as text for a person, at most 100 columns."""
    s, part = found.sentiment, found.contribution
    headline, explanation = MARKET_WORDS[s["market"]]
    lines = [
        f"{headline} - {explanation}",
        f"{found.asset} {found.cadence} as of {_at(found.as_of)}, known at {_at(s['known_at'])}",
        "",
        "1 The value",
        *_indented(f"S = {_points(s['s'])}, {s['band'] or 'no band'}, {s['status']}, confidence {s['confidence']:.3f}"),
        *_indented(f"index {s['index_version']}, spec {s['spec_sha256'][:16]}, code {s['code_sha'][:16]}, {s['vintage']}"),
        *(_indented(f"reason: {s['reason']}") if s["reason"] else []),
        "",
        "2 Its contributions, points",
        *_contributions(found),
        "",
        f"3 {found.feature} ({part['family']})",
        *_indented(
            f"contribution {part['contribution']:+.6f} = 50 x weight {part['weight']:.6g} x sign {part['sign']:+d} x score "
            f"{_number(part['score'])} x stale factor {part['stale_factor']:.6g}: {_verdict(found)}"
        ),
        *_indented(f"score against {part['history_days']:.1f} days of effective history, strictly before this instant"),
        *(_indented(f"reason: {part['reason']}") if part["reason"] else []),
        *_feature(found),
        "",
        "4 The rows it was measured from, and the bytes behind them",
    ]
    if not found.inputs:
        lines += _indented(f"no core table is declared as input of {found.feature}")
    printed: set[str] = set()
    for place, one in enumerate(found.inputs):
        lines += [*([""] if place else []), *_table(one, printed)]
    problems = found.problems
    checked = len({one.proof.raw_sha256 for part_ in found.inputs for one in part_.rows})
    lines += ["", "Verdict"]
    if problems:
        lines += [line for problem in problems for line in _indented(f"FAILED {problem}")]
    elif checked:
        lines += _indented(
            f"verified: the sums hold, and for the rows shown the SHA-256 of {checked} stored answer{'s' * (checked != 1)} matches the bytes"
        )
    else:
        lines += _indented("the sums hold; there was no input row to check against stored bytes")
    return "\n".join(lines) + "\n"


def _contributions(found: Trace) -> list[str]:
    shown = displayed([row["contribution"] for row in found.contributions], 2)
    lines = [
        f"  {'>' if row['feature'] == found.feature else ' '} {row['family']:<12} {row['feature']:<34} {points:+8.2f}  {row['reason']}"[
            :WIDTH
        ].rstrip()
        for row, points in zip(found.contributions, shown, strict=True)
    ]
    if found.residual is None:
        words = f"{sum(shown):+8.2f}  S is withheld: no value is published"
    elif abs(found.residual) <= ADDITIVITY:
        words = f"{sum(shown):+8.2f}  = S - 50, exact{f' to {abs(found.residual):.0e}' if found.residual else ''}"
    else:
        words = f"{sum(shown):+8.2f}  DOES NOT ADD UP: S - 50 is {found.sentiment['s'] - 50:+.6f}"
    return [*lines, f"    {'sum':<47} {words}"]


def _verdict(found: Trace) -> str:
    return (
        "match" if abs(found.recomputed - found.contribution["contribution"]) <= ADDITIVITY else f"MISMATCH, it is {found.recomputed:+.9f}"
    )


def _feature(found: Trace) -> list[str]:
    row = found.measured
    if row is None:
        return _indented("the features table holds no row for it at this instant")
    age = "no input" if row["input_age_h"] is None else f"newest input {row['input_age_h']:g} h old"
    return _indented(f"feature value {_number(row['feature_value'])} ({age}){': ' + row['reason'] if row['reason'] else ''}")


def _table(one: InputTrace, printed: set[str]) -> list[str]:
    name, window = TABLES[one.table].identifier, f"({_at(one.start)}, {_at(one.end)}]"
    if not one.rows:
        return _indented(f"{name}: no row in {window} was known then")
    answers = f"{one.answers:,} stored answer{'s' * (one.answers != 1)}"
    lines = _indented(f"{name}: {one.found:,} rows in {window} from {answers}; the newest {len(one.rows)}:")
    for core in one.rows:
        row = core.row
        who = " ".join(str(row[name]) for name in ("source", "instrument", "stablecoin", "reference") if name in row)
        lines += ["", *_indented(f"{who} as of {_at(row['as_of'])}, known at {_at(row['known_at'])}, revision {row['revision']}", 4)]
        lines += _indented(", ".join(f"{name} {_value(value)}" for name, value in core.values.items()), 6)
        if core.fragment:
            lines += _indented(f"{core.fragment.place} of the answer says:", 6)
            lines += [f"      | {line}" for line in textwrap.wrap(core.fragment.text, WIDTH - 8) or [""]]
        elif core.proof.found_bytes:
            lines += _indented("no part of the answer carries this row's stamp in a form known here; the answer's hash stands for it", 6)
        lines += _answer(core.proof, printed)
    return lines


def _answer(proof: AnswerProof, printed: set[str]) -> list[str]:
    if proof.raw_sha256 in printed:
        return _indented(f"from answer {proof.raw_sha256[:16]} (above)", 6)
    printed.add(proof.raw_sha256)
    lines = [f"      answer {proof.raw_sha256}"]
    if proof.url:
        lines += _indented(f"{proof.source} {proof.endpoint}: HTTP {proof.http_status}, fetched {_at(proof.fetched_at)}", 8)
        lines += _indented(proof.url, 8)
        lines += _indented(f"in {proof.bundle}", 8)
    if proof.matches:
        return [*lines, *_indented(f"SHA-256 recomputed over {proof.found_bytes:,} bytes: match", 8)]
    recomputed = f" (recomputed {proof.recomputed})" if proof.recomputed else ""
    return [*lines, *_indented(f"{proof.problem}{recomputed}", 8)]


def _indented(line: str, depth: int = 2) -> list[str]:
    pad = " " * depth
    return textwrap.wrap(line, WIDTH, initial_indent=pad, subsequent_indent=pad + "  ", break_on_hyphens=False) or [pad]


def _at(instant: datetime | None) -> str:
    if instant is None:
        return "unknown"
    whole = instant.astimezone(UTC)
    return (
        f"{whole:%Y-%m-%d %H:%MZ}"
        if whole.second == whole.microsecond == 0
        else f"{whole:%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".") + "Z"
    )


def _points(s: float | None) -> str:
    return "withheld" if s is None else f"{s:.6f}"


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.9g}"


def _value(value: object) -> str:
    if isinstance(value, float):
        return repr(value)
    return _at(value) if isinstance(value, datetime) else json.dumps(value) if isinstance(value, (dict, list)) else str(value)
