"""From core tables to features, contributions and the index of a window: one pure function for every cadence.

Each value at t is computed from the rows the bar at t can see and from nothing older than the look-back, so a window cut in pieces,
in any order, gives the same bits as the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.asof import UnusableInput
from transforms.estimators import Bools, Floats
from transforms.features import FEATURES
from transforms.features.contract import WORDS, Feature, Measured, Why
from transforms.features.panel import INSTRUMENT_TABLES, Panel
from transforms.index.attribution import contribution
from transforms.index.confidence import Confidence, confidence
from transforms.index.sentiment import Doubt, Sentiment, doubt_words, sentiment
from transforms.schema import arrow_schema, empty
from transforms.signals import SIGNALS
from transforms.signals.contract import Scored, Signal, State, wording
from transforms.spec import EPOCH_START, CadenceRule, Constituent, Spec
from transforms.tables import TABLES
from transforms.vocabulary import BANDS, STATUSES
from transforms.windows import Window, partition_days

_INSTANT: Final = pa.timestamp("us", tz="UTC")
#: rows of a chunk that columns with one value share
_CHUNK: Final = 65_536


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every published row carries about the run: vocabulary `market`, `vintage`, `code_sha`."""

    market: str
    vintage: str
    code_sha: str


@dataclass(frozen=True, slots=True)
class Derived:
    """Rows of the three published index tables, in declared schema and key order."""

    features: pa.Table
    contributions: pa.Table
    sentiment: pa.Table


@dataclass(frozen=True, slots=True)
class Measurement:
    """Features and scores on a panel, before they become rows."""

    panel: Panel
    features: dict[str, Measured]
    scored: dict[str, Scored]


def lookback(spec: Spec, cadence: str, features: Mapping[str, Feature] = FEATURES) -> timedelta:
    """How far before a window its core rows must reach, where they exist: the longest feature, the reference window, a held score."""
    rule = spec.cadence(cadence)
    longest = max(features[use.feature].lookback(spec, rule) for use in rule.uses)
    return longest + timedelta(days=spec.score.window_d, hours=rule.stale.horizon_h) + rule.step


def reads(spec: Spec, cadence: str, features: Mapping[str, Feature] = FEATURES) -> set[str]:
    """Core tables the cadence needs."""
    return set().union(*(features[use.feature].reads for use in spec.cadence(cadence).uses))


def measure(
    core: Mapping[str, pa.Table],
    window: Window,
    cadence: str,
    spec: Spec,
    *,
    assets: Sequence[str] | None = None,
    features: Mapping[str, Feature] = FEATURES,
    signals: Mapping[str, Signal] = SIGNALS,
) -> Measurement:
    """All features of the cadence and all active signals, on one panel."""
    rule = spec.cadence(cadence)
    if window.start.date() < EPOCH_START:
        raise UnusableInput(f"window {window} begins before {EPOCH_START}, the first day index version {spec.index_version} covers")
    start = max(window.start - lookback(spec, cadence, features), _first_as_of(core, rule) - rule.step)
    panel = Panel(core, start=min(start, window.start), window_start=window.start, end=window.end, rule=rule, spec=spec, assets=assets)
    found = {use.feature: features[use.feature].compute(panel) for use in rule.uses}
    scored = {one.feature: signals[one.feature].score(found[one.feature], one, panel) for one in spec.active(cadence)}
    return Measurement(panel, found, scored)


