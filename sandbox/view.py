"""A market as one venue shows it: what no venue tells about itself is the whole market's."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.market import Aggregate, Chain, Market, Rows


class View(Market):
    """The part of every view that is not the venue's own."""

    def __init__(self, base: Market) -> None:
        super().__init__(base.now_ms)
        self.whole = base

    def describe(self) -> dict[str, object]:
        return self.whole.describe()

    def has_archive(self) -> bool:
        return False

    def option_chain(self, coin: str) -> Chain | None:
        return self.whole.option_chain(coin)

    def volatility_index(self, coin: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        return self.whole.volatility_index(coin, step_ms, start_ms, end_ms)

    def aggregate_symbols(self) -> Mapping[str, str]:
        return self.whole.aggregate_symbols()

    def aggregate(self, what: Aggregate, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        return self.whole.aggregate(what, symbol, step_ms, start_ms, end_ms)

    def supply(self, coin_id: str | None) -> Rows | None:
        return self.whole.supply(coin_id)

    def chain_metrics(self, asset: str) -> Rows | None:
        return self.whole.chain_metrics(asset)

    def fear_greed(self) -> Rows:
        return self.whole.fear_greed()
