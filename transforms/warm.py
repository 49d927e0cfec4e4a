"""`python -m transforms.warm`: compile and cache the numba kernels by deriving one day of an empty market, so that no task waits for it."""

from __future__ import annotations

from transforms.index.build import Stamp, derive
from transforms.spec import SPEC
from transforms.windows import CADENCES, Window, utc


def main() -> None:
    """Derive a day of one asset of which nothing is known, at each cadence: every kernel runs, on arrays of the types that count."""
    stamp = Stamp(market="simulated", vintage="reconstructed", code_sha="")
    for cadence in CADENCES:
        derive({}, Window(utc("2024-01-01"), utc("2024-01-02")), cadence, SPEC, assets=["BTC"], stamp=stamp)


if __name__ == "__main__":
    main()
