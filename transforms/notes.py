"""What the code cannot say of an input of S, F or X: the idea behind it, how it fails, and its known answer. docs/method.md is made from these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Note:
    """`answer`: a case a person can work out by hand, with its number in METHODOLOGY 8 where it has one."""

    idea: str
    fails: str
    answer: str


NOTES: Final[dict[str, Note]] = {
    "premium_excess_annual": Note(
        "The perpetual is dearer than its index when those who want to be long press harder. Funding is made from this premium and then "
        "clamped, so for any premium between -4 and +6 basis points per 8 h funding says exactly 0.01 %; the premium still speaks.",
        "Binance only so far. A venue that stamps the close of the bar as its open would be an hour early: conventions declare the label.",
        "6: premiums of +2, +10, -6, +6, -4 bp give funding of 1, 5, -1, 1, 1 bp; 43: a value at the anchor scores exactly 0.",
    ),
    "funding_excess_annual": Note(
        "What longs pay shorts for holding the position, above the contract's own interest component: who pays is who is crowded.",
        "Pinned at the interest component the number carries no information (score 0). On the daily grid it is the last settlement of the "
        "day, not their sum. An interval that is not known gives no value, never 8 h by default.",
        "7: open interest 10/5/5, 1 bp per 8 h, 0.125 bp per 1 h, -2 bp per 4 h: -2.7375 % p.a.; times 1095 for all says +0.34 %, the "
        "wrong sign. 43: 0.1 points below the anchor scores -0.05 with the floor of 2 points, -1 without.",
    ),
    "momentum": Note(
        "Price against its own noise over a week, a month and a quarter: trend, for confirmation only. Left out of s_ex.",
        "It is price: an index that contains it predicts through momentum. Where a contract is young one of the three spans is missing, "
        "and then there is no mean of the other two.",
        "A return of k times sigma over a span of n hours is k / sqrt(n).",
    ),
    "risk_reversal_25d": Note(
        "What a call costs against a put at equal delta: insurance against a fall is dear when people fear one.",
        "Chains are told only as of now: there is a history only from the first snapshot on, so it has no effective date yet. Linear in "
        "delta between listed strikes; missing outside the listed expiries.",
        "A flat smile gives 0. 39: 60 % at 7 d and 50 % at 35 d are 50.456 % at 30 d (linear in total variance).",
    ),
    "volatility_term_slope": Note(
        "Far volatility above near: no hurry. Near above far: something is happening.",
        "Needs expiries on both sides of 7 and of 90 days. As above: no history before the first snapshot.",
        "Equal volatilities give 0.",
    ),
    "call_put_volume_log": Note(
        "Calls traded per put. Ambiguous, since puts are sold as well as bought (METHODOLOGY 1.4): it has the smallest weight of its family.",
        "Block trades count like any other. As above: no history before the first snapshot.",
        "30-33: strikes 80..120 with C 0, 10, 20, 40, 30 and P 30, 40, 20, 5, 0: put/call ratio .95.",
    ),
    "taker_imbalance_8h": Note(
        "Who crosses the spread: takers who buy want in now.",
        "Wash trading trades with itself and pulls the number to 0. Sources without a taker side give nothing, not balance.",
        "15: a buy/sell ratio of 0.92530759 is an imbalance of -0.03880.",
    ),
    "liquidation_imbalance_24h": Note(
        "Which side is being forced out. Longs being liquidated is bearish flow, hence the sign -1.",
        "Feeds are throttled, so amounts are lower bounds; their ratio suffers less. Below 10,000 USD a day it says nothing.",
        "Longs 30, shorts 10: +0.5.",
    ),
    "long_short_accounts_log": Note(
        "How heads are split. Over all traders long notional equals short notional: only the crowd of accounts can lean.",
        "Counts heads, not money; structurally above 0 on retail venues, hence scored against its own past.",
        "15: long/short of 0.8376 is -0.17721.",
    ),
    "long_short_top_positions_log": Note(
        "How the positions of the venue's largest accounts are split.",
        "The venue redraws who belongs to the cohort without saying so. Hourly only: the daily source does not carry it.",
        "15: long/short of 0.8376 is -0.17721.",
    ),
    "stablecoin_growth_30d": Note(
        "Money that can buy, growing faster or slower than usual. The same for every asset.",
        "The source rewrites its history; both ends are read as they were known at the bar. The newest day is provisional.",
        "41: a billion minted into treasury is 0 net issuance.",
    ),
    "stablecoin_netflow_share": Note("Stablecoins moving to venues.", "Needs labelled addresses: no source yet.", "none"),
    "stablecoin_peg_discount_log": Note(
        "How far the settlement coin is off its dollar.", "Needs a dollar price of it: no source yet.", "none"
    ),
    "basis_excess_annual": Note(
        "The dated future over spot, 90-day constant maturity, above the dollar's short rate.",
        "Needs dated contracts: no source yet.",
        "16: F 102, S 100, 90 d: 8.0311 % p.a.",
    ),
    "conviction": Note(
        "Positions opened in the direction of the move: open interest that grows while price rises (or falls). Left out of s_ex.",
        "Open interest has no side; that it grew with price is all it says. A venue that enters is chain-linked and adds nothing.",
        "Price down, open interest +5 %: -0.05; open interest down: 0.",
    ),
    "oi_leverage": Note("USD open interest over market value.", "Needs point-in-time supply: no source yet.", "none"),
    "oi_level_180d": Note(
        "How much leverage is on, free of price: the rank of ln Q within the last half year.",
        "Delistings and expiries end an instrument; its last value leaves without a link and is not deleveraging.",
        "10: linear 100 to 90 coins, inverse unchanged, price -20 %: Q 14/15, USD .8133, coins 1.0167 (the wrong sign). 11: a venue of "
        "50 enters beside one of 100: Q stays 1.0.",
    ),
    "oi_change_168h": Note(
        "Leverage built up within a week.",
        "A gap longer than the carry limit is an exit and a re-entry without a link: what changed meanwhile is not booked.",
        "11: 100, missing, 80 within 6 h books the whole fall on return: 0.80 of that leg; longer: nothing.",
    ),
    "oi_change_720h": Note("Leverage built up within a month.", "As above.", "10 and 11, over a longer window."),
    "carry_score": Note(
        "How one-sided the crowd is: the size of the carry family's score, whichever side. The source text's crowding.",
        "Where funding is pinned it is 0: not crowded, by the only number there is. Its sign names the fragile side.",
        "43: pinned funding is 0.",
    ),
    "latent_near_share": Note(
        "How much open interest a move of one daily sigma would liquidate, by the cohort book: positions enter at the close over leverage "
        "tiers, age, and are removed where price crosses them. Longs plus safe equals shorts plus safe equals open interest after every bar.",
        "A model. On daily bars of 2023 it explained liquidations with an out-of-sample R2 of .42 (BTC) and .32 (all 66 contracts), less than the "
        "plain size of the day's move did (.60, .36): **model, no measured skill**. Tiers are the rounded fit of 2022; maintenance, safe "
        "share and inverse share are assumptions.",
        "17-20: entry 100,000, 10x, maintenance 0.5 %: linear 90,452.26 and 109,452.74, inverse 91,363.64 and 110,555.56. 24: open "
        "interest 100, 120, 80 with a 12 % low: both sides sum to 80, no long level above the low is left.",
    ),
    "oi_thinness": Note(
        "Days of trading the open interest is worth: what must leave through a small door.",
        "Volume is the venue's own statement; wash trading makes a door look wide. Order books are not read yet.",
        "Open interest of one day's volume: 0.",
    ),
    "strike_concentration_7d": Note(
        "Share of near options whose strike lies within one expected move.",
        "As the options of S: no history yet, no effective date.",
        "37-38: 50 %, 7 d, spot 100,000: expected move 6,924; 105,000 is .7046 of it away.",
    ),
    "variance_premium_30d": Note(
        "What options charge above what happened; little means nobody pays for insurance.",
        "As above. Realised volatility is of the grid's bars.",
        "40: a flat smile of 60 % through the strip: 60.0 %.",
    ),
    "oi_venue_concentration": Note(
        "How much of it hangs on one venue.",
        "With one venue held it is 1 at every bar: its rank is then one half and says nothing.",
        "Shares of .5, .3, .2: .38.",
    ),
    "stablecoin_peg_log": Note("How far the worst collateral coin is off its dollar.", "Needs dollar prices: no source yet.", "none"),
    "interaction": Note(
        "Much leverage and a crowded side together: the source text's joint claim.",
        "A product of two ranks: it is small whenever one of them is.",
        "Level .8, crowding .5: .40.",
    ),
    "liquidation_intensity_3h": Note(
        "Liquidated USD per hour over open interest of the same contracts: what is being forced now.",
        "Feeds are throttled and change their rules; scores never compare across epochs. Daily only: no hourly source yet.",
        "21: Bybit on 3 Feb 2025 showed .1586 of what happened.",
    ),
    "oi_change_24h": Note("Leverage leaving within a day (sign -1).", "As the other changes of open interest.", "10, 11, 12."),
    "volatility_surprise": Note(
        "Today's volatility against the month's.",
        "On the daily grid today is one return. Nothing moved at all gives no logarithm and no value.",
        "Equal volatilities give 0.",
    ),
    "funding_dispersion_annual": Note(
        "Venues disagreeing about the price of leverage: arbitrage has stopped working.",
        "Needs two venues; with one there is nothing to compare. It has no effective date yet.",
        "Rates of 10 % and 20 % with equal weights: 5 points.",
    ),
}
