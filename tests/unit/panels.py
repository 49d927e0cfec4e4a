"""Small panels made by hand: rows of core tables at hours (or days) 1, 2, ... after T0, and the panel over them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tests.property.synthetic import core_table, micros
from transforms.estimators import HOUR_US
from transforms.features import FEATURES
from transforms.features.panel import Panel
from transforms.spec import SPEC
from transforms.windows import utc

START = utc("2023-05-01")
T0 = micros("2023-05-01")
WHO = {"asset": "BTC", "instrument": "BTCUSDT"}
STEP_H = {"1h": 1, "1d": 24}
SOURCE = {"1h": "binance", "1d": "coinalyze"}
UNTOLD = {"open_usd": None, "high_usd": None, "low_usd": None, "trades": None, "taker_buy_base": None}


def panel_of(core, bars, cadence="1h", spec=SPEC, assets=None):
    """A panel whose window is the given number of bars after T0."""
    rule = spec.cadence(cadence)
    return Panel(core, start=START, window_start=START, end=START + bars * rule.step, rule=rule, spec=spec, assets=assets)


def stamps(count, cadence="1h"):
    """The first bars after T0."""
    return T0 + np.arange(1, count + 1) * STEP_H[cadence] * HOUR_US


def interest(values, *, usd=None, unit="base", hours=None, cadence="1h", **who):
    """Open interest at bars 1, 2, ..., or at `hours`; None = no row. `usd`: stated value, else the amount itself; NaN = not stated."""
    at = hours or [STEP_H[cadence] * (n + 1) for n in range(len(values))]
    kept = [n for n, value in enumerate(values) if value is not None]
    native = np.array([values[n] for n in kept], dtype=float)
    stated = native if usd is None else np.array([usd[n] for n in kept], dtype=float)
    return core_table(
        "open_interest",
        T0 + np.array([at[n] for n in kept]) * HOUR_US,
        open_interest_native=native,
        native_unit=unit,
        oi_sides=1,
        open_interest_base=native,
        open_interest_usd=stated,
        **{**WHO, "source": SOURCE[cadence], **who},
    )


def candles(close, *, cadence="1h", volume=1.0, **who):
    """Candles that end at bars 1, 2, ..."""
    close = np.asarray(close, dtype=float)
    given = {**UNTOLD, **WHO, "source": SOURCE[cadence], "interval_h": float(STEP_H[cadence]), "volume_base": volume, **who}
    return core_table("candles", stamps(len(close), cadence), close_usd=close, **given)


def settled(rates, hours, *, interval_h=None, **who):
    """Funding paid at these hours after T0."""
    at = T0 + np.round(np.asarray(hours) * HOUR_US).astype(np.int64)
    return core_table("funding", at, funding_rate=rates, funding_kind="settlement", funding_interval_h=interval_h, **{**WHO, **who})


def together(*cores):
    """Tables of several cores side by side."""
    return {name: pa.concat_tables([core[name] for core in cores if name in core]) for core in cores for name in core}


def value(panel, feature):
    """A feature of the first asset, (bars,)."""
    return FEATURES[feature].compute(panel).value[0]


def quantity(panel):
    """Q of the first asset at each bar, from 1 at the first."""
    return np.exp(np.nancumsum(panel.links[0]))
