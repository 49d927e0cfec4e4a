"""From a source's spelling of a contract to the coin behind it: 1000PEPEUSDT is 1000 PEPE, 1INCHUSDT is 1 1INCH (PITFALLS E5).

Prices and amounts of the core tables refer to one coin: `price / multiplier` and `amount * multiplier`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache, reduce
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from transforms.sources.contract import Instrument

#: Prefix of a Binance base asset -> coins per base unit (Binance listing notices: 1000SHIB, 1000000MOG, 1MBABYDOGE).
MULTIPLIERS: Final[dict[str, float]] = {"1000000": 1e6, "1000": 1e3, "1M": 1e6}
#: Quote assets of Binance USD-M contracts.
QUOTES: Final = ("USDT", "USDC", "FDUSD", "BUSD", "USD1", "BTC")
#: Suffix of Coinalyze's symbols for Binance, from its /v1/exchanges.
COINALYZE_BINANCE: Final = "A"
#: The lists that a source gave in one run lie closer together than this.
ONE_LISTING: Final = timedelta(minutes=10)
STATUS: Final = "instrument_status"

Listing = Sequence[Mapping[str, tuple[str, ...]]]
#: Columns of the instruments table, in the order of the fields of Instrument.
_NAMED: Final = (
    "instrument",
    "venue",
    "asset",
    "base_multiplier",
    "listed_at",
    "payoff",
    "contract_size",
    "contract_unit",
    "quote_asset",
)
_PREFIXED: Final = re.compile(r"(1000000|1000|1M)([^0-9].*)")
_LOOKS_PREFIXED: Final = re.compile(r"10{2,}")
_COIN_MARGINED: Final = re.compile(r"([A-Z0-9]+)USD_(?:PERP|[0-9]{6})", re.ASCII)


@lru_cache(maxsize=4096)
def coin(base: str) -> tuple[str, float]:
    """Asset and coins per base unit of a Binance base asset; a prefix that looks like a multiplier but is not declared raises LookupError.

    >>> coin("1000PEPE"), coin("1MBABYDOGE"), coin("1INCH"), coin("BTC")
    (('PEPE', 1000.0), ('BABYDOGE', 1000000.0), ('1INCH', 1.0), ('BTC', 1.0))
    """
    if found := _PREFIXED.fullmatch(base):
        return found[2], MULTIPLIERS[found[1]]
    if not base or _LOOKS_PREFIXED.match(base):
        raise LookupError(
            f"found base asset {base!r}; declared multiplier prefixes are {', '.join(MULTIPLIERS)} (transforms/instruments.py)"
        )
    return base, 1.0


@lru_cache(maxsize=4096)
def binance_asset(symbol: str) -> tuple[str, float]:
    """Asset and coins per base unit of a Binance perpetual; a symbol without a declared quote asset raises LookupError.

    >>> binance_asset("1000SHIBUSDT")
    ('SHIB', 1000.0)
    """
    for quote in QUOTES:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return coin(symbol.removesuffix(quote))
    raise LookupError(f"found symbol {symbol!r}; it ends in none of the declared quote assets {', '.join(QUOTES)}")


@lru_cache(maxsize=4096)
def binance_coin_asset(symbol: str) -> tuple[str, float]:
    """Asset and coins per base unit, always 1, of a Binance COIN-M contract; a symbol spelled otherwise raises LookupError.

    >>> binance_coin_asset("BTCUSD_PERP"), binance_coin_asset("ETHUSD_260626")
    (('BTC', 1.0), ('ETH', 1.0))
    """
    found = _COIN_MARGINED.fullmatch(symbol)
    if found is None:
        raise LookupError(f"found symbol {symbol!r}; Binance spells a coin-margined contract as <BASE>USD_PERP or <BASE>USD_YYMMDD")
    if (named := coin(found[1]))[1] != 1.0:
        raise LookupError(f"found symbol {symbol!r}; no coin-margined contract with a multiplier is declared (transforms/instruments.py)")
    return named


@lru_cache(maxsize=4096)
def coinalyze_asset(symbol: str) -> tuple[str, float]:
    """Asset and coins per base unit of a Binance USDT perpetual in Coinalyze's spelling; anything else raises LookupError.

    >>> coinalyze_asset("1000XECUSDT_PERP.A")
    ('XEC', 1000.0)
    """
    base = symbol.removesuffix(f"USDT_PERP.{COINALYZE_BINANCE}")
    if base == symbol:
        raise LookupError(f"found symbol {symbol!r}; Coinalyze spells a Binance USDT perpetual as <BASE>USDT_PERP.{COINALYZE_BINANCE}")
    return coin(base)


def as_venue_spells(source: str, instrument: str) -> str:
    """A contract in the spelling of its venue: a second source has one of its own.

    >>> as_venue_spells("coinalyze", "BTCUSDT_PERP.A"), as_venue_spells("binance", "BTCUSDT")
    ('BTCUSDT', 'BTCUSDT')
    """
    return instrument.removesuffix(f"_PERP.{COINALYZE_BINANCE}") if source == "coinalyze" else instrument


class Departed(NamedTuple):
    """A contract that traded and trades no more, and when it ended, UTC."""

    instrument: Instrument
    ended_at: datetime


def tradable(rows: pa.Table, listing: Listing, assets: Sequence[str] = ()) -> list[Instrument]:
    """What `plan` takes, from rows of the instruments table, by symbol; only `assets` if given.

    `listing`: a row is taken when it holds, in every column that one of these mappings names, one of the words given there.
    """
    kept = rows.filter(_chosen(rows, listing, assets)).sort_by("instrument").select(list(_NAMED)).to_pylist()
    return list({row["instrument"]: _instrument(row) for row in kept}.values())


def departed(rows: pa.Table, listing: Listing, assets: Sequence[str], now: datetime) -> list[Departed]:
    """Contracts that the newest list does not show as trading any more, by symbol (no survivorship, PITFALLS E5).

    rows: what one source listed at some instants, `now` among them. A contract ended when the source says (`delivery_at`); where it does not, at
    the first list that does not show it trading. One that was never seen trading and has no stated end is none of these.
    """
    still = tuple({column: words for column, words in one.items() if column != STATUS} for one in listing)
    held = rows.filter(_chosen(rows, still, assets))
    held = held.append_column("trading", _chosen(held, listing, assets)).sort_by("as_of")
    lists: dict[str, list[datetime]] = {}  # a source with several lists stamps each by itself
    for payoff, as_of in zip(rows.column("payoff").to_pylist(), rows.column("as_of").to_pylist(), strict=True):
        lists.setdefault(payoff, []).append(as_of)
    told: dict[str, list[dict[str, Any]]] = {}
    for row in held.select([*_NAMED, "as_of", "delivery_at", "trading"]).to_pylist():
        told.setdefault(row["instrument"], []).append(row)
    found = []
    for name in sorted(told):
        last = told[name][-1]
        seen = [row for row in told[name] if row["trading"]]
        stamps = lists[last["payoff"]]
        if last["trading"] and last["as_of"] > max(stamps) - ONE_LISTING:
            continue
        ended = last["delivery_at"] if last["delivery_at"] is not None and last["delivery_at"] <= now else None
        if ended is None and seen:
            ended = min((stamp for stamp in stamps if stamp > seen[-1]["as_of"] + ONE_LISTING), default=None)
        if ended is not None:
            found.append(Departed(_instrument(seen[-1] if seen else last), ended))
    return found


def _instrument(row: Mapping[str, Any]) -> Instrument:
    return Instrument(*(row[name] for name in _NAMED))


def _chosen(rows: pa.Table, listing: Listing, assets: Sequence[str]) -> pa.ChunkedArray:
    chosen = reduce(pc.or_, (reduce(pc.and_, (_among(rows, name, words) for name, words in one.items()), _all(rows)) for one in listing))
    return pc.and_(chosen, _among(rows, "asset", assets)) if assets else chosen


def _all(rows: pa.Table) -> pa.ChunkedArray:
    return pa.chunked_array([pa.repeat(pa.scalar(True), rows.num_rows)])


def _among(rows: pa.Table, column: str, words: Sequence[str]) -> pa.ChunkedArray:
    return pc.is_in(rows[column].cast(pa.string()), value_set=pa.array(list(words), type=pa.string()))
