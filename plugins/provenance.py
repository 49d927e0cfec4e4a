"""The way back: from an index value to the bytes a venue sent, with every step recomputed where it can be.

    S, F or X -> contributions -> weight, score -> feature value -> core rows it was measured from -> stored answer -> SHA-256 of its bytes

An input that is no feature of core rows says what it is instead: the carry score is made of features, the interaction of components, latent
liquidations of the cohort book's state, the market of its assets. `trace` collects, `render` prints. Nothing here writes anything.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa

from expectations.particular import expected_contribution
from plugins.errors import NotFound
from plugins.proofs import AnswerProof, Answers, Fragment, Reader, find_fragment
from plugins.readings import ADDITIVITY, MARKET, ORIGIN
from plugins.wording import INDEX_WORDS
from transforms.tables import TABLES, Table
from transforms.windows import CADENCES, Window, partition_day

#: Rows and answers shown per input table; all rows are counted, and the answers of the rows shown are checked.
SHOWN: Final = 3
EXPLAINED: Final = {"S": "S - 50", "F": "F", "X": "X"}
_FORMULA: Final = ("index_name", "asset", "component", "weight", "sign", "score", "stale_factor")


@dataclass(frozen=True, slots=True)
class Origin:
    """What an input rests on.

    tables: core tables, and how far back from `as_of` each is read; None: since the start of the month, from a stored state on.
    words: what the input is, where it is not one feature; features, factors: the features or the components it is made of.
    """

    tables: tuple[tuple[str, timedelta | None], ...] = ()
    words: str = ""
    features: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()

    @property
    def continued(self) -> bool:
        """Whether it is a state that is carried from month to month."""
        return any(span is None for _, span in self.tables)


#: Origins by input.
Inputs = Mapping[str, Origin]


@dataclass(frozen=True, slots=True)
class CoreRow:
    """One core row and the part of the answer it was read from."""

    row: Mapping[str, Any]
    values: Mapping[str, Any]
    proof: AnswerProof
    fragment: Fragment | None


@dataclass(frozen=True, slots=True)
class InputTrace:
    """The rows of one core table inside a feature's window `(start, end]`, newest first; `rows` of them are shown."""

    table: str
    start: datetime
    end: datetime
    found: int
    answers: int
    rows: tuple[CoreRow, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything on the way from one value to its bytes."""

    asset: str
    cadence: str
    as_of: datetime
    index: str
    feature: str
    reading: Mapping[str, Any]
    #: all inputs of the number, and those rows of them that are the traced input: one, or one a venue
    contributions: tuple[Mapping[str, Any], ...]
    chosen: tuple[Mapping[str, Any], ...]
    measured: Mapping[str, Any] | None
    origin: Origin
    #: what the input is made of, a sentence each; and where they do not make it
    made_of: tuple[str, ...]
    unmade: tuple[str, ...]
    inputs: tuple[InputTrace, ...]

    @property
    def value(self) -> float | None:
        """S, F or X; None when withheld."""
        found: float | None = self.reading[self.index.lower()]
        return found

    @property
    def residual(self) -> float | None:
        """Sum of contributions minus what they explain; None when the number is withheld."""
        value = self.value
        return None if value is None else math.fsum(row["contribution"] for row in self.contributions) - (value - ORIGIN[self.index])

    @property
    def contribution(self) -> float:
        """Points of the traced input, all venues together."""
        return math.fsum(row["contribution"] for row in self.chosen)

    @property
    def led(self) -> bool:
        """Whether it adds nothing because a larger input of its component leads."""
        others = [row for row in self.contributions if row["component"] == self.chosen[0]["component"] and row not in self.chosen]
        return self.contribution == 0 != self.recomputed and any(row["contribution"] > 0 for row in others)

    @property
    def recomputed(self) -> float:
        """The same by METHODOLOGY's formula, points."""
        columns = [np.array([_nan(row[name]) for row in self.chosen], dtype=None) for name in _FORMULA]
        return math.fsum(expected_contribution(*columns).tolist())

    @property
    def problems(self) -> list[str]:
        """What does not hold; empty when every step was verified."""
        found = []
        if self.residual is not None and abs(self.residual) > ADDITIVITY:
            found.append(f"contributions differ from {EXPLAINED[self.index]} by {self.residual:.3g}")
        if abs(self.recomputed - self.contribution) > ADDITIVITY and not self.led:
            found.append(f"the contribution recomputes to {self.recomputed:.9f}, stored is {self.contribution:.9f}")
        found += self.unmade
        proofs = {one.proof.raw_sha256: one.proof for part in self.inputs for one in part.rows}
        return found + [f"answer {sha[:12]}: {proof.problem}" for sha, proof in proofs.items() if proof.problem]


def _nan(value: Any) -> Any:
    return math.nan if value is None else value


def trace(
    asset: str,
    cadence: str,
    as_of: datetime,
    feature: str = "",
    index: str = "S",
    *,
    read: Reader,
    open_bundle: Callable[[str], pa.Table],
    inputs: Inputs,
    shown: int = SHOWN,
) -> Trace:
    """Follow one value of S, F or X back. An empty `feature` takes the input with the largest contribution.

    `read` is `Lake.read`; `open_bundle` gives the rows of a bundle (columns raw_sha256, body); `inputs` says what each input rests on.
    Raises NotFound when there is no such value, and says which there are.
    """
    if cadence not in CADENCES:
        raise NotFound(f"There is no cadence {cadence!r}: choose {' or '.join(CADENCES)}.")
    if index not in INDEX_WORDS:
        raise NotFound(f"There is no index {index!r}: choose one of {', '.join(INDEX_WORDS)}.")
    as_of = as_of.astimezone(UTC)
    day = partition_day(as_of)
    where: dict[str, str | Sequence[str]] = {"asset": asset, "cadence": cadence}
    stamped = {name: read(name, days=(day, day), where=where).to_pylist() for name in ("readings", "contributions", "features")}
    at = {name: [row for row in rows if row["as_of"] == as_of] for name, rows in stamped.items()}
    if not at["readings"]:
        raise NotFound(_nothing(index, asset, cadence, as_of, [row["as_of"] for row in stamped["readings"]]))
    summed: dict[str, list[Mapping[str, Any]]] = {}
    for row in at["contributions"]:
        if row["index_name"] == index:
            summed.setdefault(row["feature"], []).append(row)
    names = sorted(summed, key=lambda name: -abs(math.fsum(row["contribution"] for row in summed[name])))
    if not names:
        raise NotFound(f"{index} of {asset} {cadence} at {as_of:%Y-%m-%dT%H:%MZ} has no contributions in the lake: derive that day again.")
    name = feature or names[0]
    if name not in summed:
        raise NotFound(f"{index} of {asset} {cadence} has no input {feature!r}: choose one of {', '.join(sorted(names))}.")
    origin = inputs.get(name, Origin()) if asset != MARKET else Origin(words="the market as a whole is made of its assets' own numbers")
    chosen = tuple(sorted(summed[name], key=lambda row: row["by_venue"]))
    told = _Parts(asset, cadence, as_of, index, chosen, at["contributions"], at["features"], read)
    made_of, unmade = told.tell(origin)
    walk = _Walk(asset, as_of, at["readings"][0]["known_at"], read, Answers(read, open_bundle), shown)
    return Trace(
        asset=asset,
        cadence=cadence,
        as_of=as_of,
        index=index,
        feature=name,
        reading=at["readings"][0],
        contributions=tuple(row for one in names for row in summed[one]),
        chosen=chosen,
        measured=next((row for row in at["features"] if row["feature"] == name), None),
        origin=origin,
        made_of=made_of,
        unmade=unmade,
        inputs=tuple(walk.back(table, as_of - _month(as_of) if span is None else span) for table, span in origin.tables),
    )


def _month(as_of: datetime) -> datetime:
    """The start of the month an instant belongs to: a bar that ends as a month begins closes the month before."""
    return Window.day(partition_day(as_of).replace(day=1)).start


def _nothing(index: str, asset: str, cadence: str, as_of: datetime, near: list[datetime]) -> str:
    words = f"There is no value of {index} for {asset} {cadence} at {as_of:%Y-%m-%dT%H:%M:%SZ}"
    if near:
        closest = sorted(near, key=lambda other: abs(other - as_of))[:3]
        return f"{words}: the nearest of that day are {', '.join(f'{other:%Y-%m-%dT%H:%MZ}' for other in sorted(closest))}."
    return f"{words}, nor any on that day: see the report for the range covered (as_of is the END of the interval)."


@dataclass(frozen=True, slots=True)
class _Parts:
    """What an input that is not one feature is made of, out of the same instant's rows."""

    asset: str
    cadence: str
    as_of: datetime
    index: str
    chosen: tuple[Mapping[str, Any], ...]
    contributions: list[dict[str, Any]]
    features: list[dict[str, Any]]
    read: Reader

    def tell(self, origin: Origin) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(sentences, what does not hold)."""
        told: list[str] = []
        wrong: list[str] = []
        if self.asset == MARKET:
            self._asset(told, wrong)
        if origin.features:
            told += [self._feature(name) for name in origin.features]
        if origin.factors:
            self._product(origin.factors, told, wrong)
        if origin.continued:
            told.append(self._state())
        return tuple(told), tuple(wrong)

    def _asset(self, told: list[str], wrong: list[str]) -> None:
        """The asset's own number at the same instant, against the score the market took."""
        name, score = self.chosen[0]["feature"], self.chosen[0]["score"]
        day = partition_day(self.as_of)
        rows = self.read("readings", days=(day, day), where={"asset": name, "cadence": self.cadence}).to_pylist()
        value = next((row[self.index.lower()] for row in rows if row["as_of"] == self.as_of), None)
        scaled = None if value is None else (value - 50.0) / 50.0 if self.index == "S" else value / 100.0
        match = (scaled is None) == (score is None) and abs((scaled or 0.0) - (score or 0.0)) <= ADDITIVITY
        how = "(S - 50) / 50" if self.index == "S" else f"{self.index} / 100"
        told.append(f"{self.index} of {name} at this instant is {as_points(value)}; score = {how}: {'match' if match else 'MISMATCH'}")
        told.append(f"go on with: make trace ASSET={name} CADENCE={self.cadence} AT={self.as_of:%Y-%m-%dT%H:%MZ} INDEX={self.index}")
        if not match:
            wrong.append(f"the score of {name} is not its own {self.index}: stored {as_number(score)}, it makes {as_number(scaled)}")

    def _feature(self, name: str) -> str:
        """A feature's value at this instant, and its score in S."""
        value = next((row["feature_value"] for row in self.features if row["feature"] == name), None)
        row = next((row for row in self.contributions if row["feature"] == name and row["index_name"] == "S"), None)
        scored = f", score {as_number(row['score'])} x stale factor {row['stale_factor']:.6g}" if row else ""
        return f"{name}: feature value {as_number(value)}{scored}"

    def _product(self, factors: tuple[str, ...], told: list[str], wrong: list[str]) -> None:
        """The components' levels, out of their own contributions, multiplied."""
        levels = [self._level(name) for name in factors]
        score = self.chosen[0]["score"]
        made = math.prod(levels)
        match = score is not None and abs(made - score) <= ADDITIVITY
        said = " x ".join(f"{name} {value:.6f}" for name, value in zip(factors, levels, strict=True))
        told.append(f"{said} = {made:.6f}: {'match' if match else f'MISMATCH, stored is {as_number(score)}'}")
        if not match:
            wrong.append(f"the product of {' and '.join(factors)} is {made:.9f}, stored is {as_number(score)}")

    def _level(self, component: str) -> float:
        """A component between 0 and 1: its contributions over 100 times its weights."""
        rows = [row for row in self.contributions if row["component"] == component and row["index_name"] == self.index]
        weight = math.fsum(row["weight"] for row in rows)
        return math.fsum(row["contribution"] for row in rows) / (100.0 * weight) if weight else math.nan

    def _state(self) -> str:
        """The checkpoint the state was continued from."""
        start = _month(self.as_of)
        day = partition_day(start)
        rows = self.read("checkpoints", days=(day, day), where={"asset": self.asset, "cadence": self.cadence}).to_pylist()
        block = next((row["state"] for row in rows if row["as_of"] == start), None)
        if block is None:
            return f"no checkpoint is stored for {as_instant(start)}: nothing was known of {self.asset} by then, the state begins later"
        sha = hashlib.sha256(block).hexdigest()
        return f"checkpoint of {self.asset} as of {as_instant(start)} (index.checkpoints): {len(block):,} bytes, SHA-256 {sha[:16]}"


@dataclass(frozen=True, slots=True)
class _Walk:
    """The walk from one value into the core tables, as its own instant knew them."""

    asset: str
    as_of: datetime
    known_at: datetime
    read: Reader
    answers: Answers
    shown: int

    def back(self, table: str, span: timedelta) -> InputTrace:
        """Rows of one table with as_of in `(as_of - span, as_of]` that were known at `known_at`, each in the revision known then."""
        declared = TABLES[table]
        start = self.as_of - span
        where: dict[str, str | Sequence[str]] | None = {"asset": self.asset} if "asset" in declared.columns else None
        days = (partition_day(start + timedelta(microseconds=1)), partition_day(self.as_of))
        newest: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in self.read(table, days=days, where=where).to_pylist():
            if not start < row["as_of"] <= self.as_of or row["known_at"] > self.known_at:
                continue
            key = tuple(row[column] for column in declared.key)
            if key not in newest or row["revision"] > newest[key]["revision"]:
                newest[key] = row
        rows = sorted(newest.values(), key=lambda row: tuple(str(row[column]) for column in declared.key))
        rows.sort(key=lambda row: row["as_of"], reverse=True)
        return InputTrace(
            table=table,
            start=start,
            end=self.as_of,
            found=len(rows),
            answers=len({row["raw_sha256"] for row in rows}),
            rows=tuple(self._row(declared, row) for row in rows[: self.shown]),
        )

    def _row(self, table: Table, row: Mapping[str, Any]) -> CoreRow:
        described = {*table.key, "asset", "known_at", "flags", "revision", "fetched_at", "raw_sha256", "date"}
        values = {name: row[name] for name in table.columns if name not in described and row[name] is not None}
        proof, body = self.answers.prove(row)
        return CoreRow(row, values, proof, find_fragment(body, row, values) if body else None)


def as_instant(instant: datetime | None) -> str:
    """UTC, as short as it can be said."""
    if instant is None:
        return "unknown"
    whole = instant.astimezone(UTC)
    return (
        f"{whole:%Y-%m-%d %H:%MZ}"
        if whole.second == whole.microsecond == 0
        else f"{whole:%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".") + "Z"
    )


def as_points(s: float | None) -> str:
    """A number of the index, or that there is none."""
    return "withheld" if s is None else f"{s:.6f}"


def as_number(value: float | None) -> str:
    """Nine significant digits, or that it is missing."""
    return "missing" if value is None else f"{value:.9g}"
