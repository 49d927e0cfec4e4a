"""Real services without Airflow: the steps of the pipeline run in this process against PostgreSQL, SeaweedFS and the sandbox."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import psutil
import pytest
import requests

from plugins.lake import Lake
from plugins.settings import ROOT, Settings
from plugins.stack import Stack, read_card


def short_home() -> Path:
    """A new folder with a short path (a unix socket lies below it) that other users may enter: PostgreSQL does not run as root."""
    home = Path(tempfile.mkdtemp(prefix="tide-"))
    home.chmod(0o755)
    return home


@pytest.fixture(scope="session")
def services() -> Iterator[Stack]:
    """PostgreSQL and SeaweedFS and a sandbox with the simulated market, whose clock stands still."""
    home = short_home()
    with warnings.catch_warnings(), Stack("simulated", home, say=lambda _text: None) as stack:
        warnings.simplefilter("ignore")
        stack.postgres()
        stack.object_store()
        stack.sandbox("--limits-scale", "1000", "--now", "2026-08-01T00:00:00Z")
        stack.plan_history()
        stack.environment["TIDEGAUGE_NOW"] = "2026-08-01T00:00:00Z"
        yield stack
        started = [service.process for service in stack.services]
    for process in started:
        process.wait(60)
    shutil.rmtree(home, ignore_errors=True)


def empty_lakes(services: Stack, patch: pytest.MonkeyPatch, folder: Path) -> Callable[..., Lake]:
    """A function that points the process at a fresh, empty lake and returns it; keyword arguments override TIDEGAUGE_ variables."""
    made = 0

    def fresh(**overrides: object) -> Lake:
        nonlocal made
        made += 1
        name = f"{folder.name}-{made}"
        chosen = {
            **{key: value for key, value in services.environment.items() if key.startswith("TIDEGAUGE_")},
            "TIDEGAUGE_WAREHOUSE": name,
            "TIDEGAUGE_CATALOG_URL": f"sqlite:///{folder}/catalog-{made}.db",
            "TIDEGAUGE_HOME": str(folder / f"home-{made}"),
            **{f"TIDEGAUGE_{key}": value if isinstance(value, str) else json.dumps(value) for key, value in overrides.items()},
        }
        (folder / f"home-{made}").mkdir(exist_ok=True)
        for key, value in chosen.items():
            patch.setenv(key, value)
        lake = Lake(Settings.read())
        lake.create()
        return lake

    return fresh


@pytest.fixture
def pipeline(services: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Lake]:
    """Empty lakes for one test."""
    return empty_lakes(services, monkeypatch, tmp_path)


@contextmanager
def at_fault(sandbox: str, *rules: dict[str, object]) -> Iterator[Callable[[], list[int]]]:
    """The rules are in force in the sandbox inside the block; what is given tells how often each has struck."""

    def put(some: list[dict[str, object]]) -> None:
        requests.post(f"{sandbox}/sandbox/faults", json=some, timeout=60).raise_for_status()

    def struck() -> list[int]:
        return [rule["struck"] for rule in requests.get(f"{sandbox}/sandbox/stats", timeout=60).json()["faults"]]

    put(list(rules))
    try:
        yield struck
    finally:
        put([])


@pytest.fixture
def sandbox(services: Stack) -> str:
    """Address of the sandbox."""
    return services.environment["TIDEGAUGE_SANDBOX_URL"]


def at_home(home: Path) -> list[psutil.Process]:
    """Every process whose command line names the home: services, PostgreSQL included."""
    return [one for one in psutil.process_iter(["cmdline"]) if str(home) in " ".join(one.info["cmdline"] or [])]


def end_postgres(home: Path) -> None:
    """End the PostgreSQL of a home whose owner was killed: its wheel counts the dead process among the server's users for ever."""
    for one in at_home(home):
        if one.name() == "postgres":
            one.send_signal(signal.SIGINT)
            one.wait(60)


def short_history() -> tuple[str, str]:
    """The first 40 days of the quarter before this one: enough for a score, over for weeks, within one quarter."""
    now = datetime.now(UTC)
    year, month = (now.year, (now.month - 1) // 3 * 3 - 2) if now.month > 3 else (now.year - 1, 10)
    start = datetime(year, month, 1, tzinfo=UTC)
    return f"{start:%Y-%m-%d}", f"{start + timedelta(days=40):%Y-%m-%d}"


def command(home: Path, *arguments: str) -> list[str]:
    """The command line behind a make target, in a home of its own."""
    return [sys.executable, "-m", "plugins.cli", "--home", str(home), *arguments]


def untouched(**settings: str) -> dict[str, str]:
    """The environment of a newcomer: nothing of ours but `settings`."""
    ours = ("TIDEGAUGE_", "AIRFLOW_", "SOURCES", "RECORDINGS")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)} | {"PYTHONPATH": str(ROOT), **settings}


def cli(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(home, *arguments), env=untouched(**settings), cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )


class Started:
    """A command under way, in a session of its own, and what it has printed so far. Ended at the latest when the block ends."""

    def __init__(self, home: Path, *arguments: str, **settings: str) -> None:
        self.home, self.log = home, home / f"{arguments[0]}.out"
        with self.log.open("w") as sink:
            self.process = subprocess.Popen(
                command(home, *arguments), env=untouched(**settings), cwd=ROOT, stdout=sink, stderr=sink, start_new_session=True
            )

    def __enter__(self) -> Self:
        return self

    def said(self) -> str:
        """Everything printed so far."""
        return self.log.read_text()

    def wait_for(self, words: str, seconds: float = 600.0) -> str:
        """Wait until it has printed `words`."""
        end = time.monotonic() + seconds
        while words not in self.said():
            assert self.process.poll() is None, f"ended with code {self.process.returncode}:\n{self.said()}"
            assert time.monotonic() < end, f"{words!r} was not said within {seconds:.0f} s:\n{self.said()}"
            time.sleep(0.2)
        return self.said()

    def services(self) -> list[tuple[int, float]]:
        """The services it says it started, each by process and time of birth."""
        card = read_card(self.home)
        return [tuple(one) for one in card["services"]] if card else []

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(60)
