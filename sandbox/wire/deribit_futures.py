"""Deribit's inverse perpetuals: listing, book summary, funding by the hour and the tape with its liquidations (helper of deribit.py).

The tape is made from the bars and the liquidations of each five minutes: the amounts that its flagged trades close are the market's. All
of it is a function of the instant; of a recorded market, which holds no perpetuals of this venue, every answer is empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from sandbox.market import HOUR_MS, Contract, Market
from sandbox.options import date_word
from sandbox.wire.reply import json_rows

#: what `currency` may be; only coins have coin-settled options and a volatility index
CURRENCIES: Final = ("BTC", "ETH", "USDC", "USDT", "EURR")
KINDS: Final = ("future", "option", "spot", "future_combo", "option_combo")
#: currencies with a perpetual
COINS: Final = ("BTC", "ETH")
FUNDING_ROWS: Final = 744
TAPE_ROWS: Final = 1000
BUCKET_MS: Final = 300_000
NEVER_MS: Final = 32_503_708_800_000
CONTRACT_USD: Final = {"BTC": 10.0, "ETH": 1.0}
#: trades of a bucket: at least, at most, and one for so many of the market's own
CALM: Final = 20
BUSY: Final = 150
THINNED: Final = 16.0
_TURN: Final = 0.6180339887498949


class Refused(Exception):
    """An error of the venue; `data` says more."""

    def __init__(self, code: int, message: str, data: Mapping[str, str] | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.error = {"message": message, **({"data": data} if data else {}), "code": code}
        self.status = status


class Trade(NamedTuple):
    """`flag` is empty for an ordinary trade."""

    at: int
    number: int
    price: float
    amount: float
    direction: str
    flag: str


class Perpetuals:
    """What the market shows of BTC-PERPETUAL and ETH-PERPETUAL."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._bucket = lru_cache(maxsize=4096)(self._make_bucket)

    def _coins(self, currency: str) -> tuple[str, ...]:
        return (currency,) if currency in COINS and self.market.kind == "simulated" else ()

    def _contract(self, params: Mapping[str, str]) -> Contract | None:
        """The contract behind `instrument_name`; None of a recorded market."""
        name = params.get("instrument_name")
        if name is None:
            raise Refused(-32602, "Invalid params", {"reason": "value required", "param": "instrument_name"})
        if name not in {f"{coin}-PERPETUAL" for coin in COINS}:
            raise Refused(13020, "not_found", {"reason": "instrument not found", "param": "instrument_name"})
        return self.market.contract(f"{name.removesuffix('-PERPETUAL')}USDT") if self.market.kind == "simulated" else None

    def _dated(self, coin: str) -> tuple[str, int] | None:
        """The farthest future, which expires with the farthest options."""
        chain = self.market.option_chain(coin)
        if chain is None:
            return None
        expiry = int(chain.expiry_ms.max())
        return f"{coin}-{date_word(expiry)}", expiry

    # methods

    def get_instruments(self, params: Mapping[str, str]) -> bytes:
        currency = one_of(params, "currency", (*CURRENCIES, "any"))
        kind = one_of(params, "kind", KINDS) if "kind" in params else "future"
        found: list[dict[str, Any]] = []
        for coin in self._coins(currency) if kind == "future" else ():
            contract = self.market.contract(f"{coin}USDT")
            assert contract is not None
            found.append(_listing(coin, f"{coin}-PERPETUAL", "perpetual", contract.listed_ms, NEVER_MS))
            if dated := self._dated(coin):
                found.append(_listing(coin, dated[0], "month", contract.listed_ms, dated[1]))
        return json.dumps(found, separators=(",", ":")).encode()

    def summaries(self, currency: str) -> bytes:
        """The perpetual and a dated future. Open interest is USD, in whole contracts."""
        found: list[dict[str, Any]] = []
        for coin in self._coins(currency):
            now, symbol = self.market.now_ms(), f"{coin}USDT"
            stock = self.market.positioning(symbol, BUCKET_MS, now - HOUR_MS, now)["oi_usd"]
            prices = self.market.premium(symbol)
            usd = float(stock[-1] // CONTRACT_USD[coin] * CONTRACT_USD[coin])
            rates = {"current_funding": round(prices["rate"] * 8.0, 8), "funding_8h": round(prices["rate"] * 8.0, 8)}
            found.append(_summary(coin, f"{coin}-PERPETUAL", now, usd, prices["mark"], prices["index"]) | rates)
            if dated := self._dated(coin):
                far = usd // 20 // CONTRACT_USD[coin] * CONTRACT_USD[coin]
                found.append(_summary(coin, dated[0], now, far, prices["mark"] * 1.01, prices["index"]))
        return json.dumps(found, separators=(",", ":")).encode()

    def get_funding_rate_history(self, params: Mapping[str, str]) -> bytes:
        """The newest 744 hours that end after the start, up to the end, ascending."""
        contract = self._contract(params)
        start, end = stamp_of(params, "start_timestamp"), stamp_of(params, "end_timestamp")
        if contract is None:
            return b"[]"
        rows = self.market.settlements(contract.symbol, start - 8 * HOUR_MS, end)
        sums = np.concatenate(([0.0], np.cumsum(rows["rate"])))
        upto = np.arange(1, len(rows) + 1)
        eight = sums[upto] - sums[np.maximum(upto - 8, 0)]
        before = np.concatenate((rows["mark"][:1], rows["mark"][:-1]))
        chosen = np.flatnonzero(rows.at > start)[-FUNDING_ROWS:]
        pieces = [
            ('{"timestamp":', "%d", rows.at[chosen]),
            (',"index_price":', "%.12g", rows["mark"][chosen]),
            (',"prev_index_price":', "%.12g", before[chosen]),
            (',"interest_8h":', "%.17g", eight[chosen]),
            (',"interest_1h":', "%.17g", rows["rate"][chosen]),
        ]
        return json_rows(pieces, "}")

    def get_last_trades_by_instrument_and_time(self, params: Mapping[str, str]) -> bytes:
        """Trades of [start, end], the oldest first where sorting is asc, else the newest first."""
        contract = self._contract(params)
        start, end = stamp_of(params, "start_timestamp"), stamp_of(params, "end_timestamp")
        count = params.get("count", "10")
        if not count.isdecimal() or not 1 <= int(count) <= TAPE_ROWS:
            raise Refused(-32602, "Invalid params", {"reason": "must be between 1 and 1000", "param": "count"})
        order = one_of(params, "sorting", ("asc", "desc", "default")) if "sorting" in params else "default"
        found: list[Trade] = []
        if contract is not None:
            first = (max(start, contract.listed_ms + 1) - 1) // BUCKET_MS
            after = min((end - 1) // BUCKET_MS + 1, self.market.now_ms() // BUCKET_MS)  # the bucket that still runs is not told
            for bucket in range(first, after):
                found += [one for one in self._bucket(contract.symbol, bucket) if start <= one.at <= end]
                if order == "asc" and len(found) > int(count):
                    break
        if order != "asc":
            found.reverse()
        page = [_trade(params["instrument_name"], one) for one in found[: int(count)]]
        return json.dumps({"trades": page, "has_more": len(found) > int(count)}, separators=(",", ":")).encode()

    # the tape

    def _make_bucket(self, symbol: str, bucket: int) -> tuple[Trade, ...]:
        """Trades of (start, end] of a bucket that is over."""
        start = bucket * BUCKET_MS
        bars = self.market.bars(symbol, BUCKET_MS, start, start)
        if not len(bars):
            return ()
        first, last = float(bars["open"][0]), float(bars["close"][0])
        gone = self.market.liquidations(symbol, BUCKET_MS, start, start)
        asset = symbol.removesuffix("USDT")
        unit = CONTRACT_USD[asset]
        size = float(bars["quote_volume"][0]) / max(float(bars["trades"][0]), 1.0)
        plain = int(min(BUSY, CALM + float(bars["trades"][0]) / THINNED))
        made = [(size * (0.5 + _spread(bucket, n)), "buy" if _spread(bucket, n + 500) < 0.5 else "sell", "") for n in range(plain)]
        made += _forced(float(gone["long"][0]) * (first + last) / 2.0, float(gone["short"][0]) * (first + last) / 2.0)
        order = sorted(range(len(made)), key=lambda n: _spread(bucket, n + 900))
        trades = []
        for place, n in enumerate(order):
            usd, direction, flag = made[n]
            share = (place + 1) / len(made)
            amount = round(usd / unit) * unit
            if amount > 0:
                # every fourth trade shares its millisecond with the one before, as the fills of one order do
                at = start + max(1, int(BUCKET_MS * ((place - (place % 4 == 3)) + 1) / len(made)))
                price = round((first + (last - first) * share) * 2.0) / 2.0 if asset == "BTC" else round(first + (last - first) * share, 2)
                trades.append(Trade(at, bucket * 1000 + place, price, amount, direction, flag))
        return tuple(trades)


def _spread(bucket: int, n: int) -> float:
    """A number of [0, 1) that is the same whenever it is asked for."""
    return ((n + 1) * _TURN + bucket * 0.4142135623730951) % 1.0


def _forced(long_usd: float, short_usd: float) -> list[tuple[float, str, str]]:
    """Trades that close so much of long and short positions: amount, direction of the taker, flag."""
    both = 0.2 * min(long_usd, short_usd)
    long_usd, short_usd = long_usd - both, short_usd - both
    return [
        (both, "sell", "MT"),
        (0.5 * long_usd, "sell", "T"),
        (0.3 * long_usd, "sell", "T"),
        (0.2 * long_usd, "buy", "M"),
        (0.5 * short_usd, "buy", "T"),
        (0.3 * short_usd, "buy", "T"),
        (0.2 * short_usd, "sell", "M"),
    ]


def _trade(name: str, one: Trade) -> dict[str, Any]:
    coin = name.removesuffix("-PERPETUAL")
    told: dict[str, Any] = {
        "timestamp": one.at,
        "price": one.price,
        "amount": one.amount,
        "direction": one.direction,
        "index_price": one.price,
        "instrument_name": name,
        "trade_seq": one.number,
        "mark_price": one.price,
        "tick_direction": 1,
        "contracts": one.amount / CONTRACT_USD[coin],
        "trade_id": str(one.number) if coin == "BTC" else f"{coin}-{one.number}",
    }
    return told | ({"liquidation": one.flag} if one.flag else {})


def _summary(coin: str, name: str, now: int, usd: float, mark: float, index: float) -> dict[str, Any]:
    return {
        "base_currency": coin,
        "quote_currency": "USD",
        "instrument_name": name,
        "creation_timestamp": now,
        "open_interest": usd,
        "mark_price": round(mark, 2),
        "estimated_delivery_price": round(index, 2),
        "bid_price": round(mark - 0.5, 2),
        "ask_price": round(mark + 0.5, 2),
        "mid_price": round(mark, 2),
        "last": round(mark, 2),
        **dict.fromkeys(("high", "low", "price_change")),
        **dict.fromkeys(("volume", "volume_usd", "volume_notional"), 0.0),
    }


def _listing(coin: str, name: str, period: str, listed_ms: int, expiry_ms: int) -> dict[str, Any]:
    return {
        "base_currency": coin,
        "block_trade_commission": 0.00025,
        "block_trade_min_trade_amount": 200000,
        "block_trade_tick_size": 0.01,
        "contract_size": CONTRACT_USD[coin],
        "counter_currency": "USD",
        "creation_timestamp": listed_ms,
        "expiration_timestamp": expiry_ms,
        "future_type": "reversed",
        "instrument_id": 210838,
        "instrument_name": name,
        "instrument_type": "reversed",
        "is_active": True,
        "kind": "future",
        "maker_commission": 0.0,
        "max_leverage": 50,
        "max_liquidation_commission": 0.0075,
        "max_non_default_leverage": 5,
        "min_trade_amount": CONTRACT_USD[coin],
        "price_index": f"{coin.lower()}_usd",
        "quote_currency": "USD",
        "settlement_currency": coin,
        "settlement_period": period,
        "state": "open",
        "taker_commission": 0.0005,
        "tick_size": 0.5,
        "tick_size_steps": [],
    }


def one_of(params: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    found = params.get(name)
    if found is None:
        raise Refused(-32602, "Invalid params", {"reason": "value required", "param": name})
    if found not in allowed:
        raise Refused(-32602, "Invalid params", {"reason": f"invalid {name}", "param": name})
    return found


def stamp_of(params: Mapping[str, str], name: str) -> int:
    found = params.get(name)
    if found is None:
        raise Refused(-32602, "Invalid params", {"reason": "value required", "param": name})
    if not found.isdecimal() or len(found) > 15:
        raise Refused(-32602, "Invalid params", {"reason": "must be an integer", "param": name})
    return int(found)
