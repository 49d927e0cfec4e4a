"""The index of a window: S, F and X with everything that remembers its own past, continued from a checkpoint.

What a bar needs of features and scores is measured again from core rows (transforms/index/measure.py). The cohort book, the samples a
recursive number is ranked against, estimated weights, regimes and track records are carried, month by month (transforms/index/segments.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from transforms import rolling
from transforms.estimators import DAY_US, Bools, Floats, Ints, exps
from transforms.features.contract import Codes, Measured, Why, measured
from transforms.features.funding import paid
from transforms.features.memory import widened
from transforms.features.panel import Panel
from transforms.index import ciss, cohorts, regimes, risk, schemes, trail
from transforms.index.attribution import contribution
from transforms.index.checkpoint import Checkpoint, State
from transforms.index.composite import Composite, composite
from transforms.index.confidence import Confidence, Ground, confidence, ground, of_scores
from transforms.index.measure import NEAR, Measurement, family_score
from transforms.index.regimes import Explanation
from transforms.index.segments import Recursion, Segments, stitched
from transforms.index.sentiment import Sentiment, sentiment, standing, withheld
from transforms.index.warn import Warned, warn
from transforms.rules import Constituent
from transforms.signals.contract import State as Standing
from transforms.signals.percentiles import Ranked
from transforms.spec import Spec

#: features that the cohort book brings, beside those of the panel: name -> field of cohorts.Levels
BOOK: Final = {
    "latent_near_share": "near",
    "latent_asymmetry_log": "asymmetry",
    "liquidation_distance_sigma": "distance_sigma",
    "triggered_long_share": "triggered_long",
    "triggered_short_share": "triggered_short",
}


@dataclass(frozen=True, slots=True)
class Walked:
    """Everything published about a run's bars, each (assets, bars of the run) unless said otherwise."""

    base: Ground
    sentiment: Sentiment
    s_parts: list[Floats]
    s_pct: Floats
    s_confidence: Confidence
    f: Floats
    f_made: Composite
    f_confidence: Confidence
    f_doubts: Codes
    x: Floats
    x_made: Composite
    x_confidence: Confidence
    x_doubts: Codes
    carry: Floats
    quantity: Floats
    near: Ranked
    book: dict[str, Measured]
    #: state of the book after each day end: (bar, state)
    ladders: list[tuple[int, State]]
    weighted: schemes.Weighted
    f_ciss: Floats
    risk: tuple[Codes, Floats]
    regime_inputs: regimes.RegimeInputs
    regimes: regimes.Regimes
    explained: dict[tuple[int, int], Explanation]
    warned: Warned
    checkpoints: list[Checkpoint]
    #: what the next run continues from
    after: Recursion


def walk(one: Measurement, cadence: str, spec: Spec, before: Checkpoint | Recursion | None) -> Walked:
    """Everything from the run's first bar (the panel's window) to its last; `before`: state up to that first bar, None = from nothing."""
    panel = one.panel
    first, rule = panel.window_first, panel.rule
    when = panel.when[first:]
    present = panel.present()[:, first:]
    segments = Segments(when, panel.assets, present, before)
    base = ground(panel, one.features["funding_dispersion_annual"], one.features["source_disagreement"])

    active, weights = spec.active(cadence), spec.weights(cadence)
    parts = [
        contribution(weights[c.feature], c.sign, one.scored[c.feature].score[:, first:], one.scored[c.feature].factor[:, first:])
        for c in active
    ]
    parts = [widened(part, present.shape) for part in parts]
    sure = of_scores(base, [one.scored[c.feature] for c in active], [weights[c.feature] for c in active], panel)
    s = sentiment(parts, active, base, sure, spec)

    quantity = _quantity(panel, segments)
    levels, ladders = _book(panel, quantity, segments, spec)
    near, near_days = _against_itself("near", levels.near, when, segments, panel)
    book = {name: _of_book(getattr(levels, field), levels.near) for name, field in BOOK.items()}

    ranked = {name: cut(part, first, present.shape) for name, part in one.ranked.items()}
    ranked[NEAR] = _ranked_near(near, near_days, book[NEAR], spec)
    f_made = _composite("F", cadence, ranked, spec)
    x_made = _composite("X", cadence, ranked, spec)
    f_sure = confidence(base, f_made.freshness, f_made.history, f_made.warming, f_made.stale, spec.confidence)
    x_sure = confidence(base, x_made.freshness, x_made.history, x_made.warming, x_made.stale, spec.confidence)
    f_status, f_doubts = standing(base, f_sure, spec)
    x_status, x_doubts = standing(base, x_sure, spec)
    f = np.where(withheld(f_status), np.nan, f_made.value)
    x = np.where(withheld(x_status), np.nan, x_made.value)

    s_pct, _ = _against_itself("s", s.s, when, segments, panel)
    weighted, family = _schemes(one, cadence, active, segments, spec)
    none = withheld(s.status)
    weighted = schemes.Weighted(
        {name: np.where(none, np.nan, value) for name, value in weighted.values.items()}, weighted.weights, weighted.basis
    )
    f_ciss = _ciss(f_made, cadence, ranked, when, segments, panel, spec)
    supply = _one(one, "stablecoin_growth_30d", first, present.shape)
    trend = _one(one, "momentum", first, present.shape)
    states = stitched(
        segments.run(
            "risk",
            risk.start(len(panel.assets), spec.risk),
            lambda piece, state: risk.run(supply[:, piece], trend[:, piece], x[:, piece], when[piece], state, spec.risk),
        )
    )
    carry = _known(family["carry"], ranked["carry_score"]) if "carry" in family else np.full(present.shape, np.nan)
    inputs = _regime_inputs(one, s.s, x, carry, f_made, ranked)
    named, explained = _regimes(inputs, when, segments, spec, rule.step_h)
    return Walked(
        base,
        s,
        parts,
        s_pct,
        sure,
        f,
        f_made,
        f_sure,
        f_doubts,
        x,
        x_made,
        x_sure,
        x_doubts,
        carry,
        quantity,
        ranked[NEAR],
        book,
        ladders,
        weighted,
        np.where(withheld(f_status), np.nan, f_ciss),
        states,
        inputs,
        named,
        explained,
        _warned(one, inputs, _events_read(one, s, x, f, base, sure, parts, active, named, levels, present), f, segments, spec),
        segments.checkpoints(),
        segments.after,
    )


