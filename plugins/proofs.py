"""Stored answers as evidence: are the bytes still those a row was read from, and which part of them holds the row?

The hash is computed again over the bytes in the bundle. The part is found by looking, not by decoding again: the row's stamp in the forms
venues write it, then the JSON element or the CSV line whose numbers are the row's; it is shown as the bytes stand.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import pyarrow as pa

from plugins.errors import TidegaugeError
from transforms.windows import to_ms

#: Characters of a fragment that are shown, and bytes of an archive member that are searched.
SHOWN_CHARACTERS: Final = 360
MEMBER_BYTES: Final = 64 << 20
_OPEN, _CLOSE = "{[", "}]"
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


class Reader(Protocol):
    """What `plugins.lake.Lake.read` offers: rows of a table for whole days `[first, last]`, columns equal to a value or one of several."""

    def __call__(
        self,
        name: str,
        *,
        days: tuple[Any, Any] | None = None,
        columns: Sequence[str] | None = None,
        where: dict[str, str | Sequence[str]] | None = None,
    ) -> pa.Table: ...


@dataclass(frozen=True, slots=True)
class Fragment:
    """`text` stands at `place` in the answer, e.g. "bytes 120..243" or "line 17 of BTCUSDT-metrics-2021-05-19.csv"."""

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class AnswerProof:
    """One stored answer and what its bytes say about themselves. `problem` is empty when the bytes are there and match."""

    raw_sha256: str
    source: str
    endpoint: str
    url: str
    http_status: int
    fetched_at: datetime | None
    bundle: str
    stated_bytes: int
    found_bytes: int
    recomputed: str
    problem: str

    @property
    def matches(self) -> bool:
        return not self.problem


class Answers:
    """Stored answers by hash: manifest rows and bundles are read once per trace."""

    def __init__(self, read: Reader, open_bundle: Callable[[str], pa.Table]) -> None:
        self._read, self._open = read, open_bundle
        self._bundles: dict[str, pa.Table] = {}
        self._proofs: dict[str, tuple[AnswerProof, bytes]] = {}

    def prove(self, row: Mapping[str, Any]) -> tuple[AnswerProof, bytes]:
        """Find the answer a core row names, fetch its bytes and hash them again."""
        sha: str = row["raw_sha256"]
        if sha not in self._proofs:
            self._proofs[sha] = self._prove(sha, row)
        return self._proofs[sha]

    def _prove(self, sha: str, row: Mapping[str, Any]) -> tuple[AnswerProof, bytes]:
        manifest = self._read("raw_answers", where={"raw_sha256": sha}).to_pylist()
        if not manifest:
            return _unproved(sha, row, "no stored answer has this hash: the manifest (ops.raw_answers) does not list it"), b""
        # the same bytes may have come more than once: prefer the time this row was fetched
        kept = min(manifest, key=lambda one: (one["fetched_at"] != row["fetched_at"], one["fetched_at"]))
        stored = self._bundle(kept["bundle"])
        if isinstance(stored, str):
            return _proof(kept, b"", stored), b""
        bodies = [one["body"] for one in stored.select(["raw_sha256", "body"]).to_pylist() if one["raw_sha256"] == sha]
        if not bodies:
            return _proof(kept, b"", f"the bundle holds no answer {sha[:12]}"), b""
        return _proof(kept, bodies[0], ""), bodies[0]

    def _bundle(self, key: str) -> pa.Table | str:
        """The bundle's rows, or the sentence that says why it cannot be read: a lost bundle is a finding, not a crash."""
        if key not in self._bundles:
            try:
                self._bundles[key] = self._open(key)
            except (OSError, pa.ArrowInvalid, TidegaugeError) as error:
                return f"the bundle cannot be read ({error})"
        return self._bundles[key]


def _proof(manifest: Mapping[str, Any], body: bytes, problem: str) -> AnswerProof:
    recomputed = hashlib.sha256(body).hexdigest() if not problem else ""
    if not problem and recomputed != manifest["raw_sha256"]:
        problem = "MISMATCH: the stored bytes are not the bytes the row was read from"
    elif not problem and len(body) != manifest["body_bytes"]:
        problem = f"MISMATCH: {len(body):,} bytes are stored, the manifest says {manifest['body_bytes']:,}"
    return AnswerProof(
        raw_sha256=manifest["raw_sha256"],
        source=manifest["source"],
        endpoint=manifest["endpoint"],
        url=manifest["url"],
        http_status=manifest["http_status"],
        fetched_at=manifest["fetched_at"],
        bundle=manifest["bundle"],
        stated_bytes=manifest["body_bytes"],
        found_bytes=len(body),
        recomputed=recomputed,
        problem=problem,
    )


