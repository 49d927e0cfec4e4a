"""The gate: every planted fault is caught with its code and nothing else is touched; rows given = rows passed + rows put aside, always."""

import json
import socket
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from plugins import gate
from tests.unit.honest_index import BTC, HONEST_INDEX, HOURS, INDEX_FAULTS, INPUTS, START
from transforms.schema import arrow_schema
from transforms.sources.contract import REASONS
from transforms.tables import TABLES
from transforms.windows import partition_day

INSTRUMENTS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
CORE = [table.name for table in TABLES.values() if table.layer == "core"]
INDEX = [table.name for table in TABLES.values() if table.layer == "index"]
#: Without shrinking: a verdict costs a tenth of a second, and the examples are small as they are.
SLOW = settings(
    deadline=None, max_examples=20, phases=[Phase.explicit, Phase.reuse, Phase.generate], suppress_health_check=[HealthCheck.too_slow]
)


@pytest.fixture(scope="module", autouse=True)
def _warm():
    gate.warm()


def arrow(name, rows):
    return pa.Table.from_pylist(rows, schema=arrow_schema(TABLES[name]))


def core_rows(name):
    """Honest rows of a core table: three instruments, an hourly grid, every value inside its limits."""
    table, found = TABLES[name], []
    shares = {"long_share": 0.6, "short_share": 0.4, "taker_buy_base": 3.0, "volume_base": 8.0, "high_usd": 4.0, "low_usd": 2.0}
    for hour in range(1, HOURS + 1):
        for instrument in INSTRUMENTS:
            as_of = START + timedelta(hours=hour)
            row = {}
            for column in table.fields.values():
                match column.kind:
                    case "instant":
                        row[column.name] = as_of + timedelta(minutes=1)
                    case "string":
                        row[column.name] = column.allowed[0] if column.allowed else "text"
                    case "int":
                        row[column.name] = int(column.minimum or 0)
                    case _:
                        row[column.name] = shares.get(column.name, min(3.0, 3.0 if column.maximum is None else column.maximum))
            key = {"instrument": instrument, "stablecoin": instrument, "reference": instrument, "raw_sha256": f"{hour:064x}", "flags": ""}
            key |= {} if "instrument" in row else {"asset": instrument}
            row |= {name: value for name, value in key.items() if name in row}
            found.append(row | {"as_of": as_of, "date": partition_day(as_of)})
    return found


HONEST_CORE = {name: core_rows(name) for name in CORE}


def judged(name, rows):
    """The verdict on rows of one table; contributions and readings are given together, as they must be."""
    pair = ("contributions", "readings")
    beside = {other: arrow(other, HONEST_INDEX[other]) for other in pair} if name in pair else {}
    verdict = gate.gate(beside | {name: arrow(name, rows)})[name]
    assert verdict.passed.num_rows + len(verdict.rejected) == len(rows)
    assert sorted(reject.row for reject in verdict.rejected) == sorted({reject.row for reject in verdict.rejected})
    assert {reject.reason_code for reject in verdict.rejected} <= set(REASONS)
    return verdict


def test_honest_rows_pass_untouched_and_every_check_is_on_record():
    given_rows = {name: arrow(name, rows) for name, rows in (HONEST_CORE | HONEST_INDEX).items()}
    verdicts = gate.gate(given_rows)
    assert list(verdicts) == list(given_rows)
    for name, verdict in verdicts.items():
        assert (verdict.rejected, verdict.blocked, verdict.blocked_days) == ([], "", ())
        assert verdict.passed.equals(given_rows[name])
        assert verdict.checks
        assert [check for check in verdict.checks if not check.success] == []
    assert "CONTRIBUTIONS_DO_NOT_ADD_UP" in [check.code for check in verdicts["readings"].checks]


