"""The commands behind `make`: run, up, down, trace, sql, known, quarantine, decide, airflow, settings.

`run` starts the embedded stack, fills what is missing of the market's history through Airflow's backfill, prints the reading and stops.
"""

from __future__ import annotations

import argparse
import getpass
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plugins import kernels
from plugins.errors import ConfigurationError, TidegaugeError
from plugins.lake import Lake
from plugins.mainjob import fill
from plugins.orchestra import Airflow
from plugins.settings import ROOT, Settings
from plugins.stack import Stack, alive, end_postgres, read_card
from transforms.roster import SOURCES
from transforms.sources.contract import REASONS
from transforms.tables import TABLES
from transforms.vocabulary import DECISIONS
from transforms.windows import utc

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

LABEL: Final = {
    "simulated": "SIMULATED market: these are not real prices",
    "recorded": "RECORDED data, replayed through the sandbox",
    "live": "LIVE: the venues' public endpoints",
}


def market_of(sources: str, recordings: str) -> str:
    """Which market SOURCES and RECORDINGS choose; contradictions raise."""
    if sources not in ("", "sandbox", "live"):
        raise ConfigurationError(f"SOURCES={sources!r} is not known: use SOURCES=live, or nothing for the sandbox.")
    if sources == "live" and recordings:
        raise ConfigurationError("SOURCES=live and RECORDINGS=... exclude each other: recordings are replayed through the sandbox.")
    if recordings and not Path(recordings, "series").is_dir():
        found = "a folder without `series` in it" if Path(recordings).is_dir() else "no such folder"
        raise ConfigurationError(
            f"RECORDINGS={recordings} is {found}: name the folder of recordings, for example RECORDINGS=../shared/recordings."
        )
    return "live" if sources == "live" else "recorded" if recordings else "simulated"


class QueryRefused(TidegaugeError):
    """A query that DuckDB cannot parse or run."""


