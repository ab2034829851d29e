"""A task on a real chain whose vectors are random: for tests and benchmarks of real servers.

No model is trained: what servers check is the encoding, the shares and the proof, and those are
real. The committee's members are registered with keys that the world has; which of them run as
processes is up to the user.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from server_process import ServerFiles, prepare_server

from omnilytics.algebra.fixed_point import IntegerVector, round_vector
from omnilytics.chain.bindings.market import RoundOpened
from omnilytics.chain.connection import Chain, connect
from omnilytics.chain.deploy import deploy_market
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import MarketWriter, terms_hash
from omnilytics.demo.specification import DEMO_WINDOWS
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, Wei
from omnilytics.protocol.package_builder import PackageBuilder
from omnilytics.roles.data_owner.delivery import Delivery
from omnilytics.roles.task_view import TaskView, chain_terms, check_specification, round_context
from omnilytics.sharing.committee import Committee
from omnilytics.storage.repository import Repository
from omnilytics.transport.authentication import authenticate
from omnilytics.transport.client import ServerClient, artefact_path, package_path
from omnilytics.transport.hpke import HpkeKey, seal_package
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.messages import Consent
from omnilytics.wire.package import SealedPackage
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
from omnilytics.wire.transcript import Certificate

ETHER = 10**18
STAKE_WEI, BOND_WEI, REWARD_WEI, FEE_WEI = (Wei(n * 10**15) for n in (1_000, 20, 1, 1))
RANDOMNESS = SystemRandomness()
Settings = dict[str, dict[str, object]]
LONG_WINDOWS = DEMO_WINDOWS.model_copy(update={"submission_seconds": 7_200})


@dataclass
class Upload:
    """One server's sealed package of one owner, and how it is sent."""

    owner: SigningKey
    path: str
    body: bytes
    world: SubmissionWorld = field(repr=False)

    def headers(self) -> dict[str, str]:
        """Return a fresh authentication: it is good once, and for five minutes."""
        return authenticate(
            method="PUT",
            path=self.path,
            body=self.body,
            task=self.world.task,
            round_number=self.world.opened.round,
            time=int(time.time()),
            key=self.owner,
            domain=self.world.market.domain,
            randomness=RANDOMNESS,
        )

    def send(self, endpoint: str) -> httpx.Response:
        return httpx.put(
            endpoint + self.path, content=self.body, headers=self.headers(), timeout=60
        )


@dataclass
class SubmissionWorld:
    """A chain, a market, a committee, and a task whose first round is open."""

    chain: Chain
    market: MarketReader
    buyer: MarketWriter
    buyer_key: SigningKey
    servers: list[ServerFiles]
    view: TaskView
    content: bytes
    opened: RoundOpened
    buyer_hpke_key: HpkeKey
    """Opens the shares of the sum."""

    @property
    def task(self) -> TaskId:
        return self.view.task

    def set_calm(self) -> None:
        """Let the servers look at the chain as seldom as they do by default, not as tests want."""
        for files in self.servers:
            files.settings["chain"].pop("poll_seconds", None)
            files.settings["rounds"] = {}
            files.settings["log"] = {}
            files.write()

    def publish_at(self, server: ServerFiles) -> None:
        """Give a running server the specification, as the model owner does."""
        name = content_hash(self.content)
        path = artefact_path(self.task, name)
        headers = authenticate(
            method="PUT",
            path=path,
            body=self.content,
            task=self.task,
            round_number=Round(0),
            time=int(time.time()),
            key=self.buyer_key,
            domain=self.market.domain,
            randomness=RANDOMNESS,
        )
        answer = httpx.put(server.endpoint + path, content=self.content, headers=headers)
        assert answer.status_code == 204, answer.text

    def new_owner(self) -> SigningKey:
        """Return the key of an owner with the bond that the task asks for."""
        key = SigningKey.generate(RANDOMNESS)
        self.chain.fund(key.address, Wei(ETHER))
        MarketWriter(self.market, Sender(self.chain, key.secret)).add_bond(BOND_WEI)
        return key

    def packages(self, owner: SigningKey, vector: IntegerVector) -> list[SealedPackage]:
        """Return the sealed packages of all servers."""
        context = round_context(self.market, self.task, self.opened.round)
        openings = PackageBuilder(self.view.parameters, context, owner, RANDOMNESS).build(vector)
        return [
            seal_package(opening, member.hpke_key, context)
            for opening, member in zip(openings, self.view.specification.committee, strict=True)
        ]

    def upload(self, owner: SigningKey, server: int) -> Upload:
        """Return what an owner with a random vector sends to `server`, from 1."""
        vector = random_vector(self.view.parameters.statement.dimension)
        body = self.packages(owner, vector)[server - 1].encode()
        path = package_path(self.task, self.opened.round, owner.address)
        return Upload(owner, path, body, self)

    def contribute(self, owner: SigningKey, vector: IntegerVector) -> Certificate:
        """Submit to all servers, which run, as a data owner does."""

        async def deliver() -> Certificate:
            async with httpx.AsyncClient(timeout=60) as http:
                delivery = Delivery(
                    view=self.view,
                    context=round_context(self.market, self.task, self.opened.round),
                    key=owner,
                    connect=lambda endpoint: ServerClient(endpoint, http),
                    now=time.time,
                    randomness=RANDOMNESS,
                    call_seconds=60.0,
                )
                certificate = await delivery.certify(self.packages(owner, vector))
                assert len(await delivery.publish(certificate)) == len(self.view.endpoints)
                return certificate

        return asyncio.run(deliver())


