"""The habits in writing: decisions are complete and numbered, dependencies have reasons, recipes name files that exist."""

from __future__ import annotations

import re

import pytest
from packaging.requirements import Requirement

from plugins.settings import ROOT

ADRS = sorted((ROOT / "docs" / "adr").glob("*.md"))
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "glossary.md", *ADRS]
#: what a checkout does not hold: made by a run, or outside the repository
MADE = ("var/", "../shared/", "report/", "raw/", ".venv/")


def test_decisions_are_numbered_without_gap_and_have_their_parts():
    assert [path.name[:4] for path in ADRS] == [f"{number:04d}" for number in range(1, len(ADRS) + 1)]
    assert len(ADRS) >= 13
    for path in ADRS:
        text = path.read_text()
        assert re.match(rf"# {path.name[:4]} \S", text), path.name
        assert re.search(r"^\d{4}-\d\d-\d\d, (accepted|superseded by \d{4})$", text, re.MULTILINE), path.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], path.name


def test_every_dependency_has_a_reason_and_every_reason_a_dependency():
    lines = (ROOT / "requirements.in").read_text().splitlines()
    wanted = {Requirement(line).name for line in lines if line and not line.startswith("#")}
    page = (ROOT / "docs/adr/0012-dependencies.md").read_text()
    assert set(re.findall(r"^\| `([^`]+)` \| \S", page, re.MULTILINE)) == wanted


def test_decisions_that_the_code_names_exist():
    files = [path for room in ("transforms", "expectations", "plugins", "dags", "sandbox") for path in (ROOT / room).rglob("*.py")]
    files += [ROOT / name for name in ("Dockerfile", "docker-compose.yml", "Makefile", "CONTRIBUTING.md")] + ADRS
    named = {number for path in files for number in re.findall(r"(?:docs/adr/|\()(0\d{3})\b", path.read_text())}
    assert {"0003", "0004"} <= named
    assert named <= {path.name[:4] for path in ADRS}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_that_a_page_names_exist(page):
    text = page.read_text()
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", text)) | set(re.findall(r"`([\w.-]+\.(?:md|py|yml|toml|lock|in))`", text))
    named |= {link for link in re.findall(r"\]\(([^)#]+)", text) if "//" not in link}
    missing = [name for name in named if not name.startswith(MADE) and not ((ROOT / name).exists() or (page.parent / name).exists())]
    known = {"metadata.json", "report.html", "plugins/http.py"}  # told of, not pointed at
    assert sorted(set(missing) - known) == []


def test_contributing_names_targets_tests_and_functions_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = set(re.findall(r"`make ([a-z]+)", text))
    assert asked
    assert asked <= targets
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in tests, name
    for heading in ("source", "signal", "column"):
        assert f"## Recipe: a {heading}\n\n1. " in text


def test_the_glossary_explains_each_word_once():
    words = re.findall(r"\*\*([^*]+)\*\*:", (ROOT / "docs/glossary.md").read_text())
    assert len(words) == len(set(words))
    assert len(words) > 70
    assert {
        "as_of",
        "known_at",
        "source",
        "venue",
        "window",
        "partition",
        "revision",
        "restatement",
        "watermark",
        "look-back",
        "backfill",
    } <= {*words}
    assert {"replay", "epoch", "liquidation side", "feature", "signal", "regime", "event", "funding", "open interest", "basis"} <= {*words}
