"""Bad input through the real pipeline: real requests, a real lake, one kind of fault at a time.

Every kind must leave a reasoned record with its bytes, lose nothing, spare the other sources, be shown by coverage, and be healed by
asking again. What the gate of this step cannot see (a wrong unit or a moved stamp that still looks plausible) is written down here as
what happens today, not as what we wish.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import pytest
from tenacity import wait_random_exponential

from plugins import fetcher, loading, recorder, steps
from tests.integration.conftest import at_fault, empty_lakes
from transforms.schema import content_sha256
from transforms.spec import SPEC
from transforms.tables import TABLES, tables
from transforms.windows import HOUR, utc

pytestmark = pytest.mark.stack

#: half a day of files from the archive (older than the venue's 30 days) and 23 hours from REST, one settlement in three by each
SPANS = {"*": [["2026-07-01T12:00", "2026-07-03"]]}
KEY = "2026-07"
ASSETS = {"HOURLY_ASSETS": "BTC ETH", "DAILY_ASSETS": "BTC ETH"}
SOURCES = ("binance", "coinalyze", "defillama", "alternative_me")
CORE = [table for table in tables("core") if not table.snapshot]
#: what an envelope adds to a row; revision and known_at say when we learnt of it
LEARNT = ("revision", "known_at")

FAPI, FUTURES = "/binance.fapi/fapi/v1", "/binance.fapi/futures/data"
ARCHIVE = "/binance.archive"


@dataclass(frozen=True)
class Case:
    """One fault rule, the reason its rejects must carry (empty: nothing is rejected), and the (source, endpoint) pairs it spoils.

    Cases of one round strike one and the same load, each at an endpoint of its own.
    """

    round: int
    name: str
    kind: str
    path: str
    reason: str
    spoiled: frozenset[tuple[str, str]]
    #: what it may spoil as well: a ban stops the host, wherever the other requests are by then
    maybe: frozenset[tuple[str, str]]
    params: dict[str, object]
    count: int

    @property
    def rule(self) -> dict[str, object]:
        return {"kind": self.kind, "path": self.path, "params": self.params, "count": self.count}


def case(number, name, kind, path, reason="", spoiled="", *, count=0, maybe=frozenset(), **params):
    pairs = frozenset((source, endpoint) for source, endpoint in (one.split(".") for one in spoiled.split()))
    return Case(number, name, kind, path, reason, pairs, maybe, params, count)


REST = frozenset(
    ("binance", endpoint)
    for endpoint in (
        "fundingRate",
        "klines",
        "openInterestHist",
        "globalLongShortAccountRatio",
        "topLongShortAccountRatio",
        "topLongShortPositionRatio",
        "takerlongshortRatio",
    )
)
CASES = [
    case(1, "truncated", "truncate", f"{FUTURES}/openInterestHist", "TRUNCATED", "binance.openInterestHist"),
    case(1, "dropped connection", "drop", f"{FUTURES}/takerlong", "HTTP_EXHAUSTED", "binance.takerlongshortRatio"),
    case(1, "a web page", "html", "/alternative_me.api/", "CONTENT_TYPE", "alternative_me.fng"),
    case(1, "another content type", "content_type", "/coinalyze.api/v1/ohlcv", "CONTENT_TYPE", "coinalyze.ohlcv-history"),
    case(1, "a server error that stays (503)", "http", "/defillama", "HTTP_EXHAUSTED", "defillama.stablecoincharts", status=503),
    case(
        1,
        "a field is missing",
        "missing_field",
        f"{FUTURES}/globalLong",
        "SHAPE",
        "binance.globalLongShortAccountRatio",
        field="longAccount",
    ),
    case(1, "a null", "null_value", f"{FAPI}/klines", "SHAPE", "binance.klines"),
    case(1, "nulls where there is no grid", "null_value", f"{FAPI}/fundingRate", "SHAPE", "binance.fundingRate", field="fundingRate"),
    case(1, "checksum", "checksum", ARCHIVE, "CHECKSUM", "binance.archiveMetrics"),
    case(2, "time-out", "timeout", f"{FUTURES}/openInterestHist", "HTTP_EXHAUSTED", "binance.openInterestHist", seconds=3),
    case(2, "one field more", "extra_field", f"{FUTURES}/takerlong"),
    case(2, "a page twice", "duplicate_page", f"{FUTURES}/globalLong"),
    case(2, "a gap", "gap", f"{FUTURES}/topLongShortAccountRatio", "", "binance.topLongShortAccountRatio"),
    case(2, "a gap where there is no grid", "gap", f"{FAPI}/fundingRate", "", "binance.fundingRate"),
    case(2, "asked too fast once (429)", "http", f"{FAPI}/klines", count=1, status=429, retry_after=1),
    case(2, "a server error that passes (500)", "http", "/coinalyze.api/v1/open-interest", count=1, status=500),
    case(2, "zip bomb", "zip_bomb", ARCHIVE, "ARCHIVE", "binance.archiveMetrics", megabytes=32),
    case(3, "banned (418)", "http", f"{FAPI}/klines.*BTC", "HTTP_BANNED", "binance.klines", maybe=REST, status=418),
    case(3, "damaged zip", "bad_zip", ARCHIVE, "ARCHIVE", "binance.archiveMetrics"),
    case(
        3,
        "funding beyond any limit",
        "wrong_unit",
        "/coinalyze.api/v1/funding-rate",
        "VALUE",
        "coinalyze.funding-rate-history",
        field="c",
        factor=1e6,
    ),
]


def ingest(run_id, *, again=False):
    bundles = [steps.fetch(source, KEY, run_id, again=again) for source in SOURCES]
    return steps.load(bundles, KEY, run_id) if any(bundles) else None


def contents(lake, source=""):
    where = {"source": source} if source else None
    return {table.name: content_sha256(table, lake.read(table.name, where=where)) for table in CORE}


def rows(lake, table, *, without=()):
    """The rows of a core table as values, provenance left out."""
    names = [name for name in table.content if name not in without]
    return Counter(tuple(row[name] for name in names) for row in lake.read(table.name, columns=names).to_pylist())


def newest(lake, table):
    """The last revision of every row, as values without the columns that say when we learnt of it."""
    names = [name for name in table.content if name not in LEARNT]
    found = {}
    for row in sorted(lake.read(table.name).to_pylist(), key=lambda row: row.get("revision", 0)):
        found[tuple(row[name] for name in table.key)] = tuple(row[name] for name in names)
    return found


def incomplete(lake):
    """(source, endpoint) with a window whose newest word is not `complete`."""
    word = {}
    for row in sorted(lake.read("coverage").to_pylist(), key=lambda row: row["recorded_at"]):
        word[row["source"], row["endpoint"], row["instrument"], row["window_start"], row["window_end"]] = row["complete"]
    return {key[:2] for key, complete in word.items() if not complete}


def loads(lake, run_id):
    """The load step's outcome by source."""
    found = lake.read("outcomes", where={"step": "load", "run_id": run_id}).to_pylist()
    return {row["subject"].split("/")[0]: row for row in found}


