"""A task on a development network: its accounts buy and sell, its servers settle, its chain runs.

Nothing here moves the chain: its blocks come by themselves, as they do for whoever tries it out.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from devnet import anvil_binary
from devnet_command import devnet
from server_process import PATIENCE_SECONDS

from omnilytics.chain.account_files import open_signing_key
from omnilytics.chain.connection import connect
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.sender import Sender
from omnilytics.chain.settings import AccountSection
from omnilytics.chain.writer import MarketWriter
from omnilytics.devnet.folder import Network, NetworkFolder
from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address, Wei
from omnilytics.learning.calibration import calibrate
from omnilytics.learning.datasets import MarketData, load_market_data, owner_batch
from omnilytics.learning.models import build_model
from omnilytics.learning.training import OptimiserSettings, Trainer
from omnilytics.perturbation.losses import Loss
from omnilytics.roles.data_owner import DataOwner
from omnilytics.roles.model_owner import ModelOwner
from omnilytics.roles.task_view import Connect
from omnilytics.transport.client import ServerClient
from omnilytics.transport.hpke import HpkeKey
from omnilytics.transport.meter import Meter
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.task_specification import (
    ETHER_TOKEN,
    Admission,
    CommitteeMember,
    Component,
    TaskSpecification,
    TensorSlot,
    Windows,
)

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(anvil_binary() is None, reason="needs anvil: make devnet-tools"),
]

OWNERS = 2
WINDOWS = Windows(
    submission_seconds=30,
    forced_seconds=0,
    complaint_seconds=5,
    seal_seconds=120,
    rotation_seconds=15,
    delta_blocks=1,
    confirmations=0,
    words_blocks=8,
    openings_blocks=16,
    settlement_blocks=100,
)
_Found = TypeVar("_Found")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkFolder]:
    place = tmp_path_factory.mktemp("devnet") / "network"
    try:
        devnet("up", place, "--owners", str(OWNERS))
        yield NetworkFolder(place)
    finally:
        if place.exists():
            devnet("down", place, "--delete")


class Party:
    """An account of the network, at work."""

    def __init__(self, folder: NetworkFolder, name: str) -> None:
        network, place = folder.read(), folder.account(name)
        section = AccountSection(keystore=place / "account", password_file=place / "password")
        self.key: SigningKey = open_signing_key(section)
        self.chain = connect(network.url, moves=False)
        market = Address(bytes.fromhex(network.market[2:]))
        self.market = MarketReader(self.chain, market, first_block=network.first_block)
        self.writer = MarketWriter(self.market, Sender(self.chain, self.key.secret))


def model_owner(party: Party, data: MarketData, connect_to: Connect) -> ModelOwner:
    module = build_model("mlp", input_shape=data.input_shape, outputs=data.classes, seed=1)
    trainer = Trainer(
        module,
        input_shape=data.input_shape,
        loss=Loss.CROSS_ENTROPY,
        optimiser=OptimiserSettings("adam", 0.01),
    )
    return ModelOwner(
        key=party.key,
        hpke_key=HpkeKey.generate(SystemRandomness()),
        market=party.market,
        writer=party.writer,
        connect=connect_to,
        trainer=trainer,
        randomness=SystemRandomness(),
        now=time.time,
    )


def data_owner(party: Party, data: MarketData, index: int, connect_to: Connect) -> DataOwner:
    return DataOwner(
        key=party.key,
        market=party.market,
        writer=party.writer,
        connect=connect_to,
        batches=lambda number: owner_batch(
            data.shards[index], owner=index, round_number=number, size=16, seed=1
        ),
        randomness=SystemRandomness(),
    )


def specification(buyer: ModelOwner, data: MarketData, network: Network) -> TaskSpecification:
    records = {"0x" + record.address.hex(): record for record in buyer.market.servers()}
    servers = [records[server.address] for server in network.servers]
    found = calibrate(buyer.trainer, data.sample, owners=OWNERS, batch_size=16, rounds=1, seed=1)
    return TaskSpecification(
        title="breast cancer",
        description="A round on a development network.",
        model_licence="not distributed",
        contact="none",
        servers=len(servers),
        committee=tuple(
            CommitteeMember(
                address=server.address, endpoint=server.endpoint, hpke_key=server.hpke_key
            )
            for server in servers
        ),
        committee_mode="named",
        min_stake_wei=Wei(10**17),
        privacy=1,
        errors=1,
        tests=128,
        fractional_bits=16,
        components=(
            Component(
                name="gradient",
                tensors=tuple(
                    TensorSlot(name=each.name, shape=each.shape, scale=found.scales[each.name])
                    for each in buyer.trainer.graph.tensors
                ),
            ),
        ),
        profile="gauge",
        input_shape=data.input_shape,
        preprocessing="standardised",
        loss="cross_entropy",
        rounds=1,
        max_rounds=1,
        min_owners=2,
        max_owners=OWNERS,
        reward_wei=Wei(10**15),
        fee_wei=Wei(10**15),
        opening_fee_wei=Wei(10**15),
        token=ETHER_TOKEN,
        admission=Admission(mode="open", owners=(), min_bond_wei=Wei(0)),
        windows=WINDOWS,
        model_owner=buyer.key.address,
        model_owner_hpke_key=buyer.hpke_key.public,
    )


async def eventually(look: Callable[[], Awaitable[_Found | None]], wanted: str) -> _Found:
    """Return what is there once it is; blocks come each second."""
    deadline = time.monotonic() + 3 * PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            found = await look()
        except OmniLyticsError:
            found = None
        if found is not None:
            return found
        await asyncio.sleep(0.5)
    raise AssertionError(f"no {wanted} in time")


async def _round(folder: NetworkFolder, connect_to: Connect) -> None:
    data = load_market_data("breast-cancer", owners=OWNERS, seed=1, flat=True)
    buyer = model_owner(Party(folder, "buyer"), data, connect_to)
    parties = [Party(folder, f"owner-{index + 1}") for index in range(OWNERS)]
    owners = [data_owner(each, data, index, connect_to) for index, each in enumerate(parties)]
    view = await buyer.publish_task(specification(buyer, data, folder.read()))
    opened = await buyer.open_round()
    sent = await asyncio.gather(*(owner.contribute(view.task, opened.round) for owner in owners))

    async def settled() -> int | None:
        event = buyer.market.round_settled(view.task, opened.round)
        return None if event is None else event.accepted_count

    assert await eventually(settled, "settlement") == OWNERS
    recovered = await eventually(lambda: buyer.recover(opened.round), "sum")
    assert (recovered.total == sent[0].vector + sent[1].vector).all()
    before = parties[0].chain.balance(parties[0].key.address)
    await owners[0].claim(view.task)
    spent = parties[0].writer.sender.gas_cost_wei
    assert parties[0].chain.balance(parties[0].key.address) == before + 10**15 - spent
    for party in parties:
        party.chain.close()
    buyer.market.chain.close()


def test_a_round_is_bought_sold_settled_and_paid(folder: NetworkFolder) -> None:
    async def scenario() -> None:
        async with httpx.AsyncClient(timeout=30) as http:
            await _round(folder, lambda endpoint: ServerClient(endpoint, http, Meter()))

    asyncio.run(scenario())
    found = devnet("status", folder.path)
    assert found["well"]
    (task,) = found["tasks"]
    assert (task["task"], task["settled_rounds"], task["rounds"]) == (1, 1, 1)
    assert len(task["servers"]) == 5
    told = json.loads(folder.network_file.read_text())
    assert task["model_owner"] == told["accounts"][0]["address"]


def test_the_task_outlives_a_restart(folder: NetworkFolder) -> None:
    devnet("down", folder.path)
    assert Path(folder.state).is_file()
    found = devnet("up", folder.path)
    assert found["well"]
    assert [task["settled_rounds"] for task in found["tasks"]] == [1]
