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

from plugins.reports import render
from tests.unit.report_tables import index_tables, report_data
from transforms.vocabulary import FAMILIES

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
    """Three hourly assets, and BTC daily as well."""
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


def test_s_is_drawn(visit):
    s = visit.column("line", "s")
    known = [value for value in s if not math.isnan(value)]
    assert len(known) > 500
    assert all(0 <= value <= 100 for value in known)
    # the canvas really holds ink in the colour of the line
    ink = visit.page.evaluate(INK)
    assert sum(pixels > 300 for pixels in ink) >= 4, "four charts with something on them"


def test_stacked_contributions_reach_s(visit):
    s, net = visit.column("line", "s"), visit.column("stack", "net")
    pairs = [(a, b) for a, b in zip(s, net, strict=True) if not math.isnan(a)]
    assert pairs
    assert max(abs(a - 50 - b) for a, b in pairs) < 1e-9


def test_choosing_an_asset_changes_card_and_charts(visit):
    before = visit.column("line", "price")
    assert visit.card() == "card-BTC-1h"
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


def test_the_table_of_contributions_adds_up(visit):
    for asset in ("BTC", "ETH", "SOL"):
        visit.page.select_option("#asset", asset)
        card = visit.page.locator(".card:visible")
        shown = [float(text.replace(MINUS, "-")) for text in card.locator("td.points").all_inner_texts()]
        total = float(card.locator("td.sum").inner_text().replace(MINUS, "-"))
        assert len(shown) == 11
        assert round(sum(shown), 2) == total
        assert card.locator(".value b").inner_text() == f"{50 + total:.2f}"


def test_pointing_at_a_chart_reads_it_and_the_reading_adds_up(visit):
    visit.page.locator("#charts").scroll_into_view_if_needed()
    newest = visit.page.locator("#readout").inner_text()
    assert "newest" in newest
    visit.page.locator("#charts").focus()
    for _ in range(3):
        visit.page.keyboard.press("ArrowLeft")
    there = visit.page.locator("#readout").inner_text()
    assert "newest" not in there
    assert "2025-04-30 21:00 UTC" in there
    terms = [float(number.replace(MINUS, "-")) for number in re.findall(rf"(?:{'|'.join(FAMILIES)}) ([+{MINUS}]?\d+\.\d\d)", there)]
    s = float(re.search(r"S (\d+\.\d\d)", there)[1])
    assert len(terms) == 6
    assert round(50 + sum(terms), 2) == s
    visit.page.mouse.move(*[visit.page.locator("#charts").bounding_box()[k] + d for k, d in (("x", 150), ("y", 60))])
    visit.page.wait_for_function("(before) => document.getElementById('readout').innerText !== before", arg=there)


def test_zooming_keeps_the_axes_together(visit):
    visit.page.click("#spans button[data-span='7']")
    span = visit.page.evaluate("() => { const x = Bokeh.documents[0].get_model_by_name('x'); return (x.end - x.start) / 86400000 }")
    assert 7 <= span < 7.3
    same = visit.page.evaluate(
        "() => new Set(['s','price','drawdown','parts'].map((n) => Bokeh.documents[0].get_model_by_name('plot-' + n).x_range.id)).size"
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
    assert page.locator(".card:visible").count() == 4
    assert "SIMULATED" in page.locator("#banner").inner_text()
    context.close()
