"""What is compiled from the declaration, and the content hash: equal content gives an equal hash, anything else another."""

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from transforms.schema import ARROW, SQL, arrow_schema, content_sha256, ddl, empty, in_key_order
from transforms.tables import TABLES, Table
from transforms.vocabulary import VOCABULARY, Column
from transforms.windows import from_ms

FUNDING = TABLES["funding"]
PROVENANCE = [name for name, column in FUNDING.fields.items() if column.provenance]
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=4)
VALUES = {
    "string": NAMES,
    "instant": st.integers(0, 4_000_000_000_000).map(from_ms),
    "day": st.dates(),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "int": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "bytes": st.binary(max_size=4),
}


def row_of(table):
    """Rows of any declared value, null where the column may be."""
    return st.fixed_dictionaries(
        {name: st.none() | VALUES[column.kind] if column.nullable else VALUES[column.kind] for name, column in table.fields.items()}
    )


def rows_of(table, **size):
    """Rows without two of one key: their order in a partition is defined."""
    key = (*table.key, *(["revision"] if "revision" in table.columns else []))
    return st.lists(row_of(table), unique_by=lambda row: tuple(row[name] for name in key), **size)


def arrow(table, rows):
    return pa.Table.from_pylist(rows, schema=arrow_schema(table))


def sha(table, rows):
    return content_sha256(table, arrow(table, rows))


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_the_schema_is_the_declaration(table):
    schema = arrow_schema(table)
    assert schema.names == list(table.columns)
    for name, column in table.fields.items():
        assert (schema.field(name).type, schema.field(name).nullable) == (ARROW[column.kind], column.nullable)
    assert empty(table).schema.equals(schema)
    assert arrow_schema(table, table.columns[:2]).names == list(table.columns[:2])


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_the_ddl_is_the_declaration(table):
    head, *lines, foot = ddl(table).splitlines()
    assert (head, foot) == (f"CREATE TABLE {table.identifier} (", ");")
    for line, (name, column) in zip(lines, table.fields.items(), strict=True):
        assert line.split()[0] == name
        assert SQL[column.kind] in line
        assert ("NOT NULL" in line) is not column.nullable
        assert column.meaning in line


def test_a_table_refuses_columns_nobody_declared_and_keys_it_does_not_have():
    with pytest.raises(ValueError, match="price_eur"):
        Table("x", "core", "a row", ("as_of",), ("as_of", "price_eur"))
    with pytest.raises(ValueError, match="key outside its columns"):
        Table("x", "core", "a row", ("venue",), ("as_of",))


def test_limits_and_words_are_declared_sensibly():
    strange = [
        column.name
        for column in VOCABULARY.values()
        if (column.allowed and column.kind != "string")
        or (column.minimum is not None and column.kind not in ("float", "int"))
        or (column.minimum is not None and column.maximum is not None and column.minimum >= column.maximum)
        or not column.meaning
    ]
    assert strange == []
    assert "percent" not in " ".join(f"{column.name} {column.unit}" for column in VOCABULARY.values())


@given(st.data())
def test_the_hash_does_not_see_order_chunks_or_provenance(data):
    table = TABLES[data.draw(st.sampled_from(["funding", "readings", "checkpoints", "coverage", "raw_answers"]))]
    rows = data.draw(rows_of(table, max_size=5))
    expected = sha(table, rows)
    assert sha(table, data.draw(st.permutations(rows))) == expected
    cut = data.draw(st.integers(0, len(rows)))
    pieces = pa.concat_tables([arrow(table, rows[:cut]), arrow(table, []), arrow(table, rows[cut:])])
    assert content_sha256(table, pieces) == expected
    assert content_sha256(table, pieces.slice(0)) == expected
    longer = arrow(table, [*rows, *rows])
    assert content_sha256(table, longer.slice(len(rows))) == expected, "offsets of a slice are not content"
    hidden = [name for name, column in table.fields.items() if column.provenance and name not in table.key]
    other = [row | {name: data.draw(VALUES[table.fields[name].kind]) for name in hidden} for row in rows]
    assert sha(table, other) == expected


@given(st.data())
def test_the_hash_sees_any_change_of_content(data):
    table = TABLES[data.draw(st.sampled_from(["funding", "readings", "checkpoints", "coverage", "candles"]))]
    rows = data.draw(rows_of(table, min_size=1, max_size=4))
    number = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from([name for name in table.content if name not in (*table.key, "revision")]))
    column = table.fields[name]
    value = data.draw(st.none() | VALUES[column.kind] if column.nullable else VALUES[column.kind])
    assume(value != rows[number][name])
    changed = [*rows[:number], rows[number] | {name: value}, *rows[number + 1 :]]
    assert sha(table, changed) != sha(table, rows)


@given(rows=rows_of(FUNDING, min_size=1, max_size=4))
def test_the_hash_sees_a_missing_row(rows):
    assert sha(FUNDING, rows[1:]) != sha(FUNDING, rows)


@settings(max_examples=20)
@given(row=row_of(FUNDING))
def test_null_is_not_zero_and_minus_zero_is_zero(row):
    said = {value: sha(FUNDING, [row | {"funding_interval_h": value}]) for value in (None, 0.0, 8.0)}
    assert len(set(said.values())) == 3
    assert sha(FUNDING, [row | {"funding_interval_h": -0.0}]) == said[0.0]


@given(left=NAMES, right=NAMES)
def test_the_border_between_two_texts_is_content(left, right):
    table = TABLES["instruments"]
    row = {name: {"string": "", "instant": from_ms(0), "float": 1.0, "int": 0}.get(column.kind) for name, column in table.fields.items()}
    row |= {"date": from_ms(0).date(), "as_of": from_ms(1)}
    rows = [row | {"instrument": "A", "asset": left}, row | {"instrument": "B", "asset": right}]
    moved = [rows[0] | {"asset": left + right}, rows[1] | {"asset": ""}]
    assert (sha(table, rows) == sha(table, moved)) is (right == "")
    swapped = [row | {"instrument": "A", "base_asset": left}, row | {"instrument": "A", "quote_asset": left}]
    assert (sha(table, swapped[:1]) == sha(table, swapped[1:])) is (left == "")


@given(rows=rows_of(FUNDING, max_size=6))
def test_key_order_is_an_order_by_the_key_and_loses_nothing(rows):
    ordered = in_key_order(FUNDING, arrow(FUNDING, rows)).to_pylist()
    keys = [
        tuple(row[name].encode() if isinstance(row[name], str) else row[name] for name in (*FUNDING.key, "revision")) for row in ordered
    ]
    assert keys == sorted(keys)
    assert sorted(map(repr, ordered)) == sorted(map(repr, arrow(FUNDING, rows).to_pylist()))


def test_another_table_with_the_same_rows_has_another_hash():
    """Column names and types are part of the content: a renamed column is not the same partition."""
    marks = TABLES["marks"]
    mark, index = marks.columns.index("mark_usd"), marks.columns.index("index_usd")
    columns = list(marks.columns)
    columns[mark], columns[index] = columns[index], columns[mark]
    twin = Table("marks", "core", marks.grain, marks.key, tuple(columns))
    assert content_sha256(marks, empty(marks)) != content_sha256(twin, empty(twin))


def test_provenance_is_what_two_honest_runs_may_differ_in():
    declared = {column.name for column in VOCABULARY.values() if isinstance(column, Column) and column.provenance}
    assert {"fetched_at", "raw_sha256", "run_id", "recorded_at"} <= declared
    assert not declared & {"as_of", "known_at", "revision", "date", "flags"}
    assert set(PROVENANCE) == {"fetched_at", "raw_sha256"}
