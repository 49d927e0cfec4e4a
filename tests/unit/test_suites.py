"""Suites say what the declarations say: nothing declared goes unchecked, and every law tells true from false."""

from dataclasses import replace
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest

from plugins import gate
from transforms.sources.contract import REASONS
from transforms.tables import TABLES, Rule, Table

gate.warm()  # imports Great Expectations once, with its warnings dealt with

from expectations import custom, series, suites  # noqa: E402
from expectations.particular import LAWS, PARTICULAR, Check, additivity, holds  # noqa: E402

GATED = [table for table in TABLES.values() if table.layer != "ops"]
INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("table", GATED, ids=lambda table: table.name)
def test_everything_declared_is_checked(table):
    said = {(check.kind, check.columns): check for check in suites.checks(table)}
    for name, column in table.fields.items():
        assert (("given", (name,)) in said) is not column.nullable
        assert (("finite", (name,)) in said) is (column.kind == "float")
        limited = said.get(("within", (name,)))
        assert (column.minimum, column.maximum) == ((limited.minimum, limited.maximum) if limited else (None, None))
        listed = said.get(("one_of", (name,)))
        assert column.allowed == (listed.allowed if listed else ())
    revision = ("revision",) if "revision" in table.columns else ()
    assert ("unique", (*table.key, *revision)) in said
    for rule in table.rules:
        check = said[rule.kind, rule.columns]
        assert (check.code, check.severity, check.limit) == (rule.code, rule.severity, rule.limit)
    assert ("day_of", ("date", "as_of")) in said
    assert ("not_before", ("known_at", "as_of")) in said
    assert (("on_grid", ("as_of", "cadence")) in said) is (table.layer == "index")


@pytest.mark.parametrize("table", GATED, ids=lambda table: table.name)
def test_a_suite_holds_one_expectation_a_check_with_its_severity(table):
    checks = suites.checks(table)
    made = suites.suite(table.name, checks).expectations
    assert [one.meta["codes"] for one in made] == [[check.code] for check in checks]
    assert [one.severity.value for one in made] == [check.severity for check in checks]
    assert {check.reason_code for check in checks} <= set(REASONS)
    assert all(check.code.isidentifier() and check.code.isupper() and check.meaning for check in checks)  # a code is a word in `flags`


@pytest.mark.parametrize("table", GATED, ids=lambda table: table.name)
def test_the_digest_asks_for_every_check_in_fewer_expectations(table):
    checks = suites.checks(table)
    asked = suites.digest(table.name, checks).expectations
    assert sorted(code for one in asked for code in one.meta["codes"]) == sorted(check.code for check in checks)
    assert len(asked) < 0.7 * len(checks)


def test_the_particular_laws_speak_of_columns_their_tables_have():
    assert [
        (name, check.code) for name, found in PARTICULAR.items() for check in found if set(check.columns) - set(TABLES[name].columns)
    ] == []


def test_evidence_is_not_gated():
    with pytest.raises(ValueError, match="outcomes is evidence"):
        suites.checks(TABLES["outcomes"])


def test_two_checks_of_one_code_are_refused():
    rule = Rule("TWICE", "not_above", ("mark_usd", "index_usd"), "info")
    table = Table("marks", "core", "x", ("as_of",), TABLES["marks"].columns, rules=(rule, rule))
    with pytest.raises(ValueError, match="TWICE"):
        suites.checks(table)


def test_a_kind_nobody_compiles_is_refused():
    with pytest.raises(ValueError, match="'guessed'"):
        suites.expectation(Check("X", "guessed", ("s",), "info", "EXPECTATION", "?"))


def test_every_field_of_a_custom_expectation_is_annotated():
    """Great Expectations drops fields without annotations without a word."""
    for kind in (custom.ExpectColumnValuesToBeFinite, custom.ExpectRowsToObey):
        plain = {name for name, value in vars(kind).items() if not name.startswith("_") and not callable(value)}
        assert plain - {"Config"} <= set(get_type_hints(kind)), kind.__name__
    assert {"law", "limit"} <= set(custom.ExpectRowsToObey.__fields__)


def stamp(text):
    return np.datetime64(text, "us")


