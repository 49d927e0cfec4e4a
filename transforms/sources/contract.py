"""What a source is: it says what to ask, how to page and how to read the answer. It never reaches a network (sans-I/O).

    catalogue(now) -> Series        the question that lists the source's instruments, if it has one
    plan(window, ...) -> Series     the questions of one window: an endpoint, an instrument, a span, the stamps to expect
    asks(series)      -> Ask        pages cut up front, so that they run in parallel
    follow(ask, answer) -> Ask      one more page, where an endpoint cannot be cut up front
    classify(answer)  -> Disposition  accept, retry later, or reject with a reason
    decode(ask, answer) -> Decoded  rows of core tables, and rejects with reasons

One fetcher (plugins/fetcher.py) executes all sources. Decoders are pure: the same bytes give the same rows.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import urlencode

import pyarrow as pa

from transforms.schema import arrow_schema, empty
from transforms.tables import TABLES
from transforms.windows import Window

#: Machine-readable reasons for a reject. docs/operations.md explains each; a code outside this list raises.
REASONS: Final[dict[str, str]] = {
    "HTTP_STATUS": "the answer's status is neither success nor worth a retry",
    "HTTP_BLOCKED": "the venue refuses this location (403, 451)",
    "HTTP_BANNED": "the venue banned this address for asking too fast (418)",
    "HTTP_EXHAUSTED": "still failing after the last retry (429, 5xx, time-out, dropped connection)",
    "CONTENT_TYPE": "the answer is not of the type the endpoint serves, e.g. an HTML error page",
    "TRUNCATED": "the answer ends in the middle",
    "MALFORMED": "the answer is not the declared format",
    "SHAPE": "a field is missing, extra where none may be, or of another type",
    "VENUE_ERROR": "the venue answered with an error body",
    "VALUE": "a value is outside its declared limits, not finite, or not a number",
    "CONVENTION": "a unit, side, interval or symbol is outside the venue's declared convention",
    "STAMP": "a stamp is off the endpoint's grid or outside the window asked for",
    "CHECKSUM": "an archive does not match its published SHA-256",
    "ARCHIVE": "an archive is damaged, holds unexpected members, or would unpack beyond its limit",
    "ZERO_OPEN_INTEREST": "open interest of exactly 0 on a trading contract",
    "SUSPECT": "a detector says that the source is broken: the row is well-formed and not to be trusted",
    "EXPECTATION": "the row fails an expectation of its table",
    "DUPLICATE_KEY": "two different values for one key in one answer",
    "MISSING": "a value that must be present is null",
    "BLOCKED": "nothing is wrong with the row itself, but its partition was held back whole",
}


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `weight` units per `per` seconds, shared by all requests that name the budget. No ask weighs more than `heaviest`."""

    weight: float
    per: float
    heaviest: float = 1.0


@dataclass(frozen=True, slots=True)
class Instrument:
    """A contract as a source lists it: its own spelling, the asset behind it, coins per base unit (1000 for 1000PEPE).

    `contract_size` is what one contract stands for, in base units or, where `payoff` is inverse, in USD as a rule (`contract_unit`).
    """

    instrument: str
    venue: str
    asset: str
    base_multiplier: float = 1.0
    listed_at: datetime | None = None
    payoff: str = "linear"
    contract_size: float = 1.0
    contract_unit: str = "base"
    quote_asset: str = "USDT"


@dataclass(frozen=True, slots=True)
class Series:
    """One thing to ask about over one window. `step` is the grid its stamps lie on, None where there is no regular grid."""

    source: str
    endpoint: str
    instrument: str
    window: Window
    step: timedelta | None = None
    #: name=value pairs an endpoint needs beyond the instrument, e.g. period
    options: tuple[tuple[str, str], ...] = ()

    @property
    def instruments(self) -> tuple[str, ...]:
        """The instruments asked for: several where an endpoint takes them comma-joined, none where it serves all or knows none."""
        return tuple(name for name in self.instrument.split(",") if name)

    def expected(self) -> list[datetime] | None:
        """The `as_of` stamps a complete answer holds, for each of its instruments."""
        return None if self.step is None else self.window.grid(self.step)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `host` names one of the source's hosts, whose address is configuration."""

    series: Series
    host: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    budget: str = "default"
    weight: float = 1.0
    #: what `classify` insists on
    accept: Literal["json", "zip", "text"] = "json"
    #: answer to this other path must arrive with it (the CHECKSUM of an archive)
    companion: str = ""
    #: JSON sent by POST; empty: the request is a GET
    body: str = ""

    @property
    def target(self) -> str:
        """Path and query, as sent: `/fapi/v1/fundingRate?symbol=BTCUSDT&limit=1000`."""
        return self.path + (f"?{urlencode(self.params)}" if self.params else "")

    @property
    def question(self) -> str:
        """What tells this request from others to the same host: the target, and after a blank the JSON that is posted to it."""
        return f"{self.target} {self.body}" if self.body else self.target


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, untouched. `status` 0 means that nothing came (time-out, refused, dropped) and `body` says what happened."""

    status: int
    body: bytes
    fetched_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict)
    #: body of the companion, where the ask names one; empty when it did not come
    companion: bytes = b""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    def header(self, name: str) -> str:
        """Header by name, case-insensitive; empty when absent."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "")


