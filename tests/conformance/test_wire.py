"""The sandbox's Binance REST over HTTP against what the venue really answered: keys, types, decimals, paging, error bodies."""

import json
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from sandbox.process import running
from transforms.windows import to_ms, utc

#: read only by tests marked `recordings`, which tests/conftest.py skips where the folder is not there
PAYLOADS = Path(__file__).parents[3] / "shared" / "recordings" / "payloads"
NOW = utc("2026-11-22T13:07")
NOW_MS = to_ms(NOW)
HOUR = 3_600_000
DAY = 24 * HOUR


@pytest.fixture(scope="module")
def sandbox():
    with running("--now", NOW.isoformat(), "--limits-scale", "1000") as child:
        yield child


def shape(value):
    """Keys and JSON types, all the way down; a list is the set of the shapes in it."""
    if isinstance(value, dict):
        return ("object", tuple((key, shape(item)) for key, item in sorted(value.items())))
    if isinstance(value, list):
        return ("array", frozenset(shape(item) for item in value))
    return type(value).__name__


def captured(name):
    """Requests and answers of one recorded file that are about a listed USD-M symbol or about none."""
    path = PAYLOADS / "recorded" / "binance" / f"{name}.json"
    if not path.is_file():
        return []
    every = json.loads(path.read_text())
    return [(dict(parse_qsl(one["queryString"])), one["data"]) for one in every if one["data"] and "pair=" not in one["queryString"]]


ROW_ENDPOINTS = {
    "fapi__v1__fundingRate": "/fapi/v1/fundingRate",
    "fapi__v1__klines": "/fapi/v1/klines",
    "futures__data__openInterestHist": "/futures/data/openInterestHist",
    "futures__data__globalLongShortAccountRatio": "/futures/data/globalLongShortAccountRatio",
    "futures__data__topLongShortAccountRatio": "/futures/data/topLongShortAccountRatio",
    "futures__data__topLongShortPositionRatio": "/futures/data/topLongShortPositionRatio",
    "futures__data__takerlongshortRatio": "/futures/data/takerlongshortRatio",
}
#: fields the venue's documents show and its older recordings do not have yet
LATER_FIELDS = {"/fapi/v1/fundingRate": {"markPrice"}, "/fapi/v1/premiumIndex": {"estimatedSettlePrice"}}


def stamp(row):
    return row[0] if isinstance(row, list) else row.get("timestamp", row.get("fundingTime"))


