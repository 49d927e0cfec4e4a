"""Binance COIN-M futures, the inverse contracts of host dapi: what to ask, and how answers become rows (helper of binance.py).

A contract is worth a fixed number of USD (100 for BTC, 10 for others: `contractSize` of the listing) and is margined and paid in its coin.
Where a row counts contracts, the amount in coins is the one the venue states beside them, never contracts divided by a price of ours.
Histories of /futures/data are asked by pair and contract type: pair=BTCUSD&contractType=PERPETUAL (a client library asks with
pair=BTCUSD_PERP and gets another contract or nothing). The three account ratios know pairs only, perpetual and dated contracts together;
they stand under the pair's perpetual, as transforms/conventions/binance.py declares.

Documents: https://developers.binance.com/docs/derivatives/coin-margined-futures/market-data/rest-api
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa

from transforms import conventions
from transforms.instruments import binance_coin_asset
from transforms.reading import Floats, Nullable, Sieve, Stamps, instants, stamp
from transforms.sources import binance_rows as usd
from transforms.sources import binance_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Decoded, Instrument, Series
from transforms.sources.rows import MILLI, asked_for, named, stamped, taken, whose
from transforms.windows import HOUR, Window, to_ms

SOURCE: Final = usd.SOURCE
#: our name of an endpoint -> the venue's path
PATHS: Final[Mapping[str, str]] = {
    "coinExchangeInfo": "/dapi/v1/exchangeInfo",
    "coinFundingRate": "/dapi/v1/fundingRate",
    "coinKlines": "/dapi/v1/klines",
    "coinPremiumIndexKlines": "/dapi/v1/premiumIndexKlines",
    "coinOpenInterest": "/dapi/v1/openInterest",
    "coinPremiumIndex": "/dapi/v1/premiumIndex",
    "coinOpenInterestHist": "/futures/data/openInterestHist",
    "coinTakerBuySellVol": "/futures/data/takerBuySellVol",
    "coinGlobalLongShortAccountRatio": "/futures/data/globalLongShortAccountRatio",
    "coinTopLongShortAccountRatio": "/futures/data/topLongShortAccountRatio",
    "coinTopLongShortPositionRatio": "/futures/data/topLongShortPositionRatio",
}
TABLES: Final[Mapping[str, str]] = {
    "coinExchangeInfo": "instruments",
    "coinFundingRate": "funding",
    "coinKlines": "candles",
    "coinPremiumIndexKlines": "premiums",
    "coinOpenInterest": "open_interest",
    "coinPremiumIndex": "marks",
    "coinOpenInterestHist": "open_interest",
    "coinTakerBuySellVol": "taker_flow",
    "coinGlobalLongShortAccountRatio": "long_short",
    "coinTopLongShortAccountRatio": "long_short",
    "coinTopLongShortPositionRatio": "long_short",
}
RATIOS: Final = ("coinGlobalLongShortAccountRatio", "coinTopLongShortAccountRatio", "coinTopLongShortPositionRatio")
#: asked for one contract type of a pair
BY_TYPE: Final = ("coinOpenInterestHist", "coinTakerBuySellVol")
BARS: Final = ("coinKlines", "coinPremiumIndexKlines")
SNAPSHOTS: Final = ("coinOpenInterest", "coinPremiumIndex")
PERPETUAL: Final = "PERPETUAL"
DATA_ROWS: Final = 500
BARS_ROWS: Final = 1500
FUNDING_ROWS: Final = 1000
#: the venue refuses a longer span with -4088 "Maximum time interval is 200 days."; 600 settlements at 8 h
FUNDING_SPAN: Final = timedelta(days=200)
#: name of the option that hands the listing's contractSize to the decoder
SIZE: Final = "contract_size"


# -- what to ask


def ours(instruments: Sequence[Instrument]) -> list[Instrument]:
    """The inverse perpetuals, by symbol: a dated contract asked for by its pair would be answered with the perpetual's rows."""
    kept = (one for one in instruments if one.payoff == "inverse" and one.instrument.endswith("_PERP"))
    return sorted(kept, key=lambda one: one.instrument)


def pair_of(symbol: str) -> str:
    """BTCUSD of BTCUSD_PERP."""
    return symbol.partition("_")[0]


