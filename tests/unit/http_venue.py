"""A server on loopback that answers as it is told, and a source that asks it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime

from aiohttp import web

from transforms.sources.contract import Answer, Ask, Budget, Decoded, Instrument, Series, Source
from transforms.windows import Window, utc

WINDOW = Window(utc("2026-05-20"), utc("2026-05-21"))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Paths(Source):
    """A source whose series name the paths to ask, separated by blanks; `/p/2` follows `/p/1` up to the series' option `pages`."""

    name = "paths"
    hosts: Mapping[str, str] = {"main": "http://127.0.0.1:1", "other": "http://127.0.0.1:1"}
    budgets: Mapping[str, Budget] = {"default": Budget(1e6, 1.0), "tight": Budget(20, 0.5), "heavy": Budget(40, 1.0, heaviest=20)}
    endpoints: Mapping[str, str] = {"any": "marks"}
    key_variable = "PATHS_KEY"
    key_header = "api_key"

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> list[Series]:
        return []

    def asks(self, series: Series) -> Iterator[Ask]:
        options = dict(series.options)
        for path in series.instrument.split():
            host, _, rest = path.partition("/")
            companion = f"/{rest}.CHECKSUM" if options.get("companion") else ""
            weight = float(options.get("weight", 1))
            yield Ask(
                series,
                host or "main",
                f"/{rest}",
                (),
                options.get("budget", "default"),
                weight,
                companion=companion,
                body=options.get("body", ""),
            )

    def follow(self, ask: Ask, answer: Answer) -> Ask | None:
        pages = int(dict(ask.series.options).get("pages", 0))
        start, _, number = ask.path.rpartition("/")
        return Ask(ask.series, ask.host, f"{start}/{int(number) + 1}") if pages and int(number) < pages else None

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        return Decoded({})


class Venue:
    """A server in a thread. `on[path]` answers; each arrival is noted with its time and headers."""

    def __init__(self) -> None:
        self.on: dict[str, Handler] = {}
        self.arrivals: list[tuple[float, str, dict[str, str]]] = []
        self.counts: Counter[str] = Counter()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(10)

    async def _start(self) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.counts[request.path] += 1
        self.arrivals.append((time.monotonic(), request.path, dict(request.headers)))
        handler = self.on.get(request.path) or self.on.get("*") or good
        return await handler(request)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


async def good(request: web.Request) -> web.Response:
    return web.json_response({"path": request.path})


def status(code: int, body: str = "{}", **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=code, text=body, headers=named, content_type="application/json")

    return handler


def first(bad: Handler, times: int, then: Handler = good) -> Handler:
    """`bad` so many times, then `then`."""
    left = [times]

    async def handler(request: web.Request) -> web.StreamResponse:
        left[0] -= 1
        return await (bad if left[0] >= 0 else then)(request)

    return handler


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(5)
    return await good(request)


async def cut(request: web.Request) -> web.StreamResponse:
    """Promises a thousand bytes, sends five, hangs up."""
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'[{"a"')
    assert request.transport
    request.transport.close()
    return response
