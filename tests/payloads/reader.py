"""Reads the payloads: a folder per source, its metadata.json saying what each file answers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from transforms.roster import SOURCES, source
from transforms.sources.contract import Answer, Ask, Series
from transforms.windows import Window, utc

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Payload:
    """One stored answer and the ask it answers."""

    source: str
    file: str
    ask: Ask
    answer: Answer

    @property
    def endpoint(self) -> str:
        return self.ask.series.endpoint

    @property
    def is_json(self) -> bool:
        return self.file.endswith(".json")

    def __str__(self) -> str:
        return f"{self.source}/{self.file}"


def payloads() -> list[Payload]:
    """Every payload of every source of the roster."""
    return [payload for name in SOURCES if (FOLDER / name / "metadata.json").is_file() for payload in _folder(name)]


def one(name: str, file: str) -> Payload:
    """The payload of that file."""
    return next(payload for payload in _folder(name) if payload.file == file)


def metadata(name: str) -> dict:
    """What the source's metadata.json says."""
    return json.loads((FOLDER / name / "metadata.json").read_text())


def _folder(name: str) -> list[Payload]:
    found = []
    for file, about in metadata(name)["files"].items():
        step = about["step_s"]
        series = Series(
            name,
            about["endpoint"],
            about["instrument"],
            Window(utc(about["start"]), utc(about["end"])),
            None if step is None else timedelta(seconds=step),
            tuple(about.get("options", {}).items()),
        )
        body = (FOLDER / name / file).read_bytes()
        companion = (FOLDER / name / about["companion"]).read_bytes() if "companion" in about else b""
        kinds = {"json": "application/json; charset=utf-8", "zip": "application/zip", "CHECKSUM": "binary/octet-stream"}
        kind = kinds[file.rsplit(".", 1)[-1]]
        fetched_at = datetime.fromisoformat(about["fetched_at"]).replace(tzinfo=UTC)
        ask = next(iter(source(name).asks(series)))
        found.append(Payload(name, file, ask, Answer(200, body, fetched_at, {"Content-Type": kind}, companion)))
    return found


def sha256_of(name: str, file: str) -> str:
    """SHA-256 of a stored file."""
    return hashlib.sha256((FOLDER / name / file).read_bytes()).hexdigest()
