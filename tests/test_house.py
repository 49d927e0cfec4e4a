"""The house rules as a test: who may import whom, what the pure room may not reach, and how long a file may be.

The law itself is `ROOMS` (the table of the plan, room by room). `violations` reads every file of the rooms with `ast`; planted
violations prove that it sees them.
"""

import ast
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST, LONGEST_DAG = 450, 60

#: The part of the standard library that cannot reach a clock, a network, a disk, the environment or chance by being imported.
PURE_STDLIB = frozenset(
    """__future__ abc base64 binascii bisect calendar collections contextlib contextvars copy csv dataclasses datetime decimal enum fractions
    functools graphlib gzip hashlib heapq html importlib io itertools json math numbers operator re statistics string struct sys textwrap types
    typing unicodedata urllib.parse zipfile zlib""".split()  # noqa: SIM905 (a list of fifty quoted words is harder to read)
)


class Room(NamedTuple):
    """What a room may import: dotted prefixes; None for anything. `never` wins. `in_bodies`: additionally inside functions."""

    may: frozenset[str] | None
    never: frozenset[str] = frozenset()
    in_bodies: frozenset[str] = frozenset()


ROOMS = {
    "transforms": Room(
        PURE_STDLIB | {"transforms", "numpy", "pandas", "pyarrow", "msgspec", "numba", "isal"},
        frozenset({"pyarrow.fs", "pyarrow.parquet", "pyarrow.dataset", "pyarrow.flight", "pyarrow.feather", "pyarrow.orc", "numpy.random"}),
    ),
    "expectations": Room(sys.stdlib_module_names | {"expectations", "transforms", "great_expectations", "pandas", "numpy", "pyarrow"}),
    "plugins": Room(None, frozenset({"dags", "sandbox", "tests"})),
    "dags": Room(
        sys.stdlib_module_names | {"airflow.sdk", "transforms.roster", "transforms.tables", "plugins.assets"},
        in_bodies=frozenset({"plugins.steps"}),
    ),
    "sandbox": Room(sys.stdlib_module_names | {"sandbox", "transforms", "aiohttp", "numpy", "numba", "pandas", "pyarrow"}),
}

#: Names the pure room may not touch, whatever they hang on: `datetime.now`, `pd.Timestamp.utcnow`, `np.random`, `os.environ` ...
IMPURE_ATTRIBUTES = frozenset(
    {"now", "utcnow", "today", "environ", "getenv", "random", "urandom", "memory_map", "OSFile", "read_parquet", "to_parquet", "fromfile"}
)
IMPURE_CALLS = frozenset({"open", "input", "exec", "eval", "__import__", "breakpoint", "print"})
CLOCKS = frozenset({"time", "monotonic", "perf_counter", "time_ns"})


def within(module, prefixes):
    """Is the module one of the prefixes, or inside one?"""
    parts = module.split(".")
    return any(".".join(parts[:length]) in prefixes for length in range(1, len(parts) + 1))


