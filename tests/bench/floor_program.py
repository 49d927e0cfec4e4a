"""The floor: the least that turns stored answers into the same rows on disk, in one process, with nothing kept beside them.

Decode (the sources' own decoders), one vectorised pass of checks, `derive`, one zstd Parquet file per table and day on the local disk.
No raw bundles, no revisions, no gate with reasons, no table format, no content hashes, no mirror, no report, no network.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from plugins.fetcher import Fetched
from transforms.index.build import OUTPUT, Stamp, derive
from transforms.revisions import complete
from transforms.roster import source
from transforms.spec import SPEC
from transforms.tables import TABLES
from transforms.windows import CADENCES, Window

Cpu = dict[str, float]


def decode(answers: Sequence[Fetched]) -> dict[str, pa.Table]:
    """All rows by core table, with the partition day."""
    parts: dict[str, list[pa.Table]] = {}
    for one in answers:
        if one.disposition.verb != "accept":
            continue
        for name, rows in source(one.ask.series.source).decode(one.ask, one.answer).tables.items():
            if rows.num_rows:
                parts.setdefault(name, []).append(rows)
    found = {}
    for name, tables in parts.items():
        rows = pa.concat_tables(tables)
        nobody, never = pa.array([""] * rows.num_rows), pa.array(np.zeros(rows.num_rows, dtype=np.int64)).cast(pa.timestamp("us", tz="UTC"))
        if TABLES[name].snapshot:  # asked once for every part of the range: the same answer, the same rows
            rows = rows.group_by(rows.column_names, use_threads=False).aggregate([])
            nobody, never = nobody.slice(0, rows.num_rows), never.slice(0, rows.num_rows)
        found[name] = complete(TABLES[name], rows, nobody, never)
    return found


def validate(name: str, rows: pa.Table) -> None:
    """Presence, finiteness, limits and allowed words of every column, and the key, in one vectorised pass; a breach raises."""
    table = TABLES[name]
    for column, declared in table.fields.items():
        values = rows.column(column)
        if not declared.nullable and values.null_count:
            raise ValueError(f"{name}.{column}: {values.null_count} nulls")
        if declared.kind == "float":
            numbers = values.drop_null().to_numpy()
            low, high = (
                (-np.inf if declared.minimum is None else declared.minimum),
                (np.inf if declared.maximum is None else declared.maximum),
            )
            if not (np.isfinite(numbers).all() and (numbers >= low).all() and (numbers <= high).all()):
                raise ValueError(f"{name}.{column}: outside its limits")
        elif declared.allowed and not set(pc.unique(values).to_pylist()) <= {*declared.allowed, None}:
            raise ValueError(f"{name}.{column}: a word that is not allowed")
    keys = [*table.key, *(["revision"] if "revision" in table.columns else [])]
    if rows.group_by(keys).aggregate([]).num_rows != rows.num_rows:
        raise ValueError(f"{name}: a key occurs twice")


def write(folder: Path, tables: Mapping[str, pa.Table]) -> None:
    """One file per table and day, zstd 3."""
    for name, rows in tables.items():
        ordered = rows.sort_by([("date", "ascending"), *((key, "ascending") for key in TABLES[name].key)])
        days = ordered.column("date").to_numpy()
        edges = [0, *(np.flatnonzero(days[1:] != days[:-1]) + 1).tolist(), len(days)]
        for start, end in pairwise(edges):
            path = folder / name / f"date={days[start]}" / "part-0.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(ordered.slice(start, end - start), path, compression="zstd", compression_level=3)


def floor(answers: Sequence[Fetched], window: Window, stamp: Stamp, folder: Path) -> tuple[dict[str, pa.Table], Cpu]:
    """All tables, core and index, and CPU seconds by stage."""
    marks = [time.process_time()]
    core = decode(answers)
    marks.append(time.process_time())
    for name, rows in core.items():
        validate(name, rows)
    marks.append(time.process_time())
    made = [derive(core, window, cadence, SPEC, stamp=stamp) for cadence in CADENCES]
    index = {name: pa.concat_tables([one[name] for one in made]) for name in OUTPUT}
    marks.append(time.process_time())
    for name, rows in index.items():
        validate(name, rows)
    marks.append(time.process_time())
    write(folder, core | index)
    marks.append(time.process_time())
    spent = np.diff(marks)
    return core | index, {"decode": spent[0], "validate": spent[1] + spent[3], "transform": spent[2], "load": spent[4]}
