"""Hyperliquid: settled funding, hourly bars, and the state of its perpetuals as it stands. All of it is POST /info with a JSON body.

The answers about now carry no stamp of their own: `as_of` is the instant at which we asked (PITFALLS A10). Open interest, marks, quotes and
premiums exist for now only, so an hour nobody asked in has none. Bars reach back 5000 hours; what is older is not asked for, and a page
that comes back short leaves its hours missing in the coverage ledger.

Premiums: the context's `premium` is the instantaneous (impact price - oracle) / oracle, as the column declares it, and is kept with an
interval of 0 h. The `premium` of fundingHistory is the average over the hour that was paid for, which is another quantity: it is not kept.

Documents: https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint ; limits:
https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/rate-limits-and-user-limits
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np

from transforms import conventions
from transforms.reading import Floats, Nullable, Sieve, floats, instants, stamp, to_us
from transforms.sources import hyperliquid_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import (
    Answer,
    Ask,
    Budget,
    Decoded,
    Disposition,
    Instrument,
    Reject,
    Series,
    Source,
    Unreadable,
    decoded_by,
)
from transforms.windows import HOUR, Window, floor, to_ms

NAME: Final = "hyperliquid"
META: Final = "meta"
CONTEXTS: Final = "metaAndAssetCtxs"
FUNDING: Final = "fundingHistory"
CANDLES: Final = "candleSnapshot"
#: a call serves at most so many settlements; bars are asked for in pages of the same size, which every documented limit lets through
PAGE: Final = 500
#: request weight: of every call, and one more for so many rows
WEIGHT: Final = 20.0
ROWS_A_WEIGHT: Final = {FUNDING: 20, CANDLES: 60}
#: settlements come late: 53,000 recorded ones by .04 s (median), six by more than a second, at most by 111 s, none early
LATE: Final = timedelta(minutes=5)
#: the requests of a long run leave later than its clock
SLACK: Final = 2 * HOUR
#: a snapshot describes now; it is asked for only in windows that end about now
SNAPSHOT_REACH: Final = timedelta(hours=2)
DELISTED: Final = "DELISTED"
MULTIPLIER: Final = 1000.0

_KILO: Final = re.compile(r"k([A-Z][A-Z0-9]*)")
_PLAIN: Final = re.compile(r"[A-Z0-9]*[A-Z][A-Z0-9]*")
_LOOKS_MULTIPLIED: Final = re.compile(r"10{2,}|1M")


@lru_cache(maxsize=2048)
def coin(name: str) -> tuple[str, float]:
    """Asset and coins per base unit. Contracts of other dexes (`xyz:TSLA`), spot pairs (`@107`) and other spellings raise LookupError.

    >>> coin("kPEPE"), coin("BTC"), coin("0G")
    (('PEPE', 1000.0), ('BTC', 1.0), ('0G', 1.0))
    """
    if found := _KILO.fullmatch(name):
        return found[1], MULTIPLIER
    if not _PLAIN.fullmatch(name) or _LOOKS_MULTIPLIED.match(name):
        raise LookupError(f"found coin {name!r}; Hyperliquid spells a coin in capitals and digits, and k before it for a thousand")
    return name, 1.0


class Hyperliquid(Source):
    """See the module's docstring."""

    name = NAME
    hosts: Mapping[str, str] = {"api": "https://api.hyperliquid.xyz"}
    #: published limit per address
    budgets: Mapping[str, Budget] = {"weight": Budget(1200, 60, heaviest=WEIGHT + PAGE / ROWS_A_WEIGHT[FUNDING])}
    endpoints: Mapping[str, str] = {META: "instruments", CONTEXTS: "open_interest", FUNDING: "funding", CANDLES: "candles"}
    also: Mapping[str, tuple[str, ...]] = {CONTEXTS: ("marks", "funding", "premiums")}
    listing: Sequence[Mapping[str, tuple[str, ...]]] = (
        {"quote_asset": ("USD",), "margin_asset": ("USDC",), "contract_type": ("PERPETUAL",), "instrument_status": ("TRADING",)},
    )

    # -- what to ask

    def catalogue(self, now: datetime) -> Series:
        return Series(self.name, META, "", Window(now - HOUR, now))

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        """Settlements and bars up to `now`, bars no further back than the venue keeps them; the snapshot when the window ends about now.

        Settlements lie on the hour from 2024 on; before that their interval is not known, and no grid is expected.
        """
        ours = [one for one in instruments if one.venue == self.name]
        depth = conventions.span(self.name, CANDLES, "history_depth", now)
        kept = floor(now - depth + SLACK, HOUR)
        for one in ours:
            whole = common.known_span(window, one, now)
            if whole is None:
                continue
            for part in conventions.regimes(self.name, FUNDING, whole, "funding_interval_h"):
                hours = conventions.number_or_none(self.name, FUNDING, "funding_interval_h", part.start)
                yield Series(self.name, FUNDING, one.instrument, part, None if hours is None else timedelta(hours=hours))
            if kept < whole.end:
                yield Series(self.name, CANDLES, one.instrument, Window(max(whole.start, kept), whole.end), HOUR)
        if ours and window.start < now and now - window.end <= SNAPSHOT_REACH:
            yield Series(self.name, CONTEXTS, ",".join(one.instrument for one in ours), window)

    def asks(self, series: Series) -> Iterator[Ask]:
        match series.endpoint:
            case "meta" | "metaAndAssetCtxs":
                yield _ask(series, {"type": series.endpoint}, WEIGHT)
            case "fundingHistory":
                for piece in series.window.split(HOUR * PAGE):
                    # a settlement is stamped at its hour or after it, never before: of (start, end] the first hour after start is the first
                    if hours := piece.grid(HOUR):
                        weight = WEIGHT + -(-len(hours) // ROWS_A_WEIGHT[FUNDING])
                        yield _ask(series, _funding(series, to_ms(hours[0]), to_ms(hours[-1] + LATE) - 1), weight)
            case "candleSnapshot":
                for stamps in common.pages(series, PAGE):
                    first, last = common.labels_ms(series, stamps)
                    weight = WEIGHT + -(-len(stamps) // ROWS_A_WEIGHT[CANDLES])
                    yield _ask(series, _candles(series, first, last + _ms(HOUR) - 1), weight)
            case unknown:
                raise ValueError(f"hyperliquid has no endpoint {unknown!r}; it has {', '.join(self.endpoints)}")

    def follow(self, ask: Ask, answer: Answer) -> Ask | None:
        """Pages are cut to what the venue serves at once. Should it serve less, the next page begins after the last row that came."""
        endpoint = ask.series.endpoint
        if endpoint not in (FUNDING, CANDLES):
            return None
        asked = json.loads(ask.body)
        span = asked["req"] if endpoint == CANDLES else asked
        try:
            if endpoint == CANDLES:
                came = [row.opened for row in shapes.CANDLE.many(answer.body, "candles").rows]
            else:
                came = [row.time for row in shapes.FUNDING.many(answer.body, "funding").rows]
        except Unreadable:
            return None
        room = span["endTime"] + 1 - _ms(HOUR if endpoint == CANDLES else LATE)  # the last stamp that the page may hold
        if not came or max(came) < span["startTime"] or (max(came) // _ms(HOUR) + 1) * _ms(HOUR) > room:
            return None
        make = _candles if endpoint == CANDLES else _funding
        return replace(ask, body=_text(make(ask.series, max(came) + 1, span["endTime"])))

    def classify(self, ask: Ask, answer: Answer) -> Disposition:
        verdict = super().classify(ask, answer)
        if verdict.reason_code == "HTTP_STATUS" and (said := shapes.venue_error(answer.body)):
            return Disposition("reject", "VENUE_ERROR", f"HTTP {answer.status} to {ask.body}: {said}")
        if verdict.verb == "accept" and (said := shapes.venue_error(answer.body)):
            return Disposition("reject", "VENUE_ERROR", f"{said}; asked {ask.body}")
        return verdict

    # -- how to read the answer

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        return decoded_by(self, DECODERS, ask, answer)


def _ms(span: timedelta) -> int:
    """Whole milliseconds of a length of time."""
    return span // timedelta(milliseconds=1)


def _text(body: Mapping[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"))


def _ask(series: Series, body: Mapping[str, Any], weight: float) -> Ask:
    return Ask(series, "api", "/info", (), "weight", weight, body=_text(body))


def _funding(series: Series, first_ms: int, last_ms: int) -> dict[str, Any]:
    return {"type": FUNDING, "coin": series.instrument, "startTime": first_ms, "endTime": last_ms}


def _candles(series: Series, first_ms: int, last_ms: int) -> dict[str, Any]:
    return {"type": CANDLES, "req": {"coin": series.instrument, "interval": "1h", "startTime": first_ms, "endTime": last_ms}}


# -- histories


def funding(ask: Ask, answer: Answer) -> Decoded:
    """Settled rates at the hour they were paid for. One that came late was known later: `known_at` is never before its own stamp."""
    series, at = ask.series, ask.series.window.start
    read = shapes.FUNDING.many(answer.body, "funding")
    rows = read.rows
    sieve = Sieve("funding", rows, read.rejects)
    common.asked_for(sieve, [row.coin for row in rows], ask)
    paid = np.array([row.time for row in rows], dtype=np.int64) * common.MILLI
    as_of = paid // _us(HOUR) * _us(HOUR)
    sieve.refuse(
        paid - as_of > _us(LATE),
        "STAMP",
        lambda i: f"settlement at {stamp(paid[i])} is more than {LATE} after the hour",
    )
    sieve.inside(as_of, series.window, series.step)
    scale = conventions.number(NAME, FUNDING, "rate_scale", at)
    rate = sieve.texts("funding_rate", [row.funding_rate for row in rows], scale)
    sieve.single([as_of], [rate])
    lag = _us(conventions.span(NAME, FUNDING, "lag", at))
    table = sieve.table(
        {
            **common.who(ask, as_of, coin(series.instrument)[0]),
            "known_at": instants(np.maximum(as_of + lag, paid)),
            "funding_rate": rate,
            "funding_kind": conventions.text(NAME, FUNDING, "funding_kind", at),
            "funding_interval_h": conventions.number_or_none(NAME, FUNDING, "funding_interval_h", at),
        }
    )
    return Decoded({"funding": table}, sieve.rejects, read.notes)


def candles(ask: Ask, answer: Answer) -> Decoded:
    """Bars at their END, prices per coin and amounts in coins. The venue does not say who took."""
    series, at = ask.series, ask.series.window.start
    read = shapes.CANDLE.many(answer.body, "candles")
    rows = read.rows
    sieve = Sieve("candles", rows, read.rejects)
    common.asked_for(sieve, [row.coin for row in rows], ask)
    if (unit := conventions.text(NAME, CANDLES, "native_unit", at)) != "base":
        raise LookupError(f"found unit {unit!r} of {CANDLES}; this decoder reads base units only")
    period = conventions.span(NAME, CANDLES, "period", at)
    other = [row.interval != "1h" or row.closed + 1 - row.opened != _ms(period) for row in rows]
    sieve.refuse(
        np.array(other, dtype=np.bool_),
        "STAMP",
        lambda i: f"bar {rows[i].interval} from {rows[i].opened} to {rows[i].closed} is not {period}",
    )
    as_of = common.stamped(sieve, [row.opened for row in rows], ask)
    asset, multiplier = coin(series.instrument)
    prices = {
        f"{name}_usd": sieve.texts(f"{name}_usd", [getattr(row, name) for row in rows], 1 / multiplier)
        for name in ("open", "high", "low", "close")
    }
    volume = sieve.texts("volume_base", [row.volume for row in rows], multiplier)
    trades = np.array([row.trades or 0 for row in rows], dtype=np.int64)
    counted = np.array([row.trades is not None for row in rows], dtype=np.bool_)
    sieve.single([as_of], [*prices.values(), volume, trades])
    table = sieve.table(
        {
            **common.who(ask, as_of, asset),
            "interval_h": period / timedelta(hours=1),
            **prices,
            "volume_base": volume,
            "taker_buy_base": None,
            "trades": Nullable(trades, counted),
        }
    )
    return Decoded({"candles": table}, sieve.rejects, read.notes)


# -- snapshots: no stamp of their own, as_of is when we asked


def meta(ask: Ask, answer: Answer) -> Decoded:
    """Every contract of the venue's own dex, delisted ones too."""
    at = answer.fetched_at
    said, notes = shapes.META.one(answer.body, "instruments")
    _usdc(said)
    read = shapes.COIN.many(said.universe, "instruments", "$.universe")
    rows = read.rows
    sieve = Sieve("instruments", rows, read.rejects)
    names = [row.name for row in rows]
    assets, multipliers = common.named(sieve, names, coin)
    as_of = np.full(len(rows), to_us(at), dtype=np.int64)
    status = conventions.text(NAME, META, "instrument_status", at)
    words = np.array([DELISTED if row.is_delisted else status for row in rows], dtype=object)
    sieve.single([np.array(names, dtype=object)], [words])
    table = sieve.table(
        {
            **common.whose(ask, answer, names, assets, as_of),
            "base_asset": np.array(names, dtype=object),
            "quote_asset": "USD",
            "margin_asset": "USDC",
            "contract_type": "PERPETUAL",
            "instrument_status": words,
            "base_multiplier": multipliers,
            "payoff": "linear",
            "contract_size": 1.0,
            "contract_unit": "base",
            "funding_interval_h": conventions.number_or_none(NAME, FUNDING, "funding_interval_h", at),
            "listed_at": None,
            "delivery_at": None,
        }
    )
    return Decoded({"instruments": table}, sieve.rejects, [*notes, *read.notes])


def contexts(ask: Ask, answer: Answer) -> Decoded:
    """Open interest, mark and oracle price, the running hour's rate and the premium of the coins asked for.

    A context belongs to the coin in the same place, so lists of different length say nothing. Delisted coins have no market and no rows;
    one that was asked for and is not there is put aside as MISSING.
    """
    at = answer.fetched_at
    both, notes = shapes.BOTH.one(answer.body, "open_interest")
    said, more = shapes.META.one(bytes(both.meta), "open_interest")
    _usdc(said)
    coins, texts = _list(said.universe), _list(both.contexts)
    if len(coins) != len(texts):
        detail = f"found {len(coins)} coins and {len(texts)} contexts: nobody can say which belongs to which"
        raise Unreadable(Reject("open_interest", "SHAPE", detail, ask.body))
    remarks = dict.fromkeys([*notes, *more])
    rejects: list[Reject] = []
    wanted, seen = set(ask.series.instruments), set()
    names: list[str] = []
    rows: list[shapes.Context] = []
    for one, text in zip(coins, texts, strict=True):
        try:
            listed, first = shapes.COIN.one(bytes(one), "open_interest")
            state, second = shapes.CONTEXT.one(bytes(text), "open_interest")
        except Unreadable as unreadable:
            rejects.append(
                replace(unreadable.reject, row=f"{bytes(one).decode('utf-8', 'replace')} {bytes(text).decode('utf-8', 'replace')}")
            )
            continue
        remarks |= dict.fromkeys([*first, *second])
        seen.add(listed.name)
        if (listed.name in wanted or not wanted) and not _idle(listed, state):
            names.append(listed.name)
            rows.append(state)
    lost = "was asked for and is not in the answer, or cannot be read"
    rejects += [Reject("open_interest", "MISSING", f"{name} {lost}", name) for name in sorted(wanted - seen)]
    decoded = _states(ask, answer, names, rows, at)
    return Decoded(decoded.tables, [*rejects, *decoded.rejects], list(remarks))


def _states(ask: Ask, answer: Answer, names: list[str], rows: list[shapes.Context], at: datetime) -> Decoded:
    """The four tables of the coins' states, each with limits and rejects of its own."""
    held, marks, quotes, premiums = (Sieve(target, rows) for target in ("open_interest", "marks", "funding", "premiums"))
    as_of = np.full(len(rows), to_us(at), dtype=np.int64)
    key = [np.array(names, dtype=object)]
    for sieve in (held, marks, quotes, premiums):
        assets, multipliers = common.named(sieve, names, coin)
    who = common.whose(ask, answer, names, assets, as_of)
    unit = conventions.text(NAME, CONTEXTS, "native_unit", at)
    if unit != "base":
        raise LookupError(f"found unit {unit!r} of {CONTEXTS}; this decoder reads base units only")
    sides = conventions.number(NAME, CONTEXTS, "oi_sides", at)
    native: Floats = held.texts("open_interest_native", [row.open_interest for row in rows])
    held.refuse(native == 0.0, "ZERO_OPEN_INTEREST", lambda i: f"open interest of exactly 0 of {names[i]} at {stamp(as_of[i])}")
    mark = marks.limits("mark_usd", floats([row.mark_px for row in rows]) / multipliers)
    index = marks.limits("index_usd", floats([row.oracle_px for row in rows]) / multipliers)
    scale = conventions.number(NAME, CONTEXTS, "rate_scale", at)
    rate = quotes.texts("funding_rate", [row.funding for row in rows], scale)
    shown = [row.premium for row in rows]
    premium = premiums.limits(
        "premium_share", floats([text or "" for text in shown]), scale, valid=np.array([text is not None for text in shown], dtype=np.bool_)
    )
    # without a book there is no impact price and no premium: no row, and nothing wrong
    premiums.keep &= np.array([text is not None for text in shown], dtype=np.bool_)
    for sieve, values in ((held, [native]), (marks, [mark, index]), (quotes, [rate]), (premiums, [premium])):
        sieve.single(key, values)
    tables = {
        "open_interest": held.table(
            {
                **who,
                "open_interest_native": native,
                "native_unit": unit,
                "oi_sides": int(sides),
                "open_interest_base": native * multipliers / sides,
                "open_interest_usd": Nullable(native, np.zeros(len(rows), dtype=np.bool_)),
            }
        ),
        "marks": marks.table({**who, "mark_usd": mark, "index_usd": index}),
        "funding": quotes.table(
            {
                **who,
                "funding_rate": rate,
                "funding_kind": conventions.text(NAME, CONTEXTS, "funding_kind", at),
                "funding_interval_h": conventions.number_or_none(NAME, CONTEXTS, "funding_interval_h", at),
            }
        ),
        "premiums": premiums.table({**who, "interval_h": 0.0, "premium_share": premium}),
    }
    return Decoded(tables, [reject for sieve in (held, marks, quotes, premiums) for reject in sieve.rejects])


def _idle(listed: shapes.Coin, state: shapes.Context) -> bool:
    """No market: delisted, or neither a book nor a position."""
    return bool(listed.is_delisted) or (state.mid_px is None and float(floats([state.open_interest])[0]) == 0.0)


def _usdc(said: shapes.Meta) -> None:
    if said.collateral_token != 0:
        raise LookupError(f"found collateral token {said.collateral_token}; the venue's own dex is margined in USDC, token 0")


def _list(raw: msgspec.Raw) -> list[msgspec.Raw]:
    """Elements of a JSON list, unread."""
    try:
        return _RAWS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise shapes.META.unreadable(bytes(raw), fault, "open_interest") from fault


def _us(span: timedelta) -> int:
    """Whole microseconds of a length of time."""
    return span // common.MICROSECOND


_RAWS: Final = msgspec.json.Decoder(list[msgspec.Raw])

DECODERS: Final[Mapping[str, Callable[[Ask, Answer], Decoded]]] = {
    META: meta,
    CONTEXTS: contexts,
    FUNDING: funding,
    CANDLES: candles,
}

SOURCE: Final = Hyperliquid()