def _unproved(sha: str, row: Mapping[str, Any], problem: str) -> AnswerProof:
    return AnswerProof(sha, row["source"], "", "", 0, None, "", 0, 0, "", problem)


def find_fragment(body: bytes, row: Mapping[str, Any], values: Mapping[str, Any]) -> Fragment | None:
    """The element of `body` that holds `row`; None when no element carries its stamp. `values` are the row's measured columns.

    Several elements may carry the stamp (other contracts, a bar that begins there): the one that repeats most of the row's numbers wins,
    then the one nearest behind the instrument's name.
    """
    wanted = {value for value in values.values() if isinstance(value, (int, float)) and not isinstance(value, bool) and value}
    if body[:2] == b"PK":
        return _in_archive(body, row, wanted)
    text = body.decode("utf-8", "replace")
    names = [found.start() for found in re.finditer(re.escape(f'"{row["instrument"]}"'), text)] if row.get("instrument") else []
    best: tuple[tuple[int, int, int], int, str] | None = None
    for rank, stamp in enumerate(_stamps(row)):
        for start, end in _elements(text, stamp):
            element = text[start:end]
            before = [at for at in names if at < end]
            score = (_shared(element, wanted), -(end - before[-1]) if before else -len(text), -rank)
            if best is None or score > best[0]:
                best = (score, start, element)
    if best is None:
        return None
    _, start, element = best
    first = len(text[:start].encode())
    return Fragment(f"bytes {first:,}..{first + len(element.encode()):,}", _short(element))


def _stamps(row: Mapping[str, Any]) -> Iterator[str]:
    """The row's stamp as venues write it, likeliest first: the end of the interval, then its start; ms, s, and text."""
    as_of: datetime = row["as_of"]
    steps = [timedelta(hours=row["interval_h"])] if row.get("interval_h") else []
    steps += [timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1), timedelta(hours=4), timedelta(hours=8), timedelta(days=1)]
    seen = set()
    for at in (as_of, *(as_of - step for step in steps)):
        ms = to_ms(at)
        forms = [str(ms), f"{at:%Y-%m-%d %H:%M:%S}", f"{at:%Y-%m-%dT%H:%M:%S}"]
        if ms % 1000 == 0:
            forms.insert(1, str(ms // 1000))
        if ms % 86_400_000 == 0:
            forms.append(f"{at:%Y-%m-%d}")
        for form in forms:
            if form not in seen:
                seen.add(form)
                yield form


def _elements(text: str, stamp: str) -> Iterator[tuple[int, int]]:
    """Spans of the innermost JSON objects or arrays around each occurrence of the stamp."""
    for found in re.finditer(rf"(?<!\d){re.escape(stamp)}(?!\d)", text):
        start, depth = found.start(), 0
        while start > 0:
            start -= 1
            depth += (text[start] in _CLOSE) - (text[start] in _OPEN)
            if depth < 0:
                break
        else:
            continue
        end, depth = found.end(), 0
        while end < len(text):
            depth += (text[end] in _OPEN) - (text[end] in _CLOSE)
            end += 1
            if depth < 0:
                yield start, end
                break


def _in_archive(body: bytes, row: Mapping[str, Any], wanted: set[float]) -> Fragment | None:
    """The CSV line inside a zip; members beyond MEMBER_BYTES are searched up to there."""
    best: tuple[tuple[int, int], Fragment] | None = None
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    lines = member.read(MEMBER_BYTES).decode("utf-8", "replace").splitlines()
                for rank, stamp in enumerate(_stamps(row)):
                    for number, line in enumerate(lines, start=1):
                        if stamp in line and re.search(rf"(?<!\d){re.escape(stamp)}(?!\d)", line):
                            score = (_shared(line, wanted), -rank)
                            if best is None or score > best[0]:
                                best = (score, Fragment(f"line {number:,} of {name}", _short(line)))
    except (zipfile.BadZipFile, NotImplementedError, OSError):
        return None
    return best[1] if best else None


def _shared(text: str, wanted: set[float]) -> int:
    """How many of the row's numbers the text repeats."""
    if not wanted:
        return 0
    found = {float(number) for number in _NUMBER.findall(text)}
    return sum(1 for value in wanted if any(abs(value - other) <= 1e-12 * abs(value) for other in found))


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN_CHARACTERS else f"{flat[: SHOWN_CHARACTERS - 4]} ..."
