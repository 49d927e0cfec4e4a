"""Loading: duplicates counted, restatements kept, and the outcome independent of the order of loading."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.restated import RELEASE, SOURCE, changes
from transforms.revisions import complete, known, merge
from transforms.rulings import released
from transforms.schema import content_sha256, empty
from transforms.sources.contract import table_of
from transforms.tables import TABLES
from transforms.windows import utc

SUPPLY = TABLES["stablecoin_supply"]
DAY = utc("2026-05-01")

#: one answer: (hour of asking, {day: value})
ANSWERS = st.lists(
    st.tuples(st.integers(1, 200), st.dictionaries(st.integers(0, 4), st.sampled_from([1.0, 2.0, 3.0]), min_size=1)),
    min_size=1,
    max_size=6,
    unique_by=lambda answer: answer[0],
)


def rows_of(answer):
    hour, values = answer
    as_of = [DAY + timedelta(days=day) for day in values]
    decoded = table_of(
        "stablecoin_supply",
        {
            "source": ["defillama"] * len(values),
            "stablecoin": ["USDT"] * len(values),
            "as_of": as_of,
            "known_at": [stamp + timedelta(hours=24) for stamp in as_of],
            "circulating_usd": list(values.values()),
        },
    )
    asked = pa.array([DAY + timedelta(hours=hour)] * len(values), type=pa.timestamp("us", tz="UTC"))
    return complete(SUPPLY, decoded, pa.array([f"{hour:064x}"] * len(values)), asked)


def load(answers):
    stored, duplicates = empty(SUPPLY), 0
    for answer in answers:
        merged = merge(SUPPLY, stored, rows_of(answer))
        stored, duplicates = merged.rows, duplicates + merged.duplicates
    return stored, duplicates


def in_order(answers):
    return sorted(answers, key=lambda answer: answer[0])


@given(ANSWERS)
@settings(max_examples=60, deadline=None)
def test_any_grouping_gives_the_same_history(answers):
    one_by_one, counted = load(in_order(answers))
    at_once = merge(SUPPLY, empty(SUPPLY), pa.concat_tables([rows_of(answer) for answer in answers]))
    assert content_sha256(SUPPLY, one_by_one) == content_sha256(SUPPLY, at_once.rows)
    assert one_by_one.num_rows + counted == sum(len(values) for _, values in answers)


@given(ANSWERS, st.randoms())
@settings(max_examples=60, deadline=None)
def test_whatever_the_order_no_value_is_lost_and_the_sum_holds(answers, chance):
    shuffled = list(answers)
    chance.shuffle(shuffled)
    stored, counted = load(shuffled)
    assert stored.num_rows + counted == sum(len(values) for _, values in answers)
    said = {(day, value) for _, values in answers for day, value in values.items()}
    kept = zip(stored.column("as_of").to_pylist(), stored.column("circulating_usd").to_pylist(), strict=True)
    assert {((as_of - DAY).days, value) for as_of, value in kept} == said


@given(ANSWERS)
@settings(max_examples=40, deadline=None)
def test_loading_again_changes_nothing_and_counts_every_row_as_duplicate(answers):
    stored, _ = load(in_order(answers))
    for answer in answers:
        again = merge(SUPPLY, stored, rows_of(answer))
        assert again.rows.equals(stored)
        assert again.duplicates == len(answer[1])
        assert not again.fresh.any()


def test_a_restatement_is_a_new_row_known_when_we_saw_it():
    stored, _ = load([(30, {0: 1.0}), (60, {0: 2.0}), (90, {0: 1.0})])
    assert stored.column("revision").to_pylist() == [0, 1, 2]
    assert stored.column("circulating_usd").to_pylist() == [1.0, 2.0, 1.0]
    assert stored.column("known_at").to_pylist() == [DAY + timedelta(hours=h) for h in (24, 60, 90)]


def test_fresh_marks_exactly_the_new_rows():
    stored, _ = load([(30, {0: 1.0, 1: 1.0})])
    merged = merge(SUPPLY, stored, rows_of((60, {1: 2.0, 2: 5.0})))
    assert merged.rows.num_rows == 4
    assert np.count_nonzero(merged.fresh) == 2
    assert set(merged.rows.filter(pa.array(merged.fresh)).column("circulating_usd").to_pylist()) == {2.0, 5.0}


@given(ANSWERS, st.randoms())
@settings(max_examples=60, deadline=None)
def test_stored_rows_stay_and_every_arrival_is_fresh_or_duplicate(answers, chance):
    """The accounting of a load: arrived = fresh + duplicates, even when an older answer only confirms what a newer one said."""
    shuffled = list(answers)
    chance.shuffle(shuffled)
    stored = empty(SUPPLY)
    for answer in shuffled:
        merged = merge(SUPPLY, stored, rows_of(answer))
        assert len(answer[1]) == int(merged.fresh.sum()) + merged.duplicates
        kept = merged.rows.filter(pa.array(~merged.fresh))
        assert kept.column("raw_sha256").to_pylist() == stored.column("raw_sha256").to_pylist()
        stored = merged.rows


@given(ANSWERS, st.integers(0, 320))
@settings(max_examples=100, deadline=None)
def test_known_is_what_a_lake_that_had_stopped_then_would_show(answers, hour):
    """Of each key one row, the newest that was known; never one from after; and the later answers change nothing about it."""
    at = DAY + timedelta(hours=hour)
    stored, _ = load(in_order(answers))
    stopped, _ = load([answer for answer in in_order(answers) if answer[0] <= hour])
    assert known(SUPPLY, stored, at, held=True).equals(known(SUPPLY, stopped, at, held=True))

    found = known(SUPPLY, stored, at)
    expected = {}
    for row in stored.to_pylist():
        if row["known_at"] <= at and row["revision"] >= expected.get(row["as_of"], row)["revision"]:
            expected[row["as_of"]] = row
    assert found.to_pylist() == [expected[as_of] for as_of in sorted(expected)]
    assert all(row["known_at"] <= at for row in found.to_pylist())
    asked = {row["as_of"] for row in stopped.to_pylist()}
    mine = [row for row in found.to_pylist() if row["as_of"] in asked]
    assert mine == known(SUPPLY, stopped, at).to_pylist(), "also without `held`, for whatever had been asked for by then"


@given(ANSWERS, st.integers(0, 320), st.integers(0, 320))
@settings(max_examples=60, deadline=None)
def test_what_was_known_is_never_forgotten_and_a_release_changes_nothing_before_it(answers, hour, release):
    """A row that is released at an instant is the newest from then on and is not there before."""
    stored, _ = load(in_order(answers))
    moment = DAY + timedelta(hours=500 + release)
    merged = merge(SUPPLY, stored, released(rows_of((200 + release, {0: 7.0})), moment)).rows
    at = DAY + timedelta(hours=hour)
    assert known(SUPPLY, merged, at).equals(known(SUPPLY, stored, at))
    assert known(SUPPLY, merged, moment - timedelta.resolution).equals(known(SUPPLY, stored, moment - timedelta.resolution))
    (row,) = [row for row in known(SUPPLY, merged, moment).to_pylist() if row["as_of"] == DAY]
    assert (row["circulating_usd"], row["known_at"], row["flags"]) == (7.0, moment, "RELEASED")
    early, late = sorted((hour, release))
    keys = [known(SUPPLY, merged, DAY + timedelta(hours=h)).column("as_of").to_pylist() for h in (early, late)]
    assert set(keys[0]) <= set(keys[1])


@given(ANSWERS)
@settings(max_examples=60, deadline=None)
def test_changes_are_the_steps_from_each_version_to_the_next(answers):
    stored, _ = load(in_order(answers))
    found = changes(SUPPLY, stored)
    rows = {(row["as_of"], row["revision"]): row["circulating_usd"] for row in stored.to_pylist()}
    told = {(one["as_of"], one["revision"]): (one["value_before"], one["value_after"]) for one in found}
    assert told == {(as_of, n): (repr(rows[as_of, n - 1]), repr(value)) for (as_of, n), value in rows.items() if n > 0}
    known_at = [one["known_at"] for one in found]
    assert known_at == sorted(known_at, reverse=True)
    assert changes(SUPPLY, stored, 2) == found[:2]


@pytest.mark.parametrize(("before", "after", "relative"), [(100.0, 107.0, 0.07), (-4.0, -3.0, -0.25), (8.0, 0.0, -1.0), (0.0, 3.0, None)])
def test_a_change_says_from_what_to_what_by_how_much_and_since_when(before, after, relative):
    """Of nothing there is no share."""
    stored, _ = load([(30, {0: before}), (60, {0: after, 1: 5.0})])
    (one,) = changes(SUPPLY, stored)
    assert one["relative_change"] == (None if relative is None else pytest.approx(relative))
    assert (one["table_name"], one["column_name"], one["key_text"]) == (
        "stablecoin_supply",
        "circulating_usd",
        "source=defillama stablecoin=USDT",
    )
    assert (one["as_of"], one["revision"], one["cause"]) == (DAY, 1, SOURCE)
    assert (one["known_at_before"], one["known_at"]) == (DAY + timedelta(hours=24), DAY + timedelta(hours=60))
    assert (one["raw_sha256_before"], one["raw_sha256"]) == (f"{30:064x}", f"{60:064x}")
    assert one["date"] == (DAY + timedelta(hours=60)).date()


def test_what_a_release_put_where_nothing_was_is_a_change_from_nothing():
    moment = DAY + timedelta(hours=90)
    stored = merge(SUPPLY, empty(SUPPLY), released(rows_of((30, {0: 7.0})), moment)).rows
    (one,) = changes(SUPPLY, stored)
    assert (one["value_before"], one["value_after"], one["relative_change"], one["cause"]) == ("", "7.0", None, RELEASE)
    assert (one["known_at_before"], one["known_at"], one["raw_sha256_before"]) == (moment, moment, "")
