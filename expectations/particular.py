"""What a single column cannot say: laws between columns of one row, and between tables. Pure numpy and pandas, no engine.

`LAWS` are the functions; `PARTICULAR` applies them to tables whose meaning demands it. The declared rules of transforms/tables.py
use the same functions, so a law is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from transforms.spec import SPEC
from transforms.vocabulary import BANDS, INDICES
from transforms.windows import CADENCES

Severity = Literal["critical", "warning", "info"]
#: What an event says of itself while too few of its kind have been judged (METHODOLOGY 4.8).
NO_RECORD: Final = "no track record"
Mask = npt.NDArray[np.bool_]
Column = Any  # a numpy array, or a pandas Categorical where the column is text


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, before any engine is chosen. `code` is unique within its table and never changes its meaning.

    `kind`: given, finite, within, one_of, not_empty, unique, or a name in LAWS. `reason_code`: see REASONS in
    transforms/sources/contract.py. `skip`: rows a law passes over, in Great Expectations' words (an absent value breaks nothing).
    """

    code: str
    kind: str
    columns: tuple[str, ...]
    severity: Severity
    reason_code: str
    meaning: str
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] = ()
    limit: float = 0.0
    skip: Literal["any_value_is_missing", "never"] = "any_value_is_missing"


def _all_given(values: Sequence[Column], _limit: float) -> Mask:
    return np.asarray(~np.logical_or.reduce([pd.isna(value) for value in values]))


def _any_given(values: Sequence[Column], _limit: float) -> Mask:
    return np.asarray(np.logical_or.reduce([~pd.isna(value) for value in values]), dtype=np.bool_)


def _all_finite(values: Sequence[Column], _limit: float) -> Mask:
    """No infinity; a null is NaN here and passes, a NaN that is no null arrives as +inf."""
    return np.asarray(~np.logical_or.reduce([np.isinf(value) for value in values]))


def _not_above(values: Sequence[Column], limit: float) -> Mask:
    """`a <= b`, with a slack of `limit` relative to b (absolute below 1)."""
    a, b = values
    slack = limit * np.maximum(1.0, np.abs(b)) if limit else 0.0
    return np.asarray(a <= b + slack)


def _sums_to_one(values: Sequence[Column], limit: float) -> Mask:
    return np.asarray(np.abs(sum(values[1:], values[0]) - 1.0) <= limit)


def _ratio_within(values: Sequence[Column], limit: float) -> Mask:
    """`a / b` within `1 - limit .. 1 + limit`."""
    a, b = values
    return np.asarray(np.abs(a - b) <= limit * np.abs(b))


def _not_before(values: Sequence[Column], _limit: float) -> Mask:
    return np.asarray(values[0] >= values[1])


def _day_of(values: Sequence[Column], _limit: float) -> Mask:
    """`date` is the day that ends at or after `as_of` (transforms/windows.py)."""
    date, as_of = values
    return np.asarray(date == (as_of - np.timedelta64(1, "us")).astype("datetime64[D]"))


