"""The one fetcher: sends what a source asks for, within the source's budgets, and brings back every answer, good or bad.

    for each ask:   budget -> request -> classify -> accept | retry | reject     (then the next page, where the source names one)

An ask always ends as exactly one `Fetched`; nothing that a venue does raises. A retry waits as long as the venue asks (Retry-After),
else with exponential back-off and jitter, within a number of attempts and a span of time. A ban (418) stops the host for the rest of
the call at once, a refusal (403, 451) after a few; the asks that are left come back unsent, with the same reason.

All calls of a process run on one event loop in a thread of its own, so that they share the limiters: two tasks in one process do not
spend a venue's budget twice. `now` and `progress` are called from that thread.

The stored body is the decoded one: aiohttp undoes gzip and deflate, and `raw_sha256` is over the bytes after that. A key travels in a
header only; it is in no URL, envelope, answer or log line. Redirects are not followed: they would carry the key elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import aiohttp
from aiolimiter import AsyncLimiter
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, wait_random_exponential
from yarl import URL

from transforms.sources.contract import Answer, Ask, Disposition, Series, Source

log = logging.getLogger(__name__)

USER_AGENT: Final = "tidegauge/0.3"
#: a larger answer is rejected: the largest we know, DefiLlama's whole history, is 2 MB
BODY_LIMIT: Final = 64 * 2**20
#: what is kept of an answer that is too large
KEPT_OF_TOO_LARGE: Final = 64 * 2**10
#: seconds an ask may wait between its attempts, all waits together
PATIENCE: Final = 600.0
BACKOFF: Final = wait_random_exponential(multiplier=0.5, max=30.0)
#: refusals of a host (403, 451) after which it is asked no more
REFUSALS: Final = 3
#: share of a budget that may be spent at once; the rest flows in evenly (see `limiter`)
BURST: Final = 0.1
_SECRET_HEADERS: Final = frozenset({"set-cookie", "authorization", "proxy-authorization"})


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one ask. `attempts` is 0 when it was never sent."""

    ask: Ask
    answer: Answer
    disposition: Disposition
    attempts: int


def fetch(
    source: Source,
    series: Iterable[Series],
    *,
    hosts: Mapping[str, str],
    now: Callable[[], datetime],
    key: str = "",
    contact: str = "",
    in_flight: int = 16,
    budget_scale: float = 1.0,
    timeout: float = 30.0,
    attempts: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> list[Fetched]:
    """Ask everything that `series` needs; answers in the order of the asks, a followed page right after its first.

    `contact` goes into the User-Agent: who asks much should be reachable.
    `hosts` gives the base address of each host the source names; a missing one raises ValueError before anything is sent.
    `budget_scale` multiplies the source's budgets (the sandbox has its own limits). `timeout` is per request, in seconds.
    """
    missing = [name for name in source.hosts if name not in hosts]
    if missing:
        raise ValueError(f"no address for {', '.join(missing)} of {source.name}; configured are {', '.join(hosts) or 'none'}")
    asks = [ask for one in series for ask in source.asks(one)]
    if not asks:
        return []
    run = _Run(source, dict(hosts), key, contact, now, budget_scale, timeout, attempts, progress, total=len(asks))
    loop = _loop()
    future = asyncio.run_coroutine_threadsafe(run.all(asks, in_flight), loop)
    try:
        return future.result()
    except BaseException:  # Ctrl-C, or a bug: stop the requests under way before it goes on up
        future.cancel()
        raise


# -- one loop and one set of limiters a process


_guard = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}
_limiters: dict[tuple[int, str, str, float], AsyncLimiter] = {}


def _loop() -> asyncio.AbstractEventLoop:
    """The process's loop, started on first use; a forked child starts its own."""
    with _guard:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = asyncio.new_event_loop()
            _loops[os.getpid()] = loop
            threading.Thread(target=loop.run_forever, name="tidegauge-fetcher", daemon=True).start()
        return loop


