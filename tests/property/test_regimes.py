"""Regimes and the risk state on made-up inputs that hover about the limits: the laws, METHODOLOGY 4.7 and ST.7 in plain words, guard-rails."""

from __future__ import annotations

import json
import math
import operator
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.estimators import HOUR_US
from transforms.index import regimes, risk
from transforms.index.regimes import INPUTS, NEVER, NO_REGIME, REGIMES, RULES, RegimeInputs, explained, guard_rails
from transforms.index.risk import RISK_STATES
from transforms.rules import RegimeRule, RiskRule

T0 = 460_000 * HOUR_US
E = 1e-6
#: calm, at a limit, a millionth beside it, well past it
LEVELS = {
    "s": (50, 65 - E, 65, 75 - E, 75, 90),
    "carry_score": (0, 0.4 - E, 0.4, 0.7 - E, 0.7, 1),
    "level_p": (0.5, 0.6 - E, 0.6, 0.8 - E, 0.8, 1),
    "x": (30, 60 - E, 60, 85 - E, 85, 100),
    "return_24h": (0.1, -0.06 + E, -0.06, -0.1, -0.3),
    "sigma_d": (0.03, 0.03, 0.03, 0.05, 0.0),
    "oi_change_24h": (0.02, -0.05 + E, -0.05, -0.1),
    "oi_change_168h": (0.0, -0.2, -0.08, -0.08 + E, -0.02, -0.02 + E, 0.02 - E, 0.02, 0.08 - E, 0.08, 0.3),
    "oi_drawdown_90d": (0.05, 0.15 - E, 0.15, 0.4),
    "buildup_p": (0.5, 0, 0.1, 0.1 + E, 0.3, 0.3 + E, 0.7 - E, 0.7, 0.9 - E, 0.9, 1),
    "drawdown_p": (0.2, 0.5 - E, 0.5, 1),
    "flush_p": (0.2, 0.9 - E, 0.9, 1),
}
SIGNS = {">=": "ge", "<=": "le", ">": "gt", "<": "lt"}
ABSOLUTE = RegimeRule()
TRAILING = replace(
    ABSOLUTE,
    capitulation_flush_p=0.9,
    deleveraging_drawdown_p=0.5,
    deleveraging_oi_change_168h_p=0.1,
    deleveraging_leave_oi_change_168h_p=0.3,
    buildup_oi_change_168h_p=0.9,
    buildup_leave_oi_change_168h_p=0.7,
    min_dwell_h=30.0,
    recovery_max_h=50.0,
    unknown_after_h=20.0,
)


def stepping(rng, levels, assets, bars, hold):
    """Values that stay `hold` bars on average before they jump to another level."""
    drawn = rng.choice(np.array(levels, dtype=float), (assets, bars))
    jumps = rng.random((assets, bars)) < 1 / hold
    jumps[:, 0] = True
    last = np.maximum.accumulate(np.where(jumps, np.arange(bars), 0), axis=1)
    return np.take_along_axis(drawn, last, axis=1)


def spans(rng, assets, bars, longest):
    """Bars inside spans of up to `longest` bars that begin now and then."""
    inside = np.zeros((assets, bars), dtype=bool)
    for a in range(assets):
        for begin in np.flatnonzero(rng.random(bars) < 0.008):
            inside[a, begin : begin + rng.integers(1, longest)] = True
    return inside


def world(seed, assets=3, bars=400, step_h=1):
    """(inputs, when): inputs that jump about, fall silent and calm down."""
    rng = np.random.default_rng(seed)
    silent, calm, holes = spans(rng, assets, bars, 100), spans(rng, assets, bars, 250), rng.choice([0.0, 0.05, 0.3])
    found = {}
    for name, levels in LEVELS.items():
        values = np.where(calm, levels[0], stepping(rng, levels, assets, bars, rng.choice([3, 12, 40])))
        found[name] = np.where(silent | (rng.random((assets, bars)) < holes), np.nan, values)
    when = T0 + np.arange(bars, dtype=np.int64) * round(step_h * HOUR_US)
    for array in (*found.values(), when):
        array.flags.writeable = False
    return RegimeInputs(**found), when


def part(inputs, assets=slice(None), bars=slice(None)):
    return RegimeInputs(**{name: getattr(inputs, name)[assets, bars] for name in INPUTS})


def joined(parts):
    return [np.concatenate([getattr(one, name) for one in parts], axis=1) for name in ("code", "since", "changed", "rule_code")]


