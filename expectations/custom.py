"""Two expectations Great Expectations lacks: finite numbers, and a law between the columns of a row."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnMapExpectation, MulticolumnMapExpectation
from great_expectations.expectations.metrics.map_metric_provider.column_condition_partial import column_condition_partial
from great_expectations.expectations.metrics.map_metric_provider.column_map_metric_provider import ColumnMapMetricProvider
from great_expectations.expectations.metrics.map_metric_provider.multicolumn_condition_partial import multicolumn_condition_partial
from great_expectations.expectations.metrics.map_metric_provider.multicolumn_map_metric_provider import MulticolumnMapMetricProvider

from expectations.particular import Mask, holds


class ColumnValuesFinite(ColumnMapMetricProvider):
    """Neither infinite nor NaN. Nulls are passed over: whether a null may be is the not-null expectation's matter."""

    condition_metric_name = "column_values.tidegauge_finite"

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series[Any], **_: Any) -> Mask:  # noqa: N805 (the decorator binds the class)
        return np.asarray(np.isfinite(column.to_numpy(dtype=np.float64)))


class ExpectColumnValuesToBeFinite(ColumnMapExpectation):
    """Range checks of the pandas engine let a NaN pass (ENGINES.md, Validation); this one does not."""

    map_metric: ClassVar[str | None] = "column_values.tidegauge_finite"


class RowsObey(MulticolumnMapMetricProvider):
    """A law of expectations/particular.py over the columns it names."""

    condition_metric_name = "multicolumn_values.tidegauge_law"
    condition_domain_keys = ("batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if")
    condition_value_keys = ("law", "limit")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column_list: pd.DataFrame, law: str, limit: float, **_: Any) -> pd.Series[bool]:  # noqa: N805 (as above)
        return pd.Series(holds(law, limit, column_list), index=column_list.index)


class ExpectRowsToObey(MulticolumnMapExpectation):
    """Every row obeys the named law."""

    law: str
    limit: float = 0.0
    ignore_row_if: Literal["all_values_are_missing", "any_value_is_missing", "never"] = "any_value_is_missing"

    map_metric: ClassVar[str | None] = "multicolumn_values.tidegauge_law"
    success_keys: ClassVar[tuple[str, ...]] = ("law", "limit", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("column_list", "law", "limit")
