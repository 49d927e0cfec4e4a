"""The archive: checksums, damaged zips, label changes, and CSV files as they come."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
import zipfile
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms.roster import source
from transforms.sources.binance_archive import METRICS, UNPACKED_LIMIT
from transforms.sources.contract import Answer, Ask, Decoded, Series, Unreadable
from transforms.windows import Window, utc

BINANCE = source("binance")
QUARTER, FIVE = timedelta(minutes=15), timedelta(minutes=5)
HEADER = ",".join(METRICS)


def packed(csv: str | bytes, name: str, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", method) as archive:
        archive.writestr(name, csv)
    return into.getvalue()


def ask_for(day: date, window: Window | None = None) -> Ask:
    series = Series("binance", "archiveMetrics", "BTCUSDT", window or Window.day(day), QUARTER)
    return next(ask for ask in BINANCE.asks(series) if str(day) in ask.path)


def answer_for(ask: Ask, body: bytes) -> Answer:
    companion = f"{hashlib.sha256(body).hexdigest()}  {ask.path.rsplit('/', 1)[-1]}\n".encode()
    return Answer(200, body, utc("2026-11-01"), {"Content-Type": "application/zip"}, companion)


def decode(csv: str | bytes, day: str = "2022-05-09", window: Window | None = None) -> Decoded:
    ask = ask_for(date.fromisoformat(day), window)
    return BINANCE.decode(ask, answer_for(ask, packed(csv, f"BTCUSDT-metrics-{day}.csv")))


def reject_of(ask: Ask, answer: Answer):
    with pytest.raises(Unreadable) as caught:
        BINANCE.decode(ask, answer)
    return caught.value.reject


def line(at: datetime, oi: str = "100.5", usd: str = "3000000.25", ratios: str = "1.25,1.5,3.0", symbol: str = "BTCUSDT") -> str:
    return f"{at:%Y-%m-%d %H:%M:%S},{symbol},{oi},{usd},{ratios},0.9"


def day_of(labels: list[datetime]) -> str:
    return "\n".join([HEADER, *(line(at, f"{100 + n}.5") for n, at in enumerate(labels))]) + "\n"


def facts(decoded: Decoded) -> dict:
    """The tables that speak of the market: all but the one about the file itself."""
    return {name: table for name, table in decoded.tables.items() if name != "archive_files"}


def stamps(decoded: Decoded) -> list[datetime]:
    return decoded.tables["open_interest"]["as_of"].to_pylist()


# -- what it asks


def test_one_file_a_day_with_its_checksum():
    series = Series("binance", "archiveMetrics", "BTCUSDT", Window(utc("2022-05-09T12:00"), utc("2022-05-11")), QUARTER)
    asks = list(BINANCE.asks(series))
    assert [ask.path for ask in asks] == [
        f"/data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2022-05-{day}.zip" for day in ("09", "10")
    ]
    assert all(ask.companion == f"{ask.path}.CHECKSUM" and ask.accept == "zip" and ask.host == "archive" for ask in asks)


def test_one_file_a_month_up_to_the_month_that_holds_the_last_settlement():
    series = Series("binance", "archiveFundingRate", "BTCUSDT", Window(utc("2022-04-30T16:00"), utc("2022-06-01")))
    assert [ask.path[-11:-4] for ask in BINANCE.asks(series)] == ["2022-04", "2022-05", "2022-06"]


# -- labels (PITFALLS B1)


def test_labels_mean_the_end_until_the_switch_and_the_start_from_then_on():
    """Both files hold the label 2026-06-25 00:00, and it means two different instants."""
    midnight = utc("2026-06-25")
    before = decode(day_of([midnight - timedelta(days=1) + n * FIVE for n in range(1, 289)]), "2026-06-24")
    after = decode(day_of([midnight + n * FIVE for n in range(288)]), "2026-06-25")
    assert stamps(before) == Window.day(date(2026, 6, 24)).grid(QUARTER)
    assert stamps(after) == Window.day(date(2026, 6, 25)).grid(QUARTER)
    assert not before.rejects
    assert not after.rejects
    shifted = dict(zip(stamps(after), after.tables["open_interest"]["open_interest_native"].to_pylist(), strict=True))
    assert shifted[midnight + QUARTER] == 102.5  # third row, labelled 00:10
    knowable = after.tables["open_interest"]["known_at"].to_pylist()[0]
    assert knowable == midnight + QUARTER + FIVE


def test_a_file_labelled_the_other_way_loses_only_the_row_that_is_not_its_own():
    """An END label of midnight in a START file would be tomorrow's 00:05."""
    midnight = utc("2026-06-25")
    decoded = decode(day_of([midnight + n * FIVE for n in range(289)]), "2026-06-25")
    assert [reject.reason_code for reject in decoded.rejects] == ["STAMP"]
    assert len(stamps(decoded)) == 96


# -- which rows


