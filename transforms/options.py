"""The arithmetic of option chains: Black-76, max pain, smiles, constant maturities and the variance strip (METHODOLOGY 2.5).

Volatilities are fractions p.a., times to expiry years of 365 d or microseconds (`left`), prices USD, amounts coins. Vectors over strikes are
sorted by strike, ascending, each strike once; an unknown volatility is NaN. Prices are undiscounted: marks of listed crypto options are
quoted on the forward at a rate of zero. Undefined results are NaN; nothing raises.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from transforms.estimators import HOUR_US, HOURS_A_YEAR, Floats, Ints, kernel

YEAR_US: Final = round(HOURS_A_YEAR) * HOUR_US
#: pay-outs this close to each other, as a share, are equal: the sums that differ only by rounding must not choose the strike
_EQUAL: Final = 1e-12
_ROOT_2: Final = math.sqrt(2.0)
_ROOT_2_PI: Final = math.sqrt(2.0 * math.pi)


# --- Black (1976) ---------------------------------------------------------------------------------------------------------------


@kernel
def _cumulative(x: float) -> float:
    """Standard normal distribution."""
    return 0.5 * math.erfc(-x / _ROOT_2)


@kernel
def black_d1(forward: float, strike: float, volatility: float, years: float) -> float:
    """`d1 = (ln(F/K) + sigma^2 T / 2) / (sigma sqrt T)` (Black 1976); NaN unless all four are finite and positive."""
    for value in (float(forward), float(strike), float(volatility), float(years)):
        if not (value > 0.0 and value < np.inf):
            return np.nan
    deviation = volatility * math.sqrt(years)
    return (math.log(forward / strike) + 0.5 * deviation * deviation) / deviation if forward * deviation > 0.0 else np.nan


@kernel
def call_delta(forward: float, strike: float, volatility: float, years: float) -> float:
    """Delta of a call to its forward, `N(d1)` in 0..1; a put's is smaller by 1."""
    d1 = black_d1(forward, strike, volatility, years)
    return _cumulative(d1) if np.isfinite(d1) else np.nan


@kernel
def black_gamma(forward: float, strike: float, volatility: float, years: float) -> float:
    """OP.6: `phi(d1) / (F sigma sqrt T)`, change of delta per USD of the forward; the same for call and put."""
    d1 = black_d1(forward, strike, volatility, years)
    if not np.isfinite(d1):
        return np.nan
    return math.exp(-0.5 * d1 * d1) / _ROOT_2_PI / (forward * volatility * math.sqrt(years))


@kernel
def black_price(forward: float, strike: float, volatility: float, years: float, call: bool) -> float:
    """Undiscounted price of one option in USD: `F N(d1) - K N(d2)` for a call, `K N(-d2) - F N(-d1)` for a put."""
    d1 = black_d1(forward, strike, volatility, years)
    if not np.isfinite(d1):
        return np.nan
    d2 = d1 - volatility * math.sqrt(years)
    if call:
        return forward * _cumulative(d1) - strike * _cumulative(d2)
    return strike * _cumulative(-d2) - forward * _cumulative(-d1)


# --- open interest over strikes -------------------------------------------------------------------------------------------------


@kernel
def call_put_log(calls: float, puts: float) -> float:
    """OP.1: `-ln(puts / calls)`, positive = more calls; NaN where one of the two is not positive: the ratio says nothing then."""
    if calls > 0.0 and puts > 0.0:
        return math.log(calls / puts)
    return np.nan


@kernel
def herfindahl(sizes: Floats) -> float:
    """OP.2: sum of squared shares, 1/n..1, of amounts >= 0; NaN where they are all zero."""
    total = 0.0
    for size in sizes:
        total += size
    if not total > 0.0:
        return np.nan
    found = 0.0
    for size in sizes:
        found += (size / total) * (size / total)
    return found


@kernel
def pay_out(at: float, strikes: Floats, calls: Floats, puts: Floats, in_coin: bool) -> float:
    """What holders of all options of one expiry get if it settles at price `at`: USD, or coins (the USD amount divided by `at`).

    calls, puts: open interest in coins at each strike.
    """
    total = 0.0
    for n in range(strikes.shape[0]):
        if at > strikes[n]:
            total += calls[n] * (at - strikes[n])
        else:
            total += puts[n] * (strikes[n] - at)
    return total / at if in_coin else total


@kernel
def max_pain(strikes: Floats, calls: Floats, puts: Floats, in_coin: bool) -> float:
    """OP.3: the listed strike at which the holders of one expiry get least; of equal ones the lowest; NaN without open interest.

    Coin-settled options pay coins, so their writers' cheapest price may be another strike than in USD (known answer 35).
    """
    found, least, held = np.nan, np.inf, 0.0
    for n in range(strikes.shape[0]):
        held += calls[n] + puts[n]
        paid = pay_out(strikes[n], strikes, calls, puts, in_coin)
        if paid < least * (1.0 - _EQUAL):
            found, least = strikes[n], paid
    return found if held > 0.0 else np.nan


def expected_move(spot: float, volatility: float, years: float) -> float:
    """OP.4: one standard deviation of the price until expiry, `S sigma sqrt T`, USD."""
    return spot * volatility * math.sqrt(years)


@kernel
def moves_away(strike: float, spot: float, volatility: float, years: float) -> float:
    """OP.5: `ln(K/S) / (sigma sqrt T)`, distance in expected moves; positive = the strike lies above the price."""
    deviation = volatility * math.sqrt(years)
    if not (strike > 0.0 and spot > 0.0 and deviation > 0.0):
        return np.nan
    return math.log(strike / spot) / deviation


