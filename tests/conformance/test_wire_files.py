"""Archive files, Coinalyze, DefiLlama and alternative.me over HTTP: labels, checksums, lags, fields, refusals."""

import csv
import hashlib
import io
import json
import zipfile

import pytest

from sandbox.process import running
from transforms.windows import to_ms, utc

NOW = utc("2026-11-22T13:07")
NOW_MS = to_ms(NOW)
HOUR = 3_600_000
DAY = 24 * HOUR
DATA, FAPI = "/binance.fapi/futures/data/openInterestHist", "/binance.fapi/fapi/v1"


@pytest.fixture(scope="module")
def sandbox():
    with running("--now", NOW.isoformat(), "--limits-scale", "1000") as child:
        yield child


# the archive

ARCHIVE = "/binance.archive/data/futures/um"


def test_daily_metrics_end_before_the_switch_and_start_after_it(sandbox):
    def day(date):
        path = f"{ARCHIVE}/daily/metrics/BTCUSDT/BTCUSDT-metrics-{date}.zip"
        status, headers, body = sandbox.get(path)
        assert (status, headers["Content-Type"]) == (200, "application/zip")
        digest, name = sandbox.get(f"{path}.CHECKSUM")[2].decode().split()
        assert (digest, name) == (hashlib.sha256(body).hexdigest(), path.rsplit("/", 1)[1])
        assert sandbox.get(path)[2] == body
        held = zipfile.ZipFile(io.BytesIO(body))
        assert held.namelist() == [name.replace(".zip", ".csv")]
        return list(csv.DictReader(io.StringIO(held.read(held.namelist()[0]).decode())))

    before, after = day("2026-06-24"), day("2026-06-25")
    assert list(before[0]) == [
        "create_time",
        "symbol",
        "sum_open_interest",
        "sum_open_interest_value",
        "count_toptrader_long_short_ratio",
        "sum_toptrader_long_short_ratio",
        "count_long_short_ratio",
        "sum_taker_long_short_vol_ratio",
    ]
    assert (before[0]["create_time"], before[-1]["create_time"]) == ("2026-06-24 00:05:00", "2026-06-25 00:00:00")
    assert (after[0]["create_time"], after[-1]["create_time"]) == ("2026-06-25 00:00:00", "2026-06-25 23:55:00")
    assert len(before) == len(after) == 288
    # the same label twice, five minutes apart in truth
    assert before[-1]["sum_open_interest"] != after[0]["sum_open_interest"]


def test_the_archive_and_rest_say_the_same(sandbox):
    """Day 2026-11-18 lies in both; the archive's row of label T is the snapshot of T + 5 min and the flow from T."""
    body = sandbox.get(f"{ARCHIVE}/daily/metrics/ETHUSDT/ETHUSDT-metrics-2026-11-18.zip")[2]
    held = zipfile.ZipFile(io.BytesIO(body))
    rows = list(csv.DictReader(io.StringIO(held.read(held.namelist()[0]).decode())))
    start = to_ms(utc("2026-11-18"))
    span = {"symbol": "ETHUSDT", "period": "5m", "limit": 500}
    interest = sandbox.json(DATA, **span, startTime=start + 300_000, endTime=start + DAY)
    flow = sandbox.json("/binance.fapi/futures/data/takerlongshortRatio", **span, startTime=start, endTime=start + DAY - 1)
    heads = sandbox.json("/binance.fapi/futures/data/globalLongShortAccountRatio", **span, startTime=start + 300_000, endTime=start + DAY)
    assert len(rows) == len(interest) == len(flow) > 250
    for row, snapshot, bucket, account in zip(rows, interest, flow, heads, strict=True):
        label = to_ms(utc(row["create_time"]))
        assert (snapshot["timestamp"], bucket["timestamp"]) == (label + 300_000, label)
        assert row["sum_open_interest"] == snapshot["sumOpenInterest"]
        assert float(row["sum_taker_long_short_vol_ratio"]) == pytest.approx(float(bucket["buySellRatio"]), abs=6e-5)
        assert float(row["count_long_short_ratio"]) == pytest.approx(float(account["longShortRatio"]), abs=6e-5)


