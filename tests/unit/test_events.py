"""Events (METHODOLOGY 4.8): when each type is raised, how severe it is, how often it may speak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.event_paths import CASCADE, CODE, NAMES, NAN, RULE, T0, raised, ran
from transforms.estimators import HOUR_US
from transforms.index import events
from transforms.index.event_types import EVENT_TYPES, OUTCOMES

# --- each type: at its threshold, beyond it, short of it ----------------------------------------------------------------------------

TINY = 2e-6
RAISED = [
    ("CROWDED_LEVERAGE", {"level_p": 0.8, "carry_score": 0.9}, 1),
    ("CROWDED_LEVERAGE", {"level_p": 0.8, "carry_score": -0.9}, -1),
    ("FUNDING_EXTREME", {"carry_score": [0.9, 0.9], "settled": [1, 1]}, 1),
    ("FUNDING_EXTREME", {"carry_score": [-0.9, -0.95], "settled": [1, 1]}, -1),
    ("OI_PRICE_DIVERGENCE", {"return_24h": 0.03, "sigma_d": 0.03, "oi_change_24h": -0.05}, 1),
    ("OI_PRICE_DIVERGENCE", {"return_24h": -0.03, "sigma_d": 0.03, "oi_change_24h": 0.05}, -1),
    ("LEVERAGE_BUILDUP", {"buildup_p": 0.9, "level_p": 0.6, "oi_change_168h": 0.001}, 0),
    ("LIQ_CLUSTER_NEAR", {"liquidation_distance_sigma": 1 - TINY}, 1),
    ("LIQ_CLUSTER_NEAR", {"liquidation_distance_sigma": -1 + TINY}, -1),
    ("STRIKE_MAGNET", {"strike_distance_em": 0.5 - TINY, "option_expiry_h": 47.0}, 1),
    ("STRIKE_MAGNET", {"strike_distance_em": -0.1, "option_expiry_h": 1.0}, -1),
    ("SHORT_GAMMA", {"gamma_flow_usd": -50e6}, 0),
    ("CASCADE_ONGOING", {"cascade_state": -1.0}, -1),
    ("CASCADE_ONGOING", {"cascade_state": 1.0}, 1),
    ("DELEVERAGING_COMPLETE", {"regime": [CODE["deleveraging"], CODE["recovery"]]}, 0),
    ("DELEVERAGING_COMPLETE", {"regime": [CODE["capitulation"], -1, CODE["recovery"]]}, 0),
    ("STABLE_DEPEG", {"peg_log": -0.005}, -1),
    ("STABLE_DEPEG", {"peg_log": 0.005}, 1),
    ("STABLE_REDEMPTION", {"supply_growth_7d": -0.01}, -1),
    ("VENUE_DIVERGENCE", {"funding_dispersion_p": 0.95}, 0),
    ("SIGNAL_CONFLICT", {"contributions_abs": 25.0, "s": 55.0}, 0),
    ("SIGNAL_CONFLICT", {"contributions_abs": 25.0, "s": 45.0}, 0),
    ("SOURCE_DISAGREEMENT", {"source_disagreement": 1.0}, 0),
    ("DATA_DEGRADED", {"coverage": 0.6 - TINY, "confidence": 0.9}, 0),
    ("DATA_DEGRADED", {"coverage": 0.9, "confidence": 0.5 - TINY}, 0),
    ("DATA_DEGRADED", {"coverage": 0.1, "confidence": NAN}, 0),
    ("METHODOLOGY", {"epoch_change": 1.0}, 0),
]
SILENT = [
    ("CROWDED_LEVERAGE", {"level_p": 0.8 - TINY, "carry_score": 1.0}),
    ("CROWDED_LEVERAGE", {"level_p": 1.0, "carry_score": 0.9 - TINY}),
    ("FUNDING_EXTREME", {"carry_score": [0.9, 0.9 - TINY], "settled": [1, 1]}),
    ("FUNDING_EXTREME", {"carry_score": [0.95, -0.95], "settled": [1, 1]}),
    ("FUNDING_EXTREME", {"carry_score": [0.95, 0.95], "settled": [1, 0]}),
    ("FUNDING_EXTREME", {"carry_score": [0.95, 0.95]}),
    ("FUNDING_EXTREME", {"carry_score": [0.95, 0, 0, 0.95], "settled": [1, 1, 1, 1]}),
    ("OI_PRICE_DIVERGENCE", {"return_24h": 0.03, "sigma_d": 0.03, "oi_change_24h": 0.5}),
    ("OI_PRICE_DIVERGENCE", {"return_24h": 0.03, "sigma_d": 0.03, "oi_change_24h": -0.05 + TINY}),
    ("OI_PRICE_DIVERGENCE", {"return_24h": 0.0299, "sigma_d": 0.03, "oi_change_24h": -0.5}),
    ("OI_PRICE_DIVERGENCE", {"return_24h": 0.03, "sigma_d": 0.0, "oi_change_24h": -0.5}),
    ("LEVERAGE_BUILDUP", {"buildup_p": 0.9 - TINY, "level_p": 1.0, "oi_change_168h": 0.1}),
    ("LEVERAGE_BUILDUP", {"buildup_p": 1.0, "level_p": 0.6 - TINY, "oi_change_168h": 0.1}),
    ("LEVERAGE_BUILDUP", {"buildup_p": 1.0, "level_p": 1.0, "oi_change_168h": 0.0}),
    ("LIQ_CLUSTER_NEAR", {"liquidation_distance_sigma": 1.0}),
    ("STRIKE_MAGNET", {"strike_distance_em": 0.5, "option_expiry_h": 10.0}),
    ("STRIKE_MAGNET", {"strike_distance_em": 0.1, "option_expiry_h": 48.0}),
    ("STRIKE_MAGNET", {"strike_distance_em": 0.1, "option_expiry_h": 0.0}),
    ("SHORT_GAMMA", {"gamma_flow_usd": -49e6}),
    ("SHORT_GAMMA", {"gamma_flow_usd": 500e6}),
    ("CASCADE_ONGOING", {"cascade_state": 0.0}),
    ("DELEVERAGING_COMPLETE", {"regime": [CODE["neutral"], CODE["recovery"]]}),
    ("DELEVERAGING_COMPLETE", {"regime": [-1, CODE["recovery"]]}),
    ("DELEVERAGING_COMPLETE", {"regime": [CODE["deleveraging"], CODE["neutral"]]}),
    ("STABLE_DEPEG", {"peg_log": -0.005 + TINY}),
    ("STABLE_REDEMPTION", {"supply_growth_7d": -0.01 + TINY}),
    ("STABLE_REDEMPTION", {"supply_growth_7d": 0.05}),
    ("VENUE_DIVERGENCE", {"funding_dispersion_p": 0.95 - TINY}),
    ("SIGNAL_CONFLICT", {"contributions_abs": 25.0 - TINY, "s": 50.0}),
    ("SIGNAL_CONFLICT", {"contributions_abs": 40.0, "s": 55.0 + TINY}),
    ("SOURCE_DISAGREEMENT", {"source_disagreement": 1.0 - TINY}),
    ("DATA_DEGRADED", {"coverage": 0.6, "confidence": 0.5}),
    ("METHODOLOGY", {"epoch_change": 0.0}),
]


def lists(inputs):
    return {name: values if isinstance(values, list) else [values] for name, values in inputs.items()}


@pytest.mark.parametrize(("name", "inputs", "side"), RAISED)
def test_raised(name, inputs, side):
    inputs = lists(inputs)
    last = max(len(values) for values in inputs.values()) - 1
    assert raised(inputs, name) == [(last, side)]


@pytest.mark.parametrize(("name", "inputs"), SILENT)
def test_not_raised(name, inputs):
    assert raised(lists(inputs), name) == []


@pytest.mark.parametrize(("name", "inputs", "side"), RAISED)
def test_an_unknown_or_missing_input_raises_nothing(name, inputs, side):
    """`settled` says where settlements are and X only how severe a cascade is; degraded data need one of two."""
    optional = {"settled", "x"} | ({"coverage", "confidence"} if name == "DATA_DEGRADED" else set())
    inputs = lists(inputs)
    bars = max(len(values) for values in inputs.values())
    for unknown in inputs.keys() - optional:
        rest = {other: values for other, values in inputs.items() if other != unknown}
        assert raised(rest | {"f": [50.0] * bars}, name) == []
        assert raised(rest | {unknown: [NAN] * bars}, name) == []


def test_every_type_is_tried_both_ways():
    assert {name for name, _, _ in RAISED} == set(NAMES) == {name for name, _ in SILENT}


def test_the_table_of_types_is_complete():
    """Types of METHODOLOGY 4.8, each once, with a horizon; outcomes exist; statements about data have none."""
    assert len(set(NAMES)) == len(NAMES) == 16
    assert [name for name, _ in RULE.horizons_h] == NAMES
    assert {kind.outcome for kind in EVENT_TYPES} - {""} == set(OUTCOMES)
    assert {kind.name for kind in EVENT_TYPES if not kind.outcome} == {"SOURCE_DISAGREEMENT", "DATA_DEGRADED", "METHODOLOGY"}
    assert {kind.name for kind in EVENT_TYPES if kind.detects} == {"CASCADE_ONGOING"}


@pytest.mark.parametrize(("name", "inputs", "side"), RAISED)
def test_severity_lies_between_nothing_and_all(name, inputs, side):
    rows = ran(lists(inputs))
    assert ((rows["severity"] >= 0) & (rows["severity"] <= 1)).all()
    own = rows["type"] == NAMES.index(name)
    assert rows["horizon_h"][own].tolist() == [RULE.horizon_h(name)]
    assert np.isfinite(rows["value"]).all()


def test_severity_grows_with_what_it_measures():
    cases = {
        "STABLE_DEPEG": [{"peg_log": [-x]} for x in (0.005, 0.02, 0.06)],
        "LIQ_CLUSTER_NEAR": [{"liquidation_distance_sigma": [x]} for x in (0.9, 0.5, 1e-9)],
        "DATA_DEGRADED": [{"coverage": [x]} for x in (0.59, 0.3, 0.0)],
        "CASCADE_ONGOING": [{"cascade_state": [1.0], "x": [x]} for x in (60.0, 90.0, 100.0)],
    }
    for name, paths in cases.items():
        found = [rows["severity"][rows["type"] == NAMES.index(name)][0] for rows in map(ran, paths)]
        assert sorted(found) == found, name
        assert found[0] < 0.7, name
        assert found[-1] == pytest.approx(1.0, abs=1e-6), name


def test_funding_looks_at_the_last_three_settlements_and_not_at_the_hours_between():
    score = [0.95, 0.0, 0.0, 0.1, 0.0, 0.97]
    assert raised({"carry_score": score, "settled": [1, 0, 0, 1, 0, 1]}, "FUNDING_EXTREME") == [(5, 1)]
    assert raised({"carry_score": score}, "FUNDING_EXTREME", step_h=24.0) == []
    assert raised({"carry_score": [0.95, 0.1, 0.95]}, "FUNDING_EXTREME", step_h=24.0) == [(2, 1)]
    assert raised({"carry_score": [0.95, NAN, 0.95]}, "FUNDING_EXTREME", step_h=24.0) == [(2, 1)]


# --- cool-down and shape ----------------------------------------------------------------------------------------------------------


def test_cool_down_is_the_horizon_for_each_side_and_asset():
    peg = np.zeros((2, 80))
    peg[0], peg[0, 5], peg[1, 30:32] = -0.01, 0.01, -0.01
    rows = ran({"peg_log": peg}, assets=2)
    assert list(zip(rows["bar"], rows["asset"], rows["side"], strict=True)) == [
        (0, 0, -1),
        (5, 0, 1),
        (24, 0, -1),
        (30, 1, -1),
        (48, 0, -1),
        (72, 0, -1),
    ]
    assert rows["as_of"].tolist() == [T0 + bar * HOUR_US for bar in rows["bar"].tolist()]


def test_a_horizon_below_the_step_is_one_bar():
    assert raised({"epoch_change": [1, 1, 0, 1]}, "METHODOLOGY", step_h=24.0) == [(0, 0), (1, 0), (3, 0)]


def test_one_row_speaks_for_every_asset():
    rows = ran({"peg_log": np.array([[0.0, -0.02]]), "coverage": np.full((3, 2), 1.0)}, assets=3)
    assert rows["asset"].tolist() == [0, 1, 2]
    assert rows["bar"].tolist() == [1, 1, 1]


def test_rows_have_their_declared_columns_and_types_also_when_there_are_none():
    for rows in (ran({"s": [50.0]}), ran({"peg_log": [-0.02]})):
        assert {name: values.dtype for name, values in rows.items()} == {name: np.dtype(kind) for name, kind in events.COLUMNS.items()}
        assert len({len(values) for values in rows.values()}) == 1


def test_mistakes_are_told():
    with pytest.raises(ValueError, match=r"input peg_log of shape \(2, 3\)"):
        ran({"s": np.zeros((3, 3)), "peg_log": np.zeros((2, 3))}, assets=3)
    with pytest.raises(ValueError, match="horizon of 25 h for METHODOLOGY"):
        events.start(1, replace(RULE, horizons_h=(*RULE.horizons_h[:-1], ("METHODOLOGY", 25.0))), 24.0, CASCADE)


def test_a_full_ring_is_an_error_and_never_a_loss():
    """A state made for one slot, an event of each side that has to wait three hours longer than its cool-down."""
    bars = 60
    state = events.start(1, RULE, 1.0, CASCADE)
    small = {name: values[..., :1] if name.startswith("open") else values for name, values in state.items()}
    inputs = {"liquidation_distance_sigma": np.full((1, bars), 0.5), "cascade_known": np.zeros((1, bars))}
    with pytest.raises(RuntimeError, match="more events wait"):
        events.run(inputs, T0 + np.arange(bars) * HOUR_US, small, RULE, 1.0, CASCADE)
    rows, _ = events.run(inputs, T0 + np.arange(bars) * HOUR_US, state, RULE, 1.0, CASCADE)
    assert rows["bar"].tolist() == [0, 24, 48]
