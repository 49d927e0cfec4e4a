"""Quarantine as a person uses it, on the real lake: release and reject, what is remembered, and what the index makes of it."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from expectations.verdict import Verdict
from plugins import cli, deriving, gate, ledger, recorder, restatements, steps
from plugins.catalog import connect, known
from plugins.errors import DecisionRefused, NotFound
from plugins.fetcher import Fetched
from plugins.lake import Lake
from plugins.quarantine import Choice, decide, listing, still_open
from transforms.roster import source as source_of
from transforms.schema import content_sha256
from transforms.sources.contract import Answer, Disposition, Instrument
from transforms.spec import SPEC
from transforms.tables import tables
from transforms.windows import DAY, Window, utc

pytestmark = pytest.mark.stack

SPAN = Window(utc("2026-05-01"), utc("2026-05-05"))
DAYS = [utc(f"2026-05-0{day}") for day in (2, 3, 4, 5)]


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


ASKED = at("2026-05-06T00:00:00")


def answered(lake, source, series, body, asked=ASKED, run_id="r", host=""):
    """Store an answer as a fetch would have, and return its bundle."""
    (ask,) = source_of(source).asks(series)
    answer = Answer(200, json.dumps(body).encode() if not isinstance(body, bytes) else body, asked, {"Content-Type": "application/json"})
    ask = replace(ask, host=host or ask.host)
    return recorder.store(lake, source, [Fetched(ask, answer, Disposition("accept"), 1)], run_id)


def klines(lake, changes=(), asked=ASKED, run_id="r", price=100.0, host="", move=0.01):
    """Hourly bars of BTCUSDT over a day; `changes`: hour -> fields."""
    source = source_of("binance")
    window = Window(DAYS[0], DAYS[0] + DAY)
    (series,) = [
        one
        for one in source.plan(window, [Instrument("BTCUSDT", "binance", "BTC", 1.0)], at("2026-05-04T00:00:00"))
        if one.endpoint == "klines"
    ]
    rows = []
    for hour in range(24):
        opened = int(window.start.timestamp()) * 1000 + hour * 3_600_000
        now = round(price + move * hour, 2)
        volume = f"1{hour}" if move else "10"
        extremes = [str(now), str(now + 2), str(now - 2), str(now + 1)]
        row = [opened, *extremes, volume, opened + 3_599_999, str(round(int(volume) * now, 2)), 5, "4", str(4 * now), "0"]
        for place, value in dict(changes).get(hour, {}).items():
            row[place] = value
        rows.append(row)
    return answered(lake, "binance", series, rows, asked, run_id, host)


def accounts(lake):
    """Rows in = core + quarantine + duplicates over all loads; a release moves rows from quarantine to core."""
    for row in lake.read("outcomes", where={"step": ("load", "decide")}).to_pylist():
        assert row["rows_decoded"] == row["rows_core"] + row["rows_quarantined"] + row["rows_duplicate"], row
        assert min(row["rows_core"], row["rows_quarantined"], row["rows_duplicate"]) >= 0, row
    core = sum(lake.read(table.name, columns=["date"]).num_rows for table in tables("core"))
    told = lake.read("outcomes", where={"step": ("load", "decide")}).column("rows_core").to_pylist()
    assert core == sum(told)


def bars(lake, **where):
    return sorted(lake.read("candles", where=where or None).to_pylist(), key=lambda row: (row["as_of"], row["revision"]))


#: place of the high in a kline; a bar whose high lies below its close fails CLOSE_ABOVE_HIGH and OPEN_ABOVE_HIGH
HIGH = 2
BROKEN = {5: {HIGH: "100.5"}}


def test_a_released_row_is_a_new_revision_known_from_its_release_on(pipeline):
    lake = pipeline()
    bundle = klines(lake, BROKEN)
    steps.load([bundle], "k", "first")
    (entry,) = still_open(lake)
    assert (entry.target, entry.reason_code, entry.instrument) == ("candles", "EXPECTATION", "BTCUSDT")
    assert len(bars(lake)) == 23
    text = listing(lake, Choice(), 5)
    assert entry.quarantine_id[:16] in text
    assert "CLOSE_ABOVE_HIGH" in text
    assert bundle[0] in text
    before = ledger.partitions(lake)

    began = datetime.now(UTC)
    done = decide(lake, Choice(quarantine_id=entry.quarantine_id[:8]), "release", "the venue confirmed the bar", "ana", "run-1")
    assert done.rows == {"candles": 1}
    (row,) = [row for row in bars(lake) if "RELEASED" in row["flags"]]
    assert row["as_of"] == entry.at
    assert row["high_usd"] == 100.5
    assert row["raw_sha256"] == entry.raw_sha256
    assert row["fetched_at"] == ASKED
    assert row["known_at"] >= began, "never earlier than its release: no look-ahead"
    after = ledger.partitions(lake)
    assert [key for key in after if after[key] != before.get(key)] == [("candles", "binance", done.days["candles"][0])]
    assert still_open(lake) == []
    (said,) = lake.read("decisions").to_pylist()
    assert (said["decision"], said["decision_reason"], said["decided_by"], said["quarantine_id"]) == (
        "release",
        "the venue confirmed the bar",
        "ana",
        entry.quarantine_id,
    )

    # the same bytes again, from the store and asked anew: nothing returns to quarantine, nothing enters twice
    held = bars(lake)
    for bundles in (bundle, klines(lake, BROKEN, at("2026-05-07T00:00:00"), "r2")):
        counts = steps.load([bundles], "k", "again")
        assert (counts["rows_decoded"], counts["rows_duplicate"], counts["rows_core"]) == (24, 24, 0)
    assert bars(lake) == held
    assert still_open(lake) == []
    accounts(lake)


def test_deciding_twice_or_on_the_unknown_says_what_was_found_and_what_to_do(pipeline):
    lake = pipeline()
    steps.load([klines(lake, BROKEN)], "k", "first")
    (entry,) = still_open(lake)
    with pytest.raises(DecisionRefused, match="needs a reason"):
        decide(lake, Choice(entry.quarantine_id), "release", "  ", "ana", "r")
    with pytest.raises(NotFound, match=r"no entry has it.*make quarantine"):
        decide(lake, Choice("00000000000"), "release", "why", "ana", "r")
    with pytest.raises(NotFound, match="at least 8"):
        decide(lake, Choice(entry.quarantine_id[:3]), "release", "why", "ana", "r")
    with pytest.raises(NotFound, match="table=funding"):
        decide(lake, Choice(table="funding"), "release", "why", "ana", "r")
    with pytest.raises(DecisionRefused, match="either an id or filters"):
        decide(lake, Choice(), "release", "why", "ana", "r")
    decide(lake, Choice(entry.quarantine_id), "release", "why", "ana", "run-1")
    again = decide(lake, Choice(entry.quarantine_id), "release", "why", "ana", "run-1")
    assert again.entries == [], "Airflow tries a task again: what its first try did is done"
    for decision in ("release", "reject"):
        with pytest.raises(DecisionRefused, match=r"release was decided on .* by ana .*asking the source again"):
            decide(lake, Choice(entry.quarantine_id), decision, "why", "ana", "run-2")
    assert lake.read("decisions").num_rows == 1


def test_a_filter_releases_no_rivals_and_overrules_no_later_word(pipeline):
    """Two versions of one bar, released at one moment, would be ordered by their hashes; and what was mended since would be undone unseen."""
    lake = pipeline()
    for day, high in ((6, "100.5"), (7, "100.6")):
        steps.load([klines(lake, {5: {HIGH: high}}, at(f"2026-05-0{day}T00:00:00"), f"r{day}")], "k", high)
    older, newer = sorted(still_open(lake), key=lambda one: one.fetched_at)
    assert older.at == newer.at
    with pytest.raises(DecisionRefused, match="claims the same key"):
        decide(lake, Choice(table="candles"), "release", "why", "ana", "run-1")
    decide(lake, Choice(older.quarantine_id), "reject", "an early word", "ana", "run-2")
    steps.load([klines(lake, {}, at("2026-05-08T00:00:00"), "r8")], "k", "mended")
    mended = bars(lake)
    assert len(mended) == 24
    with pytest.raises(DecisionRefused, match="said otherwise since, asked 2026-05-08 00:00 UTC"):
        decide(lake, Choice(table="candles"), "release", "why", "ana", "run-3")
    assert bars(lake) == mended
    decide(lake, Choice(newer.quarantine_id), "release", "the venue confirmed this very bar", "ana", "run-4")
    assert [row["high_usd"] for row in bars(lake) if row["as_of"] == newer.at] == [mended[5]["high_usd"], 100.6]
    accounts(lake)


def test_a_rejected_row_stays_out_for_good(pipeline, monkeypatch):
    """Also when the gate would take it: the row is put aside again, its window is no longer open."""
    lake = pipeline()
    bundle = klines(lake, BROKEN)
    steps.load([bundle], "k", "first")
    (entry,) = still_open(lake)
    decide(lake, Choice(source="binance", table="candles", reason_code="EXPECTATION"), "reject", "a test bar", "ana", "run-1")
    assert still_open(lake) == []
    put_aside = lake.read("quarantine").num_rows

    gate.warm()
    monkeypatch.setattr(gate, "gate", lambda given: {name: Verdict(name, rows) for name, rows in given.items()})
    counts = steps.load([bundle], "k", "again")
    assert (counts["rows_core"], counts["rows_quarantined"], counts["rows_duplicate"]) == (0, 1, 23)
    assert lake.read("quarantine").num_rows == put_aside, "the same answer's row is on record once"
    counts = steps.load([klines(lake, BROKEN, at("2026-05-07T00:00:00"), "r2")], "k", "anew")
    assert (counts["rows_core"], counts["rows_quarantined"]) == (0, 1)
    assert len(bars(lake)) == 23
    assert still_open(lake) == []
    with pytest.raises(DecisionRefused, match="a rejection is for good"):
        decide(lake, Choice(entry.quarantine_id), "release", "second thoughts", "ana", "run-2")
    accounts(lake)


def test_a_part_that_a_decoder_put_aside_is_decoded_again(pipeline):
    """A quantity outside its limits never became a row: the released one is what the decoder makes of the answer without that check."""
    lake = pipeline()
    bundle = klines(lake, {3: {5: "-4"}, 7: {5: "-5"}})
    counts = steps.load([bundle], "k", "first")
    assert counts["rows_quarantined"] == 2
    (coverage,) = lake.read("coverage").to_pylist()
    assert not coverage["complete"]
    three, seven = sorted(still_open(lake), key=lambda one: one.row_json)
    assert three.endpoint == "klines"
    with pytest.raises(DecisionRefused, match=r"Nothing was released.*TAKER_ABOVE_VOLUME"):
        decide(lake, Choice(three.quarantine_id), "release", "why", "ana", "run-1")
    assert len(bars(lake)) == 22
    decide(lake, Choice(three.quarantine_id), "reject", "no volume is negative", "ana", "run-2")
    decide(lake, Choice(seven.quarantine_id), "reject", "no volume is negative", "ana", "run-3")
    steps.load([klines(lake, {3: {5: "-4"}, 7: {5: "-5"}}, at("2026-05-07T00:00:00"), "r2")], "k", "again")
    assert still_open(lake) == [], "asked again, the same rows are not open again"
    newest = max(lake.read("coverage").to_pylist(), key=lambda row: row["recorded_at"])
    assert (newest["refused"], newest["missing"]) == (0, 2), "what a person decided about is no reason to ask again"
    accounts(lake)


def supply(lake, values, asked, run_id="r"):
    """Daily supply of all stablecoins; `values`: one per day."""
    source = source_of("defillama")
    series = next(one for one in source.plan(SPAN, [], ASKED) if one.instrument == "ALL")
    points = zip([SPAN.start, *DAYS], values, strict=True)
    body = [
        {"date": str(int(day.timestamp())), "totalCirculating": {"peggedUSD": value}, "totalCirculatingUSD": {"peggedUSD": value}}
        for day, value in points
    ]
    return answered(lake, "defillama", series, body, asked, run_id)


def test_a_part_of_an_answer_that_came_twice_with_the_same_bytes_is_released(pipeline):
    """The bytes lie in two bundles, stored in either order; the entry is a part of the one that was fetched last."""
    lake = pipeline()
    values = [1e11, 1.1e11, -5.0, 1.3e11, 1.4e11]
    first, second = supply(lake, values, ASKED), supply(lake, values, at("2026-05-06T08:00:00"), "r2")
    assert first != second
    steps.load([first], "k", "first")
    steps.load([second], "k", "second")
    steps.load([supply(lake, values, at("2026-05-06T04:00:00"), "r3")], "k", "between")
    (entry,) = still_open(lake)
    assert f"in {bundle_of(lake, entry)}" in listing(lake, Choice(), 5)
    decide(lake, Choice(entry.quarantine_id), "release", "why", "ana", "run-1")
    assert -5.0 in lake.read("stablecoin_supply").column("circulating_usd").to_pylist()


def bundle_of(lake, entry):
    """The bundle of the entry's own answer."""
    held = lake.read("raw_answers", where={"raw_sha256": [entry.raw_sha256]}).to_pylist()
    (bundle,) = [row["bundle"] for row in held if row["fetched_at"] == entry.fetched_at]
    return bundle


