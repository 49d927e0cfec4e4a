"""Payloads of OKX, changed and decoded: what the tests of this source share."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.payloads.reader import one
from transforms.roster import source
from transforms.sources.contract import Instrument, Series
from transforms.windows import Window, utc

OKX = source("okx")
NOW = utc("2026-05-28T10:20")
JSON = {"Content-Type": "application/json"}
LINEAR = Instrument("BTC-USDT-SWAP", "okx", "BTC", contract_size=0.01)
INVERSE = Instrument("BTC-USD-SWAP", "okx", "BTC", payoff="inverse", contract_size=100.0, contract_unit="usd", quote_asset="USD")
DAY = Window(utc("2026-05-27"), utc("2026-05-28"))


def decode(endpoint: str, change=lambda data: None, *, suffix="", options=None, **answered):
    """The payload after `change(data)`, decoded."""
    payload = one("okx", f"{endpoint}{suffix}.json")
    tree = json.loads(payload.answer.body)
    change(tree["data"])
    ask = payload.ask if options is None else replace(payload.ask, series=replace(payload.ask.series, options=options))
    return OKX.decode(ask, replace(payload.answer, body=json.dumps(tree).encode(), **answered))


def table(decoded, name=None):
    return decoded.tables[name or next(iter(decoded.tables))].to_pylist()


def reasons(decoded) -> list[str]:
    return [reject.reason_code for reject in decoded.rejects]


def planned(window=DAY, instruments=(LINEAR, INVERSE), now=NOW) -> list[Series]:
    return list(OKX.plan(window, instruments, now))
