"""Command line: `python -m sandbox --port P [--market simulated|recorded] ...`; prints one line when ready, ends on SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from sandbox.faults import Faults, read_rules
from sandbox.market import Market, frozen
from sandbox.recordings import RecordedMarket
from sandbox.server import Sandbox, start, venues
from sandbox.simulated import SimulatedMarket
from transforms.windows import from_ms, utc

#: The recorded 15-minute set lies inside the 30 days that the venue's REST keeps.
RECORDED_NOW: Final = utc("2026-05-28")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="Venue stand-ins on loopback, in the venues' own wire formats.")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free port")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; anything but loopback only inside a container")
    parser.add_argument("--market", choices=("simulated", "recorded"), default="simulated")
    parser.add_argument("--recordings", type=Path, default=Path("../shared/recordings"), help="folder of recorded series")
    parser.add_argument("--seed", type=int, default=7, help="of the simulated market and of the faults")
    parser.add_argument("--now", type=utc, help="stop the venues' clock here; default: wall clock, or 2026-05-28 for recordings")
    parser.add_argument("--limits-scale", type=float, default=1.0, help="multiplies every request limit")
    parser.add_argument("--faults", type=Path, help="JSON list of fault rules")
    return parser.parse_args(argv)


def _market(asked: argparse.Namespace) -> Market:
    now: datetime | None = asked.now
    if asked.market == "recorded":
        return RecordedMarket(asked.recordings, frozen(now or RECORDED_NOW))
    wall: Callable[[], int] = lambda: time.time_ns() // 1_000_000  # noqa: E731
    return SimulatedMarket(asked.seed, frozen(now) if now else wall)


async def _serve(asked: argparse.Namespace) -> None:
    rules = read_rules(asked.faults.read_bytes()) if asked.faults else []
    market = _market(asked)
    sandbox = Sandbox(venues(market, scale=asked.limits_scale), market, Faults(asked.seed, rules))
    runner, port = await start(sandbox, asked.port, asked.host)
    ended = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, ended.set)
    what = f"SIMULATED seed={asked.seed}" if market.kind == "simulated" else f"RECORDED recordings={asked.recordings}"
    now = from_ms(market.now_ms())
    print(f"sandbox ready on http://{asked.host}:{port} market={what} now={now:%Y-%m-%dT%H:%M:%SZ}", flush=True)
    await ended.wait()
    await runner.cleanup()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 after SIGTERM; 2 with one plain sentence when it cannot start."""
    try:
        asyncio.run(_serve(_arguments(argv)))
    except (OSError, ValueError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