def test_a_released_part_is_covered_and_a_later_word_of_the_source_outranks_it(pipeline):
    """Value by value: what was restated before the release stays as it was known, what comes after it is the next revision."""
    lake = pipeline()
    odd, mended = [1e11, 1.1e11, -5.0, 1.3e11, 1.4e11], [1e11, 1.1e11, 1.2e11, 1.3e11, 1.4e11]
    first = supply(lake, odd, ASKED)
    steps.load([first], "k", "first")
    (entry,) = still_open(lake)
    assert (entry.endpoint, entry.reason_code) == ("stablecoincharts", "VALUE")
    steps.load([supply(lake, mended, at("2026-05-08T00:00:00"))], "k", "mended")

    def history():
        rows = lake.read("stablecoin_supply").to_pylist()
        (day,) = {row["as_of"] for row in rows if row["circulating_usd"] == 1.2e11}
        return sorted((row for row in rows if row["as_of"] == day), key=lambda row: row["revision"])

    (before,) = history()
    decide(lake, Choice(entry.quarantine_id), "release", "a redemption beyond issue, the issuer says", "ana", "run-1")
    assert [row["circulating_usd"] for row in history()] == [1.2e11, -5.0]
    assert history()[0] == before, "what was known before the release is as it was"
    assert history()[1]["known_at"] > before["known_at"]

    counts = steps.load([first], "k", "replayed")
    assert (counts["rows_core"], counts["rows_quarantined"]) == (0, 0)
    steps.load([supply(lake, mended, at("2030-01-01T00:00:00"))], "k", "denied")
    assert [row["circulating_usd"] for row in history()] == [1.2e11, -5.0, 1.2e11]
    steps.load([supply(lake, odd, at("2030-01-02T00:00:00"))], "k", "said again")
    assert [row["circulating_usd"] for row in history()] == [1.2e11, -5.0, 1.2e11, -5.0]
    assert [row["known_at"].year for row in history()][2:] == [2030, 2030]
    assert [row["flags"] for row in history()] == ["", "RELEASED", "", "RELEASED"]
    assert still_open(lake) == []
    newest = max(lake.read("coverage").to_pylist(), key=lambda row: row["recorded_at"])
    assert (newest["refused"], newest["missing"]) == (0, 0)
    steps.load([first], "k", "replayed twice")
    assert len(history()) == 4
    accounts(lake)


