"""Faults on demand, as a layer over any answer. Deterministic from a seed, whatever the order of requests.

A rule is a JSON object:

    {"path": "regex on /host/path?query", "kind": "http", "probability": 0.2, "every": 0, "count": 0, "params": {"status": 429}}

`probability` (default 1) is drawn from (seed, rule, target, attempt at that target): a retry draws anew. `every` n instead spoils
each n-th matching request. `count` ends the rule after so many faults. The first rule that strikes wins.

| kind | does | params |
|---|---|---|
| http | answers with an error status | status, retry_after, body |
| timeout | holds the answer | seconds (30) |
| drop | closes the connection | |
| truncate | cuts the body | share (0.5) |
| html | 200 with a web page | |
| content_type | another Content-Type over the right body | value (text/plain) |
| missing_field, null_value | removes or nulls a field of every row | field |
| extra_field | adds a field to every row | field, value |
| wrong_unit | multiplies open interest by 1000, or what is named | field, factor; funding by 100 |
| duplicate_page | the rows of the page come twice | |
| gap | drops rows | share (0.25) of the page, from the middle |
| shift | moves stamps | hours (3) |
| delisted | a contract of Binance's list has ended | symbol, ended (milliseconds) |
| checksum | a CHECKSUM that does not fit | |
| zip_bomb | an archive that inflates to much; its CHECKSUM fits, so that the archive itself is judged | megabytes (300) |
| bad_zip | a damaged archive; its CHECKSUM fits | |
| republish | another version of an archive; its CHECKSUM fits | field (2), factor (1.001), every (12) line |
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from sandbox.spoil import SPOILERS, spoil_rows
from sandbox.wire.reply import Reply, as_json

ZIP_KINDS: Final = ("zip_bomb", "bad_zip", "republish")
KINDS: Final = ("http", "timeout", "drop", "truncate", "html", "content_type", "checksum", *ZIP_KINDS, *SPOILERS)
_VENUE_BODIES: Final = {
    418: b'{"code":-1003,"msg":"Way too many requests; IP banned until 4102444800000."}',
    429: b'{"code":-1003,"msg":"Too many requests."}',
    451: b'{"code":0,"msg":"Service unavailable from a restricted location according to the terms of use."}',
}
_PAGE: Final = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser.</body></html>"


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault rule; an unknown kind or a bad regex raises ValueError."""

    path: str
    kind: str
    probability: float = 1.0
    every: int = 0
    count: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"found fault kind {self.kind!r}; known are {', '.join(KINDS)}")
        if not 0.0 <= self.probability <= 1.0 or self.every < 0 or self.count < 0:
            raise ValueError("probability lies in 0..1; every and count are 0 (off) or more")
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(f"path {self.path!r} is not a regular expression: {error}") from error


_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "path": str,
    "kind": str,
    "probability": (int, float),
    "every": int,
    "count": int,
    "params": dict,
}


def read_rules(text: bytes | str) -> list[Rule]:
    """Rules from a JSON list; anything that cannot be meant raises ValueError and names the part."""
    try:
        listed = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(listed, list):
        raise ValueError(f"found {type(listed).__name__}; fault rules are a JSON list of objects")  # noqa: TRY004 - one error type
    for number, one in enumerate(listed):
        if not isinstance(one, dict) or not {"path", "kind"} <= set(one) <= set(_TYPES):
            raise ValueError(f"rule {number} is {one!r}; it needs path and kind, and may have {', '.join(list(_TYPES)[2:])}")
        wrong = [name for name, value in one.items() if not isinstance(value, _TYPES[name]) or isinstance(value, bool)]
        if wrong:
            raise ValueError(f"rule {number} has a value of the wrong type in {', '.join(wrong)}")
    return [Rule(**one) for one in listed]


@dataclass
class _Count:
    seen: int = 0
    struck: int = 0


class Dropped(Exception):
    """The connection is to be closed without an answer."""


