"""Money adds up to the unit in any order of calls, in ether and in tokens, against a model."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from contract_parties import Token
from contract_world import World, built_world, payouts_tree, rewound

from omnilytics.chain.records import Phase
from omnilytics.chain.sender import Sender
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, TaskId, Wei
from omnilytics.wire.task_specification import ETHER_TOKEN

STEPS = ("open", "seal", "settle", "void", "claim", "fees", "top_up", "refund")


@dataclass
class Book:
    """What one task should have done with its money."""

    task: TaskId
    reward: int
    fee: int
    opening_fee: int
    round_wei: int
    token: Token | None
    rounds: int = 3
    opened: int = 0
    closed: bool = False
    attested: list[int] = field(default_factory=lambda: [0] * 5)
    earned: dict[Address, int] = field(default_factory=dict)
    rewards_paid: dict[Address, int] = field(default_factory=dict)
    fees_paid: list[int] = field(default_factory=lambda: [0] * 5)
    proofs: dict[Address, tuple[Hash32, ...]] = field(default_factory=dict)
    refunded: int = 0

    @property
    def escrow(self) -> int:
        return self.rounds * self.round_wei

    def fees(self, index: int) -> int:
        return self.attested[index] * self.fee + self.opened * self.opening_fee // 5

    def unspent(self) -> int:
        return self.escrow - sum(self.earned.values()) - sum(map(self.fees, range(5)))

    def held(self) -> int:
        """What the contract should still hold for this task."""
        paid = sum(self.rewards_paid.values()) + sum(self.fees_paid) + self.refunded
        return self.escrow - paid


class Market:
    """Three tasks driven by random steps: in ether, in a token, and in one that says nothing."""

    def __init__(self, source: random.Random, world: World) -> None:
        self.random = source
        self.world = world
        self.owners = [self.world.key().address for _ in range(4)]
        self.payer: Sender = self.world.account()
        self.writer = self.world.writer(self.payer)
        tokens = Token(world), Token(world, "SilentToken")
        self.books = [self.create(token) for token in (None, *tokens)]

    def balance(self, book: Book, owner: Address) -> int:
        """What an account has of what a task pays in."""
        if book.token is None:
            return self.world.chain.balance(owner)
        return book.token.balance(owner)

    def create(self, token: Token | None) -> Book:
        reward, fee, opening = (self.random.randrange(0, 50) for _ in range(3))
        terms = self.world.terms(
            reward_wei=Wei(reward),
            fee_wei=Wei(fee),
            opening_fee_wei=Wei(opening),
            rounds=3,
            max_rounds=5,
            token=ETHER_TOKEN if token is None else token.address,
            min_owners=1,
            max_owners=4,
        )
        task = self.world.create(terms)
        return Book(task, reward, fee, opening, terms.round_wei, token)

    def step(self, name: str) -> None:
        book = self.random.choice(self.books)
        getattr(self, name)(book)
        self.check()

    def check(self) -> None:
        for book in self.books:
            assert self.balance(book, self.world.address) == book.held()

    def open(self, book: Book) -> None:
        state = self.world.reader.round_state(book.task)
        if book.closed or state.phase is not Phase.IDLE or book.opened == book.rounds:
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
        before = self.balance(book, owner)
        paid = book.rewards_paid.get(owner, 0)
        proof = book.proofs.get(owner, ())
        if due > paid:
            self.writer.claim(book.task, owner, Wei(due), proof)
            book.rewards_paid[owner] = due
        else:
            refuses(lambda: self.writer.claim(book.task, owner, Wei(due), proof))
        assert self.balance(book, owner) == before + max(due - paid, 0)

    def fees(self, book: Book) -> None:
        index = self.random.randrange(5)
        server = self.world.committee[index]
        before, due = self.balance(book, server), book.fees(index)
        claim = self.writer.claim_fees
        if due > book.fees_paid[index]:
            claim(book.task, self.world.committee, index)
        else:
            refuses(lambda: claim(book.task, self.world.committee, index))
        assert self.balance(book, server) == before + due - book.fees_paid[index]
        book.fees_paid[index] = due

    def top_up(self, book: Book) -> None:
        rounds = self.random.randint(1, 2)
        if book.closed or book.rounds + rounds > 5:
            refuses(lambda: self.world.owner_writer.top_up(book.task, rounds))
        else:
            self.world.owner_writer.top_up(book.task, rounds)
            book.rounds += rounds

    def refund(self, book: Book) -> None:
        if self.random.random() < 0.7:  # mostly later: a closed task is of little use to the test
            return
        owner = self.world.model_owner
        idle = self.world.reader.round_state(book.task).phase is Phase.IDLE
        before = self.balance(book, owner.address)
        if book.closed or not idle:
            refuses(lambda: self.world.owner_writer.close_task(book.task))
            return
        receipt = self.world.owner_writer.close_task(book.task)
        book.closed, book.refunded = True, book.unspent()
        gained = self.balance(book, owner.address) - before
        if book.token is None:
            gained += receipt.gas_cost_wei
        assert gained == book.refunded

    def finish(self) -> None:
        """Everything due can be paid, and then nothing is left."""
        for book in self.books:
            if self.world.reader.round_state(book.task).phase is not Phase.IDLE:
                self.void(book)
            if not book.closed:
                self.world.owner_writer.close_task(book.task)
                book.closed, book.refunded = True, book.unspent()
            for owner, due in book.earned.items():
                if due > book.rewards_paid.get(owner, 0):
                    self.writer.claim(book.task, owner, Wei(due), book.proofs[owner])
            for index in range(5):
                if book.fees(index) > book.fees_paid[index]:
                    self.writer.claim_fees(book.task, self.world.committee, index)
        for book in self.books:
            assert self.balance(book, self.world.address) == 0


def refuses(call: Callable[[], object]) -> None:
    try:
        call()
    except ChainError:
        return
    raise AssertionError("the contract should have refused")


@pytest.mark.parametrize("seed", range(10))
def test_money_adds_up(seed: int) -> None:
    source = random.Random(seed)
    world = built_world()
    with rewound(world):
        market = Market(source, world)
        for name in source.choices(STEPS, k=60):
            market.step(name)
        market.finish()
