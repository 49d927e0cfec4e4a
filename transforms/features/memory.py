"""What the bars of a panel leave for the bars after them, so that one more bar reads no row that an earlier bar has read already.

Everything on a panel that looks back over bars says how far, where it does so: `past` hands it those bars in front of the panel's own. On a
panel that begins with its history they are among its own bars, and nothing changes; a panel that continues another has them in its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms import rolling
from transforms.asof import Track
from transforms.estimators import HOUR_US, Bools, Floats, Ints
from transforms.rules import CadenceRule

Grid = NDArray[Any]

#: stands for whoever has not been heard of yet: what every asset looks like before its first row
NOBODY: Final = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """The last bars of what was looked back over, by name, oldest first: as many as somebody asks for.

    Instruments of which no tape holds a number are left out: should they come back, they are new. Assets stay for good.
    tapes: (rows, bars) of instruments, of assets, or of one row for the whole market.
    """

    assets: tuple[str, ...]
    instruments: tuple[Track, ...]
    tapes: Mapping[str, Grid] = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the tapes."""
        return sum(tape.nbytes for tape in self.tapes.values())


@dataclass(slots=True)
class _Tape:
    values: Grid
    #: bars asked for, the longest so far
    steps: int
    of_instruments: bool


class Tapes:
    """The look-backs of one panel: before it (`before`, None = it begins with its history) and, with its own bars behind, after it."""

    def __init__(self, before: Memory | None, assets: Sequence[str], instruments: Sequence[Track]) -> None:
        self._before = before
        self._assets, self._instruments = tuple(assets), tuple(instruments)
        self._held: dict[str, _Tape] = {}
        self._order: dict[bool, Ints | None] = {False: None, True: None}
        if before is not None:
            if before.assets != self._assets:
                self._order[False] = _places(before.assets, self._assets, NOBODY)
            if before.instruments != self._instruments:
                self._order[True] = _places(before.instruments, self._instruments, None)

    def past(self, name: str, values: Grid, steps: int, *, of_instruments: bool = False) -> Grid:
        """`values` (rows, bars) behind the `steps` bars before them, or as many as there have been."""
        if self._before is None:
            self._note(name, values, steps, of_instruments)
            return values
        bars, joined = steps + values.shape[1], values
        if name not in self._held:
            before = self._earlier(name, len(values), of_instruments)
            joined = values if before is None else np.concatenate([before, values], axis=1)
        joined = self._note(name, joined, steps, of_instruments).values
        return joined if joined.shape[1] <= bars else np.ascontiguousarray(joined[:, -bars:])

    def running(self, name: str, sums: Callable[[], tuple[Ints, Ints]], steps: int, *, of_instruments: bool = False) -> tuple[Ints, Ints]:
        """Running sums and counts (rows, bars + 1) as `rolling.cumulated` gives them, continued, over at least `steps` bars before."""
        names = (f"{name}: sums", f"{name}: known")
        if names[0] not in self._held:
            for part, own in zip(names, sums(), strict=True):
                before = None if self._before is None else self._earlier(part, len(own), of_instruments)
                self._note(
                    part, own if before is None else np.concatenate([before, before[:, -1:] + own[:, 1:]], axis=1), 0, of_instruments
                )
        found = tuple(self._note(part, self._held[part].values, steps + 1, of_instruments).values for part in names)
        return found[0], found[1]

    @property
    def continue_another(self) -> bool:
        """Is there anything before these bars."""
        return self._before is not None

    def sampled(self, name: str, samples: Grid, count: int) -> Grid | None:
        """Samples of bars before, None where the panel begins with its history; `samples`: those of its own bars. `count` are remembered."""
        name = f"samples: {name}"
        before = None if self._before is None else self._earlier(name, len(samples), False)
        whole = samples if before is None else np.concatenate([before, samples], axis=1) if samples.shape[1] else before
        self._held[name] = _Tape(whole, count, False)
        return before

    def before(self, name: str, rows: int) -> Grid | None:
        """What was remembered under a name alone, None where nothing was."""
        return None if self._before is None else self._earlier(name, rows, False)

    def note(self, name: str, values: Grid) -> None:
        """Remember all of it, whatever stood there before."""
        self._held[name] = _Tape(values, values.shape[1], False)

    def left(self) -> Memory:
        """What bars after these need."""
        tapes = {
            name: tape.values[:, max(0, tape.values.shape[1] - tape.steps) :].copy() for name, tape in self._held.items() if tape.steps
        }
        shared = [name for name, tape in self._held.items() if tape.of_instruments and tape.steps]
        alive = _alive([tapes[name] for name in shared], len(self._instruments))
        if alive.all():
            return Memory(self._assets, self._instruments, tapes)
        tapes |= {name: tapes[name][alive] for name in shared}
        return Memory(self._assets, tuple(one for one, lives in zip(self._instruments, alive, strict=True) if lives), tapes)

    def _note(self, name: str, values: Grid, steps: int, of_instruments: bool) -> _Tape:
        found = self._held.setdefault(name, _Tape(values, steps, of_instruments))
        found.steps = max(found.steps, steps)
        return found

    def _earlier(self, name: str, rows: int, of_instruments: bool) -> Grid | None:
        """A tape with its rows where the panel has them now; whoever is new has what nobody had."""
        tape = self._before.tapes.get(name) if self._before is not None else None
        order = self._order[of_instruments]
        if tape is None or order is None or (not of_instruments and rows == 1 != len(self._assets)):
            return tape
        found = tape[np.maximum(order, 0)] if len(tape) else np.zeros((len(order), tape.shape[1]), dtype=tape.dtype)
        found[order < 0] = np.nan if tape.dtype.kind == "f" else 0
        return found


