"""Data Docs are published with the lake: built from the verdicts of real runs, uploaded, complete, and linked."""

from __future__ import annotations

import html
import re
from urllib.parse import unquote

import pytest

from plugins import datadocs, steps
from tests.integration.test_quarantine import ASKED, BROKEN, klines, supply
from transforms.tables import tables

pytestmark = pytest.mark.stack


def test_the_uploaded_index_names_every_gated_table_and_leads_to_its_newest_validation(pipeline):
    lake = pipeline(HOURLY_ASSETS="BTC")
    steps.load([klines(lake, BROKEN)], "k", "first")
    steps.derive("k", "derived")
    steps.publish("k", "published")
    there = set(lake.keys(f"{datadocs.PREFIX}/"))
    index = lake.get(datadocs.INDEX).decode()
    for table in [*tables("core"), *tables("index")]:
        assert table.identifier in index
        assert f"{datadocs.PREFIX}/expectations/{table.identifier.replace('.', '/')}.html" in there
    linked = {unquote(path) for path in re.findall(r"validations/[^'\"?<> ]+\.html", index)}
    judged = set(lake.read("verdicts").column("table_name").to_pylist())
    assert {path.split("/")[2] for path in linked} == judged
    assert {"candles", "readings", "contributions"} <= judged
    assert not [path for path in linked if f"{datadocs.PREFIX}/{path}" not in there]
    (candles,) = [path for path in linked if "/candles/" in path]
    page = html.unescape(lake.get(f"{datadocs.PREFIX}/{candles}").decode())
    assert "CLOSE_ABOVE_HIGH (critical): close <= high" in page
    assert "high_usd=100.5" in page
    assert datadocs._FETCHED.search(page) is None
    assert '"../published/data-docs/index.html"' in lake.get("report/index.html").decode()

    # a newer validation takes the place of the older one; what is as it was is not written again
    steps.load([supply(lake, [1e11, 1.1e11, 1.2e11, 1.3e11, 1.4e11], ASKED)], "k", "second")
    before = lake.keys(f"{datadocs.PREFIX}/")
    steps.publish("k", "again")
    after = lake.keys(f"{datadocs.PREFIX}/")
    changed = {key.removeprefix(f"{datadocs.PREFIX}/") for key in after if after[key] != before.get(key)}
    assert {"index.html"} < changed
    assert all("stablecoin_supply" in key or key == "index.html" for key in changed)
    assert len([key for key in after if "/validations/core/candles/" in key]) == 1
