"""Money adds up to the wei in any order of calls, against a model in Python."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from contract_world import STAKE, World, payouts_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from omnilytics.chain.connection import Chain
from omnilytics.chain.embedded import embedded_chain
from omnilytics.chain.records import Phase
from omnilytics.chain.sender import Sender
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, TaskId, Wei

STEPS = ("open", "seal", "settle", "void", "claim", "fees", "refund")


@dataclass
class Book:
    """What one task should have done with its money."""

    task: TaskId
    reward: int
    fee: int
    opening_fee: int
    escrow: int
    opened: int = 0
    closed: bool = False
    attested: list[int] = field(default_factory=lambda: [0] * 5)
    earned: dict[Address, int] = field(default_factory=dict)
    rewards_paid: dict[Address, int] = field(default_factory=dict)
    fees_paid: list[int] = field(default_factory=lambda: [0] * 5)
    proofs: dict[Address, tuple[Hash32, ...]] = field(default_factory=dict)
    refunded: int = 0

    def fees(self, index: int) -> int:
        return self.attested[index] * self.fee + self.opened * self.opening_fee // 5

    def unspent(self) -> int:
        return self.escrow - sum(self.earned.values()) - sum(map(self.fees, range(5)))

    def held(self) -> int:
        """What the contract should still hold for this task."""
        paid = sum(self.rewards_paid.values()) + sum(self.fees_paid) + self.refunded
        return self.escrow - paid


class Market:
    """Two tasks driven by random steps."""

    def __init__(self, source: random.Random, chain: Chain) -> None:
        self.random = source
        self.world = World(seed=source.randrange(2**32), chain=chain)
        self.owners = [self.world.key().address for _ in range(4)]
        self.payer: Sender = self.world.account()
        self.writer = self.world.writer(self.payer)
        self.books = [self.create() for _ in range(2)]

    def create(self) -> Book:
        reward, fee, opening = (self.random.randrange(0, 50) for _ in range(3))
        terms = self.world.terms(
            reward_wei=Wei(reward),
            fee_wei=Wei(fee),
            opening_fee_wei=Wei(opening),
            rounds=3,
            min_owners=1,
            max_owners=4,
        )
        task = self.world.owner_writer.create_task(terms)
        return Book(task, reward, fee, opening, terms.escrow_wei)

    def step(self, name: str) -> None:
        book = self.random.choice(self.books)
        getattr(self, name)(book)
        held = 5 * STAKE + sum(book.held() for book in self.books)
        assert self.world.chain.balance(self.world.address) == held

    def open(self, book: Book) -> None:
        state = self.world.reader.round_state(book.task)
        if book.closed or state.phase is not Phase.IDLE or book.opened == 3:
            refuses(lambda: self.world.open(book.task))
        else:
            self.world.open(book.task)
            book.opened += 1

    def seal(self, book: Book) -> None:
        state = self.world.reader.round_state(book.task)
        late = self.world.chain.head_timestamp() + 1 >= state.seal_deadline
        if state.phase is not Phase.OPEN or late:  # steps of the other task move the clock
            refuses(lambda: self.world.seal(book.task, count=4))
        else:
            self.world.seal(book.task, count=4)

    def settle(self, book: Book) -> None:
        state = self.world.reader.round_state(book.task)
        if state.phase is not Phase.SEALED:
            return
        self.world.to_settle_time(book.task)
        if self.world.chain.head() >= state.settlement_deadline_block:
            return
        accepted = self.random.sample(self.owners, self.random.randint(1, 4))
        earned = {o: book.earned.get(o, 0) + book.reward * (o in accepted) for o in self.owners}
        root, proofs = payouts_tree(earned)
        absent = self.random.choice([None, *range(5)])
        signers = [j for j in range(5) if j != absent]
        self.world.settle(
            book.task,
            signers=signers,
            v_bitmap=sum(1 << j for j in signers),
            accepted_count=len(accepted),
            payouts_root=root,
        )
        book.earned, book.proofs = earned, proofs
        for index in signers:
            book.attested[index] += 1

    def void(self, book: Book) -> None:
        state = self.world.reader.round_state(book.task)
        if state.phase is Phase.OPEN:
            self.world.chain.wait_for_time(state.seal_deadline)
        elif state.phase is Phase.SEALED:
            self.world.chain.wait_for_block(state.settlement_deadline_block)
        else:
            refuses(lambda: self.writer.void_round(book.task))
            return
        self.writer.void_round(book.task)

    def claim(self, book: Book) -> None:
        owner = self.random.choice(self.owners)
        due = book.earned.get(owner, 0)
        before = self.world.chain.balance(owner)
        paid = book.rewards_paid.get(owner, 0)
        proof = book.proofs.get(owner, ())
        if due > paid:
            self.writer.claim(book.task, owner, Wei(due), proof)
            book.rewards_paid[owner] = due
        else:
            refuses(lambda: self.writer.claim(book.task, owner, Wei(due), proof))
        assert self.world.chain.balance(owner) == before + max(due - paid, 0)

    def fees(self, book: Book) -> None:
        index = self.random.randrange(5)
        server = self.world.committee[index]
        before, due = self.world.chain.balance(server), book.fees(index)
        claim = self.writer.claim_fees
        if due > book.fees_paid[index]:
            claim(book.task, self.world.committee, index)
        else:
            refuses(lambda: claim(book.task, self.world.committee, index))
        assert self.world.chain.balance(server) == before + due - book.fees_paid[index]
        book.fees_paid[index] = due

    def refund(self, book: Book) -> None:
        if self.random.random() < 0.7:  # mostly later: a closed task is of little use to the test
            return
        owner = self.world.model_owner
        idle = self.world.reader.round_state(book.task).phase is Phase.IDLE
        before = self.world.chain.balance(owner.address)
        if book.closed or not idle:
            refuses(lambda: self.world.owner_writer.refund(book.task))
            return
        receipt = self.world.owner_writer.refund(book.task)
        book.closed, book.refunded = True, book.unspent()
        gained = self.world.chain.balance(owner.address) - before + receipt.gas_cost_wei
        assert gained == book.refunded

    def finish(self) -> None:
        """Everything due can be paid, and then nothing is left but the stakes."""
        for book in self.books:
            if self.world.reader.round_state(book.task).phase is not Phase.IDLE:
                self.void(book)
            if not book.closed:
                self.world.owner_writer.refund(book.task)
                book.closed, book.refunded = True, book.unspent()
            for owner, due in book.earned.items():
                if due > book.rewards_paid.get(owner, 0):
                    self.writer.claim(book.task, owner, Wei(due), book.proofs[owner])
            for index in range(5):
                if book.fees(index) > book.fees_paid[index]:
                    self.writer.claim_fees(book.task, self.world.committee, index)
        for server in self.world.servers:
            self.world.writer(server).unregister_server()
        assert self.world.chain.balance(self.world.address) == 0


def refuses(call: Callable[[], object]) -> None:
    try:
        call()
    except ChainError:
        return
    raise AssertionError("the contract should have refused")


@given(st.lists(st.sampled_from(STEPS), min_size=20, max_size=60), st.randoms())
@settings(max_examples=12, deadline=None)
def test_money_adds_up(steps: list[str], source: random.Random) -> None:
    market = Market(source, embedded_chain())
    for name in steps:
        market.step(name)
    market.finish()
