"""The peer's S, F and X, and its long frames: pandas over the features of tests/bench/plain_features.py.

The weighted, strictly past rank has no counterpart in pandas; it is a numpy loop over bars, vectorised over history and assets.
`rolling().rank()`, what pandas offers instead, is timed beside it and gives another number. Left out: the cohort book (its part of F),
what input that stopped coming still says, confidence and what it withholds, percentiles that only regimes and events read, regimes, risk
state, events and track records, the probability of a cascade, estimated weights, the market, checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from tests.bench.plain_features import features, log_quantity
from tests.bench.plain_panel import PlainPanel, Wide, to_series
from transforms.spec import Spec

#: (values, reference window in days, are sizes ranked) -> weighted rank in [0, 1]
Rank = Callable[[Wide, float, bool], Wide]
#: the part of F that only the cohort book knows
COHORT = "latent_liquidation"
Name = tuple[str, str, str]


@dataclass
class Numbers:
    """Everything the peer computes, wide: points by (index, component, feature), F without its cohort part."""

    features: dict[str, Wide]
    points: dict[Name, Wide]
    s: Wide
    f: Wide
    x: Wide
    venue_shares: Wide


def weighted_ranks(values: Wide, window_d: float, spec: Spec, step_h: float, every_h: float) -> Wide:
    """Weighted, strictly past mid-rank of each value in [0, 1] (METHODOLOGY 3.1): a loop over bars, all history and assets at once."""
    rule = spec.score
    x = values.to_numpy()
    hours = (values.index - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(hours=1)
    reference = np.flatnonzero(hours % every_h == 0)
    window, half_life = round(window_d * 24 / step_h), rule.half_life_d * 24 / step_h
    decay = 0.5 ** (np.arange(len(x) + 1) / half_life)
    found = np.full(x.shape, np.nan)
    for t in range(len(x)):
        at = reference[np.searchsorted(reference, t - window, "right") : np.searchsorted(reference, t, "left")]
        past = x[at]
        known = ~np.isnan(past)
        weights = decay[t - at][:, None] * known
        total = weights.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            rank = (weights * (past < x[t]) + 0.5 * weights * (past == x[t])).sum(axis=0) / total
        rank[known.sum(axis=0) * every_h / 24 < rule.min_history_d] = np.nan
        found[t] = rank
    found[np.isnan(x)] = np.nan
    return pd.DataFrame(found, index=values.index, columns=values.columns)


def rolling_ranks(values: Wide, window_d: float, spec: Spec, step_h: float) -> Wide:
    """What pandas offers instead: unweighted, the present value among its own history, every bar a reference."""
    return values.rolling(round(window_d * 24 / step_h), min_periods=round(spec.score.min_history_d * 24 / step_h)).rank(pct=True)


def numbers(core: Mapping[str, pa.Table], grid: pd.DatetimeIndex, cadence: str, spec: Spec, *, weighted: bool = True) -> Numbers:
    """Features, contributions, S, F and X."""
    panel = PlainPanel(core, grid, cadence, spec)
    rule = panel.rule

    def rank(values: Wide, window_d: float, sizes: bool = False) -> Wide:
        ranked = values.abs() if sizes else values
        if weighted:
            return weighted_ranks(ranked, window_d, spec, rule.step_h, rule.reference_step_h)
        return rolling_ranks(ranked, window_d, spec, rule.step_h)

    measured, ages = features(panel)
    fresh = {use.feature: use.fresh_h for use in rule.uses}
    used = {name: value.where(ages[name] < fresh[name]) for name, value in measured.items()}
    scores, points, s = _sentiment(panel, used, rank)
    for index in ("F", "X"):
        points |= _composite(index, panel, used, scores, rank)
    total = {index: sum(part for (name, _, _), part in points.items() if name == index) for index in ("F", "X")}
    shares, _ = panel.weighed(panel.usd.where(panel.usd.isna(), 1.0))
    return Numbers(measured, points, s, total["F"], total["X"], shares)


def _sentiment(panel: PlainPanel, measured: Mapping[str, Wide], rank: Rank) -> tuple[dict[str, Wide], dict[Name, Wide], Wide]:
    """Scores by feature, points by name, and S."""
    spec, weights = panel.spec, panel.spec.weights(panel.cadence)
    scores, points = {}, {}
    for one in spec.active(panel.cadence):
        if one.feature not in measured:
            continue
        values = measured[one.feature]
        if one.norm == "anchored":
            score = np.sign(values) * rank(values, spec.score.window_d, True)
            if one.floor:
                score = score * (values.abs() / one.floor).clip(upper=1.0)
        else:
            score = 2.0 * rank(values, spec.score.window_d, False) - 1.0
        scores[one.feature] = score
        points["S", one.family, one.feature] = 50.0 * weights[one.feature] * one.sign * score.fillna(0.0)
    return scores, points, 50.0 + sum(points.values())


def _composite(index: str, panel: PlainPanel, measured: Mapping[str, Wide], scores: Mapping[str, Wide], rank: Rank) -> dict[Name, Wide]:
    """Points of the parts of F or X, without the cohort book's."""
    spec = panel.spec
    levels: dict[str, Wide] = {}
    points: dict[Name, Wide] = {}
    for one, weight in sorted(spec.components(index, panel.cadence).items(), key=lambda item: item[0].combine == "product"):
        own = [part for part in spec.parts(index, panel.cadence) if part.component == one.name]
        total = sum(part.within for part in own)
        if one.name == COHORT:
            continue
        if one.combine == "product":
            first, second = one.factors
            levels[one.name] = levels[first] * levels[second]
            points[index, one.name, one.name] = 100.0 * weight * levels[one.name]
            continue
        if one.combine == "max" and len(own) > 1:
            raise NotImplementedError(f"found {len(own)} parts of {one.name}; the peer knows one")
        levels[one.name] = 0.0
        for part in own:
            window_d = part.window_d or spec.score.window_d
            if part.feature == "carry_score":
                used = _crowding(panel, scores)
            elif part.feature == "oi_level_180d":  # ranked on ln Q itself
                used = rank(log_quantity(panel).where(measured[part.feature].notna()), window_d, False).fillna(0.5)
            else:
                used = rank(part.sign * measured[part.feature], window_d, False).fillna(0.5)
            levels[one.name] = levels[one.name] + part.within / total * used
            points[index, one.name, part.feature] = 100.0 * weight * part.within / total * used
    return points


