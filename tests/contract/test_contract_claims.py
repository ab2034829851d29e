"""Paying data owners and servers, and what nobody can take."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract_world import World, leaf, payouts_tree, refused, shared_world
from eth_hash.auto import keccak

from omnilytics.chain.bindings.market import FeesClaimed, RewardClaimed
from omnilytics.chain.sender import Sender
from omnilytics.foundation.units import Address, Hash32, TaskId, Wei


class Paid:
    """A task with one settled round that pays 7 owners 1,000 wei each."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.task = self.world.task()
        self.owners = [self.world.account() for _ in range(7)]
        self.amounts = {owner.address: 1_000 for owner in self.owners}
        self.root, self.proofs = payouts_tree(self.amounts)
        self.world.round(self.task, payouts_root=self.root, accepted_count=7)

    def claim(self, owner: Sender, amount: int = 1_000) -> int:
        """Claim for an owner with its proof; return what it cost the model owner in gas."""
        proof = self.proofs[owner.address]
        writer = self.world.owner_writer
        return writer.claim(self.task, owner.address, Wei(amount), proof).gas_used


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


@pytest.fixture
def paid(world: World) -> Paid:
    return Paid(world)


def test_claims(paid: Paid) -> None:
    world, owner = paid.world, paid.owners[3]
    before = world.chain.balance(owner.address)
    receipt = world.owner_writer.claim(
        paid.task, owner.address, Wei(1_000), paid.proofs[owner.address]
    )
    assert world.chain.balance(owner.address) == before + 1_000
    (event,) = receipt.events
    assert isinstance(event, RewardClaimed)
    assert (event.task, event.owner, event.amount_wei) == (paid.task, owner.address, 1_000)
    assert world.reader.claimed(paid.task, owner.address) == 1_000
    assert world.reader.task(paid.task).claimed_wei == 1_000


def test_every_owner_claims_once(paid: Paid) -> None:
    for owner in paid.owners:
        paid.claim(owner)
        with refused("nothing to claim"):
            paid.claim(owner)
    record = paid.world.reader.task(paid.task)
    assert record.claimed_wei == record.credited_wei == 7_000


def test_a_later_root_pays_the_difference(paid: Paid) -> None:
    world, owner = paid.world, paid.owners[0]
    paid.claim(owner)
    later = dict.fromkeys(paid.amounts, 2000)
    root, proofs = payouts_tree(later)
    world.round(paid.task, payouts_root=root, accepted_count=7)
    before = world.chain.balance(owner.address)
    world.owner_writer.claim(paid.task, owner.address, Wei(2_000), proofs[owner.address])
    assert world.chain.balance(owner.address) == before + 1_000
    paid.claim(paid.owners[1])  # the previous root is still good
    world.owner_writer.claim(
        paid.task, paid.owners[1].address, Wei(2_000), proofs[paid.owners[1].address]
    )
    world.round(paid.task, payouts_root=world.hash(), accepted_count=7)
    with refused("not in payouts"):
        paid.claim(paid.owners[2])  # two roots ago
    unpaid = paid.owners[2].address
    world.owner_writer.claim(paid.task, unpaid, Wei(2_000), proofs[unpaid])


def test_refuses_wrong_proofs(paid: Paid) -> None:
    world, owner = paid.world, paid.owners[0]
    proof = paid.proofs[owner.address]
    stranger = world.key().address
    wrong: list[tuple[Address, int, tuple[Hash32, ...]]] = [
        (owner.address, 1_001, proof),
        (stranger, 1_000, proof),
        (owner.address, 1_000, proof[:-1]),
        (owner.address, 1_000, ()),
        (owner.address, 1_000, (*proof, world.hash())),
        (owner.address, 1_000, tuple(reversed(proof))),
        (owner.address, 1_000, paid.proofs[paid.owners[1].address]),
    ]
    for address, amount, path in wrong:
        with refused("not in payouts"):
            world.owner_writer.claim(paid.task, address, Wei(amount), path)
    with refused("not in payouts"):  # another task has its own roots
        world.owner_writer.claim(world.task(), owner.address, Wei(1_000), proof)


