"""OKX: perpetual swaps, linear in USDT and inverse in USD, by public REST.

Open interest is asked of `rubik/stat/contracts/open-interest-history`, which knows the contract; `open-interest-volume` is of a whole
currency and is not asked (PITFALLS A6). Amounts come in contracts: a Series carries payoff and size of its contract in `options`, as the
listing has them, so that a stored answer is decoded by the terms it was asked under, and every row must agree with them.

Rows come newest first. Ranges leave out both of their ends (`begin` and `before` mean newer than, `end` and `after` older than), so a
page is asked from a millisecond before its first label to one after its last: right also if the venue counted the ends in.
An error is a `code` other than "0", mostly under HTTP 200.

Documents: https://www.okx.com/docs-v5/en/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from transforms import conventions
from transforms.sources import okx_orders as orders
from transforms.sources import okx_rows as rows
from transforms.sources import okx_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Budget, Decoded, Disposition, Instrument, Series, Source, Unreadable, decoded_by
from transforms.windows import HOUR, Window, to_ms

#: a snapshot describes now; it is asked for only in windows that end about now
SNAPSHOT_REACH: Final = timedelta(hours=2)
PAGE: Final = 100
FUNDING_SPAN: Final = timedelta(days=30)  # 90 settlements at 8 h; `follow` takes what a shorter interval adds

PATHS: Final[Mapping[str, str]] = {
    "instruments": "/api/v5/public/instruments",
    "open-interest-history": "/api/v5/rubik/stat/contracts/open-interest-history",
    "long-short-account-ratio-contract": "/api/v5/rubik/stat/contracts/long-short-account-ratio-contract",
    "long-short-account-ratio-contract-top-trader": "/api/v5/rubik/stat/contracts/long-short-account-ratio-contract-top-trader",
    "long-short-position-ratio-contract-top-trader": "/api/v5/rubik/stat/contracts/long-short-position-ratio-contract-top-trader",
    "taker-volume-contract": "/api/v5/rubik/stat/taker-volume-contract",
    "history-candles": "/api/v5/market/history-candles",
    "funding-rate-history": "/api/v5/public/funding-rate-history",
    "funding-rate": "/api/v5/public/funding-rate",
    "open-interest": "/api/v5/public/open-interest",
    "mark-price": "/api/v5/public/mark-price",
    "liquidation-orders": "/api/v5/public/liquidation-orders",
}
RUBIK: Final = tuple(name for name, path in PATHS.items() if "/rubik/" in path)
SNAPSHOTS: Final = ("funding-rate", "open-interest", "mark-price")

#: errors that pass by themselves: unavailable, timed out, asked too fast, busy, internal (OKX document, "Error Code", 50000 to 50999)
PASSING: Final = frozenset({"50001", "50004", "50011", "50013", "50026", "50040", "50061"})
#: seconds the host is left alone when we were too fast: limits count spans of two seconds
TOO_FAST: Final[Mapping[str, float]] = {"50011": 2.0, "50040": 2.0, "50061": 2.0}


class Okx(Source):
    """See the module's docstring."""

    name = "okx"
    hosts: Mapping[str, str] = {"api": "https://www.okx.com"}
    #: requests per 2 s, of each endpoint; the venue counts most per address and contract, so an address alone stays far below
    budgets: Mapping[str, Budget] = {
        **dict.fromkeys(RUBIK, Budget(5, 2)),
        "funding-rate-history": Budget(10, 2),
        "funding-rate": Budget(10, 2),
        "mark-price": Budget(10, 2),
        "history-candles": Budget(20, 2),
        "open-interest": Budget(20, 2),
        "instruments": Budget(20, 2),
        "liquidation-orders": Budget(40, 2),
    }
    endpoints: Mapping[str, str] = {
        "instruments": "instruments",
        "open-interest-history": "open_interest",
        **dict.fromkeys(rows.RATIOS, "long_short"),
        "taker-volume-contract": "taker_flow",
        "history-candles": "candles",
        "funding-rate-history": "funding",
        "funding-rate": "funding",
        "open-interest": "open_interest",
        "mark-price": "marks",
        "liquidation-orders": "forced_trades",
    }
    also: Mapping[str, tuple[str, ...]] = {"funding-rate": ("funding_terms",)}
    listing: Sequence[Mapping[str, tuple[str, ...]]] = (
        {
            "contract_type": ("SWAP",),
            "instrument_status": ("live",),
            "payoff": ("linear",),
            "quote_asset": ("USDT",),
            "margin_asset": ("USDT",),
        },
        {"contract_type": ("SWAP",), "instrument_status": ("live",), "payoff": ("inverse",), "quote_asset": ("USD",)},
    )

    # -- what to ask

    def catalogue(self, now: datetime) -> Series:
        return Series(self.name, "instruments", "", Window(now - HOUR, now))

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        """Series of USDT and inverse USD swaps (others are passed over), from their listing and within the venue's memory, up to `now`.

        Snapshots are planned when the window ends within two hours of `now`; their rows lie at `now`, not in the window.
        """
        return common.cut(self._plan(window, instruments, now), SNAPSHOTS)

    def _plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        for one in _ours(instruments):
            whole = common.known_span(window, one, now)
            if whole is None:
                continue
            terms = rows.options(one)
            if whole.grid(HOUR):
                yield Series(self.name, "history-candles", one.instrument, whole, HOUR, terms)
            for endpoint in RUBIK:
                young = self._remembered(endpoint, whole, now)
                if young is not None and young.grid(HOUR):
                    for part in conventions.regimes(self.name, endpoint, young):
                        yield Series(self.name, endpoint, one.instrument, part, HOUR, terms)
            for endpoint in ("funding-rate-history", "liquidation-orders"):
                young = self._remembered(endpoint, whole, now)
                if young is not None:
                    yield Series(self.name, endpoint, one.instrument, young, None, terms)
        if window.start < now and now - window.end <= SNAPSHOT_REACH:
            for one in _ours(instruments):
                for endpoint in SNAPSHOTS:
                    yield Series(self.name, endpoint, one.instrument, window, None, rows.options(one))

    def _remembered(self, endpoint: str, whole: Window, now: datetime) -> Window | None:
        """The part the endpoint still serves, from a full hour on; an hour less, for the requests of a long run leave later than its `now`."""
        oldest = now - conventions.span(self.name, endpoint, "history_depth", now) + HOUR
        start = max(whole.start, _hour_up(oldest))
        return Window(start, whole.end) if start < whole.end else None

    def asks(self, series: Series) -> Iterator[Ask]:
        endpoint = series.endpoint
        if endpoint not in PATHS:
            raise ValueError(f"okx has no endpoint {endpoint!r}; it has {', '.join(self.endpoints)}")
        for params in _questions(series):
            yield Ask(series, "api", PATHS[endpoint], params, endpoint)

    def follow(self, ask: Ask, answer: Answer) -> Ask | None:
        """A full page goes on at its oldest row, backwards in time, until it leaves the range asked for."""
        if ask.series.endpoint not in _PAGES:
            return None
        try:
            page = _PAGES[ask.series.endpoint](answer)
        except Unreadable:
            return None
        params = dict(ask.params)
        newer, older = int(params["before"]), int(params["after"])
        inside = [at for at in page.stamps_ms if newer < at < older]  # a stamp from elsewhere must not end the walk
        if page.held < PAGE or not inside:
            return None
        # orders may share a stamp across the seam: it is asked for again, and what came twice has the same trade_id
        after = min(inside) + page.overlap_ms
        if after >= older:
            after = min(inside)
        return replace(ask, params=tuple((name, str(after) if name == "after" else value) for name, value in ask.params))

    def classify(self, ask: Ask, answer: Answer) -> Disposition:
        """The venue's own errors, whatever their status."""
        verdict = super().classify(ask, answer)
        if answer.status == 0 or verdict.reason_code in ("HTTP_BLOCKED", "HTTP_BANNED", "CONTENT_TYPE"):
            return verdict
        found = shapes.head(answer.body)
        if found.code == "0":
            return verdict
        detail = f"HTTP {answer.status} from {ask.target}: {found.code} {found.msg}"
        if found.code in PASSING:
            return Disposition("retry", "HTTP_EXHAUSTED", detail, TOO_FAST.get(found.code) if verdict.wait is None else verdict.wait)
        return verdict if verdict.verb == "retry" else Disposition("reject", "VENUE_ERROR", detail)

    # -- how to read the answer

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        return decoded_by(self, DECODERS, common.one_reading(ask, self.endpoints.get(ask.series.endpoint, "")), answer)


