"""Shared by all tests: where the recordings are, and a throw-away Airflow home."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = ROOT.parent / "shared" / "recordings"

# Before anything imports airflow: a home of its own, our Dags, no examples.
os.environ |= {
    "AIRFLOW_HOME": tempfile.mkdtemp(prefix="tidegauge-airflow-"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
}


def pytest_report_header() -> str:
    """Say at the top whether tests on real data run."""
    return f"recordings: {'../shared/recordings' if RECORDINGS.is_dir() else 'not here: tests marked `recordings` are skipped'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `recordings` pass over themselves where the folder is not there, and say so."""
    if RECORDINGS.is_dir():
        return
    for item in items:
        if item.get_closest_marker("recordings"):
            item.add_marker(pytest.mark.skip(reason="no ../shared/recordings here (a fresh clone has none)"))


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recordings."""
    if not RECORDINGS.is_dir():
        pytest.skip("no ../shared/recordings here (a fresh clone has none)")
    return RECORDINGS
