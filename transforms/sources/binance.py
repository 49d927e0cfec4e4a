"""Binance futures: funding, premium, open interest, long/short, taker flow, klines and snapshots by REST, history from the archive.

Two routes lead to open interest and the three ratios. REST (/futures/data/*) keeps 30 days; what is older comes from the archive of
daily `metrics` files (data.binance.vision). REST is asked with period 15m and of the archive's 5-minute rows only those on the same
15-minute grid are decoded, so that both routes give the same stamps; the rows between are not rows of ours and are counted nowhere.
The archive states ratios to 8 digits and REST shares to 4, so the same instant may differ by rounding between the routes.
Taker volumes exist by REST only. A venue that answers 451 is replaced by `plan_blocked`: archives alone.
COIN-M (host dapi, inverse contracts, endpoints called coin...) is told in binance_coin.py; it is asked by the hour.

Documents: https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from transforms import conventions, republished
from transforms.sources import binance_archive as archive
from transforms.sources import binance_coin as coin
from transforms.sources import binance_rows as rows
from transforms.sources import binance_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Budget, Decoded, Disposition, Instrument, Series, Source, Unreadable, decoded_by
from transforms.windows import HOUR, Window, to_ms

QUARTER: Final = timedelta(minutes=15)
#: /futures/data/* keeps 30 days; an hour less, for the requests of a long run leave later than its `now`
KEPT: Final = timedelta(days=30) - HOUR
#: a snapshot describes now; it is asked for only in windows that end about now
SNAPSHOT_REACH: Final = timedelta(hours=2)

#: a file of the archive is looked at for so long after it was read: files were mended weeks later (PITFALLS B5)
RECHECKED: Final = timedelta(days=60)

FUTURES_DATA: Final[dict[str, str]] = {
    "openInterestHist": "open_interest",
    "globalLongShortAccountRatio": "long_short",
    "topLongShortAccountRatio": "long_short",
    "topLongShortPositionRatio": "long_short",
    "takerlongshortRatio": "taker_flow",
}
FUTURES_DATA_ROWS: Final = 500
SNAPSHOTS: Final = ("fundingInfo", "openInterest", "premiumIndex")
KLINES: Final = ("klines", "premiumIndexKlines")
KLINES_ROWS: Final = 1500
#: rows up to -> request weight of both kinds of klines
KLINES_WEIGHT: Final = ((99, 1.0), (499, 2.0), (1000, 5.0), (1500, 10.0))
FUNDING_ROWS: Final = 1000
FUNDING_SPAN: Final = timedelta(days=300)  # 900 settlements at 8 h; `follow` takes what a shorter interval adds


class Binance(Source):
    """See the module's docstring. Archive endpoints: `archiveMetrics` (a file a day), `archiveFundingRate` (a file a month)."""

    name = "binance"
    hosts: Mapping[str, str] = {
        "fapi": "https://fapi.binance.com",
        "dapi": "https://dapi.binance.com",
        "archive": "https://data.binance.vision",
    }
    #: published limits per IP; the archive is a CDN without one, 20 files a second are courtesy
    budgets: Mapping[str, Budget] = {
        "weight": Budget(2400, 60, heaviest=10),
        "funding": Budget(500, 300),
        "futures_data": Budget(1000, 300),
        "coin_weight": Budget(2400, 60, heaviest=10),
        "coin_futures_data": Budget(1000, 300),
        "archive": Budget(1200, 60),
    }
    endpoints: Mapping[str, str] = {
        "fundingRate": "funding",
        "fundingInfo": "funding_terms",
        **FUTURES_DATA,
        "openInterest": "open_interest",
        "klines": "candles",
        "premiumIndexKlines": "premiums",
        "premiumIndex": "marks",
        "exchangeInfo": "instruments",
        "archiveMetrics": "open_interest",
        "archiveFundingRate": "funding",
        archive.CHECKSUMS: "archive_files",
        **coin.TABLES,
    }
    also: Mapping[str, tuple[str, ...]] = {
        "premiumIndex": ("funding",),
        "coinPremiumIndex": ("funding",),
        "archiveMetrics": ("long_short", "archive_files"),
        "archiveFundingRate": ("archive_files",),
    }
    listing: Sequence[Mapping[str, tuple[str, ...]]] = (
        *Source.listing,
        {"quote_asset": ("USD",), "payoff": ("inverse",), "contract_type": ("PERPETUAL",), "instrument_status": ("TRADING",)},
    )
    #: days slide out of REST's memory; asked once more from the archive, their ratios would differ by rounding and read like restatements
    twins: Mapping[str, tuple[str, ...]] = {"archiveMetrics": ("openInterestHist", *rows.RATIOS)}

    # -- what to ask

    def catalogue(self, now: datetime) -> Series:
        """Its requests go to both exchanges: see `asks`."""
        return Series(self.name, "exchangeInfo", "", Window(now - HOUR, now))

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        """Series of USDT-margined and of inverse perpetuals (others are passed over), up to `now`, from their listing on.

        Snapshots are planned when the window ends within two hours of `now`; their rows lie at `now`, not in the window.
        """
        return common.cut(self._plan(window, instruments, now), (*SNAPSHOTS, *coin.SNAPSHOTS))

    def _plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        horizon = _hour_up(now - KEPT)
        for one in _ours(instruments):
            whole = common.known_span(window, one, now)
            if whole is None:
                continue
            yield Series(self.name, "fundingRate", one.instrument, whole)
            for endpoint in KLINES:
                yield Series(self.name, endpoint, one.instrument, whole, HOUR)
            if whole.start < horizon:
                yield from self._metrics(one.instrument, Window(whole.start, min(whole.end, horizon)))
            if whole.end > horizon:
                young = Window(max(whole.start, horizon), whole.end)
                for endpoint in FUTURES_DATA:
                    for part in conventions.regimes(self.name, endpoint, young):
                        yield Series(self.name, endpoint, one.instrument, part, QUARTER, (("period", "15m"),))
        for one in coin.ours(instruments):
            if (whole := common.known_span(window, one, now)) is not None:
                yield from coin.plan(one, whole, horizon)
        if window.start < now and now - window.end <= SNAPSHOT_REACH:
            yield Series(self.name, "fundingInfo", "", window)
            for one in _ours(instruments):
                yield Series(self.name, "openInterest", one.instrument, window)
                yield Series(self.name, "premiumIndex", one.instrument, window)
            for one in coin.ours(instruments):
                yield from coin.plan_now(one, window)

    def plan_blocked(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        """The substitute where REST answers HTTP_BLOCKED: funding and metrics archives, days and months that are over by `now`."""
        for one in _ours(instruments):
            whole = common.known_span(window, one, now)
            if whole is None:
                continue
            day = now.replace(hour=0, minute=0, second=0, microsecond=0)
            if whole.start < day:
                yield from self._metrics(one.instrument, Window(whole.start, min(whole.end, day)))
            # the settlement of the month's first midnight lies in the month's own file, which is not out yet
            filed = day.replace(day=1) - HOUR
            if whole.start < filed:
                yield Series(self.name, "archiveFundingRate", one.instrument, Window(whole.start, min(whole.end, filed)))

    def plan_recheck(self, files: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[Series]:
        """The checksums of the archive's files that were read in the last weeks, from rows of `archive_files`."""
        yield from republished.questions(self.name, archive.CHECKSUMS, files, now, RECHECKED)

    def plan_republished(self, files: Sequence[Mapping[str, Any]], seen: Sequence[Mapping[str, Any]]) -> Iterator[Series]:
        """What is held of files whose checksum changed, to be read again; `seen`: the rows that the checksums' answers gave."""
        yield from republished.again(self.name, files, seen, {"archiveMetrics": QUARTER, "archiveFundingRate": None})

    def _metrics(self, instrument: str, window: Window) -> Iterator[Series]:
        since = conventions.instant(self.name, "archiveMetrics", "history_since", window.end)
        if window.end > since:
            for part in conventions.regimes(self.name, "archiveMetrics", Window(max(window.start, since), window.end)):
                yield Series(self.name, "archiveMetrics", instrument, part, QUARTER)

    def asks(self, series: Series) -> Iterator[Ask]:
        symbol = (("symbol", series.instrument),)
        match series.endpoint:
            case "fundingRate":
                for piece in series.window.split(FUNDING_SPAN):
                    # settlements carry jitter: the one that pays for the interval before the window must stay out, the last one in
                    span = _span(to_ms(piece.start + common.JITTER), to_ms(piece.end + common.JITTER) - 1)
                    params = (*symbol, *span, ("limit", str(FUNDING_ROWS)))
                    yield Ask(series, "fapi", "/fapi/v1/fundingRate", params, "funding")
            case "klines" | "premiumIndexKlines":
                for stamps in common.pages(series, KLINES_ROWS):
                    weight = _weight(len(stamps))
                    params = (*symbol, ("interval", "1h"), *_labels(series, stamps), ("limit", str(len(stamps))))
                    yield Ask(series, "fapi", f"/fapi/v1/{series.endpoint}", params, "weight", weight)
            case endpoint if endpoint in FUTURES_DATA:
                for stamps in common.pages(series, FUTURES_DATA_ROWS):
                    params = (*symbol, *series.options, *_labels(series, stamps), ("limit", str(FUTURES_DATA_ROWS)))
                    yield Ask(series, "fapi", f"/futures/data/{endpoint}", params, "futures_data")
            case "openInterest" | "premiumIndex":
                yield Ask(series, "fapi", f"/fapi/v1/{series.endpoint}", symbol, "weight")
            case "fundingInfo":
                yield Ask(series, "fapi", "/fapi/v1/fundingInfo", (), "funding")
            case "exchangeInfo":
                yield Ask(series, "fapi", "/fapi/v1/exchangeInfo", (), "weight")
                yield from self.asks(replace(series, endpoint="coinExchangeInfo"))  # the catalogue is one question to two exchanges
            case endpoint if endpoint in coin.PATHS:
                yield from coin.asks(series, _weight)
            case "archiveMetrics" | "archiveFundingRate":
                for path in archive.paths(series):
                    yield Ask(series, "archive", path, (), "archive", accept="zip", companion=f"{path}.CHECKSUM")
            case archive.CHECKSUMS:
                for path in archive.paths(series):
                    yield Ask(series, "archive", f"{path}.CHECKSUM", (), "archive", accept="text")
            case unknown:
                raise ValueError(f"binance has no endpoint {unknown!r}; it has {', '.join(self.endpoints)}")

    def follow(self, ask: Ask, answer: Answer) -> Ask | None:
        """A full page of settlements goes on after its last one: a contract at a shorter interval than 8 h fills more than one."""
        if ask.series.endpoint not in ("fundingRate", "coinFundingRate"):
            return None
        try:
            page = shapes.FUNDING.many(answer.body, "funding")
        except Unreadable:
            return None
        params = dict(ask.params)
        if len(page.rows) + len(page.rejects) < int(params["limit"]) or not page.rows:
            return None
        first, last = int(params["startTime"]), int(params["endTime"])
        inside = [row.funding_time for row in page.rows if first <= row.funding_time < last]  # a stamp from elsewhere must not end the walk
        if not inside:
            return None
        start = max(inside) + 1
        return replace(ask, params=tuple((name, str(start) if name == "startTime" else value) for name, value in ask.params))

    def classify(self, ask: Ask, answer: Answer) -> Disposition:
        verdict = super().classify(ask, answer)
        if verdict.reason_code == "HTTP_STATUS" and (said := shapes.venue_error(answer.body)):
            return Disposition("reject", "VENUE_ERROR", f"HTTP {answer.status} from {ask.target}: {said}")
        return verdict

    # -- how to read the answer

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        return decoded_by(self, DECODERS, common.one_reading(ask, self.endpoints.get(ask.series.endpoint, "")), answer)


DECODERS: Final[Mapping[str, Callable[[Ask, Answer], Decoded]]] = {
    "openInterestHist": rows.open_interest_hist,
    **dict.fromkeys(rows.RATIOS, rows.ratio),
    "takerlongshortRatio": rows.taker,
    "klines": rows.klines,
    "premiumIndexKlines": rows.premium_klines,
    "fundingRate": rows.funding,
    "openInterest": rows.open_interest,
    "premiumIndex": rows.premium,
    "fundingInfo": rows.terms,
    "exchangeInfo": rows.listing,
    "archiveMetrics": archive.metrics,
    "archiveFundingRate": archive.funding,
    archive.CHECKSUMS: archive.checksum,
    **coin.DECODERS,
}


def _ours(instruments: Sequence[Instrument]) -> list[Instrument]:
    """USDT-quoted contracts, by symbol: what is left out here has another margin asset."""
    return sorted((one for one in instruments if one.instrument.endswith("USDT")), key=lambda one: one.instrument)


def _weight(bars: int) -> float:
    """Request weight of a page of klines, on either exchange."""
    return next(weight for most, weight in KLINES_WEIGHT if bars <= most)


def _hour_up(instant: datetime) -> datetime:
    whole = instant.replace(minute=0, second=0, microsecond=0)
    return whole if whole == instant else whole + HOUR


def _labels(series: Series, stamps: Sequence[datetime]) -> tuple[tuple[str, str], ...]:
    return _span(*common.labels_ms(series, stamps))


def _span(start: int, end: int) -> tuple[tuple[str, str], ...]:
    return ("startTime", str(start)), ("endTime", str(end))


SOURCE: Final = Binance()
