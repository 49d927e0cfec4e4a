"""The peer of the features: the same definitions as a competent quant writes them in pandas, wide frames, `rolling`, `ewm`, `diff`.

It assumes what the bench's tables give it: one contract per asset, no restatements, a regular grid. It keeps no ages, reasons, held
scores or confidence. The weighted, strictly past rank has no counterpart in pandas; it is a numpy loop over bars, vectorised over
history and assets. `rolling().rank()`, what pandas offers instead, is timed beside it and gives another number.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from transforms.spec import Constituent, Spec

Wide = pd.DataFrame
BARS_A_YEAR = 8760.0


def wide(frame: pd.DataFrame, column: str, grid: pd.DatetimeIndex) -> Wide:
    """One column as (grid, assets)."""
    return frame.pivot_table(index="as_of", columns="asset", values=column, aggfunc="last").reindex(grid)


def features(core: Mapping[str, pa.Table], grid: pd.DatetimeIndex, step_h: float, spec: Spec) -> dict[str, Wide]:
    """Every feature of the cadence that its tables allow."""
    rule = spec.features
    frames = {name: table.to_pandas() for name, table in core.items()}

    def bars(hours: float) -> int:
        return max(1, round(hours / step_h))

    def least(count: int) -> int:
        return max(1, int(np.ceil(rule.min_coverage * count)))

    interest, candles = frames["open_interest"], frames["candles"]
    base, stated = wide(interest, "open_interest_base", grid), wide(interest, "open_interest_usd", grid)
    close = wide(candles, "close_usd", grid)
    usd = stated.reindex_like(base).fillna(base * close)
    link = np.log(wide(interest, "open_interest_native", grid)).diff()
    log_price = np.log(close)
    step_return = log_price.diff()

    found: dict[str, Wide] = {"oi_link": link, "oi_usd": usd}
    for hours in rule.oi_change_h:
        found[f"oi_change_{hours:.0f}h"] = link.rolling(bars(hours), min_periods=least(bars(hours))).sum()
    level = link.fillna(0.0).cumsum()
    span = bars(rule.oi_drawdown_d * 24)
    highest = level.rolling(span + 1, min_periods=1).max()
    known = link.rolling(span, min_periods=1).count() >= least(span)
    found["oi_drawdown_90d"] = (1.0 - np.exp(level - highest)).where(known)
    found["conviction"] = np.sign(log_price.diff(bars(rule.conviction_h))) * found["oi_change_24h"].clip(lower=0.0)

    month = bars(rule.sigma_d * 24)
    sigma = np.sqrt((step_return**2).rolling(month, min_periods=least(month)).mean() / step_h)
    found["sigma_h"] = sigma
    found["realised_volatility_30d"] = sigma * np.sqrt(BARS_A_YEAR)
    if step_h < 24:
        day = bars(24)
        found["realised_volatility_24h"] = np.sqrt((step_return**2).rolling(day, min_periods=least(day)).mean() / step_h * BARS_A_YEAR)
    for days in rule.momentum_d:
        found[f"momentum_{days:.0f}d"] = log_price.diff(bars(days * 24)) / (sigma * np.sqrt(days * 24))
    found["momentum"] = sum(found[f"momentum_{days:.0f}d"] for days in rule.momentum_d) / len(rule.momentum_d)

    paid = frames["funding"][frames["funding"]["funding_kind"] == "settlement"].copy()
    paid["as_of"] = paid["as_of"].dt.round("s")
    rates = paid.pivot_table(index="as_of", columns="asset", values="funding_rate", aggfunc="last")
    found["funding_last_annual"] = rates.reindex(grid, method="ffill") * (BARS_A_YEAR / 8.0)
    funding = found["funding_last_annual"]
    if step_h < 24:  # the interval of the first settlement is unknown
        found["funding_realised_annual"] = rates.iloc[1:].rolling("24h", min_periods=3).sum().reindex(grid, method="ffill") * 365.0
        funding = found["funding_realised_annual"]
    found["funding_excess_annual"] = (funding - rule.funding_anchors[0][1]).round(12)

    splits = frames["long_short"]
    for name, metric in (("long_short_accounts_log", "global_account"), ("long_short_top_positions_log", "top_position")):
        rows = splits[splits["ratio_metric"] == metric]
        if len(rows):
            found[name] = np.log(wide(rows, "long_share", grid) / wide(rows, "short_share", grid))

    buy, volume = wide(candles, "taker_buy_base", grid), wide(candles, "volume_base", grid)
    if buy.notna().any(axis=None):
        found["taker_imbalance_8h"] = ((2.0 * buy - volume) / volume).ewm(halflife=rule.taker_half_life_h / step_h).mean()
    if "liquidations" in frames:
        long, short = (wide(frames["liquidations"], f"{side}_liquidated_base", grid) for side in ("long", "short"))
        found["liquidation_intensity_h"] = (long + short) / base / step_h
        forced = (long + short) * close
        found["liquidation_imbalance_24h"] = ((long - short) / (long + short)).where(forced >= rule.liquidation_gate_usd)

    supply = frames["stablecoin_supply"].set_index("known_at")["circulating_usd"].sort_index()
    for days in rule.supply_growth_d:
        growth = np.log(supply / supply.shift(int(days))).reindex(grid, method="ffill")
        found[f"stablecoin_growth_{days:.0f}d"] = pd.DataFrame(dict.fromkeys(base.columns, growth), index=grid)
    return found


def scores(values: Wide, one: Constituent, spec: Spec, step_h: float, every_h: float) -> Wide:
    """Weighted, strictly past mid-rank of each value in [-1, 1] (METHODOLOGY 3.1): a loop over bars, all history and assets at once."""
    rule = spec.score
    x = values.to_numpy()
    sizes = np.abs(x) if one.norm == "anchored" else x
    hours = (values.index - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(hours=1)
    reference = np.flatnonzero(hours % every_h == 0)
    window, half_life = round(rule.window_d * 24 / step_h), rule.half_life_d * 24 / step_h
    decay = 0.5 ** (np.arange(len(x) + 1) / half_life)
    found = np.full(x.shape, np.nan)
    for t in range(len(x)):
        at = reference[np.searchsorted(reference, t - window, "right") : np.searchsorted(reference, t, "left")]
        past = sizes[at]
        known = ~np.isnan(past)
        weights = decay[t - at][:, None] * known
        total = weights.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            rank = (weights * (past < sizes[t]) + 0.5 * weights * (past == sizes[t])).sum(axis=0) / total
        rank[known.sum(axis=0) * every_h / 24 < rule.min_history_d] = np.nan
        found[t] = rank if one.norm == "anchored" else 2.0 * rank - 1.0
    if one.norm == "anchored":
        found *= np.sign(x)
        if one.floor:
            found *= np.minimum(1.0, sizes / one.floor)
    found[np.isnan(x)] = np.nan
    return pd.DataFrame(found, index=values.index, columns=values.columns)


def rolling_ranks(values: Wide, spec: Spec, step_h: float) -> Wide:
    """What pandas offers instead: unweighted, the present value among its own history, every bar a reference."""
    return (
        2.0
        * values.rolling(round(spec.score.window_d * 24 / step_h), min_periods=round(spec.score.min_history_d * 24 / step_h)).rank(pct=True)
        - 1.0
    )


def tidy(parts: Mapping[str, Wide], name: str) -> pd.DataFrame:
    """Long form: as_of, asset, feature, value."""
    melted = {feature: frame.melt(ignore_index=False, var_name="asset", value_name=name) for feature, frame in parts.items()}
    long = pd.concat(melted, names=["feature", "as_of"]).reset_index()
    return long.sort_values(["asset", "as_of", "feature"], ignore_index=True)


def index(core: Mapping[str, pa.Table], grid: pd.DatetimeIndex, cadence: str, spec: Spec) -> dict[str, pd.DataFrame]:
    """Features, contributions and S, in long form."""
    rule, weights = spec.cadence(cadence), spec.weights(cadence)
    measured = features(core, grid, rule.step_h, spec)
    parts = {}
    for one in spec.active(cadence):
        if one.feature in measured:
            score = scores(measured[one.feature], one, spec, rule.step_h, rule.reference_step_h)
            parts[one.feature] = 50.0 * weights[one.feature] * one.sign * score.fillna(0.0)
    total = 50.0 + sum(parts.values())
    return {"features": tidy(measured, "feature_value"), "contributions": tidy(parts, "contribution"), "sentiment": tidy({"s": total}, "s")}
