"""Attacks on what parties take in: keys, packages, complaints, artefacts; with real components."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from market_attacks import (
    ASKER,
    another_signature,
    audit,
    create_with_all_consents,
    make_honest,
    name_askers,
    records,
    rubbish,
    show,
    state_of,
    sweep,
)
from market_world import MarketWorld, expected_sum, market_world
from submitting import in_memory

from omnilytics.api.application import create_application
from omnilytics.chain.bindings.market import RoundOpened
from omnilytics.demo import drive
from omnilytics.demo.market import _start_server
from omnilytics.foundation.errors import ChainError, ConfigError, PeerError, VerificationError
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Round, TaskId
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package_builder import PackageBuilder, Packages
from omnilytics.roles.data_owner import DataOwner
from omnilytics.roles.server import board, complaints
from omnilytics.roles.server.intake import ARTEFACTS_PER_ROUND
from omnilytics.roles.task_view import (
    TaskView,
    check_specification,
    round_context,
)
from omnilytics.transport.authentication import HEADER, authenticate
from omnilytics.transport.client import BoardItem, artefact_path, held_path, package_path
from omnilytics.transport.hpke import HpkeKey, seal_package
from omnilytics.transport.retries import ATTEMPTS
from omnilytics.transport.sealed_files import Sealed
from omnilytics.wire.envelope import Signed
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.messages import Complaint
from omnilytics.wire.package import Opening, SealedPackage
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.transcript import OpeningReference


def test_a_model_owner_cannot_put_its_own_keys_or_endpoints(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            market = world.market
            honest = world.view.specification
            own_key = HpkeKey.generate(SystemRandomness()).public
            updates: list[dict[str, object]] = [
                {"hpke_key": own_key},
                {"endpoint": "http://model-owner.example"},
            ]
            for index, update in enumerate(updates):
                # One member suffices: the check must be of each.
                members = list(honest.committee)
                members[2 + index] = members[2 + index].model_copy(update=update)
                forged = honest.model_copy(update={"committee": tuple(members)})
                with pytest.raises(PeerError, match=r"does not agree .*another endpoint or key"):
                    await market.model_owner.publish_task(forged)
                # Had all servers agreed, it would still serve nobody.
                task = create_with_all_consents(market, forged)
                content = forged.encode()
                with pytest.raises(VerificationError, match="another endpoint or key"):
                    check_specification(market.reader, task, content)
                name = content_hash(content)
                for server in range(1, 6):
                    headers = market.model_owner._authenticate(
                        "PUT", artefact_path(task, name), content, task, Round(0)
                    )
                    client = market.network.connect(world.endpoint(server))
                    with pytest.raises(PeerError, match=r"403 .*another endpoint or key"):
                        await client.put_artefact(task, name, content, headers)
                # A server in league with the model owner publishes it all the same.
                market.servers[0].node.repository.publish(content)
                with pytest.raises(VerificationError, match="another endpoint or key"):
                    await market.owners[0].contribute(task, Round(1))
                with pytest.raises(VerificationError, match="another endpoint or key"):
                    await market.servers[1].node.view(task)

    asyncio.run(scenario())


async def _put(
    world: MarketWorld, server: int, path: str, body: bytes, headers: dict[str, str]
) -> int:
    http = world.market.network._clients[world.endpoint(server)]
    return (
        await http.put(world.endpoint(server) + path, content=body, headers=headers)
    ).status_code


def _signed_put(
    world: MarketWorld, key: SigningKey, path: str, body: bytes, round_number: Round
) -> dict[str, str]:
    owner = world.market.owners[0]
    return authenticate(
        method="PUT",
        path=path,
        body=body,
        task=world.view.task,
        round_number=round_number,
        time=int(owner._now()),
        key=key,
        domain=world.market.reader.domain,
        randomness=owner.randomness,
    )


def test_nobody_leaves_rubbish_in_an_owners_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            task, owner = world.view.task, world.market.owners[0]
            malicious = world.market.servers[4].node.key
            answers: list[int] = []

            async def poison(request: httpx.Request) -> httpx.Response:
                """Server 5 leaves rubbish for itself, and for server 4, with all others."""
                if request.url.path == package_path(task, Round(1), owner.address):
                    bad = rubbish(SealedPackage.decode(await request.aread(), max_bytes=1 << 30))
                    number = Round(1)
                    for server in (1, 2, 3, 4):
                        for victim in (4, 5):
                            header = bad.header.model_copy(update={"server": victim})
                            body = SealedPackage(header=header, chunks=bad.chunks).encode()
                            path = held_path(task, number, victim, owner.address)
                            forged = _signed_put(world, malicious, path, body, number)
                            stolen = {HEADER: request.headers[HEADER]}
                            answers.extend(
                                [
                                    await _put(world, server, path, body, headers)
                                    for headers in ({}, forged, stolen)
                                ]
                            )
                raise httpx.ConnectError("no answer", request=request)

            world.market.network._clients[world.endpoint(5)] = httpx.AsyncClient(
                transport=httpx.MockTransport(poison)
            )
            opened, contributions = await world.open_and_contribute([0, 1])
            assert len(answers) == ATTEMPTS * 4 * 2 * 3  # each time that the owner tries server 5
            assert set(answers) == {403}
            certificate = contributions[owner.address].certificate
            assert {entry.server for entry in certificate.receipts} == {1, 2, 3, 4}
            assert {entry.server for entry in certificate.held} == {5}
            world.reconnect(5)
            settled = await world.settle(opened)
            assert settled is not None
            assert (settled.v_bitmap, settled.accepted_count) == (0b11111, 2)
            assert records(world, 1, opened.round, board.COMPLAINT) == []

    asyncio.run(scenario())


@pytest.mark.slow
def test_an_owners_signed_request_serves_for_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            task, owner = world.view.task, world.market.owners[0]
            opened = await world.market.model_owner.open_round()
            context = round_context(world.market.reader, task, opened.round)
            sent = owner._sent[task] = await owner._prepare(world.view, context)
            own = package_path(task, opened.round, owner.address)
            for_3 = held_path(task, opened.round, 3, owner.address)
            for_4 = held_path(task, opened.round, 4, owner.address)
            package = in_memory(sent.sealed[2])
            body, bad = package.encode(), rubbish(package).encode()
            sign = owner._delivery(world.view, context)._authenticate
            headers = sign(for_3, body)
            attempts = [
                (1, for_3, bad, headers),  # another body
                (1, for_4, body, headers),  # another path
                (1, own, body, headers),
                (3, own, body, headers),  # its own server, but signed as to be held
                (2, own, body, sign(own, body)),  # another server
                (1, for_4, body, sign(for_4, body)),  # for another server
            ]
            assert [await _put(world, *attempt) for attempt in attempts] == [403] * len(attempts)
            assert await _put(world, 1, for_3, body, headers) == 200
            second = sign(for_3, bad)
            assert await _put(world, 1, for_3, bad, second) == 409  # it holds one already
            assert await _put(world, 1, for_3, body, headers) == 200  # a repeat changes nothing
            contribution = await owner.contribute(task, opened.round)
            assert len(contribution.certificate.receipts) == 5

    asyncio.run(scenario())


def test_only_a_bad_package_makes_a_server_complain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            world.cut_off(3)
            opened, _ = await world.open_and_contribute([0, 1])
            world.reconnect(3)
            world.market.chain.wait_for_time(opened.submission_deadline)
            server = world.market.servers[2]
            for place, name, error in (
                (complaints, "round_context", ChainError("the node does not answer")),
                (server.node.repository, "add_package", ConfigError("the disk is full")),
                (server.node.repository, "add_package", OSError("the disk is full")),
            ):

                def fail(*_: object, error: Exception = error, **__: object) -> None:
                    raise error

                with monkeypatch.context() as patch:
                    patch.setattr(place, name, fail)
                    with pytest.raises(type(error)):
                        await server.step(world.view.task)
            assert records(world, 3, opened.round, board.COMPLAINT) == []
            settled = await world.settle(opened)
            assert settled is not None
            assert (settled.v_bitmap, settled.accepted_count) == (0b11111, 2)
            for place_of in range(1, 6):
                assert records(world, place_of, opened.round, board.COMPLAINT) == []

    asyncio.run(scenario())


def _packages_of_another_commitment(owner: DataOwner, view: TaskView) -> Packages:
    sent = owner._sent[view.task]
    builder = PackageBuilder(view.parameters, sent.context, owner.key, owner.randomness)
    return builder.build(sent.vector)


class _TwoFacedOwner(DataOwner):
    """Seals server 3's package to nobody and answers its complaint with another commitment's."""

    comes_round = False
    """Whether it answers rightly after all."""

    def _seal(
        self, view: TaskView, context: RoundContext, packages: Packages, folder: Path
    ) -> Sequence[Sealed]:
        sealed = list(super()._seal(view, context, packages, folder))
        nobody = HpkeKey.generate(SystemRandomness()).public
        sealed[2] = seal_package(packages[2], nobody, context)
        return sealed

    async def answer_complaints(self, task: TaskId) -> bool:
        sent = self._sent.get(task)
        if sent is None:
            return False
        right, answered = sent.packages, set(sent.answered)
        view = await self.view(task)
        sent.packages = _packages_of_another_commitment(self, view)
        assert sent.packages[2].header.commitment != right[2].header.commitment
        assert not await super().answer_complaints(task)  # no server takes it
        sent.packages = right
        sent.answered = answered
        return self.comes_round and await super().answer_complaints(task)


@pytest.mark.slow
def test_a_complaint_is_not_answered_by_another_commitment(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            make_honest(world)
            honest = [owner.address for owner in world.market.owners[:2]]
            cheat = world.market.owners[2]
            cheat.__class__ = _TwoFacedOwner
            assert isinstance(cheat, _TwoFacedOwner)
            _show_openings_of_another_commitment(world, cheat)
            for comes_round in (False, True):
                cheat.comes_round = comes_round
                opened, contributions = await world.open_and_contribute([0, 1, 2])
                settled = await world.settle(opened)
                assert settled is not None
                assert settled.v_bitmap == 0b11111  # server 3 was not silenced
                accepted = [*honest, cheat.address] if comes_round else honest
                assert (await audit(world))[-1].resolution.accepted == tuple(sorted(accepted))
                recovered = await world.recover(settled)
                assert np.array_equal(recovered.total, expected_sum(contributions, accepted))

    asyncio.run(scenario())


def _show_openings_of_another_commitment(world: MarketWorld, cheat: DataOwner) -> None:
    """Let server 5 announce and serve such an opening as well."""
    repository = world.market.servers[4].node.repository
    others: dict[Round, Opening] = {}

    def change(kinds: tuple[str, ...], items: list[BoardItem]) -> list[BoardItem]:
        sent = cheat._sent.get(world.view.task)
        if board.OPENING not in kinds or sent is None:
            return items
        number = sent.context.round
        if number not in others:
            others[number] = _packages_of_another_commitment(cheat, world.view)[2]
        name = repository.publish(others[number].encode())
        reference = OpeningReference(owner=cheat.address, server=3, opening_hash=name)
        return [BoardItem(kind=board.OPENING, body=reference.encode()), *items]

    show(world.market.servers[4], change)


SPLITS = [("complaint", 1), ("complaint", 2), ("hearing", 1), ("hearing", 2), ("hearing", 3)]


@pytest.mark.slow
def test_a_complaint_shown_to_some_at_the_last_moment_divides_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=6, rounds=5) as world:
            make_honest(world)
            name_askers(world)
            shown_to: set[int] = set()

            def hide(kinds: tuple[str, ...], items: list[BoardItem]) -> list[BoardItem]:
                known = ASKER.get() in shown_to
                return [item for item in items if known or item.kind != board.COMPLAINT]

            show(world.market.servers[4], hide)
            victim = world.market.owners[2]
            victim.answer_complaints = _no_answer  # type: ignore[assignment,method-assign]
            for moment, first in SPLITS:
                shown_to.clear()
                opened = await _refused_by_server_5(world)
                _complain(world, victim, opened)
                state = state_of(world)
                cut_off = getattr(complaints, f"{moment}_cut_off")(world.view, state)
                world.market.chain.wait_for_time(opened.submission_deadline)
                await sweep(world)
                world.market.chain.wait_for_time(cut_off - 1)
                shown_to.add(first)
                await sweep(world, [world.market.servers[first - 1]])
                assert len(records(world, first, opened.round, board.COMPLAINT)) == 1
                world.market.chain.wait_for_time(cut_off)
                shown_to.update(range(1, 5))
                settled = await world.settle(opened)
                assert settled is not None, (moment, first)
                # Heard in time by one, it forbids to seal the owner; else it came too late.
                assert settled.accepted_count == (2 if moment == "complaint" else 3)
                assert settled.v_bitmap & 0b1111 == 0b1111

    asyncio.run(scenario())


async def _no_answer(_task: TaskId) -> bool:
    return False


async def _refused_by_server_5(world: MarketWorld) -> RoundOpened:
    """Let three owners contribute while server 5 gives no receipt."""
    world.cut_off(5)
    opened, _ = await world.open_and_contribute([0, 1, 2])
    world.reconnect(5)
    return opened


def _complain(world: MarketWorld, owner: DataOwner, opened: RoundOpened) -> None:
    """Let server 5 complain without cause, on its own board."""
    node = world.market.servers[4].node
    sent = owner._sent[world.view.task]
    message = Complaint(
        task=world.view.task,
        round=opened.round,
        owner=owner.address,
        commitment=sent.packages[0].header.commitment,
    )
    body = node.sign(message).encode()
    node.publish_record(world.view.task, opened.round, board.COMPLAINT, 5, owner.address, body)


@pytest.mark.slow
def test_a_complaint_under_many_signatures_is_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "MAX_SWEEPS", 40)

    async def scenario() -> None:
        async with market_world(tmp_path, owners=6) as world:
            opened = await _refused_by_server_5(world)
            node = world.market.servers[4].node
            victim = world.market.owners[2]
            commitment = victim._sent[world.view.task].packages[0].header.commitment
            message = Complaint(
                task=world.view.task,
                round=opened.round,
                owner=victim.address,
                commitment=commitment,
            )

            def flood(kinds: tuple[str, ...], items: list[BoardItem]) -> list[BoardItem]:
                if board.COMPLAINT not in kinds:
                    return items
                signatures = [
                    another_signature(node.key, message, node.market.domain) for _ in range(3)
                ]
                return items + [
                    BoardItem(kind=board.COMPLAINT, body=Signed(message, signature).encode())
                    for signature in signatures
                ]

            show(world.market.servers[4], flood)
            settled = await world.settle(opened)
            assert settled is not None
            for server in range(1, 5):
                assert len(records(world, server, opened.round, board.COMPLAINT)) == 1

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_server_outside_the_committee_takes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            market, task = world.market, world.view.task
            outside = _start_server(
                market.options, 6, market.reader, market.network, market.meter, tmp_path
            )
            market.servers.append(outside)  # so that its database is closed
            assert outside.node.address not in world.view.parameters.members
            endpoint = market.reader.server(outside.node.address).endpoint
            http = httpx.AsyncClient(transport=httpx.ASGITransport(app=create_application(outside)))
            opened, _ = await world.open_and_contribute([0])
            owner = market.owners[1]
            context = round_context(market.reader, task, opened.round)
            sent = await owner._prepare(world.view, context)
            own = package_path(task, opened.round, owner.address)
            held = held_path(task, opened.round, 2, owner.address)
            content = b"junk" * 1000
            junk = artefact_path(task, content_hash(content))
            next_round = Round(opened.round + 1)
            sign = owner._delivery(world.view, context)._authenticate
            first, second = (in_memory(sealed).encode() for sealed in sent.sealed[:2])
            by_model_owner = market.model_owner._authenticate(
                "PUT", junk, content, task, next_round
            )
            for path, body, headers in (
                (own, first, sign(own, first)),
                (held, second, sign(held, second)),
                (junk, content, by_model_owner),
            ):
                answer = await http.put(endpoint + path, content=body, headers=headers)
                assert answer.status_code == 403, answer.text
                assert "not in the task's committee" in answer.text
            assert outside.blob(content_hash(content)) is None
            answer = await http.post(f"{endpoint}/v1/tasks/{task}/rounds/1/certificates")
            assert 400 <= answer.status_code < 500
            with pytest.raises(VerificationError, match="not in the task's committee"):
                await outside.node.view(task)
            await http.aclose()

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_model_owner_fills_no_disk_with_artefacts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            task, model_owner = world.view.task, world.market.model_owner
            server = world.market.servers[0]
            used: list[dict[str, str]] = []

            async def put(content: bytes, round_number: int) -> int:
                path = artefact_path(task, content_hash(content))
                used.append(
                    model_owner._authenticate("PUT", path, content, task, Round(round_number))
                )
                return await _put(world, 1, path, content, used[-1])

            contents = [bytes([index]) * 100 for index in range(ARTEFACTS_PER_ROUND + 3)]
            answers = [await put(content, 1) for content in contents]
            assert answers == [204] * ARTEFACTS_PER_ROUND + [403] * 3
            assert await put(contents[0], 1) == 204  # what it has already
            assert await put(b"of a later round", 2) == 403
            path = artefact_path(task, content_hash(contents[0]))
            assert await _put(world, 1, path, contents[0], used[0]) == 403  # a used request
            assert [server.blob(content_hash(content)) is not None for content in contents] == [
                answer == 204 for answer in answers
            ]

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_retry_sends_the_same_commitment(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            task, owner = world.view.task, world.market.owners[0]
            opened = await world.market.model_owner.open_round()
            for server in (4, 5):
                world.cut_off(server)
            with pytest.raises(VerificationError, match="too few receipts"):
                await owner.contribute(task, opened.round)
            for server in (4, 5):
                world.reconnect(server)
            first = await owner.contribute(task, opened.round)
            again = await owner.contribute(task, opened.round)
            assert first.certificate == again.certificate
            assert len(first.certificate.receipts) == 5
            assert np.array_equal(first.vector, again.vector)
            await world.market.owners[1].contribute(task, opened.round)
            settled = await world.settle(opened)
            assert settled is not None
            assert (settled.v_bitmap, settled.accepted_count) == (0b11111, 2)

    asyncio.run(scenario())


def test_an_owner_refuses_to_be_summed_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, specification={"min_owners": 1}) as world:
            opened = await world.market.model_owner.open_round()
            owner = world.market.owners[0]
            with pytest.raises(VerificationError, match="fewer owners"):
                await owner.contribute(world.view.task, opened.round)
            assert owner._sent == {}
            for server in range(1, 6):
                repository = world.market.servers[server - 1].node.repository
                assert repository.owner_count(world.view.task, opened.round) == 0

    asyncio.run(scenario())
