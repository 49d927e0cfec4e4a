"""Names of Airflow's pools, importable without importing Airflow (which costs seconds)."""

from __future__ import annotations

from typing import Final

#: One writer at a time: every load and derive commits under this pool's single slot.
LAKE_POOL: Final = "lake"


def venue_pool(source: str) -> str:
    """Name of the pool that bounds how many tasks ask a source at once."""
    return f"venue_{source}"
