"""Label shifts: a series whose stamps are a step, an hour or a time zone away from what they describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from transforms import conventions
from transforms.detectors.contract import HOUR_US, Detector, Finding, Inputs, Lines, Told, constant, findings, lines
from transforms.estimators import Floats, Ints
from transforms.reading import to_us

MINUTE_US: Final = 60_000_000
#: what two sources can be compared by, by table; the second word says how values are compared
COMPARED: Final = {
    "open_interest": ("open_interest_base", "log"),
    "candles": ("close_usd", "log"),
    "funding": ("funding_rate", "plain"),
    "long_short": ("long_share", "plain"),
    "volatility_index": ("implied_volatility", "log"),
}


@dataclass(frozen=True, slots=True)
class ShiftRule:
    """[C] On Binance 15-minute open interest and hourly settlements: docs/detectors.md."""

    #: pairs of rows that are judged together, and the fewest of them at the lag that is held to be right
    rows: int = 48
    least_share: float = 0.8
    #: the error at the right lag is below this share of the error as labelled; not calibrated: no recording has both
    own_ratio: float = 0.35
    #: two recordings of one settlement are samples of a moving rate: recorded Hyperliquid, off by an hour, still had 0.54 left
    source_ratio: float = 0.65
    source_rows: int = 168
    #: errors as labelled below these are agreement: logs, shares and rates
    log_floor: float = 2e-4
    plain_floor: float = 2e-7
    #: time zones and hours that are tried between sources, besides one step of the series
    lags_h: tuple[float, ...] = (-12.0, -9.0, -8.0, -5.0, -4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 9.0, 12.0)
    #: settlements in a row at the wrong hour
    settlements: int = 3


class LabelShift(Detector):
    name = "label_shift"
    reason_code = "LABEL_SHIFT"
    reads = tuple(COMPARED)
    rule: ShiftRule = ShiftRule()
    lookback_h = 24 * 21.0
    catches = "stamps a step, an hour or a time zone away from what they describe: a start label taken for an end, a local clock"
    rule_text = (
        "value / amount fits the candle one step away, not its own (48 rows); another source fits at a lag, not as labelled; "
        "or settlements fall on hours at which the venue never settles"
    )

    def find(self, inputs: Inputs) -> list[Finding]:
        return self._implied(inputs) + self._sources(inputs) + self._phase(inputs)

    def _implied(self, inputs: Inputs) -> list[Finding]:
        interest = lines(inputs, "open_interest", ("open_interest_base", "open_interest_usd"))
        candles = lines(inputs, "candles", ("close_usd",))
        with np.errstate(divide="ignore", invalid="ignore"):
            price = np.log(interest.values["open_interest_usd"] / interest.values["open_interest_base"])
            close = np.log(candles.values["close_usd"])
        place = {name[:3]: n for n, name in reversed(list(enumerate(candles.names)))}
        pairs = [(n, place[name[:3]]) for n, name in enumerate(interest.names) if name[:3] in place]
        rule = self.rule
        detail = "value / amount of {instrument} misses its candle by {observed:.3g} as labelled, by {expected:.3g} one step away"
        return self._shifted(interest, price, candles, close, pairs, None, rule.rows, rule.own_ratio, rule.log_floor, "quarantine", detail)

    def _sources(self, inputs: Inputs) -> list[Finding]:
        found: list[Finding] = []
        rule = self.rule
        for table, (column, kind) in COMPARED.items():
            held = lines(inputs, table, (column,))
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.log(held.values[column]) if kind == "log" else held.values[column]
            # a venue's own word is the witness; where there is none, both are flagged
            native = [name[0] == name[1] for name in held.names]
            for consequence in ("quarantine", "flag"):
                pairs = [
                    (n, m)
                    for n, mine in enumerate(held.names)
                    for m, theirs in enumerate(held.names)
                    if mine[0] != theirs[0] and mine[1:] == theirs[1:] and not native[n] and native[m] == (consequence == "quarantine")
                ]
                floor = rule.log_floor if kind == "log" else rule.plain_floor
                detail = f"{column} of {{instrument}} misses another source by {{observed:.3g}} as labelled, by {{expected:.3g}} at a lag"
                found += self._shifted(
                    held, values, held, values, pairs, rule.lags_h, rule.source_rows, rule.source_ratio, floor, consequence, detail
                )
        return found

    def _shifted(
        self,
        held: Lines,
        values: Floats,
        other: Lines,
        theirs: Floats,
        pairs: Sequence[tuple[int, int]],
        lags_h: tuple[float, ...] | None,
        rows: int,
        ratio: float,
        floor: float,
        consequence: str,
        detail: str,
    ) -> list[Finding]:
        """lags_h: tried besides one step of the series to either side."""
        bad = np.zeros(len(held.as_of), dtype=bool)
        observed, expected = constant(held, np.nan), constant(held, np.nan)
        known, proof = held.known.copy(), np.zeros(len(held.as_of), dtype=np.int64)
        for n, m in pairs:
            a, b = int(held.starts[n]), int(held.starts[n + 1])
            c, d = int(other.starts[m]), int(other.starts[m + 1])
            if b - a < 2 or d - c < 2:
                continue
            own = _minutes(held.as_of[a:b])
            step = int(np.median(np.diff(own[: rows + 1])))
            hours = {int(h * HOUR_US) for h in lags_h or ()}
            lags = np.array([0, *sorted({-step, step} | hours)], dtype=np.int64)
            when = _minutes(other.as_of[c:d])
            place = np.searchsorted(when, own[:, None] + lags[None, :])
            inside = np.minimum(place, d - c - 1)
            hit = when[inside] == own[:, None] + lags[None, :]
            with np.errstate(invalid="ignore"):
                miss = np.where(hit, np.abs(values[a:b, None] - theirs[c + inside]), np.nan)
            # a row is judged once the witness has gone past the farthest lag
            past = np.searchsorted(when, own + int(lags.max()))
            judged = past < d - c
            sure = np.maximum(held.known[a:b], np.where(judged, other.known[c + np.minimum(past, d - c - 1)], 0))
            error, share = _trailing(miss, rows)
            right = 1 + np.argmin(np.where(share[:, 1:] >= self.rule.least_share, error[:, 1:], np.inf), axis=1)
            at = np.arange(b - a)
            best = np.where(share[at, right] >= self.rule.least_share, error[at, right], np.inf)
            labelled = np.where(share[:, 0] >= 1 - self.rule.least_share, error[:, 0], np.inf)
            shifted = judged & np.isfinite(best) & (labelled > floor) & (best < ratio * labelled) & (at >= rows - 1)
            # all rows that were judged together are in doubt, from the first onset on
            nearest = np.minimum.accumulate(np.where(shifted, at, b - a)[::-1])[::-1]
            doubt = (nearest < b - a) & (nearest - at < rows)
            onset = np.minimum(nearest, b - a - 1)
            # and what comes while the newest judged row is shifted
            newest = np.searchsorted(own + int(lags.max()), own, "right") - 1
            after = (newest >= 0) & shifted[np.maximum(newest, 0)]
            onset = np.where(after & ~doubt, np.maximum(newest, 0), onset)
            # and what came between the two, too late to be judged and too early to be stopped
            between = np.minimum.accumulate(np.where(after, newest, b - a)[::-1])[::-1] <= at
            doubt |= after | between
            bad[a:b] |= doubt
            proof[a:b] = np.where(doubt, held.as_of[a:b][onset] + int(lags.max()), proof[a:b])
            observed[a:b] = np.where(doubt, labelled[onset], observed[a:b])
            expected[a:b] = np.where(doubt, best[onset], expected[a:b])
            known[a:b] = np.where(doubt, np.maximum(held.known[a:b], sure[onset]), known[a:b])
        told = Told(
            bad, observed, expected, constant(held, np.nan), "quarantine" if consequence == "quarantine" else "flag", detail, known, proof
        )
        return findings(self, held, told, split=False)

    def _phase(self, inputs: Inputs) -> list[Finding]:
        held = lines(inputs, "funding", ("funding_rate",))
        if len(held.as_of) == 0:
            return []
        hour = (held.as_of + HOUR_US // 2) // HOUR_US
        spacing = hour - held.before(hour)
        wanted = _settlement_hours(held)
        with np.errstate(invalid="ignore"):
            off = np.isin(spacing, (2.0, 4.0, 8.0)) & (wanted >= 0) & (np.mod(hour - wanted, np.where(spacing > 0, spacing, 1.0)) != 0)
        # three in a row, judged at the third
        count = np.where(off, 1, 0)
        for back in range(1, self.rule.settlements):
            count = count * np.where(np.nan_to_num(held.before(off.astype(float), back)) > 0, 1, 0)
        sure = count > 0
        bad = sure.copy()
        known, proof = held.known.copy(), np.zeros(len(held.as_of), dtype=np.int64)
        for back in range(1, self.rule.settlements + 1):
            bad[:-back] |= sure[back:] & (held.track[back:] == held.track[:-back])
        begin = np.flatnonzero(bad & ~np.append(False, bad[:-1]))
        first_sure = np.flatnonzero(sure)
        if len(begin):
            known[begin] = held.known[first_sure[np.searchsorted(first_sure, begin)]]
            proof[begin] = held.as_of[first_sure[np.searchsorted(first_sure, begin)]]
        seen = np.mod(hour, 24).astype(float)
        detail = "settlements of {instrument} begin to fall on hour {observed:g} of the day: the venue settles from hour {expected:g} on"
        return findings(self, held, Told(bad, seen, wanted, constant(held, np.nan), "quarantine", detail, known, proof), split=False)


def _settlement_hours(held: Lines) -> Floats:
    """Per row the declared hour from which on its venue settles; -1 where none is declared, or the row is no settlement."""
    wanted = constant(held, -1.0)
    for n, (_, venue, _, _, kind) in enumerate(held.names):
        if kind == "settlement":
            rows = slice(int(held.starts[n]), int(held.starts[n + 1]))
            for since, hour in conventions.settlement_hours(venue):
                wanted[rows][held.as_of[rows] >= to_us(since)] = hour
    return wanted


def _minutes(as_of: Ints) -> Ints:
    """Stamps to the minute: settlements carry milliseconds."""
    found: Ints = (as_of + MINUTE_US // 2) // MINUTE_US * MINUTE_US
    return found


def _trailing(miss: Floats, rows: int) -> tuple[Floats, Floats]:
    """Mean of the known entries of the last `rows` rows, and their share; columns apart."""
    fine = np.isfinite(miss)
    sums = np.vstack([np.zeros(miss.shape[1]), np.cumsum(np.where(fine, miss, 0.0), axis=0)])
    held = np.vstack([np.zeros(miss.shape[1]), np.cumsum(fine, axis=0)])
    low = np.maximum(0, np.arange(1, len(miss) + 1) - rows)
    count = held[1:] - held[low]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(count > 0, (sums[1:] - sums[low]) / count, np.inf)
    return np.maximum(mean, 0.0), count / rows
