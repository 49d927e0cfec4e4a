"""What versions of one history say about each other: invented history, and rows that two files of an archive both hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from transforms.asof import floats, micros, tracks_of
from transforms.detectors.contract import DAY_US, Detector, Finding, Inputs, identity
from transforms.estimators import Bools, Ints

SETTLED: Final = {
    "volatility_index": "implied_volatility",
    "stablecoin_supply": "circulating_usd",
    "reference_index": "reference_value",
    "open_interest": "open_interest_native",
    "candles": "close_usd",
}


@dataclass(frozen=True, slots=True)
class VintageRule:
    """DVOL of 2026-02-15: 894 days changed at once and the history began seven years before the index did.

    [C] 94 of 215 newest DVOL points and up to 0.59 % of newest supply points are revised: that is within `settled_d`.
    """

    #: a value older than this when the version was asked for is history
    settled_d: float = 3.0
    #: a restatement beyond this share of the value is another story, not a correction; [C] no recorded vintage of the supply total does so
    size: float = 0.05
    #: settled values that changed so in one answer, and their share of the history that the answer and the past both cover
    values: int = 20
    share: float = 0.05


class InventedHistory(Detector):
    name = "invented_history"
    reason_code = "INVENTED_HISTORY"
    reads = tuple(SETTLED)
    rule: VintageRule = VintageRule()
    lookback_h = 24 * 365.0
    catches = "an answer that tells another history than all answers before it"
    rule_text = (
        "one answer changes 20 settled values and 5 % of the common history by more than 5 %, and does not return to an older version"
    )

    def back(self, arriving: Mapping[str, pa.Table]) -> float | None:
        """A year where settled values are said anew. What is new, or restated while young, tells no other history: no file is opened for it."""
        for table in SETTLED:
            rows = arriving.get(table)
            if rows is None:
                continue
            anew = np.asarray(rows.column("revision").to_numpy(), dtype=np.int64) > 0
            old = micros(rows.column("fetched_at")) - micros(rows.column("as_of")) > int(self.rule.settled_d * DAY_US)
            if (anew & old).any():
                return self.lookback_h
        return None

    def find(self, inputs: Inputs) -> list[Finding]:
        found: list[Finding] = []
        for table, column in SETTLED.items():
            rows = inputs.tables.get(table)
            if rows is not None and rows.num_rows:
                found += self._table(table, column, rows)
        return found

    def _table(self, table: str, column: str, rows: pa.Table) -> list[Finding]:
        rule = self.rule
        named = identity(table, rows)
        number, names = tracks_of(named, ("source", "venue", "instrument", "asset", "_part"))
        as_of, asked, known = micros(rows.column("as_of")), micros(rows.column("fetched_at")), micros(rows.column("known_at"))
        revision = np.asarray(rows.column("revision").to_numpy(), dtype=np.int64)
        order = np.lexsort((revision, as_of, number))
        number, as_of, asked, known, revision = number[order], as_of[order], asked[order], known[order], revision[order]
        value = floats(rows.column(column))[order]
        sha = rows.column("raw_sha256").take(pa.array(order))
        codes, answers = tracks_of(pa.table({"raw_sha256": sha}), ("raw_sha256",))
        again = np.append(False, (number[1:] == number[:-1]) & (as_of[1:] == as_of[:-1]))
        prior = np.append(np.nan, value[:-1])
        older = np.append(np.full(min(2, len(value)), np.nan), value[:-2])
        twice = np.append(False, again[:-1]) & again
        with np.errstate(divide="ignore", invalid="ignore"):
            far = np.abs(value - prior) > rule.size * np.abs(prior)
            healed = twice & (np.abs(value - older) <= rule.size * np.abs(older))
        settled = asked - as_of > int(rule.settled_d * DAY_US)
        strange = again & far & settled & ~healed
        if not strange.any():
            return []
        key = number * len(answers) + codes
        found = []
        for one in np.unique(key[strange]).tolist():
            track, answer = divmod(one, len(answers))
            mine = key == one
            changed = mine & strange
            before = (number == track) & (asked < asked[mine].min())
            if not before.any():
                continue
            span = as_of[mine]
            common = len(np.unique(as_of[before & (as_of >= span.min()) & (as_of <= span.max())]))
            count = int(changed.sum())
            if count < rule.values or count < rule.share * common:
                continue
            first = int(np.flatnonzero(changed)[0])
            early = int(np.sum(mine & (as_of < as_of[before].min())))
            source, venue, instrument, asset, _ = names[track]
            detail = (
                f"one answer gives {count} of {common} settled values of {instrument} otherwise than all before it"
                f" and adds {early} rows before their first: keep the old version"
            )
            found.append(
                Finding(
                    self.name,
                    self.reason_code,
                    source,
                    venue,
                    instrument,
                    asset,
                    table,
                    f"raw_sha256={answers[answer][0]}",
                    int(span.min()) - 1,
                    int(span.max()),
                    int(max(known[mine].max(), asked[mine].max())),
                    "quarantine",
                    detail,
                    float(value[first]),
                    float(prior[first]),
                    np.nan,
                    int(mine.sum()),
                )
            )
        return found


@dataclass(frozen=True, slots=True)
class MidnightRule:
    """B1: from 2026-06-25 on, 00:00 stands in the files of both days; labels had moved from the end to the start of the interval."""

    #: midnights that two answers both hold before it is a habit; [C] one is a re-download
    days: int = 2


class DuplicatedMidnight(Detector):
    name = "duplicated_midnight"
    reason_code = "DUPLICATED_MIDNIGHT"
    reads = ("open_interest", "long_short", "taker_flow", "candles", "premiums")
    rule: MidnightRule = MidnightRule()
    lookback_h = 24 * 7.0
    catches = "archive files that overlap by their 00:00 row: the convention of labels has changed"
    rule_text = "on 2 days and more, one answer ends with the 00:00 that another begins with, and they share nothing else"

    def find(self, inputs: Inputs) -> list[Finding]:
        found: list[Finding] = []
        for table in self.reads:
            rows = inputs.arrived.get(table)
            if rows is not None and rows.num_rows:
                found += self._table(table, rows)
        return found

    def _table(self, table: str, rows: pa.Table) -> list[Finding]:
        number, names = tracks_of(identity(table, rows), ("source", "venue", "instrument", "asset", "_part"))
        codes, _ = tracks_of(rows, ("raw_sha256",))
        as_of, known = micros(rows.column("as_of")), micros(rows.column("known_at"))
        order = np.lexsort((codes, as_of, number))
        number, as_of, known, codes = number[order], as_of[order], known[order], codes[order]
        twice = np.append(False, (number[1:] == number[:-1]) & (as_of[1:] == as_of[:-1]) & (codes[1:] != codes[:-1]))
        ends, begins = _edges(number, codes, as_of)
        found: list[Finding] = []
        for track in np.unique(number[twice]).tolist():
            mine = number == track
            other = twice & mine & (as_of % DAY_US != 0)
            stamps: Ints = np.intersect1d(as_of[mine & ends], as_of[mine & begins])
            if len(stamps) < self.rule.days:
                continue
            proof = stamps[self.rule.days - 1]
            if (as_of[other] <= proof).any():
                continue
            source, venue, instrument, asset, part = names[track]
            column = {"long_short": "ratio_metric", "candles": "interval_h", "taker_flow": "interval_h"}.get(table, "")
            detail = f"00:00 of {instrument} stands in two files on {self.rule.days} days: is the label the start of the interval now?"
            found.append(
                Finding(
                    self.name,
                    self.reason_code,
                    source,
                    venue,
                    instrument,
                    asset,
                    table,
                    f"{column}={part}" if column else "",
                    int(stamps[0]) - 1,
                    int(stamps[-1]),
                    int(known[mine & (as_of <= proof)].max()),
                    "flag",
                    detail,
                    float(self.rule.days),
                    0.0,
                    np.nan,
                    len(stamps),
                )
            )
        return found


def _edges(number: Ints, codes: Ints, as_of: Ints) -> tuple[Bools, Bools]:
    """Rows at 00:00 that their answer reaches after rows between midnights, and those it begins with. Daily rows reach none."""
    _, answer = np.unique(np.stack([number, codes]), axis=1, return_inverse=True)
    answer = answer.ravel()
    midnight = as_of % DAY_US == 0
    first: Ints = np.full(len(as_of), np.iinfo(np.int64).max)
    inside = first.copy()
    np.minimum.at(first, answer, as_of)
    np.minimum.at(inside, answer[~midnight], as_of[~midnight])
    return midnight & (inside[answer] < as_of), midnight & (first[answer] == as_of)
