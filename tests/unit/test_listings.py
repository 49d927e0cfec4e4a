"""No survivorship: a contract that left a source's list is still asked about for the time it traded (PITFALLS E5)."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from plugins.listings import last_words
from transforms.instruments import Departed, departed, tradable
from transforms.roster import SOURCES
from transforms.roster import source as source_of
from transforms.schema import arrow_schema
from transforms.sources.contract import Instrument
from transforms.tables import TABLES
from transforms.windows import HOUR, Window, utc

GENESIS = utc("2026-05-01")
NOW = GENESIS + 12 * HOUR
LISTING = ({"contract_type": ("PERPETUAL",), "instrument_status": ("TRADING",)},)
SCHEMA = arrow_schema(TABLES["instruments"])
#: of each contract and list: does it trade, is it shown but does not, is it not there
STATES = st.lists(st.lists(st.sampled_from(["TRADING", "BREAK", None]), min_size=3, max_size=3), min_size=1, max_size=8)
STATED = st.lists(st.one_of(st.none(), st.integers(1, 20)), min_size=3, max_size=3)


def row(name, hour, status, *, asset="BTC", ends=None, payoff="linear"):
    return {field.name: None for field in SCHEMA} | {
        "source": "binance",
        "venue": "binance",
        "instrument": name,
        "asset": asset,
        "as_of": GENESIS + hour * HOUR,
        "base_asset": asset,
        "quote_asset": "USDT",
        "margin_asset": "USDT",
        "contract_type": "PERPETUAL",
        "instrument_status": status,
        "base_multiplier": 1.0,
        "payoff": payoff,
        "contract_size": 1.0,
        "contract_unit": "base",
        "delivery_at": ends,
    }


def table(rows):
    columns = ["instrument", "venue", "asset", "base_multiplier", "listed_at", "payoff", "contract_size", "contract_unit", "quote_asset"]
    columns += ["contract_type", "instrument_status", "as_of", "delivery_at"]
    return pa.table({name: pa.array([one[name] for one in rows], type=SCHEMA.field(name).type) for name in columns})


@given(STATES, STATED)
def test_what_traded_once_either_trades_or_is_known_to_have_ended(states, stated):
    """Against the same said slowly. X is in every list, so that a list which shows nothing else is a list too."""
    ends = [None if hour is None else GENESIS + hour * HOUR for hour in stated]
    rows = [row("X", hour, "TRADING") for hour in range(len(states))]
    rows += [
        row(f"C{n}", hour, status, ends=ends[n]) for hour, said in enumerate(states) for n, status in enumerate(said) if status is not None
    ]
    found = {one.instrument.instrument: one.ended_at for one in departed(table(rows), LISTING, ["BTC"], NOW)}
    assert "X" not in found
    for n in range(3):
        trading = [hour for hour, said in enumerate(states) if said[n] == "TRADING"]
        shown = any(said[n] is not None for said in states)
        if trading and trading[-1] == len(states) - 1:
            assert f"C{n}" not in found
        elif shown and ends[n] is not None and ends[n] <= NOW:
            assert found[f"C{n}"] == ends[n]
        elif trading:
            assert found[f"C{n}"] == GENESIS + (trading[-1] + 1) * HOUR, "the first list that does not show it trading"
        else:
            assert f"C{n}" not in found


def test_a_source_with_two_lists_ends_nothing_by_the_other():
    """Both are stamped by themselves: the newer list of one kind says nothing about contracts of the other."""
    rows = [row("A", 0, "TRADING", payoff="inverse"), row("B", 0, "TRADING"), row("B", 5, "TRADING")]
    assert departed(table(rows), LISTING, [], NOW) == []
    assert {one.instrument for one in tradable(table(rows), LISTING)} == {"A", "B"}
    gone = departed(table([*rows, row("C", 5, "TRADING", payoff="inverse")]), LISTING, [], NOW)
    assert gone == [Departed(Instrument("A", "binance", "BTC", payoff="inverse"), GENESIS + 5 * HOUR)]


def test_other_assets_and_other_kinds_of_contract_are_nobodys_departure():
    rows = [row("A", 0, "TRADING", asset="DOGE"), row("B", 0, "TRADING") | {"contract_type": "CURRENT_QUARTER"}, row("C", 5, "TRADING")]
    assert departed(table(rows), LISTING, ["BTC"], NOW) == []


def test_the_last_words_of_a_contract_are_histories_up_to_its_last_whole_hour():
    """Of every source that lists contracts: nothing beyond the end, nothing about another contract, no question about how it stands."""
    window, ended = Window(NOW - 6 * HOUR, NOW), NOW - timedelta(minutes=150)
    spelled = {"binance": "BTCUSDT", "bybit": "BTCUSDT", "okx": "BTC-USDT-SWAP", "hyperliquid": "BTC", "gate": "BTC_USDT"}
    spelled |= {"kraken_futures": "PF_XBTUSD", "bitmex": "XBTUSDT", "bitget": "BTCUSDT"}
    for name in SOURCES:
        source = source_of(name)
        if name not in spelled:
            continue
        one = Instrument(spelled[name], name, "BTC")
        asked = list(last_words(source, window, [Departed(one, ended)], NOW))
        assert asked, name
        assert all(series.window.end <= NOW - 3 * HOUR and one.instrument in series.instruments for series in asked)
        states = {"open_interest", "marks", "option_chain"}
        assert not [series for series in asked if series.step is None and source.endpoints[series.endpoint] in states], name
        assert list(last_words(source, window, [Departed(one, window.start)], NOW)) == []
