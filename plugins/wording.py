"""Words for a person: what the published codes, names and numbers are called on the report, in the summary and in the trace.

Nothing here says more than the tables do: levels are places on the scale, reasons are the rules' own comparisons.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from transforms.sources.contract import REASONS

#: What each of the three numbers is, in one breath.
INDEX_WORDS: Final[dict[str, tuple[str, str]]] = {
    "S": ("sentiment", "which way people are leaning"),
    "F": ("fragility", "how much could break, before it does"),
    "X": ("stress", "what is breaking now"),
}
#: Edges of the bands on the scale of S (METHODOLOGY 4.1), and the words for them.
BAND_EDGES: Final = (0, 25, 45, 55, 75, 100)
BAND_WORDS: Final[dict[str, str]] = {
    "extreme_fear": "extreme fear",
    "fear": "fear",
    "neutral": "neutral",
    "greed": "greed",
    "extreme_greed": "extreme greed",
}
#: F and X have no bands: these are the four quarters of their scale, and no more than that.
LEVEL_WORDS: Final = ("low", "moderate", "elevated", "high")
#: The first thing anybody reads, and what it means.
MARKET_WORDS: Final[dict[str, tuple[str, str]]] = {
    "simulated": ("SIMULATED MARKET", "these are not real prices"),
    "recorded": ("RECORDED DATA, replayed", "real data of the past, not today's market"),
    "live": ("LIVE", "what the venues publish"),
}
DISCLAIMER: Final = "S, F and X describe how people are positioned; they do not forecast, and they are no advice."
SIDE_WORDS: Final[dict[str, str]] = {"long_crowded": "longs crowded", "short_crowded": "shorts crowded"}
RISK_WORDS: Final[dict[str, str]] = {"risk_on": "risk on", "risk_off": "risk off", "mixed": "mixed"}
#: Side of an event: who is in danger, or where the price or the value went.
EVENT_SIDE_WORDS: Final[dict[str, str]] = {
    "long": "longs in danger",
    "short": "shorts in danger",
    "up": "up",
    "down": "down",
    "none": "no side",
}

#: What a rule of transforms/index/regimes.py compares.
_COMPARED: Final[dict[str, str]] = {
    "s": "S",
    "x": "X",
    "carry_score": "carry score",
    "level_p": "leverage level (percentile)",
    "return_24h": "24 h log return",
    "oi_change_24h": "open interest over 24 h (log)",
    "oi_change_168h": "open interest over 7 d (log)",
    "oi_drawdown_90d": "open interest below its 90-day high (share)",
    "buildup_p": "open interest over 7 d (percentile)",
    "drawdown_p": "fall from the 90-day high (percentile)",
    "flush_p": "fall of open interest over 24 h (percentile)",
    "held_h": "hours in the state before",
    "silent_h": "hours without any input",
}


def level(value: float) -> str:
    """The quarter of the scale F or X lies in; an edge belongs to the quarter above it.

    >>> level(24.9), level(25.0), level(100.0)
    ('low', 'moderate', 'high')
    """
    return LEVEL_WORDS[min(int(value // 25), 3)]


def spaced(name: str) -> str:
    """A name of the vocabulary as words.

    >>> spaced("leverage_buildup")
    'leverage buildup'
    """
    return name.replace("_", " ")


def event_words(event_type: str) -> str:
    """The kind of an event as words.

    >>> event_words("LIQ_CLUSTER_NEAR"), event_words("OI_PRICE_DIVERGENCE")
    ('liquidation cluster near', 'OI price divergence')
    """
    words = event_type.lower().replace("_", " ")
    return words.replace("liq ", "liquidation ").replace("oi ", "OI ")


def duration(span: timedelta) -> str:
    """A span in its two largest units.

    >>> duration(timedelta(days=3, hours=5)), duration(timedelta(hours=4)), duration(timedelta(days=40))
    ('3 d 5 h', '4 h', '40 d')
    """
    hours = span // timedelta(hours=1)
    days, rest = divmod(hours, 24)
    return " ".join([*([f"{days} d"] if days else []), *([f"{rest} h"] if rest or not days else [])])


def in_words(reason: str) -> str:
    """A reason for a person: known codes get their meaning, other words stay as they are.

    >>> in_words("STAMP")
    "STAMP: a stamp is off the endpoint's grid or outside the window asked for"
    """
    return f"{reason}: {REASONS[reason]}" if reason in REASONS else reason


def change_words(rule: str, explanation_json: str) -> str:
    """Why a regime was entered: the rule and the comparisons that made it, in the rule's own numbers.

    >>> change_words("enter_euphoria", '[{"input": "s", "value": 78.2, "is": ">=", "limit": 75.0, "met": true}]')
    'enter euphoria: S 78.2 >= 75'
    >>> change_words("start", "[]")
    'first bar with any input'
    """
    try:
        said = [_comparison(row) for row in json.loads(explanation_json) if row["met"]]
    except (ValueError, TypeError, KeyError):
        said = []
    name = {"start": "first bar with any input", "unknown": "nothing known for too long"}.get(rule, spaced(rule))
    return f"{name}: {', '.join(said)}" if said else name


def _comparison(row: dict[str, Any]) -> str:
    limit = f"{row['limit']:.4g}"
    if row.get("of"):
        limit += f" ({row['multiple']:g} x {'daily sigma' if row['of'] == 'sigma_d' else spaced(row['of'])})"
    return f"{_COMPARED.get(row['input'], spaced(row['input']))} {row['value']:.4g} {row['is']} {limit}"


def instant(at: datetime) -> str:
    """UTC to the minute.

    >>> instant(datetime(2026, 5, 1, 12, tzinfo=UTC))
    '2026-05-01 12:00Z'
    """
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%MZ}"
