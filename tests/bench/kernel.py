"""The weighted, strictly past rank (transforms/signals/scores.py) against the same definition in numpy, bar by bar."""

from __future__ import annotations

import numpy as np

from tests.bench.measuring import Section, interleaved, seconds, times
from transforms.estimators import DAY_US, HOUR_US, Bools, Floats, Ints
from transforms.signals.scores import ecdf_scores
from transforms.spec import SPEC

ROUNDS = 2
ROWS, DAYS = 10, 730
#: integer weights of the kernel: 2^30 at the start of a block of two half-lives
SCALE = 2.0**30


def numpy_scores(
    values: Floats,
    usable: Bools,
    when: Ints,
    reference: Bools,
    window_us: int,
    half_life_us: int,
    reference_days: float,
    min_days: float,
    *,
    anchored: bool,
    floor: float,
) -> tuple[Floats, Floats]:
    """`ecdf_scores` without its tree: at each bar the whole sample is weighed and compared at once, for all rows."""
    sizes = np.abs(values) if anchored else values
    marks = np.flatnonzero(reference)
    past, held = sizes[:, marks], usable[:, marks]
    block, weights, squares = None, held, held
    scores, history = np.full(values.shape, np.nan), np.zeros(values.shape)
    for t in range(len(when)):
        if when[t] // (2 * half_life_us) != block:  # weights count from the start of a block of two half-lives
            block = when[t] // (2 * half_life_us)
            exponent = (np.minimum(when[marks], when[t] + 2 * half_life_us) - block * 2 * half_life_us) / half_life_us
            weights = np.where(held, np.floor(SCALE * 2.0**exponent + 0.5), 0.0).astype(np.int64)
            squares = np.where(held, np.floor(SCALE * 2.0 ** (2.0 * exponent) + 0.5), 0.0).astype(np.int64)
        own = slice(np.searchsorted(when[marks], when[t] - window_us, "right"), np.searchsorted(marks, t))
        sample, weight, x = past[:, own], weights[:, own], sizes[:, t, None]
        total, square = weight.sum(axis=1), squares[:, own].sum(axis=1)
        some = square > 0
        history[some, t] = total[some].astype(float) * total[some].astype(float) / square[some] / SCALE * reference_days
        below = (weight * (sample < x)).sum(axis=1)
        upto = (weight * (sample <= x)).sum(axis=1)
        known = usable[:, t] & (total > 0) & ~(held[:, own].sum(axis=1) * reference_days < min_days)
        if anchored:
            part = (below + upto)[known] / (2 * total[known])
            if floor > 0.0:
                part = part * np.minimum(1.0, sizes[known, t] / floor)
            scores[known, t] = part * np.sign(values[known, t])
        else:
            scores[known, t] = (below + upto - total)[known] / total[known]
    return scores, history


def sample(rows: int, days: int) -> tuple[Floats, Bools, Ints, Bools]:
    """Values with ties and gaps, and the hours they stand at."""
    rng = np.random.default_rng(3)
    when = 1_600_000_000_000_000 // DAY_US * DAY_US + HOUR_US * np.arange(1, 24 * days + 1)
    values = np.round(np.cumsum(rng.normal(0, 0.02, (rows, len(when))), axis=1) + rng.normal(0, 0.5, (rows, len(when))), 2)
    usable = rng.random(values.shape) > 0.03
    every = round(SPEC.cadence("1h").reference_step_h * HOUR_US)
    return np.where(usable, values, np.nan), usable, when, when % every == 0


def run(rounds: int = ROUNDS, rows: int = ROWS, days: int = DAYS) -> Section:
    section = Section("The rank against one's own past")
    rule, step_h = SPEC.score, SPEC.cadence("1h").reference_step_h
    values, usable, when, reference = sample(rows, days)
    spans = (round(rule.window_d / 2 * DAY_US), round(rule.half_life_d * DAY_US), step_h / 24, rule.min_history_d)
    kinds = {"centred": (False, 0.0), "anchored, with a floor": (True, 0.5)}
    section.say(
        f"`ecdf_scores` keeps the sample in a Fenwick tree with integer weights, O(log n) a bar; the peer, `tests/bench/kernel.py`, weighs and "
        f"compares the whole sample at every bar with numpy, all {rows} rows at once, O(n). Same definition, same integers: scores and "
        f"effective histories of {values.size:,} values (ties and gaps among them) were equal to the last bit before timing. Window "
        f"{rule.window_d / 2:.0f} d, a reference every {step_h:.0f} h. Median of {rounds} interleaved rounds."
    )
    table = []
    worst = np.inf
    for name, (anchored, floor) in kinds.items():

        def ours(anchored: bool = anchored, floor: float = floor) -> tuple[Floats, Floats]:
            return ecdf_scores(values, usable, when, reference, 0, *spans, anchored, floor)

        def theirs(anchored: bool = anchored, floor: float = floor) -> tuple[Floats, Floats]:
            return numpy_scores(values, usable, when, reference, *spans, anchored=anchored, floor=floor)

        for what, a, b in zip(("scores", "histories"), ours(), theirs(), strict=True):
            if not np.array_equal(a, b, equal_nan=True):
                raise RuntimeError(f"{name}: {what} of the kernel and of numpy differ by up to {np.nanmax(np.abs(a - b))}")
        got = interleaved({"kernel": ours, "numpy": theirs}, rounds)
        ratio = got["numpy"]["cpu"] / got["kernel"]["cpu"]
        worst = min(worst, ratio)
        table.append([name, times(ratio), times(got["numpy"]["wall"] / got["kernel"]["wall"]), *(seconds(got[who]["cpu"]) for who in got)])
    section.table(["score", "CPU of numpy, kernel = 1", "wall of numpy, kernel = 1", "kernel CPU s", "numpy CPU s"], table)
    section.verdicts.append(
        ("weighted rank: CPU of numpy, the same bits", "more than the kernel", f"{times(worst)} x the kernel", worst > 1)
    )
    return section
