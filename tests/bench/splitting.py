"""Where the CPU of this process goes: exclusive seconds by named function, taken by wrapping the functions for the time of a run."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from plugins import deriving, gate, ledger, loading, publishing, recorder, reports, summary
from plugins.lake import Lake

#: (bucket, owner, function); a function's time includes the threads it waits for, and excludes that of other functions named here
WRAPPED: tuple[tuple[str, Any, str], ...] = (
    ("asking: network client", loading, "_fetch"),
    ("raw answers: write bundles", recorder, "store"),
    ("raw answers: read bundles", recorder, "load"),
    ("decode", loading._Batch, "take"),
    ("coverage proofs", loading._Batch, "coverage"),
    ("merge revisions", loading, "merge_in"),
    ("gate (Great Expectations)", gate, "gate"),
    ("gate evidence", gate, "evidence"),
    ("Iceberg: commits", Lake, "_commit"),
    ("Iceberg: reads", Lake, "read"),
    ("objects: put", Lake, "put"),
    ("content hashes", ledger, "hash_days"),
    ("what is stale (input hashes)", deriving, "inputs_hashes"),
    ("derive", deriving, "derive"),
    ("Hive mirror", publishing, "mirror"),
    ("compaction of evidence", Lake, "compact"),
    ("report", reports, "render"),
    ("report", summary, "text"),
)


class Split:
    """Seconds by bucket. What no wrapped function covers goes to `rest`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open = ["rest"]
        self._since = time.process_time()

    def _turn(self) -> None:
        now = time.process_time()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    @contextmanager
    def bucket(self, name: str) -> Iterator[None]:
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        main = threading.main_thread()

        def timed(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not main:  # its caller in the main thread waits, and is charged
                return function(*args, **kwargs)
            with self.bucket(name):
                found = function(*args, **kwargs)
                return list(found) if isinstance(found, Iterator) else found

        return timed


@contextmanager
def split() -> Iterator[Split]:
    """Measure everything inside."""
    made = Split()
    with ExitStack() as stack:
        for name, owner, attribute in WRAPPED:
            stack.enter_context(mock.patch.object(owner, attribute, made.wrapped(name, getattr(owner, attribute))))
        try:
            yield made
        finally:
            made._turn()
