"""Real services without Airflow: the steps of the pipeline run in this process against PostgreSQL, SeaweedFS and the sandbox."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plugins.lake import Lake
from plugins.settings import Settings
from plugins.stack import Stack


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """PostgreSQL and SeaweedFS and a sandbox with the simulated market, whose clock stands still."""
    home = tmp_path_factory.mktemp("stack")
    with warnings.catch_warnings(), Stack("simulated", home, say=lambda _text: None) as stack:
        warnings.simplefilter("ignore")
        stack.postgres()
        stack.object_store()
        stack.sandbox("--limits-scale", "1000", "--now", "2026-08-01T00:00:00Z")
        stack.plan_history()
        stack.environment["TIDEGAUGE_NOW"] = "2026-08-01T00:00:00Z"
        yield stack


@pytest.fixture
def pipeline(services: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Lake]:
    """A function that points the process at a fresh, empty lake and returns it; keyword arguments override TIDEGAUGE_ variables."""
    made = 0

    def fresh(**overrides: object) -> Lake:
        nonlocal made
        made += 1
        name = f"{tmp_path.name}-{made}"
        chosen = {
            **{key: value for key, value in services.environment.items() if key.startswith("TIDEGAUGE_")},
            "TIDEGAUGE_WAREHOUSE": name,
            "TIDEGAUGE_CATALOG_URL": f"sqlite:///{tmp_path}/catalog-{made}.db",
            "TIDEGAUGE_HOME": str(tmp_path / f"home-{made}"),
            **{f"TIDEGAUGE_{key}": value if isinstance(value, str) else json.dumps(value) for key, value in overrides.items()},
        }
        (tmp_path / f"home-{made}").mkdir(exist_ok=True)
        for key, value in chosen.items():
            monkeypatch.setenv(key, value)
        lake = Lake(Settings.read())
        lake.create()
        return lake

    return fresh
