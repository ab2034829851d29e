"""Certificates that owners put on chain: every server insists on them (protocol.md section 6.2)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from market_attacks import audit, records, show, state_of
from market_world import MarketWorld, expected_sum, market_world

from omnilytics.chain.bindings.market import RoundOpened
from omnilytics.demo.terms import REWARD_WEI
from omnilytics.foundation.errors import ChainError, PeerError, VerificationError
from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.protocol import certificate as certificates
from omnilytics.roles.data_owner import DataOwner
from omnilytics.roles.server import Server, board, sealing
from omnilytics.transport.client import BoardItem, ServerClient
from omnilytics.wire.messages import Submission
from omnilytics.wire.transcript import Certificate, Manifest

SEQUENCER = 2
"""Whose turn it is first in round 1: committee[round mod n]."""


def _censor(server: Server, owner: Address) -> None:
    """Make a server take an owner's certificate, show it to nobody and seal without it."""
    node = server.node
    plain = node.certificates

    def blind(*arguments: Any) -> dict[Address, Certificate]:
        found = plain(*arguments)
        found.pop(owner, None)
        return found

    def without(_kinds: tuple[str, ...], items: list[BoardItem]) -> list[BoardItem]:
        return [
            item
            for item in items
            if item.kind != board.CERTIFICATE
            or Certificate.decode(item.body, max_bytes=1 << 20).owner != owner
        ]

    node.certificates = blind  # type: ignore[method-assign, assignment]
    server.sealing._take_forced = lambda _view, _state: False  # type: ignore[method-assign, assignment]
    show(server, without)


def _cut_certificates_off(world: MarketWorld, owner: DataOwner, but: int) -> None:
    """Let an owner's certificate reach one server alone; all else reaches everybody."""
    plain = owner._connect

    def connect(endpoint: str) -> ServerClient:
        client = plain(endpoint)

        async def lost(*_arguments: object) -> None:
            raise PeerError("the network drops it")

        if endpoint != world.endpoint(but):
            client.post_certificate = lost  # type: ignore[method-assign, assignment]
        return client

    owner._connect = connect


async def _contribute_censored(world: MarketWorld) -> tuple[RoundOpened, dict[Address, Any]]:
    """Let owners 1 and 2 contribute as usual, and owner 3 be censored by the sequencer."""
    censored = world.market.owners[2]
    opened, contributions = await world.open_and_contribute([0, 1])
    _cut_certificates_off(world, censored, SEQUENCER)
    _censor(world.market.servers[SEQUENCER - 1], censored.address)
    with pytest.raises(PeerError, match="too few servers took the certificate"):
        await censored.contribute(world.view.task, opened.round)
    return opened, contributions


def _honest_votes_without(world: MarketWorld, round_number: Round, owner: Address) -> int:
    """Count honest servers' votes for manifests that leave an owner out."""
    found = 0
    for server in range(1, 6):
        manifests = {
            record.subject: Manifest.decode(record.body, max_bytes=1 << 22)
            for record in records(world, server, round_number, board.MANIFEST)
        }
        for record in records(world, server, round_number, board.SEAL_VOTE):
            manifest = manifests.get(record.subject)
            if record.server != SEQUENCER and manifest and owner not in manifest.owners:
                found += 1
    return found


def test_without_forcing_a_censored_owner_is_left_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=6) as world:
            opened, contributions = await _contribute_censored(world)
            censored = world.market.owners[2]
            settled = await world.settle(opened)
            assert settled is not None
            assert settled.accepted_count == 2
            recovered = await world.recover(settled)
            assert np.array_equal(recovered.total, expected_sum(contributions, list(contributions)))
            assert _honest_votes_without(world, opened.round, censored.address) > 0
            assert await censored.claim(world.view.task) is None

    asyncio.run(scenario())


@pytest.mark.parametrize("down", [None, 4])
def test_a_forced_certificate_is_sealed_and_paid(tmp_path: Path, down: int | None) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=6) as world:
            if down is not None:
                world.cut_off(down)  # then others hold its packages
            opened, contributions = await _contribute_censored(world)
            if down is not None:
                world.reconnect(down)
            censored = world.market.owners[2]
            receipt = await censored.force_if_hidden(world.view.task)
            assert receipt is not None
            assert receipt.gas_used < 700_000
            (event,) = world.market.reader.forced_submissions(world.view.task, opened.round)
            assert event.sender == censored.address
            assert await censored.force_if_hidden(world.view.task) is None  # once is enough
            settled = await world.settle(opened)
            assert settled is not None
            assert settled.accepted_count == 3
            assert _honest_votes_without(world, opened.round, censored.address) == 0
            (audited,) = await audit(world)
            assert censored.address in audited.resolution.accepted
            total = expected_sum(contributions, list(contributions))
            sent = censored._sent[world.view.task]
            recovered = await world.recover(settled)
            assert np.array_equal(recovered.total, total + sent.vector)
            assert await censored.claim(world.view.task) is not None
            paid = world.market.reader.claimed(world.view.task, censored.address)
            assert paid == REWARD_WEI

    asyncio.run(scenario())