def same(one, other):
    """Equal in every bit: arrays of integers and truth values."""
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def plainly(at, hours, rule):
    """METHODOLOGY 4.7 bar by bar: (word or None, hour entered, rule) each; `at` gives an input by name and bar, on the grid of 1e-6."""
    found, state, since, heard = [], None, None, None
    for t, hour in enumerate(hours):
        v = {name: at(name, t) for name in INPUTS}
        move = v["sigma_d"] if v["sigma_d"] > 0 else math.nan
        made = None
        if state and hour - heard > rule.unknown_after_h:
            state, since, made = None, None, "unknown"
        if any(math.isfinite(number) for number in v.values()):
            heard = hour
            if not state:
                found.append(("neutral", hour, "start"))
                state, since = "neutral", hour
                continue
        if not state:
            found.append((None, None, made))
            continue
        low, high = rule.deleveraging_oi_change_168h_p, rule.buildup_oi_change_168h_p
        falls = v["oi_change_168h"] <= -0.08 and (low == 1 or v["buildup_p"] <= low)
        grows = v["oi_change_168h"] >= 0.08 and (high == 0 or v["buildup_p"] >= high)
        flushed = rule.capitulation_flush_p == 0 or v["flush_p"] >= rule.capitulation_flush_p
        deep = rule.deleveraging_drawdown_p == 0 or v["drawdown_p"] >= rule.deleveraging_drawdown_p
        enters = {
            "capitulation": v["x"] >= 85 and v["return_24h"] <= round(-2 * move, 6) and v["oi_change_24h"] <= -0.05 and flushed,
            "deleveraging": v["oi_drawdown_90d"] >= 0.15 and deep and falls,
            "euphoria": v["s"] >= 75 and v["carry_score"] >= 0.7 and v["level_p"] >= 0.8,
            "leverage_buildup": grows and v["level_p"] >= 0.6,
        }
        leaves = {
            "capitulation": v["x"] < 60,
            "deleveraging": v["oi_change_168h"] > -0.02 or (low < 1 and v["buildup_p"] > rule.deleveraging_leave_oi_change_168h_p),
            "euphoria": v["s"] < 65 or v["carry_score"] < 0.4,
            "leverage_buildup": v["oi_change_168h"] < 0.02 or (high > 0 and v["buildup_p"] < rule.buildup_leave_oi_change_168h_p),
            "recovery": hour - since >= rule.recovery_max_h,
            "neutral": False,
        }
        order = [*enters]
        above = order[: order.index(state)] if state in order and not leaves[state] else [name for name in order if name != state]
        wanted = next((name for name in above if enters[name]), None)
        young = hour - since < rule.min_dwell_h
        if young:
            wanted = "capitulation" if state != "capitulation" and enters["capitulation"] else None
        if wanted:
            state, since, made = wanted, hour, f"enter_{wanted}"
        elif leaves[state] and not young:
            made = "recovery_over" if state == "recovery" else f"leave_{state}"
            state, since = "recovery" if state in ("capitulation", "deleveraging") else "neutral", hour
        found.append((state, since, made))
    return found


SEEDS = st.integers(0, 2**32 - 1)
worlds = given(seed=SEEDS, rule=st.sampled_from([ABSOLUTE, TRAILING]), step_h=st.sampled_from([1, 1, 6, 24]))


def begun(inputs, when, rule, step_h):
    return regimes.run(inputs, when, regimes.start(inputs.x.shape[0], rule), rule, step_h)


@pytest.mark.parametrize("rule", [ABSOLUTE, TRAILING], ids=["absolute", "trailing"])
def test_the_worlds_make_every_change(rule):
    """A law about changes that never happen would hold for nothing."""
    found, _ = begun(*world(1, 60, 2000), rule, 1)
    seen = Counter(RULES[code] for code in found.rule_code[found.changed].tolist())
    assert min(seen[name] for name in RULES) >= 10


@worlds
@settings(max_examples=200, deadline=None)
def test_the_walk_is_the_table_in_plain_words(seed, rule, step_h):
    inputs, when = world(seed, step_h=step_h)
    found, _ = begun(inputs, when, rule, step_h)
    hours = ((when - when[0]) / HOUR_US).tolist()
    for a in range(3):
        expected = plainly(lambda name, t, a=a: float(getattr(inputs, name)[a, t]), hours, rule)
        words = [None if code == NO_REGIME else REGIMES[code] for code in found.code[a].tolist()]
        since = [None if instant == NEVER else (instant - T0) / HOUR_US for instant in found.since[a].tolist()]
        rules = [None if code < 0 else RULES[code] for code in found.rule_code[a].tolist()]
        assert list(zip(words, since, rules, strict=True)) == expected
        assert found.changed[a].tolist() == [made is not None for _, _, made in expected]