class TestAgainstRecordedPayloads:
    pytestmark = pytest.mark.recordings

    @pytest.mark.parametrize("name", ROW_ENDPOINTS)
    def test_rows_have_the_recorded_keys_types_decimals_and_order(self, sandbox, name):
        path = ROW_ENDPOINTS[name]
        answers = captured(name)
        assert answers, f"nothing recorded for {name}"
        for asked, data in answers:
            params = {key: value for key, value in asked.items() if key not in ("startTime", "endTime")} | {"symbol": "BTCUSDT"}
            ours = sandbox.json(f"/binance.fapi{path}", **params)
            assert [stamp(row) for row in ours] == sorted(stamp(row) for row in ours)
            assert [stamp(row) for row in data] == sorted(stamp(row) for row in data)
            theirs = {shape(row) for row in data}
            for row in ours:
                old = row if isinstance(row, list) else {key: row[key] for key in row if key not in LATER_FIELDS.get(path, ())}
                assert shape(old) in theirs
            if isinstance(data[0], dict):
                for key, value in data[0].items():
                    if isinstance(value, str) and "." in value:
                        assert {len(row[key].partition(".")[2]) for row in ours} == {len(value.partition(".")[2])}, key

    @pytest.mark.parametrize("name", ROW_ENDPOINTS)
    def test_pages_are_as_long_as_the_recorded_ones(self, sandbox, name):
        """The recorder cut some answers to 6 rows or fewer; a full page shows the venue's default, a limit is always kept."""
        defaults = {"fapi__v1__fundingRate": 100, "fapi__v1__klines": 500}
        full = defaults.get(name, 30)
        for asked, data in captured(name):
            params = {key: value for key, value in asked.items() if key not in ("startTime", "endTime")} | {"symbol": "BTCUSDT"}
            ours = sandbox.json(f"/binance.fapi{ROW_ENDPOINTS[name]}", **params)
            wanted = int(asked.get("limit", full))
            assert len(data) <= wanted
            if len(data) in (wanted, 100, 500):
                assert len(ours) == len(data)
            if "limit" in asked:
                assert len(ours) == min(wanted, len(ours)) > 0

    def test_kline_ranges_include_both_ends_as_recorded(self, sandbox):
        asked, data = next((a, d) for a, d in captured("fapi__v1__klines") if a.get("startTime") == "1546300800000")
        assert data[-1][0] == int(asked["endTime"]), "the venue includes the bar that opens at endTime"
        start = NOW_MS // DAY * DAY - 10 * DAY
        ours = sandbox.json(
            "/binance.fapi/fapi/v1/klines", symbol="BTCUSDT", interval="1d", startTime=start, endTime=start + 3 * DAY, limit=1000
        )
        assert [row[0] for row in ours] == [start + n * DAY for n in range(4)]
        assert {row[6] - row[0] for row in ours} == {row[6] - row[0] for row in data} == {DAY - 1}

    @pytest.mark.parametrize("name", ["exchangeInfo", "fundingInfo", "openInterest"])
    def test_plain_endpoints_have_the_recorded_shape(self, sandbox, name):
        for asked, data in captured(f"fapi__v1__{name}"):
            ours = sandbox.json(f"/binance.fapi/fapi/v1/{name}", **asked)
            if name != "exchangeInfo":
                one, other = (ours, data) if isinstance(ours, dict) else (ours[0], data[0])
                assert shape(one) == shape(other)
                continue
            assert set(ours) == set(data)
            assert {key: type(value) for key, value in ours.items()} == {key: type(value) for key, value in data.items()}
            theirs = {shape({k: v for k, v in symbol.items() if k != "filters"}) for symbol in data["symbols"]}
            assert {shape({k: v for k, v in symbol.items() if k != "filters"}) for symbol in ours["symbols"]} <= theirs
            filters = {shape(one) for symbol in data["symbols"] for one in symbol["filters"]}
            assert {shape(one) for symbol in ours["symbols"] for one in symbol["filters"]} == filters
            assert shape(ours["rateLimits"]) == shape(data["rateLimits"])
            assert shape(ours["assets"]) == shape(data["assets"])

    def test_premium_index_has_the_recorded_shape(self, sandbox):
        for asked, data in captured("fapi__v1__premiumIndex"):
            ours = sandbox.json("/binance.fapi/fapi/v1/premiumIndex", **asked)
            assert type(ours) is type(data)
            one, other = (ours, data) if isinstance(ours, dict) else (ours[0], data[0])
            old = {key: value for key, value in one.items() if key in other}
            assert shape(old) == shape(other)
            assert set(one) - set(other) <= LATER_FIELDS["/fapi/v1/premiumIndex"]

    def test_an_unknown_symbol_is_refused_with_the_recorded_body(self, sandbox):
        every = json.loads((PAYLOADS / "recorded" / "binance" / "fapi__v1__ticker__24hr.json").read_text())
        body = next(one["data"] for one in every if isinstance(one["data"], dict) and "code" in one["data"])
        for path in ("/fapi/v1/klines", "/fapi/v1/fundingRate", "/fapi/v1/openInterest", "/futures/data/openInterestHist"):
            status, ours = sandbox.refusal(f"/binance.fapi{path}", symbol="BTCUSD_201225", interval="1h", period="1h")
            assert (status, ours) == (400, body)


def test_funding_pages_forward_from_the_start_and_covers_everything_once(sandbox):
    path, start = "/binance.fapi/fapi/v1/fundingRate", NOW_MS - 500 * DAY
    whole, page = [], None
    while page is None or len(page) == 100:
        page = sandbox.json(path, symbol="ETHUSDT", startTime=start, limit=100)
        whole += page
        start = page[-1]["fundingTime"] + 1 if page else start
    assert len(whole) in (1500, 1501)
    assert len({row["fundingTime"] for row in whole}) == len(whole)
    assert sandbox.json(path, symbol="ETHUSDT", limit=1000) == whole[-1000:]
    assert sandbox.json(path, symbol="ETHUSDT", endTime=whole[-1]["fundingTime"] - 1, limit=2) == whole[-3:-1]