def derive(
    core: Mapping[str, pa.Table],
    window: Window,
    cadence: str,
    spec: Spec,
    *,
    assets: Sequence[str] | None = None,
    stamp: Stamp,
    features: Mapping[str, Feature] = FEATURES,
    signals: Mapping[str, Signal] = SIGNALS,
) -> Derived:
    """Features, contributions and sentiment for as_of in (window.start, window.end].

    core: rows by table name with the columns of TABLES[name], any order, all revisions, reaching back `lookback` where they exist; they are
    only read. A missing table counts as empty. assets: one row per bar for each of these, whatever is known of it; None: every asset in
    the bars at which something younger than 30 d is known of it. Raises UnusableInput where rows break their table's declaration.
    """
    one = measure(core, window, cadence, spec, assets=assets, features=features, signals=signals)
    panel, first = one.panel, one.panel.window_first
    shape = (len(panel.assets), panel.bars - first)
    keep = panel.present()[:, first:] if assets is None else np.ones(shape, dtype=bool)
    if not keep.any():
        return Derived(*(empty(TABLES[name]) for name in ("features", "contributions", "sentiment")))
    active, weights = spec.active(cadence), spec.weights(cadence)
    parts = [
        contribution(weights[c.feature], c.sign, one.scored[c.feature].score[:, first:], one.scored[c.feature].factor[:, first:])
        for c in active
    ]
    sure = confidence(panel, [one.scored[c.feature] for c in active], [weights[c.feature] for c in active])
    index = sentiment(parts, active, sure, spec)
    frame = _Frame(panel, keep, cadence, spec, stamp)
    return Derived(
        _feature_rows(frame, one.features),
        _contribution_rows(frame, active, weights, one.scored, parts),
        _sentiment_rows(frame, index, sure, one.features),
    )


def _first_as_of(core: Mapping[str, pa.Table], rule: CadenceRule) -> datetime:
    """The oldest as_of the cadence could read: bars before it hold nothing."""
    oldest = datetime.max.replace(tzinfo=UTC)
    for name, source in [*((name, rule.source) for name in INSTRUMENT_TABLES), ("stablecoin_supply", rule.supply_source)]:
        table = core.get(name)
        if table is not None and {"source", "as_of"} <= set(table.column_names):
            found = pc.min(table.filter(pc.equal(table.column("source"), source)).column("as_of").cast(_INSTANT)).as_py()
            oldest = min(oldest, found or oldest)
    return oldest


