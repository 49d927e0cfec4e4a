"""Which contracts a source is asked about: those it lists as trading, and those that traded inside the window and are gone since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from plugins.fetcher import Fetched
from plugins.lake import Lake
from plugins.settings import Settings
from transforms.instruments import ONE_LISTING, Departed, binance_asset, departed, tradable
from transforms.roster import HOURLY_ASSETS, HOURLY_SOURCES
from transforms.sources.contract import Instrument, Series, Source, Unreadable
from transforms.windows import HOUR, Window, floor

#: tables without a grid that are histories; other endpoints without one tell how things stand now
EVENTS: Final = frozenset({"funding", "forced_trades"})


def told(source: Source, listed: Sequence[Fetched]) -> list[pa.Table]:
    """The rows of the instruments table in answers to the question for the list."""
    found = []
    for one in listed:
        if one.disposition.verb != "accept":
            continue
        try:
            table = source.decode(one.ask, one.answer).tables.get("instruments")
        except Unreadable:
            continue  # the load step quarantines it with its reason
        if table is not None:
            found.append(table)
    return found


def trading(settings: Settings, source: Source, lists: Sequence[pa.Table]) -> list[Instrument]:
    """The instruments that trade, of the assets that are asked for, by symbol."""
    found = {one.instrument: one for table in lists for one in tradable(table, source.listing, assets_of(settings, source))}
    return [found[name] for name in sorted(found)]


def gone(lake: Lake, settings: Settings, source: Source, lists: Sequence[pa.Table], window: Window, now: datetime) -> list[Departed]:
    """Contracts that traded inside the window and do not any more, as far as the source's lists of that time, or of now, tell."""
    if not lists:
        return []
    names = lists[0].column_names
    days = (window.start.date() - timedelta(days=1), window.end.date())
    stored = lake.read("instruments", days=days, columns=names, where={"source": source.name})
    rows = pa.concat_tables([stored, *(table.select(names).cast(stored.schema) for table in lists)])
    return [one for one in departed(rows, source.listing, assets_of(settings, source), now) if one.ended_at > window.start]


def last_words(source: Source, window: Window, left: Sequence[Departed], now: datetime) -> Iterator[Series]:
    """Series about contracts that ended inside the window, up to their last whole hour; nothing about how they stand now."""
    for one, ended_at in left:
        end = floor(min(ended_at, window.end), HOUR)
        if end <= window.start:
            continue
        for series in source.plan(Window(window.start, end), [one], now):
            if one.instrument in series.instruments and (series.step is not None or source.endpoints[series.endpoint] in EVENTS):
                yield series


def assets_of(settings: Settings, source: Source) -> tuple[str, ...]:
    """The assets asked for; empty = all that the source lists."""
    return settings.hourly_assets or HOURLY_ASSETS if source.name in HOURLY_SOURCES else settings.daily_assets


def remembered(lake: Lake, settings: Settings, source: Source) -> list[Instrument]:
    """The instruments the source listed last; before it ever did, Binance's declared spelling (a contract that is not there answers 404).

    For a source that refuses this location: its archive lists nothing, but serves who knows the names.
    """
    stored = lake.read("instruments", where={"source": source.name})
    found: list[Instrument] = []
    for payoff in pc.unique(stored.column("payoff")).to_pylist():  # a source with several lists stamps each by itself
        listed = stored.filter(pc.equal(stored.column("payoff"), payoff))
        last = pc.greater(
            listed.column("as_of"), pa.scalar(pc.max(listed.column("as_of")).as_py() - ONE_LISTING, listed.schema.field("as_of").type)
        )
        found += tradable(listed.filter(last), source.listing, assets_of(settings, source))
    if source.name == "binance" and not any(one.payoff == "linear" for one in found):
        names = (f"{asset}USDT" for asset in assets_of(settings, source))
        found += [Instrument(name, source.name, *binance_asset(name)) for name in names]
    return found