def cut(one: Ranked, first: int, shape: tuple[int, ...]) -> Ranked:
    """The bars of the run, one row per asset."""
    p, factor, history = (widened(values[:, first:], shape) for values in (one.p, one.factor, one.history_d))
    state, why = (widened(codes[:, first:], shape) for codes in (one.state, one.why))
    return Ranked(p, factor, history, state, why)


def _composite(index: str, cadence: str, ranked: dict[str, Ranked], spec: Spec) -> Composite:
    return composite(spec.parts(index, cadence), spec.components(index, cadence), ranked, spec.score.warm_d)


def _known(values: Floats, ranked: Ranked) -> Floats:
    """NaN where nothing of it is known."""
    found: Floats = np.where(ranked.factor > 0, values, np.nan)
    return found


def _one(one: Measurement, feature: str, first: int, shape: tuple[int, ...]) -> Floats:
    """Decayed score of one constituent, NaN where there is none."""
    score = one.scored[feature]
    return widened((score.score * score.factor)[:, first:], shape)


# --- the quantity of open interest and the book --------------------------------------------------------------------------------------


def _quantity(panel: Panel, segments: Segments) -> Floats:
    """Quantity index since the asset's history began here (OI.3), NaN where no open interest is shown."""
    first = panel.window_first
    level = panel.log_quantity[0][:, first - panel.bars - 1 :]

    def step(piece: slice, state: State) -> tuple[Ints, State]:
        found = (
            state["level"].astype(np.int64)[:, None] + level[:, piece.start + 1 : piece.stop + 1] - level[:, piece.start : piece.start + 1]
        )
        return found, {"level": found[:, -1].copy()}

    steps = stitched(segments.run("quantity", {"level": np.zeros(len(panel.assets), dtype=np.int64)}, step))
    return np.where(np.isfinite(panel.oi_age_h[:, first:]), exps(steps / rolling.LOG_SCALE), np.nan)


def _book(panel: Panel, quantity: Floats, segments: Segments, spec: Spec) -> tuple[cohorts.Levels, list[tuple[int, State]]]:
    """Latent liquidations (LQ.8, LQ.9), and the book as it stands at the end of each day."""
    first, when = panel.window_first, panel.when[panel.window_first :]
    close, high, low = (panel.of_leader(values)[:, first:] for values in (panel.price.usd, panel.price.high_usd, panel.price.low_usd))
    sigma_d = panel.sigma_h[:, first:] * np.sqrt(24.0)
    ends = (np.flatnonzero(when % DAY_US == 0) + 1).tolist() if panel.rule.ladder else []
    ladders: list[tuple[int, State]] = []

    def step(piece: slice, state: State) -> tuple[cohorts.Levels, State]:
        edges = [piece.start, *(n for n in ends if piece.start < n < piece.stop), piece.stop]
        made = []
        for a, b in pairwise(edges):
            inputs = (close[:, a:b], high[:, a:b], low[:, a:b], quantity[:, a:b], sigma_d[:, a:b])
            levels, state = cohorts.run(*inputs, when[a:b], state, spec.cohorts, panel.rule.step_h)
            made.append(levels)
            if panel.rule.ladder and when[b - 1] % DAY_US == 0:
                ladders.append((b - 1, state))
        return stitched(made), state

    return stitched(segments.run("cohorts", cohorts.start(len(panel.assets), spec.cohorts), step)), ladders


