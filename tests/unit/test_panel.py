"""Who takes part: assets of which something was measured, not those of which a venue merely lists the terms."""

from __future__ import annotations

import numpy as np

from tests.property.synthetic import SHORT, core_table, micros
from transforms.index.build import Stamp, derive
from transforms.windows import Window, utc

STAMP = Stamp(market="simulated", vintage="reconstructed", code_sha="")
BARS = Window(utc("2024-01-01T10:00"), utc("2024-01-01T12:00"))


def test_the_terms_of_a_contract_do_not_make_an_asset() -> None:
    """Binance's fundingInfo speaks of hundreds of contracts, asked about or not."""
    listed = np.full(3, micros("2024-01-01T09:06"))
    terms = {"funding_interval_h": 4.0, "funding_cap_rate": 0.02, "funding_floor_rate": -0.02}
    names = {"instrument": ["AAAUSDT", "BBBUSDT", "CCCUSDT"], "asset": ["AAA", "BBB", "CCC"]}
    core = {
        "funding_terms": core_table("funding_terms", listed, **terms, **names),
        "long_short": core_table(
            "long_short",
            np.array([micros("2024-01-01T10:00")]),
            instrument="AAAUSDT",
            asset="AAA",
            ratio_metric="global_account",
            long_share=0.6,
            short_share=0.4,
        ),
    }
    found = derive(core, BARS, "1h", SHORT["1h"], stamp=STAMP)
    assert set(found.sentiment.column("asset").to_pylist()) == {"AAA"}
    assert set(found.features.column("asset").to_pylist()) == {"AAA"}
