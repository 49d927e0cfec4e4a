"""Honest rows of every index table: what the gate must let through untouched, small enough to plant faults in by hand."""

from __future__ import annotations

from datetime import datetime, timedelta

from transforms.windows import partition_day, utc

START = utc("2026-05-01")
HOURS = 30  # over a partition's edge
SHARES = ("confidence", "conf_coverage", "conf_freshness", "conf_agreement", "conf_history", "f_confidence", "x_confidence")

#: index, component, feature, venue, weight, sign: S has 3 inputs, one of them of two venues; F a mean, a largest of two and a product
INPUTS = (
    ("S", "carry", "funding", "binance", 0.3, 1),
    ("S", "trend", "momentum", "binance", 0.4, -1),
    ("S", "flow", "taker", "binance", 0.2, 1),
    ("S", "flow", "taker", "bybit", 0.1, 1),
    ("F", "leverage_level", "oi_level", "all", 0.6, 1),
    ("F", "concentration", "venues", "all", 0.1, 1),
    ("F", "concentration", "peg", "all", 0.1, 1),
    ("F", "interaction", "interaction", "all", 0.3, 1),
    ("X", "deleveraging", "oi_change", "all", 0.7, -1),
    ("X", "volatility", "surprise", "all", 0.3, 1),
)


def stamped(asset: str, as_of: datetime) -> dict[str, object]:
    """Key, clocks and stamp of an index row."""
    said = {"market": "simulated", "vintage": "live", "index_version": "1", "spec_sha256": "a", "code_sha": "b", "reason": ""}
    return said | {"asset": asset, "cadence": "1h", "as_of": as_of, "known_at": as_of, "date": partition_day(as_of)}


def _points(index: str, component: str, feature: str, weight: float, sign: int, score: float | None, factor: float) -> float:
    """METHODOLOGY 4.1, 4.3, 4.4 for one row, said once more in plain words: the gate's own formula must agree."""
    if index == "S":
        return 0.0 if score is None else 50.0 * weight * sign * score * factor
    if component == "interaction":
        return 100.0 * weight * score
    if feature == "peg":  # does not lead
        return 0.0
    return 100.0 * weight * (0.5 if score is None else 0.5 + (score - 0.5) * factor)


def _contributions(base: dict[str, object], hour: int, missing: bool) -> list[dict[str, object]]:
    found = []
    for index, component, feature, venue, weight, sign in INPUTS:
        score = (hour % 7 - 3) / 3 if index == "S" else (hour % 5) / 5
        unknown = missing and component != "interaction"
        row = {"index_name": index, "component": component, "feature": feature, "by_venue": venue, "weight": weight, "sign": sign}
        row |= {"score": None if unknown else score, "stale_factor": 0.5, "history_days": 90.0, "reason": "NO_HISTORY" if unknown else ""}
        found.append(base | row | {"contribution": _points(index, component, feature, weight, sign, row["score"], 0.5)})
    return found


def _reading(base: dict[str, object], parts: list[dict[str, object]], withheld: bool) -> dict[str, object]:
    def total(index: str) -> float:
        return sum(row["contribution"] for row in parts if row["index_name"] == index)

    s = 50.0 + total("S")
    band = "fear" if s < 45 else "neutral" if s <= 55 else "greed"
    values = {
        "s": s,
        "s_ex": s,
        "s_pct": 0.5,
        "s_erc": s,
        "s_pca": s,
        "s_ic": s,
        "band": band,
        "f": total("F"),
        "f_ciss": 40.0,
        "x": total("X"),
    }
    why = {"reason": "LOW_CONFIDENCE", "status": "withheld"} if withheld else {"reason": "", "status": "ok"}
    state = {
        "crowded_side": None if withheld else "long_crowded",
        "regime": "neutral",
        "regime_since": base["as_of"] - timedelta(hours=5),
        "risk_state": "mixed",
        "risk_value": 0.0,
        "p_cascade_24h": None if withheld else 0.04,
        "cascade_base_rate": 0.02,
        "cascade_skill": 0.1,
        "cascade_reason": "no fragility" if withheld else "",
        "price_usd": 1.0,
        "oi_quantity_index": 1.0,
        "oi_drawdown_90d": None,
    }
    return base | (dict.fromkeys(values) if withheld else values) | dict.fromkeys(SHARES, 0.9) | why | state


def _market(base: dict[str, object], reading: dict[str, object]) -> list[dict[str, object]]:
    """Rows of MKT over two assets, the second of which never has a value."""
    found = []
    for index, weight in (("S", 0.6), ("F", 0.6), ("X", 0.6)):
        value = reading[index.lower()]
        score = None if value is None else (value - 50) / 50 if index == "S" else value / 100
        for asset, share, scaled in (("BTC", weight, score), ("ETH", 0.4, None)):
            row = {"index_name": index, "component": "asset", "feature": asset, "by_venue": "all", "weight": share, "sign": 1}
            row |= {"score": scaled, "stale_factor": 1.0, "history_days": 0.0, "reason": "" if scaled is not None else "withheld"}
            points = 0.0 if scaled is None else (50.0 if index == "S" else 100.0) * share * scaled
            found.append(base | row | {"asset": "MKT", "contribution": points})
    return found


