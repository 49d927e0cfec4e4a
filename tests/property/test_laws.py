"""Causality, split equals whole, purity, order and additivity: inherited by every feature and signal on the roster."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from plugins import gate
from tests.property import laws
from tests.property.laws import LAWS, Bits, Case
from tests.property.synthetic import SHORT, market
from transforms import asof
from transforms.features import FEATURES
from transforms.features.contract import Feature, Measured
from transforms.features.contract import measured as as_measured
from transforms.features.panel import Panel
from transforms.rules import Constituent
from transforms.schema import arrow_schema
from transforms.signals import SIGNALS
from transforms.signals.contract import Signal
from transforms.spec import SPEC
from transforms.tables import TABLES
from transforms.windows import Window

CADENCES = ("1h", "1d")
QUANTITIES = [
    pytest.param(rule.name, kind, name, id=f"{rule.name}-{kind}-{name}")
    for rule in SPEC.cadences
    for kind, names in (
        ("feature", [use.feature for use in rule.uses if use.feature != "gamma_1pct_flow_usd"]),  # no source brings it
        ("signal", [c.feature for c in SPEC.active(rule.name)]),
        (
            "part",
            sorted(
                {p.feature for i in "FX" for p in SPEC.parts(i, rule.name)} - {"latent_near_share"} | {"buildup_p", "drawdown_p", "flush_p"}
            ),
        ),
    )
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
    of_one_asset = name == "funding_dispersion_annual" or name in {use.feature for use in SPEC.cadence(cadence).uses if use.sparse}
    assert known.mean() > (0.02 if of_one_asset else 0.25)
    assert len(np.unique(values[known])) > (2 if name == "oi_quality" else 5)


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
        assert table.num_rows > 0 or (name, cadence) == ("liquidation_levels", "1d")
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
    made: list[dict[str, pa.Table]] = []
    for part in parts:
        before = laws.checkpoint_for(whole_tables(made, cadence), part)
        since = Window(before.as_of if before else case.window.start, part.end)
        found = laws.tables(case, laws.within_lookback(case, since), part if before else since, before)
        made.append(laws.between(found, part))
    assert laws.hashes(whole_tables(made, cadence)) == laws.hashes(published(cadence))


def whole_tables(made: list[dict[str, pa.Table]], cadence: str) -> dict[str, pa.Table]:
    """Pieces in order, as one; no piece is no row."""
    nothing = {name: table.slice(0, 0) for name, table in published(cadence).items()}
    return {name: pa.concat_tables([nothing[name], *(one[name] for one in made)]) for name in nothing}


@pytest.mark.parametrize("cadence", CADENCES)
def test_replay_from_any_checkpoint_equals_replay_from_genesis(cadence):
    """Every stored checkpoint, as the table holds it, continued to the end: the same rows, the same later checkpoints."""
    case = honest(cadence)
    points = sorted(set(published(cadence)["checkpoints"].column("as_of").to_pylist()))
    assert points
    for as_of in points:
        rest = Window(as_of, case.window.end)
        before = laws.checkpoint_for(published(cadence), rest)
        assert before is not None
        assert before.as_of == as_of
        found = laws.tables(case, laws.within_lookback(case, rest), rest, before)
        assert laws.hashes(found) == laws.hashes(laws.between(published(cadence), rest))


def test_a_checkpoint_after_the_window_is_refused():
    case = honest("1d")
    rest = Window(case.window.end, case.window.end + (case.window.end - case.window.start))
    before = laws.checkpoint_for(published("1d"), rest)
    with pytest.raises(ValueError, match="hand over one at or before its start"):
        laws.tables(case, case.core, case.window, before)


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
@pytest.mark.parametrize(("index", "value", "neutral"), [("S", "s", 50.0), ("F", "f", 0.0), ("X", "x", 0.0)])
def test_contributions_add_up(cadence, index, value, neutral):
    parts = published(cadence)["contributions"].to_pandas().query("index_name == @index")
    readings = published(cadence)["readings"].to_pandas().set_index(["asset", "as_of"])
    total = parts.groupby(["asset", "as_of"]).contribution.sum()
    kept = readings[value].notna()
    assert kept.groupby("asset").any().all()
    assert np.abs(total[kept] - (readings.loc[kept, value] - neutral)).max() < 1e-9
    assert readings.loc[kept, value].between(0, 100).all()


@pytest.mark.parametrize("cadence", CADENCES)
def test_a_withheld_number_has_no_band_and_s_ex_no_price(cadence):
    parts = published(cadence)["contributions"].to_pandas().query("index_name == 'S' and asset != 'MKT'")
    readings = published(cadence)["readings"].to_pandas().query("asset != 'MKT'").set_index(["asset", "as_of"])
    kept = readings.s.notna()
    free = parts[~parts.component.isin(["trend", "conviction"])].groupby(["asset", "as_of"]).contribution.sum()
    assert np.abs(free[kept] - (readings.s_ex[kept] - 50)).max() < 1e-9
    assert set(readings.status[~kept]) <= {"withheld"}
    assert set(readings.status[kept]) <= {"ok", "indicative"}
    assert readings.band[~kept].isna().all()
    assert (readings.reason[~kept] != "").all()
    recomputed = 50 * parts.weight * parts.sign * parts.score.fillna(0) * parts.stale_factor
    assert np.abs(recomputed - parts.contribution).max() < 1e-9


@pytest.mark.parametrize("cadence", CADENCES)
def test_parts_of_f_and_x_say_what_their_percentile_says(cadence):
    parts = published(cadence)["contributions"].to_pandas().query("index_name != 'S' and asset != 'MKT'")
    plain = parts[~parts.component.isin(["interaction", "concentration"])]
    expected = 100 * plain.weight * (0.5 + (plain.score - 0.5).fillna(0) * plain.stale_factor)
    assert np.abs(expected - plain.contribution).max() < 1e-9
    joint = parts[parts.component == "interaction"]
    assert np.abs(100 * joint.weight * joint.score - joint.contribution).max() < 1e-9


@pytest.mark.parametrize("cadence", CADENCES)
def test_every_bar_has_every_input_with_the_same_weight(cadence):
    """Split by venue, the weights of an input add up to its weight in the index, whatever came in."""
    parts = published(cadence)["contributions"].to_pandas().query("asset != 'MKT'")
    spec = SHORT[cadence]
    weights = {("S", name): weight for name, weight in spec.weights(cadence).items()}
    for index in ("F", "X"):
        held = spec.components(index, cadence)
        for component, weight in held.items():
            own = [part for part in spec.parts(index, cadence) if part.component == component.name]
            shared = component.combine == "mean"
            total = sum(part.within for part in own)
            weights |= {(index, part.feature): weight * part.within / total if shared else weight for part in own}
            if component.combine == "product":
                weights[index, component.name] = weight
    found = parts.groupby(["index_name", "feature", "asset", "as_of"]).weight.sum().reset_index()
    assert set(zip(found.index_name, found.feature, strict=True)) == set(weights)
    expected = [weights[key] for key in zip(found.index_name, found.feature, strict=True)]
    assert np.abs(found.weight - expected).max() < 1e-12
    silent = parts[parts.score.isna()]
    assert len(silent)
    assert (silent.contribution[silent.index_name == "S"] == 0).all()
    assert (silent.reason != "").all()
    assert set(parts.by_venue) == ({"all", "binance", "bybit"})


@pytest.mark.parametrize("cadence", CADENCES)
def test_the_market_is_made_of_its_assets(cadence):
    case = honest(cadence)
    parts = published(cadence)["contributions"].to_pandas().query("asset == 'MKT'")
    assert set(parts.feature) == set(case.spec.market.assets)
    weights = parts[parts.index_name == "S"].groupby("as_of").weight.sum()
    assert np.abs(weights - 1).max() < 1e-12
    capped = parts[(parts.feature == case.spec.market.capped_asset)]
    assert capped.weight.max() <= case.spec.market.cap_share + 1e-12


@pytest.mark.parametrize("cadence", CADENCES)
def test_an_asset_appears_when_it_is_first_known_and_leaves_when_it_falls_silent(cadence):
    case = honest(cadence)
    index = published(cadence)["readings"].to_pandas()
    bars = case.window.grid(SPEC.cadence(cadence).step)
    assert (index.groupby("asset").size()[["AAA", "BBB"]] == len(bars)).all()
    gone = index[index.asset == "CCC"]
    assert 0 < len(gone) < len(bars)
    last = case.core["candles"].to_pandas().query("asset == 'CCC'").as_of.max()
    assert gone.as_of.max() - last >= np.timedelta64(int(case.spec.features.presence_d * 24) - 1, "h")


@pytest.mark.parametrize("cadence", CADENCES)
def test_what_is_derived_passes_the_gate(cadence):
    """The pure room and the expectations were written apart: what one makes, the other lets through, on a market full of holes."""
    gate.warm()
    verdicts = gate.gate(published(cadence))
    assert {
        name: verdict.blocked or [one.detail for one in verdict.rejected[:2]] for name, verdict in verdicts.items() if verdict.rejected
    } == {}
