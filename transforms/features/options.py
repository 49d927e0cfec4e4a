"""Options (OP.*): what the chain of listed options says, and the venue's own volatility index.

A venue tells its chain only as of now, so a chain is a snapshot: all rows of one asset, venue and settlement with one as_of. A bar reads the
newest snapshot it can see, whole, never strikes of several; each is measured once (transforms/option_book.py), whatever number of bars reads it.
Coin- and USD-settled chains of an asset are asked for apart and may be seconds apart; each is read on its own clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import asof
from transforms.asof import UnusableInput
from transforms.estimators import HOUR_US, HOURS_A_YEAR, Bools, Floats, Ints
from transforms.features import price
from transforms.features.contract import Feature, Measured, Why, measured, named
from transforms.features.panel import Panel
from transforms.option_book import MEASURES, Listed, measure
from transforms.rules import CadenceRule, OptionRule
from transforms.spec import Spec
from transforms.vocabulary import OPTION_TYPES, SETTLEMENTS, VENUES

_CHAIN: Final = frozenset({"option_chain"})
_INDEX: Final = frozenset({"volatility_index"})
_AMOUNTS: Final = ("strike_usd", "open_interest_base", "volume_24h_base", "mark_iv", "underlying_usd", "index_usd")


# --- snapshots ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Chains:
    """Rows by track (asset, venue, settlement), as_of, instrument, revision; and the versions of their snapshots, by track, as_of, known_at.

    A version is a snapshot as known at one instant: a row that is restated later makes another one. block: its snapshot's rows (start, end).
    """

    listed: Listed
    known_at: Ints
    instrument: Ints
    starts: Ints
    as_of: Ints
    version_known_at: Ints
    block: Ints

    def rows(self, version: int) -> Ints:
        """Rows of a version: of each option the highest revision known by then."""
        block = np.arange(self.block[version, 0], self.block[version, 1])
        seen = block[self.known_at[block] <= self.version_known_at[version]]
        newest: Ints = seen[np.append(np.diff(self.instrument[seen]) != 0, True)]
        return newest


def _codes(table: pa.Table, column: str, words: Sequence[str]) -> Ints:
    """Place of each row's word in `words`, -1 elsewhere."""
    found = pc.index_in(table.column(column).cast(pa.string()), value_set=pa.array(words, type=pa.string()))
    places: Ints = np.array(pc.fill_null(found, -1).to_numpy(), dtype=np.int64)
    return places


def _ranks(table: pa.Table, column: str) -> Ints:
    """Place of each row's word among the sorted words of the column."""
    words = pc.unique(table.column(column).cast(pa.string())).to_pylist()
    return _codes(table, column, sorted(words))


def _chains(panel: Panel) -> _Chains:
    rule = panel.spec.options
    for field, named_there, allowed in (("venues", rule.venues, VENUES), ("settlements", rule.settlements, SETTLEMENTS)):
        if not named_there or not set(named_there) <= set(allowed):
            raise ValueError(f"found {named_there!r} as OptionRule.{field} of the spec; name one or more of {', '.join(allowed)}")
    table = panel.rows("option_chain", panel.rule.option_source)
    table = table.filter(pa.array((_codes(table, "asset", panel.assets) >= 0) & (_codes(table, "venue", rule.venues) >= 0)))
    for column, words in (("option_type", OPTION_TYPES), ("settlement", SETTLEMENTS)):
        if np.any(_codes(table, column, words) < 0):
            raise UnusableInput(f"option_chain has a {column} outside {', '.join(words)}; declare it or reject the row when decoding")
    settled = _codes(table, "settlement", rule.settlements)
    table, settled = table.filter(pa.array(settled >= 0)), settled[settled >= 0]
    asset, venue = _codes(table, "asset", panel.assets), _codes(table, "venue", rule.venues)
    track = (asset * len(rule.venues) + venue) * len(rule.settlements) + settled
    as_of, known_at = asof.micros(table.column("as_of")), asof.micros(table.column("known_at"))
    revision, instrument = np.array(table.column("revision").to_numpy(), dtype=np.int64), _ranks(table, "instrument")
    expiry, call = asof.micros(table.column("expiry_at")), (_codes(table, "option_type", OPTION_TYPES) == OPTION_TYPES.index("call"))
    order = np.lexsort((known_at, revision, instrument, as_of, track))
    amounts = [asof.floats(table.column(column))[order] for column in _AMOUNTS]
    track, as_of, known_at, revision, instrument = track[order], as_of[order], known_at[order], revision[order], instrument[order]
    listed = Listed(settled[order], call.astype(np.int64)[order], as_of, expiry[order], *amounts)
    _agree(listed, track, instrument, revision, known_at)

    edges = np.flatnonzero(np.append(True, (np.diff(track) != 0) | (np.diff(as_of) != 0))) if len(track) else np.zeros(0, np.int64)
    ends = np.append(edges[1:], len(track)) if len(track) else edges
    versions = [(a, b, known) for a, b in zip(edges.tolist(), ends.tolist(), strict=True) for known in np.unique(known_at[a:b]).tolist()]
    block = np.array([(a, b) for a, b, _ in versions], dtype=np.int64).reshape(-1, 2)
    tracks = len(panel.assets) * len(rule.venues) * len(rule.settlements)
    starts = np.searchsorted(track[block[:, 0]], np.arange(tracks + 1)).astype(np.int64)
    known = np.array([known for _, _, known in versions], dtype=np.int64)
    return _Chains(listed, known_at, instrument, starts, as_of[block[:, 0]], known, block)