def _occasional(base: dict[str, object], hour: int) -> dict[str, dict[str, object]]:
    """One row of every table that does not speak every bar."""
    event = {"event_type": "CROWDED_LEVERAGE", "side": "long", "severity": 0.4, "observed": 0.9, "threshold": 0.8, "horizon_h": 72.0}
    record = {"hist_precision": 0.3, "hist_recall": 0.2, "hist_base_rate": 0.1, "n_hist": 12, "track_record": "3 of 12"}
    none = {"hist_precision": None, "hist_recall": None, "hist_base_rate": None, "n_hist": 9, "track_record": "no track record"}
    judged = {"venue": "binance", "instrument": "BTCUSDT", "quantity": "price", "observed": 9.0, "deviation": 0.5, "mad": 0.01}
    compared = {"quantity": "price", "venue": "binance", "instrument": "BTCUSDT", "source": "binance", "other_source": "coinalyze"}
    compared |= {"compared_at": START, "observed": 90.0, "other_value": 91.0, "difference": 0.011, "tolerance": 0.001, "agrees": False}
    change = {"regime_before": None if hour == 1 else "neutral", "regime": "euphoria" if hour % 2 else "neutral", "rule": "start"}
    return {
        "events": base
        | event
        | (record if hour % 2 else none)
        | {"event_id": f"CROWDED_LEVERAGE-{hour}", "confidence": 0.9, "reason": "why"},
        "regime_changes": base | change | {"explanation_json": "{}"},
        "liquidation_levels": base | {"level_usd": 90.0 + hour, "long_mass_share": 0.01, "short_mass_share": 0.0},
        "scheme_weights": base | {"scheme": "erc", "family": "carry", "weight": 0.2},
        "outliers": base | judged | {"treatment": "set aside"},
        "agreement": base | compared,
        "checkpoints": base | {"state": hour.to_bytes(2, "big")},
    }


def honest_index() -> dict[str, list[dict[str, object]]]:
    """Rows by table; in the last hour every number is withheld."""
    found: dict[str, list[dict[str, object]]] = {"features": [], "contributions": [], "readings": []}
    for hour in range(1, HOURS + 1):
        base = stamped("BTC", START + timedelta(hours=hour))
        missing = hour == HOURS
        for feature in ("funding", "momentum", "taker"):
            value = {"feature_value": None, "reason": "NO_INPUT"} if missing else {"feature_value": hour / 7}
            found["features"].append(base | {"feature": feature, "input_age_h": 1.0} | value)
        parts = _contributions(base, hour, missing)
        reading = _reading(base, parts, missing)
        market = _market(base, reading)
        found["contributions"] += [*parts, *market]
        found["readings"] += [reading, _reading(base | {"asset": "MKT"}, market, missing)]
        for name, row in _occasional(base, hour).items():
            found.setdefault(name, []).append(row)
    return found


HONEST_INDEX = honest_index()
#: Rows of the fourth hour, which lies in the first day: the readings of BTC and MKT, an input, an asset of the market.
BTC, MKT = 6, 7


def place(**wanted):
    """Place of the fourth hour's contribution with these values."""
    rows = HONEST_INDEX["contributions"]
    found = [n for n, row in enumerate(rows) if row["as_of"] == START + timedelta(hours=4) and wanted.items() <= row.items()]
    assert len(found) == 1, found
    return found[0]


