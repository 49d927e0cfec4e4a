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

from transforms.vocabulary import BANDS
from transforms.windows import CADENCES

Severity = Literal["critical", "warning", "info"]
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


def _contribution_of(values: Sequence[Column], limit: float) -> Mask:
    """`c = 50 * weight * sign * score * stale_factor`, 0 without a score (METHODOLOGY 4.1, 3.3)."""
    contribution, weight, sign, score, stale_factor = values
    expected = np.where(pd.isna(score), 0.0, 50.0 * weight * sign * score * stale_factor)
    return np.asarray(np.abs(contribution - expected) <= limit)


def _reasoned(values: Sequence[Column], _limit: float) -> Mask:
    """A missing value says why."""
    value, reason = values
    return np.asarray(~pd.isna(value) | ((reason != "") & ~pd.isna(reason)))


#: name -> (values of the check's columns, limit) -> True where the law holds. A NaN that is no null arrives as +inf.
LAWS: Final[dict[str, Callable[[Sequence[Column], float], Mask]]] = {
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
    "features": (
        _law("MISSING_WITHOUT_REASON", "reasoned", ("feature_value", "reason"), "warning", "no value, then a reason", nulls=True),
    ),
    "contributions": (
        _law(
            "CONTRIBUTION_OFF_FORMULA",
            "contribution_of",
            ("contribution", "weight", "sign", "score", "stale_factor"),
            "critical",
            "contribution = 50 weight sign score stale_factor; 0 without a score",
            nulls=True,
            limit=1e-9,
        ),
        _law("MISSING_WITHOUT_REASON", "reasoned", ("score", "reason"), "warning", "no score, then a reason", nulls=True),
    ),
    "sentiment": (
        _law("WITHHELD_OFF_S", "withheld", ("status", "s"), "critical", "withheld exactly when s is null", nulls=True),
        _law("BAND_WITHOUT_S", "null_together", ("band", "s"), "critical", "a band exactly when there is an s", nulls=True),
        _law("BAND_OFF_S", "band_of", ("band", "s"), "critical", "s lies in its band", nulls=False, limit=1e-6),
        _law("WITHHELD_WITHOUT_REASON", "reasoned", ("s", "reason"), "critical", "no s, then a reason", nulls=True),
    ),
}

#: Checked on the frame of `additivity`, never on a table.
ADDITIVE: Final = Check(
    "CONTRIBUTIONS_DO_NOT_ADD_UP",
    "within",
    ("gap",),
    "critical",
    "EXPECTATION",
    "contributions of one (asset, cadence, as_of) add up to s - 50 within 1e-9",
    minimum=0.0,
    maximum=1e-9,
)
_MOMENT: Final = ["asset", "cadence", "as_of"]


def additivity(contributions: pd.DataFrame, sentiment: pd.DataFrame) -> pd.DataFrame:
    """One row per (asset, cadence, as_of): date, `total` of the contributions, `s`, and `gap` = |total - (s - 50)| in points.

    The gap is 0 where s is withheld (there is nothing to explain) and infinite where either side is missing or not a number.
    """
    left = contributions[[*_MOMENT, "date", "contribution"]].astype({"asset": object, "cadence": object})
    right = sentiment[[*_MOMENT, "date", "s"]].astype({"asset": object, "cadence": object})
    totals = left.groupby([*_MOMENT, "date"], sort=True, as_index=False).agg(total=("contribution", "sum"))
    both = totals.merge(right, on=[*_MOMENT, "date"], how="outer", indicator="side")
    with np.errstate(invalid="ignore"):
        gap = np.abs(both["total"].to_numpy() - (both["s"].to_numpy() - 50.0))
    withheld = both["s"].isna().to_numpy() & (both["side"] != "left_only").to_numpy()
    both["gap"] = np.where(withheld, 0.0, np.where(np.isnan(gap), np.inf, gap))
    return both.drop(columns="side")