DECODERS: Final[Mapping[str, Callable[[Ask, Answer], Decoded]]] = {
    "instruments": rows.listing,
    "open-interest-history": rows.interest_history,
    **dict.fromkeys(rows.RATIOS, rows.ratio),
    "taker-volume-contract": rows.taker,
    "history-candles": rows.candles,
    "funding-rate-history": rows.settlements,
    "funding-rate": rows.quote,
    "open-interest": rows.interest_now,
    "mark-price": rows.mark,
    "liquidation-orders": orders.liquidations,
}
_PAGES: Final[Mapping[str, Callable[[Answer], rows.Page]]] = {
    "funding-rate-history": rows.page_of_settlements,
    "liquidation-orders": orders.page_of_liquidations,
}


def _questions(series: Series) -> Iterator[tuple[tuple[str, str], ...]]:
    """The parameters of each request."""
    contract, swaps, most = ("instId", series.instrument), ("instType", "SWAP"), ("limit", str(PAGE))
    match series.endpoint:
        case "instruments":
            yield (swaps,)
        case "open-interest" | "mark-price":
            yield (swaps, contract)
        case "funding-rate":
            yield (contract,)
        case "funding-rate-history":
            for piece in series.window.split(FUNDING_SPAN):
                # should settlements carry jitter: the one that pays for the interval before the window stays out, the last one in
                yield (contract, *_between(to_ms(piece.start + common.JITTER), to_ms(piece.end + common.JITTER)), most)
        case "liquidation-orders":
            family = ("instFamily", series.instrument.removesuffix("-SWAP"))
            span = _between(to_ms(series.window.start), to_ms(series.window.end) + 1)
            yield (swaps, family, ("state", "filled"), *span, most)
        case "history-candles":
            for first, last in _pages(series):
                yield (contract, ("bar", "1H"), *_between(first - 1, last + 1), most)
        case "taker-volume-contract":
            for first, last in _pages(series):
                yield (contract, ("period", "1H"), ("unit", "0"), ("begin", str(first - 1)), ("end", str(last + 1)), most)
        case _:
            for first, last in _pages(series):
                yield (contract, ("period", "1H"), ("begin", str(first - 1)), ("end", str(last + 1)), most)


def _pages(series: Series) -> Iterator[tuple[int, int]]:
    return (common.labels_ms(series, stamps) for stamps in common.pages(series, PAGE))


def _between(newer_than: int, older_than: int) -> tuple[tuple[str, str], ...]:
    return ("before", str(newer_than)), ("after", str(older_than))


def _ours(instruments: Sequence[Instrument]) -> list[Instrument]:
    """Linear swaps in USDT and inverse ones in USD, by name."""
    suffixes = {"linear": "-USDT-SWAP", "inverse": "-USD-SWAP"}
    return sorted(
        (one for one in instruments if one.payoff in suffixes and one.instrument.endswith(suffixes[one.payoff])),
        key=lambda one: one.instrument,
    )


def _hour_up(instant: datetime) -> datetime:
    whole = instant.replace(minute=0, second=0, microsecond=0)
    return whole if whole == instant else whole + HOUR


SOURCE: Final = Okx()
