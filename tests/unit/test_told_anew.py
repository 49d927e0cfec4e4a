"""Versions of one history, made by hand: histories told anew, and files that overlap by their 00:00."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.test_detectors import LAG, START, core
from transforms.detectors import Inputs
from transforms.detectors.vintages import DuplicatedMidnight, InventedHistory
from transforms.reading import to_us
from transforms.schema import arrow_schema
from transforms.tables import TABLES
from transforms.windows import DAY, HOUR

#: when the first answer was asked for, and the second: all days of either are settled by then
FIRST, SECOND = START + 500 * DAY, START + 510 * DAY
WHO = {"venue": "deribit", "instrument": "BTC-DVOL", "asset": "BTC"}


def said(days, value, sha, asked, revision=0):
    """One answer's rows, as the merge keeps them: what is equal to the version before is left out by who calls."""
    given = {"implied_volatility": value, "raw_sha256": sha * 64, "fetched_at": asked, "known_at": asked, "revision": revision}
    return [WHO | given | {"as_of": START + day * DAY, "date": (START + day * DAY).date(), "n": 0} for day in days]


def invented(*answers):
    return InventedHistory().find(Inputs({"volatility_index": core("volatility_index", [row for one in answers for row in one])}, {}))


def spread(count, length):
    """`count` of `length` days, the first and the last among them."""
    return sorted({round(n) for n in np.linspace(0, length - 1, count)})


def test_one_answer_that_tells_another_history_is_named_with_its_hash():
    changed = [*range(-5, 0), *spread(20, 400)]
    (one,) = invented(said(range(400), 60.0, "a", FIRST), said(changed[:5], 70.0, "b", SECOND), said(changed[5:], 72.0, "b", SECOND, 1))
    assert (one.series, one.table, one.instrument, one.consequence) == (
        f"raw_sha256={'b' * 64}",
        "volatility_index",
        "BTC-DVOL",
        "quarantine",
    )
    assert (one.observed, one.expected, one.rows, one.known_at) == (72.0, 60.0, 25, to_us(SECOND))
    assert (one.window_start, one.window_end) == (to_us(START - 5 * DAY) - 1, to_us(START + 399 * DAY))
    assert "20 of 400 settled values" in one.detail
    assert "5 rows before their first" in one.detail


@pytest.mark.parametrize(("count", "length", "seen"), [(20, 400, 1), (19, 300, 0), (20, 401, 0), (21, 401, 1), (20, 30, 1)], ids=str)
def test_it_takes_twenty_values_and_a_twentieth_of_the_common_history(count, length, seen):
    assert len(spread(count, length)) == count
    assert len(invented(said(range(length), 60.0, "a", FIRST), said(spread(count, length), 72.0, "b", SECOND, 1))) == seen


def test_the_common_history_is_that_between_the_first_and_the_last_value_told_anew():
    changed = [400 + n for n in spread(20, 400)]
    assert len(invented(said(range(900), 60.0, "a", START + 910 * DAY), said(changed, 72.0, "b", START + 920 * DAY, 1))) == 1


@pytest.mark.parametrize(("value", "seen"), [(62.9, 0), (63.1, 1), (57.1, 0), (56.9, 1)])
def test_a_correction_within_a_twentieth_is_no_other_history(value, seen):
    assert len(invented(said(range(100), 60.0, "a", FIRST), said(range(100), value, "b", SECOND, 1))) == seen


@pytest.mark.parametrize(("young", "seen"), [(0, 1), (1, 0)])
def test_a_value_is_history_when_it_is_older_than_three_days(young, seen):
    """Of twenty changed days the newest ends exactly three days, or a microsecond more, before it is asked for again."""
    asked = START + (19 + 3) * DAY + (1 - young) * timedelta.resolution
    assert len(invented(said(range(20), 60.0, "a", START + 21 * DAY), said(range(20), 72.0, "b", asked, 1))) == seen