class Progress:
    """Lines with the seconds since the start."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)


def home_of(options: argparse.Namespace) -> tuple[str, Path]:
    """Market and folder that the options choose."""
    market = market_of(options.sources, options.recordings)
    return market, Path(options.home or ROOT / "var" / market)


@contextmanager
def stack_of(options: argparse.Namespace, say: Progress) -> Iterator[Stack]:
    """All services of the chosen market, started in order."""
    market, home = home_of(options)
    say(LABEL[market])
    kernels.compiled(say=say)
    with Stack(market, home, recordings=options.recordings, say=say) as stack:
        stack.postgres()
        stack.object_store()
        say("PostgreSQL and the object store answer")
        stack.sandbox(*(["--limits-scale", "1000"] if market != "live" else []))
        stack.plan_history()
        Lake(Settings.read(stack.environment)).create()
        stack.airflow()
        say(f"Airflow answers at {stack.address}")
        yield stack


@contextmanager
def lake_of(options: argparse.Namespace) -> Iterator[Lake]:
    """The lake of the chosen market for a command that only reads: of the running stack, or started for the moment."""
    market, home = home_of(options)
    nobody = {"TIDEGAUGE_SANDBOX_URL": "" if market == "live" else "none"}
    card = read_card(home)
    if card is not None and alive(card["owner"]):
        yield Lake(Settings.read(nobody | card["environment"]))
        print(LABEL[market], file=sys.stderr)  # beside the answer, which may go into a file
        return
    if not (home / "s3").exists() and not os.environ.get("TIDEGAUGE_S3_ENDPOINT"):
        raise ConfigurationError(
            f"There is no lake in {home} yet: `make run` fills it first (the same SOURCES or RECORDINGS choose the same lake)."
        )
    with Stack(market, home, recordings=options.recordings) as stack:
        stack.postgres()
        stack.object_store()
        yield Lake(Settings.read(nobody | stack.environment))
    print(LABEL[market], file=sys.stderr)


def run(options: argparse.Namespace) -> int:
    """The main job: bring the lake up to date and print the reading."""
    say = Progress()
    with stack_of(options, say) as stack:
        airflow = Airflow(stack.address, "admin", stack.secret("airflow_password"))
        settings = Settings.read(stack.environment)
        done = fill(airflow, Lake(settings), say, stack.check)
        if options.quick:
            return 0 if done else 1
        print()
        print((settings.home / "summary.txt").read_text() if (settings.home / "summary.txt").exists() else "Nothing is published yet.")
        print()
        print(_where(settings, options))
    say("stopped")
    return 0 if done else 1


def _where(settings: Settings, options: argparse.Namespace) -> str:
    """Where everything lies, and the commands to look at it (with the variables that chose this market)."""
    home = Path(os.path.relpath(settings.home)) if settings.home.is_relative_to(Path.cwd()) else settings.home
    same = f" RECORDINGS={options.recordings}" if options.recordings else " SOURCES=live" if settings.market == "live" else ""
    files = f"{home}/published/readings/*/*.parquet"
    query = f"select asset, cadence, as_of, s, f, x, regime, status, market from read_parquet('{files}') order by as_of desc, asset limit 6"
    return "\n".join(
        [
            f"lake     s3://{settings.s3_bucket}/{settings.warehouse} (Iceberg; served while `make up{same}` runs), copy in {home}/published",
            f'DuckDB   .venv/bin/python -c "import duckdb; print(duckdb.sql(\\"{query}\\"))"',
            f"report   {home}/report.html",
            f"more     make trace ASSET=BTC{same}   (a value back to its bytes)     make up{same}   (Airflow's UI)",
        ]
    )


def up(options: argparse.Namespace) -> int:
    """Airflow with its UI and everything else, until Ctrl-C."""
    say = Progress()
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _frame: stopping.append(got))
    with stack_of(options, say) as stack:
        airflow = Airflow(stack.address, "admin", stack.secret("airflow_password"))
        settings = Settings.read(stack.environment)
        fill(airflow, Lake(settings), say, stack.check, live=True, stopping=lambda: bool(stopping))
        say(f"UI       {stack.address}   user admin   password {stack.secret('airflow_password')}")
        say(f"S3       {settings.s3_endpoint}   bucket {settings.s3_bucket}   keys in {settings.home}/secrets.json")
        say("Ctrl-C stops everything")
        while not stopping:
            stack.check()
            time.sleep(1)
    say("stopped")
    return 0


def down(options: argparse.Namespace) -> int:
    """Stop what `up` left running; with `--wipe`, remove what the markets keep."""
    base = Path(options.home) if options.home else ROOT / "var"
    for path in sorted(base.glob("**/running.json")):
        card = read_card(path.parent) or {}
        owner = card["owner"]
        if alive(owner):
            os.kill(owner[0], signal.SIGTERM)
            print(f"asked process {owner[0]} ({path.parent.name}) to stop")
            end = time.monotonic() + 30
            while alive(owner) and time.monotonic() < end:
                time.sleep(0.2)
        for service in card["services"]:  # what a killed owner left
            if alive(service):
                os.killpg(service[0], signal.SIGKILL)
        path.unlink(missing_ok=True)
        end_postgres(path.parent)
    if options.wipe:
        shutil.rmtree(base, ignore_errors=True)
        print(f"removed {base}")
    return 0


def trace(options: argparse.Namespace) -> int:
    """The way of one number back to raw files and hashes."""
    from plugins.tracing import trace_text

    as_of = _instant(options.at) if options.at else None
    with lake_of(options) as lake:
        print(trace_text(lake, options.asset, options.cadence, as_of, options.feature, options.index))
    return 0


def sql(options: argparse.Namespace) -> int:
    """A DuckDB query over the Iceberg tables (`core.open_interest`, `index.readings`, `ops.quarantine`, ...)."""
    import duckdb

    from plugins.catalog import connect

    with lake_of(options) as lake:
        try:
            found = connect(lake).sql(options.query)
            if found is None:
                raise QueryRefused(f'Q={options.query!r} asks for no rows: make sql Q="select ... from ..."; `show all tables` lists them.')
            print(as_text(found, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
        except duckdb.Error as error:
            raise QueryRefused(f"DuckDB does not take the query: {error}") from None
    return 0


def as_text(found: duckdb.DuckDBPyRelation, columns: int | None, most: int = 20) -> str:
    """All columns of a result: as one table where it fits into `columns` (None: any width), else row by row, `most` of them."""
    wide = io.StringIO()
    with redirect_stdout(wide):
        found.show(max_width=1_000_000, max_rows=200, max_col_width=200)
    text = wide.getvalue().rstrip()
    if columns is None or len(text.partition("\n")[0]) <= columns:
        return text
    pad, rows = max(map(len, found.columns)), found.limit(most + 1).fetchall()
    lines = [
        line
        for number, row in enumerate(rows[:most], 1)
        for line in (f"-- row {number}", *(f"{name:{pad}}  {value}" for name, value in zip(found.columns, row, strict=True)))
    ]
    return "\n".join([*lines, *(["-- and more; `| less -S` shows one wide table"] if len(rows) > most else [])])


def _instant(at: str) -> datetime:
    try:
        return utc(at)
    except ValueError:
        raise QueryRefused(f"AT={at!r} is no instant: write it as 2026-05-01T12:00 (UTC).") from None


def known(options: argparse.Namespace) -> int:
    """A table as it was known at an instant: of each key the newest revision with `known_at` not after it."""
    chosen = TABLES.get(options.table.split(".")[-1])
    if chosen is None or "known_at" not in chosen.columns:
        names = ", ".join(name for name, one in TABLES.items() if "known_at" in one.columns)
        raise QueryRefused(f"TABLE={options.table!r} has no revisions to look back on: use one of {names}.")
    at = _instant(options.at)
    where = f" WHERE {options.where}" if options.where else ""
    options.query = f"SELECT * FROM known.{chosen.name}(TIMESTAMPTZ '{at.isoformat()}'){where} ORDER BY {', '.join(chosen.key)}"
    return sql(options)


def quarantine(options: argparse.Namespace) -> int:
    """What is open in quarantine, and why."""
    from plugins.quarantine import Choice, listing

    for name, found, known in (
        ("SOURCE", options.source, tuple(SOURCES)),
        ("TABLE", options.table, tuple(TABLES)),
        ("REASON", options.reason, tuple(REASONS)),
    ):
        if found and found not in known:  # else a slip of the pen would read like a clean lake
            raise QueryRefused(f"{name}={found!r} is not known: use one of {', '.join(known)}.")
    with lake_of(options) as lake:
        print(listing(lake, Choice(source=options.source, table=options.table, reason_code=options.reason), options.limit))
    return 0


def decide(options: argparse.Namespace) -> int:
    """Release or reject one quarantined row, and derive and publish what follows. Not beside a running stack: one writer at a time."""
    from plugins import deriving, publishing
    from plugins.quarantine import Choice
    from plugins.quarantine import decide as settle

    _, home = home_of(options)
    card = read_card(home)
    if card is not None and alive(card["owner"]):
        raise ConfigurationError(
            f"The stack in {home} is running and one writer works at a time: trigger the Dag `quarantine` in its UI, or stop it first."
        )
    if not options.id:
        raise ConfigurationError('ID is missing: `make release ID=... WHY="..."`; `make quarantine` lists the ids.')
    with lake_of(options) as lake:
        run_id = f"by hand {datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
        print(settle(lake, Choice(quarantine_id=options.id), options.decision, options.why, options.who, run_id))
        deriving.bring_up_to_date(lake, lake.settings, run_id, "after a decision")
        publishing.publish(lake, lake.settings)
    print("derived and published")
    return 0


def airflow(options: argparse.Namespace) -> int:
    """Airflow's own command line, on the running stack: `backfill create ...`, `dags trigger ...`."""
    _, home = home_of(options)
    card = read_card(home)
    if card is None or not alive(card["owner"]):
        raise ConfigurationError(f"No stack runs in {home}: start it with `make up` in another terminal, then ask again.")
    return subprocess.run(
        [Path(sys.executable).parent / "airflow", *options.words], env=os.environ | card["environment"], check=False
    ).returncode


