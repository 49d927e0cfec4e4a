"""From core tables to the published tables of a window: one pure function for every cadence.

Each value at t is computed from the rows the bar at t can see and from nothing older than the look-back and the checkpoint before it; so a
window cut in pieces, each continued from the checkpoint before it, gives the same bits as the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.estimators import Floats
from transforms.features import FEATURES
from transforms.features.contract import Feature, Measured
from transforms.features.memory import widened
from transforms.index import market, probability
from transforms.index.checkpoint import Checkpoint, unpacked
from transforms.index.composite import Composite
from transforms.index.measure import NEAR, Measurement, lookback, measure, reach, reads, voices
from transforms.index.rows import (
    REASONS,
    Frame,
    Line,
    Stamp,
    agreement_rows,
    contribution_rows,
    feature_rows,
    instants,
    numbers,
    outlier_rows,
    regime_rows,
    words,
)
from transforms.index.schemes import SCHEMES
from transforms.index.sentiment import Doubt, bands, doubt_words
from transforms.index.sparse_rows import checkpoint_rows, ladder_rows, scheme_rows
from transforms.index.walk import Walked, cut, walk
from transforms.index.warn import event_rows
from transforms.schema import empty
from transforms.signals import SIGNALS
from transforms.signals.contract import Signal
from transforms.signals.percentiles import Ranked
from transforms.spec import Spec
from transforms.tables import TABLES
from transforms.vocabulary import BANDS, REGIMES, RISK_STATES, SIDES, STATUSES
from transforms.windows import Window

__all__ = ["OUTPUT", "Checkpoint", "Stamp", "derive", "lookback", "measure", "reach", "reads", "stored", "voices"]

#: what `derive` makes, in the order in which it is written
OUTPUT: Final = (
    "features",
    "contributions",
    "readings",
    "events",
    "regime_changes",
    "liquidation_levels",
    "scheme_weights",
    "outliers",
    "agreement",
    "checkpoints",
)
#: the market as a whole
MARKET: Final = "MKT"
_NUMBERS: Final = ("S", "F", "X")
_WHY_CODES: Final = len(REASONS) // 4
#: texts by code, combinations included
_DOUBTS: Final = tuple(doubt_words(Doubt(code)) for code in range(2 * max(Doubt)))


def stored(rows: pa.Table) -> Checkpoint | None:
    """The checkpoint in rows of `checkpoints` of one cadence and instant; None where there are none."""
    if not rows.num_rows:
        return None
    as_of: datetime = rows.column("as_of")[0].as_py()
    return Checkpoint(as_of, {row["asset"]: unpacked(row["state"]) for row in rows.select(["asset", "state"]).to_pylist()})


def derive(
    core: Mapping[str, pa.Table],
    window: Window,
    cadence: str,
    spec: Spec,
    *,
    assets: Sequence[str] | None = None,
    stamp: Stamp,
    before: Checkpoint | None = None,
    features: Mapping[str, Feature] = FEATURES,
    signals: Mapping[str, Signal] = SIGNALS,
) -> dict[str, pa.Table]:
    """Tables of OUTPUT for as_of in (window.start, window.end], in declared schema and key order.

    core: rows by table name with the columns of TABLES[name], any order, all revisions, reaching back `lookback` before the window and
    before the checkpoint, where they exist; they are only read. A missing table counts as empty. assets: one row per bar for each of these,
    whatever is known of it; None: every asset in the bars at which something younger than 30 d is known of it. before: the checkpoint to
    continue from, at or before the window's start; None: what has a memory begins with the window. Raises UnusableInput where rows break
    their table's declaration, ValueError for a checkpoint after the window's start.
    """
    if before is not None and before.as_of > window.start:
        raise ValueError(f"found a checkpoint of {before.as_of} for the window {window}; hand over one at or before its start")
    run = window if before is None else Window(before.as_of, window.end)
    also = before.assets if before is not None and assets is None else ()
    one = measure(core, run, cadence, spec, assets=assets, also=also, features=features, signals=signals)
    panel = one.panel
    if not panel.assets or panel.bars == panel.window_first:
        return {name: empty(TABLES[name]) for name in OUTPUT}
    found = walk(one, cadence, spec, before)
    first = int(np.searchsorted(panel.when, int(window.start.timestamp()) * 1_000_000, side="right"))
    return published(one, found, first, cadence, spec, stamp, whatever=assets is not None)


def published(
    one: Measurement, found: Walked, first: int, cadence: str, spec: Spec, stamp: Stamp, *, whatever: bool
) -> dict[str, pa.Table]:
    """Tables of OUTPUT for the panel's bars from `first` on; whatever: of every asset, heard of or not."""
    panel = one.panel
    keep = np.ones((len(panel.assets), panel.bars - first), dtype=bool) if whatever else panel.present()[:, first:]
    return _Tables(Frame(panel, keep, first, cadence, spec, stamp), one, found, cadence, spec).all()


