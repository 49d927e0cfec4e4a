"""Running events over paths written by hand."""

from __future__ import annotations

import numpy as np

from transforms.estimators import DAY_US, HOUR_US
from transforms.index import events
from transforms.index.event_types import EVENT_TYPES
from transforms.index.regimes import REGIMES
from transforms.rules import CascadeRule, EventRule

RULE, CASCADE = EventRule(), CascadeRule()
NAMES = [kind.name for kind in EVENT_TYPES]
#: a multiple of 14 d: control windows of every horizon open here
T0 = 1400 * 14 * DAY_US
NAN = float("nan")
CODE = {name: REGIMES.index(name) for name in REGIMES}


def ran(inputs, *, assets=1, rule=RULE, step_h=1.0):
    """Rows of a run over inputs given as lists (one asset) or arrays."""
    arrays = {name: np.atleast_2d(np.array(values, dtype=float)) for name, values in inputs.items()}
    bars = next(iter(arrays.values())).shape[1]
    when = T0 + np.arange(bars) * round(step_h) * HOUR_US
    return events.run(arrays, when, events.start(assets, rule, step_h, CASCADE), rule, step_h, CASCADE)[0]


def raised(inputs, name, **how):
    """(bar, side) of the events of one type."""
    rows = ran(inputs, **how)
    own = rows["type"] == NAMES.index(name)
    return list(zip(rows["bar"][own].tolist(), rows["side"][own].tolist(), strict=True))
