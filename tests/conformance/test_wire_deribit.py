"""The sandbox's Deribit against what the venue really answered, and its simulated options against each other and their own market.

Also the premium bars of the sandbox's Binance: what funding is made of.
"""

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from sandbox import options
from sandbox.market import frozen
from sandbox.server import venues
from sandbox.simulated import GENESIS_MS, SimulatedMarket
from sandbox.simulation import FUNDING_STEPS, funding_rate, premium_average
from sandbox.spoil import spoil_rows
from sandbox.wire.reply import Query
from transforms.roster import source
from transforms.sources.contract import Answer
from transforms.sources.deribit import CHAIN, DVOL, option
from transforms.windows import HOUR, Window, from_ms, to_ms, utc

#: read only by tests marked `recordings`, which tests/conftest.py skips where the folder is not there
RECORDED = Path(__file__).parents[3] / "shared" / "recordings" / "payloads" / "recorded" / "deribit"
NOW = utc("2026-11-22T13:07")
NOW_MS = to_ms(NOW)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
JSON = {"Content-Type": "application/json"}
DERIBIT = source("deribit")


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(7, frozen(NOW))


@pytest.fixture(scope="module")
def hosts(market):
    return venues(market, lambda: 0.0, 1e9)


def told(hosts, path, status=200, host="deribit.api", **params):
    reply = hosts[host].answer(Query(path, {name: str(value) for name, value in params.items()}))
    assert reply.status == status, reply.body
    return json.loads(reply.body)


def at(when: str, seed=7):
    return SimulatedMarket(seed, frozen(utc(when)))


def answered(hosts, series):
    """Everything the source asks about one series, decoded: rows of its table."""
    rows = []
    for ask in DERIBIT.asks(series):
        reply = hosts["deribit.api"].answer(Query(ask.path, dict(ask.params)))
        answer = Answer(reply.status, reply.body, NOW, JSON)
        assert DERIBIT.classify(ask, answer).verb == "accept"
        assert DERIBIT.follow(ask, answer) is None, "a page is never longer than the venue's"
        decoded = DERIBIT.decode(ask, answer)
        assert not decoded.rejects
        assert not decoded.notes
        (table,) = decoded.tables.values()
        rows += table.to_pylist()
    return rows


# -- the wire


@pytest.mark.recordings
def test_a_summary_has_the_recorded_fields_and_types(hosts):
    held = json.loads((RECORDED / "deribit_book_summary_btc_option.json").read_text())["result"]
    held += json.loads((RECORDED / "BTC_option_instruments_20250615_055819.json").read_text())
    said = told(hosts, f"/public/{CHAIN}", currency="BTC", kind="option")
    assert set(said) == {"jsonrpc", "result", "usIn", "usOut", "usDiff", "testnet"}
    seen = defaultdict(set)
    for row in held:
        for name, value in row.items():
            seen[name].add("number" if isinstance(value, int | float) else type(value).__name__)
    for row in said["result"]:
        assert set(row) == set(seen)
        for name, value in row.items():
            assert ("number" if isinstance(value, int | float) else type(value).__name__) in seen[name], name


def test_the_source_reads_every_row_of_the_simulated_chains(hosts):
    for coin in ("BTC", "ETH"):
        said = told(hosts, f"/public/{CHAIN}", currency=coin, kind="option")
        (series,) = (one for one in DERIBIT.plan(Window(NOW - HOUR, NOW), [], NOW) if (one.endpoint, one.instrument) == (CHAIN, coin))
        rows = answered(hosts, series)
        assert [row["instrument"] for row in rows] == [row["instrument_name"] for row in said["result"]]
        assert {row["as_of"] for row in rows} == {NOW}
        assert len({row["instrument"] for row in rows}) == len(rows) > 600
        assert all(row["expiry_at"] > NOW for row in rows)