class Faults:
    """The rules in force and what they have done."""

    def __init__(self, seed: int, rules: Sequence[Rule] = ()) -> None:
        self.seed = seed
        self.put(rules)

    def put(self, rules: Sequence[Rule]) -> None:
        """Replaces the rules and starts counting anew."""
        self.rules = [(rule, re.compile(rule.path), _Count()) for rule in rules]
        self._attempts: dict[tuple[int, str], int] = {}
        self._fates: dict[tuple[int, str], bool] = {}

    def struck(self) -> list[dict[str, object]]:
        """What each rule saw and did."""
        return [{"path": rule.path, "kind": rule.kind, "seen": count.seen, "struck": count.struck} for rule, _, count in self.rules]

    def choose(self, target: str) -> Rule | None:
        """The rule that strikes this request. An archive and its CHECKSUM share one fate under the zip kinds, for good."""
        for number, (rule, pattern, _) in enumerate(self.rules):
            if not pattern.search(target):
                continue
            if rule.kind not in ZIP_KINDS:
                strikes = self._strikes(number, target)
            else:
                archive = target.removesuffix(".CHECKSUM")
                if (number, archive) not in self._fates:
                    self._fates[number, archive] = self._strikes(number, archive)
                strikes = self._fates[number, archive]
            if strikes:
                return rule
        return None

    def _strikes(self, number: int, subject: str) -> bool:
        rule, _, count = self.rules[number]
        attempt = self._attempts.get((number, subject), 0)
        self._attempts[number, subject] = attempt + 1
        count.seen += 1
        if rule.count and count.struck >= rule.count:
            return False
        strikes = count.seen % rule.every == 0 if rule.every else self._draw(number, subject, attempt) < rule.probability
        count.struck += strikes
        return strikes

    def _draw(self, *parts: object) -> float:
        digest = hashlib.blake2b(repr((self.seed, *parts)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2.0**64

    async def apply(self, target: str, reply: Reply, clean: Callable[[str], Reply]) -> Reply:
        """The spoiled reply, or `reply` itself. `clean(target)` gives the unspoiled answer to another target of the same host."""
        rule = self.choose(target) if self.rules else None
        if rule is None:
            return reply
        if rule.kind == "timeout":
            await asyncio.sleep(float(rule.params.get("seconds", 30)))
            return reply
        if rule.kind == "drop":
            raise Dropped
        return spoiled(rule, target, reply, clean)


def spoiled(rule: Rule, target: str, reply: Reply, clean: Callable[[str], Reply]) -> Reply:
    """The reply after one fault. Kinds that do not fit an answer (a gap in an archive) leave it as it is."""
    params = rule.params
    if rule.kind == "http":
        status = int(params.get("status", 503))
        headers = {"Retry-After": str(params["retry_after"])} if "retry_after" in params else {}
        if "body" in params:
            return Reply(status, str(params["body"]).encode(), "text/plain", headers)
        if status in _VENUE_BODIES:
            return Reply(status, _VENUE_BODIES[status], headers=headers)
        return as_json({"code": -1000, "msg": "An unknown error occurred while processing the request."}, status, headers)
    if rule.kind == "truncate":
        return replace(reply, body=reply.body[: int(len(reply.body) * float(params.get("share", 0.5)))])
    if rule.kind == "html":
        return Reply(200, _PAGE, "text/html")
    if rule.kind == "content_type":
        return replace(reply, content_type=str(params.get("value", "text/plain")))
    if rule.kind == "checksum":
        if not target.endswith(".CHECKSUM") or reply.status != 200:
            return reply
        return replace(reply, body=b"0" * 64 + reply.body[64:])
    if rule.kind in ZIP_KINDS:
        return _spoiled_archive(rule, target, reply, clean)
    if reply.status != 200 or not reply.content_type.startswith("application/json"):
        return reply
    return replace(reply, body=spoil_rows(rule.kind, params, reply.body))


def _spoiled_archive(rule: Rule, target: str, reply: Reply, clean: Callable[[str], Reply]) -> Reply:
    archive = target.removesuffix(".CHECKSUM")
    if not archive.endswith(".zip") or reply.status != 200:
        return reply
    whole = reply if archive == target else clean(archive)
    if rule.kind == "republish":
        body = republished(whole.body, rule.params)
    else:
        body = damaged(whole.body) if rule.kind == "bad_zip" else bomb(int(rule.params.get("megabytes", 300)))
    if archive == target:
        return replace(reply, body=body)
    name = archive.rsplit("/", 1)[1]
    return replace(reply, body=f"{hashlib.sha256(body).hexdigest()}  {name}\n".encode())


def damaged(archive: bytes) -> bytes:
    """The archive with the middle of its compressed data overwritten: the directory reads well, the member does not."""
    middle = len(archive) // 2
    return archive[: middle - 32] + bytes(64) + archive[middle + 32 :]


def republished(archive: bytes, params: Mapping[str, Any]) -> bytes:
    """A sound archive that says something else: of each `every`-th line of its table the number at `field` is multiplied by `factor`."""
    field, factor, every = int(params.get("field", 2)), float(params.get("factor", 1.001)), int(params.get("every", 12))
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w") as new:
        (entry,) = old.infolist()
        header, *lines = old.read(entry).decode().splitlines()
        for number in range(every - 1, len(lines), every):
            cells = lines[number].split(",")
            cells[field] = f"{float(cells[field]) * factor:.8f}"
            lines[number] = ",".join(cells)
        new.writestr(entry, "\n".join([header, *lines, ""]))
    return buffer.getvalue()


@lru_cache(maxsize=2)
def bomb(megabytes: int) -> bytes:
    """A small archive whose one member inflates to `megabytes` of zeros."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        entry = zipfile.ZipInfo("bomb.csv", (2026, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(entry, "w") as member:
            block = bytes(1 << 20)
            for _ in range(megabytes):
                member.write(block)
    return buffer.getvalue()