def check_accounts(lake, run_id):
    """decoded = core + quarantined + duplicates, by source, and each count is what the tables hold."""
    aside = Counter(lake.read("quarantine", where={"run_id": run_id}).column("source").to_pylist())
    for source, row in loads(lake, run_id).items():
        assert row["rows_decoded"] == row["rows_core"] + row["rows_quarantined"] + row["rows_duplicate"], row
        held = sum(lake.read(table.name, columns=["source"], where={"source": source}).num_rows for table in tables("core"))
        assert row["rows_core"] == held
        assert row["rows_quarantined"] == aside[source]


def check_evidence(lake):
    """Every reject leads to the bytes it came from: manifest row, bundle, hash."""
    manifest = {}
    for row in lake.read("raw_answers").to_pylist():
        manifest.setdefault(row["raw_sha256"], row["bundle"])
    bodies = {}
    for row in lake.read("quarantine").to_pylist():
        assert row["detail"]
        sha = row["raw_sha256"]
        bundle = manifest[sha]
        if bundle not in bodies:
            stored = recorder.open_bundle(lake, bundle)
            bodies[bundle] = dict(zip(stored["raw_sha256"].to_pylist(), stored["body"].to_pylist(), strict=True))
        assert hashlib.sha256(bodies[bundle][sha]).hexdigest() == sha


def impatient(patch):
    """The fetcher as it is, with less patience."""
    patch.setattr(loading, "fetch", partial(fetcher.fetch, timeout=1.5, attempts=2))
    patch.setattr(fetcher, "BACKOFF", wait_random_exponential(multiplier=0.01, max=0.1))


