"""Whom the numbers rest on, as the report says it: what each source is for, who refuses us, who contradicts whom, what detectors found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from transforms.roster import SOURCES
from transforms.spec import SPEC

BLOCKED: Final = "HTTP_BLOCKED"
QUANTITY_WORDS: Final[Mapping[str, str]] = {
    "open_interest": "open interest, coins",
    "funding": "funding in force",
    "price": "close",
    "venue_price": "close against the median of the venues",
}
SHADOW: Final = "in shadow: asked, stored and judged, in no number"
BESIDE: Final = "stands beside for comparison, in no number"


@dataclass(frozen=True, slots=True)
class Voice:
    """One source: what it is for, and whether it answers."""

    source: str
    role: str
    asked: datetime | None  #: when it was asked last
    reached: datetime | None  #: end of the newest window from which something came
    endpoints: int
    refused: tuple[str, ...]  #: endpoints that refused this location when they were last asked


@dataclass(frozen=True, slots=True)
class Pair:
    """Two voices about one quantity, over all assets and instruments of a cadence."""

    cadence: str
    quantity: str
    source: str
    other: str
    compared: int
    breaches: int
    worst: float | None  #: largest difference, in tolerances
    newest: datetime
    breached: datetime | None  #: newest breach


def role(source: str) -> str:
    """What a source is for, out of the specification."""
    parts = []
    for cadence, word in (("1h", "hourly"), ("1d", "daily")):
        rule = SPEC.cadence(cadence)
        if source in rule.sources:
            parts.append(f"in the {word} numbers")
        elif source == rule.supply_source:
            parts.append(f"stablecoins of the {word} numbers")
        elif source == rule.option_source:
            parts.append(f"options of the {word} numbers")
        elif source in rule.checks:
            parts.append(f"checks the {word} numbers")
    return "; ".join(parts) or (BESIDE if source == "alternative_me" else SHADOW)


def voices(coverage: pa.Table, quarantine: pa.Table) -> list[Voice]:
    """Every source of the roster, those that were never asked too.

    An endpoint refuses where the run that asked it last put an answer aside as HTTP_BLOCKED.
    """
    blocked = quarantine.filter(pc.equal(quarantine.column("reason_code"), BLOCKED)).select(["source", "endpoint", "run_id"]).to_pylist()
    refusals = {(row["source"], row["endpoint"], row["run_id"]) for row in blocked}
    last: dict[tuple[str, str], tuple[datetime, set[str]]] = {}
    reached: dict[str, datetime] = {}
    for row in coverage.select(["source", "endpoint", "run_id", "recorded_at", "window_end", "received"]).to_pylist():
        key = (row["source"], row["endpoint"])
        at, runs = last.get(key, (row["recorded_at"], set()))
        if row["recorded_at"] >= at:
            last[key] = (row["recorded_at"], (runs if row["recorded_at"] == at else set()) | {row["run_id"]})
        if row["received"] > 0:
            reached[row["source"]] = max(row["window_end"], reached.get(row["source"], row["window_end"]))
    found = []
    for source in SOURCES:
        mine = {endpoint: said for (name, endpoint), said in last.items() if name == source}
        found.append(
            Voice(
                source,
                role(source),
                max((at for at, _ in mine.values()), default=None),
                reached.get(source),
                len(mine),
                tuple(sorted(name for name, (_, runs) in mine.items() if any((source, name, run) in refusals for run in runs))),
            )
        )
    return found


def pairs(agreement: pa.Table) -> list[Pair]:
    """Comparisons summed up, those with breaches first."""
    grouped: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    names = ["cadence", "quantity", "source", "other_source", "as_of", "difference", "tolerance", "agrees"]
    for row in agreement.select(names).to_pylist():
        grouped.setdefault((row["cadence"], row["quantity"], row["source"], row["other_source"]), []).append(row)
    found = [
        Pair(
            *key,
            compared=len(rows),
            breaches=sum(not row["agrees"] for row in rows),
            worst=max((row["difference"] / row["tolerance"] for row in rows if row["difference"] is not None), default=None),
            newest=max(row["as_of"] for row in rows),
            breached=max((row["as_of"] for row in rows if not row["agrees"]), default=None),
        )
        for key, rows in grouped.items()
    ]
    return sorted(found, key=lambda one: (-one.breaches, one.cadence, one.quantity, one.source, one.other))


def breaches(agreement: pa.Table, most: int) -> list[dict[str, Any]]:
    """The newest comparisons beyond their tolerance."""
    apart = agreement.filter(pc.invert(agreement.column("agrees")))
    found: list[dict[str, Any]] = apart.sort_by([("as_of", "descending"), ("asset", "ascending"), ("venue", "ascending")])[
        :most
    ].to_pylist()
    return found


def in_force(findings: pa.Table) -> list[dict[str, Any]]:
    """Findings of detectors, of each the newest record, newest first."""
    newest: dict[tuple[object, ...], dict[str, Any]] = {}
    for row in findings.to_pylist():
        key = tuple(row[name] for name in ("detector", "table_name", "source", "venue", "instrument", "series", "window_start"))
        if key not in newest or row["recorded_at"] > newest[key]["recorded_at"]:
            newest[key] = row
    order = ("detector", "source", "instrument", "table_name")
    return sorted(sorted(newest.values(), key=lambda row: [row[name] for name in order]), key=lambda row: row["window_end"], reverse=True)
