"""Bitget's v2 futures market data: envelopes, pages from the newest back, the last thirty hours of splits, error bodies.

Documents: https://www.bitget.com/api-doc/contract/market/Get-All-Symbols-Contracts and its siblings
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from sandbox.limits import Limit
from sandbox.market import DAY_MS, HOUR_MS, Contract, Market, Rows
from sandbox.wire.reply import Query, Reply, Venue, as_json, json_rows

PRODUCT: Final = "USDT-FUTURES"
#: the venue also knows 1m, 3m, 3D..1M, which the markets' grid does not hold: refused here as unknown
GRANULARITIES: Final = {"15m": 15, "30m": 30, "1H": 60, "4H": 240, "6H": 360, "12H": 720, "1D": 1440}
PERIODS: Final = {"15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}
MINUTE_MS: Final = 60_000
RATIO_ROWS: Final = 30
SPAN_MS: Final = 90 * DAY_MS
FOREVER: Final = 2**62
#: split -> the market's name, and the venue's word in the field names
RATIOS: Final = {"account-long-short": ("global_account", "Account"), "position-long-short": ("top_position", "Position")}
#: listed beside what trades: symbol, status, limitOpenTime, offTime
OTHERS: Final = (("LUNAUSDT", "off", "1652400000000", "1652486400000"), ("SOONUSDT", "listed", "-1", "-1"))


class Refused(Exception):
    """An error body of the venue."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class Mix:
    """api.bitget.com, /api/v2/mix/market: 20 requests a second for each path, one for splits, times `scale`."""

    def __init__(self, market: Market, clock: Callable[[], float], scale: float = 1.0) -> None:
        self.market = market
        self.limits: defaultdict[str, Limit] = defaultdict(lambda: Limit(20 * scale, 1, clock))
        for name in RATIOS:
            self.limits[name] = Limit(1 * scale, 1, clock)
        self.routes: dict[str, Callable[[Mapping[str, str]], bytes | Any]] = {
            "contracts": self.contracts,
            "open-interest": self.open_interest,
            "history-fund-rate": self.funding,
            "current-fund-rate": self.quote,
            "symbol-price": self.price,
            "history-candles": self.candles,
            **{name: partial(self.ratio, name) for name in RATIOS},
        }

    def answer(self, query: Query) -> Reply:
        name = query.path.removeprefix("/api/v2/mix/market/")
        try:
            if name in self.routes:
                self._take(name)
            data = self.routes.get(name, _nowhere)(query.params)
        except Refused as refused:
            body = {"code": refused.code, "msg": refused.message, "requestTime": self.market.now_ms(), "data": None}
            return as_json(body, refused.status)
        head = f'{{"code":"00000","msg":"success","requestTime":{self.market.now_ms()},"data":'.encode()
        return Reply(200, head + (data if isinstance(data, bytes) else as_json(data).body) + b"}")

    def _take(self, name: str) -> None:
        if self.limits[name].take(1) is not None:
            raise Refused("429", "Too Many Requests", 429)

    # parameters

    def _contract(self, params: Mapping[str, str], *, product: bool = True) -> Contract:
        if product:
            _product(params)
        symbol = _needed(params, "symbol")
        contract = self.market.contract(symbol)
        if contract is None:
            raise Refused("40034", f"Parameter {symbol} does not exist")
        return contract

    # endpoints

    def contracts(self, params: Mapping[str, str]) -> list[dict[str, Any]]:
        _product(params)
        ours = [_listing(contract.symbol, contract.asset, "normal", "-1", "-1", contract) for contract in self.market.contracts]
        return [*ours, *(_listing(symbol, symbol.removesuffix("USDT"), *rest) for symbol, *rest in OTHERS)]

    def open_interest(self, params: Mapping[str, str]) -> dict[str, Any]:
        """In base units, longs counted once, as declared in transforms/conventions/bitget.py."""
        contract = self._contract(params)
        now = self.market.now_ms()
        finest = 15 if self.market.kind == "recorded" else 5
        rows = self.market.positioning(contract.symbol, finest * MINUTE_MS, now - DAY_MS, now)
        if not len(rows):
            raise Refused("40725", "service return an error", 400)
        return {"openInterestList": [{"symbol": contract.symbol, "size": f"{rows['oi_base'][-1]:.4f}"}], "ts": str(int(rows.at[-1]))}

    def funding(self, params: Mapping[str, str]) -> bytes:
        """From the newest back, a page of at most 100; no range can be asked for."""
        contract = self._contract(params)
        size, number = _whole(params, "pageSize", 20), _whole(params, "pageNo", 1)
        if not (1 <= size <= 100 and number >= 1):
            raise Refused("40020", f"Parameter {'pageSize' if not 1 <= size <= 100 else 'pageNo'} error")
        rows = self.market.settlements(contract.symbol, 0, self.market.now_ms())
        newest = np.arange(len(rows))[::-1][(number - 1) * size : number * size]
        at, rate = rows.at[newest], rows["rate"][newest]
        pieces = [(f'{{"symbol":"{contract.symbol}","fundingRate":', '"%.10f"', rate), (',"fundingTime":', '"%d"', at)]
        return json_rows(pieces, "}")

    def quote(self, params: Mapping[str, str]) -> list[dict[str, Any]]:
        contract = self._contract(params)
        now = self.market.premium(contract.symbol)
        if np.isnan(now["rate"]):
            return []
        hours = self._interval_h(contract)
        return [
            {
                "symbol": contract.symbol,
                "fundingRate": f"{now['rate']:.8f}",
                "fundingRateInterval": str(hours),
                "nextUpdate": str(int(now["next_ms"])),
                "minFundingRate": f"{-contract.cap * hours / 8:.6f}",
                "maxFundingRate": f"{contract.cap * hours / 8:.6f}",
            }
        ]

    def _interval_h(self, contract: Contract) -> int:
        """Hours between the two newest settlements."""
        newest = self.market.settlements(contract.symbol, self.market.now_ms() - 3 * DAY_MS, self.market.now_ms()).at[-2:]
        return int(newest[1] - newest[0] + MINUTE_MS) // HOUR_MS if len(newest) == 2 else 8

    def price(self, params: Mapping[str, str]) -> list[dict[str, Any]]:
        contract = self._contract(params)
        now = self.market.premium(contract.symbol)
        if np.isnan(now["mark"]):
            return []
        mark, index = f"{now['mark']:.8f}", f"{now['index']:.8f}"
        return [{"symbol": contract.symbol, "price": mark, "indexPrice": index, "markPrice": mark, "ts": str(self.market.now_ms())}]

    def candles(self, params: Mapping[str, str]) -> bytes:
        """The newest bars whose open lies in [startTime, endTime), at most `limit`, ascending; 90 days at most."""
        contract = self._contract(params)
        granularity = _needed(params, "granularity")
        if granularity not in GRANULARITIES:
            raise Refused("400171", f"Parameter verification failed granularity {granularity}")
        limit, step = _whole(params, "limit", 100), GRANULARITIES[granularity] * MINUTE_MS
        if not 1 <= limit <= 200:
            raise Refused("40020", "Parameter limit error")
        end = _whole(params, "endTime", self.market.now_ms())
        start = _whole(params, "startTime", max(0, end - limit * step))
        if start > end or end - start > SPAN_MS:
            raise Refused("40017", "Parameter verification failed startTime endTime")
        rows = self.market.bars(contract.symbol, step, start, end - 1).take(slice(-limit, None))
        price, amount = f'"%.{contract.price_decimals}f"', f'"%.{contract.quantity_decimals}f"'
        pieces = [
            ("[", '"%d"', rows.at),
            *((",", price, rows[name]) for name in ("open", "high", "low", "close")),
            (",", amount, rows["volume"]),
            (",", '"%.4f"', rows["quote_volume"]),
        ]
        return json_rows(pieces, "]")

    def ratio(self, name: str, params: Mapping[str, str]) -> bytes:
        """The last 30 buckets that are over, stamped at their START with the shares at their end; the quotient in hundredths."""
        contract = self._contract(params, product=False)
        period = params.get("period", "15m")
        if period not in PERIODS:
            raise Refused("400171", f"Parameter verification failed period {period}")
        step = PERIODS[period] * MINUTE_MS
        now = self.market.now_ms()
        rows: Rows = self.market.positioning(contract.symbol, step, now - (RATIO_ROWS + 2) * step, now).take(slice(-RATIO_ROWS, None))
        metric, word = RATIOS[name]
        long, short = rows[f"{metric}_long"], rows[f"{metric}_short"]
        pieces = [
            (f'{{"long{word}Ratio":', '"%.4f"', long),
            (f',"short{word}Ratio":', '"%.4f"', short),
            (f',"longShort{word}Ratio":', '"%.4f"', long / np.maximum(short, 1e-9) / 100.0),
            (',"ts":', '"%d"', rows.at - step),
        ]
        return json_rows(pieces, "}")