def _of_book(values: Floats, near: Floats) -> Measured:
    age = np.where(np.isfinite(values), 0.0, np.nan)
    return measured(values, age, {Why.TOO_FEW: np.isnan(near), Why.GATE: np.isfinite(near)})


def _against_itself(name: str, values: Floats, when: Ints, segments: Segments, panel: Panel) -> tuple[Floats, Floats]:
    """(percentile, effective history in days) of a recursive number in its own strictly past history."""
    score, rule = panel.spec.score, panel.rule

    def step(piece: slice, state: State) -> tuple[tuple[Floats, Floats], State]:
        p, days, after = trail.run(values[:, piece], when[piece], state, score, rule)
        return (p, days), after

    return stitched(segments.run(f"trail_{name}", trail.start(len(panel.assets), score, rule), step))


def _ranked_near(p: Floats, history: Floats, feature: Measured, spec: Spec) -> Ranked:
    """The cohort book's percentile: it has no age, it is known at a bar or not."""
    known = np.isfinite(p)
    state = np.where(known, np.where(history < spec.score.warm_d, Standing.WARMING, Standing.FINE), Standing.MISSING).astype(np.int8)
    why = np.where(known, np.int8(Why.FINE), np.where(feature.why == 0, np.int8(Why.TOO_FEW), feature.why)).astype(np.int8)
    return Ranked(p, known * 1.0, history, state, why)


# --- what is estimated, and what has a memory -----------------------------------------------------------------------------------------


def _schemes(
    one: Measurement, cadence: str, active: tuple[Constituent, ...], segments: Segments, spec: Spec
) -> tuple[schemes.Weighted, dict[str, Floats]]:
    """S under the estimated schemes, and the score of each family."""
    panel, first = one.panel, one.panel.window_first
    fixed = spec.family_weights(cadence)
    shape = (len(panel.assets), panel.bars - first)
    scores = {name: np.broadcast_to(family_score([c for c in active if c.family == name], one.scored)[:, first:], shape) for name in fixed}
    stacked = np.stack(list(scores.values()))
    weights, priced = np.array(list(fixed.values())), np.array([name in spec.priced_families for name in fixed])
    realised = panel.returns(24.0 * spec.schemes.ic_horizon_d)[:, first:]
    when = panel.when[first:]

    def step(piece: slice, state: State) -> tuple[schemes.Weighted, State]:
        return schemes.run(
            stacked[:, :, piece], weights, realised[:, piece], when[piece], state, spec.schemes, panel.rule.step_h, priced=priced
        )

    return stitched(segments.run("schemes", schemes.start(len(panel.assets), len(fixed), spec.schemes), step)), scores


def _ciss(made: Composite, cadence: str, ranked: dict[str, Ranked], when: Ints, segments: Segments, panel: Panel, spec: Spec) -> Floats:
    """F with simultaneous components weighing more. The interaction is left to the correlations: its weight goes to the others."""
    plain = [one for one in spec.components("F", cadence) if one.combine != "product"]
    total = sum(one.weight for one in plain)
    weights = np.array([one.weight / total for one in plain])
    p = np.stack([np.minimum(1.0, np.maximum(0.0, made.levels[one.name])) for one in plain])
    known = np.stack([_fresh(one.name, cadence, ranked, spec) for one in plain])

    def step(piece: slice, state: State) -> tuple[Floats, State]:
        found, after = ciss.run(p[:, :, piece], known[:, :, piece], weights, when[piece], state, spec.schemes, panel.rule.step_h)
        return found.value, after

    return stitched(segments.run("ciss", ciss.start(len(panel.assets), len(plain), spec.schemes), step))


def _fresh(component: str, cadence: str, ranked: dict[str, Ranked], spec: Spec) -> Bools:
    """Where a part of a component is known."""
    parts = [ranked[part.feature].factor > 0 for part in spec.parts("F", cadence) if part.component == component]
    found: Bools = np.any(parts, axis=0)
    return found


