"""One snapshot of an option chain: from its rows to what it says (METHODOLOGY 2.5). Pure arithmetic on arrays, no bars, no assets.

Rows belong to slots: one expiry of one settlement. Coin- and USD-settled options of one asset pay differently, so smiles and max pain are of one
settlement, the book; open interest and volume, both in coins, are summed over all. Volatilities of a slot refer to its forward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from transforms import options
from transforms.estimators import DAY_US, HOUR_US, Floats, Ints, kernel
from transforms.options import YEAR_US, black_gamma, moves_away, strip_variance, volatility_at, volatility_at_delta
from transforms.rules import OptionRule

#: what a snapshot says, in this order; `expiry_at` (us since 1970) is the expiry that attracts
MEASURES: Final = (
    "call_put_volume_log",
    "call_put_oi_log",
    "strike_hhi",
    "effective_strikes",
    "expiry_at",
    "max_pain_usd",
    "max_pain_coin_usd",
    "expected_move_usd",
    "strike_distance_em",
    "strike_concentration_7d",
    "gamma_1pct_equity_usd",
    "gamma_1pct_short_usd",
    "gamma_concentration",
    "implied_volatility_7d",
    "implied_volatility_30d",
    "implied_volatility_90d",
    "risk_reversal_25d",
    "butterfly_25d",
    "volatility_term_slope",
    "vix_style_volatility_30d",
    "dvol_style_volatility_30d",
)


@dataclass(frozen=True, slots=True)
class Listed:
    """Rows of a snapshot, one per listed option. Anything that is not finite and positive counts as not received; a row without a strike, or
    whose expiry is not after its as_of, counts as not received as a whole.

    settlement: place in OptionRule.settlements; call: 1 or 0; as_of, expiry: us; interest, volume: coins; volatility: p.a.;
    forward, spot: USD.
    """

    settlement: Ints
    call: Ints
    as_of: Ints
    expiry: Ints
    strike: Floats
    interest: Floats
    volume: Floats
    volatility: Floats
    forward: Floats
    spot: Floats

    def take(self, rows: Ints) -> Listed:
        """These rows, in this order."""
        return Listed(*(getattr(self, name)[rows] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class _Slots:
    """Expiries by settlement, then time. Vectors over slots; those over strikes are cut by `starts`."""

    settlement: Ints
    left: Ints
    expiry: Ints
    forward: Floats
    spot: Floats
    starts: Ints
    strike: Floats
    calls: Floats
    puts: Floats
    volatility: Floats


def measure(listed: Listed, rule: OptionRule) -> Floats:
    """What a snapshot says: a vector in the order of MEASURES, NaN = undefined. Rows may come in any order; an option listed twice adds up."""
    found = dict.fromkeys(MEASURES, math.nan)
    usable = (listed.strike > 0) & (listed.strike < np.inf) & (listed.expiry > listed.as_of)
    rows = listed.take(np.flatnonzero(usable))
    rows = rows.take(np.lexsort((rows.call, rows.strike, rows.expiry, rows.settlement)))
    found |= _amounts(rows)
    live = rows.take(np.flatnonzero(rows.expiry - rows.as_of >= round(rule.min_left_h * HOUR_US)))
    if len(live.strike):
        slots = _slots(live)
        smile = smiles(slots.starts, slots.strike, slots.volatility, slots.forward, slots.left, rule.wing_delta)
        book = np.flatnonzero(slots.settlement == slots.settlement[0])
        found |= _surface(slots, smile, book, rule) | _magnet(slots, smile[:, 0], book, rule) | _gamma(slots, smile[:, 0], rule)
        found["strike_concentration_7d"] = _concentration(slots, smile[:, 0], rule)
    values = np.array([found[name] for name in MEASURES])
    return np.where(np.isfinite(values), values, np.nan)


def _amounts(rows: Listed) -> dict[str, float]:
    """OP.1 and OP.2, over everything listed."""
    order = np.argsort(rows.strike, kind="stable")
    whole = np.array([0, len(order)], dtype=np.int64)
    _, _, calls, puts, _ = strike_table(whole, rows.strike[order], rows.call[order], rows.interest[order], rows.volatility[order])
    concentration = options.herfindahl(calls + puts)
    return {
        "call_put_volume_log": options.call_put_log(*side_totals(rows.call, rows.volume)),
        "call_put_oi_log": options.call_put_log(*side_totals(rows.call, rows.interest)),
        "strike_hhi": concentration,
        "effective_strikes": 1.0 / concentration if concentration > 0.0 else math.nan,
    }


def _slots(rows: Listed) -> _Slots:
    """Sorted rows as slots. A slot's forward and index are the median of its rows': one wrong row moves nothing."""
    new = np.flatnonzero(np.diff(rows.settlement) | np.diff(rows.expiry)) + 1
    first = np.concatenate([[0], new]).astype(np.int64)
    starts = np.append(first, len(rows.strike))
    return _Slots(
        rows.settlement[first],
        rows.expiry[first] - rows.as_of[first],
        rows.expiry[first],
        medians(starts, rows.forward),
        medians(starts, rows.spot),
        *strike_table(starts, rows.strike, rows.call, rows.interest, rows.volatility),
    )


def _surface(slots: _Slots, smile: Floats, book: Ints, rule: OptionRule) -> dict[str, float]:
    """OP.7 to OP.9: constant maturities of the book. Wings and centre of one expiry count together or not at all."""
    left = slots.left[book]
    whole = np.isfinite(smile[book, 0] + smile[book, 1] + smile[book, 2])
    quotes = (slots.starts, slots.strike, slots.volatility, slots.forward, slots.left, rule.strip_strikes, rule.strip_reach)

    def at(volatilities: Floats, days: float) -> float:
        return float(options.constant_maturity(left, volatilities, round(days * DAY_US), rule.maturity_tolerance))

    short, middle, long = (at(smile[book, 0], days) for days in (rule.short_d, rule.middle_d, rule.long_d))
    own, call, put = (at(np.where(whole, smile[book, n], np.nan), rule.middle_d) for n in range(3))
    return {
        "implied_volatility_7d": short,
        "implied_volatility_30d": middle,
        "implied_volatility_90d": long,
        "risk_reversal_25d": call - put,
        "butterfly_25d": 0.5 * (call + put) - own,
        "volatility_term_slope": math.log(long / short) if long > 0.0 and short > 0.0 else math.nan,
        "vix_style_volatility_30d": at(strip_volatilities(*quotes, 0.0)[book], rule.middle_d),
        "dvol_style_volatility_30d": at(strip_volatilities(*quotes, rule.dvol_delta)[book], rule.middle_d),
    }


def _magnet(slots: _Slots, centre: Floats, book: Ints, rule: OptionRule) -> dict[str, float]:
    """OP.3 to OP.5 of the book's expiry with the largest open interest within `magnet_d`; of equal ones the earlier.

    K* is the strike with the largest open interest there; of equal ones the nearest to the price, then the lower.
    """
    chosen, most = -1, 0.0
    for slot in book:
        held = float(
            sum(slots.calls[slots.starts[slot] : slots.starts[slot + 1]] + slots.puts[slots.starts[slot] : slots.starts[slot + 1]])
        )
        if slots.left[slot] <= round(rule.magnet_d * DAY_US) and held > most:
            chosen, most = int(slot), held
    if chosen < 0:
        return {}
    own = slice(int(slots.starts[chosen]), int(slots.starts[chosen + 1]))
    strike, calls, puts = slots.strike[own], slots.calls[own], slots.puts[own]
    spot, volatility, years = float(slots.spot[chosen]), float(centre[chosen]), int(slots.left[chosen]) / YEAR_US
    largest = np.flatnonzero(calls + puts == np.max(calls + puts))
    away = np.abs(strike[largest] - spot)
    peak = float(strike[largest[int(np.argmin(away)) if spot > 0 else 0]])
    coin = rule.settlements[int(slots.settlement[chosen])] == "coin"
    return {
        "expiry_at": float(slots.expiry[chosen]),
        "max_pain_usd": options.max_pain(strike, calls, puts, False),
        "max_pain_coin_usd": options.max_pain(strike, calls, puts, True) if coin else math.nan,
        "expected_move_usd": options.expected_move(spot, volatility, years),
        "strike_distance_em": moves_away(peak, spot, volatility, years),
    }


def _gamma(slots: _Slots, centre: Floats, rule: OptionRule) -> dict[str, float]:
    """OP.6 under two stated assumptions about the dealers: A1 long calls and short puts, A2 short everything."""
    of_calls, of_puts, near, placed, known = dollar_gammas(
        slots.starts,
        slots.strike,
        slots.calls,
        slots.puts,
        slots.volatility,
        slots.forward,
        slots.spot,
        centre,
        slots.left,
        rule.gamma_move,
        rule.near_moves,
    )
    if not round(known, 6) >= rule.min_known:
        return {}
    return {
        "gamma_1pct_equity_usd": of_calls - of_puts,
        "gamma_1pct_short_usd": -(of_calls + of_puts),
        "gamma_concentration": near if round(placed, 6) >= rule.min_known else math.nan,
    }


def _concentration(slots: _Slots, centre: Floats, rule: OptionRule) -> float:
    """OP.5: share of the open interest with at most 7 d left that lies within one expected move."""
    longest = round(rule.concentration_d * DAY_US)
    share, known = near_shares(
        slots.starts, slots.strike, slots.calls + slots.puts, slots.spot, centre, slots.left, longest, rule.near_moves
    )
    return share if round(known, 6) >= rule.min_known else math.nan


# --- kernels: `starts` (slots + 1) gives each slot's rows or strikes ------------------------------------------------------------


@kernel
def medians(starts: Ints, values: Floats) -> Floats:
    """Median of the finite, positive values of each slot, NaN where it has none."""
    found = np.full(starts.shape[0] - 1, np.nan)
    for s in range(found.shape[0]):
        own = values[starts[s] : starts[s + 1]]
        own = own[(own > 0.0) & (own < np.inf)]
        if own.shape[0] > 0:
            found[s] = np.median(own)
    return found


@kernel
def side_totals(call: Ints, amounts: Floats) -> tuple[float, float]:
    """(sum over calls, sum over puts) of the amounts that are finite and positive. call: 1 or 0 per row."""
    calls, puts = 0.0, 0.0
    for n in range(call.shape[0]):
        if amounts[n] > 0.0 and amounts[n] < np.inf:
            if call[n] == 1:
                calls += amounts[n]
            else:
                puts += amounts[n]
    return calls, puts


@kernel
def strike_table(
    starts: Ints, strike: Floats, call: Ints, interest: Floats, volatility: Floats
) -> tuple[Ints, Floats, Floats, Floats, Floats]:
    """Rows (sorted by strike within each slot) as one line a strike: (starts, strike, interest of calls, of puts, volatility).

    An amount or a volatility that is not finite and positive counts as not received: the amount adds nothing. The volatility of a strike is
    the mean of its sides', which quote one smile; listed on one side, that side's.
    """
    rows = strike.shape[0]
    lines = np.zeros(starts.shape[0], np.int64)
    strikes, calls, puts, smile = np.empty(rows), np.zeros(rows), np.zeros(rows), np.full(rows, np.nan)
    kept = 0
    for s in range(starts.shape[0] - 1):
        told = 0
        for n in range(starts[s], starts[s + 1]):
            if n == starts[s] or strike[n] != strike[n - 1]:
                strikes[kept] = strike[n]
                kept += 1
                told = 0
            at = kept - 1
            if interest[n] > 0.0 and interest[n] < np.inf:
                if call[n] == 1:
                    calls[at] += interest[n]
                else:
                    puts[at] += interest[n]
            if volatility[n] > 0.0 and volatility[n] < np.inf:
                told += 1
                smile[at] = volatility[n] if told == 1 else smile[at] + (volatility[n] - smile[at]) / told
        lines[s + 1] = kept
    return lines, strikes[:kept], calls[:kept], puts[:kept], smile[:kept]


@kernel
def smiles(starts: Ints, strikes: Floats, volatilities: Floats, forward: Floats, left: Ints, wing: float) -> Floats:
    """Of each slot: (volatility at the forward, of the call with delta `wing`, of the put with delta `-wing`), shape (slots, 3)."""
    found = np.full((starts.shape[0] - 1, 3), np.nan)
    for s in range(found.shape[0]):
        own, quoted = strikes[starts[s] : starts[s + 1]], volatilities[starts[s] : starts[s + 1]]
        if forward[s] > 0.0 and left[s] > 0:
            found[s, 0] = volatility_at(own, quoted, forward[s])
            found[s, 1] = volatility_at_delta(own, quoted, forward[s], left[s] / YEAR_US, wing)
            found[s, 2] = volatility_at_delta(own, quoted, forward[s], left[s] / YEAR_US, 1.0 - wing)
    return found


@kernel
def strip_volatilities(
    starts: Ints, strikes: Floats, volatilities: Floats, forward: Floats, left: Ints, least: int, reach: float, least_delta: float
) -> Floats:
    """OP.9 of each slot: root of `strip_variance`."""
    found = np.full(starts.shape[0] - 1, np.nan)
    for s in range(found.shape[0]):
        own, quoted = strikes[starts[s] : starts[s + 1]], volatilities[starts[s] : starts[s + 1]]
        if forward[s] > 0.0 and left[s] > 0:
            found[s] = math.sqrt(strip_variance(own, quoted, forward[s], left[s] / YEAR_US, least, reach, least_delta))
    return found


@kernel
def within_moves(strike: float, spot: float, volatility: float, years: float, moves: float) -> int:
    """1 where the strike lies at most so many expected moves from the price (rounded to 1e-6), 0 where further, -1 where unknown."""
    away = moves_away(strike, spot, volatility, years)
    if not np.isfinite(away):
        return -1
    return 1 if math.floor(abs(away) * 1e6 + 0.5) <= moves * 1e6 else 0


@kernel
def near_shares(
    starts: Ints, strikes: Floats, interest: Floats, spot: Floats, centre: Floats, left: Ints, longest: int, moves: float
) -> tuple[float, float]:
    """OP.5: over slots with at most `longest` us left, (share of open interest within so many expected moves, share whose place is known).

    spot, centre: price and volatility at the forward of each slot; the first share is of what is known. NaN without open interest.
    """
    near, placed, held = 0.0, 0.0, 0.0
    for s in range(starts.shape[0] - 1):
        if left[s] > longest:
            continue
        for n in range(starts[s], starts[s + 1]):
            held += interest[n]
            where = within_moves(strikes[n], spot[s], centre[s], left[s] / YEAR_US, moves)
            if where >= 0:
                placed += interest[n]
            if where == 1:
                near += interest[n]
    return (near / placed if placed > 0.0 else np.nan), (placed / held if held > 0.0 else np.nan)


@kernel
def dollar_gammas(
    starts: Ints,
    strikes: Floats,
    calls: Floats,
    puts: Floats,
    volatilities: Floats,
    forward: Floats,
    spot: Floats,
    centre: Floats,
    left: Ints,
    move: float,
    moves: float,
) -> tuple[float, float, float, float, float]:
    """OP.6, unsigned: (of calls, of puts, share within so many expected moves of the price, share whose place is known, share of the open
    interest that has a gamma).

    USD by which the book's hedge changes when the price moves by the share `move`: `sum Gamma OI F^2 move`. The forward moves with spot, so
    `Gamma_S S^2 = Gamma_F F^2`. The third is of the gamma whose place is known. NaN where nothing is.
    """
    of_calls, of_puts, near, placed, covered, held = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for s in range(starts.shape[0] - 1):
        for n in range(starts[s], starts[s + 1]):
            interest = calls[n] + puts[n]
            held += interest
            gamma = black_gamma(forward[s], strikes[n], volatilities[n], left[s] / YEAR_US)
            if not np.isfinite(gamma) or interest == 0.0:
                continue
            covered += interest
            each = gamma * forward[s] * forward[s] * move
            of_calls += each * calls[n]
            of_puts += each * puts[n]
            where = within_moves(strikes[n], spot[s], centre[s], left[s] / YEAR_US, moves)
            if where >= 0:
                placed += each * interest
            if where == 1:
                near += each * interest
    both = of_calls + of_puts
    return (
        of_calls if covered > 0.0 else np.nan,
        of_puts if covered > 0.0 else np.nan,
        near / placed if placed > 0.0 else np.nan,
        placed / both if both > 0.0 else np.nan,
        covered / held if held > 0.0 else np.nan,
    )