def settings(options: argparse.Namespace) -> int:
    """The settings in force, secrets hidden: those of the environment, else of the running stack."""
    card = read_card(home_of(options)[1]) if "TIDEGAUGE_MARKET" not in os.environ else None
    for name, value in Settings.read(os.environ | (card["environment"] if card else {})).redacted().items():
        print(f"{name:16} {value}")
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows: use 1 or more")
    return int(text)


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; an error of ours is one plain sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="tidegauge", description=__doc__)
    parser.add_argument("--sources", default=os.environ.get("SOURCES", ""))
    parser.add_argument("--recordings", default=os.environ.get("RECORDINGS", ""))
    parser.add_argument("--home", default=os.environ.get("TIDEGAUGE_HOME", ""))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("--quick", action="store_true", help="no reading at the end")
    commands.add_parser("up")
    commands.add_parser("down").add_argument("--wipe", action="store_true")
    tracing = commands.add_parser("trace")
    tracing.add_argument("--asset", default="BTC")
    tracing.add_argument("--cadence", default="1h", choices=("1h", "1d"))
    tracing.add_argument("--index", default="S", choices=("S", "F", "X"), help="which of the three numbers")
    tracing.add_argument("--at", default="", help="as_of instant (UTC); default the latest")
    tracing.add_argument("--feature", default="")
    commands.add_parser("sql").add_argument("query")
    looking = commands.add_parser("known")
    looking.add_argument("--table", required=True)
    looking.add_argument("--at", required=True, help="instant (UTC)")
    looking.add_argument("--where", default="", help="SQL condition")
    listed = commands.add_parser("quarantine")
    for name in ("source", "table", "reason"):
        listed.add_argument(f"--{name}", default="")
    listed.add_argument("--limit", type=_count, default=20)
    deciding = commands.add_parser("decide")
    deciding.add_argument("decision", choices=DECISIONS)
    deciding.add_argument("--id", default="", help="quarantine id, or its first 8 characters or more")
    deciding.add_argument("--why", default="", help="the reason, kept with the decision")
    deciding.add_argument("--who", default=getpass.getuser())
    commands.add_parser("airflow").add_argument("words", nargs=argparse.REMAINDER)
    commands.add_parser("settings")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell started us with interrupts ignored: services must not outlive us
        signal.signal(number, _interrupt)
    try:
        return int(globals()[options.command](options))
    except TidegaugeError as error:
        print(f"tidegauge: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # no right to write, a full disk, a folder where a file should be
        print(f"tidegauge: {error}: mend that, or set TIDEGAUGE_HOME to a folder that can be written to.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
