"""Deribit spells what an option is in its name: coin, expiry, strike, kind, settlement."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms.roster import source
from transforms.sources.deribit import CHAIN, MONTHS, option
from transforms.windows import to_ms, utc


def renamed(name: str):
    """The payload with one option under another name, decoded."""
    payload = one("deribit", f"{CHAIN}.json")
    tree = json.loads(payload.answer.body)
    tree["result"][2]["instrument_name"] = name
    return source("deribit").decode(payload.ask, replace(payload.answer, body=json.dumps(tree).encode()))


@given(
    coin=st.sampled_from(["BTC", "ETH", "SOL", "XRP_USDC", "BTC_USDC"]),
    day=st.datetimes(min_value=utc("2017-01-01").replace(tzinfo=None), max_value=utc("2099-12-31").replace(tzinfo=None)),
    strike=st.decimals(min_value="0.0001", max_value="999999", places=4),
    kind=st.sampled_from("CP"),
)
def test_a_spelled_option_is_read_back(coin, day, strike, kind):
    digits = f"{strike:f}".rstrip("0").rstrip(".").replace(".", "d")
    found = option(f"{coin}-{day.day}{MONTHS[day.month - 1]}{day.year % 100:02d}-{digits}-{kind}")
    assert (found.asset, found.settlement) == (coin.split("_")[0], "usd" if "_" in coin else "coin")
    assert (found.expires_on.replace(tzinfo=None), found.strike_usd) == (
        day.replace(hour=0, minute=0, second=0, microsecond=0),
        float(strike),
    )
    assert found.option_type == {"C": "call", "P": "put"}[kind]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "BTC",
        "BTC-PERPETUAL",
        "BTC-26JUN26",
        "BTC-26JUN26-80000",
        "BTC-26JUN26-80000-X",
        "BTC-26JUN26-80000-c",
        "BTC-26JUN26-80000-C-C",
        "BTC-26JUN2026-80000-C",
        "BTC-026JUN26-80000-C",
        "BTC-06JUN26-80000-C",
        "BTC-31JUN26-80000-C",
        "BTC-29FEB27-80000-C",
        "BTC-26JUX26-80000-C",
        "BTC-26jun26-80000-C",
        "BTC-26JUN26-80.5-C",
        "BTC-26JUN26-8e4-C",
        "BTC-26JUN26--80000-C",
        "BTC-26JUN26-80d-C",
        "BTC-26JUN26-d5-C",
        "BTC-26JUN26-٨٠-C",
        "BTC_USDT-26JUN26-80000-C",
        "BTC_EURR-26JUN26-80000-C",
        "_USDC-26JUN26-80000-C",
        "BTC-CS-26JUN26-70000_75000",
        " BTC-26JUN26-80000-C",
        "BTC-26JUN26-80000-C\n",
    ],
)
def test_a_name_of_another_form_is_put_aside_and_never_guessed(name):
    with pytest.raises(LookupError):
        option(name)

    decoded = renamed(name)
    assert [reject.reason_code for reject in decoded.rejects] == ["CONVENTION"]
    assert decoded.tables["option_chain"].num_rows == 5


def test_a_strike_of_nothing_is_outside_its_limits():
    assert [reject.reason_code for reject in renamed("BTC-21MAY26-0-C").rejects] == ["VALUE"]


@pytest.mark.recordings
def test_recorded_listings_say_what_we_read_from_their_names(recordings):
    """Coin, strike, kind, settlement and the instant of expiry, against the venue's own fields."""
    folder = recordings / "payloads" / "recorded" / "deribit"
    held = json.loads((folder / "deribit_get_instruments_btc_option.json").read_text())["result"]
    assert held
    expiry = timedelta(hours=8)
    for listed in held:
        found = option(listed["instrument_name"])
        assert (found.asset, found.settled_in) == (listed["base_currency"], listed["settlement_currency"])
        assert (found.strike_usd, found.option_type) == (listed["strike"], listed["option_type"])
        assert to_ms(found.expires_on + expiry) == listed["expiration_timestamp"]
        assert (found.settlement == "coin") is (listed["instrument_type"] == "reversed")