#: A fault is (check code, reason code, what to do to a row). Applied wherever the table has the columns.
FAULTS = {
    "close_nan": ("NOT_FINITE_CLOSE_USD", "VALUE", {"close_usd": float("nan")}),
    "nullable_nan": ("NOT_FINITE_OPEN_USD", "VALUE", {"open_usd": float("nan")}),
    "inf": ("NOT_FINITE_VOLUME_BASE", "VALUE", {"volume_base": float("inf")}),
    "minus_inf": ("NOT_FINITE_CIRCULATING_USD", "VALUE", {"circulating_usd": float("-inf")}),
    "null_number": ("NULL_FUNDING_RATE", "MISSING", {"funding_rate": None}),
    "null_word": ("NULL_SOURCE", "MISSING", {"source": None}),
    "null_instant": ("NULL_KNOWN_AT", "MISSING", {"known_at": None}),
    "below": ("OUT_OF_RANGE_OPEN_INTEREST_BASE", "VALUE", {"open_interest_base": -1e-9}),
    "above": ("OUT_OF_RANGE_FUNDING_RATE", "VALUE", {"funding_rate": 0.76}),
    "below_int": ("OUT_OF_RANGE_OI_SIDES", "VALUE", {"oi_sides": 0}),
    "nullable_below": ("OUT_OF_RANGE_OPEN_INTEREST_USD", "VALUE", {"open_interest_usd": -1.0}),
    "unit_word": ("UNKNOWN_NATIVE_UNIT", "CONVENTION", {"native_unit": "lots"}),
    "nameless": ("EMPTY_INSTRUMENT", "VALUE", {"instrument": ""}),
    "bar_upside_down": ("LOW_ABOVE_HIGH", "EXPECTATION", {"low_usd": 3.5, "high_usd": 3.0, "close_usd": 3.2}),
    "close_above": ("CLOSE_ABOVE_HIGH", "EXPECTATION", {"close_usd": 4.5}),
    "close_below": ("CLOSE_BELOW_LOW", "EXPECTATION", {"close_usd": 1.5}),
    "taker": ("TAKER_ABOVE_VOLUME", "EXPECTATION", {"taker_buy_base": 8.1, "volume_base": 8.0, "trades": 5}),
    "shares": ("SHARES_DO_NOT_ADD_UP", "EXPECTATION", {"long_share": 0.6, "short_share": 0.41}),
    "wrong_day": ("DATE_OFF_AS_OF", "STAMP", {"date": date(2026, 4, 30)}),
    "too_early": ("KNOWN_BEFORE_AS_OF", "STAMP", {"known_at": START}),
}
PLACES = [(name, fault) for name in CORE for fault, (_, _, change) in FAULTS.items() if set(change) <= set(TABLES[name].columns)]


def test_every_fault_has_a_place():
    assert {fault for _, fault in PLACES} == set(FAULTS)


@settings(SLOW, max_examples=60)
@given(place=st.sampled_from(PLACES), row=st.integers(0, len(INSTRUMENTS) * HOURS - 1))
def test_a_planted_fault_is_caught_alone_and_by_name(place, row):
    name, fault = place
    code, reason, change = FAULTS[fault]
    rows = [dict(one) for one in HONEST_CORE[name]]
    rows[row] |= change
    verdict = judged(name, rows)
    assert [(reject.row, reject.reason_code) for reject in verdict.rejected] == [(row, reason)]
    assert verdict.rejected[0].detail.startswith(f"{code}: ")
    assert code in [check.code for check in verdict.checks if not check.success and check.failed == 1]
    assert verdict.passed.equals(pa.concat_tables([arrow(name, rows[:row]), arrow(name, rows[row + 1 :])]).combine_chunks())
    assert verdict.blocked == ""
    evidence = json.loads(verdict.rejected[0].row_json)
    assert {column: evidence[column] for column in change} == {column: as_written(value) for column, value in change.items()}


def as_written(value):
    """How JSON says a value: what it has no word for, as text."""
    if isinstance(value, date):
        return value.isoformat()
    return repr(value) if isinstance(value, float) and not np.isfinite(value) else value


@SLOW
@given(name=st.sampled_from(CORE), rows=st.sets(st.integers(0, len(INSTRUMENTS) * HOURS - 1), min_size=1, max_size=3))
def test_rows_that_share_a_key_are_all_put_aside(name, rows):
    honest = HONEST_CORE[name]
    twins = [honest[row] | {"known_at": honest[row]["known_at"] + timedelta(hours=1)} for row in sorted(rows)]
    verdict = judged(name, [*honest, *twins])
    assert {reject.reason_code for reject in verdict.rejected} == {"DUPLICATE_KEY"}
    assert {reject.row for reject in verdict.rejected} == rows | {len(honest) + number for number in range(len(twins))}
    restated = judged(name, [*honest, *(twin | {"revision": 1} for twin in twins)])
    assert restated.rejected == []


