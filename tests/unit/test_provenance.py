"""The trace: real venue bytes through the real decoder, back to the very element, and every kind of tampering is noticed."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from plugins import tracing
from plugins.errors import NotFound
from plugins.proofs import find_fragment
from plugins.provenance import Origin, Trace, trace
from plugins.tracetext import WIDTH, render
from tests.unit.report_tables import READING, STAMP, build
from transforms.revisions import complete
from transforms.schema import empty
from transforms.sources.binance import SOURCE
from transforms.sources.contract import Answer, Series
from transforms.spec import SPEC
from transforms.tables import TABLES
from transforms.windows import HOUR, Window, to_ms, utc

AS_OF = utc("2026-05-20T12:00")
FETCHED = utc("2026-05-20T12:03")
KNOWN = AS_OF + timedelta(minutes=10)
MONTH = utc("2026-05-01")
HOURS = timedelta(hours=6)
INPUTS = {
    "momentum": Origin((("candles", HOURS),)),
    "oi_level": Origin((("open_interest", timedelta(hours=1)),)),
    "carry_score": Origin((("candles", HOURS),), "the size of the carry family's score", features=("funding",)),
    "latent_near_share": Origin((("candles", None),), "the cohort book's state"),
    "interaction": Origin((("candles", HOURS),), "no input of its own", factors=("leverage_level", "crowding")),
}


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
        #: index, component, feature, venue, weight, score, contribution
        parts = [
            ("S", "trend", "momentum", "binance", 0.6, 0.5, 15.0),
            ("S", "carry", "funding", "binance", 0.3, -0.25, -3.75),
            ("S", "carry", "funding", "bybit", 0.1, -0.25, -1.25),
            ("F", "leverage_level", "oi_level", "all", 0.3, 0.8, 24.0),
            ("F", "crowding", "carry_score", "all", 0.2, 0.25, 5.0),
            ("F", "latent_liquidation", "latent_near_share", "all", 0.2, None, 10.0),
            ("F", "concentration", "venues", "all", 0.2, 0.3, 6.0),
            ("F", "concentration", "peg", "all", 0.2, 0.1, 0.0),
            ("F", "interaction", "interaction", "all", 0.1, 0.2, 2.0),
            ("X", "volatility", "momentum", "all", 1.0, 0.4, 40.0),
        ]
        names = ("index_name", "component", "feature", "by_venue", "weight", "score", "contribution")
        columns = {name: [part[place] for part in parts] for place, name in enumerate(names)}
        reading = {
            "s": 60.0,
            "s_ex": 45.0,
            "f": 47.0,
            "x": 40.0,
            "band": "greed",
            "status": "ok",
            "reason": "",
            "crowded_side": "short_crowded",
        }
        state = {"as_of": [MONTH], "known_at": MONTH, "state": [b"arrays of the book"]}
        of_market = {"asset": "MKT", "sign": 1, "stale_factor": 1.0, "history_days": 0.0, "by_venue": "all", "component": "asset"}
        of_market |= {"as_of": [AS_OF] * 2, "feature": ["BTC", "ETH"], "weight": [0.6, 0.4], "reason": ["", "withheld"]}
        self.tables = {
            "readings": build(
                "readings", common | READING | {"as_of": [AS_OF] * 2, "asset": ["BTC", "MKT"]} | reading | {"s": [60.0, 56.0], "f": [47.0, 28.2]}
            ),
            "contributions": pa.concat_tables(
                [
                    build(
                        "contributions",
                        common | columns | {"as_of": [AS_OF] * len(parts), "sign": 1, "stale_factor": 1.0, "history_days": 100.0, "reason": ""},
                    ),
                    *(
                        build("contributions", common | of_market | {"index_name": index, "score": [score, None], "contribution": [points, 0.0]})
                        for index, score, points in (("S", 0.2, 6.0), ("F", 0.47, 28.2))
                    ),
                ]
            ),
            "features": build(
                "features", common | {"as_of": [AS_OF], "feature": "momentum", "feature_value": 0.0123, "input_age_h": 0.0, "reason": ""}
            ),
            "checkpoints": build("checkpoints", common | state),
            "candles": core(self.body),
            "open_interest": empty(TABLES["open_interest"]),
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

    def trace(self, feature="momentum", as_of=AS_OF, index="S", asset="BTC", **options) -> Trace:
        options = {"inputs": INPUTS, "open_bundle": lambda key: {"raw/source=binance/b.parquet": self.bundle}[key]} | options
        return trace(asset, "1h", as_of, feature, index, read=self.read, **options)

    def change(self, table: str, column: str, value: object, **where: object) -> None:
        """Set a column of the rows with these values."""
        rows = self.tables[table].to_pylist()
        assert any(where.items() <= row.items() for row in rows)
        changed = [row | ({column: value} if where.items() <= row.items() else {}) for row in rows]
        self.tables[table] = pa.Table.from_pylist(changed, schema=self.tables[table].schema)


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
    assert store.trace("", index="F").feature == "oi_level"
    assert "no core table is declared as input of funding" in render(store.trace("funding"))


def said(store, *arguments, **options) -> str:
    found = store.trace(*arguments, **options)
    assert found.problems == [], found.problems
    text = render(found)
    assert max(map(len, text.splitlines())) <= WIDTH
    return " ".join(text.split())


@pytest.mark.parametrize("cadence", ["1h", "1d"])
def test_every_input_of_the_method_has_an_origin(cadence):
    known = tracing.inputs(cadence)
    asked = {one.feature for one in SPEC.active(cadence)}
    asked |= {part.feature for index in "FX" for part in SPEC.parts(index, cadence)}
    asked |= {one.name for index in "FX" for one in SPEC.components(index, cadence) if one.factors}
    assert asked <= set(known)
    for name in sorted(asked):
        origin = known[name]
        assert origin.tables, name
        assert {table for table, _ in origin.tables} <= {table.name for table in TABLES.values() if table.layer == "core"}
        assert bool(origin.words) == (name in ("carry_score", "latent_near_share", "interaction"))
        assert set(origin.features) <= asked
    assert known["latent_near_share"].continued
    assert {"core.candles", "core.open_interest"} <= set(re.findall(r"core\.\w+", known["latent_near_share"].words))


def test_an_input_of_two_venues_is_one_input(store):
    text = said(store, "funding")
    assert "contribution -5.000000 = 50 x weight 0.4 x sign +1 x score -0.25 x stale factor 1: match" in text
    assert "by venue: binance -3.750000 (weight 0.3), bybit -1.250000 (weight 0.1)" in text
    assert "> carry funding -5.00" in text


def test_f_and_x_are_traced_like_s(store):
    text = said(store, "oi_level", index="F")
    assert "1 The value: fragility - how much could break, before it does F = 47.000000, shorts crowded, confidence 0.660" in text
    assert "contribution +24.000000 = 100 x weight 0.3 x (0.5 + (percentile 0.8 - 0.5) x stale factor 1): match" in text
    assert "sum +47.00 = F, exact" in text
    text = said(store, "momentum", index="X")
    assert "X = 40.000000, confidence 0.660" in text
    assert "core.candles: 6 rows in" in text


def test_a_missing_percentile_counts_as_one_half_and_the_book_names_its_checkpoint(store):
    text = said(store, "latent_near_share", index="F")
    assert "contribution +10.000000 = 100 x weight 0.2 x 0.5 (a missing percentile counts as one half): match" in text
    assert "the cohort book's state" in text
    sha = hashlib.sha256(b"arrays of the book").hexdigest()[:16]
    assert f"checkpoint of BTC as of 2026-05-01 00:00Z (index.checkpoints): 18 bytes, SHA-256 {sha}" in text
    assert "core.candles: 12 rows in (2026-05-01 00:00Z, 2026-05-20 12:00Z]" in text, "read since the month began"
    store.tables["checkpoints"] = store.tables["checkpoints"].slice(0, 0)
    assert "no checkpoint is stored for 2026-05-01 00:00Z: nothing was known of BTC by then" in said(store, "latent_near_share", index="F")


def test_a_bar_that_ends_as_a_month_begins_closes_the_month_before(store):
    store.tables["readings"] = build("readings", STAMP | READING | {"asset": "BTC", "cadence": "1h", "as_of": [MONTH], "known_at": MONTH} | {
        "s": 50.0, "f": 50.0, "x": 50.0, "band": "neutral", "status": "ok", "reason": ""})  # fmt: skip
    rows = [row for row in store.tables["contributions"].to_pylist() if row["asset"] == "BTC"]
    moved = [row | {"as_of": MONTH, "date": MONTH.date() - timedelta(days=1)} for row in rows]
    store.tables["contributions"] = pa.Table.from_pylist(moved, schema=store.tables["contributions"].schema)
    found = store.trace("latent_near_share", MONTH, "F")
    assert [part.start for part in found.inputs] == [utc("2026-04-01")]


def test_the_carry_score_walks_to_its_features(store):
    text = said(store, "carry_score", index="F")
    assert "the size of the carry family's score funding: feature value missing, score -0.25 x stale factor 1" in text
    assert "core.candles: 6 rows in" in text


def test_the_interaction_is_multiplied_again(store):
    text = said(store, "interaction", index="F")
    assert "contribution +2.000000 = 100 x weight 0.1 x score 0.2: match" in text
    assert "leverage_level 0.800000 x crowding 0.250000 = 0.200000: match" in text
    store.change("contributions", "score", 0.3, feature="interaction")
    store.change("contributions", "contribution", 3.0, feature="interaction")
    found = store.trace("interaction", index="F")
    assert "the product of leverage_level and crowding is 0.200000000, stored is 0.3" in found.problems
    assert "MISMATCH, stored is 0.3" in render(found)


def test_an_input_that_does_not_lead_says_so(store):
    assert "nothing, since another input of concentration is larger and leads" in said(store, "peg", index="F")
    assert "(0.5 + (percentile 0.3 - 0.5) x stale factor 1): match" in said(store, "venues", index="F")
    store.change("contributions", "contribution", 0.0, feature="venues")
    assert any("recomputes to 6.0" in problem for problem in store.trace("venues", index="F").problems), "somebody must lead"


def test_the_market_leads_on_to_its_assets(store):
    text = said(store, "BTC", asset="MKT")
    assert "contribution +6.000000 = 50 x weight 0.6 x score 0.2: match" in text
    assert "S of BTC at this instant is 60.000000; score = (S - 50) / 50: match" in text
    assert "go on with: make trace ASSET=BTC CADENCE=1h AT=2026-05-20T12:00Z INDEX=S" in text
    text = said(store, "ETH", asset="MKT", index="F")
    assert "F of ETH at this instant is withheld; score = F / 100: match" in text
    store.change("readings", "f", 48.0, asset="BTC")
    found = store.trace("BTC", asset="MKT", index="F")
    assert [problem for problem in found.problems if "is not its own F: stored 0.47, it makes 0.48" in problem]


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
    store.change("contributions", "contribution", 15.1, feature="momentum", index_name="S")
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
    with pytest.raises(NotFound, match="choose one of carry_score, interaction"):
        store.trace("momentum", index="F")
    with pytest.raises(NotFound, match="no index 'Y'"):
        store.trace(index="Y")
    with pytest.raises(NotFound, match="no cadence '5m'"):
        trace("BTC", "5m", AS_OF, read=store.read, open_bundle=store.trace, inputs={})


def test_a_withheld_value_is_traced_too(store):
    for name in ("s", "s_ex", "band"):
        store.change("readings", name, None, asset="BTC")
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
