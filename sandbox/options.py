"""Options of the simulated market: what is listed when, the smile, and who holds what. A pure function of (seed, instant), like the path.

variance   expected over T days: slow + (fast - slow) (1 - e^-T/8) / (T/8); fast and slow are 2-day and 40-day averages of the path's own
           squared volatility; at the money iv = 1.12 daily sigma sqrt(365 variance) e^noise: dearer than what is realised, inverted in stress
smile      iv(d) = iv (1 + b d + c d^2) with d = ln(K/F) / (iv sqrt T), |d| <= 3.2, c = .045; b = -.05 + .25 (return of about 4 days): falls make
           puts dear. At b = -.08 that is the recorded June smile of 2026-05-28 within two points from 55,000 to 92,000
forward    F = index e^(carry T), carry = 3 % + 6 % heat; options that expire within three days stand on the index itself, as recorded
DVOL       square root of the 30-day variance strip of that smile: the integral of iv^2 against the normal density of z = d iv / iv(d)
           (Gatheral 2006, ch. 11)
listing    08:00 UTC: dailies 3 days ahead, Fridays 4 weeks, last Fridays 3 months, last Fridays of quarters a year; strikes on a round grid
           about the prices since the listing, finer ones as the expiry draws near; what is listed stays until its expiry
holdings   calls above and puts below the price of the listing, more at round strikes, growing with age; 24-hour volume near the money
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sandbox.market import DAY_MS, HOUR_MS, Chain, Floats
from sandbox.simulation import STEP_MS, STEPS_A_DAY, normal
from transforms.windows import from_ms

MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
EXPIRY_MS: Final = 8 * HOUR_MS
YEAR_MS: Final = 365 * DAY_MS
CURVATURE: Final = 0.045
PREMIUM: Final = 1.12
WIDEST: Final = 3.2
FRIDAY: Final = 4
#: below this share of a coin the venue's price step is a fifth
FINE: Final = 0.005
TICK: Final = 0.0005
ON_INDEX_MS: Final = 3 * DAY_MS
#: limits of b
STEEPEST: Final = (-0.14, 0.06)
#: rows of `surface`
SURFACE: Final = ("fast", "slow", "noise", "skew", "carry", "lean")


@dataclass(frozen=True, slots=True)
class Book:
    """Options of one coin: coins open over all expiries, and the smallest amount."""

    open_coins: float
    lot: float


@dataclass(frozen=True, slots=True)
class Tenor:
    """A class of expiries: days from listing to expiry, reach and step of the strikes in standard deviations, share of what is open."""

    days: int
    reach: float
    step: float
    share: float


BOOKS: Final = {"BTC": Book(380_000.0, 0.1), "ETH": Book(2.1e6, 1.0)}
DAILY: Final = Tenor(3, 2.5, 0.2, 0.004)
WEEKLY: Final = Tenor(28, 2.8, 0.2, 0.03)
MONTHLY: Final = Tenor(92, 2.6, 0.18, 0.10)
QUARTERLY: Final = Tenor(371, 2.4, 0.16, 0.25)
#: the longest first
TENORS: Final = (QUARTERLY, MONTHLY, WEEKLY, DAILY)


@dataclass(frozen=True, slots=True)
class Path:
    """What a chain is made from: closes at the ends of the steps from genesis to now, and the coin's daily standard deviation."""

    genesis_ms: int
    now_ms: int
    close: Floats
    sigma: float

    def since(self, instant_ms: int) -> Floats:
        """Closes from the instant on: at least one."""
        return self.close[min((instant_ms - self.genesis_ms) // STEP_MS, len(self.close) - 1) :]


@njit(cache=True)
def surface(seed: int, asset: int, market: NDArray[np.float64], close: NDArray[np.float64]) -> NDArray[np.float64]:
    """State of the smile over the path's steps, `SURFACE` x steps: known at the END of each step. `market` as market_path gives it."""
    steps = market.shape[1]
    out = np.zeros((6, steps))
    dt = 1.0 / STEPS_A_DAY
    fast, slow, noise, fall, carry, lean = 1.35, 1.35, 0.0, 0.0, 0.03, 0.0
    for i in range(steps):
        squared = market[2, i] ** 2
        fast += (squared - fast) * dt / 2.0
        slow += (squared - slow) * dt / 40.0
        noise += -noise * dt / 5.0 + 0.04 * math.sqrt(2.0 * dt / 5.0) * normal(seed, 1000 + asset, i)
        moved = math.log(close[i] / close[i - 1]) if i else 0.0
        fall += moved - fall * dt / 4.0
        lean += moved - lean * dt / 20.0
        carry += (0.03 + 0.06 * market[1, i] - carry) * dt / 3.0
        out[0, i], out[1, i], out[2, i] = fast, slow, noise
        out[3, i] = min(STEEPEST[1], max(STEEPEST[0], -0.05 + 0.25 * fall))
        out[4, i] = min(0.2, max(-0.05, carry))
        out[5, i] = min(0.4, max(-0.4, lean))
    return out


@njit(cache=True)
def _chances(seed: int, stream: int, codes: NDArray[np.int64], day: int, part: float) -> NDArray[np.float64]:
    """For each code a standard normal that lasts, plus half of one that is drawn each day and blends into the next day's."""
    out = np.empty(len(codes))
    for n in range(len(codes)):
        daily = (1.0 - part) * normal(seed, stream + 1, codes[n] * 100_000 + day) + part * normal(
            seed, stream + 1, codes[n] * 100_000 + day + 1
        )
        out[n] = normal(seed, stream, codes[n]) + 0.5 * daily
    return out


@njit(cache=True)
def _black(forward: NDArray[np.float64], strike: NDArray[np.float64], width: NDArray[np.float64]) -> NDArray[np.float64]:
    """Calls per coin of forward, undiscounted (Black 1976); `width` = iv sqrt(T)."""
    out = np.empty(len(strike))
    for n in range(len(strike)):
        d1 = math.log(forward[n] / strike[n]) / width[n] + width[n] / 2.0
        above, below = math.erfc(-d1 / math.sqrt(2.0)) / 2.0, math.erfc(-(d1 - width[n]) / math.sqrt(2.0)) / 2.0
        out[n] = above - strike[n] / forward[n] * below
    return out


def at_the_money(sigma: float, state: Floats, days: Floats | float) -> Floats:
    """Implied volatility p.a. at the forward for options of `days` to go; `state`: columns or one column of `surface`."""
    part = np.maximum(np.asarray(days, dtype=np.float64), 1e-3) / 8.0
    variance = state[1] + (state[0] - state[1]) * -np.expm1(-part) / part
    found: Floats = PREMIUM * sigma * np.sqrt(365.0 * variance) * np.exp(state[2])
    return found


def smile(money: Floats, skew: float, distance: Floats) -> Floats:
    """Implied volatility at `distance` standard deviations from the forward."""
    d = np.clip(distance, -WIDEST, WIDEST)
    bent: Floats = money * np.maximum(0.5, 1.0 + skew * d + CURVATURE * d * d)
    return bent


def dvol(sigma: float, states: Floats) -> Floats:
    """DVOL in percent with two decimals, at the end of every step."""
    skews = np.linspace(*STEEPEST, 41)
    strip = np.interp(states[3], skews, [strip_of(float(skew)) for skew in skews])
    return np.round(100.0 * at_the_money(sigma, states, 30.0) * strip, 2)


def strip_of(skew: float) -> float:
    """Volatility of the variance strip over the one at the money."""
    d = np.linspace(-WIDEST, WIDEST, 401)
    bent = smile(np.ones(1), skew, d)
    z = d / bent
    inside = float(np.trapezoid(bent**2 * np.exp(-(z**2) / 2.0), z)) / math.sqrt(2.0 * math.pi)
    tails = sum(float(bent[end]) ** 2 * math.erfc(abs(float(z[end])) / math.sqrt(2.0)) / 2.0 for end in (0, -1))
    return math.sqrt(inside + tails)


def expiries(now_ms: int) -> list[tuple[int, Tenor]]:
    """What is listed at the instant: expiry stamps, ascending, each under its longest class."""
    today = from_ms(now_ms // DAY_MS * DAY_MS)
    out = []
    for ahead in range(QUARTERLY.days + 2):
        day = today + timedelta(days=ahead)
        expiry = now_ms // DAY_MS * DAY_MS + ahead * DAY_MS + EXPIRY_MS
        tenor = _tenor(day)
        if expiry - tenor.days * DAY_MS <= now_ms < expiry:
            out.append((expiry, tenor))
    return out


def _tenor(day: datetime) -> Tenor:
    if day.weekday() != FRIDAY:
        return DAILY
    if (day + timedelta(days=7)).month == day.month:
        return WEEKLY
    return QUARTERLY if day.month % 3 == 0 else MONTHLY


def round_step(wanted: float) -> float:
    """The round number (1, 2, 2.5 or 5 times a power of ten) nearest to what is wanted."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return min((power * n for n in (1.0, 2.0, 2.5, 5.0, 10.0)), key=lambda one: abs(math.log(one / wanted)))


def strikes(closes: Floats, sigma: float, tenor: Tenor) -> tuple[Floats, float]:
    """The round strikes about `closes`, the prices since the listing, and their step."""
    deviation = sigma * math.sqrt(tenor.days)
    step = round_step(float(closes[0]) * tenor.step * deviation)
    low = math.floor(float(closes.min()) * math.exp(-tenor.reach * deviation) / step)
    high = math.ceil(float(closes.max()) * math.exp(tenor.reach * deviation) / step)
    return np.round(step * np.arange(max(1, low), high + 1, dtype=np.float64), 6), step


def ladder(path: Path, expiry_ms: int, tenor: Tenor) -> tuple[Floats, Floats, Floats]:
    """Strikes of an expiry, ascending, the step of each, and when it was listed: as it draws near, the finer strikes of shorter classes join."""
    known, steps, begun = np.empty(0), np.empty(0), np.empty(0)
    for one in TENORS[TENORS.index(tenor) :]:
        since = max(expiry_ms - one.days * DAY_MS, path.genesis_ms)
        if since > path.now_ms:
            break
        grid, step = strikes(path.since(since), path.sigma, one)
        fresh = grid[~np.isin(grid, known)]
        known, steps = np.concatenate([known, fresh]), np.concatenate([steps, np.full(len(fresh), step)])
        begun = np.concatenate([begun, np.full(len(fresh), float(since))])
    order = np.argsort(known)
    return known[order], steps[order], begun[order]


def chain(seed: int, coin: str, path: Path, state: Floats) -> Chain:
    """The chain at the path's end. `state`: the newest column of `surface`."""
    now, index = path.now_ms, float(path.close[-1])
    parts = [_expiry(seed, coin, path, state, expiry, tenor) for expiry, tenor in expiries(now)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    expiry_ms, call = columns.pop("expiry_ms"), columns.pop("call")
    columns |= _quotes(columns, call, (expiry_ms - now) / YEAR_MS)
    columns |= {"index": np.full(len(call), index), "volume_usd": np.round(columns["volume"] * columns["mark"] * index, 2)}
    names = ["index_price" if end - now <= ON_INDEX_MS else f"{coin}-{date_word(end)}" for end in expiry_ms.tolist()]
    return Chain(now * 1000, expiry_ms, call, names, columns)


def _expiry(seed: int, coin: str, path: Path, state: Floats, expiry: int, tenor: Tenor) -> dict[str, NDArray[Any]]:
    """Calls and puts of one expiry, a pair a strike."""
    book, now, index, stream = BOOKS[coin], path.now_ms, float(path.close[-1]), 1010 + 4 * tuple(BOOKS).index(coin)
    grid, steps, begun = (np.repeat(column, 2) for column in ladder(path, expiry, tenor))
    call = np.tile([True, False], len(grid) // 2)
    lean = np.where(call, 1.0, -1.0)
    left = (expiry - now) / DAY_MS
    forward = index if expiry - now <= ON_INDEX_MS else round(index * math.exp(state[4] * left / 365.0), 2)
    money = at_the_money(path.sigma, state, left)
    distance = np.log(grid / forward) / (float(money) * math.sqrt(left / 365.0))
    codes = (expiry // DAY_MS * 10_000_000 + np.round(grid * 10).astype(np.int64)) * 2 + call
    day, part = now // DAY_MS, now % DAY_MS / DAY_MS
    first = float(path.since(max(expiry - tenor.days * DAY_MS, path.genesis_ms))[0])
    width = path.sigma * math.sqrt(tenor.days)
    held = (
        tenor.share
        * book.open_coins
        * np.exp(-0.5 * ((np.log(grid / first) / width - 0.4 * lean) / 0.8) ** 2)
        * steps
        / first
        / width
        / 2.5
    )
    held *= np.where(np.round(grid / steps).astype(np.int64) % 5 == 0, 2.5, 0.7)
    held *= -np.expm1(-(now - begun) / (0.35 * (expiry - begun))) * np.where(call, 0.58, 0.42) * np.exp(lean * state[5])
    held *= np.exp(0.5 * _chances(seed, stream, codes, day, part))
    traded = held * (0.06 + 0.9 * math.exp(-left / 2.0)) * math.sqrt(state[0]) * np.exp(-0.5 * (distance - 0.4 * lean) ** 2)
    traded *= np.exp(_chances(seed, stream + 2, codes, day, part) - 0.6)
    return {
        "expiry_ms": np.full(len(grid), expiry, dtype=np.int64),
        "call": call,
        "strike": grid,
        "forward": np.full(len(grid), forward),
        "iv": np.round(smile(money, state[3], distance), 4),
        "open_interest": np.round(np.floor(held / book.lot) * book.lot, 1),
        "volume": np.round(np.floor(traded / book.lot) * book.lot, 1),
    }


def _quotes(columns: dict[str, Floats], call: NDArray[np.bool_], years: Floats) -> dict[str, Floats]:
    """Mark per coin, and the quotes about it on the venue's price steps; no bid where it would be nothing."""
    calls = _black(columns["forward"], columns["strike"], columns["iv"] * np.sqrt(years))
    mark = np.round(np.maximum(np.where(call, calls, calls - 1.0 + columns["strike"] / columns["forward"]), 0.0), 6)
    tick = np.where(mark < FINE, TICK / 5, TICK)
    half = 0.5 * tick + 0.015 * mark
    bid, ask = np.round(np.floor((mark - half) / tick) * tick, 4), np.round(np.ceil((mark + half) / tick) * tick, 4)
    return {"mark": mark, "bid": np.where(bid > 0.0, bid, np.nan), "ask": ask}


def date_word(expiry_ms: int) -> str:
    """The day of an expiry as the venue writes it: 3MAY26."""
    day = datetime.fromtimestamp(expiry_ms / 1000, UTC)
    return f"{day.day}{MONTHS[day.month - 1]}{day.year % 100:02d}"
