"""Claiming for several tasks at once: all or none, in any mix of money, never twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from contract_parties import REFUSE, RETURNS_FALSE, ContractAccount, Token
from contract_world import World, built_world, leaf, payouts_tree, refused, rewound, shared_world
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from omnilytics.chain.bindings.market import RewardClaimed
from omnilytics.chain.writer import TaskClaim
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, TaskId, Wei


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


def settled(
    world: World, amounts: Mapping[Address, int], task: TaskId | None = None, **changes: Any
) -> dict[Address, TaskClaim]:
    """Settle a round that pays these totals, 10 owners credited; return everybody's claim."""
    number = world.task(**changes) if task is None else task
    root, proofs = payouts_tree(amounts)
    world.round(number, payouts_root=root, accepted_count=10)
    return {
        owner: TaskClaim(task=number, cumulative_wei=Wei(amount), proof=proofs[owner])
        for owner, amount in amounts.items()
    }


def test_claims_of_several_tasks(world: World) -> None:
    """Ether and two tokens in one call; the events tell each."""
    owner, other = world.key().address, world.key().address
    tokens = Token(world), Token(world, "SilentToken")
    claims = [
        settled(world, {owner: 1_000, other: 5})[owner],
        settled(world, {owner: 300}, token=tokens[0].address)[owner],
        settled(world, {owner: 20}, token=tokens[1].address)[owner],
        settled(world, {other: 7, owner: 4_000})[owner],
    ]
    held = world.chain.balance(world.address)
    events = world.owner_writer.claim_many(owner, claims).events
    assert [(e.task, e.owner, e.amount_wei) for e in events if isinstance(e, RewardClaimed)] == [
        (claim.task, owner, claim.cumulative_wei) for claim in claims
    ]
    assert world.chain.balance(owner) == 5_000
    assert world.chain.balance(world.address) == held - 5_000
    assert [token.balance(owner) for token in tokens] == [300, 20]
    for claim in claims:
        assert world.reader.claimed(claim.task, owner) == claim.cumulative_wei
        assert world.reader.task(claim.task).claimed_wei == claim.cumulative_wei


def test_all_or_none(world: World) -> None:
    owner = world.key().address
    good = [settled(world, {owner: 1_000})[owner] for _ in range(3)]
    wrong = {
        "not in payouts": TaskClaim(task=good[1].task, cumulative_wei=Wei(999), proof=()),
        "nothing to claim": good[0],
        "beyond credit": settled(world, {owner: 10_001})[owner],
    }
    for reason, claim in wrong.items():
        for claims in ([*good, claim], [good[0], claim, good[2]]):
            with refused(reason):
                world.owner_writer.claim_many(owner, claims)
    assert world.chain.balance(owner) == 0
    world.owner_writer.claim_many(owner, good)
    assert world.chain.balance(owner) == 3_000


def test_one_token_that_refuses_stops_its_own_call(world: World) -> None:
    """The owner claims the others without it."""
    owner, token = world.key().address, Token(world)
    good = settled(world, {owner: 1_000})[owner]
    bad = settled(world, {owner: 1_000}, token=token.address)[owner]
    token.behave(RETURNS_FALSE)
    with refused("token refused"):
        world.owner_writer.claim_many(owner, [good, bad])
    assert world.chain.balance(owner) == 0
    world.owner_writer.claim_many(owner, [good])
    assert world.chain.balance(owner) == 1_000


def test_an_owner_that_refuses_is_not_paid(world: World) -> None:
    owner = ContractAccount(world)
    claims = [settled(world, {owner.address: 1_000})[owner.address] for _ in range(2)]
    owner.behave(REFUSE)
    with refused("no, thank you"):
        world.owner_writer.claim_many(owner.address, claims)
    assert world.reader.claimed(claims[0].task, owner.address) == 0