def test_the_index_follows_a_release_and_no_bar_before_it_changes(pipeline):
    """What the Dag does: decide, derive the day and those after it, publish; the report shows what is still open."""
    lake = pipeline(HOURLY_ASSETS="BTC")
    steps.load([klines(lake, {5: {HIGH: "100.5"}, 9: {HIGH: "100.5"}})], "k", "first")
    five, nine = sorted(still_open(lake), key=lambda one: one.at)
    steps.derive("k", "derived")
    index = tables("index")
    before = {table.name: content_sha256(table, lake.read(table.name)) for table in index}
    assert lake.read("readings").num_rows
    assert deriving.plans(lake, SPEC) == []

    what = {"quarantine_id": five.quarantine_id, "source": "", "table": "", "first": None, "last": None}
    assert steps.decide(what, "release", "the venue confirmed it", "ana", "run-1") == {"decided": 1, "candles": 1}
    (plan,) = deriving.plans(lake, SPEC)
    assert min(plan.inputs) == five.at.date()
    counts = steps.follow("run-1")
    assert counts["rows_published"] > 0
    assert {table.name: content_sha256(table, lake.read(table.name)) for table in index} == before, "a bar used what was released later"
    assert deriving.plans(lake, SPEC) == []
    page = lake.get("report/index.html").decode()
    assert "1 open" in page
    assert nine.quarantine_id[:16] in page
    assert five.quarantine_id[:16] not in page