@given(st.integers(0, 95), st.integers(1, 96))
@settings(max_examples=30, deadline=None)
def test_a_part_of_a_day_is_that_part_of_the_whole(first, length):
    payload = one("binance", "BTCUSDT-metrics-2022-05-09.zip")
    start = utc("2022-05-09") + first * QUARTER
    window = Window(start, min(start + length * QUARTER, utc("2022-05-10")))
    part = BINANCE.decode(replace(payload.ask, series=replace(payload.ask.series, window=window)), payload.answer)
    whole = BINANCE.decode(payload.ask, payload.answer)
    for name, table in facts(part).items():
        assert table.to_pylist() == [row for row in whole.tables[name].to_pylist() if row["as_of"] in window]


def test_ratios_become_shares_that_add_up():
    decoded = decode(f"{HEADER}\n{line(utc('2022-05-09T00:15'))}\n")
    rows = {row["ratio_metric"]: row for row in decoded.tables["long_short"].to_pylist()}
    assert {name: row["long_share"] for name, row in rows.items()} == {
        "top_account": 1.25 / 2.25,
        "top_position": 0.6,
        "global_account": 0.75,
    }
    assert all(row["long_share"] + row["short_share"] == pytest.approx(1.0, abs=1e-15) for row in rows.values())


def test_a_header_is_not_needed_and_may_name_more_columns():
    body = line(utc("2022-05-09T00:15"))
    bare, titled = decode(f"{body}\n"), decode(f"{HEADER}\n{body}\n")
    wider = decode(f"{HEADER},brand_new\n{body},7\n")
    assert all(bare.tables[name].equals(titled.tables[name]) and wider.tables[name].equals(titled.tables[name]) for name in facts(titled))
    assert (list(titled.notes), len(wider.notes)) == ([], 1)
    assert "brand_new" in wider.notes[0]


def test_an_empty_day_has_no_rows_and_no_rejects():
    assert not any(table.num_rows for table in facts(decode(f"{HEADER}\n")).values())


@pytest.mark.parametrize(
    ("bad", "target", "reason"),
    [
        (line(utc("2022-05-09T00:30"), oi="0.00000000"), "open_interest", "ZERO_OPEN_INTEREST"),
        (line(utc("2022-05-09T00:30"), oi=""), "open_interest", "VALUE"),
        (line(utc("2022-05-09T00:30"), usd="-1"), "open_interest", "VALUE"),
        (line(utc("2022-05-09T00:30"), ratios=",1.5,3.0"), "long_short", "VALUE"),
        (line(utc("2022-05-09T00:30"), ratios="1.25,-1.5,3.0"), "long_short", "VALUE"),
        (line(utc("2022-05-09T00:30"), symbol="ETHUSDT"), "open_interest", "CONVENTION"),
        (line(utc("2022-05-09T00:31")), "open_interest", "STAMP"),
        (line(utc("2022-05-11T00:30")), "open_interest", "STAMP"),
        ("today,BTCUSDT,1,1,1,1,1,1", "open_interest", "STAMP"),
        ("2022-13-45 00:30:00,BTCUSDT,1,1,1,1,1,1", "open_interest", "STAMP"),
        ("2022-05-09 00:30:00,BTCUSDT,1,1", "open_interest", "SHAPE"),
    ],
)
def test_one_bad_line_is_put_aside_and_the_others_stay(bad, target, reason):
    good = [line(utc("2022-05-09T00:15")), line(utc("2022-05-09T00:45"))]
    decoded = decode("\n".join([HEADER, good[0], bad, good[1]]) + "\n")
    assert [(reject.target, reject.reason_code) for reject in decoded.rejects] == [(target, reason)]
    assert bad.split(",", 1)[0] in decoded.rejects[0].row
    assert {utc("2022-05-09T00:15"), utc("2022-05-09T00:45")} <= set(stamps(decoded))


def test_a_stamp_in_any_unix_unit_is_the_same_instant():
    at = int(utc("2022-05-09T00:15").timestamp())
    found = [decode(f"{HEADER}\n{at * scale},BTCUSDT,1,1,1,1,1,1\n") for scale in (1, 1000, 1_000_000)]
    assert [stamps(decoded) for decoded in found] == [[utc("2022-05-09T00:15")]] * 3


def test_a_contradiction_inside_a_file_is_put_aside_in_both_tables():
    at = utc("2022-05-09T00:15")
    decoded = decode("\n".join([HEADER, line(at), line(at, oi="7", ratios="1.25,1.5,9.0")]) + "\n")
    assert [reject.reason_code for reject in decoded.rejects] == ["DUPLICATE_KEY"] * 4
    assert decoded.tables["open_interest"].num_rows == 0
    assert sorted(decoded.tables["long_short"]["ratio_metric"].to_pylist()) == ["top_account"] * 2 + ["top_position"] * 2


def test_a_moved_column_is_found_by_its_name_and_a_lost_one_is_named():
    order = (1, 0, 3, 2, 4, 5, 6, 7)
    cells = line(utc("2022-05-09T00:15")).split(",")
    moved = decode(",".join(METRICS[i] for i in order) + "\n" + ",".join(cells[i] for i in order) + "\n")
    assert moved.tables["open_interest"].to_pylist() == decode(f"{HEADER}\n{','.join(cells)}\n").tables["open_interest"].to_pylist()
    ask = ask_for(date(2022, 5, 9))
    lost = reject_of(ask, answer_for(ask, packed("create_time,symbol\n", "BTCUSDT-metrics-2022-05-09.csv")))
    assert lost.reason_code == "SHAPE"
    assert "sum_open_interest" in lost.detail