#: law -> (limit, rows that hold, rows that do not)
TRUTH = {
    "agrees_within": (0, [(0.01, 0.02, True), (0.02, 0.02, False), (0.5, 0.02, False)], [(0.01, 0.02, False), (0.03, 0.02, True)]),
    "any_given": (0, [(1.0, NAN), (NAN, 1.0), (0.0, 2.0)], [(NAN, NAN)]),
    "all_given": (0, [(1.0, 2.0), (INF, 0.0)], [(NAN, 1.0), (1.0, NAN)]),
    "all_finite": (0, [(1.0, 2.0), (NAN, 0.0)], [(INF, 1.0), (1.0, -INF)]),
    "not_above": (0, [(1.0, 1.0), (1.0, 2.0), (1.0, INF)], [(2.0, 1.0), (INF, 1.0)]),
    "sums_to_one": (1e-3, [(0.4, 0.6), (0.4005, 0.6)], [(0.4, 0.602), (INF, 0.0), (INF, -INF)]),
    "ratio_within": (0.1, [(1.0, 1.05), (-1.0, -1.05)], [(1.0, 1.2), (1.0, -1.0), (1.0, 0.0)]),
    "not_before": (0, [(stamp("2026-01-02"), stamp("2026-01-02"))], [(stamp("2026-01-01T23:59:59.999999"), stamp("2026-01-02"))]),
    "day_of": (
        0,
        [(stamp("2026-01-01"), stamp("2026-01-02T00:00")), (stamp("2026-01-02"), stamp("2026-01-02T00:00:00.000001"))],
        [(stamp("2026-01-02"), stamp("2026-01-02T00:00")), (stamp("2026-01-02"), stamp("2026-01-04"))],
    ),
    "on_grid": (
        0,
        [(stamp("2026-01-02T05:00"), "1h"), (stamp("2026-01-02"), "1d"), (stamp("1969-12-31T23:00"), "1h")],
        [(stamp("2026-01-02T05:00:00.000001"), "1h"), (stamp("2026-01-02T05:00"), "1d")],
    ),
    "withheld": (0, [("withheld", NAN), ("ok", 50.0)], [("withheld", 50.0), ("ok", NAN), (None, NAN)]),
    "null_together": (0, [("fear", 30.0), (None, NAN)], [("fear", NAN), (None, 30.0)]),
    "band_of": (0, [("fear", 25.0), ("extreme_fear", 25.0), ("neutral", 50.0), ("extreme_greed", 100.0)], [("fear", 24.9), ("greed", INF)]),
    # contribution, index, asset, component, weight, sign, score, stale factor
    "contribution_of": (
        1e-9,
        [
            (2.5, "S", "BTC", "carry", 0.1, 1, 0.5, 1.0),
            (-1.25, "S", "BTC", "carry", 0.1, -1, 0.5, 0.5),
            (0.0, "S", "BTC", "carry", 0.1, 1, NAN, 0.0),
            (9.0, "F", "BTC", "build_up", 0.1, -1, 0.9, 1.0),  # a sign is in the percentile already
            (7.0, "X", "BTC", "volatility", 0.1, 1, 0.9, 0.5),
            (5.0, "X", "BTC", "volatility", 0.1, 1, NAN, 0.0),
            (9.0, "F", "BTC", "concentration", 0.1, 1, 0.9, 1.0),
            (0.0, "F", "BTC", "concentration", 0.1, 1, 0.9, 1.0),
            (2.0, "F", "BTC", "interaction", 0.1, 1, 0.2, 0.5),
            (-2.5, "S", "MKT", "asset", 0.1, 1, -0.5, 1.0),
            (5.0, "F", "MKT", "asset", 0.1, 1, 0.5, 1.0),
            (0.0, "X", "MKT", "asset", 0.1, 1, NAN, 1.0),
        ],
        [
            (2.5 + 2e-9, "S", "BTC", "carry", 0.1, 1, 0.5, 1.0),
            (2.5, "S", "BTC", "carry", 0.1, -1, 0.5, 1.0),
            (1.0, "S", "BTC", "carry", 0.1, 1, NAN, 1.0),
            (NAN, "S", "BTC", "carry", 0.1, 1, 0.5, 1.0),
            (9.0, "X", "BTC", "volatility", 0.1, 1, 0.9, 0.5),
            (0.0, "X", "BTC", "volatility", 0.1, 1, NAN, 0.0),
            (0.0, "F", "BTC", "build_up", 0.1, 1, 0.9, 1.0),
            (6.0, "F", "BTC", "concentration", 0.1, 1, 0.9, 1.0),
            (3.5, "F", "BTC", "interaction", 0.1, 1, 0.2, 0.5),
            (5.0, "F", "BTC", "interaction", 0.1, 1, NAN, 0.0),
            (5.0, "F", "MKT", "asset", 0.1, 1, NAN, 1.0),
        ],
    ),
    "component_of": (
        0,
        [("S", "BTC", "carry"), ("F", "BTC", "interaction"), ("X", "BTC", "dispersion"), ("F", "MKT", "asset")],
        [("S", "BTC", "interaction"), ("X", "BTC", "carry"), ("F", "BTC", "asset"), ("S", "MKT", "carry"), ("F", None, "carry")],
    ),
    "oriented": (0, [("S", -1.0), ("F", 0.0), ("X", 1.0)], [("F", -0.1), ("X", -1.0)]),
    "only_with": (0, [(1.0, 2.0, 3.0), (NAN, 2.0, 3.0), (NAN, NAN, NAN), (NAN, NAN, 3.0)], [(1.0, NAN, NAN), (NAN, 2.0, NAN)]),
    "one_of_two": (0, [(0.1, ""), (NAN, "no skill")], [(0.1, "no skill"), (NAN, ""), (NAN, None)]),
    "skilled": (0, [(NAN, NAN, NAN), (NAN, 0.1, -1.0), (0.1, 0.1, 0.01)], [(0.1, NAN, 0.01), (0.1, 0.1, 0.0), (0.1, 0.1, NAN)]),
    "shown_from": (10, [(0.3, NAN, 10), (NAN, NAN, 9), (NAN, NAN, 10)], [(0.3, NAN, 9), (NAN, 0.1, 9)]),
    "record_of": (
        0,
        [("3 of 10 came true", 0.3), ("no track record: 9 judged", NAN), ("a statement about data", NAN)],
        [("no track record", 0.3), ("", NAN), (None, NAN)],
    ),
    "reasoned": (0, [(1.0, ""), (NAN, "STALE")], [(NAN, ""), (NAN, None)]),
}


