"""Every table of the lake: which columns, what one row is, what makes it unique, and what its readers must know.

`core` tables hold what sources said, typed. `index` tables are published. `ops` tables are the evidence. All are Iceberg tables
partitioned by `date`; rows within a partition are sorted by the key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from transforms.vocabulary import VOCABULARY, Column

Layer = Literal["core", "index", "ops"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold between columns of one row. `severity`: critical = quarantine, warning = publish flagged, info = note."""

    code: str
    kind: Literal["not_above", "sums_to_one", "ratio_within"]
    columns: tuple[str, ...]
    severity: Literal["critical", "warning", "info"]
    limit: float = 0.0
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `grain` says what one row is; `key` is unique together with `revision` where the table has one."""

    name: str
    layer: Layer
    grain: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    cautions: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    published: bool = False
    #: one row per time of asking: what was seen then. Asking in pieces gives more of them, so "split equals whole" does not speak of these
    snapshot: bool = False
    fields: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        unknown = [name for name in self.columns if name not in VOCABULARY]
        if unknown:
            raise ValueError(f"table {self.name} names columns that vocabulary.py does not declare: {unknown}")
        strange = [name for name in self.key if name not in self.columns]
        if strange:
            raise ValueError(f"table {self.name} has a key outside its columns: {strange}")
        object.__setattr__(self, "fields", {name: VOCABULARY[name] for name in self.columns})

    @property
    def identifier(self) -> str:
        """Name in the catalog: layer.name."""
        return f"{self.layer}.{self.name}"

    @property
    def content(self) -> tuple[str, ...]:
        """Columns that say something about the world: all but provenance. Content hashes cover these."""
        return tuple(name for name, column in self.fields.items() if not column.provenance)

    @property
    def decoded(self) -> tuple[str, ...]:
        """Columns a source's decoder fills; the rest (revision, date, flags, provenance) is added on loading."""
        added = {"revision", "date", "flags", "fetched_at", "raw_sha256"}
        return tuple(name for name in self.columns if name not in added)


_WHO: Final = ("source", "venue", "instrument", "asset", "as_of", "known_at")
_LOADED: Final = ("flags", "revision", "fetched_at", "raw_sha256", "date")
_MEASURED: Final = ("source", "venue", "instrument", "as_of")
_STAMP: Final = ("market", "vintage", "index_version", "spec_sha256", "code_sha", "date")


def _tables(*tables: Table) -> dict[str, Table]:
    return {table.name: table for table in tables}