# --- smiles ---------------------------------------------------------------------------------------------------------------------


@kernel
def volatility_at(strikes: Floats, volatilities: Floats, price: float) -> float:
    """Volatility of one expiry at a price, linear in ln K between the neighbouring known strikes; NaN outside of them."""
    below, above = -1, -1
    for n in range(strikes.shape[0]):
        if np.isfinite(volatilities[n]):
            if strikes[n] <= price:
                below = n
            if strikes[n] >= price:
                above = n
                break
    if below < 0 or above < 0:
        return np.nan
    if below == above:
        return float(volatilities[below])
    share = math.log(price / strikes[below]) / math.log(strikes[above] / strikes[below])
    return float(volatilities[below] + share * (volatilities[above] - volatilities[below]))


@kernel
def volatility_at_delta(strikes: Floats, volatilities: Floats, forward: float, years: float, delta: float) -> float:
    """Volatility of one expiry where a call has this delta (0..1; a put's -0.25 is 0.75), linear in delta between neighbours.

    Deltas are Black-76 at each strike's own volatility. Where they cross the target more than once, the crossing nearest the forward counts
    (of equally near ones the lower); where they do not reach it, NaN.
    """
    found, nearest = np.nan, np.inf
    before, before_delta = -1, np.nan
    for n in range(strikes.shape[0]):
        here = call_delta(forward, strikes[n], volatilities[n], years)
        if not np.isfinite(here):
            continue
        if here == delta:
            away = 2.0 * abs(math.log(strikes[n] / forward))
            if away < nearest:
                found, nearest = volatilities[n], away
        elif before >= 0 and (before_delta - delta) * (here - delta) < 0.0:
            away = abs(math.log(strikes[before] / forward) + math.log(strikes[n] / forward))
            if away < nearest:
                share = (before_delta - delta) / (before_delta - here)
                found, nearest = volatilities[before] + share * (volatilities[n] - volatilities[before]), away
        before, before_delta = n, here
    return found


@kernel
def constant_maturity(left: Ints, volatilities: Floats, target: int, tolerance: float) -> float:
    """OP.7: volatility for one maturity, linear in total variance `sigma^2 T` between the neighbouring expiries.

    left: time to each expiry in us, ascending; volatilities: NaN = the expiry says nothing; target: us. Outside the expiries: the volatility
    of the outermost one while it is no further from the target than `tolerance` (a share of the target), else NaN.
    """
    before, after = -1, -1
    for n in range(left.shape[0]):
        if volatilities[n] > 0.0 and volatilities[n] < np.inf:
            if left[n] <= target:
                before = n
            if left[n] >= target:
                after = n
                break
    if before >= 0 and after >= 0:
        if before == after:
            return float(volatilities[before])
        near, far = volatilities[before] ** 2 * left[before], volatilities[after] ** 2 * left[after]
        share = (target - left[before]) / (left[after] - left[before])
        return math.sqrt((near + share * (far - near)) / target)
    only = max(before, after)
    if only >= 0 and abs(left[only] - target) <= tolerance * target:
        return float(volatilities[only])
    return np.nan


@kernel
def strip_variance(
    strikes: Floats, volatilities: Floats, forward: float, years: float, least: int, reach: float, least_delta: float
) -> float:
    """OP.9: variance p.a. of one expiry from out-of-the-money prices (Cboe, VIX white paper 2019, with R = 0):

    `2/T sum dK/K^2 Q(K) - 1/T (F/K0 - 1)^2`; K0 is the highest strike at or below the forward, Q the Black-76 price at the strike's own
    volatility (put below K0, call above, their mean at K0), dK half the distance between the neighbours (at the ends, the whole one).
    Options whose delta is smaller than `least_delta` in size do not enter (0: all do). A strip that ends too early is too low, so it is NaN
    where the outermost known strikes are nearer to the forward than `reach` standard deviations (of the volatility at the forward), or
    where fewer than `least` strikes enter on either side of K0.
    """
    known = np.flatnonzero(np.isfinite(volatilities))
    wide = reach * volatility_at(strikes, volatilities, forward) * math.sqrt(years)
    if known.shape[0] < 2:
        return np.nan
    if not (math.log(forward / strikes[known[0]]) >= wide and math.log(strikes[known[-1]] / forward) >= wide):
        return np.nan
    entering = np.empty(known.shape[0], np.int64)
    count, centre = 0, -1
    for n in known:
        delta = call_delta(forward, strikes[n], volatilities[n], years)
        if delta >= least_delta and delta <= 1.0 - least_delta:
            if strikes[n] <= forward:
                centre = count
            entering[count] = n
            count += 1
    last = count - 1
    if centre < max(least, 1) or last - centre < max(least, 1):
        return np.nan
    total = 0.0
    for m in range(count):
        strike, volatility = strikes[entering[m]], volatilities[entering[m]]
        low, high = strikes[entering[max(m - 1, 0)]], strikes[entering[min(m + 1, last)]]
        width = (high - low) if m in (0, last) else 0.5 * (high - low)
        price = black_price(forward, strike, volatility, years, m > centre)
        if m == centre:
            price = 0.5 * (price + black_price(forward, strike, volatility, years, True))
        total += width / strike * price / strike
    found = (2.0 * total - (forward / strikes[entering[centre]] - 1.0) ** 2) / years
    return float(found) if found > 0.0 else np.nan
