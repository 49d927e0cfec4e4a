"""One process, all venues: `http://127.0.0.1:PORT/<source>.<host>` is the base address of a source's host.

Control, part of no venue: GET /sandbox/health, GET /sandbox/stats, POST /sandbox/faults (a JSON list of rules, see faults.py).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from importlib import import_module

from aiohttp import web

from sandbox.faults import Dropped, Faults, read_rules
from sandbox.market import Market
from sandbox.wire.reply import Query, Reply, Venue, as_json
from transforms.roster import SOURCES
from transforms.windows import from_ms


def venues(market: Market, clock: Callable[[], float] = time.time, scale: float = 1.0) -> dict[str, Venue]:
    """Every host of every source, `<source>.<host>`. `clock` counts the request limits, `scale` multiplies them."""
    found: dict[str, Venue] = {}
    for source in SOURCES:
        hosts = import_module(f"sandbox.wire.{source}").hosts(market.at(source), clock, scale)
        found |= {f"{source}.{name}": venue for name, venue in hosts.items()}
    return found


class Sandbox:
    """The hosts, the faults over them, and the count of what was asked."""

    def __init__(self, hosts: Mapping[str, Venue], market: Market, faults: Faults) -> None:
        self.hosts = hosts
        self.market = market
        self.faults = faults
        self.asked: Counter[tuple[str, int]] = Counter()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Dispatch without a router: the first segment is the host, the rest is the venue's own path."""
        _, _, rest = request.path.partition("/")
        host, _, below = rest.partition("/")
        if host == "sandbox":
            return _response(await self._control(below, request))
        venue = self.hosts.get(host)
        if venue is None:
            return _response(as_json({"error": f"found host {host!r}; this sandbox serves {', '.join(self.hosts)}"}, 404))
        if request.method not in ("GET", "HEAD", "POST"):
            return _response(Reply(405, b"", headers={"Allow": "GET, POST"}))
        posted = await request.read() if request.method == "POST" else b""
        headers = {name.lower(): value for name, value in request.headers.items()}
        query = Query(f"/{below}", dict(request.query), headers, posted)
        reply = venue.answer(query)
        try:
            reply = await self.faults.apply(request.path_qs, reply, lambda target: venue.answer(Query(target.removeprefix(f"/{host}"))))
        except Dropped:
            self.asked[request.path, 0] += 1
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        self.asked[request.path, reply.status] += 1
        return _response(reply)

    async def _control(self, what: str, request: web.BaseRequest) -> Reply:
        if what == "health":
            return as_json({"status": "ok", "now": from_ms(self.market.now_ms()).isoformat(), **self.market.describe()})
        if what == "stats":
            counts: dict[str, dict[str, int]] = {}
            for (path, status), count in sorted(self.asked.items()):
                counts.setdefault(path, {})[str(status)] = count
            return as_json({"requests": counts, "total": self.asked.total(), "faults": self.faults.struck()})
        if what == "faults" and request.method == "POST":
            try:
                rules = read_rules(await request.read())
            except ValueError as error:
                return as_json({"error": f"rules not taken: {error}"}, 400)
            self.faults.put(rules)
            return as_json({"rules": len(rules)})
        return as_json({"error": "control paths: GET health, GET stats, POST faults"}, 404)


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, body=reply.body, headers={"Content-Type": reply.content_type, **reply.headers})


async def start(sandbox: Sandbox, port: int, host: str = "127.0.0.1") -> tuple[web.ServerRunner, int]:
    """Listens on loopback unless told otherwise; port 0 takes a free one. Returns the runner (call `cleanup`) and the port."""
    runner = web.ServerRunner(web.Server(sandbox.handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=1024)
    await site.start()
    return runner, int(runner.addresses[0][1])