def _agree(listed: Listed, track: Ints, instrument: Ints, revision: Ints, known_at: Ints) -> None:
    """Two rows of one option, as_of and revision must say the same, else UnusableInput."""
    same = np.ones(max(0, len(track) - 1), dtype=bool)
    for key in (track, listed.as_of, instrument, revision):
        same &= key[1:] == key[:-1]
    for name, values in {"known_at": known_at, **{name: getattr(listed, name) for name in Listed.__slots__}}.items():
        clash = same & (values[1:] != values[:-1]) & ~((values[1:] != values[1:]) & (values[:-1] != values[:-1]))
        if clash.any():
            at = int(np.flatnonzero(clash)[0])
            when = np.datetime64(int(listed.as_of[at]), "us")
            raise UnusableInput(
                f"option_chain has two rows of one option and revision {revision[at]} at {when}Z (strike {listed.strike[at]:g}) that differ in "
                f"{name}; give every change its own revision (transforms/revisions.py)"
            )


@dataclass(frozen=True, slots=True)
class _Read:
    """What each bar reads from its chain, (assets, bars): measures by name; age in h; is there a chain, has its own expiry passed."""

    values: dict[str, Floats]
    age_h: Floats
    seen: Bools
    expired: Bools


def _read(panel: Panel) -> _Read:
    rule, shape = panel.spec.options, (len(panel.assets), panel.bars)
    chains = _chains(panel)
    longest = round(panel.rule.carry_h * HOUR_US)
    each = asof.newest(chains.starts, chains.as_of, chains.version_known_at, panel.when, panel.cutoff, longest)
    each = each.reshape(shape[0], len(rule.venues), len(rule.settlements), shape[1])
    shown = np.full((len(rule.settlements), *shape), -1, dtype=np.int64)
    for venue in reversed(range(len(rule.venues))):  # the first venue last, so that it prevails
        own = each[:, venue].transpose(1, 0, 2)
        shown = np.where((own >= 0).any(axis=0), own, shown)

    codes = np.zeros(shape, dtype=np.int64)
    for versions in shown:
        codes = codes * (len(chains.as_of) + 1) + versions + 1
    _, first, place = np.unique(codes, return_index=True, return_inverse=True)
    together = shown.reshape(len(shown), -1)[:, first]
    said = np.array([_said(chains, versions, rule) for versions in together.T]).reshape(-1, len(MEASURES))
    values = {name: said[place.ravel(), n].reshape(shape) for n, name in enumerate(MEASURES)}
    newest = np.where(shown >= 0, chains.as_of[shown], -1).max(axis=0) if len(chains.as_of) else np.full(shape, -1)
    seen: Bools = newest >= 0
    age_h = np.where(seen, (panel.when - newest) / HOUR_US, np.nan)
    expired: Bools = values["expiry_at"] <= panel.when
    return _Read(values, age_h, seen, expired)


def _said(chains: _Chains, versions: Ints, rule: OptionRule) -> Floats:
    """Measures of the snapshots read together, one version per settlement, -1 = none."""
    held = [chains.rows(int(version)) for version in versions if version >= 0]
    if not held:
        return np.full(len(MEASURES), np.nan)
    return measure(chains.listed.take(np.concatenate(held)), rule)