def test_a_node_is_not_a_leaf(world: World) -> None:
    """A root whose leaf were hashed like a node, or without a tag, cannot be claimed."""
    task = world.task()
    owner = world.key().address
    untagged = keccak(owner.rjust(32, b"\x00") + (1_000).to_bytes(32, "big"))
    as_node = keccak(b"\x01" + owner.rjust(32, b"\x00") + (1_000).to_bytes(32, "big"))
    for root in (untagged, as_node):
        world.round(task, payouts_root=Hash32(root))
        with refused("not in payouts"):
            world.owner_writer.claim(task, owner, Wei(1_000), ())
    world.round(task, payouts_root=Hash32(leaf(owner, 1_000)))
    world.owner_writer.claim(task, owner, Wei(1_000), ())


def test_claims_never_exceed_the_credit(paid: Paid) -> None:
    """Whatever a quorum signs, only what was credited can leave, and no other task's money."""
    world = paid.world
    other = world.task()
    greedy = world.account()
    root, proofs = payouts_tree({greedy.address: 10**18, paid.owners[0].address: 14_000})
    world.round(paid.task, payouts_root=root, accepted_count=7)
    with refused("beyond credit"):
        world.owner_writer.claim(paid.task, greedy.address, Wei(10**18), proofs[greedy.address])
    first = paid.owners[0].address
    world.owner_writer.claim(paid.task, first, Wei(14_000), proofs[first])
    with refused("beyond credit"):
        paid.claim(paid.owners[1])
    record = world.reader.task(paid.task)
    assert record.claimed_wei == record.credited_wei == 14_000
    assert world.reader.task(other).claimed_wei == 0


def test_a_huge_leaf_does_not_wrap(paid: Paid) -> None:
    world, greedy = paid.world, paid.world.account()
    world.round(paid.task, payouts_root=Hash32(leaf(greedy.address, 2**256 - 1)))
    with refused("beyond credit"):
        world.owner_writer.claim(paid.task, greedy.address, Wei(2**256 - 1), ())


def test_claims_outlive_the_task(paid: Paid) -> None:
    world = paid.world
    world.owner_writer.close_task(paid.task)
    for owner in paid.owners:
        paid.claim(owner)
    for index in range(5):
        world.owner_writer.claim_fees(paid.task, world.committee, index)
    assert world.chain.balance(world.address) == 0


def test_claims_fees(paid: Paid) -> None:
    world, server = paid.world, paid.world.committee[2]
    assert world.reader.fees_due(paid.task, 2) == 70 + 13 // 5
    before = world.chain.balance(server)
    (event,) = world.owner_writer.claim_fees(paid.task, world.committee, 2).events
    assert isinstance(event, FeesClaimed)
    assert (event.server, event.index, event.amount_wei) == (server, 2, 72)
    assert world.chain.balance(server) == before + 72
    assert (world.reader.fees_paid(paid.task, 2), world.reader.fees_due(paid.task, 2)) == (72, 0)
    with refused("nothing to claim"):
        world.owner_writer.claim_fees(paid.task, world.committee, 2)
    world.round(paid.task)
    world.owner_writer.claim_fees(paid.task, world.committee, 2)
    assert world.reader.fees_paid(paid.task, 2) == 140 + 26 // 5


def test_refuses_fees_of_others(paid: Paid) -> None:
    world = paid.world
    with refused("wrong committee"):
        world.owner_writer.claim_fees(paid.task, world.committee[::-1], 0)
    with refused("no such server"):
        world.owner_writer.claim_fees(paid.task, world.committee, 5)
    with refused("no such server"):
        world.owner_writer.claim_fees(paid.task, world.committee, 2**255)


def test_a_server_outside_v_earns_its_opening_share_only(world: World) -> None:
    task = world.task()
    world.round(task, signers=(0, 1, 2, 3), v_bitmap=0b01111)
    assert [world.reader.fees_due(task, j) for j in range(5)] == [72, 72, 72, 72, 2]


def test_a_voided_round_pays_the_opening_fee_only(world: World) -> None:
    task = world.task(rounds=1)
    world.open(task)
    world.chain.wait_for_time(world.reader.round_state(task).seal_deadline)
    world.owner_writer.void_round(task)
    escrow = world.terms(rounds=1).escrow_wei
    before = world.chain.balance(world.model_owner.address)
    receipt = world.owner_writer.close_task(task)
    returned = world.chain.balance(world.model_owner.address) - before + receipt.gas_cost_wei
    assert returned == escrow - 5 * (13 // 5)  # 3 wei of dust go back
    for index in range(5):
        world.owner_writer.claim_fees(task, world.committee, index)
    assert world.chain.balance(world.address) == 0


def test_fees_of_nothing(world: World) -> None:
    task: TaskId = world.task()
    with refused("nothing to claim"):
        world.owner_writer.claim_fees(task, world.committee, 0)
