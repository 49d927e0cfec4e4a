"""How the bench measures: several interleaved rounds of each variant, medians, wall and CPU; and how it prints what it found."""

from __future__ import annotations

import gc
import json
import os
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

Cost = dict[str, float]


@dataclass
class Section:
    """One part of docs/bench.md: a heading, paragraphs and tables, and the sentences that belong into the summary."""

    title: str
    blocks: list[str] = field(default_factory=list)
    #: (what, target, measured, met)
    verdicts: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.blocks.append(text)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        lines = ["| " + " | ".join(head) + " |", "|" + "|".join("---" if n == 0 else "--:" for n in range(len(head))) + "|"]
        lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
        self.blocks.append("\n".join(lines))

    def text(self) -> str:
        return f"## {self.title}\n\n" + "\n\n".join(self.blocks) + "\n"


def interleaved(
    variants: Mapping[str, Callable[[], object]], rounds: int, counters: Mapping[str, Callable[[], float]] | None = None
) -> dict[str, Cost]:
    """Run each variant `rounds` times, round by round in turning order; the median of wall, CPU of this process and further counters (s)."""
    reading = {"cpu": time.process_time, **(counters or {})}
    found: dict[str, list[Cost]] = {name: [] for name in variants}
    for name in _turns(list(variants), rounds):
        gc.collect()
        before = {what: read() for what, read in reading.items()}
        began = time.perf_counter()
        variants[name]()
        wall = time.perf_counter() - began
        found[name].append({"wall": wall, **{what: read() - before[what] for what, read in reading.items()}})
    return {name: medians(costs) for name, costs in found.items()}


def interleaved_apart(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Cost]:
    """As `interleaved`, each run in a child of its own: wall, CPU, and `peak`: memory it added to what it found (bytes)."""
    found: dict[str, list[Cost]] = {name: [] for name in variants}
    for name in _turns(list(variants), rounds):
        found[name].append(apart(variants[name]))
    return {name: medians(costs) for name, costs in found.items()}


def _turns(names: list[str], rounds: int) -> Iterator[str]:
    for number in range(rounds):
        yield from names[number % len(names) :] + names[: number % len(names)]


def apart(work: Callable[[], Cost | None]) -> Cost:
    """Wall, CPU and peak memory of `work` in a forked child, which shares what this process holds; and what it returns, if it returns costs.

    The peak is the child's largest resident set less what it had at the start. A child that fails prints why, and RuntimeError is raised.
    """
    gc.collect()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(reader)
            held = psutil.Process().memory_info().rss
            began, cpu = time.perf_counter(), time.process_time()
            said = work()
            cost = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
            unit = 1 if sys.platform == "darwin" else 1024
            cost["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - held
            os.write(writer, json.dumps(cost | (said or {})).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    if os.waitpid(child, 0)[1] or not text:
        raise RuntimeError("a measured child failed; it said why above")
    found: Cost = json.loads(text)
    return found


def medians(costs: Sequence[Mapping[str, float]]) -> Cost:
    """The median of each quantity by itself."""
    return {what: statistics.median(cost[what] for cost in costs) for what in costs[0]}


def cpu_of(root: int) -> tuple[float, float]:
    """CPU seconds since their start: (of this process alone, of everything it ever forked and that was waited for or still runs).

    A process that ends hands its time to the parent that waits for it, so nothing is missed between two readings.
    """
    process = psutil.Process(root)
    times = process.cpu_times()
    below = times.children_user + times.children_system
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            one = child.cpu_times()
            below += one.user + one.system + one.children_user + one.children_system
    return times.user + times.system, below


def seconds(value: float) -> str:
    """Three significant digits, or less below a tenth of a second.

    >>> [seconds(one) for one in (0.0123, 1.234, 56.78, 123.4)]
    ['0.012', '1.23', '56.8', '123']
    """
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def gib(value: float) -> str:
    """Bytes in GiB.

    >>> gib(1.5 * 2**30)
    '1.50'
    """
    return f"{value / 2**30:.2f}"


def times(value: float) -> str:
    """A ratio.

    >>> times(0.456), times(12.34)
    ('0.46', '12.3')
    """
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