def plan(one: Instrument, whole: Window, horizon: datetime) -> Iterator[Series]:
    """Histories of one perpetual; what /futures/data keeps begins at `horizon`."""
    yield Series(SOURCE, "coinFundingRate", one.instrument, whole)
    for endpoint in BARS:
        yield Series(SOURCE, endpoint, one.instrument, whole, HOUR)
    if whole.end <= horizon:
        return
    young = Window(max(whole.start, horizon), whole.end)
    for endpoint in BY_TYPE:
        yield Series(SOURCE, endpoint, one.instrument, young, HOUR, _sized(one))
    for endpoint in RATIOS:
        yield Series(SOURCE, endpoint, one.instrument, young, HOUR)


def plan_now(one: Instrument, window: Window) -> Iterator[Series]:
    """Snapshots of one perpetual."""
    yield Series(SOURCE, "coinOpenInterest", one.instrument, window, None, _sized(one))
    yield Series(SOURCE, "coinPremiumIndex", one.instrument, window)


def _sized(one: Instrument) -> tuple[tuple[str, str], ...]:
    return ((SIZE, f"{one.contract_size:.15g}"),)


def asks(series: Series, weight: Callable[[int], float]) -> Iterator[Ask]:
    """The requests of one series. `weight`: request weight of so many bars."""
    path, endpoint = PATHS[series.endpoint], series.endpoint
    symbol = (("symbol", series.instrument),)
    if endpoint == "coinExchangeInfo":
        yield Ask(series, "dapi", path, (), "coin_weight")
    elif endpoint in SNAPSHOTS:
        yield Ask(series, "dapi", path, symbol, "coin_weight")
    elif endpoint == "coinFundingRate":
        for piece in series.window.split(FUNDING_SPAN):
            span = _span(to_ms(piece.start + common.JITTER), to_ms(piece.end + common.JITTER) - 1)
            yield Ask(series, "dapi", path, (*symbol, *span, ("limit", str(FUNDING_ROWS))), "coin_weight")
    elif endpoint in BARS:
        for stamps in common.pages(series, BARS_ROWS):
            span = _span(*common.labels_ms(series, stamps))
            params = (*symbol, ("interval", "1h"), *span, ("limit", str(len(stamps))))
            yield Ask(series, "dapi", path, params, "coin_weight", weight(len(stamps)))
    else:
        pair = (("pair", pair_of(series.instrument)), *((("contractType", PERPETUAL),) if endpoint in BY_TYPE else ()))
        for stamps in common.pages(series, DATA_ROWS):
            span = _span(*common.labels_ms(series, stamps))
            yield Ask(series, "dapi", path, (*pair, ("period", "1h"), *span, ("limit", str(DATA_ROWS))), "coin_futures_data")


def _span(start: int, end: int) -> tuple[tuple[str, str], ...]:
    return ("startTime", str(start)), ("endTime", str(end))


# -- how to read the answer


def open_interest_hist(ask: Ask, answer: Answer) -> Decoded:
    """Snapshots of one perpetual: contracts as the venue counts them, coins as it states them, USD = contracts x contract size."""
    read = shapes.COIN_OPEN_INTEREST_HIST.many(answer.body, "open_interest")
    sieve = Sieve("open_interest", read.rows, read.rejects)
    _of_the_pair(sieve, ask, [(row.pair, row.contract_type) for row in read.rows], PERPETUAL)
    as_of = stamped(sieve, [row.timestamp for row in read.rows], ask)
    native = sieve.texts("open_interest_native", [row.sum_open_interest for row in read.rows])
    coins = sieve.texts("open_interest_base", [row.sum_open_interest_value for row in read.rows])
    sieve.refuse(coins == 0.0, "ZERO_OPEN_INTEREST", lambda i: f"open interest of exactly 0 coins at {stamp(as_of[i])}")
    sieve.single([as_of], [native, coins])
    table = _interest(sieve, ask, as_of, native, Nullable(coins, np.ones(len(coins), dtype=np.bool_)))
    return Decoded({"open_interest": table}, sieve.rejects, read.notes)


def open_interest(ask: Ask, answer: Answer) -> Decoded:
    """Open interest now, in contracts and USD; the answer states no amount in coins."""
    row, notes = shapes.COIN_OPEN_INTEREST.one(answer.body, "open_interest")
    sieve = Sieve("open_interest", [row])
    asked_for(sieve, [row.symbol], ask)
    as_of = taken(sieve, [row.time], ask, answer)
    native = sieve.texts("open_interest_native", [row.open_interest])
    unknown = Nullable(native, np.zeros(1, dtype=np.bool_))
    return Decoded({"open_interest": _interest(sieve, ask, as_of, native, unknown)}, sieve.rejects, notes)


