"""The sandbox as a process: request limits and bans, questions nobody expects, control paths, start and end."""

import hashlib
import http.client
import json
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.market import frozen
from sandbox.process import ROOT, running
from sandbox.server import venues
from sandbox.simulated import SimulatedMarket
from sandbox.wire.reply import Query
from transforms.windows import to_ms, utc

NOW = utc("2026-11-22T13:07")
NOW_MS = to_ms(NOW)
HOUR = 3_600_000
DAY = 24 * HOUR
DATA, FAPI = "/binance.fapi/futures/data/openInterestHist", "/binance.fapi/fapi/v1"
ARCHIVE = "/binance.archive/data/futures/um"


def hosts(clock, scale=1.0):
    return venues(SimulatedMarket(7, frozen(NOW)), clock, scale)


def test_weight_is_counted_refused_and_at_last_banned():
    clock = [1_000_000_040.0]
    fapi = hosts(lambda: clock[0])["binance.fapi"]
    klines = Query("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1h", "limit": "1500"})
    answers = [fapi.answer(klines) for _ in range(240)]
    assert {answer.status for answer in answers} == {200}
    assert answers[-1].headers["X-MBX-USED-WEIGHT-1M"] == "2400"
    refused = fapi.answer(klines)
    assert refused.status == 429
    assert json.loads(refused.body)["code"] == -1003
    assert refused.headers["Retry-After"] == "40", "the minute is the clock's"
    statuses = [fapi.answer(klines).status for _ in range(6)]
    assert statuses[-1] == 418
    banned = fapi.answer(klines)
    until = int(re.search(r"banned until (\d+)", json.loads(banned.body)["msg"])[1])
    assert until == pytest.approx((clock[0] + 120) * 1000)
    assert 0 < int(banned.headers["Retry-After"]) <= 120
    clock[0] += 60
    assert fapi.answer(klines).status == 418, "a ban outlives the minute"
    clock[0] += 61
    assert fapi.answer(klines).status == 200


def test_a_client_that_waits_is_never_banned():
    clock = [1_000_000_040.0]
    fapi = hosts(lambda: clock[0])["binance.fapi"]
    query, statuses = Query("/fapi/v1/premiumIndex"), []
    for _ in range(1000):
        answer = fapi.answer(query)
        statuses.append(answer.status)
        if answer.status == 429:
            clock[0] += int(answer.headers["Retry-After"])
    assert set(statuses) == {200, 429}
    assert statuses.count(429) == 4


def test_each_group_has_its_own_budget():
    fapi = hosts(lambda: 1_000_000_000.0)["binance.fapi"]
    data = Query("/futures/data/openInterestHist", {"symbol": "BTCUSDT", "period": "1h"})
    funding = Query("/fapi/v1/fundingRate", {"symbol": "BTCUSDT", "limit": "1"})
    assert [fapi.answer(data).status for _ in range(1001)].index(429) == 1000
    assert [fapi.answer(funding).status for _ in range(501)].index(429) == 500
    assert fapi.answer(Query("/fapi/v1/time")).status == 200


def test_coinalyze_counts_symbols_not_requests():
    clock = [1_000_000_040.0]
    api = hosts(lambda: clock[0])["coinalyze.api"]
    span = {"symbols": ",".join(["BTCUSDT_PERP.A"] * 20), "interval": "daily", "from": "1", "to": "2", "api_key": "k"}
    query = Query("/v1/open-interest-history", span)
    assert [api.answer(query).status for _ in range(3)] == [200, 200, 429]
    assert api.answer(query).headers["Retry-After"] == "40"
    clock[0] += 40
    assert api.answer(query).status == 200


def test_deribit_counts_credits_that_flow_back():
    clock = [1_000_000_000.0]
    api = hosts(lambda: clock[0])["deribit.api"]
    query = Query("/public/get_time")
    assert [api.answer(query).status for _ in range(101)].index(429) == 100, "50,000 credits, 500 a request"
    refused = json.loads(api.answer(query).body)
    assert refused["error"] == {"message": "too_many_requests", "code": 10028}
    assert (refused["testnet"], "result" in refused) == (False, False)
    clock[0] += 1
    assert [api.answer(query).status for _ in range(21)].index(429) == 20, "10,000 a second"
    clock[0] += 3600
    assert [api.answer(query).status for _ in range(101)].index(429) == 100, "the pool does not grow beyond its size"


_ANY = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.sampled_from(["BTCUSDT", "1h", "daily", "1d", "BTCUSDT_PERP.A", "0", "9" * 40, "BTC", "option", "3600", "1D"]),
)
_NAMES = st.sampled_from(
    [
        *("symbol", "period", "interval", "limit", "startTime", "endTime", "symbols", "from", "to", "stablecoin", "api_key", "format"),
        *("currency", "kind", "start_timestamp", "end_timestamp", "resolution"),
    ]
)
_HOSTS = hosts(lambda: 0.0, 1e9)
_PATHS = [("binance.fapi", path) for path in _HOSTS["binance.fapi"].routes] + [
    *(("deribit.api", path) for path in _HOSTS["deribit.api"].routes),
    ("deribit.api", "/public/buy"),
    ("coinalyze.api", "/v1/future-markets"),
    ("coinalyze.api", "/v1/ohlcv-history"),
    ("coinalyze.api", "/v1/funding-rate-history"),
    ("defillama.stablecoins", "/stablecoincharts/all"),
    ("defillama.stablecoins", "/stablecoins"),
    ("alternative_me.api", "/fng/"),
    ("binance.archive", "/data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2026-01-01.zip"),
]


