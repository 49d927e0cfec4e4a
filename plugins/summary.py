"""The reading in the terminal at the end of a run: S per asset with its reasons, and where the rows went. ASCII, 100 columns at most."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import Final

from plugins.readings import (
    BAND_EDGES,
    BAND_WORDS,
    DISCLAIMER,
    Account,
    Reading,
    ReportData,
    in_words,
    market_label,
    readings,
    span,
    total_account,
)
from plugins.strips import in_force
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
    parts = f"coverage {one.coverage:.2f}, freshness {one.freshness:.2f}, agreement {one.agreement:.2f}, history {one.history:.2f}"
    known = f"  {one.as_of:%Y-%m-%d %H:%MZ}  confidence {one.confidence:.2f} ({parts})"
    if one.s is None:
        since = f", last value {one.last_value[1]:.1f} at {one.last_value[0]:%Y-%m-%d %H:%MZ}" if one.last_value else ""
        lines = [f"{name:<{len(_INDENT)}}{scale(None)} withheld", known]
        return lines + _wrapped(f"no value: {in_words(one.reason)}{since}", "  ")
    terms, shown = _sum(one)
    lines = [f"{name:<{len(_INDENT)}}{scale(one.s)} S {shown} {BAND_WORDS.get(one.band or '', '')}, {one.status}", known]
    lines += [line.replace("_", " ") for line in _wrapped(f"{shown} = 50 {terms}", "  ")]
    if one.reason:
        lines += _wrapped(f"why {one.status}: {in_words(one.reason)}", "  ")
    if not one.adds_up:
        lines += _wrapped(f"DOES NOT ADD UP: contributions differ from S - 50 by {one.residual:.3g}; do not use this value", "  ")
    return lines


def _sum(one: Reading) -> tuple[str, str]:
    """The families as signed terms (joined by `_`, so that no line breaks within one) and S, one decimal each, adding up as displayed.

    A family without any score (its inputs are missing or do not exist) contributes exactly nothing and is left out.
    """
    scored = {c.family for c in one.constituents if c.score is not None}
    families = {name: points for name, points in one.by_family().items() if name in scored or points}
    rounded = displayed(list(families.values()), 1)
    terms = " ".join(f"{'-' if points < 0 else '+'}_{name}_{abs(points):.1f}" for name, points in zip(families, rounded, strict=True))
    return terms, f"{50 + sum(rounded):.1f}" if one.adds_up else f"{one.s:.1f}"


def _rest(found: list[Reading]) -> str:
    """How many series stand in each band; withheld ones apart."""
    counts = Counter(BAND_WORDS.get(one.band or "", "without a band") if one.s is not None else "withheld" for one in found)
    return ", ".join(f"{counts[word]} {word}" for word in (*BAND_WORDS.values(), "without a band", "withheld") if counts[word])


def _evidence(data: ReportData, series: int) -> list[str]:
    lines = []
    covered = span(data)
    if covered:
        reach = f"{covered[0]:%Y-%m-%d %H:%MZ} to {covered[1]:%Y-%m-%d %H:%MZ}"
        lines.append(f"covered    {reach}, {series:,} series, {data.sentiment.num_rows:,} rows of the index")
    lines += _wrapped(_rows(total_account(data)), hanging=_INDENT)
    steps, checks = Counter(data.outcomes.column("outcome").to_pylist()), Counter(data.verdicts.column("outcome").to_pylist())
    windows = in_force(data.coverage)
    lines += _wrapped(f"steps      {_ended(steps)}; expectations: {_ended(checks)}", hanging=_INDENT)
    lines.append(f"windows    {len(windows):,} asked, {sum(not row['complete'] for row in windows):,} incomplete")
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
