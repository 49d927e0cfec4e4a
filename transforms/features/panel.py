"""The bench on which features are measured: core rows of one cadence's source, sampled on the grid, instruments grouped by asset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import asof, estimators, rolling
from transforms.asof import Rows, Track, UnusableInput
from transforms.estimators import DAY_US, HOUR_US, Bools, Floats, Ints
from transforms.features.levels import Gate, OpenInterest, Price
from transforms.features.memory import LookBack, Memory, Tapes, flat
from transforms.rules import CadenceRule
from transforms.schema import empty
from transforms.spec import Spec
from transforms.tables import TABLES
from transforms.vocabulary import NATIVE_UNITS

#: what names an instrument; in this order the instruments of an asset lie together
INSTRUMENT: Final = ("asset", "venue", "instrument")
#: core tables that speak of instruments
INSTRUMENT_TABLES: Final = ("candles", "open_interest", "funding", "funding_terms", "premiums", "long_short", "taker_flow", "liquidations")
#: those that say what an instrument did: a venue lists the terms of hundreds of contracts nobody asked about
MEASURED_TABLES: Final = tuple(name for name in INSTRUMENT_TABLES if not TABLES[name].snapshot)
_T = TypeVar("_T")
_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT: Final = pa.timestamp("us", tz="UTC")
#: earlier than anything that can be heard of
_NEVER: Final = -(2**62)


def instant_us(instant: datetime) -> int:
    """Microseconds since the epoch."""
    return (instant - _EPOCH) // _MICROSECOND


def rows_seen(core: Mapping[str, pa.Table], name: str, sources: Sequence[str], known_by: int) -> pa.Table:
    """Rows of some sources with known_at <= known_by (us). A missing table is an empty one; a missing column raises UnusableInput."""
    table = core.get(name)
    if table is None:
        return empty(TABLES[name])
    lacking = [column for column in (*TABLES[name].decoded, "revision") if column not in table.column_names]
    if lacking:
        raise UnusableInput(f"core table {name} comes without {', '.join(lacking)}; hand over the columns of TABLES[{name!r}]")
    seen = pc.less_equal(table.column("known_at"), pa.scalar(known_by).cast(_INSTANT))
    wanted = pc.and_(pc.is_in(table.column("source").cast(pa.string()), value_set=pa.array(sources)), seen)
    return table if pc.all(wanted).as_py() else table.filter(wanted)  # most often every row passes: a copy would double the memory


class Panel(LookBack):
    """Core rows on the grid of one cadence: bars end at every multiple of its step in (start, end].

    core: tables by name, any row order, all revisions. assets: names, or None for all in the rows and in `also`. Bars up to window_start are history.
    memory: what the panel up to `start` left, None for a panel that begins with its history.
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
        also: Iterable[str] = (),
        memory: Memory | None = None,
    ) -> None:
        self.spec = spec
        self._core = core
        self._shared: dict[str, object] = {}
        self._delay = spec.publication_delay // _MICROSECOND
        self._until = instant_us(end)
        step = rule.step // _MICROSECOND
        self.when: Ints = np.arange((instant_us(start) // step + 1) * step, self._until + 1, step, dtype=np.int64)
        self.cutoff: Ints = self.when + self._delay
        self.window_first = int(np.searchsorted(self.when, instant_us(window_start), side="right"))
        self._tables = {name: self.rows(name, *rule.sources) for name in INSTRUMENT_TABLES}
        self._numbered = {name: asof.tracks_of(self._tables[name], INSTRUMENT) for name in MEASURED_TABLES}
        found = {track for _, tracks in self._numbered.values() for track in tracks}
        if memory is not None:
            found, also = found | set(memory.instruments), {*also, *memory.assets}
        self.assets: list[str] = sorted({track[0] for track in found} | set(also) if assets is None else set(assets))
        self.instruments: list[Track] = sorted(track for track in found if track[0] in set(self.assets))
        owners = np.array([track[0] for track in self.instruments], dtype=object)
        self.starts: Ints = np.array([*(np.searchsorted(owners, a) for a in self.assets), len(owners)], dtype=np.int64)
        self.venues: list[str] = sorted({track[1] for track in self.instruments})
        self.venue: Ints = np.array([self.venues.index(track[1]) for track in self.instruments], dtype=np.int64)
        #: outlier gates met so far, by quantity
        self.gates: dict[str, Gate] = {}
        super().__init__(rule, self.when, Tapes(memory, self.assets, self.instruments))
        self._averages = 0

    # --- shapes --------------------------------------------------------------------------------------------------------------

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
        found: Floats = rolling.totals(flat(values), self.starts)
        return found

    def any_of(self, marks: Bools) -> Bools:
        """Per asset: does it hold for one of its instruments."""
        found = np.zeros((len(self.assets), self.bars), dtype=bool)
        for a in range(len(self.assets)):
            for i in range(self.starts[a], self.starts[a + 1]):
                found[a] |= marks[i]
        return found

    # --- rows ----------------------------------------------------------------------------------------------------------------

    def rows(self, name: str, *sources: str) -> pa.Table:
        """Rows of a table that the sources said and the last bar can see."""
        return rows_seen(self._core, name, sources, self._until + self._delay)

    def own(self, name: str) -> pa.Table:
        """Rows of a table by this cadence's sources."""
        return self._tables[name]

    def tracks(self, name: str, table: pa.Table, values: Mapping[str, Floats], usable: Bools) -> Rows:
        """Rows of the panel's instruments, sorted; values per row of `table`."""
        numbered = self._numbered.get(name) if table is self._tables.get(name) else None
        return asof.in_tracks(name, table, keys=INSTRUMENT, tracks=self.instruments, columns=values, usable=usable, numbered=numbered)

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

    def gate(self, name: str, values: Floats, own: Bools, tick: float) -> Gate:
        """Causal outlier gate of one quantity of the instruments (METHODOLOGY 3.2); `own`: values of their own bar, not carried; `tick`: its
        smallest MAD.
        """
        rule = self.spec.outliers
        mad_bars = self.steps(rule.mad_d * 24)
        median_bars, support = self.steps(rule.median_h), int(rule.support_h / self.rule.step_h)
        long = self.past_of_instruments(f"gate {name}", values, max(median_bars, mad_bars) + support + 1)
        grid = self.whens(long.shape[1]) % round(self.rule.reference_step_h * HOUR_US) == 0
        least = round(rule.min_coverage * rule.mad_d * 24 / self.rule.reference_step_h)
        first = max(0, long.shape[1] - self.bars - support)
        off, mad = (part[:, first:] for part in rolling.bands(long, grid, median_bars, mad_bars, least, tick, first))
        told = self.past_of_instruments(f"gate own {name}", np.where(own, 1.0, np.nan), support)
        told = (
            told[:, told.shape[1] - off.shape[1] :]
            if told.shape[1] >= off.shape[1]
            else np.pad(told, ((0, 0), (off.shape[1] - told.shape[1], 0)))
        )
        marks = rolling.set_aside(flat(off), flat(mad), flat(told > 0.0), self.venue, self.starts, rule.limit, support)
        aside, flagged = (self.own_bars(part) for part in marks)
        self.gates[name] = Gate(aside, flagged, values, self.own_bars(off), self.own_bars(mad))
        return self.gates[name]

    @cached_property
    def open_interest(self) -> OpenInterest:
        """Open interest, carried forward up to the cadence's limit. Amounts that are not finite and positive count as not received;
        one that is set aside leaves the last good one in its place.
        """
        table = self.own("open_interest")
        native = asof.floats(table.column("open_interest_native")) / asof.floats(table.column("oi_sides"))
        base = asof.floats(table.column("open_interest_base"))
        usd = asof.floats(table.column("open_interest_usd"))
        codes = pc.index_in(table.column("native_unit").cast(pa.string()), value_set=pa.array(NATIVE_UNITS))
        if codes.null_count:
            raise UnusableInput(f"open_interest has a native_unit outside {', '.join(NATIVE_UNITS)}; declare it or reject the row")
        usd = np.where(np.isfinite(usd) & (usd > 0), usd, np.nan)
        in_usd = asof.floats(codes) == NATIVE_UNITS.index("usd")  # contracts counted in USD may come without an amount in coins
        usable = np.isfinite(native) & (native > 0) & ((np.isfinite(base) & (base > 0)) | (in_usd & np.isnan(base) & np.isfinite(usd)))
        columns = {"native": native, "base": base, "usd": usd, "unit": asof.floats(codes), "log": estimators.logs(native)}
        rows = self.tracks("open_interest", table, columns, usable)
        shown = self.sample(rows, self.rule.carry_h)
        own = self.age(rows, shown) < self.rule.step_h
        aside = self.gate("open_interest", self.level(rows, "log", shown), own, self.spec.outliers.open_interest_tick).aside
        told = {name: self.level(rows, name, shown) for name in ("native", "unit", "base", "usd")}
        age, kept = self._kept("open_interest", self.age(rows, shown), aside, told)
        unit = np.nan_to_num(kept["unit"], nan=-1.0).astype(np.int64)
        return OpenInterest(kept["native"], unit, kept["base"], kept["usd"], age)

    def _kept(self, name: str, age_h: Floats, aside: Bools, values: Mapping[str, Floats]) -> tuple[Floats, dict[str, Floats]]:
        """(age, values) at each bar after values were set aside: those of the last bar not set aside, within the carry limit. No age, no value."""
        limit = int(self.rule.carry_h / self.rule.step_h)
        told = {column: self.past_of_instruments(f"{name} {column}", one, limit) for column, one in values.items()}
        age = self.past_of_instruments(f"{name} age", age_h, limit)
        gone = self.past_of_instruments(f"{name} aside", aside, limit)
        if not gone.any():
            return age_h, dict(values)
        bars = np.arange(age.shape[1])
        source = rolling.last_kept(np.isfinite(age) & ~gone, limit)
        rows, held = np.arange(len(age))[:, None], np.maximum(source, 0)
        age = age[rows, held] + (bars - source) * self.rule.step_h
        good = (source >= 0) & ((source == bars) | (age <= self.rule.carry_h))
        kept = {column: self.own_bars(np.where(good, one[rows, held], np.nan)) for column, one in told.items()}
        return self.own_bars(np.where(good, age, np.nan)), kept

    @cached_property
    def price(self) -> Price:
        """Close of the candle that ends at the bar; else the mark that open interest of the bar implies; else the fresher of the two."""
        table = self.own("candles")
        close = asof.floats(table.column("close_usd"))
        extremes = {name: asof.floats(table.column(name)) for name in ("high_usd", "low_usd")}
        usable = np.isfinite(close) & (close > 0) & (asof.floats(table.column("interval_h")) == self.rule.step_h)
        rows = self.tracks("candles", table, {"close": close, "log": estimators.logs(close), **extremes}, usable)
        shown = self.sample(rows, self.rule.carry_h)
        own = self.age(rows, shown) < self.rule.step_h
        aside = self.gate("price", self.level(rows, "log", shown), own, self.spec.outliers.price_tick).aside
        told = {name: self.level(rows, name, shown) for name in ("close", *extremes)}
        candle_age, kept = self._kept("price", self.age(rows, shown), aside, told)
        candle = kept["close"]
        high, low = (np.where(candle_age < self.rule.step_h, kept[name], np.nan) for name in extremes)
        oi = self.open_interest
        mark = oi.stated_usd / oi.base
        implied = np.isfinite(mark) & ~(candle_age <= oi.age_h) & ~(candle_age < self.rule.step_h) & ~aside
        return Price(np.where(implied, mark, candle), np.where(implied, oi.age_h, candle_age), implied, high, low)

    @cached_property
    def usd(self) -> Floats:
        """USD open interest per instrument: the venue's own value, else amount x price."""
        oi = self.open_interest
        found: Floats = np.where(np.isfinite(oi.stated_usd), oi.stated_usd, oi.base * self.price.usd)
        return found

    @cached_property
    def links(self) -> Floats:
        """Log of the quantity index's step, per asset and bar (OI.3)."""
        oi = self.open_interest
        native, unit = self.past_of_instruments("link native", oi.native, 1), self.past_of_instruments("link unit", oi.unit, 1)
        return self.own_bars(estimators.chain_links(native, unit, self.past_of_instruments("usd", self.usd, 1), self.starts))

    @cached_property
    def log_quantity(self) -> tuple[Ints, Ints]:
        """(ln Q in steps of 1 / LOG_SCALE, known links so far), (assets, bars + 1), counted from the first bar of all: only differences mean
        something. On a panel that continues another, as many bars before as any feature looks back.
        """
        rules = self.spec.features
        longest = max(24 * rules.oi_level_d, 24 * rules.oi_drawdown_d, *rules.oi_change_h, rules.liquidation_window_h)
        return self.running("quantity", self.links, rolling.LOG_SCALE, self.steps(longest))

    def returns(self, hours: float) -> Floats:
        """Log price return over a span of time, per asset and bar."""
        return self.once(f"returns {self.steps(hours)}", lambda: self._returns(self.steps(hours)))

    def _returns(self, steps: int) -> Floats:
        price, usd = (self.past_of_instruments(name, values, steps) for name, values in (("price", self.price.usd), ("usd", self.usd)))
        return self.own_bars(estimators.log_returns(price, usd, self.starts, steps))

    @cached_property
    def volume(self) -> Floats:
        """Amount traded in the bar per instrument, base units, from candles that end at the bar."""
        table = self.own("candles")
        amount = asof.floats(table.column("volume_base"))
        usable = np.isfinite(amount) & (amount >= 0) & (asof.floats(table.column("interval_h")) == self.rule.step_h)
        rows = self.tracks("candles", table, {"amount": amount}, usable)
        shown = self.sample(rows, 0.0)
        return self.level(rows, "amount", shown)

    @cached_property
    def quality(self) -> Floats:
        """OI.13 per instrument: `max(0, 1 - rate / 0.05)`, rate = share of bars over 30 d whose change of open interest exceeds what traded
        in the bar (Giagkiozis, Said 2024). 1 where volume or amount is not known in base units.
        """
        rules, oi = self.spec.features, self.open_interest
        amount = self.past_of_instruments("fresh amount", np.where(oi.age_h < self.rule.step_h, oi.base, np.nan), 1)
        unit = self.past_of_instruments("link unit", oi.unit, 1)
        change = np.full(amount.shape, np.nan)
        change[:, 1:] = np.where(unit[:, 1:] == unit[:, :-1], np.abs(amount[:, 1:] - amount[:, :-1]), np.nan)
        change = self.own_bars(change)
        broken = np.where(np.isfinite(change) & np.isfinite(self.volume), (change > self.volume) * 1.0, np.nan)
        broken[oi.unit != NATIVE_UNITS.index("base")] = np.nan
        steps = self.steps(rules.oi_violation_d * 24)
        sums, known = self.tapes.running("broken", lambda: rolling.cumulated(broken, 1.0), steps, of_instruments=True)
        count = self.own_bars(rolling.window_sums(sums, known, steps, 1, 1.0))
        ends = np.arange(known.shape[1] - self.bars, known.shape[1])
        held = known[:, ends] - known[:, np.maximum(ends - steps, 0)]
        rate = np.where(held >= self.least(steps) // 2, count / np.maximum(held, 1), 0.0)
        found: Floats = np.maximum(0.0, 1.0 - rate / rules.oi_violation_limit)
        return found

    def weighed(self, values: Floats, name: str = "") -> tuple[Floats, Floats]:
        """(weights, values) behind the average of an asset's instruments: FU.4, ramped and capped by venue.

        Averages without a name are remembered by their number: features are measured in one order, that of the cadence's uses.
        """
        rules = self.spec.features
        ramp = self.steps(rules.venue_ramp_d * 24)
        self._averages += not name
        long = self.past_of_instruments(f"average {name or self._averages}", values, ramp + 1)
        usd = self.past_of_instruments("usd", self.usd, ramp + 1)[:, -long.shape[1] :]
        first = long.shape[1] - self.bars
        quality = np.pad(self.quality, ((0, 0), (first, 0))) if first else self.quality
        found = rolling.average_weights(long, flat(usd), quality, self.venue, self.starts, ramp, rules.venue_cap, first)
        return self.own_bars(found[0]), self.own_bars(found[1])

    def means(self, values: Floats) -> Floats:
        """Average over an asset's instruments; NaN where none shows a value."""
        weights, held = self.weighed(values)
        return self.totals(np.where(weights > 0, weights * held, np.nan))

    @cached_property
    def venue_shares(self) -> Floats:
        """Weight of each venue in averages, (assets, venues, bars), by open interest: adds up to 1, or all 0 where none is known."""
        weights, _ = self.weighed(np.where(np.isfinite(self.usd), 1.0, np.nan), "shares")
        found = np.zeros((len(self.assets), len(self.venues), self.bars))
        for a in range(len(self.assets)):
            for i in range(self.starts[a], self.starts[a + 1]):
                found[a, self.venue[i]] += weights[i]
        return found

    @cached_property
    def sigma_h(self) -> Floats:
        """Standard deviation of log returns per square root of an hour, about zero, over the trailing spec.sigma_d days."""
        return self.volatility(self.spec.features.sigma_d * 24)

    def volatility(self, hours: float) -> Floats:
        """Root of the mean squared log return per bar over a span, per square root of an hour."""
        steps = self.steps(hours)
        squares, known = self.running("squares", self.returns(self.rule.step_h) ** 2, rolling.SQUARE_SCALE, steps)
        found: Floats = self.own_bars(rolling.window_roots(squares, known, steps, self.least(steps))) / np.sqrt(self.rule.step_h)
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

    @cached_property
    def leaders(self) -> Ints:
        """Per asset and bar: its priced instrument with the largest USD open interest, -1 where none is priced."""
        found, largest = np.full((len(self.assets), self.bars), -1), np.full((len(self.assets), self.bars), -1.0)
        for a in range(len(self.assets)):
            for i in range(self.starts[a], self.starts[a + 1]):
                size = np.nan_to_num(self.usd[i], nan=0.0)
                better = np.isfinite(self.price.usd[i]) & (size > largest[a])
                found[a, better], largest[a, better] = i, size[better]
        return found

    def of_leader(self, values: Floats) -> Floats:
        """A value of the instruments as the asset's leader has it, in its own base unit; NaN where none is priced."""
        if not len(self.instruments):
            return self.unknown()
        return np.where(self.leaders >= 0, values[np.maximum(self.leaders, 0), np.arange(self.bars)], np.nan)

    def present(self) -> Bools:
        """Per asset and bar: has any measured row younger than spec.presence_d been seen."""
        return self.once("present", self._present)

    def _present(self) -> Bools:
        limit = round(self.spec.features.presence_d * DAY_US)
        heard = self.tapes.before("heard", len(self.assets))
        newest = np.full((len(self.assets), 1), _NEVER) if heard is None else heard.copy()
        found: Bools = self.when - newest <= limit
        for name in MEASURED_TABLES:
            table, numbered = self._tables[name], self._numbered[name]
            if not table.num_rows:
                continue
            usable = np.ones(table.num_rows, dtype=bool)
            rows = asof.in_tracks(
                name, table, keys=INSTRUMENT, tracks=self.instruments, columns={}, usable=usable, agree=False, numbered=numbered
            )
            shown = asof.newest(rows.starts, rows.as_of, rows.known_at, self.when, self.cutoff, limit)
            found |= self.any_of(shown >= 0)
            for a in range(len(self.assets)):
                last = shown[self.starts[a] : self.starts[a + 1], -1:]
                newest[a] = max([int(newest[a, 0]), *rows.as_of[last[last >= 0]].tolist()])
        self.tapes.note("heard", newest)
        return found


def at_rows(values: Floats, shown: Ints) -> Floats:
    """values[shown], NaN where shown is -1."""
    if not len(values):
        return np.full(shown.shape, np.nan)
    return np.where(shown >= 0, values[shown], np.nan)