@SLOW
@given(data=st.data(), name=st.sampled_from(CORE))
def test_statistics_first_and_rows_at_once_give_one_verdict(data, name):
    """Tables above a million rows take the other way; here every table does."""
    from expectations import series

    rows = [dict(one) for one in HONEST_CORE[name]]
    fitting = [fault for place, fault in PLACES if place == name]
    for row in data.draw(st.sets(st.integers(0, len(rows) - 1), max_size=5)):
        rows[row] |= FAULTS[data.draw(st.sampled_from(fitting))][2]
    at_once = judged(name, rows)
    large, series.LARGE = series.LARGE, 0
    try:
        first = judged(name, rows)
    finally:
        series.LARGE = large
    assert (first.rejected, first.checks, first.blocked) == (at_once.rejected, at_once.checks, at_once.blocked)
    assert first.passed.equals(at_once.passed)


@pytest.mark.parametrize(("name", "code", "row", "change"), INDEX_FAULTS, ids=[f"{name}-{code}" for name, code, *_ in INDEX_FAULTS])
def test_a_fault_in_the_index_blocks_its_day_and_no_other(name, code, row, change):
    rows = [dict(one) for one in HONEST_INDEX[name]]
    rows[row] |= change
    verdict = judged(name, rows)
    assert code in [check.code for check in verdict.checks if not check.success]
    assert code in verdict.blocked
    assert verdict.blocked_days == (date(2026, 5, 1),)
    assert {reject.row for reject in verdict.rejected} == {n for n, one in enumerate(rows) if one["date"] == date(2026, 5, 1)}
    assert set(verdict.passed.column("date").to_pylist()) == {date(2026, 5, 2)}


def test_contributions_that_do_not_add_up_block_the_day_of_both_tables():
    readings = [dict(one) for one in HONEST_INDEX["readings"]]
    readings[BTC]["s"] += 2e-9
    verdicts = gate.gate({"contributions": arrow("contributions", HONEST_INDEX["contributions"]), "readings": arrow("readings", readings)})
    for verdict in verdicts.values():
        assert verdict.blocked_days == (date(2026, 5, 1),)
        assert {reject.reason_code for reject in verdict.rejected} == {"BLOCKED"}
        assert "first: S of BTC 1h 2026-05-01 04:00:00: contributions add up to" in verdict.blocked
    readings[BTC]["s"] -= 1.5e-9
    assert judged("readings", readings).blocked == ""


def test_what_is_withheld_needs_no_explanation_and_what_is_not_does():
    readings = [dict(one) for one in HONEST_INDEX["readings"]]
    readings[BTC] |= {"f": None, "f_ciss": None, "crowded_side": None, "reason": "why"}
    assert judged("readings", readings).blocked == "", "only f is withheld, its contributions stay"
    unexplained = [one for one in HONEST_INDEX["contributions"] if (one["asset"], one["index_name"]) != ("BTC", "X")]
    assert "CONTRIBUTIONS_DO_NOT_ADD_UP" in judged("contributions", unexplained).blocked


def test_an_input_split_by_venue_adds_up_as_one():
    rows = [dict(one) for one in HONEST_INDEX["contributions"]]
    whole = next(n for n, row in enumerate(rows) if row["feature"] == "oi_level")
    halves = [
        rows[whole] | {"by_venue": venue, "weight": 0.3, "contribution": rows[whole]["contribution"] / 2} for venue in ("binance", "okx")
    ]
    assert judged("contributions", [*rows[:whole], *halves, *rows[whole + 1 :]]).blocked == ""
    assert "DUPLICATE_KEY" in judged("contributions", [*rows[:whole], halves[0], halves[0], *rows[whole + 1 :]]).blocked


