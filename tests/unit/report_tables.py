"""Tables to render in tests: schema-conformant, seeded, with the blemishes a report must show. A random walk, no market."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

from plugins.readings import ReportData
from transforms.schema import arrow_schema
from transforms.tables import TABLES
from transforms.windows import CADENCES, partition_days

#: component, feature, weight, persistence of the score; by index
INPUTS = {
    "S": (
        ("carry", "funding_premium", 0.125, 0.99),
        ("carry", "funding_realised", 0.125, 0.997),
        ("trend", "momentum", 0.15, 0.997),
        ("options", "risk_reversal_25d", 0.09, 0.0),
        ("options", "put_call_volume", 0.06, 0.0),
        ("flow", "taker_imbalance", 0.105, 0.94),
        ("flow", "liquidation_imbalance", 0.045, 0.95),
        ("positioning", "accounts_long", 0.05, 0.98),
        ("positioning", "top_positions_long", 0.05, 0.98),
        ("stablecoin", "supply_growth_30d", 0.1, 0.998),
        ("conviction", "price_oi_quadrant", 0.1, 0.97),
    ),
    "F": (
        ("leverage_level", "oi_level_180d", 0.25, 0.999),
        ("build_up", "oi_change_168h", 0.1, 0.99),
        ("build_up", "oi_change_720h", 0.1, 0.997),
        ("crowding", "carry_score", 0.15, 0.99),
        ("latent_liquidation", "latent_near_share", 0.2, 0.98),
        ("concentration", "oi_venue_concentration", 0.08, 0.995),
        ("interaction", "interaction", 0.12, 0.0),
    ),
    "X": (
        ("deleveraging", "oi_change_24h", 0.5, 0.96),
        ("volatility", "volatility_surprise", 0.4, 0.97),
        ("dispersion", "funding_dispersion_annual", 0.1, 0.9),
    ),
}
#: The input that several venues share, and what they add up to.
SPLIT = ("taker_imbalance", {"binance": 0.75, "bybit": 0.25})
STAMP = {
    "market": "simulated",
    "vintage": "reconstructed",
    "index_version": "1.0.0-rc",
    "spec_sha256": "5e" * 32,
    "code_sha": "c0de" * 16,
}
HOSTILE = '<script>alert("quarantined")</script>'
START = datetime(2025, 1, 1, tzinfo=UTC)


def build(name: str, columns: dict[str, object]) -> pa.Table:
    """A table of the declared schema; a scalar is repeated, `date` is derived from as_of where it is not given."""
    schema = arrow_schema(TABLES[name])
    rows = max(len(value) for value in columns.values() if isinstance(value, (list, tuple, np.ndarray)))
    filled = {key: value if isinstance(value, (list, tuple, np.ndarray)) else [value] * rows for key, value in columns.items()}
    if "date" in schema.names and "date" not in filled:
        filled["date"] = partition_days(pa.array(filled["as_of"], pa.timestamp("us", "UTC")))
    return pa.table({field.name: pa.array(filled[field.name], type=field.type, from_pandas=True) for field in schema}, schema=schema)


def band_of(s: float) -> str:
    return ("extreme_fear", "fear", "neutral", "greed", "extreme_greed")[int(np.searchsorted([25, 45, 55, 75], s, side="right"))]


def _walks(rng: np.random.Generator, count: int, memories: list[float]) -> np.ndarray:
    """Autoregressive walks squeezed into (-1, 1)."""
    found = np.zeros((len(memories), count))
    for i, memory in enumerate(memories):
        noise, value = rng.standard_normal(count), 0.0
        for t in range(count):
            value = memory * value + (1 - memory**2) ** 0.5 * noise[t]
            found[i, t] = value
    return np.tanh(0.8 * found)


def _inputs(rng: np.random.Generator, index: str, count: int) -> list[dict[str, object]]:
    """Inputs of one number: score, factor and contribution by METHODOLOGY 4.1, 4.3, 4.4."""
    rows = INPUTS[index]
    scores = _walks(rng, count, [row[3] for row in rows])
    if index != "S":
        scores = (scores + 1) / 2
    if index == "F":  # the interaction comes last: leverage level x crowding
        scores[-1] = scores[0] * scores[3]
    found = []
    for (component, feature, weight, _), score in zip(rows, scores, strict=True):
        absent, factor = component == "options", np.ones(count)
        if feature == "taker_imbalance":
            factor[-5:] = 0.5
        used = score * factor if index == "S" else score if component == "interaction" else 0.5 + (score - 0.5) * factor
        points = (50.0 if index == "S" else 100.0) * weight * np.where(absent, 0.0, used)
        why = "no source publishes option chains here" if absent else np.where(factor < 1, "stale", "").astype(object)
        given = {"score": [None] * count if absent else score, "stale_factor": 0.0 if absent else factor, "reason": why}
        given |= {"history_days": 0.0 if absent else 120.5, "component": component, "feature": feature, "sign": 1}
        shares = SPLIT[1] if feature == SPLIT[0] else {"all": 1.0}
        found += [
            given | {"by_venue": venue, "weight": weight * share, "contribution": points * share, "index_name": index}
            for venue, share in shares.items()
        ]
    return found


def _regimes(x: np.ndarray, f: np.ndarray) -> np.ndarray:
    """A regime per row out of F and X, held for ten rows at least: no rule of ours, only something to draw."""
    wanted = np.where(x > 80, "deleveraging", np.where(f > 62, "leverage_buildup", "neutral")).astype(object)
    held, since = wanted[0], 0
    for t, name in enumerate(wanted):
        if name != held and t - since >= 10:
            held, since = name, t
        wanted[t] = held
    return wanted


def _told(base: dict[str, object], at: np.ndarray, regime: np.ndarray, price: np.ndarray, asset: str) -> dict[str, pa.Table]:
    """What an asset says now and then: changes of regime, events, latent liquidations, outliers."""
    starts = [0, *(np.flatnonzero(regime[1:] != regime[:-1]) + 1).tolist()]
    compared = '[{"input": "oi_change_168h", "value": 0.0934, "is": ">=", "limit": 0.08, "met": true}]'

    def moments(places: list[int]) -> dict[str, object]:
        return base | {"as_of": at[places], "known_at": at[places] + np.timedelta64(5, "m")}

    changes = moments(starts) | {
        "regime_before": [None, *regime[starts[:-1]]],
        "regime": regime[starts],
        "rule": ["start", *(f"enter_{regime[place]}" for place in starts[1:])],
        "explanation_json": ["[]", *([compared] * (len(starts) - 1))],
    }
    warned = list(range(20, at.size, max(at.size // 40, 30)))
    number = np.arange(len(warned))
    events = moments(warned) | {
        "event_id": [f"E{n}" for n in number],
        "event_type": np.array(["CROWDED_LEVERAGE", "LIQ_CLUSTER_NEAR", "SIGNAL_CONFLICT"], object)[number % 3],
        "side": np.array(["long", "short", "none", "up", "down"], object)[number % 5],
        "severity": (number % 11) / 10,
        "observed": 0.9,
        "threshold": 0.8,
        "horizon_h": 72.0,
        "reason": [f"level 0.9{n % 10} >= 0.8{HOSTILE if n == 1 else ''}" for n in number],
        "confidence": 0.8,
        "hist_precision": [None if n < 10 else 0.3 for n in number],
        "hist_recall": [None if n < 10 else 0.2 for n in number],
        "hist_base_rate": [None if n < 10 else 0.1 for n in number],
        "n_hist": number,
        "track_record": [
            f"no track record: {n} judged, 10 are needed" if n < 10 else f"{n // 3} of {n} came true; base rate 0.1" for n in number
        ],
    }
    day_ends = np.flatnonzero((at - np.datetime64(START.replace(tzinfo=None), "us")) % np.timedelta64(1, "D") == np.timedelta64(0))
    end, steps = int(day_ends[-1]), np.arange(-160, 160)
    level = price[end] * np.exp((steps + 0.5) * 0.0025)
    mass = 0.004 * np.exp(-((np.abs(steps) - 40) ** 2) / 900)
    ladder = base | {
        "as_of": np.repeat(at[end], steps.size),
        "known_at": np.repeat(at[end] + np.timedelta64(5, "m"), steps.size),
        "level_usd": level,
        "long_mass_share": np.where(steps < 0, mass, 0.0),
        "short_mass_share": np.where(steps >= 0, 0.7 * mass, 0.0),
    }
    beyond = moments([at.size // 2, at.size // 2 + 3]) | {
        "venue": "binance",
        "instrument": f"{asset}USDT",
        "quantity": "open_interest",
        "observed": [4321.0, 1234.5],
        "deviation": [1.25, -0.75],
        "mad": 0.02,
        "treatment": ["set aside", "used: no second venue"],
    }
    found = {"regime_changes": changes, "events": events, "liquidation_levels": ladder}
    return {name: build(name, columns) for name, columns in (found | ({"outliers": beyond} if asset == "ETH" else {})).items()}


def _numbers(inputs: list[dict[str, object]]) -> dict[str, np.ndarray]:
    """S, F and X as the sums of their contributions."""
    zero = {"S": 50.0, "F": 0.0, "X": 0.0}
    return {
        index.lower(): origin + np.sum([row["contribution"] for row in inputs if row["index_name"] == index], axis=0)
        for index, origin in zero.items()
    }


def _of_market(rows: dict[str, pa.Table], stamp: dict[str, object], cadence: str) -> dict[str, pa.Table]:
    """MKT: 60 % BTC, 40 % ETH; where one of them is withheld or missing it adds nothing."""
    weights = {"BTC": 0.6, "ETH": 0.4}
    of = {asset: {row["as_of"]: row for row in rows["readings"].to_pylist() if row["asset"] == asset} for asset in weights}
    at = sorted(of["ETH"])
    base = stamp | {"asset": "MKT", "cadence": cadence, "as_of": at, "known_at": at}
    parts, numbers = [], {}
    for index, full in (("S", 50.0), ("F", 100.0), ("X", 100.0)):
        total = np.zeros(len(at))
        for asset, weight in weights.items():
            values = [of[asset].get(stamp_, {}).get(index.lower()) for stamp_ in at]
            scores = [None if v is None else (v - 50) / 50 if index == "S" else v / 100 for v in values]
            points = np.array([0.0 if score is None else full * weight * score for score in scores])
            total += points
            row = {"index_name": index, "component": "asset", "feature": asset, "by_venue": "all", "weight": weight, "sign": 1}
            row |= {"score": scores, "stale_factor": 1.0, "history_days": 0.0, "contribution": points}
            parts.append(build("contributions", base | row | {"reason": ["" if score is not None else "withheld" for score in scores]}))
        numbers[index.lower()] = total + (50.0 if index == "S" else 0.0)
    reading = READING | numbers | {"s_ex": numbers["s"], "band": [band_of(v) for v in numbers["s"]], "status": "ok", "reason": ""}
    reading |= {"p_cascade_24h": None, "cascade_reason": "not made for the market", "price_usd": None, "regime": None, "regime_since": None}
    return {"readings": build("readings", base | reading), "contributions": pa.concat_tables(parts)}


#: What tests seldom care about, in every reading.
READING = {
    **dict.fromkeys(
        ("confidence", "conf_coverage", "conf_freshness", "conf_agreement", "conf_history", "f_confidence", "x_confidence"), 0.66
    ),
    **dict.fromkeys(
        ("s_ex", "s_pct", "s_erc", "s_pca", "s_ic", "f_ciss", "crowded_side", "oi_quantity_index", "price_usd", "oi_drawdown_90d")
    ),
    "risk_state": "risk_off",
    "risk_value": -0.31,
    "p_cascade_24h": 0.041,
    "cascade_base_rate": 0.02,
    "cascade_skill": 0.12,
    "cascade_reason": "",
    "regime": "neutral",
    "regime_since": START,
}


def index_tables(assets: tuple[str, ...], cadence: str, days: int, market: str = "simulated", seed: int = 7) -> dict[str, pa.Table]:
    """All index tables that a report reads; BTC has a gap in time and a withheld span, options never have a value."""
    rng, step = np.random.default_rng(seed), CADENCES[cadence]
    rows = int(timedelta(days=days) / step)
    stamp = STAMP | {"market": market}
    tables: dict[str, list[pa.Table]] = {}
    for number, asset in enumerate(name for name in assets if name != "MKT"):
        # assets listed later have less history
        length = rows if number < 3 else int(rows * rng.uniform(0.2, 1.0))
        grid = np.datetime64(START.replace(tzinfo=None), "us") + np.arange(rows - length + 1, rows + 1) * np.timedelta64(step)
        keep = np.ones(length, bool)
        if asset == "BTC":
            keep[length // 3 : length // 3 + max(length // 60, 2)] = False
        at, count = grid[keep], int(keep.sum())
        base = stamp | {"asset": asset, "cadence": cadence, "as_of": at, "known_at": at + np.timedelta64(5, "m")}
        inputs = [row for index in INPUTS for row in _inputs(rng, index, count)]
        numbers = _numbers(inputs)
        usual = {"BTC": 95_000.0, "ETH": 3_300.0, "SOL": 190.0}.get(asset, 10.0 ** rng.uniform(-6, 3))
        price = usual * np.exp(np.cumsum(rng.standard_normal(count) * 0.006 * step.total_seconds() ** 0.5 / 60))
        confidence = np.clip(0.66 + 0.05 * np.sin(np.arange(count) / 200), 0, 1)
        status = np.where(confidence < 0.62, "indicative", "ok").astype(object)
        reason = np.where(status == "ok", "", "fewer than two venues").astype(object)
        shown = {name: values.astype(object) for name, values in numbers.items()}
        regime = _regimes(numbers["x"], numbers["f"])
        starts = np.flatnonzero(np.concatenate([[True], regime[1:] != regime[:-1]]))
        since = at[starts[np.searchsorted(starts, np.arange(count), side="right") - 1]]
        p_cascade, cascade_reason = np.full(count, 0.041, object), np.full(count, "", object)
        if asset in ("BTC", "DEAD"):
            hidden = slice(count // 2, count // 2 + max(count // 80, 2)) if asset == "BTC" else slice(count - 3, count)
            status[hidden], reason[hidden], confidence[hidden] = "withheld", "confidence below 0.3", 0.21
            for name in ("s", "f") if asset == "BTC" else ("s", "f", "x"):
                shown[name][hidden] = None
            p_cascade[hidden], cascade_reason[hidden] = None, "no fragility"
        reading = (
            READING
            | shown
            | {
                "s_ex": shown["s"],
                "band": [None if v is None else band_of(v) for v in shown["s"]],
                "crowded_side": [None if v is None else "long_crowded" for v in shown["f"]],
                "confidence": confidence,
                "regime": regime,
                "regime_since": since,
                "p_cascade_24h": p_cascade,
                "cascade_reason": cascade_reason,
                "status": status,
                "reason": reason,
                "price_usd": price,
                "oi_quantity_index": 1.0,
                "oi_drawdown_90d": np.abs(np.tanh(np.cumsum(rng.standard_normal(count)) * 0.01)) * 0.5,
            }
        )
        tables.setdefault("readings", []).append(build("readings", base | reading))
        tables.setdefault("contributions", []).extend(build("contributions", base | row) for row in inputs)
        for row in inputs:
            if row["component"] != "interaction" and row["by_venue"] in ("all", "binance"):
                absent = row["component"] == "options"
                value = {"feature_value": [None] * count if absent else row["score"] * 0.0123, "input_age_h": None if absent else 1.0}
                tables.setdefault("features", []).append(build("features", base | value | {"feature": row["feature"], "reason": ""}))
        told_base = {name: value for name, value in base.items() if name not in ("as_of", "known_at")}
        for name, rows_ in _told(told_base, at, regime, price, asset).items():
            tables.setdefault(name, []).append(rows_)
    found = {name: pa.concat_tables(parts) for name, parts in tables.items()}
    if "MKT" in assets:
        found |= {name: pa.concat_tables([found[name], rows_]) for name, rows_ in _of_market(found, stamp, cadence).items()}
    return found


def evidence_tables(days: int) -> dict[str, pa.Table]:
    """coverage, quarantine, outcomes and verdicts with one example of everything that can go wrong."""
    now = START + timedelta(days=days)
    coverage: dict[str, list[object]] = {name: [] for name in TABLES["coverage"].columns}

    def window(source: str, endpoint: str, instrument: str, start: int, length: int, *, missing: int, expected: int) -> None:
        first = START + timedelta(days=start)
        stamps = [(first + timedelta(hours=1 + h)).isoformat() for h in range(min(missing, 20))]
        values = (
            source,
            endpoint,
            instrument,
            "open_interest",
            first,
            first + timedelta(days=length),
            expected,
            max(expected, 0) - missing,
        )
        values += (missing, 0, str(stamps).replace("'", '"'), missing == 0, 1, "run-1", now, date(2025, 1, 1))
        for name, value in zip(TABLES["coverage"].columns, values, strict=True):
            coverage[name].append(value)

    for endpoint in ("klines", "openInterestHist", "takerlongshortRatio", "globalLongShortAccountRatio"):
        for instrument in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
            for day in range(0, days, 30):
                lost = {("openInterestHist", 90): 24 * 30, ("takerlongshortRatio", 60): 5, ("klines", 150): 40}.get((endpoint, day), 0)
                if endpoint != "globalLongShortAccountRatio" or day >= 120:
                    length = min(30, days - day)
                    window("binance", endpoint, instrument, day, length, missing=min(lost, 24 * length), expected=24 * length)
    window("binance", "fundingRate", "BTCUSDT", 0, days, missing=0, expected=-1)
    window("defillama", "stablecoincharts", "ALL", 0, days, missing=3, expected=days)
    quarantined = [("binance", "openInterestHist", "ZERO_OPEN_INTEREST")] * 5 + [("binance", "klines", "EXPECTATION")] * 2
    quarantined += [("coinalyze", "funding-rate-history", "SHAPE")]
    quarantine = build(
        "quarantine",
        {
            "source": [q[0] for q in quarantined],
            "endpoint": [q[1] for q in quarantined],
            "instrument": "BTCUSDT",
            "target": "open_interest",
            "reason_code": [q[2] for q in quarantined],
            "detail": [f"row {i}: found 0 {HOSTILE}" for i in range(len(quarantined))],
            "row_json": ['{"sumOpenInterest": "0.00000000", "timestamp": 1735693200000}'] * len(quarantined),
            "raw_sha256": "ab" * 32,
            "fetched_at": now,
            "quarantine_id": [f"{i:064x}" for i in range(len(quarantined))],
            "run_id": "run-1",
            "recorded_at": now,
            "date": date(2025, 1, 1),
        },
    )
    steps = [
        ("fetch", "binance", "success", "", 0, 0, 0, 0, 0),
        ("load", "binance", "partial", "8 rows put aside: see quarantine", 40_000, 39_913, 7, 80, 0),
        ("load", "coinalyze", "success", "", 5_000, 4_999, 1, 0, 0),
        ("fetch", "defillama", "failed", "HTTP_EXHAUSTED: HTTP 503 after 6 tries; the next run asks again", 0, 0, 0, 0, 0),
        ("derive", "index", "success", "", 0, 0, 0, 0, 28_640),
    ]
    outcomes = build(
        "outcomes",
        {
            "run_id": "run-1",
            "step": [s[0] for s in steps],
            "subject": [s[1] for s in steps],
            "outcome": [s[2] for s in steps],
            "detail": [s[3] for s in steps],
            "window_start": START,
            "window_end": now,
            "answers": 12,
            "rows_decoded": [s[4] for s in steps],
            "rows_core": [s[5] for s in steps],
            "rows_quarantined": [s[6] for s in steps],
            "rows_duplicate": [s[7] for s in steps],
            "rows_published": [s[8] for s in steps],
            "started_at": [now + timedelta(seconds=i) for i in range(len(steps))],
            "finished_at": [now + timedelta(seconds=i + 1) for i in range(len(steps))],
            "date": date(2025, 1, 1),
        },
    )
    verdicts = build(
        "verdicts",
        {
            "run_id": "run-1",
            "table_name": ["open_interest", "candles", "readings"],
            "reason_code": ["ZERO_OPEN_INTEREST", "LOW_ABOVE_HIGH", "KEY_NOT_UNIQUE"],
            "outcome": ["failed", "partial", "success"],
            "row_count": [28_800, 28_800, 28_640],
            "rows_quarantined": [5, 2, 0],
            "detail": ["5 rows of BTCUSDT hold exactly 0", "2 bars have low above high", ""],
            "recorded_at": now,
            "date": date(2025, 1, 1),
        },
    )
    return {"coverage": build("coverage", coverage), "quarantine": quarantine, "outcomes": outcomes, "verdicts": verdicts}


def report_data(
    assets: tuple[str, ...] = ("MKT", "BTC", "ETH", "SOL"), cadence: str = "1h", days: int = 400, market: str = "simulated"
) -> ReportData:
    """Everything a report shows."""
    return ReportData(**index_tables(assets, cadence, days, market), **evidence_tables(days))


def many(count: int = 119, days: int = 700) -> ReportData:
    """As many daily assets as Coinalyze's Binance set has; one of them (DEAD) is withheld now."""
    return report_data(("MKT", "BTC", "ETH", "SOL", "DEAD", *(f"A{n:03d}" for n in range(count - 4))), "1d", days)
