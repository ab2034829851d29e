"""Servers are named for a task only with their signatures, on exactly that task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
from contract_world import STAKE, World, refused, shared_world

from omnilytics.chain.abi import Signature
from omnilytics.chain.bindings import market
from omnilytics.chain.records import TaskTerms
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import compact_signature, contract_terms, terms_hash
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, Wei
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.messages import Consent, Final

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


def create(
    world: World,
    terms: TaskTerms,
    expires: int,
    consents: Sequence[bytes | Signature],
    *,
    committee: Sequence[Address] | None = None,
    sender: Sender | None = None,
) -> TaskId:
    """Send a creation as it stands."""
    compact = [c if isinstance(c, Signature) else compact_signature(c) for c in consents]
    members = list(world.committee if committee is None else committee)
    arguments = (contract_terms(terms), members, expires, compact)
    world.send("create_task", *arguments, sender=sender, value=terms.escrow_wei)
    return TaskId(world.reader.task_count())


def soon(world: World) -> int:
    return world.chain.head_timestamp() + 100


def good(world: World, terms: TaskTerms, expires: int) -> list[bytes]:
    return world.consents(terms, world.committee, world.model_owner.address, expires)


CHANGES: list[dict[str, Any]] = [
    {"spec_hash": Hash32(b"\x05" * 32)},
    {"token": Address(b"\x05" * 20)},
    {"t": 2, "e": 0},
    {"e": 0},
    {"min_stake_wei": STAKE + 1},
    {"min_bond_wei": 1},
    {"allow_root": Hash32(b"\x05" * 32)},
    {"reward_wei": 999},
    {"fee_wei": 69},
    {"opening_fee_wei": 12},
    {"rounds": 3},
    {"max_rounds": 7},
    {"min_owners": 3},
    {"max_owners": 999},
    {"submission_seconds": 601},
    {"forced_seconds": 121},
    {"seal_seconds": 121},
    {"delta": 1},
    {"confirmations": 0},
    {"words_blocks": 6},
    {"openings_blocks": 9},
    {"settlement_blocks": 13},
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: next(iter(changes)))
def test_a_consent_is_to_every_term(world: World, changes: dict[str, Any]) -> None:
    """The servers agreed to other terms than those of the call."""
    terms, expires = world.terms(), soon(world)
    agreed = world.terms(**{"spec_hash": terms.spec_hash, **changes})
    assert agreed != terms
    with refused("bad signature"):
        create(world, terms, expires, good(world, agreed, expires))
    create(world, terms, expires, good(world, terms, expires))


def test_all_terms_are_changed_above() -> None:
    names = {name for changes in CHANGES for name in changes}
    assert names == {field.name for field in fields(market.Terms)}


def test_a_consent_is_to_the_committee_and_its_order(world: World) -> None:
    terms, expires = world.terms(), soon(world)
    other = world.server()
    # All agree to be among others, or at other places.
    mixed = (world.committee[1], world.committee[0], *world.committee[2:])
    larger = (*world.committee, other.address)
    for committee in (mixed, larger):
        consents = world.consents(terms, committee, world.model_owner.address, expires)
        with refused("bad signature"):
            create(world, terms, expires, consents[:5])
    swapped = good(world, terms, expires)
    swapped[0], swapped[1] = swapped[1], swapped[0]
    with refused("bad signature"):
        create(world, terms, expires, swapped)
    consents = world.consents(terms, mixed, world.model_owner.address, expires)
    create(world, terms, expires, consents, committee=mixed)
    assert world.reader.task(TaskId(1)).committee == mixed


def test_a_consent_is_to_one_model_owner(world: World) -> None:
    terms, expires = world.terms(), soon(world)
    consents = good(world, terms, expires)
    with refused("bad signature"):
        create(world, terms, expires, consents, sender=world.account())
    create(world, terms, expires, consents)


def test_a_consent_expires(world: World) -> None:
    terms = world.terms()
    expires = world.chain.head_timestamp() + 10
    consents = good(world, terms, expires)
    with refused("bad signature"):  # one cannot say otherwise
        create(world, terms, expires + 1, consents)
    world.chain.jump(expires)
    with refused("consents expired"):
        create(world, terms, expires, consents)
    in_time = soon(world)
    world.chain.jump(in_time - 1)
    create(world, terms, in_time, good(world, terms, in_time))  # mined at exactly that time
    assert world.chain.head_timestamp() == in_time


def test_a_consent_for_ever(world: World) -> None:
    terms, for_ever = world.terms(), 2**256 - 1
    create(world, terms, for_ever, good(world, terms, for_ever))


def test_a_consent_makes_one_task(world: World) -> None:
    terms, expires = world.terms(), soon(world)
    consents = good(world, terms, expires)
    task = create(world, terms, expires, consents)
    assert world.reader.task_of(world.model_owner.address, terms.spec_hash) == task
    with refused("specification used"):
        create(world, terms, expires, consents)
    world.owner_writer.close_task(task)
    with refused("specification used"):
        create(world, terms, expires, consents)
    with refused("specification used"):  # nor by a draw
        world.owner_writer.create_drawn_task(terms)


def test_another_model_owner_may_use_the_specification(world: World) -> None:
    terms = world.terms()
    task = world.create(terms)
    other = world.writer(world.account())
    assert world.reader.task_of(other.address, terms.spec_hash) is None
    again = world.create(terms, writer=other)
    assert world.reader.task_of(other.address, terms.spec_hash) == again != task


def test_a_drawn_task_uses_its_specification_too(world: World) -> None:
    terms = world.terms()
    world.owner_writer.create_drawn_task(terms)
    with refused("specification used"):
        world.create(terms)


def test_everybodys_consent_is_needed(world: World) -> None:
    """A quorum is not enough: no stake is bound without its owner."""
    terms, expires = world.terms(), soon(world)
    consents = good(world, terms, expires)
    for some in (consents[:4], consents[1:], [], [*consents, consents[4]]):
        with refused("signatures missing"):
            create(world, terms, expires, some)
    for index in range(5):  # another server's counts for nobody
        wrong = list(consents)
        wrong[index] = consents[index - 1]
        with refused("bad signature"):
            create(world, terms, expires, wrong)
    assert world.reader.server(world.committee[0]).active_tasks == 0


def test_refuses_other_keys_domains_and_messages(world: World) -> None:
    terms, expires = world.terms(), soon(world)
    consents = good(world, terms, expires)
    consent = Consent(
        model_owner=world.model_owner.address,
        terms_hash=terms_hash(terms, world.committee),
        expires=expires,
    )
    domain = world.reader.domain
    wrong = [
        world.key().sign(consent, domain),
        world.keys[4].sign(consent, Domain(domain.chain_id + 1, domain.contract)),
        world.keys[4].sign(consent, Domain(domain.chain_id, world.reader.registry)),
        world.keys[4].sign(replace(consent, expires=expires - 1), domain),
        world.keys[4].sign(
            Final(task=TaskId(1), round=Round(1), accepted_root=consent.terms_hash), domain
        ),
    ]
    for signature in wrong:
        with refused("bad signature"):
            create(world, terms, expires, [*consents[:4], signature])
    assert world.keys[4].sign(consent, domain) == consents[4]
    create(world, terms, expires, consents)


def test_refuses_malleable_consents(world: World) -> None:
    terms, expires = world.terms(), soon(world)
    compact = [compact_signature(consent) for consent in good(world, terms, expires)]
    parity, s = divmod(compact[0].vs, 2**255)
    high = Signature(r=compact[0].r, vs=(ORDER // 2 + 1) | parity << 255)
    flipped = Signature(r=compact[0].r, vs=s | (1 - parity) << 255)
    with refused("high s"):
        create(world, terms, expires, [high, *compact[1:]])
    with refused("bad signature"):
        create(world, terms, expires, [flipped, *compact[1:]])
    create(world, terms, expires, compact)


def test_a_committee_is_registered_and_distinct(world: World) -> None:
    stranger = world.key()
    world.known[stranger.address] = stranger
    for member, reason in (
        (stranger.address, "server not registered"),
        (world.committee[0], "server twice"),
    ):
        with refused(reason):
            world.task(committee=(*world.committee[:4], member))
    # What is no signature recovers to the zero address: that one is never a server.
    with refused("server not registered"):
        create(
            world,
            world.terms(),
            soon(world),
            [Signature(r=Hash32(bytes(32)), vs=0)] * 5,
            committee=[Address(bytes(20))] * 5,
        )


def test_a_committee_has_enough_at_stake(world: World) -> None:
    with refused("stake too small"):
        world.task(min_stake_wei=STAKE + 1)
    for server in world.servers:
        world.writer(server).add_stake(Wei(1))
    world.task(min_stake_wei=STAKE + 1)


def test_fourteen_servers_do_not_fit(world: World) -> None:
    members = [*world.committee, *(world.server().address for _ in range(9))]
    with pytest.raises(ChainError, match="reverted without a reason"):
        world.task(committee=members, n=14)
    world.task(committee=members[:13], n=13)
