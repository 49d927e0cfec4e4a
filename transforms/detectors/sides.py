"""Open interest that halves or doubles on one venue because the venue changed what it counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transforms.detectors.contract import DAY_US, Detector, Finding, Inputs, Lines, Told, findings, lines
from transforms.detectors.numbers import trailing_median
from transforms.estimators import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class SideRule:
    """Evidence: Bybit's announcement of 2026-06-11 (one side instead of both; "avoid interpreting the drop as deleveraging")."""

    #: the step may differ from 2 or 1/2 by this ratio; [C] an hour of normal trade on top of the change
    step_ratio: float = 1.08
    #: other venues count as quiet below this move: a tenth in one step is much for a market, little for a change of sides
    quiet_ratio: float = 1.10
    #: own volume counts as ordinary below this many of its medians
    volume_ratio: float = 3.0
    volume_rows: int = 24
    volume_least: int = 8
    #: contracts of a venue whose median step proves it without a peer
    contracts: int = 3
    #: once the median step of a venue proves it, its contracts may have traded this much on top
    whole_ratio: float = 1.5
    #: a peer's newest row may be this much older than the instant it speaks for, in steps of the row's own
    peer_age_steps: float = 1.0
    #: rows after the step stay suspect this long; [C] then someone has entered the convention, or the new level is history
    hold_d: float = 7.0