def random_vector(dimension: int) -> IntegerVector:
    """Return random integers within the norm bound."""
    vector = np.random.default_rng().normal(size=dimension)
    rounded = round_vector(
        vector / np.linalg.norm(vector),
        components=(dimension,),
        fractional_bits=16,
        randomness=RANDOMNESS,
    )
    return rounded.values


@contextmanager
def submission_world(
    url: str,
    folder: Path,
    *,
    committee: Committee,
    dimension: int,
    max_owners: int,
    windows: Windows = LONG_WINDOWS,
    settings: Settings | None = None,
) -> Iterator[SubmissionWorld]:
    """Deploy a market, register a committee, create a task and open its first round.

    `settings`, by section, are of the last server, beside what all have.
    """
    chain = connect(url)
    try:
        buyer_key = SigningKey.generate(RANDOMNESS)
        chain.fund(buyer_key.address, Wei(1_000 * ETHER))
        sender = Sender(chain, buyer_key.secret)
        market = MarketReader(chain, deploy_market(sender))
        buyer = MarketWriter(market, sender)
        servers = [
            _register(market, url, folder / f"server-{index}")
            for index in range(1, committee.servers + 1)
        ]
        for section, values in (settings or {}).items():
            servers[-1].settings.setdefault(section, {}).update(values)
            servers[-1].write()
        for files in servers:
            _found_store(market, files)
        hpke_key = HpkeKey.generate(RANDOMNESS)
        specification = _specification(
            servers, buyer_key, hpke_key.public, committee, dimension, max_owners, windows
        )
        content = specification.encode()
        task = _create(market, buyer, servers, specification)
        view = check_specification(market, task, content)
        opened = buyer.open_round(task, content_hash(b"no model"))
        yield SubmissionWorld(
            chain, market, buyer, buyer_key, servers, view, content, opened, hpke_key
        )
    finally:
        chain.close()


def _register(market: MarketReader, url: str, folder: Path) -> ServerFiles:
    key, hpke_key = SigningKey.generate(RANDOMNESS), HpkeKey.generate(RANDOMNESS)
    market.chain.fund(key.address, Wei(10 * ETHER))
    files = prepare_server(folder, url, market.address, key, hpke_key)
    writer = MarketWriter(market, Sender(market.chain, key.secret))
    writer.register_server(files.endpoint, hpke_key.public, STAKE_WEI)
    return files


def _found_store(market: MarketReader, files: ServerFiles) -> None:
    """Create a server's store before its first task: later it would have to be reconciled."""
    open_store(market, files).close()


def open_store(market: MarketReader, files: ServerFiles) -> Repository:
    """Open a server's store as the server does."""
    url = files.settings.get("storage", {}).get("database_url")
    return Repository(
        files.folder / str(files.settings["server"]["data"]),
        chain_id=market.chain.chain_id,
        contract=market.address,
        server=files.key.address,
        database_url=None if url is None else str(url),
    )


def _create(
    market: MarketReader,
    buyer: MarketWriter,
    servers: list[ServerFiles],
    specification: TaskSpecification,
) -> TaskId:
    """Create the task, with consents signed here: most of the servers never run."""
    terms, members = chain_terms(specification), specification.members
    expires = market.chain.head_timestamp() + 3_600
    consent = Consent(
        model_owner=Address(specification.model_owner),
        terms_hash=terms_hash(terms, members),
        expires=expires,
    )
    consents = [server.key.sign(consent, market.domain) for server in servers]
    return buyer.create_task(terms, members, expires=expires, consents=consents)


def _specification(
    servers: list[ServerFiles],
    buyer_key: SigningKey,
    hpke_key: Hash32,
    committee: Committee,
    dimension: int,
    max_owners: int,
    windows: Windows,
) -> TaskSpecification:
    tensor = TensorSlot(name="weights", shape=(dimension,), scale=1.0)
    return TaskSpecification(
        title="random vectors",
        description="A task that loads and troubles servers.",
        model_licence="not distributed",
        contact="whoever runs the test",
        servers=committee.servers,
        committee=tuple(
            CommitteeMember(
                address=server.key.address,
                endpoint=server.endpoint,
                hpke_key=server.hpke_key.public,
            )
            for server in servers
        ),
        min_stake_wei=Wei(STAKE_WEI // 10),
        privacy=committee.privacy,
        errors=committee.errors,
        tests=128,
        fractional_bits=16,
        components=(Component(name="gradient", tensors=(tensor,)),),
        profile="gauge",
        input_shape=(1,),
        preprocessing="none",
        loss="mse",
        rounds=1,
        max_rounds=1,
        min_owners=2,
        max_owners=max_owners,
        reward_wei=REWARD_WEI,
        fee_wei=FEE_WEI,
        opening_fee_wei=REWARD_WEI,
        token=ETHER_TOKEN,
        admission=Admission(mode="open", min_bond_wei=BOND_WEI),
        windows=windows,
        model_owner=buyer_key.address,
        model_owner_hpke_key=hpke_key,
    )
