"""What a number of a source means: sides, units, labels, lags, signs. Dated entries with their evidence; nothing is inferred from data.

A venue changes such things without a word (PITFALLS A1, B1, D2), so every entry says from when on it holds, and a lookup names
the instant it asks for. What is not declared raises LookupError: a decoder then puts the row aside as CONVENTION, it never guesses.
To correct a convention, add an entry with its date and evidence; do not edit one that data was decoded with.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, Literal, TypeVar

from transforms.windows import DAY, Window, utc

What = Literal[
    "label",
    "period",
    "lag",
    "oi_sides",
    "native_unit",
    "rate_scale",
    "funding_interval_h",
    "share_scale",
    "volatility_scale",
    "ratio_metric",
    "instrument_status",
    "liquidation_sides",
    "completeness",
    "history_since",
    "expiry_time",
]
Value = str | int | float | timedelta | datetime | None
T = TypeVar("T", str, float, timedelta, datetime)

DAWN: Final = datetime(2009, 1, 3, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """`what` of a source's dataset is `value` from `since` on (for one instrument, or for all when `instrument` is empty)."""

    source: str
    dataset: str
    what: What
    value: Value
    evidence: str
    since: datetime = DAWN
    instrument: str = ""


_FUTURES_DATA: Final = (
    "openInterestHist",
    "globalLongShortAccountRatio",
    "topLongShortAccountRatio",
    "topLongShortPositionRatio",
    "takerlongshortRatio",
)
_ARCHIVE: Final = ("archiveMetrics",)
_BARS: Final = ("open-interest-history", "funding-rate-history", "long-short-ratio-history", "liquidation-history", "ohlcv-history")
_REST_LABEL: Final = (
    "Binance USD-M document 'Open Interest Statistics' and its siblings: timestamp is the end time of the period; the recorded snapshots "
    "of 2026-04-28..05-27 agree: value over quantity is the price at the stamp"
)
_LAG_5: Final = "METHODOLOGY 5.1: OI, long/short and taker history 5 min until the p95 of live capture is measured"
_LAG_1: Final = "METHODOLOGY 5.1: 60 s until the p95 of live capture is measured"
_ONE_SIDED: Final = (
    "Binance document 'Open Interest': contracts outstanding, one side; aggregates that show it beside two-sided venues halve those, "
    "not Binance (PITFALLS A1, A2)"
)
_BASE: Final = "Binance document: USD-M quantities are in the base asset; recorded openInterest of BTCUSDT is 83782.317 (PITFALLS A4)"
_COINALYZE: Final = "Coinalyze API document: history[].t is the start of the interval, in seconds"
_EIGHT: Final = "recorded settlements lie 8 h apart without exception (recordings: series/funding_settlements)"