@dataclass(frozen=True, slots=True)
class _Tables:
    """Rows of the frame's bars out of a run that may have begun before them."""

    frame: Frame
    one: Measurement
    found: Walked
    cadence: str
    spec: Spec

    @property
    def shift(self) -> int:
        """Bars of the run before the frame."""
        return self.frame.first - self.one.panel.window_first

    def late(self, values: NDArray[Any]) -> NDArray[Any]:
        """The frame's bars of a grid of the run."""
        return widened(values[:, self.shift :], self.frame.shape)

    def all(self) -> dict[str, pa.Table]:
        """Every table."""
        markets = self._markets()
        return {
            "features": self._features(),
            "contributions": _beside(self._contributions(), self._market_contributions(markets)),
            "readings": _beside(self._readings(), self._market_readings(markets)),
            "events": self._events(),
            "regime_changes": regime_rows(self.frame, self.found.explained, self.shift),
            "liquidation_levels": ladder_rows(self.frame, self.found.ladders, self.shift, self.spec.cohorts),
            "scheme_weights": scheme_rows(self.frame, self.found.weighted, list(self.spec.family_weights(self.cadence)), self.shift),
            "outliers": outlier_rows(self.frame, self.one.panel.gates),
            "agreement": agreement_rows(self.frame),
            "checkpoints": checkpoint_rows(self.frame, self.found.checkpoints),
        }

    def _features(self) -> pa.Table:
        panel, fresh = self.one.panel, {use.feature: use.fresh_h for use in self.one.panel.rule.uses}
        early = panel.bars - self.found.quantity.shape[1]
        ahead = ((0, 0), (early, 0))
        book = {
            name: Measured(
                np.pad(one.value, ahead, constant_values=np.nan), np.pad(one.age_h, ahead, constant_values=np.nan), np.pad(one.why, ahead)
            )
            for name, one in self.found.book.items()
        }
        sparse = {use.feature for use in panel.rule.uses if use.sparse}
        return feature_rows(self.frame, {**self.one.features, **book}, {**fresh, **dict.fromkeys(book, panel.rule.step_h)}, sparse)

    # --- contributions ------------------------------------------------------------------------------------------------------------

    def _lines(self) -> Iterator[Line]:
        one, first = self.one, self.frame.first
        weights = self.spec.weights(self.cadence)
        for constituent, points in zip(self.spec.active(self.cadence), self.found.s_parts, strict=True):
            score = one.scored[constituent.feature]
            reason = score.state * np.int8(_WHY_CODES) + score.why
            yield Line(
                "S",
                constituent.family,
                constituent.feature,
                weights[constituent.feature],
                constituent.sign,
                score.score[:, first:],
                score.factor[:, first:],
                score.history_d[:, first:],
                self.late(points),
                reason[:, first:],
                one.features[constituent.feature].value.shape[0] > 1 or not _market_wide(constituent.feature),
            )
        yield from self._composed("F", self.found.f_made)
        yield from self._composed("X", self.found.x_made)

    def _composed(self, index: str, made: Composite) -> Iterator[Line]:
        run, shape = self.one.panel.window_first, self.found.f.shape
        signs = {part.feature: part.sign for part in self.spec.parts(index, self.cadence)}
        for share in made.shares:
            if share.feature in signs:
                ranked = self._ranked(share.feature, run, shape)
                score, factor, history, reason = ranked.p, ranked.factor, ranked.history_d, ranked.state * np.int8(_WHY_CODES) + ranked.why
            else:  # a product: its factors carry the reasons
                score, factor = made.levels[share.component], np.ones(shape)
                history, reason = np.zeros(shape), np.zeros(shape, dtype=np.int8)
            yield Line(
                index,
                share.component,
                share.feature,
                share.weight,
                signs.get(share.feature, 1),
                self.late(score),
                self.late(factor),
                self.late(history),
                self.late(share.points),
                self.late(reason),
                not _market_wide(share.feature),
            )

    def _ranked(self, feature: str, run: int, shape: tuple[int, ...]) -> Ranked:
        return self.found.near if feature == NEAR else cut(self.one.ranked[feature], run, shape)

    def _contributions(self) -> pa.Table:
        panel = self.one.panel
        shares = panel.venue_shares[:, :, self.frame.first :]
        return contribution_rows(self.frame, list(self._lines()), shares, panel.venues)

    # --- readings -----------------------------------------------------------------------------------------------------------------

    def _readings(self) -> pa.Table:
        frame, found, panel = self.frame, self.found, self.one.panel
        keep = frame.keep

        def number(values: NDArray[Any]) -> pa.Array:
            return numbers(self.late(values)[keep])

        def word(codes: NDArray[Any], values: Sequence[str]) -> pa.Array:
            late = self.late(codes)
            return words(np.where(late < 0, len(values), late)[keep], [*values, None])

        side = np.where(np.isfinite(found.f) & (np.round(found.carry, 6) != 0) & np.isfinite(found.carry), (found.carry < 0) * 1, -1)
        regime = found.regimes
        columns = {
            "s": number(found.sentiment.s),
            "s_ex": number(found.sentiment.s_ex),
            "s_pct": number(found.s_pct),
            "band": word(found.sentiment.band, BANDS),
            "f": number(found.f),
            "crowded_side": word(side, SIDES),
            "x": number(found.x),
            "confidence": number(found.s_confidence.value),
            "conf_coverage": number(found.base.coverage),
            "conf_freshness": number(found.s_confidence.freshness),
            "conf_agreement": number(found.base.agreement),
            "conf_history": number(found.s_confidence.history),
            "f_confidence": number(found.f_confidence.value),
            "x_confidence": number(found.x_confidence.value),
            "status": words(self.late(found.sentiment.status)[keep], STATUSES),
            "reason": self._reason(),
            "regime": word(regime.code, REGIMES),
            "regime_since": instants(self.late(regime.since)[keep], (self.late(regime.code) >= 0)[keep]),
            "risk_state": word(found.risk[0], RISK_STATES),
            "risk_value": number(found.risk[1]),
            "p_cascade_24h": number(found.warned.probability.p),
            "cascade_base_rate": number(found.warned.probability.base_rate),
            "cascade_skill": number(found.warned.probability.skill),
            "cascade_reason": words(self.late(found.warned.probability.why)[keep], [probability.WORDS[why] for why in probability.Why]),
            **{f"s_{scheme}": number(found.weighted.values[scheme]) for scheme in SCHEMES},
            "f_ciss": number(found.f_ciss),
            "price_usd": numbers(frame.of_panel(panel.of_leader(panel.price.usd))[keep]),
            "oi_quantity_index": number(found.quantity),
            "oi_drawdown_90d": numbers(frame.of_panel(self.one.features["oi_drawdown_90d"].value)[keep]),
        }
        return frame.rows("readings", 1, columns)

    def _reason(self) -> pa.Array:
        """Why S is doubtful or withheld; F and X where their own doubts are others."""
        own, f, x = (
            self.late(codes)[self.frame.keep].astype(np.int64)
            for codes in (self.found.sentiment.doubts, self.found.f_doubts, self.found.x_doubts)
        )
        size = len(_DOUBTS)
        code, place = np.unique((own * size + f) * size + x, return_inverse=True)
        texts: list[str | None] = []
        for one in code.tolist():
            parts = (one // size // size, one // size % size, one % size)
            said = [_DOUBTS[parts[0]]] + [
                f"{name}: {_DOUBTS[part]}" for name, part in zip("FX", parts[1:], strict=True) if part & ~parts[0]
            ]
            texts.append(" | ".join(text for text in said if text))
        return words(place, texts)

    # --- the market -----------------------------------------------------------------------------------------------------------------

    def _markets(self) -> dict[str, market.Market]:
        panel, rule = self.one.panel, self.spec.market
        usd = panel.past("oi usd", panel.totals(panel.usd), panel.steps(24 * rule.share_window_d))
        first = usd.shape[1] - panel.bars + panel.window_first
        weights = market.weights(usd, panel.assets, rule, panel.rule.step_h, first)[:, first:]
        values = {"S": (self.found.sentiment.s, 50.0), "F": (self.found.f, 0.0), "X": (self.found.x, 0.0)}
        # S has a neutral point that a withheld asset can stand at; F and X have none, so they need every asset of the market.
        rules = {"S": rule, "F": replace(rule, min_known_weight=1.0), "X": replace(rule, min_known_weight=1.0)}
        made = {name: market.aggregate(value, weights, rules[name], neutral) for name, (value, neutral) in values.items()}
        held = np.nan_to_num(weights, nan=0.0)
        sure = {"confidence": self.found.s_confidence, "f_confidence": self.found.f_confidence, "x_confidence": self.found.x_confidence}
        trust = {name: _blended(held, one.value) for name, one in sure.items()}
        trust |= {
            "conf_freshness": _blended(held, sure["confidence"].freshness),
            "conf_history": _blended(held, sure["confidence"].history),
        }
        trust |= {"conf_coverage": _blended(held, self.found.base.coverage), "conf_agreement": _blended(held, self.found.base.agreement)}
        self._notes[MARKET] = {"weights": weights, "trust": trust}
        return made

    @property
    def _notes(self) -> dict[str, Any]:
        found: dict[str, Any] = self.one.panel.once("market notes", dict)
        return found

    def _market_bars(self) -> NDArray[np.int64]:
        """Bars of the frame at which the market has weights."""
        known = np.isfinite(self._notes[MARKET]["weights"]).any(axis=0)
        if len(self.one.panel.assets) and not set(self.spec.market.assets) & set(self.one.panel.assets):
            known[:] = False
        return np.flatnonzero(known[self.shift :])

    def _market_readings(self, made: Mapping[str, market.Market]) -> pa.Table:
        bars = self._market_bars()
        at = bars + self.shift
        s, trust = made["S"].value[at], self._notes[MARKET]["trust"]
        count = len(bars)
        band = bands(s, self.spec.band_edges)
        unknown = {name: pa.nulls(count, TYPE) for name, TYPE in _nullable("readings").items()}
        columns = {
            **unknown,
            "s": numbers(s),
            "f": numbers(made["F"].value[at]),
            "x": numbers(made["X"].value[at]),
            "band": words(np.where(band < 0, len(BANDS), band), [*BANDS, None]),
            **{name: numbers(values[at]) for name, values in trust.items()},
            "status": words(np.maximum(made["S"].status[at], self._doubtful()[at]), STATUSES),
            "reason": self._market_reason(made, at),
            "cascade_reason": words(np.zeros(count, dtype=np.int64), ["not estimated for the market"]),
        }
        return self.frame.table("readings", words(np.zeros(count, dtype=np.int64), [MARKET]), bars, columns)

    def _doubtful(self) -> NDArray[np.int8]:
        """1 (indicative) where an asset with weight in the market is not more than that, by bar of the run."""
        held = np.nan_to_num(self._notes[MARKET]["weights"], nan=0.0) > 0
        found: NDArray[np.int8] = ((self.found.sentiment.status > 0) & held).any(axis=0).astype(np.int8)
        return found

    def _market_reason(self, made: Mapping[str, market.Market], at: NDArray[np.int64]) -> pa.Array:
        """Which of the three numbers lack an asset, and how much weight is known of each."""
        code = self._doubtful()[at].astype(np.int64) * 2 ** len(_NUMBERS)
        for place, name in enumerate(_NUMBERS):
            code += (made[name].status[at] > 0) * 2**place
        texts: list[str | None] = []
        for one in range(2 ** (len(_NUMBERS) + 1)):
            lacking = [name for place, name in enumerate(_NUMBERS) if one >> place & 1]
            said = [f"assets of the market without a value in {', '.join(lacking)}"] if lacking else []
            texts.append("; ".join([*said, *(["assets of the market are indicative"] if one >> len(_NUMBERS) else [])]))
        return words(code, texts)

    def _market_contributions(self, made: Mapping[str, market.Market]) -> pa.Table:
        bars, weights = self._market_bars(), self._notes[MARKET]["weights"]
        at = bars + self.shift
        members = [n for n, asset in enumerate(self.one.panel.assets) if asset in self.spec.market.assets]
        lines = []
        for name, one in sorted(made.items()):
            value = {"S": (self.found.sentiment.s - 50.0) / 50.0, "F": self.found.f / 100.0, "X": self.found.x / 100.0}[name]
            held = np.where(np.isfinite(one.value), value, np.nan)
            lines += [(name, n, held[n, at], np.nan_to_num(one.contributions[n, at], nan=0.0)) for n in members]
        width, count = len(lines), len(bars)
        if not width or not count:
            return empty(TABLES["contributions"])

        def side_by_side(values: Sequence[Floats]) -> NDArray[Any]:
            return np.stack(list(values), axis=1).ravel()

        tile = np.tile(np.arange(width), count)
        score = side_by_side([line[2] for line in lines])
        columns = {
            "index_name": words(tile, [line[0] for line in lines]),
            "component": words(np.zeros(width * count, dtype=np.int64), ["asset"]),
            "feature": words(tile, [self.one.panel.assets[line[1]] for line in lines]),
            "by_venue": words(np.zeros(width * count, dtype=np.int64), ["all"]),
            "weight": numbers(side_by_side([weights[line[1], at] for line in lines])),
            "sign": pa.array(np.ones(width * count, dtype=np.int64)),
            "score": numbers(score),
            "stale_factor": numbers(np.isfinite(score) * 1.0),
            "history_days": numbers(np.zeros(width * count)),
            "contribution": numbers(side_by_side([line[3] for line in lines])),
            "reason": words(np.isnan(score) * 1, ["", "withheld"]),
        }
        whole = self.frame.table("contributions", words(np.zeros(width * count, dtype=np.int64), [MARKET]), np.repeat(bars, width), columns)
        return whole.filter(pc.greater(whole.column("weight"), 0.0))  # an asset nobody had heard of yet has none

    def _events(self) -> pa.Table:
        rows = event_rows(
            self.found.warned.events, self.one.panel.assets, self.cadence, self.found.s_confidence.value, self.spec, self.shift
        )
        places = {asset: n for n, asset in enumerate(self.one.panel.assets)}
        return self.frame.listed("events", [row for row in rows if self.frame.keep[places[row["asset"]], row["bar"]]])

    # --- what is rare ---------------------------------------------------------------------------------------------------------------


def _market_wide(feature: str) -> bool:
    """Is the input the same for every asset, so that no venue of the asset has a share in it."""
    known = FEATURES.get(feature)
    return known is not None and known.reads <= {"stablecoin_supply"}


def _blended(weights: Floats, values: Floats) -> Floats:
    """Weighted sum over assets in order, unknown as 0; (bars,)."""
    found: Floats = np.zeros(values.shape[1])
    for a in range(len(values)):
        found = found + weights[a] * np.where(np.isfinite(values[a]), values[a], 0.0)
    return np.minimum(found, 1.0)


def _nullable(name: str) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in empty(TABLES[name]).schema if field.nullable}


def _beside(assets: pa.Table, extra: pa.Table) -> pa.Table:
    """Rows of the market put where its name belongs among the assets."""
    if not extra.num_rows:
        return assets
    before = int(pc.sum(pc.less(assets.column("asset"), MARKET)).as_py() or 0)
    return pa.concat_tables([assets.slice(0, before), extra, assets.slice(before)])
