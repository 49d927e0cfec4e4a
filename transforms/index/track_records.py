"""How often an event came true: events wait until they can be judged, control windows give the base rate, onsets give recall.

What is counted, and when, stands in the docstring of transforms/index/events.py (METHODOLOGY 4.8, 9.1 traps 6 and 7).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms.estimators import Bools, Floats, Ints, kernel
from transforms.index.cascades import NEVER
from transforms.index.event_types import Counts

#: events by side (-1, 0, +1), then control windows by side
STREAMS: Final = 6
_SAME, _AGAINST, _UP = int(Counts.SAME), int(Counts.AGAINST), int(Counts.UP)


def noise_to_signal(hits: int, false_alarms: int, missed: int, silences: int) -> float:
    """Kaminsky, Lizondo, Reinhart 1998: [B / (B + D)] / [A / (A + C)]; below 1 the signal says something. NaN where a share has no base.

    A hits, B false alarms, C missed, D rightly silent.
    """
    if hits <= 0 or false_alarms + silences <= 0:
        return float("nan")
    return (false_alarms / (false_alarms + silences)) / (hits / (hits + missed))


# --- counting --------------------------------------------------------------------------------------------------------------------


@kernel
def counts(side: int, onset: int, how: int) -> bool:
    """Is an onset on this side a hit for an event on that side?"""
    if how == _SAME:
        return side * onset > 0
    if how == _AGAINST:
        return side * onset < 0
    return onset > 0 if how == _UP else True


@kernel
def _share(part: int, whole: int, least: int) -> float:
    """A share: part / whole, NaN below `least`."""
    return part / whole if whole >= max(least, 1) else np.nan


@kernel
def _open(at: Ints, hit: Bools, whole: Bools, now: int, struck: bool) -> None:
    """Put an event or a control window where one is free; RuntimeError where none is."""
    for n in range(at.shape[0]):
        if at[n] == NEVER:
            at[n], hit[n], whole[n] = now, struck, True
            return
    raise RuntimeError("more events wait to be judged than the state can hold; it was made for another rule or grid")


@kernel
def track(
    raised: Bools,
    side: NDArray[np.int8],
    awake: Bools,
    when: Ints,
    moved: NDArray[np.int8],
    began: Ints,
    seen: Bools,
    outcome: tuple[bool, int],
    spans_us: tuple[int, int, int],
    least: int,
    state: tuple[Any, ...],
) -> tuple[Ints, Ints, Ints, Floats, Floats, Floats]:
    """(asset, bar, n_hist, precision, recall, base rate) of the events of one type; the arrays of the state are changed.

    Order within a bar: onsets meet what waits, what is over is judged, the event is raised with the record so far, a control window opens,
    the onset counts for recall.
    """
    scored, how = outcome
    horizon_us, wait_us, lead_us = spans_us
    at, hit, whole, judged, onsets_known, onset, last, wake = state
    assets, bars = raised.shape
    size = int(np.sum(raised))
    asset, bar, history = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    precision, recall, base = np.empty(size), np.empty(size), np.empty(size)
    rows = 0
    sided = how in (_SAME, _AGAINST)
    for a in range(assets):
        for t in range(bars):
            now = when[t]
            found = False
            for k in range(STREAMS if scored else 0):
                for n in range(at.shape[2]):
                    start = at[a, k, n]
                    if start == NEVER:
                        continue
                    if moved[a, t] != 0 and start - lead_us <= began[a, t] < start + horizon_us and counts(k % 3 - 1, moved[a, t], how):
                        hit[a, k, n] = True
                        found = found or k < 3
                    if not seen[a, t]:
                        whole[a, k, n] = False
                    if start + wait_us <= now:
                        if hit[a, k, n] or whole[a, k, n]:
                            judged[a, k, 0] += 1
                            judged[a, k, 1] += 1 if hit[a, k, n] else 0
                        at[a, k, n] = NEVER
            if moved[a, t] != 0:
                onset[a, 0], onset[a, 1] = began[a, t], moved[a, t]
            recent = now - lead_us <= onset[a, 0] < now
            if awake[a, t]:
                wake[a, 0] = now if wake[a, 0] == NEVER else wake[a, 0]
                wake[a, 1] = now
            s = side[a, t] + 1
            if raised[a, t] and now - last[a, s] >= horizon_us:
                last[a, s] = now
                asset[rows], bar[rows] = a, t
                history[rows] = judged[a, 0, 0] + judged[a, 1, 0] + judged[a, 2, 0]
                precision[rows] = _share(judged[a, 0, 1] + judged[a, 1, 1] + judged[a, 2, 1], history[rows], least)
                recall[rows] = _share(onsets_known[a, 1], onsets_known[a, 0], least)
                control = 3 + (s if sided else 1)
                base[rows] = _share(judged[a, control, 1], judged[a, control, 0], least)
                rows += 1
                if scored:
                    begun = recent and counts(s - 1, onset[a, 1], how)
                    found = found or (begun and moved[a, t] != 0)
                    _open(at[a, s], hit[a, s], whole[a, s], now, begun)
            if scored and awake[a, t] and now % horizon_us == 0:
                for k in range(3):
                    if sided == (k != 1):
                        begun = recent and counts(k - 1, onset[a, 1], how)
                        _open(at[a, 3 + k], hit[a, 3 + k], whole[a, 3 + k], now, begun)
            counted = moved[a, t] != 0 and (how != _UP or moved[a, t] > 0) and wake[a, 0] != NEVER and wake[a, 0] <= began[a, t]
            if counted and began[a, t] - wake[a, 1] < horizon_us:
                onsets_known[a, 0] += 1
                onsets_known[a, 1] += 1 if found else 0
    return asset[:rows], bar[:rows], history[:rows], precision[:rows], recall[:rows], base[:rows]