@pytest.mark.parametrize("name", INDEX)
def test_the_index_by_statistics_and_row_by_row_gives_one_verdict(name):
    """What the table of a long history goes through; checkpoints hold bytes, which statistics must bear, too."""
    from expectations import series

    rows = [dict(one) for one in HONEST_INDEX[name]]
    rows[3] |= {"known_at": START, "code_sha": None}
    at_once = judged(name, rows)
    large, series.LARGE = series.LARGE, 0
    try:
        first = judged(name, rows)
    finally:
        series.LARGE = large
    assert (first.rejected, first.checks, first.blocked) == (at_once.rejected, at_once.checks, at_once.blocked)
    assert "KNOWN_BEFORE_AS_OF" in first.blocked or "NULL_CODE_SHA" in first.blocked


def test_every_way_an_input_adds_is_among_the_honest_rows():
    assert {index for index, *_ in INPUTS} == {"S", "F", "X"}
    assert {"concentration", "interaction"} <= {component for _, component, *_ in INPUTS}


def test_an_index_row_in_the_wrong_day_blocks_both_days_and_one_without_any_blocks_all():
    rows = [dict(one) for one in HONEST_INDEX["features"]]
    rows[9]["date"] = date(2026, 5, 2)
    assert judged("features", rows).blocked_days == (date(2026, 5, 1), date(2026, 5, 2))
    rows[9] |= {"date": None, "as_of": None}
    verdict = judged("features", rows)
    assert verdict.passed.num_rows == 0
    assert "features without a date: NULL_AS_OF" in verdict.blocked


def test_half_of_the_pair_is_never_called_additive():
    (verdict,) = gate.gate({"readings": arrow("readings", HONEST_INDEX["readings"])}).values()
    (said,) = [check for check in verdict.checks if check.code == "CONTRIBUTIONS_DO_NOT_ADD_UP"]
    assert (said.success, said.severity) == (False, "warning")
    assert verdict.blocked == ""


def test_a_warning_is_published_with_its_code_behind_the_flags_it_had():
    rows = [dict(one) for one in HONEST_CORE["candles"]]
    rows[4] |= {"open_usd": 9.0, "flags": "EARLIER"}
    rows[5] |= {"open_usd": 1.0}
    rows[6] |= {"open_usd": 9.0, "flags": "OPEN_ABOVE_HIGH"}
    verdict = judged("candles", rows)
    assert verdict.rejected == []
    flags = verdict.passed.column("flags").to_pylist()
    assert flags[4:7] == ["EARLIER OPEN_ABOVE_HIGH", "OPEN_BELOW_LOW", "OPEN_ABOVE_HIGH"]
    assert set(flags[:4] + flags[7:]) == {""}
    assert verdict.passed.drop_columns(["flags"]).equals(arrow("candles", rows).drop_columns(["flags"]))


def test_an_answer_that_is_mostly_wrong_holds_its_day_back():
    rows = [dict(one) for one in HONEST_CORE["open_interest"]]
    bad = [n for n, one in enumerate(rows) if one["date"] == date(2026, 5, 1)][:16]
    for number in bad:
        rows[number]["open_interest_base"] = -1.0
    verdict = judged("open_interest", rows)
    assert verdict.blocked_days == (date(2026, 5, 1),)
    assert "16 of 72 rows failed" in verdict.blocked
    codes = {reject.row: reject.reason_code for reject in verdict.rejected}
    assert [codes[number] for number in bad] == ["VALUE"] * 16
    assert sorted(set(codes.values())) == ["BLOCKED", "VALUE"]
    assert set(verdict.passed.column("date").to_pylist()) == {date(2026, 5, 2)}
    for number in bad[10:]:
        rows[number]["open_interest_base"] = 1.0
    assert judged("open_interest", rows).blocked == "", "ten bad rows are rows, not an answer"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows.drop_columns(["mark_usd"]), "mark_usd is missing"),
        (lambda rows: rows.append_column("extra", pa.nulls(rows.num_rows)), "extra is not declared"),
        (lambda rows: rows.set_column(0, "source", pa.array([1] * rows.num_rows)), "source is int64, declared string"),
    ],
)
def test_rows_of_another_shape_are_put_aside_whole(spoil, said):
    rows = spoil(arrow("marks", HONEST_CORE["marks"]))
    verdict = gate.gate({"marks": rows})["marks"]
    assert verdict.passed.num_rows == 0
    assert {(reject.reason_code, reject.detail) for reject in verdict.rejected} == {("SHAPE", said)}
    assert len(verdict.rejected) == rows.num_rows
    assert said in verdict.blocked