@worlds
@settings(max_examples=40, deadline=None)
def test_split_equals_whole_through_the_state(seed, rule, step_h):
    inputs, when = world(seed, step_h=step_h)
    whole, last = begun(inputs, when, rule, step_h)
    rng = np.random.default_rng(seed)
    for pieces in (2, 9, 400):
        edges = [0, *sorted(rng.choice(np.arange(1, 400), pieces - 1, replace=False).tolist()), 400]
        parts, state = [], regimes.start(3, rule)
        for a, b in pairwise(edges):
            before = {name: values.copy() for name, values in state.items()}
            one, after = regimes.run(part(inputs, bars=slice(a, b)), when[a:b], state, rule, step_h)
            assert same(before.values(), state.values())
            parts.append(one)
            state = after
        assert same(joined(parts), joined([whole]))
        assert same(state.values(), last.values())


@worlds
@settings(max_examples=30, deadline=None)
def test_what_comes_later_changes_nothing(seed, rule, step_h):
    inputs, when = world(seed, step_h=step_h)
    other, _ = world(seed + 1, step_h=step_h)
    whole, _ = begun(inputs, when, rule, step_h)
    for cut in np.random.default_rng(seed).choice(400, 3, replace=False).tolist():
        short, _ = begun(part(inputs, bars=slice(cut)), when[:cut], rule, step_h)
        mixed = {name: np.concatenate([getattr(inputs, name)[:, :cut], getattr(other, name)[:, cut:]], axis=1) for name in INPUTS}
        poisoned, _ = begun(RegimeInputs(**mixed), when, rule, step_h)
        expected = [values[:, :cut] for values in joined([whole])]
        assert same(joined([short]), expected)
        assert same([values[:, :cut] for values in joined([poisoned])], expected)


@worlds
@settings(max_examples=20, deadline=None)
def test_assets_do_not_see_each_other_and_a_state_can_be_cut_by_asset(seed, rule, step_h):
    inputs, when = world(seed, step_h=step_h)
    whole, last = begun(inputs, when, rule, step_h)
    _, state = begun(part(inputs, bars=slice(200)), when[:200], rule, step_h)
    for a in ([2], [1, 0]):
        own = {name: values[a] for name, values in state.items()}
        late, after = regimes.run(part(inputs, a, slice(200, None)), when[200:], own, rule, step_h)
        assert same(joined([late]), [values[a, 200:] for values in joined([whole])])
        assert same(after.values(), [values[a] for values in last.values()])


@worlds
@settings(max_examples=30, deadline=None)
def test_less_than_half_a_millionth_changes_nothing(seed, rule, step_h):
    inputs, when = world(seed, step_h=step_h)
    rng = np.random.default_rng(seed)
    shaken = RegimeInputs(**{name: getattr(inputs, name) + rng.uniform(-0.4, 0.4, inputs.x.shape) * E for name in INPUTS})
    assert same(joined([begun(inputs, when, rule, step_h)[0]]), joined([begun(shaken, when, rule, step_h)[0]]))


@worlds
@settings(max_examples=25, deadline=None)
def test_every_change_is_explained_with_numbers_that_make_it(seed, rule, step_h):
    """From the published text alone: each comparison can be redone, and together they amount to the change."""
    inputs, when = world(seed, step_h=step_h)
    parts, state = [], regimes.start(3, rule)
    for bars in (slice(0, 150), slice(150, 400)):
        one = part(inputs, bars=bars)
        found, after = regimes.run(one, when[bars], state, rule, step_h)
        reasons = explained(one, when[bars], found, state, rule)
        assert sorted(reasons) == [tuple(place) for place in np.argwhere(found.changed).tolist()]
        parts += [((a, bars.start + t), json.loads(json.dumps(reason, allow_nan=False))) for (a, t), reason in reasons.items()]
        state = after
    whole, _ = begun(inputs, when, rule, step_h)
    for (a, t), reason in parts:
        before = whole.code[a, t - 1] if t else NO_REGIME
        assert [reason["from"], reason["to"]] == [None if c == NO_REGIME else REGIMES[c] for c in (before, whole.code[a, t])]
        assert reason["rule"] == RULES[whole.rule_code[a, t]]
        met = {}
        for row in reason["compared"]:
            known = row["value"] is not None and row["limit"] is not None
            assert row["met"] == (known and getattr(operator, SIGNS[row["is"]])(row["value"], row["limit"]))
            met.setdefault(row["rule"], []).append(row["met"])
            if row["input"] in INPUTS:
                value = getattr(inputs, row["input"])[a, t]
                assert row["value"] == (None if np.isnan(value) else np.round(value, 6))
            if "of" not in row:
                assert row["limit"] == getattr(rule, row["setting"])
        for name, results in met.items():
            assert any(results) if name.startswith("leave_") else all(results)
        assert reason["rule"] in met or reason["rule"] == "start"


