"""Causality, split equals whole, purity, order and additivity: inherited by every feature and signal on the roster."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from tests.property import laws
from tests.property.laws import LAWS, Bits, Case
from tests.property.synthetic import SHORT, market
from transforms import asof
from transforms.features import FEATURES
from transforms.features.contract import Feature, Measured
from transforms.features.contract import measured as as_measured
from transforms.features.panel import Panel
from transforms.schema import arrow_schema
from transforms.signals import SIGNALS
from transforms.signals.contract import Signal
from transforms.spec import SPEC, Constituent
from transforms.tables import TABLES

CADENCES = ("1h", "1d")
QUANTITIES = [
    pytest.param(rule.name, kind, name, id=f"{rule.name}-{kind}-{name}")
    for rule in SPEC.cadences
    for kind, names in (("feature", [use.feature for use in rule.uses]), ("signal", [c.feature for c in SPEC.active(rule.name)]))
    for name in names
]


@cache
def honest(cadence: str) -> Case:
    return laws.case(cadence, SHORT[cadence], market(cadence))


@cache
def whole(cadence: str) -> Bits:
    case = honest(cadence)
    return laws.observe(case, case.core, case.window)


@cache
def broken(cadence: str, law: str) -> list[str]:
    return LAWS[law](honest(cadence), whole(cadence))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("cadence", "kind", "name"), QUANTITIES)
def test_law_holds_for(law, cadence, kind, name):
    assert f"{kind}:{name}" not in broken(cadence, law)


@pytest.mark.parametrize(("cadence", "kind", "name"), QUANTITIES)
def test_the_market_says_something_about(cadence, kind, name):
    """A law about a quantity that is null everywhere would hold for nothing."""
    values = whole(cadence)[f"{kind}:{name}"].view(np.float64)[:, :, 0]
    known = np.isfinite(values)
    assert known.mean() > 0.3
    assert len(np.unique(values[known])) > 5


@pytest.mark.parametrize("cadence", CADENCES)
def test_late_rows_do_change_what_comes_after_them(cadence):
    case = honest(cadence)
    cut = laws.cuts(case, 4, 5)[0]
    assert laws.differing(whole(cadence), laws.observe(case, laws.with_late_rows(case, cut), case.window))


# --- planted leaks: the same checks must catch them ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FullSampleZ(Signal):
    """Standardised with the mean and deviation of the whole sample, the future included."""

    def against_past(self, feature: Measured, constituent: Constituent, panel: Panel, first: int):
        mean, deviation = np.nanmean(feature.value, axis=1, keepdims=True), np.nanstd(feature.value, axis=1, keepdims=True)
        return np.clip((feature.value - mean) / (4 * deviation), -1, 1), np.full(feature.value.shape, 100.0)


def _joined_on_event_time(panel: Panel) -> Measured:
    """Open interest by its as_of alone: what the bar could not have known yet, too."""
    table = panel.own("open_interest")
    base = asof.floats(table.column("open_interest_base"))
    rows = panel.tracks("open_interest", table, {"base": base}, np.isfinite(base))
    shown = asof.newest(rows.starts, rows.as_of, rows.known_at, panel.when, np.full(panel.bars, 2**62), 6 * 3_600_000_000)
    return as_measured(panel.totals(panel.level(rows, "base", shown)), panel.oi_age_h)


def _one_bar_ahead(panel: Panel) -> Measured:
    value = np.roll(panel.totals(panel.usd), -1, axis=1)
    return as_measured(value, panel.oi_age_h)


def _running_sum(panel: Panel) -> Measured:
    """A quantity index that remembers where the run began."""
    return as_measured(np.cumsum(np.nan_to_num(panel.links), axis=1), panel.oi_age_h)


def _leaky(feature: str, compute) -> dict[str, Feature]:
    old = FEATURES[feature]
    return {**FEATURES, feature: Feature(feature, "leak", old.unit, "a planted leak", old.reads, old.lookback, compute)}


LEAKS = {
    "full-sample z-score": (
        FEATURES,
        {**SIGNALS, "stablecoin_growth_30d": FullSampleZ("stablecoin_growth_30d", "a planted leak")},
        "signal:stablecoin_growth_30d",
    ),
    "join on event time": (_leaky("oi_usd", _joined_on_event_time), SIGNALS, "feature:oi_usd"),
    "one bar ahead": (_leaky("oi_usd", _one_bar_ahead), SIGNALS, "feature:oi_usd"),
}


#: Late rows restate bars up to the cut; a look one bar ahead reads a bar after it, which they leave alone.
CAUGHT = [
    (leak, law) for leak in LEAKS for law in ("truncation", "poisoning", "late rows") if (leak, law) != ("one bar ahead", "late rows")
]


@pytest.mark.parametrize(("leak", "law"), CAUGHT)
@pytest.mark.parametrize("cadence", CADENCES)
def test_a_planted_leak_is_caught(cadence, leak, law):
    features, signals, name = LEAKS[leak]
    case = laws.case(cadence, SHORT[cadence], market(cadence), features, signals)
    assert LAWS[law](case, laws.observe(case, case.core, case.window)) == [name]


@pytest.mark.parametrize("cadence", CADENCES)
def test_a_planted_endless_memory_is_caught_by_the_split(cadence):
    case = laws.case(cadence, SHORT[cadence], market(cadence), _leaky("oi_link", _running_sum))
    assert laws.unsplittable(case, laws.observe(case, case.core, case.window)) == ["feature:oi_link"]


# --- the published tables -------------------------------------------------------------------------------------------------------------


@cache
def published(cadence: str) -> dict[str, pa.Table]:
    case = honest(cadence)
    return laws.tables(case, case.core, case.window)


@pytest.mark.parametrize("cadence", CADENCES)
def test_rows_are_declared_and_in_key_order(cadence):
    for name, table in published(cadence).items():
        assert table.schema == arrow_schema(TABLES[name])
        assert table.num_rows > 100
        assert table.select(TABLES[name].key).equals(
            table.take(pa.compute.sort_indices(table, [(key, "ascending") for key in TABLES[name].key])).select(TABLES[name].key)
        )
        for column in table.schema:
            if not column.nullable:
                assert table.column(column.name).null_count == 0
            if pa.types.is_floating(column.type):
                assert pa.compute.all(pa.compute.is_finite(table.column(column.name))).as_py() in {True, None}


@pytest.mark.parametrize("cadence", CADENCES)
@pytest.mark.parametrize("seed", range(4))
def test_published_rows_split_equals_whole(cadence, seed):
    case = honest(cadence)
    parts = laws.pieces(case, 4, 20 + seed)
    order = np.random.default_rng(seed).permutation(len(parts))
    made = {int(n): laws.tables(case, laws.within_lookback(case, parts[n]), parts[n]) for n in order}
    joined = {name: pa.concat_tables([made[n][name] for n in range(len(parts))]) for name in published(cadence)}
    assert laws.hashes(joined) == laws.hashes(published(cadence))


@pytest.mark.parametrize("cadence", CADENCES)
def test_published_rows_are_the_same_without_what_came_later(cadence):
    case = honest(cadence)
    for cut in laws.cuts(case, 5, 9):
        known = laws.known_by(case.core, laws.publication_us(case, cut))
        core = {name: table.filter(pa.array(known[name])) for name, table in case.core.items()}
        assert laws.hashes(laws.up_to(laws.tables(case, core, case.window), cut)) == laws.hashes(laws.up_to(published(cadence), cut))


@pytest.mark.parametrize("cadence", CADENCES)
def test_inputs_are_only_read_and_their_order_does_not_matter(cadence):
    case = honest(cadence)
    before = {name: table.to_pylist() for name, table in case.core.items()}
    again = laws.tables(case, case.core, case.window)
    assert {name: table.to_pylist() for name, table in case.core.items()} == before
    rng = np.random.default_rng(1)
    shuffled = {name: table.take(rng.permutation(table.num_rows)) for name, table in reversed(case.core.items())}
    assert laws.hashes(again) == laws.hashes(published(cadence)) == laws.hashes(laws.tables(case, shuffled, case.window))


@pytest.mark.parametrize("cadence", CADENCES)
def test_rows_as_the_catalog_returns_them(cadence):
    """Long strings, other chunks, no provenance columns: the same values."""
    case = honest(cadence)
    read = {}
    for name, table in case.core.items():
        lean = table.drop_columns(["flags", "fetched_at", "raw_sha256", "date"])
        types = [pa.field(f.name, pa.large_string() if pa.types.is_string(f.type) else f.type) for f in lean.schema]
        read[name] = pa.concat_tables([lean.slice(0, 7), lean.slice(7)]).cast(pa.schema(types))
    assert laws.hashes(laws.tables(case, read, case.window)) == laws.hashes(published(cadence))


@pytest.mark.parametrize("cadence", CADENCES)
def test_contributions_add_up(cadence):
    parts = published(cadence)["contributions"].to_pandas()
    index = published(cadence)["sentiment"].to_pandas().set_index(["asset", "as_of"])
    total = parts.groupby(["asset", "as_of"]).contribution.sum()
    kept = index.s.notna()
    assert kept.any()
    assert np.abs(total[kept] - (index.s[kept] - 50)).max() < 1e-9
    free = parts[~parts.family.isin(["trend", "conviction"])].groupby(["asset", "as_of"]).contribution.sum()
    assert np.abs(free[kept] - (index.s_ex[kept] - 50)).max() < 1e-9
    assert set(index.status[~kept]) <= {"withheld"}
    assert set(index.status[kept]) <= {"ok", "indicative"}
    assert index.band[~kept].isna().all()
    recomputed = 50 * parts.weight * parts.sign * parts.score.fillna(0) * parts.stale_factor
    assert np.abs(recomputed - parts.contribution).max() < 1e-12


@pytest.mark.parametrize("cadence", CADENCES)
def test_every_bar_has_every_constituent_with_the_same_weight(cadence):
    parts = published(cadence)["contributions"].to_pandas()
    weights = SHORT[cadence].weights(cadence)
    assert (parts.groupby(["asset", "as_of"]).feature.nunique() == len(weights)).all()
    assert all(set(own.weight) == {weights[name]} for name, own in parts.groupby("feature"))
    silent = parts[parts.score.isna()]
    assert len(silent)
    assert (silent.contribution == 0).all()
    assert (silent.reason != "").all()


@pytest.mark.parametrize("cadence", CADENCES)
def test_an_asset_appears_when_it_is_first_known_and_leaves_when_it_falls_silent(cadence):
    case = honest(cadence)
    index = published(cadence)["sentiment"].to_pandas()
    bars = case.window.grid(SPEC.cadence(cadence).step)
    assert (index.groupby("asset").size()[["AAA", "BBB"]] == len(bars)).all()
    gone = index[index.asset == "CCC"]
    assert 0 < len(gone) < len(bars)
    last = case.core["candles"].to_pandas().query("asset == 'CCC'").as_of.max()
    assert gone.as_of.max() - last >= np.timedelta64(int(case.spec.features.presence_d * 24) - 1, "h")
