"""The trace as text for a person: what plugins/provenance.py collected, step by step, at most 100 columns."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from plugins.proofs import AnswerProof
from plugins.provenance import EXPLAINED, InputTrace, Trace, as_instant, as_number, as_points
from plugins.readings import ADDITIVITY, MARKET, ORIGIN
from plugins.wording import INDEX_WORDS, MARKET_WORDS, SIDE_WORDS
from transforms.index.attribution import displayed
from transforms.tables import TABLES

WIDTH: Final = 100


def render(found: Trace) -> str:
    """The trace as text for a person, at most 100 columns."""
    row, part = found.reading, found.chosen[0]
    headline, explanation = MARKET_WORDS[row["market"]]
    lines = [
        f"{headline} - {explanation}",
        f"{found.asset} {found.cadence} as of {as_instant(found.as_of)}, known at {as_instant(row['known_at'])}",
        "",
        f"1 The value: {' - '.join(INDEX_WORDS[found.index])}",
        *_indented(_value_words(found)),
        *_indented(f"index {row['index_version']}, spec {row['spec_sha256'][:16]}, code {row['code_sha'][:16]}, {row['vintage']}"),
        *(_indented(f"reason: {row['reason']}") if row["reason"] else []),
        "",
        "2 Its contributions, points",
        *_contributions(found),
        "",
        f"3 {found.feature} ({part['component'].replace('_', ' ')})",
        *_indented(f"contribution {found.contribution:+.6f} = {_formula(found)}: {_verdict(found)}"),
        *_split(found),
        *(
            _indented(f"against {part['history_days']:.1f} days of effective history, strictly before this instant")
            if part["history_days"]
            else []
        ),
        *(_indented(f"reason: {part['reason']}") if part["reason"] else []),
        *(_feature(found) if not found.origin.words or found.measured else []),
        *(_indented(found.origin.words) if found.origin.words else []),
        *(line for sentence in found.made_of for line in _indented(sentence, 4)),
        "",
        "4 The rows it was measured from, and the bytes behind them",
    ]
    if not found.inputs:
        lines += _indented(
            "see the assets' own traces" if found.asset == MARKET else f"no core table is declared as input of {found.feature}"
        )
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


def _value_words(found: Trace) -> str:
    row = found.reading
    if found.index == "S":
        return f"S = {as_points(row['s'])}, {row['band'] or 'no band'}, {row['status']}, confidence {row['confidence']:.3f}"
    side = f", {SIDE_WORDS[row['crowded_side']]}" if found.index == "F" and row["crowded_side"] else ""
    return f"{found.index} = {as_points(found.value)}{side}, confidence {row[f'{found.index.lower()}_confidence']:.3f}"


def _formula(found: Trace) -> str:
    """The formula with the input's own numbers, all venues together."""
    part, weight = found.chosen[0], math.fsum(row["weight"] for row in found.chosen)
    head = f"{50 if found.index == 'S' else 100} x weight {weight:.6g}"
    if found.asset == MARKET or found.origin.factors:
        return f"{head} x score {as_number(part['score'])}"
    if found.index == "S":
        return f"{head} x sign {part['sign']:+d} x score {as_number(part['score'])} x stale factor {part['stale_factor']:.6g}"
    if part["score"] is None:
        return f"{head} x 0.5 (a missing percentile counts as one half)"
    return f"{head} x (0.5 + (percentile {as_number(part['score'])} - 0.5) x stale factor {part['stale_factor']:.6g})"


def _split(found: Trace) -> list[str]:
    """The venues' shares, where there are several."""
    if len(found.chosen) == 1:
        return []
    said = ", ".join(f"{row['by_venue']} {row['contribution']:+.6f} (weight {row['weight']:.6g})" for row in found.chosen)
    return _indented(f"by venue: {said}")


def _contributions(found: Trace) -> list[str]:
    """One line an input, its venues together."""
    summed: dict[str, list[Mapping[str, Any]]] = {}
    for row in found.contributions:
        summed.setdefault(row["feature"], []).append(row)
    points = [math.fsum(row["contribution"] for row in rows) for rows in summed.values()]
    shown = displayed(points, 2)
    lines = [
        f"  {'>' if name == found.feature else ' '} {rows[0]['component']:<18} {name:<28} {part:+8.2f}  {rows[0]['reason']}"[
            :WIDTH
        ].rstrip()
        for (name, rows), part in zip(summed.items(), shown, strict=True)
    ]
    explained = EXPLAINED[found.index]
    if found.residual is None:
        words = f"{sum(shown):+8.2f}  {found.index} is withheld: no value is published"
    elif abs(found.residual) <= ADDITIVITY:
        words = f"{sum(shown):+8.2f}  = {explained}, exact{f' to {abs(found.residual):.0e}' if found.residual else ''}"
    else:
        words = f"{sum(shown):+8.2f}  DOES NOT ADD UP: {explained} is {(found.value or 0.0) - ORIGIN[found.index]:+.6f}"
    return [*lines, f"    {'sum':<47} {words}"]


def _verdict(found: Trace) -> str:
    if found.led:
        return f"nothing, since another input of {found.chosen[0]['component']} is larger and leads"
    return "match" if abs(found.recomputed - found.contribution) <= ADDITIVITY else f"MISMATCH, it is {found.recomputed:+.9f}"


def _feature(found: Trace) -> list[str]:
    row = found.measured
    if row is None:
        return _indented("the features table holds no row for it at this instant")
    age = "no input" if row["input_age_h"] is None else f"newest input {row['input_age_h']:g} h old"
    return _indented(f"feature value {as_number(row['feature_value'])} ({age}){': ' + row['reason'] if row['reason'] else ''}")


def _table(one: InputTrace, printed: set[str]) -> list[str]:
    name, window = TABLES[one.table].identifier, f"({as_instant(one.start)}, {as_instant(one.end)}]"
    if not one.rows:
        return _indented(f"{name}: no row in {window} was known then")
    answers = f"{one.answers:,} stored answer{'s' * (one.answers != 1)}"
    lines = _indented(f"{name}: {one.found:,} rows in {window} from {answers}; the newest {len(one.rows)}:")
    for core in one.rows:
        row = core.row
        who = " ".join(str(row[name]) for name in ("source", "instrument", "stablecoin", "reference") if name in row)
        lines += [
            "",
            *_indented(f"{who} as of {as_instant(row['as_of'])}, known at {as_instant(row['known_at'])}, revision {row['revision']}", 4),
        ]
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
        lines += _indented(f"{proof.source} {proof.endpoint}: HTTP {proof.http_status}, fetched {as_instant(proof.fetched_at)}", 8)
        lines += _indented(proof.url, 8)
        lines += _indented(f"in {proof.bundle}", 8)
    if proof.matches:
        return [*lines, *_indented(f"SHA-256 recomputed over {proof.found_bytes:,} bytes: match", 8)]
    recomputed = f" (recomputed {proof.recomputed})" if proof.recomputed else ""
    return [*lines, *_indented(f"{proof.problem}{recomputed}", 8)]


def _indented(line: str, depth: int = 2) -> list[str]:
    pad = " " * depth
    return textwrap.wrap(line, WIDTH, initial_indent=pad, subsequent_indent=pad + "  ", break_on_hyphens=False) or [pad]


def _value(value: object) -> str:
    if isinstance(value, float):
        return repr(value)
    return as_instant(value) if isinstance(value, datetime) else json.dumps(value) if isinstance(value, (dict, list)) else str(value)