def chain(panel: Panel) -> _Read:
    """What the panel's chains say, read once."""
    return panel.once("option_chain", lambda: _read(panel))


# --- features -------------------------------------------------------------------------------------------------------------------


def _plain(name: str, missing: Why = Why.TOO_FEW) -> Callable[[Panel], Measured]:
    """A measure of the chain; `missing`: why a chain does not say it."""
    return lambda panel: measured(chain(panel).values[name], chain(panel).age_h, {missing: chain(panel).seen})


def _of_expiry(name: str) -> Callable[[Panel], Measured]:
    """A measure of the expiry that attracts: nothing once that has passed, though a newer chain has not come."""

    def compute(panel: Panel) -> Measured:
        got = chain(panel)
        value = np.where(got.expired, np.nan, got.values[name])
        return measured(value, got.age_h, {Why.STALE: got.expired, Why.TOO_FEW: got.seen})

    return compute


def _expiry(panel: Panel) -> Measured:
    got = chain(panel)
    value = np.where(got.expired, np.nan, (got.values["expiry_at"] - panel.when) / HOUR_US)
    return measured(value, got.age_h, {Why.STALE: got.expired, Why.TOO_FEW: got.seen})


def _flow_gamma(panel: Panel) -> Measured:
    """A3 needs the aggressor's side of every option trade since listing; no source brings it."""
    return measured(panel.unknown(), panel.unknown())


def _dvol(panel: Panel) -> Measured:
    """The newest point of an interval no longer than a bar, from the first venue that shows one; of several that end together, the shortest's."""
    table = panel.rows("volatility_index", panel.rule.option_source)
    level, hours = asof.floats(table.column("implied_volatility")), asof.floats(table.column("interval_h"))
    usable = np.isfinite(level) & (level > 0) & (hours > 0) & (hours <= panel.rule.step_h)
    value, age = panel.unknown(), panel.unknown()
    for venue in reversed(panel.spec.options.venues):
        tracks, venue_age = [(asset, venue) for asset in panel.assets], panel.unknown()
        for interval in sorted(set(hours[usable].tolist()), reverse=True):
            own = usable & (hours == interval)
            rows = asof.in_tracks("volatility_index", table, keys=("asset", "venue"), tracks=tracks, columns={"level": level}, usable=own)
            shown = panel.sample(rows, panel.rule.carry_h)
            newer = panel.age(rows, shown) <= np.where(np.isfinite(venue_age), venue_age, np.inf)
            venue_age = np.where(newer, panel.age(rows, shown), venue_age)
            value, age = np.where(newer, panel.level(rows, "level", shown), value), np.where(newer, venue_age, age)
    return measured(value, age)


def _gap(panel: Panel) -> Measured:
    """Like with like: DVOL agrees with a strip that leaves the far wings out, not with the whole one (OptionRule.dvol_delta)."""
    got, theirs = chain(panel), _dvol(panel)
    value = got.values["dvol_style_volatility_30d"] - theirs.value
    return measured(value, np.fmax(got.age_h, theirs.age_h), {Why.TOO_FEW: got.seen & np.isfinite(theirs.value)})


def _premium(panel: Panel) -> Measured:
    got = chain(panel)
    implied, realised = got.values["implied_volatility_30d"], panel.sigma_h
    value = implied * implied - realised * realised * HOURS_A_YEAR
    why = {Why.TOO_FEW: got.seen & np.isfinite(panel.price_age_h), Why.IMPLIED: panel.price_implied}
    return measured(value, np.fmax(got.age_h, panel.price_age_h), why)


def _chain_span(_: Spec, rule: CadenceRule) -> timedelta:
    return timedelta(hours=rule.carry_h) + rule.step


def _premium_span(spec: Spec, rule: CadenceRule) -> timedelta:
    return max(price.FEATURES["sigma_h"].lookback(spec, rule), _chain_span(spec, rule))


def _feature(
    name: str, number: str, unit: str, formula: str, compute: Callable[[Panel], Measured] | None = None, reads: frozenset[str] = _CHAIN
) -> Feature:
    return Feature(name, number, unit, formula, reads, _chain_span, compute or _plain(name))


