"""Faults inside a JSON answer: what happens to its rows. Rows are found by shape, so one layer serves every endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

#: Fields that hold a stamp, and how many of its units make an hour.
_STAMPS: Final = {
    "timestamp": 3_600_000,
    "fundingTime": 3_600_000,
    "fundingRateTimestamp": 3_600_000,
    "time": 3_600_000,
    "creation_timestamp": 3_600_000,
    "t": 3600,
    "date": 3600,
    "ts": 3_600_000,
}
#: What `wrong_unit` multiplies when the rule names no field.
_UNITS: Final = {
    "sumOpenInterest": 1000.0,
    "openInterest": 1000.0,
    "open_interest": 1000.0,
    "fundingRate": 100.0,
    "lastFundingRate": 100.0,
}
#: where an answer keeps its rows
_INNER: Final = ("history", "data", "symbols", "peggedAssets", "result", "list")
_CANDLE: Final = dict.fromkeys("ohlc", 1000.0)
Row = dict[str, Any] | list[Any]
Params = Mapping[str, Any]


def spoil_rows(kind: str, params: Params, body: bytes) -> bytes:
    """The body with `kind` done to every list of rows in it."""
    return json.dumps(_walk(json.loads(body), SPOILERS[kind], params), separators=(",", ":")).encode()


def _walk(value: Any, spoiler: Callable[[list[Row], Params], list[Row]], params: Params) -> Any:
    """Finds the rows: the outermost list of objects or arrays, or the lists of `_INNER` inside; a lone object is one row."""
    if isinstance(value, dict):
        inner = {key: item for key, item in value.items() if key in _INNER and isinstance(item, list)}
        if isinstance(value.get("result"), dict):  # an envelope around the answer
            inner["result"] = value["result"]
        if inner:
            return {**value, **{key: _walk(item, spoiler, params) for key, item in inner.items()}}
        rows = spoiler([value], params)
        return rows[0] if rows else {}
    if isinstance(value, list):
        if value and all(isinstance(item, dict) and isinstance(item.get("history"), list) for item in value):
            return [_walk(item, spoiler, params) for item in value]
        if value and all(isinstance(item, dict | list) for item in value):
            return spoiler(value, params)
    return value


def _scaled(value: Any, factor: float) -> Any:
    """A number times `factor`, as text with its decimals where it was text."""
    if isinstance(value, str):
        decimals = len(value.partition(".")[2])
        return f"{float(value) * factor:.{decimals}f}"
    return value * factor if isinstance(value, int | float) else value


def _moved(value: Any, by: int) -> Any:
    return str(int(value) + by) if isinstance(value, str) else value + by


def _place(row: Row, params: Params) -> Any:
    """Key of the field a rule means: the named one, or of an array row the fifth (a kline's close), or the first amount."""
    named = params.get("field")
    if isinstance(row, list):
        return int(named) if named is not None else min(4, len(row) - 1)
    if named is not None:
        return named
    return next((key for key in row if key not in _STAMPS and key != "symbol"), next(iter(row)))


def _missing(rows: list[Row], params: Params) -> list[Row]:
    out: list[Row] = []
    for row in rows:
        place = _place(row, params)
        if isinstance(row, list):
            out.append(row[:place] + row[place + 1 :])
        else:
            out.append({key: value for key, value in row.items() if key != place})
    return out


def _null(rows: list[Row], params: Params) -> list[Row]:
    out: list[Row] = []
    for row in rows:
        place = _place(row, params)
        out.append([None if n == place else value for n, value in enumerate(row)] if isinstance(row, list) else {**row, place: None})
    return out


def _extra(rows: list[Row], params: Params) -> list[Row]:
    value = params.get("value", "1")
    return [[*row, value] if isinstance(row, list) else {**row, str(params.get("field", "unannounced")): value} for row in rows]


def _unit(rows: list[Row], params: Params) -> list[Row]:
    named = params.get("field")
    units = _UNITS if named is None else {named: float(params.get("factor", 1000.0))}
    out: list[Row] = []
    for row in rows:
        if isinstance(row, list):
            place, factor = _place(row, params), float(params.get("factor", 1000.0))
            out.append([_scaled(value, factor) if n == place else value for n, value in enumerate(row)])
        else:
            here = _CANDLE if named is None and set(_CANDLE) <= set(row) else units
            out.append({key: _scaled(value, here[key]) if key in here else value for key, value in row.items()})
    return out


def _twice(rows: list[Row], _: Params) -> list[Row]:
    return rows + rows


def _gap(rows: list[Row], params: Params) -> list[Row]:
    gone = max(1, int(len(rows) * float(params.get("share", 0.25))))
    begin = (len(rows) - gone) // 2
    return rows[:begin] + rows[begin + gone :]


def _shift(rows: list[Row], params: Params) -> list[Row]:
    hours = int(params.get("hours", 3))
    out: list[Row] = []
    for row in rows:
        if isinstance(row, list):  # a kline: open time and, at Binance, close time; Bybit's seventh is a turnover, a text
            stamps = [n == 0 or (n == 6 and isinstance(value, int)) for n, value in enumerate(row)]
            out.append([_moved(value, hours * 3_600_000) if moved else value for value, moved in zip(row, stamps, strict=True)])
        else:
            out.append({key: _moved(value, hours * _stamp_unit(key, row)) if key in _STAMPS else value for key, value in row.items()})
    return out


def _stamp_unit(key: str, row: Mapping[str, Any]) -> int:
    """alternative.me spells `timestamp` in seconds; every other `timestamp` is in milliseconds."""
    return 3600 if key == "timestamp" and "value_classification" in row else _STAMPS[key]


def _delisted(rows: list[Row], params: Params) -> list[Row]:
    ended = {"status": "SETTLING", "deliveryDate": params["ended"]}
    return [{**row, **ended} if isinstance(row, dict) and row.get("symbol") == params["symbol"] else row for row in rows]


SPOILERS: Final[dict[str, Callable[[list[Row], Params], list[Row]]]] = {
    "missing_field": _missing,
    "null_value": _null,
    "extra_field": _extra,
    "wrong_unit": _unit,
    "duplicate_page": _twice,
    "gap": _gap,
    "shift": _shift,
    "delisted": _delisted,
}
