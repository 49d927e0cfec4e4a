"""Great Expectations' own Data Docs for the gate: every suite, and the newest validation of each table, built by its site builder.

The results are those of the gate as `ops.verdicts` keeps them; nothing is validated again and nothing here writes HTML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import great_expectations as gx
from great_expectations.core import ExpectationSuite
from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults, ProgressBarsConfig
from great_expectations.data_context.types.resource_identifiers import ExpectationSuiteIdentifier, ValidationResultIdentifier
from great_expectations.expectations.expectation import Expectation

from expectations.particular import ADDITIVE
from expectations.suites import checks, expectation
from transforms.tables import Table, tables


def build(verdicts: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """Write the site below `folder` and return the names of the tables whose validation it shows.

    verdicts: rows of `ops.verdicts`, of each table those of one run. A table without any has its suite only. A page that Great Expectations
    could not render (it logs why and goes on) raises RuntimeError here.
    """
    context = _context(folder)
    by_table: dict[str, list[Mapping[str, Any]]] = {}
    for row in verdicts:
        by_table.setdefault(row["table_name"], []).append(row)
    pages = []
    for table in [*tables("core"), *tables("index")]:
        suite = _suite(table)
        context.suites.add(suite)
        pages.append(Path("expectations", f"{table.identifier.replace('.', '/')}.html"))
        if rows := by_table.get(table.name):
            run = RunIdentifier(run_name=re.sub(r"[^\w.-]+", "_", rows[0]["run_id"]) or "run", run_time=rows[0]["recorded_at"])
            key = ValidationResultIdentifier(ExpectationSuiteIdentifier(table.identifier), run, table.identifier)
            context.validation_results_store.set(key, _result(table, suite, run, rows))
            pages.append(Path("validations", *table.identifier.split("."), *_folders(run), f"{table.identifier}.html"))
    context.build_data_docs()
    lost = [str(page) for page in pages if not (folder / page).is_file()]
    if lost:
        raise RuntimeError(f"Great Expectations rendered no {', '.join(lost)}: its log says why")
    return sorted(by_table)


def _folders(run: RunIdentifier) -> tuple[str, ...]:
    named: tuple[str, ...] = run.to_tuple()  # type: ignore[no-untyped-call]
    return named


def _context(folder: Path) -> Any:
    """In memory, silent, without telemetry or network; its one site is the folder."""
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder", "show_cta_footer": False},
    }
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites={"tidegauge": site},
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _suite(table: Table) -> ExpectationSuite:
    """A table's suite with our words on each expectation: code and meaning, as docs/operations.md lists them."""
    extra = (ADDITIVE,) if table.name in ("contributions", "readings") else ()
    return ExpectationSuite(name=table.identifier, expectations=[_worded(check) for check in (*checks(table), *extra)])


def _worded(check: Any) -> Expectation:
    made = expectation(check)
    made.description = f"{check.code} ({check.severity}): {check.meaning}"
    return made


def _result(
    table: Table, suite: ExpectationSuite, run: RunIdentifier, rows: Sequence[Mapping[str, Any]]
) -> ExpectationSuiteValidationResult:
    """The verdicts of one run as a validation result. Rows rejected whole (SHAPE) leave every expectation unchecked, and say so."""
    said = {row["reason_code"]: row for row in rows}
    unchecked = said.get("SHAPE")
    results = [
        _one(made, said.get(made.meta["codes"][0], unchecked), at=rows[0]["recorded_at"]) for made in suite.expectations if made.meta
    ]
    held = sum(bool(one.success) for one in results)
    statistics = {
        "evaluated_expectations": len(results),
        "successful_expectations": held,
        "unsuccessful_expectations": len(results) - held,
        "success_percent": 100.0 * held / len(results) if results else 0.0,
    }
    meta: Any = {
        "run_id": run,
        "great_expectations_version": gx.__version__,
        "batch_spec": {"data_asset_name": table.identifier},
        "active_batch_definition": {"data_asset_name": table.identifier, "batch_identifiers": {}},
        "validation_time": rows[0]["recorded_at"].isoformat(),
    }
    return ExpectationSuiteValidationResult(
        success=held == len(results), results=results, suite_name=table.identifier, statistics=statistics, meta=meta
    )


def _one(made: Expectation, row: Mapping[str, Any] | None, at: datetime) -> ExpectationValidationResult:
    """One verdict: how many rows were judged, how many fell to it, what was found. A check the run did not know yet is not held to have passed."""
    if row is None or row["reason_code"] == "SHAPE":
        told = row["detail"] if row else f"not yet declared when the run judged, {at:%Y-%m-%d %H:%M} UTC"
        info = {"raised_exception": True, "exception_message": told, "exception_traceback": ""}
        return ExpectationValidationResult(success=False, expectation_config=made.configuration, result={}, exception_info=info)
    success, count = row["outcome"] == "success", row["row_count"]
    result: dict[str, Any] = {"element_count": count}
    if success:
        result |= {"unexpected_count": 0, "unexpected_percent": 0.0, "partial_unexpected_list": []}
    else:
        result |= {"observed_value": escape(row["detail"])}  # the site builder does not: a cell of plain text is taken for markup
        if row["rows_quarantined"]:
            share = 100.0 * row["rows_quarantined"] / max(count, 1)
            result |= {"unexpected_count": row["rows_quarantined"], "unexpected_percent": share, "partial_unexpected_list": []}
    info = {"raised_exception": False, "exception_message": None, "exception_traceback": None}
    return ExpectationValidationResult(success=success, expectation_config=made.configuration, result=result, exception_info=info)
