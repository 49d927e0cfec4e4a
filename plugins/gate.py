"""The gate between typed rows and the lake: all tables of a run judged in one process, and the evidence as rows of ops tables.

Importing Great Expectations costs seconds (AIRFLOW.md, finding 2), so it happens at the first call, once per process; a scheduler that
preloads it makes it free.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from transforms.rulings import row_id
from transforms.schema import arrow_schema
from transforms.tables import TABLES
from transforms.windows import partition_day

if TYPE_CHECKING:
    from expectations.verdict import Checked, Verdict

_OUTCOME: Final = {"critical": "failed", "warning": "partial", "info": "partial"}


@cache
def _judge() -> Callable[[Mapping[str, pa.Table]], dict[str, Verdict]]:
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # it tells of every function it registers
    with warnings.catch_warnings():
        # great_expectations 1.24.1 imports sre_constants and sre_parse, deprecated since Python 3.11
        warnings.filterwarnings("ignore", message="module 'sre_", category=DeprecationWarning)
        from expectations.verdict import judge
    return judge


def warm() -> None:
    """Pay for the import now: for a parent process whose children gate."""
    _judge()


def gate(tables: Mapping[str, pa.Table]) -> dict[str, Verdict]:
    """Verdicts of all tables of a run, by table. Give every table of the run at once: some expectations hold between tables.

    Rows must have every column of their table, with the declared types. `verdict.passed` may be published as it stands;
    `verdict.rejected` and `verdict.checks` go to `evidence`; a non-empty `verdict.blocked` keeps the watermark where it is.
    """
    return _judge()(tables)


def evidence(tables: Mapping[str, pa.Table], verdicts: Mapping[str, Verdict], run_id: str, recorded_at: datetime) -> dict[str, pa.Table]:
    """Rows of `ops.quarantine` and `ops.verdicts` for the verdicts on `tables` (the rows as they were given to `gate`)."""
    put_aside = [row for name, verdict in verdicts.items() for row in _quarantine(tables[name], verdict, run_id, recorded_at)]
    said = [
        _verdict(verdict, tables[name].num_rows, check, run_id, recorded_at)
        for name, verdict in verdicts.items()
        for check in verdict.checks
    ]
    return {
        "quarantine": pa.Table.from_pylist(put_aside, schema=arrow_schema(TABLES["quarantine"])),
        "verdicts": pa.Table.from_pylist(said, schema=arrow_schema(TABLES["verdicts"])),
    }


def codes(detail: str) -> list[str]:
    """The codes of the checks that a rejected row failed, out of its `detail`.

    >>> codes("LOW_ABOVE_HIGH: low <= high; found low_usd=3.5, high_usd=3.0; also CLOSE_ABOVE_HIGH CLOSE_BELOW_LOW")
    ['LOW_ABOVE_HIGH', 'CLOSE_ABOVE_HIGH', 'CLOSE_BELOW_LOW']
    """
    first, _, rest = detail.partition(":")
    _, also, others = rest.rpartition("; also ")
    return [first, *(others.split() if also else ())]


def _quarantine(rows: pa.Table, verdict: Verdict, run_id: str, recorded_at: datetime) -> list[dict[str, Any]]:
    """What a row does not say (an index row has no source, no instrument and no answer behind it) is an empty text."""
    known = [name for name in ("source", "instrument", "raw_sha256", "fetched_at") if name in rows.column_names]
    said = rows.select(known).take(pa.array([reject.row for reject in verdict.rejected], type=pa.int64())).to_pylist()
    return [
        {
            "source": who.get("source") or "",
            "endpoint": "",
            "instrument": who.get("instrument") or "",
            "target": verdict.table,
            "reason_code": reject.reason_code,
            "detail": reject.detail,
            "row_json": reject.row_json,
            "raw_sha256": who.get("raw_sha256") or "",
            "fetched_at": who.get("fetched_at") or recorded_at,
            "quarantine_id": row_id(TABLES[verdict.table], json.loads(reject.row_json)),
            "run_id": run_id,
            "recorded_at": recorded_at,
            "date": partition_day(recorded_at),
        }
        for reject, who in zip(verdict.rejected, said or [{}] * len(verdict.rejected), strict=True)
    ]


def _verdict(verdict: Verdict, given: int, check: Checked, run_id: str, recorded_at: datetime) -> dict[str, Any]:
    """`rows_quarantined` counts the rows that failed a critical check; one that cannot be laid on rows holds all of them back."""
    aside = 0 if check.success or check.severity != "critical" else given if check.failed < 0 else check.failed
    return {
        "run_id": run_id,
        "table_name": verdict.table,
        "reason_code": check.code,
        "outcome": "success" if check.success else _OUTCOME[check.severity],
        "row_count": given,
        "rows_quarantined": aside,
        "detail": check.detail,
        "recorded_at": recorded_at,
        "date": partition_day(recorded_at),
    }