def _interest(sieve: Sieve, ask: Ask, as_of: Stamps, native: Floats, coins: Nullable) -> pa.Table:
    """Rows of open_interest from contracts of a fixed size in USD; exactly zero on a trading contract is put aside (PITFALLS A11)."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    sieve.refuse(native == 0.0, "ZERO_OPEN_INTEREST", lambda i: f"open interest of exactly 0 at {stamp(as_of[i])}")
    if (unit := conventions.text(SOURCE, endpoint, "native_unit", at)) != "contracts":
        raise LookupError(f"found unit {unit!r} of {SOURCE} {endpoint}; this decoder reads contracts only")
    sides = conventions.number(SOURCE, endpoint, "oi_sides", at)
    return sieve.table(
        {
            **usd.who(ask, as_of),
            "open_interest_native": native,
            "native_unit": unit,
            "oi_sides": int(sides),
            "open_interest_base": Nullable(coins.values / sides, coins.valid),
            "open_interest_usd": sieve.limits("open_interest_usd", native * _size(ask) / sides),
        }
    )


def _size(ask: Ask) -> float:
    """USD a contract, as the listing said when the question was planned; a question without it raises LookupError."""
    size = dict(ask.series.options).get(SIZE, "")
    if not size:
        raise LookupError(f"{ask.series.endpoint} of {ask.series.instrument} was asked without the contract size of its listing")
    return float(size)


def _of_the_pair(sieve: Sieve, ask: Ask, found: Sequence[tuple[str, ...]], *kind: str) -> None:
    """Rows must speak of the pair, and the contract type, that was asked for (CONVENTION, PITFALLS A5)."""
    wanted = (pair_of(ask.series.instrument), *kind)
    strange = np.array([one != wanted for one in found], dtype=np.bool_)
    sieve.refuse(strange, "CONVENTION", lambda i: f"found {' '.join(found[i])}, asked for {' '.join(wanted)}")


def ratio(ask: Ask, answer: Answer) -> Decoded:
    """Long and short shares over all contracts of the perpetual's pair."""
    positions = ask.series.endpoint == "coinTopLongShortPositionRatio"
    read: Any = (shapes.COIN_POSITIONS if positions else shapes.COIN_ACCOUNTS).many(answer.body, "long_short")
    sieve = Sieve("long_short", read.rows, read.rejects)
    _of_the_pair(sieve, ask, [(row.pair,) for row in read.rows])
    as_of = stamped(sieve, [row.timestamp for row in read.rows], ask)
    long = sieve.texts("long_share", [row.long_position if positions else row.long_account for row in read.rows])
    short = sieve.texts("short_share", [row.short_position if positions else row.short_account for row in read.rows])
    common.agrees(sieve, long, short, [row.long_short_ratio for row in read.rows])
    sieve.single([as_of], [long, short])
    metric = conventions.text(SOURCE, ask.series.endpoint, "ratio_metric", ask.series.window.start)
    table = sieve.table({**usd.who(ask, as_of), "ratio_metric": metric, "long_share": long, "short_share": short})
    return Decoded({"long_short": table}, sieve.rejects, read.notes)


