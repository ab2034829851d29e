"""Setting up the demo's market: a chain, a contract, and parties with their own keys and store."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from omnilytics.api.application import create_application
from omnilytics.chain.connection import Chain, connect
from omnilytics.chain.deploy import deploy_market
from omnilytics.chain.embedded import embedded_chain
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import OfferRecord
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import MarketWriter
from omnilytics.demo.cheats import (
    FalseNormOwner,
    LyingServer,
    MisdealingOwner,
    WrappingOwner,
)
from omnilytics.demo.network import InProcessNetwork
from omnilytics.demo.options import DemoOptions
from omnilytics.demo.terms import BOND_WEI, DEMO_POLICY, FEE_WEI, RISK_WEI, STAKE_WEI, START_WEI
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address, Round, Wei
from omnilytics.learning.datasets import (
    Batch,
    MarketData,
    load_market_data,
    owner_batch,
)
from omnilytics.learning.models import build_model, layout_for
from omnilytics.learning.training import OptimiserSettings, Trainer
from omnilytics.perturbation.losses import Loss
from omnilytics.roles.data_owner import DataOwner
from omnilytics.roles.model_owner import ModelOwner
from omnilytics.roles.server import Server
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.task_view import TaskView
from omnilytics.storage.repository import Repository
from omnilytics.transport.hpke import HpkeKey
from omnilytics.transport.meter import Meter
from omnilytics.wire.signatures import SigningKey


@dataclass(frozen=True)
class Party:
    """A party as the report names it."""

    name: str
    address: Address
    writer: MarketWriter
    note: str
    start_wei: Wei


@dataclass
class DemoMarket:
    """Everything the demo runs."""

    options: DemoOptions
    chain: Chain
    reader: MarketReader
    network: InProcessNetwork
    meter: Meter
    data: MarketData
    trainer: Trainer
    model_owner: ModelOwner
    owners: list[DataOwner]
    servers: list[Server]
    """The committee in its order, once `seat_committee` knows it; before, all servers."""
    spares: list[Server]
    """Servers that were not drawn."""
    parties: list[Party]
    contract_start_wei: Wei
    """What the market held before."""
    registry_start_wei: Wei
    """What the registry held before."""

    def name(self, address: Address) -> str:
        """Return how the report calls a party."""
        return next(party.name for party in self.parties if party.address == address)

    async def close(self) -> None:
        """Release clients, databases and the chain."""
        await self.network.close()
        for server in self.servers + self.spares:
            server.node.repository.close()
        self.chain.close()


def _make_trainer(options: DemoOptions, data: MarketData) -> Trainer:
    """Return the model to be trained, the same for the same seed."""
    module = build_model(
        options.model, input_shape=data.input_shape, outputs=data.classes, seed=options.seed
    )
    return Trainer(
        module,
        input_shape=data.input_shape,
        loss=Loss.CROSS_ENTROPY,
        optimiser=OptimiserSettings("adam", options.preset.learning_rate),
    )


def set_up_market(options: DemoOptions, folder: Path) -> DemoMarket:
    """Start a chain, deploy the contract, register the servers, and make all parties.

    Args:
        options: What to run.
        folder: Where the servers keep their databases and files.
    """
    meter = Meter()
    chain = connect(options.chain_url) if options.chain_url else embedded_chain()
    model_owner_key = _funded_key(chain, "model owner")
    deployer = Sender(chain, model_owner_key.secret)
    reader = MarketReader(chain, options.contract or deploy_market(deployer))
    contract_start_wei, registry_start_wei = map(chain.balance, (reader.address, reader.registry))
    network = InProcessNetwork(meter)
    writer = MarketWriter(reader, deployer)
    data = load_market_data(
        options.dataset,
        owners=options.owners,
        seed=options.seed,
        layout=layout_for(options.model),
    )
    trainer = _make_trainer(options, data)
    model_owner = ModelOwner(
        key=model_owner_key,
        hpke_key=HpkeKey.generate(SystemRandomness()),
        market=reader,
        writer=writer,
        connect=network.connect,
        model=trainer,
        randomness=SystemRandomness(),
        now=time.time,
        meter=meter,
    )
    servers = [
        _start_server(options, index, reader, network, meter, folder)
        for index in range(1, options.committee.servers + options.spare_servers + 1)
    ]
    owners = [
        _make_owner(options, index, data.shards[index], reader, network, meter)
        for index in range(options.owners)
    ]
    parties = [
        Party(
            "model owner",
            model_owner_key.address,
            writer,
            "buys gradients",
            START_WEI["model owner"],
        )
    ]
    parties += [_server_party(index, server) for index, server in enumerate(servers, start=1)]
    parties += [_owner_party(index, owner) for index, owner in enumerate(owners, start=1)]
    return DemoMarket(
        options=options,
        chain=chain,
        reader=reader,
        network=network,
        meter=meter,
        data=data,
        trainer=trainer,
        model_owner=model_owner,
        owners=owners,
        servers=servers,
        spares=[],
        parties=parties,
        contract_start_wei=contract_start_wei,
        registry_start_wei=registry_start_wei,
    )


def seat_committee(market: DemoMarket, view: TaskView) -> None:
    """Put the task's servers in the committee's order; the last one lies if one may."""
    by_address = {server.node.address: server for server in market.servers}
    market.servers = [by_address.pop(address) for address in view.parameters.members]
    market.spares = list(by_address.values())
    notes = dict.fromkeys(by_address, "was not drawn")
    if market.options.has_lying_server:
        liar = LyingServer(market.servers[-1].node)
        market.servers[-1] = liar
        market.network.serve(view.endpoints[-1], create_application(liar))
        notes[liar.node.address] = "posts wrong words in every even round"
    market.parties = [
        replace(party, note=notes.get(party.address, party.note)) for party in market.parties
    ]


def cheat_of(options: DemoOptions, index: int) -> type[DataOwner]:
    """Return the kind of the owner at `index` from 0: the last three cheat."""
    return {0: FalseNormOwner, 1: MisdealingOwner, 2: WrappingOwner}.get(
        index - options.honest_owners, DataOwner
    )


def _funded_key(chain: Chain, kind: str) -> SigningKey:
    key = SigningKey.generate(SystemRandomness())
    chain.fund(key.address, START_WEI[kind])
    assert chain.balance(key.address) == START_WEI[kind]
    return key


def _start_server(
    options: DemoOptions,
    index: int,
    reader: MarketReader,
    network: InProcessNetwork,
    meter: Meter,
    folder: Path,
) -> Server:
    key = _funded_key(reader.chain, "server")
    hpke_key = HpkeKey.generate(SystemRandomness())
    endpoint = f"http://server-{index}.demo"
    writer = MarketWriter(reader, Sender(reader.chain, key.secret))
    repository = Repository(
        folder / f"server-{index}",
        chain_id=reader.chain.chain_id,
        contract=reader.address,
        server=key.address,
    )
    node = ServerNode(
        key=key,
        hpke_key=hpke_key,
        repository=repository,
        market=reader,
        writer=writer,
        connect=network.connect,
        policy=DEMO_POLICY,
    )
    server = Server(node)
    network.serve(endpoint, create_application(server))
    writer.register_server(endpoint, hpke_key.public, STAKE_WEI)
    writer.set_offer(OfferRecord(min_fee_wei=FEE_WEI, max_stake_wei=RISK_WEI))
    return server


def _make_owner(
    options: DemoOptions,
    index: int,
    shard: Batch,
    reader: MarketReader,
    network: InProcessNetwork,
    meter: Meter,
) -> DataOwner:
    key = _funded_key(reader.chain, "owner")
    size = options.preset.batch_size

    def batches(round_number: Round) -> Batch:
        return owner_batch(
            shard, owner=index, round_number=round_number, size=size, seed=options.seed
        )

    writer = MarketWriter(reader, Sender(reader.chain, key.secret))
    writer.add_bond(BOND_WEI)
    return cheat_of(options, index)(
        key=key,
        market=reader,
        writer=writer,
        connect=network.connect,
        batches=batches,
        randomness=SystemRandomness(),
        meter=meter,
    )


def _server_party(index: int, server: Server) -> Party:
    return Party(
        f"server {index}", server.node.address, server.node.writer, "honest", START_WEI["server"]
    )


_OWNER_NOTES: dict[type[DataOwner], str] = {
    FalseNormOwner: "proves a norm it does not have",
    MisdealingOwner: "deals one server a bad share",
    WrappingOwner: "wraps its norm around the field",
}


def _owner_party(index: int, owner: DataOwner) -> Party:
    note = _OWNER_NOTES.get(type(owner), "honest")
    return Party(f"owner {index}", owner.address, owner.writer, note, START_WEI["owner"])