def test_monthly_funding_is_the_rest_history(sandbox):
    body = sandbox.get(f"{ARCHIVE}/monthly/fundingRate/SOLUSDT/SOLUSDT-fundingRate-2026-10.zip")[2]
    held = zipfile.ZipFile(io.BytesIO(body))
    rows = list(csv.DictReader(io.StringIO(held.read(held.namelist()[0]).decode())))
    span = {"startTime": to_ms(utc("2026-10-01")), "endTime": to_ms(utc("2026-11-01")) - 1}
    rest = sandbox.json(f"{FAPI}/fundingRate", symbol="SOLUSDT", limit=1000, **span)
    assert [(row["calc_time"], row["last_funding_rate"]) for row in rows] == [(str(r["fundingTime"]), r["fundingRate"]) for r in rest]
    assert {row["funding_interval_hours"] for row in rows} == {"8"}
    assert len(rows) == 93


@pytest.mark.parametrize(
    "path",
    [
        "daily/metrics/BTCUSDT/BTCUSDT-metrics-2026-11-21.zip",  # over, but published a day later
        "daily/metrics/BTCUSDT/BTCUSDT-metrics-2026-11-22.zip",
        "daily/metrics/BTCUSDT/BTCUSDT-metrics-2024-12-31.zip",  # before the market began
        "daily/metrics/BTCUSDT/BTCUSDT-metrics-2026-02-30.zip",
        "daily/metrics/BTCUSDT/ETHUSDT-metrics-2026-02-03.zip",
        "daily/metrics/DOGEUSDT/DOGEUSDT-metrics-2026-02-03.zip.CHECKSUM",
        "monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2026-11.zip",
    ],
)
def test_what_the_archive_does_not_hold_is_an_xml_404(sandbox, path):
    status, headers, body = sandbox.get(f"{ARCHIVE}/{path}")
    assert (status, headers["Content-Type"]) == (404, "application/xml")
    assert b"<Code>NoSuchKey</Code>" in body


def test_the_archive_publishes_with_a_day_of_lag(sandbox):
    assert sandbox.get(f"{ARCHIVE}/daily/metrics/BTCUSDT/BTCUSDT-metrics-2026-11-20.zip")[0] == 200


# Coinalyze, DefiLlama, alternative.me

KEY = {"api_key": "any"}