@pytest.fixture(scope="module")
def undisturbed(services, tmp_path_factory):
    """What the same span gives without a fault: content hashes by table (and by source), and the rows themselves."""
    with pytest.MonkeyPatch.context() as patch:
        lake = empty_lakes(services, patch, tmp_path_factory.mktemp("undisturbed"))(SPANS=SPANS, **ASSETS)
        assert ingest("undisturbed")["rows_quarantined"] == 0
        assert not incomplete(lake)
        return {
            "contents": contents(lake),
            "by source": {source: contents(lake, source) for source in SOURCES},
            "rows": {table.name: rows(lake, table) for table in CORE},
            "newest": {table.name: newest(lake, table) for table in CORE},
        }


@dataclass(frozen=True)
class Round:
    """What one disturbed load left behind, and what asking again made of it."""

    struck: dict[str, int]
    quarantine: list[dict[str, object]]
    incomplete: set[tuple[str, str]]
    strange: dict[str, int]
    by_source: dict[str, dict[str, str]]
    loads: dict[str, dict[str, object]]
    healed: dict[str, str]
    still_incomplete: set[tuple[str, str]]
    asked_a_third_time: list[str]


@pytest.fixture(scope="module")
def rounds(services, tmp_path_factory, undisturbed):
    """Rounds by number, each played once: load under all its faults, check the accounts and the evidence, lift the faults, load again."""
    sandbox = services.environment["TIDEGAUGE_SANDBOX_URL"]
    played: dict[int, Round] = {}

    def play(number):
        mine = [one for one in CASES if one.round == number]
        with pytest.MonkeyPatch.context() as patch:
            impatient(patch)
            lake = empty_lakes(services, patch, tmp_path_factory.mktemp(f"round-{number}"))(SPANS=SPANS, **ASSETS)
            with at_fault(sandbox, *(one.rule for one in mine)) as struck:
                ingest("bad")
                counts = dict(zip((one.name for one in mine), struck(), strict=True))
            check_accounts(lake, "bad")
            check_evidence(lake)
            before = {
                "quarantine": lake.read("quarantine").to_pylist(),
                "incomplete": incomplete(lake),
                "strange": {t.name: (rows(lake, t) - undisturbed["rows"][t.name]).total() for t in CORE},
                "by_source": {source: contents(lake, source) for source in SOURCES},
                "loads": loads(lake, "bad"),
            }
            # stamps that are lacking from a whole answer count as the source's last word after some days: only `again` asks for them
            ingest("again", again=number == 2)
            third = [one for source in SOURCES for one in steps.fetch(source, KEY, "third")]
            return Round(counts, **before, healed=contents(lake), still_incomplete=incomplete(lake), asked_a_third_time=third)

    def known(number):
        if number not in played:
            played[number] = play(number)
        return played[number]

    return known


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_a_fault_is_recorded_and_shown_by_coverage(one, rounds):
    found = rounds(one.round)
    assert found.struck[one.name] > 0, "the fault never struck"
    assert one.spoiled <= found.incomplete
    reasons = {row["reason_code"] for row in found.quarantine if (row["source"], row["endpoint"]) in one.spoiled}
    assert reasons == ({one.reason} if one.reason else set())


@pytest.mark.parametrize("number", sorted({one.round for one in CASES}))
def test_a_disturbed_load_harms_nothing_and_is_healed(number, rounds, undisturbed):
    found = rounds(number)
    spoiled = frozenset().union(*(one.spoiled for one in CASES if one.round == number))
    maybe = frozenset().union(*(one.maybe for one in CASES if one.round == number))
    assert spoiled <= found.incomplete <= spoiled | maybe
    assert {(row["source"], row["endpoint"]) for row in found.quarantine} <= spoiled | maybe
    assert found.strange == {table.name: 0 for table in CORE}, "core holds rows that no undisturbed load gives"
    for source in set(SOURCES) - {source for source, _ in spoiled}:
        assert found.by_source[source] == undisturbed["by source"][source], f"{source} suffered from a fault elsewhere"
    assert found.healed == undisturbed["contents"]
    assert not found.still_incomplete
    assert not found.asked_a_third_time


def test_what_did_no_harm_is_on_record(rounds):
    """A field nobody announced, a page twice: both can be read in `outcomes`."""
    told = rounds(2).loads["binance"]
    assert "unannounced" in told["detail"]
    assert told["rows_duplicate"] >= 2 * 92


