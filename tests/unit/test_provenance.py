"""The trace: real venue bytes through the real decoder, back to the very element, and every kind of tampering is noticed."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from plugins.errors import NotFound
from plugins.proofs import find_fragment
from plugins.provenance import WIDTH, Trace, render, trace
from tests.unit.report_tables import STAMP, build
from transforms.revisions import complete
from transforms.sources.binance import SOURCE
from transforms.sources.contract import Answer, Series
from transforms.tables import TABLES
from transforms.windows import HOUR, Window, to_ms, utc

AS_OF = utc("2026-05-20T12:00")
FETCHED = utc("2026-05-20T12:03")
KNOWN = AS_OF + timedelta(minutes=10)
INPUTS = {"momentum": [("candles", timedelta(hours=6))], "oi": [("open_interest", timedelta(hours=1))]}


def klines_body() -> bytes:
    """Twelve hourly bars in the venue's own form: stamped at the open, numbers as text."""
    bars = []
    for n in range(12):
        start = to_ms(AS_OF) - (12 - n) * 3_600_000
        price = 100_000 + n
        bars.append(
            [
                start,
                f"{price}.10",
                f"{price + 9}.00",
                f"{price - 9}.00",
                f"{price}.50",
                "12.5",
                start + 3_599_999,
                "1250000.0",
                900,
                "6.5",
                "650000.0",
                "0",
            ]
        )
    return json.dumps(bars).encode()


def core(body: bytes) -> pa.Table:
    """The bars as the load step stores them."""
    (ask,) = SOURCE.asks(Series("binance", "klines", "BTCUSDT", Window(AS_OF - 12 * HOUR, AS_OF), HOUR))
    answer = Answer(200, body, FETCHED, {"Content-Type": "application/json"})
    rows = SOURCE.decode(ask, answer).tables["candles"]
    assert rows.num_rows == 12
    return complete(TABLES["candles"], rows, pa.array([answer.sha256] * 12), pa.array([FETCHED] * 12, pa.timestamp("us", "UTC")))


class Store:
    """Tables in memory, read the way the lake is read."""

    def __init__(self) -> None:
        self.body = klines_body()
        sha = hashlib.sha256(self.body).hexdigest()
        common = STAMP | {"asset": "BTC", "cadence": "1h", "known_at": KNOWN}
        parts = {"feature": ["momentum", "funding"], "score": [0.5, -0.25], "weight": [0.6, 0.4], "contribution": [15.0, -5.0]}
        confidences = ("confidence", "conf_coverage", "conf_freshness", "conf_agreement", "conf_history")
        self.tables = {
            "sentiment": build(
                "sentiment",
                common
                | dict.fromkeys(confidences, 0.6)
                | {"as_of": [AS_OF], "s": 60.0, "s_ex": 45.0, "band": "greed", "status": "ok", "reason": "", "price_usd": 1e5}
                | {"oi_drawdown_90d": 0.1},
            ),
            "contributions": build(
                "contributions",
                common
                | parts
                | {"as_of": [AS_OF] * 2, "family": ["trend", "carry"], "sign": 1, "stale_factor": 1.0, "history_days": 100.0, "reason": ""},
            ),
            "features": build(
                "features", common | {"as_of": [AS_OF], "feature": "momentum", "feature_value": 0.0123, "input_age_h": 0.0, "reason": ""}
            ),
            "candles": core(self.body),
            "raw_answers": build(
                "raw_answers",
                {
                    "source": "binance", "endpoint": "klines", "instrument": "BTCUSDT", "url": "/fapi/v1/klines?symbol=BTCUSDT&interval=1h",
                    "http_status": 200, "headers_json": "{}", "fetched_at": [FETCHED], "raw_sha256": sha, "body_bytes": len(self.body),
                    "bundle": "raw/source=binance/b.parquet", "window_start": AS_OF - 12 * HOUR, "window_end": AS_OF, "run_id": "r",
                    "date": FETCHED.date(),
                },
            ),
        }  # fmt: skip
        self.bundle = pa.table({"raw_sha256": [sha], "body": pa.array([self.body], pa.binary())})

    def read(self, name, *, days=None, columns=None, where=None) -> pa.Table:
        rows = self.tables[name]
        if days is not None:
            rows = rows.filter(pc.and_(pc.greater_equal(rows["date"], pa.scalar(days[0])), pc.less_equal(rows["date"], pa.scalar(days[1]))))
        for column, value in (where or {}).items():
            rows = rows.filter(pc.is_in(rows[column], pa.array([value] if isinstance(value, str) else list(value))))
        return rows.select(list(columns)) if columns else rows

    def trace(self, feature="momentum", as_of=AS_OF, **options) -> Trace:
        options = {"inputs": INPUTS, "open_bundle": lambda key: {"raw/source=binance/b.parquet": self.bundle}[key]} | options
        return trace("BTC", "1h", as_of, feature, read=self.read, **options)


