"""Bybit v5: open interest, long/short, funding, premium, klines, snapshots and listings of USDT perpetuals, and of BTCUSD and ETHUSD.

Linear and inverse contracts answer at the same paths in different units, so they are different endpoints here: `open-interest` is in coins,
`inverse-open-interest` in USD; `kline` counts its volume in coins, `inverse-kline` its turnover. Open interest is the sum of both sides and
is halved by a dated convention; since 2026-06-11 the venue states one side too, and rows where the two disagree are put aside (PITFALLS A1).

Every history reaches back to the contract's launch, long/short to 2020-07-20. Rows come newest first, so a page that holds too much loses
its oldest rows: pages are cut to the hours asked for, and followed by cursor, or by endTime, until they reach their start. The venue shows
no taker flow and no liquidations by REST. It refuses some countries with HTTP 403 and a page of markup; its archive of files holds trades only.

Documents: https://bybit-exchange.github.io/docs/v5/market/open-interest and its siblings; limits: .../docs/v5/rate-limit
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from transforms import conventions
from transforms.sources import bybit_rows as rows
from transforms.sources import bybit_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.bybit_rows import INVERSE, LINEAR
from transforms.sources.contract import Answer, Ask, Budget, Decoded, Disposition, Instrument, Series, Source, Unreadable, decoded_by
from transforms.windows import HOUR, Window, from_ms, to_ms

#: a snapshot describes now; it is asked for only in windows that end about now
SNAPSHOT_REACH: Final = timedelta(hours=2)
#: endpoint -> its path below /v5/market, and the rows of a page
PATHS: Final[Mapping[str, tuple[str, int]]] = {
    "open-interest": ("open-interest", 200),
    "inverse-open-interest": ("open-interest", 200),
    "account-ratio": ("account-ratio", 500),
    "kline": ("kline", 1000),
    "inverse-kline": ("kline", 1000),
    "premium-index-price-kline": ("premium-index-price-kline", 1000),
    "funding-history": ("funding/history", 200),
    "tickers": ("tickers", 1),
    "instruments-info": ("instruments-info", 1000),
}
#: how an endpoint is told the length of a bar, and what it calls start and end
PERIODS: Final[Mapping[str, tuple[str, str]]] = {
    "open-interest": ("intervalTime", "1h"),
    "account-ratio": ("period", "1h"),
    "kline": ("interval", "60"),
    "premium-index-price-kline": ("interval", "60"),
}
BOUNDS: Final[Mapping[str, tuple[str, str]]] = {"interval": ("start", "end")}
FUNDING_SPAN: Final = timedelta(days=60)  # 180 settlements at 8 h; `follow` takes what a shorter interval adds
STATUSES: Final = ("Trading", "PreLaunch", "Delivering", "Closed")
#: codes that pass by themselves: server time-out, too many visits, internal error, too many visits of the IP, system-level limit
#: (Bybit document, "Error Codes")
PASSING: Final = frozenset({10000, 10006, 10016, 10018, 10429})
#: seconds the host is left alone when we were too fast and it does not say for how long
TOO_FAST: Final[Mapping[int, float]] = {10006: 1.0, 10018: 5.0, 10429: 1.0}
#: an IP that was banned, and a request that the venue's compliance refuses
REFUSED: Final[Mapping[int, str]] = {10009: "HTTP_BANNED", 10024: "HTTP_BLOCKED"}
LONGEST_WAIT: Final = 60.0


class Bybit(Source):
    """See the module's docstring."""

    name = rows.SOURCE
    hosts: Mapping[str, str] = {"api": "https://api.bybit.com"}
    #: the venue lets 600 requests in 5 seconds through per IP and bans who sends more for ten minutes; a third of it is plenty
    budgets: Mapping[str, Budget] = {"default": Budget(200, 5)}
    endpoints: Mapping[str, str] = {
        "open-interest": "open_interest",
        "inverse-open-interest": "open_interest",
        "account-ratio": "long_short",
        "kline": "candles",
        "inverse-kline": "candles",
        "premium-index-price-kline": "premiums",
        "funding-history": "funding",
        "tickers": "marks",
        "instruments-info": "instruments",
    }
    also: Mapping[str, tuple[str, ...]] = {"tickers": ("funding",)}
    listing: Sequence[Mapping[str, tuple[str, ...]]] = (
        {"contract_type": ("LinearPerpetual",), "instrument_status": ("Trading",), "quote_asset": ("USDT",), "margin_asset": ("USDT",)},
        {"contract_type": ("InversePerpetual",), "instrument_status": ("Trading",), "instrument": ("BTCUSD", "ETHUSD")},
    )

    # -- what to ask

    def catalogue(self, now: datetime) -> Series:
        return Series(self.name, "instruments-info", "", Window(now - HOUR, now))

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        """Series of USDT perpetuals and of inverse perpetuals (others are passed over), up to `now`, from their listing on.

        Snapshots are planned when the window ends within two hours of `now`; their rows lie at `now`, not in the window.
        """
        return common.cut(self._plan(window, instruments, now), ("tickers",))

    def _plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        for one, category in _ours(instruments):
            whole = common.known_span(window, one, now)
            if whole is None:
                continue
            options = (("category", category),)
            yield Series(self.name, "funding-history", one.instrument, whole, None, options)
            prefix = "" if category == LINEAR else "inverse-"
            yield Series(self.name, f"{prefix}kline", one.instrument, whole, HOUR)
            if category == LINEAR:
                yield Series(self.name, "premium-index-price-kline", one.instrument, whole, HOUR)
            for part in conventions.regimes(self.name, f"{prefix}open-interest", whole, "oi_sides"):
                yield Series(self.name, f"{prefix}open-interest", one.instrument, part, HOUR)
            since = conventions.instant(self.name, "account-ratio", "history_since", now)
            if whole.end > since:
                held = Window(max(whole.start, since), whole.end)
                yield Series(self.name, "account-ratio", one.instrument, held, HOUR, options)
        if window.start < now and now - window.end <= SNAPSHOT_REACH:
            for one, category in _ours(instruments):
                yield Series(self.name, "tickers", one.instrument, window, None, (("category", category),))

    def asks(self, series: Series) -> Iterator[Ask]:
        if series.endpoint not in PATHS:
            raise ValueError(f"bybit has no endpoint {series.endpoint!r}; it has {', '.join(self.endpoints)}")
        path, most = PATHS[series.endpoint]
        if series.endpoint == "instruments-info":
            for category in (LINEAR, INVERSE):
                for status in STATUSES:
                    yield _ask(series, path, (("category", category), ("status", status), ("limit", str(most))))
            return
        named = (("category", rows.category(series)), ("symbol", series.instrument))
        if series.endpoint == "tickers":
            yield _ask(series, path, named)
        elif series.endpoint == "funding-history":
            for piece in series.window.split(FUNDING_SPAN):
                # the settlement that pays for the interval before the window must stay out, the last one in; a start alone is an error (C5)
                start, end = to_ms(piece.start + common.JITTER), to_ms(piece.end + common.JITTER) - 1
                yield _ask(series, path, (*named, ("startTime", str(start)), ("endTime", str(end)), ("limit", str(most))))
        else:
            period = PERIODS[path]
            first, last = BOUNDS.get(period[0], ("startTime", "endTime"))
            for stamps in common.pages(series, most):
                start, end = common.labels_ms(series, stamps)
                # a millisecond more: the last stamp is in, whether the venue counts its end in or not
                yield _ask(series, path, (*named, period, (first, str(start)), (last, str(end + 1)), ("limit", str(len(stamps)))))

    def follow(self, ask: Ask, answer: Answer) -> Ask | None:
        """Older rows, where a page does not reach back to its start: by its cursor, and for settlements by the end of the next page."""
        params = dict(ask.params)
        try:
            said = rows.opened(ask, answer, self.endpoints[ask.series.endpoint])
            if ask.series.endpoint == "instruments-info":
                return _turned(ask, "cursor", said.page.next_page_cursor)
            stamps = _stamps(ask, said)
        except (Unreadable, LookupError):
            return None
        first, last = int(params.get("startTime", 0)), int(params.get("endTime", 0))
        inside = [at for at in stamps if first <= at <= last]  # a stamp from elsewhere must not end the walk
        if not inside or min(inside) == first:
            return None
        if ask.series.endpoint == "funding-history":
            full = len(stamps) >= int(params["limit"])
            return _turned(ask, "endTime", str(min(inside) - 1)) if full else None
        return _turned(ask, "cursor", said.page.next_page_cursor)

    def classify(self, ask: Ask, answer: Answer) -> Disposition:
        """The venue's own errors come with HTTP 200. A 403 is a refused country, but for one that says we were too fast."""
        verdict = super().classify(ask, answer)
        if answer.status == 403 and b"access too frequent" in answer.body.lower():
            detail = f"HTTP 403 from {ask.host}{ask.path}: banned for asking too fast; lower the budget in transforms/sources/bybit.py"
            return Disposition("reject", "HTTP_BANNED", detail)
        if answer.status == 0 or verdict.reason_code in ("HTTP_BLOCKED", "HTTP_BANNED", "CONTENT_TYPE"):
            return verdict
        found = shapes.head(answer.body)
        if found.ret_code == 0:
            return verdict
        detail = f"HTTP {answer.status} from {ask.target}: {found.ret_code} {found.ret_msg}"
        if found.ret_code in PASSING:
            wait = _reset(answer) if verdict.wait is None else verdict.wait
            return Disposition("retry", "HTTP_EXHAUSTED", detail, TOO_FAST.get(found.ret_code) if wait is None else wait)
        if verdict.verb == "retry":
            return verdict
        return Disposition("reject", REFUSED.get(found.ret_code, "VENUE_ERROR"), detail)

    # -- how to read the answer

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        return decoded_by(self, DECODERS, common.one_reading(ask, self.endpoints.get(ask.series.endpoint, "")), answer)