def test_what_was_known_is_one_answer_in_sql_and_in_python(pipeline):
    lake = pipeline()
    for day, value in (("2026-05-06", 1.2e11), ("2026-05-08", 1.3e11)):
        steps.load([supply(lake, [1e11, 1.1e11, value, 1.3e11, 1.4e11], at(f"{day}T00:00:00"))], "k", day)
    for moment in ("2026-05-03T12:00:00", "2026-05-07T00:00:00", "2026-05-09T00:00:00"):
        mine = known(lake, "stablecoin_supply", at(moment)).to_pylist()
        connection = connect(lake)
        query = f"SELECT as_of, circulating_usd, revision FROM known.stablecoin_supply(TIMESTAMPTZ '{moment}Z') ORDER BY as_of"
        told = connection.sql(query).fetchall()
        assert [row[1:] for row in told] == [(row["circulating_usd"], row["revision"]) for row in mine]
        assert [row[0].timestamp() for row in told] == [row["as_of"].timestamp() for row in mine]
        connection.close()
    assert max(row["revision"] for row in mine) == 1


def test_revisions_say_what_changed_and_why(pipeline):
    lake = pipeline(HOURLY_ASSETS="BTC")
    for day, value in (("2026-05-06", 1.2e11), ("2026-05-08", 1.3e11), ("2026-05-09", 1.3e11)):
        steps.load([supply(lake, [1e11, 1.1e11, value, 1.3e11, 1.4e11], at(f"{day}T00:00:00"))], "k", day)
    steps.load([klines(lake, BROKEN)], "k", "broken")
    (entry,) = still_open(lake)
    steps.decide({"quarantine_id": entry.quarantine_id}, "release", "the venue confirmed it", "ana", "run-1")
    steps.publish("k", "published")
    rows = lake.read("revisions").to_pylist()
    (restated,) = [row for row in rows if row["table_name"] == "stablecoin_supply"]
    assert (restated["column_name"], restated["value_before"], restated["value_after"]) == (
        "circulating_usd",
        "120000000000.0",
        "130000000000.0",
    )
    assert (restated["revision"], restated["cause"]) == (1, "restated by source")
    assert restated["relative_change"] == pytest.approx(1 / 12)
    assert restated["known_at"] == at("2026-05-08T00:00:00")
    assert restated["raw_sha256"] != restated["raw_sha256_before"]
    freed = {row["column_name"]: row["value_after"] for row in rows if row["cause"] == "released from quarantine"}
    assert freed["high_usd"] == "100.5"
    assert len(rows) == 1 + len(freed)
    page = lake.get("report/revisions.md").decode()
    assert "| circulating_usd | 120000000000.0 | 130000000000.0 | +0.0833 | restated by source |" in page
    assert "released from quarantine" in page
    assert "restated by source" in lake.get("report/index.html").decode()
    snapshot = lake.iceberg("revisions").metadata.current_snapshot_id
    steps.publish("k", "again")
    assert lake.iceberg("revisions").metadata.current_snapshot_id == snapshot, "nothing changed: nothing is written"


