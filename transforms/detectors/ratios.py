"""Redrawn cohorts: the venue chooses its top traders anew, and their ratio steps although nobody traded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from transforms.detectors.contract import Detector, Finding, Inputs, Lines, Told, constant, findings, lines
from transforms.detectors.numbers import trailing_median
from transforms.estimators import Floats


@dataclass(frozen=True, slots=True)
class RedrawRule:
    """[C] On Binance 15-minute ratios of one month: docs/detectors.md."""

    #: rows that say how far a ratio usually moves, and the fewest
    rows: int = 96
    least: int = 24
    #: a step beyond this many usual ones, and this size in log odds (0.1: 50 % becomes 52.5 %)
    steps: float = 12.0
    size: float = 0.1
    #: a usual step is at least this: ratios are rounded to 1e-4, and a still night proves nothing
    tick: float = 0.008
    #: what must be still meanwhile: all accounts, and price, in usual moves
    still: float = 4.0


class _Witness(NamedTuple):
    """A level per row of Lines, its usual move, and the tracks of each (source, venue, instrument)."""

    held: Lines
    level: Floats
    usual: Floats
    tracks: dict[tuple[str, ...], list[int]]


class CohortRedraw(Detector):
    name = "cohort_redraw"
    reason_code = "COHORT_REDRAW"
    reads = ("long_short", "candles", "open_interest")
    rule: RedrawRule = RedrawRule()
    lookback_h = 24 * 14.0
    catches = "a step of the top traders' ratio that is a change of who counts as top, not of what they hold"
    rule_text = "the log odds of a top ratio step by 12 usual steps and 0.1, all accounts and price (or value / amount) by less than 4"

    def find(self, inputs: Inputs) -> list[Finding]:
        rule = self.rule
        held = lines(inputs, "long_short", ("long_share",))
        share = held.values["long_share"]
        with np.errstate(divide="ignore", invalid="ignore"):
            odds = np.log(share / (1 - share))
        odds = np.where(np.isfinite(odds), odds, np.nan)
        step = odds - held.before(odds)
        usual = np.maximum(trailing_median(np.abs(step), held.starts, rule.rows, rule.least), rule.tick)
        with np.errstate(invalid="ignore"):
            candidate = (np.abs(step) > rule.steps * usual) & (np.abs(step) > rule.size)
        top = np.array([name[4].startswith("top_") for name in held.names], dtype=bool)
        at = np.flatnonzero(candidate & np.append(top, False)[held.track])
        bad = np.zeros(len(step), dtype=bool)
        known = held.known.copy()
        if len(at) == 0:
            return []
        everyone = {name[:4]: n for n, name in enumerate(held.names) if name[4] == "global_account"}
        prices = self._prices(inputs)
        everybody = _Witness(held, odds, usual, {})
        for row in at.tolist():
            name = held.names[held.track[row]]
            since, until = int(held.as_of[row - 1]), int(held.as_of[row])
            n = everyone.get(name[:4])
            witnesses = [(everybody, n)] if n is not None else []
            witnesses += [(one, m) for one in prices for m in one.tracks.get(name[:3], ())][:1]
            moves = []
            for one, m in witnesses:
                stamps, a, b = one.held.as_of, one.held.starts[m], one.held.starts[m + 1]
                x, y = a + np.searchsorted(stamps[a:b], (since, until), "right") - 1
                if x >= a and y > x and stamps[y] == until and stamps[x] == since:
                    moves.append(abs(one.level[y] - one.level[x]) / one.usual[y])
                    known[row] = max(known[row], one.held.known[y])
            bad[row] = len(moves) > 1 and max(moves) < rule.still
        detail = "the top ratio of {instrument} steps by {observed:.3g} log odds (usual: {expected:.3g}) while all accounts and price stand still"
        return findings(self, held, Told(bad, step, usual, constant(held, np.nan), "flag", detail, known))

    def _prices(self, inputs: Inputs) -> list[_Witness]:
        """What tells the price, the best first: candles, then value / amount of open interest."""
        found: list[_Witness] = []
        for table, columns in (("candles", ("close_usd",)), ("open_interest", ("open_interest_usd", "open_interest_base"))):
            held = lines(inputs, table, columns)
            if len(held.as_of) == 0:
                continue
            values = held.values[columns[0]] / (held.values[columns[1]] if len(columns) > 1 else 1.0)
            level = np.log(np.where(values > 0, values, np.nan))
            if not np.isfinite(level).any():
                continue
            usual = trailing_median(np.abs(level - held.before(level)), held.starts, self.rule.rows, self.rule.least)
            tracks: dict[tuple[str, ...], list[int]] = {}
            for n, name in enumerate(held.names):
                tracks.setdefault(name[:3], []).append(n)
            found.append(_Witness(held, level, np.maximum(usual, 1e-5), tracks))
        return found
