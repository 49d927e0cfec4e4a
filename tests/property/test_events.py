"""Laws of what is recursive around cascades: label, detector, probability, events. Whole equals pieces, nothing sees the future."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.estimators import DAY_US, HOUR_US
from transforms.index import cascades, events, probability
from transforms.index.event_types import EVENT_TYPES
from transforms.rules import CascadeRule, EventRule, ProbabilityRule

CASCADE, EVENT = CascadeRule(), EventRule(min_history=2)
CHANCE = replace(ProbabilityRule(), refit_d=2.0, window_d=20.0, validation_d=8.0, min_events=2, min_validation_events=1)
BARS = {1.0: 24 * 40, 24.0: 300}
ASSETS = 3
STEPS = pytest.mark.parametrize("step_h", list(BARS))
LAWS = settings(max_examples=25, deadline=None)


@dataclass(frozen=True)
class Market:
    step_h: float
    when: np.ndarray
    inputs: dict[str, np.ndarray]

    def part(self, start: int, end: int, assets: slice = slice(None)) -> Market:
        cut = {name: values[assets if len(values) > 1 else slice(None), start:end] for name, values in self.inputs.items()}
        return Market(self.step_h, self.when[start:end], cut)


@cache
def market(step_h: float, seed: int) -> Market:
    """A restless market with gaps, in which every type of event is raised."""
    rng = np.random.default_rng(seed)
    shape = (ASSETS, BARS[step_h])

    def wander(scale=1.0, rho=0.9):
        found, z = np.empty(shape), np.zeros(ASSETS)
        for t in range(shape[1]):
            z = rho * z + np.sqrt(1 - rho**2) * rng.standard_normal(ASSETS)
            found[:, t] = z
        return found * scale

    def share(x):
        return 1 / (1 + np.exp(-1.7 * x))

    when = 1400 * 14 * DAY_US + 5 * DAY_US + np.arange(shape[1]) * round(step_h) * HOUR_US
    returns = rng.standard_t(3, shape) * 0.02 * np.sqrt(step_h / 24)
    links = rng.standard_t(3, shape) * 0.006 * np.sqrt(step_h)
    burst = rng.random(shape) < 0.02
    returns, links = np.where(burst, returns * 6, returns), np.where(burst, -0.07, links)
    expiry_h = 168.0 - (when // HOUR_US - 8) % 168
    inputs = {
        "return_1bar": returns,
        "oi_link": links,
        "sigma_d": np.exp(wander(0.1, 0.99)) * 0.03,
        "intensity_p": np.where(burst, 0.995, share(wander())),
        "f": 100 * share(wander(1.0, 0.98)),
        "s": 50 + wander(15),
        "x": 50 + wander(15),
        "carry_score": np.tanh(wander(1.5)),
        "level_p": share(wander()),
        "buildup_p": share(wander(1.2)),
        "oi_change_24h": wander(0.08),
        "oi_change_168h": wander(0.1),
        "return_24h": wander(0.03),
        "liquidation_distance_sigma": wander(2.0),
        "strike_distance_em": wander(),
        "option_expiry_h": np.broadcast_to(expiry_h, shape).astype(float),
        "gamma_flow_usd": wander(60e6),
        "regime": rng.integers(-1, 6, shape).astype(float),
        "peg_log": wander(0.004)[:1],
        "supply_growth_7d": wander(0.008),
        "funding_dispersion_p": share(wander(1.5)),
        "source_disagreement": np.abs(wander()),
        "contributions_abs": 25 + wander(8),
        "confidence": share(wander() + 1),
        "coverage": share(wander() + 1),
        "epoch_change": (rng.random(shape) < 0.01).astype(float),
        "settled": (when // HOUR_US % 8 == 0)[None, :].astype(float),
    }
    holes = {name: np.where(rng.random(values.shape) < 0.01, np.nan, values) for name, values in inputs.items() if name != "settled"}
    return Market(step_h, when, inputs | holes)


# --- the four, each as (outputs, state) over a market -------------------------------------------------------------------------------

State = dict[str, np.ndarray]
Outputs = dict[str, np.ndarray]


def _label(m: Market, state: State) -> tuple[Outputs, State]:
    one, state = cascades.label(m.inputs["return_1bar"], m.inputs["oi_link"], m.inputs["sigma_d"], m.when, CASCADE, m.step_h, state)
    return {"side": one.side, "began": one.began, "seen": one.seen}, state


def _detect(m: Market, state: State) -> tuple[Outputs, State]:
    sigma_h = m.inputs["sigma_d"] / np.sqrt(24)
    links = m.inputs["oi_link"]
    found, state = cascades.detect(m.inputs["intensity_p"], m.inputs["return_1bar"], sigma_h, links, m.when, CASCADE, m.step_h, state)
    return {"state": found}, state


def _starts(m: Market, state: State) -> tuple[cascades.Starts, State]:
    return cascades.label(m.inputs["return_1bar"], m.inputs["oi_link"], m.inputs["sigma_d"], m.when, CASCADE, m.step_h, state)


def _joined(one: State, other: State) -> State:
    return {f"label {name}": values for name, values in one.items()} | {f"own {name}": values for name, values in other.items()}


def _apart(state: State) -> tuple[State, State]:
    one, other = ({name[len(kind) :]: values for name, values in state.items() if name.startswith(kind)} for kind in ("label ", "own "))
    return one, other


def _chance(m: Market, state: State) -> tuple[Outputs, State]:
    before, own = _apart(state)
    starts, before = _starts(m, before)
    one, own = probability.run(m.inputs["f"], starts, m.when, CHANCE, CASCADE, m.step_h, own)
    return {name: getattr(one, name) for name in ("p", "base_rate", "skill", "why", "forecast")}, _joined(before, own)


def _events(m: Market, state: State) -> tuple[Outputs, State]:
    before, own = _apart(state)
    starts, before = _starts(m, before)
    told = {"cascade_known": starts.signed(), "cascade_age_h": starts.age_h(m.when), "cascade_state": np.sign(starts.signed())}
    rows, own = events.run(m.inputs | told, m.when, own, EVENT, m.step_h, CASCADE)
    return rows, _joined(before, own)


def _start(name: str, step_h: float, assets: int = ASSETS) -> State:
    label = cascades.label_start(assets, CASCADE, step_h)
    return {
        "label": lambda: label,
        "detector": lambda: cascades.detector_start(assets),
        "probability": lambda: _joined(label, probability.start(assets, CHANCE, CASCADE, step_h)),
        "events": lambda: _joined(label, events.start(assets, EVENT, step_h, CASCADE)),
    }[name]()


RUN: dict[str, Callable[[Market, State], tuple[Outputs, State]]] = {
    "label": _label,
    "detector": _detect,
    "probability": _chance,
    "events": _events,
}
EACH = pytest.mark.parametrize("name", list(RUN))


def bits(values: np.ndarray) -> bytes:
    """What is compared: the bytes, every NaN one NaN."""
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.nan, values)
    return np.ascontiguousarray(values).tobytes() + str((values.shape, values.dtype)).encode()


def differing(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if bits(one[name]) != bits(other[name])]


def joined(parts: list[tuple[int, Outputs]], name: str) -> Outputs:
    """Outputs of consecutive pieces as those of one run; pieces are (first bar, outputs)."""
    if name != "events":
        return {column: np.concatenate([part[column] for _, part in parts], axis=1) for column in parts[0][1]}
    return {
        column: np.concatenate([part[column] + (first if column == "bar" else 0) for first, part in parts]).astype(values.dtype)
        for column, values in parts[0][1].items()
    }


def upto(outputs: Outputs, bars: int, name: str) -> Outputs:
    if name != "events":
        return {column: values[:, :bars] for column, values in outputs.items()}
    return {column: values[outputs["bar"] < bars] for column, values in outputs.items()}


@cache
def whole(name: str, step_h: float, seed: int) -> tuple[Outputs, State]:
    return RUN[name](market(step_h, seed), _start(name, step_h))


# --- laws -------------------------------------------------------------------------------------------------------------------------


@EACH
@STEPS
@LAWS
@given(data=st.data())
def test_pieces_are_the_whole(name, step_h, data):
    seed = data.draw(st.integers(0, 2))
    inner = data.draw(st.lists(st.integers(0, BARS[step_h]), max_size=5))
    edges = [0, *sorted(inner), BARS[step_h]]
    state, parts = _start(name, step_h), []
    for first, last in pairwise(edges):
        outputs, state = RUN[name](market(step_h, seed).part(first, last), state)
        parts.append((first, outputs))
    outputs, after = whole(name, step_h, seed)
    assert differing(joined(parts, name), outputs) == []
    assert differing(state, after) == []


@EACH
@STEPS
@LAWS
@given(data=st.data())
def test_nothing_sees_the_future(name, step_h, data):
    """Without the bars after a cut, and with other bars after it, what was said up to it is the same."""
    seed = data.draw(st.integers(0, 2))
    cut = data.draw(st.integers(1, BARS[step_h] - 1))
    said = upto(whole(name, step_h, seed)[0], cut, name)
    truncated, _ = RUN[name](market(step_h, seed).part(0, cut), _start(name, step_h))
    assert differing(truncated, said) == []
    known, other = market(step_h, seed), market(step_h, seed + 1)
    mixed = {key: np.concatenate([values[:, :cut], other.inputs[key][:, cut:]], axis=1) for key, values in known.inputs.items()}
    poisoned, _ = RUN[name](Market(step_h, known.when, mixed), _start(name, step_h))
    assert differing(upto(poisoned, cut, name), said) == []


@STEPS
def test_a_label_told_where_it_began_would_be_caught(step_h):
    """The positive control: telling a start at its beginning is what the law forbids."""

    def leaky(m: Market) -> np.ndarray:
        side, _ = _label(m, _start("label", step_h))
        told = np.zeros_like(side["side"])
        for a, t in np.argwhere(side["side"]):
            told[a, np.searchsorted(m.when, side["began"][a, t])] = side["side"][a, t]
        return told

    all_of_it = leaky(market(step_h, 0))
    broken = [cut for cut in range(50, 250) if not np.array_equal(leaky(market(step_h, 0).part(0, cut)), all_of_it[:, :cut])]
    assert broken


@pytest.mark.parametrize("name", ["label", "detector", "events"])
@STEPS
def test_assets_do_not_know_of_each_other(name, step_h):
    """States and outputs of one asset are slices of those of all. The probability is pooled and says so."""
    outputs, after = whole(name, step_h, 1)
    for a in range(ASSETS):
        alone, state = RUN[name](market(step_h, 1).part(0, BARS[step_h], slice(a, a + 1)), _start(name, step_h, 1))
        own = {key: values[outputs["asset"] == a] for key, values in outputs.items()} if name == "events" else {}
        own = own | {"asset": own["asset"] * 0} if own else {key: values[a : a + 1] for key, values in outputs.items()}
        assert differing(alone, own) == []
        assert differing(state, {key: values[a : a + 1] for key, values in after.items()}) == []


@EACH
@STEPS
def test_inputs_and_states_are_left_as_they_were(name, step_h):
    start, inputs = _start(name, step_h), market(step_h, 2).inputs
    before = {key: bits(values) for key, values in (start | inputs).items()}
    _, after = RUN[name](market(step_h, 2), start)
    assert {key: bits(values) for key, values in (start | inputs).items()} == before
    for key, values in after.items():
        assert (values.shape, values.dtype) == (start[key].shape, start[key].dtype), key
        assert not np.shares_memory(values, start[key]), key


@STEPS
def test_the_market_is_worth_running(step_h):
    """Laws over silence would prove nothing: every type is raised, both sides of cascades occur, forecasts are made and shown."""
    rows, _ = whole("events", step_h, 0)
    assert set(rows["type"].tolist()) == set(range(len(EVENT_TYPES)))
    assert np.isfinite(rows["hist_precision"]).any()
    assert np.isfinite(rows["hist_recall"]).any()
    assert np.isfinite(rows["base_rate"]).any()
    found, _ = whole("probability", step_h, 0)
    assert np.isfinite(found["forecast"]).any()
    assert set(np.unique(whole("label", step_h, 0)[0]["side"])) == {-1, 0, 1}
    assert {-1.0, 0.0, 1.0} <= set(whole("detector", step_h, 0)[0]["state"][np.isfinite(whole("detector", step_h, 0)[0]["state"])])
    shown = [np.isfinite(whole("probability", step_h, seed)[0]["p"]).any() for seed in range(4)]
    assert any(shown)


@STEPS
@LAWS
@given(data=st.data())
def test_the_densest_events_never_outgrow_what_waits(step_h, data):
    """Whatever the sides and the gaps: one event of a side per cool-down, and no error."""
    bars = 24 * 20 if step_h == 1.0 else 120
    sides = np.array(data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=bars, max_size=bars)))
    ones = np.ones((1, bars))
    inputs = {
        "carry_score": sides[None],
        "level_p": ones,
        "settled": ones,
        "liquidation_distance_sigma": 0.5 * sides[None],
        "cascade_state": sides[None],
        "cascade_known": sides[None],
        "peg_log": 0.1 * sides[None],
        "funding_dispersion_p": ones,
    }
    when = 1400 * 14 * DAY_US + np.arange(bars) * round(step_h) * HOUR_US
    rows, _ = events.run(inputs, when, events.start(1, EVENT, step_h, CASCADE), EVENT, step_h, CASCADE)
    for kind in set(rows["type"].tolist()):
        for side in (-1, 1):
            at = rows["as_of"][(rows["type"] == kind) & (rows["side"] == side)]
            assert (np.diff(at) >= max(EVENT.horizon_h(EVENT_TYPES[kind].name), step_h) * HOUR_US).all()
    assert ((rows["severity"] >= 0) & (rows["severity"] <= 1)).all()
    for share in ("hist_precision", "hist_recall", "base_rate"):
        known = rows[share][np.isfinite(rows[share])]
        assert ((known >= 0) & (known <= 1)).all()
