"""The report: says what it must, adds up, escapes what it did not write, stays small, and asks nobody for anything."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.payloads import EVENTS, RUNGS, bars, beyond, payload, rungs, thin
from plugins.publishing import report_data as report_data_of
from plugins.readings import Ladder, ReportData, Series, readings, series
from plugins.reports import DATA_DOCS, render
from plugins.wording import DISCLAIMER
from tests.unit.report_tables import HOSTILE, START, index_tables, many, report_data

MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data(days=60)


@pytest.fixture(scope="module")
def page(data: ReportData) -> str:
    return render(data)


class Page(HTMLParser):
    """Cells of the contributions by card and index, scripts by id, and all addresses a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cards: dict[str, dict[str, list[list[str]]]] = {}
        self.scripts: dict[str, str] = {}
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self._card: dict[str, list[list[str]]] | None = None
        self._rows: list[list[str]] | None = None
        self._script: str | None = None
        self._cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        have = dict(attrs)
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in {"src", "href", "srcset", "data", "action"} and value]
        if tag == "article":
            self._card = self.cards.setdefault(have["id"].removeprefix("card-"), {})
        elif tag == "section" and self._card is not None:
            self._rows = self._card.setdefault(have["data-index"], [])
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in {"td", "th"} and self._rows:
            self._cell = []
        elif tag == "script":
            self._script = have.get("id", "")

    def handle_endtag(self, tag):
        if tag == "article":
            self._card = None
        elif tag == "section":
            self._rows = None
        elif tag in {"td", "th"} and self._cell is not None:
            self._rows[-1].append(" ".join("".join(self._cell).split()))
            self._cell = None
        elif tag == "script":
            self._script = None

    def handle_data(self, text):
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + text
        elif self._cell is not None:
            self._cell.append(text)


def card_of(page: str, key: str) -> str:
    card = page[page.index(f'id="card-{key}"') :]
    return " ".join(card[: card.index("</article>")].split())


def points(text: str) -> float:
    return float(text.replace(MINUS, "-"))


def test_contributions_shown_add_up_to_the_shown_numbers(page, data):
    found = Page(page)
    assert list(found.cards) == ["MKT-1h", "BTC-1h", "ETH-1h", "SOL-1h"], "the market first"
    inputs = {"MKT": (2, 2, 2), "BTC": (11, 7, 3), "ETH": (11, 7, 3), "SOL": (11, 7, 3)}
    for reading in readings(data):
        for index, origin, count in zip("SFX", (50, 0, 0), inputs[reading.asset], strict=True):
            rows, constituents = found.cards[reading.key][index], reading.constituents[index]
            shown = [points(row[1]) for row in rows[1:-1]]
            assert len(shown) == len(constituents) == count
            assert round(sum(shown), 2) == points(rows[-1][1])
            assert f"{index} {origin + sum(shown):.2f} of 100" in card_of(page, reading.key), "the scale must state the same value"
            assert abs(origin + sum(shown) - reading.number(index)) < 0.005 + 1e-9
            assert all(abs(a - c.contribution) < 0.01 for a, c in zip(shown, constituents, strict=True))


def test_an_input_of_several_venues_is_one_row_that_names_them(page, data):
    reading = next(one for one in readings(data) if one.key == "ETH-1h")
    (split,) = [one for one in reading.constituents["S"] if one.venues]
    assert split.feature == "taker_imbalance"
    assert split.weight == pytest.approx(0.105)
    assert sum(points for _, points in split.venues) == pytest.approx(split.contribution, abs=1e-12)
    (row,) = [row for row in Page(page).cards["ETH-1h"]["S"] if "taker_imbalance" in row[0]]
    assert "by venue: binance" in row[0]
    assert ", bybit" in row[0]


