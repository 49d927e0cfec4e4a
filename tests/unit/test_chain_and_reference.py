"""DefiLlama and alternative.me: whole histories cut to a window, moving points, and error bodies."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.payloads.reader import one
from transforms.roster import source
from transforms.sources.contract import Answer, Decoded, Unreadable
from transforms.windows import Window, utc

LLAMA, FNG = source("defillama"), source("alternative_me")
DAY = 86_400


def supply(change=lambda points: None, fetched_at: str = "2022-06-01T09:30", window: Window | None = None) -> Decoded:
    payload = one("defillama", "stablecoincharts.json")
    points = json.loads(payload.answer.body)
    change(points)
    ask = payload.ask if window is None else replace(payload.ask, series=replace(payload.ask.series, window=window))
    return LLAMA.decode(ask, replace(payload.answer, body=json.dumps(points).encode(), fetched_at=utc(fetched_at)))


def fear(change=lambda values: None) -> Decoded:
    payload = one("alternative_me", "fng.json")
    index = json.loads(payload.answer.body)
    change(index["data"])
    return FNG.decode(payload.ask, replace(payload.answer, body=json.dumps(index).encode()))


def reasons(decoded: Decoded) -> list[str]:
    return [reject.reason_code for reject in decoded.rejects]


# -- stablecoin supply


def test_the_total_and_each_coin_are_asked_for():
    asked = [
        next(iter(LLAMA.asks(series))).target for series in LLAMA.plan(Window(utc("2022-05-01"), utc("2022-06-01")), (), utc("2022-06-02"))
    ]
    assert asked == ["/stablecoincharts/all", *(f"/stablecoincharts/all?stablecoin={coin}" for coin in (1, 2, 5))]


def test_a_day_is_known_a_day_after_it_ended():
    rows = supply().tables["stablecoin_supply"].to_pylist()
    assert [row["as_of"] for row in rows] == [utc("2022-05-10"), utc("2022-05-11"), utc("2022-05-12")]
    assert rows[0]["known_at"] == utc("2022-05-11")
    assert rows[0]["stablecoin"] == "ALL"
    assert rows[0]["circulating_usd"] == 181900000000.22  # USD-pegged coins at their peg: euros are not added


def test_a_number_for_a_date_is_the_same_day():
    def as_numbers(points):
        for point in points:
            point["date"] = int(point["date"])

    assert supply(as_numbers).tables["stablecoin_supply"].equals(supply().tables["stablecoin_supply"])


def test_a_day_that_is_not_over_is_no_row_and_is_counted_nowhere():
    decoded = supply(fetched_at="2022-05-11T18:00")
    assert decoded.tables["stablecoin_supply"]["as_of"].to_pylist() == [utc("2022-05-10"), utc("2022-05-11")]
    assert not decoded.rejects


def test_a_stamp_off_midnight_is_put_aside():
    def move(points):
        points[2]["date"] = str(int(points[2]["date"]) + 7 * 3600)

    decoded = supply(move)
    assert reasons(decoded) == ["STAMP"]
    assert decoded.tables["stablecoin_supply"].num_rows == 2


def test_the_rest_of_the_history_is_no_row():
    def spoil_the_past(points):
        points[0]["date"] = str(int(points[0]["date"]) - 11)

    assert not supply(spoil_the_past).rejects
    assert supply(window=Window(utc("2022-05-10"), utc("2022-05-11"))).rows == 1


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("totalCirculating", {}, "SHAPE"),
        ("totalCirculating", {"peggedUSD": "1"}, "SHAPE"),
        ("totalCirculating", {"peggedUSD": -1.0}, "VALUE"),
        ("date", "today", "VALUE"),
        ("date", "99999999999999999", "VALUE"),
        ("date", None, "SHAPE"),
    ],
)
def test_one_bad_point_is_put_aside_and_the_others_stay(field, value, reason):
    decoded = supply(lambda points: points[2].__setitem__(field, value))
    assert reasons(decoded) == [reason]
    assert decoded.tables["stablecoin_supply"].num_rows == 2


def test_a_total_below_its_parts_is_decoded_as_served():
    """The recorded failure of 2026-07-15: not for a decoder to judge, the gate compares sources."""
    decoded = supply(lambda points: points[2]["totalCirculating"].__setitem__("peggedUSD", 1.0))
    assert decoded.tables["stablecoin_supply"]["circulating_usd"].to_pylist()[1] == 1.0


@pytest.mark.parametrize(
    ("body", "reason"), [(b"undefined", "MALFORMED"), (b"null", "SHAPE"), (b'{"message":"Internal server error"}', "VENUE_ERROR")]
)
def test_an_unknown_coin_has_no_chart(body, reason):
    payload = one("defillama", "stablecoincharts.json")
    with pytest.raises(Unreadable) as caught:
        LLAMA.decode(payload.ask, replace(payload.answer, body=body))
    assert caught.value.reject.reason_code == reason


# -- the third party's index


def test_as_many_values_are_asked_for_as_reach_back_to_the_window():
    (series,) = FNG.plan(Window(utc("2022-05-09"), utc("2022-05-12")), (), utc("2022-05-20T10:00"))
    (ask,) = FNG.asks(series)
    assert ask.target == "/fng/?limit=13&format=json"


def test_a_value_is_of_the_instant_it_is_stamped_with():
    rows = {row["as_of"]: row for row in fear().tables["reference_index"].to_pylist()}
    assert sorted(rows) == [utc("2022-05-10"), utc("2022-05-11"), utc("2022-05-12")]
    assert (rows[utc("2022-05-10")]["reference_value"], rows[utc("2022-05-10")]["reference_label"]) == (24.0, "Extreme Fear")
    assert rows[utc("2022-05-10")]["known_at"] == utc("2022-05-10T01:00")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("value", "101", "VALUE"),
        ("value", "", "VALUE"),
        ("value", 24, "SHAPE"),
        ("timestamp", "later", "VALUE"),
        ("timestamp", str(1652227200 + 60), "STAMP"),
    ],
)
def test_one_bad_value_is_put_aside_and_the_others_stay(field, value, reason):
    decoded = fear(lambda values: values[2].__setitem__(field, value))
    assert reasons(decoded) == [reason]
    assert decoded.tables["reference_index"].num_rows == 2


def test_an_error_in_the_metadata_is_named():
    payload = one("alternative_me", "fng.json")
    body = b'{"name":"Fear and Greed Index","data":[],"metadata":{"error":"limit must be a number"}}'
    with pytest.raises(Unreadable) as caught:
        FNG.decode(payload.ask, Answer(200, body, utc("2022-05-13")))
    assert (caught.value.reject.reason_code, caught.value.reject.detail) == ("VENUE_ERROR", "limit must be a number")


@pytest.mark.recordings
def test_recorded_days_go_in_and_come_out(recordings):
    import pandas as pd

    held = pd.read_parquet(recordings / "series" / "fear_greed_daily.parquet")
    window = Window(utc("2018-01-31"), utc("2026-08-22"))
    (series,) = FNG.plan(window, (), utc("2026-08-23"))
    (ask,) = FNG.asks(series)
    data = [
        {"value": f"{value:g}", "value_classification": word, "timestamp": str(at)}
        for at, value, word in zip(held["timestamp"], held["value"], held["classification"], strict=True)
    ]
    body = json.dumps({"name": "Fear and Greed Index", "data": data, "metadata": {"error": None}}).encode()
    decoded = FNG.decode(ask, Answer(200, body, utc("2026-08-23")))
    assert not decoded.rejects
    missing = sorted(set(series.expected()) - set(decoded.tables["reference_index"]["as_of"].to_pylist()))
    assert missing == [utc(day) for day in ("2018-04-14", "2018-04-15", "2018-04-16", "2024-10-26") if utc(day) in window] + (
        [utc("2018-02-01")] if "2018-02-01" not in set(held["date"]) else []
    )
