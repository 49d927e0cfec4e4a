"""Positioning (PO.*): how accounts and top traders are split between long and short.

Account ratios count heads, structurally above 0 on retail venues, so they are scored against their own history (METHODOLOGY 2.3).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np
import pyarrow.compute as pc

from transforms import asof, estimators
from transforms.features.contract import Feature, Measured, measured, named
from transforms.features.panel import Panel
from transforms.rules import CadenceRule
from transforms.spec import Spec

_READS: Final = frozenset({"long_short", "open_interest", "candles"})


def _log_ratio(panel: Panel, metric: str) -> Measured:
    """`_measured_ratio`, read once a metric."""
    return panel.once(f"ratio {metric}", lambda: _measured_ratio(panel, metric))


def _measured_ratio(panel: Panel, metric: str) -> Measured:
    """ln(long / short) of one metric. A split with an empty side has no logarithm and counts as not received."""
    table = panel.own("long_short")
    table = table.filter(pc.equal(table.column("ratio_metric"), metric))
    long, short = asof.floats(table.column("long_share")), asof.floats(table.column("short_share"))
    usable = np.isfinite(long) & np.isfinite(short) & (long > 0) & (short > 0)
    rows = panel.tracks("long_short", table, {"ratio": estimators.logs(long / np.where(usable, short, np.nan))}, usable)
    shown = panel.sample(rows, panel.rule.carry_h)
    return measured(panel.means(panel.level(rows, "ratio", shown)), panel.youngest(panel.age(rows, shown)))


def _large_against_crowd(panel: Panel) -> Measured:
    large, crowd = _log_ratio(panel, "top_position"), _log_ratio(panel, "global_account")
    return measured(large.value - crowd.value, np.fmax(large.age_h, crowd.age_h))


def _span(_spec: Spec, rule: CadenceRule) -> timedelta:
    return timedelta(hours=rule.carry_h) + 2 * rule.step


FEATURES: Final = named(
    Feature(
        "long_short_accounts_log",
        "PO.1",
        "log",
        "ln(long accounts / short accounts), all accounts, weighted by open interest",
        _READS,
        _span,
        lambda panel: _log_ratio(panel, "global_account"),
    ),
    Feature(
        "long_short_top_accounts_log",
        "PO.2",
        "log",
        "ln(long accounts / short accounts) of top traders, weighted by open interest",
        _READS,
        _span,
        lambda panel: _log_ratio(panel, "top_account"),
    ),
    Feature(
        "large_against_crowd_log",
        "PO.3",
        "log",
        "long_short_top_positions_log - long_short_accounts_log: positive = large traders are longer than the crowd (tested, in no index)",
        _READS,
        _span,
        _large_against_crowd,
    ),
    Feature(
        "long_short_top_positions_log",
        "PO.2",
        "log",
        "ln(long positions / short positions) of top traders, weighted by open interest",
        _READS,
        _span,
        lambda panel: _log_ratio(panel, "top_position"),
    ),
)
