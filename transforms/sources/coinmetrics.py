"""Coin Metrics, community API: exchange flows, supply and price of a chain's coin, one value a day.

Data of the community API is licensed CC BY-NC 4.0: it is for non-commercial use, and whoever shows it names Coin Metrics. Who needs it
for business asks the vendor, or leaves this source out (TIDEGAUGE_SOURCES). The limit is 10 requests per 6 s and address; once a day ten
questions are asked.

Flows are restated for weeks, as addresses are found to be an exchange's or not to be one (PITFALLS F3): every answer is a vintage, and
the load step stores what changed as new revisions. The version of the vendor's label set is not published, so no row can carry it.
Each day says itself when it was complete (`AssetEODCompletionTime`), which is when it became known; a vendor that computes the past
anew moves that instant, and a row can then only claim the later one.

One series is one metric of one asset (`btc/FlowInExUSD`), so that each is proved complete by itself and a metric that leaves the
community's tier takes no other with it. A metric without value that day is null there and MISSING here.

Documents: https://docs.coinmetrics.io/api-reference/timeseries/timeseries-rest/asset-metrics ; conditions:
https://docs.coinmetrics.io/access-our-data/api
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Final, NamedTuple

import msgspec
import numpy as np

from transforms import conventions
from transforms.reading import Shape, Sieve, floats, instants, micros, stamp, to_us
from transforms.sources.contract import Answer, Ask, Budget, Decoded, Disposition, Instrument, Reject, Series, Source, Unreadable
from transforms.sources.rows import MICROSECOND, SECOND, pages
from transforms.windows import DAY, Window

SOURCE_NAME: Final = "coinmetrics"
ENDPOINT: Final = "asset-metrics"
TARGET: Final = "chain_metrics"
PATH: Final = "/timeseries/asset-metrics"
COMPLETED: Final = "AssetEODCompletionTime"
#: the vendor's name -> ours. USDT_ETH is what Tether issued on Ethereum: no other chain's USDT is in it (PITFALLS F1)
ASSETS: Final[Mapping[str, str]] = {"btc": "BTC", "eth": "ETH", "usdt_eth": "USDT_ETH"}
#: the vendor's name -> ours
METRICS: Final[Mapping[str, str]] = {
    "FlowInExUSD": "exchange_inflow",
    "FlowOutExUSD": "exchange_outflow",
    "SplyCur": "supply",
    "PriceUSD": "price",
}
#: exchange flows of tokens are not of the community's tier
ASKED: Final[Mapping[str, tuple[str, ...]]] = {"btc": tuple(METRICS), "eth": tuple(METRICS), "usdt_eth": ("SplyCur", "PriceUSD")}
#: the venue serves 10,000; three years a page are a quick answer
PAGE_ROWS: Final = 1000
_ABSENT: Final = msgspec.Raw(b"null")


class Subject(NamedTuple):
    """What a series is about, in the vendor's names."""

    asset: str
    metric: str


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    data: msgspec.Raw
    next_page_token: str | None = None
    next_page_url: msgspec.Raw = _ABSENT