class LookBack:
    """The bars of a grid, and how whatever is on it looks back over them: at bars of its own, or at those its memory holds."""

    def __init__(self, rule: CadenceRule, when: Ints, tapes: Tapes) -> None:
        self.rule = rule
        self.when = when
        self.tapes = tapes

    @property
    def bars(self) -> int:
        """How many bars, history included."""
        return len(self.when)

    def past(self, name: str, values: Grid, steps: int) -> Grid:
        """`values` of assets behind the `steps` bars before the panel's, where it continues another; `own_bars` takes them off again."""
        return self.tapes.past(name, values, steps)

    def own_bars(self, values: Grid) -> Grid:
        """The panel's own bars of what `past` made longer."""
        return tail(values, self.bars)

    def whens(self, bars: int) -> Ints:
        """Ends of the last so many bars, those before the panel's included."""
        if bars == self.bars:
            return self.when
        found: Ints = self.when[-1] + np.arange(1 - bars, 1, dtype=np.int64) * round(self.rule.step_h * HOUR_US)
        return found

    def past_of_instruments(self, name: str, values: Grid, steps: int) -> Grid:
        """`past` of instruments."""
        return self.tapes.past(name, values, steps, of_instruments=True)

    @property
    def continues(self) -> bool:
        """Does it begin where another panel ended."""
        return self.tapes.continue_another

    def sampled(self, name: str, values: Floats, window_us: int, usable: Bools | None = None) -> tuple[Floats, Ints, Bools]:
        """(values, instants, which of them are on the reference grid) for a look at a sample of (t - window, t): the panel's bars, behind the
        samples before them. Samples that are not `usable` are NaN there.
        """
        step = round(self.rule.reference_step_h * HOUR_US)
        on_grid = self.when % step == 0
        samples = values[:, on_grid] if usable is None else np.where(usable[:, on_grid], values[:, on_grid], np.nan)
        before = self.tapes.sampled(name, samples, window_us // step + 1)
        if before is None:
            return values, self.when, on_grid
        lead = before.shape[1]
        stamps = (self.when[0] - 1) // step * step + step * np.arange(1 - lead, 1, dtype=np.int64)
        joined = np.concatenate([before, values], axis=1)
        return joined, np.concatenate([stamps, self.when]), np.concatenate([np.ones(lead, dtype=bool), on_grid])

    def running(self, name: str, values: Floats, scale: float, steps: int) -> tuple[Ints, Ints]:
        """`rolling.cumulated` of assets, at least `steps` bars before the panel's included."""
        return self.tapes.running(name, lambda: rolling.cumulated(values, scale), steps)


def _places(before: Sequence[Any], now: Sequence[Any], stand_in: Any) -> Ints:
    """Where each of `own_bars` stood: the place of the stand-in for who is new, -1 without one."""
    places = {name: n for n, name in enumerate(before)}
    return np.array([places.get(name, places.get(stand_in, -1)) for name in now], dtype=np.int64)


def _alive(tapes: Sequence[Grid], rows: int) -> NDArray[np.bool_]:
    """Rows of which a tape of floats knows anything; most are told by the last bar of the first."""
    found = np.zeros(rows, dtype=bool)
    for tape in tapes:
        if found.all():
            break
        if tape.dtype.kind == "f" and tape.shape[1]:
            found |= np.isfinite(tape[:, -1])
            silent = np.flatnonzero(~found)
            found[silent] = np.isfinite(tape[silent]).any(axis=1)
    return found


def tail(values: Grid, bars: int) -> Grid:
    """The last bars."""
    return values if values.shape[1] == bars else values[:, values.shape[1] - bars :]


def flat(values: Grid) -> Grid:
    """One block of memory, as kernels are compiled for."""
    return np.ascontiguousarray(values)


def widened(values: Grid, shape: tuple[int, ...]) -> Grid:
    """`np.broadcast_to`, which costs more than what is done with the few values of one bar."""
    return values if values.shape == shape else np.broadcast_to(values, shape)