def test_a_refused_location_is_served_by_the_archive(pipeline, sandbox, undisturbed):
    """451 on all of REST, the list of contracts included, before any contract was ever listed."""
    lake = pipeline(SPANS=SPANS, **ASSETS)
    with at_fault(sandbox, {"kind": "http", "path": "/binance.[fd]api/", "params": {"status": 451}}):
        ingest("bad")
    # the archive's premiums are not read; what COIN-M lists is not known, so nothing of it is asked
    refused = REST | {("binance", name) for name in ("exchangeInfo", "coinExchangeInfo", "premiumIndexKlines")}
    check_accounts(lake, "bad")
    check_evidence(lake)
    aside = {(row["reason_code"], row["endpoint"]) for row in lake.read("quarantine").to_pylist()}
    assert {endpoint for reason, endpoint in aside if reason == "HTTP_BLOCKED"} == {endpoint for _, endpoint in refused}
    assert {(reason, endpoint) for reason, endpoint in aside if reason != "HTTP_BLOCKED"} == {("HTTP_STATUS", "archiveFundingRate")}
    assert incomplete(lake) == refused | {("binance", "archiveFundingRate")}, "the month's file of settlements is not out yet"
    (told,) = lake.read("outcomes", where={"step": "fetch", "subject": "binance"}).to_pylist()
    assert told["outcome"] == "partial"
    assert "its archive is asked instead" in told["detail"]
    # open interest and ratios are all there, to the archive's rounding; bars and taker volumes exist by REST only
    for name in ("open_interest", "long_short"):
        margined = {key for key in undisturbed["newest"][name] if not any(str(part).endswith("USD_PERP") for part in key)}
        assert set(newest(lake, TABLES[name])) == margined, "COIN-M has no archive here"
    for name in ("candles", "taker_flow"):
        assert "binance" not in lake.read(name).column("source").to_pylist()

    ingest("again")
    assert not incomplete(lake) & REST
    # where REST rounds otherwise than the archive, its rows are revisions: the last revision is what an undisturbed load gives
    for table in CORE:
        assert newest(lake, table) == undisturbed["newest"][table.name]


def test_a_thousandfold_open_interest_is_suspect_and_moved_stamps_are_restated(pipeline, sandbox, undisturbed):
    """Both look plausible row by row. The thousandfold is put aside whole: its own value in USD and the candles contradict it.

    Stamps of taker flow moved by whole hours have no second column to contradict them: what falls out of the window is put aside and the
    hours that are lacking are shown, the rest is believed; asking again restates it.
    """
    lake = pipeline(SPANS=SPANS, **ASSETS)
    with at_fault(
        sandbox,
        {"kind": "wrong_unit", "path": f"{FUTURES}/openInterestHist"},
        {"kind": "shift", "path": f"{FUTURES}/takerlong", "params": {"hours": 3}},
    ):
        ingest("bad")
    check_accounts(lake, "bad")
    check_evidence(lake)
    aside = Counter((row["endpoint"], row["reason_code"]) for row in lake.read("quarantine").to_pylist())
    assert aside == {("takerlongshortRatio", "STAMP"): 2 * 12, ("", "SUSPECT"): 2 * 92}
    assert {row["reason_code"] for row in lake.read("findings").to_pylist() if row["consequence"] == "quarantine"} == {"UNIT_BREAK"}
    assert incomplete(lake) == {("binance", "takerlongshortRatio")}
    strange = {table.name: rows(lake, table) - undisturbed["rows"][table.name] for table in CORE}
    assert {name for name, found in strange.items() if found} == {"taker_flow"}

    ingest("again", again=True)
    assert not incomplete(lake)
    for table in CORE:
        assert newest(lake, table) == undisturbed["newest"][table.name]
    assert {row["revision"] for row in lake.read("open_interest").to_pylist()} == {0}, "what was put aside was never there"
    restated = [row for row in lake.read("taker_flow").to_pylist() if row["revision"] == 1]
    assert restated
    assert all(row["known_at"] == row["fetched_at"] for row in restated), "a restatement is known when we see it, not before"


# -- the index while inputs are out

BEFORE, AFTER, LATER = "2026-07-26", "2026-07-31", "2026-07-31T12:00"
OUT = ("long_short_accounts_log", "long_short_top_positions_log")


def history(until):
    return {"binance": [["2026-06-20", until]], "defillama": [["2026-04-01", until]], "*": []}


def fill_and_derive(run_id):
    for key in ("2026-04", "2026-07"):
        bundles = [steps.fetch(source, key, run_id) for source in SOURCES]
        if any(bundles):
            steps.load(bundles, key, run_id)
    steps.derive("2026-07", run_id)