def _nowhere(_params: Mapping[str, str]) -> bytes:
    raise Refused("40404", "Request URL NOT FOUND", 404)


def _needed(params: Mapping[str, str], name: str) -> str:
    if not params.get(name):
        raise Refused("40019", f"Parameter {name} cannot be empty")
    return params[name]


def _product(params: Mapping[str, str]) -> None:
    if _needed(params, "productType").upper() != PRODUCT:
        raise Refused("400172", "Parameter verification failed productType")


def _whole(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 15:
        raise Refused("40020", f"Parameter {name} error")
    return int(text)


def _listing(symbol: str, base: str, status: str, limit_open: str, off: str, contract: Contract | None = None) -> dict[str, Any]:
    """One entry of `contracts`."""
    places = (contract.quantity_decimals, contract.price_decimals) if contract else (3, 2)
    return {
        "symbol": symbol,
        "baseCoin": base,
        "quoteCoin": "USDT",
        "buyLimitPriceRatio": "0.05",
        "sellLimitPriceRatio": "0.05",
        "feeRateUpRatio": "0.005",
        "makerFeeRate": "0.0002",
        "takerFeeRate": "0.0006",
        "openCostUpRatio": "0.01",
        "supportMarginCoins": ["USDT"],
        "minTradeNum": f"{10.0 ** -places[0]:g}",
        "priceEndStep": "1",
        "volumePlace": str(places[0]),
        "pricePlace": str(places[1]),
        "sizeMultiplier": f"{10.0 ** -places[0]:g}",
        "symbolType": "perpetual",
        "minTradeUSDT": "5",
        "maxSymbolOrderNum": "200",
        "maxProductOrderNum": "1000",
        "maxPositionNum": "150",
        "symbolStatus": status,
        "offTime": off,
        "limitOpenTime": limit_open,
        "deliveryTime": "",
        "deliveryStartTime": "",
        "deliveryPeriod": "",
        "launchTime": str(contract.listed_ms) if contract else "",
        "fundInterval": "8",
        "minLever": "1",
        "maxLever": "125",
        "posLimit": "0.1",
        "maintainTime": "",
        "openTime": "",
        "maxMarketOrderQty": "220",
        "maxOrderQty": "1200",
    }


def hosts(market: Market, clock: Callable[[], float], scale: float) -> dict[str, Venue]:
    """The hosts of this source, by name."""
    return {"api": Mix(market, clock, scale)}
