"""One value at a time: what a venue's rule or a definition of the method says about a single number, in plain Python.

The features compute the same quantities on whole grids; tests hold them against these. Undefined is NaN, never 0. Rates are fractions,
positive = longs pay shorts; yearly rates are simple, 365 d or 8,760 h.
"""

from __future__ import annotations

import math
from typing import Final

from transforms.estimators import HOURS_A_YEAR

DAYS_A_YEAR: Final = 365.0


# --- funding and basis ------------------------------------------------------------------------------------------------------------


def annualised(rate: float, interval_h: float) -> float:
    """FU.1: `rate * 8760 / interval_h`, p.a., simple; rate is a fraction per interval of interval_h hours, positive = longs pay.

    >>> annualised(0.0001, 8.0)
    0.1095
    """
    return rate * (HOURS_A_YEAR / interval_h)


def per_interval(annual: float, interval_h: float) -> float:
    """Inverse of `annualised`: the fraction paid per interval at a simple yearly rate."""
    return annual * interval_h / HOURS_A_YEAR


def clamped_funding(premium: float, interest: float, limit: float) -> float:
    """Binance's funding rate per interval: `P + clamp(I - P, -limit, +limit)`; premium and interest are fractions of that interval.

    Exactly the interest wherever the premium lies within `limit` of it: there the rate says nothing, the premium does (METHODOLOGY 2.2).
    Source: Binance, "Introduction to Binance Futures Funding Rates" (interest 0.01 % and limit 0.05 % per 8 h).
    """
    gap = interest - premium
    if abs(gap) <= limit:
        return interest
    return premium + math.copysign(limit, gap)


def dated_basis_annual(future: float, spot: float, days: float) -> float:
    """BA.1: `ln(F / S) * 365 / days`, p.a., log. NaN unless both prices and the days to expiry are positive."""
    if not (future > 0.0 and spot > 0.0 and days > 0.0):
        return math.nan
    return math.log(future / spot) * DAYS_A_YEAR / days


def constant_maturity_basis(near_log: float, near_days: float, far_log: float, far_days: float, days: float) -> float:
    """BA.2: yearly basis at `days`, from `ln(F / S)` of the expiries around it, linear in time to expiry; p.a., log.

    NaN outside the two expiries: a basis is not extrapolated. Several venues: mean of theirs, weighted by open interest.

    >>> constant_maturity_basis(0.01, 60.0, 0.03, 120.0, 90.0) == 0.02 * 365.0 / 90.0
    True
    """
    if not (0.0 < near_days <= days <= far_days and near_days < far_days):
        return math.nan
    share = (days - near_days) / (far_days - near_days)
    return ((1.0 - share) * near_log + share * far_log) * DAYS_A_YEAR / days


# --- open interest, flow, held scores ---------------------------------------------------------------------------------------------


def usd_change_decomposed(usd_ratio: float, price_ratio: float) -> tuple[float, float]:
    """OI.12 for one instrument: (change of quantity as a share, share of the log change of USD open interest that is price).

    Ratios are new / old and positive. `ln U = ln quantity + ln price`; the share is NaN where USD open interest did not move.
    """
    log_usd = math.log(usd_ratio)
    share = math.log(price_ratio) / log_usd if log_usd != 0.0 else math.nan
    return usd_ratio / price_ratio - 1.0, share


def taker_imbalance_of_ratio(ratio: float) -> float:
    """FL.1 from a buy/sell ratio: `(ratio - 1) / (ratio + 1)`, in [-1, 1]; positive = takers buy."""
    return (ratio - 1.0) / (ratio + 1.0)


def stale_factor(age_h: float, grace_h: float, half_life_h: float) -> float:
    """Part of a held score still used: 1 within the grace, then halved every half-life (METHODOLOGY 3.3).

    >>> stale_factor(15.0, 3.0, 12.0)
    0.5
    """
    return math.pow(2.0, -max(0.0, age_h - grace_h) / half_life_h)


# --- liquidation feeds ------------------------------------------------------------------------------------------------------------


def coverage(shown: float, actual: float) -> float:
    """LQ.5: share of what was liquidated that a feed showed; NaN where nothing was."""
    return shown / actual if actual > 0.0 else math.nan


def event_rate(occupied_share: float) -> float:
    """LQ.6: events per second behind a feed that shows at most one a second: `-ln(1 - o)`, o = share of seconds with one.

    Exact for a Poisson process, else a lower bound: events that come together share a second. NaN where every second is occupied: then a
    feed of one a second bounds nothing.
    """
    return -math.log1p(-occupied_share) if 0.0 <= occupied_share < 1.0 else math.nan


def occupancy_uplift(occupied_share: float) -> float:
    """LQ.6: by how much the count of events is understated, `-ln(1 - o) / o`, at least 1; NaN without an event or with no empty second."""
    return event_rate(occupied_share) / occupied_share if occupied_share > 0.0 else math.nan


def branching_ratio(fano: float) -> float:
    """LQ.7: share of events that earlier events set off, `1 - 1 / sqrt(variance / mean of counts)`, in [0, 1).

    Hardiman and Bouchaud 2014 (arXiv 1403.5227). 0 for a Poisson process (1) and for counts more even than that; NaN unless positive.
    A change of the underlying rate raises it although nothing sets off anything (Filimonov and Sornette 2013, arXiv 1308.6756).
    """
    return max(0.0, 1.0 - 1.0 / math.sqrt(fano)) if 0.0 < fano < math.inf else math.nan


# --- stablecoins ------------------------------------------------------------------------------------------------------------------


def net_issuance(minted: float, inventory: float) -> float:
    """ST.1: change of circulation, USD: change of what was minted less change of what the issuer holds authorised but not issued.

    Minted into the treasury is 0 until it leaves it; a burn of inventory is 0, too.
    """
    return minted - inventory
