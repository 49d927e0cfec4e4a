"""Our own side out of order: a lake that is down, a wrong key, contradictory settings. One plain sentence each, exit code 1, no traceback."""

from __future__ import annotations

import json
import os
from datetime import date

import pytest

from plugins.ledger import rows_table
from plugins.stack import born
from tests.integration.conftest import cli

pytestmark = pytest.mark.stack


def one_sentence(done):
    """Exit code 1 and one plain line on stderr; gives the line."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("tidegauge: ")
    assert done.stdout == ""
    return lines[0]


#: enough for `trace` to look for a reading
PARTITION = {
    "table_name": "readings",
    "subject": "1h",
    "day": date(2026, 7, 1),
    "row_count": 1,
    "content_sha256": "0" * 64,
    "inputs_sha256": "0" * 64,
    "run_id": "none",
}

NOBODY = "http://127.0.0.1:9"  # the discard port: nobody listens
BROKEN = [
    ("the lake is down", {"S3_ENDPOINT": NOBODY}, "does not answer", "TIDEGAUGE_S3_ENDPOINT"),
    ("a wrong secret", {"S3_SECRET_KEY": "wrong"}, "refused us", "TIDEGAUGE_S3_SECRET_KEY"),
    ("an unknown key", {"S3_ACCESS_KEY": "nobody"}, "refused us", "TIDEGAUGE_S3_ACCESS_KEY"),
    ("no such bucket", {"S3_BUCKET": "not-there", "CATALOG_URL": "sqlite://"}, "refused us", "TIDEGAUGE_S3_BUCKET"),
    (
        "the catalog is down",
        {"CATALOG_URL": "postgresql+psycopg2://127.0.0.1:9/iceberg"},
        "catalog does not answer",
        "TIDEGAUGE_CATALOG_URL",
    ),
]


@pytest.mark.parametrize("command", [("sql", "select count(*) from ops.raw_answers"), ("trace",)], ids=["sql", "trace"])
@pytest.mark.parametrize(("wrong", "says", "names"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_lake_out_of_reach_is_one_sentence(wrong, says, names, command, pipeline, tmp_path):
    """The command finds a running stack's card whose settings are wrong."""
    lake = pipeline()
    lake.append("partitions", rows_table("partitions", [PARTITION]))
    environment = {key: value for key, value in os.environ.items() if key.startswith("TIDEGAUGE_")}
    card = {"owner": born(os.getpid()), "services": [], "environment": environment | {f"TIDEGAUGE_{k}": v for k, v in wrong.items()}}
    (tmp_path / "running.json").write_text(json.dumps(card))
    said = one_sentence(cli(tmp_path, *command))
    assert says in said
    assert names in said


COMPLETE = {
    "TIDEGAUGE_MARKET": "live",
    "TIDEGAUGE_S3_BUCKET": "b",
    "TIDEGAUGE_S3_ACCESS_KEY": "k",
    "TIDEGAUGE_S3_SECRET_KEY": "s",
    "TIDEGAUGE_CATALOG_URL": "sqlite://",
}


@pytest.mark.parametrize(
    ("arguments", "settings", "names"),
    [
        (("--sources", "live", "--recordings", ".", "run"), {}, "exclude each other"),
        (("--sources", "bitcoin", "run"), {}, "SOURCES='bitcoin'"),
        (("--recordings", "nowhere", "run"), {}, "RECORDINGS=nowhere"),
        (("sql", "select 1"), {}, "`make run` fills it first"),
        (("sql", "select 1"), {"TIDEGAUGE_S3_ENDPOINT": NOBODY}, "TIDEGAUGE_S3_BUCKET"),
        (("settings",), {}, "TIDEGAUGE_MARKET is not set"),
        (("settings",), {"TIDEGAUGE_MARKET": "live", "TIDEGAUGE_SANDBOX_URL": NOBODY}, "never labelled live"),
        (("settings",), {"TIDEGAUGE_MARKET": "real"}, "must be one of"),
        (("settings",), {"TIDEGAUGE_MARKET": "live", "TIDEGAUGE_BUDGET_SCALE": "2"}, "not ours to raise"),
        (("settings",), {"TIDEGAUGE_MARKET": "live", "TIDEGAUGE_BUDGET_SCALE": "fast"}, "TIDEGAUGE_BUDGET_SCALE"),
        (("settings",), {**COMPLETE, "TIDEGAUGE_NOW": "yesterday"}, "TIDEGAUGE_NOW"),
    ],
)
def test_contradictory_settings_are_one_sentence(arguments, settings, names, tmp_path):
    assert names in one_sentence(cli(tmp_path, *arguments, **settings))