@dataclass(frozen=True, slots=True)
class Reject:
    """A row or an answer put aside. `row` is the evidence: the offending part, as text."""

    target: str
    reason_code: str
    detail: str
    row: str = ""

    def __post_init__(self) -> None:
        if self.reason_code not in REASONS:
            raise ValueError(f"reason code {self.reason_code!r} is not declared in transforms/sources/contract.py")


class Unreadable(Exception):
    """An answer nothing can be taken from. Carries the Reject; the load step turns it into a quarantine row."""

    def __init__(self, reject: Reject) -> None:
        super().__init__(f"{reject.reason_code}: {reject.detail}")
        self.reject = reject


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows by core table (columns: `TABLES[name].decoded`) and what was put aside.

    `rows` = all rows that the answer held for the target = sum of table rows + len(rejects) of rows.
    """

    tables: Mapping[str, pa.Table]
    rejects: Sequence[Reject] = ()
    #: what a person should know although no row suffered, e.g. a field the venue's document does not name
    notes: Sequence[str] = ()

    @property
    def rows(self) -> int:
        return sum(int(table.num_rows) for table in self.tables.values()) + len(self.rejects)


@dataclass(frozen=True, slots=True)
class Disposition:
    """What to do with an answer: `accept`, `retry` (after `wait` seconds, or the fetcher's own back-off when None) or `reject`."""

    verb: Literal["accept", "retry", "reject"]
    reason_code: str = ""
    detail: str = ""
    wait: float | None = None


RETRIED: Final = frozenset({0, 408, 425, 429, 500, 502, 503, 504})
_TYPES: Final = {"json": ("json",), "zip": ("zip", "octet-stream"), "text": ("text/plain", "octet-stream", "csv")}


class Source(ABC):
    """One teller. Subclasses are stateless; the module's instance is called SOURCE."""

    name: str
    #: host name -> live base address; configuration may point them elsewhere
    hosts: Mapping[str, str]
    budgets: Mapping[str, Budget]
    #: endpoint -> core table it fills
    endpoints: Mapping[str, str]
    #: endpoint -> further core tables it fills
    also: Mapping[str, tuple[str, ...]] = {}
    #: endpoint -> endpoints that together say the same: what all of them proved complete need not be asked of it
    twins: Mapping[str, tuple[str, ...]] = {}
    #: endpoint -> how far back the source rewrites what it said: daily runs ask that again, complete or not (PITFALLS F2, F3)
    rewrites: Mapping[str, timedelta] = {}
    #: which listed instruments are asked about: rows of core.instruments that match one of these (column -> words; see `tradable`)
    listing: Sequence[Mapping[str, tuple[str, ...]]] = (
        {"quote_asset": ("USDT",), "margin_asset": ("USDT",), "contract_type": ("PERPETUAL",), "instrument_status": ("TRADING",)},
    )
    #: environment variable that holds the key, and the header it travels in; empty for public sources
    key_variable: str = ""
    key_header: str = ""

    def catalogue(self, now: datetime) -> Series | None:
        """What lists the instruments, asked before `plan`; None for a source without instruments."""
        return None

    @abstractmethod
    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterable[Series]:
        """The series that cover `window`. `now` is the venue's clock: it decides between live endpoints and archives."""

    def plan_recheck(self, files: Sequence[Mapping[str, Any]], now: datetime) -> Iterable[Series]:
        """What tells whether files of an archive were published again; `files`: rows of `archive_files`. Nothing for a source without files."""
        return ()

    def plan_republished(self, files: Sequence[Mapping[str, Any]], seen: Sequence[Mapping[str, Any]]) -> Iterable[Series]:
        """What to read again; `seen`: the rows of `archive_files` that the answers to `plan_recheck` gave."""
        return ()

    @abstractmethod
    def asks(self, series: Series) -> Iterable[Ask]:
        """The requests of one series, in order of time."""

    def follow(self, ask: Ask, answer: Answer) -> Ask | None:
        """The next page where the number of pages cannot be known beforehand; None when `answer` was the last."""
        return None

    def classify(self, ask: Ask, answer: Answer) -> Disposition:
        """Default reading of a status line; venues with their own habits extend it."""
        if answer.status in RETRIED:
            wait = answer.header("Retry-After").strip()
            what = answer.body[:200].decode("utf-8", "replace") if answer.status == 0 else f"HTTP {answer.status}"
            return Disposition("retry", "HTTP_EXHAUSTED", what, float(wait) if wait.isascii() and wait.isdigit() else None)
        if answer.status in (403, 451):
            return Disposition(
                "reject",
                "HTTP_BLOCKED",
                f"HTTP {answer.status} from {ask.host}{ask.path}: the venue refuses this location; use its archive or another exit",
            )
        if answer.status == 418:
            return Disposition(
                "reject",
                "HTTP_BANNED",
                f"HTTP 418 from {ask.host}{ask.path}: banned for asking too fast; lower the budget in transforms/sources/{self.name}.py",
            )
        if not 200 <= answer.status < 300:
            return Disposition(
                "reject", "HTTP_STATUS", f"HTTP {answer.status} from {ask.host}{ask.path}: {answer.body[:200].decode('utf-8', 'replace')}"
            )
        kind = answer.header("Content-Type").lower()
        if not any(word in kind for word in _TYPES[ask.accept]):
            return Disposition("reject", "CONTENT_TYPE", f"content type {kind!r} from {ask.host}{ask.path}, expected {ask.accept}")
        return Disposition("accept")

    @abstractmethod
    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        """Rows of an accepted answer. Raises Unreadable when nothing can be taken from it."""


def decoded_by(source: Source, decoders: Mapping[str, Callable[[Ask, Answer], Decoded]], ask: Ask, answer: Answer) -> Decoded:
    """What the endpoint's decoder makes of an answer. What no convention declares makes it Unreadable (CONVENTION); an endpoint without a
    decoder is our own mistake, a ValueError.
    """
    endpoint = ask.series.endpoint
    if endpoint not in decoders:
        raise ValueError(f"{source.name} has no endpoint {endpoint!r}; it has {', '.join(source.endpoints)}")
    try:
        return decoders[endpoint](ask, answer)
    except LookupError as undeclared:
        raise Unreadable(Reject(source.endpoints[endpoint], "CONVENTION", str(undeclared), ask.question)) from undeclared


def ask_to_json(ask: Ask) -> str:
    """The envelope as stored beside the bytes, so that a stored answer can be decoded again (replay)."""
    series = ask.series
    return json.dumps(
        {
            "source": series.source,
            "endpoint": series.endpoint,
            "instrument": series.instrument,
            "start": series.window.start.isoformat(),
            "end": series.window.end.isoformat(),
            "step_s": None if series.step is None else series.step.total_seconds(),
            "options": list(map(list, series.options)),
            "host": ask.host,
            "path": ask.path,
            "params": list(map(list, ask.params)),
            "body": ask.body,
            "budget": ask.budget,
            "weight": ask.weight,
            "accept": ask.accept,
            "companion": ask.companion,
        },
        sort_keys=True,
    )


def ask_from_json(text: str) -> Ask:
    """Inverse of `ask_to_json`."""
    stored = json.loads(text)
    series = Series(
        stored["source"],
        stored["endpoint"],
        stored["instrument"],
        Window(datetime.fromisoformat(stored["start"]), datetime.fromisoformat(stored["end"])),
        None if stored["step_s"] is None else timedelta(seconds=stored["step_s"]),
        tuple((name, value) for name, value in stored["options"]),
    )
    return Ask(
        series,
        stored["host"],
        stored["path"],
        tuple((n, v) for n, v in stored["params"]),
        body=stored.get("body", ""),  # answers stored before any source posted lack it
        budget=stored["budget"],
        weight=stored["weight"],
        accept=stored["accept"],
        companion=stored["companion"],
    )


def table_of(name: str, columns: Mapping[str, object]) -> pa.Table:
    """A decoded core table from columns; a missing or extra column raises, values are cast to the declared types."""
    table = TABLES[name]
    schema = arrow_schema(table, table.decoded)
    if set(columns) != set(schema.names):
        raise ValueError(f"decoder of {name} filled {sorted(columns)}, declared are {sorted(schema.names)}")
    return pa.table({column: pa.array(columns[column], type=schema.field(column).type) for column in schema.names}, schema=schema)


def nothing(name: str) -> pa.Table:
    """A decoded core table without rows."""
    table = TABLES[name]
    return empty(table, table.decoded)
