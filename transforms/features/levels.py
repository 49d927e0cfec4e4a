"""Levels of instruments on the grid of a panel, and what the outlier gate says about them."""

from __future__ import annotations

from dataclasses import dataclass

from transforms.estimators import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class OpenInterest:
    """Open interest on the grid, (instruments, bars), one-sided; NaN where an instrument shows none within the carry limit."""

    native: Floats
    #: code of the native unit, -1 where there is no value
    unit: Ints
    base: Floats
    #: at the venue's own price where it gives one, else NaN
    stated_usd: Floats
    age_h: Floats


@dataclass(frozen=True, slots=True)
class Price:
    """Price in USD per base unit, (instruments, bars). `implied`: stated value / amount, used where no candle ends at the bar.

    `high_usd`, `low_usd`: extremes of the candle that ends at the bar, NaN where there is none or it does not say.
    """

    usd: Floats
    age_h: Floats
    implied: Bools
    high_usd: Floats
    low_usd: Floats


@dataclass(frozen=True, slots=True)
class Gate:
    """The outlier gate of one quantity, (instruments, bars): values set aside, and values beyond the limit that nobody could contradict.

    `values` as judged; `off`: distance from the trailing median; `mad`: trailing MAD. All in the quantity's own unit (log for levels).
    """

    aside: Bools
    flagged: Bools
    values: Floats
    off: Floats
    mad: Floats
