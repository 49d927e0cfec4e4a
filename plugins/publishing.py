"""What BI tools and people read: a Hive-partitioned Parquet mirror, the DDL, the dictionary, DuckDB views, and the report.

The mirror holds one deterministic file per table and day and is rewritten only where the content changed. It is for tools without Iceberg:
while a day is being rewritten a reader of the mirror may meet the old file and the new one; readers of the Iceberg tables never do.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from plugins import datadocs, ledger, reports, restatements, summary
from plugins.lake import Lake
from plugins.settings import Settings
from transforms.dictionary import render as dictionary
from transforms.schema import ddl, empty, known_macro
from transforms.tables import TABLES, tables

log = logging.getLogger(__name__)
PREFIX: Final = "published"
MANIFEST: Final = f"{PREFIX}/_manifest.json"
STATE: Final = "report/state.txt"
SNAPSHOTS: Final = timedelta(days=7)  #: how long a superseded snapshot can still be read
EVIDENCE: Final = timedelta(days=7)  #: how much of the evidence the report shows, back from its newest day
PUTS: Final = 8  #: objects under way at once
PUBLISHED: Final = tuple(name for name, table in TABLES.items() if table.published)


def mirror_key(name: str, day: date) -> str:
    """Key of the one file of a table and day: `published/readings/date=2022-05-09/part-0.parquet`."""
    return f"{PREFIX}/{name}/date={day.isoformat()}/part-0.parquet"


def parquet_bytes(rows: pa.Table) -> bytes:
    """The file of one day, without the partition column (its directory names it): same rows, same bytes."""
    sink = io.BytesIO()
    pq.write_table(rows.drop_columns(["date"]).combine_chunks(), sink, compression="zstd", compression_level=3, write_page_index=True)
    return sink.getvalue()


def _runs(days: list[date]) -> Iterator[tuple[date, date]]:
    """Consecutive days as spans."""
    start = previous = days[0]
    for day in [*days[1:], None]:
        if day is None or day != previous + timedelta(days=1):
            yield start, previous
            start = day
        previous = day


def _mirrored(lake: Lake) -> dict[str, str]:
    """What each file of the mirror was made from, by key."""
    found: dict[str, str] = json.loads(lake.get(MANIFEST)) if MANIFEST in lake.keys(MANIFEST) else {}
    return found


def _present(lake: Lake) -> dict[tuple[str, date], str]:
    """What the published tables hold, by table and day: content hashes of the cadences."""
    found: dict[tuple[str, date], list[str]] = {}
    for (table, cadence, day), (content, _inputs) in sorted(ledger.partitions(lake).items()):
        if table in PUBLISHED:
            found.setdefault((table, day), []).append(f"{cadence}={content}")
    return {key: " ".join(parts) for key, parts in found.items()}


def _state(lake: Lake) -> str:
    """One hash of everything the published tables hold."""
    said = "\n".join(f"{name} {day} {content}" for (name, day), content in sorted(_present(lake).items()))
    return hashlib.sha256(said.encode()).hexdigest()


def behind(lake: Lake) -> bool:
    """Whether mirror or report show another state than the tables: a publish that failed half-way or never ran."""
    return STATE not in lake.keys(STATE) or lake.get(STATE).decode() != _state(lake)


def _write(lake: Lake, folder: Path | None, name: str, day: date, rows: pa.Table) -> None:
    """One file; a day that holds nothing (any more) has none."""
    key = mirror_key(name, day)
    path = folder / key.removeprefix(f"{PREFIX}/") if folder is not None else None
    if rows.num_rows == 0:
        lake.delete([key])
        if path is not None:
            path.unlink(missing_ok=True)
        return
    body = parquet_bytes(rows)
    lake.put(key, body, "application/vnd.apache.parquet")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def mirror(lake: Lake, folder: Path | None) -> int:
    """Write the days whose content changed, to the object store and to a local folder where one is configured; returns rows written."""
    had, have = _mirrored(lake), _present(lake)
    written = 0
    with ThreadPoolExecutor(PUTS) as pool:
        for name in PUBLISHED:
            now = {day: content for (table, day), content in have.items() if table == name}
            changed = [day for day in sorted(now) if had.get(mirror_key(name, day)) != now[day]]
            for first, last in _runs(changed) if changed else ():
                rows = lake.read(name, days=(first, last))
                days = {day: rows.filter(pc.equal(rows.column("date"), day)) for day in changed if first <= day <= last}
                list(pool.map(partial(_write, lake, folder, name), days, days.values()))
                had |= {mirror_key(name, day): now[day] for day in days}
                written += rows.num_rows
    lake.put(MANIFEST, json.dumps(had, sort_keys=True, indent=0).encode(), "application/json")
    return written


def views(lake: Lake) -> str:
    """SQL that gives DuckDB a view per table, each over one snapshot of the Iceberg table: a tear-free dataset."""
    lines = ["-- DuckDB: INSTALL httpfs; INSTALL iceberg; CREATE SECRET (TYPE s3, ...); then this file.", "LOAD httpfs;", "LOAD iceberg;"]
    lines += [f"CREATE SCHEMA IF NOT EXISTS {layer};" for layer in sorted({table.layer for table in TABLES.values()})]
    for name, table in TABLES.items():
        lines.append(f"CREATE OR REPLACE VIEW {table.identifier} AS SELECT * FROM iceberg_scan('{lake.iceberg(name).metadata_location}');")
    lines += ["CREATE SCHEMA IF NOT EXISTS known;  -- SELECT * FROM known.open_interest(TIMESTAMPTZ '2026-05-01 12:00Z'): as known then"]
    lines += [known_macro(table) for table in TABLES.values() if "known_at" in table.columns]
    return "\n".join(lines) + "\n"


def keep_small(lake: Lake, now: datetime) -> None:
    """What grows by every hour is brought back to a size that an hour's work does not feel: files of evidence, snapshots, the ledger."""
    for table in tables("ops"):
        lake.compact(table.name, closed=now.date())
    for name in TABLES:
        lake.expire(name, now - SNAPSHOTS)
    ledger.settle_partitions(lake, now.date())