class Point(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A day of one asset. A metric that was not asked for is absent; null is what the vendor has no value for."""

    asset: str
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    completed: str | None = msgspec.field(name=COMPLETED)
    inflow: str | msgspec.UnsetType | None = msgspec.field(default=msgspec.UNSET, name="FlowInExUSD")
    outflow: str | msgspec.UnsetType | None = msgspec.field(default=msgspec.UNSET, name="FlowOutExUSD")
    supply: str | msgspec.UnsetType | None = msgspec.field(default=msgspec.UNSET, name="SplyCur")
    price: str | msgspec.UnsetType | None = msgspec.field(default=msgspec.UNSET, name="PriceUSD")


_FIELDS: Final = dict(zip(METRICS, ("inflow", "outflow", "supply", "price"), strict=True))


class _Said(msgspec.Struct):
    type: str
    message: str = ""


class _Refusal(msgspec.Struct):
    error: _Said


_REFUSALS: Final = msgspec.json.Decoder(_Refusal)


def vendor_error(body: bytes) -> str:
    """The vendor's own error, e.g. `bad_parameter Bad parameter 'assets'. Value 'x' is not supported.`; empty when the body is none."""
    try:
        said = _REFUSALS.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return f"{said.type} {said.message}".rstrip()


ENVELOPE: Final = Shape(Envelope, vendor_error)
POINT: Final = Shape(Point, vendor_error)


def subject(series: Series) -> Subject:
    """Asset and metric of a series' instrument, `btc/FlowInExUSD`; one that is not asked for raises ValueError."""
    asset, _, metric = series.instrument.partition("/")
    if series.endpoint != ENDPOINT or metric not in ASKED.get(asset, ()):
        raise ValueError(f"coinmetrics has no {series.endpoint!r} of {series.instrument!r}; it has {ENDPOINT} of {', '.join(_every())}")
    return Subject(asset, metric)


def _every() -> list[str]:
    return [f"{asset}/{metric}" for asset, metrics in ASKED.items() for metric in metrics]


class CoinMetrics(Source):
    """See the module's docstring."""

    name = SOURCE_NAME
    hosts: Mapping[str, str] = {"api": "https://community-api.coinmetrics.io/v4"}
    budgets: Mapping[str, Budget] = {"default": Budget(10, 6)}
    endpoints: Mapping[str, str] = {ENDPOINT: TARGET}
    rewrites: Mapping[str, timedelta] = {ENDPOINT: timedelta(days=35)}

    # -- what to ask

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        """Each metric of each asset, for the days that are over by `now`."""
        if window.start >= now:
            return
        asked = Window(window.start, min(window.end, now))
        if asked.grid(DAY):
            for name in _every():
                yield Series(self.name, ENDPOINT, name, asked, DAY)

    def asks(self, series: Series) -> Iterator[Ask]:
        """Days by their labels, both ends inclusive; `paging_from=start` makes the pages ascend."""
        about = subject(series)
        shift = conventions.shift(self.name, ENDPOINT, series.window.start)
        for stamps in pages(series, PAGE_ROWS):
            params = (
                ("assets", about.asset),
                ("metrics", f"{about.metric},{COMPLETED}"),
                ("frequency", "1d"),
                ("start_time", f"{stamps[0] - shift:%Y-%m-%d}"),
                ("end_time", f"{stamps[-1] - shift:%Y-%m-%d}"),
                ("page_size", str(PAGE_ROWS)),
                ("paging_from", "start"),
            )
            yield Ask(series, "api", PATH, params)

    def follow(self, ask: Ask, answer: Answer) -> Ask | None:
        """Pages are cut to what is served at once; a vendor that serves less gives a token for the rest."""
        try:
            envelope, _ = ENVELOPE.one(answer.body, TARGET)
        except Unreadable:
            return None
        if not envelope.next_page_token:
            return None
        kept = tuple((name, value) for name, value in ask.params if name != "next_page_token")
        return replace(ask, params=(*kept, ("next_page_token", envelope.next_page_token)))

    def classify(self, ask: Ask, answer: Answer) -> Disposition:
        """403 with the vendor's own words is about a metric that is not free, not about where we are."""
        verdict = super().classify(ask, answer)
        if verdict.reason_code in ("HTTP_STATUS", "HTTP_BLOCKED") and (said := vendor_error(answer.body)):
            return Disposition("reject", "VENUE_ERROR", f"HTTP {answer.status} from {ask.target}: {said}")
        return verdict

    # -- how to read the answer

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        """A row a day. Days that were not complete when we asked, or are complete before their end, are put aside."""
        about, series = subject(ask.series), ask.series
        envelope, notes = ENVELOPE.one(answer.body, TARGET)
        read = POINT.many(envelope.data, TARGET, "$.data")
        rows = read.rows
        sieve = Sieve(TARGET, rows, read.rejects)
        try:
            shift = conventions.shift(self.name, ENDPOINT, series.window.start)
            lag = conventions.span(self.name, ENDPOINT, "lag", series.window.start)
            unit = conventions.text(self.name, ENDPOINT, "native_unit", series.window.start, about.metric)
        except LookupError as undeclared:
            raise Unreadable(Reject(TARGET, "CONVENTION", str(undeclared), ask.target)) from undeclared
        values = [getattr(row, _FIELDS[about.metric]) for row in rows]
        strange = np.array([row.asset != about.asset for row in rows], dtype=np.bool_)
        sieve.refuse(strange, "CONVENTION", lambda i: f"found asset {rows[i].asset!r}, asked for {about.asset}")
        absent = np.array([value is msgspec.UNSET for value in values], dtype=np.bool_)
        sieve.refuse(absent, "SHAPE", lambda _: f"Object missing required field `{about.metric}`")
        as_of = np.array([to_us(row.time) for row in rows], dtype=np.int64) + shift // MICROSECOND
        sieve.inside(as_of, series.window, series.step)
        empty = np.array([value is None or row.completed is None for value, row in zip(values, rows, strict=True)], dtype=np.bool_)
        sieve.refuse(empty, "MISSING", lambda i: f"{about.metric if values[i] is None else COMPLETED} of {stamp(as_of[i])} is null")
        completed, readable = micros([row.completed or "" for row in rows], SECOND)
        sieve.refuse(~readable, "VALUE", lambda i: f"found {COMPLETED} {rows[i].completed!r}, expected Unix seconds")
        asked_at = to_us(answer.fetched_at)
        early = (completed < as_of) | (completed > asked_at)
        sieve.refuse(
            early, "STAMP", lambda i: f"{COMPLETED} {stamp(completed[i])} is not between the day's end {stamp(as_of[i])} and our asking"
        )
        value = sieve.limits("metric_value", floats([value if isinstance(value, str) else "" for value in values]))
        if METRICS[about.metric] in ("supply", "price"):
            sieve.refuse(value == 0.0, "VALUE", lambda i: f"{about.metric} of exactly 0 at {stamp(as_of[i])}")
        sieve.single([as_of], [value, completed])
        columns = {
            "source": self.name,
            "asset": ASSETS[about.asset],
            "metric": METRICS[about.metric],
            "as_of": instants(as_of),
            "known_at": instants(np.maximum(completed, as_of + lag // timedelta(microseconds=1))),
            "metric_value": value,
            "metric_unit": unit,
        }
        return Decoded({TARGET: sieve.table(columns)}, sieve.rejects, [*notes, *read.notes])


SOURCE: Final = CoinMetrics()
