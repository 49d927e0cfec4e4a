"""What a person types: it reaches the command as typed, and where it is wrong one sentence says what was found and what to do."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from plugins import cli
from plugins.errors import ConfigurationError, LakeUnreachable
from plugins.ports import ui_port
from plugins.settings import Settings
from plugins.stack import Stack

ROOT = Path(__file__).parents[2]
ECHO = f"{sys.executable} -c 'import json,sys; print(json.dumps(sys.argv[3:]))'"


def typed(target: str, **variables: str) -> list[str]:
    """The words that a make target hands to the command line."""
    command = ["make", "-s", "-o", ".venv/installed", target, f"PY={ECHO}", *(f"{name}={value}" for name, value in variables.items())]
    found: list[str] = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout)
    return found


@pytest.mark.parametrize("text", ['select "asset" from x', "a `date` b", "it's", "two  spaces", "(a; b) > c & d"])
def test_quotes_and_signs_of_the_shell_are_text_and_are_not_run(text):
    assert typed("sql", Q=text) == ["sql", text]
    assert typed("release", ID="3f2a9c1b", WHY=text, WHO=text) == ["decide", "release", "--id", "3f2a9c1b", "--why", text, "--who", text]
    assert typed("known", AT="2026-05-01", TABLE="funding", WHERE=text)[-1] == text


def test_what_is_not_typed_has_its_default():
    assert typed("trace") == ["trace", "--asset", "BTC", "--index", "S", "--cadence", "1h", "--at", "", "--feature", ""]
    assert typed("reject", ID="3f2a9c1b", WHY="x")[-2:] == ["--why", "x"], "who decides is the user's name then"
    assert typed("quarantine")[-1] == "20"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trace", "--at", "2026-13-01"], "AT='2026-13-01' is no instant: write it as"),
        (["trace", "--at", "2026-05-01T12:00+02:00"], "is no instant: write it as 2026-05-01T12:00 (UTC)"),
        (["known", "--table", "funding", "--at", ""], "AT='' is no instant"),
        (["known", "--table", "nope", "--at", "2026-05-01"], "TABLE='nope' has no revisions to look back on: use one of"),
        (["quarantine", "--source", "binnance"], "SOURCE='binnance' is not known: use one of binance, bybit"),
        (["quarantine", "--table", "nope"], "TABLE='nope' is not known"),
        (["quarantine", "--reason", "nope"], "REASON='nope' is not known: use one of HTTP_STATUS"),
        (["decide", "release"], "ID is missing"),
        (["airflow", "dags", "list"], "start it with `make up`"),
        (["--sources", "nope", "run"], "SOURCES='nope' is not known"),
        (["--recordings", "/nowhere", "run"], "RECORDINGS=/nowhere is no such folder"),
        (["--recordings", str(ROOT / "docs"), "run"], "a folder without `series` in it: name the folder of recordings"),
    ],
)
def test_what_is_typed_wrong_is_said_in_one_sentence(words, said, tmp_path, capsys):
    assert cli.main(["--home", str(tmp_path), *words]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


def test_a_home_that_cannot_be_written_to_is_said_with_the_way_out(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["--home", str(tmp_path / "file" / "home"), "run", "--quick"]) == 1
    told = capsys.readouterr().err
    assert str(tmp_path / "file") in told
    assert "TIDEGAUGE_HOME" in told


@pytest.mark.parametrize("limit", ["0", "-3", "many"])
def test_a_limit_is_a_number_of_rows(limit, capsys):
    with pytest.raises(SystemExit):
        cli.main(["quarantine", f"--limit={limit}"])
    assert "use 1 or more" in capsys.readouterr().err


def test_a_port_in_use_and_one_that_is_none_are_refused_before_anything_starts(monkeypatch):
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("TIDEGAUGE_UI_PORT", str(taken.getsockname()[1]))
        with pytest.raises(ConfigurationError, match=r"cannot be used \(Address already in use\): choose another"):
            ui_port()
    for wrong in ("http", "-1", "70000"):
        monkeypatch.setenv("TIDEGAUGE_UI_PORT", wrong)
        with pytest.raises(ConfigurationError, match="is no port"):
            ui_port()
    monkeypatch.setenv("TIDEGAUGE_UI_PORT", "")
    assert 1024 < ui_port() < 65536


def test_a_start_that_is_no_day_is_refused(monkeypatch, tmp_path):
    for wrong in ("last year", "2999-01-01"):
        monkeypatch.setenv("TIDEGAUGE_START", wrong)
        with pytest.raises(ConfigurationError, match=rf"TIDEGAUGE_START='{wrong}': .* write a day of the past as 2025-01-01"):
            Stack("simulated", tmp_path).plan_history()


@pytest.mark.parametrize(
    "spans", ["5", "{", '{"*": 5}', '{"*": [["2025-01-01"]]}', '{"*": [["2025-04-01", "2025-01-01"]]}', '{"*": [["soon", "now"]]}']
)
def test_spans_that_cannot_be_meant_are_refused(spans):
    own = {
        "MARKET": "simulated",
        "SANDBOX_URL": "http://s",
        "S3_BUCKET": "b",
        "S3_ACCESS_KEY": "a",
        "S3_SECRET_KEY": "s",
        "CATALOG_URL": "c",
    }
    given = {f"TIDEGAUGE_{name}": value for name, value in own.items()}
    with pytest.raises(ConfigurationError, match="TIDEGAUGE_SPANS is not understood"):
        Settings.read(given | {"TIDEGAUGE_SPANS": spans})


def test_an_object_store_that_nobody_serves_is_not_said_to_answer(monkeypatch, tmp_path):
    for name, value in {"ENDPOINT": "http://127.0.0.1:1", "BUCKET": "b", "ACCESS_KEY": "a", "SECRET_KEY": "s"}.items():
        monkeypatch.setenv(f"TIDEGAUGE_S3_{name}", value)
    stack = Stack("simulated", tmp_path)
    stack.environment["TIDEGAUGE_CATALOG_URL"] = "postgresql://nobody"
    with pytest.raises(LakeUnreachable, match=r"127\.0\.0\.1:1 does not answer"):
        stack.object_store()


@pytest.mark.parametrize("columns", [None, 60])
def test_a_result_shows_every_column_whatever_the_width(columns):
    wide = duckdb.sql("select i, " + ", ".join(f"'value {n} of ' || i as column_{n}" for n in range(20)) + " from range(3) t(i)")
    text = cli.as_text(wide, columns)
    assert [n for n in range(20) if f"column_{n}" not in text or f"value {n} of 2" not in text] == []
    assert "…" not in text
    narrow = cli.as_text(duckdb.sql("select 1 as one, 2 as two"), columns)
    assert "│ " in narrow, "what fits is a table"
    assert cli.as_text(wide, 60, most=2).endswith("-- and more; `| less -S` shows one wide table")