@pytest.fixture
def store() -> Store:
    return Store()


def test_walk_back_to_the_bytes(store):
    found = store.trace()
    assert found.problems == []
    (part,) = found.inputs
    assert (part.table, part.found, part.answers, len(part.rows)) == ("candles", 6, 1, 3)
    newest = part.rows[0]
    assert newest.row["as_of"] == AS_OF
    assert newest.proof.recomputed == hashlib.sha256(store.body).hexdigest() == newest.row["raw_sha256"]
    element = json.loads(newest.fragment.text)
    assert (element[0], element[4]) == (to_ms(AS_OF) - 3_600_000, "100011.50"), "the bar that ENDS at as_of, not the one that begins there"
    first, last = (int(n.replace(",", "")) for n in newest.fragment.place.removeprefix("bytes ").split(".."))
    assert json.loads(store.body[first:last]) == element, "the place is where the bytes stand"


def test_text_for_a_person(store):
    text = render(store.trace())
    assert text.startswith("SIMULATED MARKET - these are not real prices\n")
    assert max(map(len, text.splitlines())) <= WIDTH
    for words in (
        "S = 60.000000, greed",
        "= S - 50, exact",
        ": match",
        "bytes: match",
        "6 rows in",
        "/fapi/v1/klines?symbol=BTCUSDT",
        "verified:",
    ):
        assert words in text, words
    assert text.count("SHA-256 recomputed") == 1, "one answer, one proof"


def test_largest_contribution_is_taken_when_none_is_named(store):
    assert store.trace("").feature == "momentum"
    assert "no core table is declared as input of funding" in render(store.trace("funding"))


@pytest.mark.parametrize("tamper", ["byte", "length", "manifest", "bundle", "answer"])
def test_tampering_is_noticed(store, tamper):
    if tamper == "byte":
        store.bundle = store.bundle.set_column(1, "body", pa.array([store.body.replace(b"100011.50", b"100011.51")], pa.binary()))
    elif tamper == "length":
        store.tables["raw_answers"] = store.tables["raw_answers"].set_column(
            store.tables["raw_answers"].schema.get_field_index("body_bytes"), "body_bytes", pa.array([7])
        )
    elif tamper == "manifest":
        store.tables["raw_answers"] = store.tables["raw_answers"].slice(0, 0)
    elif tamper == "answer":
        store.bundle = store.bundle.slice(0, 0)

    def lost(key):
        raise OSError("no such key")

    found = store.trace(**({"open_bundle": lost} if tamper == "bundle" else {}))
    assert len(found.problems) == 1
    text = render(found)
    assert "FAILED answer" in text
    assert "verified" not in text


def test_a_wrong_sum_and_a_wrong_product_are_noticed(store):
    parts = store.tables["contributions"]
    place = parts.schema.get_field_index("contribution")
    store.tables["contributions"] = parts.set_column(place, "contribution", pa.array([15.1, -5.0]))
    found = store.trace()
    assert len(found.problems) == 2
    assert "DOES NOT ADD UP" in render(found)
    assert "MISMATCH, it is +15.000000000" in " ".join(render(found).split())


