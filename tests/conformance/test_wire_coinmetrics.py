"""The sandbox's Coin Metrics: what the source asks it answers whole, in pages, and it restates flows as the vendor does."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.market import frozen
from sandbox.onchain import ROUNDS, tuesdays
from sandbox.recordings import RecordedMarket
from sandbox.server import venues
from sandbox.simulated import GENESIS, GENESIS_MS, SimulatedMarket
from sandbox.wire.coinmetrics import PATH
from sandbox.wire.reply import Query
from transforms.revisions import complete, merge
from transforms.roster import source
from transforms.schema import empty
from transforms.sources.coinmetrics import ASKED, COMPLETED
from transforms.sources.contract import Answer
from transforms.tables import TABLES
from transforms.windows import DAY, Window, from_ms, to_ms, utc

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
NOW = utc("2026-11-22T13:07")
DAY_MS = 86_400_000
VENDOR = source("coinmetrics")
TABLE = TABLES["chain_metrics"]
JSON = {"Content-Type": "application/json"}
MARKET = SimulatedMarket(7, frozen(NOW))
HOSTS = venues(MARKET, lambda: 0.0, 1e9)


def told(hosts=HOSTS, status=200, path=PATH, **params):
    reply = hosts["coinmetrics.api"].answer(Query(path, {name: str(value) for name, value in params.items()}))
    assert reply.status == status, reply.body
    return json.loads(reply.body)


def asked(hosts, series, now):
    """Everything the source asks about one series, pages followed: its decoded answers."""
    found = []
    for first in VENDOR.asks(series):
        ask = first
        while ask is not None:
            reply = hosts["coinmetrics.api"].answer(Query(ask.path, dict(ask.params)))
            answer = Answer(reply.status, reply.body, now, JSON)
            assert VENDOR.classify(ask, answer).verb == "accept"
            found.append(VENDOR.decode(ask, answer))
            ask = VENDOR.follow(ask, answer)
    return found


def series_of(window, now):
    return {one.instrument: one for one in VENDOR.plan(window, (), now)}


def test_the_source_reads_every_day_and_gets_the_markets_numbers():
    window = Window(GENESIS, utc("2026-11-22"))
    columns = {"FlowInExUSD": "inflow", "FlowOutExUSD": "outflow", "SplyCur": "supply", "PriceUSD": "price"}
    for instrument, series in series_of(window, NOW).items():
        asset, metric = instrument.split("/")
        rows = [row for one in asked(HOSTS, series, NOW) for row in one.tables["chain_metrics"].to_pylist()]
        assert [row["as_of"] for row in rows] == series.expected()
        shown = MARKET.chain_metrics({"btc": "BTC", "eth": "ETH", "usdt_eth": "USDT_ETH"}[asset])
        assert np.allclose([row["metric_value"] for row in rows], shown[columns[metric]], rtol=1e-9)
        assert [row["known_at"] for row in rows] == [from_ms(int(done) * 1000) for done in shown["completed"]]


def test_a_day_is_shown_from_the_instant_it_is_complete():
    completed = int(MARKET.chain_metrics("BTC")["completed"][-1])
    window = Window(utc("2026-11-20"), utc("2026-11-22"))
    for moment, count in ((completed - 1, 1), (completed, 2)):
        now = from_ms(moment * 1000)
        hosts = venues(SimulatedMarket(7, frozen(now)), lambda: 0.0, 1e9)
        (found,) = asked(hosts, series_of(window, now)["btc/FlowInExUSD"], now)
        assert (found.rows, len(found.rejects)) == (count, 0)


@given(size=st.integers(1, 700), days=st.integers(1, 680))
@settings(max_examples=25, deadline=None)
def test_pages_hold_every_row_once_from_either_end(size, days):
    start = GENESIS + (690 - days) * DAY
    params = {"assets": "eth,btc", "metrics": "PriceUSD", "start_time": start.isoformat(), "page_size": size}
    whole = told(**params | {"page_size": 10_000}, paging_from="start")["data"]
    assert whole == sorted(whole, key=lambda row: (row["asset"], row["time"]))
    for side in ("start", "end"):
        found, token = [], ""
        for _ in range(-(-len(whole) // size)):
            page = told(**params, paging_from=side, **({"next_page_token": token} if token else {}))
            found = found + page["data"] if side == "start" else page["data"] + found
            token = page.get("next_page_token", "")
        assert not token
        assert found == whole


def test_pages_that_are_shorter_than_asked_for_are_followed_to_the_end():
    series = series_of(Window(utc("2026-01-01"), utc("2026-11-01")), NOW)["btc/SplyCur"]
    (ask,) = VENDOR.asks(series)
    days, pages = [], 0
    while ask is not None:
        params = dict(ask.params) | {"page_size": "70"}
        reply = HOSTS["coinmetrics.api"].answer(Query(ask.path, params))
        answer = Answer(reply.status, reply.body, NOW, JSON)
        days += VENDOR.decode(ask, answer).tables["chain_metrics"]["as_of"].to_pylist()
        ask, pages = VENDOR.follow(ask, answer), pages + 1
    assert (days, pages) == (series.expected(), 5)


@pytest.mark.parametrize(
    ("params", "status", "kind"),
    [
        ({"metrics": "PriceUSD"}, 400, "missing_parameter"),
        ({"assets": "btc"}, 400, "missing_parameter"),
        ({"assets": "doge", "metrics": "PriceUSD"}, 400, "bad_parameter"),
        ({"assets": "btc", "metrics": "Nothing"}, 400, "bad_parameter"),
        ({"assets": "btc", "metrics": "PriceUSD", "frequency": "1h"}, 400, "bad_parameter"),
        ({"assets": "btc", "metrics": "PriceUSD", "page_size": "10001"}, 400, "bad_parameter"),
        ({"assets": "btc", "metrics": "PriceUSD", "paging_from": "middle"}, 400, "bad_parameter"),
        ({"assets": "btc", "metrics": "PriceUSD", "start_time": "soon"}, 400, "bad_parameter"),
        ({"assets": "btc", "metrics": "PriceUSD", "next_page_token": "??"}, 400, "bad_parameter"),
        ({"assets": "usdt_eth", "metrics": "FlowInExUSD"}, 403, "forbidden"),
        ({"path": "/timeseries/market-trades"}, 404, "not_found"),
    ],
)
def test_refusals_are_the_vendors_and_the_source_names_them(params, status, kind):
    said = told(status=status, **params)
    assert said["error"]["type"] == kind
    (ask,) = VENDOR.asks(series_of(Window(utc("2026-01-01"), utc("2026-02-01")), NOW)["btc/SplyCur"])
    verdict = VENDOR.classify(ask, Answer(status, json.dumps(said).encode(), NOW, JSON))
    assert (verdict.verb, verdict.reason_code) == ("reject", "VENUE_ERROR")
    assert kind in verdict.detail


@given(
    path=st.sampled_from([PATH, "/", "/timeseries"]),
    params=st.dictionaries(
        st.sampled_from(["assets", "metrics", "frequency", "start_time", "end_time", "page_size", "paging_from", "next_page_token"]),
        st.one_of(
            st.text(max_size=8),
            st.integers().map(str),
            st.sampled_from(["btc", "usdt_eth", "SplyCur", "1d", "2026-11-01", "start", "MC45OTk5"]),
        ),
    ),
)
@settings(max_examples=60, deadline=None)
def test_no_question_breaks_the_vendor(path, params):
    reply = HOSTS["coinmetrics.api"].answer(Query(path, params))
    assert reply.status in (200, 400, 403, 404)
    json.loads(reply.body)


def test_the_eleventh_request_in_six_seconds_is_told_to_wait():
    clock = [0.0]
    hosts = venues(MARKET, lambda: clock[0])
    question = Query(PATH, {"assets": "btc", "metrics": "PriceUSD", "page_size": "1"})
    replies = [hosts["coinmetrics.api"].answer(question) for _ in range(11)]
    assert [reply.status for reply in replies] == [200] * 10 + [429]
    (ask,) = VENDOR.asks(series_of(Window(utc("2026-01-01"), utc("2026-02-01")), NOW)["btc/SplyCur"])
    verdict = VENDOR.classify(ask, Answer(429, replies[-1].body, NOW, dict(replies[-1].headers)))
    assert (verdict.verb, verdict.wait) == ("retry", 6.0)
    clock[0] = 6.0
    assert hosts["coinmetrics.api"].answer(question).status == 200


# -- restatement


def test_tuesdays_are_counted():
    days = [utc("2026-11-16") + n * DAY for n in range(8)]
    assert [day.weekday() for day in days[:2]] == [0, 1]
    since = np.array([int(day.timestamp()) for day in days])
    assert tuesdays(since, int(utc("2026-11-24").timestamp())).tolist() == [2, 1, 1, 1, 1, 1, 1, 1]
    assert tuesdays(since[1:], int(utc("2026-11-23T23:59").timestamp())).tolist() == [0] * 7


def at(*moments, asset="BTC", seed=7):
    """What one and the same market shows at these instants: it is a function of them (see below)."""
    clock = [to_ms(max(moments))]
    market = SimulatedMarket(seed, lambda: clock[0])
    found = []
    for moment in moments:
        clock[0] = to_ms(moment)
        found.append(market.chain_metrics(asset))
    return found


@pytest.mark.parametrize("asset", ["BTC", "ETH"])
def test_f3_flows_are_restated_on_tuesdays_until_they_are_final(asset):
    """Supply, price and completion never move; of flows, the days of the last four Tuesdays do, and no older one."""
    captures = at(*(utc("2026-11-23T23:00") + n * 7 * DAY for n in range(ROUNDS + 2)), asset=asset)
    count = len(captures[0])
    for before, after in pairwise(captures):
        for name in ("supply", "price", "completed"):
            assert np.array_equal(before[name], after[name][: len(before)])
        moved = before["inflow"] != after["inflow"][: len(before)]
        recent = tuesdays(before["completed"], int(utc("2026-11-23T23:00").timestamp() + (len(before) - count) * 86_400)) < ROUNDS
        assert np.array_equal(moved, recent)
        assert 0 < moved.sum() <= 7 * ROUNDS
    assert np.array_equal(captures[-2]["inflow"][:count], captures[-1]["inflow"][:count])


def test_f3_the_sign_of_the_net_flow_changes_about_as_often_as_recorded():
    """22 % of days for BTC between two recorded captures; first and final value of simulated days, over several seeds."""
    changed = []
    for seed in range(3):
        mondays = [utc("2025-01-06T23:00") + weeks * 7 * DAY for weeks in range(6, 50, 4)]
        *early, last = at(*mondays, utc("2026-03-01"), seed=seed)
        final = last["inflow"] - last["outflow"]
        for capture in early:
            net = (capture["inflow"] - capture["outflow"])[-6:]
            changed += (np.sign(net) != np.sign(final[len(capture) - 6 : len(capture)])).tolist()
    assert 0.14 < np.mean(changed) < 0.30


def test_f3_two_captures_of_the_sandbox_are_two_revisions_in_the_table():
    window = Window(utc("2026-10-01"), utc("2026-11-01"))
    stored = empty(TABLE)
    for now in (utc("2026-11-01T12:00"), utc("2026-11-01T18:00"), utc("2026-11-04T12:00")):
        hosts = venues(SimulatedMarket(7, frozen(now)), lambda: 0.0, 1e9)
        (found,) = asked(hosts, series_of(window, now)["btc/FlowOutExUSD"], now)
        table = found.tables["chain_metrics"]
        stamps = pa.array([now] * table.num_rows, type=pa.timestamp("us", tz="UTC"))
        merged = merge(TABLE, stored, complete(TABLE, table, pa.array([f"{now:%d%H}".zfill(64)] * table.num_rows), stamps))
        stored = merged.rows
        if now == utc("2026-11-01T18:00"):
            assert merged.duplicates == 31, "no Tuesday in between"
    rows = stored.to_pylist()
    second = [row for row in rows if row["revision"] == 1]
    assert {row["revision"] for row in rows} == {0, 1}
    assert len(rows) - len(second) == 31
    assert {row["known_at"] for row in second} == {utc("2026-11-04T12:00")}
    assert min(row["as_of"] for row in second) == utc("2026-10-06"), "older days have seen their four Tuesdays"


def test_what_the_vendor_shows_is_a_function_of_seed_and_instant():
    later = SimulatedMarket(7, frozen(utc("2026-12-24")))
    later.now_ms = lambda: to_ms(NOW)  # a path that was computed further
    for asset in ("BTC", "ETH", "USDT_ETH"):
        one, same, other = (market.chain_metrics(asset) for market in (MARKET, later, SimulatedMarket(8, frozen(NOW))))
        assert all(one[name].tobytes() == same[name].tobytes() for name in one.columns)
        assert one["completed"].tobytes() != other["completed"].tobytes()
        assert one.at.tolist() == [GENESIS_MS + n * DAY_MS for n in range(len(one))]
    assert MARKET.chain_metrics("DOGE") is None


# -- recordings


@pytest.mark.recordings
def test_the_recorded_days_go_in_and_come_out():
    import pandas as pd

    now = utc("2026-03-25")
    hosts = venues(RecordedMarket(RECORDINGS, frozen(now)), lambda: 0.0, 1e9)
    for asset, name in (("btc", "coinmetrics_btc_daily"), ("usdt_eth", "coinmetrics_usdt_eth_daily")):
        held = pd.read_parquet(RECORDINGS / "series" / f"{name}.parquet")
        held = held[held[COMPLETED].notna()]
        window = Window(utc(held["time"].iloc[0]), utc(held["time"].iloc[-1]) + DAY)
        for metric in ASKED[asset]:
            found = asked(hosts, series_of(window, now)[f"{asset}/{metric}"], now)
            values = [value for one in found for value in one.tables["chain_metrics"]["metric_value"].to_pylist()]
            assert not [reject for one in found for reject in one.rejects]
            assert np.allclose(values, held[metric], rtol=1e-12, atol=1e-8)
    assert told(hosts, assets="eth", metrics="PriceUSD")["data"] == [], "not recorded"


@pytest.mark.recordings
def test_a_recorded_day_is_not_shown_before_it_was_complete():
    hosts = venues(RecordedMarket(RECORDINGS, frozen(utc("2021-02-26T00:00"))), lambda: 0.0, 1e9)
    assert told(hosts, assets="btc", metrics="PriceUSD", paging_from="start")["data"] == [], "the vendor computed all of it anew that day"