def test_b5_other_bytes_in_the_same_file_of_an_archive_are_named_as_republished(pipeline):
    lake = pipeline()
    for day, price, host in (("2026-05-06", 100.0, "archive"), ("2026-05-07", 101.0, "archive"), ("2026-05-08", 102.0, "fapi")):
        steps.load([klines(lake, {}, at(f"{day}T00:00:00"), price=price, host=host)], "k", day)
    causes = {(row["revision"], row["cause"]) for row in restatements.refresh(lake).to_pylist()}
    assert causes == {(1, "republished archive"), (2, "restated by source")}


def test_the_commands_list_decide_and_look_back(pipeline, monkeypatch, tmp_path, capsys):
    lake = pipeline(HOURLY_ASSETS="BTC")
    steps.load([klines(lake, BROKEN)], "k", "first")
    (entry,) = still_open(lake)
    monkeypatch.setattr(cli, "lake_of", lambda _options: nullcontext(lake))
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)  # the handlers of this process stay pytest's

    def said(*arguments, code=0):
        assert cli.main(["--home", str(tmp_path), *arguments]) == code
        told = capsys.readouterr()
        return told.out if code == 0 else told.err

    assert entry.quarantine_id[:16] in said("quarantine", "--table", "candles")
    assert "Nothing is open in quarantine that fits." in said("quarantine", "--reason", "VALUE")
    assert "needs a reason" in said("decide", "release", "--id", entry.quarantine_id, code=1)
    assert "ID is missing" in said("decide", "reject", "--why", "because", code=1)
    told = said("decide", "release", "--id", entry.quarantine_id[:10], "--why", "the venue confirmed it", "--who", "ana")
    assert "1 in candles" in told
    assert "derived and published" in told
    assert said("quarantine") == "Nothing is open in quarantine.\n"
    assert "23 rows" in said("known", "--at", "2026-05-10T00:00", "--table", "candles")
    assert "24 rows" in said("known", "--at", "2099-01-01T00:00", "--table", "candles")
    assert "use one of" in said("known", "--at", "2026-05-10T00:00", "--table", "outcomes", code=1)
    assert "is no instant" in said("known", "--at", "noon", "--table", "candles", code=1)


def test_killed_between_any_two_commits_a_release_can_run_again(pipeline, monkeypatch):
    lake = pipeline()
    steps.load([klines(lake, BROKEN)], "k", "first")
    (entry,) = still_open(lake)
    real = Lake._commit
    for survive in range(10):
        done = 0

        def dying(self, name, write, survive=survive):
            nonlocal done
            if done == survive:
                raise KeyboardInterrupt(name)
            done += 1
            real(self, name, write)

        monkeypatch.setattr(Lake, "_commit", dying)
        try:
            decide(lake, Choice(entry.quarantine_id), "release", "why", "ana", "run-1")
        except KeyboardInterrupt:
            continue
        finally:
            monkeypatch.setattr(Lake, "_commit", real)
        break
    assert survive >= 3
    assert len([row for row in bars(lake) if "RELEASED" in row["flags"]]) == 1
    assert lake.read("decisions").num_rows == 1
    known = ledger.partitions(lake)
    table = next(table for table in tables("core") if table.name == "candles")
    for (source, day), (_, sha) in ledger.hash_days(table, lake.read("candles"), "source").items():
        assert known["candles", source, day][0] == sha
