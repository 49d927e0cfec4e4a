"""What is asked again and what is not: coverage, look-back of hashes, and settings that say who is asked."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins import deriving, ledger
from plugins.errors import ConfigurationError
from plugins.settings import Settings
from transforms.roster import DAILY_ASSETS
from transforms.roster import source as source_of
from transforms.sources.contract import Instrument, Series
from transforms.spec import SPEC
from transforms.windows import DAY, HOUR, Window, utc

BINANCE = source_of("binance")
BTC = Instrument("BTCUSDT", "binance", "BTC")
GENESIS = utc("2026-05-01")
ENVIRONMENT = {
    "TIDEGAUGE_MARKET": "simulated",
    "TIDEGAUGE_SANDBOX_URL": "http://127.0.0.1:1",
    "TIDEGAUGE_S3_BUCKET": "b",
    "TIDEGAUGE_S3_ACCESS_KEY": "a",
    "TIDEGAUGE_S3_SECRET_KEY": "s",
    "TIDEGAUGE_CATALOG_URL": "sqlite://",
}


def hours(start: int, end: int) -> Window:
    return Window(GENESIS + start * HOUR, GENESIS + end * HOUR)


SPANS = st.tuples(st.integers(0, 40), st.integers(1, 12)).map(lambda one: hours(one[0], one[0] + one[1]))


@given(st.lists(SPANS, max_size=8), st.lists(SPANS, max_size=8), SPANS)
def test_the_open_part_and_what_is_covered_leave_nothing_out(first, second, asked):
    """Whatever windows overlap, leave holes or lie elsewhere: an hour that is not asked is covered for every instrument."""
    known = {("klines", "A"): sorted(first), ("klines", "B"): sorted(second), ("other", "A"): [asked]}
    part = ledger.open_part(Series("binance", "klines", "A,B", asked, HOUR), known)
    stamps = set(asked.grid(HOUR)) - set(part.window.grid(HOUR) if part else [])
    for windows in (first, second):
        assert all(any(stamp in window for window in windows) for stamp in stamps)
    assert part is None or part.window.end == asked.end


def planned(now: str) -> list[Series]:
    return list(BINANCE.plan(Window(utc("2026-04-01"), utc(now)), [BTC], utc(now)))


def test_days_that_rest_gave_are_not_asked_again_from_the_archive():
    """The archive's ratios have more digits than REST's shares: the same instant would read like a restatement."""
    known: dict[tuple[str, str], list[Window]] = {}
    for one in planned("2026-05-10"):
        known.setdefault((one.endpoint, one.instrument), []).append(one.window)

    def open_archive(known):
        twins = ledger.with_twins(known, BINANCE.twins)
        return [part.window for one in planned("2026-05-20") if one.endpoint == "archiveMetrics" and (part := ledger.open_part(one, twins))]

    assert open_archive(known) == []
    del known["topLongShortPositionRatio", "BTCUSDT"]  # one of the four did not come: the archive must give it
    assert open_archive(known) == [Window(utc("2026-04-10T01:00"), utc("2026-04-20T01:00"))]


def test_the_input_hash_reaches_as_far_as_the_derivation_reads():
    """The hourly look-back ends in the middle of a day, and that day's partition is read."""
    day = date(2026, 5, 1)
    back = deriving.lookback(SPEC, "1h")
    assert back % timedelta(days=1), "the case that matters: a look-back that is no whole number of days"
    oldest = (Window.day(day).start - back).date()

    def hashed(sha):
        known = {("candles", "binance", oldest): (sha, ""), ("candles", "binance", day): ("same", "")}
        return deriving.inputs_hashes(known, SPEC, "1h", Window.day(day))[day]

    assert hashed("one") != hashed("two")


@pytest.mark.parametrize(
    ("now", "until"),
    [("2026-05-28T08:00:05", "2026-05-28T07:00"), ("2026-05-28T08:06", "2026-05-28T08:00"), ("2026-05-28T00:04", "2026-05-27T23:00")],
)
def test_an_hour_is_asked_once_its_venue_had_time_to_publish_it(now, until):
    settings = Settings.read(ENVIRONMENT | {"TIDEGAUGE_NOW": now})
    assert settings.spans_of("binance")[-1].end == utc(until)


@pytest.mark.parametrize(
    ("name", "value"), [("SOURCES", "binanse"), ("BUDGET_SCALE", "fast"), ("SPANS", "{"), ("NOW", "soon"), ("MARKET", "x")]
)
def test_a_setting_nobody_can_mean_is_one_plain_sentence(name, value):
    with pytest.raises(ConfigurationError, match=f"TIDEGAUGE_{name}"):
        Settings.read(ENVIRONMENT | {f"TIDEGAUGE_{name}": value})


def test_a_live_market_asks_the_daily_source_for_a_roster_and_others_for_all():
    live = {name: value for name, value in ENVIRONMENT.items() if name != "TIDEGAUGE_SANDBOX_URL"} | {"TIDEGAUGE_MARKET": "live"}
    assert Settings.read(live).daily_assets == DAILY_ASSETS
    assert Settings.read(live | {"TIDEGAUGE_DAILY_ASSETS": "BTC"}).daily_assets == ("BTC",)
    assert Settings.read(ENVIRONMENT).daily_assets == ()


def test_a_source_that_rewrites_its_history_is_asked_again_for_as_long_as_it_does():
    now, week = utc("2026-05-20"), timedelta(days=7)
    whole = Window(utc("2026-05-01"), utc("2026-05-19"))
    known = {("flows", "btc"): [whole], ("bars", "btc"): [whole]}
    left = ledger.without_rewritten(known, {"flows": week}, now)
    assert left == {("flows", "btc"): [Window(whole.start, now - week)], ("bars", "btc"): [whole]}
    assert ledger.without_rewritten({("flows", "btc"): [Window(utc("2026-05-14"), utc("2026-05-19"))]}, {"flows": week}, now) == {
        ("flows", "btc"): []
    }
    series = Series("coinmetrics", "flows", "btc", Window(utc("2026-05-10"), utc("2026-05-20")), DAY)
    part = ledger.open_part(series, left)
    assert part is not None
    assert part.window == Window(now - week, utc("2026-05-20"))
