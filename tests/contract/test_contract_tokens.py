"""Tasks that pay in a token: like those in ether, and hostile tokens harm only themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from contract_parties import (
    ADDS,
    BURNS_GAS,
    CALLS_BACK,
    HONEST,
    KEEPS,
    LIES,
    LOCKED,
    RETURNS_FALSE,
    RETURNS_TWO,
    REVERTS,
    TAKES_A_FEE,
    Token,
)
from contract_world import World, payouts_tree, refused, rewound, shared_world

from omnilytics.chain.bindings import market
from omnilytics.chain.writer import contract_terms
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, TaskId, Wei

UNBONDING = 14 * 86400


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


@pytest.fixture
def token(world: World) -> Token:
    return Token(world)


def paid_task(world: World, token: Token | None, *owners: Address) -> tuple[TaskId, dict[Any, Any]]:
    """A task with one settled round that pays each owner 1,000."""
    payment: dict[str, Any] = {} if token is None else {"token": token.address}
    task = world.task(min_owners=1, **payment)
    root, proofs = payouts_tree(dict.fromkeys(owners, 1_000))
    world.round(task, payouts_root=root, accepted_count=len(owners))
    return task, proofs


@pytest.mark.parametrize("kind", ["Token", "SilentToken"])
def test_a_task_in_a_token(world: World, kind: str) -> None:
    """Escrow, top-up, rewards, fees, refund: no ether moves, and no unit is left or lost."""
    token = Token(world, kind)
    before = token.balance(world.model_owner.address)
    owners = [world.key().address for _ in range(3)]
    terms = world.terms(token=token.address, rounds=1, max_rounds=2)
    task = world.create(terms)
    assert token.held == terms.escrow_wei
    world.owner_writer.top_up(task, 1)
    assert token.held == 2 * terms.escrow_wei
    root, proofs = payouts_tree(dict.fromkeys(owners, 1_000))
    world.round(task, payouts_root=root, accepted_count=3)
    for owner in owners:
        world.owner_writer.claim(task, owner, Wei(1_000), proofs[owner])
        assert token.balance(owner) == 1_000
    for index, server in enumerate(world.committee):
        world.owner_writer.claim_fees(task, world.committee, index)
        assert token.balance(server) == 70 + 13 // 5
    world.owner_writer.close_task(task)
    assert token.held == 0
    spent = 3 * 1_000 + 5 * 72
    assert token.balance(world.model_owner.address) == before - spent
    assert world.chain.balance(world.address) == 0
    assert world.reader.task(task).terms.token == token.address


def test_ether_is_refused_where_a_token_is_due(world: World, token: Token) -> None:
    terms = world.terms(token=token.address)
    expires = world.chain.head_timestamp() + 100
    call: tuple[Any, ...] = (contract_terms(terms), world.committee, expires, [])
    for value in (1, terms.escrow_wei):
        with refused("wrong escrow"):
            world.send("create_task", *call, value=value)
    for value in (0, 10**15 - 1, 10**15 + terms.escrow_wei):  # the draw's fee is in ether
        with refused("wrong escrow"):
            world.send("create_drawn_task", call[0], 5, value=value)
    world.send("create_drawn_task", call[0], 5, value=10**15)
    task = world.task(token=token.address)
    with refused("wrong escrow"):
        world.send("top_up", task, 1, value=terms.round_wei)


def test_a_token_that_may_not_be_taken(world: World, token: Token) -> None:
    """No allowance, or nothing there."""
    stranger = world.account()
    terms = world.terms(token=token.address)
    with pytest.raises(ChainError, match="reverted without a reason"):
        world.create(terms, writer=world.writer(stranger))
    token.do("approve", world.address, 10**30, sender=stranger)
    with pytest.raises(ChainError, match="reverted without a reason"):
        world.create(terms, writer=world.writer(stranger))
    assert token.held == 0
    token.supply(stranger)
    world.create(terms, writer=world.writer(stranger))


def test_what_is_no_token_is_refused(world: World) -> None:
    for address in (world.key().address, world.reader.registry, world.address):
        with pytest.raises(ChainError, match="reverted without a reason"):
            world.task(token=address)


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        (RETURNS_FALSE, "token refused"),
        (TAKES_A_FEE, "wrong escrow"),
        (ADDS, "wrong escrow"),
        (KEEPS, "wrong escrow"),
        (REVERTS, "no, thank you"),
        (RETURNS_TWO, "reverted without a reason"),
    ],
)
def test_escrow_that_does_not_arrive_exactly_is_refused(
    world: World, token: Token, manner: int, reason: str
) -> None:
    task = world.task(token=token.address)
    held = token.held
    token.behave(manner)
    with refused(reason):
        world.task(token=token.address)
    with refused(reason):
        world.owner_writer.create_drawn_task(world.terms(token=token.address))
    with refused(reason):
        world.owner_writer.top_up(task, 1)
    token.behave(HONEST)
    assert token.held == held
    assert world.reader.task_count() == 1
    assert world.reader.task(task).terms.rounds == 4


def test_gas_burning_tokens_take_no_escrow(world: World, token: Token) -> None:
    token.behave(BURNS_GAS)
    with pytest.raises(ChainError):
        world.task(token=token.address)


HOSTILE = [
    (RETURNS_FALSE, "token refused"),
    (REVERTS, "no, thank you"),
    (RETURNS_TWO, None),
    (BURNS_GAS, None),
]


@pytest.mark.parametrize(("manner", "reason"), HOSTILE)
def test_payments_that_fail_are_not_booked(
    world: World, token: Token, manner: int, reason: str | None
) -> None:
    owners = [world.key().address for _ in range(2)]
    task, proofs = paid_task(world, token, *owners)
    held = token.held
    token.behave(manner)
    calls: list[tuple[Any, ...]] = [
        ("claim", task, owners[0], 1_000, proofs[owners[0]]),
        ("claim_fees", task, world.committee, 0),
        ("close_task", task, world.committee),
    ]
    for name, *arguments in calls:
        with pytest.raises(ChainError) as caught:
            world.send(name, *arguments)
        assert reason is None or caught.value.message == reason
    record = world.reader.task(task)
    assert (record.claimed_wei, record.closed, record.refunded) == (0, False, False)
    assert world.reader.fees_paid(task, 0) == 0
    token.behave(HONEST)
    assert token.held == held
    for name, *arguments in calls:
        world.send(name, *arguments)
    assert token.balance(owners[0]) == 1_000


@pytest.mark.parametrize("manner", [manner for manner, _ in HOSTILE])
def test_a_hostile_token_keeps_no_stake_bound(world: World, token: Token, manner: int) -> None:
    """Anyone but the model owner closes its idle task without touching the token."""
    task = world.task(token=token.address, rounds=1)
    world.round(task)
    token.behave(manner)
    anyone = world.writer(world.servers[0])
    anyone.close_task(task)
    assert world.reader.task(task).closed
    for server in world.servers:
        world.writer(server).leave()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    for server in world.servers:
        world.writer(server).withdraw_stake()
    with pytest.raises(ChainError):
        anyone.close_task(task)


@pytest.mark.parametrize("manner", range(10))
def test_a_hostile_token_hurts_no_other_task(world: World, token: Token, manner: int) -> None:
    """Ether and an honest token are paid to the last unit beside it."""
    honest, owner = Token(world), world.key().address
    wei, wei_proofs = paid_task(world, None, owner)
    units, unit_proofs = paid_task(world, honest, owner)
    bad, bad_proofs = paid_task(world, token, owner)
    if manner == CALLS_BACK:
        token.behave(manner, "claim", wei, owner, 1_000, wei_proofs[owner])
    else:
        token.behave(manner)
    for name, arguments in (
        ("claim", (bad, owner, 1_000, bad_proofs[owner])),
        ("claim_fees", (bad, world.committee, 0)),
        ("close_task", (bad, world.committee)),
    ):
        try:
            world.send(name, *arguments)
        except ChainError:
            continue
    for task, proofs in ((wei, wei_proofs), (units, unit_proofs)):
        world.owner_writer.claim(task, owner, Wei(1_000), proofs[owner])
        for index in range(5):
            world.owner_writer.claim_fees(task, world.committee, index)
        world.owner_writer.close_task(task)
    assert world.chain.balance(owner) == honest.balance(owner) == 1_000
    assert world.chain.balance(world.address) == honest.held == 0


def test_a_lying_token_lies_about_itself_only(world: World, token: Token) -> None:
    """Its escrow may be nothing at all; the tasks in other money do not notice."""
    other = world.task()
    token.behave(LIES)
    task = world.task(token=token.address)
    assert world.reader.task(task).terms.token == token.address
    token.behave(HONEST)
    assert token.held == 0
    with pytest.raises(ChainError):
        world.owner_writer.close_task(task)
    before = world.chain.balance(world.model_owner.address)
    receipt = world.owner_writer.close_task(other)
    gained = world.chain.balance(world.model_owner.address) - before + receipt.gas_cost_wei
    assert gained == world.terms().escrow_wei


def inner_calls(world: World, task: TaskId, owner: Address, proof: Any) -> dict[str, Any]:
    """Every call of the market that moves money, as it would be good on this task."""
    claim = market.Claim(task=task, cumulative_wei=1_000, proof=proof)
    terms = contract_terms(world.terms())
    return {
        "claim": (task, owner, 1_000, proof),
        "claim_many": (owner, [claim]),
        "claim_fees": (task, world.committee, 1),
        "close_task": (task, world.committee),
        "top_up": (task, 1),
        "create_task": (terms, world.committee, 2**256 - 1, []),
        "create_drawn_task": (terms, 5),
    }


INNER = ["claim", "claim_many", "claim_fees", "close_task", "top_up", "create_task",
         "create_drawn_task"]  # fmt: skip
OUTER = ["claim", "claim_many", "claim_fees", "close_task", "top_up", "create_task"]


@pytest.mark.parametrize("outer", OUTER)
def test_a_token_that_calls_back_finds_the_market_locked(
    world: World, token: Token, outer: str
) -> None:
    owner = world.key().address
    task, proofs = paid_task(world, token, owner)
    other, other_proofs = paid_task(world, None, owner)
    held = world.chain.balance(world.address)
    for inner in INNER:
        with rewound(world):
            call = inner_calls(world, other, owner, other_proofs[owner])[inner]
            token.behave(CALLS_BACK, inner, *call)
            if outer == "create_task":
                world.task(token=token.address)
            else:
                world.send(outer, *inner_calls(world, task, owner, proofs[owner])[outer])
            assert token.outcome == LOCKED
            assert world.chain.balance(world.address) == held
            record = world.reader.task(other)
            assert (record.claimed_wei, record.closed) == (0, False)


@pytest.mark.parametrize("inner", ["open_round", "redraw", "draw_committee", "void_round"])
def test_a_task_cannot_be_used_before_it_is_whole(world: World, inner: str) -> None:
    """A token that is the model owner too calls back while its own task is being created."""
    token = Token(world)
    token.do("mint", token.address, 10**30)
    token.do("execute", token.address, token.codec.calldata("approve", world.address, 10**30), 0)
    task = TaskId(world.reader.task_count() + 1)
    arguments = (task, world.hash()) if inner == "open_round" else (task,)
    token.behave(CALLS_BACK, inner, *arguments)
    assert token.create(world.terms(token=token.address)) == task
    called, succeeded, answer = token.outcome
    assert (called, succeeded) == (1, 0)
    want = {
        "open_round": b"not idle",
        "redraw": b"wrong draw fee",
        "draw_committee": b"draw not revealed",
        "void_round": b"no active round",
    }
    assert want[inner] in answer
    assert world.reader.round_state(task).round == 0


def test_two_tasks_in_one_token_do_not_mix(world: World, token: Token) -> None:
    owner = world.key().address
    one, proofs = paid_task(world, token, owner)
    other = world.task(token=token.address)
    world.owner_writer.close_task(other)
    for index in range(5):
        world.owner_writer.claim_fees(one, world.committee, index)
    world.owner_writer.claim(one, owner, Wei(1_000), proofs[owner])
    world.owner_writer.close_task(one)
    assert token.held == 0
