"""The peer's features: the same definitions as a competent quant writes them in pandas, wide frames, `rolling`, `ewm`, `diff`, `groupby`.

It keeps no ages and no reasons, and leaves out the cohort book and options.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tests.bench.plain_panel import SERIES, PlainPanel, Wide, by_asset, to_series

HOURS_A_YEAR = 8760.0
#: what the cohort book and option chains bring
LEFT_OUT = ("the cohort book", "options")


def features(panel: PlainPanel) -> dict[str, Wide]:
    """Every feature of the cadence that the panel's tables allow, (bars, assets) each."""
    found = interest(panel)
    found |= price(panel)
    found |= funding(panel)
    found |= flow(panel)
    found["conviction"] = np.sign(panel.returns(panel.bars(panel.spec.features.conviction_h))) * found["oi_change_24h"].clip(lower=0.0)
    found["oi_composition_24h"] = found["oi_usd_change_24h"] - found["oi_change_24h"] - found["return_24h"]
    if "liquidations" in panel.frames:
        found |= liquidations(panel, found["oi_change_24h"])
    if "stablecoin_supply" in panel.frames:
        found |= supply(panel, found["oi_usd"].columns)
    return found


def interest(panel: PlainPanel) -> dict[str, Wide]:
    """Open interest: the quantity index and what is read from it."""
    rule, link, usd = panel.spec.features, panel.link, panel.usd
    found = {"oi_link": link, "oi_usd": by_asset(usd)}
    for hours in rule.oi_change_h[1:]:
        count = panel.bars(hours)
        found[f"oi_change_{hours:.0f}h"] = link.rolling(count, min_periods=panel.least(count)).sum()
    level = log_quantity(panel)
    span = panel.bars(rule.oi_drawdown_d * 24)
    highest = level.shift(1, fill_value=0.0).rolling(span, min_periods=1).max().clip(lower=level)
    known = link.rolling(span, min_periods=1).count() >= panel.least(span)
    found["oi_drawdown_90d"] = (1.0 - np.exp(level - highest)).where(known)
    span, warm = panel.bars(rule.oi_level_d * 24), panel.bars(panel.spec.score.min_history_d * 24)
    known = link.rolling(span, min_periods=1).count() >= panel.least(warm)
    found["oi_level_180d"] = (level - level.rolling(span, min_periods=1).mean()).where(known)
    found["oi_usd_change_24h"] = np.log(by_asset(usd)).diff(panel.bars(24))
    found["oi_quality"] = panel.means(panel.quality.where(usd.notna()))
    venues = usd.T.groupby(level=SERIES).sum(min_count=1).T
    found["oi_venue_concentration"] = by_asset((venues / to_series(by_asset(usd), venues.columns)) ** 2)
    day = panel.bars(24)
    traded = (panel.traded["volume_base"] * panel.price).rolling(day, min_periods=panel.least(day)).sum()
    volume = by_asset(traded.where(usd.notna()))
    found["oi_thinness"] = np.log(by_asset(usd.where(traded.notna())) / volume.where(volume > 0))
    return found


def log_quantity(panel: PlainPanel) -> Wide:
    """Ln Q from the first bar on."""
    return panel.link.fillna(0.0).cumsum()


def price(panel: PlainPanel) -> dict[str, Wide]:
    """Trend and volatility."""
    rule, step_h = panel.spec.features, panel.step_h
    step = panel.returns(1)
    month, day = panel.bars(rule.sigma_d * 24), panel.bars(24)
    sigma = np.sqrt((step**2).rolling(month, min_periods=panel.least(month)).mean() / step_h)
    short = np.sqrt((step**2).rolling(day, min_periods=panel.least(day)).mean() / step_h)
    found = {"sigma_h": sigma, "realised_volatility_30d": sigma * np.sqrt(HOURS_A_YEAR)}
    if step_h < 24:
        found["realised_volatility_24h"] = short * np.sqrt(HOURS_A_YEAR)
    ratio = short / sigma.where(sigma > 0)
    found["volatility_surprise"] = np.log(ratio.where(ratio > 0))
    found["return_24h"] = panel.returns(day)
    for days in rule.momentum_d:
        found[f"momentum_{days:.0f}d"] = panel.returns(panel.bars(days * 24)) / (sigma.where(sigma > 0) * np.sqrt(days * 24))
    found["momentum"] = sum(found[f"momentum_{days:.0f}d"] for days in rule.momentum_d) / len(rule.momentum_d)
    span = panel.bars(rule.distance_d * 24)
    level = step.fillna(0.0).cumsum()
    known = step.rolling(span, min_periods=1).count() >= panel.least(span)
    found["price_distance_200d"] = (level - level.rolling(span, min_periods=1).mean()).where(known)
    return found