def _on_grid(values: Sequence[Column], _limit: float) -> Mask:
    """`as_of` is a multiple of its cadence since the epoch. A cadence nobody declared is another check's matter."""
    as_of, cadence = values
    off = np.zeros(len(as_of), dtype=np.bool_)
    for name, step in CADENCES.items():
        off |= (cadence == name) & (as_of.astype("datetime64[us]").astype(np.int64) % (step // pd.Timedelta(microseconds=1)) != 0)
    return ~off


def _withheld(values: Sequence[Column], _limit: float) -> Mask:
    """The status is `withheld` exactly when there is no s."""
    status, s = values
    return np.asarray((status == "withheld") == pd.isna(s))


def _null_together(values: Sequence[Column], _limit: float) -> Mask:
    return np.asarray(pd.isna(values[0]) == pd.isna(values[1]))


_EDGES: Final = (0.0, 25.0, 45.0, 55.0, 75.0, 100.0)


def _band_of(values: Sequence[Column], limit: float) -> Mask:
    """The band holds s, edges and `limit` points beyond included: which band owns an edge, after rounding, is the index's decision."""
    band, s = values
    right = np.zeros(len(s), dtype=np.bool_)
    for name, low, high in zip(BANDS, _EDGES, _EDGES[1:], strict=False):
        right |= (band == name) & (low - limit <= s) & (s <= high + limit)
    return right


#: Components of F that combine their inputs in another way than by a mean (METHODOLOGY 4.3).
_LARGEST: Final = tuple(one.name for one in SPEC.fragility if one.combine == "max")
_PRODUCTS: Final = tuple(one.name for one in SPEC.fragility if one.combine == "product")
#: What the market as a whole is made of: its assets, in every index.
_MARKET, _ASSETS = "MKT", ("asset",)
_COMPONENTS: Final[dict[str, tuple[str, ...]]] = {
    "S": tuple(one.name for one in SPEC.families),
    "F": tuple(one.name for one in SPEC.fragility),
    "X": tuple(one.name for one in SPEC.stress),
}


def _word(column: Column, *words: str) -> Mask:
    """Where a column of text is one of the words."""
    return np.asarray(np.logical_or.reduce([column == word for word in words]))


def expected_contribution(
    index_name: Column, asset: Column, component: Column, weight: Any, sign: Any, score: Any, stale_factor: Any
) -> Any:
    """Points an input adds by METHODOLOGY 4.1, 4.3, 4.4 and 3.3, element by element.

    S: `50 weight sign score stale_factor`, 0 without a score. F and X: `100 weight (0.5 + (score - 0.5) stale_factor)`, a missing percentile
    counts as 0.5; a product of components: `100 weight score`. The market: `50 weight score` and `100 weight score`, 0 without a score.
    """
    in_s, of_market, product = _word(index_name, "S"), _word(asset, _MARKET), _word(component, *_PRODUCTS)
    known = ~pd.isna(score)
    full = np.where(in_s, 50.0, 100.0) * weight
    oriented = np.where(known, np.where(of_market, score, sign * score * stale_factor), 0.0)
    percentile = np.where(known, 0.5 + (score - 0.5) * stale_factor, 0.5)
    used = np.where(in_s, oriented, np.where(of_market, np.where(known, score, 0.0), np.where(product, score, percentile)))
    return full * used


def _contribution_of(values: Sequence[Column], limit: float) -> Mask:
    """The formula of `expected_contribution`; in a component that takes the largest of its inputs, one that does not lead adds 0."""
    contribution, index_name, asset, component, *rest = values
    expected = expected_contribution(index_name, asset, component, *rest)
    aside = _word(component, *_LARGEST) & ~_word(asset, _MARKET) & (contribution == 0.0)
    return np.asarray((np.abs(contribution - expected) <= limit) | aside)


def _component_of(values: Sequence[Column], _limit: float) -> Mask:
    """The component is one of its index's own; the market is made of assets, and nothing else is."""
    index_name, asset, component = values
    of_market = _word(asset, _MARKET)
    own = np.logical_or.reduce([_word(index_name, name) & _word(component, *words) for name, words in _COMPONENTS.items()])
    return np.asarray(np.where(of_market, _word(component, *_ASSETS), own))


def _oriented(values: Sequence[Column], _limit: float) -> Mask:
    """Only S has scores below 0: in F and X a score is a percentile."""
    index_name, score = values
    return np.asarray(_word(index_name, "S") | (score >= 0.0))


def _only_with(values: Sequence[Column], _limit: float) -> Mask:
    """Where the last value is missing, so are all others."""
    *others, condition = values
    return np.asarray(~pd.isna(condition) | np.logical_and.reduce([pd.isna(value) for value in others]))


def _one_of_two(values: Sequence[Column], _limit: float) -> Mask:
    """Either a value or a reason, never both, never neither."""
    value, reason = values
    return np.asarray(pd.isna(value) == ((reason != "") & ~pd.isna(reason)))


def _agrees_within(values: Sequence[Column], _limit: float) -> Mask:
    """Agreement is said exactly where the difference, rounded to a millionth of its tolerance, is below it."""
    difference, tolerance, agrees = values
    return np.asarray((np.rint(difference / tolerance * 1e6) < 1e6) == agrees.astype(bool))


def _skilled(values: Sequence[Column], _limit: float) -> Mask:
    """A probability is shown only beside a base rate and with a skill above 0 (METHODOLOGY 4.3)."""
    probability, base_rate, skill = values
    return np.asarray(pd.isna(probability) | (~pd.isna(base_rate) & (skill > 0.0)))


def _shown_from(values: Sequence[Column], limit: float) -> Mask:
    """Fewer than `limit` cases, then no share of them."""
    *shares, cases = values
    return np.asarray((cases >= limit) | np.logical_and.reduce([pd.isna(share) for share in shares]))


def _record_of(values: Sequence[Column], _limit: float) -> Mask:
    """A record in words: it says `no track record` only where there is no precision, and is never empty."""
    words, precision = (pd.Series(value) for value in values)
    said = words.astype("string").fillna("")
    return np.asarray((said != "") & ~(said.str.startswith(NO_RECORD) & precision.notna()), dtype=np.bool_)


def _reasoned(values: Sequence[Column], _limit: float) -> Mask:
    """A missing value says why."""
    value, reason = values
    return np.asarray(~pd.isna(value) | ((reason != "") & ~pd.isna(reason)))


#: name -> (values of the check's columns, limit) -> True where the law holds. A NaN that is no null arrives as +inf.
LAWS: Final[dict[str, Callable[[Sequence[Column], float], Mask]]] = {
    "any_given": _any_given,
    "all_given": _all_given,
    "all_finite": _all_finite,
    "not_above": _not_above,
    "sums_to_one": _sums_to_one,
    "ratio_within": _ratio_within,
    "not_before": _not_before,
    "day_of": _day_of,
    "on_grid": _on_grid,
    "withheld": _withheld,
    "null_together": _null_together,
    "band_of": _band_of,
    "contribution_of": _contribution_of,
    "component_of": _component_of,
    "oriented": _oriented,
    "only_with": _only_with,
    "one_of_two": _one_of_two,
    "agrees_within": _agrees_within,
    "skilled": _skilled,
    "shown_from": _shown_from,
    "record_of": _record_of,
    "reasoned": _reasoned,
}


def holds(kind: str, limit: float, frame: pd.DataFrame) -> Mask:
    """The law over a frame whose columns are the law's arguments, in order."""
    values = [frame.iloc[:, number].array for number in range(frame.shape[1])]
    values = [value if isinstance(value, pd.Categorical) else np.asarray(value) for value in values]
    with np.errstate(invalid="ignore", over="ignore"):
        return LAWS[kind](values, limit)


def _law(code: str, kind: str, columns: tuple[str, ...], severity: Severity, meaning: str, *, nulls: bool, limit: float = 0.0) -> Check:
    skip: Literal["any_value_is_missing", "never"] = "never" if nulls else "any_value_is_missing"
    return Check(code, kind, columns, severity, "EXPECTATION", meaning, limit=limit, skip=skip)


PARTICULAR: Final[dict[str, tuple[Check, ...]]] = {
    "candles": (
        _law("OPEN_ABOVE_HIGH", "not_above", ("open_usd", "high_usd"), "warning", "open <= high", nulls=False),
        _law("OPEN_BELOW_LOW", "not_above", ("low_usd", "open_usd"), "warning", "low <= open", nulls=False),
    ),
    "agreement": (
        _law(
            "AGREES_OFF_TOLERANCE",
            "agrees_within",
            ("difference", "tolerance", "agrees"),
            "critical",
            "two voices agree exactly where their difference is below its tolerance",
            nulls=True,
        ),
    ),
    "open_interest": (
        _law(
            "NO_OPEN_INTEREST",
            "any_given",
            ("open_interest_base", "open_interest_usd"),
            "critical",
            "open interest is given in coins, in USD or both",
            nulls=True,
        ),
    ),
    "option_chain": (
        _law(
            "NO_INDEX_PRICE",
            "all_given",
            ("underlying_usd", "index_usd"),
            "critical",
            "an option states its forward and its index",
            nulls=True,
        ),
    ),
    "forced_trades": (
        _law("NO_PRICE", "all_given", ("price_usd", "amount_base"), "critical", "a forced order states price and amount", nulls=True),
    ),
    "features": (
        _law("MISSING_WITHOUT_REASON", "reasoned", ("feature_value", "reason"), "warning", "no value, then a reason", nulls=True),
    ),
    "contributions": (
        _law(
            "CONTRIBUTION_OFF_FORMULA",
            "contribution_of",
            ("contribution", "index_name", "asset", "component", "weight", "sign", "score", "stale_factor"),
            "critical",
            "contribution = 50 weight sign score stale_factor in S, 100 weight (0.5 + (score - 0.5) stale_factor) in F and X",
            nulls=True,
            limit=1e-9,
        ),
        _law(
            "COMPONENT_OFF_INDEX",
            "component_of",
            ("index_name", "asset", "component"),
            "critical",
            "component is one of its index's; MKT is made of assets",
            nulls=True,
        ),
        _law("PERCENTILE_BELOW_ZERO", "oriented", ("index_name", "score"), "critical", "0 <= score in F and X", nulls=False),
        _law("MISSING_WITHOUT_REASON", "reasoned", ("score", "reason"), "warning", "no score, then a reason", nulls=True),
    ),
    "readings": (
        _law("WITHHELD_OFF_S", "withheld", ("status", "s"), "critical", "withheld exactly when s is null", nulls=True),
        _law("BAND_WITHOUT_S", "null_together", ("band", "s"), "critical", "a band exactly when there is an s", nulls=True),
        _law("BAND_OFF_S", "band_of", ("band", "s"), "critical", "s lies in its band", nulls=False, limit=1e-6),
        _law("WITHHELD_WITHOUT_REASON", "reasoned", ("s", "reason"), "critical", "no s, then a reason", nulls=True),
        _law("F_WITHOUT_REASON", "reasoned", ("f", "reason"), "critical", "no f, then a reason", nulls=True),
        _law("X_WITHOUT_REASON", "reasoned", ("x", "reason"), "critical", "no x, then a reason", nulls=True),
        _law(
            "VARIANT_WITHOUT_S",
            "only_with",
            ("s_ex", "s_pct", "s_erc", "s_pca", "s_ic", "s"),
            "critical",
            "no s, then no variant of it",
            nulls=True,
        ),
        _law("VARIANT_WITHOUT_F", "only_with", ("f_ciss", "f"), "critical", "no f, then no variant of it", nulls=True),
        _law("CROWDED_WITHOUT_F", "only_with", ("crowded_side", "f"), "critical", "a crowded side only where there is an f", nulls=True),
        _law(
            "REGIME_WITHOUT_START", "null_together", ("regime", "regime_since"), "critical", "a regime has an instant it began", nulls=True
        ),
        _law("REGIME_AFTER_AS_OF", "not_before", ("as_of", "regime_since"), "critical", "regime_since <= as_of", nulls=False),
        _law(
            "PROBABILITY_OR_REASON",
            "one_of_two",
            ("p_cascade_24h", "cascade_reason"),
            "critical",
            "a probability or the reason why there is none, one of the two",
            nulls=True,
        ),
        _law(
            "PROBABILITY_WITHOUT_SKILL",
            "skilled",
            ("p_cascade_24h", "cascade_base_rate", "cascade_skill"),
            "critical",
            "a probability only with its base rate and a skill above 0",
            nulls=True,
        ),
    ),
    "events": (
        _law(
            "SHARE_OF_TOO_FEW",
            "shown_from",
            ("hist_precision", "hist_recall", "hist_base_rate", "n_hist"),
            "critical",
            f"no share of past events below n_hist = {SPEC.events.min_history}",
            nulls=True,
            limit=SPEC.events.min_history,
        ),
        _law(
            "RECORD_OFF_PRECISION",
            "record_of",
            ("track_record", "hist_precision"),
            "critical",
            "the record in words is given, and `no track record` only where there is no precision",
            nulls=True,
        ),
    ),
}

#: Checked on the frame of `additivity`, never on a table.
ADDITIVE: Final = Check(
    "CONTRIBUTIONS_DO_NOT_ADD_UP",
    "within",
    ("gap",),
    "critical",
    "EXPECTATION",
    "contributions of one (asset, cadence, as_of) add up within 1e-9: S to s - 50, F to f, X to x",
    minimum=0.0,
    maximum=1e-9,
)
#: What is left when nothing contributes, by index.
_ORIGIN: Final = {"S": 50.0, "F": 0.0, "X": 0.0}
_MOMENT: Final = ["asset", "cadence", "as_of"]


def additivity(contributions: pd.DataFrame, readings: pd.DataFrame) -> pd.DataFrame:
    """One row per (asset, cadence, as_of, index_name): date, `total` of the contributions, `explained` = s - 50, f or x, and their `gap`.

    The gap, in points, is 0 where the number is withheld (there is nothing to explain) and infinite where either side is missing or not a
    number.
    """
    left = contributions[[*_MOMENT, "date", "index_name", "contribution"]]
    left = left.astype({"asset": object, "cadence": object, "index_name": object})
    totals = left.groupby([*_MOMENT, "date", "index_name"], sort=True, as_index=False).agg(total=("contribution", "sum"))
    right = readings[[*_MOMENT, "date"]].astype({"asset": object, "cadence": object})
    numbers = [right.assign(index_name=name, explained=readings[name.lower()].to_numpy() - _ORIGIN[name]) for name in INDICES]
    both = totals.merge(pd.concat(numbers), on=[*_MOMENT, "date", "index_name"], how="outer", indicator="side")
    with np.errstate(invalid="ignore"):
        gap = np.abs(both["total"].to_numpy() - both["explained"].to_numpy())
    withheld = both["explained"].isna().to_numpy() & (both["side"] != "left_only").to_numpy()
    both["gap"] = np.where(withheld, 0.0, np.where(np.isnan(gap), np.inf, gap))
    return both.drop(columns="side")
