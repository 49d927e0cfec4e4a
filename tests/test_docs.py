"""The documents are under test: the generated page is fresh, every code is explained, every command the README names exists."""

import re
from pathlib import Path

import duckdb

from plugins import gate
from transforms import method
from transforms.dictionary import render, sql
from transforms.notes import NOTES
from transforms.sources.contract import REASONS
from transforms.spec import SPEC
from transforms.tables import TABLES
from transforms.vocabulary import VOCABULARY

ROOT = Path(__file__).resolve().parents[1]


def read(name):
    path = ROOT / name
    assert path.is_file(), f"{name} is missing"
    return path.read_text(encoding="utf-8")


def explained(heading):
    """First cell -> the other cells of the Markdown table below a heading of docs/operations.md; a cell may hold several codes."""
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", read("docs/operations.md"), re.MULTILINE | re.DOTALL)
    assert section, f"docs/operations.md has no section {heading!r}"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section[1].splitlines() if line.startswith("| `")]
    return {code: cells for codes, *cells in rows for code in re.findall(r"`([^`]+)`", codes)}


def test_the_dictionary_is_fresh():
    assert read("docs/dictionary.md") == render(), "docs/dictionary.md is stale: run `make docs`"


def test_the_method_is_fresh():
    assert read("docs/method.md") == method.render(), "docs/method.md is stale: run `make docs`"


def test_the_method_tells_of_every_input_with_its_known_answer():
    page = read("docs/method.md")
    inputs = {one.feature for one in SPEC.constituents} | {part.feature for part in (*SPEC.fragility_parts, *SPEC.stress_parts)}
    assert sorted(inputs - set(NOTES)) == []
    assert [name for name in sorted(inputs) if f"`{name}`" not in page] == []
    assert [name for name, note in NOTES.items() if not (note.idea and note.fails and note.answer)] == []


def test_the_dictionary_tells_of_every_table_and_column():
    page = read("docs/dictionary.md")
    assert [table.identifier for table in TABLES.values() if f"### `{table.identifier}`" not in page] == []
    assert [column.name for column in VOCABULARY.values() if f"| `{column.name}` |" not in page or column.unit not in page] == []


def test_the_ddl_creates_the_declared_tables():
    with duckdb.connect() as connection:
        connection.execute(sql())
        made = connection.execute(
            "SELECT table_schema || '.' || table_name, column_name, is_nullable FROM information_schema.columns"
        ).fetchall()
    declared = {(t.identifier, c.name, "YES" if c.nullable else "NO") for t in TABLES.values() for c in t.fields.values()}
    assert set(made) == declared


def test_every_reason_code_is_explained_and_no_other():
    table = explained("Reason codes")
    assert sorted(table) == sorted(REASONS)
    assert [code for code, (what, do) in table.items() if len(what) < 20 or len(do) < 20] == []


def test_every_code_of_the_gate_is_explained_with_its_severity():
    gate.warm()
    from expectations.particular import ADDITIVE
    from expectations.suites import checks

    table = explained("Codes of the gate")
    said = {check.code: check for t in TABLES.values() if t.layer != "ops" for check in (*checks(t), ADDITIVE)}
    family = {
        code: re.sub(rf"_({'|'.join(name.upper() for name in sorted(VOCABULARY, key=len, reverse=True))})$", "_<COLUMN>", code)
        for code in said
    }
    named = {code: code if code in table else family[code] for code in said}
    assert sorted(code for code in said if named[code] not in table) == []
    assert sorted(code for code, check in said.items() if table[named[code]][1] != check.severity) == []
    assert sorted(set(table) - set(named.values())) == [], "explained, but no check has these codes"


def test_every_make_target_the_readme_names_exists():
    targets = set(re.findall(r"^([a-z][a-z_-]*):", read("Makefile"), re.MULTILINE))
    asked = set(re.findall(r"`[^`\n]*\bmake ([a-z][a-z_-]*)", read("README.md")))
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", read("README.md"), re.MULTILINE | re.DOTALL)
    asked |= {target for block in blocks for target in re.findall(r"(?:^|[;&|$]\s*|\s)make ([a-z][a-z_-]*)", block)}
    assert asked, "README.md names no make target"
    assert sorted(asked - targets) == []
