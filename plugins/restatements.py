"""What changed after it was first stored: table `ops.revisions`, and the same as a page of Markdown."""

from __future__ import annotations

from datetime import UTC, date
from typing import Any, Final

import pyarrow as pa

from plugins.lake import Lake
from transforms.restated import ARCHIVE, NEWEST, SOURCE, changes
from transforms.schema import arrow_schema, content_sha256
from transforms.tables import TABLES, tables

_EVER: Final = (date(1970, 1, 1), date(9999, 12, 31))


def refresh(lake: Lake) -> pa.Table:
    """Bring `ops.revisions` up to date with the core tables; returns its rows. Nothing is written where nothing changed."""
    found = [one for table in tables("core") for one in changes(table, lake.read(table.name, restated=True))]
    found = sorted(found, key=lambda one: one["known_at"], reverse=True)[:NEWEST]
    _republished(lake, found)
    table = TABLES["revisions"]
    rows = pa.Table.from_pylist(found, schema=arrow_schema(table))
    stored = lake.read("revisions")
    if content_sha256(table, rows) != content_sha256(table, stored):
        lake.replace("revisions", rows, _EVER)
    return rows


def _republished(lake: Lake, found: list[dict[str, Any]]) -> None:
    """Name as republished what both times stood in one file of an archive (a host that its source calls `archive`)."""
    shas = {one[name] for one in found if one["cause"] == SOURCE for name in ("raw_sha256", "raw_sha256_before")}
    if not shas:
        return
    stored = lake.read("raw_answers", columns=("raw_sha256", "url", "source"), where={"raw_sha256": sorted(shas)})
    files: dict[str, set[tuple[str, str]]] = {}
    for row in stored.to_pylist():
        if row["url"].startswith("archive"):
            files.setdefault(row["raw_sha256"], set()).add((row["source"], row["url"]))
    for one in found:
        if one["cause"] == SOURCE and files.get(one["raw_sha256"], set()) & files.get(one["raw_sha256_before"], set()):
            one["cause"] = ARCHIVE


def markdown(rows: pa.Table) -> str:
    """The page: what changed, from, to, why, when."""
    lines = [
        "# Revisions",
        "",
        f"What changed after it was first stored: the newest {NEWEST:,} changes, last known first. Nothing is edited: every version is a row of its",
        "core table, and `make known AT=... TABLE=...` shows what was known at an instant.",
        "",
    ]
    if not rows.num_rows:
        return "\n".join([*lines, "Nothing was revised.", ""])
    lines += ["| known since, UTC | table | row | as of, UTC | column | from | to | change | why |", "| --- " * 9 + "|"]
    for row in rows.sort_by([("known_at", "descending"), ("table_name", "ascending"), ("as_of", "descending")]).to_pylist():
        cells = (
            f"{row['known_at'].astimezone(UTC):%Y-%m-%d %H:%M}",
            row["table_name"],
            row["key_text"],
            f"{row['as_of'].astimezone(UTC):%Y-%m-%d %H:%M}",
            row["column_name"],
            row["value_before"] or "nothing",
            row["value_after"] or "nothing",
            "" if row["relative_change"] is None else f"{row['relative_change']:+.3g}",
            row["cause"],
        )
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])
