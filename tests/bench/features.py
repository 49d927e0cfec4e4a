"""Part 2: features, scores and the index, against idiomatic pandas on the same core tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tests.bench import plain_features as plain
from tests.bench.measuring import Section, interleaved, seconds, times
from tests.property.synthetic import core_table
from transforms.index.build import Derived, Stamp, derive
from transforms.roster import HOURLY_ASSETS
from transforms.spec import SPEC
from transforms.windows import HOUR, Window, to_ms, utc

ROUNDS = 3
HOURS = 10_000
STAMP = Stamp("simulated", "reconstructed", "0" * 64)
RECORDED = Path(__file__).parents[3] / "shared" / "recordings" / "series" / "coinalyze_daily.parquet"
#: largest relative difference that rounding explains; what is above differs by definition, and the table says how
ROUNDING = 1e-6
BY_DEFINITION = {"taker_imbalance_8h": "`ewm` never forgets, ours is cut at eight half-lives so that look-back is finite"}


@dataclass(frozen=True)
class Case:
    """Core tables, the window they fill and the cadence."""

    name: str
    core: Mapping[str, pa.Table]
    window: Window
    cadence: str

    @property
    def grid(self) -> pd.DatetimeIndex:
        step = SPEC.cadence(self.cadence).step
        return pd.DatetimeIndex(self.window.grid(step)).as_unit("us")

    def ours(self) -> Derived:
        return derive(self.core, self.window, self.cadence, SPEC, stamp=STAMP)

    def theirs(self) -> dict[str, pd.DataFrame]:
        return plain.index(self.core, self.grid, self.cadence, SPEC)


def hourly() -> Case:
    """Three assets, 10,000 hours, on the grids that the venue serves: hourly candles, 15-minute open interest and ratios, 8 h funding."""
    rng = np.random.default_rng(7)
    window = Window(utc("2025-01-01"), utc("2025-01-01") + HOURS * HOUR)
    hour = 3_600_000_000
    start = to_ms(window.start) * 1000
    hours = start + hour * np.arange(1, HOURS + 1)
    quarters = start + hour // 4 * np.arange(1, 4 * HOURS + 1)
    settled = start + 8 * hour * np.arange(1, HOURS // 8 + 1)
    parts: dict[str, list[pa.Table]] = {}
    for asset in HOURLY_ASSETS:
        who = {"source": "binance", "venue": "binance", "instrument": f"{asset}USDT", "asset": asset}
        price = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.002, len(quarters))))
        base = 50_000.0 * np.exp(np.cumsum(rng.normal(0, 0.003, len(quarters))))
        amounts = {"open_interest_native": base, "open_interest_base": base, "open_interest_usd": base * price}
        volume = rng.lognormal(8, 1, HOURS)
        bars = {"open_usd": None, "high_usd": None, "low_usd": None, "trades": None, "interval_h": 1.0}
        rate = np.round(np.where(rng.random(len(settled)) < 0.3, 1e-4, rng.normal(1e-4, 2e-4, len(settled))), 8)
        made = {
            "open_interest": [core_table("open_interest", quarters, native_unit="base", oi_sides=1, **amounts, **who)],
            "candles": [
                core_table(
                    "candles",
                    hours,
                    close_usd=price[3::4],
                    volume_base=volume,
                    taker_buy_base=volume * rng.uniform(0.3, 0.7, HOURS),
                    **bars,
                    **who,
                )
            ],
            "funding": [core_table("funding", settled, funding_rate=rate, funding_kind="settlement", funding_interval_h=None, **who)],
            "long_short": [
                core_table("long_short", quarters, ratio_metric=metric, long_share=share, short_share=1 - share, **who)
                for metric in ("global_account", "top_position")
                for share in [np.clip(0.55 + np.cumsum(rng.normal(0, 0.002, len(quarters))), 0.2, 0.8)]
            ],
        }
        for name, tables in made.items():
            parts.setdefault(name, []).extend(tables)
    days = start + 24 * hour * np.arange(HOURS // 24 + 1)
    supply = 1.3e11 * np.exp(np.cumsum(rng.normal(0, 0.003, len(days))))
    parts["stablecoin_supply"] = [
        core_table("stablecoin_supply", days, days + 24 * hour, source="defillama", stablecoin="ALL", circulating_usd=supply)
    ]
    core = {name: pa.concat_tables(tables) for name, tables in parts.items()}
    return Case(f"hourly: 3 assets x {HOURS:,} hours (made up, without gaps)", core, window, "1h")


def daily() -> Case | None:
    """The recorded daily set of 119 contracts, where the recordings are."""
    if not RECORDED.exists():
        return None
    from tests.golden.test_real_history import SPAN, core

    rows = dict(core())
    supply = rows["stablecoin_supply"]  # both sides begin with the window: what lies before it would be history for ours alone
    rows["stablecoin_supply"] = supply.filter(
        pc.greater(supply.column("as_of"), pa.scalar(SPAN.start, type=supply.schema.field("as_of").type))
    )
    return Case("daily: 119 assets x 703 days (recorded)", rows, SPAN, "1d")


def compared(ours: Derived, theirs: dict[str, pd.DataFrame]) -> tuple[list[list[str]], dict[str, float]]:
    """Rows of the comparison table, and by quantity the largest difference relative to its own standard deviation."""
    rows, worst = [], {}
    for name, table, key in (("feature", ours.features, "feature_value"), ("contribution", ours.contributions, "contribution")):
        frame = table.to_pandas()
        if name == "contribution":  # where input is stale, ours holds the last score and the peer has none
            frame = frame[~frame["reason"].str.startswith("stale")]
        mine = frame.set_index(["feature", "as_of", "asset"])[key]
        other = theirs[f"{name}s"].set_index(["feature", "as_of", "asset"])[key]
        for feature in sorted(set(other.index.get_level_values(0))):
            a, b = mine.loc[feature].align(other.loc[feature], join="inner")
            both = a.notna() & b.notna()
            scale = float(a[both].std()) or 1.0
            difference = float((a[both] - b[both]).abs().max()) / scale
            worst[f"{name} {feature}"] = difference
            rows.append([f"{name} `{feature}`", f"{both.sum():,}", f"{a.notna().sum() - both.sum():,}", f"{difference:.0e}"])
    return rows, worst


def run(rounds: int = ROUNDS) -> Section:
    section = Section("2. Features, scores and the index")
    section.say(
        "Ours: `transforms.index.build.derive` (numba kernels; features, ages, reasons, held scores, confidence, three Arrow tables). Peer: "
        "`tests/bench/plain_features.py`, idiomatic pandas over wide frames that ends in the same long frames; it computes every feature "
        "its tables allow, the scores, the contributions and S, but no ages, reasons, staleness, revisions or confidence. Both start from "
        "the same Arrow tables in memory. pandas has no weighted rank among strictly past values: the peer's is a numpy loop over bars, "
        "vectorised over history and assets; `rolling().rank()` for the same constituents is shown for what it costs, but it is another "
        f"number. Median of {rounds} interleaved rounds; kernels compiled before."
    )
    for case in (hourly(), daily()):
        if case is None:
            section.say("The recorded daily set (119 assets) is not beside this checkout: left out.")
            continue
        ours, theirs = case.ours(), case.theirs()
        rows, worst = compared(ours, theirs)
        by_definition = {name for name in worst if name.split(" ")[1] in BY_DEFINITION}
        off = {name: one for name, one in worst.items() if not one < ROUNDING and name not in by_definition}
        if off:
            raise RuntimeError(f"{case.name}: the definitions do not coincide: {off}")
        rule = SPEC.cadence(case.cadence)
        measured = plain.features(case.core, case.grid, rule.step_h, SPEC)
        scored = [measured[one.feature] for one in SPEC.active(case.cadence) if one.feature in measured]
        got = interleaved(
            {
                "ours": case.ours,
                "pandas, the same definitions": case.theirs,
                "of it: features alone": lambda case=case, rule=rule: plain.features(case.core, case.grid, rule.step_h, SPEC),
                "for comparison: `rolling().rank()` of its scores": lambda scored=scored, rule=rule: [
                    plain.rolling_ranks(one, SPEC, rule.step_h) for one in scored
                ],
            },
            rounds,
        )
        base = got["ours"]
        section.say(f"**{case.name}**: {ours.features.num_rows:,} feature rows, {ours.contributions.num_rows:,} contributions.")
        section.table(
            ["what", "wall, ours = 1", "CPU, ours = 1", "wall s", "CPU s"],
            [
                [name, times(cost["wall"] / base["wall"]), times(cost["cpu"] / base["cpu"]), seconds(cost["wall"]), seconds(cost["cpu"])]
                for name, cost in got.items()
            ],
        )
        peer = got["pandas, the same definitions"]
        section.verdicts.append(
            (
                f"features, {case.name.split(' (')[0]}: CPU of pandas",
                "more than ours",
                f"{times(peer['cpu'] / base['cpu'])} x ours",
                peer["cpu"] > base["cpu"],
            )
        )
        section.say(_told(case, rows, worst))
    return section


def _told(case: Case, rows: list[list[str]], worst: dict[str, float]) -> str:
    covered = [row[0] for row in rows if row[0].startswith("feature")]
    used = sorted(use.feature for use in SPEC.cadence(case.cadence).uses)
    left = [name for name in used if f"feature {name}" not in worst]
    alike = max(one for name, one in worst.items() if name.split(" ")[1] not in BY_DEFINITION)
    compared_values = sum(int(row[1].replace(",", "")) for row in rows)
    text = [
        f"The peer covers {len(covered)} of {len(used)} features"
        + (f" (not {', '.join(f'`{n}`' for n in left)}: no input)" if left else "")
        + ".",
        f"{compared_values:,} values of {len(rows)} features and contributions compared; largest difference {alike:.0e} of their own deviation",
    ]
    for name, why in BY_DEFINITION.items():
        if f"feature {name}" in worst:
            text[-1] += f"; `{name}` differs by up to {worst[f'feature {name}']:.0e} by definition ({why})"
    return " ".join(text) + "."
