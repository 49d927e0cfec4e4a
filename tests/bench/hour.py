"""One more hour from what the last bar left (`transforms/index/carry.py`): its price must not grow with the history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from tests.bench.features import MADE_UP, STAMP, Core, rows_of
from tests.bench.many import core as many
from tests.bench.measuring import Section, interleaved, times
from tests.bench.years import numbers
from transforms.index.build import derive, lookback, stored
from transforms.index.carry import Carried, advance, carried
from transforms.index.segments import month_start
from transforms.schema import content_sha256
from transforms.tables import TABLES
from transforms.vocabulary import VENUES
from transforms.windows import DAY, HOUR, Window, utc

ROUNDS = 7
ASSETS, YEARS = (1, 3, 20), (1, 3)
#: the hour is none that closes a day or a month
LAST = utc("2025-06-17T13:00")
NEXT = LAST + HOUR
#: largest ratio of the two histories that counts as flat
FLAT = 1.2
#: the size at which the result is compared and the other way is timed
COMPARED = 3


def split(core: Core) -> tuple[dict[str, pa.Table], dict[str, pa.Table]]:
    """(rows known when the last bar was published, rows that became known in the hour after)."""
    cutoff = pa.scalar(LAST + timedelta(minutes=MADE_UP.publication_delay_min), pa.timestamp("us", tz="UTC"))
    early = {name: pc.less_equal(table.column("known_at"), cutoff) for name, table in core.items()}
    return (
        {name: table.filter(early[name]) for name, table in core.items()},
        {name: table.filter(pc.invert(early[name])) for name, table in core.items()},
    )


def history(assets: int, years: int) -> tuple[Core, Window]:
    """A made-up market that ends with the hour to come."""
    window = Window(LAST - 365 * years * DAY, LAST)
    return many(assets, len(VENUES), window.start, NEXT, 17), window


def same(core: Core, window: Window, made: dict[str, pa.Table]) -> None:
    """Raises unless the hour's rows are those of a derivation over everything."""
    whole = rows_of(numbers(core, Window(window.start, NEXT)), LAST, "1h", MADE_UP)
    for name, table in made.items():
        if content_sha256(TABLES[name], table) != content_sha256(TABLES[name], whole[name]):
            raise RuntimeError(
                f"{name}: one more hour says something else than all of them ({table.num_rows} and {whole[name].num_rows} rows)"
            )


def again(core: Core, window: Window) -> Callable[[], object]:
    """The hour as `derive` makes it: from the checkpoint at the start of the month and the rows of the look-back."""
    start = month_start(LAST)
    early = derive(core, Window(window.start, start), "1h", MADE_UP, stamp=STAMP)["checkpoints"]
    rows = early.filter(pc.equal(early.column("as_of"), pa.scalar(start, early.schema.field("as_of").type)))
    since = pa.scalar(start - lookback(MADE_UP, "1h"), pa.timestamp("us", tz="UTC"))
    read = {name: table.filter(pc.greater_equal(table.column("as_of"), since)) for name, table in core.items()}
    return lambda: derive(read, Window(LAST, NEXT), "1h", MADE_UP, stamp=STAMP, before=stored(rows))


def run(rounds: int = ROUNDS, sizes: tuple[int, ...] = ASSETS, years: tuple[int, int] = YEARS) -> Section:
    section = Section("One more hour")
    section.say(
        f"`advance` by one hour with the rows that became known in it, {len(VENUES)} venues, after {years[0]} and after {years[1]} years of hours "
        f"(made up). The state is kept in memory, as a worker keeps it. At {COMPARED} assets the rows were compared with those of a derivation "
        f"over everything, by content hash, before timing. Median of {rounds} interleaved rounds; kernels compiled before."
    )
    table, slowest, beside = [], 0.0, ""
    for assets in sizes:
        made: dict[int, tuple[Carried, dict[str, pa.Table]]] = {}
        for span in years:
            core, window = history(assets, span)
            early, fresh = split(core)
            made[span] = carried(early, window, "1h", MADE_UP), fresh
        rows = advance(*made[years[1]], NEXT, MADE_UP, STAMP)[0]
        if assets == COMPARED:
            same(core, window, rows)
            beside = _beside(made[years[1]], again(core, window), years[1], max(1, rounds // 3))
        variants: dict[str, Callable[[], object]] = {
            str(span): (lambda state=state, fresh=fresh: advance(state, fresh, NEXT, MADE_UP, STAMP))
            for span, (state, fresh) in made.items()
        }
        got = interleaved(variants, rounds)
        short, long = (got[str(span)] for span in years)
        ratio = long["cpu"] / short["cpu"]
        slowest = max(slowest, ratio)
        table.append(
            [
                assets,
                times(ratio),
                times(long["wall"] / short["wall"]),
                *(f"{1000 * one['wall']:.0f}" for one in (short, long)),
                f"{rows['features'].num_rows + rows['contributions'].num_rows:,}",
                f"{made[years[1]][0].size / 2**20:.1f}",
            ]
        )
    head = [f"CPU, {years[1]} years / {years[0]}", f"wall, {years[1]} / {years[0]}", *(f"ms after {span}" for span in years)]
    section.table(["assets", *head, "rows of features and contributions", "state MiB"], table)
    section.verdicts.append(
        (f"one more hour: CPU after {years[1]} years of history / after {years[0]}", f"at most {FLAT:.1f}", times(slowest), slowest <= FLAT)
    )
    if beside:
        section.say(beside)
    return section


def _beside(made: tuple[Carried, dict[str, pa.Table]], other: Callable[[], object], years: int, rounds: int) -> str:
    """What the hour costs the other way."""
    got = interleaved({"advance": lambda: advance(*made, NEXT, MADE_UP, STAMP), "derive": other}, rounds)
    return (
        f"Without it, `derive` reads the look-back again: {COMPARED} assets after {years} years, from the checkpoint at the start of the month, "
        f"{times(got['derive']['cpu'] / got['advance']['cpu'])} x the CPU of `advance` ({got['derive']['wall'] * 1000:.0f} ms)."
    )
