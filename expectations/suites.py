"""What must be true of each table, compiled from its declaration: first as checks, then as a Great Expectations suite."""

from __future__ import annotations

from functools import cache
from typing import Final

from great_expectations.core import ExpectationSuite
from great_expectations.expectations.core.expect_column_values_to_be_between import ExpectColumnValuesToBeBetween
from great_expectations.expectations.core.expect_column_values_to_be_in_set import ExpectColumnValuesToBeInSet
from great_expectations.expectations.core.expect_column_values_to_not_be_in_set import ExpectColumnValuesToNotBeInSet
from great_expectations.expectations.core.expect_column_values_to_not_be_null import ExpectColumnValuesToNotBeNull
from great_expectations.expectations.core.expect_compound_columns_to_be_unique import ExpectCompoundColumnsToBeUnique
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity

from expectations.custom import ExpectColumnValuesToBeFinite, ExpectRowsToObey
from expectations.particular import LAWS, PARTICULAR, Check
from transforms.tables import Table
from transforms.vocabulary import Column


def _of_column(table: Table, column: Column) -> list[Check]:
    """A column's own checks, the one that explains most first: a null is not also out of range."""
    name, found = column.name, []
    if not column.nullable:
        found.append(Check(f"NULL_{name.upper()}", "given", (name,), "critical", "MISSING", f"{name} is never null"))
    if column.kind == "float":
        found.append(Check(f"NOT_FINITE_{name.upper()}", "finite", (name,), "critical", "VALUE", f"{name} is a finite number"))
    if column.minimum is not None or column.maximum is not None:
        low = "" if column.minimum is None else f"{column.minimum:g} <= "
        high = "" if column.maximum is None else f" <= {column.maximum:g}"
        code = f"OUT_OF_RANGE_{name.upper()}"
        found.append(
            Check(code, "within", (name,), "critical", "VALUE", f"{low}{name}{high}", minimum=column.minimum, maximum=column.maximum)
        )
    if column.allowed:
        words = f"{name} is one of {', '.join(column.allowed)}"
        found.append(Check(f"UNKNOWN_{name.upper()}", "one_of", (name,), "critical", "CONVENTION", words, allowed=column.allowed))
    elif column.kind == "string" and name in table.key:
        found.append(Check(f"EMPTY_{name.upper()}", "not_empty", (name,), "critical", "VALUE", f"{name} names something"))
    return found


def key_of(table: Table) -> tuple[str, ...]:
    """What makes a stored row unique: the key, and the revision where the table keeps more than one."""
    return (*table.key, *(("revision",) if "revision" in table.columns else ()))


@cache
def checks(table: Table) -> tuple[Check, ...]:
    """All checks of a core or index table, in the order in which a row's fault is named: column by column, key, clocks, laws.

    A table of another layer raises ValueError: evidence about faults is never itself held back.
    """
    if table.layer == "ops":
        raise ValueError(f"table {table.name} is evidence (layer ops): nothing gates it")
    found = [check for column in table.fields.values() for check in _of_column(table, column)]
    found.append(Check("DUPLICATE_KEY", "unique", key_of(table), "critical", "DUPLICATE_KEY", f"one row per {', '.join(key_of(table))}"))
    if {"as_of", "date"} <= set(table.columns):
        found.append(
            Check("DATE_OFF_AS_OF", "day_of", ("date", "as_of"), "critical", "STAMP", "date is the day that ends at or after as_of")
        )
    if {"as_of", "known_at"} <= set(table.columns):
        found.append(Check("KNOWN_BEFORE_AS_OF", "not_before", ("known_at", "as_of"), "critical", "STAMP", "known_at >= as_of"))
    if {"as_of", "cadence"} <= set(table.columns):
        found.append(Check("OFF_GRID", "on_grid", ("as_of", "cadence"), "critical", "STAMP", "as_of is a multiple of its cadence"))
    found.extend(
        Check(rule.code, rule.kind, rule.columns, rule.severity, "EXPECTATION", rule.meaning, limit=rule.limit) for rule in table.rules
    )
    found.extend(PARTICULAR.get(table.name, ()))
    codes = [check.code for check in found]
    if len(set(codes)) != len(codes):
        raise ValueError(f"table {table.name} has two checks of one code: {sorted(code for code in codes if codes.count(code) > 1)}")
    return tuple(found)


def expectation(check: Check) -> Expectation:
    """The check in Great Expectations' terms. `meta["codes"]` leads back; a kind nobody compiles raises ValueError."""
    meta, severity, column = {"codes": [check.code]}, FailureSeverity(check.severity), check.columns[0]
    match check.kind:
        case "given":
            return ExpectColumnValuesToNotBeNull(column=column, severity=severity, meta=meta)
        case "finite":
            return ExpectColumnValuesToBeFinite(column=column, severity=severity, meta=meta)
        case "within":
            return ExpectColumnValuesToBeBetween(
                column=column, min_value=check.minimum, max_value=check.maximum, severity=severity, meta=meta
            )
        case "one_of":
            return ExpectColumnValuesToBeInSet(column=column, value_set=list(check.allowed), severity=severity, meta=meta)
        case "not_empty":
            return ExpectColumnValuesToNotBeInSet(column=column, value_set=[""], severity=severity, meta=meta)
        case "unique":
            return ExpectCompoundColumnsToBeUnique(column_list=list(check.columns), severity=severity, meta=meta)
        case law if law in LAWS:
            return ExpectRowsToObey(
                column_list=list(check.columns), law=law, limit=check.limit, ignore_row_if=check.skip, severity=severity, meta=meta
            )
        case _:
            raise ValueError(f"check {check.code} is of kind {check.kind!r}, which nothing compiles; known laws: {', '.join(LAWS)}")


def suite(name: str, chosen: tuple[Check, ...]) -> ExpectationSuite:
    """One expectation a check, in their order: what names the rows."""
    return ExpectationSuite(name=name, expectations=[expectation(check) for check in chosen])


#: Kinds of check that one expectation can ask of many columns at once, and the law that does.
TOGETHER: Final = {"given": "all_given", "finite": "all_finite"}


@cache
def digest(name: str, chosen: tuple[Check, ...]) -> ExpectationSuite:
    """The same checks in as few expectations as can say them: what is asked first, since most partitions are sound.

    An expectation costs Great Expectations 2.4 ms of bookkeeping, however few the rows; half of a table's checks are not-null.
    """
    asked = [expectation(check) for check in chosen if check.kind not in TOGETHER]
    for kind, law in TOGETHER.items():
        alike = [check for check in chosen if check.kind == kind]
        if len(alike) < 2:
            asked.extend(expectation(check) for check in alike)
            continue
        meta = {"codes": [check.code for check in alike]}
        columns = [check.columns[0] for check in alike]
        asked.append(ExpectRowsToObey(column_list=columns, law=law, ignore_row_if="never", severity=FailureSeverity.CRITICAL, meta=meta))
    return ExpectationSuite(name=name, expectations=asked)
