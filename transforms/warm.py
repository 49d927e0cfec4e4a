"""`python -m transforms.warm`: compile and cache the numba kernels by deriving two days of a made-up market, so that no task waits for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import pyarrow as pa

from transforms.index.build import Stamp, derive
from transforms.schema import arrow_schema
from transforms.spec import SPEC
from transforms.tables import TABLES
from transforms.windows import CADENCES, DAY, HOUR, Window, partition_days, utc

_START: Final = utc("2024-01-31")
_NUMBERS: Final = {"float": 1.0, "int": 1, "string": "", "bool": False}


def _rows(name: str, **columns: list[Any]) -> pa.Table:
    """Rows of a core table: given columns, and for the rest values of the right type."""
    count = len(columns["as_of"])
    given = {"known_at": columns["as_of"], "fetched_at": columns["as_of"], **columns}
    made = {}
    for column, field in zip(TABLES[name].fields.values(), arrow_schema(TABLES[name]), strict=True):
        if column.name == "date":
            made["date"] = partition_days(pa.array(columns["as_of"], type=arrow_schema(TABLES[name]).field("as_of").type))
            continue
        filled = [None if column.nullable else _NUMBERS.get(column.kind)] * count
        made[column.name] = pa.array(given.get(column.name, filled), type=field.type)
    return pa.table(made, schema=arrow_schema(TABLES[name]))


def market(cadence: str) -> dict[str, pa.Table]:
    """A contract, a chain of options and a stablecoin, for two days."""
    source, step, span = SPEC.cadence(cadence).sources[0], CADENCES[cadence], CADENCES[cadence] / HOUR
    bars = Window(_START, _START + 2 * DAY).grid(step)
    count = len(bars)
    who = {"source": [source] * count, "venue": ["binance"] * count, "instrument": ["BTCUSDT"] * count, "asset": ["BTC"] * count}
    level = [100.0 + n for n in range(count)]
    days = [_START - n * DAY for n in range(40, 0, -1)]
    expiries = [_START + n * DAY for n in (3, 10, 40, 100)]
    options = [(expiry, strike, kind) for expiry in expiries for strike in range(60, 150, 8) for kind in ("call", "put")]
    many = len(options)
    return {
        "candles": _rows("candles", as_of=bars, interval_h=[span] * count, close_usd=level, high_usd=level, low_usd=level, **who),
        "open_interest": _rows(
            "open_interest", as_of=bars, open_interest_native=level, open_interest_base=level, native_unit=["base"] * count, **who
        ),
        "stablecoin_supply": _rows(
            "stablecoin_supply", as_of=days, source=["defillama"] * 40, stablecoin=["ALL"] * 40, circulating_usd=[1e11] * 40
        ),
        "option_chain": _rows(
            "option_chain",
            as_of=[bars[0]] * many,
            source=["deribit"] * many,
            venue=["deribit"] * many,
            instrument=[f"BTC-{expiry:%d%b%y}-{strike}-{kind}" for expiry, strike, kind in options],
            asset=["BTC"] * many,
            expiry_at=[expiry for expiry, _, _ in options],
            strike_usd=[float(strike) for _, strike, _ in options],
            option_type=[kind for _, _, kind in options],
            settlement=["coin"] * many,
            mark_iv=[0.6] * many,
            underlying_usd=[100.0] * many,
            index_usd=[100.0] * many,
        ),
    }


def main() -> None:
    """Every kernel runs, on arrays of the types that count."""
    stamp = Stamp(market="simulated", vintage="reconstructed", code_sha="")
    for cadence in CADENCES:
        derive(market(cadence), Window(_START, _START + timedelta(days=2)), cadence, SPEC, assets=["BTC", "ETH"], stamp=stamp)


if __name__ == "__main__":
    main()
