"""Large tables: one pass of statistics per series, then Great Expectations on that small frame.

Row-level validation of millions of rows costs seconds and gigabytes (ENGINES.md, Validation). Here every check is counted per series
first; a series without a broken row is done, and only the rows of the others go through the row-level suite, which names them.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from expectations.particular import Check, Mask, holds
from transforms.tables import Table
from transforms.vocabulary import VOCABULARY

Numbers = npt.NDArray[np.int64]

#: Rows above which statistics come first.
LARGE: Final = 1_000_000
ROWS: Final = "rows"


def frame(rows: pa.Table, columns: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Rows as Great Expectations sees them: numpy columns, text as categories, instants as UTC without a zone, days as midnights.

    Trap: numpy has one word for "no value" and "not a number". A null becomes NaN (or NaT), and a NaN becomes +inf, which no
    finite-number check lets pass. Evidence is always taken from the Arrow rows, where the two differ.
    """
    chosen = rows if columns is None else rows.select(list(columns))
    return pd.DataFrame({name: _numpy(chosen.column(name)) for name in chosen.column_names}, copy=False)


def _numpy(column: pa.ChunkedArray) -> Any:
    kind = column.type
    if pa.types.is_string(kind):
        return pc.dictionary_encode(column).combine_chunks().to_pandas()
    if pa.types.is_date(kind):
        column = pc.cast(column, pa.timestamp("us"))  # pandas has no dtype for days
    values = column.to_numpy(zero_copy_only=False)
    if pa.types.is_floating(kind):
        nans = pc.fill_null(pc.is_nan(column), False)
        if pc.any(nans).as_py():
            values = np.where(nans.to_numpy(zero_copy_only=False), np.inf, values)
    return values


def broken(check: Check, values: pd.DataFrame) -> Mask:
    """Rows that break a check, computed without an engine: the statistics' side of what the row-level suite asserts.

    `values`: the columns of the check, in its order.
    """
    column = values.iloc[:, 0]
    match check.kind:
        case "given":
            return np.asarray(column.isna())
        case "finite":
            return np.asarray(np.isinf(column.to_numpy(dtype=np.float64)))
        case "within":
            low = -np.inf if check.minimum is None else check.minimum
            high = np.inf if check.maximum is None else check.maximum
            return np.asarray((column < low) | (column > high))
        case "one_of":
            return np.asarray(column.notna() & ~column.isin(check.allowed))
        case "not_empty":
            return np.asarray(column.isin([""]))
        case "unique":
            return np.asarray(values.duplicated(keep=False))
        case law:
            asked = np.asarray(values.notna().all(axis=1)) if check.skip == "any_value_is_missing" else np.ones(len(values), dtype=np.bool_)
            return np.asarray(asked & ~holds(law, check.limit, values))


def series_columns(table: Table) -> tuple[str, ...]:
    """What tells one series from another: the textual part of the key."""
    return tuple(name for name in table.key if VOCABULARY[name].kind == "string")


def numbered(table: Table, rows: pa.Table) -> tuple[Numbers, pd.DataFrame]:
    """The series number of every row, and the names of the series in order of their numbers. A null names a series of its own."""
    groups = frame(rows, series_columns(table)).groupby(list(series_columns(table)), sort=False, dropna=False, observed=True)
    numbers = np.asarray(groups.ngroup(), dtype=np.int64)
    return numbers, groups.size().rename(ROWS).reset_index()


def counted(chosen: tuple[Check, ...], rows: pa.Table, numbers: Numbers, names: pd.DataFrame) -> pd.DataFrame:
    """One row per series: its name, its rows, and under each check's code how many of them break it."""
    counts = {check.code: np.bincount(numbers[broken(check, frame(rows, check.columns))], minlength=len(names)) for check in chosen}
    return pd.concat([names, pd.DataFrame(counts)], axis=1)


def none_broken(check: Check) -> Check:
    """The same check, said of the statistics: no series has a row that breaks it."""
    return Check(check.code, "within", (check.code,), check.severity, check.reason_code, check.meaning, minimum=0.0, maximum=0.0)