@settings(max_examples=300, deadline=None)
@given(where=st.sampled_from(_PATHS), params=st.dictionaries(_NAMES, _ANY, max_size=7))
def test_no_question_breaks_a_venue(where, params):
    host, path = where
    reply = _HOSTS[host].answer(Query(path, params))
    assert reply.status in (200, 400, 401, 404)
    if "json" in reply.content_type:
        json.loads(reply.body)


@settings(max_examples=60, deadline=None)
@given(
    start=st.integers(0, NOW_MS // HOUR),
    hours=st.integers(0, 3000),
    limit=st.integers(1, 1500),
    interval=st.sampled_from(["1h", "4h", "1d"]),
)
def test_kline_pages_never_leave_their_range(start, hours, limit, interval):
    params = {"symbol": "SOLUSDT", "interval": interval, "startTime": str(start * HOUR), "endTime": str((start + hours) * HOUR)}
    rows = json.loads(_HOSTS["binance.fapi"].answer(Query("/fapi/v1/klines", params | {"limit": str(limit)})).body)
    assert len(rows) <= limit
    assert all(start * HOUR <= row[0] <= (start + hours) * HOUR and row[0] <= NOW_MS for row in rows)


def test_control_paths_faults_over_http_and_a_clean_end():
    with running("--now", NOW.isoformat(), "--seed", "11") as client:
        assert re.fullmatch(
            r"sandbox ready on http://127\.0\.0\.1:\d+ market=SIMULATED seed=11 now=2026-11-22T13:07:00Z", client.ready_line
        )
        health = client.json("/sandbox/health")
        assert (health["market"], health["seed"], health["now"]) == ("simulated", 11, "2026-11-22T13:07:00+00:00")
        assert set(health["spans"]) == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
        rules = [
            {"path": "fundingRate", "kind": "drop", "count": 1},
            {"path": "klines", "kind": "truncate"},
            {"path": "metrics-2026-11-20", "kind": "bad_zip"},
        ]
        assert client.get("/sandbox/faults", "POST", json.dumps(rules))[0] == 200
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            client.get(f"{FAPI}/fundingRate?symbol=BTCUSDT")
        assert client.get(f"{FAPI}/fundingRate?symbol=BTCUSDT")[0] == 200
        _, _, body = client.get(f"{FAPI}/klines?symbol=BTCUSDT&interval=1h")
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)
        path = f"{ARCHIVE}/daily/metrics/BTCUSDT/BTCUSDT-metrics-2026-11-20.zip"
        spoiled = client.get(path)[2]
        assert client.get(f"{path}.CHECKSUM")[2].split()[0].decode() == hashlib.sha256(spoiled).hexdigest()
        stats = client.json("/sandbox/stats")
        assert stats["requests"][f"{FAPI}/fundingRate"] == {"0": 1, "200": 1}
        assert [rule["struck"] for rule in stats["faults"]] == [1, 1, 1]
        status, _, body = client.get("/sandbox/faults", "POST", b'[{"path": ".", "kind": "meteor"}]')
        assert status == 400
        assert "meteor" in json.loads(body)["error"]
        assert client.get("/sandbox/faults", "POST", b"[]")[0] == 200
        assert json.loads(client.get(f"{FAPI}/klines?symbol=BTCUSDT&interval=1h")[2])


def test_two_processes_serve_the_same_bytes():
    with running("--now", NOW.isoformat()) as sandbox, running("--now", "2026-11-25T00:00") as later:
        start = NOW_MS - 20 * DAY
        for path in (
            f"{FAPI}/klines?symbol=BTCUSDT&interval=1h&startTime={start}&limit=400",
            f"{DATA}?symbol=BTCUSDT&period=5m&startTime={start}&endTime={start + DAY}&limit=500",
            f"{ARCHIVE}/daily/metrics/SOLUSDT/SOLUSDT-metrics-2026-11-19.zip",
            f"{ARCHIVE}/monthly/fundingRate/SOLUSDT/SOLUSDT-fundingRate-2026-10.zip.CHECKSUM",
        ):
            assert later.get(path)[2] == sandbox.get(path)[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--market", "recorded", "--recordings", "/nonexistent"], "give the folder of recorded series"),
        (["--now", "2020-01-01"], "begins at 2025-01-01"),
        (["--faults", "/nonexistent/faults.json"], "No such file"),
    ],
)
def test_what_cannot_start_says_why_in_one_sentence(arguments, says):
    ended = subprocess.run(
        [sys.executable, "-m", "sandbox", "--port", "0", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("sandbox: ")
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