def limiter(source: Source, budget: str, scale: float = 1.0) -> AsyncLimiter:
    """The process's limiter of one budget: a leaky bucket that never lets more than the budget W through in any span of its length.

    A bucket of capacity C that leaks W - C in `per` seconds passes at most C + (W - C) = W in any `per` seconds. C is a tenth of W, or
    the heaviest ask. Where that ask alone is more than half of a scaled-down W, the average is kept below W instead.
    """
    name = (os.getpid(), source.name, budget, scale)
    if name not in _limiters:
        allowed = source.budgets[budget]
        whole = allowed.weight * scale
        capacity = max(whole * BURST, allowed.heaviest)
        leak = max(whole - capacity, whole / 2) / allowed.per
        _limiters[name] = AsyncLimiter(capacity, capacity / leak)
    return _limiters[name]


# -- one call


@dataclass
class _Run:
    source: Source
    hosts: dict[str, str]
    key: str
    contact: str
    now: Callable[[], datetime]
    scale: float
    timeout: float
    attempts: int
    progress: Callable[[int, int], None] | None
    total: int
    done: int = 0
    stopped: dict[str, Disposition] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    held_until: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    session: aiohttp.ClientSession = field(init=False)

    async def all(self, asks: list[Ask], in_flight: int) -> list[Fetched]:
        """Chains of pages, `in_flight` at a time."""
        chains: list[list[Fetched]] = [[] for _ in asks]
        queue = iter(enumerate(asks))
        connector = aiohttp.TCPConnector(limit=in_flight)
        agent = f"{USER_AGENT} (market data pipeline{f'; {self.contact}' if self.contact else ''})"
        headers = {"User-Agent": agent, "Accept-Encoding": "gzip, deflate"}
        async with aiohttp.ClientSession(
            connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=self.timeout)
        ) as session:
            self.session = session
            await asyncio.gather(*(self._work(queue, chains) for _ in range(min(in_flight, len(asks)))))
        return [one for chain in chains for one in chain]

    async def _work(self, queue: Iterator[tuple[int, Ask]], chains: list[list[Fetched]]) -> None:
        for place, first in queue:
            ask: Ask | None = first
            seen: set[str] = set()
            while ask is not None and ask.question not in seen:
                seen.add(ask.question)
                one = await self._one(ask)
                chains[place].append(one)
                self.done += 1
                ask = self.source.follow(one.ask, one.answer) if one.disposition.verb == "accept" else None
                if ask is not None and ask.question not in seen:
                    self.total += 1
                if self.progress:
                    self.progress(self.done, self.total)

    async def _one(self, ask: Ask) -> Fetched:
        """One ask to its end, retries included."""
        sent = 0

        async def attempt() -> tuple[Answer, Disposition]:
            nonlocal sent
            if ask.host in self.stopped:
                return self._unsent(ask)
            await self._admitted(ask)
            if ask.host in self.stopped:  # while it waited for the budget
                return self._unsent(ask)
            sent += 1
            return await self._attempt(ask)

        retrying = AsyncRetrying(
            retry=retry_if_result(lambda result: result[1].verb == "retry"),
            stop=self._enough,
            wait=_wait,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        ended: tuple[Answer, Disposition] = await retrying(attempt)
        answer, verdict = ended
        if verdict.verb == "retry":
            detail = f"{verdict.detail} from {ask.host}{ask.path}, given up after {sent} attempts"
            verdict = Disposition("reject", verdict.reason_code, detail)
        if verdict.verb == "reject":
            log.warning("%s %s: %s %s", self.source.name, ask.path, verdict.reason_code, verdict.detail)
        return Fetched(ask, answer, verdict, sent)

    def _enough(self, state: RetryCallState) -> bool:
        """No more attempts, or the next wait would be beyond our patience. Waiting for the budget is not counted: it is nobody's fault."""
        return state.attempt_number >= self.attempts or state.idle_for + state.upcoming_sleep > PATIENCE

    def _unsent(self, ask: Ask) -> tuple[Answer, Disposition]:
        why = self.stopped[ask.host]
        return Answer(0, f"not sent: {why.detail}".encode(), self.now()), why

    async def _admitted(self, ask: Ask) -> None:
        """Wait for the budget, and for a host that told us to wait."""
        await limiter(self.source, ask.budget, self.scale).acquire(ask.weight)
        clock = asyncio.get_running_loop().time
        while True:  # the host may ask for more time meanwhile
            pause = self.held_until[ask.host] - clock()
            if pause <= 0:
                return
            await asyncio.sleep(pause)

    async def _attempt(self, ask: Ask) -> tuple[Answer, Disposition]:
        answer = await self._get(ask, ask.target)
        verdict = self._judge(ask, answer)
        if ask.companion and verdict.verb == "accept":
            await self._admitted(ask)
            beside = replace(ask, path=ask.companion, params=(), body="", accept="text", companion="")
            second = await self._get(beside, beside.target)
            judged = self._judge(beside, second)
            if judged.verb == "retry" or judged.reason_code in ("HTTP_BANNED", "HTTP_BLOCKED"):
                verdict = judged
            elif judged.verb == "accept":
                answer = replace(answer, companion=second.body)
            # else it does not exist: the decoder says CHECKSUM
        return answer, verdict

    def _judge(self, ask: Ask, answer: Answer) -> Disposition:
        """The source's verdict, and what follows from it for the host."""
        verdict = self.source.classify(ask, answer)
        if answer.header(_TOO_LARGE):
            verdict = Disposition(
                "reject", "MALFORMED", f"answer from {ask.host}{ask.path} is larger than {BODY_LIMIT} bytes; its first part is kept"
            )
        if verdict.reason_code == "HTTP_BANNED":
            self.stopped.setdefault(ask.host, verdict)
        if verdict.reason_code == "HTTP_BLOCKED":
            self.refusals[ask.host] += 1
            if self.refusals[ask.host] >= REFUSALS:
                self.stopped.setdefault(ask.host, verdict)
        if verdict.verb == "retry" and verdict.wait is not None and verdict.wait > PATIENCE:
            detail = f"{verdict.detail}: {ask.host} wants {verdict.wait:.0f} s of silence, more than we wait ({PATIENCE:.0f} s)"
            verdict = Disposition("reject", verdict.reason_code, detail)
            self.stopped.setdefault(ask.host, verdict)
        if verdict.verb == "retry" and verdict.wait is not None:
            until = asyncio.get_running_loop().time() + verdict.wait
            self.held_until[ask.host] = max(self.held_until[ask.host], until)
        return verdict

    async def _get(self, ask: Ask, target: str) -> Answer:
        """One GET, or a POST of the ask's JSON. What is wrong with the line comes back as status 0 and a body that says so."""
        asked_at = self.now()
        headers = {self.source.key_header: self.key} if self.source.key_header and self.key else {}
        url = URL(self.hosts[ask.host].rstrip("/") + target, encoded=True)
        try:
            sent = (
                {"data": ask.body.encode(), "headers": headers | {"Content-Type": "application/json"}} if ask.body else {"headers": headers}
            )
            method = "POST" if ask.body else "GET"
            async with self.session.request(method, url, allow_redirects=False, **sent) as response:
                body, whole = await _bounded(response)
                kept = {name: value for name, value in response.headers.items() if name.lower() not in _SECRET_HEADERS}
                if not whole:
                    kept[_TOO_LARGE] = "yes"
                return Answer(response.status, body, asked_at, kept)
        except TimeoutError:
            return Answer(0, f"no answer within {self.timeout:g} s".encode(), asked_at)
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            return Answer(0, f"{type(fault).__name__}: {fault}".encode(), asked_at)


#: our own mark beside the venue's headers
_TOO_LARGE: Final = "X-Tidegauge-Too-Large"


async def _bounded(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The body, or its first part when it is beyond the limit."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(2**18):
        body += chunk
        if len(body) > BODY_LIMIT:
            response.close()
            return bytes(body[:KEPT_OF_TOO_LARGE]), False
    return bytes(body), True


def _wait(state: RetryCallState) -> float:
    """Seconds until the next attempt: the venue's wish, else exponential with jitter."""
    verdict: Disposition | None = state.outcome.result()[1] if state.outcome else None
    return verdict.wait if verdict is not None and verdict.wait is not None else float(BACKOFF(state))
