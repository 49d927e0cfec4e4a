"""The report: says what it must, adds up, escapes what it did not write, stays small, and asks nobody for anything."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.charts import payload, thin
from plugins.readings import DISCLAIMER, ReportData, Series, readings, series
from plugins.reports import render
from plugins.strips import in_force, strips
from tests.unit.report_tables import HOSTILE, START, build, index_tables, many, report_data
from transforms.tables import TABLES

MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data(days=60)


@pytest.fixture(scope="module")
def page(data: ReportData) -> str:
    return render(data)


class Page(HTMLParser):
    """Text of cells by table and row, scripts by id, and all addresses a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cards: dict[str, list[list[str]]] = {}
        self.scripts: dict[str, str] = {}
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self._card = self._script = None
        self._rows: list[list[str]] = []
        self._cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        have = dict(attrs)
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in {"src", "href", "srcset", "data", "action"} and value]
        if tag == "article":
            self._card = self.cards.setdefault(have["id"].removeprefix("card-"), [])
        elif tag == "tr" and self._card is not None:
            self._card.append([])
        elif tag in {"td", "th"} and self._card:
            self._cell = []
        elif tag == "script":
            self._script = have.get("id", "")

    def handle_endtag(self, tag):
        if tag == "article":
            self._card = None
        elif tag in {"td", "th"} and self._cell is not None:
            self._card[-1].append(" ".join("".join(self._cell).split()))
            self._cell = None
        elif tag == "script":
            self._script = None

    def handle_data(self, text):
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + text
        elif self._cell is not None:
            self._cell.append(text)


def points(text: str) -> float:
    return float(text.replace(MINUS, "-"))


def test_contributions_shown_add_up_to_the_shown_s(page, data):
    found = Page(page)
    assert set(found.cards) == {"BTC-1h", "ETH-1h", "SOL-1h"}
    for reading in readings(data):
        rows = found.cards[reading.key]
        shown = [points(row[1]) for row in rows[1:-1]]
        assert len(shown) == len(reading.constituents) == 11
        assert round(sum(shown), 2) == points(rows[-1][1])
        assert f"{50 + sum(shown):.2f} of 100" in page, "the scale must state the same S"
        assert abs(50 + sum(shown) - reading.s) < 0.005 + 1e-9
        assert all(abs(a - c.contribution) < 0.01 for a, c in zip(shown, reading.constituents, strict=True))


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
    assert marks == (0 if market == "live" else 4), "each chart carries the label, since charts are copied without their page"


def test_a_mixture_of_markets_is_called_a_mixture():
    both = [index_tables((asset,), "1d", 40, market) for asset, market in (("BTC", "recorded"), ("ETH", "simulated"))]
    page = render(ReportData(sentiment=pa.concat_tables([one["sentiment"] for one in both])))
    assert "MIXED: SIMULATED + RECORDED" in page
    assert "<strong>RECORDED" not in page


def test_page_is_one_file_and_fetches_nothing(page):
    found = Page(page)
    assert all(address.startswith(("#", "data:")) for address in found.fetched), found.fetched
    assert not {"iframe", "img", "object", "embed", "base"} & set(found.tags)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_text_of_a_venue_stays_text(page):
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(" in page
    assert Page(page).tags.count("script") == 1 + 3 + 1 + 2, "setup, three series, charts, library, page: and none of a venue's"


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
        "make trace ASSET=BTC CADENCE=1h AT=2025-03-02T00:00Z FEATURE=",
        "of each bucket of time before them",
        "no source publishes option chains here",
        "prefers-color-scheme: dark",
        "@media print",
    ):
        assert words in page, words
    assert "KEY_NOT_UNIQUE" not in page, "an expectation that held is no news"


def test_same_tables_same_page(data, page):
    shuffled = data.sentiment.take(np.random.default_rng(1).permutation(data.sentiment.num_rows))
    assert render(replace(data, sentiment=shuffled)) == page