# -- the envelope (PITFALLS B2)


def test_another_checksum_puts_the_file_aside_and_names_both():
    payload = one("binance", "BTCUSDT-metrics-2022-05-09.zip")
    changed = replace(payload.answer, body=payload.answer.body[:-1] + b"\x01")
    reject = reject_of(payload.ask, changed)
    assert reject.reason_code == "CHECKSUM"
    assert hashlib.sha256(changed.body).hexdigest() in reject.detail
    assert payload.answer.companion[:64].decode() in reject.detail


@pytest.mark.parametrize(
    "companion", [b"", b"<html>", b"deadbeef  BTCUSDT-metrics-2022-05-09.zip", b"0" * 64 + b"  ETHUSDT-metrics-2022-05-09.zip"]
)
def test_a_file_without_its_own_checksum_is_put_aside(companion):
    payload = one("binance", "BTCUSDT-metrics-2022-05-09.zip")
    assert reject_of(payload.ask, replace(payload.answer, companion=companion)).reason_code == "CHECKSUM"


NAME = "BTCUSDT-metrics-2022-05-09.csv"


def two_members() -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        archive.writestr(NAME, HEADER)
        archive.writestr("../../etc/passwd", "x")
    return into.getvalue()


def lying_bomb(size: int = 2 * UNPACKED_LIMIT) -> bytes:
    """Zeros whose directory promises 100 bytes."""
    body = bytearray(packed(b"0" * size, NAME))
    directory = body.rindex(b"PK\x01\x02")
    body[directory + 24 : directory + 28] = (100).to_bytes(4, "little")
    return bytes(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no zip at all",
        packed("x", "other.csv"),
        two_members(),
        packed(b"0" * (UNPACKED_LIMIT + 1), NAME),
        lying_bomb(),
        packed(HEADER, NAME, zipfile.ZIP_BZIP2),
        packed(HEADER, NAME)[:60],
    ],
    ids=["empty", "noise", "wrong member", "two members", "bomb", "lying bomb", "other method", "cut"],
)
def test_a_damaged_or_strange_zip_is_put_aside(body):
    ask = ask_for(date(2022, 5, 9))
    assert reject_of(ask, answer_for(ask, body)).reason_code == "ARCHIVE"


def test_a_bomb_costs_no_more_memory_than_the_limit():
    ask = ask_for(date(2022, 5, 9))
    answer = answer_for(ask, lying_bomb(40 * UNPACKED_LIMIT))
    tracemalloc.start()
    try:
        assert reject_of(ask, answer).reason_code == "ARCHIVE"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * UNPACKED_LIMIT


def test_a_stored_member_is_read_too():
    ask = ask_for(date(2022, 5, 9))
    body = packed(f"{HEADER}\n{line(utc('2022-05-09T00:15'))}\n", NAME, zipfile.ZIP_STORED)
    assert sum(table.num_rows for table in facts(BINANCE.decode(ask, answer_for(ask, body))).values()) == 4


@given(place=st.integers(min_value=0), flip=st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_any_flipped_byte_under_a_matching_checksum_is_still_only_put_aside(place, flip):
    """The checksum may be right about a file that is wrong: the zip's own CRC then speaks, or nothing changes."""
    payload = one("binance", "BTCUSDT-metrics-2022-05-09.zip")
    body = bytearray(payload.answer.body)
    body[place % len(body)] ^= flip
    try:
        decoded = BINANCE.decode(payload.ask, answer_for(payload.ask, bytes(body)))
    except Unreadable:
        return
    whole = BINANCE.decode(payload.ask, payload.answer)
    assert all(decoded.tables[name].equals(whole.tables[name]) for name in facts(whole))


# -- funding by the month


def test_a_month_of_funding_states_its_interval_and_floors_its_stamps():
    payload = one("binance", "BTCUSDT-fundingRate-2022-05.zip")
    rows = BINANCE.decode(payload.ask, payload.answer).tables["funding"].to_pylist()
    assert [row["as_of"] for row in rows] == [utc("2022-05-01") + n * timedelta(hours=8) for n in range(1, 93)]
    assert {row["funding_interval_h"] for row in rows} == {8.0}
    assert {row["funding_kind"] for row in rows} == {"settlement"}


def test_a_settlement_of_another_month_is_put_aside():
    payload = one("binance", "BTCUSDT-fundingRate-2022-05.zip")
    june = int(utc("2022-06-01").timestamp()) * 1000
    name = "BTCUSDT-fundingRate-2022-05.csv"
    body = packed(f"calc_time,funding_interval_hours,last_funding_rate\n{june},8,0.0001\n{june - 28_800_000},8,0.0002\n", name)
    decoded = BINANCE.decode(payload.ask, answer_for(payload.ask, body))
    assert [reject.reason_code for reject in decoded.rejects] == ["STAMP"]
    assert decoded.tables["funding"]["funding_rate"].to_pylist() == [0.0002]