FEATURES: Final = named(
    _feature(
        "call_put_volume_log",
        "OP.1",
        "log",
        "-ln(put volume / call volume) over 24 h, coins, all expiries; positive: more calls",
        _plain("call_put_volume_log", Why.FLAT),
    ),
    _feature(
        "call_put_oi_log",
        "OP.1",
        "log",
        "-ln(put / call open interest), coins, all expiries; positive: more calls",
    ),
    _feature("strike_hhi", "OP.2", "0..1", "sum over strikes of squared shares of open interest, all expiries and settlements"),
    _feature("effective_strikes", "OP.2", "strikes", "1 / strike_hhi"),
    _feature(
        "max_pain_usd",
        "OP.3",
        "USD",
        "listed strike at which the options of one expiry pay least in USD; expiry: largest open interest within 35 d",
        _of_expiry("max_pain_usd"),
    ),
    _feature(
        "max_pain_coin_usd",
        "OP.3",
        "USD",
        "listed strike at which the coin-settled options of the same expiry pay least in coins",
        _of_expiry("max_pain_coin_usd"),
    ),
    _feature("option_expiry_h", "OP.3", "h", "hours from the bar to the expiry of the largest open interest within 35 d", _expiry),
    _feature(
        "expected_move_usd",
        "OP.4",
        "USD",
        "S sigma_ATM sqrt T to that expiry, S the index",
        _of_expiry("expected_move_usd"),
    ),
    _feature(
        "strike_distance_em",
        "OP.5",
        "expected moves",
        "ln(K*/S) / (sigma_ATM sqrt T), K* the strike with the largest open interest of that expiry; positive: above the price",
        _of_expiry("strike_distance_em"),
    ),
    _feature(
        "strike_concentration_7d",
        "OP.5",
        "share",
        "share of open interest with at most 7 d left that lies within one expected move of the price",
    ),
    _feature(
        "gamma_1pct_equity_usd",
        "OP.6 A1",
        "USD per 1 %",
        "sum s Gamma OI F^2 0.01, assumed: dealers long calls (s = 1), short puts (s = -1)",
    ),
    _feature("gamma_1pct_short_usd", "OP.6 A2", "USD per 1 %", "-sum Gamma OI F^2 0.01, assumed: dealers short everything"),
    _feature(
        "gamma_1pct_flow_usd",
        "OP.6 A3",
        "USD per 1 %",
        "sum s Gamma OI F^2 0.01, s from the aggressor of every option trade; no source brings that, so it is always missing",
        _flow_gamma,
    ),
    _feature(
        "gamma_concentration",
        "OP.6",
        "share",
        "share of sum Gamma OI F^2, unsigned, at strikes within one expected move of the price, each expiry by its own",
    ),
    _feature("implied_volatility_7d", "OP.7", "p.a.", "volatility at the forward, 7 d, linear in total variance between expiries"),
    _feature("implied_volatility_30d", "OP.7", "p.a.", "volatility at the forward, 30 d, linear in total variance between expiries"),
    _feature("implied_volatility_90d", "OP.7", "p.a.", "volatility at the forward, 90 d, linear in total variance between expiries"),
    _feature("risk_reversal_25d", "OP.7", "p.a.", "IV(25-delta call) - IV(25-delta put), 30 d; positive: calls are dearer"),
    _feature("butterfly_25d", "OP.7", "p.a.", "mean of IV(25-delta call) and IV(25-delta put) - IV at the forward, 30 d"),
    _feature("volatility_term_slope", "OP.8", "log", "ln(IV_90 / IV_7); negative: inverted"),
    _feature("dvol", "OP.9", "p.a.", "the venue's own 30-day volatility index", _dvol, _INDEX),
    _feature(
        "vix_style_volatility_30d",
        "OP.9",
        "p.a.",
        "root of the 30-day variance of out-of-the-money prices at their mark volatilities (Cboe VIX white paper 2019)",
    ),
    _feature(
        "dvol_gap",
        "OP.9",
        "p.a.",
        "the same strip of options with a delta of 0.05 or more in size - dvol; beyond 0.02 one of the two is wrong",
        _gap,
        _CHAIN | _INDEX,
    ),
    Feature(
        "variance_premium_30d",
        "OP.10",
        "variance p.a.",
        "IV_30^2 - RV_30^2, RV_30 = sigma_h sqrt(8760)",
        _CHAIN | price.FEATURES["sigma_h"].reads,
        _premium_span,
        _premium,
    ),
)
