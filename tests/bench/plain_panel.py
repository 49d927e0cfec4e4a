"""The peer's bench: core rows sampled with `merge_asof`, gated, averaged over venues. pandas and numpy only, wide frames (bars, series).

A series is one contract, named (asset, venue): the peer assumes one contract per asset and venue and no restatements.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from transforms.spec import Spec

Wide = pd.DataFrame
HOUR = pd.Timedelta(hours=1)
SERIES = ["asset", "venue"]


def by_asset(values: Wide, how: str = "sum") -> Wide:
    """Series of an asset together; a sum of nothing is unknown."""
    groups = values.T.groupby(level="asset")
    return (groups.sum(min_count=1) if how == "sum" else groups.agg(how)).T


def to_series(values: Wide, series: pd.MultiIndex) -> Wide:
    """A value of the asset beside each of its series."""
    return values.reindex(columns=series.get_level_values("asset")).set_axis(series, axis=1)


def later(one: pd.Series, other: pd.Series) -> pd.Series:
    """The later of two instants; `np.maximum` would turn instants with a zone into objects."""
    return one.where(one >= other, other).astype("datetime64[us, UTC]")


@dataclass
class Sample:
    """What each series shows at each bar, by column, and its age in hours."""

    values: dict[str, Wide]
    age_h: Wide


@dataclass
class PlainPanel:
    """Core tables on a grid."""

    core: Mapping[str, pa.Table]
    grid: pd.DatetimeIndex
    cadence: str
    spec: Spec

    def __post_init__(self) -> None:
        self.rule = self.spec.cadence(self.cadence)
        self.step_h = self.rule.step_h
        self.frames = {name: table.to_pandas() for name, table in self.core.items()}
        for frame in self.frames.values():  # a bar sees what is known ten minutes after its end
            frame["seen"] = later(frame["as_of"], frame["known_at"] - self.spec.publication_delay)
        keys = self.frames["open_interest"][SERIES].drop_duplicates()
        self.series = pd.MultiIndex.from_frame(keys).sort_values()

    def bars(self, hours: float) -> int:
        return max(1, round(hours / self.step_h))

    def least(self, count: int) -> int:
        return max(1, int(np.ceil(self.spec.features.min_coverage * count)))

    # --- rows ------------------------------------------------------------------------------------------------------------------

    def sampled(self, rows: pd.DataFrame, columns: list[str], max_age_h: float) -> Sample:
        """Newest row of each series at each bar."""
        rows = rows.assign(series=self.series.get_indexer(pd.MultiIndex.from_frame(rows[SERIES]))).sort_values("seen")
        left = pd.DataFrame({"bar": np.repeat(self.grid, len(self.series)), "series": np.tile(np.arange(len(self.series)), len(self.grid))})
        found = pd.merge_asof(left, rows[["seen", "as_of", "series", *columns]], left_on="bar", right_on="seen", by="series")
        age = (found["bar"] - found["as_of"]) / HOUR
        young = age <= max_age_h
        return Sample({name: self._shaped(found[name].where(young)) for name in columns}, self._shaped(age.where(young)))

    def _shaped(self, column: pd.Series) -> Wide:
        return pd.DataFrame(column.to_numpy(float).reshape(len(self.grid), -1), index=self.grid, columns=self.series)

    # --- the outlier gate ---------------------------------------------------------------------------------------------------------

    def aside(self, values: Wide, own: Wide, tick: float) -> Wide:
        """Beyond 12 MAD of 30 d from the median of 24 h, and contradicted by another venue that has a band and a value of its `own` bar."""
        rule = self.spec.outliers
        off = values - values.rolling(self.bars(rule.median_h), min_periods=1).median().shift(1)
        on = ((self.grid - pd.Timestamp(0, tz="UTC")) // HOUR) % self.rule.reference_step_h == 0
        count = round(rule.mad_d * 24 / self.rule.reference_step_h)
        mad = rolling_mad(values[on], count, round(rule.min_coverage * count)).clip(lower=tick).reindex(self.grid, method="ffill").shift(1)
        beyond = off.abs() > rule.limit * mad
        lately = int(rule.support_h / self.step_h) + 1

        def elsewhere(marks: Wide) -> Wide:
            recent = (marks.astype(float).rolling(lately, min_periods=1).max() > 0).astype(float)
            return to_series(by_asset(recent), self.series) - recent > 0

        witness = own & off.notna() & mad.notna()
        confirmed = (elsewhere(witness & beyond & (off > 0)) & (off > 0)) | (elsewhere(witness & beyond & (off < 0)) & (off < 0))
        return beyond & elsewhere(witness) & ~confirmed

    def kept(self, sample: Sample, aside: Wide) -> Sample:
        """The last value that was not set aside, within the carry limit."""
        bars = int(self.rule.carry_h / self.step_h)
        hours = np.asarray((self.grid - self.grid[0]) / HOUR)[:, None]
        stamped = (hours - sample.age_h).mask(aside).ffill(limit=bars)
        age = hours - stamped
        young = age <= self.rule.carry_h
        return Sample({name: values.mask(aside).ffill(limit=bars).where(young) for name, values in sample.values.items()}, age.where(young))

    # --- amounts and prices ---------------------------------------------------------------------------------------------------------

    @cached_property
    def interest(self) -> Sample:
        columns = {"native": "open_interest_native", "base": "open_interest_base", "usd": "open_interest_usd"}
        rows = self.frames["open_interest"].rename(columns={column: name for name, column in columns.items()})
        rows = rows.assign(in_base=(rows["native_unit"] == "base").astype(float))
        sample = self.sampled(rows, [*columns, "in_base"], self.rule.carry_h)
        return self.kept(
            sample, self.aside(np.log(sample.values["native"]), sample.age_h < self.step_h, self.spec.outliers.open_interest_tick)
        )

    @cached_property
    def priced(self) -> Sample:
        """Close of the candle that ends at the bar; else the mark that open interest of the bar implies; else the fresher of the two."""
        rows = self.frames["candles"]
        sample = self.sampled(rows[rows["interval_h"] == self.step_h], ["close_usd"], self.rule.carry_h)
        aside = self.aside(np.log(sample.values["close_usd"]), sample.age_h < self.step_h, self.spec.outliers.price_tick)
        candle = self.kept(sample, aside)
        mark = self.interest.values["usd"] / self.interest.values["base"]
        implied = mark.notna() & ~(candle.age_h <= self.interest.age_h) & ~(candle.age_h < self.step_h) & ~aside
        usd = mark.where(implied, candle.values["close_usd"])
        return Sample({"usd": usd}, self.interest.age_h.where(implied, candle.age_h))

    @property
    def price(self) -> Wide:
        return self.priced.values["usd"]

    @cached_property
    def usd(self) -> Wide:
        return self.interest.values["usd"].fillna(self.interest.values["base"] * self.price)

    def of_bar(self, name: str, columns: list[str]) -> dict[str, Wide]:
        """Columns of the rows of a table whose interval is the bar."""
        rows = self.frames[name]
        return self.sampled(rows[rows["interval_h"] == self.step_h], columns, 0.0).values

    @cached_property
    def traded(self) -> dict[str, Wide]:
        """Volume, taker buys and taker sells of the bar: of its candle; where that does not say who took, of the flow table."""
        found = self.of_bar("candles", ["volume_base", "taker_buy_base"])
        found["taker_sell_base"] = found["volume_base"] - found["taker_buy_base"]
        if "taker_flow" in self.frames:
            other = self.of_bar("taker_flow", ["taker_buy_base", "taker_sell_base"])
            lacking = found["taker_buy_base"].isna()
            found |= {name: found[name].mask(lacking, values) for name, values in other.items()}
        return found

    def returns(self, bars: int) -> Wide:
        """Log return per asset, weighted by the open interest of the bar before."""
        moves = np.log(self.price).diff(bars)
        weights = self.usd.shift(1).where(moves.notna())
        return (by_asset(moves * weights) / by_asset(weights)).fillna(by_asset(moves, "mean"))

    @cached_property
    def link(self) -> Wide:
        """Log step of the quantity index."""
        ratio = self.interest.values["native"] / self.interest.values["native"].shift(1)
        weights = self.usd.shift(1).where(ratio.notna())
        return np.log((by_asset(ratio * weights) / by_asset(weights)).fillna(by_asset(ratio, "mean")))

    # --- averages over venues ---------------------------------------------------------------------------------------------------------

    @cached_property
    def quality(self) -> Wide:
        """Share of the bars of 30 d whose change of open interest the volume covers."""
        rules = self.spec.features
        base = self.interest.values["base"].where(self.interest.age_h < self.step_h)
        change, volume = base.diff().abs(), self.traded["volume_base"]
        broken = (change > volume).astype(float).where(change.notna() & volume.notna() & (self.interest.values["in_base"] == 1.0))
        count = self.bars(rules.oi_violation_d * 24)
        rate = broken.rolling(count, min_periods=self.least(count) // 2).mean().fillna(0.0)
        return (1.0 - rate / rules.oi_violation_limit).clip(lower=0.0)

    def weighed(self, values: Wide) -> tuple[Wide, Wide]:
        """(weights, values): open interest of the bar before x quality x presence, venues capped."""
        rules = self.spec.features
        ramp = self.bars(rules.venue_ramp_d * 24)
        present = values.notna().rolling(ramp, min_periods=1).sum()
        held = values.ffill().where(present > 0)
        size = self.usd.where(self.usd > 0).shift(1).ffill(limit=ramp).where(held.notna())
        unsized = to_series(by_asset(size).isna(), self.series)
        plain = (size.fillna(0.0).mask(unsized, 1.0) * present).where(held.notna(), 0.0)
        share = plain * self.quality
        share = share.where(to_series(by_asset(share) > 0, self.series), plain)
        share = share / to_series(by_asset(share), self.series)
        # It takes three venues to hold 40 %: the cap comes into force as the third one does.
        weight = (present / to_series(by_asset(present, "max"), self.series)).where(share > 0)
        enough = np.ceil(1.0 / rules.venue_cap) - 1.0
        limit = to_series(1.0 - (1.0 - rules.venue_cap) * (by_asset(weight) - enough).clip(0.0, 1.0), self.series)
        capped = share > np.inf
        for _ in range(self.series.get_level_values("venue").nunique()):
            over = share > limit + 1e-12
            if not over.to_numpy().any():
                break
            capped = capped | over
            rest = to_series(by_asset(share.mask(capped, 0.0)), self.series)
            left = 1.0 - limit * to_series(by_asset(capped.astype(float)), self.series)
            share = share.mask(capped, limit).where(capped, share * left / rest)
        alive = to_series(by_asset(values.notna().astype(float)) > 0, self.series)
        return share.where(alive, 0.0).fillna(0.0), held

    def means(self, values: Wide) -> Wide:
        """Average over an asset's series."""
        weights, held = self.weighed(values)
        return by_asset((weights * held).where(weights > 0))

    def smooth(self, values: Wide, half_life_h: float) -> Wide:
        """Exponential mean over eight half-lives, of what is known: `ewm` that forgets."""
        rules = self.spec.features
        half_life, cut = half_life_h / self.step_h, int(np.ceil(rules.ema_cut_half_lives * half_life_h / self.step_h - 1e-9))

        def finite(one: Wide) -> Wide:
            total = one.ewm(halflife=half_life).sum()
            return total - 0.5 ** (cut / half_life) * total.shift(cut).fillna(0.0)

        known = finite(values.notna().astype(float))
        whole = (1.0 - 0.5 ** (cut / half_life)) / (1.0 - 0.5 ** (1.0 / half_life))
        return (finite(values.fillna(0.0)) / known).where(known >= rules.ema_min_weight * whole)

    def settlements(self) -> tuple[Wide, Wide, Wide]:
        """(last rate p.a., realised rate p.a. where all of 24 h is known, age of the last in h), per series.

        The interval of a settlement is its own, else the distance to the one before where that is an allowed one, else the one in the terms.
        """
        rules, frame = self.spec.features, self.frames["funding"]
        paid = frame[frame["funding_kind"] == "settlement"].copy()
        paid["as_of"] = paid["as_of"].dt.round("s")
        paid["seen"] = later(paid["as_of"], paid["known_at"] - self.spec.publication_delay)
        paid = paid.sort_values(["seen", "as_of"])
        hours = paid["funding_interval_h"].astype(float)
        if self.rule.infer_interval:
            gap = paid.groupby(SERIES, observed=True)["as_of"].diff() / HOUR
            hours = hours.fillna(gap.where(gap.isin(rules.funding_intervals_h)))
        in_force = pd.DataFrame(np.nan, index=self.grid, columns=self.series)
        if "funding_terms" in self.frames:
            terms = self.frames["funding_terms"]
            in_force = self.sampled(terms, ["funding_interval_h"], rules.terms_age_d * 24).values["funding_interval_h"]
        paid = paid.assign(hours=hours, unknown=hours.isna().astype(float), bar=paid["seen"].dt.ceil(self.rule.step))
        sample = self.sampled(paid, ["funding_rate", "hours"], rules.funding_window_h - 1e-9)
        last = sample.values["funding_rate"] * 8760.0 / sample.values["hours"].fillna(in_force)
        last = last.mask(self.aside(last, last.notna(), self.spec.outliers.funding_tick))
        sums, covered, unknown = (
            paid.pivot_table(index="bar", columns=SERIES, values=name, aggfunc="sum", observed=True)
            .reindex(index=self.grid, columns=self.series)
            .rolling(self.bars(rules.funding_window_h), min_periods=1)
            .sum()
            for name in ("funding_rate", "hours", "unknown")
        )
        covered = covered + (unknown.round() * in_force).where(unknown > 0.5, 0.0)
        whole = (covered >= rules.min_coverage * rules.funding_window_h) & last.notna()
        return last, (sums * 8760.0 / rules.funding_window_h).where(whole), sample.age_h


def rolling_mad(values: Wide, count: int, least: int) -> Wide:
    """Median absolute deviation over the last `count` rows; pandas has no fast one, so numpy windows side by side."""
    centre = values.rolling(count, min_periods=least).median().to_numpy()
    padded = np.vstack([np.full((count - 1, values.shape[1]), np.nan), values.to_numpy()])
    windows = np.lib.stride_tricks.sliding_window_view(padded, count, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # windows with too few values
        mad = np.nanmedian(np.abs(windows - centre[..., None]), axis=-1)
    return pd.DataFrame(mad, index=values.index, columns=values.columns)
