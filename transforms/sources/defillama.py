"""DefiLlama: circulating supply of stablecoins, one point a day, the whole history in every answer.

The source rewrites its history and moves its newest point through the day (PITFALLS F2): every answer is a vintage, and the load step
stores what changed as new revisions. The published OpenAPI is wrong for these endpoints; shapes are those of the server, which has sent
`date` as a string and as a number. Supply is taken at its peg: `totalCirculating.peggedUSD`, of one coin or of all USD-pegged coins.

Server: https://github.com/DefiLlama/peggedassets-server
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
import numpy as np

from transforms import conventions
from transforms.reading import Seconds, Shape, Sieve, instants, message_error, micros, to_us
from transforms.sources.contract import Answer, Ask, Budget, Decoded, Instrument, Reject, Series, Source, Unreadable
from transforms.windows import DAY, Window

#: ticker -> DefiLlama's id; ALL is the source's own total
COINS: Final[Mapping[str, str]] = {"ALL": "", "USDT": "1", "USDC": "2", "DAI": "5"}
SECOND: Final = 1_000_000  # microseconds
_ABSENT: Final = msgspec.Raw(b"null")


class Pegged(msgspec.Struct, rename={"usd": "peggedUSD"}):
    """Amounts by peg; other pegs than the dollar are no rows of ours."""

    usd: float


class Point(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, gc=False):
    date: Seconds | str
    total_circulating: Pegged
    total_unreleased: msgspec.Raw = _ABSENT
    total_circulating_usd: msgspec.Raw = msgspec.field(default=_ABSENT, name="totalCirculatingUSD")
    total_minted_usd: msgspec.Raw = msgspec.field(default=_ABSENT, name="totalMintedUSD")
    total_bridged_to_usd: msgspec.Raw = msgspec.field(default=_ABSENT, name="totalBridgedToUSD")


_POINT: Final = Shape(Point, message_error)


class DefiLlama(Source):
    """See the module's docstring."""

    name = "defillama"
    hosts: Mapping[str, str] = {"stablecoins": "https://stablecoins.llama.fi"}
    #: no limit is published; one request a second is courtesy (answers are cached for 30 minutes there)
    rewrites: Mapping[str, timedelta] = {"stablecoincharts": timedelta(days=35)}
    budgets: Mapping[str, Budget] = {"default": Budget(60, 60)}
    endpoints: Mapping[str, str] = {"stablecoincharts": "stablecoin_supply"}

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        """The total and each coin, for the days that are over by `now`."""
        if window.start >= now:
            return
        asked = Window(window.start, min(window.end, now))
        if asked.grid(DAY):
            for coin in COINS:
                yield Series(self.name, "stablecoincharts", coin, asked, DAY)

    def asks(self, series: Series) -> Iterator[Ask]:
        if series.endpoint not in self.endpoints or series.instrument not in COINS:
            raise ValueError(
                f"defillama has no {series.endpoint!r} of {series.instrument!r}; it has stablecoincharts of {', '.join(COINS)}"
            )
        chosen = COINS[series.instrument]
        yield Ask(series, "stablecoins", "/stablecoincharts/all", (("stablecoin", chosen),) if chosen else ())

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        """Points of the window that were over when we asked. Others of the history are no rows; a stamp off midnight is put aside."""
        series, target = ask.series, "stablecoin_supply"
        read = _POINT.many(answer.body, target)
        try:
            shift = conventions.shift(self.name, series.endpoint, series.window.start)
            lag = conventions.span(self.name, series.endpoint, "lag", series.window.start)
        except LookupError as undeclared:
            raise Unreadable(Reject(target, "CONVENTION", str(undeclared), ask.target)) from undeclared
        raw, readable = micros([point.date for point in read.rows], SECOND)
        as_of = raw + shift // timedelta(microseconds=1)
        end = min(to_us(series.window.end), to_us(answer.fetched_at))
        ours = ~readable | (as_of > to_us(series.window.start)) & (as_of <= end)
        rows = [read.rows[i] for i in np.flatnonzero(ours)]
        as_of, readable = as_of[ours], readable[ours]
        sieve = Sieve(target, rows, read.rejects)
        sieve.refuse(~readable, "VALUE", lambda i: f"found date {rows[i].date!r}, expected Unix seconds")
        sieve.inside(as_of, series.window, series.step)
        supply = sieve.limits("circulating_usd", np.array([row.total_circulating.usd for row in rows], dtype=np.float64))
        sieve.single([as_of], [supply])
        columns = {
            "source": self.name,
            "stablecoin": series.instrument,
            "as_of": instants(as_of),
            "known_at": instants(as_of + lag // timedelta(microseconds=1)),
            "circulating_usd": supply,
        }
        return Decoded({target: sieve.table(columns)}, sieve.rejects, read.notes)


SOURCE: Final = DefiLlama()
