"""Real failures, each caught for its own reason and by nobody else; and recorded history, where there is nothing to catch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from tests.calibration import planting, recorded
from tests.calibration.detectors import PAGE, clean_lines
from transforms.detectors import find_all, suspect

pytestmark = [
    pytest.mark.recordings,
    pytest.mark.skipif(not recorded.SERIES.is_dir(), reason="the recordings are not beside this checkout (../shared/recordings)"),
]


def us(text):
    return pd.Timestamp(text, tz="UTC").value // 1000


def only(inputs, reason, consequence):
    """All findings; they have one reason and one consequence."""
    found = find_all(inputs)
    assert {one.reason_code for one in found} == {reason}
    assert {one.consequence for one in found} == {consequence}
    return found


def test_coinglass_put_funding_into_percent():
    inputs = recorded.unit_break()
    found = only(inputs, "UNIT_BREAK", "quarantine")
    assert {one.asset for one in found} == {"BTC", "DOGE", "ETH", "SOL", "XRP"}
    assert {one.factor for one in found} == {0.01}
    assert {one.window_start for one in found} == {us("2026-01-13")}, "the day of 2026-01-12 is the last sound one"
    table = inputs.tables["funding"]
    mask = suspect("funding", table, found)
    rate = table.column("funding_rate").to_numpy()
    when = table.column("as_of").to_pandas()
    assert (mask == (when > pd.Timestamp("2026-01-13", tz="UTC")).to_numpy()).all(), "from the break on, all rows and no other"
    assert np.median(np.abs(rate[mask])) * 0.01 == pytest.approx(np.median(np.abs(rate[~mask])), rel=1.0)


@pytest.mark.parametrize("inputs", [recorded.local_clock, recorded.local_clock_alone])
def test_settlements_stamped_in_local_time(inputs):
    inputs = inputs()
    found = only(inputs, "LABEL_SHIFT", "quarantine")
    told = inputs.tables["funding"]
    local = np.array([source == "coinalyze" for source in told.column("source").to_pylist()])
    assert (suspect("funding", told, found) == local).all(), "the local copy, whole; the venue's own rows are not suspected"


def test_binance_metrics_miss_the_crash_itself():
    found = only(recorded.missing_in_crash(), "MISSING_IN_CRASH", "flag")
    assert [(one.window_start, one.window_end) for one in found] == [
        (us("2021-05-19T11:25"), us("2021-05-19T11:40")),
        (us("2021-05-19T12:40"), us("2021-05-19T12:50")),
    ]


def test_a_total_below_its_part():
    inputs = recorded.partial_total()
    (one,) = only(inputs, "TOTAL_BELOW_PART", "quarantine")
    assert one.observed == pytest.approx(122.36e9, rel=1e-3)
    assert one.window_end == us("2026-07-15")
    assert suspect("stablecoin_supply", inputs.tables["stablecoin_supply"], [one]).sum() == 1


def test_an_invented_history_of_dvol():
    inputs = recorded.bad_vintage()
    (one,) = only(inputs, "INVENTED_HISTORY", "quarantine")
    table = inputs.tables["volatility_index"]
    invented = np.array([sha == "2" * 64 for sha in table.column("raw_sha256").to_pylist()])
    assert (suspect("volatility_index", table, [one]) == invented).all(), "the new answer's rows, none of the old"


def test_a11_a_feed_that_is_all_zero():
    inputs = recorded.dead_feed()
    found = only(inputs, "DEAD_FEED", "quarantine")
    assert len(found) == 5
    assert suspect("open_interest", inputs.tables["open_interest"], found).all()


def test_hyperliquid_funding_is_an_hour_away():
    inputs = recorded.shifted_hour()
    found = only(inputs, "LABEL_SHIFT", "quarantine")
    assert {one.instrument for one in found} == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    assert {one.source for one in found} == {"coinalyze"}


def test_a8_a_thousand_rows_of_a_year():
    found = only(recorded.cut_at_a_page(), "TRUNCATED_HISTORY", "flag")
    assert {one.instrument for one in found} == {"BTC", "DOGE", "ETH", "HYPE", "SOL"}
    assert {one.observed for one in found} == {1000.0}


def test_liquidated_sides_beside_their_total():
    found = only(recorded.sides_beside_total(), "SIDES_BESIDE_TOTAL", "flag")
    frame = pd.read_parquet(recorded.SERIES / "multivenue_1h_liquidation_volume.parquet")
    assert sum(one.rows for one in found) == sum((frame.long_usd + frame.short_usd) < 0.995 * frame.total_usd) > 30
    assert all(one.observed < one.expected for one in found)


#: false alarms that are allowed, by detector, over all clean data (331 instrument-years; docs/detectors.md says of which kind); a detector
#: that is not named has none. Those counted are real gaps of a feed in an extreme hour: flags, never a quarantine
ALLOWED = {"stale_in_stress": 3, "missing_in_crash": 4}


def test_clean_history_raises_no_alarm():
    """LUNA, FTX and the depegs of USDC are inside: extreme, and true."""
    counts = Counter(one.detector for clean in recorded.CLEAN.values() for one in find_all(clean().inputs))
    assert {name: count for name, count in counts.items() if count > ALLOWED.get(name, 0)} == {}


def test_nothing_of_clean_history_is_quarantined():
    found = [one for clean in recorded.CLEAN.values() for one in find_all(clean().inputs)]
    assert [one for one in found if one.consequence == "quarantine"] == []


def test_the_page_says_what_was_counted():
    page = PAGE.read_text(encoding="utf-8")
    assert [line for line in clean_lines() if line not in page] == []


#: share of planted defects that must be seen in one round; the page states three rounds. Where the data hold no proof there is none to see
SEEN = {"x0.5 from an instant on, no other venue": 0.0}


@pytest.mark.parametrize(
    "trial", [one for one in planting.TRIALS if one.data != "made-up market"], ids=lambda one: f"{one.detector}: {one.defect}, {one.data}"
)
def test_defects_planted_in_clean_history_are_seen(trial):
    seen, planted = planting.rate(trial, seeds=1)
    assert planted > 0
    assert seen >= SEEN.get(trial.defect, 0.95) * planted
