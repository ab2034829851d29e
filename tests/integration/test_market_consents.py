"""Servers agree to a task before it exists, or refuse it; a task is paid once; draws are real."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from market_attacks import settled_rounds, state_of
from market_world import MarketWorld, expected_sum, market_world

from omnilytics.chain.records import OfferRecord, Phase
from omnilytics.chain.writer import terms_hash
from omnilytics.demo.market import seat_committee
from omnilytics.demo.terms import FEE_WEI, OPENING_FEE_WEI, RISK_WEI
from omnilytics.foundation.errors import (
    ChainError,
    PeerError,
    UsageError,
    VerificationError,
)
from omnilytics.foundation.units import Address, Round, TaskId, Wei, show_address
from omnilytics.roles.server.policy import MAX_CONSENT_SECONDS, Price, longest_round_seconds
from omnilytics.roles.task_view import chain_terms
from omnilytics.transport.authentication import authenticate
from omnilytics.transport.client import ServerClient
from omnilytics.transport.consents import (
    CONSENTS_PATH,
    MAX_CONSENT_BYTES,
    NO_ROUND,
    NO_TASK,
    ConsentRequest,
)
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.messages import Consent
from omnilytics.wire.signatures import SigningKey, verify
from omnilytics.wire.task_specification import TaskSpecification


def _changed(world: MarketWorld, **changes: object) -> TaskSpecification:
    """Return another specification that all servers agree to but for the changes."""
    fields = world.view.specification.model_dump() | {"description": "another"} | changes
    return TaskSpecification.model_validate(fields)


def _question(specification: TaskSpecification, expires: int) -> bytes:
    return ConsentRequest(specification=specification.encode(), expires=expires).encode()


def _headers(
    world: MarketWorld,
    body: bytes,
    *,
    key: SigningKey | None = None,
    task: TaskId = NO_TASK,
    path: str = CONSENTS_PATH,
    domain: Domain | None = None,
) -> dict[str, str]:
    model_owner = world.market.model_owner
    return authenticate(
        method="POST",
        path=path,
        body=body,
        task=task,
        round_number=NO_ROUND,
        time=int(model_owner._now()),
        key=key or model_owner.key,
        domain=domain or world.market.reader.domain,
        randomness=model_owner._randomness,
    )


def _client(world: MarketWorld, server: int) -> ServerClient:
    return world.market.network.connect(world.endpoint(server))


async def _ask(
    world: MarketWorld, specification: TaskSpecification, *, seconds: int = 3_600
) -> bytes:
    """Ask server 1 with everything in order."""
    expires = world.market.chain.head_timestamp() + seconds
    body = _question(specification, expires)
    return await _client(world, 1).post_consent(body, _headers(world, body))


def test_a_server_signs_exactly_what_it_would_serve(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            reader, chain = world.market.reader, world.market.chain
            specification = _changed(world)
            expires = chain.head_timestamp() + MAX_CONSENT_SECONDS
            signature = await _ask(world, specification, seconds=MAX_CONSENT_SECONDS)
            terms = chain_terms(specification)
            agreed = Consent(
                model_owner=world.market.model_owner.key.address,
                terms_hash=terms_hash(terms, specification.members),
                expires=expires,
            )
            server = world.view.parameters.members[0]
            verify(agreed, signature, server, reader.domain)
            # The answer does not depend on when it was asked for, so nothing is kept of it.
            assert await _ask(world, specification, seconds=MAX_CONSENT_SECONDS) == signature
            other = replace(agreed, terms_hash=terms_hash(terms, specification.members[::-1]))
            with pytest.raises(VerificationError):
                verify(other, signature, server, reader.domain)

            committee = list(specification.committee)
            own_key = committee[0].model_copy(update={"hpke_key": committee[1].hpke_key})
            elsewhere = committee[1].model_copy(update={"endpoint": "http://elsewhere.example"})
            stranger = committee[2].model_copy(update={"address": world.market.owners[0].address})
            refused: list[tuple[dict[str, object], str]] = [
                ({"fee_wei": FEE_WEI - 1}, "fee per round is too small"),
                ({"opening_fee_wei": OPENING_FEE_WEI - 1}, "opening fee is too small"),
                ({"min_stake_wei": RISK_WEI + 1}, "stake is more than this server takes on"),
                ({"token": Address(b"t" * 20)}, "does not accept the token"),
                ({"max_rounds": 65_535}, "commitment is more than this server takes on"),
                ({"tests": 124}, "too few wraparound tests"),
                ({"max_owners": 4_001}, "more owners than one transcript"),
                ({"privacy": 2}, ""),
                ({"model_owner_hpke_key": bytes(32)}, "nothing can be sealed"),
                ({"model_owner": world.market.owners[0].address}, "only the task's model owner"),
                ({"committee": [own_key, *committee[1:]]}, "another endpoint or key"),
                ({"committee": [committee[0], elsewhere, *committee[2:]]}, "another endpoint"),
                ({"committee": [*committee[:2], stranger, *committee[3:]]}, "not registered"),
                ({"committee": [], "committee_mode": "drawn"}, "needs no consent"),
            ]
            for changes, reason in refused:
                with pytest.raises(PeerError, match=f"40[03] .*{reason}"):
                    await _ask(world, _changed(world, **changes))
            for seconds in (0, -1, MAX_CONSENT_SECONDS + 1):
                with pytest.raises(PeerError, match="hold too long, or is expired"):
                    await _ask(world, specification, seconds=seconds)
            # A specification that stops short of a server's own limits is taken.
            await _ask(world, _changed(world, fee_wei=FEE_WEI, min_stake_wei=RISK_WEI))
            node = world.market.servers[0].node
            bound = specification.max_rounds * longest_round_seconds(specification.windows)
            node.policy = replace(node.policy, longest_commitment_seconds=bound)
            await _ask(world, specification)
            node.policy = replace(node.policy, longest_commitment_seconds=bound - 1)
            with pytest.raises(PeerError, match="commitment is more"):
                await _ask(world, specification)
            token = Address(b"t" * 20)
            node.policy = replace(
                node.policy,
                prices=(Price(token=token, minimum_fee_wei=Wei(7)),),
                longest_commitment_seconds=bound,
            )
            await _ask(world, _changed(world, token=token, fee_wei=7))
            with pytest.raises(PeerError, match="fee per round"):
                await _ask(world, _changed(world, token=token, fee_wei=6))
            with pytest.raises(PeerError, match="does not accept the token"):
                await _ask(world, specification)

    asyncio.run(scenario())


def test_only_a_well_formed_request_of_the_model_owner_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            chain, client = world.market.chain, _client(world, 1)
            body = _question(_changed(world), chain.head_timestamp() + 60)
            owner = world.market.owners[0].key
            here = world.market.reader.domain
            elsewhere = [
                replace(here, chain_id=here.chain_id + 1),
                replace(here, contract=world.market.reader.registry),
            ]
            bad: list[tuple[bytes, dict[str, str], str]] = [
                (body, {}, "403 .*not authenticated"),
                (body, _headers(world, body, key=owner), "403 .*only the task's model owner"),
                (body, _headers(world, body + b"x"), "403 .*another request"),
                (body, _headers(world, body, path="/v1/other"), "403 .*another request"),
                (body, _headers(world, body, task=TaskId(1)), "403 .*a task that exists"),
                (b"", _headers(world, b""), "400 "),
                (b"\xa0", _headers(world, b"\xa0"), "400 "),
                (body[:-1], _headers(world, body[:-1]), "400 "),
            ]
            for domain in elsewhere:
                headers = _headers(world, body, domain=domain)
                bad.append((body, headers, "403 .*only the task's model owner"))
            huge = bytes(MAX_CONSENT_BYTES + 1)
            bad.append((huge, _headers(world, huge), "413 .*too large"))
            for content, headers, reason in bad:
                with pytest.raises(PeerError, match=reason):
                    await client.post_consent(content, headers)
            assert await client.post_consent(body, _headers(world, body))

    asyncio.run(scenario())


def test_nothing_is_paid_unless_all_servers_agree(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            market, model_owner = world.market, world.market.model_owner
            specification = _changed(world)
            spent = model_owner.writer.sender.gas_cost_wei
            node = market.servers[3].node
            polite = node.policy
            node.policy = replace(polite, most_stake_wei=Wei(RISK_WEI - 1))
            with pytest.raises(PeerError) as refusal:
                await model_owner.publish_task(specification)
            assert "stake is more than this server takes on" in str(refusal.value)
            assert refusal.value.ids["server"] == show_address(node.address)
            node.policy = polite

            # A signature of another server is no agreement either.
            market.servers[3].consenting, own = (
                market.servers[2].consenting,
                market.servers[3].consenting,
            )
            with pytest.raises(PeerError, match="signed by another key"):
                await model_owner.publish_task(specification)
            market.servers[3].consenting = own
            world.cut_off(2)
            with pytest.raises(PeerError, match="server does not answer"):
                await model_owner.publish_task(specification)
            world.reconnect(2)
            assert market.reader.task_of(model_owner.key.address, specification.hash()) is None
            assert model_owner.writer.sender.gas_cost_wei == spent

            view = await model_owner.publish_task(specification)
            assert market.reader.task(view.task).committee == view.parameters.members

    asyncio.run(scenario())


def test_a_leaving_or_poor_server_is_in_no_new_committee(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            for server in world.market.servers:
                server.node.policy = replace(server.node.policy, most_stake_wei=Wei(10**19))
            rich = _changed(world, min_stake_wei=10**18 + 1)
            with pytest.raises(PeerError, match="too little at stake"):
                await world.market.model_owner.publish_task(rich)
            world.market.servers[2].node.writer.leave()
            with pytest.raises(PeerError, match="is leaving"):
                await world.market.model_owner.publish_task(_changed(world))

    asyncio.run(scenario())


def test_a_task_is_taken_up_again_and_not_paid_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            market, model_owner = world.market, world.market.model_owner
            specification = _changed(world)
            # It crashes between creating the task and publishing the specification.
            crash = RuntimeError("crash")

            async def fail(*_arguments: object) -> None:
                raise crash

            publish, model_owner._publish = model_owner._publish, fail  # type: ignore[method-assign, assignment]
            with pytest.raises(RuntimeError, match="crash"):
                await model_owner.publish_task(specification)
            model_owner._publish = publish  # type: ignore[method-assign]
            task = market.reader.task_of(model_owner.key.address, specification.hash())
            assert task is not None
            held = market.chain.balance(market.reader.address)
            view = await model_owner.publish_task(specification)
            assert view.task == task
            assert market.chain.balance(market.reader.address) == held
            again = await model_owner.publish_task(specification)
            assert again.task == task
            opened = await model_owner.open_round()
            assert (opened.task, opened.round) == (task, Round(1))
            market.chain.wait_for_time(opened.submission_deadline + 3_601)
            model_owner.writer.void_round(task)
            model_owner.close_task()
            with pytest.raises(UsageError, match="is closed"):
                await model_owner.publish_task(specification)

    asyncio.run(scenario())


def test_a_committee_is_drawn_and_trains(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, committee_mode="drawn", servers=5) as world:
            market = world.market
            assert (len(market.servers), len(market.spares)) == (5, 2)
            drawn = set(world.view.parameters.members)
            assert drawn.isdisjoint(server.node.address for server in market.spares)
            assert market.reader.task(world.view.task).committee == world.view.parameters.members
            # Its specification names nobody: the chain does.
            stored = market.reader.task(world.view.task).terms.spec_hash
            for server in market.servers:
                content = server.node.repository.published(stored)
                assert content is not None
                written = TaskSpecification.decode(content, max_bytes=1 << 22)
                assert (written.committee, written.committee_mode) == ((), "drawn")
            opened, contributions = await world.open_and_contribute([0, 1])
            settled = await world.settle(opened)
            assert settled is not None
            recovered = await world.recover(settled)
            assert (recovered.total == expected_sum(contributions, list(contributions))).all()
            # A server that comes back without its specification gets it from a peer.
            world.restart(2)
            node = market.servers[1].node
            node.repository.published = lambda _name: None  # type: ignore[method-assign, assignment]
            assert (await node.view(world.view.task)).parameters.members == (
                world.view.parameters.members
            )
            with pytest.raises(VerificationError, match="not in the task's committee"):
                await market.spares[0].node.view(world.view.task)

    asyncio.run(scenario())


def test_a_draw_that_was_missed_is_asked_for_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, committee_mode="drawn") as world:
            market, model_owner = world.market, world.market.model_owner
            specification = TaskSpecification.model_validate(
                world.view.specification.model_dump() | {"committee": (), "description": "more"}
            )
            task = model_owner.writer.create_drawn_task(chain_terms(specification))
            assert market.reader.round_state(task).phase == Phase.DRAWING
            market.chain.wait_for_block(market.reader.draw_state(task).pinned_block + 300)
            with pytest.raises(ChainError):
                model_owner.writer.reveal_draw(task)
            view = await model_owner.publish_task(specification)
            assert view.task == task
            assert market.reader.draw_state(task).draws == 2
            assert len(view.parameters.members) == 5
            # Anybody may draw: one that was faster is no error.
            other = specification.model_copy(update={"description": "once more"})
            task = model_owner.writer.create_drawn_task(chain_terms(other))
            market.chain.wait_for_block(market.reader.draw_state(task).pinned_block + 4)
            market.owners[0].writer.reveal_draw(task)
            market.owners[0].writer.draw_committee(task)
            assert (await model_owner.publish_task(other)).task == task

            # Servers whose offer asks for more than the task pays are not drawn.
            for server in market.servers[:3]:
                dear = OfferRecord(min_fee_wei=Wei(FEE_WEI + 1), max_stake_wei=RISK_WEI)
                server.node.writer.set_offer(dear)
            last = specification.model_copy(update={"description": "the last"})
            with pytest.raises(ChainError, match="too few servers offer"):
                await model_owner.publish_task(last)
            market.servers = market.servers + market.spares
            market.spares = []
            seat_committee(market, view)

    asyncio.run(scenario())


def test_an_unusable_answer_names_the_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:

            def answer(_request: httpx.Request) -> httpx.Response:
                return httpx.Response(200, content=b"\x40")

            transport = httpx.MockTransport(answer)
            client = httpx.AsyncClient(transport=transport)
            world.market.network._clients[world.endpoint(5)] = client
            with pytest.raises(PeerError, match="not a signature") as refusal:
                await world.market.model_owner.publish_task(_changed(world))
            assert refusal.value.ids["endpoint"] == world.endpoint(5)
            assert state_of(world).round == 0
            assert settled_rounds(world) == ()

    asyncio.run(scenario())