def test_no_rows_no_faults():
    verdicts = gate.gate({name: arrow(name, []) for name in [*CORE, *INDEX]})
    assert {(verdict.passed.num_rows, len(verdict.rejected), verdict.blocked) for verdict in verdicts.values()} == {(0, 0, "")}


def test_a_check_that_cannot_be_made_lets_nothing_pass(monkeypatch):
    from expectations import particular

    def broken(values, limit):
        raise ArithmeticError("planted")

    monkeypatch.setitem(particular.LAWS, "sums_to_one", broken)
    verdict = judged("long_short", HONEST_CORE["long_short"])
    assert verdict.passed.num_rows == 0
    assert "planted" in verdict.blocked
    assert [(check.code, check.failed) for check in verdict.checks if not check.success] == [("SHARES_DO_NOT_ADD_UP", -1)]
    rows = arrow("long_short", HONEST_CORE["long_short"])
    said = gate.evidence({"long_short": rows}, {"long_short": verdict}, "run", START)["verdicts"].to_pylist()
    assert [row["rows_quarantined"] for row in said if row["outcome"] == "failed"] == [rows.num_rows]


def test_what_fails_together_and_holds_alone_has_not_been_shown_to_hold(monkeypatch):
    from expectations import particular

    monkeypatch.setitem(particular.LAWS, "all_finite", lambda values, limit: np.zeros(len(values[0]), dtype=np.bool_))
    verdict = judged("long_short", HONEST_CORE["long_short"])
    assert verdict.passed.num_rows == 0
    assert {check.code for check in verdict.checks if not check.success} == {"NOT_FINITE_LONG_SHARE", "NOT_FINITE_SHORT_SHARE"}


def test_unknown_tables_and_evidence_are_refused():
    with pytest.raises(KeyError):
        gate.gate({"candle": arrow("candles", [])})
    with pytest.raises(ValueError, match="evidence"):
        gate.gate({"outcomes": arrow("outcomes", [])})


def test_the_gate_reaches_no_network_and_says_nothing(monkeypatch, capfd, caplog):
    def refuse(*_):
        raise AssertionError("the gate opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    rows = [dict(one) for one in HONEST_CORE["marks"]]
    rows[0]["mark_usd"] = -1.0
    assert len(judged("marks", rows).rejected) == 1
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith("great_expectations")] == []


def test_the_evidence_fits_its_tables_and_loses_nothing():
    now = datetime(2026, 5, 3, 12, tzinfo=UTC)
    funding = [dict(one) for one in HONEST_CORE["funding"]]
    funding[7]["funding_rate"] = None
    funding[8] |= {"instrument": None, "raw_sha256": None}
    readings = [dict(one) for one in HONEST_INDEX["readings"]]
    readings[BTC]["band"] = None
    tables = {"funding": arrow("funding", funding), "readings": arrow("readings", readings)}
    verdicts = gate.gate(tables)
    evidence = gate.evidence(tables, verdicts, "run", now)
    for name, rows in evidence.items():
        assert rows.schema.equals(arrow_schema(TABLES[name]))
        rows.validate(full=True)
        assert all(rows.column(field.name).null_count == 0 for field in rows.schema if not field.nullable)
    aside = evidence["quarantine"].to_pylist()
    assert len(aside) == sum(len(verdict.rejected) for verdict in verdicts.values()) == 2 + 48
    assert (aside[0]["source"], aside[0]["instrument"], aside[0]["raw_sha256"]) == ("binance", funding[7]["instrument"], f"{3:064x}")
    said = evidence["verdicts"].to_pylist()
    assert len({(row["table_name"], row["reason_code"]) for row in said}) == len(said) == sum(len(v.checks) for v in verdicts.values())
    failed = {row["reason_code"]: (row["outcome"], row["rows_quarantined"]) for row in said if row["outcome"] != "success"}
    assert failed == {
        "NULL_FUNDING_RATE": ("failed", 1),
        "NULL_INSTRUMENT": ("failed", 1),
        "NULL_RAW_SHA256": ("failed", 1),
        "BAND_WITHOUT_S": ("failed", 1),
        "CONTRIBUTIONS_DO_NOT_ADD_UP": ("partial", 0),
    }