def bars(lake, table, *key):
    """Rows of an hourly index table in the outage, by `key`."""
    index = {"index_name": "S"} if table == "contributions" else {}
    found = lake.read(table, where={"cadence": "1h", "asset": "BTC", **index}).to_pylist()
    return {tuple(row[name] for name in key): row for row in found if utc(BEFORE) < row["as_of"] <= utc(AFTER)}


def test_the_index_degrades_by_rule(pipeline, sandbox, monkeypatch):
    """Ratios are out for five days: their last score is held, halved, forgotten; confidence falls; nothing else moves, S least of all to 50."""
    impatient(monkeypatch)
    whole = pipeline(SPANS=history(AFTER), HOURLY_ASSETS="BTC")
    fill_and_derive("whole")
    less = pipeline(SPANS=history(BEFORE), HOURLY_ASSETS="BTC")
    fill_and_derive("before")
    monkeypatch.setenv("TIDEGAUGE_SPANS", json.dumps(history(AFTER)))
    with at_fault(sandbox, {"kind": "http", "path": "/binance.[fd]api/futures/data/(globalLong|topLong)", "params": {"status": 503}}):
        fill_and_derive("outage")

    full, held = (bars(lake, "contributions", "feature", "as_of") for lake in (whole, less))
    assert set(full) == set(held)
    assert {key: row["weight"] for key, row in held.items()} == {key: row["weight"] for key, row in full.items()}
    said = ("score", "stale_factor", "contribution", "reason")
    for key, row in held.items():
        if key[0] not in OUT:
            assert [row[name] for name in said] == [full[key][name] for name in said]

    rule = SPEC.cadence("1h").stale
    for feature in OUT:
        mine = [row for (name, _), row in sorted(held.items()) if name == feature]
        assert mine[0]["score"] is not None
        for row in mine:
            age = (row["as_of"] - utc(BEFORE)) / HOUR
            if age >= rule.horizon_h:
                assert (row["score"], row["contribution"], row["stale_factor"]) == (None, 0.0, 0.0)
                assert row["reason"].startswith("missing: no input")
            else:
                assert row["score"] == mine[0]["score"]
                assert row["stale_factor"] == pytest.approx(2.0 ** (-max(0.0, age - rule.grace_h) / rule.half_life_h))
                assert row["reason"].startswith("stale")
        assert mine[0]["stale_factor"] == 1.0
        assert mine[-1]["contribution"] == 0.0

    sure, doubtful = (bars(lake, "readings", "as_of") for lake in (whole, less))
    assert set(sure) == set(doubtful)
    for at, row in doubtful.items():
        parts = [one["contribution"] for (_, when), one in held.items() if (when,) == at]
        assert row["s"] - 50 == pytest.approx(math.fsum(parts), abs=1e-9)
        lost = math.fsum(full[name, at[0]]["contribution"] - held[name, at[0]]["contribution"] for name in OUT)
        assert row["s"] == pytest.approx(sure[at]["s"] - lost, abs=1e-9)
        late = at[0] - utc(BEFORE) > timedelta(hours=rule.grace_h)
        assert row["confidence"] < sure[at]["confidence"] if late else row["confidence"] <= sure[at]["confidence"]
        assert "stale or missing" in row["reason"]
    assert any(abs(row["s"] - 50) > 1 for row in doubtful.values()), "S stayed near neutral anyhow: this says nothing"

    # then everything is out: S is carried for a few hours with less confidence, then withheld; it never becomes 50
    monkeypatch.setenv("TIDEGAUGE_SPANS", json.dumps(history(LATER)))
    everything = "/binance.[fd]api/([fd]api/v1/(klines|fundingRate)|futures)|/defillama"
    with at_fault(sandbox, {"kind": "http", "path": everything, "params": {"status": 503}}):
        fill_and_derive("dark")
    dark = less.read("readings", where={"cadence": "1h", "asset": "BTC"}).to_pylist()
    dark = {row["as_of"]: row for row in dark if row["as_of"] > utc(AFTER)}
    assert max(dark) == utc(LATER)
    assert dark[utc(LATER)]["s"] is dark[utc(LATER)]["band"] is None
    assert dark[utc(LATER)]["status"] == "withheld"
    assert "no venue" in dark[utc(LATER)]["reason"]
    trust = [dark[at]["confidence"] for at in sorted(dark)]
    assert trust == sorted(trust, reverse=True)
    assert not [row for row in dark.values() if row["s"] == 50.0]
