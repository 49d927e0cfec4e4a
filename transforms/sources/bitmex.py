"""BitMEX: perpetuals as they stand, settled funding since 2016, hourly bars of trades since 2017.

One answer, `/instrument/active`, lists the contracts and says how each stands: open interest, mark and index price, and the running
funding estimate. Open interest has no history: an hour nobody asked in has none, and `/stats`, which sums over symbols and carries no
stamp, is not used (PITFALLS A10). Neither is `/liquidation`: it lists liquidation ORDERS that are open now, without a time and without
what was liquidated before, so no total can be made of it (PITFALLS D6).

XBT is BTC (PITFALLS E5). What a contract is worth is said by the listing itself: an inverse one is `multiplier / underlyingToSettleMultiplier`
USD, a linear one `1 / underlyingToPositionMultiplier` coins. A quanto contract is a fixed amount of bitcoin per dollar of another coin's
price: neither a number of coins nor one of dollars, so it is put aside (CONVENTION). `openValue` is the venue's own conversion into the
settlement currency's smallest unit; where it does not agree with contracts, size and mark, one of them changed its unit and the row is
put aside.

Bars are stamped at their END, and their open is the close of the bar before, not the first trade.

Documents: https://www.bitmex.com/api/explorer/ , https://www.bitmex.com/app/restAPI ; contract sizes:
https://support.bitmex.com/hc/en-gb/articles/16797952159261
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from transforms import conventions
from transforms.reading import to_us
from transforms.sources import bitmex_rows as rows
from transforms.sources import bitmex_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Budget, Decoded, Disposition, Instrument, Series, Source, Unreadable, decoded_by
from transforms.windows import HOUR, Window

#: rows a page; the venue serves 500, of bars 1,000
PAGE_ROWS: Final = 500
FUNDING_SPAN: Final = timedelta(days=150)  # 450 settlements at 8 h; `follow` takes what a shorter interval adds
MILLISECOND: Final = timedelta(milliseconds=1)


class BitMEX(Source):
    """See the module's docstring."""

    name = "bitmex"
    hosts: Mapping[str, str] = {"api": "https://www.bitmex.com/api/v1"}
    #: without a key 30 requests a minute
    budgets: Mapping[str, Budget] = {"default": Budget(30, 60)}
    endpoints: Mapping[str, str] = {rows.ACTIVE: "instruments", rows.FUNDING: "funding", rows.BUCKETED: "candles"}
    also: Mapping[str, tuple[str, ...]] = {rows.ACTIVE: ("open_interest", "marks", "funding")}
    listing: Sequence[Mapping[str, tuple[str, ...]]] = rows.LISTING

    # -- what to ask

    def catalogue(self, now: datetime) -> Series:
        """Every active instrument and how it stands; asked once per run, so `plan` does not ask it again."""
        return Series(self.name, rows.ACTIVE, "", Window(now - HOUR, now))

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        """Settlements and bars of perpetuals in this venue's spelling (others are passed over), up to `now`, from their listing on."""
        ours = (one for one in instruments if common.or_none(rows.spelled, one.instrument) is not None)
        for one in sorted(ours, key=lambda one: one.instrument):
            whole = common.known_span(window, one, now)
            for endpoint, step in ((rows.FUNDING, None), (rows.BUCKETED, HOUR)):
                if whole is None:
                    continue
                start = max(whole.start, conventions.instant(self.name, endpoint, "history_since", now))
                if start < whole.end and (step is None or Window(start, whole.end).grid(step)):
                    yield Series(self.name, endpoint, one.instrument, Window(start, whole.end), step)

    def asks(self, series: Series) -> Iterator[Ask]:
        """Ranges are inclusive on both ends; `reverse=false` makes pages ascend."""
        tail = (("count", str(PAGE_ROWS)), ("reverse", "false"))
        match series.endpoint:
            case rows.ACTIVE:
                yield Ask(series, "api", "/instrument/active")
            case rows.FUNDING:
                for piece in series.window.split(FUNDING_SPAN):
                    # the settlement at the window's start pays for the interval before it
                    span = _span(piece.start + common.JITTER, piece.end + common.JITTER - MILLISECOND)
                    yield Ask(series, "api", "/funding", (("symbol", series.instrument), *span, *tail))
            case rows.BUCKETED:
                shift = conventions.shift(self.name, rows.BUCKETED, series.window.start)
                for stamps in common.pages(series, PAGE_ROWS):
                    head = (("binSize", "1h"), ("partial", "false"), ("symbol", series.instrument))
                    yield Ask(series, "api", "/trade/bucketed", (*head, *_span(stamps[0] - shift, stamps[-1] - shift), *tail))
            case unknown:
                raise ValueError(f"bitmex has no endpoint {unknown!r}; it has {', '.join(self.endpoints)}")

    def follow(self, ask: Ask, answer: Answer) -> Ask | None:
        """A full page of settlements goes on after its last one."""
        if ask.series.endpoint != rows.FUNDING:
            return None
        try:
            page = shapes.FUNDING.many(answer.body, "funding")
        except Unreadable:
            return None
        params = dict(ask.params)
        came = [row.timestamp for row in page.rows if row.timestamp in ask.series.window]
        if len(page.rows) + len(page.rejects) < int(params["count"]) or not came:
            return None
        start = max(came).astimezone(UTC) + MILLISECOND
        if not _iso(start) > params["startTime"] or _iso(start) > params["endTime"]:
            return None
        return replace(ask, params=tuple((name, _iso(start) if name == "startTime" else value) for name, value in ask.params))

    def classify(self, ask: Ask, answer: Answer) -> Disposition:
        """The venue's own words; and when it is too fast for it, the instant it names where it gives no Retry-After."""
        verdict = super().classify(ask, answer)
        if answer.status == 0 or not (said := shapes.venue_error(answer.body)):
            return verdict
        detail = f"HTTP {answer.status} from {ask.target}: {said}"
        if verdict.verb == "retry":
            reset = answer.header("x-ratelimit-reset")
            wait = verdict.wait
            if wait is None and answer.status == 429 and reset.isdecimal() and len(reset) < 12:
                wait = max(0.0, (int(reset) * common.SECOND - to_us(answer.fetched_at)) / common.SECOND)
            return Disposition("retry", "HTTP_EXHAUSTED", detail, wait)
        if verdict.reason_code == "HTTP_STATUS":
            return Disposition("reject", "VENUE_ERROR", detail)
        return verdict

    # -- how to read the answer

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        return decoded_by(self, DECODERS, ask, answer)


DECODERS: Final[Mapping[str, Callable[[Ask, Answer], Decoded]]] = {
    rows.ACTIVE: rows.active,
    rows.FUNDING: rows.funding,
    rows.BUCKETED: rows.bars,
}


def _iso(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{instant.microsecond // 1000:03d}Z"


def _span(start: datetime, end: datetime) -> tuple[tuple[str, str], ...]:
    return ("startTime", _iso(start)), ("endTime", _iso(end))


SOURCE: Final = BitMEX()