ENTRIES: Final[tuple[Entry, ...]] = (
    # --- binance, REST histories
    *(Entry("binance", name, "label", "end", _REST_LABEL) for name in _FUTURES_DATA[:4]),
    Entry(
        "binance",
        "takerlongshortRatio",
        "label",
        "start",
        "measured, against the document: recorded BTCUSDT imbalance of 2026-04-28..05-27 correlates .53 with the return of the 15 min "
        "after the stamp and .03 with the 15 min before it",
    ),
    *(Entry("binance", name, "period", timedelta(minutes=15), "the period we ask for; 15m of 5m..1d") for name in _FUTURES_DATA),
    *(Entry("binance", name, "lag", 5 * MINUTE, _LAG_5) for name in _FUTURES_DATA),
    Entry("binance", "openInterestHist", "oi_sides", 1, _ONE_SIDED),
    Entry("binance", "openInterestHist", "native_unit", "base", _BASE),
    Entry(
        "binance", "takerlongshortRatio", "native_unit", "base", "Binance document 'Taker Buy/Sell Volume': buyVol, sellVol in base asset"
    ),
    Entry("binance", "klines", "label", "start", "Binance document 'Kline Data': element 0 is the open time, element 6 the close time"),
    Entry("binance", "klines", "period", timedelta(hours=1), "the interval we ask for: 1h"),
    Entry("binance", "klines", "lag", MINUTE, _LAG_1),
    Entry("binance", "klines", "native_unit", "base", "Binance document 'Kline Data': element 5 is the volume in the base asset"),
    Entry(
        "binance",
        "premiumIndexKlines",
        "label",
        "start",
        "Binance document 'Premium Index Kline Data': element 0 is the open time, element 6 the close time",
    ),
    Entry("binance", "premiumIndexKlines", "period", timedelta(hours=1), "the interval we ask for: 1h"),
    Entry("binance", "premiumIndexKlines", "lag", MINUTE, "bars as in METHODOLOGY 5.1: klines, 60 s after the close"),
    Entry(
        "binance",
        "premiumIndexKlines",
        "rate_scale",
        1.0,
        "a fraction: the document's example closes at -0.00043659, and its premium index is (impact price - index) / index; settled funding "
        "of 0.0001 is 0.01 % in the same account",
    ),
    Entry("binance", "fundingRate", "lag", MINUTE, _LAG_1),
    Entry(
        "binance", "fundingRate", "rate_scale", 1.0, "Binance document: 0.00010000 is 0.01 %; recorded values agree to 1e-8 across venues"
    ),
    # --- binance, snapshots
    *(
        Entry("binance", name, "lag", MINUTE, "a snapshot is known when it was taken; 60 s for its way, as in METHODOLOGY 5.1")
        for name in ("openInterest", "premiumIndex", "fundingInfo", "exchangeInfo")
    ),
    Entry("binance", "openInterest", "oi_sides", 1, _ONE_SIDED),
    Entry("binance", "openInterest", "native_unit", "base", _BASE),
    Entry("binance", "premiumIndex", "rate_scale", 1.0, "Binance document 'Mark Price': lastFundingRate as fundingRate, a fraction"),
    Entry("binance", "fundingInfo", "rate_scale", 1.0, "Binance document: adjustedFundingRateCap 0.02500000 is 2.5 %"),
    # --- binance, archive
    Entry(
        "binance",
        "archiveMetrics",
        "label",
        "end",
        "binance-public-data issue 491: daily files hold 00:05..00:00 next day, stock columns at T are the snapshot at T (PITFALLS B1)",
    ),
    Entry(
        "binance",
        "archiveMetrics",
        "label",
        "start",
        "binance-public-data issue 491: from the file of 2026-06-25 on 00:00..23:55, stock columns at T are the snapshot at T + 5 min",
        utc("2026-06-25"),
    ),
    Entry("binance", "archiveMetrics", "period", timedelta(minutes=5), "binance-public-data issue 491: 288 rows a day"),
    Entry("binance", "archiveMetrics", "lag", 5 * MINUTE, "METHODOLOGY 5.1: rows as REST would have shown them, 5 min"),
    Entry("binance", "archiveMetrics", "oi_sides", 1, _ONE_SIDED),
    Entry(
        "binance", "archiveMetrics", "native_unit", "base", "sum_open_interest agrees with openInterestHist (binance-public-data 211, 491)"
    ),
    Entry("binance", "archiveMetrics", "history_since", utc("2020-09-01"), "SOURCES: BTC from 2020-09"),
    Entry("binance", "archiveFundingRate", "lag", MINUTE, _LAG_1),
    Entry("binance", "archiveFundingRate", "rate_scale", 1.0, "last_funding_rate equals fundingRate of REST, a fraction"),
    # --- coinalyze: daily bars of Binance contracts
    *(Entry("coinalyze", name, "label", "start", _COINALYZE) for name in _BARS),
    *(Entry("coinalyze", name, "period", DAY, "the interval we ask for: daily") for name in _BARS),
    Entry("coinalyze", "future-markets", "lag", MINUTE, "a snapshot is known when it was taken"),
    Entry(
        "coinalyze",
        "future-markets",
        "instrument_status",
        "TRADING",
        "Coinalyze API document 'Supported future markets': no status field, a market that is listed is served",
    ),
    Entry("coinalyze", "ohlcv-history", "lag", MINUTE, "METHODOLOGY 5.1: klines 60 s after the bar's close"),
    Entry("coinalyze", "funding-rate-history", "lag", MINUTE, "METHODOLOGY 5.1: settled funding 60 s"),
    *(Entry("coinalyze", name, "lag", 5 * MINUTE, _LAG_5) for name in (_BARS[0], _BARS[2], _BARS[3])),
    Entry(
        "coinalyze",
        "open-interest-history",
        "oi_sides",
        1,
        "with convert_to_usd=false Binance's figure is passed on as served, one-sided in base units: a third party measured 0.9998 of "
        "Binance's own "
        "(10th to 90th percentile within 0.6 %) on 2026-09-03; market field oi_lq_vol_denominated_in = BASE_ASSET",
    ),
    Entry("coinalyze", "open-interest-history", "native_unit", "base", "oi_lq_vol_denominated_in = BASE_ASSET and convert_to_usd=false"),
    Entry("coinalyze", "liquidation-history", "native_unit", "base", "oi_lq_vol_denominated_in = BASE_ASSET and convert_to_usd=false"),
    Entry("coinalyze", "ohlcv-history", "native_unit", "base", "oi_lq_vol_denominated_in = BASE_ASSET"),
    Entry(
        "coinalyze",
        "funding-rate-history",
        "rate_scale",
        0.01,
        "served in percent: ratio to Binance's own fundingRate exactly 100 (a third party's measurement of 2026-09-03; recordings README)",
    ),
    Entry(
        "coinalyze",
        "funding-rate-history",
        "funding_interval_h",
        8.0,
        "Binance's standard interval; the earliest updateTime in the recorded fundingInfo is 2023-09-28; recordings name the column 8h",
    ),
    Entry(
        "coinalyze",
        "funding-rate-history",
        "funding_interval_h",
        None,
        "from here on Binance sets 4 h and shorter for single contracts (recorded fundingInfo, PITFALLS C1); Coinalyze does not say which",
        utc("2023-09-28"),
    ),
    *(Entry("coinalyze", "funding-rate-history", "funding_interval_h", 8.0, _EIGHT, DAWN, f"{base}USDT_PERP.A") for base in ("BTC", "ETH")),
    *(
        Entry("coinalyze", "funding-rate-history", "funding_interval_h", 8.0, _EIGHT, utc("2026-01-01"), f"{base}USDT_PERP.A")
        for base in ("SOL", "BNB", "XRP", "DOGE")
    ),
    Entry("coinalyze", "long-short-ratio-history", "share_scale", 0.01, "l and s are percent and add up to 100; r = l / s"),
    Entry(
        "coinalyze",
        "long-short-ratio-history",
        "ratio_metric",
        "global_account",
        "equals Binance's globalLongShortAccountRatio: no difference over 179 points (a third party's measurement of 2026-09-03)",
    ),
    Entry(
        "coinalyze",
        "liquidation-history",
        "liquidation_sides",
        "position",
        "Coinalyze API document: l = liquidated longs, s = liquidated shorts (side of the position, not of the order; PITFALLS D3)",
    ),
    Entry(
        "coinalyze",
        "liquidation-history",
        "completeness",
        "floor",
        "Binance streams at most one liquidation per symbol and second, so every collector holds a lower bound (PITFALLS D1)",
    ),
    # --- deribit
    Entry(
        "deribit",
        "get_book_summary_by_currency",
        "lag",
        MINUTE,
        "a snapshot is known when it was taken (METHODOLOGY 5.1: option chains are capture, live only); 60 s for its way",
    ),
    Entry(
        "deribit",
        "get_book_summary_by_currency",
        "native_unit",
        "base",
        "Deribit document: open_interest of options is in coins of the base currency, of perpetuals and inverse futures in USD "
        "(METHODOLOGY 9.2.3, PITFALLS A4); recorded chains of 2026-04-27..05-29 add up to 348,000..419,000 for BTC",
    ),
    Entry(
        "deribit",
        "get_book_summary_by_currency",
        "volatility_scale",
        0.01,
        "served in percent: recorded mark_iv of BTC options of 2025-06-14 lie between 22.09 and 140.5",
    ),
    Entry(
        "deribit",
        "get_book_summary_by_currency",
        "expiry_time",
        timedelta(hours=8),
        "08:00 UTC of the date in the name: recorded expiration_timestamp 1779523200000 of BTC-23MAY26-68000-C, and all 54,660 recorded rows",
    ),
    Entry(
        "deribit",
        "get_volatility_index_data",
        "label",
        "start",
        "recorded captures of the newest daily point: of 94 taken within a day after its stamp 93 moved later, of 121 taken after that day "
        "one did, the invented vintage (recordings, defects): a point is final when the bar that begins at its stamp is over",
    ),
    Entry("deribit", "get_volatility_index_data", "period", timedelta(hours=1), "the resolution we ask for: 3600 s"),
    Entry("deribit", "get_volatility_index_data", "lag", MINUTE, "published every second; bars as klines in METHODOLOGY 5.1, 60 s"),
    Entry(
        "deribit",
        "get_volatility_index_data",
        "volatility_scale",
        0.01,
        "points are percent p.a.: recorded BTC closes lie between 32 and 114",
    ),
    Entry(
        "deribit",
        "get_volatility_index_data",
        "history_since",
        utc("2021-03-01"),
        "SOURCES: from launch in 2021-03, not verified to the day; stamps before the first count as missing",
    ),
    # --- chain and reference
    Entry(
        "defillama", "stablecoincharts", "label", "start", "peggedassets-server: a point is the day's last record, stamped at its midnight"
    ),
    Entry("defillama", "stablecoincharts", "period", DAY, "one point a day"),
    Entry(
        "defillama",
        "stablecoincharts",
        "lag",
        DAY,
        "METHODOLOGY 5.1: stablecoin supply, day end + 24 h; the newest point moves (PITFALLS F2)",
    ),
    Entry("alternative_me", "fng", "label", "end", "METHODOLOGY 5.1: the day-start stamp is the instant the value is published for"),
    Entry("alternative_me", "fng", "period", DAY, "one point a day"),
    Entry("alternative_me", "fng", "lag", timedelta(hours=1), "METHODOLOGY 5.1: 1 h"),
)


