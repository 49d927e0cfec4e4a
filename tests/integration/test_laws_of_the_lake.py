"""Split equals whole, nothing lost, idempotence: on the real lake, through the same steps that the Dags call."""

from __future__ import annotations

import itertools
import random

import pytest

from plugins import ledger, steps
from plugins.lake import Lake
from plugins.publishing import PREFIX, PUBLISHED
from transforms.schema import content_sha256
from transforms.tables import tables

pytestmark = pytest.mark.stack

SPANS = {"*": [["2026-07-20", "2026-07-24"]]}
DAYS = [f"2026-07-{day}" for day in (20, 21, 22, 23)]
#: across a midnight and an 08:00 settlement
NIGHT = {"*": [["2026-07-21T22:00", "2026-07-22T09:00"]]}
HOURS = [f"2026-07-21T{hour}" for hour in (22, 23)] + [f"2026-07-22T{hour:02d}" for hour in range(9)]


def ingest(keys, sources=("binance", "coinalyze", "defillama", "alternative_me")):
    counts = []
    for key in keys:
        bundles = [steps.fetch(source, key, f"test-{key}") for source in sources]
        if any(bundles):
            counts.append(steps.load(bundles, key, f"test-{key}"))
    return counts


def contents(lake, layer):
    return {table.name: content_sha256(table, lake.read(table.name)) for table in tables(layer) if not table.snapshot}


def mirror(lake):
    return {key: tag for key, tag in lake.keys(f"{PREFIX}/").items() if key.endswith(".parquet")}


def test_a_range_in_pieces_in_any_order_equals_the_whole(pipeline, monkeypatch):
    monkeypatch.setattr(steps, "LOOK_BACK", {})  # pieces that share nothing
    whole = pipeline(SPANS=SPANS)
    ingest(["2026-07"])
    steps.derive("2026-07", "whole")
    steps.publish("2026-07", "whole")
    expected = contents(whole, "core"), contents(whole, "index"), mirror(whole)
    assert whole.read("readings").num_rows > 0
    dense = {"features", "contributions", "readings"}  # the others hold what is rare: days without an event have no file
    assert len(expected[2]) >= len(DAYS) * len(dense & set(PUBLISHED))

    pieces = pipeline(SPANS=SPANS)
    shuffled = list(DAYS)
    random.Random(7).shuffle(shuffled)
    for key in shuffled:
        ingest([key])
        steps.derive(key, f"piece-{key}")
        steps.publish(key, f"piece-{key}")
    assert contents(pieces, "core") == expected[0]
    assert contents(pieces, "index") == expected[1]
    assert mirror(pieces) == expected[2]


def test_live_hour_by_hour_equals_backfilled(pipeline):
    whole = pipeline(SPANS=NIGHT)
    ingest(["2026-07"])
    steps.derive("2026-07", "whole")
    expected = contents(whole, "core"), contents(whole, "index")
    assert whole.read("readings").num_rows >= 3 * len(HOURS)

    hourly = pipeline(SPANS=NIGHT)
    ingest(["2026-07-21", "2026-07-22"], sources=("coinalyze", "defillama", "alternative_me"))
    for number, key in enumerate(HOURS):
        ingest([key], sources=("binance",))
        if number % 5 == 2:
            steps.derive(key, f"hour-{key}")
    steps.derive("last", "last")
    assert contents(hourly, "core") == expected[0]
    assert contents(hourly, "index") == expected[1]


def test_nothing_is_lost_and_a_second_load_adds_nothing(pipeline):
    lake = pipeline(SPANS=SPANS)
    bundles = [steps.fetch(source, "2026-07", "first") for source in ("binance", "coinalyze", "defillama", "alternative_me")]
    first = steps.load(bundles, "2026-07", "first")
    assert first["rows_decoded"] == first["rows_core"] + first["rows_quarantined"] + first["rows_duplicate"]
    assert first["rows_core"] == sum(lake.read(table.name, columns=["date"]).num_rows for table in tables("core"))
    before = contents(lake, "core"), lake.read("quarantine").num_rows
    again = steps.load(bundles, "2026-07", "second")
    assert again["rows_core"] == 0
    assert again["rows_decoded"] == again["rows_duplicate"] + again["rows_quarantined"]
    assert (contents(lake, "core"), lake.read("quarantine").num_rows) == before


def test_what_is_complete_is_not_asked_again_and_what_is_unchanged_not_derived_again(pipeline):
    lake = pipeline(SPANS=SPANS)
    ingest(["2026-07"])
    steps.derive("2026-07", "first")
    asked = lake.read("raw_answers", columns=["url"]).num_rows
    assert not any(steps.fetch(source, "2026-07", "second") for source in ("binance", "coinalyze", "defillama", "alternative_me"))
    assert lake.read("raw_answers", columns=["url"]).num_rows == asked
    with pytest.raises(Exception, match="no day's inputs changed"):
        steps.derive("2026-07", "second")


def test_a_task_killed_between_any_two_commits_can_run_again(pipeline, monkeypatch):
    """Kill the load after every single commit in turn, run it again, and end with what an undisturbed load gives."""
    lake = pipeline(SPANS=SPANS)
    bundles = [steps.fetch(source, "2026-07-21", "r") for source in ("binance", "defillama")]
    steps.load(bundles, "2026-07-21", "r")
    expected = contents(lake, "core")
    commits = lake.read("partitions").num_rows
    assert commits > 0

    other = pipeline(SPANS=SPANS)
    bundles = [steps.fetch(source, "2026-07-21", "r") for source in ("binance", "defillama")]
    real = Lake._commit
    for survive in itertools.count():
        done = 0

        def dying(self, name, write, survive=survive):
            nonlocal done
            if done == survive:
                raise KeyboardInterrupt(name)
            done += 1
            real(self, name, write)

        monkeypatch.setattr(Lake, "_commit", dying)
        try:
            steps.load(bundles, "2026-07-21", f"attempt-{survive}")
        except KeyboardInterrupt:
            continue
        finally:
            monkeypatch.setattr(Lake, "_commit", real)
        break
    assert survive > 3
    assert contents(other, "core") == expected
    known = ledger.partitions(other)
    for table in tables("core"):
        rows = other.read(table.name)
        for (source, day), (_, sha) in ledger.hash_days(table, rows, "source").items():
            assert known[table.name, source, day][0] == sha, f"the ledger does not know {table.name} {source} {day} as it is"