def test_the_same_task_twice(world: World) -> None:
    """The same leaf pays once; the previous root's leaf and then the present one's pay both."""
    owner = world.key().address
    first = settled(world, {owner: 1_000})[owner]
    with refused("nothing to claim"):
        world.owner_writer.claim_many(owner, [first, first])
    second = settled(world, {owner: 2_500}, first.task)[owner]
    with refused("nothing to claim"):
        world.owner_writer.claim_many(owner, [second, first])
    world.owner_writer.claim_many(owner, [first, second])
    assert world.chain.balance(owner) == 2_500
    assert world.reader.claimed(first.task, owner) == 2_500


def test_only_the_owners_own(world: World) -> None:
    owner, other = world.key().address, world.key().address
    claims = settled(world, {owner: 1_000, other: 2_000})
    with refused("not in payouts"):
        world.owner_writer.claim_many(owner, [claims[owner], claims[other]])


def test_at_most_sixteen(world: World) -> None:
    owner = world.key().address
    claims = []
    for _ in range(17):
        task = world.task()
        world.round(task, payouts_root=Hash32(leaf(owner, 1_000)), accepted_count=2)
        claims.append(TaskClaim(task=task, cumulative_wei=Wei(1_000), proof=()))
    with pytest.raises(ChainError, match="reverted without a reason"):
        world.owner_writer.claim_many(owner, claims)
    world.owner_writer.claim_many(owner, claims[:16])
    assert world.chain.balance(owner) == 16_000
    assert world.owner_writer.claim_many(owner, []).events == ()


def test_the_deepest_proofs(world: World) -> None:
    """32 siblings go, 33 do not."""
    owner = world.key().address
    deep = tuple(world.hash() for _ in range(32))
    task = world.task()
    world.round(task, payouts_root=folded(leaf(owner, 5), deep), accepted_count=2)
    claim = TaskClaim(task=task, cumulative_wei=Wei(5), proof=deep)
    longer = TaskClaim(task=task, cumulative_wei=Wei(5), proof=(*deep, deep[0]))
    with pytest.raises(ChainError, match="reverted without a reason"):
        world.owner_writer.claim_many(owner, [longer])
    world.owner_writer.claim_many(owner, [claim])
    assert world.chain.balance(owner) == 5


def folded(node: bytes, proof: tuple[Hash32, ...]) -> Hash32:
    for sibling in proof:
        node = keccak(b"\x01" + min(node, sibling) + max(node, sibling))
    return Hash32(node)


AMOUNTS = st.lists(st.integers(0, 3_000), min_size=3, max_size=3)


@given(
    st.lists(AMOUNTS, min_size=2, max_size=4),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.booleans()), max_size=12),
)
@settings(max_examples=8, deadline=None)
def test_sums_never_exceed_the_credit(
    rounds: list[list[int]], claims: list[tuple[int, int, bool]]
) -> None:
    """Whatever roots say and in whatever order they are claimed; other tasks keep their money."""
    world = built_world()
    with rewound(world):
        owners = [world.key().address for _ in range(3)]
        task, other = world.task(min_owners=1), world.task()
        kept = world.terms().escrow_wei
        paid = dict.fromkeys(owners, 0)
        trees: list[dict[Address, TaskClaim]] = []
        for amounts in rounds:
            root, proofs = payouts_tree(dict(zip(owners, amounts, strict=True)))
            world.round(task, payouts_root=root, accepted_count=2)
            trees.append(
                {
                    owner: TaskClaim(task=task, cumulative_wei=Wei(amount), proof=proofs[owner])
                    for owner, amount in zip(owners, amounts, strict=True)
                }
            )
            credit = 2_000 * len(trees)
            for who, back, twice in claims:
                owner = owners[who]
                claim = trees[max(0, len(trees) - 1 - back)][owner]
                due = claim.cumulative_wei - paid[owner]
                fits = 0 < due <= credit - sum(paid.values()) and not twice
                try:
                    world.owner_writer.claim_many(owner, [claim] * (2 if twice else 1))
                    assert fits
                    paid[owner] += due
                except ChainError:
                    assert not fits
                assert world.chain.balance(owner) == paid[owner]
                assert sum(paid.values()) <= world.reader.task(task).credited_wei == credit
        world.owner_writer.close_task(task)
        assert world.chain.balance(world.address) >= kept
        world.owner_writer.close_task(other)
