"""The gate's judgement: which rows of a run may be published, which are put aside and why, and which partitions must wait.

critical: a core row is put aside; an index partition is blocked whole, because an index with holes reads like an index.
warning: published, with the check's code in `flags` where the table has that column. info: noted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any, Final, NamedTuple

import great_expectations as gx
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from great_expectations.core.batch_definition import BatchDefinition
from great_expectations.core.expectation_validation_result import ExpectationValidationResult
from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults, ProgressBarsConfig

from expectations import series
from expectations.particular import ADDITIVE, Check, Severity, additivity
from expectations.series import Numbers
from expectations.suites import checks, digest, suite
from transforms.rulings import plain
from transforms.schema import arrow_schema
from transforms.tables import TABLES, Table
from transforms.windows import partition_days

#: Stands for "no date" among days: NaT equals nothing, not even itself.
_NO_DAY: Final = np.datetime64("0001-01-01", "D")
#: A day of a core table is held back when more than BLOCK_SHARE of its rows, and more than BLOCK_ROWS of them, fail: then it is
#: not the rows that are wrong but the answer, and what is left would be a silent selection.
BLOCK_SHARE: Final = 0.2
BLOCK_ROWS: Final = 10


class Rejected(NamedTuple):
    """One row put aside: its place among the rows given, a code of REASONS, what was found, and the row itself."""

    row: int
    reason_code: str
    detail: str
    row_json: str


@dataclass(frozen=True, slots=True)
class Checked:
    """One expectation's result: a row of `ops.verdicts`. `failed` counts rows; -1 where the fault cannot be laid on rows."""

    code: str
    severity: Severity
    success: bool
    failed: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one table's rows: `passed` + `rejected` are all that were given.

    `passed` may be published as it stands. `blocked` names the days that were held back whole and why ("" when none was); their
    rows are all among the rejected, those without a fault of their own under the code BLOCKED.
    """

    table: str
    passed: pa.Table
    rejected: list[Rejected] = field(default_factory=list)
    checks: list[Checked] = field(default_factory=list)
    blocked: str = ""
    blocked_days: tuple[date, ...] = ()


@dataclass(frozen=True, slots=True)
class _Fault:
    """A check that did not hold. `rows` is None where it cannot be laid on rows; `days` then says how far it reaches (None: all)."""

    check: Check
    rows: Numbers | None
    detail: str
    days: frozenset[np.datetime64] | None = None


@cache
def _source() -> Any:
    """One Great Expectations context and data source per process: in memory, silent, without telemetry or network."""
    stores = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    quiet = ProgressBarsConfig(globally=False, metric_calculations=False)
    config = DataContextConfig(store_backend_defaults=stores, analytics_enabled=False, progress_bars=quiet)
    return gx.get_context(mode="ephemeral", project_config=config).data_sources.add_pandas("gate")


@cache
def _batches(name: str) -> BatchDefinition[Any]:
    """The batch definition of one frame by name, made once."""
    made: BatchDefinition[Any] = _source().add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole")
    return made


#: How to ask for the rows that break an expectation, and for nothing else.
_NAMED: Final = {
    "result_format": "COMPLETE",
    "exclude_unexpected_values": True,
    "partial_unexpected_count": 0,
    "return_unexpected_index_query": False,
}


def _validated(name: str, chosen: tuple[Check, ...], values: pd.DataFrame) -> list[tuple[Check, Numbers | None, str]]:
    """Checks that do not hold, with the rows that break them (or None and what happened). Row numbers count within `values`.

    First whether all holds (BOOLEAN_ONLY, the digest), then the rows of what does not: naming rows costs several times as much.
    """
    batch = _batches(name).get_batch({"dataframe": values})
    first = batch.validate(digest(name, chosen), result_format="BOOLEAN_ONLY")
    if first.success:
        return []
    doubted = [_codes(result) for result in first.results if not result.success]
    again = tuple(check for check in chosen if any(check.code in codes for codes in doubted))
    results = batch.validate(suite(name, again), result_format=_NAMED).results
    failing = {code: result for result in results if not result.success for code in _codes(result)}
    # what fails in the digest and holds one by one has not been shown to hold
    unclear = {code for codes in doubted if not failing.keys() & set(codes) for code in codes}
    found = [(check, *_rows_of(failing[check.code])) for check in again if check.code in failing]
    return found + [(check, None, "failed together with others, held alone") for check in again if check.code in unclear]


def _codes(result: ExpectationValidationResult) -> list[str]:
    if result.expectation_config is None:
        raise ValueError("Great Expectations answered without saying which expectation it answers")
    return [str(code) for code in result.expectation_config.meta["codes"]]


def _rows_of(result: ExpectationValidationResult) -> tuple[Numbers | None, str]:
    found = result.result.get("unexpected_index_list")
    if found:
        return np.unique(np.asarray(found, dtype=np.int64)), ""
    return None, f"the check itself could not be made: {_message(result.exception_info)}"


def _message(info: Mapping[str, Any]) -> str:
    """The first message in what Great Expectations keeps of an exception, which is nested when a metric raised it."""
    for value in info.values():
        if isinstance(value, Mapping):
            return _message(value)
    return str(info.get("exception_message") or "no reason given")


def _faults(table: Table, rows: pa.Table) -> list[_Fault]:
    chosen = checks(table)
    if rows.num_rows <= series.LARGE:
        found = _validated(table.name, chosen, series.frame(rows))
        return [_Fault(check, numbers, detail) for check, numbers, detail in found]
    numbers, names = series.numbered(table, rows)
    statistics = series.counted(chosen, rows, numbers, names)
    said = tuple(series.none_broken(check) for check in chosen)
    suspects = _validated(f"{table.name} by series", said, statistics)
    if not suspects:
        return []
    if any(found is None for _, found, _ in suspects):
        return [_Fault(check, None, detail) for check, found, detail in suspects if found is None]
    bad = np.unique(np.concatenate([found for _, found, _ in suspects if found is not None]))
    mine = np.flatnonzero(np.isin(numbers, bad))
    found = _validated(table.name, chosen, series.frame(rows.take(pa.array(mine))))
    return [_Fault(check, None if inner is None else mine[inner], detail) for check, inner, detail in found]


def _additive(tables: Mapping[str, pa.Table]) -> list[_Fault]:
    """Whether contributions explain s, f and x. The frame is small (three rows per asset and instant), the fault reaches whole days."""
    columns = {"contributions": ("index_name", "contribution"), "readings": ("s", "f", "x")}
    sums = additivity(*(series.frame(tables[name], ("asset", "cadence", "as_of", "date", *own)) for name, own in columns.items()))
    if sums.empty:
        return []
    faults = []
    for check, rows, detail in _validated(ADDITIVE.code, (ADDITIVE,), sums[["gap"]]):
        if rows is None:
            faults.append(_Fault(check, None, detail))
            continue
        worst = sums.iloc[rows]
        example = worst.iloc[0]
        said = (
            f"{len(worst)} of {len(sums)} numbers; first: {example['index_name']} of {example['asset']} {example['cadence']} "
            f"{example['as_of']}: contributions add up to {example['total']}, they should to {example['explained']}"
        )
        faults.append(_Fault(check, None, said, frozenset(worst["date"].to_numpy().astype("datetime64[D]"))))
    return faults


def judge(tables: Mapping[str, pa.Table]) -> dict[str, Verdict]:
    """Verdicts of all tables of a run. Rows: every column of the table, in any order, of the declared types.

    Unknown tables raise KeyError and tables of the ops layer ValueError. Rows of another shape are rejected whole, code SHAPE.
    """
    good, verdicts = {}, {}
    for name, rows in tables.items():
        chosen = checks(TABLES[name])
        wrong = _misshapen(TABLES[name], rows)
        if wrong:
            verdicts[name] = _rejected_whole(name, rows, wrong)
        else:
            good[name] = rows.combine_chunks()
            verdicts[name] = Verdict(name, rows, checks=[Checked(check.code, check.severity, success=True) for check in chosen])
    shared: list[_Fault] = []
    beside = "not checked: contributions and readings must pass the gate together"
    paired = {"contributions", "readings"} <= set(good)
    if paired:
        shared = _additive(good)
    for name, rows in good.items():
        extra: list[Checked] = []
        mine = _faults(TABLES[name], rows) if rows.num_rows else []
        if name in ("contributions", "readings"):
            mine += shared
            extra = [Checked(ADDITIVE.code, ADDITIVE.severity if paired else "warning", success=paired, detail="" if paired else beside)]
        verdicts[name] = _verdict(TABLES[name], rows, mine, [*verdicts[name].checks, *extra])
    return {name: verdicts[name] for name in tables}


def _misshapen(table: Table, rows: pa.Table) -> str:
    """What differs from the declared columns and types; empty when nothing does."""
    declared = {name: arrow_schema(table).field(name).type for name in table.columns}
    given = dict(zip(rows.schema.names, rows.schema.types, strict=True))
    said = [f"{name} is missing" for name in declared if name not in given]
    said += [f"{name} is not declared" for name in given if name not in declared]
    said += [f"{name} is {given[name]}, declared {kind}" for name, kind in declared.items() if name in given and given[name] != kind]
    return "; ".join(said)


def _rejected_whole(name: str, rows: pa.Table, wrong: str) -> Verdict:
    everything = np.arange(rows.num_rows)
    rejected = [Rejected(int(number), "SHAPE", wrong, text) for number, text in zip(everything, _as_json(rows, everything), strict=True)]
    return Verdict(
        name, rows.slice(0, 0), rejected, [Checked("SHAPE", "critical", success=False, failed=-1, detail=wrong)], f"{name}: {wrong}"
    )


def _verdict(table: Table, rows: pa.Table, faults: list[_Fault], held: list[Checked]) -> Verdict:
    """Puts faults into effect on the rows of one table."""
    days = _days(rows.column("date"))
    blamed: dict[int, list[Check]] = {}
    flagged: dict[int, list[str]] = {}
    for fault in faults:
        for number in [] if fault.rows is None else fault.rows.tolist():
            if fault.check.severity == "critical":
                blamed.setdefault(number, []).append(fault.check)
            elif fault.check.severity == "warning":
                flagged.setdefault(number, []).append(fault.check.code)
    held_back = _held_back(table, rows, days, faults, blamed)
    aside = np.isin(days, list(held_back)) if held_back else np.zeros(rows.num_rows, dtype=np.bool_)
    aside[list(blamed)] = True
    numbers = np.flatnonzero(aside)
    blocked = "; ".join(f"{table.name} {_named(day)}: {why}" for day, why in sorted(held_back.items()))
    rejected = []
    for number, text in zip(numbers.tolist(), _as_json(rows, numbers), strict=True):
        mine = blamed.get(number, [])
        code = mine[0].reason_code if mine else "BLOCKED"
        detail = _blame(mine, rows, number) if mine else held_back[days[number]]
        rejected.append(Rejected(number, code, detail, text))
    failed = {fault.check.code: fault for fault in faults}
    records = [_checked(entry, failed[entry.code], rows) if entry.code in failed else entry for entry in held]
    passed = _flag(rows, flagged)
    passed = passed.filter(pa.array(~aside)) if len(numbers) else passed
    whole = tuple(day.astype(object) for day in sorted(held_back) if day != _NO_DAY)
    return Verdict(table.name, passed, rejected, records, blocked, whole)


def _held_back(
    table: Table, rows: pa.Table, days: npt.NDArray[np.datetime64], faults: list[_Fault], blamed: Mapping[int, list[Check]]
) -> dict[np.datetime64, str]:
    """Days to be blocked, each with its reason."""
    every = np.unique(days)
    found: dict[np.datetime64, list[str]] = {}
    for fault in faults:
        if fault.rows is None and fault.check.severity == "critical":
            for day in every if fault.days is None else sorted(fault.days & set(every)):
                found.setdefault(day, []).append(f"{fault.check.code}: {fault.detail}")
    wrong = np.asarray(sorted(blamed), dtype=np.int64)
    if table.layer == "index" and len(wrong):
        # a row in the wrong partition is also missing from the right one; without an as_of that may be any
        right = _days(partition_days(rows.column("as_of")))
        anywhere = bool((right[wrong] == _NO_DAY).any())
        for day in every if anywhere else np.unique(np.concatenate([days[wrong], right[wrong]])):
            codes = sorted({blamed[n][0].code for n in wrong.tolist() if anywhere or day in (days[n], right[n])})
            found.setdefault(day, []).append(f"{', '.join(codes)} failed, and an index partition is published whole or not at all")
    elif len(wrong):
        for day in np.unique(days[wrong]):
            bad, total = int((days[wrong] == day).sum()), int((days == day).sum())
            if bad > BLOCK_ROWS and bad > BLOCK_SHARE * total:
                found.setdefault(day, []).append(
                    f"{bad} of {total} rows failed, more than {BLOCK_SHARE:g} of them: the answer is not to be trusted"
                )
    return {day: "; ".join(said) for day, said in found.items()}


def _days(dates: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.datetime64]:
    days = dates.to_numpy(zero_copy_only=False).astype("datetime64[D]")
    return np.where(np.isnat(days), _NO_DAY, days)


def _named(day: np.datetime64) -> str:
    return "without a date" if day == _NO_DAY else str(day)


def _blame(mine: list[Check], rows: pa.Table, number: int) -> str:
    """`CLOSE_ABOVE_HIGH: close <= high; found close_usd=5.0, high_usd=4.0`, then the codes of other checks the row fails."""
    also = f"; also {' '.join(check.code for check in mine[1:])}" if len(mine) > 1 else ""
    return f"{mine[0].code}: {mine[0].meaning}; found {_values(mine[0], rows, number)}{also}"


def _values(check: Check, rows: pa.Table, number: int) -> str:
    return ", ".join(f"{name}={_said(rows.column(name)[number].as_py())}" for name in check.columns)


def _said(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else repr(value)


def _checked(entry: Checked, fault: _Fault, rows: pa.Table) -> Checked:
    if fault.rows is None:
        return Checked(entry.code, entry.severity, success=False, failed=-1, detail=fault.detail)
    shown = "; ".join(f"row {number}: {_values(fault.check, rows, number)}" for number in fault.rows[:3].tolist())
    return Checked(entry.code, entry.severity, success=False, failed=len(fault.rows), detail=f"{fault.check.meaning}; {shown}")


def _flag(rows: pa.Table, flagged: Mapping[int, Iterable[str]]) -> pa.Table:
    """Warning codes behind the codes a row already carries, each once."""
    if not flagged or "flags" not in rows.column_names:
        return rows
    place = rows.column_names.index("flags")
    words = rows.column(place).to_pylist()
    for number, codes in flagged.items():
        words[number] = " ".join(dict.fromkeys([*(words[number] or "").split(), *codes]))
    return rows.set_column(place, rows.schema.field(place), pa.array(words, type=pa.string()))


def _as_json(rows: pa.Table, numbers: npt.NDArray[np.intp]) -> list[str]:
    return [
        json.dumps({key: plain(value) for key, value in row.items()}, ensure_ascii=False)
        for row in rows.take(pa.array(numbers)).to_pylist()
    ]
