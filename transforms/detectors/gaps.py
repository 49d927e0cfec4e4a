"""Absence that means something: data missing exactly inside a crash, a feed that is late while price runs, an answer cut at a round page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.asof import micros, newest
from transforms.detectors.contract import DAY_US, HOUR_US, Detector, Finding, Inputs, Lines, Told, findings, identity, lines
from transforms.detectors.numbers import trailing_median
from transforms.estimators import Bools, Floats, Ints

WATCHED: Final = {
    "open_interest": ("open_interest_base", "open_interest_usd"),
    "long_short": ("long_share",),
    "taker_flow": ("taker_buy_base",),
}
#: page sizes of venues' documents
PAGES: Final = (50, 100, 200, 300, 500, 720, 1000, 1500, 2000, 2500, 5000, 10000)

#: a page may span this many times its rows; [C] recorded pages of 1,000 hours span up to 1,031
PAGE_HOLES: Final = 1.05


@dataclass(frozen=True, slots=True)
class StressRule:
    """E2, and Binance metrics of 2021-05-19: three of 67 rows missing, all of them where open interest or price fell by 9 % and more."""

    #: rows that say what a normal step and a normal move are
    rows: int = 48
    least: int = 8
    #: a gap or a delay begins beyond this many normal steps
    steps: float = 1.5
    #: a move is extreme beyond this many normal ones (times the square root of the steps it took), and these sizes (logs)
    moves: float = 6.0
    price_size: float = 0.03
    interest_size: float = 0.08
    #: bars up to this long after an extreme one are judged too: it is then that a feed shows how late it is
    stress_h: float = 6.0
    #: a feed that has been silent for longer has ended: that is no delay
    ended_d: float = 3.0


def _interest(held: Lines) -> tuple[Floats, Floats]:
    """(log amount, log of the price that value / amount implies)."""
    base, value = held.values.get("open_interest_base"), held.values.get("open_interest_usd")
    if base is None or value is None:
        nothing = np.full(len(held.as_of), np.nan)
        return nothing, nothing
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.where(np.isnan(base), value, base)), np.log(value / base)


class MissingInCrash(Detector):
    name = "missing_in_crash"
    reason_code = "MISSING_IN_CRASH"
    reads = (*WATCHED, "candles")
    rule: StressRule = StressRule()
    lookback_h = 24 * 60.0
    catches = "rows missing exactly where price or open interest jumped: a sum over what is left understates the crash"
    rule_text = "a gap beyond 1.5 normal steps across which price moved 6 normal moves and 3 %, or open interest 6 and 8 %"

    def find(self, inputs: Inputs) -> list[Finding]:
        found: list[Finding] = []
        bars = _Bars(inputs, self.rule)
        for table, columns in WATCHED.items():
            held = lines(inputs, table, columns)
            gap, _ = _gaps(held, self.rule)
            at = np.flatnonzero(gap)
            if len(at) == 0:
                continue
            amount, implied = _interest(held)
            bad = np.zeros(len(gap), dtype=bool)
            size = np.full(len(gap), np.nan)
            wanted = np.full(len(gap), np.nan)
            known = held.known.copy()
            for values, least in ((amount, self.rule.interest_size), (implied, self.rule.price_size)):
                step, usual = _moves(held, values, self.rule)
                with np.errstate(invalid="ignore"):
                    hit = gap & (np.abs(step) > np.maximum(least, usual))
                size = np.where(hit & ~bad, step, size)
                wanted = np.where(hit & ~bad, np.maximum(least, usual), wanted)
                bad |= hit
            for row in at[~bad[at]].tolist():
                move, extreme, when = bars.across(held.names[held.track[row]], int(held.as_of[row - 1]), int(held.as_of[row]))
                if abs(move) > extreme:
                    bad[row], size[row], wanted[row], known[row] = True, move, extreme, max(known[row], when)
            detail = f"{table} of {{instrument}} has a gap across a move of {{observed:.3g}} (extreme from {{expected:.3g}} on): ask again, mark it"
            found += findings(self, held, Told(bad, size, wanted, np.full(len(gap), np.nan), "flag", detail, known))
        return found


class StaleInStress(Detector):
    name = "stale_in_stress"
    reason_code = "STALE_IN_STRESS"
    reads = (*WATCHED, "candles")
    rule: StressRule = StressRule()
    lookback_h = 24 * 60.0
    catches = "a feed whose last row is old while price runs: yesterday's calm is shown for today's crash"
    rule_text = (
        "within 6 h of a candle that moved 6 normal moves and 3 %, the newest known row is older than 1.5 steps beyond its own habit"
    )

    def find(self, inputs: Inputs) -> list[Finding]:
        found: list[Finding] = []
        rule = self.rule
        bars = _Bars(inputs, rule)
        extreme = bars.extreme()
        for table, columns in WATCHED.items():
            held = lines(inputs, table, columns)
            _, normal = _gaps(held, rule)
            lag = (held.own_known - held.as_of).astype(float)
            habit = trailing_median(lag, held.starts, rule.rows, rule.least)
            for n, name in enumerate(held.names):
                a, b = int(held.starts[n]), int(held.starts[n + 1])
                mine = extreme.get((name[1], name[3]), np.zeros(0, dtype=np.int64))
                if b - a <= rule.least or len(mine) == 0:
                    continue
                at, when = bars.held.as_of[mine], bars.held.known[mine]
                track = np.array([a, b])
                shown = newest(track, held.as_of, held.own_known, at, when, int(rule.ended_d * DAY_US))[0]
                row = np.maximum(shown, a)
                age = at - held.as_of[row]
                with np.errstate(invalid="ignore"):
                    late = (shown >= a) & (age > rule.steps * (normal[row] + np.maximum(0.0, habit[row]))) & (age < rule.ended_d * DAY_US)
                # one finding a silence: at the first bar that proves it
                proofs = np.flatnonzero(late)
                for k in proofs[np.unique(row[proofs], return_index=True)[1]].tolist():
                    last = int(row[k])
                    one = self._finding(held, n, last, int(at[k]), int(when[k]), float(normal[last]))
                    found.append(one)
        return found

    def _finding(self, held: Lines, track: int, row: int, until: int, known: int, normal: float) -> Finding:
        source, venue, instrument, asset, part = held.names[track]
        age, usual = (until - int(held.as_of[row])) / 3.6e9, normal / 3.6e9
        return Finding(
            self.name,
            self.reason_code,
            source,
            venue,
            instrument,
            asset,
            held.table,
            f"{held.part}={part}" if held.part else "",
            int(held.as_of[row]),
            until,
            known,
            "flag",
            f"{held.table} of {instrument} is {age:.3g} h old in an extreme hour (normal: {usual:.3g} h): leave it out",
            age,
            usual,
            np.nan,
            0,
        )


class _Bars:
    """Candles of every contract, for the question how far price went."""

    def __init__(self, inputs: Inputs, rule: StressRule) -> None:
        self.rule = rule
        self.held = lines(inputs, "candles", ("close_usd",))
        with np.errstate(divide="ignore", invalid="ignore"):
            self.level = np.log(self.held.values["close_usd"])
        step = self.level - self.held.before(self.level)
        self.step = step
        self.usual = rule.moves * trailing_median(np.abs(step), self.held.starts, rule.rows, rule.least)
        self.tracks: dict[tuple[str, str], list[int]] = {}
        for n, name in enumerate(self.held.names):
            self.tracks.setdefault((name[1], name[3]), []).append(n)

    def extreme(self) -> dict[tuple[str, str], Ints]:
        """Rows whose own bar is extreme or follows such a one closely, by venue and asset."""
        with np.errstate(invalid="ignore"):
            hit = np.abs(self.step) > np.maximum(self.usual, self.rule.price_size)
        found = {}
        for key, tracks in self.tracks.items():
            rows = []
            for n in tracks:
                a, b = self.held.starts[n], self.held.starts[n + 1]
                at = np.flatnonzero(hit[a:b])
                last = np.maximum.accumulate(np.where(hit[a:b], self.held.as_of[a:b], -1))
                if len(at):
                    rows.append(a + np.flatnonzero((last >= 0) & (self.held.as_of[a:b] - last <= self.rule.stress_h * HOUR_US)))
            found[key] = np.concatenate([np.zeros(0, dtype=np.int64), *rows]).astype(np.int64)
        return found

    def across(self, name: tuple[str, ...], since: int, until: int) -> tuple[float, float, int]:
        """(move of the most extreme bar inside the span, from where on it is extreme, when known); 0 where there is no bar."""
        for n in self.tracks.get((name[1], name[3]), []):
            a, b = self.held.starts[n], self.held.starts[n + 1]
            first, last = a + np.searchsorted(self.held.as_of[a:b], (since, until), "right")
            extreme = np.maximum(self.rule.price_size, self.usual[first:last])  # usual is 0 where price stood still
            beyond = np.abs(self.step[first:last]) / extreme
            if last > first and np.isfinite(beyond).any():
                top = first + int(np.nanargmax(beyond))
                return float(self.step[top]), float(extreme[top - first]), int(self.held.known[last - 1])
        return 0.0, 0.0, 0


def _gaps(held: Lines, rule: StressRule) -> tuple[Bools, Floats]:
    """(whether the row comes after a gap, the normal step in us)."""
    step = held.as_of - held.before(held.as_of)
    normal = trailing_median(step, held.starts, rule.rows, rule.least)
    with np.errstate(invalid="ignore"):
        return step > rule.steps * normal, normal


def _moves(held: Lines, values: Floats, rule: StressRule) -> tuple[Floats, Floats]:
    """(move since the row before, what would be extreme for the time it took), logs."""
    with np.errstate(invalid="ignore"):
        step = values - held.before(values)
    took = held.as_of - held.before(held.as_of)
    normal = trailing_median(took, held.starts, rule.rows, rule.least)
    usual = rule.moves * trailing_median(np.abs(step), held.starts, rule.rows, rule.least)
    with np.errstate(invalid="ignore"):
        return step, usual * np.sqrt(np.maximum(1.0, took / normal))


class TruncatedHistory(Detector):
    name = "truncated_history"
    reason_code = "TRUNCATED_HISTORY"
    reads = (*WATCHED, "candles", "funding", "premiums", "volatility_index")
    lookback_h = 0.0
    catches = "an answer that stops after exactly one page: a paginator that gave up, a history that starts late"
    rule_text = "of a window asked for, exactly a page of neighbouring rows came, and all that is missing is missing at one end"

    def find(self, inputs: Inputs) -> list[Finding]:
        if inputs.coverage is None:
            return []
        page = pc.is_in(inputs.coverage.column("received"), value_set=pa.array(PAGES, type=pa.int64()))
        asked = inputs.coverage.filter(pc.and_(page, pc.greater(inputs.coverage.column("missing"), 0)))
        recorded = micros(asked.column("recorded_at"))
        starts, ends = micros(asked.column("window_start")), micros(asked.column("window_end"))
        found: list[Finding] = []
        for n, one in enumerate(asked.select(["source", "instrument", "target", "expected", "received"]).to_pylist()):
            rows = inputs.tables.get(one["target"])
            if rows is None or one["expected"] <= 0:
                continue
            named = identity(one["target"], rows)
            of = pc.and_(pc.equal(named.column("source"), one["source"]), pc.equal(named.column("instrument"), one["instrument"]))
            mine = named.filter(of)
            stamps = np.unique(micros(mine.column("as_of")))
            stamps = stamps[(stamps > starts[n]) & (stamps <= ends[n])]
            step = (ends[n] - starts[n]) / one["expected"]
            if len(stamps) != one["received"] or stamps[-1] - stamps[0] > PAGE_HOLES * len(stamps) * step:
                continue
            head, tail = stamps[0] - starts[n] > 1.5 * step, ends[n] - stamps[-1] >= step
            if head == tail:
                continue
            venue, asset = mine.column("venue")[0].as_py(), mine.column("asset")[0].as_py()
            end = "start" if head else "end"
            detail = f"{one['received']} of {one['expected']} rows of {one['instrument']} came, a full page, and the {end} is missing"
            span = (int(starts[n]), int(stamps[0]) - 1) if head else (int(stamps[-1]), int(ends[n]))
            found.append(
                Finding(
                    self.name,
                    self.reason_code,
                    one["source"],
                    venue,
                    one["instrument"],
                    asset,
                    one["target"],
                    "",
                    *span,
                    int(recorded[n]),
                    "flag",
                    detail,
                    float(one["received"]),
                    float(one["expected"]),
                    np.nan,
                    0,
                )
            )
        return found
