"""Every table of the lake: which columns, what one row is, what makes it unique, and what its readers must know.

`core` tables hold what sources said, typed. `index` tables are published. `ops` tables are the evidence. All are Iceberg tables
partitioned by `date`; rows within a partition are sorted by the key.
"""

from __future__ import annotations

from typing import Final

from transforms.table import Layer, Rule, Table
from transforms.tables_core import CORE
from transforms.tables_index import INDEX
from transforms.tables_ops import OPS

__all__ = ["TABLES", "Layer", "Rule", "Table", "tables"]

TABLES: Final[dict[str, Table]] = {table.name: table for table in (*CORE, *INDEX, *OPS)}


def tables(layer: Layer) -> list[Table]:
    """Tables of one layer, in order of declaration."""
    return [table for table in TABLES.values() if table.layer == layer]