SOUND = {"capitulation": 0.01, "deleveraging": 0.13, "euphoria": 0.05, "leverage_buildup": 0.1, "recovery": 0.14, "neutral": 0.57}
#: word -> shares allowed, shares refused; METHODOLOGY 10: the synthetic run was deleveraging in 0.32 of its bars
RAILS = {word: ([0.25], [0.251, 0.32]) for word in ("deleveraging", "leverage_buildup", "recovery")} | {
    "neutral": ([0.35, 0.65], [0.349, 0.651]),
    "capitulation": ([0.005, 0.03], [0.004, 0.031]),
    "euphoria": ([0.01, 0.08], [0.009, 0.081]),
}


def judged(shares):
    """Guard-rails of 3000 hours of one asset, its states one after the other."""
    codes = np.repeat(np.arange(6, dtype=np.int8), [round(shares[word] * 3000) for word in REGIMES])
    return guard_rails(codes[None, :], T0 + np.arange(3000) * HOUR_US, ABSOLUTE)


def test_a_sound_history_breaks_nothing():
    found = judged(SOUND)
    assert found == {"bars": 3000, "days": 2999 / 24, "shares": SOUND, "changes_30d": round(5 * 30 * 24 / 2999, 6), "broken": []}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("word", RAILS)
def test_each_guard_rail_breaks_beyond_its_limits(word):
    others = ("deleveraging", "leverage_buildup", "recovery") if word == "neutral" else ("neutral",)
    for shares, broken in zip(RAILS[word], ([], [word]), strict=True):
        for share in shares:
            moved = {other: SOUND[other] + (SOUND[word] - share) / len(others) for other in others}
            assert [sentence.split()[0] for sentence in judged(SOUND | moved | {word: share})["broken"]] == broken


def test_changes_are_counted_per_thirty_days_between_bars_that_both_have_a_regime():
    when = T0 + np.arange(721, dtype=np.int64) * HOUR_US
    codes = np.full((2, 721), REGIMES.index("neutral"), dtype=np.int8)
    codes[0, 100:600:100] = REGIMES.index("euphoria")  # five bars: ten changes in 30 d; the other asset has none
    assert guard_rails(codes, when, ABSOLUTE)["changes_30d"] == 5.0
    one = guard_rails(codes[:1], when, ABSOLUTE)
    assert one["changes_30d"] == 10.0
    assert "10 changes in 30 d; 6 are allowed" in one["broken"]
    codes[0, 99] = NO_REGIME
    one = guard_rails(codes[:1], when, ABSOLUTE)
    assert one["changes_30d"] == round(9 * 30 * 24 / 718, 6)
    assert one["shares"]["neutral"] == round(715 / 720, 6)
    assert guard_rails(np.full_like(codes, NO_REGIME), when, ABSOLUTE)["broken"] == ["no two neighbouring bars have a regime"]


