"""The peer's features: the same definitions as a competent quant writes them in pandas, wide frames, `rolling`, `ewm`, `diff`, `groupby`.

It keeps no reasons, and leaves out the cohort book and options.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tests.bench.plain_panel import HOUR, SERIES, PlainPanel, Wide, by_asset, to_series

#: a feature and its age in h
Aged = tuple[Wide, Wide]

HOURS_A_YEAR = 8760.0


def features(panel: PlainPanel) -> tuple[dict[str, Wide], dict[str, Wide]]:
    """Every feature of the cadence that the panel's tables allow, (bars, assets) each, and the hours since the newest input of it."""
    oi_age, price_age = by_asset(panel.interest.age_h, "min"), by_asset(panel.priced.age_h, "min")
    found, prices = interest(panel), price(panel)
    found["oi_composition_24h"] = found["oi_usd_change_24h"] - found["oi_change_24h"] - prices["return_24h"]
    ages = dict.fromkeys(found, oi_age) | dict.fromkeys(prices, price_age)
    found |= prices
    found["conviction"] = np.sign(panel.returns(panel.bars(panel.spec.features.conviction_h))) * found["oi_change_24h"].clip(lower=0.0)
    ages["conviction"] = oi_age.where(~(price_age > oi_age), price_age)
    for part in (funding(panel), flow(panel), liquidations(panel, found["oi_change_24h"]), supply(panel, oi_age.columns)):
        found |= {name: value for name, (value, _) in part.items()}
        ages |= {name: age for name, (_, age) in part.items()}
    return found, ages


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
    found["oi_level_180d"] = above_mean(link, span, panel.least(warm))
    found["oi_usd_change_24h"] = np.log(by_asset(usd)).diff(panel.bars(24))
    found["oi_quality"] = by_asset(usd * panel.quality) / by_asset(usd)
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


def above_mean(steps: Wide, span: int, least: int) -> Wide:
    """The running sum of the steps less its mean over the last `span` bars, from the first known step among them on."""
    level, known = steps.fillna(0.0).cumsum(), steps.notna()
    bars = np.arange(len(steps))
    at = pd.DataFrame(np.broadcast_to(bars[:, None], steps.shape), index=steps.index, columns=steps.columns)
    first = at.where(known).bfill().to_numpy()[np.maximum(0, bars + 1 - span)]  # of the window that ends at each bar
    sums = np.vstack([np.zeros(steps.shape[1]), level.cumsum().to_numpy()])
    before = np.take_along_axis(sums, np.nan_to_num(first, nan=0.0).astype(int), axis=0)
    held = bars[:, None] + 1 - first
    found = level - (sums[1:] - before) / np.where(held > 0, held, np.nan)
    return found.where(known.rolling(span, min_periods=1).sum() >= least)


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
    found["price_distance_200d"] = above_mean(step, span, panel.least(span))
    return found


def funding(panel: PlainPanel) -> dict[str, Aged]:
    """What longs pay shorts, p.a., and what they would without the clamp."""
    rules = panel.spec.features
    anchor = rules.funding_anchors[0][1]
    last, realised, age = panel.settlements()
    found = {"funding_last_annual": panel.means(last)}
    if panel.rule.funding_feature == "funding_realised_annual":
        found["funding_realised_annual"] = panel.means(realised)
    found["funding_excess_annual"] = (found[panel.rule.funding_feature] - anchor).round(12)
    weights, held = panel.weighed(last)
    used = weights > 0
    mean = to_series(by_asset((weights * held).where(used)), panel.series)
    spread = np.sqrt(by_asset((weights * (held - mean) ** 2).where(used)))
    found["funding_dispersion_annual"] = spread.where(by_asset(used.astype(float)) > 1)
    aged = {name: (value, by_asset(age, "min")) for name, value in found.items()}
    if "premiums" in panel.frames:
        rows = panel.frames["premiums"]
        sample = panel.sampled(rows[rows["interval_h"] <= panel.step_h], ["premium_share"], panel.rule.carry_h)
        annual = sample.values["premium_share"] * (HOURS_A_YEAR / 8.0)
        calm = annual.mask(panel.aside(annual, sample.age_h < panel.step_h, panel.spec.outliers.funding_tick))
        smooth = panel.smooth(calm, rules.premium_half_life_h).where(sample.age_h.notna())
        aged["premium_excess_annual"] = (panel.means(smooth) - anchor).round(12), by_asset(sample.age_h, "min")
    return aged


def flow(panel: PlainPanel) -> dict[str, Aged]:
    """Who crosses the spread, and how accounts and positions are split."""
    found: dict[str, Aged] = {}
    buy, sell = (by_asset(panel.traded[f"taker_{side}_base"] * panel.price) for side in ("buy", "sell"))
    both = buy + sell
    if both.notna().any(axis=None):
        imbalance = (buy - sell) / both.where(both > 0)
        value = panel.smooth(imbalance, panel.spec.features.taker_half_life_h)
        found["taker_imbalance_8h"] = value, imbalance.where(imbalance.isna(), 0.0)
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
            value = panel.means(np.log(sample.values["long_share"] / sample.values["short_share"]))
            found[name] = value, by_asset(sample.age_h, "min")
    if {"long_short_top_positions_log", "long_short_accounts_log"} <= found.keys():
        (large, large_age), (crowd, crowd_age) = found["long_short_top_positions_log"], found["long_short_accounts_log"]
        found["large_against_crowd_log"] = large - crowd, large_age.where(~(crowd_age > large_age), crowd_age)
    return found


def liquidations(panel: PlainPanel, oi_change_24h: Wide) -> dict[str, Aged]:
    """Liquidated volume, rows of the grid's own step."""
    if "liquidations" not in panel.frames:
        return {}
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
    return {name: (value, value.where(value.isna(), 0.0)) for name, value in found.items()}


def supply(panel: PlainPanel, assets: pd.Index) -> dict[str, Aged]:
    """Growth of the total supply of stablecoins: the same for every asset."""
    rows = panel.frames["stablecoin_supply"]
    rows = rows[rows["stablecoin"] == "ALL"].sort_values("as_of").set_index("seen")
    total = rows["circulating_usd"]
    rates = {f"stablecoin_growth_{days:.0f}d": np.log(total / total.shift(int(days))) for days in panel.spec.features.supply_growth_d} | {
        "stablecoin_issuance_usd_24h": total.diff()
    }
    age = (panel.grid - rows["as_of"].reindex(panel.grid, method="ffill")) / HOUR

    def wide(one: pd.Series) -> Wide:
        return pd.DataFrame(dict.fromkeys(assets, one.where(age <= panel.spec.features.supply_age_h)), index=panel.grid)

    return {name: (wide(rate.reindex(panel.grid, method="ffill")), wide(age)) for name, rate in rates.items()}
