"""The reading in the terminal at the end of a run: S, F, X and regime per series, S with its reasons, and where the rows went.

ASCII, 100 columns at most.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import Final

from plugins.accounts import Account, total_account
from plugins.readings import Reading, ReportData, group_of, market_label, readings, span
from plugins.strips import in_force
from plugins.wording import BAND_EDGES, BAND_WORDS, DISCLAIMER, RISK_WORDS, SIDE_WORDS, in_words, instant, level, spaced
from transforms.index.attribution import displayed

WIDTH: Final = 100
_CELLS: Final = 50  #: columns of the scale, two points each
_INDENT: Final = " " * 11


def text(data: ReportData, *, series_shown: int = 4) -> str:
    """The summary: market label, one block per series (the first `series_shown`), the rest counted by band, then rows and checks.

    Contributions by family are rounded by largest remainder, so that 50 and the displayed terms add up to the displayed S.
    """
    headline, explanation = market_label(data)
    lines = [f"{headline} - {explanation}", DISCLAIMER]
    found = readings(data)
    if not found:
        lines += ["", "No reading has been published in this span."]
    else:
        lines += ["", _INDENT + _edges()]
        for one in found[:series_shown]:
            lines += _block(one)
        if len(found) > series_shown:
            lines += _wrapped(f"and {len(found) - series_shown} more: {_rest(found[series_shown:])}")
    lines += ["", *_evidence(data, len(found))]
    return "\n".join(line[:WIDTH].rstrip() for line in lines)


def _edges() -> str:
    """Labels of the scale, each centred below its edge."""
    row = [" "] * (_CELLS + 4)
    for edge in BAND_EDGES:
        label = str(edge)
        start = max(edge * _CELLS // 100 - (len(label) - 1) // 2, 0)
        row[start : start + len(label)] = label
    return "".join(row).rstrip()


def scale(s: float | None) -> str:
    """The scale of S as text, `|` at the edges of the bands and `#` at the value.

    >>> scale(60.0)
    '|-----------|---------|----|--#------|------------|'
    """
    row = ["-"] * (_CELLS + 1)
    for edge in BAND_EDGES:
        row[edge * _CELLS // 100] = "|"
    if s is not None:
        row[round(s * _CELLS / 100)] = "#"
    return "".join(row)


def _block(one: Reading) -> list[str]:
    name = f"{one.asset} {one.cadence}"[: len(_INDENT) - 1]
    of = {part: one.row[f"conf_{part}"] for part in ("coverage", "freshness", "agreement", "history")}
    parts = ", ".join(f"{part} {share:.2f}" for part, share in of.items())
    known = f"  {instant(one.as_of)}  confidence {one.confidence('S'):.2f} ({parts})"
    status, reason = one.row["status"], one.row["reason"]
    if one.s is None:
        since = f", last value {one.last_value[1]:.1f} at {instant(one.last_value[0])}" if one.last_value else ""
        lines = [f"{name:<{len(_INDENT)}}{scale(None)} S withheld", known, *_beside(one)]
        return lines + _wrapped(f"no value: {in_words(reason)}{since}", "  ")
    terms, shown = _sum(one)
    lines = [f"{name:<{len(_INDENT)}}{scale(one.s)} S {shown} {BAND_WORDS.get(one.row['band'] or '', '')}, {status}", known]
    lines += [line.replace("_", " ") for line in _wrapped(f"{shown} = 50 {terms}", "  ")]
    lines += _beside(one)
    if reason:
        lines += _wrapped(f"why {status}: {in_words(reason)}", "  ")
    for index, explained in (("S", "S - 50"), ("F", "F"), ("X", "X")):
        if not one.adds_up(index):
            differ = f"contributions differ from {explained} by {one.residual(index):.3g}; do not use this value"
            lines += _wrapped(f"DOES NOT ADD UP: {differ}", "  ")
    return lines


def _beside(one: Reading) -> list[str]:
    """What stands beside S: `F 62.3 elevated, longs crowded   X 45.9 moderate   no cascade probability: ...`, and the states below it."""
    row = one.row
    numbers = []
    for index in ("F", "X"):
        value = one.number(index)
        words = "withheld" if value is None else f"{value:.1f} {level(value)}"
        side = f", {SIDE_WORDS[row['crowded_side']]}" if index == "F" and row["crowded_side"] else ""
        numbers.append(f"{index} {words}{side}")
    if row["p_cascade_24h"] is None:
        numbers.append(f"no cascade probability: {row['cascade_reason']}")
    else:
        numbers.append(f"cascade within 24 h {row['p_cascade_24h']:.3f} (base rate {row['cascade_base_rate']:.3f})")
    states = [f"regime {spaced(row['regime'])} since {instant(row['regime_since'])}"] if row["regime"] else []
    states += [RISK_WORDS[row["risk_state"]] if row["risk_state"] != "mixed" else "risk mixed"] if row["risk_state"] else []
    return [*_wrapped("   ".join(numbers), "  "), *(_wrapped("; ".join(states), "  ") if states else [])]


def _sum(one: Reading) -> tuple[str, str]:
    """The families as signed terms (joined by `_`, so that no line breaks within one) and S, one decimal each, adding up as displayed.

    A family without any score (its inputs are missing or do not exist) contributes exactly nothing and is left out.
    """
    scored = {group_of(c.component, c.feature) for c in one.constituents["S"] if c.score is not None}
    families = {name: points for name, points in one.by_component("S").items() if name in scored or points}
    rounded = displayed(list(families.values()), 1)
    terms = " ".join(f"{'-' if points < 0 else '+'}_{name}_{abs(points):.1f}" for name, points in zip(families, rounded, strict=True))
    return terms, f"{50 + sum(rounded):.1f}" if one.adds_up("S") else f"{one.s:.1f}"


def _rest(found: list[Reading]) -> str:
    """How many series stand in each band; withheld ones apart."""
    counts = Counter(BAND_WORDS.get(one.row["band"] or "", "without a band") if one.s is not None else "withheld" for one in found)
    return ", ".join(f"{counts[word]} {word}" for word in (*BAND_WORDS.values(), "without a band", "withheld") if counts[word])


def _evidence(data: ReportData, series: int) -> list[str]:
    lines = []
    covered = span(data)
    if covered:
        reach = f"{instant(covered[0])} to {instant(covered[1])}"
        lines.append(f"covered    {reach}, {series:,} series, {data.readings.num_rows:,} rows of the index")
    lines += _wrapped(_rows(total_account(data.outcomes)), hanging=_INDENT)
    steps, checks = Counter(data.outcomes.column("outcome").to_pylist()), Counter(data.verdicts.column("outcome").to_pylist())
    windows = in_force(data.coverage)
    lines += _wrapped(f"steps      {_ended(steps)}; expectations: {_ended(checks)}", hanging=_INDENT)
    lacking = sum(not row["complete"] for row in windows)
    lines.append(f"windows    {len(windows):,} asked, {lacking:,} incomplete" + (": see Coverage in the report" if lacking else ""))
    if data.evidence_since is not None:
        lines.append(f"since      rows, steps and windows: those recorded from {data.evidence_since} on; the tables ops have all")
    return lines


def _rows(one: Account) -> str:
    words = f"rows       {one.decoded:,} in = {one.core:,} core + {one.quarantined:,} quarantined + {one.duplicate:,} duplicates"
    if one.difference:
        words += f": DOES NOT ADD UP, {one.difference:,} rows unaccounted for"
    return f"{words}; {one.published:,} published"


def _ended(outcomes: Counter[str]) -> str:
    return ", ".join(f"{outcomes[word]:,} {word}" for word in ("success", "partial", "failed") if outcomes[word]) or "none"


def _wrapped(line: str, indent: str = "", *, hanging: str | None = None) -> list[str]:
    return textwrap.wrap(line, WIDTH, initial_indent=indent, subsequent_indent=indent if hanging is None else hanging) or [""]
