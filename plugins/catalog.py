"""DuckDB over the lake: a connection whose views are one snapshot of every Iceberg table."""

from __future__ import annotations

from urllib.parse import urlparse

import duckdb
from duckdb_extensions import import_extension

from plugins.lake import Lake
from transforms.tables import TABLES

EXTENSIONS = ("httpfs", "avro", "iceberg")


def _quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def connect(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with a view per table: `core.open_interest`, `index.readings`, `ops.quarantine`, ... Signed extensions, no download."""
    chosen = lake.settings
    con = duckdb.connect()
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
    return con
