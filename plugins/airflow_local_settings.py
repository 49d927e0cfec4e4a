"""Read by every Airflow process at start: preload what tasks need, so that forked tasks share it instead of importing it for seconds each.

Only where tasks are forked (scheduler with the LocalExecutor, Celery workers). Nothing here may start threads: no polars, no parallel numba.
"""

import sys

if {"scheduler", "worker"} & set(sys.argv[1:4]):
    import great_expectations  # noqa: F401
    import pandas  # noqa: F401, ICN001
    import pyarrow.parquet  # noqa: F401

    import plugins.steps  # noqa: F401