def funding(panel: PlainPanel) -> dict[str, Wide]:
    """What longs pay shorts, p.a., and what they would without the clamp."""
    rules = panel.spec.features
    anchor = rules.funding_anchors[0][1]
    last, realised = panel.settlements()
    found = {"funding_last_annual": panel.means(last)}
    if panel.rule.funding_feature == "funding_realised_annual":
        found["funding_realised_annual"] = panel.means(realised)
    found["funding_excess_annual"] = (found[panel.rule.funding_feature] - anchor).round(12)
    weights, held = panel.weighed(last)
    used = weights > 0
    mean = to_series(by_asset((weights * held).where(used)), panel.series)
    spread = np.sqrt(by_asset((weights * (held - mean) ** 2).where(used)))
    found["funding_dispersion_annual"] = spread.where(by_asset(used.astype(float)) > 1)
    if "premiums" in panel.frames:
        rows = panel.frames["premiums"]
        sample = panel.sampled(rows[rows["interval_h"] <= panel.step_h], ["premium_share"], panel.rule.carry_h)
        annual = sample.values["premium_share"] * (HOURS_A_YEAR / 8.0)
        calm = annual.mask(panel.aside(annual, panel.spec.outliers.funding_tick))
        smooth = panel.smooth(calm, rules.premium_half_life_h).where(sample.age_h.notna())
        found["premium_excess_annual"] = (panel.means(smooth) - anchor).round(12)
    return found


def flow(panel: PlainPanel) -> dict[str, Wide]:
    """Who crosses the spread, and how accounts and positions are split."""
    found = {}
    buy, sell = (by_asset(panel.traded[f"taker_{side}_base"] * panel.price) for side in ("buy", "sell"))
    both = buy + sell
    if both.notna().any(axis=None):
        imbalance = (buy - sell) / both.where(both > 0)
        found["taker_imbalance_8h"] = panel.smooth(imbalance, panel.spec.features.taker_half_life_h)
    splits = panel.frames["long_short"]
    names = {
        "global_account": "long_short_accounts_log",
        "top_account": "long_short_top_accounts_log",
        "top_position": "long_short_top_positions_log",
    }
    for metric, name in names.items():
        rows = splits[splits["ratio_metric"] == metric]
        if len(rows):
            sample = panel.sampled(rows, ["long_share", "short_share"], panel.rule.carry_h)
            found[name] = panel.means(np.log(sample.values["long_share"] / sample.values["short_share"]))
    if {"long_short_top_positions_log", "long_short_accounts_log"} <= found.keys():
        found["large_against_crowd_log"] = found["long_short_top_positions_log"] - found["long_short_accounts_log"]
    return found


def liquidations(panel: PlainPanel, oi_change_24h: Wide) -> dict[str, Wide]:
    """Liquidated volume, rows of the grid's own step."""
    rules, rows = panel.spec.features, panel.frames["liquidations"]
    sample = panel.sampled(rows[rows["interval_h"] == panel.step_h], ["long_liquidated_base", "short_liquidated_base"], 0.0)
    long, short = (sample.values[f"{side}_liquidated_base"] * panel.price for side in ("long", "short"))
    usd = by_asset(panel.usd.where(long.notna()))
    intensity = by_asset((long + short).where(panel.usd.notna())) / usd / panel.step_h
    found = {"liquidation_intensity_h": intensity, "liquidation_intensity_3h": panel.smooth(intensity, rules.intensity_half_life_h)}
    day = panel.bars(rules.liquidation_window_h)
    longs, shorts = (by_asset(one).rolling(day, min_periods=panel.least(day)).sum() for one in (long, short))
    enough = longs + shorts >= rules.liquidation_gate_usd
    found["liquidation_imbalance_24h"] = (longs - shorts) / (longs + shorts).where(enough)
    lost = usd.shift(day) * (1.0 - np.exp(oi_change_24h))
    found["forced_share_24h"] = (longs + shorts) / lost.where(lost > 0)
    return found


def supply(panel: PlainPanel, assets: pd.Index) -> dict[str, Wide]:
    """Growth of the total supply of stablecoins: the same for every asset."""
    rows = panel.frames["stablecoin_supply"]
    total = rows[rows["stablecoin"] == "ALL"].sort_values("as_of").set_index("seen")["circulating_usd"]
    rates = {
        f"stablecoin_growth_{days:.0f}d": np.log(total / total.shift(int(days))) for days in panel.spec.features.supply_growth_d
    } | {"stablecoin_issuance_usd_24h": total.diff()}
    shown = {name: rate.reindex(panel.grid, method="ffill") for name, rate in rates.items()}
    return {name: pd.DataFrame(dict.fromkeys(assets, rate), index=panel.grid) for name, rate in shown.items()}
