"""`make trace`: connects plugins/provenance.py with the lake and the features' own declarations of what they read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from plugins import ledger, provenance
from plugins.errors import NotFound
from plugins.lake import Lake
from plugins.provenance import Origin
from plugins.recorder import open_bundle
from plugins.tracetext import render
from transforms.features import FEATURES
from transforms.index.measure import CARRY, NEAR
from transforms.spec import SPEC
from transforms.tables import TABLES


def inputs(cadence: str) -> provenance.Inputs:
    """What every feature, and every input that is no feature, of a cadence rests on."""
    rule = SPEC.cadence(cadence)
    found = {
        use.feature: Origin(tuple((table, FEATURES[use.feature].lookback(SPEC, rule)) for table in sorted(FEATURES[use.feature].reads)))
        for use in rule.uses
    }
    carry = tuple(one.feature for one in SPEC.active(cadence) if one.family == "carry")
    found[CARRY] = Origin(
        _together(found[name] for name in carry),
        "the size of the carry family's score in S: its inputs' scores, signed and weighted within the family",
        features=carry,
    )
    found[NEAR] = Origin(
        (("candles", None), ("open_interest", None)),
        "what the cohort book holds near the price, a model's state: continued bar by bar from the checkpoint of the month's start, out of "
        "prices (core.candles) and the quantity of open interest (core.open_interest). What lies before the month is in the checkpoint",
    )
    for component in SPEC.components("F", cadence):
        if component.factors:
            parts = [part.feature for part in SPEC.parts("F", cadence) if part.component in component.factors]
            found[component.name] = Origin(
                _together(found[name] for name in parts),
                f"no input of its own: the product of {' and '.join(component.factors)}, which are made of {', '.join(parts)}",
                factors=component.factors,
            )
    return found


def _together(origins: Iterable[Origin]) -> tuple[tuple[str, timedelta | None], ...]:
    """Tables of all of them, each as far back as the longest reads it."""
    spans: dict[str, timedelta | None] = {}
    for origin in origins:
        for table, span in origin.tables:
            known = spans.get(table, timedelta(0))
            spans[table] = None if span is None or known is None else max(span, known)
    return tuple(sorted(spans.items()))


def newest(lake: Lake, asset: str, cadence: str, index: str) -> datetime:
    """The latest as_of at which the number has a value (not a withheld one)."""
    column = index.lower()
    days = sorted(day for table, subject, day in ledger.partitions(lake) if table == "readings" and subject == cadence)
    for day in reversed(days[-60:]):
        rows = lake.read("readings", days=(day, day), columns=("as_of", column), where={"asset": asset, "cadence": cadence}).to_pylist()
        stamps = [row["as_of"] for row in rows if row[column] is not None]
        if stamps:
            return max(stamps)
    raise NotFound(
        f"There is no value of {index} for {asset} {cadence} in the lake: run `make run` first, or choose another ASSET, CADENCE or INDEX."
    )


def trace_text(lake: Lake, asset: str, cadence: str, as_of: datetime | None, feature: str, index: str = "S") -> str:
    """The way of one value back to its bytes, for a person; the largest contribution where no feature is named."""
    rule = SPEC.cadence(cadence)

    def read(name: str, *, where: Mapping[str, str | Sequence[str]] | None = None, **chosen: Any) -> pa.Table:
        """Core rows of the sources this cadence uses; other tables as they are."""
        own = {"source": rule.voices} if TABLES[name].layer == "core" else {}
        return lake.read(name, where={**(where or {}), **own}, **chosen)

    found = provenance.trace(
        asset,
        cadence,
        as_of or newest(lake, asset, cadence, index),
        feature,
        index,
        read=read,
        open_bundle=lambda key: open_bundle(lake, key),
        inputs=inputs(cadence),
    )
    return render(found)
