"""The demo's task specification: calibrated scales, fees and windows."""

from __future__ import annotations

from omnilytics.client.drafting import draft_components
from omnilytics.demo.market import DemoMarket
from omnilytics.demo.terms import BOND_WEI, FEE_WEI, OPENING_FEE_WEI, REWARD_WEI, RISK_WEI
from omnilytics.learning.calibration import Calibration, calibrate
from omnilytics.perturbation.profiles import GAUGE
from omnilytics.wire.task_specification import (
    ETHER_TOKEN,
    Admission,
    CommitteeMember,
    TaskSpecification,
    Windows,
)

FRACTIONAL_BITS = 16
WRAPAROUND_TESTS = 128

# The embedded chain mines on demand, so that windows cost nothing (wire.md, "Windows").
DEMO_WINDOWS = Windows(
    submission_seconds=600,
    forced_seconds=0,
    complaint_seconds=60,
    seal_seconds=3_600,
    rotation_seconds=600,
    delta_blocks=1,
    confirmations=0,
    words_blocks=5,
    openings_blocks=10,
    settlement_blocks=100,
)


def calibrate_demo(market: DemoMarket) -> Calibration:
    """Measure gradient norms on the model owner's own sample, over a plain run of this length."""
    return calibrate(
        market.trainer,
        market.data.sample,
        owners=market.options.honest_owners,
        batch_size=market.options.preset.batch_size,
        rounds=market.options.rounds,
        seed=market.options.seed,
    )


def demo_specification(market: DemoMarket, calibration: Calibration) -> TaskSpecification:
    """Return the task that the model owner publishes."""
    options = market.options
    named = market.servers if options.committee_mode == "named" else []
    members = tuple(
        CommitteeMember(
            address=server.node.address,
            endpoint=market.reader.server(server.node.address).endpoint,
            hpke_key=server.node.hpke_key.public,
        )
        for server in named
    )
    return TaskSpecification(
        title=f"{options.dataset}, {options.model}",
        description="Demonstration: train a small model on data that nobody hands over.",
        model_licence="not distributed",
        contact="model owner of the demo",
        servers=options.committee.servers,
        committee=members,
        committee_mode=options.committee_mode,
        min_stake_wei=RISK_WEI,
        privacy=options.committee.privacy,
        errors=options.committee.errors,
        tests=WRAPAROUND_TESTS,
        fractional_bits=FRACTIONAL_BITS,
        components=draft_components(market.trainer.graph, GAUGE, calibration.scales),
        profile="gauge",
        input_shape=market.data.input_shape,
        preprocessing="standardised with the mean and deviation of the model owner's sample",
        loss="cross_entropy",
        rounds=options.rounds,
        max_rounds=options.rounds,
        min_owners=2,
        max_owners=options.owners,
        reward_wei=REWARD_WEI,
        fee_wei=FEE_WEI,
        opening_fee_wei=OPENING_FEE_WEI,
        token=ETHER_TOKEN,
        admission=Admission(
            mode="listed",
            owners=tuple(sorted(owner.address for owner in market.owners)),
            min_bond_wei=BOND_WEI,
        ),
        windows=DEMO_WINDOWS,
        model_owner=market.model_owner.key.address,
        model_owner_hpke_key=market.model_owner.hpke_key.public,
    )