_INDEX: Final[dict[tuple[str, str, str], tuple[Entry, ...]]] = {
    key: tuple(entry for entry in ENTRIES if (entry.source, entry.dataset, entry.what) == key)
    for key in {(entry.source, entry.dataset, entry.what) for entry in ENTRIES}
}


def find(source: str, dataset: str, what: What, at: datetime, instrument: str = "") -> Entry:
    """The entry in force at `at`; one for the instrument itself goes before one for all. Raises LookupError when nothing is declared.

    >>> find("binance", "archiveMetrics", "label", utc("2026-06-24")).value
    'end'
    >>> find("binance", "archiveMetrics", "label", utc("2026-06-25")).value
    'start'
    """
    declared = _INDEX.get((source, dataset, what), ())
    for name in dict.fromkeys((instrument, "")):
        held = [entry for entry in declared if entry.instrument == name and entry.since <= at]
        if held:
            return max(held, key=lambda entry: entry.since)
    raise LookupError(
        f"no convention declares {what!r} of {source} {dataset}{f' {instrument}' if instrument else ''} at {at:%Y-%m-%dT%H:%MZ}; "
        "add an entry with its evidence to transforms/conventions.py"
    )


def regimes(source: str, dataset: str, window: Window, what: What = "label") -> list[Window]:
    """The window cut where `what` changes, so that no answer holds two readings of one field."""
    changes = {entry.since for entry in _INDEX.get((source, dataset, what), ()) if not entry.instrument}
    edges = [window.start, *sorted(at for at in changes if window.start < at < window.end), window.end]
    return [Window(first, last) for first, last in pairwise(edges)]