def _crowding(panel: PlainPanel, scores: Mapping[str, Wide]) -> Wide:
    """Size of the carry family's score, pulled to one half by the part of it that is not known."""
    own = [one for one in panel.spec.active(panel.cadence) if one.family == "carry" and one.feature in scores]
    total = sum(one.within for one in own)
    known = sum(one.within / total * scores[one.feature].notna().astype(float) for one in own)
    size = sum(one.within / total * one.sign * scores[one.feature].fillna(0.0) for one in own).abs()
    return 0.5 + (size - 0.5) * known


# --- long frames --------------------------------------------------------------------------------------------------------------------


def _melted(parts: Mapping[str | Name, Wide], names: list[str], value: str) -> pd.DataFrame:
    stacked = {key: part.rename_axis(index="as_of").melt(ignore_index=False, value_name=value) for key, part in parts.items()}
    return pd.concat(stacked, names=[*names, "as_of"]).reset_index()


def rows(made: Numbers, market_wide: tuple[str, ...] = ("stablecoin_growth_30d",)) -> dict[str, pd.DataFrame]:
    """Long frames in key order: features; contributions split by the venues' weights; readings."""
    long = _melted({name: part.rename_axis(columns="asset") for name, part in made.features.items()}, ["feature"], "feature_value")
    series = made.venue_shares.columns
    parts = {}
    for name, part in made.points.items():
        if name[2] in market_wide:
            whole = part.rename_axis(columns="asset")
            whole.columns = pd.MultiIndex.from_product([whole.columns, ["all"]], names=["asset", "venue"])
            parts[name] = whole
        else:
            parts[name] = to_series(part, series) * made.venue_shares
    split = _melted(parts, ["index_name", "component", "feature"], "contribution").rename(columns={"venue": "by_venue"})
    split = split[split["contribution"].notna()]
    totals = {
        name: part.rename_axis(index="as_of", columns="asset")
        .melt(ignore_index=False, value_name=name)
        .set_index("asset", append=True)[name]
        for name, part in (("s", made.s), ("f", made.f), ("x", made.x))
    }
    return {
        "features": long.sort_values(["asset", "as_of", "feature"], ignore_index=True),
        "contributions": split.sort_values(["asset", "as_of", "index_name", "component", "feature", "by_venue"], ignore_index=True),
        "readings": pd.concat(totals, axis=1).reset_index().sort_values(["asset", "as_of"], ignore_index=True),
    }
