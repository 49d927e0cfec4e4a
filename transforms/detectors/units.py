"""Unit breaks: a value that is x100 or x1000 of what it was, of what another source says, or of what its own other columns imply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np

from transforms.detectors.contract import DAY_US, HOUR_US, Detector, Finding, Inputs, Lines, Told, constant, findings, lines
from transforms.detectors.numbers import breaks, excursions
from transforms.estimators import Bools, Floats, Ints

#: quantities that have a level, by table
LEVELS: Final = {
    "open_interest": ("open_interest_base", "open_interest_usd"),
    "candles": ("close_usd",),
    "marks": ("mark_usd",),
    "volatility_index": ("implied_volatility",),
    "stablecoin_supply": ("circulating_usd",),
}


@dataclass(frozen=True, slots=True)
class UnitRule:
    """[C] on Coinalyze daily 2022 (119 contracts): docs/detectors.md."""

    #: percent against fraction, thousands against units, and both ways
    factors: tuple[float, ...] = (100.0, 1000.0, 0.01, 0.001)
    #: sound rows the level is the median of, and the fewest; [C] a day of hours, three weeks of days
    size: int = 24
    least: int = 8
    #: a break that nobody repaired for this long is the new level
    max_age_d: float = 60.0
    #: the step itself may differ from the factor by this ratio; [C] a real x100 carries the row's own move, a listing day does not jump so
    step_ratio: float = 1.5
    #: and the row from the factor times its level by this; [C] 24 daily rows of a coin drift by a factor of two
    level_ratio: float = 2.5
    #: rows in a row at which two columns or sources must differ by the factor: at two, one bad tick would do
    agree: int = 3
    #: other columns and sources agree within this ratio after the factor is taken out
    witness_ratio: float = 1.25


@dataclass(frozen=True, slots=True)
class RateUnitRule:
    """[C] Rates change sign and size, so one contract proves nothing: half of a source's contracts must be off at once.

    Coinglass 2026-01-13 put 4 of 5 contracts at x100 on one day. In 2022-23 the median over a source's contracts never reached 9 of its levels.
    Caps keep it there: Binance's 0.3 % for BTC and ETH is 30 times the interest component that rates rest at.
    """

    size: int = 60
    least: int = 20
    #: contracts of one source at one instant below which no median is taken
    contracts: int = 3
    max_age_d: float = 120.0
    enter: float = 50.0
    leave: float = 3.0
    #: sizes below this are rounding: 0.0001 % per 8 h
    floor: float = 5e-6
    #: stamps carry milliseconds: they are read to the hour
    grid_h: float = 1.0
    factors: tuple[float, ...] = field(default=(100.0, 1000.0))


class UnitBreak(Detector):
    name = "unit_break"
    reason_code = "UNIT_BREAK"
    reads = tuple(LEVELS)
    rule: UnitRule = UnitRule()
    lookback_h = 24 * UnitRule().max_age_d
    catches = "open interest, price, supply or volatility that is suddenly x100, x1000, /100 or /1000"
    rule_text = (
        "the step and the distance from the median of 24 sound rows both equal the factor; or value / amount against the candle does"
    )

    def find(self, inputs: Inputs) -> list[Finding]:
        found: list[Finding] = []
        read = {table: lines(inputs, table, columns) for table, columns in LEVELS.items()}
        for table, columns in LEVELS.items():
            for column in columns:
                found += self._own(read[table], column)
        return found + self._implied(read["open_interest"], read["candles"]) + self._sources(read)

    def _own(self, held: Lines, column: str) -> list[Finding]:
        rule = self.rule
        values = _logs(held.values[column])
        off, level = breaks(
            values,
            held.as_of,
            held.starts,
            rule.size,
            rule.least,
            int(rule.max_age_d * DAY_US),
            np.log(np.array(rule.factors)),
            np.log(rule.step_ratio),
            np.log(rule.level_ratio),
        )
        detail = f"{column} of {{instrument}} is {{observed:.6g}}, its own level {{expected:.6g}}: multiply by {{factor:g}}"
        factor: Floats = np.round(np.exp(-off), 6).astype(np.float64)
        return findings(self, held, Told(np.isfinite(off), held.values[column], np.exp(level), factor, "quarantine", detail))

    def _implied(self, interest: Lines, candles: Lines) -> list[Finding]:
        """Value over amount of open interest is a price: it is held against the candle of the same instant."""
        with np.errstate(divide="ignore", invalid="ignore"):
            price = interest.values["open_interest_usd"] / interest.values["open_interest_base"]
        at, known = counterpart(interest, candles)
        close = _take(candles.values["close_usd"], at)
        # a contract on 1000 coins may state its amount in either: only the multiplier's declaration can tell
        plain = np.array([not name[2].startswith(("1", "k")) for name in interest.names], dtype=bool)
        detail = "value / amount of {instrument} is {observed:.6g} USD, its candle closes at {expected:.6g}: multiply by {factor:g}"
        return self._apart(interest, price, close, known, "quarantine", detail, np.append(plain, False)[interest.track])

    def _sources(self, read: Mapping[str, Lines]) -> list[Finding]:
        """Two sources on one contract of one venue: nobody knows who is right, so both are flagged."""
        found: list[Finding] = []
        for table, columns in LEVELS.items():
            held = read[table]
            pairs = twins(held)
            for column in columns:
                for at, known in pairs:
                    detail = f"{column} of {{instrument}} is {{observed:.6g}}, another source says {{expected:.6g}}: factor {{factor:g}}"
                    values = held.values[column]
                    found += self._apart(held, values, _take(values, at), known, "flag", detail, constant(held, 1.0) > 0)
        return found

    def _apart(
        self, held: Lines, values: Floats, other: Floats, known: Ints, consequence: str, detail: str, usable: Bools
    ) -> list[Finding]:
        rule = self.rule
        apart = _logs(values) - _logs(other)
        found: list[Finding] = []
        for factor in rule.factors:
            near = (np.abs(apart - np.log(factor)) < np.log(rule.witness_ratio)) & usable
            count = runs(near, held.first)
            bad = _since(count, rule.agree)
            sure, proof = _known_when(count, rule.agree, known), _known_when(count, rule.agree, held.as_of)
            told = Told(
                bad, values, other, constant(held, 1 / factor), "quarantine" if consequence == "quarantine" else "flag", detail, sure, proof
            )
            found += findings(self, held, told)
        return found


class RateUnitBreak(Detector):
    name = "rate_unit_break"
    reason_code = "UNIT_BREAK"
    reads = ("funding",)
    rule: RateUnitRule = RateUnitRule()
    lookback_h = 24 * RateUnitRule().max_age_d
    catches = "funding in percent instead of a fraction, in all contracts of a source at once"
    rule_text = "the median size over a source's contracts (3 or more) exceeds 50 times its own median of 60 instants"

    def find(self, inputs: Inputs) -> list[Finding]:
        rule = self.rule
        held = lines(inputs, "funding", ("funding_rate",))
        if len(held.as_of) == 0:
            return []
        sizes = np.abs(held.values["funding_rate"])
        group_of = {key: n for n, key in enumerate(sorted({(name[0], name[1], name[4]) for name in held.names}))}
        group = np.array([group_of[name[0], name[1], name[4]] for name in held.names])[held.track]
        stamp = (held.as_of + int(rule.grid_h * HOUR_US) // 2) // int(rule.grid_h * HOUR_US)
        order = np.lexsort((sizes, stamp, group))
        head = np.ones(len(order), dtype=bool)
        head[1:] = (np.diff(group[order]) != 0) | (np.diff(stamp[order]) != 0)
        begin = np.flatnonzero(head)
        count = np.diff(np.append(begin, len(order)))
        middle = (sizes[order][begin + (count - 1) // 2] + sizes[order][begin + count // 2]) / 2
        middle[count < rule.contracts] = np.nan
        known = np.maximum.reduceat(held.known[order], begin)
        starts = np.searchsorted(group[order][begin], np.arange(len(group_of) + 1)).astype(np.int64)
        when = stamp[order][begin] * int(rule.grid_h * HOUR_US)
        bad, level = excursions(
            middle, when, starts, rule.size, rule.least, int(rule.max_age_d * DAY_US), rule.enter, rule.leave, rule.floor
        )
        for a, b in pairwise(starts):
            known[a:b] = np.maximum.accumulate(known[a:b])
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.cumsum(head) - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(middle / level)[:, None] - np.log(np.array(rule.factors))
        onset = np.maximum.accumulate(np.where(bad & ~np.append(False, bad[:-1]), np.arange(len(bad)), 0))
        nearest = np.array(rule.factors)[np.argmin(np.where(np.isnan(ratio), np.inf, np.abs(ratio)), axis=1)][onset]
        detail = "sizes of this source's funding have the median {observed:.3g}, normally {expected:.3g}: multiply by {factor:g}"
        told = Told(bad[back], middle[back], level[back], 1 / nearest[back], "quarantine", detail, known[back])
        return findings(self, held, told)


def _logs(values: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.log(np.where(values > 0, values, np.nan))
    return found


def _take(values: Floats, at: Ints) -> Floats:
    found: Floats = np.append(values, np.nan)[at]  # -1, no row, is the last place
    return found


def runs(hit: Bools, first: Bools) -> Ints:
    """How many rows in a row up to this one are hit, within a track."""
    place = np.arange(len(hit))
    reset = np.maximum.accumulate(np.where(~hit, place, np.where(first, place - 1, -1)))
    found: Ints = np.where(hit, place - reset, 0).astype(np.int64)
    return found


def _last_of_run(count: Ints) -> Ints:
    """Length of the run each row belongs to."""
    ends = np.append(count[1:] <= count[:-1], True) if len(count) else np.zeros(0, dtype=bool)
    place = np.where(ends, np.arange(len(count)), len(count))
    nearest = np.minimum.accumulate(place[::-1])[::-1]
    found: Ints = np.where(count > 0, count[np.minimum(nearest, len(count) - 1)], 0)
    return found


def _since(count: Ints, least: int) -> Bools:
    """Rows of runs that reach `least`."""
    found: Bools = _last_of_run(count) >= least if len(count) else count > 0
    return found


def _known_when(count: Ints, least: int, known: Ints) -> Ints:
    """When a row's run had reached `least`: for the first rows of a run that is later than the row."""
    place = np.minimum(np.arange(len(count)) + np.maximum(0, least - count), max(0, len(count) - 1))
    found: Ints = np.maximum(known, known[place]) if len(count) else known
    return found