TABLES: Final[dict[str, Table]] = _tables(
    Table(
        "candles",
        "core",
        "one price bar of one instrument",
        (*_MEASURED, "interval_h"),
        (*_WHO, "interval_h", "open_usd", "high_usd", "low_usd", "close_usd", "volume_base", "taker_buy_base", "trades", *_LOADED),
        cautions=("as_of is the bar's END; venues stamp the open", "USDT quotes are taken as USD: a USDT depeg moves every price here"),
        rules=(
            Rule("LOW_ABOVE_HIGH", "not_above", ("low_usd", "high_usd"), "critical", meaning="low <= high"),
            Rule("CLOSE_ABOVE_HIGH", "not_above", ("close_usd", "high_usd"), "critical", meaning="close <= high"),
            Rule("CLOSE_BELOW_LOW", "not_above", ("low_usd", "close_usd"), "critical", meaning="low <= close"),
            Rule("TAKER_ABOVE_VOLUME", "not_above", ("taker_buy_base", "volume_base"), "critical", 1e-9, "taker buys <= volume"),
        ),
    ),
    Table(
        "open_interest",
        "core",
        "open interest of one instrument at one instant",
        _MEASURED,
        (*_WHO, "open_interest_native", "native_unit", "oi_sides", "open_interest_base", "open_interest_usd", *_LOADED),
        cautions=("USD open interest falls when price falls: use the quantity index to see leverage leave",),
    ),
    Table(
        "funding",
        "core",
        "one funding rate of one instrument",
        (*_MEASURED, "funding_kind"),
        (*_WHO, "funding_rate", "funding_kind", "funding_interval_h", *_LOADED),
        cautions=(
            "a rate per interval: annualise with the row's own interval, never with 3 x 365 for all",
            "coinalyze rows are the last settlement of the day, not the day's sum",
        ),
    ),
    Table(
        "funding_terms",
        "core",
        "funding terms of one instrument as seen at one instant",
        _MEASURED,
        (*_WHO, "funding_interval_h", "funding_cap_rate", "funding_floor_rate", *_LOADED),
        cautions=("a snapshot: the venue publishes no history of its terms",),
        snapshot=True,
    ),
    Table(
        "long_short",
        "core",
        "one long/short split of one instrument",
        (*_MEASURED, "ratio_metric"),
        (*_WHO, "ratio_metric", "long_share", "short_share", *_LOADED),
        cautions=("account ratios count heads; over all traders long notional equals short notional",),
        rules=(Rule("SHARES_DO_NOT_ADD_UP", "sums_to_one", ("long_share", "short_share"), "critical", 2e-3, "long + short = 1"),),
    ),
    Table(
        "taker_flow",
        "core",
        "taker volume of one instrument in one interval",
        (*_MEASURED, "interval_h"),
        (*_WHO, "interval_h", "taker_buy_base", "taker_sell_base", *_LOADED),
    ),
    Table(
        "liquidations",
        "core",
        "liquidated volume of one instrument in one interval",
        (*_MEASURED, "interval_h"),
        (*_WHO, "interval_h", "long_liquidated_base", "short_liquidated_base", "completeness", *_LOADED),
        cautions=("most venues throttle their feed: `floor` is a lower bound",),
    ),
    Table(
        "marks",
        "core",
        "mark and index price of one instrument at one instant",
        _MEASURED,
        (*_WHO, "mark_usd", "index_usd", *_LOADED),
        snapshot=True,
    ),
    Table(
        "instruments",
        "core",
        "one instrument as seen at one instant",
        _MEASURED,
        (
            *_WHO,
            "base_asset",
            "quote_asset",
            "margin_asset",
            "contract_type",
            "instrument_status",
            "base_multiplier",
            "listed_at",
            "delivery_at",
            *_LOADED,
        ),
        cautions=("point in time: a delisted contract stays in the snapshots that knew it",),
        snapshot=True,
    ),
    Table(
        "stablecoin_supply",
        "core",
        "circulating supply of one stablecoin on one day",
        ("source", "stablecoin", "as_of"),
        ("source", "stablecoin", "as_of", "known_at", "circulating_usd", *_LOADED),
        cautions=("the source rewrites its history: read the revision that was known at your instant",),
    ),
    Table(
        "reference_index",
        "core",
        "a third party's index on one day",
        ("source", "reference", "as_of"),
        ("source", "reference", "as_of", "known_at", "reference_value", "reference_label", *_LOADED),
        cautions=("for comparison only: no value of ours uses it",),
    ),
    Table(
        "features",
        "index",
        "one measured feature of one asset",
        ("asset", "cadence", "as_of", "feature"),
        ("asset", "cadence", "as_of", "known_at", "feature", "feature_value", "input_age_h", "reason", *_STAMP),
        published=True,
    ),
    Table(
        "contributions",
        "index",
        "what one constituent adds to S of one asset",
        ("asset", "cadence", "as_of", "feature"),
        (
            "asset",
            "cadence",
            "as_of",
            "known_at",
            "family",
            "feature",
            "weight",
            "sign",
            "score",
            "stale_factor",
            "history_days",
            "contribution",
            "reason",
            *_STAMP,
        ),
        cautions=(
            "contributions of one (asset, cadence, as_of) add up to s - 50 exactly (1e-9)",
            "weights are never renormalised when an input is missing: its contribution is 0 and confidence falls",
        ),
        published=True,
    ),
    Table(
        "sentiment",
        "index",
        "the index of one asset at one instant",
        ("asset", "cadence", "as_of"),
        (
            "asset",
            "cadence",
            "as_of",
            "known_at",
            "s",
            "s_ex",
            "band",
            "confidence",
            "conf_coverage",
            "conf_freshness",
            "conf_agreement",
            "conf_history",
            "status",
            "reason",
            "price_usd",
            "oi_drawdown_90d",
            *_STAMP,
        ),
        cautions=(
            "S describes positioning; it does not forecast",
            "join on known_at, never on as_of, when testing whether S could have been used",
            "vintage reconstructed: known_at follows declared lags; an input that in truth came late counts as on time",
        ),
        published=True,
    ),
    Table(
        "raw_answers",
        "ops",
        "one answer of a source, stored untouched",
        ("raw_sha256", "url", "fetched_at"),
        (
            "source",
            "endpoint",
            "instrument",
            "url",
            "http_status",
            "headers_json",
            "fetched_at",
            "raw_sha256",
            "body_bytes",
            "bundle",
            "window_start",
            "window_end",
            "run_id",
            "date",
        ),
        cautions=("the bytes are in `bundle`, a Parquet file with one row per answer (column body)",),
    ),
    Table(
        "quarantine",
        "ops",
        "one rejected row or answer, with its reason",
        ("raw_sha256", "fetched_at", "source", "endpoint", "instrument", "target", "reason_code", "row_json"),
        (
            "source",
            "endpoint",
            "instrument",
            "target",
            "reason_code",
            "detail",
            "row_json",
            "raw_sha256",
            "fetched_at",
            "run_id",
            "recorded_at",
            "date",
        ),
    ),
    Table(
        "coverage",
        "ops",
        "expected against received stamps of one window",
        ("source", "endpoint", "instrument", "window_start", "recorded_at"),
        (
            "source",
            "endpoint",
            "instrument",
            "target",
            "window_start",
            "window_end",
            "expected",
            "received",
            "missing",
            "refused",
            "missing_stamps",
            "complete",
            "answers",
            "run_id",
            "recorded_at",
            "date",
        ),
    ),
    Table(
        "outcomes",
        "ops",
        "one step of one run, also when it failed",
        ("run_id", "step", "subject", "started_at"),
        (
            "run_id",
            "step",
            "subject",
            "outcome",
            "detail",
            "window_start",
            "window_end",
            "answers",
            "rows_decoded",
            "rows_core",
            "rows_quarantined",
            "rows_duplicate",
            "rows_published",
            "started_at",
            "finished_at",
            "date",
        ),
    ),
    Table(
        "verdicts",
        "ops",
        "one expectation checked on one table in one run",
        ("run_id", "table_name", "reason_code", "recorded_at"),
        ("run_id", "table_name", "reason_code", "outcome", "row_count", "rows_quarantined", "detail", "recorded_at", "date"),
    ),
    Table(
        "partitions",
        "ops",
        "what one partition of a table holds of one source (core) or cadence (index), and what it was made from",
        ("table_name", "subject", "day", "recorded_at"),
        (
            "table_name",
            "subject",
            "day",
            "row_count",
            "content_sha256",
            "inputs_sha256",
            "run_id",
            "recorded_at",
            "date",
        ),
        cautions=(
            "the newest recorded_at of a (table_name, subject, day) is the one in force",
            "date is the day of recording, day the partition spoken of",
        ),
    ),
)


def tables(layer: Layer) -> list[Table]:
    """Tables of one layer, in order of declaration."""
    return [table for table in TABLES.values() if table.layer == layer]
