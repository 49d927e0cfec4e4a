"""The report in a real browser, from a file, with the network cut: it draws, it switches, it adds up, it asks nobody for anything."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from plugins.charts import PLOTS
from plugins.reports import render
from tests.unit.report_tables import index_tables, report_data
from transforms.vocabulary import COMPONENTS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MINUS = "\N{MINUS SIGN}"
#: Opaque pixels of each canvas below #charts, shadow roots included.
INK = """() => {
  const found = []
  const walk = (node) => {
    for (const one of node.children) {
      if (one.tagName === "CANVAS") found.push(one)
      if (one.shadowRoot) walk(one.shadowRoot)
      walk(one)
    }
  }
  walk(document.getElementById("charts"))
  return found.map((one) => {
    const pixels = one.getContext("2d").getImageData(0, 0, one.width, one.height).data
    return pixels.reduce((count, value, place) => count + (place % 4 === 3 && value > 200), 0)
  })
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The market and three assets by the hour, and BTC by the day as well."""
    data, daily = report_data(days=120), index_tables(("BTC",), "1d", 120)
    data = replace(data, **{name: pa.concat_tables([getattr(data, name), rows]) for name, rows in daily.items()})
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render(data), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install the package `chromium` to run the browser tests")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--headless"])
        yield opened
        opened.close()


class Visit:
    """An opened page, and what it tried or complained about."""

    def __init__(self, page: Page, file: Path) -> None:
        self.page, self.asked, self.complaints = page, [], []
        page.on("console", lambda message: self.complaints.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.route("**/*", self._route)
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")

    def _route(self, route) -> None:
        if route.request.url.startswith("file://"):
            route.continue_()
        else:
            self.asked.append(route.request.url)
            route.abort()

    def column(self, source: str, name: str) -> list[float | None]:
        """A column of a chart's data source."""
        return self.page.evaluate("([s, n]) => Array.from(Bokeh.documents[0].get_model_by_name(s).data[n], Number)", [source, name])

    def explain(self, index: str) -> None:
        """Choose whose contributions are listed and drawn."""
        self.page.click(f".card:visible .indices button[data-index={index}]")

    def card(self) -> str:
        (shown,) = self.page.locator(".card:visible").all()
        return shown.get_attribute("id")


@pytest.fixture(params=[(1440, "light"), (390, "dark")], ids=["desktop", "phone"])
def visit(browser, report, request) -> Iterator[Visit]:
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened = Visit(context.new_page(), report)
    yield opened
    assert opened.asked == [], "the page asked the network for something"
    assert opened.complaints == []
    context.close()


def test_the_market_is_in_sight_wherever_one_scrolls(visit):
    banner = visit.page.locator("#banner")
    assert "SIMULATED MARKET - these are not real prices" in banner.inner_text()
    visit.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    box = banner.bounding_box()
    assert box["y"] == 0
    assert box["height"] > 20


def test_no_sideways_scrolling(visit):
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_three_numbers_are_drawn(visit):
    visit.page.select_option("#asset", "BTC")
    for name in ("s", "f", "x"):
        known = [value for value in visit.column("line", name) if not math.isnan(value)]
        assert len(known) > 500
        assert all(0 <= value <= 100 for value in known)
    # the canvas really holds ink
    ink = visit.page.evaluate(INK)
    assert sum(pixels > 300 for pixels in ink) >= 7, "seven charts with something on them"


@pytest.mark.parametrize(("index", "origin"), [("S", 50), ("F", 0), ("X", 0)])
def test_stacked_contributions_reach_the_chosen_number(visit, index, origin):
    visit.page.select_option("#asset", "BTC")
    visit.explain(index)
    value, net = visit.column("line", index.lower()), visit.column("stack", "net")
    at = {"line": visit.column("line", "t"), "stack": visit.column("stack", "t")}
    sums = dict(zip(at["stack"], net, strict=True))
    pairs = [(a, sums[t]) for t, a in zip(at["line"], value, strict=True) if not math.isnan(a)]
    assert len(pairs) > 500
    assert max(abs(a - origin - b) for a, b in pairs) < 1e-9
    assert visit.page.evaluate("Bokeh.documents[0].get_model_by_name('plot-parts').title.text") == f"Contributions to {index}, points"
    legend = visit.page.locator("#layers").inner_text()
    assert f"their sum, {index}" in legend
    assert ("flow" in legend, "crowding" in legend, "volatility" in legend) == (index == "S", index == "F", index == "X")


def test_one_number_is_explained_at_a_time_and_the_choice_stays(visit):
    tables = visit.page.locator(".card:visible .parts:visible")
    assert tables.count() == 1
    visit.explain("F")
    visit.page.select_option("#asset", "ETH")
    assert tables.count() == 1
    assert "Sum = F" in tables.inner_text()
    assert "interaction" in visit.page.locator("#layers").inner_text()


def test_regimes_and_events_are_drawn_and_told(visit):
    visit.page.select_option("#asset", "ETH")
    words = visit.page.evaluate("Array.from(Bokeh.documents[0].get_model_by_name('regimes').data.word)")
    assert {"neutral", "leverage buildup"} <= set(words)
    assert len(visit.column("events", "t")) > 20
    visit.page.locator("#charts").scroll_into_view_if_needed()
    place = visit.page.evaluate("""() => {
      const charts = document.getElementById("charts")
      charts.scrollIntoView({block: "start"})
      const strip = Object.values(Bokeh.index.roots ?? Bokeh.index)[0].child_views.find((view) => view.model.name === "plot-strip")
      const events = Bokeh.documents[0].get_model_by_name("events").data, box = strip.el.getBoundingClientRect()
      return [box.x + strip.frame.x_scale.compute(events.t[1]), box.y + strip.frame.y_scale.compute(events.y[1])]
    }""")
    visit.page.mouse.move(place[0] - 4, place[1])
    visit.page.mouse.move(*place)
    tip = visit.page.locator(".bk-tooltip-content:visible").first
    tip.wait_for()
    told = tip.inner_text()
    assert "liquidation cluster near" in told
    assert "no track record: 1 judged" in told
    assert '<script>alert("quarantined")</script>' in told, "what a table says is text, whatever it says"


def test_the_readout_names_the_events_of_its_instant(visit):
    visit.page.select_option("#asset", "ETH")
    minutes = visit.column("events", "t")
    visit.page.evaluate("(t) => window.tidegauge.point(t)", minutes[-1])
    said = visit.page.locator("#readout").inner_text()
    assert "event: " in said
    assert "limit 0.8" in said
    assert re.search(r"F \d+\.\d\d (low|moderate|elevated|high)", said)


def test_choosing_an_asset_changes_card_and_charts(visit):
    assert visit.card() == "card-MKT-1h", "the market first"
    assert not visit.page.evaluate("Bokeh.documents[0].get_model_by_name('plot-price').visible"), "the market has no price"
    visit.page.select_option("#asset", "BTC")
    assert visit.page.evaluate("Bokeh.documents[0].get_model_by_name('plot-price').visible")
    before = visit.column("line", "price")
    visit.page.select_option("#asset", "ETH")
    assert visit.card() == "card-ETH-1h"
    assert visit.page.url.endswith("#ETH-1h")
    assert visit.column("line", "price") != before
    assert visit.page.locator("#cadences button[data-cadence='1d']").is_disabled(), "ETH has no daily series"
    visit.page.select_option("#asset", "BTC")
    visit.page.click("#cadences button[data-cadence='1d']")
    assert visit.card() == "card-BTC-1d"
    assert len(visit.column("line", "t")) < 200


def test_a_link_opens_its_series(browser, report):
    context = browser.new_context()
    page = context.new_page()
    page.goto(report.as_uri() + "#SOL-1h")
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.locator("#card-SOL-1h").is_visible()
    assert page.locator(".card:visible").count() == 1
    context.close()


def test_the_tables_of_contributions_add_up(visit):
    for asset, counts in (("MKT", (2, 2, 2)), ("BTC", (11, 7, 3)), ("SOL", (11, 7, 3))):
        visit.page.select_option("#asset", asset)
        card = visit.page.locator(".card:visible")
        for index, origin, count in zip("SFX", (50, 0, 0), counts, strict=True):
            visit.explain(index)
            table = card.locator(".parts:visible")
            shown = [float(text.replace(MINUS, "-")) for text in table.locator("td.points").all_inner_texts()]
            total = float(table.locator("td.sum").inner_text().replace(MINUS, "-"))
            assert len(shown) == count
            assert round(sum(shown), 2) == total
            assert card.locator(f".number[data-index={index}] .value b").inner_text() == f"{origin + total:.2f}"


def test_pointing_at_a_chart_reads_it_and_the_reading_adds_up(visit):
    visit.page.select_option("#asset", "BTC")
    visit.page.locator("#charts").scroll_into_view_if_needed()
    newest = visit.page.locator("#readout").inner_text()
    assert "newest" in newest
    visit.page.locator("#charts").focus()
    for _ in range(3):
        visit.page.keyboard.press("ArrowLeft")
    there = visit.page.locator("#readout").inner_text()
    assert "newest" not in there
    assert "2025-04-30 21:00 UTC" in there
    terms = [float(number.replace(MINUS, "-")) for number in re.findall(rf"(?:{'|'.join(COMPONENTS)}) ([+{MINUS}]?\d+\.\d\d)", there)]
    s = float(re.search(r"S (\d+\.\d\d)", there)[1])
    assert len(terms) == 6
    assert round(50 + sum(terms), 2) == s
    box = visit.page.evaluate(
        "() => { const one = document.getElementById('charts'); one.scrollIntoView(); return one.getBoundingClientRect() }"
    )
    visit.page.mouse.move(box["x"] + 150, box["y"] + 150)
    visit.page.wait_for_function("(before) => document.getElementById('readout').innerText !== before", arg=there)


def test_zooming_keeps_the_axes_together(visit):
    visit.page.click("#spans button[data-span='7']")
    span = visit.page.evaluate("() => { const x = Bokeh.documents[0].get_model_by_name('x'); return (x.end - x.start) / 86400000 }")
    assert 7 <= span < 7.3
    same = visit.page.evaluate(
        "(names) => new Set(names.map((n) => Bokeh.documents[0].get_model_by_name('plot-' + n).x_range.id)).size", list(PLOTS)
    )
    assert same == 1


def test_sorting_the_overview(visit):
    visit.page.click("#overview th:nth-child(3) button")
    values = [float(text) for text in visit.page.locator("#overview tbody td:nth-child(3)").all_inner_texts()]
    assert values == sorted(values)
    visit.page.click("#overview th:nth-child(3) button")
    assert [float(text) for text in visit.page.locator("#overview tbody td:nth-child(3)").all_inner_texts()] == sorted(values, reverse=True)


def test_without_javascript_every_reading_is_there(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator(".card:visible").count() == 5
    assert page.locator(".parts:visible").count() == 15, "all three numbers of every series are explained"
    assert "SIMULATED" in page.locator("#banner").inner_text()
    context.close()