def test_a_sum_that_does_not_hold_is_loud(data):
    s = pc.add(data.sentiment.column("s"), 0.001)
    broken = replace(data, sentiment=data.sentiment.set_column(data.sentiment.schema.get_field_index("s"), "s", s))
    assert "DOES NOT ADD UP: the contributions differ" in render(broken)
    assert "DOES NOT ADD UP" not in render(data)


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
    card = page[page.index('id="card-DEAD-1d"') :]
    card = card[: card.index("</article>")]
    assert "withheld" in card
    assert "confidence below 0.3" in card
    assert "Last value: " in card
    assert "S is withheld: no value is published for this instant" in card
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
    assert len(found.cards) == 119, "every series keeps its reading and its contributions"
    assert 20 < len(charted) < 119
    assert f"{len(charted)} of 119 series carry full charts" in page
    assert len(page.encode()) < 5_000_000
    lengths = {one.key: one.readings for one in series(data)}
    rest = [key for key in charted if key.split("-")[0] not in data.order]
    assert min(lengths[key] for key in rest) >= max(lengths[key] for key in lengths if key not in charted), "the most complete come first"


def test_page_of_119_daily_assets_over_two_years_is_below_8_mb():
    assert len(render(many(days=700)).encode()) < 8_000_000


def test_drawn_rows_add_up_and_are_published_rows(data):
    for one in series(data):
        drawn = json.loads(payload(one))
        at = one.at_ms[0] + np.cumsum(drawn["minutes"]) * 60_000
        assert set(at) <= set(one.at_ms)
        sums = np.sum(list(drawn["families"].values()), axis=0)
        known = [s is not None for s in drawn["s"]]
        assert drawn["s"].count(None) == int(np.isnan(one.s).sum())
        assert all(total == s - 5000 for total, s, ok in zip(sums, drawn["s"], known, strict=True) if ok)
        step = np.diff(one.at_ms).min()
        assert len(drawn["breaks"]) == int((np.diff(one.at_ms) > step).sum()) == (1 if one.asset == "BTC" else 0)


