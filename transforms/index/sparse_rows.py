"""Rows of what is rare: levels at the ends of days, estimated weights and states at the starts of months."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.index import cohorts
from transforms.index.checkpoint import Checkpoint, State, packed
from transforms.index.rows import Frame, moment
from transforms.index.schemes import SCHEMES, Weighted
from transforms.rules import CohortRule


def ladder_rows(frame: Frame, ladders: Sequence[tuple[int, State]], shift: int, rule: CohortRule) -> pa.Table:
    """Latent levels near the price; `ladders`: (bar of the run, state of the book), the frame begins `shift` bars later."""
    panel = frame.panel
    price = panel.of_leader(panel.price.usd)[:, panel.window_first :]
    found = []
    for bar, state in ladders:
        if bar < shift:
            continue
        for a, asset in enumerate(panel.assets):
            if not (frame.keep[a, bar - shift] and price[a, bar] > 0):
                continue
            for level, long, short in zip(*cohorts.ladder(state, a, float(price[a, bar]), rule), strict=True):
                if abs(level / price[a, bar] - 1.0) <= rule.ladder_reach_share and max(long, short) >= rule.ladder_least_share:
                    shares = {"long_mass_share": min(1.0, float(long)), "short_mass_share": min(1.0, float(short))}
                    found.append({"asset": asset, "bar": bar - shift, "level_usd": float(level), **shares})
    return frame.listed("liquidation_levels", found)


def scheme_rows(frame: Frame, weighted: Weighted, families: Sequence[str], shift: int) -> pa.Table:
    """Weights of the families under each estimated scheme, at the starts of months."""
    found = []
    for scheme in SCHEMES:
        weights = weighted.weights[scheme]
        for n, a, bar in _month_starts(frame.when, frame.keep, len(families)):
            value = float(weights[n, a, bar + shift])
            found.append({"asset": frame.panel.assets[a], "bar": bar, "scheme": scheme, "family": families[n], "weight": value})
    return frame.listed("scheme_weights", found)


def checkpoint_rows(frame: Frame, points: Sequence[Checkpoint]) -> pa.Table:
    """States at the starts of months inside the frame, one block per asset."""
    found: list[dict[str, Any]] = []
    for point in points:
        bar = int(np.searchsorted(frame.when, int(point.as_of.timestamp()) * 1_000_000))
        if bar < len(frame.when) and moment(int(frame.when[bar])) == point.as_of:
            found += [{"asset": asset, "bar": bar, "state": packed(block)} for asset, block in point.blocks.items()]
    return frame.listed("checkpoints", found)


def _month_starts(when: NDArray[np.int64], keep: NDArray[np.bool_], families: int) -> Iterator[tuple[int, int, int]]:
    """(family, asset, bar) of the kept bars that end at the start of a month."""
    months = when.astype("datetime64[us]").astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)
    for bar in np.flatnonzero(months == when).tolist():
        for a in np.flatnonzero(keep[:, bar]).tolist():
            for n in range(families):
                yield n, a, bar