def text(source: str, dataset: str, what: What, at: datetime, instrument: str = "") -> str:
    """A declared word: a label, a unit, a side."""
    return _typed(find(source, dataset, what, at, instrument), str)


def number(source: str, dataset: str, what: What, at: datetime, instrument: str = "") -> float:
    """A declared factor or count."""
    return _typed(find(source, dataset, what, at, instrument), float)


def number_or_none(source: str, dataset: str, what: What, at: datetime, instrument: str = "") -> float | None:
    """A declared factor, or None where what is declared is that nobody can say."""
    entry = find(source, dataset, what, at, instrument)
    return None if entry.value is None else _typed(entry, float)


def span(source: str, dataset: str, what: What, at: datetime) -> timedelta:
    """A declared length of time."""
    return _typed(find(source, dataset, what, at), timedelta)


def instant(source: str, dataset: str, what: What, at: datetime) -> datetime:
    """A declared instant."""
    return _typed(find(source, dataset, what, at), datetime)


def shift(source: str, dataset: str, at: datetime) -> timedelta:
    """What to add to a stamp to reach the END of what it describes: the period where the label is its start, else nothing.

    >>> shift("binance", "klines", utc("2022-05-09"))
    datetime.timedelta(seconds=3600)
    """
    label = text(source, dataset, "label", at)
    if label not in ("start", "end"):
        raise LookupError(f"label {label!r} of {source} {dataset} is neither start nor end")
    return span(source, dataset, "period", at) if label == "start" else timedelta(0)


def _typed(entry: Entry, kind: type[T]) -> T:
    value = float(entry.value) if kind is float and isinstance(entry.value, int) else entry.value
    if not isinstance(value, kind):
        raise TypeError(f"{entry.what} of {entry.source} {entry.dataset} is declared as {value!r}, asked for as {kind.__name__}")
    return value