def counterpart(held: Lines, other: Lines) -> tuple[Ints, Ints]:
    """For each row the row of `other` of the same source, venue, instrument and instant, or -1; and when both were known."""
    return _match(held, other, {name[:3]: n for n, name in enumerate(other.names)}, [name[:3] for name in held.names])


def twins(held: Lines) -> list[tuple[Ints, Ints]]:
    """For each source: rows of other sources matched to its row of the same venue, instrument and instant."""
    found = []
    for source in sorted({name[0] for name in held.names}):
        theirs = {name[1:]: n for n, name in enumerate(held.names) if name[0] == source}
        mine = [name[1:] if name[0] != source else ("",) for name in held.names]
        if any(name in theirs for name in mine):
            found.append(_match(held, held, theirs, mine))
    return found


def _match(held: Lines, other: Lines, theirs: dict[tuple[str, ...], int], mine: list[tuple[str, ...]]) -> tuple[Ints, Ints]:
    at = np.full(len(held.as_of), -1, dtype=np.int64)
    known = held.known.copy()
    for n, name in enumerate(mine):
        m = theirs.get(name)
        if m is None:
            continue
        a, b = held.starts[n], held.starts[n + 1]
        c, d = other.starts[m], other.starts[m + 1]
        place = c + np.searchsorted(other.as_of[c:d], held.as_of[a:b])
        inside = np.minimum(place, max(c, d - 1))
        hit = (place < d) & (other.as_of[inside] == held.as_of[a:b])
        at[a:b] = np.where(hit, inside, -1)
        known[a:b] = np.maximum.accumulate(np.where(hit, np.maximum(known[a:b], other.known[inside]), known[a:b]))
    return at, known
