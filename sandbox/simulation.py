"""The equations of the simulated market: sequential, seeded, and prefix-consistent.

Every random number is a hash of (seed, asset, stream, step), so no draw depends on how far the path is computed: a longer run
repeats a shorter one exactly. One step is five minutes, `dt = 1/288` day.

Market state (common to all assets)
    regime     quiet -> build-up of longs (flush ends it) or of shorts (squeeze ends it); hazard of the end = .02 + .5 heat^2 per day
    heat       signed crowding; grows .22 per day in a build-up, collapses in a flush or squeeze (the build-up / cascade cycle
               of METHODOLOGY.md C05, C21, C23)
    volatility exp(fast AR(1) + slow AR(1)) x regime factor that rises at once and decays over hours x hour of day
    jumps      Poisson, .25 a day
Per asset
    return     r = sigma (drift dt + s sqrt(dt) (rho z_m + sqrt(1-rho^2) z_i) + rho J) - .006 dt ln(P/P0)
    forced     long share of open interest liquidated = .15 leverage (1 + heat+) max(0, -r - threshold); short side mirrored
    OI         dlnQ = growth(regime) dt + pull to base + noise, then x (1 - forced): a flush shrinks it, a build-up feeds it
    premium    p follows regime and heat within 5 h, plus noise
    funding    F = P + clamp(I - P, +-0.05 %), I = 0.01 % per 8 h, limited to cap and floor; P = premium over the 8 hours weighted
               1..n (METHODOLOGY.md FU.7 and Binance, "Introduction to Binance Futures Funding Rates")
    accounts   log ratio of heads = structural level + heat, leaning against the last day's return: structurally > 0 (PO.1)
    taker      imbalance = .6 tanh(.35 r/s + .35 z): buys with rising prices (FL.1)
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

STEP_MS: Final = 300_000
STEPS_A_DAY: Final = 288
INTEREST_RATE: Final = 0.0001
FUNDING_CLAMP: Final = 0.0005
FUNDING_STEPS: Final = 96

QUIET, LONGS, FLUSH, SHORTS, SQUEEZE = range(5)

#: Columns of `market_path` and `asset_path`, in the order of their arrays.
MARKET: Final = ("regime", "heat", "volatility", "drift", "shock", "jump", "outage")
ASSET: Final = (
    "close",
    "high",
    "low",
    "volume",
    "taker_buy",
    "trades",
    "open_interest",
    "premium",
    "global_account",
    "top_account",
    "top_position",
    "long_liquidated",
    "short_liquidated",
)
#: Parameters of an asset, in the order `asset_path` reads them.
PARAMETERS: Final = ("price", "daily_sigma", "rho", "coins", "volume", "trade_size", "crowd", "premium_scale")

_DRIFT: Final = np.array([0.0, 0.50, -9.0, -0.25, 8.0])  # in daily sigmas a day
_CALM: Final = np.array([0.8, 0.9, 3.0, 0.9, 2.6])  # volatility the regime pulls to
_GROWTH: Final = np.array([0.0, 0.020, -0.25, 0.015, -0.20])  # of open interest, log a day


@njit(cache=True)
def _hash(seed: int, stream: int, step: int) -> int:
    """SplitMix64 (Steele, Lea, Flood 2014) of the three numbers."""
    x = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(stream) * np.uint64(0xA0761D6478BD642F)
    x += (np.uint64(step) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))  # type: ignore[return-value]


@njit(cache=True)
def uniform(seed: int, stream: int, step: int) -> float:
    """Uniform on (0, 1)."""
    return (float(_hash(seed, stream, step) >> np.uint64(11)) + 0.5) / 9007199254740992.0


@njit(cache=True)
def normal(seed: int, stream: int, step: int) -> float:
    """Standard normal (Box and Muller 1958)."""
    u, v = uniform(seed, 2 * stream, step), uniform(seed, 2 * stream + 1, step)
    return math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * v)


@njit(cache=True)
def market_path(seed: int, steps: int) -> NDArray[np.float64]:
    """State of the whole market, `MARKET` x steps."""
    out = np.zeros((7, steps))
    dt = 1.0 / STEPS_A_DAY
    regime, age, heat, factor, fast, slow = QUIET, 0, 0.0, 0.8, 0.0, 0.0
    dark_from, dark_to = -1, -1
    for i in range(steps):
        u = uniform(seed, 1, i)
        age += 1
        following = regime
        if regime == QUIET:
            heat *= math.exp(-0.35 * dt)
            if u < dt / 6.0:
                following = LONGS if uniform(seed, 2, i) < 0.62 else SHORTS
        elif regime in (LONGS, SHORTS):
            heat += 0.22 * dt if regime == LONGS else -0.22 * dt
            ends = (0.02 + 0.5 * heat * heat) * dt
            if u < ends:
                following = FLUSH if regime == LONGS else SQUEEZE
            elif u < ends + 0.05 * dt:
                following = QUIET
        else:
            heat *= math.exp(-6.0 * dt)
            if age > 36 and u < 1.0 / 60.0:
                following = QUIET
        if following != regime:
            regime, age = following, 0
            if regime == FLUSH and uniform(seed, 3, i) < 0.35:  # the feed breaks when it is needed most (PITFALLS.md E2)
                dark_from = i + 6 + int(18 * uniform(seed, 4, i))
                dark_to = dark_from + 12 + int(24 * uniform(seed, 5, i))
        if i % STEPS_A_DAY == 0 and uniform(seed, 6, i) < 0.035:
            dark_from = i + int(220 * uniform(seed, 7, i))
            dark_to = dark_from + 12 + int(48 * uniform(seed, 8, i))
        fast += -1.25 * fast * dt + 0.35 * math.sqrt(2.5 * dt) * normal(seed, 20, i)
        slow += -slow * dt / 12.0 + 0.30 * math.sqrt(dt / 6.0) * normal(seed, 21, i)
        calm = _CALM[regime]
        factor += (calm - factor) * dt * (60.0 if calm > factor else 3.0)
        hour = (i % STEPS_A_DAY) / 12.0
        season = 1.0 + 0.25 * math.cos(2.0 * math.pi * (hour - 15.0) / 24.0)
        out[0, i] = regime
        out[1, i] = heat
        out[2, i] = math.exp(fast + slow - 0.106) * factor * season
        out[3, i] = _DRIFT[regime]
        out[4, i] = normal(seed, 22, i)
        out[5, i] = 0.7 * normal(seed, 23, i) if uniform(seed, 9, i) < 0.25 * dt else 0.0
        out[6, i] = 1.0 if dark_from <= i < dark_to else 0.0
    return out


@njit(cache=True)
def asset_path(seed: int, asset: int, market: NDArray[np.float64], parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """One asset over the market's steps, `ASSET` x steps, unrounded. Values at index i hold at the END of step i."""
    steps = market.shape[1]
    out = np.zeros((13, steps))
    dt = 1.0 / STEPS_A_DAY
    price0, sigma, rho, coins0, volume0, trade_size, crowd, scale = parameters
    price, q, q_slow, premium, day_return = price0, math.log(coins0), math.log(coins0), 0.0, 0.0
    heads, top_heads, top_size = 0.0, 0.0, 0.0
    s = 100 * (asset + 1)
    threshold = 0.1 * sigma
    for i in range(steps):
        regime, heat = int(market[0, i]), market[1, i]
        width = sigma * market[2, i] * math.sqrt(dt)
        mixed = rho * market[4, i] + math.sqrt(1.0 - rho * rho) * normal(seed, s, i)
        r = sigma * (market[3, i] * dt + rho * market[5, i]) + width * mixed - 0.006 * dt * math.log(price / price0)
        opened = price
        price *= math.exp(r)
        day_return += r - day_return * dt
        out[0, i] = price
        out[1, i] = max(opened, price) * math.exp(0.45 * width * abs(normal(seed, s + 1, i)))
        out[2, i] = min(opened, price) * math.exp(-0.45 * width * abs(normal(seed, s + 2, i)))

        volume = volume0 * dt * market[2, i] ** 1.1 * math.exp(0.35 * normal(seed, s + 3, i) - 0.061)
        volume *= 1.0 + min(4.0, 0.3 * abs(r) / width)
        lean = 0.6 * math.tanh(0.35 * r / width + 0.35 * normal(seed, s + 4, i))
        out[3, i] = volume
        out[4, i] = volume * (0.5 + 0.5 * lean)
        out[5, i] = 1.0 + volume / trade_size * math.exp(0.1 * normal(seed, s + 5, i))

        leverage = min(2.0, max(0.5, math.exp(q - q_slow)))
        force = 0.15 * leverage * 0.022 / sigma
        fallen = force * (1.0 + max(heat, 0.0)) * max(0.0, -r - threshold) + 4e-7 * math.exp(normal(seed, s + 6, i))
        risen = force * (1.0 + max(-heat, 0.0)) * max(0.0, r - threshold) + 4e-7 * math.exp(normal(seed, s + 7, i))
        fallen, risen = min(fallen, 0.05), min(risen, 0.05)
        coins = math.exp(q)
        out[11, i] = coins * fallen
        out[12, i] = coins * risen
        q += _GROWTH[regime] * dt + 0.02 * dt * (math.log(coins0) - q) + 0.0008 * normal(seed, s + 8, i)
        q += math.log1p(-fallen - risen)
        q_slow += (q - q_slow) * dt / 30.0
        out[6, i] = math.exp(q)

        wanted = 2e-5 + scale * 16e-4 * heat
        if regime == FLUSH:
            wanted = -10e-4 * scale
        elif regime == SQUEEZE:
            wanted = 9e-4 * scale
        premium += (wanted - premium) * dt * 5.0 + scale * 4e-4 * math.sqrt(10.0 * dt) * normal(seed, s + 9, i)
        out[7, i] = premium

        heads += (-1.6 * day_return - heads) * dt * 1.3 + 0.05 * math.sqrt(2.6 * dt) * normal(seed, s + 10, i)
        top_heads += (-0.8 * day_return - top_heads) * dt * 0.8 + 0.05 * math.sqrt(1.6 * dt) * normal(seed, s + 11, i)
        top_size += (0.9 * day_return - top_size) * dt * 0.6 + 0.06 * math.sqrt(1.2 * dt) * normal(seed, s + 12, i)
        for column, tilt in (
            (8, crowd + 0.30 * heat + heads),
            (9, crowd + 0.12 + 0.24 * heat + top_heads),
            (10, 0.15 + 0.12 * heat + top_size),
        ):
            out[column, i] = 1.0 / (1.0 + math.exp(-tilt))
    return out


def premium_average(premium: NDArray[np.float64]) -> NDArray[np.float64]:
    """Premium over each interval (rows), later steps weighing more: (1 p_1 + ... + n p_n) / (1 + ... + n)."""
    weights = np.arange(1.0, premium.shape[-1] + 1.0)
    # a fixed order of additions: a BLAS product would not give the same bits for every shape
    average: NDArray[np.float64] = np.cumsum(premium * weights, axis=-1)[..., -1] / weights.sum()
    return average


def funding_rate(premium: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Rate per interval as a fraction: P + clamp(I - P, +-0.05 %), within +-cap; positive: longs pay.

    >>> funding_rate(np.array([0.0, 0.0009, -0.0009]), 0.003).round(6).tolist()
    [0.0001, 0.0004, -0.0004]
    """
    rate = premium + np.clip(INTEREST_RATE - premium, -FUNDING_CLAMP, FUNDING_CLAMP)
    limited: NDArray[np.float64] = np.clip(rate, -cap, cap)
    return limited.round(8)