def test_data_pages_are_the_newest_of_their_range(sandbox):
    path, start = "/binance.fapi/futures/data/openInterestHist", NOW_MS - 20 * DAY
    page = sandbox.json(path, symbol="BTCUSDT", period="5m", startTime=start, endTime=start + 10 * DAY, limit=500)
    assert len(page) == 500
    assert page[-1]["timestamp"] == (start + 10 * DAY) // 300_000 * 300_000
    older = sandbox.json(path, symbol="BTCUSDT", period="5m", startTime=start, endTime=page[0]["timestamp"] - 1, limit=500)
    assert older[-1]["timestamp"] < page[0]["timestamp"]
    month = sandbox.json(path, symbol="BTCUSDT", period="1d", limit=500)
    assert 29 <= len(month) <= 31


def test_snapshots_and_flow_carry_their_own_labels(sandbox):
    """At 13:07 the hour of 13:00 is snapshotted, and the last closed bucket of flow is the one that began at 12:00."""
    data = "/binance.fapi/futures/data"
    assert sandbox.json(f"{data}/openInterestHist", symbol="BTCUSDT", period="1h", limit=1)[0]["timestamp"] == NOW_MS // HOUR * HOUR
    assert (
        sandbox.json(f"{data}/takerlongshortRatio", symbol="BTCUSDT", period="1h", limit=1)[0]["timestamp"] == NOW_MS // HOUR * HOUR - HOUR
    )
    assert sandbox.json("/binance.fapi/fapi/v1/klines", symbol="BTCUSDT", interval="1h", limit=1)[0][0] == NOW_MS // HOUR * HOUR


DATA, FAPI = "/binance.fapi/futures/data/openInterestHist", "/binance.fapi/fapi/v1"


@pytest.mark.parametrize(
    ("path", "params", "code", "text"),
    [
        (DATA, {"symbol": "BTCUSDT", "period": "1h", "startTime": NOW_MS - 31 * DAY}, -1130, "parameter 'startTime' is invalid."),
        (DATA, {"symbol": "BTCUSDT", "period": "7h"}, -1130, "parameter 'period' is invalid."),
        (DATA, {"symbol": "BTCUSDT", "period": "1h", "limit": 501}, -1130, "parameter 'limit' is invalid."),
        (DATA, {"symbol": "BTCUSDT"}, -1102, "Mandatory parameter 'period' was not sent, was empty/null, or malformed."),
        (f"{FAPI}/klines", {"interval": "1h"}, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        (f"{FAPI}/klines", {"symbol": "BTCUSDT", "interval": "9h"}, -1120, "Invalid interval."),
        (f"{FAPI}/klines", {"symbol": "BTCUSDT", "interval": "1h", "limit": 1501}, -1130, "Data sent for parameter 'limit' is not valid."),
        (f"{FAPI}/fundingRate", {"symbol": "BTCUSDT", "limit": 1001}, -1130, "Data sent for parameter 'limit' is not valid."),
        (
            f"{FAPI}/fundingRate",
            {"symbol": "BTCUSDT", "startTime": "soon"},
            -1102,
            "Mandatory parameter 'startTime' was not sent, was empty/null, or malformed.",
        ),
    ],
)
def test_refusals_have_the_venues_bodies(sandbox, path, params, code, text):
    assert sandbox.refusal(path, **params) == (400, {"code": code, "msg": text})


def test_thirty_days_back_is_still_served(sandbox):
    assert sandbox.json(DATA, symbol="BTCUSDT", period="1h", startTime=NOW_MS - 30 * DAY, endTime=NOW_MS - 29 * DAY)


def test_unknown_paths_and_hosts(sandbox):
    assert sandbox.get("/binance.fapi/fapi/v1/nothing")[0] == 404
    assert sandbox.get("/kraken.api/x")[0] == 404
    assert sandbox.get("/binance.fapi/fapi/v1/time", method="PUT")[0] == 405
