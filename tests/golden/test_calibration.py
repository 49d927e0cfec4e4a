"""The thresholds in force are those the calibration chose, on data up to its stated date, and the page says what was tried."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.calibration import regimes as tried
from tests.calibration.__main__ import CUTS, PAGE, inputs
from tests.golden.test_real_history import SERIES
from transforms.rules import RegimeRule
from transforms.spec import SPEC

pytestmark = [
    pytest.mark.recordings,
    pytest.mark.skipif(not SERIES.is_dir(), reason="the recordings are not beside this checkout (../shared/recordings)"),
]


def test_the_spec_holds_what_was_chosen_and_nothing_else():
    method = RegimeRule()
    chosen = tried.choose(*inputs(), (CUTS[0], CUTS[-2]), method)
    assert chosen[0].rule == SPEC.regimes
    assert chosen[0].distance == 0
    calibrated = {name: getattr(SPEC.regimes, name) for name in tried.GRID}
    assert replace(method, **calibrated) == SPEC.regimes
    page = Path(PAGE).read_text(encoding="utf-8")
    assert tried.settings(SPEC.regimes) in page
    assert f"{len(chosen)} candidates" in page


def test_without_data_there_is_nothing_to_choose():
    read, when = inputs()
    nothing = (CUTS[-1].replace(year=2030), CUTS[-1].replace(year=2031))
    assert tried.judged(SPEC.regimes, read, when, nothing, RegimeRule()).distance == float("inf")
