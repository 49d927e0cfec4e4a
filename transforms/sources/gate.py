"""Gate: USDT perpetuals by REST: open interest, long/short, liquidations and taker flow in one answer, funding, premium, bars, snapshots.

Two endpoints speak of open interest and count differently: `contract_stats` adds longs and shorts, `contract` (position_size) holds the
longs alone. Both are in contracts, of `quanto_multiplier` base units each; histories do not state that size, so the question carries it
as the listing had it (option contract_size). `contract_stats` also states USD: a row whose USD do not fit contracts, size and mark price is
put aside, for then the way of counting, or the size, has changed.

What is called lsr_* are four different things: heads of all holders, heads and positions of top traders, and takers' volumes. The first
three become typed splits; of the fourth the volumes themselves are read, where the venue sends them. The venue's older documents had
lsr_account and lsr_taker interchanged; the present one is followed.

Public liquidation orders (liq_orders) are not asked for.

Histories reach 180 days back, bars 10,000 points. Documents: https://www.gate.com/docs/developers/apiv4/en/#futures
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from transforms import conventions
from transforms.reading import to_us
from transforms.sources import gate_rows as rows
from transforms.sources import gate_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Budget, Decoded, Disposition, Instrument, Series, Source, Unreadable, decoded_by
from transforms.windows import HOUR, Window, floor

STATS: Final = "contract_stats"
FUNDING: Final = "funding_rate"
CANDLES: Final = "candlesticks"
PREMIUM: Final = "premium_index"
CONTRACTS: Final = "contracts"
CONTRACT: Final = "contract"
#: endpoint -> rows of one page. Bars refuse `limit` beside a range, so the range is cut
PAGE: Final[Mapping[str, int]] = {STATS: 100, CANDLES: 2000, PREMIUM: 1000}
FUNDING_ROWS: Final = 1000
#: hourly settlements of it stay below a full page; no contract settles more often
FUNDING_SPAN: Final = timedelta(hours=960)
#: a snapshot describes now; it is asked for only in windows that end about now
SNAPSHOT_REACH: Final = timedelta(hours=2)
#: requests of a long run leave later than the plan's `now`
SLACK: Final = HOUR


class Gate(Source):
    """See the module's docstring. `contracts` lists all contracts, `contract` is the state of one."""

    name = rows.SOURCE
    hosts: Mapping[str, str] = {"api": "https://api.gateio.ws/api/v4"}
    #: 200 requests in 10 s for each public endpoint; all of ours together take half of that
    budgets: Mapping[str, Budget] = {"default": Budget(100, 10)}
    endpoints: Mapping[str, str] = {
        STATS: "open_interest",
        FUNDING: "funding",
        CANDLES: "candles",
        PREMIUM: "premiums",
        CONTRACT: "open_interest",
        CONTRACTS: "instruments",
    }
    also: Mapping[str, tuple[str, ...]] = {STATS: ("long_short", "liquidations", "taker_flow"), CONTRACT: ("marks", "funding")}
    listing: Sequence[Mapping[str, tuple[str, ...]]] = (
        {"quote_asset": ("USDT",), "margin_asset": ("USDT",), "contract_type": ("direct",), "instrument_status": ("trading",)},
    )

    # -- what to ask

    def catalogue(self, now: datetime) -> Series:
        return Series(self.name, CONTRACTS, "", Window(now - HOUR, now))

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        """Histories from a contract's listing on, as far back as each endpoint goes; snapshots when the window ends about now."""
        ours = sorted((one for one in instruments if one.instrument.endswith("_USDT")), key=lambda one: one.instrument)
        for one in ours:
            whole = common.known_span(window, one, now)
            if whole is None:
                continue
            size = (("contract_size", repr(one.contract_size)),)
            for endpoint, step, options in ((STATS, HOUR, size), (FUNDING, None, ()), (CANDLES, HOUR, size), (PREMIUM, HOUR, ())):
                depth = conventions.span(self.name, endpoint, "history_depth", now)
                start = max(whole.start, floor(now - depth + SLACK, HOUR) + HOUR)
                if start < whole.end:
                    yield Series(self.name, endpoint, one.instrument, Window(start, whole.end), step, options)
        if window.start < now and now - window.end <= SNAPSHOT_REACH:
            for one in ours:
                yield Series(self.name, CONTRACT, one.instrument, window)

    def asks(self, series: Series) -> Iterator[Ask]:
        """Stamps are Unix seconds, ranges inclusive at both ends."""
        name = (("contract", series.instrument),)
        hourly = ("interval", "1h")
        match series.endpoint:
            case "contract_stats":
                for first, _, count in self._pages(series):
                    yield self._ask(series, STATS, *name, ("from", str(first)), hourly, ("limit", str(count)))
            case "candlesticks" | "premium_index":
                for first, last, _ in self._pages(series):
                    yield self._ask(series, series.endpoint, *name, ("from", str(first)), ("to", str(last)), hourly)
            case "funding_rate":
                for piece in series.window.split(FUNDING_SPAN):
                    # settlements land seconds late: the one that pays for the interval before the window stays out, the last one in
                    first, last = (_seconds(edge + rows.LATE) for edge in (piece.start, piece.end))
                    yield self._ask(series, FUNDING, *name, ("from", str(first + 1)), ("to", str(last)), ("limit", str(FUNDING_ROWS)))
            case "contract":
                yield self._ask(series, f"{CONTRACTS}/{series.instrument}")
            case "contracts":
                yield self._ask(series, CONTRACTS)
            case unknown:
                raise ValueError(f"gate has no endpoint {unknown!r}; it has {', '.join(self.endpoints)}")

    def _pages(self, series: Series) -> Iterator[tuple[int, int, int]]:
        """First and last label of each page in seconds, and how many labels it holds."""
        for stamps in common.pages(series, PAGE[series.endpoint]):
            first, last = common.labels_ms(series, stamps)
            yield first // 1000, last // 1000, len(stamps)

    @staticmethod
    def _ask(series: Series, path: str, *params: tuple[str, str]) -> Ask:
        return Ask(series, "api", f"/futures/usdt/{path}", params)

    def follow(self, ask: Ask, answer: Answer) -> Ask | None:
        """A full page of settlements, which the venue sends newest first, goes on before its oldest one."""
        if ask.series.endpoint != FUNDING:
            return None
        try:
            page = shapes.SETTLEMENT.many(answer.body, "funding")
        except Unreadable:
            return None
        params = dict(ask.params)
        if len(page.rows) + len(page.rejects) < int(params["limit"]) or not page.rows:
            return None
        last = min(row.t for row in page.rows) - 1
        if not int(params["from"]) <= last < int(params["to"]):
            return None
        return replace(ask, params=tuple((name, str(last) if name == "to" else value) for name, value in ask.params))

    def classify(self, ask: Ask, answer: Answer) -> Disposition:
        """Errors carry a label. Too many requests: the header says when the count begins anew."""
        verdict = super().classify(ask, answer)
        if answer.status == 429 and verdict.wait is None:
            anew = answer.header("X-Gate-RateLimit-Reset-Timestamp")
            if anew.isdecimal() and len(anew) <= 11:
                return replace(verdict, wait=min(max(1.0, float(anew) - to_us(answer.fetched_at) / common.SECOND), 60.0))
        if verdict.reason_code in ("HTTP_STATUS", "") and (said := shapes.venue_error(answer.body)):
            return Disposition("reject", "VENUE_ERROR", f"HTTP {answer.status} from {ask.target}: {said}")
        return verdict

    # -- how to read the answer

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        return decoded_by(self, DECODERS, ask, answer)


def _seconds(instant: datetime) -> int:
    return to_us(instant) // common.SECOND


DECODERS: Final[Mapping[str, Callable[[Ask, Answer], Decoded]]] = {
    STATS: rows.stats,
    FUNDING: rows.funding,
    CANDLES: rows.candles,
    PREMIUM: rows.premiums,
    CONTRACT: rows.contract,
    CONTRACTS: rows.listing,
}

SOURCE: Final = Gate()
