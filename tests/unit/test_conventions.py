"""Conventions and instruments: what is declared is found at its date, what is not raises."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms import conventions
from transforms.conventions import DAWN, Entry, entries, find, number, number_or_none, regimes, settlement_hours, shift, span, text
from transforms.instruments import binance_asset, coin, coinalyze_asset, tradable
from transforms.roster import SOURCES, source
from transforms.sources.contract import Answer, Instrument, Unreadable, table_of
from transforms.windows import HOUR, Window, utc

ENTRIES = [entry for name in SOURCES for entry in entries(name)]
SWITCH = utc("2026-06-25")


def test_every_entry_has_evidence_and_a_date_of_its_own():
    assert all(len(entry.evidence) >= 15 for entry in ENTRIES)
    same = Counter((entry.source, entry.dataset, entry.what, entry.instrument, entry.since) for entry in ENTRIES)
    assert {key for key, count in same.items() if count > 1} == set()


def test_entries_speak_of_endpoints_that_exist():
    for entry in ENTRIES:
        assert entry.source in SOURCES
        assert entry.dataset in source(entry.source).endpoints


def test_every_endpoint_has_a_lag():
    for name in SOURCES:
        for endpoint in source(name).endpoints:
            assert span(name, endpoint, "lag", utc("2022-05-09")) > timedelta(0)


@given(st.datetimes(min_value=utc("2020-09-01").replace(tzinfo=None), max_value=utc("2030-01-01").replace(tzinfo=None)))
def test_archive_labels_are_ends_before_the_switch_and_starts_from_then_on(at):
    at = at.replace(tzinfo=SWITCH.tzinfo)
    label = text("binance", "archiveMetrics", "label", at)
    assert label == ("start" if at >= SWITCH else "end")
    assert shift("binance", "archiveMetrics", at) == (timedelta(minutes=5) if label == "start" else timedelta(0))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("kraken", "fundingRate", "lag"), "kraken fundingRate"),
        (("binance", "fundingRate", "oi_sides"), "oi_sides"),
        (("binance", "nothing", "label"), "nothing"),
    ],
)
def test_what_is_not_declared_raises_and_names_what_was_asked(args, said):
    with pytest.raises(LookupError, match=said):
        find(*args, utc("2022-05-09"))


def test_nothing_holds_before_its_date():
    with pytest.raises(LookupError, match="1999"):
        find("binance", "klines", "label", utc("1999-01-01"))


def test_a_declaration_of_another_type_raises():
    with pytest.raises(TypeError, match="asked for as float"):
        number("binance", "klines", "label", utc("2022-05-09"))


def test_funding_intervals_are_stated_only_where_recorded():
    def hours(symbol: str, at: str) -> float | None:
        return number_or_none("coinalyze", "funding-rate-history", "funding_interval_h", utc(at), symbol)

    assert hours("SOLUSDT_PERP.A", "2022-05-09") == 8.0
    assert hours("SOLUSDT_PERP.A", "2023-09-28") is None
    assert hours("SOLUSDT_PERP.A", "2026-01-01") == 8.0
    assert hours("BTCUSDT_PERP.A", "2024-05-09") == 8.0


def test_settlement_hours_are_each_venues_own_and_dated(monkeypatch):
    assert {venue for venue in SOURCES if settlement_hours(venue)} == {"binance", "bybit", "gate", "okx"}
    assert [hour for _, hour in settlement_hours("okx")] == [0.0]
    assert settlement_hours("a venue nobody asks") == ()
    moved = tuple(Entry("okx", "funding-rate-history", "settlement_hour", hour, "invented", at) for at, hour in ((SWITCH, 4), (DAWN, 0)))
    monkeypatch.setattr(conventions, "entries", lambda _venue: moved)
    assert settlement_hours("okx") == ((DAWN, 0.0), (SWITCH, 4.0))


@pytest.mark.recordings
@pytest.mark.parametrize("venue", ["binance", "bybit", "gate"])
def test_recorded_settlements_keep_to_the_declared_hour(recordings, venue):
    held = pq.read_table(recordings / "series" / "funding_settlements.parquet", filters=[("venue", "=", venue)])
    minutes = pc.round_temporal(held.column("settled_at"), unit="minute")
    (_, hour), *_ = settlement_hours(venue)
    assert held.num_rows > 8000
    assert set(pc.minute(minutes).to_pylist()) == {0}
    assert {(one - hour) % 8 for one in pc.hour(minutes).to_pylist()} == {0.0}


def test_regimes_cut_a_window_at_the_switch_and_lose_nothing():
    window = Window(utc("2026-06-20"), utc("2026-07-01"))
    assert regimes("binance", "archiveMetrics", window) == [Window(window.start, SWITCH), Window(SWITCH, window.end)]
    assert regimes("binance", "archiveMetrics", Window(SWITCH, window.end)) == [Window(SWITCH, window.end)]
    assert regimes("binance", "klines", window) == [window]


def test_a_label_that_is_neither_raises(monkeypatch):
    odd = Entry("binance", "klines", "label", "middle", "invented for this test")
    monkeypatch.setattr(conventions, "_of", lambda _source: {("klines", "label"): (odd,)})
    with pytest.raises(LookupError, match="middle"):
        shift("binance", "klines", utc("2022-05-09"))


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("BTC", ("BTC", 1.0)),
        ("1INCH", ("1INCH", 1.0)),
        ("1000SHIB", ("SHIB", 1e3)),
        ("1000X", ("X", 1e3)),
        ("1000000MOG", ("MOG", 1e6)),
        ("1MBABYDOGE", ("BABYDOGE", 1e6)),
        ("0G", ("0G", 1.0)),
    ],
)
def test_multipliers(base, expected):
    assert coin(base) == expected
    assert binance_asset(f"{base}USDT") == expected
    assert coinalyze_asset(f"{base}USDT_PERP.A") == expected


@pytest.mark.parametrize("base", ["10000SATS", "", "1000", "100FOO"])
def test_an_undeclared_multiplier_raises(base):
    with pytest.raises(LookupError):
        coin(base)


@pytest.mark.parametrize("symbol", ["BTCEUR", "USDT", ""])
def test_an_undeclared_quote_raises(symbol):
    with pytest.raises(LookupError):
        binance_asset(symbol)


@pytest.mark.parametrize("symbol", ["BTCUSDT.6", "BTCUSD_PERP.A", "BTCUSDT"])
def test_only_binance_usdt_perpetuals_are_spelled_so_at_coinalyze(symbol):
    with pytest.raises(LookupError):
        coinalyze_asset(symbol)


def test_tradable_takes_usdt_margined_perpetuals_that_trade():
    kinds = [
        ("BTCUSDT", "BTC", "USDT", "USDT", "PERPETUAL", "TRADING"),
        ("BTCUSDC", "BTC", "USDC", "USDC", "PERPETUAL", "TRADING"),
        ("BTCUSDT_260626", "BTC", "USDT", "USDT", "CURRENT_QUARTER", "TRADING"),
        ("SRMUSDT", "SRM", "USDT", "USDT", "PERPETUAL", "SETTLING"),
        ("AAVEUSDT", "AAVE", "USDT", "USDT", "PERPETUAL", "TRADING"),
        ("BTCUSDT", "BTC", "USDT", "USDT", "PERPETUAL", "TRADING"),
    ]
    instrument, asset, quote, margin, contract, status = (list(column) for column in zip(*kinds, strict=True))
    count, at = len(kinds), [utc("2026-05-20")] * len(kinds)
    rows: pa.Table = table_of(
        "instruments",
        {
            "source": ["binance"] * count,
            "venue": ["binance"] * count,
            "instrument": instrument,
            "asset": asset,
            "as_of": at,
            "known_at": at,
            "base_asset": asset,
            "quote_asset": quote,
            "margin_asset": margin,
            "contract_type": contract,
            "instrument_status": status,
            "base_multiplier": [1.0] * count,
            "payoff": ["linear"] * count,
            "contract_size": [1.0] * count,
            "contract_unit": ["base"] * count,
            "funding_interval_h": [None] * count,
            "listed_at": at,
            "delivery_at": [None] * count,
        },
    )
    assert [one.instrument for one in tradable(rows, source("binance").listing)] == ["AAVEUSDT", "BTCUSDT"]
    assert [one.asset for one in tradable(rows, source("binance").listing, ["BTC"])] == ["BTC"]


@pytest.mark.parametrize(
    ("name", "endpoint", "what", "old", "new", "symbol"),
    [
        ("binance", "openInterestHist", "oi_sides", 1, 2, Instrument("BTCUSDT", "binance", "BTC")),
        ("binance", "klines", "period", HOUR, 2 * HOUR, Instrument("BTCUSDT", "binance", "BTC")),
        ("bybit", "kline", "native_unit", "base", "usd", Instrument("BTCUSDT", "bybit", "BTC")),
        ("okx", "open-interest-history", "oi_sides", 1, 2, Instrument("BTC-USDT-SWAP", "okx", "BTC", contract_size=0.01)),
        ("okx", "open-interest", "oi_sides", 1, 2, Instrument("BTC-USDT-SWAP", "okx", "BTC", contract_size=0.01)),
    ],
)
def test_no_answer_lies_across_a_change_of_what_its_numbers_mean(monkeypatch, name, endpoint, what, old, new, symbol):
    """One dated entry is enough: questions end at its instant, and an answer stored before it was declared is not read by half of it."""
    now, since = utc("2026-07-20T12:20"), utc("2026-07-20T06:00")
    window = Window(now - 12 * HOUR, now)
    venue, held = source(name), conventions._of(name)
    stored = next(ask for series in venue.plan(window, [symbol], now) if series.endpoint == endpoint for ask in venue.asks(series))
    assert stored.series.window.start < since < stored.series.window.end
    entry = Entry(name, endpoint, what, new, "invented for this test", since)
    assert held[endpoint, what][-1].value == old
    monkeypatch.setattr(conventions, "_of", lambda _: {**held, (endpoint, what): (*held[endpoint, what], entry)})
    asked = [series.window for series in venue.plan(window, [symbol], now) if series.endpoint == endpoint]
    assert all(part.end <= since or since <= part.start for part in asked)
    assert (asked[-1].end, len(asked)) == (stored.series.window.end, 1 if endpoint == "open-interest" else 2)
    with pytest.raises(Unreadable) as caught:
        venue.decode(stored, Answer(200, b"[]", now, {}))
    assert caught.value.reject.reason_code == "CONVENTION"
