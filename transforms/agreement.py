"""Do sources that speak of the same thing say the same (METHODOLOGY 3.5)?

Two kinds of comparison, each as the bar could see it:

    second path   an aggregator's row of a venue's contract against the venue's own of the same instant: open interest in coins,
                  the settlement in force, the close. Tolerances 2 %, 1e-8, 10 bp.
    venues        the price of each contract against the median of the asset's contracts at the bar, where at least three venues have one.

A breach replaces no value: it raises SOURCE_DISAGREEMENT, lowers confidence, and is kept as evidence with both values. Liquidations are not
compared: what aggregators hold of them are lower bounds with a range that nobody publishes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import asof
from transforms.estimators import DAY_US, HOUR_US, Bools, Floats, Ints
from transforms.instruments import as_venue_spells

if TYPE_CHECKING:
    from transforms.features.panel import Panel

#: quantity -> (core table, column, what the venue's own row must be: of the same instant, or the newest before it)
SECOND_PATH: Final[Mapping[str, tuple[str, str, bool]]] = {
    "open_interest": ("open_interest", "open_interest_base", True),
    "funding": ("funding", "funding_rate", False),
    "price": ("candles", "close_usd", True),
}
VENUE_PRICE: Final = "venue_price"
#: what is compared between venues has no second voice, but all of them
ALL: Final = "all"
_LEAST_VENUES: Final = 3
_KEYS: Final = ("asset", "venue", "instrument", "source")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One quantity of one contract at every bar of a panel, (bars,); NaN or -1 where nothing could be compared.

    at: instant compared, us. theirs: the other voice's value. difference: relative, for funding absolute.
    """

    quantity: str
    asset: str
    venue: str
    instrument: str
    source: str
    other: str
    at: Ints
    own: Floats
    theirs: Floats
    difference: Floats
    tolerance: float

    @property
    def excess(self) -> Floats:
        """Difference in tolerances; at 1 and above it is a breach."""
        return self.difference / self.tolerance


def comparisons(panel: Panel) -> list[Comparison]:
    """All comparisons of a panel's assets, computed once."""
    return panel.once("comparisons", lambda: [*_second_paths(panel), *_between_venues(panel)])


def worst(panel: Panel) -> tuple[Floats, Floats]:
    """(largest excess over the comparisons of each asset, age of the newest of them in h), (assets, bars); NaN where there is none."""
    found, age = panel.unknown(), panel.unknown()
    for one in comparisons(panel):
        a = panel.assets.index(one.asset)
        found[a] = np.fmax(found[a], one.excess)
        age[a] = np.fmin(age[a], np.where(np.isfinite(one.difference), (panel.when - one.at) / HOUR_US, np.nan))
    return found, age


def _second_paths(panel: Panel) -> Iterator[Comparison]:
    rule = panel.spec.agreement
    for quantity, (name, column, same_instant) in SECOND_PATH.items():
        table = panel.rows(name, *panel.rule.sources, *panel.rule.checks)
        if name == "funding":
            table = table.filter(pc.equal(table.column("funding_kind").cast(pa.string()), "settlement"))
        second = pc.not_equal(table.column("source").cast(pa.string()), table.column("venue").cast(pa.string()))
        theirs, ours = _spelled(table.filter(second)), table.filter(pc.invert(second))
        if not theirs.num_rows or not ours.num_rows:
            continue
        tracks = [track for track in asof.tracks_of(theirs, _KEYS)[1] if track[0] in panel.assets]
        own_tracks: list[asof.Track] = [(asset, venue, instrument, venue) for asset, venue, instrument, _ in tracks]
        listed = set(asof.tracks_of(ours, _KEYS)[1])
        tracks, own_tracks = _both(tracks, own_tracks, listed)
        if not tracks:
            continue
        far, near = _rows(name, theirs, tracks, column), _rows(name, ours, own_tracks, column)
        shown = panel.sample(far, rule.max_age_h)
        at = np.where(shown >= 0, far.as_of[np.maximum(shown, 0)] if len(far.as_of) else 0, -1)
        target, reach = (at, 0) if same_instant else (np.where(at >= 0, at - 1, -1), round(rule.settlement_reach_h * HOUR_US))
        found = asof.newest_before(near.starts, near.as_of, near.known_at, target, panel.cutoff, reach)
        told, own = _at(far.values["value"], shown), _at(near.values["value"], found)
        off = np.abs(own - told)
        difference = off if quantity == "funding" else off / np.where(np.abs(told) > 0, np.abs(told), np.nan)
        for i, (asset, venue, instrument, source) in enumerate(tracks):
            tolerance = rule.tolerance(quantity)
            yield Comparison(quantity, asset, venue, instrument, venue, source, at[i], own[i], told[i], difference[i], tolerance)