def test_an_owner_forces_only_what_is_hidden_and_only_in_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=6) as world:
            market, task = world.market, world.view.task
            opened, _ = await world.open_and_contribute([0, 1])
            shown, hidden = market.owners[0], market.owners[2]
            assert await shown.force_if_hidden(task) is None  # everybody has it
            assert await market.owners[1].force_if_hidden(TaskId(task + 1)) is None
            # Its answers were lost, but the boards show that it arrived.
            shown._sent[task].taken_by = set()
            assert await shown.force_if_hidden(task) is None
            assert shown._sent[task].taken_by == {1, 2, 3, 4, 5}
            _cut_certificates_off(world, hidden, SEQUENCER)
            with pytest.raises(PeerError):
                await hidden.contribute(task, opened.round)
            body = hidden._sent[task].certificate
            assert body is not None
            market.chain.wait_for_time(opened.submission_deadline)
            assert await hidden.force_if_hidden(task) is None
            with pytest.raises(ChainError, match="too late to force"):
                hidden.writer.force_submission(task, body.encode())
            settled = await world.settle(opened)
            assert settled is not None
            # Only the sequencer held it, and it is honest here.
            assert settled.accepted_count == 3

    asyncio.run(scenario())


def test_invalid_forced_certificates_are_ignored_and_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[Certificate] = []

    def counting(certificate: Certificate, **rest: Any) -> None:
        looked_at.append(certificate)
        certificates.check_certificate(certificate, **rest)

    async def scenario() -> None:
        async with market_world(tmp_path, owners=6) as world:
            market, task = world.market, world.view.task
            opened, contributions = await world.open_and_contribute([0, 1])
            victim, good = market.owners[2], contributions[market.owners[0].address].certificate
            # Its promise is true, its receipts are not.
            promise = Submission(task=task, round=opened.round, commitment=good.commitment)
            own = {
                "owner": victim.address,
                "submission_signature": victim.key.sign(promise, market.reader.domain),
            }
            forged = [
                good.model_copy(update={"owner": victim.address}),
                good.model_copy(update=own),
                good.model_copy(update={"receipts": good.receipts[:3]}),
                good.model_copy(update={"owner": market.servers[0].node.address}),
            ]
            contents = [certificate.encode() for certificate in forged]
            contents += [b"", b"junk", good.encode() + b"\x00", bytes(8_192)]
            for content in contents * 2:
                victim.writer.force_submission(task, content)
            monkeypatch.setattr(sealing, "check_certificate", counting)
            market.chain.wait_for_time(opened.submission_deadline)
            for _ in range(3):
                for server in market.servers:
                    server.sealing._take_forced(world.view, state_of(world))
            assert len(looked_at) == len(forged) * len(market.servers)
            settled = await world.settle(opened)
            assert settled is not None
            assert settled.accepted_count == 2
            for server in market.servers:
                kept = server.node.certificates(task, opened.round)
                assert set(kept) == set(contributions)

    asyncio.run(scenario())


def test_a_forced_certificate_counts_though_it_was_only_pulled_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=6) as world:
            market, view = world.market, world.view
            opened, _ = await world.open_and_contribute([0, 1])
            owner, server = market.owners[2], market.servers[3]
            _cut_certificates_off(world, owner, SEQUENCER)
            with pytest.raises(PeerError):
                await owner.contribute(view.task, opened.round)
            certificate = owner._sent[view.task].certificate
            assert certificate is not None
            assert await owner.force_if_hidden(view.task) is not None
            node, manifest = (
                server.node,
                Manifest(task=view.task, round=opened.round, certificates=()),
            )
            market.chain.wait_for_time(opened.submission_deadline)
            node.publish_certificate(view.task, opened.round, certificate, pulled=True)
            own = (board.CERTIFICATE,)
            assert owner.address not in node.certificates(view.task, opened.round, own)
            server.sealing._take_forced(view, state_of(world))
            assert owner.address in node.certificates(view.task, opened.round, own)
            with pytest.raises(VerificationError, match="leaves out a certified owner"):
                server.sealing._check(view, state_of(world), manifest)

    asyncio.run(scenario())