@given(rows=st.integers(2, 6000), spikes=st.lists(st.integers(0, 5999), max_size=4), seed=st.integers(0, 99), drawn=st.integers(100, 1200))
@settings(max_examples=60, deadline=None)
def test_thinning_hides_no_extreme(rows, spikes, seed, drawn):
    rng = np.random.default_rng(seed)
    s, price, drawdown = (rng.uniform(40, 60, rows) for _ in range(3))
    status = np.zeros(rows, np.int8)
    for n, at in enumerate(at % rows for at in spikes):
        (s, price, drawdown)[n % 3][at] = 99.0 + n
    status[rows // 2] = 2
    s[rows // 2] = np.nan
    one = Series("BTC", "1h", np.arange(rows) * 3_600_000, s, price, drawdown, s, status, {})
    kept = thin(one, drawn, drawn // 3)
    assert np.all(np.diff(kept) > 0)
    assert kept[0] == 0
    assert kept[-1] == rows - 1
    assert kept.size <= max(drawn, rows if rows <= drawn else 0) + 10
    for values in (s, price, drawdown):
        assert np.nanmax(values[kept]) == np.nanmax(values)
        assert np.nanmin(values[kept]) == np.nanmin(values)
    assert 2 in status[kept], "a withheld row is never thinned away"
    assert set(range(max(rows - drawn // 3, 0), rows)) <= set(kept.tolist())


def window(hours: tuple[int, int], *, expected=24, missing=0, stamps=(), recorded=0, instrument="BTCUSDT", endpoint="klines"):
    row = {
        "source": "binance",
        "endpoint": endpoint,
        "instrument": instrument,
        "target": "candles",
        "window_start": START + timedelta(hours=hours[0]),
        "window_end": START + timedelta(hours=hours[1]),
        "expected": expected,
        "received": expected - missing,
        "missing": missing,
        "refused": 0,
        "missing_stamps": json.dumps([(START + timedelta(hours=h)).isoformat() for h in stamps]),
        "complete": missing == 0,
        "answers": 1,
        "run_id": "r",
        "recorded_at": START + timedelta(hours=recorded),
        "date": START.date(),
    }
    return {name: [row[name]] for name in TABLES["coverage"].columns}


def states(*windows) -> list[tuple[int, int, str]]:
    found = strips(pa.concat_tables([build("coverage", one) for one in windows]))
    assert len(found.rows) == 1
    return [(run.start, run.length, run.state) for run in found.rows[0].runs]


def test_coverage_by_day():
    whole = window((0, 96), expected=96)
    assert states(whole) == [(0, 4, "complete")]
    assert states(window((0, 24)), window((48, 72))) == [(0, 1, "complete"), (1, 1, "not asked"), (2, 1, "complete")]
    assert states(window((0, 24), missing=24, stamps=range(1, 21))) == [(0, 1, "missing")]
    # the 30th hour ends in the second day
    assert states(window((0, 96), expected=96, missing=1, stamps=[30])) == [(0, 1, "complete"), (1, 1, "partial"), (2, 2, "complete")]
    # midnight belongs to the day that ends there
    assert states(window((0, 96), expected=96, missing=1, stamps=[24])) == [(0, 1, "partial"), (1, 3, "complete")]
    # a whole day of hours missing is a missing day
    assert states(window((0, 72), expected=72, missing=24, stamps=range(25, 49)))[1] == (1, 1, "missing")
    # only the first missing stamps are recorded: what lies behind them is not called complete
    assert states(window((0, 96), expected=96, missing=60, stamps=range(30, 34))) == [(0, 1, "complete"), (1, 3, "partial")]


def test_coverage_of_what_was_asked_again():
    failed = window((0, 24), missing=24)
    assert states(failed, window((0, 24), recorded=1)) == [(0, 1, "complete")], "the newer record of a window is in force"
    assert states(window((0, 24)), window((0, 24), missing=24, recorded=1)) == [(0, 1, "missing")]
    assert states(failed, window((0, 12), expected=12), window((12, 24), expected=12)) == [(0, 1, "complete")], "any window may heal it"
    assert states(window((0, 24)), window((0, 24), missing=24, instrument="ETHUSDT")) == [(0, 1, "partial")], "one of two instruments"


def test_a_snapshot_of_today_does_not_stretch_a_history():
    history, today = window((0, 48), expected=48), window((24_000, 24_001), expected=-1, endpoint="exchangeInfo")
    found = strips(pa.concat_tables([build("coverage", one) for one in (history, today)]))
    assert found.days == 2
    assert [row.endpoint for row in found.rows] == ["klines"]
    assert found.outside == ("binance exchangeInfo",)
    # without a grid, but reaching into the days: drawn, cut at their edges
    wide = window((-30, 60), expected=-1, endpoint="fundingRate")
    found = strips(pa.concat_tables([build("coverage", one) for one in (history, wide)]))
    assert [[(run.start, run.length, run.state) for run in row.runs] for row in found.rows] == [[(0, 2, "complete")]] * 2


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 100), st.integers(0, 30)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_coverage_strips_tile_their_days(asked):
    windows = [
        window(
            (start, start + length), expected=length, missing=min(gone, length), stamps=range(start + 1, start + 1 + min(gone, 20, length))
        )
        for start, length, gone in asked
    ]
    found = strips(pa.concat_tables([build("coverage", one) for one in windows]))
    runs = found.rows[0].runs
    assert sum(run.length for run in runs) == found.days
    assert [run.start for run in runs] == list(np.cumsum([0, *(run.length for run in runs)])[:-1])
    if all(gone == 0 for _, _, gone in asked):
        assert {run.state for run in runs} <= {"complete", "not asked"}


def test_generation_time_is_given_never_read(data):
    page = render(replace(data, generated_at=datetime(2031, 5, 6, 7, 8, tzinfo=UTC)))
    assert "2031-05-06 07:08" in page


def test_a_window_that_was_healed_is_told_no_more():
    def told(*windows) -> list[tuple[int, bool]]:
        rows = in_force(pa.concat_tables([build("coverage", one) for one in windows]))
        return [((row["window_end"] - row["window_start"]) // timedelta(hours=1), row["complete"]) for row in rows]

    early = window((23, 24), expected=1, missing=1)
    assert told(early, window((0, 24), recorded=1)) == [(24, True)], "asked again as part of a longer window"
    assert told(early, window((0, 24), missing=1, recorded=1)) == [(24, False)], "still open, but told once"
    assert told(window((0, 24), missing=2), window((0, 12), recorded=1), window((12, 24), recorded=1)) == [(12, True), (12, True)]
    assert told(window((0, 24), missing=2), window((12, 24), recorded=1)) == [(24, False), (12, True)], "half of it is not all"