def _both(tracks: Sequence[asof.Track], own: Sequence[asof.Track], listed: set[asof.Track]) -> tuple[list[asof.Track], list[asof.Track]]:
    """Tracks whose contract the venue itself speaks of, in one order. Two aggregators may speak of the same."""
    kept = [(one, mine) for one, mine in zip(tracks, own, strict=True) if mine in listed]
    return [one for one, _ in kept], [mine for _, mine in kept]


def _spelled(table: pa.Table) -> pa.Table:
    """The rows with instruments as their venue spells them."""
    place = table.column_names.index("instrument")
    sources, names = table.column("source").to_pylist(), table.column("instrument").to_pylist()
    known = {pair: as_venue_spells(*pair) for pair in set(zip(sources, names, strict=True))}
    spelled = [known[pair] for pair in zip(sources, names, strict=True)]
    return table.set_column(place, table.schema.field(place), pa.array(spelled, type=table.schema.field(place).type))


def _rows(name: str, table: pa.Table, tracks: Sequence[asof.Track], column: str) -> asof.Rows:
    """Rows of tracks in the order of `tracks`, one track a place even where two are the same."""
    distinct = sorted(set(tracks))
    values = asof.floats(table.column(column))
    rows = asof.in_tracks(name, table, keys=_KEYS, tracks=distinct, columns={"value": values}, usable=np.isfinite(values))
    if distinct == list(tracks):
        return rows
    order = [distinct.index(track) for track in tracks]
    spans = [np.arange(rows.starts[n], rows.starts[n + 1]) for n in order]
    take = np.concatenate(spans) if spans else np.empty(0, dtype=np.int64)
    starts = np.cumsum([0, *(len(span) for span in spans)]).astype(np.int64)
    return asof.Rows(starts, rows.as_of[take], rows.known_at[take], {"value": rows.values["value"][take]})


def _at(values: Floats, shown: Ints) -> Floats:
    if not len(values):
        return np.full(shown.shape, np.nan)
    return np.where(shown >= 0, values[np.maximum(shown, 0)], np.nan)


def _between_venues(panel: Panel) -> Iterator[Comparison]:
    """Prices of the bar itself: one that is carried says nothing about the others now."""
    price = panel.price
    values = np.where((price.age_h < panel.rule.step_h) & ~price.implied, price.usd, np.nan)
    tolerance = panel.spec.agreement.tolerance(VENUE_PRICE)
    for a, asset in enumerate(panel.assets):
        mine = values[panel.starts[a] : panel.starts[a + 1]]
        venues = panel.venue[panel.starts[a] : panel.starts[a + 1]]
        priced = [np.isfinite(mine[venues == venue]).any(axis=0) for venue in np.unique(venues)]
        known: Bools = np.sum(priced, axis=0) >= _LEAST_VENUES
        if not priced or not known.any():
            continue
        middle = np.full(panel.bars, np.nan)
        middle[known] = np.nanmedian(mine[:, known], axis=0)
        for n, i in enumerate(range(panel.starts[a], panel.starts[a + 1])):
            _, venue, instrument = panel.instruments[i]
            difference = np.abs(mine[n] / middle - 1.0)
            yield Comparison(VENUE_PRICE, asset, venue, instrument, venue, ALL, panel.when, mine[n], middle, difference, tolerance)


def day_ends(when: Ints) -> Bools:
    """Bars whose comparisons are kept as evidence."""
    found: Bools = when % DAY_US == 0
    return found