def taker(ask: Ask, answer: Answer) -> Decoded:
    """Taker volumes of one perpetual in coins: the values, not the volumes, which count contracts."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    read = shapes.COIN_TAKER.many(answer.body, "taker_flow")
    sieve = Sieve("taker_flow", read.rows, read.rejects)
    _of_the_pair(sieve, ask, [(row.pair, row.contract_type) for row in read.rows], PERPETUAL)
    as_of = stamped(sieve, [row.timestamp for row in read.rows], ask)
    common.counted_in(ask, "contracts")
    buy = sieve.texts("taker_buy_base", [row.taker_buy_vol_value for row in read.rows])
    sell = sieve.texts("taker_sell_base", [row.taker_sell_vol_value for row in read.rows])
    sieve.single([as_of], [buy, sell])
    hours = conventions.span(SOURCE, endpoint, "period", at) / HOUR
    table = sieve.table({**usd.who(ask, as_of), "interval_h": hours, "taker_buy_base": buy, "taker_sell_base": sell})
    return Decoded({"taker_flow": table}, sieve.rejects, read.notes)


def klines(ask: Ask, answer: Answer) -> Decoded:
    """Bars, prices in USD and amounts in coins: the base asset volumes, elements 7 and 10; 5 and 9 count contracts."""
    read = shapes.COIN_KLINE.many(answer.body, "candles")
    rows = read.rows
    sieve = Sieve("candles", rows, read.rejects)
    as_of, period = usd.bar_ends(sieve, rows, ask)
    common.counted_in(ask, "contracts")
    prices = [sieve.texts(f"{name}_usd", [getattr(row, name) for row in rows]) for name in ("open", "high", "low", "close")]
    volume = sieve.texts("volume_base", [row.base_volume for row in rows])
    bought = sieve.texts("taker_buy_base", [row.taker_buy_base for row in rows])
    trades = np.array([row.trades for row in rows], dtype=np.int64)
    sieve.single([as_of], [*prices, volume, bought, trades])
    table = sieve.table(
        {
            **usd.who(ask, as_of),
            "interval_h": period / HOUR,
            **dict(zip(("open_usd", "high_usd", "low_usd", "close_usd"), prices, strict=True)),
            "volume_base": volume,
            "taker_buy_base": bought,
            "trades": trades,
        }
    )
    return Decoded({"candles": table}, sieve.rejects, read.notes)


def listing(ask: Ask, answer: Answer) -> Decoded:
    """Every contract of the exchange, whatever its type and status. One that is not quoted in USD and paid in its coin is put aside."""
    info, notes = shapes.COIN_INFO.one(answer.body, "instruments")
    read = shapes.COIN_SYMBOL.many(info.symbols, "instruments", "$.symbols")
    rows = read.rows
    sieve = Sieve("instruments", rows, read.rejects)
    symbols = [row.symbol for row in rows]
    assets, multipliers = named(sieve, symbols, binance_coin_asset)
    other = [
        row.quote_asset != "USD" or row.margin_asset != row.base_asset or row.base_asset != asset
        for row, asset in zip(rows, assets, strict=True)
    ]
    sieve.refuse(
        np.array(other, dtype=np.bool_),
        "CONVENTION",
        lambda i: f"{symbols[i]} is quoted in {rows[i].quote_asset} and paid in {rows[i].margin_asset}, expected USD and its own coin",
    )
    size = sieve.limits("contract_size", np.array([row.contract_size for row in rows], dtype=np.float64))
    as_of = taken(sieve, [info.server_time] * len(rows), ask, answer)
    words = {
        "base_asset": [row.base_asset for row in rows],
        "quote_asset": [row.quote_asset for row in rows],
        "margin_asset": [row.margin_asset for row in rows],
        "contract_type": [row.contract_type for row in rows],
        "instrument_status": [row.contract_status for row in rows],
    }
    columns: dict[str, Any] = {name: np.array(column, dtype=object) for name, column in words.items()}
    listed = instants(np.array([row.onboard_date for row in rows], dtype=np.int64) * MILLI)
    ends = np.array([row.delivery_date for row in rows], dtype=np.int64)
    sieve.single([np.array(symbols, dtype=object)], [*columns.values(), size, listed, ends])
    columns |= {
        **whose(ask, answer, symbols, assets, as_of),
        "base_multiplier": multipliers,
        "payoff": "inverse",
        "contract_size": size,
        "contract_unit": "usd",
        "funding_interval_h": None,
        "listed_at": listed,
        "delivery_at": Nullable(instants(ends * MILLI), ends != usd.PERPETUAL_DELIVERY),
    }
    return Decoded({"instruments": sieve.table(columns)}, sieve.rejects, [*notes, *read.notes])


DECODERS: Final[Mapping[str, Callable[[Ask, Answer], Decoded]]] = {
    "coinExchangeInfo": listing,
    "coinFundingRate": usd.funding,
    "coinKlines": klines,
    "coinPremiumIndexKlines": usd.premium_klines,
    "coinOpenInterest": open_interest,
    "coinPremiumIndex": usd.premium,
    "coinOpenInterestHist": open_interest_hist,
    "coinTakerBuySellVol": taker,
    **dict.fromkeys(RATIOS, ratio),
}
