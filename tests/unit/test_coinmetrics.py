"""Coin Metrics: when a day became known, what is missing, what was restated, and what was recorded."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms.revisions import complete, merge
from transforms.roster import source
from transforms.schema import empty
from transforms.sources.coinmetrics import ASKED, COMPLETED, METRICS
from transforms.sources.contract import Answer, Unreadable
from transforms.tables import TABLES
from transforms.windows import DAY, Window, utc

VENDOR = source("coinmetrics")
TABLE = TABLES["chain_metrics"]
JSON = {"Content-Type": "application/json;charset=utf-8"}


def decoded(change=lambda points: None, **answer):
    payload = one("coinmetrics", "asset-metrics.json")
    tree = json.loads(payload.answer.body)
    change(tree["data"])
    return VENDOR.decode(payload.ask, replace(payload.answer, body=json.dumps(tree).encode(), **answer))


def rows(found):
    return found.tables["chain_metrics"].to_pylist()


def reasons(found):
    return [reject.reason_code for reject in found.rejects]


def planned(window, now):
    return {series.instrument: series for series in VENDOR.plan(window, (), now)}


# -- what is asked


def test_each_metric_of_each_asset_is_a_series_of_its_own():
    found = planned(Window(utc("2026-05-08"), utc("2026-05-11")), utc("2026-05-20"))
    assert set(found) == {f"{asset}/{metric}" for asset, metrics in ASKED.items() for metric in metrics}
    (ask,) = VENDOR.asks(found["btc/SplyCur"])
    assert ask.path == "/timeseries/asset-metrics"
    assert dict(ask.params) == {
        "assets": "btc",
        "metrics": "SplyCur,AssetEODCompletionTime",
        "frequency": "1d",
        "start_time": "2026-05-08",
        "end_time": "2026-05-10",
        "page_size": "1000",
        "paging_from": "start",
    }


@given(st.integers(1, 4000), st.integers(0, 5000))
@settings(max_examples=30, deadline=None)
def test_pages_hold_every_day_once_and_are_never_longer_than_asked_for(days, first):
    start = utc("2012-01-01") + first * DAY
    series = planned(Window(start, start + days * DAY), utc("2026-05-20"))
    if "btc/PriceUSD" not in series:
        assert start > utc("2026-05-19")
        return
    labels = []
    for ask in VENDOR.asks(series["btc/PriceUSD"]):
        params = dict(ask.params)
        day, last = utc(params["start_time"]), utc(params["end_time"])
        page = [day + n * DAY for n in range((last - day) // DAY + 1)]
        assert len(page) <= int(params["page_size"])
        labels += page
    assert [label + DAY for label in labels] == series["btc/PriceUSD"].expected()


def test_a_token_is_followed_and_replaced_by_the_next():
    payload = one("coinmetrics", "asset-metrics.json")
    assert VENDOR.follow(payload.ask, payload.answer) is None
    body = b'{"data":[],"next_page_token":"0.MTAw","next_page_url":"https://community-api.coinmetrics.io/v4/x"}'
    second = VENDOR.follow(payload.ask, replace(payload.answer, body=body))
    assert second.params == (*payload.ask.params, ("next_page_token", "0.MTAw"))
    third = VENDOR.follow(second, replace(payload.answer, body=body.replace(b"MTAw", b"MjAw")))
    assert third.params == (*payload.ask.params, ("next_page_token", "0.MjAw"))
    assert VENDOR.follow(payload.ask, replace(payload.answer, body=b"<html>")) is None


def test_an_unknown_subject_is_not_asked_about():
    series = one("coinmetrics", "asset-metrics.json").ask.series
    for name in ("btc", "doge/SplyCur", "usdt_eth/FlowInExUSD", "btc/FlowInExNtv"):
        with pytest.raises(ValueError, match="coinmetrics has no"):
            list(VENDOR.asks(replace(series, instrument=name)))


# -- what an answer says


def test_a_day_is_known_when_the_vendor_had_completed_it():
    first, _, last = rows(decoded())
    assert (first["asset"], first["metric"], first["metric_unit"]) == ("BTC", "exchange_inflow", "usd")
    assert (first["as_of"], first["known_at"]) == (utc("2026-05-09"), utc("2026-05-09T02:50:03"))
    assert last["metric_value"] == 1.1e9

    def at_once(points):
        points[0][COMPLETED] = str(int(utc("2026-05-09T00:30").timestamp()))

    assert rows(decoded(at_once))[0]["known_at"] == utc("2026-05-09T02:00"), "not before the declared lag"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("FlowInExUSD", None, "MISSING"),
        (COMPLETED, None, "MISSING"),
        ("FlowInExUSD", "-1", "VALUE"),
        ("FlowInExUSD", "NaN", "VALUE"),
        ("FlowInExUSD", 1.0, "SHAPE"),
        (COMPLETED, "soon", "VALUE"),
        (COMPLETED, str(int(utc("2026-05-09T23:59").timestamp())), "STAMP"),
        (COMPLETED, str(int(utc("2026-05-21").timestamp())), "STAMP"),
        ("time", "2026-05-09T01:00:00Z", "STAMP"),
        ("time", "2026-05-09T00:00:00", "SHAPE"),
        ("time", "2026-05-19T00:00:00Z", "STAMP"),
        ("asset", "eth", "CONVENTION"),
    ],
)
def test_one_bad_day_is_put_aside_and_the_others_stay(field, value, reason):
    found = decoded(lambda points: points[1].__setitem__(field, value))
    assert reasons(found) == [reason]
    assert len(rows(found)) == 2


def test_a_metric_the_vendor_does_not_serve_is_named():
    found = decoded(lambda points: [point.pop("FlowInExUSD") for point in points])
    assert reasons(found) == ["SHAPE"] * 3
    assert all("FlowInExUSD" in reject.detail for reject in found.rejects)


def test_supply_and_price_of_nothing_are_no_values():
    payload = one("coinmetrics", "asset-metrics_usdt_eth.json")
    body = payload.answer.body.replace(b"80000000000.123456", b"0")
    found = VENDOR.decode(payload.ask, replace(payload.answer, body=body))
    assert reasons(found) == ["VALUE"]
    assert rows(found)[0]["asset"] == "USDT_ETH", "no other chain's USDT is in it (PITFALLS F1)"
    assert rows(found)[0]["metric_unit"] == "base"


@pytest.mark.parametrize(
    ("status", "body", "verb", "reason"),
    [
        (
            403,
            b'{"error":{"type":"forbidden","message":"Requested metric is not available with supplied credentials."}}',
            "reject",
            "VENUE_ERROR",
        ),
        (403, b"<html>", "reject", "HTTP_BLOCKED"),
        (400, b'{"error":{"type":"bad_parameter","message":"Bad parameter \'assets\'."}}', "reject", "VENUE_ERROR"),
        (429, b'{"error":{"type":"too_many_requests","message":"wait"}}', "retry", "HTTP_EXHAUSTED"),
    ],
)
def test_what_is_not_free_is_not_taken_for_a_blocked_address(status, body, verb, reason):
    ask = one("coinmetrics", "asset-metrics.json").ask
    verdict = VENDOR.classify(ask, Answer(status, body, utc("2026-05-20"), JSON))
    assert (verdict.verb, verdict.reason_code) == (verb, reason)


def test_an_error_body_in_place_of_rows_is_named():
    payload = one("coinmetrics", "asset-metrics.json")
    body = b'{"error":{"type":"wrong_credentials","message":"Supplied credentials are not valid."}}'
    with pytest.raises(Unreadable, match="VENUE_ERROR: wrong_credentials Supplied"):
        VENDOR.decode(payload.ask, replace(payload.answer, body=body))


# -- restatements


def loaded(stored, found, fetched_at, sha):
    table = found.tables["chain_metrics"]
    asked = pa.array([fetched_at] * table.num_rows, type=pa.timestamp("us", tz="UTC"))
    return merge(TABLE, stored, complete(TABLE, table, pa.array([sha] * table.num_rows), asked))


def test_f3_a_restated_flow_is_a_second_revision_known_when_we_saw_it():
    """Exchange flows are revised: the first value stays readable at its instant, the second is known from the second capture on."""
    early, late = utc("2026-05-12"), utc("2026-05-20")
    first = loaded(empty(TABLE), decoded(fetched_at=early), early, "a" * 64)
    second = loaded(first.rows, decoded(lambda points: points[2].__setitem__("FlowInExUSD", "800000000"), fetched_at=late), late, "b" * 64)
    assert second.duplicates == 2, "what did not change is no revision"
    held = second.rows.filter(pc.equal(second.rows["as_of"], pa.scalar(utc("2026-05-11"), pa.timestamp("us", tz="UTC")))).to_pylist()
    assert [(row["revision"], row["metric_value"]) for row in held] == [(0, 1.1e9), (1, 8e8)]
    assert [row["known_at"] for row in held] == [utc("2026-05-11T02:00:05"), late]


@pytest.mark.recordings
def test_f3_recorded_flows_restated_on_every_fifth_day_are_two_revisions(recordings):
    """One capture is recorded; the second is the same days with a fifth of them restated, which is what two captures of BTC differ by."""
    captured, again = utc("2026-03-25"), utc("2026-04-22")
    window = Window(utc("2019-01-01"), utc("2026-03-23"))
    held = recorded(recordings, "coinmetrics_btc_daily")
    held = held[held["FlowInExUSD"].notna()]
    first = answered(held, window, "btc/FlowInExUSD", captured)
    assert not first.rejects
    assert first.rows == len(held)
    restated = held.assign(FlowInExUSD=held["FlowInExUSD"] * np.where(np.arange(len(held)) % 5 == 0, 1.07, 1.0))
    stored = loaded(empty(TABLE), first, captured, "a" * 64)
    merged = loaded(stored.rows, answered(restated, window, "btc/FlowInExUSD", again), again, "b" * 64)
    revisions = merged.rows["revision"].to_numpy()
    changed = int((np.arange(first.rows) % 5 == 0).sum())
    assert (int((revisions == 0).sum()), int((revisions == 1).sum())) == (first.rows, changed)
    assert merged.duplicates == first.rows - changed
    later = merged.rows.filter(pc.equal(merged.rows["revision"], 1))
    assert set(later["known_at"].to_pylist()) == {again}


# -- recordings


def recorded(recordings, name):
    import pandas as pd

    return pd.read_parquet(recordings / "series" / f"{name}.parquet")


def answered(held, window, instrument, now):
    """The recorded days as the vendor writes them, decoded."""
    asset, metric = instrument.split("/")
    data = [
        {"asset": asset, "time": f"{day}T00:00:00.000000000Z", COMPLETED: f"{done:.0f}", metric: repr(float(value))}
        for day, done, value in zip(held["time"], held[COMPLETED], held[metric], strict=True)
        if utc(day) + DAY in window
    ]
    series = planned(window, now)[instrument]
    asks = list(VENDOR.asks(series))
    return VENDOR.decode(asks[0], Answer(200, json.dumps({"data": data}).encode(), now, JSON))


@pytest.mark.recordings
def test_recorded_supply_equals_the_cumulated_issue_events_on_every_day(recordings):
    """Two sources of one truth: USDT issued less redeemed on Ethereum by events, and SplyCur; the label is the START of the day."""
    held, events = (recorded(recordings, name) for name in ("coinmetrics_usdt_eth_daily", "usdt_ethereum_daily_net_issue"))
    window = Window(utc("2017-11-28"), utc("2020-06-30"))
    found = answered(held, window, "usdt_eth/SplyCur", utc("2022-01-01"))
    assert not found.rejects
    supply = {row["as_of"]: row["metric_value"] for row in rows(found)}
    issued = dict(zip((utc(day) + DAY for day in events["date"]), events["net_issue_1e6"].cumsum() / 1e6, strict=True))
    assert len(supply) == len(issued) == 945
    assert max(abs(supply[day] - issued[day]) for day in issued) < 1e-5
    off_by_a_day = [day for day in issued if day + DAY in supply and abs(supply[day + DAY] - issued[day]) > 1]
    assert len(off_by_a_day) > 50, "under the other label the two would not agree"


@pytest.mark.recordings
@pytest.mark.parametrize("name", ["coinmetrics_btc_daily", "coinmetrics_usdt_eth_daily"])
def test_recorded_days_are_complete_after_their_end(recordings, name):
    """What the label rests on: every metric of every recorded day decodes, none was complete before the day was over."""
    held = recorded(recordings, name)
    held = held[held[COMPLETED].notna()]
    asset = "btc" if "btc" in name else "usdt_eth"
    window = Window(utc(held["time"].iloc[0]), utc(held["time"].iloc[-1]) + DAY)
    for metric in ASKED[asset]:
        found = answered(held, window, f"{asset}/{metric}", utc("2026-11-22"))
        assert not found.rejects
        assert found.rows == len(held)
        assert {row["metric"] for row in rows(found)} == {METRICS[metric]}
        assert min(row["known_at"] - row["as_of"] for row in rows(found)) >= timedelta(hours=2)
