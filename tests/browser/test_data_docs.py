"""Data Docs in a real browser, from files, with the network cut: every gated table is listed and leads to its validation; nothing is asked for."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import pytest

from plugins import datadocs, gate
from tests.unit.test_gate import HONEST_CORE, arrow
from transforms.tables import tables

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
AT = datetime(2026, 5, 1, tzinfo=UTC)


def verdicts():
    """Core tables judged for good and all; a bar and a word are wrong, and the word is meant badly."""
    rows = {name: [dict(row) for row in found] for name, found in HONEST_CORE.items()}
    rows["candles"][4]["close_usd"], rows["candles"][7]["venue"], rows["candles"][9]["open_usd"] = 9.0, HOSTILE, 9.0
    given = {name: arrow(name, found) for name, found in rows.items()}
    return gate.evidence(given, gate.gate(given), "scheduled__2026-05-01T00:00:00+00:00", AT)["verdicts"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("docs")
    for name, body in datadocs.site(verdicts(), "simulated").items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(body)
    return place


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_site_lists_every_gated_table_and_asks_no_network(folder):
    from playwright.sync_api import sync_playwright

    asked = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((folder / "index.html").as_uri())
        assert page.locator("body").inner_text().startswith("SIMULATED MARKET - these are not real prices")
        assert "newsletter" not in page.content()
        validated, suites = (table.inner_text() for table in page.locator("table").all())
        assert [table.identifier for table in tables("core") if table.identifier not in validated] == []
        gated = [*tables("core"), *tables("index")]
        assert [table.identifier for table in gated if table.identifier not in suites] == []

        page.locator("tr", has_text="core.candles").first.locator("a").first.click()
        page.wait_for_load_state()
        told = page.inner_text("body")
        assert told.startswith("SIMULATED MARKET"), "each page says so, however it was reached"
        assert "CLOSE_ABOVE_HIGH (critical): close <= high" in told
        assert "close_usd=9.0" in told
        assert "OPEN_ABOVE_HIGH (warning)" in told
        assert HOSTILE in told, "what a venue says is text, whatever it says"
        assert page.title() == "Data documentation compiled by Great Expectations"
        sound = page.get_by_text("NULL_CLOSE_USD").first
        assert sound.is_visible()
        page.get_by_text("Failed Only").click()
        assert not sound.is_visible()
        assert page.get_by_text("CLOSE_ABOVE_HIGH (critical)").first.is_visible()
        assert not errors
        browser.close()
    assert {url.split(":")[0] for url in asked} == {"file"}