def imported(node, package):
    """The modules an import may bind, most specific first: `from a import b` may mean a.b or a name in a."""
    if isinstance(node, ast.Import):
        return [[alias.name] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            upper = package[: len(package) - node.level + 1]
            base = ".".join([*upper, base] if base else upper)
        return [[f"{base}.{alias.name}", base] for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("import_module", "importlib.import_module", "__import__"):
        first = node.args[0] if node.args else None
        if isinstance(first, ast.JoinedStr) and first.values:
            first = first.values[0]
        text = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""
        return [[text.rstrip(".") or "a module whose name is computed"]]
    return []


def parents(tree):
    """Each node with whether it stands inside a function."""
    stack = [(tree, False)]
    while stack:
        node, inside = stack.pop()
        yield node, inside
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        stack.extend((child, inside) for child in ast.iter_child_nodes(node))


def import_faults(room, names, inside):
    law = ROOMS[room]
    if any(within(name, law.never) for name in names):
        return f"imports {names[0]}, which {room} never may"
    if law.may is None:
        return ""
    allowed = law.may | (law.in_bodies if inside else frozenset())
    where = " at the top" if law.in_bodies and not inside else ""
    return "" if any(within(name, allowed) for name in names) else f"imports {names[0]}{where}"


def impurity(node):
    """What the pure room may not do, in one word."""
    if isinstance(node, ast.Attribute):
        if node.attr in IMPURE_ATTRIBUTES:
            return f"touches .{node.attr}"
        if node.attr in CLOCKS and isinstance(node.value, ast.Name) and node.value.id == "time":
            return f"reads a clock: time.{node.attr}"
        if node.attr == "open" and isinstance(node.value, ast.Name) and node.value.id in ("io", "Path", "gzip", "igzip"):
            return f"opens a file: {node.value.id}.open"
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            return f"calls {node.func.id}()"
        words = [word.value for word in node.args if isinstance(word, ast.Constant)]
        if ast.unparse(node.func).split(".")[-1] in ("datetime64", "Timestamp", "to_datetime") and {"now", "today"} & {*map(str, words)}:
            return f"reads a clock: {ast.unparse(node)}"
    return ""


def violations(root):
    """Every breach of the house rules below `root`, as `path:line what`."""
    found = []
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            place, text = path.relative_to(root), path.read_text(encoding="utf-8")
            limit = LONGEST_DAG - 1 if room == "dags" else LONGEST
            lines = text.count("\n")
            if lines > limit:
                found.append(f"{place}:{lines} has {lines} lines, at most {limit} are allowed")
            for node, inside in parents(ast.parse(text)):
                faults = [import_faults(room, names, inside) for names in imported(node, place.with_suffix("").parts[:-1])]
                faults += [impurity(node)] if room == "transforms" else []
                found.extend(f"{place}:{node.lineno} {fault}" for fault in faults if fault)
    return found


def test_the_house_keeps_its_rules():
    found = violations(ROOT)
    assert not found, "\n".join(found)


def test_tests_are_short_files_too():
    long = [f"{path.relative_to(ROOT)}: {n}" for path in (ROOT / "tests").rglob("*.py") if (n := path.read_text().count("\n")) > LONGEST]
    assert long == []


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_is_this_repositorys(room):
    spec = find_spec(room)
    assert spec is not None, f"{room} cannot be imported"
    assert Path(next(iter(spec.submodule_search_locations))).resolve() == ROOT / room


def test_no_stem_under_plugins_shadows_an_importable_module():
    """Airflow's plugin loader imports files under their bare stem: a plugins/http.py would replace the standard library's http."""
    inside = ROOT / "plugins"
    elsewhere = [place for place in sys.path if inside not in [Path(place).resolve(), *Path(place).resolve().parents]]
    stems = {path.stem for path in inside.rglob("*.py") if path.stem not in ("__init__", "__main__")}
    assert stems, "plugins/ is empty"
    shadows = {s for s in stems if s in sys.stdlib_module_names or s in sys.builtin_module_names or PathFinder.find_spec(s, elsewhere)}
    assert shadows == set()


PLANTED = [
    ("transforms/a.py", "import requests", "imports requests"),
    ("transforms/a.py", "from pyarrow import parquet", "pyarrow.parquet, which transforms never may"),
    ("transforms/a.py", "import pyarrow.fs as fs", "pyarrow.fs"),
    ("transforms/a.py", "def f():\n    import os\n", "imports os"),
    ("transforms/a.py", "import time", "imports time"),
    ("transforms/a.py", "from numpy import random", "numpy.random"),
    ("transforms/a.py", "from expectations import suites", "imports expectations.suites"),
    ("transforms/deep/a.py", "from ...plugins import lake", "imports plugins.lake"),
    ("transforms/a.py", "from importlib import import_module\nimport_module('boto3')", "imports boto3"),
    ("transforms/a.py", "from importlib import import_module\nimport_module(f'plugins.{x}')", "imports plugins"),
    ("transforms/a.py", "from importlib import import_module\nimport_module(x)", "imports a module whose name is computed"),
    ("transforms/a.py", "import datetime\ndatetime.datetime.now()", "touches .now"),
    ("transforms/a.py", "from datetime import date\nx = date.today", "touches .today"),
    ("transforms/a.py", "def f(time):\n    return time.time()", "reads a clock"),
    ("transforms/a.py", "import numpy as np\nnp.datetime64('now')", "reads a clock"),
    ("transforms/a.py", "def f(os):\n    return os.environ['X']", "touches .environ"),
    ("transforms/a.py", "open('x')", "calls open()"),
    ("transforms/a.py", "import io\nio.open('x')", "opens a file"),
    ("transforms/a.py", "import numpy as np\nnp.random.default_rng(0)", "touches .random"),
    ("transforms/a.py", "\n" * (LONGEST + 1), "lines"),
    ("expectations/a.py", "import airflow", "imports airflow"),
    ("expectations/a.py", "from plugins.lake import Lake", "imports plugins.lake"),
    ("plugins/a.py", "def f():\n    from sandbox import market\n", "sandbox.market, which plugins never may"),
    ("plugins/a.py", "import dags.ingest", "dags.ingest, which plugins never may"),
    ("dags/a.py", "import pandas", "imports pandas at the top"),
    ("dags/a.py", "def f():\n    import boto3\n", "imports boto3"),
    ("dags/a.py", "from plugins import steps", "imports plugins.steps at the top"),
    ("dags/a.py", "from plugins import lake", "imports plugins.lake"),
    ("dags/a.py", "import ingest", "imports ingest"),
    ("dags/a.py", "from airflow.models import DAG", "imports airflow.models.DAG"),
    ("dags/a.py", "\n" * LONGEST_DAG, "lines"),
    ("sandbox/a.py", "import plugins.fetcher", "imports plugins.fetcher"),
    ("sandbox/a.py", "import requests", "imports requests"),
]


@pytest.mark.parametrize(("path", "text", "fault"), PLANTED)
def test_a_planted_violation_is_seen(tmp_path, path, text, fault):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(text)
    found = violations(tmp_path)
    assert len(found) == 1, found
    assert found[0].startswith(f"{path}:")
    assert fault in found[0]


ALLOWED = {
    "transforms/a.py": "import pyarrow.compute as pc\nfrom pyarrow import csv\nfrom urllib.parse import quote\nfrom transforms import b\n",
    "transforms/deep/a.py": "from . import b\nfrom importlib import import_module\nimport_module(f'transforms.{x}')\n",
    "expectations/a.py": "import json\nimport great_expectations as gx\nfrom transforms.tables import TABLES\n",
    "plugins/a.py": "import socket, boto3\nfrom expectations import verdict\nfrom transforms import tables\n",
    "dags/a.py": "from airflow.sdk import DAG\nfrom plugins.assets import X\n\ndef f():\n    from plugins import steps\n" + "\n" * 54,
    "sandbox/a.py": "import asyncio, aiohttp\nfrom sandbox.wire import binance\nfrom transforms.windows import utc\n",
}


def test_what_the_law_allows_passes(tmp_path):
    for path, text in ALLOWED.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert violations(tmp_path) == []
