"""Forced orders of OKX: sides, prices, amounts, and pages whose seams lie between orders of one millisecond."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import payloads
from tests.unit.okx_answers import DAY, JSON, NOW, OKX, decode, planned, reasons, table
from transforms.sources.contract import Answer, Ask
from transforms.windows import to_ms


def test_d5_all_details_of_all_groups_are_kept():
    rows = table(decode("liquidation-orders"))
    assert [row["amount_base"] for row in rows] == pytest.approx([5.0, 0.1, 0.025, 0.03, 0.03])
    assert len({row["trade_id"] for row in rows}) == 5


def test_d5_orders_alike_to_the_letter_are_two_and_the_same_two_whoever_asks():
    ids = [row["trade_id"] for row in table(decode("liquidation-orders"))]
    assert ids[3:] == ["1779276000999-long-107003-3-0", "1779276000999-long-107003-3-1"]
    again = [row["trade_id"] for row in table(decode("liquidation-orders", lambda data: data.reverse()))]
    assert sorted(ids) == sorted(again)


def test_d7_the_price_is_where_the_margin_was_gone_and_inverse_contracts_become_coins_at_it():
    (row,) = table(decode("liquidation-orders", suffix="-inverse"))
    assert (row["position_side"], row["price_usd"], row["price_kind"], row["completeness"]) == ("short", 108000.0, "bankruptcy", "floor")
    assert row["amount_base"] == pytest.approx(540 * 100 / 108000)


def test_d3_the_side_is_the_positions():
    rows = table(decode("liquidation-orders"))
    assert [row["position_side"] for row in rows] == ["long", "long", "short", "long", "long"]


@pytest.mark.parametrize(("pos_side", "side"), [("long", "buy"), ("short", "sell"), ("net", "sell"), ("", "buy"), ("long", "liquidated")])
def test_d3_a_side_that_contradicts_its_order_is_put_aside(pos_side, side):
    decoded = decode("liquidation-orders", lambda data: data[0]["details"][0].update(posSide=pos_side, side=side))
    assert reasons(decoded) == ["CONVENTION"]
    assert len(table(decoded)) == 4


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("bkPx", "0", "VALUE"),
        ("bkPx", "", "VALUE"),
        ("sz", "-1", "VALUE"),
        ("sz", "", "VALUE"),
        ("ts", "soon", "VALUE"),
        ("ts", "1779274800000", "STAMP"),
        ("ts", "1779278400001", "STAMP"),
    ],
)
def test_a_forced_order_that_cannot_be_is_put_aside_alone(field, value, reason):
    decoded = decode("liquidation-orders", lambda data: data[0]["details"][0].update({field: value}))
    assert reasons(decoded) == [reason]
    assert len(table(decoded)) == 4


def test_a_broken_detail_does_not_take_the_others_with_it():
    decoded = decode("liquidation-orders", lambda data: data[0]["details"][1].pop("bkPx"))
    assert reasons(decoded) == ["SHAPE"]
    assert "$.data[0].details[1]" in decoded.rejects[0].detail
    assert len(table(decoded)) == 4


def test_forced_orders_of_another_contract_were_not_asked_for():
    decoded = decode("liquidation-orders", lambda data: data[1].update(instId="BTC-USDC-SWAP"))
    assert reasons(decoded) == ["CONVENTION", "CONVENTION"]


class Tape:
    """A venue that lists `orders` (stamps) newest first, `counted` at once: orders, or groups of one order each."""

    def __init__(self, stamps: list[int], groups: bool) -> None:
        self.orders = sorted(enumerate(stamps), key=lambda one: -one[1])
        self.groups = groups

    def answer(self, ask: Ask) -> Answer:
        params = dict(ask.params)
        inside = [(n, at) for n, at in self.orders if int(params["before"]) < at < int(params["after"])][:100]
        details = [{"bkPx": "100", "posSide": "long", "side": "sell", "sz": str(1 + n), "ts": str(at)} for n, at in inside]
        split = [[one] for one in details] if self.groups else [details] if details else []
        data = [{"instId": "BTC-USDT-SWAP", "details": part} for part in split]
        return Answer(200, json.dumps({"code": "0", "data": data, "msg": ""}).encode(), NOW, JSON)


@given(
    st.lists(st.integers(0, 900).flatmap(lambda second: st.integers(1, 30).map(lambda times: [second] * times)), max_size=40),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_pages_hold_every_order_whatever_shares_a_stamp_across_the_seam(bursts, groups):
    series = next(one for one in planned(now=DAY.end) if (one.endpoint, one.instrument) == ("liquidation-orders", "BTC-USDT-SWAP"))
    stamps = [to_ms(series.window.start) + 1 + 1000 * second for burst in bursts for second in burst]
    crowded = max((stamps.count(at) for at in set(stamps)), default=0)
    tape = Tape(stamps, groups)
    (ask,) = OKX.asks(series)
    seen, pages = set(), 0
    while ask is not None:
        answer = tape.answer(ask)
        assert not OKX.decode(ask, answer).rejects
        seen |= {row["trade_id"] for row in table(OKX.decode(ask, answer))}
        ask = OKX.follow(ask, answer)
        pages += 1
        assert pages < 100
    if crowded < 100:  # more of one millisecond than a page holds cannot be asked for
        assert len(seen) == len(stamps)


@pytest.mark.parametrize("stamp", ["0", "99999999999999", "soon"])
def test_a_stamp_from_elsewhere_does_not_end_the_walk(stamp):
    series = next(one for one in planned(now=DAY.end) if (one.endpoint, one.instrument) == ("liquidation-orders", "BTC-USDT-SWAP"))
    (ask,) = OKX.asks(series)
    answer = Tape([to_ms(series.window.end) - 1000 * n for n in range(150)], groups=False).answer(ask)
    tree = json.loads(answer.body)
    tree["data"][0]["details"][50]["ts"] = stamp
    onward = OKX.follow(ask, replace(answer, body=json.dumps(tree).encode()))
    assert dict(onward.params)["after"] == str(to_ms(series.window.end) - 99_000 + 1)


def test_nothing_follows_a_page_that_is_not_full_or_not_read():
    for payload in payloads():
        if payload.source == "okx":
            assert OKX.follow(payload.ask, payload.answer) is None
            assert OKX.follow(payload.ask, replace(payload.answer, body=b"{")) is None