def test_what_was_not_known_then_is_not_shown(store):
    rows = store.tables["candles"]
    newest = rows.filter(pc.equal(rows["as_of"], pa.scalar(AS_OF, pa.timestamp("us", "UTC")))).to_pylist()[0]
    later = newest | {"revision": 1, "known_at": KNOWN + HOUR, "close_usd": 1.0}
    earlier = newest | {"revision": 1, "known_at": KNOWN, "close_usd": 2.0}
    for restated, close in ((later, 100_011.5), (earlier, 2.0)):
        store.tables["candles"] = pa.concat_tables([rows, pa.Table.from_pylist([restated], schema=rows.schema)])
        (part,) = store.trace().inputs
        assert part.found == 6
        assert part.rows[0].row["close_usd"] == close


def test_what_does_not_exist_is_said(store):
    with pytest.raises(NotFound, match="the nearest of that day are 2026-05-20T12:00Z"):
        store.trace(as_of=AS_OF + timedelta(minutes=1))
    with pytest.raises(NotFound, match="nor any on that day"):
        store.trace(as_of=AS_OF + timedelta(days=9))
    with pytest.raises(NotFound, match="choose one of funding, momentum"):
        store.trace("gamma")
    with pytest.raises(NotFound, match="no cadence '5m'"):
        trace("BTC", "5m", AS_OF, read=store.read, open_bundle=store.trace, inputs={})


def test_a_withheld_value_is_traced_too(store):
    rows = store.tables["sentiment"]
    for name in ("s", "s_ex", "band"):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.nulls(1, rows.schema.field(place).type))
    store.tables["sentiment"] = rows
    found = store.trace()
    assert found.residual is None
    assert "S = withheld" in render(found)


def archive(name: str, text: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as made:
        made.writestr(name, text)
    return sink.getvalue()


def test_the_line_of_an_archive():
    body = archive(
        "BTCUSDT-metrics-2021-05-19.csv",
        "create_time,symbol,sum_open_interest\n2021-05-19 12:00:00,BTCUSDT,61234.5\n2021-05-19 12:05:00,BTCUSDT,61000.25\n",
    )
    row = {"as_of": utc("2021-05-19T12:05"), "instrument": "BTCUSDT"}
    found = find_fragment(body, row, {"open_interest_native": 61000.25})
    assert found.place == "line 3 of BTCUSDT-metrics-2021-05-19.csv"
    assert found.text.endswith("61000.25")
    # after the venue's change of label the same instant stands one row earlier: the number decides
    assert find_fragment(body, row, {"open_interest_native": 61234.5}).text.startswith("2021-05-19 12:00:00")
    assert find_fragment(b"PK\x03\x04 torn", row, {"open_interest_native": 1.0}) is None


def test_the_element_of_the_right_contract():
    day = utc("2022-05-12")
    stamp = int(day.timestamp()) - 86_400
    both = [
        {"symbol": f"{s}USDT_PERP.A", "history": [{"t": stamp - 86_400, "c": 9}, {"t": stamp, "c": c}]}
        for s, c in (("ETH", 1961.5), ("BTC", 28936.1))
    ]
    body = json.dumps(both).encode()
    row = {"as_of": day, "instrument": "BTCUSDT_PERP.A", "interval_h": 24.0}
    assert json.loads(find_fragment(body, row, {"close_usd": 28936.1}).text) == {"t": stamp, "c": 28936.1}
    # a converted value is not in the answer: then the name decides
    assert json.loads(find_fragment(body, row, {"close_usd": 0.123}).text)["c"] == 28936.1
    assert json.loads(find_fragment(body, row | {"instrument": "ETHUSDT_PERP.A"}, {"close_usd": 0.123}).text)["c"] == 1961.5


def test_no_stamp_no_fragment(store):
    assert find_fragment(b'{"unrelated": 1}', {"as_of": AS_OF, "instrument": "BTCUSDT"}, {}) is None
    assert find_fragment(b"\xff\xfe not json", {"as_of": AS_OF}, {"x": 1.0}) is None
    found = store.trace()
    bare = replace(
        found, inputs=tuple(replace(part, rows=tuple(replace(row, fragment=None) for row in part.rows)) for part in found.inputs)
    )
    assert "no part of the answer carries this row's stamp" in render(bare)


def test_instants_are_read_as_utc(store):
    assert store.trace(as_of=datetime.fromisoformat("2026-05-20T14:00:00+02:00")).as_of == AS_OF.astimezone(UTC)