class _Frame:
    """What the rows of the three tables share: which (asset, bar) pairs are kept, in key order, and the stamp."""

    def __init__(self, panel: Panel, keep: Bools, cadence: str, spec: Spec, stamp: Stamp) -> None:
        self.keep = keep
        self.shape = keep.shape
        self.first = panel.window_first
        self.panel = panel
        self.asset, bar = np.nonzero(keep)
        self.as_of = panel.when[self.first :][bar]
        self.known_at = panel.cutoff[self.first :][bar]
        self.constants = {
            "cadence": cadence,
            "market": stamp.market,
            "vintage": stamp.vintage,
            "index_version": spec.index_version,
            "spec_sha256": spec.sha256,
            "code_sha": stamp.code_sha,
        }

    def grid(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Values of the window's bars, (assets or 1, bars)."""
        return np.broadcast_to(values[:, self.first :], self.shape)

    def rows(self, name: str, width: int, columns: Mapping[str, pa.Array]) -> pa.Table:
        """A table of `width` rows for each kept pair."""
        count = len(self.asset) * width
        common: dict[str, pa.Array | pa.ChunkedArray] = {
            "asset": words(np.repeat(self.asset, width), self.panel.assets),
            "as_of": pa.array(np.repeat(self.as_of, width)).cast(_INSTANT),
            "known_at": pa.array(np.repeat(self.known_at, width)).cast(_INSTANT),
            "date": partition_days(pa.array(np.repeat(self.as_of, width)).cast(_INSTANT)),
            **{column: repeated(value, count) for column, value in self.constants.items()},
        }
        table = TABLES[name]
        return pa.table([{**common, **columns}[column] for column in table.columns], schema=arrow_schema(table))

    def tiled(self, values: Sequence[str]) -> pa.Array:
        """The same words for every kept pair."""
        return words(np.tile(np.arange(len(values)), len(self.asset)), values)

    def stacked(self, values: Iterable[NDArray[np.generic]]) -> NDArray[np.generic]:
        """Grids side by side: for each kept pair, one value of each."""
        return np.stack([grid[self.keep] for grid in values], axis=1).ravel()


def words(codes: NDArray[np.generic], values: Sequence[str | None]) -> pa.Array:
    """values[codes] as a string column."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values, type=pa.string())).cast(pa.string())


def numbers(values: NDArray[np.generic]) -> pa.Array:
    """A float column: NaN becomes null, -0.0 becomes 0."""
    found = values.astype(np.float64) + 0.0
    return pa.array(found, mask=~np.isfinite(found))


def repeated(value: str, count: int) -> pa.ChunkedArray:
    """A column of one value whose chunks share their memory."""
    chunk = pa.array([value] * min(count, _CHUNK), type=pa.string())
    return pa.chunked_array([chunk.slice(0, min(_CHUNK, count - at)) for at in range(0, count, _CHUNK)], type=pa.string())


def _feature_rows(frame: _Frame, features: Mapping[str, Measured]) -> pa.Table:
    names = sorted(features)
    rule = {use.feature: use.fresh_h for use in frame.panel.rule.uses}
    whys = []
    for name in names:
        one = features[name]
        stale = np.isfinite(one.value) & ~one.fresh(rule[name])
        whys.append(frame.grid(np.where(stale, np.int8(Why.STALE), one.why)))
    columns = {
        "feature": frame.tiled(names),
        "feature_value": numbers(frame.stacked(frame.grid(features[name].value) for name in names)),
        "input_age_h": numbers(frame.stacked(frame.grid(features[name].age_h) for name in names)),
        "reason": words(frame.stacked(whys), [WORDS[why] for why in Why]),
    }
    return frame.rows("features", len(names), columns)


def _contribution_rows(
    frame: _Frame,
    active: Sequence[Constituent],
    weights: Mapping[str, float],
    scored: Mapping[str, Scored],
    parts: Sequence[Floats],
) -> pa.Table:
    ordered = [scored[c.feature] for c in active]
    reasons = [wording(state, why) for state, why in product(State, Why)]
    count = len(frame.asset)

    def grids(values: Iterable[NDArray[np.generic]]) -> NDArray[np.generic]:
        return frame.stacked(frame.grid(one) for one in values)

    columns = {
        "family": frame.tiled([c.family for c in active]),
        "feature": frame.tiled([c.feature for c in active]),
        "weight": numbers(np.tile([weights[c.feature] for c in active], count)),
        "sign": pa.array(np.tile(np.array([c.sign for c in active], dtype=np.int64), count)),
        "score": numbers(grids(one.score for one in ordered)),
        "stale_factor": numbers(grids(one.factor for one in ordered)),
        "history_days": numbers(grids(one.history_d for one in ordered)),
        "contribution": numbers(frame.stacked(np.broadcast_to(part, frame.shape) for part in parts)),
        "reason": words(grids(one.state * np.int8(len(Why)) + one.why for one in ordered), reasons),
    }
    return frame.rows("contributions", len(active), columns)


def _sentiment_rows(frame: _Frame, index: Sentiment, sure: Confidence, features: Mapping[str, Measured]) -> pa.Table:
    keep = frame.keep
    doubts = [doubt_words(Doubt(code)) for code in range(2 * max(Doubt))]
    columns = {
        "s": numbers(index.s[keep]),
        "s_ex": numbers(index.s_ex[keep]),
        "band": words(np.where(index.band < 0, len(BANDS), index.band)[keep], [*BANDS, None]),
        "confidence": numbers(sure.value[keep]),
        "conf_coverage": numbers(sure.coverage[keep]),
        "conf_freshness": numbers(sure.freshness[keep]),
        "conf_agreement": numbers(sure.agreement[keep]),
        "conf_history": numbers(sure.history[keep]),
        "status": words(index.status[keep], STATUSES),
        "reason": words(index.doubts[keep], doubts),
        "price_usd": numbers(frame.grid(frame.panel.asset_price())[keep]),
        "oi_drawdown_90d": numbers(frame.grid(features["oi_drawdown_90d"].value)[keep]),
    }
    return frame.rows("sentiment", 1, columns)
