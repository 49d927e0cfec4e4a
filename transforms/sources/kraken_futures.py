"""Kraken Futures: linear perpetuals against USD (PF_), and the inverse ones on bitcoin and ether (PI_XBTUSD, PI_ETHUSD).

Linear contracts are counted in base units, inverse ones in USD; they are datasets of their own wherever amounts stand (`...-inverse`).
Bars and taker volumes of inverse contracts are not asked for: their amounts are USD, and nobody but the venue knows the prices to divide by.

Funding: every answer states an absolute rate, an amount of money per contract and hour, and history also a relative one. Only the
relative one is a fraction and only it is read; the rate on display in `tickers` is absolute and is left out. The endpoint knows no range: a
question for one hour is answered with everything since the first trade, and what lies outside the window is passed over.

Of the analytics are left out: `long-short-ratio`, for no document says what is divided by what, and what `long-short-info` calls `ratio` is
a share of longs (the counts of heads beside it are read instead); `liquidation-volume`, which does not tell longs from shorts, while
core.liquidations is of sides; `future-basis`, whose document states neither formula nor unit; `funding`, which is the rate as it forms.

Errors come with any status, HTTP 200 included: {"result":"error","error":...}. Documents: https://docs.kraken.com/api/docs/futures-api/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import msgspec

from transforms import conventions
from transforms.sources import kraken_futures_rows as rows
from transforms.sources import kraken_futures_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Budget, Decoded, Disposition, Instrument, Series, Source, Unreadable, decoded_by
from transforms.windows import HOUR, Window

INSTRUMENTS: Final = "instruments"
TICKERS: Final = "tickers"
TICKERS_INVERSE: Final = "tickers-inverse"
FUNDING: Final = "historicalfundingrates"
CANDLES: Final = "candles"
INTEREST: Final = "open-interest"
INTEREST_INVERSE: Final = "open-interest-inverse"
HEADS: Final = "long-short-info"
TOP: Final = "top-traders"
FLOW: Final = "cvd"
#: endpoint -> the venue's name of the analytics
ANALYTICS: Final[Mapping[str, str]] = {INTEREST: "open-interest", INTEREST_INVERSE: "open-interest", HEADS: HEADS, TOP: TOP, FLOW: FLOW}
#: what is asked about a linear and about an inverse contract, hour by hour
LINEAR: Final = (FUNDING, CANDLES, INTEREST, HEADS, TOP, FLOW)
INVERSE: Final = (FUNDING, INTEREST_INVERSE, HEADS, TOP)
#: buckets and bars of one page: the venue sends 2000 candles at once, and says `more` where it stops short
PAGE: Final = 1000
#: a snapshot describes now; it is asked for only in windows that end about now
SNAPSHOT_REACH: Final = timedelta(hours=2)
#: errors that pass by themselves
PASSING: Final = ("apiLimitExceeded", "Server Error", "Unavailable")


class KrakenFutures(Source):
    """See the module's docstring."""

    name = rows.SOURCE
    hosts: Mapping[str, str] = {"api": "https://futures.kraken.com"}
    #: public endpoints have no published limit; client libraries send a request each 0.6 s
    budgets: Mapping[str, Budget] = {"default": Budget(100, 60)}
    endpoints: Mapping[str, str] = {
        INSTRUMENTS: "instruments",
        TICKERS: "open_interest",
        TICKERS_INVERSE: "open_interest",
        FUNDING: "funding",
        CANDLES: "candles",
        INTEREST: "open_interest",
        INTEREST_INVERSE: "open_interest",
        HEADS: "long_short",
        TOP: "long_short",
        FLOW: "taker_flow",
    }
    also: Mapping[str, tuple[str, ...]] = {TICKERS: ("marks",), TICKERS_INVERSE: ("marks",)}
    listing: Sequence[Mapping[str, tuple[str, ...]]] = (
        {"contract_type": (f"flexible_futures {rows.PERPETUAL}",), "quote_asset": ("USD",), "instrument_status": ("tradeable",)},
        {"instrument": ("PI_XBTUSD", "PI_ETHUSD"), "instrument_status": ("tradeable",)},
    )

    # -- what to ask

    def catalogue(self, now: datetime) -> Series:
        return Series(self.name, INSTRUMENTS, "", Window(now - HOUR, now))

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        """Histories from a contract's opening on; one question for the state of all contracts of a kind when the window ends about now."""
        linear, inverse = (
            sorted((one for one in instruments if one.instrument.startswith(prefix)), key=lambda one: one.instrument)
            for prefix in ("PF_", "PI_")
        )
        for one in (*linear, *inverse):
            whole = common.known_span(window, one, now)
            if whole is None:
                continue
            for endpoint in LINEAR if one in linear else INVERSE:
                start = max(whole.start, conventions.instant(self.name, endpoint, "history_since", now))
                if start < whole.end and Window(start, whole.end).grid(HOUR):
                    yield Series(self.name, endpoint, one.instrument, Window(start, whole.end), HOUR)
        if window.start < now and now - window.end <= SNAPSHOT_REACH:
            for endpoint, ours in ((TICKERS, linear), (TICKERS_INVERSE, inverse)):
                if ours:
                    yield Series(self.name, endpoint, ",".join(one.instrument for one in ours), window)

    def asks(self, series: Series) -> Iterator[Ask]:
        """Stamps are Unix seconds. A page ends a second before the next bucket, however ends are counted."""
        name = series.instrument
        match series.endpoint:
            case "instruments":
                yield Ask(series, "api", "/derivatives/api/v3/instruments")
            case "tickers" | "tickers-inverse":
                yield Ask(series, "api", "/derivatives/api/v3/tickers")
            case "historicalfundingrates":
                yield Ask(series, "api", "/derivatives/api/v4/historicalfundingrates", (("symbol", name),))
            case "candles":
                for first, last in self._pages(series):
                    yield Ask(series, "api", f"/api/charts/v1/trade/{name}/1h", (("from", str(first)), ("to", str(last))))
            case endpoint if endpoint in ANALYTICS:
                for first, last in self._pages(series):
                    params = (("since", str(first)), ("to", str(last)), ("interval", "3600"))
                    yield Ask(series, "api", f"/api/charts/v1/analytics/{name}/{ANALYTICS[endpoint]}", params)
            case unknown:
                raise ValueError(f"kraken_futures has no endpoint {unknown!r}; it has {', '.join(self.endpoints)}")

    @staticmethod
    def _pages(series: Series) -> Iterator[tuple[int, int]]:
        for stamps in common.pages(series, PAGE):
            first, last = common.labels_ms(series, stamps)
            yield first // 1000, last // 1000 + 3599

    def follow(self, ask: Ask, answer: Answer) -> Ask | None:
        """Where the venue stops short of the page's end, it goes on after its last bucket."""
        start = {CANDLES: "from", **dict.fromkeys(ANALYTICS, "since")}.get(ask.series.endpoint)
        if start is None:
            return None
        try:
            last = _last(ask.series.endpoint, answer.body)
        except (Unreadable, msgspec.DecodeError):
            return None
        params = dict(ask.params)
        if last is None or not int(params[start]) < last + 3600 <= int(params["to"]):
            return None
        return replace(ask, params=tuple((name, str(last + 3600) if name == start else value) for name, value in ask.params))

    def classify(self, ask: Ask, answer: Answer) -> Disposition:
        """The venue's own errors, whatever their status."""
        verdict = super().classify(ask, answer)
        if answer.status == 0 or verdict.reason_code in ("HTTP_BLOCKED", "HTTP_BANNED", "CONTENT_TYPE"):
            return verdict
        if not (said := shapes.venue_error(answer.body)):
            return verdict
        detail = f"HTTP {answer.status} from {ask.target}: {said}"
        if any(word in said for word in PASSING):
            return Disposition("retry", "HTTP_EXHAUSTED", detail, verdict.wait)
        return verdict if verdict.verb == "retry" else Disposition("reject", "VENUE_ERROR", detail)

    # -- how to read the answer

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        return decoded_by(self, DECODERS, ask, answer)


def _last(endpoint: str, body: bytes) -> int | None:
    """Label of the last bucket in seconds, None when the venue holds no more after it."""
    if endpoint == CANDLES:
        envelope, _ = shapes.CANDLES.one(body, "candles")
        bars = shapes.CANDLE.many(envelope.candles, "candles").rows if envelope.more_candles else []
        return max((bar.time // 1000 for bar in bars), default=None)
    found, _ = shapes.page(body, "")
    return max((msgspec.json.decode(raw, type=int) for raw in found.timestamp), default=None) if found.more else None


DECODERS: Final[Mapping[str, Callable[[Ask, Answer], Decoded]]] = {
    INSTRUMENTS: rows.listing,
    TICKERS: rows.tickers,
    TICKERS_INVERSE: rows.tickers,
    FUNDING: rows.funding,
    CANDLES: rows.candles,
    INTEREST: rows.open_interest,
    INTEREST_INVERSE: rows.open_interest,
    HEADS: rows.heads,
    TOP: rows.heads,
    FLOW: rows.flow,
}

SOURCE: Final = KrakenFutures()
