"""Recursive modules, month by month: from the state after one segment to the outputs of the next and the state after it.

A run always begins at the start of a month (or where history begins) and hands over at the start of each month, so a state is asked for at
few instants and replaying from any of them gives the bits of replaying from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, TypeVar, cast

import numpy as np

from transforms.estimators import Bools, Ints
from transforms.features.memory import NOBODY
from transforms.index.checkpoint import Checkpoint, State, joined, split

_T = TypeVar("_T")


def month_start(instant: datetime) -> datetime:
    """The last start of a month at or before an instant."""
    return datetime(instant.year, instant.month, 1, tzinfo=UTC)


def months(when: Ints) -> Ints:
    """Months since 1970 of instants in us."""
    found: Ints = when.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    return found


@dataclass(frozen=True, slots=True)
class Recursion:
    """State of every module after some bar, by module, assets first; `seen`: is anything known of the asset by then."""

    assets: tuple[str, ...]
    seen: Bools
    states: Mapping[str, State]

    def of(self, module: str, assets: Sequence[str]) -> State:
        """A module's state for these assets; who is new goes on from nobody's."""
        if tuple(assets) == self.assets:
            return dict(self.states[module])
        places = [self.assets.index(asset if asset in self.assets else NOBODY) for asset in assets]
        return {key: array if key.startswith("pooled_") else array[places] for key, array in self.states[module].items()}


class Segments:
    """The bars of a run cut at the starts of months, and the states at the cuts.

    when: bar ends, us; present: (assets, bars), where anything is known of an asset. An asset nothing was ever known of has no state: what
    a module made of its empty bars is dropped at each cut, so that it does not matter when the asset was first heard of.
    """

    def __init__(self, when: Ints, assets: Sequence[str], present: Bools, before: Checkpoint | Recursion | None) -> None:
        self.assets = list(assets)
        # A bar that ends at the start of a month closes the month before.
        month = months(when - 1)
        edges = [0, *(int(n) for n in np.flatnonzero(np.diff(month)) + 1), len(when)]
        self.pieces = [slice(a, b) for a, b in pairwise(edges) if b > a]
        ends = [int(when[piece.stop - 1]) for piece in self.pieces]
        closes = [int(months(when[piece.stop - 1 : piece.stop])[0] > month[piece.stop - 1]) for piece in self.pieces]
        self.cuts = [
            np.datetime64(end, "us").item().replace(tzinfo=UTC) if close else None for end, close in zip(ends, closes, strict=True)
        ]
        self._blocks: Mapping[str, State] = before.blocks if isinstance(before, Checkpoint) else {}
        self._before = before if isinstance(before, Recursion) else None
        held = self._blocks if self._before is None else {a for a, one in zip(self._before.assets, self._before.seen, strict=True) if one}
        known = np.array([asset in held for asset in self.assets], dtype=bool)
        self.seen = []
        for piece in self.pieces:
            known = known | present[:, piece].any(axis=1)
            self.seen.append(known)
        self._made: list[dict[str, State]] = [{} for _ in self.pieces]
        #: state after the last bar, by module
        self.last: dict[str, State] = {}

    def run(self, name: str, fresh: State, step: Callable[[slice, State], tuple[_T, State]]) -> list[_T]:
        """Outputs of a module for each segment. fresh: the module's state before anything; step: (bars, state before) -> (outputs, after)."""
        state = joined(fresh, self._blocks, self.assets, name) if self._before is None else self._before.of(name, self.assets)
        found = []
        for number, piece in enumerate(self.pieces):
            made, state = step(piece, state)
            if self.cuts[number] is not None:
                seen = self.seen[number]
                state = {key: array if key.startswith("pooled_") else _reset(array, fresh[key], seen) for key, array in state.items()}
                split(state, self.assets, name, self._made[number])
            found.append(made)
        self.last[name] = state
        return found

    @property
    def after(self) -> Recursion:
        """States after the last bar: of modules that have run."""
        return Recursion(tuple(self.assets), self.seen[-1], dict(self.last))

    def checkpoints(self) -> list[Checkpoint]:
        """States at the starts of months inside the run, for the assets seen by then."""
        found = []
        for cut, blocks, seen in zip(self.cuts, self._made, self.seen, strict=True):
            if cut is not None:
                held = {asset for asset, known in zip(self.assets, seen, strict=True) if known}
                found.append(Checkpoint(cut, {key: block for key, block in blocks.items() if key in held or key not in self.assets}))
        return found


def _reset(array: np.ndarray[Any, Any], fresh: np.ndarray[Any, Any], seen: Bools) -> np.ndarray[Any, Any]:
    if seen.all():
        return array
    return cast("np.ndarray[Any, Any]", np.where(seen.reshape(-1, *([1] * (array.ndim - 1))), array, fresh).astype(array.dtype))


def stitched(parts: Sequence[_T]) -> _T:
    """Outputs of all segments as one: arrays joined along the last axis, field by field, dict by dict."""
    first = parts[0]
    if isinstance(first, np.ndarray):
        return cast("_T", np.concatenate(cast("Sequence[Any]", parts), axis=-1))
    if isinstance(first, dict):
        return cast("_T", {key: stitched([cast("Any", part)[key] for part in parts]) for key in first})
    if isinstance(first, tuple):
        return cast("_T", tuple(stitched([cast("Any", part)[n] for part in parts]) for n in range(len(first))))
    if is_dataclass(first):
        joined_fields = {one.name: stitched([getattr(part, one.name) for part in parts]) for one in fields(first)}
        return cast("_T", cast("Any", type(first))(**joined_fields))
    raise TypeError(f"found outputs of type {type(first).__name__}; segments join arrays, dicts, tuples and dataclasses of them")
