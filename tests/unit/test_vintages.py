"""Recorded vintages through the real merge: every version is kept, and each capture comes back bit for bit from what was known then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from transforms.revisions import complete, known, merge
from transforms.schema import empty
from transforms.sources.contract import table_of
from transforms.tables import TABLES
from transforms.windows import utc

pytestmark = pytest.mark.recordings

SUPPLY, DVOL = TABLES["stablecoin_supply"], TABLES["volatility_index"]


def captures(recordings, name, columns):
    """(instant, {(coin, day): value}) of every capture, in order of capture. `columns`: coin -> column."""
    rows = pq.read_table(recordings / "series" / f"{name}.parquet").to_pylist()
    day = "date" if "date" in rows[0] else "as_of"
    found: dict[datetime, dict[tuple[str, str], float]] = {}
    for row in rows:
        said = found.setdefault(datetime.fromisoformat(row["captured_at"]).astimezone(UTC), {})
        for coin, column in columns.items():
            if row[column] is not None and not np.isnan(row[column]):
                said[coin, row[day]] = row[column]
    return sorted(found.items())


def arrived(said, asked, number, lag=timedelta(0)):
    """A capture as loading hands it to the merge. `lag` 0: a live capture knows a point when it shows it."""
    stamps = [utc(day) for _, day in said]
    decoded = table_of(
        "stablecoin_supply",
        {
            "source": ["defillama"] * len(said),
            "stablecoin": [coin for coin, _ in said],
            "as_of": stamps,
            "known_at": [stamp + lag for stamp in stamps],
            "circulating_usd": list(said.values()),
        },
    )
    at = pa.array([asked] * len(said), type=pa.timestamp("us", tz="UTC"))
    return complete(SUPPLY, decoded, pa.array([f"{number:064x}"] * len(said)), at)


def shown(rows):
    columns = (rows.column(name).to_pylist() for name in ("stablecoin", "as_of", "circulating_usd"))
    return {(coin, f"{as_of:%Y-%m-%d}"): value for coin, as_of, value in zip(*columns, strict=True)}


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("stablecoin_total_supply_vintages", {"ALL": "total_usd"}),
        ("stablecoin_supply_vintages_by_issuer", {"ALL": "total_usd", "USDT": "usdt_usd", "USDC": "usdc_usd"}),
    ],
)
def test_every_recorded_capture_comes_back_as_it_was(recordings, name, columns):
    history = captures(recordings, name, columns)
    assert len(history) > 20
    stored, versions, newest = empty(SUPPLY), 0, {}
    for number, (asked, said) in enumerate(history):
        merged = merge(SUPPLY, stored, arrived(said, asked, number))
        changed = {key: value for key, value in said.items() if newest.get(key) != value}
        assert int(merged.fresh.sum()) == len(changed)
        assert merged.duplicates == len(said) - len(changed)
        newest |= said
        versions += len(changed)
        stored = merged.rows
    assert stored.num_rows == versions, "every version is kept"
    assert versions > len(newest), "the recording restates nothing: this says nothing"
    told = {}
    for asked, said in history:
        then = shown(known(SUPPLY, stored, asked))
        assert {key: then[key] for key in said} == said
        told |= said
        assert shown(known(SUPPLY, stored, asked, held=True)) == told, "with what only earlier captures showed, and nothing from later ones"
    assert shown(known(SUPPLY, stored, history[-1][0])) == newest


def test_with_the_declared_lag_a_point_is_known_a_day_later_and_never_in_another_version(recordings):
    lag = timedelta(hours=24)
    history = captures(recordings, "stablecoin_total_supply_vintages", {"ALL": "total_usd"})
    stored = empty(SUPPLY)
    for number, (asked, said) in enumerate(history):
        stored = merge(SUPPLY, stored, arrived(said, asked, number, lag)).rows
    for asked, said in history:
        then = shown(known(SUPPLY, stored, asked))
        due = {key: value for key, value in said.items() if utc(key[1]) + lag <= asked}
        assert len(due) >= len(said) - 2
        assert {key: then[key] for key in due} == due
        assert not {key for key in then if utc(key[1]) + lag > asked}


def test_the_last_point_of_dvol_is_read_as_it_was_first_seen(recordings):
    """94 of 215 last points were another value when seen again: each capture instant shows its own."""
    rows = pq.read_table(recordings / "series" / "dvol_last_point_vintages.parquet").to_pylist()
    seen = [(datetime.fromisoformat(row["captured_at"]).astimezone(UTC), row["as_of"], row["first_seen"]) for row in rows]
    end = max(asked for asked, _, _ in seen) + timedelta(days=30)
    final = {row["as_of"]: row["final"] for row in rows}
    stored = empty(DVOL)
    for number, (asked, day, value) in enumerate([*sorted(seen), *((end, day, value) for day, value in final.items())]):
        decoded = table_of(
            "volatility_index",
            {
                "source": ["deribit"],
                "venue": ["deribit"],
                "instrument": ["BTC-DVOL"],
                "asset": ["BTC"],
                "as_of": [utc(day)],
                "known_at": [utc(day)],
                "interval_h": [24.0],
                "implied_volatility": [value],
            },
        )
        at = pa.array([asked], type=pa.timestamp("us", tz="UTC"))
        stored = merge(DVOL, stored, complete(DVOL, decoded, pa.array([f"{number:064x}"]), at)).rows
    restated = 0
    for asked, day, value in seen:
        row = known(DVOL, stored, asked)
        row = row.filter(pc.equal(row.column("as_of"), pa.scalar(utc(day), row.schema.field("as_of").type)))
        assert row.column("implied_volatility").to_pylist() == [value]
        restated += value != final[day]
    assert restated == 94
    last = known(DVOL, stored, end)
    days = [f"{at:%Y-%m-%d}" for at in last.column("as_of").to_pylist()]
    assert dict(zip(days, last.column("implied_volatility").to_pylist(), strict=True)) == final
