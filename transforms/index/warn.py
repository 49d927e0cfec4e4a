"""Cascades, their probability, and events: what is said about a window's bars beside the numbers, continued from segment to segment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms.estimators import Floats, Ints
from transforms.index import cascades, events, probability
from transforms.index.checkpoint import State
from transforms.index.event_types import EVENT_TYPES
from transforms.index.segments import Segments, stitched
from transforms.spec import Spec

#: how +1 and -1 of a type are said: who is in danger, or where the price or the value went
_SIDES: Final[Mapping[str, tuple[str, str]]] = {
    "CROWDED_LEVERAGE": ("long", "short"),
    "FUNDING_EXTREME": ("long", "short"),
    "LIQ_CLUSTER_NEAR": ("short", "long"),
    "CASCADE_ONGOING": ("short", "long"),
}
_OTHERS: Final = ("up", "down")


@dataclass(frozen=True, slots=True)
class Warned:
    """Cascade starts as they became known, probability at each bar, (assets, bars), and events as flat columns (transforms/index/events.py)."""

    starts: cascades.Starts
    probability: probability.Probability
    events: events.EventRows


def warn(inputs: Mapping[str, Floats], f: Floats, when: Ints, segments: Segments, spec: Spec, step_h: float) -> Warned:
    """Label, detector, probability and events of a run.

    inputs: what events read, by name (transforms/index/event_types.py), with return_1bar, oi_link, sigma_d and, where liquidations are known,
    intensity_p; (assets, bars) or (1, bars). f: fragility, NaN where withheld.
    """
    assets = f.shape[0]

    def part(name: str, piece: slice) -> Floats:
        return inputs[name][:, piece] if name in inputs else np.full((assets, piece.stop - piece.start), np.nan)

    def labelled(piece: slice, state: State) -> tuple[cascades.Starts, State]:
        returns, links, sigma = (part(name, piece) for name in ("return_1bar", "oi_link", "sigma_d"))
        return cascades.label(returns, links, sigma, when[piece], spec.cascades, step_h, state)

    def detected(piece: slice, state: State) -> tuple[Floats, State]:
        sigma_h = part("sigma_d", piece) / np.sqrt(24.0)
        told = (part("intensity_p", piece), part("return_1bar", piece), sigma_h, part("oi_link", piece))
        return cascades.detect(*told, when[piece], spec.cascades, step_h, state)

    starts = stitched(segments.run("cascades", cascades.label_start(assets, spec.cascades, step_h), labelled))
    state_now = stitched(segments.run("detector", cascades.detector_start(assets), detected))

    def judged(piece: slice, state: State) -> tuple[probability.Probability, State]:
        own = cascades.Starts(starts.side[:, piece], starts.began[:, piece], starts.seen[:, piece])
        found, after = probability.run(f[:, piece], own, when[piece], spec.probability, spec.cascades, step_h, _private(state))
        return found, _pooled(after)

    fresh = probability.start(assets, spec.probability, spec.cascades, step_h)
    likely = stitched(segments.run("probability", _pooled(fresh), judged))
    read = dict(inputs) | {"cascade_state": state_now, "cascade_known": starts.signed(), "cascade_age_h": starts.age_h(when)}

    def raised(piece: slice, state: State) -> tuple[events.EventRows, State]:
        own = {name: values[:, piece] for name, values in read.items()}
        rows, after = events.run(own, when[piece], state, spec.events, step_h, spec.cascades)
        rows["bar"] = rows["bar"] + piece.start
        return rows, after

    rows = stitched(segments.run("events", events.start(assets, spec.events, step_h, spec.cascades), raised))
    return Warned(starts, likely, rows)


def _pooled(state: Mapping[str, NDArray[Any]]) -> State:
    """Arrays of all assets together under the name by which checkpoints know them."""
    return {name if name.startswith("pending_") else f"pooled_{name}": array for name, array in state.items()}


def _private(state: Mapping[str, NDArray[Any]]) -> State:
    return {name.removeprefix("pooled_"): array for name, array in state.items()}


def side_word(kind: str, side: int) -> str:
    """A side in words: long or short where somebody is in danger, up or down where something moved, else none."""
    if side == 0:
        return "none"
    return _SIDES.get(kind, _OTHERS)[0 if side > 0 else 1]


def record(n_hist: int, precision: float, base_rate: float, least: int, outcome: str) -> str:
    """An event's track record in words."""
    if not outcome:
        return "a statement about data or method: nothing to be right about"
    if n_hist < least or not np.isfinite(precision):
        return f"no track record: {n_hist} judged, {least} are needed"
    beside = f", base rate {base_rate:.2f}" if np.isfinite(base_rate) else ""
    return f"{round(precision * n_hist)} of {n_hist} came true ({precision:.2f}{beside})"


def event_rows(
    found: events.EventRows, assets: list[str], cadence: str, confidence: Floats, spec: Spec, shift: int
) -> list[dict[str, Any]]:
    """Plain rows of the events at bars from `shift` on; confidence: of S, (assets, bars of the run)."""
    rows = []
    for n in np.flatnonzero(found["bar"] >= shift).tolist():
        one = {name: values[n].item() for name, values in found.items()}
        kind = EVENT_TYPES[one["type"]]
        asset, stamp = assets[one["asset"]], np.datetime64(one["as_of"], "us").item()
        few = one["n_hist"] < spec.events.min_history or not kind.outcome
        words = record(one["n_hist"], one["hist_precision"], one["base_rate"], spec.events.min_history, kind.outcome)
        rows.append(
            {
                "asset": asset,
                "bar": one["bar"] - shift,
                "event_id": f"{kind.name}:{asset}:{cadence}:{stamp:%Y-%m-%dT%H:%MZ}",
                "event_type": kind.name,
                "side": side_word(kind.name, one["side"]),
                "severity": one["severity"],
                "observed": _number(one["value"]),
                "threshold": _number(one["threshold"]),
                "horizon_h": one["horizon_h"],
                "reason": kind.says,
                "confidence": float(confidence[one["asset"], one["bar"]]),
                "hist_precision": None if few else _number(one["hist_precision"]),
                "hist_recall": None if few else _number(one["hist_recall"]),
                "hist_base_rate": None if few else _number(one["base_rate"]),
                "n_hist": one["n_hist"],
                "track_record": words,
            }
        )
    return rows


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
