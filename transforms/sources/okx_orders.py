"""Forced orders of OKX (helper of the source in okx.py): https://www.okx.com/docs-v5/en/ ("Get liquidation orders")."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from transforms import conventions
from transforms.reading import Read, Sieve, floats
from transforms.sources import okx_shapes as shapes
from transforms.sources.contract import Answer, Ask, Decoded
from transforms.sources.okx_rows import SOURCE, Page, instant, opened, page, swap, terms, who
from transforms.sources.rows import asked_for

#: the order that closes a position of that side
CLOSED_BY: Final[Mapping[str, str]] = {"long": "sell", "short": "buy"}


def details(answer: Answer) -> tuple[list[str], Read[shapes.Detail]]:
    """All orders of all groups, with the contract of each (PITFALLS D5: a group holds more than its first)."""
    groups = opened(answer, shapes.LIQUIDATED, "forced_trades")
    names: list[str] = []
    every: Read[shapes.Detail] = Read([], list(groups.rejects), list(groups.notes))
    for number, group in enumerate(groups.rows):
        read = shapes.DETAIL.many(group.details, "forced_trades", f"$.data[{number}].details")
        names += [group.inst_id] * len(read.rows)
        every.rows.extend(read.rows)
        every.rejects.extend(read.rejects)
        every.notes.extend(read.notes)
    return names, every


def liquidations(ask: Ask, answer: Answer) -> Decoded:
    """Forced orders, one by one. Contracts in USD become coins at the bankruptcy price that stands beside them."""
    endpoint, at, contract = ask.series.endpoint, ask.series.window.start, terms(ask)
    names, read = details(answer)
    rows = read.rows
    sieve = Sieve("forced_trades", rows, read.rejects)
    asked_for(sieve, names, ask)
    as_of = instant(sieve, [row.ts for row in rows])
    sieve.inside(as_of, ask.series.window, None)
    if (whose := conventions.text(SOURCE, endpoint, "liquidation_sides", at)) != "position":
        raise LookupError(f"found sides of {whose!r} in {endpoint}; this decoder reads posSide, the position's")
    strange = np.array([CLOSED_BY.get(row.pos_side) != row.side for row in rows], dtype=np.bool_)
    sieve.refuse(
        strange,
        "CONVENTION",
        lambda i: f"found posSide {rows[i].pos_side!r} closed by side {rows[i].side!r}; declared are long by sell and short by buy",
    )
    if (unit := conventions.text(SOURCE, endpoint, "native_unit", at)) != "contracts":
        raise LookupError(f"found unit {unit!r} of {endpoint}; this decoder reads contracts only")
    multiplier = swap(ask.series.instrument).multiplier
    price = sieve.texts("price_usd", [row.bk_px for row in rows], 1 / multiplier)
    sieve.refuse(price <= 0.0, "VALUE", lambda i: f"found bankruptcy price {rows[i].bk_px!r}")
    worth = floats([row.sz for row in rows]) * contract.size
    with np.errstate(divide="ignore", invalid="ignore"):
        amount = sieve.limits("amount_base", worth * multiplier if contract.payoff == "linear" else worth / price)
    table = sieve.table(
        {
            **who(ask, as_of),
            "trade_id": np.array(trade_ids(rows), dtype=object),
            "position_side": np.array([row.pos_side for row in rows], dtype=object),
            "price_usd": price,
            "price_kind": conventions.text(SOURCE, endpoint, "price_kind", at),
            "amount_base": amount,
            "completeness": conventions.text(SOURCE, endpoint, "completeness", at),
        }
    )
    return Decoded({"forced_trades": table}, sieve.rejects, read.notes)


def trade_ids(rows: Sequence[shapes.Detail]) -> list[str]:
    """The venue gives no ids: stamp, side, price and size as served, and which of the exact repeats it is (0, 1, ...).

    Two orders may agree in all of it; both are kept, whoever asks and in whatever order the answer lists them.
    """
    seen: Counter[str] = Counter()
    found = []
    for row in rows:
        said = f"{row.ts}-{row.pos_side}-{row.bk_px}-{row.sz}"
        found.append(f"{said}-{seen[said]}")
        seen[said] += 1
    return found


def page_of_liquidations(answer: Answer) -> Page:
    """What `follow` needs to know. The document does not say whether a page counts orders or groups; no page holds more groups than orders."""
    _, read = details(answer)
    return page([row.ts for row in read.rows], len(read.rejects), 1)
