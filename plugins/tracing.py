"""`make trace`: connects plugins/provenance.py with the lake and the features' own declarations of what they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from plugins import ledger, provenance
from plugins.errors import NotFound
from plugins.lake import Lake
from plugins.recorder import open_bundle
from transforms.features import FEATURES
from transforms.spec import SPEC
from transforms.tables import TABLES


def inputs(cadence: str) -> provenance.Inputs:
    """Tables and look-back of every feature of a cadence."""
    rule = SPEC.cadence(cadence)
    return {
        use.feature: [(table, FEATURES[use.feature].lookback(SPEC, rule)) for table in sorted(FEATURES[use.feature].reads)]
        for use in rule.uses
    }


def newest(lake: Lake, asset: str, cadence: str) -> datetime:
    """The latest as_of that has an index value (not a withheld one)."""
    days = sorted(day for table, subject, day in ledger.partitions(lake) if table == "sentiment" and subject == cadence)
    for day in reversed(days[-60:]):
        rows = lake.read("sentiment", days=(day, day), columns=("as_of", "s"), where={"asset": asset, "cadence": cadence}).to_pylist()
        stamps = [row["as_of"] for row in rows if row["s"] is not None]
        if stamps:
            return max(stamps)
    raise NotFound(f"There is no value of S for {asset} {cadence} in the lake: run `make run` first, or choose another ASSET or CADENCE.")


def trace_text(lake: Lake, asset: str, cadence: str, as_of: datetime | None, feature: str) -> str:
    """The way of one value back to its bytes, for a person; the largest contribution where no feature is named."""
    rule = SPEC.cadence(cadence)

    def read(name: str, *, where: Mapping[str, str | Sequence[str]] | None = None, **chosen: Any) -> pa.Table:
        """Core rows of the sources this cadence uses; other tables as they are."""
        own = {"source": (rule.source, rule.supply_source)} if TABLES[name].layer == "core" else {}
        return lake.read(name, where={**(where or {}), **own}, **chosen)

    found = provenance.trace(
        asset,
        cadence,
        as_of or newest(lake, asset, cadence),
        feature,
        read=read,
        open_bundle=lambda key: open_bundle(lake, key),
        inputs=inputs(cadence),
    )
    return provenance.render(found)
