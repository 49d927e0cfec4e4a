"""Answers at rest: bundles of untouched answers in content-addressed Parquet files, and the way back from a hash to its bytes.

One bundle holds the answers of one fetch task, one row an answer: the question (`ask_json`), status, headers, time and body exactly as
received, plus what we made of it (`disposition_json`). Its key contains the SHA-256 of the file; it is written once and never edited.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from plugins.fetcher import Fetched
from plugins.lake import Lake
from transforms.schema import arrow_schema
from transforms.sources.contract import Answer, Disposition, ask_from_json, ask_to_json
from transforms.tables import TABLES

#: Bodies per bundle; a year of archives is cut into several.
BUNDLE_BYTES: Final = 48 << 20
BUNDLE_SCHEMA: Final = pa.schema(
    [
        pa.field("raw_sha256", pa.string(), nullable=False),
        pa.field("ask_json", pa.string(), nullable=False),
        pa.field("http_status", pa.int64(), nullable=False),
        pa.field("headers_json", pa.string(), nullable=False),
        pa.field("fetched_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("body", pa.binary(), nullable=False),
        pa.field("companion", pa.binary(), nullable=False),
        pa.field("disposition_json", pa.string(), nullable=False),
        pa.field("attempts", pa.int64(), nullable=False),
    ]
)


def bundles(fetched: Iterable[Fetched]) -> Iterator[list[Fetched]]:
    """Cut a run's answers into bundles of at most BUNDLE_BYTES (an answer is never cut)."""
    batch: list[Fetched] = []
    size = 0
    for one in fetched:
        if batch and size + len(one.answer.body) > BUNDLE_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += len(one.answer.body)
    if batch:
        yield batch


def _bundle_table(fetched: Sequence[Fetched]) -> pa.Table:
    columns = {
        "raw_sha256": [one.answer.sha256 for one in fetched],
        "ask_json": [ask_to_json(one.ask) for one in fetched],
        "http_status": [one.answer.status for one in fetched],
        "headers_json": [json.dumps(dict(one.answer.headers), sort_keys=True) for one in fetched],
        "fetched_at": [one.answer.fetched_at for one in fetched],
        "body": [one.answer.body for one in fetched],
        "companion": [one.answer.companion for one in fetched],
        "disposition_json": [json.dumps(asdict(one.disposition), sort_keys=True) for one in fetched],
        "attempts": [one.attempts for one in fetched],
    }
    return pa.table({field.name: pa.array(columns[field.name], type=field.type) for field in BUNDLE_SCHEMA}, schema=BUNDLE_SCHEMA)


def store(lake: Lake, source: str, fetched: Sequence[Fetched], run_id: str) -> list[str]:
    """Write the answers as bundles and their manifest rows (table raw_answers); returns the bundles' keys."""
    keys = []
    for batch in bundles(fetched):
        sink = io.BytesIO()
        pq.write_table(_bundle_table(batch), sink, compression="zstd", compression_level=3, use_dictionary=False, write_statistics=False)
        body = sink.getvalue()
        key = f"raw/source={source}/{hashlib.sha256(body).hexdigest()}.parquet"
        lake.put(key, body, "application/vnd.apache.parquet", once=True)
        lake.append("raw_answers", _manifest(batch, source, key, run_id))
        keys.append(key)
    return keys


def _manifest(batch: Sequence[Fetched], source: str, key: str, run_id: str) -> pa.Table:
    schema = arrow_schema(TABLES["raw_answers"])
    columns = {
        "source": [source] * len(batch),
        "endpoint": [one.ask.series.endpoint for one in batch],
        "instrument": [one.ask.series.instrument for one in batch],
        "url": [f"{one.ask.host}:{one.ask.question}" for one in batch],
        "http_status": [one.answer.status for one in batch],
        "headers_json": [json.dumps(dict(one.answer.headers), sort_keys=True) for one in batch],
        "fetched_at": [one.answer.fetched_at for one in batch],
        "raw_sha256": [one.answer.sha256 for one in batch],
        "body_bytes": [len(one.answer.body) for one in batch],
        "bundle": [key] * len(batch),
        "window_start": [one.ask.series.window.start for one in batch],
        "window_end": [one.ask.series.window.end for one in batch],
        "run_id": [run_id] * len(batch),
        "date": [one.answer.fetched_at.date() for one in batch],
    }
    return pa.table({field.name: pa.array(columns[field.name], type=field.type) for field in schema}, schema=schema)


def open_bundle(lake: Lake, key: str) -> pa.Table:
    """All answers of a bundle, bytes included (columns: BUNDLE_SCHEMA)."""
    return pq.read_table(io.BytesIO(lake.get(key)), schema=BUNDLE_SCHEMA)


def load(lake: Lake, key: str) -> Iterator[Fetched]:
    """The answers of a bundle as the fetcher returned them: decoding them again is a replay."""
    for row in open_bundle(lake, key).to_pylist():
        answer = Answer(row["http_status"], row["body"], row["fetched_at"], json.loads(row["headers_json"]), row["companion"])
        yield Fetched(ask_from_json(row["ask_json"]), answer, Disposition(**json.loads(row["disposition_json"])), row["attempts"])
