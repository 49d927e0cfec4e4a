"""The bench on which features are measured: core rows of one cadence's source, sampled on the grid, instruments grouped by asset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import asof, estimators
from transforms.asof import Rows, Track, UnusableInput
from transforms.estimators import DAY_US, HOUR_US, Bools, Floats, Ints
from transforms.schema import empty
from transforms.spec import CadenceRule, Spec
from transforms.tables import TABLES
from transforms.vocabulary import NATIVE_UNITS

#: what names an instrument; in this order the instruments of an asset lie together
INSTRUMENT: Final = ("asset", "venue", "instrument")
#: core tables that speak of instruments
INSTRUMENT_TABLES: Final = ("candles", "open_interest", "funding", "funding_terms", "long_short", "taker_flow", "liquidations")
#: those that say what an instrument did: a venue lists the terms of hundreds of contracts nobody asked about
MEASURED_TABLES: Final = tuple(name for name in INSTRUMENT_TABLES if not TABLES[name].snapshot)
_T = TypeVar("_T")
_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT: Final = pa.timestamp("us", tz="UTC")


def instant_us(instant: datetime) -> int:
    """Microseconds since the epoch."""
    return (instant - _EPOCH) // _MICROSECOND


def rows_seen(core: Mapping[str, pa.Table], name: str, source: str, known_by: int) -> pa.Table:
    """Rows of one source with known_at <= known_by (us). A missing table is an empty one; a missing column raises UnusableInput."""
    table = core.get(name)
    if table is None:
        return empty(TABLES[name])
    lacking = [column for column in (*TABLES[name].decoded, "revision") if column not in table.column_names]
    if lacking:
        raise UnusableInput(f"core table {name} comes without {', '.join(lacking)}; hand over the columns of TABLES[{name!r}]")
    seen = pc.less_equal(table.column("known_at"), pa.scalar(known_by).cast(_INSTANT))
    return table.filter(pc.and_(pc.equal(table.column("source"), source), seen))


@dataclass(frozen=True, slots=True)
class OpenInterest:
    """Open interest on the grid, (instruments, bars), one-sided; NaN where an instrument shows none within the carry limit."""

    native: Floats
    #: code of the native unit, -1 where there is no value
    unit: Ints
    base: Floats
    #: at the venue's own price where it gives one, else NaN
    stated_usd: Floats
    age_h: Floats


@dataclass(frozen=True, slots=True)
class Price:
    """Price in USD per base unit, (instruments, bars). `implied`: stated value / amount, used where no candle ends at the bar."""

    usd: Floats
    age_h: Floats
    implied: Bools


class Panel:
    """Core rows on the grid of one cadence: bars end at every multiple of its step in (start, end].

    core: tables by name, any row order, all revisions. assets: names, or None for all in the rows. Bars up to window_start are history.
    """

    def __init__(
        self,
        core: Mapping[str, pa.Table],
        *,
        start: datetime,
        window_start: datetime,
        end: datetime,
        rule: CadenceRule,
        spec: Spec,
        assets: Sequence[str] | None = None,
    ) -> None:
        self.rule = rule
        self.spec = spec
        self._core = core
        self._shared: dict[str, object] = {}
        self._delay = spec.publication_delay // _MICROSECOND
        self._until = instant_us(end)
        step = rule.step // _MICROSECOND
        self.when: Ints = np.arange((instant_us(start) // step + 1) * step, self._until + 1, step, dtype=np.int64)
        self.cutoff: Ints = self.when + self._delay
        self.window_first = int(np.searchsorted(self.when, instant_us(window_start), side="right"))
        self._tables = {name: self.rows(name, rule.source) for name in INSTRUMENT_TABLES}
        found = {track for name in MEASURED_TABLES for track in asof.tracks_of(self._tables[name], INSTRUMENT)[1]}
        self.assets: list[str] = sorted({track[0] for track in found} if assets is None else set(assets))
        self.instruments: list[Track] = sorted(track for track in found if track[0] in set(self.assets))
        owners = np.array([track[0] for track in self.instruments], dtype=object)
        self.starts: Ints = np.array([*(np.searchsorted(owners, a) for a in self.assets), len(owners)], dtype=np.int64)

    # --- shapes --------------------------------------------------------------------------------------------------------------

    @property
    def bars(self) -> int:
        """How many bars, history included."""
        return len(self.when)

    def steps(self, hours: float) -> int:
        """A span of time in whole steps of the grid, at least one."""
        return max(1, round(hours / self.rule.step_h))

    def least(self, steps: int) -> int:
        """How many of so many steps must be known (spec: min_coverage)."""
        return max(1, int(np.ceil(self.spec.features.min_coverage * steps - 1e-9)))

    def once(self, name: str, compute: Callable[[], _T]) -> _T:
        """What several features of a family share, computed at the first call."""
        if name not in self._shared:
            self._shared[name] = compute()
        return cast("_T", self._shared[name])

    def unknown(self) -> Floats:
        """NaN for every asset and bar."""
        return np.full((len(self.assets), self.bars), np.nan)

    def youngest(self, age_h: Floats) -> Floats:
        """Age of the newest input per asset: the least over its instruments, NaN where none has any."""
        found = self.unknown()
        for a in range(len(self.assets)):
            for i in range(self.starts[a], self.starts[a + 1]):
                found[a] = np.fmin(found[a], age_h[i])
        return found

    def totals(self, values: Floats) -> Floats:
        """Sum over an asset's instruments of what is known, in the order of instruments; NaN where nothing is."""
        found = self.unknown()
        for a in range(len(self.assets)):
            for i in range(self.starts[a], self.starts[a + 1]):
                known = np.isfinite(values[i])
                found[a, known] = np.where(np.isfinite(found[a, known]), found[a, known], 0.0) + values[i, known]
        return found

    def any_of(self, marks: Bools) -> Bools:
        """Per asset: does it hold for one of its instruments."""
        found = np.zeros((len(self.assets), self.bars), dtype=bool)
        for a in range(len(self.assets)):
            for i in range(self.starts[a], self.starts[a + 1]):
                found[a] |= marks[i]
        return found

    # --- rows ----------------------------------------------------------------------------------------------------------------

    def rows(self, name: str, source: str) -> pa.Table:
        """Rows of a table that the source said and the last bar can see."""
        return rows_seen(self._core, name, source, self._until + self._delay)

    def own(self, name: str) -> pa.Table:
        """Rows of a table by this cadence's source."""
        return self._tables[name]

    def tracks(self, name: str, table: pa.Table, values: Mapping[str, Floats], usable: Bools) -> Rows:
        """Rows of the panel's instruments, sorted; values per row of `table`."""
        return asof.in_tracks(name, table, keys=INSTRUMENT, tracks=self.instruments, columns=values, usable=usable)

    def sample(self, rows: Rows, max_age_h: float) -> Ints:
        """Row each track shows at each bar, -1 = none."""
        return asof.newest(rows.starts, rows.as_of, rows.known_at, self.when, self.cutoff, round(max_age_h * HOUR_US))

    def level(self, rows: Rows, name: str, shown: Ints) -> Floats:
        """A column of the shown rows, NaN where there is none."""
        return at_rows(rows.values[name], shown)

    def age(self, rows: Rows, shown: Ints) -> Floats:
        """Hours between the bar and the shown row's as_of."""
        return (self.when - at_rows(rows.as_of.astype(np.float64), shown)) / HOUR_US

    # --- what many features read ---------------------------------------------------------------------------------------------

    @cached_property
    def open_interest(self) -> OpenInterest:
        """Open interest, carried forward up to the cadence's limit. Amounts that are not finite and positive count as not received."""
        table = self.own("open_interest")
        native = asof.floats(table.column("open_interest_native")) / asof.floats(table.column("oi_sides"))
        base = asof.floats(table.column("open_interest_base"))
        usd = asof.floats(table.column("open_interest_usd"))
        codes = pc.index_in(table.column("native_unit").cast(pa.string()), value_set=pa.array(NATIVE_UNITS))
        if codes.null_count:
            raise UnusableInput(f"open_interest has a native_unit outside {', '.join(NATIVE_UNITS)}; declare it or reject the row")
        usable = np.isfinite(native) & (native > 0) & np.isfinite(base) & (base > 0)
        usd = np.where(np.isfinite(usd) & (usd > 0), usd, np.nan)
        columns = {"native": native, "base": base, "usd": usd, "unit": asof.floats(codes)}
        rows = self.tracks("open_interest", table, columns, usable)
        shown = self.sample(rows, self.rule.carry_h)
        unit = np.nan_to_num(self.level(rows, "unit", shown), nan=-1.0).astype(np.int64)
        return OpenInterest(
            self.level(rows, "native", shown), unit, self.level(rows, "base", shown), self.level(rows, "usd", shown), self.age(rows, shown)
        )

    @cached_property
    def price(self) -> Price:
        """Close of the candle that ends at the bar; else the mark that open interest of the bar implies; else the fresher of the two."""
        table = self.own("candles")
        close = asof.floats(table.column("close_usd"))
        usable = np.isfinite(close) & (close > 0) & (asof.floats(table.column("interval_h")) == self.rule.step_h)
        rows = self.tracks("candles", table, {"close": close}, usable)
        shown = self.sample(rows, self.rule.carry_h)
        candle, candle_age = self.level(rows, "close", shown), self.age(rows, shown)
        oi = self.open_interest
        mark = oi.stated_usd / oi.base
        implied = np.isfinite(mark) & ~(candle_age <= oi.age_h) & ~(candle_age < self.rule.step_h)
        return Price(np.where(implied, mark, candle), np.where(implied, oi.age_h, candle_age), implied)

    @cached_property
    def usd(self) -> Floats:
        """USD open interest per instrument: the venue's own value, else amount x price."""
        oi = self.open_interest
        found: Floats = np.where(np.isfinite(oi.stated_usd), oi.stated_usd, oi.base * self.price.usd)
        return found

    @cached_property
    def links(self) -> Floats:
        """Log of the quantity index's step, per asset and bar (OI.3)."""
        return estimators.chain_links(self.open_interest.native, self.open_interest.unit, self.usd, self.starts)

    def returns(self, hours: float) -> Floats:
        """Log price return over a span of time, per asset and bar."""
        return estimators.log_returns(self.price.usd, self.usd, self.starts, self.steps(hours))

    def means(self, values: Floats) -> Floats:
        """Mean over an asset's instruments, weighted by USD open interest of the bar before."""
        return estimators.weighted_means(values, self.usd, self.starts)

    @cached_property
    def sigma_h(self) -> Floats:
        """Standard deviation of log returns per square root of an hour, about zero, over the trailing spec.sigma_d days."""
        steps = self.steps(self.spec.features.sigma_d * 24)
        roots = estimators.root_mean_squares(self.returns(self.rule.step_h), steps, self.least(steps))
        found: Floats = roots / np.sqrt(self.rule.step_h)
        return found

    @cached_property
    def oi_age_h(self) -> Floats:
        """Age of an asset's newest open interest."""
        return self.youngest(self.open_interest.age_h)

    @cached_property
    def price_age_h(self) -> Floats:
        """Age of an asset's newest price."""
        return self.youngest(self.price.age_h)

    @cached_property
    def price_implied(self) -> Bools:
        """Where a price of the asset is implied by open interest."""
        return self.any_of(self.price.implied)

    def asset_price(self) -> Floats:
        """Price of the asset's instrument with the largest USD open interest at the bar, in its own base unit; NaN where none is priced."""
        found, largest = self.unknown(), np.full((len(self.assets), self.bars), -1.0)
        for a in range(len(self.assets)):
            for i in range(self.starts[a], self.starts[a + 1]):
                size = np.nan_to_num(self.usd[i], nan=0.0)
                better = np.isfinite(self.price.usd[i]) & (size > largest[a])
                found[a, better], largest[a, better] = self.price.usd[i, better], size[better]
        return found

    def present(self) -> Bools:
        """Per asset and bar: has any measured row younger than spec.presence_d been seen."""
        limit = round(self.spec.features.presence_d * DAY_US)
        found = np.zeros((len(self.assets), self.bars), dtype=bool)
        for name in MEASURED_TABLES:
            table = self._tables[name]
            usable = np.ones(table.num_rows, dtype=bool)
            rows = asof.in_tracks(name, table, keys=INSTRUMENT, tracks=self.instruments, columns={}, usable=usable, agree=False)
            found |= self.any_of(asof.newest(rows.starts, rows.as_of, rows.known_at, self.when, self.cutoff, limit) >= 0)
        return found


def at_rows(values: Floats, shown: Ints) -> Floats:
    """values[shown], NaN where shown is -1."""
    if not len(values):
        return np.full(shown.shape, np.nan)
    return np.where(shown >= 0, values[shown], np.nan)
