"""The two silent breaks of 2026 (PITFALLS A1, B1): Bybit's one-sided field of 2026-06-11, the shifted labels of Binance's archive of 2026-06-25.

Both venues are asked through the sandbox's wires for a month across both dates, once as they changed and once as if they never had. The rows
must be the same, and so must every number made of them.
"""

from __future__ import annotations

import gzip
from contextlib import contextmanager
from datetime import date
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sandbox.market import frozen
from sandbox.server import venues
from sandbox.simulated import SimulatedMarket
from sandbox.wire import binance_archive, bybit
from sandbox.wire.reply import Query
from tests.property.synthetic import SHORT
from transforms import conventions
from transforms.index.build import Stamp, derive
from transforms.revisions import complete
from transforms.roster import source
from transforms.sources.contract import Answer, Instrument
from transforms.tables import TABLES
from transforms.windows import Window, utc

NOW = utc("2026-09-01T00:30")
MONTH = Window(utc("2026-06-01"), utc("2026-07-01"))
STAMP = Stamp("simulated", "reconstructed", "0" * 64)
NEVER = date(2100, 1, 1)


@cache
def market() -> SimulatedMarket:
    return SimulatedMarket(7, frozen(NOW))


def answers(name, instrument, endpoints):
    """Every accepted answer of a source's plan for the month, decoded rows completed as a load would."""
    hosts, found = venues(market(), lambda: 0.0, 1e9), source(name)
    for series in found.plan(MONTH, [Instrument(instrument, name, "BTC")], NOW):
        if series.endpoint not in endpoints:
            continue
        for first in found.asks(series):
            ask = first
            while ask is not None:
                reply = hosts[f"{name}.{ask.host}"].answer(Query(ask.path, dict(ask.params)))
                beside = hosts[f"{name}.{ask.host}"].answer(Query(ask.companion)).body if ask.companion else b""
                body = gzip.decompress(reply.body) if reply.headers.get("Content-Encoding") == "gzip" else reply.body
                answer = Answer(reply.status, body, NOW, {"Content-Type": reply.content_type}, beside)
                assert found.classify(ask, answer).verb == "accept", body[:200]
                decoded = found.decode(ask, answer)
                assert not decoded.rejects, decoded.rejects[0]
                yield decoded
                ask = found.follow(ask, answer)


def core():
    """Core tables of both venues; provenance is the same for every row, so that tables can be compared."""
    parts = {}
    for name, instrument, endpoints in (
        ("bybit", "BTCUSDT", {"open-interest", "kline", "funding-history", "account-ratio"}),
        ("binance", "BTCUSDT", {"archiveMetrics", "klines", "fundingRate"}),
    ):
        for decoded in answers(name, instrument, endpoints):
            for table, rows in decoded.tables.items():
                sha = pa.array(["0" * 64] * rows.num_rows, type=pa.string())
                asked = pa.array([NOW] * rows.num_rows, type=pa.timestamp("us", tz="UTC"))
                parts.setdefault(table, []).append(complete(TABLES[table], rows, sha, asked))
    return {
        table: pa.concat_tables(rows).sort_by([("source", "ascending"), ("as_of", "ascending"), ("known_at", "ascending")])
        for table, rows in parts.items()
    }


@contextmanager
def unchanged():
    """A world in which neither venue ever changed anything, and conventions that know of no change."""
    declared = {name: conventions.entries(name) for name in ("binance", "bybit")}
    dates = {utc("2026-06-11"), utc("2026-06-25")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binance_archive, "START_LABELS_FROM", NEVER)
        patch.setattr(bybit, "SINGLE_SINCE_MS", 2**60)
        patch.setattr(conventions, "entries", lambda name: tuple(one for one in declared.get(name, ()) if one.since not in dates))
        conventions._of.cache_clear()
        yield
    conventions._of.cache_clear()


@cache
def as_it_was():
    return core()


@cache
def as_if_never():
    with unchanged():
        return core()


def test_both_breaks_lie_in_the_month_and_the_wires_do_change():
    hosts = venues(market(), lambda: 0.0, 1e9)
    span = {"category": "linear", "symbol": "BTCUSDT", "intervalTime": "1h"}
    told = [
        hosts["bybit.api"].answer(Query("/v5/market/open-interest", span | {"startTime": at, "endTime": at})).body
        for at in (str(int(utc("2026-06-10T12:00").timestamp() * 1000)), str(int(utc("2026-06-12T12:00").timestamp() * 1000)))
    ]
    assert [b"singleOpenInterest" in body for body in told] == [False, True]
    assert {conventions.text("binance", "archiveMetrics", "label", at) for at in (MONTH.start, MONTH.end)} == {"start", "end"}


@pytest.mark.parametrize("table", ["open_interest", "long_short", "candles", "funding"])
def test_neither_break_changes_a_row(table):
    assert as_it_was()[table].num_rows > 0
    assert as_it_was()[table].equals(as_if_never()[table])


def test_no_hour_is_missing_across_either_date():
    rows = as_it_was()["open_interest"]
    for venue, hours in (("bybit", 720), ("binance", 4 * 720)):
        mine = rows.filter(pc.equal(rows.column("venue"), venue))
        gone = hours - len(pc.unique(mine.column("as_of")))
        assert gone <= (0 if venue == "bybit" else hours // 20), f"{venue}: {gone} of {hours}; Binance's simulated feed goes dark at times"


def index(tables):
    return derive(tables, Window(utc("2026-06-08"), MONTH.end), "1h", SHORT["1h"], stamp=STAMP)


def test_neither_break_moves_the_index():
    found, expected = index(as_it_was()), index(as_if_never())
    assert found["readings"].num_rows > 500
    assert len(set(found["readings"].column("x").to_pylist())) > 50
    for name, rows in found.items():
        assert rows.equals(expected[name]), name


@pytest.mark.parametrize("forgotten", ["bybit", "binance"])
def test_without_the_dated_entry_the_index_would_have_moved(forgotten):
    """The counter-proof. Bybit's entry is one of meaning: a reader who takes what the venue's page shows from that day on sees half."""
    broken = dict(as_it_was())
    rows = broken["open_interest"]
    mine = np.array(rows.column("venue").to_pylist()) == forgotten
    when = np.asarray(rows.column("as_of").cast(pa.int64()).to_numpy()).copy()
    if forgotten == "bybit":
        halved = mine & (when > int(utc("2026-06-11").timestamp()) * 1_000_000)
        for column in ("open_interest_base", "open_interest_usd", "open_interest_native"):
            place = rows.column_names.index(column)
            values = np.array([np.nan if value is None else value for value in rows.column(column).to_pylist()])
            values = np.where(halved, values / 2.0, values)
            rows = rows.set_column(place, rows.schema.field(place), pa.array(values, mask=np.isnan(values)))
    else:
        late = mine & (when > int(utc("2026-06-25").timestamp()) * 1_000_000)
        for column in ("as_of", "known_at"):
            place = rows.column_names.index(column)
            moved = np.asarray(rows.column(column).cast(pa.int64()).to_numpy()) - np.where(late, 900_000_000, 0)
            rows = rows.set_column(place, rows.schema.field(place), pa.array(moved).cast(rows.schema.field(place).type))
        rows = rows.filter(pa.array(~(late & (when <= int(utc("2026-06-25T00:15").timestamp()) * 1_000_000))))
    broken["open_interest"] = rows
    assert not index(broken)["readings"].equals(index(as_it_was())["readings"])