def publish(lake: Lake, settings: Settings) -> int:
    """Mirror, catalog files and report; returns the rows written to the mirror."""
    ledger.note_coverage_days(lake)
    folder = settings.home / PREFIX if settings.export else None
    state = _state(lake)  # of before: what is committed meanwhile is published by its own run
    written = mirror(lake, folder)
    texts = {
        "catalog/ddl.sql": "\n".join(ddl(table) for table in TABLES.values()),
        "catalog/dictionary.md": dictionary(),
        "catalog/duckdb_views.sql": views(lake),
    }
    for key, text in texts.items():
        lake.put(key, text.encode(), "text/plain; charset=utf-8")
    keep_small(lake, datetime.now(UTC))
    revisions = restatements.refresh(lake)
    data = report_data(lake, settings, revisions)
    datadocs.publish(lake, data.verdicts, folder)
    page, text = reports.render(data), summary.text(data)
    lake.put("report/index.html", page.encode(), "text/html; charset=utf-8")
    lake.put("report/revisions.md", restatements.markdown(revisions).encode(), "text/markdown; charset=utf-8")
    lake.put("report/summary.txt", text.encode(), "text/plain; charset=utf-8")
    if folder is not None:
        (settings.home / "report.html").write_text(page.replace(f'"{reports.DATA_DOCS}"', '"published/data-docs/index.html"'))
        (settings.home / "summary.txt").write_text(text)
        (settings.home / "revisions.md").write_text(restatements.markdown(revisions))
    lake.put(STATE, state.encode(), "text/plain; charset=utf-8")
    log.info("mirror: %d rows written; report: %d kB", written, len(page) // 1000)
    return written


#: What a row of the index carries beside its content: not read where a table has many rows.
_STAMPS: Final = frozenset({"known_at", "market", "vintage", "index_version", "spec_sha256", "code_sha", "date"})


def report_data(lake: Lake, settings: Settings, revisions: pa.Table | None = None) -> reports.ReportData:
    """Everything the report and the terminal summary show.

    Of the features, which are most of the rows, only the newest days of a series; of the latent liquidations these and the day before each,
    since a ladder is drawn up at a day's end.
    """
    whole = ("readings", "regime_changes", "quarantine", "decisions")
    lean = ("contributions", "events", "outliers", "agreement")
    tables = {name: lake.read(name) for name in whole}
    recorded = lake.days("outcomes")
    since = max(recorded) - EVIDENCE if recorded else date.min
    tables |= {name: lake.read(name, days=(since, date.max)) for name in ("coverage", "findings", "outcomes", "verdicts")}
    tables |= {name: lake.read(name, columns=[one for one in TABLES[name].columns if one not in _STAMPS]) for name in lean}
    tables["revisions"] = lake.read("revisions") if revisions is None else revisions
    newest = tables["readings"].group_by(["asset", "cadence"]).aggregate([("date", "max")]).column("date_max")
    days = sorted(pc.unique(newest).to_pylist())
    tables["features"] = _of_days(lake, "features", days)
    tables["liquidation_levels"] = _of_days(
        lake, "liquidation_levels", sorted({day - timedelta(days=back) for day in days for back in (0, 1)})
    )
    return reports.ReportData(market=settings.market, evidence_since=since if recorded and min(recorded) < since else None, **tables)


def _of_days(lake: Lake, name: str, days: list[date]) -> pa.Table:
    """Rows of a table for some days."""
    found = [lake.read(name, days=span) for span in (_runs(days) if days else ())]
    return pa.concat_tables(found) if found else empty(TABLES[name])