class SideBreak(Detector):
    name = "side_break"
    reason_code = "SIDE_BREAK"
    reads = ("open_interest", "candles")
    rule: SideRule = SideRule()
    lookback_h = 24 * 14.0
    catches = "open interest x0.5 or x2 on one venue that changed the sides it counts: never deleveraging"
    rule_text = "a step of 2 or 1/2 larger than all that was traded meanwhile; or other venues and the own volume are quiet; or the whole venue steps"

    def find(self, inputs: Inputs) -> list[Finding]:
        rule = self.rule
        held = lines(inputs, "open_interest", ("open_interest_base", "open_interest_usd"))
        if len(held.as_of) == 0:
            return []
        base = held.values["open_interest_base"]
        amount = np.where(np.isnan(base), held.values["open_interest_usd"], base)
        with np.errstate(divide="ignore", invalid="ignore"):
            level = np.log(np.where(amount > 0, amount, np.nan))
            step = level - held.before(level)
        away = np.abs(np.abs(step) - np.log(2))
        whole, whole_known = self._whole(held, step)
        whole &= away < np.log(rule.whole_ratio)
        doubled = whole | (away < np.log(rule.step_ratio))
        candidates = np.flatnonzero(doubled)
        if len(candidates) == 0:
            return []
        volume, usual, volume_known = self._volumes(inputs, held, candidates)
        change = np.abs(amount - held.before(amount))[candidates]
        impossible = np.isfinite(base[candidates]) & (change > volume)
        spiked = volume > rule.volume_ratio * usual
        quiet, peer_known = self._peers(held, level, candidates)
        near = away[candidates] < np.log(rule.step_ratio)
        impossible, quiet, all_of_it = impossible & near, quiet & near & ~spiked, whole[candidates] & ~spiked
        sound = impossible | quiet | all_of_it
        known = np.maximum(held.known[candidates], volume_known)
        known = np.where(impossible, known, np.maximum(known, np.where(quiet, peer_known, whole_known[candidates])))
        return self._held(held, amount, step, dict(zip(candidates[sound].tolist(), known[sound].tolist(), strict=True)))

    def _held(self, held: Lines, amount: Floats, step: Floats, onsets: dict[int, int]) -> list[Finding]:
        """From the step to the step back, or as long as the rule holds."""
        bad = np.zeros(len(step), dtype=bool)
        factor = np.full(len(step), np.nan)
        expected = np.full(len(step), np.nan)
        known = held.known.copy()
        free = -1
        for row, when in sorted(onsets.items()):
            if row < free:
                continue
            end = held.starts[held.track[row] + 1]
            last = row + int(np.searchsorted(held.as_of[row:end], held.as_of[row] + int(self.rule.hold_d * DAY_US)))
            back = np.flatnonzero(np.abs(step[row + 1 : last] + step[row]) < np.log(self.rule.step_ratio))
            stop = row + 1 + int(back[0]) if len(back) else last
            bad[row:stop] = True
            factor[row:stop] = 0.5 if step[row] > 0 else 2.0
            expected[row] = amount[row - 1]
            known[row:stop] = np.maximum(known[row:stop], when)
            free = stop + 1 if len(back) else stop
        detail = "open interest of {instrument} steps from {expected:.6g} to {observed:.6g} alone: sides? multiply by {factor:g}"
        return findings(self, held, Told(bad, amount, expected, factor, "quarantine", detail, known))

    def _volumes(self, inputs: Inputs, held: Lines, rows: Ints) -> tuple[Floats, Floats, Ints]:
        """(traded between the row before and the row, median of such amounts, when known) of the same contract; inf where not known."""
        candles = lines(inputs, "candles", ("volume_base", "interval_h"))
        place = {name[:3]: n for n, name in reversed(list(enumerate(candles.names)))}
        rule = self.rule
        usual_all = trailing_median(candles.values["volume_base"], candles.starts, rule.volume_rows, rule.volume_least)
        volume, usual = np.full(len(rows), np.inf), np.full(len(rows), np.inf)
        known = np.zeros(len(rows), dtype=np.int64)
        for n, row in enumerate(rows.tolist()):
            m = place.get(held.names[held.track[row]][:3])
            if m is None or row == held.starts[held.track[row]]:
                continue
            a, b = candles.starts[m], candles.starts[m + 1]
            since, until = int(held.as_of[row - 1]), int(held.as_of[row])
            # bars that overlap the step at all: what was traded is at most this
            first = a + np.searchsorted(candles.as_of[a:b], since, "right")
            last = min(b, a + np.searchsorted(candles.as_of[a:b], until) + 1)
            hours = float(np.sum(candles.values["interval_h"][first:last]))
            if last > first and hours * 3.6e9 >= until - since and candles.as_of[last - 1] >= until:
                volume[n] = float(np.sum(candles.values["volume_base"][first:last]))
                usual[n] = usual_all[first] * (last - first)
                known[n] = candles.known[last - 1]
        return volume, np.where(np.isnan(usual), np.inf, usual), known

    def _peers(self, held: Lines, level: Floats, rows: Ints) -> tuple[Bools, Ints]:
        """(whether other venues of the asset have rows and all stood still meanwhile, when that was known)."""
        quiet = np.zeros(len(rows), dtype=bool)
        known = np.zeros(len(rows), dtype=np.int64)
        others: dict[str, list[int]] = {}
        for n, name in enumerate(held.names):
            others.setdefault(name[3], []).append(n)
        for n, row in enumerate(rows.tolist()):
            me = held.names[held.track[row]]
            if row == held.starts[held.track[row]]:
                continue
            since, until = int(held.as_of[row - 1]), int(held.as_of[row])
            age = int(self.rule.peer_age_steps * (until - since))
            moves = []
            for m in others[me[3]]:
                if held.names[m][1] == me[1]:
                    continue
                a, b = held.starts[m], held.starts[m + 1]
                x, y = a + np.searchsorted(held.as_of[a:b], (since, until), "right") - 1
                if x < a or held.as_of[x] < since - age or held.as_of[y] <= until - age or not np.isfinite(level[x] + level[y]):
                    continue
                moves.append(abs(level[y] - level[x]))
                known[n] = max(known[n], held.known[y])
            quiet[n] = bool(moves) and max(moves) < np.log(self.rule.quiet_ratio)
        return quiet, known

    def _whole(self, held: Lines, step: Floats) -> tuple[Bools, Ints]:
        """(whether the row's venue doubles or halves as a whole at its instant: the median step of its contracts does; when known)."""
        owner = {key: n for n, key in enumerate(sorted({name[:2] for name in held.names}))}
        mine = np.array([owner[name[:2]] for name in held.names], dtype=np.int64)[held.track]
        order = np.lexsort((step, held.as_of, mine))  # NaN sorts last
        head = np.append(True, (np.diff(mine[order]) != 0) | (np.diff(held.as_of[order]) != 0))
        begin = np.flatnonzero(head)
        count = np.add.reduceat(np.isfinite(step[order]).astype(np.int64), begin)
        last = len(order) - 1
        low, high = np.minimum(begin + np.maximum(0, count - 1) // 2, last), np.minimum(begin + count // 2, last)
        middle = (step[order][low] + step[order][high]) / 2
        moved = (count >= self.rule.contracts) & (np.abs(np.abs(middle) - np.log(2)) < np.log(self.rule.step_ratio))
        group = np.empty(len(order), dtype=np.int64)
        group[order] = np.cumsum(head) - 1
        known = np.maximum.reduceat(held.known[order], begin)
        found: Bools = moved[group] & (np.sign(step) == np.sign(middle[group]))
        return found, known[group]
