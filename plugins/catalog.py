"""DuckDB over the lake: a connection whose views are one snapshot of every Iceberg table."""

from __future__ import annotations

from datetime import date, datetime
from urllib.parse import urlparse

import duckdb
import pyarrow as pa
from duckdb_extensions import import_extension

from plugins.lake import Lake
from transforms.revisions import known as as_known
from transforms.schema import known_macro
from transforms.tables import TABLES

EXTENSIONS = ("httpfs", "avro", "iceberg")


def _quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def connect(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with a view per table: `core.open_interest`, `index.readings`, `ops.quarantine`, ..., and `known.<table>(instant)`.

    Signed extensions, no download.
    """
    chosen = lake.settings
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")  # else a day, and an instant written without its zone, would be the machine's
    for extension in EXTENSIONS:
        import_extension(extension, con=con)
        con.execute(f"LOAD {extension}")
    endpoint = urlparse(chosen.s3_endpoint)
    place = (
        f", ENDPOINT '{endpoint.netloc}', URL_STYLE 'path', USE_SSL {str(endpoint.scheme == 'https').lower()}" if chosen.s3_endpoint else ""
    )
    con.execute(
        f"CREATE SECRET lake (TYPE s3, KEY_ID {_quoted(chosen.s3_access_key)}, SECRET {_quoted(chosen.s3_secret_key)}, "
        f"REGION {_quoted(chosen.s3_region)}{place})"
    )
    for layer in sorted({table.layer for table in TABLES.values()}):
        con.execute(f"CREATE SCHEMA {layer}")
    for name, table in TABLES.items():
        con.execute(f"CREATE VIEW {table.identifier} AS SELECT * FROM iceberg_scan('{lake.iceberg(name).metadata_location}')")
    con.execute("CREATE SCHEMA known")
    for table in TABLES.values():
        if "known_at" in table.columns:
            con.execute(known_macro(table))
    return con


def known(lake: Lake, name: str, at: datetime, *, days: tuple[date, date] | None = None, held: bool = False) -> pa.Table:
    """Rows of a table as they were known at an instant (transforms/revisions.py); `days`: only these days."""
    return as_known(TABLES[name], lake.read(name, days=days), at, held=held)
