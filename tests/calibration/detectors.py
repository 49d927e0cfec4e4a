"""`python -m tests.calibration.detectors`: what each detector catches, misses and wrongly says; writes docs/detectors.md."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from tests.calibration import planting, recorded
from transforms.detectors import DETECTORS, find_all

PAGE: Final = Path(__file__).parents[2] / "docs" / "detectors.md"
DEFECTS: Final = {
    "Coinglass funding in percent, 2026-01-13": recorded.unit_break,
    "Binance settlements stamped UTC+3, with and without a witness": recorded.local_clock,
    "Hyperliquid funding an hour away, 2026": recorded.shifted_hour,
    "Binance metrics missing in the crash of 2021-05-19": recorded.missing_in_crash,
    "DefiLlama's total of 2026-07-15": recorded.partial_total,
    "DVOL's invented history, 2026-02-15": recorded.bad_vintage,
    "OKX open interest all zero": recorded.dead_feed,
    "Hyperliquid candles cut at 1,000 rows": recorded.cut_at_a_page,
    "a vendor's liquidated sides beside its total": recorded.sides_beside_total,
}
_LEVELS: Final = ("coinalyze daily, 119 contracts", "binance and bybit quarter-hours", "seven venues, hourly")
#: clean data that can make a detector speak: it holds what the rule compares
EXPOSED: Final[dict[str, tuple[str, ...]]] = {
    "unit_break": (*_LEVELS, "supply, fear and greed, DVOL"),
    "rate_unit_break": ("coinalyze daily, 119 contracts", "funding settlements"),
    "side_break": _LEVELS,
    "label_shift": ("funding settlements",),
    "dead_feed": (*_LEVELS, "supply, fear and greed, DVOL"),
    "carried_forward": (*_LEVELS, "supply, fear and greed, DVOL"),
    "missing_in_crash": _LEVELS,
    "stale_in_stress": _LEVELS,
    "cohort_redraw": ("binance and bybit quarter-hours",),
    "total_below_part": ("supply, fear and greed, DVOL",),
    "invented_history": ("vintages of the supply total",),
}
HEAD: Final = """# Detectors

Written by `python -m tests.calibration.detectors` from recorded history (`../shared/recordings`) and the made-up market of the tests; a test
holds the counts. A detector reads core tables and says which rows are suspect: **quarantine** = the rows are wrong, **flag** = somebody should
look. It repairs nothing; `suggested_factor` says what would. Findings are rows of `ops.findings`, and a finding only ever grows forward:
what comes later does not change it. Constants are in `transforms/detectors`, each with its evidence.

"""
LIMITS: Final = """
## What they cannot see

* A year of a contract counts for a detector where the data hold what its rule compares; most of those years are daily bars. The clean
  quarter-hours are one month of two contracts, the vintages half a year of one total, and no clean recording holds liquidation totals,
  archive files or answers with their windows: for `cohort_redraw`, `invented_history`, `sides_beside_total`, `duplicated_midnight` and
  `truncated_history` the false alarms on real data are hardly known.
* A change of sides on daily bars of one venue and one contract: a day's volume is many times the open interest, so nothing contradicts it.
  With hourly rows (what was traded meanwhile), another venue, or the venue's other contracts there is proof.
* Funding of a single contract in percent: real rates of single coins reached 290 times their usual size in 2022. Three contracts of a source are
  needed, and a rate that becomes too small is not looked for.
* A label that was wrong from the first row on, where there is neither a price beside the amount nor a second source.
* A defect that was there before the history that was given: a level is learned, and a wrong one that nobody contradicts for 60 days is the level.
* The alarms counted on clean data are real gaps of a feed in an extreme hour. They are flags.
* `sides_beside_total` needs the total a source states beside its sides. No table of the lake carries one, so it speaks over recordings and
  never at the door. `duplicated_midnight` sees two files only where one load brings both;
  in Binance's archive the decoder comes first: a 00:00 outside a file's own day is put aside as STAMP.
* At the door a row is put aside only if it came when the proof was complete; equal rows before a feed was known to be dead, or rows before a
  shift was proved, were in use by then. The finding names them, core keeps them. The shares above count findings.
"""


def clean_counts() -> tuple[dict[str, Counter[str]], dict[str, float]]:
    """(alarms by data and detector, instrument-years by data)."""
    clean = {name: make() for name, make in recorded.CLEAN.items()}
    return {name: Counter(f.detector for f in find_all(one.inputs)) for name, one in clean.items()}, {
        n: one.years for n, one in clean.items()
    }


def clean_lines() -> list[str]:
    """The table of clean recordings."""
    alarms, years = clean_counts()
    said = {name: ", ".join(f"{count} {detector}" for detector, count in sorted(found.items())) or "none" for name, found in alarms.items()}
    return [f"| {name} | {years[name]:.1f} | {said[name]} |\n" for name in alarms]


def render() -> str:
    """The page."""
    alarms, years = clean_counts()
    caught: dict[str, list[str]] = {one.name: [] for one in DETECTORS}
    for name, make in DEFECTS.items():
        for detector in sorted({f.detector for f in find_all(make())}):
            caught[detector].append(name)
    consequences = {"carried_forward": "flag", "missing_in_crash": "flag", "stale_in_stress": "flag", "truncated_history": "flag"}
    consequences |= {"cohort_redraw": "flag", "sides_beside_total": "flag", "duplicated_midnight": "flag"}
    lines = [
        HEAD,
        "| detector | catches | rule | consequence | recorded defects caught | false alarms per instrument-year on clean recordings |\n",
    ]
    lines.append("| --- | --- | --- | --- | --- | --- |\n")
    for one in DETECTORS:
        read = EXPOSED.get(one.name, ())
        count, total = sum(alarms[name][one.name] for name in read), sum(years[name] for name in read)
        wrong = f"{count} in {total:.1f} ({count / total:.3f})" if total else "not measured"
        lines.append(
            f"| `{one.name}` | {one.catches} | {one.rule_text} | {consequences.get(one.name, 'quarantine')} "
            f"| {'; '.join(caught[one.name]) or 'none recorded'} | {wrong} |\n"
        )
    lines.append(
        "\nA second source that disagrees by a power of ten (`unit_break`) or by a lag (`label_shift`, both unofficial) is a flag.\n"
    )
    lines.append("\n## Clean recordings\n\n| data | instrument-years | alarms |\n| --- | --- | --- |\n")
    lines += clean_lines()
    lines.append(
        "\n## Planted defects\n\nThree seeds each, at random instants.\n\n| detector | planted | into | seen |\n| --- | --- | --- | --- |\n"
    )
    for trial in planting.TRIALS:
        seen, planted = planting.rate(trial)
        lines.append(f"| `{trial.detector}` | {trial.defect} | {trial.data} | {seen} of {planted} ({seen / planted:.2f}) |\n")
    return "".join([*lines, LIMITS])


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