def test_the_source_reads_every_hour_of_the_simulated_index(hosts, market):
    series = next(one for one in DERIBIT.plan(Window(utc("2025-01-01"), utc("2026-11-22T13:00")), [], NOW) if one.instrument == "BTC-DVOL")
    rows = answered(hosts, series)
    assert [row["as_of"] for row in rows] == series.expected()
    bars = market.volatility_index("BTC", HOUR_MS, 0, NOW_MS)
    assert np.allclose([row["implied_volatility"] for row in rows], bars["close"][: len(rows)] / 100.0, rtol=1e-12)


def test_pages_of_the_index_go_backwards_and_hold_every_bar_once(hosts):
    path, start, end = f"/public/{DVOL}", NOW_MS - 100 * DAY_MS, NOW_MS
    bars, pages = [], 0
    while end is not None:
        page = told(hosts, path, currency="ETH", start_timestamp=start, end_timestamp=end, resolution=3600)["result"]
        assert len(page["data"]) <= 1000
        bars, end, pages = page["data"] + bars, page["continuation"], pages + 1
    assert pages == 3
    stamps = [bar[0] for bar in bars]
    assert stamps == list(range(-(-start // HOUR_MS) * HOUR_MS, NOW_MS + 1, HOUR_MS))
    assert all(low <= min(first, last) <= max(first, last) <= high for _, first, high, low, last in bars)
    daily = told(hosts, path, currency="ETH", start_timestamp=start, end_timestamp=NOW_MS, resolution="1D")["result"]["data"]
    by_day = {bar[0]: bar for bar in daily}
    for day in list(by_day)[1:-1]:
        hours = [bar for bar in bars if day <= bar[0] < day + DAY_MS]
        assert by_day[day][1:] == [hours[0][1], max(bar[2] for bar in hours), min(bar[3] for bar in hours), hours[-1][4]]


@pytest.mark.parametrize(
    ("path", "params", "status", "code", "data"),
    [
        (CHAIN, {}, 400, -32602, {"reason": "value required", "param": "currency"}),
        (CHAIN, {"currency": "DOGE"}, 400, -32602, {"reason": "invalid currency", "param": "currency"}),
        (CHAIN, {"currency": "BTC", "kind": "swap"}, 400, -32602, {"reason": "invalid kind", "param": "kind"}),
        (DVOL, {"currency": "BTC"}, 400, -32602, {"reason": "value required", "param": "start_timestamp"}),
        (
            DVOL,
            {"currency": "BTC", "start_timestamp": "soon", "end_timestamp": 1, "resolution": 3600},
            400,
            -32602,
            {"reason": "must be an integer", "param": "start_timestamp"},
        ),
        (
            DVOL,
            {"currency": "BTC", "start_timestamp": 0, "end_timestamp": 1, "resolution": 7},
            400,
            -32602,
            {"reason": "invalid resolution", "param": "resolution"},
        ),
        ("buy", {}, 404, -32601, None),
    ],
)
def test_refusals_are_errors_of_the_protocol(hosts, path, params, status, code, data):
    said = told(hosts, f"/public/{path}", status, **params)
    assert "result" not in said
    assert (said["error"]["code"], said["error"].get("data")) == (code, data)
    assert said["testnet"] is False


def test_other_kinds_and_stablecoins_hold_nothing_here(hosts):
    assert told(hosts, f"/public/{CHAIN}", currency="USDC", kind="option")["result"] == []
    assert told(hosts, f"/public/{CHAIN}", currency="BTC", kind="future_combo")["result"] == []
    assert told(hosts, "/public/get_time")["result"] == NOW_MS


def test_faults_find_the_rows_inside_the_envelope(hosts):
    """What a fault does to the rows of a chain or an index is put aside with a reason, row by row."""
    series = {one.instrument: one for one in DERIBIT.plan(Window(NOW - 8 * HOUR, NOW - HOUR / 8), [], NOW)}
    for instrument, reasons in (
        ("BTC", {"missing_field": "SHAPE", "null_value": "SHAPE", "shift": "STAMP", "duplicate_page": "", "gap": "", "extra_field": ""}),
        ("BTC-DVOL", {"missing_field": "SHAPE", "null_value": "SHAPE", "shift": "STAMP", "wrong_unit": "VALUE"}),
    ):
        (ask,) = DERIBIT.asks(series[instrument])
        clean = hosts["deribit.api"].answer(Query(ask.path, dict(ask.params))).body
        count = DERIBIT.decode(ask, Answer(200, clean, NOW, JSON)).rows
        for kind, reason in reasons.items():
            params = {"field": "mark_iv"} if kind in ("missing_field", "null_value") and instrument == "BTC" else {}
            decoded = DERIBIT.decode(ask, Answer(200, spoil_rows(kind, params, clean), NOW, JSON))
            rows = {"duplicate_page": 2 * count, "gap": count - max(1, count // 4)}.get(kind, count)
            assert decoded.rows == rows, kind
            found = {reject.reason_code for reject in decoded.rejects}
            assert found == ({reason} if reason else set()), kind
            assert bool(decoded.notes) is (kind == "extra_field")


# -- the simulated options


def test_a_chain_is_a_function_of_seed_and_instant(market):
    again, other, later = at("2026-11-22T13:07"), at("2026-11-22T13:07", seed=8), SimulatedMarket(7, frozen(utc("2026-12-24T00:00")))
    later.now_ms = lambda: NOW_MS  # a path that was computed further
    for coin in ("BTC", "ETH"):
        one = market.option_chain(coin)
        for same in (again.option_chain(coin), later.option_chain(coin)):
            assert same.expiry_ms.tobytes() == one.expiry_ms.tobytes()
            assert all(same[name].tobytes() == one[name].tobytes() for name in one.columns)
        assert other.option_chain(coin)["open_interest"].sum() != one["open_interest"].sum()


@pytest.mark.parametrize("when", ["2025-01-03T09:00", "2025-09-26T07:59", "2025-09-26T08:00", "2026-03-31T23:55", "2026-11-22T13:07"])
def test_a_chain_looks_like_a_chain(when):
    market = at(when)
    now = market.now_ms()
    for coin, total in (("BTC", 380_000), ("ETH", 2_100_000)):
        chain = market.option_chain(coin)
        expiries = sorted(set(chain.expiry_ms.tolist()))
        assert 10 <= len(expiries) <= 14
        assert all(expiry > now and expiry % DAY_MS == 8 * HOUR_MS for expiry in expiries)
        assert 700 <= len(chain) <= 1700
        assert 0.2 * total < chain["open_interest"].sum() < 1.5 * total or when.startswith("2025-01")
        for name in ("open_interest", "volume", "mark", "volume_usd"):
            assert (chain[name] >= 0).all()
        assert ((chain["iv"] > 0.05) & (chain["iv"] < 6.0)).all()
        assert (chain["bid"] < chain["ask"])[~np.isnan(chain["bid"])].all()
        assert 0 < (chain["volume"] == 0).mean() < 0.8
        puts, calls = chain["open_interest"][~chain.call].sum(), chain["open_interest"][chain.call].sum()
        assert 0.2 < puts / calls < 1.5
        for expiry in expiries:
            here = chain.expiry_ms == expiry
            strikes = np.unique(chain["strike"][here])
            assert 2 * len(strikes) == here.sum(), "a call and a put at every strike"
            assert strikes[0] < chain["index"][0] < strikes[-1]
            iv = chain["iv"][here & chain.call]
            assert iv[0] > iv.min() or not DAY_MS < expiry - now < 60 * DAY_MS, "puts out of the money are dearer than the cheapest"
            mark = chain["mark"][here & chain.call]
            assert (np.diff(mark) <= 1e-6).all(), "a call is worth less the higher its strike"


def test_a_strike_that_is_listed_stays_until_its_expiry():
    clock = [to_ms(utc("2026-01-10T09:00"))]
    market = SimulatedMarket(7, lambda: clock[0])
    hosts, before, lost = venues(market, lambda: 0.0, 1e9), set(), 0
    while clock[0] > to_ms(utc("2025-10-01")):  # backwards: the path is computed once
        names = {row["instrument_name"] for row in told(hosts, f"/public/{CHAIN}", currency="BTC")["result"]}
        later = from_ms(clock[0] + 17 * HOUR_MS)
        gone = names - before if before else set()
        assert all(option(name).expires_on + 8 * HOUR <= later for name in gone)
        before, lost = names, lost + len(gone)
        clock[0] -= 17 * HOUR_MS
    assert lost > 1000


def strip_volatility(chain, expiry):
    """Fair variance of one expiry from its out-of-the-money quotes (Cboe VIX white paper): the square root, p.a."""
    here = chain.expiry_ms == expiry
    years = (expiry - chain.at_us / 1000) / (365 * DAY_MS)
    forward = chain["forward"][here][0]
    price = dict(zip(zip(chain["strike"][here], chain.call[here], strict=True), chain["mark"][here] * forward, strict=True))
    strikes = np.unique(chain["strike"][here])
    width = np.gradient(strikes)
    below = strikes[strikes <= forward][-1]
    quotes = [
        (price[strike, True] + price[strike, False]) / 2 if strike == below else price[strike, bool(strike > forward)] for strike in strikes
    ]
    total = 2.0 / years * float(np.sum(width / strikes**2 * np.array(quotes))) - (forward / below - 1.0) ** 2 / years
    return math.sqrt(total), years


@pytest.mark.parametrize("coin", ["BTC", "ETH"])
def test_the_index_is_the_thirty_day_strip_of_its_own_chain(coin):
    """METHODOLOGY's OP.9 alerts at two points between the ingested index and one's own strip: on this market it sounds rarely, in stress,
    when the listed strikes end before the smile does."""
    clock = [NOW_MS]
    market, differences = SimulatedMarket(7, lambda: clock[0]), []
    for _ in range(60):
        chain = market.option_chain(coin)
        strips = [strip_volatility(chain, expiry) for expiry in sorted(set(chain.expiry_ms.tolist()))]
        months = [(years * 365, iv * iv * years) for iv, years in strips if 5 < years * 365 < 130]
        own = math.sqrt(float(np.interp(30.0, *zip(*months, strict=True))) * 365 / 30.0)
        differences.append(100 * own - market.volatility_index(coin, HOUR_MS, clock[0] - HOUR_MS, clock[0])["close"][-1])
        clock[0] -= 241 * HOUR_MS
    assert abs(np.mean(differences)) < 0.6
    assert np.mean(np.abs(differences) < 2.0) > 0.9
    assert np.max(np.abs(differences)) < 6.0


def test_implied_volatility_follows_the_path_and_is_dearer_on_average(market):
    dvol = market.volatility_index("BTC", DAY_MS, GENESIS_MS, NOW_MS)["close"]
    bars = market.bars("BTCUSDT", 300_000, GENESIS_MS, NOW_MS)
    returns = np.log(bars["close"] / bars["open"])[: len(dvol) * 288 - 288].reshape(-1, 288)
    daily = np.sqrt((returns**2).sum(axis=1) * 365) * 100
    week = np.convolve(daily, np.ones(7) / 7, mode="valid")
    assert np.corrcoef(week, dvol[6 : 6 + len(week)])[0, 1] > 0.7
    assert 1.0 < dvol.mean() / daily.mean() < 1.5


def test_falls_make_puts_dear_and_stress_inverts_the_term_structure(market):
    states = market._smiles["BTC"]
    path = np.log(market._paths["BTCUSDT"].columns["close"])
    four_days = path[4 * 288 :] - path[: -4 * 288]
    skew = states[options.SURFACE.index("skew")][4 * 288 :]
    assert skew[four_days < -0.08].mean() < skew[abs(four_days) < 0.02].mean() < skew[four_days > 0.08].mean()
    short, long = options.at_the_money(0.019, states, 7.0), options.at_the_money(0.019, states, 90.0)
    calm, stressed = states[0] < 0.9, states[0] > 2.5
    assert (short < long)[calm].mean() > 0.8
    assert (short > long)[stressed].mean() > 0.8


# -- premium bars


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "SOLUSDT"])
def test_settled_funding_is_the_clamped_average_of_the_premium_bars(hosts, market, symbol):
    start = NOW_MS // DAY_MS * DAY_MS - 5 * DAY_MS
    page = told(
        hosts, "/fapi/v1/premiumIndexKlines", host="binance.fapi", symbol=symbol, interval="5m", startTime=start, endTime=NOW_MS, limit=1500
    )
    closes = np.array([float(row[4]) for row in page])[: 15 * FUNDING_STEPS]
    expected = funding_rate(premium_average(closes.reshape(15, FUNDING_STEPS)), market.contract(symbol).cap)
    settled = market.settlements(symbol, start + HOUR_MS, start + 5 * DAY_MS + HOUR_MS)
    assert np.allclose(settled["rate"], expected, rtol=0, atol=2e-8)
    assert settled["rate"].std() > 0


def test_premium_bars_have_the_documented_form_and_add_up(hosts):
    path = "/fapi/v1/premiumIndexKlines"
    hours = told(hosts, path, host="binance.fapi", symbol="ETHUSDT", interval="1h", limit=200)
    fives = told(hosts, path, host="binance.fapi", symbol="ETHUSDT", interval="5m", limit=1500)
    shown = told(hosts, "/fapi/v1/premiumIndex", host="binance.fapi", symbol="ETHUSDT")
    assert len(hours) == 200
    for row in hours:
        assert [type(value).__name__ for value in row] == ["int", *["str"] * 5, "int", "str", "int", "str", "str", "str"]
        assert row[6] - row[0] == HOUR_MS - 1
        assert float(row[3]) <= min(float(row[1]), float(row[4])) <= max(float(row[1]), float(row[4])) <= float(row[2])
    for row in hours[-100:-1]:
        inside = [one for one in fives if row[0] <= one[0] < row[0] + HOUR_MS]
        assert (row[1], row[4]) == (inside[0][1], inside[-1][4])
        assert float(row[2]) == max(float(one[2]) for one in inside)
    now = float(shown["markPrice"]) / float(shown["indexPrice"]) - 1.0
    assert float(fives[-1][4]) == pytest.approx(now, abs=2e-8), "the same premium as the mark shows"
    assert hosts["binance.fapi"].answer(Query(path, {"symbol": "ETHUSDT", "interval": "7h"})).status == 400


def test_nothing_of_options_and_premiums_is_shown_before_it_happened(market):
    far = NOW_MS + 30 * DAY_MS
    for coin in ("BTC", "ETH"):
        assert market.option_chain(coin).at_us <= NOW_MS * 1000
        assert market.volatility_index(coin, HOUR_MS, 0, far).at[-1] <= NOW_MS
    assert market.premium_bars("BTCUSDT", HOUR_MS, 0, far).at[-1] <= NOW_MS
    early = at("2026-05-01T00:00")
    for rows, then in (
        (market.volatility_index("BTC", HOUR_MS, 0, to_ms(utc("2026-05-01")) - 1), early.volatility_index("BTC", HOUR_MS, 0, far)),
        (market.premium_bars("SOLUSDT", HOUR_MS, 0, to_ms(utc("2026-05-01")) - 1), early.premium_bars("SOLUSDT", HOUR_MS, 0, far)),
    ):
        assert rows.at.tobytes() == then.at.tobytes()
        assert all(rows[name].tobytes() == then[name].tobytes() for name in rows.columns)
    assert market.option_chain("SOL") is None
    assert len(market.volatility_index("SOL", HOUR_MS, 0, far)) == 0
