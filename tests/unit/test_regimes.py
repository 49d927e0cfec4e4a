"""Regimes along paths made by hand: every transition, every edge, every missing input, every explanation (METHODOLOGY 4.7)."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from transforms.estimators import HOUR_US
from transforms.index import regimes
from transforms.index.regimes import ENTER, INPUTS, LEAVE, NEVER, NO_REGIME, REGIMES, RULES, RegimeInputs, explain, explained
from transforms.rules import RegimeRule

RULE = RegimeRule()
T0 = 460_000 * HOUR_US
NAN = float("nan")
STEP = 1e-6

#: a bar on which no rule to enter and no rule to leave is met
CALM = dict.fromkeys(INPUTS, 0.5) | {
    "s": 70.0, "x": 70.0, "carry_score": 0.5, "return_24h": 0.0, "sigma_d": 0.03, "oi_change_24h": 0.0, "oi_change_168h": 0.0,
    "oi_drawdown_90d": 0.05,
}  # fmt: skip
NOTHING = dict.fromkeys(INPUTS, NAN)
#: exactly at every limit of METHODOLOGY 4.7
AT = {
    "capitulation": {"x": 85.0, "return_24h": -0.06, "oi_change_24h": -0.05},
    "deleveraging": {"oi_drawdown_90d": 0.15, "oi_change_168h": -0.08},
    "euphoria": {"s": 75.0, "carry_score": 0.7, "level_p": 0.8},
    "leverage_buildup": {"oi_change_168h": 0.08, "level_p": 0.6},
}
#: what keeps a state without meeting the rule to enter it, and what lets it go
HELD = {
    "capitulation": {"x": 60.0},
    "deleveraging": {"oi_change_168h": -0.02},
    "euphoria": {"s": 65.0, "carry_score": 0.4},
    "leverage_buildup": {"oi_change_168h": 0.02},
}
SHUT = {"oi_change_168h": 0.0}
OUT = {"capitulation": {"x": 59.0}, "deleveraging": SHUT, "euphoria": {"s": 60.0}, "leverage_buildup": SHUT}
GOES_TO = {"capitulation": "recovery", "deleveraging": "recovery", "euphoria": "neutral", "leverage_buildup": "neutral"}
ENTERED = tuple(AT)


def bar(*changes, **more):
    found = dict(CALM)
    for change in changes:
        found |= change
    return found | more


def inputs_of(path):
    return RegimeInputs(**{name: np.array([[one[name] for one in path]], dtype=float) for name in INPUTS})


def walk(path, rule=RULE, step_h=1):
    """(words, Regimes) along bars of one asset."""
    when = T0 + np.arange(len(path), dtype=np.int64) * round(step_h * HOUR_US)
    found, _ = regimes.run(inputs_of(path), when, regimes.start(1, rule), rule, step_h)
    return [None if code == NO_REGIME else REGIMES[code] for code in found.code[0]], found


def reasons(path, rule=RULE, step_h=1):
    """explain() of every change by bar."""
    when = T0 + np.arange(len(path), dtype=np.int64) * round(step_h * HOUR_US)
    state = regimes.start(1, rule)
    found, _ = regimes.run(inputs_of(path), when, state, rule, step_h)
    return {t: one for (_, t), one in explained(inputs_of(path), when, found, state, rule).items()}


def rules_of(found):
    return {t: RULES[code] for t, code in enumerate(found.rule_code[0]) if code >= 0}


def into(state):
    """A path of 14 bars that is in the state from bar 12 on, entered by its rule there."""
    return [bar()] * 12 + [bar(AT[state])] * 2


@pytest.mark.parametrize("state", ENTERED)
def test_the_first_known_bar_is_neutral_whatever_it_says(state):
    words, found = walk([NOTHING, NOTHING, bar(AT[state])])
    assert words == [None, None, "neutral"]
    assert found.since[0].tolist() == [NEVER, NEVER, T0 + 2 * HOUR_US]
    assert found.changed[0].tolist() == [False, False, True]
    assert rules_of(found) == {2: "start"}
    assert np.isnat(found.since.view("M8[us]")[0, 0])


@pytest.mark.parametrize("name", INPUTS)
def test_any_one_input_makes_a_bar_known(name):
    assert walk([NOTHING, NOTHING | {name: 0.1}])[0] == [None, "neutral"]
    assert walk([NOTHING, NOTHING | {name: np.inf}])[0] == [None, None]


@pytest.mark.parametrize("state", ENTERED)
def test_a_state_is_entered_exactly_at_its_limits_and_after_the_dwell(state):
    words, found = walk([bar()] + [bar(AT[state])] * 13)
    first = 1 if state == "capitulation" else 12
    assert words == ["neutral"] * first + [state] * (14 - first)
    assert rules_of(found) == {0: "start", first: f"enter_{state}"}
    assert found.since[0, -1] == T0 + first * HOUR_US


EDGES = [(state, name) for state in ENTERED for name in AT[state]]


@pytest.mark.parametrize(("state", "name"), EDGES)
def test_a_millionth_short_of_a_limit_is_short_and_less_than_half_of_it_is_not(state, name):
    inward = -1 if AT[state][name] < 0 else 1
    value = AT[state][name]
    for moved, enters in ((value - 0.4 * STEP * inward, True), (value - STEP * inward, False)):
        words, _ = walk([bar()] * 12 + [bar(AT[state], **{name: moved})])
        assert words[-1] == (state if enters else "neutral")


def test_the_limit_in_standard_deviations_is_rounded_too():
    """2.29 * 0.012345 = 0.02827005, which is 0.02827 on the grid of millionths."""
    rule = replace(RULE, capitulation_return_sigmas=-2.29)
    for move, expected in ((-0.02827, "capitulation"), (-0.028269, "neutral")):
        assert walk([bar(), bar(AT["capitulation"], sigma_d=0.012345, return_24h=move)], rule)[0][-1] == expected


@pytest.mark.parametrize("sigma", [0.0, 4e-7, -0.01, NAN])
def test_without_a_volatility_nothing_capitulates(sigma):
    assert walk([bar(), bar(AT["capitulation"], sigma_d=sigma, return_24h=-1.0)])[0] == ["neutral", "neutral"]


@pytest.mark.parametrize(("state", "name"), EDGES)
def test_nothing_is_entered_on_an_unknown_value(state, name):
    assert walk([bar()] * 12 + [bar(AT[state], **{name: NAN})])[0][-1] == "neutral"


EXITS = [(state, name) for state in ENTERED for name in HELD[state]]


@pytest.mark.parametrize(("state", "name"), EXITS)
def test_a_state_is_left_just_beyond_the_limit_and_not_at_it(state, name):
    outward = 1 if state == "deleveraging" else -1
    kept = HELD[state][name]
    for moved, stays in ((kept, True), (kept + 0.4 * STEP * outward, True), (kept + STEP * outward, False)):
        path = into(state) + [bar(HELD[state])] * 10 + [bar(HELD[state], **{name: moved})]
        words, found = walk(path)
        assert words[12:24] == [state] * 12
        assert words[24] == (state if stays else GOES_TO[state])
        assert rules_of(found).get(24) == (None if stays else f"leave_{state}")


@pytest.mark.parametrize("state", ENTERED)
def test_a_state_whose_rule_to_leave_cannot_be_evaluated_stays(state):
    unknown = bar(**dict.fromkeys(HELD[state], NAN))
    assert set(walk(into(state) + [unknown] * 60)[0][12:]) == {state}


def test_one_of_two_ways_out_is_enough_even_when_the_other_is_unknown():
    for gone, unknown in (("s", "carry_score"), ("carry_score", "s")):
        path = into("euphoria") + [bar(HELD["euphoria"])] * 10 + [bar(**{gone: 0.0, unknown: NAN})]
        assert walk(path)[0][-2:] == ["euphoria", "neutral"]


@pytest.mark.parametrize("state", ENTERED)
def test_a_state_lasts_at_least_twelve_hours_though_it_could_be_left_at_once(state):
    assert walk([*into(state), *[bar(OUT[state])] * 20])[0][12:25] == [state] * 12 + [GOES_TO[state]]


def test_the_dwell_is_in_hours_and_not_in_bars():
    for step_h, stays in ((1, 12), (3, 4), (5, 3), (24, 1)):
        words, _ = walk([bar()] + [bar(AT["euphoria"])] * 13, step_h=step_h)
        assert words == ["neutral"] * stays + ["euphoria"] * (14 - stays)


@pytest.mark.parametrize("state", ENTERED[1:])
def test_only_capitulation_breaks_into_a_young_state(state):
    young = [*into(state)[:13]]
    words, found = walk([*young, bar(AT["capitulation"])])
    assert words[-2:] == [state, "capitulation"]
    assert rules_of(found)[13] == "enter_capitulation"
    for other in ENTERED[1:]:
        assert walk([*young, bar(OUT[state], AT[other])])[0][-2:] == [state, state]


#: deleveraging and leverage_buildup ask for opposite signs of one number
PAIRS = [(a, b) for n, a in enumerate(ENTERED) for b in ENTERED[n + 1 :] if (a, b) != ("deleveraging", "leverage_buildup")]


@pytest.mark.parametrize(("upper", "lower"), PAIRS)
def test_of_two_rules_that_hold_the_upper_one_wins_from_anywhere(upper, lower):
    both = bar(AT[lower], AT[upper])
    for path in ([bar()] * 12 + [both], [*into(lower), *[both] * 20], [*into(upper), *[both] * 20]):
        assert walk(path)[0][-1] == upper


def test_a_lower_state_waits_until_the_upper_one_is_left_and_then_takes_over_without_a_stop():
    building = bar(HELD["euphoria"], AT["leverage_buildup"])
    path = into("euphoria") + [building] * 20 + [bar(building, s=64.0)]
    words, found = walk(path)
    assert words[12:] == ["euphoria"] * 22 + ["leverage_buildup"]
    assert rules_of(found)[34] == "enter_leverage_buildup"


def test_capitulation_over_while_open_interest_still_falls_is_deleveraging_and_not_recovery():
    words, found = walk([*into("capitulation"), *[bar(OUT["capitulation"], AT["deleveraging"])] * 20])
    assert words[12:25] == ["capitulation"] * 12 + ["deleveraging"]
    assert rules_of(found)[24] == "enter_deleveraging"


@pytest.mark.parametrize("state", ENTERED)
@pytest.mark.parametrize("noise", [1, 2, 3])
def test_noise_between_the_limits_does_not_make_it_flicker(state, noise):
    """Inputs that jump about between the limit to enter and the limit to leave change the state once: when they first reach the former."""
    rng = np.random.default_rng(noise)
    path = [bar()] * 12
    for _ in range(600):
        share = rng.random()
        path.append(bar(AT[state], {name: kept + (AT[state].get(name, kept) - kept) * share for name, kept in HELD[state].items()}))
    path[100] = bar(AT[state])
    words, found = walk(path)
    assert rules_of(found) == {0: "start", 100: f"enter_{state}"}
    assert words[-1] == state


def recovering(bars):
    return [*into("deleveraging"), *[bar(HELD["deleveraging"])] * 10, *[bar()] * bars]


def test_recovery_lasts_seven_days():
    words, found = walk(recovering(200))
    assert words[24:] == ["recovery"] * 168 + ["neutral"] * 32
    assert rules_of(found)[192] == "recovery_over"


def test_recovery_ends_by_the_clock_although_nothing_is_known():
    rule = replace(RULE, unknown_after_h=1000.0)
    assert walk(recovering(1) + [NOTHING] * 200, rule)[0][24:] == ["recovery"] * 168 + ["neutral"] * 33


@pytest.mark.parametrize("state", ENTERED)
def test_another_rule_ends_recovery(state):
    assert walk([*recovering(13), bar(AT[state])])[0][24:] == ["recovery"] * 13 + [state]


@pytest.mark.parametrize("step_h", [1, 24])
def test_nothing_known_for_longer_than_allowed_ends_the_regime_and_the_next_known_bar_starts_anew(step_h):
    held = 72 // step_h
    path = [*into("euphoria"), *[NOTHING] * (held + 2), bar(AT["euphoria"]), bar(AT["capitulation"])]
    words, found = walk(path, step_h=step_h)
    lost = 14 + held
    assert words[13:] == ["euphoria"] * (1 + held) + [None, None, "neutral", "capitulation"]
    assert {t: rule for t, rule in rules_of(found).items() if t >= 14} == {
        lost: "unknown",
        lost + 2: "start",
        lost + 3: "enter_capitulation",
    }
    assert found.since[0, lost] == NEVER
    assert found.since[0, lost + 2] == T0 + (lost + 2) * step_h * HOUR_US


def test_a_gap_as_long_as_allowed_changes_nothing_and_a_longer_one_starts_anew():
    for gap, word in ((71, "euphoria"), (72, "neutral")):
        words, found = walk([*into("euphoria"), *[NOTHING] * gap, bar(AT["euphoria"])])
        assert words[-2:] == ["euphoria", word]
        assert found.changed[0, -1] == (word == "neutral")


# --- percentiles -------------------------------------------------------------------------------------------------------------------------

PERCENTILES = [
    (state, one) for state, row in zip(ENTERED, ENTER, strict=True) for one in row if one.value in ("flush_p", "drawdown_p", "buildup_p")
]


@pytest.mark.parametrize(("state", "one"), PERCENTILES, ids=[one.limit for _, one in PERCENTILES])
def test_a_percentile_everything_passes_is_not_asked_and_any_other_is(state, one):
    neutral, asked = replace(RULE, **{one.limit: one.neutral}), replace(RULE, **{one.limit: 0.5})
    beyond = STEP if one.sign == ">=" else -STEP
    for value, met in ((0.5 + beyond, True), (0.5, True), (0.5 - beyond, False), (NAN, False)):
        for rule, enters in ((neutral, True), (asked, met)):
            assert walk([bar()] * 12 + [bar(AT[state], **{one.value: value})], rule)[0][-1] == (state if enters else "neutral")


@pytest.mark.parametrize(("state", "low", "high"), [("deleveraging", 0.3, 0.1), ("leverage_buildup", 0.7, 0.9)])
def test_a_percentile_alone_is_enough_to_leave(state, low, high):
    short = "deleveraging" if state == "deleveraging" else "buildup"
    asked = replace(RULE, **{f"{short}_oi_change_168h_p": high, f"{short}_leave_oi_change_168h_p": low})
    beyond = STEP if state == "deleveraging" else -STEP
    for value, leaves in ((low + beyond, True), (low, False), (NAN, False)):
        path = [bar()] * 12 + [bar(AT[state], buildup_p=high)] + [bar(AT[state], buildup_p=value)] * 12
        assert walk(path)[0][12:] == [state] * 13
        assert walk(path, asked)[0][12:] == [state] * 12 + [GOES_TO[state] if leaves else state]


def test_an_absolute_limit_of_nothing_still_asks_for_the_sign():
    rule = replace(RULE, buildup_oi_change_168h_log=0.0, buildup_leave_oi_change_168h_log=-0.01, buildup_oi_change_168h_p=0.9)
    for change, word in ((0.0, "leverage_buildup"), (-STEP, "neutral")):
        assert walk([bar()] * 12 + [bar(oi_change_168h=change, buildup_p=0.95, level_p=0.7)], rule)[0][-1] == word


def test_explain_says_exactly_the_numbers_compared():
    path = [bar(), bar(AT["capitulation"], x=91.23456789, return_24h=-0.07, sigma_d=0.0312345678)]
    first, second = reasons(path).values()
    assert first == {"from": None, "to": "neutral", "rule": "start", "compared": []}
    assert [second[key] for key in ("from", "to", "rule")] == ["neutral", "capitulation", "enter_capitulation"]
    assert [*second["compared"][0]] == ["rule", "input", "value", "is", "limit", "setting", "met"]
    assert [tuple(one.values())[1:] for one in second["compared"]] == [
        ("x", 91.234568, ">=", 85.0, "capitulation_x", True),
        ("return_24h", -0.07, "<=", -0.06247, "capitulation_return_sigmas", True, -2.0, "sigma_d"),
        ("oi_change_24h", -0.05, "<=", -0.05, "capitulation_oi_change_24h_log", True),
    ]


def test_explain_shows_what_let_go_and_what_took_over():
    path = into("euphoria") + [bar(HELD["euphoria"])] * 20 + [bar(AT["leverage_buildup"], s=NAN, carry_score=0.1)]
    found = reasons(path)[34]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    rows = [(one["rule"], one["input"], one["value"], one["is"], one["limit"], one["met"]) for one in found["compared"]]
    assert rows == [
        ("dwell", "held_h", 22.0, ">=", 12.0, True),
        ("leave_euphoria", "s", None, "<", 65.0, False),
        ("leave_euphoria", "carry_score", 0.1, "<", 0.4, True),
        ("enter_leverage_buildup", "oi_change_168h", 0.08, ">=", 0.08, True),
        ("enter_leverage_buildup", "level_p", 0.6, ">=", 0.6, True),
    ]


def test_explain_shows_clocks():
    over = reasons(recovering(200))[192]
    assert [(one["input"], one["value"], one["limit"]) for one in over["compared"]] == [("held_h", 168.0, 12.0), ("held_h", 168.0, 168.0)]
    silent = reasons([*into("euphoria"), *[NOTHING] * 72, bar()])[86]
    assert (silent["from"], silent["to"], silent["rule"]) == ("euphoria", "neutral", "start")
    assert [(one["rule"], one["value"], one["is"], one["limit"]) for one in silent["compared"]] == [("unknown", 73.0, ">", 72.0)]


def test_explain_shows_the_percentiles_that_are_asked():
    rule = replace(RULE, buildup_oi_change_168h_p=0.9)
    found = reasons([bar()] * 12 + [bar(AT["leverage_buildup"], buildup_p=0.97)], rule)[12]
    assert ("buildup_p", 0.97, 0.9) in [(one["input"], one["value"], one["limit"]) for one in found["compared"]]


REFUSED = {
    "conditions not met": (bar(), "neutral", "euphoria", "enter_euphoria", 20.0),
    "younger than the dwell": (bar(AT["euphoria"]), "neutral", "euphoria", "enter_euphoria", 11.0),
    "age unknown": (bar(AT["euphoria"]), "neutral", "euphoria", "enter_euphoria", NAN),
    "another destination": (bar(AT["euphoria"]), "neutral", "capitulation", "enter_euphoria", 20.0),
    "already there": (bar(AT["euphoria"]), "euphoria", "euphoria", "enter_euphoria", 20.0),
    "not left": (bar(AT["leverage_buildup"]), "euphoria", "leverage_buildup", "enter_leverage_buildup", 20.0),
    "leaves another state": (bar(OUT["euphoria"]), "neutral", "neutral", "leave_euphoria", 20.0),
    "still recovering": (bar(), "recovery", "neutral", "recovery_over", 167.0),
    "heard of a moment ago": (bar(), "neutral", None, "unknown", 20.0),
    "from nothing": (bar(AT["capitulation"]), None, "capitulation", "enter_capitulation", NAN),
}


@pytest.mark.parametrize("case", REFUSED)
def test_explain_refuses_a_change_that_did_not_happen(case):
    at, before, after, name, held_h = REFUSED[case]
    codes = [NO_REGIME if word is None else REGIMES.index(word) for word in (before, after)]
    with pytest.raises(ValueError, match="a change that these inputs do not make"):
        explain(at, *codes, RULES.index(name), RULE, held_h=held_h, silent_h=1.0)


WRONG = [
    {"capitulation_leave_x": 85.0}, {"capitulation_return_sigmas": 2.0}, {"capitulation_oi_change_24h_log": 0.05},
    {"capitulation_flush_p": 1.5}, {"capitulation_flush_p": NAN}, {"deleveraging_leave_oi_change_168h_log": -0.08},
    {"deleveraging_leave_oi_change_168h_p": 0.9},  # the percentile to enter is not asked: leaving would be stricter
    {"deleveraging_drawdown_share": 15.0}, {"euphoria_leave_s": 80.0}, {"euphoria_leave_carry_score": NAN},
    {"buildup_oi_change_168h_log": -0.08}, {"buildup_leave_oi_change_168h_log": 0.08},
    {"buildup_oi_change_168h_p": 0.5, "buildup_leave_oi_change_168h_p": 0.5}, {"min_dwell_h": -1.0}, {"recovery_max_h": 6.0},
    {"unknown_after_h": NAN}, {"neutral_share": (0.7, 0.3)}, {"other_max_share": 25.0},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_rule_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=f"found RegimeRule.*{next(iter(wrong.values()))}"):
        regimes.start(1, replace(RULE, **wrong))


def test_the_table_names_what_exists_and_every_limit_is_used():
    rows = [one for table in (ENTER, LEAVE) for row in table for one in row]
    assert {one.value for one in rows} | {one.multiple_of for one in rows} - {""} == {*INPUTS}
    limits = {field.name for field in fields(RegimeRule) if field.name.startswith(("capitulation", "deleveraging", "euphoria", "buildup"))}
    assert {one.limit for one in rows} == limits - {"capitulation_share", "euphoria_share"}


def test_what_does_not_fit_together_is_refused():
    when = T0 + np.arange(3, dtype=np.int64) * HOUR_US
    good = inputs_of([bar()] * 3)
    with pytest.raises(ValueError, match=r"carry_score of shape \(1, 2\)"):
        regimes.run(replace(good, carry_score=good.carry_score[:, :2]), when, regimes.start(1, RULE), RULE, 1)
    with pytest.raises(ValueError, match=r"\(assets, bars\) = \(2, 3\)"):
        regimes.run(good, when, regimes.start(2, RULE), RULE, 1)
    with pytest.raises(ValueError, match="not 24 h apart"):
        regimes.run(good, when, regimes.start(1, RULE), RULE, 24)
    _, later = regimes.run(good, when, regimes.start(1, RULE), RULE, 1)
    with pytest.raises(ValueError, match="written at or after the first bar"):
        regimes.run(good, when + 2 * HOUR_US, later, RULE, 1)