def _regime_inputs(
    one: Measurement, s: Floats, x: Floats, carry: Floats, f_made: Composite, ranked: dict[str, Ranked]
) -> regimes.RegimeInputs:
    first, shape = one.panel.window_first, s.shape

    def value(name: str) -> Floats:
        return one.features[name].value[:, first:]

    return regimes.RegimeInputs(
        s=s,
        carry_score=carry,
        level_p=_known(f_made.levels["leverage_level"], ranked["oi_level_180d"]),
        x=x,
        return_24h=value("return_24h"),
        sigma_d=value("sigma_h") * np.sqrt(24.0),
        oi_change_24h=value("oi_change_24h"),
        oi_change_168h=value("oi_change_168h"),
        oi_drawdown_90d=value("oi_drawdown_90d"),
        buildup_p=_control(one, "buildup_p", first, shape),
        drawdown_p=_control(one, "drawdown_p", first, shape),
        flush_p=_control(one, "flush_p", first, shape),
    )


def _control(one: Measurement, name: str, first: int, shape: tuple[int, ...]) -> Floats:
    """A percentile that only regimes and events read, decayed; NaN where there is none."""
    part = cut(one.controls[name], first, shape)
    return np.where(part.factor > 0, part.used(), np.nan)


def _regimes(
    inputs: regimes.RegimeInputs, when: Ints, segments: Segments, spec: Spec, step_h: float
) -> tuple[regimes.Regimes, dict[tuple[int, int], Explanation]]:
    reasons: dict[tuple[int, int], Explanation] = {}

    def step(piece: slice, state: State) -> tuple[regimes.Regimes, State]:
        own = regimes.RegimeInputs(**{name: getattr(inputs, name)[:, piece] for name in regimes.INPUTS})
        found, after = regimes.run(own, when[piece], state, spec.regimes, step_h)
        for (a, t), reason in regimes.explained(own, when[piece], found, state, spec.regimes).items():
            reasons[a, t + piece.start] = reason
        return found, after

    return stitched(segments.run("regimes", regimes.start(inputs.s.shape[0], spec.regimes), step)), reasons


def _events_read(
    one: Measurement,
    s: Sentiment,
    x: Floats,
    f: Floats,
    base: Ground,
    sure: Confidence,
    parts: list[Floats],
    active: tuple[Constituent, ...],
    named: regimes.Regimes,
    levels: cohorts.Levels,
    present: Bools,
) -> dict[str, Floats]:
    """What events read beside the inputs of the regimes."""
    panel, first, shape = one.panel, one.panel.window_first, x.shape
    families = sorted({c.family for c in active})
    pulls = [sum((part for part, c in zip(parts, active, strict=True) if c.family == name), np.zeros(shape)) for name in families]
    total = np.zeros(shape)
    for pull in pulls:
        total = total + np.abs(pull)
    read = {
        "f": f,
        "return_1bar": panel.returns(panel.rule.step_h)[:, first:],
        "oi_link": panel.links[:, first:],
        # In daily bars a cluster is near on every second day: only finer bars can say that one is (docs/method.md).
        **({"liquidation_distance_sigma": levels.distance_sigma} if panel.rule.ladder else {}),
        "regime": named.code.astype(np.float64),
        "source_disagreement": one.features["source_disagreement"].value[:, first:],
        "supply_growth_7d": one.features["stablecoin_growth_7d"].value[:, first:],
        "contributions_abs": np.where(np.isfinite(s.s), total, np.nan),
        "coverage": np.where(present, base.coverage, np.nan),
        "confidence": np.where(present, sure.value, np.nan),
    }
    if panel.rule.infer_interval:  # on the daily grid every bar stands for its last settlement
        read["settled"] = (panel.youngest(paid(panel).age_h) < panel.rule.step_h)[:, first:] * 1.0
    for name in ("funding_dispersion_p", "intensity_p"):
        if name in one.controls:
            read[name] = _control(one, name, first, shape)
    for name, feature in {
        "strike_distance_em": "strike_distance_em",
        "option_expiry_h": "option_expiry_h",
        "gamma_flow_usd": "gamma_1pct_flow_usd",
    }.items():
        if feature in one.features:
            read[name] = one.features[feature].value[:, first:]
    return read


def _warned(one: Measurement, inputs: regimes.RegimeInputs, read: dict[str, Floats], f: Floats, segments: Segments, spec: Spec) -> Warned:
    panel = one.panel
    told = {name: getattr(inputs, name) for name in regimes.INPUTS}
    return warn(told | read, f, panel.when[panel.window_first :], segments, spec, panel.rule.step_h)