def framed(rows):
    frame = pd.DataFrame(rows)
    return frame.astype({name: "category" for name in frame if frame[name].map(lambda v: isinstance(v, str)).any()})


def test_every_law_has_its_truth_table():
    assert set(TRUTH) == set(LAWS)


@pytest.mark.parametrize("law", TRUTH)
def test_a_law_tells_true_from_false(law):
    limit, right, wrong = TRUTH[law]
    found = holds(law, limit, framed([*right, *wrong]))
    assert found.dtype == np.bool_
    assert found.tolist() == [True] * len(right) + [False] * len(wrong)


def test_the_slack_of_not_above_grows_with_the_value_and_never_below_the_absolute():
    frame = framed([(1e9 + 0.5, 1e9), (1e9 + 2.0, 1e9), (1e-12 + 0.5e-9, 1e-12), (2e-9, 1e-12)])
    assert holds("not_above", 1e-9, frame).tolist() == [True, False, True, False]


def test_broken_counts_what_each_kind_of_check_forbids():
    check = Check("X", "given", ("a",), "critical", "VALUE", "")
    numbers, words = pd.DataFrame({"a": [1.0, NAN, INF, -3.0, 1.0]}), pd.DataFrame({"a": pd.Categorical(["x", None, "", "y", "x"])})
    assert series.broken(check, numbers).tolist() == [False, True, False, False, False]
    assert series.broken(replace(check, kind="finite"), numbers).tolist() == [False, False, True, False, False]
    assert series.broken(replace(check, kind="within", minimum=0.0), numbers).tolist() == [False, False, False, True, False]
    assert series.broken(replace(check, kind="within", maximum=9.0), numbers).tolist() == [False, False, True, False, False]
    assert series.broken(replace(check, kind="one_of", allowed=("x", "")), words).tolist() == [False, False, False, True, False]
    assert series.broken(replace(check, kind="not_empty"), words).tolist() == [False, False, True, False, False]
    assert series.broken(replace(check, kind="unique"), words).tolist() == [True, False, False, False, True]


def index_rows(values, **columns):
    """A frame of BTC's hours: (hour, value by column ...) as pandas sees index rows."""
    moment = {"asset": pd.Categorical(["BTC"] * len(values)), "cadence": pd.Categorical(["1h"] * len(values))}
    hours = [stamp("2026-01-01T01") + np.timedelta64(hour, "h") for hour, *_ in values]
    told = {name: [value[place] for value in values] for name, place in columns.items()}
    return pd.DataFrame(moment | {"as_of": hours, "date": stamp("2026-01-01")} | told)


def test_the_additivity_gap():
    parts = [
        (0, "S", 1.0),
        (0, "S", -3.0),
        (0, "F", 20.0),
        (0, "F", 5.0),
        (0, "X", 9.0),
        (1, "S", 4.0),
        (2, "S", 7.0),
        (3, "S", 1.0),
        (5, "S", 0.0),
    ]
    contributions = index_rows(parts, index_name=1, contribution=2).astype({"index_name": "category"})
    nothing = (NAN, NAN)
    readings = index_rows(
        [(0, 48.0, 25.0, 9.5), (1, 54.5, *nothing), (2, NAN, *nothing), (3, INF, *nothing), (4, 60.0, NAN, 1.0)], s=1, f=2, x=3
    )
    found = additivity(contributions, readings)
    gaps = {name: found.loc[found["index_name"] == name, "gap"].tolist() for name in ("S", "F", "X")}
    # in turn: right; half a point off; withheld, so nothing to explain; not a number; a number without contributions, and the reverse
    assert gaps["S"] == [0.0, 0.5, 0.0, INF, INF, INF]
    assert gaps["F"] == [0.0] * 5
    assert gaps["X"] == [0.5, 0.0, 0.0, 0.0, INF]
    assert found.loc[0, ["index_name", "explained", "total"]].tolist() == ["F", 25.0, 25.0]