FUNDING, LEVEL, LEADS, ASIDE, PRODUCT, ASSET = (
    place(feature=feature, index_name=index)
    for index, feature in (("S", "funding"), ("F", "oi_level"), ("F", "venues"), ("F", "peg"), ("F", "interaction"), ("X", "BTC"))
)
#: Faults of the index: (table, check code, row, change)
INDEX_FAULTS = [
    ("features", "NOT_FINITE_FEATURE_VALUE", 9, {"feature_value": float("nan")}),
    ("features", "OFF_GRID", 9, {"as_of": START + timedelta(hours=4, minutes=5), "known_at": START + timedelta(hours=5)}),
    ("features", "UNKNOWN_MARKET", 9, {"market": "guessed"}),
    ("features", "EMPTY_FEATURE", 9, {"feature": ""}),
    ("contributions", "CONTRIBUTION_OFF_FORMULA", FUNDING, {"sign": 0}),
    ("contributions", "CONTRIBUTION_OFF_FORMULA", LEVEL, {"stale_factor": 0.25}),
    ("contributions", "CONTRIBUTION_OFF_FORMULA", LEADS, {"score": 0.3}),
    ("contributions", "CONTRIBUTION_OFF_FORMULA", ASIDE, {"contribution": 1.0}),
    ("contributions", "CONTRIBUTION_OFF_FORMULA", PRODUCT, {"score": 0.5}),
    ("contributions", "CONTRIBUTION_OFF_FORMULA", ASSET, {"score": None}),
    ("contributions", "COMPONENT_OFF_INDEX", FUNDING, {"component": "volatility"}),
    ("contributions", "COMPONENT_OFF_INDEX", ASSET, {"component": "deleveraging"}),
    ("contributions", "UNKNOWN_INDEX_NAME", FUNDING, {"index_name": "Y"}),
    ("contributions", "UNKNOWN_BY_VENUE", FUNDING, {"by_venue": "somewhere"}),
    ("contributions", "OUT_OF_RANGE_WEIGHT", FUNDING, {"weight": 1.5}),
    ("contributions", "PERCENTILE_BELOW_ZERO", LEVEL, {"score": -0.5, "contribution": 100 * 0.6 * (0.5 - 1.0 * 0.5)}),
    ("contributions", "CONTRIBUTIONS_DO_NOT_ADD_UP", FUNDING, {"weight": 0.25, "contribution": 50 * 0.25 * 0.5 / 3}),
    ("contributions", "CONTRIBUTIONS_DO_NOT_ADD_UP", LEADS, {"contribution": 0.0}),
    (
        "contributions",
        "CONTRIBUTIONS_DO_NOT_ADD_UP",
        ASSET,
        {"weight": 0.5, "contribution": 50.0 * HONEST_INDEX["contributions"][ASSET]["score"]},
    ),
    ("readings", "CONTRIBUTIONS_DO_NOT_ADD_UP", BTC, {"s": 51.0, "band": "neutral"}),
    ("readings", "CONTRIBUTIONS_DO_NOT_ADD_UP", BTC, {"f": 51.0}),
    ("readings", "CONTRIBUTIONS_DO_NOT_ADD_UP", MKT, {"x": 51.0}),
    ("readings", "WITHHELD_OFF_S", BTC, {"status": "withheld"}),
    ("readings", "WITHHELD_OFF_S", BTC, {"s": None, "band": None, "reason": "X"}),
    ("readings", "WITHHELD_WITHOUT_REASON", BTC, {"s": None, "band": None, "status": "withheld"}),
    ("readings", "BAND_WITHOUT_S", BTC, {"band": None}),
    ("readings", "BAND_OFF_S", BTC, {"band": "extreme_greed"}),
    ("readings", "F_WITHOUT_REASON", BTC, {"f": None, "crowded_side": None, "f_ciss": None}),
    ("readings", "X_WITHOUT_REASON", MKT, {"x": None}),
    ("readings", "VARIANT_WITHOUT_S", BTC, {"s": None, "band": None, "status": "withheld", "reason": "X"}),
    ("readings", "VARIANT_WITHOUT_F", BTC, {"f": None, "crowded_side": None, "reason": "X"}),
    ("readings", "CROWDED_WITHOUT_F", BTC, {"f": None, "f_ciss": None, "reason": "X"}),
    ("readings", "REGIME_WITHOUT_START", BTC, {"regime": None}),
    ("readings", "REGIME_AFTER_AS_OF", BTC, {"regime_since": START + timedelta(hours=4, microseconds=1)}),
    ("readings", "PROBABILITY_OR_REASON", BTC, {"p_cascade_24h": None}),
    ("readings", "PROBABILITY_OR_REASON", BTC, {"cascade_reason": "no measured skill"}),
    ("readings", "PROBABILITY_WITHOUT_SKILL", BTC, {"cascade_skill": 0.0}),
    ("readings", "PROBABILITY_WITHOUT_SKILL", BTC, {"cascade_base_rate": None}),
    ("readings", "OUT_OF_RANGE_F", BTC, {"f": 100.5}),
    ("readings", "OUT_OF_RANGE_X", BTC, {"x": -0.5}),
    ("readings", "UNKNOWN_REGIME", BTC, {"regime": "calm"}),
    ("readings", "DUPLICATE_KEY", BTC, {"as_of": START + timedelta(hours=3), "known_at": START + timedelta(hours=3)}),
    ("events", "SHARE_OF_TOO_FEW", 3, {"hist_base_rate": 0.5}),
    ("events", "SHARE_OF_TOO_FEW", 4, {"n_hist": 9}),
    ("events", "RECORD_OFF_PRECISION", 4, {"track_record": "no track record: 12 judged"}),
    ("events", "RECORD_OFF_PRECISION", 3, {"track_record": ""}),
    ("events", "OUT_OF_RANGE_SEVERITY", 3, {"severity": 1.1}),
    ("events", "UNKNOWN_SIDE", 3, {"side": "both"}),
    ("regime_changes", "UNKNOWN_REGIME_BEFORE", 3, {"regime_before": "calm"}),
    ("liquidation_levels", "OUT_OF_RANGE_LONG_MASS_SHARE", 3, {"long_mass_share": 1.5}),
    (
        "liquidation_levels",
        "DUPLICATE_KEY",
        3,
        {"as_of": START + timedelta(hours=3), "known_at": START + timedelta(hours=3), "level_usd": 93.0},
    ),
    ("scheme_weights", "UNKNOWN_SCHEME", 3, {"scheme": "fixed"}),
    ("outliers", "UNKNOWN_TREATMENT", 3, {"treatment": "forgotten"}),
    ("agreement", "AGREES_OFF_TOLERANCE", 3, {"agrees": True}),
    ("checkpoints", "NULL_STATE", 3, {"state": None}),
]