def risky(seed, bars=400):
    """(stablecoin score, trend score, x, when) in steps that cross the limits."""
    rng = np.random.default_rng(seed)
    steps = np.linspace(-1, 1, 41)
    found = [stepping(rng, steps, 3, bars, 4), stepping(rng, steps, 3, bars, 9), stepping(rng, 50 + 50 * steps, 3, bars, 6)]
    silent = spans(rng, 3, bars, 100)
    when = T0 + np.arange(bars, dtype=np.int64) * HOUR_US
    found = [np.where(silent | (rng.random((3, bars)) < 0.02), np.nan, values) for values in found]
    for array in (*found, when):
        array.flags.writeable = False
    return (*found, when)


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_the_risk_state_is_its_rule_in_plain_words_and_splits(seed):
    rule = RiskRule()
    stablecoin, trend, x, when = risky(seed)
    (code, value), last = risk.run(stablecoin, trend, x, when, risk.start(3, rule), rule)
    assert np.nanmax(np.abs(value)) <= 1
    for a in range(3):
        state, heard = None, -math.inf
        for t in range(len(when)):
            v = float(np.round(0.4 * stablecoin[a, t] + 0.3 * trend[a, t] + 0.3 * (1 - 2 * x[a, t] / 100), 6))
            assert value[a, t] == v or (math.isnan(value[a, t]) and math.isnan(v))
            state = None if t - heard > 72 else state
            if not math.isnan(v):
                heard = t
                stays = (state == "risk_on" and v >= 0.1) or (state == "risk_off" and v <= -0.1)
                state = "risk_on" if v >= 0.2 else "risk_off" if v <= -0.2 else state if stays else "mixed"
            assert (None if code[a, t] < 0 else RISK_STATES[code[a, t]]) == state
    cut = int(np.random.default_rng(seed).integers(0, 401))
    first, state = risk.run(stablecoin[:, :cut], trend[:, :cut], x[:, :cut], when[:cut], risk.start(3, rule), rule)
    for values in state.values():
        values.flags.writeable = False
    second, after = risk.run(stablecoin[:, cut:], trend[:, cut:], x[:, cut:], when[cut:], state, rule)
    assert np.array_equal(np.concatenate([first[0], second[0]], axis=1), code)
    assert np.concatenate([first[1], second[1]], axis=1).tobytes() == value.tobytes()
    assert same(after.values(), last.values())


def test_the_risk_worlds_know_every_state():
    code = np.concatenate([risk.run(*risky(seed), risk.start(3, RiskRule()), RiskRule())[0][0].ravel() for seed in range(5)])
    assert {*code.tolist()} == {risk.NO_STATE, *range(len(RISK_STATES))}


def risk_of(values):
    """Words along hourly values, made of one score and X = 50; None = unknown."""
    scores = np.array([[np.nan if v is None else v / 0.7 for v in values]])
    when = T0 + np.arange(len(values), dtype=np.int64) * HOUR_US
    (code, value), _ = risk.run(scores, np.nan_to_num(scores), np.full(scores.shape, 50.0), when, risk.start(1, RiskRule()), RiskRule())
    assert np.allclose(value[0], [np.nan if v is None else v for v in values], rtol=0, atol=E, equal_nan=True)
    return [None if c == risk.NO_STATE else RISK_STATES[c] for c in code[0]]


def test_the_risk_state_along_paths_made_by_hand():
    on, off, mixed = RISK_STATES
    assert risk_of([0.199999, 0.2, 0.1, 0.099999, 0.199999, 0.1999996]) == [mixed, on, on, mixed, mixed, on]
    assert risk_of([-0.199999, -0.2, -0.1, -0.099999, -0.199999, -0.1999996]) == [mixed, off, off, mixed, mixed, off]
    assert risk_of([0.3, -0.05, 0.15, -0.3, 0.3]) == [on, mixed, mixed, off, on]
    assert risk_of([None, 0.3, *[None] * 71, 0.15]) == [None, on, *[on] * 71, on]
    assert risk_of([0.3, *[None] * 74, 0.15]) == [on, *[on] * 72, None, None, mixed]


def test_one_stablecoin_score_serves_all_assets_and_the_value_is_the_weighted_sum():
    one, trend, x = np.array([[0.5]]), np.array([[-0.2], [1.0]]), np.array([[30.0], [0.0]])
    (code, value), _ = risk.run(one, trend, x, np.array([T0]), risk.start(2, RiskRule()), RiskRule())
    assert value[:, 0].tolist() == [0.26, 0.8]
    assert {*code[:, 0]} == {RISK_STATES.index("risk_on")}


def test_what_does_not_fit_the_risk_state_is_refused():
    rule, when, one = RiskRule(), np.array([T0]), np.array([[0.0]])
    for name, value in (("trend_weight", 0.4), ("calm_weight", -0.3), ("leave", 0.2), ("enter", math.nan), ("unknown_after_h", -1.0)):
        with pytest.raises(ValueError, match=f"found RiskRule.*{value}"):
            risk.start(1, replace(rule, **{name: value}))
    with pytest.raises(ValueError, match="found inputs of shapes"):
        risk.run(one, np.zeros((1, 2)), one, when, risk.start(1, rule), rule)
    _, later = risk.run(one, one, one, when, risk.start(1, rule), rule)
    with pytest.raises(ValueError, match="written at or after"):
        risk.run(one, one, one, when, later, rule)
