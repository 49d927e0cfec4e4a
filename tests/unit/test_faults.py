"""Faults: each kind does what it says, and the same seed strikes the same requests."""

import hashlib
import io
import json
import zipfile
import zlib

import pytest

from sandbox.faults import KINDS, Dropped, Faults, Rule, bomb, read_rules, spoiled
from sandbox.wire.reply import Reply, as_json

OI = [
    {
        "symbol": "BTCUSDT",
        "sumOpenInterest": f"{1000 + n}.50000000",
        "sumOpenInterestValue": "9.10000000",
        "timestamp": 1_700_000_000_000 + n,
    }
    for n in range(8)
]
TARGET = "/binance.fapi/futures/data/openInterestHist?symbol=BTCUSDT"
ZIP = "/binance.archive/data/x/BTCUSDT-metrics-2026-05-01.zip"


def archive(text="a,b\n" + "1,2\n" * 500):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as held:
        held.writestr("x.csv", text)
    return buffer.getvalue()


def never(target):
    raise AssertionError(f"{target} was asked although no fault needs it")


def spoil(kind, reply, target=TARGET, clean=never, **params):
    return spoiled(Rule(".", kind, params=params), target, reply, clean)


def rows(kind, value=OI, **params):
    return json.loads(spoil(kind, as_json(value), **params).body)


@pytest.mark.parametrize("status", [403, 418, 429, 451, 500, 502, 503])
def test_http_answers_with_the_status_and_says_when_to_come_back(status):
    reply = spoil("http", as_json(OI), status=status, retry_after=7)
    assert reply.status == status
    assert reply.headers["Retry-After"] == "7"
    assert isinstance(json.loads(reply.body), dict)
    assert "Retry-After" not in spoil("http", as_json(OI), status=status).headers


def test_truncate_leaves_something_that_is_not_json():
    body = spoil("truncate", as_json(OI)).body
    assert 0 < len(body) < len(as_json(OI).body)
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_html_and_content_type():
    assert spoil("html", as_json(OI)).content_type == "text/html"
    assert spoil("html", as_json(OI)).status == 200
    mislabelled = spoil("content_type", as_json(OI))
    assert mislabelled.content_type == "text/plain"
    assert json.loads(mislabelled.body) == OI


def test_a_field_goes_missing_or_null_or_is_added_in_every_row():
    assert all("sumOpenInterest" not in row and len(row) == 3 for row in rows("missing_field"))
    assert all("timestamp" not in row for row in rows("missing_field", field="timestamp"))
    assert all(row["sumOpenInterest"] is None and len(row) == 4 for row in rows("null_value"))
    assert all(row["unannounced"] == "1" and len(row) == 5 for row in rows("extra_field"))


def test_wrong_unit_keeps_the_decimals_of_the_text():
    assert rows("wrong_unit")[0]["sumOpenInterest"] == "1000500.00000000"
    assert rows("wrong_unit")[0]["sumOpenInterestValue"] == "9.10000000"
    funding = [{"symbol": "BTCUSDT", "fundingRate": "0.00010000", "fundingTime": 1}]
    assert rows("wrong_unit", funding)[0]["fundingRate"] == "0.01000000"
    candle = [{"symbol": "BTCUSDT_PERP.A", "history": [{"t": 1, "o": 1.0, "h": 2.0, "l": 0.5, "c": 1.5}]}]
    assert rows("wrong_unit", candle)[0]["history"][0] == {"t": 1, "o": 1000.0, "h": 2000.0, "l": 500.0, "c": 1500.0}
    assert rows("wrong_unit", [{"t": 1, "l": 2.0, "s": 3.0}], field="l", factor=10)[0] == {"t": 1, "l": 20.0, "s": 3.0}


def test_duplicate_page_and_gap_change_only_the_number_of_rows():
    assert rows("duplicate_page") == OI + OI
    gap = rows("gap", share=0.5)
    assert gap == OI[:2] + OI[6:]
    assert rows("gap", OI[:1]) == []


def test_shift_moves_stamps_in_the_unit_of_the_field():
    assert rows("shift", hours=3)[0]["timestamp"] == OI[0]["timestamp"] + 3 * 3_600_000
    kline = [[1_700_000_000_000, "1", "1", "1", "1", "5", 1_700_003_599_999, "1", 1, "1", "1", "0"]]
    assert [rows("shift", kline)[0][n] - kline[0][n] for n in (0, 6)] == [3 * 3_600_000] * 2
    seconds = [{"symbol": "X", "history": [{"t": 86400, "c": 1.0}]}]
    assert rows("shift", seconds, hours=-1)[0]["history"][0]["t"] == 86400 - 3600
    fng = {"name": "Fear and Greed Index", "data": [{"value": "40", "value_classification": "Fear", "timestamp": "86400"}]}
    assert rows("shift", fng, hours=2)["data"][0]["timestamp"] == str(86400 + 7200)
    assert rows("shift", [{"date": "86400", "totalCirculating": {"peggedUSD": 1}}], hours=1)[0]["date"] == str(86400 + 3600)


def test_row_faults_leave_errors_and_archives_alone():
    refused = as_json({"code": -1121, "msg": "Invalid symbol."}, 400)
    assert spoil("missing_field", refused) is refused
    zipped = Reply(200, archive(), "application/zip")
    assert spoil("gap", zipped, ZIP) is zipped