def test_coinalyze_histories_and_their_fields(sandbox):
    base = "/coinalyze.api/v1"
    markets = sandbox.json(f"{base}/future-markets", **KEY)
    assert {market["symbol"] for market in markets} == {"BTCUSDT_PERP.A", "ETHUSDT_PERP.A", "SOLUSDT_PERP.A"}
    assert sandbox.json(f"{base}/exchanges", **KEY) == [{"name": "Binance", "code": "A"}]
    start = NOW_MS // DAY * DAY // 1000 - 30 * 86400
    span = {"symbols": "BTCUSDT_PERP.A,SOLUSDT_PERP.A,NONE", "interval": "daily", "from": start, "to": NOW_MS // 1000}
    fields = {
        "open-interest": set("tohlc"),
        "funding-rate": set("tohlc"),
        "long-short-ratio": set("trls"),
        "liquidation": set("tls"),
        "ohlcv": {"t", "o", "h", "l", "c", "v", "bv", "tx", "btx"},
    }
    for name, keys in fields.items():
        answer = sandbox.json(f"{base}/{name}-history", **KEY, **span)
        assert [one["symbol"] for one in answer] == ["BTCUSDT_PERP.A", "SOLUSDT_PERP.A"]
        for one in answer:
            assert [row["t"] for row in one["history"]] == [start + n * 86400 for n in range(31)]
            assert all(set(row) == keys for row in one["history"])
            assert all(isinstance(value, int | float) for row in one["history"] for value in row.values())
    shares = sandbox.json(f"{base}/long-short-ratio-history", **KEY, **span)[0]["history"]
    assert all(row["l"] + row["s"] == pytest.approx(100.0) and row["r"] > 0 for row in shares)
    funding = sandbox.json(f"{base}/funding-rate-history", **KEY, **span)[0]["history"]
    assert max(abs(row["c"]) for row in funding) <= 0.3
    assert 0.01 in {row["c"] for row in funding}, "percent: the interest component is 0.01, not 0.0001"


def test_coinalyze_refusals(sandbox):
    path = "/coinalyze.api/v1/open-interest-history"
    assert sandbox.refusal(path, symbols="BTCUSDT_PERP.A") == (401, {"message": "Invalid/Missing API key"})
    span = {"interval": "daily", "from": 1, "to": 2}
    assert sandbox.refusal(path, **KEY, symbols=",".join(f"S{n}" for n in range(21)), **span)[0] == 400
    assert sandbox.refusal(path, **KEY, **span)[0] == 400
    assert sandbox.refusal(path, **KEY, symbols="BTCUSDT_PERP.A", **(span | {"interval": "decade"}))[0] == 400
    assert sandbox.refusal(path, **KEY, symbols="BTCUSDT_PERP.A", interval="daily")[0] == 400
    assert sandbox.get(f"{path}?symbols=BTCUSDT_PERP.A&interval=daily&from=1&to=2", headers={"api_key": "k"})[0] == 200


def test_defillama_shapes(sandbox):
    chart = sandbox.json("/defillama.stablecoins/stablecoincharts/all")
    amounts = ("totalCirculating", "totalUnreleased", "totalCirculatingUSD", "totalMintedUSD", "totalBridgedToUSD")
    assert all(set(row) == {"date", *amounts} for row in chart)
    assert all(isinstance(row["date"], str) and isinstance(row["totalCirculating"]["peggedUSD"], int | float) for row in chart)
    assert [int(row["date"]) for row in chart] == list(range(int(chart[0]["date"]), int(chart[-1]["date"]) + 1, 86400))
    assert int(chart[-1]["date"]) == NOW_MS // DAY * 86400
    one = sandbox.json("/defillama.stablecoins/stablecoincharts/all", stablecoin=1)
    assert one[-1]["totalCirculating"]["peggedUSD"] < chart[-1]["totalCirculating"]["peggedUSD"]
    assert sandbox.get("/defillama.stablecoins/stablecoincharts/all?stablecoin=999")[0] == 404
    listed = sandbox.json("/defillama.stablecoins/stablecoins", includePrices="true")
    assert [asset["id"] for asset in listed["peggedAssets"]] == ["1", "2", "5"]
    assert listed["peggedAssets"][0]["circulating"] == one[-1]["totalCirculating"]
    assert all(isinstance(asset["chainCirculating"], dict) for asset in listed["peggedAssets"])


@pytest.mark.recordings
def test_defillama_list_has_the_recorded_fields(sandbox, recordings):
    excerpt = json.loads((recordings / "chain" / "defillama" / "stablecoins_real_excerpt.json").read_text())
    ours = sandbox.json("/defillama.stablecoins/stablecoins")
    real = excerpt["peggedAssets"][0]
    for asset in ours["peggedAssets"]:
        assert {key: type(asset[key]) for key in real} == {key: type(value) for key, value in real.items()}
        assert {key: type(value) for key, value in asset["circulating"].items()} == {"peggedUSD": float}
    assert all(set(chain) == set(excerpt["chains"][0]) and isinstance(chain["totalCirculatingUSD"], dict) for chain in ours["chains"])


def test_alternative_me_shape(sandbox):
    answer = sandbox.json("/alternative_me.api/fng/", limit=0, format="json")
    assert answer["name"] == "Fear and Greed Index"
    assert answer["metadata"] == {"error": None}
    data = answer["data"]
    assert set(data[0]) == {"value", "value_classification", "timestamp", "time_until_update"}
    assert all(set(row) == {"value", "value_classification", "timestamp"} for row in data[1:])
    assert all(isinstance(value, str) for row in data for value in row.values())
    assert [int(row["timestamp"]) for row in data] == sorted((int(row["timestamp"]) for row in data), reverse=True)
    assert sandbox.json("/alternative_me.api/fng/")["data"] == data[:1]
    assert sandbox.json("/alternative_me.api/fng/", limit=3)["data"] == data[:3]
