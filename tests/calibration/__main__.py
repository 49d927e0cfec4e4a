"""`make calibrate`: choose the regime thresholds on recorded history up to a stated date, write down what was tried, and what held afterwards.

Reads the recordings in place and writes docs/calibration.md. It changes no constant: transforms/spec.py says what is in force, and a test
fails when the two differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np

from tests.calibration import regimes as tried
from tests.golden.test_real_history import SPAN, core
from transforms.index import regimes
from transforms.index.measure import measure
from transforms.index.walk import walk
from transforms.roster import DAILY_ASSETS
from transforms.rules import RegimeRule
from transforms.spec import SPEC
from transforms.windows import utc

PAGE = Path(__file__).parents[2] / "docs" / "calibration.md"
#: inputs need a quarter of history first; the last cut is the stated date, what follows is held out
CUTS = (utc("2022-04-01"), utc("2022-07-01"), utc("2022-10-01"), utc("2023-01-01"), SPAN.end)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def inputs() -> tuple[regimes.RegimeInputs, np.ndarray]:
    """What the regimes read, on recorded days of the daily roster."""
    one = measure(core(), SPAN, "1d", SPEC, assets=list(DAILY_ASSETS))
    return walk(one, "1d", SPEC, None).regime_inputs, one.panel.when[one.panel.window_first :]


def page() -> str:
    """docs/calibration.md."""
    method, (read, when) = RegimeRule(), inputs()
    spans = list(pairwise(CUTS[1:]))
    folds = [(tried.choose(read, when, (CUTS[0], cut), method), cut, end) for cut, end in spans]
    final, stated, _ = folds[-1]
    listing = "\n".join(f"{one.distance} {one.room} {one.departures} {tried.settings(one.rule)}" for one in final)
    head = ["", *regimes.REGIMES, "changes in 30 d", "rails broken"]

    def line(name: str, one: tried.Judged) -> list[str]:
        return [name, *tried.shares(one.rails), "; ".join(one.rails["broken"]) or "none"]

    walked = []
    for found, cut, end in folds:
        best = found[0]
        walked.append(line(f"chosen on {CUTS[0]:%Y-%m-%d}..{cut:%Y-%m-%d}: {tried.settings(best.rule)}", best))
        walked.append(
            line(f"the same, {cut:%Y-%m-%d}..{end:%Y-%m-%d}, not looked at", tried.judged(best.rule, read, when, (cut, end), method))
        )
    before = [
        line("method's absolute thresholds, to the stated date", tried.judged(method, read, when, (CUTS[0], stated), method)),
        line("method's absolute thresholds, after it", tried.judged(method, read, when, (stated, CUTS[-1]), method)),
    ]
    best = [
        [str(n + 1), f"{one.distance:g}", str(one.departures), f"{one.room:g}", tried.settings(one.rule)]
        for n, one in enumerate(final[:10])
    ]
    grid = table(["field", "values tried"], [[name, ", ".join(f"{value:g}" for value in values)] for name, values in tried.GRID.items()])
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return f"""# Calibration

Written by `make calibrate` from recorded history: Coinalyze daily, {len(DAILY_ASSETS)} assets of the daily roster,
{SPAN.start:%Y-%m-%d}..{SPAN.end:%Y-%m-%d}.
Constants are frozen on data up to **{stated:%Y-%m-%d}**; what comes after was not looked at when choosing. Another choice is another
`index_version`.

## Regimes

The method's absolute thresholds do not transfer between volatility worlds (METHODOLOGY 4.7, 10), so percentiles of the asset's own past stand
beside them. Candidates are judged by the guard-rails alone, never by returns or by what followed: the shares of time that the states take
up, and the changes per 30 days. In order: inside the rails, fewest departures from the method, most room to the rails.

{grid}

{len(final)} candidates are rules (leaving looser than entering) and were tried; SHA-256 over the ordered list of all of them with their scores
at the stated date: `{digest}`.

### Walk-forward

{table(head, walked)}

### Without calibration

{table(head, before)}

### The ten best at the stated date

{table(["", "distance", "departures", "room", "thresholds"], best)}

### What this does not show

* Euphoria and capitulation were left alone. Two years that begin near a market's top and end before its next one hold almost no euphoria: its
  rail (1 to 8 % of the time) is broken on every span, and lowering S >= 75 or the carry score until it holds would fit a bear market.
* Daily bars only: no recording holds hourly open interest long enough. The hourly index uses the same thresholds, unproved there.
* The assets move together; twelve of them are not twelve independent histories.

## Left at the method's starting values

| constant | why it was not fitted |
| --- | --- |
| cascade label (-1.2 sigma_d, -5 % in 4 h) | ground truth: fitting it would fit the question to the answer |
| detector LQ.10, event thresholds | few occurrences; every event shows its own track record instead |
| ESS 90 d (warming), confidence limits | properties of the estimators, not of the market |
| knowledge lags | to be measured on live capture; conservative until then |
| cohort book: leverage tiers, turnover, safe share | see docs/method.md: fitted walk-forward on daily data and compared with naive maps |
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE.name}")
