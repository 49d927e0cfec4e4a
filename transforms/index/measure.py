"""Features, scores and percentiles of a window on one panel: everything of the index that does not remember its own past."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.asof import UnusableInput
from transforms.estimators import Floats
from transforms.features import FEATURES
from transforms.features.contract import Feature, Measured, Why
from transforms.features.panel import INSTRUMENT_TABLES, Panel
from transforms.rules import EPOCH_START, CadenceRule, Constituent, Part
from transforms.signals import SIGNALS
from transforms.signals.contract import Scored, Signal, State
from transforms.signals.percentiles import Ranked, percentile
from transforms.spec import Spec
from transforms.windows import Window

_INSTANT: Final = pa.timestamp("us", tz="UTC")
#: parts of F that no feature of the panel brings: the carry family's own score, and the cohort book
CARRY: Final = "carry_score"
NEAR: Final = "latent_near_share"
DERIVED: Final = (CARRY, NEAR)

#: percentiles that only regimes and events read, by name of the input
_CONTROLS: Final = {
    "buildup_p": Part("oi_change_168h", "", 1.0, 1, "centred", ()),
    "drawdown_p": Part("oi_drawdown_90d", "", 1.0, 1, "centred", ()),
    "flush_p": Part("oi_change_24h", "", 1.0, -1, "centred", ()),
    "funding_dispersion_p": Part("funding_dispersion_annual", "", 1.0, 1, "centred", ()),
    "intensity_p": Part("liquidation_intensity_h", "", 1.0, 1, "centred", ()),
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """Features, scores (S) and percentiles (F, X: by feature; controls: by input) on a panel, before they become an index."""

    panel: Panel
    features: dict[str, Measured]
    scored: dict[str, Scored]
    ranked: dict[str, Ranked]
    controls: dict[str, Ranked]


def lookback(spec: Spec, cadence: str, features: Mapping[str, Feature] = FEATURES) -> timedelta:
    """How far before a window its core rows must reach, where they exist.

    The longest feature, the reference window, a held score; the outlier gate's past and the ramp of the averages, which every feature has.
    """
    rule = spec.cadence(cadence)
    longest = max(features[use.feature].lookback(spec, rule) for use in rule.uses)
    gate_d = max(spec.outliers.mad_d, spec.features.oi_violation_d, spec.features.oi_level_d) + spec.features.venue_ramp_d
    window_d = max([spec.score.window_d, *(part.window_d or 0.0 for index in ("F", "X") for part in spec.parts(index, cadence))])
    return longest + timedelta(days=window_d + gate_d, hours=rule.stale.horizon_h) + 2 * rule.step


def reach(spec: Spec, cadence: str, features: Mapping[str, Feature] = FEATURES) -> dict[str, timedelta]:
    """How far before the first bar the rows of each core table must reach: all the way where a score ranks what is read from it, else as far
    as the features that read it look.
    """
    rule = spec.cadence(cadence)
    ranked = {c.feature for c in spec.active(cadence)} | {part.feature for part in (*spec.parts("F", cadence), *spec.parts("X", cadence))}
    ranked |= {part.feature for part in _CONTROLS.values()}
    found: dict[str, timedelta] = {}
    for use in rule.uses:
        one = features[use.feature]
        back = lookback(spec, cadence, features) if use.feature in ranked else one.lookback(spec, rule) + rule.step
        for name in one.reads:
            found[name] = max(back, found.get(name, timedelta(0)))
    return found


def reads(spec: Spec, cadence: str, features: Mapping[str, Feature] = FEATURES) -> set[str]:
    """Core tables the cadence needs."""
    return set().union(*(features[use.feature].reads for use in spec.cadence(cadence).uses))


def voices(rule: CadenceRule) -> tuple[str, ...]:
    """All sources a cadence reads."""
    return rule.voices


def measure(
    core: Mapping[str, pa.Table],
    window: Window,
    cadence: str,
    spec: Spec,
    *,
    assets: Sequence[str] | None = None,
    also: Iterable[str] = (),
    features: Mapping[str, Feature] = FEATURES,
    signals: Mapping[str, Signal] = SIGNALS,
) -> Measurement:
    """All features, active signals and percentiles of the cadence. `also`: assets that take part though no row speaks of them any more."""
    rule = spec.cadence(cadence)
    if window.start.date() < EPOCH_START:
        raise UnusableInput(f"window {window} begins before {EPOCH_START}, the first day index version {spec.index_version} covers")
    start = max(window.start - lookback(spec, cadence, features), _first_as_of(core, rule) - rule.step)
    panel = Panel(
        core, start=min(start, window.start), window_start=window.start, end=window.end, rule=rule, spec=spec, assets=assets, also=also
    )
    return measured_on(panel, cadence, features, signals)


def measured_on(panel: Panel, cadence: str, features: Mapping[str, Feature], signals: Mapping[str, Signal]) -> Measurement:
    """`measure` on a panel."""
    rule, spec = panel.rule, panel.spec
    found = {use.feature: features[use.feature].compute(panel) for use in rule.uses}
    scored = {one.feature: signals[one.feature].score(found[one.feature], one, panel) for one in spec.active(cadence)}
    parts = {part.feature: part for index in ("F", "X") for part in spec.parts(index, cadence) if part.feature not in DERIVED}
    ranked = {name: percentile(found[name], part, panel) for name, part in parts.items()}
    carry = [one for one in spec.active(cadence) if one.family == "carry"]
    if carry:
        ranked[CARRY] = carry_size(carry, scored)
    controls = {
        name: ranked[part.feature] if parts.get(part.feature) == part else percentile(found[part.feature], part, panel)
        for name, part in _CONTROLS.items()
        if part.feature in found
    }
    return Measurement(panel, found, scored, ranked, controls)


def family_score(constituents: Sequence[Constituent], scored: Mapping[str, Scored], *, decayed: bool = True) -> Floats:
    """Score of a family in [-1, 1]: its constituents, signed, decayed, weighted within the family; a missing one counts as 0."""
    total = sum(one.within for one in constituents)
    first = scored[constituents[0].feature].score
    found = np.zeros(first.shape)
    for one in constituents:
        part = scored[one.feature]
        used = np.where(np.isfinite(part.score), part.score, 0.0) * (part.factor if decayed else 1.0)
        found = found + (one.within / total) * one.sign * used
    return found


def carry_size(constituents: Sequence[Constituent], scored: Mapping[str, Scored]) -> Ranked:
    """Crowding (METHODOLOGY 4.3): the size of the carry score, a percentile already, before decay; factor: the fresh part of its inputs."""
    total = sum(one.within for one in constituents)
    score = family_score(constituents, scored, decayed=False)
    shape = score.shape
    known, factor, history = np.zeros(shape, dtype=bool), np.zeros(shape), np.zeros(shape)
    state, why = np.zeros(shape, dtype=np.int8), np.zeros(shape, dtype=np.int8)
    for one in constituents:
        part = scored[one.feature]
        known |= np.isfinite(part.score)
        factor = factor + (one.within / total) * part.factor
        history = history + (one.within / total) * part.history_d
        worse = part.state > state
        state, why = np.where(worse, part.state, state), np.where(worse, part.why, why)
    state = np.where(known, state, np.int8(State.MISSING)).astype(np.int8)
    why = np.where(known | (why != 0), why, np.int8(Why.NO_INPUT)).astype(np.int8)
    return Ranked(np.where(known, np.abs(score), np.nan), np.minimum(factor, 1.0), history, state, why)


def _first_as_of(core: Mapping[str, pa.Table], rule: CadenceRule) -> datetime:
    """The oldest as_of the cadence could read: bars before it hold nothing."""
    oldest = datetime.max.replace(tzinfo=UTC)
    for name in (*INSTRUMENT_TABLES, "option_chain", "volatility_index", "stablecoin_supply"):
        table = core.get(name)
        if table is not None and {"source", "as_of"} <= set(table.column_names):
            own = pc.is_in(table.column("source").cast(pa.string()), value_set=pa.array(voices(rule)))
            found = pc.min(table.column("as_of").filter(own).cast(_INSTANT)).as_py()
            oldest = min(oldest, found or oldest)
    return oldest
