"""Law of the door: rows that arrive hour by hour, in pieces or all at once are judged alike, while a defect lasts too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from plugins import ledger, suspecting
from tests.calibration.planting import OI, altered, held, relabelled, times
from tests.property.synthetic import market
from tests.property.test_detectors import at_once
from transforms.schema import empty
from transforms.tables import TABLES

NOW = datetime(2026, 1, 1, tzinfo=UTC)
READ = ("open_interest", "candles")


class Shelf:
    """Tables in memory that are read as a lake is."""

    def __init__(self, tables):
        self.tables = tables

    def read(self, name, *, days=None, columns=None, where=None):
        rows = self.tables.get(name, empty(TABLES[name]))
        if days is not None:
            rows = rows.filter(pc.and_(pc.greater_equal(rows.column("date"), days[0]), pc.less_equal(rows.column("date"), days[1])))
        for column, value in (where or {}).items():
            rows = rows.filter(pc.equal(rows.column(column), value))
        return rows if columns is None else rows.select(list(columns))

    def add(self, name, rows):
        self.tables[name] = pa.concat_tables([self.read(name), rows])


def between(rows, since, until):
    return rows.filter(pc.and_(pc.greater(rows.column("as_of"), since), pc.less_equal(rows.column("as_of"), until)))


def core(tables, start, hours, step):
    """Stamps of open interest that came through, where rows after `start` come `step` hours at a time."""
    shelf = Shelf({name: between(rows, start - timedelta(days=30), start) for name, rows in tables.items()})
    for hour in range(0, hours, step):
        now = start + timedelta(hours=hour)
        fresh = {
            name: between(rows, now, min(now + timedelta(hours=step), start + timedelta(hours=hours))) for name, rows in tables.items()
        }
        judged = suspecting.judge(shelf, fresh, {}, "run", NOW)
        for name, rows in judged.passed.items():
            shelf.add(name, rows)
        if judged.aside:
            shelf.add("quarantine", ledger.rows_table("quarantine", judged.aside))
    return sorted(between(shelf.read("open_interest"), start, NOW).column("as_of").to_pylist())


@pytest.mark.parametrize(
    ("change", "rows", "least"),
    [
        (times(0.5, *OI), None, 1),  # of the halved rows none gets through: a step stays a step, however long ago the last sound row was
        (times(100.0, *OI), None, 1),
        (held(*OI), 40, 22),  # of a dead feed those that came before it was known to be dead
        (relabelled, None, 20),  # of shifted rows those that came before the shift was proved
    ],
    ids=["sides", "unit", "dead", "label"],
)
def test_hour_by_hour_and_at_once_are_one_judgement(change, rows, least):
    tables = at_once(market("1h", 3))
    made = altered(tables, "open_interest", np.random.default_rng(5), rows, change, where=lambda track: track.instrument == "AAAUSDT")
    planted, ((_, first, _),) = made.inputs.tables, made.spans
    mine = {name: planted[name].filter(pc.equal(planted[name].column("instrument"), "AAAUSDT")) for name in READ}
    start = datetime.fromtimestamp(first / 1e6, UTC) - timedelta(hours=3)
    whole = core(mine, start, 60, 60)
    came = between(mine["open_interest"], start, start + timedelta(hours=60)).num_rows
    assert least <= len(whole) < came
    assert core(mine, start, 60, 1) == whole
    assert core(mine, start, 60, 24) == whole
