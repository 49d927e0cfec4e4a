"""`make up` as a person uses it: sign in to Airflow's UI, look at the Dags and their runs, open the report; then Ctrl-C."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import requests

from plugins.stack import alive
from tests.integration.conftest import Started, at_home, short_history, short_home

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = [pytest.mark.browser, pytest.mark.stack]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
#: two sources: all of them are asked by test_main_job.py, here they have to be looked at
HISTORY = {"TIDEGAUGE_SPANS": json.dumps({"*": [short_history()]}), "TIDEGAUGE_SOURCES": "binance defillama"}
SLOW = 120_000  # milliseconds: a UI on a busy machine


@dataclass(frozen=True)
class Running:
    """A running `up`: where its UI is, and who may enter."""

    command: Started
    address: str
    user: str
    password: str


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install the package `chromium` to run the browser tests")
    home = short_home()
    with Started(home, "up", **HISTORY) as command:
        said = command.wait_for("Ctrl-C stops everything", 900)
        address, user, password = re.search(r"UI +(http://\S+) +user (\S+) +password (\S+)", said).groups()
        yield Running(command, address, user, password)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install the package `chromium` to run the browser tests")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--headless"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def signed_in(running, browser) -> Iterator[BrowserContext]:
    """A context that has signed in through the form."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(SLOW)
    page = context.new_page()
    page.goto(running.address)
    page.fill("input[name=username]", running.user)
    page.fill("input[name=password]", running.password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/auth/login" not in url)
    page.close()
    yield context
    context.close()


@pytest.fixture
def page(signed_in) -> Iterator[Page]:
    opened = signed_in.new_page()
    yield opened
    opened.close()


def shot(page: Page, folder: Path, name: str) -> None:
    """Kept by pytest for those who want to look."""
    page.screenshot(path=str(folder / f"{name}.png"))


def test_the_dags_and_their_runs_are_there(running, page, tmp_path):
    page.goto(f"{running.address}/dags?tags=tidegauge")
    for dag in ("ingest_history", "derive", "publish"):
        page.get_by_role("link", name=dag, exact=True).first.wait_for()
    shot(page, tmp_path, "dags")
    for dag in ("ingest_history", "derive", "publish"):
        page.goto(f"{running.address}/dags/{dag}/runs")
        page.locator("tbody").get_by_text("Success", exact=True).first.wait_for()
        shot(page, tmp_path, dag)
        assert page.locator("tbody").get_by_text("Failed", exact=True).count() == 0


def test_the_report_is_a_page_for_those_who_signed_in(running, page, tmp_path):
    answer = page.goto(f"{running.address}/tidegauge/report")
    assert answer.status == 200
    page.wait_for_selector("html[data-ready]", state="attached")
    assert "SIMULATED MARKET - these are not real prices" in page.locator("#banner").inner_text()
    assert page.locator(".card:visible").count() == 1
    shot(page, tmp_path, "report")
    assert "script src" not in page.content()


def test_the_report_is_in_the_navigation(running, page, tmp_path):
    page.goto(running.address)
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="Tidegauge").click()
    frame = page.frame_locator("iframe")
    frame.locator("#banner").wait_for()
    assert "SIMULATED" in frame.locator("#banner").inner_text()
    shot(page, tmp_path, "navigation")


def test_strangers_see_nothing(running, browser):
    context = browser.new_context()
    answer = context.new_page().goto(f"{running.address}/tidegauge/report")
    assert answer.status in (401, 403)
    assert "SIMULATED" not in answer.text()
    context.close()
    assert requests.get(f"{running.address}/tidegauge/report", timeout=60).status_code in (401, 403)
    forged = requests.get(f"{running.address}/tidegauge/report", headers={"Authorization": "Bearer e30.e30.e30"}, timeout=60)
    assert forged.status_code in (401, 403)


def test_ctrl_c_ends_everything():
    """A second `up`: interrupted as by Ctrl-C, it ends within a breath and leaves no process."""
    home = short_home()
    with Started(home, "up", **HISTORY) as command:
        command.wait_for("Airflow answers")
        family = [(one.pid, one.create_time()) for one in psutil.Process(command.process.pid).children(recursive=True)]
        assert len(family) >= 5
        began = time.monotonic()
        command.process.send_signal(signal.SIGINT)
        assert command.process.wait(60) == 0, command.said()
        took = time.monotonic() - began
    assert took < 40, f"took {took:.0f} s"
    assert "Traceback" not in command.said()
    assert command.said().rstrip().endswith("stopped")
    assert not [one for one in family if alive(one)]
    assert not at_home(home)
    shutil.rmtree(home, ignore_errors=True)
