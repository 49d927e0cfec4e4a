"""Read by every Airflow process at start: preload what tasks need, so that forked tasks share it instead of importing it for seconds each.

Only where tasks are forked (scheduler with the LocalExecutor, Celery workers). Nothing here may start threads: no polars, no parallel numba.
"""

import os
import sys

forks = "scheduler" in sys.argv[1:3] and "Celery" not in os.environ.get("AIRFLOW__CORE__EXECUTOR", "")
if forks or "worker" in sys.argv[1:4]:
    import great_expectations  # noqa: F401
    import pandas  # noqa: F401, ICN001
    import pyarrow.parquet  # noqa: F401

    import plugins.steps  # noqa: F401