def test_the_states_beside_the_numbers_are_said(page, data):
    for reading in readings(data):
        card, row = card_of(page, reading.key), reading.row
        for index in ("F", "X"):
            level = ("low", "moderate", "elevated", "high")[int(row[index.lower()] // 25)]
            assert f"<span>{level}</span>" in card
        assert "risk off" in card
        if reading.asset == "MKT":
            assert "no probability: not made for the market" in card
            assert "Regime" not in card
            continue
        assert f"<b>{row['regime'].replace('_', ' ')}</b> since {row['regime_since']:%Y-%m-%d %H:%M} UTC" in card
        why = f"enter {row['regime'].replace('_', ' ')}: open interest over 7 d (log) 0.0934 >= 0.08"
        assert reading.regime_reason in ("first bar with any input", why)
        assert reading.regime_reason.replace(">", "&gt;") in card
        assert '<b>4.1 %</b><div class="sub">base rate 2.0 %, Brier skill of past forecasts +0.120</div>' in re.sub("> <", "><", card)
        assert "<b>longs crowded</b>" in card


def test_events_are_listed_newest_first_with_their_record(page, data):
    told = next(one for one in readings(data) if one.key == "SOL-1h").events
    card = card_of(page, "SOL-1h")
    assert f"the newest 8 of {len(told)}" in card
    places = [card.index(f'<td class="nowrap">{event.at:%Y-%m-%d %H:%M}</td>') for event in told[:-9:-1]]
    assert places == sorted(places)
    newest = told[-1]
    assert newest.track_record in card
    assert f"{newest.reason}: 0.9, limit 0.8".replace(">", "&gt;") in card
    early = replace(data, events=data.events.filter(pc.less(data.events.column("n_hist"), 10)))
    assert card_of(render(early), "SOL-1h").count("no track record: ") == 8


def test_without_events_or_ladder_nothing_is_claimed(data):
    bare = replace(data, events=data.events.slice(0, 0), liquidation_levels=data.liquidation_levels.slice(0, 0))
    card = card_of(render(bare), "BTC-1h")
    assert "No event is on record for this series." in card
    assert "Latent liquidations" not in card


def test_the_ladder_is_called_a_model_and_hides_nothing(page, data):
    reading = next(one for one in readings(data) if one.key == "ETH-1h")
    ladder = reading.ladder
    card = card_of(page, "ETH-1h")
    assert '<b>Latent liquidations</b> <span class="tag market">MODEL</span>' in card
    assert f"shorts, {100 * ladder.short_share.sum():.1f} % of open interest in all" in card
    long, short = rungs(ladder)
    assert long[RUNGS:].sum() == short[:RUNGS].sum() == 0.0, "longs lie below the price, shorts above"
    outside = beyond(ladder)
    assert long.sum() + outside[0] == pytest.approx(ladder.long_share.sum(), rel=1e-12)
    assert short.sum() + outside[1] == pytest.approx(ladder.short_share.sum(), rel=1e-12)
    assert min(outside) > 0
    assert card_of(page, "MKT-1h").count("Latent liquidations") == 0


@given(
    st.lists(st.tuples(st.floats(0.5, 2.0), st.floats(0, 0.2), st.floats(0, 0.2)), min_size=1, max_size=40),
    st.floats(1e-6, 1e6, allow_subnormal=False),
)
def test_rungs_lose_no_mass(levels, price):
    level, long, short = (np.array(column) for column in zip(*levels, strict=True))
    ladder = Ladder(START, price, level * price, long, short)
    drawn, outside = rungs(ladder), beyond(ladder)
    for side, share in enumerate((long, short)):
        assert drawn[side].sum() + outside[side] == pytest.approx(share.sum(), abs=1e-9)
        assert len(re.findall("M0 ", bars(drawn[side], 1.0))) == int((drawn[side] > 0).sum())


def test_outliers_are_listed_with_what_became_of_them(page, data):
    assert "Beyond the outlier gate (2)" in page
    for words in ("<td>set aside</td>", "<td>used: no second venue</td>", "binance ETHUSDT", "<td>open interest</td>"):
        assert words in page
    assert "No input was beyond it" in render(replace(data, outliers=data.outliers.slice(0, 0)))


@pytest.mark.parametrize(
    ("market", "words"),
    [
        ("simulated", "SIMULATED MARKET</strong> - these are not real prices"),
        ("recorded", "RECORDED DATA, replayed</strong>"),
        ("live", "LIVE</strong>"),
    ],
)
def test_market_is_said_first_in_the_title_and_in_the_charts(market, words):
    page = render(report_data(("BTC",), "1d", 40, market))
    body = page[page.index("<body>") :]
    assert words in body[:300]
    assert re.search(r"<title>(SIMULATED|RECORDED|LIVE)", page)
    marks = Page(page).scripts["chart-item"].count("watermark-")
    assert marks == (0 if market == "live" else 6), "each chart carries the label, since charts are copied without their page"
    titled = re.findall(r'"text":"([^"]*regime, events)"', Page(page).scripts["chart-item"])
    assert titled == [f"{'' if market == 'live' else words.split('<')[0] + ': '}regime, events"], "the strip has it in its title"


def test_a_mixture_of_markets_is_called_a_mixture():
    both = [index_tables((asset,), "1d", 40, market) for asset, market in (("BTC", "recorded"), ("ETH", "simulated"))]
    page = render(ReportData(readings=pa.concat_tables([one["readings"] for one in both])))
    assert "MIXED: SIMULATED + RECORDED" in page
    assert "<strong>RECORDED" not in page


def test_page_is_one_file_and_fetches_nothing(page):
    found = Page(page)
    beside = {DATA_DOCS}  # a link to follow, not a file to fetch
    assert all(address.startswith(("#", "data:")) for address in set(found.fetched) - beside), found.fetched
    assert not {"iframe", "img", "object", "embed", "base"} & set(found.tags)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_text_of_a_venue_stays_text(page):
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(" in page
    assert Page(page).tags.count("script") == 1 + 4 + 1 + 2, "setup, four series, charts, library, page: and none of a venue's"


def test_everything_promised_is_there(page):
    for words in (
        DISCLAIMER,
        "1.0.0-rc",
        "5e" * 32,
        "c0de" * 16,
        "2025-01-01 01:00 to 2025-03-02 00:00 UTC",
        "ZERO_OPEN_INTEREST",
        "open interest of exactly 0 on a trading contract",
        "HTTP_EXHAUSTED: HTTP 503",
        "LOW_ABOVE_HIGH",
        "make trace ASSET=BTC CADENCE=1h AT=2025-03-02T00:00Z INDEX=S FEATURE=",
        "make trace ASSET=BTC CADENCE=1h AT=2025-03-02T00:00Z INDEX=X FEATURE=",
        "make trace ASSET=MKT CADENCE=1h AT=2025-03-02T00:00Z INDEX=F FEATURE=",
        "of each bucket of time before them",
        "no source publishes option chains here",
        "prefers-color-scheme: dark",
        "@media print",
    ):
        assert words in page, words
    assert "KEY_NOT_UNIQUE" not in page, "an expectation that held is no news"


def test_same_tables_same_page(data, page):
    rng = np.random.default_rng(1)
    names = ("readings", "contributions", "features", "events", "regime_changes", "liquidation_levels", "outliers")
    shuffled = {name: (rows := getattr(data, name)).take(rng.permutation(rows.num_rows)) for name in names}
    assert render(replace(data, **shuffled)) == page


@pytest.mark.parametrize(("name", "explained"), [("s", f"S {MINUS} 50"), ("f", "F"), ("x", "X")])
def test_a_sum_that_does_not_hold_is_loud(data, page, name, explained):
    place = data.readings.schema.get_field_index(name)
    broken = replace(data, readings=data.readings.set_column(place, name, pc.add(data.readings.column(name), 0.001)))
    assert f"DOES NOT ADD UP: the contributions differ from {explained} by" in render(broken)
    assert "DOES NOT ADD UP" not in page


def test_rows_that_went_nowhere_are_loud(data):
    place = data.outcomes.schema.get_field_index("rows_core")
    lost = data.outcomes.set_column(
        place,
        "rows_core",
        pc.subtract(data.outcomes.column("rows_core"), pc.cast(pc.greater(data.outcomes.column("rows_core"), 0), pa.int64())),
    )
    assert "NO: 1 rows unaccounted for" in render(lost_data := replace(data, outcomes=lost))
    assert "unaccounted" not in render(replace(lost_data, outcomes=data.outcomes))


def test_a_withheld_reading_has_no_number():
    page = render(report_data(("BTC", "DEAD"), "1d", 60))
    card = card_of(page, "DEAD-1d")
    assert card.count('<b class="withheld">withheld</b>') == 3
    assert "withheld" in card
    assert "confidence below 0.3" in card
    assert "Last value of S: " in card
    for index in "SFX":
        assert f"{index} is withheld: no value is published for this instant" in card
    assert "no probability: no fragility" in card
    assert 'class="mark"' not in card


def test_nothing_to_show_is_said():
    page = render(ReportData(market="recorded"))
    assert "RECORDED DATA" in page
    assert "No reading yet" in page
    assert "Nothing was asked" in page
    assert "Nothing is in quarantine" in page


def test_many_assets_stay_below_the_cap_and_the_page_says_who_lost_the_charts():
    data = many(days=200)
    page = render(data, chart_bytes=600_000)
    found = Page(page)
    charted = [name.removeprefix("series-") for name in found.scripts if name.startswith("series-")]
    assert len(found.cards) == 120, "every series keeps its reading and its contributions"
    assert 15 < len(charted) < 120
    assert f"{len(charted)} of 120 series carry full charts" in page
    assert len(page.encode()) < 5_000_000
    lengths = {one.key: one.values for one in series(data)}
    rest = [key for key in charted if key.split("-")[0] not in data.order]
    assert min(lengths[key] for key in rest) >= max(lengths[key] for key in lengths if key not in charted), "the most complete come first"


def test_page_of_119_daily_assets_over_two_years_is_below_8_mb():
    assert len(render(many(days=700)).encode()) < 8_000_000


def test_thirteen_months_of_four_hourly_series_are_below_5_mb():
    page = render(report_data(days=395))
    assert len(page.encode()) < 5_000_000
    drawn = Page(page).scripts
    assert all(len(drawn[f"series-{asset}-1h"]) < 700_000 for asset in ("MKT", "BTC", "ETH", "SOL"))


def test_drawn_rows_add_up_and_are_published_rows(data):
    for one in series(data):
        drawn = json.loads(payload(one))
        at = one.at_ms[0] + np.cumsum(drawn["minutes"]) * 60_000
        assert set(at) <= set(one.at_ms)
        for name, origin in (("s", 5000), ("f", 0), ("x", 0)):
            sums = np.sum(list(drawn["parts"][name.upper()].values()), axis=0)
            known = [value is not None for value in drawn[name]]
            assert drawn[name].count(None) == int(np.isnan(getattr(one, name)).sum())
            assert all(total == value - origin for total, value, ok in zip(sums, drawn[name], known, strict=True) if ok)
        step = np.diff(one.at_ms).min()
        assert len(drawn["breaks"]) == int((np.diff(one.at_ms) > step).sum()) == (1 if one.asset == "BTC" else 0)
        if one.asset == "MKT":
            assert set(drawn["parts"]["X"]) == {"BTC", "ETH"}
        else:
            assert "options" not in drawn["parts"]["S"], "a family that never says anything has no layer"
            assert set(drawn["parts"]["X"]) == {"deleveraging", "volatility", "dispersion"}


def test_regimes_are_drawn_as_they_were_published(data):
    for one in series(data):
        spans = json.loads(payload(one))["regimes"]
        minutes = (one.at_ms - one.at_ms[0]) // 60_000
        told = np.full(minutes.size, -1)
        for start, end, code in spans:
            told[(minutes > start) & (minutes <= end)] = code
        assert told.tolist() == one.regime.tolist()
        assert all(a[1] <= b[0] for a, b in pairwise(spans)), "spans do not overlap"
        assert (not spans) == (one.asset == "MKT")


def test_the_newest_events_are_drawn_and_all_are_counted(data):
    one = next(found for found in series(data) if found.asset == "ETH")
    many_events = replace(one, events=one.events * 20)
    drawn = json.loads(payload(many_events))
    assert (len(drawn["events"]), drawn["warned"]) == (EVENTS, len(many_events.events))
    minute, kind, side, severity, why, record = json.loads(payload(one))["events"][-1]
    newest = one.events[-1]
    assert one.at_ms[0] + minute * 60_000 == newest.at.timestamp() * 1000
    assert (kind, side, record) == (newest.event_type, newest.side, newest.track_record)
    assert severity == round(100 * newest.severity)
    assert why == newest.found


@given(rows=st.integers(2, 6000), spikes=st.lists(st.integers(0, 5999), max_size=5), seed=st.integers(0, 99), drawn=st.integers(100, 1200))
@settings(max_examples=60, deadline=None)
def test_thinning_hides_no_extreme(rows, spikes, seed, drawn):
    rng = np.random.default_rng(seed)
    s, f, x, price, drawdown = (rng.uniform(40, 60, rows) for _ in range(5))
    status = np.zeros(rows, np.int8)
    for n, at in enumerate(at % rows for at in spikes):
        (s, f, x, price, drawdown)[n % 5][at] = 99.0 + n
    status[rows // 2] = 2
    s[rows // 2] = np.nan
    one = Series("BTC", "1h", np.arange(rows) * 3_600_000, s, f, x, price, drawdown, s, status, status, {})
    kept = thin(one, drawn, drawn // 3)
    assert np.all(np.diff(kept) > 0)
    assert kept[0] == 0
    assert kept[-1] == rows - 1
    assert kept.size <= max(drawn, rows if rows <= drawn else 0) + 10
    for values in (s, f, x, price, drawdown):
        assert np.nanmax(values[kept]) == np.nanmax(values)
        assert np.nanmin(values[kept]) == np.nanmin(values)
    assert 2 in status[kept], "a withheld row is never thinned away"
    assert set(range(max(rows - drawn // 3, 0), rows)) <= set(kept.tolist())


def test_generation_time_is_given_never_read(data):
    page = render(replace(data, generated_at=datetime(2031, 5, 6, 7, 8, tzinfo=UTC)))
    assert "2031-05-06 07:08" in page


class Lake:
    """Tables in memory, read the way the lake is read; remembers what was asked for."""

    def __init__(self, data: ReportData) -> None:
        self.data, self.asked = data, {}

    def days(self, name) -> Counter:
        return Counter(getattr(self.data, name)["date"].to_pylist())

    def read(self, name, *, days=None, columns=None, where=None) -> pa.Table:
        rows = getattr(self.data, name)
        if days is not None:
            first, last = (pa.scalar(day) for day in days)
            rows = rows.filter(pc.and_(pc.greater_equal(rows["date"], first), pc.less_equal(rows["date"], last)))
        rows = rows.select(list(columns)) if columns is not None else rows
        self.asked[name] = (rows.num_rows, set(rows.column_names))
        return rows


def test_what_is_read_of_the_lake_makes_the_same_page(data, page):
    lake = Lake(data)
    assert render(report_data_of(lake, SimpleNamespace(market="simulated"))) == page
    assert lake.asked["features"][0] < data.features.num_rows / 30, "of the features only the newest day"
    for name in ("contributions", "events", "outliers"):
        assert not {"spec_sha256", "code_sha", "market"} & lake.asked[name][1]
    assert "checkpoints" not in lake.asked


def test_evidence_of_long_ago_is_left_out_and_the_page_says_so(data):
    newest = pc.max(data.outcomes["date"]).as_py()
    old = data.outcomes.set_column(
        data.outcomes.column_names.index("date"),
        data.outcomes.schema.field("date"),
        pa.array([newest - timedelta(days=8)] * data.outcomes.num_rows, pa.date32()),
    )
    found = report_data_of(Lake(replace(data, outcomes=pa.concat_tables([old, data.outcomes]))), SimpleNamespace(market="simulated"))
    assert (found.outcomes, found.evidence_since) == (data.outcomes, newest - timedelta(days=7))
    assert f"recorded from {found.evidence_since}" in render(found)
    assert "recorded from" not in render(data)


def test_nothing_in_the_lake_makes_a_page(data):
    empty = ReportData(market="recorded")
    assert render(report_data_of(Lake(empty), SimpleNamespace(market="recorded"))) == render(empty)
