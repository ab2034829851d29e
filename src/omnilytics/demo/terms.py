"""What things cost in the demo, and what the parties risk."""

from __future__ import annotations

from omnilytics.foundation.units import Wei
from omnilytics.roles.server.policy import DAY_SECONDS, Price, ServerPolicy

ETHER = 10**18
MILLIETHER = 10**15
MICROETHER = 10**12

REWARD_WEI = Wei(MILLIETHER)
FEE_WEI = Wei(500 * MICROETHER)
OPENING_FEE_WEI = Wei(MILLIETHER)

STAKE_WEI = Wei(ETHER)
"""What every server has at stake."""
RISK_WEI = Wei(100 * MILLIETHER)
"""What the task puts at risk of it: a server loses this much by each report."""
BOND_WEI = Wei(20 * MILLIETHER)
"""What every data owner has as a bond, and the task asks for: one report takes all of it."""

START_WEI = {"model owner": Wei(100 * ETHER), "server": Wei(10 * ETHER), "owner": Wei(ETHER)}

DEMO_POLICY = ServerPolicy(
    prices=(Price(minimum_fee_wei=FEE_WEI, minimum_opening_fee_wei=OPENING_FEE_WEI),),
    most_stake_wei=RISK_WEI,
    longest_commitment_seconds=2 * 365 * DAY_SECONDS,
)