DECODERS: Final[Mapping[str, Callable[[Ask, Answer], Decoded]]] = {
    "open-interest": rows.open_interest,
    "inverse-open-interest": rows.open_interest,
    "account-ratio": rows.ratio,
    "kline": rows.klines,
    "inverse-kline": rows.klines,
    "premium-index-price-kline": rows.premium_klines,
    "funding-history": rows.funding,
    "tickers": rows.tickers,
    "instruments-info": rows.listing,
}


def _ours(instruments: Sequence[Instrument]) -> list[tuple[Instrument, str]]:
    """USDT-quoted linear contracts and USD-quoted inverse ones, by symbol, each with its category."""
    endings = {"linear": ("USDT", LINEAR), "inverse": ("USD", INVERSE)}
    kept = [(one, endings[one.payoff]) for one in instruments if one.payoff in endings]
    return [
        (one, category) for one, (ending, category) in sorted(kept, key=lambda pair: pair[0].instrument) if one.instrument.endswith(ending)
    ]


def _ask(series: Series, path: str, params: tuple[tuple[str, str], ...]) -> Ask:
    return Ask(series, "api", f"/v5/market/{path}", params)


def _stamps(ask: Ask, said: rows.Opened) -> list[int]:
    """The stamps of a page of rows, Unix milliseconds; none where pages are not followed."""
    target = "follow"
    texts: list[str] = []
    match ask.series.endpoint:
        case "open-interest" | "inverse-open-interest":
            texts = [row.timestamp for row in said.rows(shapes.OPEN_INTEREST, target).rows]
        case "account-ratio":
            texts = [row.timestamp for row in said.rows(shapes.RATIO, target).rows]
        case "funding-history":
            texts = [row.funding_rate_timestamp for row in said.rows(shapes.FUNDING, target).rows]
    return [int(text) for text in texts if text.isdecimal() and len(text) < 16]


def _turned(ask: Ask, name: str, value: str | None) -> Ask | None:
    """The same question with another `name`; None without a value, or where it is what was asked already."""
    if not value or dict(ask.params).get(name) == value:
        return None
    return replace(ask, params=tuple((dict(ask.params) | {name: value}).items()))


def _reset(answer: Answer) -> float | None:
    """Seconds until the limit is lifted, as the venue's header says (Unix milliseconds)."""
    text = answer.header("X-Bapi-Limit-Reset-Timestamp")
    if not text.isdecimal() or len(text) > 14:
        return None
    return min(max((from_ms(int(text)) - answer.fetched_at).total_seconds(), 0.1), LONGEST_WAIT)


SOURCE: Final = Bybit()