def test_checksum_does_not_fit_any_more():
    content = archive()
    line = f"{hashlib.sha256(content).hexdigest()}  BTCUSDT-metrics-2026-05-01.zip\n".encode()
    reply = spoil("checksum", Reply(200, line, "binary/octet-stream"), ZIP + ".CHECKSUM")
    assert reply.body.split()[1] == line.split()[1]
    assert reply.body.split()[0] != line.split()[0]
    assert len(reply.body) == len(line)


@pytest.mark.parametrize("kind", ["bad_zip", "zip_bomb"])
def test_a_spoiled_archive_comes_with_the_checksum_of_its_own_bytes(kind):
    whole = Reply(200, archive(), "application/zip")
    served = spoil(kind, whole, ZIP, megabytes=3)
    line = spoil(kind, Reply(200, b"0" * 64 + b"  x\n", "binary/octet-stream"), ZIP + ".CHECKSUM", lambda target: whole, megabytes=3)
    assert line.body.decode().split() == [hashlib.sha256(served.body).hexdigest(), "BTCUSDT-metrics-2026-05-01.zip"]
    assert served.body != whole.body


def test_a_bad_zip_cannot_be_read_and_a_bomb_is_small_outside_and_large_inside():
    served = spoil("bad_zip", Reply(200, archive("".join(f"{n},{n * n}\n" for n in range(900))), "application/zip"), ZIP)
    with pytest.raises((zipfile.BadZipFile, zlib.error)):
        zipfile.ZipFile(io.BytesIO(served.body)).read("x.csv")
    held = bomb(5)
    assert len(held) < 100_000
    assert zipfile.ZipFile(io.BytesIO(held)).infolist()[0].file_size == 5 << 20
    assert zipfile.ZipFile(io.BytesIO(held)).testzip() is None


async def strikes(faults, targets):
    out = []
    for target in targets:
        reply = await faults.apply(target, as_json(OI), never)
        out.append(reply.status)
    return out


async def test_the_same_seed_strikes_the_same_requests_in_any_order():
    rules = [Rule("openInterestHist", "http", probability=0.4, params={"status": 503})]
    targets = [f"{TARGET}&n={n}" for n in range(60)]
    first = await strikes(Faults(1, rules), targets)
    backwards = await strikes(Faults(1, rules), targets[::-1])
    assert first == backwards[::-1]
    assert 10 < first.count(503) < 40
    assert first != await strikes(Faults(2, rules), targets)


async def test_a_retry_draws_anew():
    faults = Faults(1, [Rule(".", "http", probability=0.5)])
    assert set(await strikes(faults, [TARGET] * 40)) == {200, 503}


async def test_every_counts_matching_requests_and_count_ends_the_rule():
    faults = Faults(0, [Rule("openInterestHist", "http", every=3, count=2, params={"status": 429})])
    assert await strikes(faults, ["/other", *[TARGET] * 12]) == [200, 200, 200, 429, 200, 200, 429, 200, 200, 200, 200, 200, 200]
    assert faults.struck() == [{"path": "openInterestHist", "kind": "http", "seen": 12, "struck": 2}]


async def test_the_first_rule_that_strikes_wins_and_new_rules_replace_old_ones():
    faults = Faults(0, [Rule("nothing", "drop"), Rule(".", "http", params={"status": 451}), Rule(".", "drop")])
    assert await strikes(faults, [TARGET]) == [451]
    faults.put([])
    assert await strikes(faults, [TARGET]) == [200]


async def test_an_archive_and_its_checksum_share_one_fate():
    targets = [ZIP.replace("05-01", f"05-{day:02}") for day in range(1, 31)]
    faults = Faults(4, [Rule("metrics", "bad_zip", probability=0.5)])
    chosen = [faults.choose(target) is not None for target in targets]
    assert [faults.choose(f"{target}.CHECKSUM") is not None for target in targets] == chosen
    assert [faults.choose(target) is not None for target in targets] == chosen
    assert 5 < sum(chosen) < 25
    once = Faults(4, [Rule("metrics", "bad_zip", count=1)])
    assert [once.choose(target) is not None for target in (targets[0], f"{targets[0]}.CHECKSUM", targets[1], targets[0])] == [
        True,
        True,
        False,
        True,
    ]


async def test_timeout_holds_the_answer_and_drop_gives_none():
    held = Faults(0, [Rule(".", "timeout", params={"seconds": 0.01})])
    assert (await held.apply(TARGET, as_json(OI), never)).status == 200
    with pytest.raises(Dropped):
        await Faults(0, [Rule(".", "drop")]).apply(TARGET, as_json(OI), never)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"path": ".", "kind": "meteor"}]', "known are http"),
        ('[{"path": "(", "kind": "drop"}]', "not a regular expression"),
        ('[{"path": ".", "kind": "drop", "probability": 2}]', "probability"),
        ('[{"path": ".", "kind": "drop", "pobability": 1}]', "pobability"),
        ('[{"path": ".", "kind": "drop", "every": "often"}]', "wrong type in every"),
        ('[{"kind": "drop"}]', "needs path and kind"),
        ("[7]", "needs path and kind"),
        ('{"path": "."}', "a JSON list"),
        ("[", "not JSON"),
    ],
)
def test_rules_that_cannot_be_meant_raise(text, says):
    with pytest.raises(ValueError, match=says):
        read_rules(text)


def test_every_documented_kind_can_be_asked_for():
    documented = [line.split("|")[1] for line in __import__("sandbox.faults").faults.__doc__.splitlines() if line.startswith("| ")][1:]
    named = {kind.strip() for cell in documented for kind in cell.split(",")}
    assert named == set(KINDS)
