"""A small made-up market in core tables, with everything that goes wrong in real ones: gaps, late rows, restatements, an instrument
and a venue that enter late, an asset that leaves, funding whose interval changes and whose stamps carry milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from transforms.rules import FeatureRule, OutlierRule, Part, ScoreRule
from transforms.schema import arrow_schema
from transforms.spec import SPEC, Spec
from transforms.tables import TABLES
from transforms.windows import CADENCES, Window, partition_days, to_ms, utc

MINUTE_US = 60_000_000
INSTANT = pa.timestamp("us", tz="UTC")
SOURCE = {"1h": "binance", "1d": "coinalyze"}
CHECK = {"1h": "coinalyze", "1d": "binance"}


def _parts(level_d: float) -> tuple[Part, ...]:
    return tuple(replace(part, window_d=level_d) if part.window_d else part for part in SPEC.fragility_parts)


#: Same method, shorter memory: windows that fill and empty within the generated span.
SHORT_HOURLY: Spec = replace(
    SPEC,
    score=ScoreRule(window_d=8, half_life_d=3, min_history_d=1, warm_d=4),
    features=FeatureRule(
        oi_change_h=(1, 6, 24, 60),
        oi_drawdown_d=3,
        oi_level_d=5,
        oi_violation_d=2,
        venue_ramp_d=1,
        distance_d=6,
        momentum_d=(1, 2, 4),
        sigma_d=2,
        supply_growth_d=(2, 5),
        presence_d=2,
        terms_age_d=2,
    ),
    outliers=OutlierRule(mad_d=4),
    fragility_parts=_parts(5),
    confidence=replace(SPEC.confidence, reference_oi_d=3),
    schemes=replace(SPEC.schemes, min_history_d=6, ciss_min_history_d=4, correlation_half_life_d=5),
    market=replace(SPEC.market, assets=("AAA", "BBB", "DDD"), capped_asset="AAA", share_window_d=3),
)
SHORT_DAILY: Spec = replace(
    SPEC,
    score=ScoreRule(window_d=60, half_life_d=20, min_history_d=8, warm_d=20),
    features=FeatureRule(
        oi_change_h=(24, 48, 120, 240),
        oi_drawdown_d=20,
        oi_level_d=30,
        oi_violation_d=20,
        distance_d=30,
        momentum_d=(3, 7, 20),
        sigma_d=10,
        supply_growth_d=(5, 10),
        presence_d=10,
        terms_age_d=10,
    ),
    outliers=OutlierRule(mad_d=20),
    fragility_parts=_parts(30),
    confidence=replace(SPEC.confidence, reference_oi_d=10),
    schemes=replace(SPEC.schemes, min_history_d=30, ciss_min_history_d=20, correlation_half_life_d=20),
    market=replace(SPEC.market, assets=("AAA", "BBB", "DDD"), capped_asset="AAA", share_window_d=10),
)
SHORT = {"1h": SHORT_HOURLY, "1d": SHORT_DAILY}
SPAN = {
    "1h": Window(utc("2023-11-20"), utc("2024-01-05")),
    "1d": Window(utc("2023-08-01"), utc("2024-02-20")),
}
ASSETS = ("AAA", "BBB", "CCC", "DDD")
STAMP_COLUMNS = ("as_of", "known_at", "fetched_at")


def micros(instant: str) -> int:
    return to_ms(utc(instant)) * 1000


def core_table(name: str, as_of: np.ndarray, known_at: np.ndarray | None = None, **columns: object) -> pa.Table:
    """Rows of a core table; as_of and known_at in us. Columns may be one value for all rows; provenance is filled in."""
    count = len(as_of)
    known = as_of + MINUTE_US if known_at is None else known_at
    given = {"source": "binance", "venue": "binance", "flags": "", "revision": 0, "raw_sha256": "0" * 64, **columns}
    given |= {"as_of": as_of, "known_at": known, "fetched_at": known}
    built = {}
    for field in arrow_schema(TABLES[name]):
        if field.name == "date":
            built["date"] = partition_days(pa.array(as_of).cast(INSTANT))
            continue
        value = given[field.name]
        values = list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value] * count
        if pa.types.is_timestamp(field.type):
            built[field.name] = pa.array(np.asarray(values, dtype=np.int64)).cast(INSTANT)
        else:
            built[field.name] = pa.array([None if v is None or v != v else v for v in values], type=field.type)  # noqa: PLR0124
    return pa.table(built, schema=arrow_schema(TABLES[name]))


def _walk(rng: np.random.Generator, count: int, start: float, size: float) -> np.ndarray:
    return start * np.exp(np.cumsum(rng.normal(0, size, count)))


def _without(rng: np.random.Generator, count: int, share: float, *spans: tuple[int, int]) -> np.ndarray:
    """Mask of rows that came: a share lost at random, and whole spans."""
    keep = rng.random(count) > share
    for start, end in spans:
        keep[start:end] = False
    return keep


def market(cadence: str, seed: int = 7) -> dict[str, pa.Table]:
    """Core tables over SPAN[cadence]."""
    rng = np.random.default_rng(seed)
    span, step = SPAN[cadence], int(CADENCES[cadence].total_seconds()) * 1_000_000
    step_h = step / 3.6e9
    grid = np.arange(to_ms(span.start) * 1000 + step, to_ms(span.end) * 1000 + 1, step)
    count = len(grid)
    parts: dict[str, list[pa.Table]] = {name: [] for name in TABLES if TABLES[name].layer == "core"}
    contracts = (
        # asset, venue, instrument, native unit, first bar, last bar
        ("AAA", "binance", "AAAUSDT", "base", 0, count),
        ("AAA", "bybit", "AAAUSD", "usd", count // 3, count),
        ("BBB", "binance", "BBBUSDT", "base", 0, count),
        ("CCC", "binance", "1000CCCUSDT", "base", count // 4, 3 * count // 4),
        ("DDD", "binance", "DDDUSDT", "base", 5 * count // 8, count),
    )
    for asset, venue, instrument, unit, first, last in contracts:
        who = {"source": SOURCE[cadence], "venue": venue, "instrument": instrument, "asset": asset}
        when = grid[first:last]
        size = len(when)
        price = _walk(rng, size, 100.0, 0.004 * np.sqrt(step_h))
        base = _walk(rng, size, 50_000.0, 0.006 * np.sqrt(step_h))

        came = _without(rng, size, 0.03, (size // 2, size // 2 + 9))
        late = np.where(rng.random(size) < 0.05, 26 * 60, 5) * MINUTE_US
        native = base if unit == "base" else base * price
        stated = base * price if cadence == "1h" else np.full(size, np.nan)
        interest = {"native_unit": unit, "oi_sides": 1, "open_interest_usd": stated[came]}
        parts["open_interest"].append(
            core_table(
                "open_interest",
                when[came],
                when[came] + late[came],
                open_interest_native=native[came],
                open_interest_base=base[came],
                **who,
                **interest,
            )
        )
        again = np.flatnonzero(came)[:: max(1, size // 23)]
        parts["open_interest"].append(
            core_table(
                "open_interest",
                when[again],
                when[again] + 90 * 60 * MINUTE_US,
                revision=1,
                open_interest_native=native[again] * 1.07,
                open_interest_base=base[again] * 1.07,
                native_unit=unit,
                oi_sides=1,
                open_interest_usd=stated[again] * 1.07,
                **who,
            )
        )

        priced = _without(rng, size, 0.02, (size // 3, size // 3 + 4))
        volume = rng.lognormal(8, 1, size)
        taken = np.where(rng.random(size) < 0.3, np.nan, volume * rng.uniform(0.3, 0.7, size))
        reach = price[priced] * np.exp(np.abs(rng.normal(0, 0.004 * np.sqrt(step_h), int(priced.sum()))))
        bars = {"open_usd": None, "high_usd": reach, "low_usd": price[priced] ** 2 / reach, "trades": None, "interval_h": step_h}
        parts["candles"].append(
            core_table(
                "candles", when[priced], close_usd=price[priced], volume_base=volume[priced], taker_buy_base=taken[priced], **bars, **who
            )
        )

        if cadence == "1h":
            told = _without(rng, size, 0.04, (size // 4, size // 4 + 5))
            premium = np.round(0.6 * rng.normal(1e-4, 3e-4, size), 7)[told]
            parts["premiums"].append(core_table("premiums", when[told], interval_h=1.0, premium_share=premium, **who))

        quarter = (when[:, None] - step + step // 4 * np.arange(1, 5)).ravel()
        flows = _without(rng, len(quarter), 0.02)
        amounts = rng.lognormal(7, 1, (2, len(quarter)))
        parts["taker_flow"].append(
            core_table(
                "taker_flow",
                quarter[flows],
                interval_h=step_h / 4,
                taker_buy_base=amounts[0, flows],
                taker_sell_base=amounts[1, flows],
                **who,
            )
        )

        for metric, middle in (("global_account", 0.6), ("top_account", 0.55), ("top_position", 0.5)):
            split = _without(rng, size, 0.03, (size // 5, size // 5 + 6))
            share = np.clip(middle + np.cumsum(rng.normal(0, 0.01, size)), 0.2, 0.8)[split]
            parts["long_short"].append(
                core_table("long_short", when[split], ratio_metric=metric, long_share=share, short_share=1 - share, **who)
            )

        hours = (when // 3_600_000_000) % 24
        paid = np.where(np.arange(size) < size // 2, hours % 8 == 0, hours % 4 == 0)
        settled = when[paid] + rng.integers(0, 40, int(paid.sum())) * 1000
        rate = np.round(np.where(rng.random(len(settled)) < 0.3, 1e-4, rng.normal(1e-4, 2e-4, len(settled))), 6)
        known_interval = None if cadence == "1h" else 8.0
        parts["funding"].append(
            core_table("funding", settled, funding_rate=rate, funding_kind="settlement", funding_interval_h=known_interval, **who)
        )
        parts["funding"].append(
            core_table("funding", when[::5] + 1, funding_rate=0.5, funding_kind="quote", funding_interval_h=known_interval, **who)
        )
        if venue == "binance":
            second = _second_voice(
                np.random.default_rng(seed + len(parts["funding"])), CHECK[cadence], who, when, base, price, (settled, rate)
            )
            for name, table in second.items():
                parts[name].append(table)
        parts["funding_terms"].append(
            core_table("funding_terms", when[::20], funding_interval_h=8.0, funding_cap_rate=0.02, funding_floor_rate=-0.02, **who)
        )

        if cadence == "1d":
            full = _without(rng, size, 0.05)
            parts["liquidations"].append(
                core_table(
                    "liquidations",
                    when[full],
                    interval_h=24.0,
                    long_liquidated_base=rng.lognormal(4.5, 1, size)[full],
                    short_liquidated_base=rng.lognormal(4.5, 1, size)[full],
                    completeness="floor",
                    **who,
                )
            )
    parts["stablecoin_supply"] = _supply(rng, grid)
    if cadence == "1h":
        parts["option_chain"], parts["volatility_index"] = _options(rng, grid)
    shuffled = {}
    for name, tables in parts.items():
        if tables:
            whole = pa.concat_tables(tables)
            shuffled[name] = whole.take(rng.permutation(whole.num_rows))
    return shuffled


def _second_voice(
    rng: np.random.Generator,
    source: str,
    who: Mapping[str, object],
    when: np.ndarray,
    base: np.ndarray,
    price: np.ndarray,
    settlements: tuple[np.ndarray, np.ndarray],
) -> dict[str, pa.Table]:
    """What another source says of the same contract at day ends: mostly the same, some beyond tolerance, some late."""
    day = 24 * 60 * MINUTE_US
    ends = np.flatnonzero((when % day == 0) & (rng.random(len(when)) > 0.05))
    at, known = when[ends], when[ends] + np.where(rng.random(len(ends)) < 0.1, 26 * 60, 5) * MINUTE_US
    off = np.where(rng.random(len(ends)) < 0.1, 1.05, 1.0 + rng.normal(0, 0.004, len(ends)))
    settled, rate = settlements
    before = np.searchsorted(settled, at) - 1
    told = before >= 0
    paid = rate[before[told]] + np.where(rng.random(int(told.sum())) < 0.05, 1e-6, 0.0)
    paid_at = at[told] if source == "coinalyze" else settled[before[told]] - 8 * 60 * MINUTE_US
    spelled = f"{who['instrument']}_PERP.A" if source == "coinalyze" else who["instrument"]
    mine = {**who, "source": source, "instrument": spelled}
    bars = {"open_usd": None, "high_usd": None, "low_usd": None, "trades": None, "taker_buy_base": None, "volume_base": 1.0}
    return {
        "open_interest": core_table(
            "open_interest",
            at,
            known,
            open_interest_native=base[ends] * off,
            open_interest_base=base[ends] * off,
            open_interest_usd=None,
            native_unit="base",
            oi_sides=1,
            **mine,
        ),
        "candles": core_table("candles", at, known, close_usd=price[ends] * (1 + 0.02 * (off - 1)), interval_h=24.0, **bars, **mine),
        "funding": core_table(
            "funding", paid_at, paid_at + 5 * MINUTE_US, funding_rate=paid, funding_kind="settlement", funding_interval_h=8.0, **mine
        ),
    }


def _options(rng: np.random.Generator, grid: np.ndarray) -> tuple[list[pa.Table], list[pa.Table]]:
    """Chains of one asset every 5 hours, some late, one restated; the venue's volatility index every hour."""
    week = 7 * 24 * 60 * MINUTE_US
    who = {"source": "deribit", "venue": "deribit", "asset": "AAA"}
    chains = []
    for number, at in enumerate(grid[::5]):
        ends = at // week * week + week * np.array([1, 2, 5, 14])
        level = 0.5 + 0.2 * np.sin(number / 9)
        strikes = 100.0 * np.exp(np.arange(-5, 6) * 0.08)
        expiry, strike, call = (axis.ravel() for axis in np.meshgrid(ends, strikes, [True, False], indexing="ij"))
        count = len(expiry)
        if number % 29 == 11:
            continue
        names = [f"AAA-{int(e // week)}-{k:.0f}-{'C' if c else 'P'}" for e, k, c in zip(expiry, strike, call, strict=True)]
        chains.append(
            core_table(
                "option_chain",
                np.full(count, at),
                np.full(count, at + (90 if number % 17 == 3 else 1) * MINUTE_US),
                instrument=names,
                expiry_at=expiry,
                strike_usd=strike,
                option_type=["call" if c else "put" for c in call],
                settlement="coin",
                open_interest_base=rng.lognormal(4, 1, count),
                volume_24h_base=rng.lognormal(2, 1, count),
                mark_iv=level - 0.1 * np.log(strike / 100) + 0.3 * np.log(strike / 100) ** 2 + 0.02 * rng.random(count),
                underlying_usd=100.0 + rng.normal(0, 0.5),
                index_usd=100.0,
                **who,
            )
        )
    restated = chains[len(chains) // 2]
    again = restated.set_column(restated.column_names.index("revision"), "revision", pa.array(np.ones(restated.num_rows, dtype=np.int64)))
    late = restated.column("as_of")[0].value + 3 * 60 * MINUTE_US
    known = pa.array(np.full(restated.num_rows, late)).cast(INSTANT)
    chains.append(again.set_column(again.column_names.index("known_at"), "known_at", known).cast(restated.schema))
    dvol = core_table(
        "volatility_index",
        grid,
        instrument="AAA-DVOL",
        interval_h=1.0,
        implied_volatility=0.5 + 0.1 * np.sin(np.arange(len(grid)) / 40),
        **who,
    )
    return chains, [dvol]


def _supply(rng: np.random.Generator, grid: np.ndarray) -> list[pa.Table]:
    """Total supply and two coins: daily, known a day later, the last month rewritten once."""
    day = 24 * 60 * MINUTE_US
    days = np.arange(grid[0] // day * day - 20 * day, grid[-1] + 1, day)
    found = []
    for coin, start in (("ALL", 1.3e11), ("USDT", 8e10), ("USDC", 3e10)):
        level = _walk(rng, len(days), start, 0.003)
        keep = rng.random(len(days)) > (0.2 if coin == "ALL" else 0.02)
        who = {"source": "defillama", "stablecoin": coin}
        found.append(core_table("stablecoin_supply", days[keep], days[keep] + day, circulating_usd=level[keep], **who))
        middle = np.flatnonzero(keep)[len(days) // 4 : len(days) // 2]
        found.append(
            core_table(
                "stablecoin_supply",
                days[middle],
                np.full(len(middle), days[len(days) // 2] + day + 7 * MINUTE_US),
                revision=1,
                circulating_usd=level[middle] * 0.97,
                **who,
            )
        )
    return found


def known_by(core: Mapping[str, pa.Table], instant_us: int) -> dict[str, np.ndarray]:
    """Per table: which rows are known at an instant."""
    return {name: np.asarray(table.column("known_at").cast(pa.int64()).to_numpy()) <= instant_us for name, table in core.items()}
