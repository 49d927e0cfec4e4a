"""Tables to render in tests: schema-conformant, seeded, with the blemishes a report must show. A random walk, no market."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

from plugins.readings import ReportData
from transforms.schema import arrow_schema
from transforms.tables import TABLES
from transforms.windows import CADENCES, partition_days

#: family, feature, weight, persistence of the score
CONSTITUENTS = (
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
)
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


def index_tables(assets: tuple[str, ...], cadence: str, days: int, market: str = "simulated", seed: int = 7) -> dict[str, pa.Table]:
    """sentiment, contributions and features; BTC has a gap in time and a withheld span, options never have a value."""
    rng, step = np.random.default_rng(seed), CADENCES[cadence]
    rows = int(timedelta(days=days) / step)
    stamp = STAMP | {"market": market}
    tables: dict[str, list[pa.Table]] = {"sentiment": [], "contributions": [], "features": []}
    for number, asset in enumerate(assets):
        # assets listed later have less history
        length = rows if number < 3 else int(rows * rng.uniform(0.2, 1.0))
        grid = np.datetime64(START.replace(tzinfo=None), "us") + np.arange(rows - length + 1, rows + 1) * np.timedelta64(step)
        keep = np.ones(length, bool)
        if asset == "BTC":
            keep[length // 3 : length // 3 + max(length // 60, 2)] = False
        at, count = grid[keep], int(keep.sum())
        scores = np.zeros((len(CONSTITUENTS), count))
        for i, (_, _, _, memory) in enumerate(CONSTITUENTS):
            noise, value = rng.standard_normal(count), 0.0
            for t in range(count):
                value = memory * value + (1 - memory**2) ** 0.5 * noise[t]
                scores[i, t] = value
        scores = np.tanh(0.8 * scores)
        scores[3:5] = 0.0
        weights = np.array([c[2] for c in CONSTITUENTS])[:, None]
        stale = np.ones_like(scores)
        stale[5, -5:] = 0.5
        contribution = 50.0 * weights * scores * stale
        s = 50.0 + contribution.sum(axis=0)
        usual = {"BTC": 95_000.0, "ETH": 3_300.0, "SOL": 190.0}.get(asset, 10.0 ** rng.uniform(-6, 3))
        price = usual * np.exp(np.cumsum(rng.standard_normal(count) * 0.006 * step.total_seconds() ** 0.5 / 60))
        confidence = np.clip(0.66 + 0.05 * np.sin(np.arange(count) / 200), 0, 1)
        status = np.where(confidence < 0.62, "indicative", "ok").astype(object)
        reason = np.where(status == "ok", "", "fewer than two venues").astype(object)
        value = s.astype(object)
        if asset in ("BTC", "DEAD"):
            hidden = slice(count // 2, count // 2 + max(count // 80, 2)) if asset == "BTC" else slice(count - 3, count)
            status[hidden], reason[hidden], value[hidden], confidence[hidden] = "withheld", "confidence below 0.3", None, 0.21
        tables["sentiment"].append(
            build(
                "sentiment",
                stamp
                | {
                    "asset": asset,
                    "cadence": cadence,
                    "as_of": at,
                    "known_at": at + np.timedelta64(5, "m"),
                    "s": value,
                    "s_ex": value,
                    "band": [None if v is None else band_of(v) for v in value],
                    "confidence": confidence,
                    "conf_coverage": 0.6,
                    "conf_freshness": 0.85,
                    "conf_agreement": 0.5,
                    "conf_history": 1.0,
                    "status": status,
                    "reason": reason,
                    "price_usd": price,
                    "oi_drawdown_90d": np.abs(np.tanh(np.cumsum(rng.standard_normal(count)) * 0.01)) * 0.5,
                },
            )
        )
        for i, (family, feature, weight, _) in enumerate(CONSTITUENTS):
            absent = family == "options"
            tables["contributions"].append(
                build(
                    "contributions",
                    stamp
                    | {
                        "asset": asset,
                        "cadence": cadence,
                        "as_of": at,
                        "known_at": at + np.timedelta64(5, "m"),
                        "family": family,
                        "feature": feature,
                        "weight": weight,
                        "sign": 1,
                        "score": [None] * count if absent else scores[i],
                        "stale_factor": 0.0 if absent else stale[i],
                        "history_days": 0.0 if absent else 120.5,
                        "contribution": contribution[i],
                        "reason": "no source publishes option chains here"
                        if absent
                        else np.where(stale[i] < 1, "stale", "").astype(object),
                    },
                )
            )
            tables["features"].append(
                build(
                    "features",
                    stamp
                    | {
                        "asset": asset,
                        "cadence": cadence,
                        "as_of": at,
                        "known_at": at + np.timedelta64(5, "m"),
                        "feature": feature,
                        "feature_value": [None] * count if absent else scores[i] * 0.0123,
                        "input_age_h": [None] * count if absent else 1.0 / stale[i],
                        "reason": "",
                    },
                )
            )
    return {name: pa.concat_tables(parts) for name, parts in tables.items()}


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
        ("derive", "sentiment", "success", "", 0, 0, 0, 0, 28_640),
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
            "table_name": ["open_interest", "candles", "sentiment"],
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
    assets: tuple[str, ...] = ("BTC", "ETH", "SOL"), cadence: str = "1h", days: int = 400, market: str = "simulated"
) -> ReportData:
    """Everything a report shows."""
    return ReportData(**index_tables(assets, cadence, days, market), **evidence_tables(days))


def many(count: int = 119, days: int = 700) -> ReportData:
    """As many daily assets as Coinalyze's Binance set has; one of them (DEAD) is withheld now."""
    return report_data(("BTC", "ETH", "SOL", "DEAD", *(f"A{n:03d}" for n in range(count - 4))), "1d", days)