def test_who_returns_to_the_version_before_heals_and_who_returns_elsewhere_does_not():
    days = range(50)
    first, second = said(days, 60.0, "a", FIRST), said(days, 72.0, "b", SECOND, 1)
    for value, hashes in ((60.0, "b"), (62.0, "b"), (66.0, "bc"), (80.0, "bc")):
        found = invented(first, second, said(days, value, "c", SECOND + DAY, 2))
        assert "".join(one.series[-1] for one in found) == hashes, value


def test_changes_of_several_answers_are_not_added_up():
    days = spread(40, 400)
    parts = said(days[::2][:19], 72.0, "b", SECOND, 1), said(days[1::2][:19], 72.0, "c", SECOND + DAY, 1)
    assert invented(said(range(400), 60.0, "a", FIRST), *parts) == []


# -- files that overlap by their 00:00


def file(number, *, first=0, last=24, late=timedelta(0), sha=""):
    """Open interest of one day's file, hours `first` to `last` of the day; its 24:00 is the next day's 00:00."""
    who = {"venue": "binance", "instrument": "BTCUSDT", "asset": "BTC", "raw_sha256": (sha or str(number)) * 64, "late": late}
    return [who | {"n": 24 * number + hour, "open_interest_base": 1000.0} for hour in range(first, last + 1)]


def doubled(*files):
    rows = core("open_interest", [row for one in files for row in one])
    return DuplicatedMidnight().find(Inputs({}, {"open_interest": rows}))


def test_two_midnights_in_two_files_each_are_a_habit():
    (one,) = doubled(file(0), file(1), file(2))
    assert (one.table, one.instrument, one.consequence, one.series, one.rows) == ("open_interest", "BTCUSDT", "flag", "", 2)
    assert (one.window_start, one.window_end) == (to_us(START + DAY) - 1, to_us(START + 2 * DAY))
    assert (one.observed, one.expected, one.known_at) == (2.0, 0.0, to_us(START + 2 * DAY + LAG))
    assert doubled(file(0), file(1)) == [], "one is a re-download"
    assert doubled(file(0), file(1, first=1), file(2, first=1)) == [], "files that do not overlap"
    assert doubled(file(0), file(1, sha="0"), file(2, sha="0")) == [], "one answer"


def test_it_is_known_when_the_second_file_with_the_second_midnight_is():
    (one,) = doubled(file(0), file(1), file(2, last=0, late=timedelta(hours=9)), file(2, first=1, late=timedelta(hours=20)))
    assert one.known_at == to_us(START + 2 * DAY + LAG + 9 * HOUR)


def test_files_that_share_more_than_midnight_were_read_twice():
    assert doubled(file(0, last=25), file(1), file(2)) == []
    (one,) = doubled(file(0), file(1), file(2, last=25), file(3))
    assert one.rows == 3, "what comes after the proof changes nothing"


def test_a_series_that_has_nothing_but_midnights_overlaps_by_them_wherever_it_is_asked_for_again():
    """Daily rows, three days in two answers."""
    daily = {sha: [one for day in range(4) for one in file(day, last=0, sha=sha)] for sha in "ab"}
    assert doubled(*daily.values()) == []
    assert doubled(daily["a"], [row for day in range(4) for row in file(day, last=23, sha="c")]) == [], "hours beside days"


def test_another_contract_or_ratio_has_files_of_its_own():
    other = [row | {"instrument": "ETHUSDT"} for row in file(1)]
    assert doubled(file(0), other, file(2)) == []
    who = {"venue": "binance", "instrument": "BTCUSDT", "asset": "BTC", "long_share": 0.5}
    ratios = [
        who | {"ratio_metric": metric, "n": 24 * day + hour, "raw_sha256": f"{day}" * 64}
        for metric, first in (("top_accounts", 0), ("global_account", 1))
        for day in range(3)
        for hour in range(first, 25)
    ]
    rows = core("long_short", ratios)
    assert rows.schema == arrow_schema(TABLES["long_short"])
    (one,) = DuplicatedMidnight().find(Inputs({}, {"long_short": pa.table(rows)}))
    assert (one.series, one.rows) == ("ratio_metric=top_accounts", 2)
