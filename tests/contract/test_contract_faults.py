"""Reports of a quorum: what they take, from whom, how often, and what they cannot do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from contract_world import ETHER, STAKE, World, refused, shared_world

from omnilytics.chain.abi import Signature
from omnilytics.chain.bindings import registry
from omnilytics.chain.bindings.registry import Slashed
from omnilytics.chain.records import FaultKind, TransactionReceipt
from omnilytics.chain.sender import Sender
from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, Wei
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.messages import Fault, Submission
from omnilytics.wire.signatures import SigningKey

UNBONDING = 14 * 86400
BOND = 10**16
NO_SIGNATURE = Signature(r=Hash32(bytes(32)), vs=0)


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


@pytest.fixture
def task(world: World) -> TaskId:
    return world.task(min_bond_wei=Wei(BOND))


class Owner:
    """A data owner with a bond, who signed a submission of round 1."""

    def __init__(self, world: World, task: TaskId, bond_wei: int = BOND) -> None:
        self.key: SigningKey = world.key()
        self.address = self.key.address
        self.writer = world.writer(world.account(self.key))
        if bond_wei:
            self.writer.add_bond(Wei(bond_wei))
        self.submission = Submission(task=task, round=Round(1), commitment=world.hash())
        self.signed = self.submission, self.key.sign(self.submission, world.reader.domain)


def fault_of(world: World, task: TaskId, party: Address, kind: int) -> Fault:
    return Fault(task=task, round=Round(1), party=party, kind=kind, evidence_hash=world.hash())


def report(
    world: World,
    fault: Fault,
    submission: tuple[Submission, bytes] | None = None,
    *,
    signers: Iterable[int] = range(1, 5),
    reporter: Sender | None = None,
) -> TransactionReceipt:
    writer = world.writer(reporter or world.model_owner)
    return writer.report_fault(fault, world.committee, world.votes(fault, signers), submission)


def stake(world: World, index: int) -> int:
    return world.reader.server(world.committee[index]).stake_wei


def burnt(world: World) -> int:
    return world.of_registry(registry.burnt_wei())


def test_reports_a_server(world: World, task: TaskId) -> None:
    party = world.committee[0]
    world.writer(world.servers[0]).add_stake(Wei(ETHER))
    fault = fault_of(world, task, party, FaultKind.SERVER)
    reporter = world.account()
    before, held = world.chain.balance(reporter.address), world.chain.balance(world.reader.registry)
    receipt = report(world, fault, reporter=reporter)
    share = STAKE // 20
    (event,) = receipt.events
    assert isinstance(event, Slashed)
    assert (event.party, event.task, event.round, event.kind) == (party, task, 1, 1)
    assert event.evidence_hash == fault.evidence_hash
    assert (event.amount_wei, event.reporter, event.share_wei) == (STAKE, reporter.address, share)
    assert stake(world, 0) == ETHER  # the rest is not at risk in this task
    assert world.chain.balance(reporter.address) == before + share - receipt.gas_cost_wei
    assert world.chain.balance(world.reader.registry) == held - share
    assert burnt(world) == STAKE - share
    assert world.reader.server(party).active_tasks == 1
    assert all(stake(world, index) == STAKE for index in range(1, 5))


def test_a_server_is_reported_once_in_a_task(world: World, task: TaskId) -> None:
    """Whatever the round and the evidence: a quorum cannot take more than the task's risk."""
    world.writer(world.servers[0]).add_stake(Wei(ETHER))
    other = world.task()
    world.slash(task, 0)
    for round_number in (1, 2, 0, 2**256 - 1):
        with refused("already judged"):
            world.slash(task, 0, round_number=round_number)
    assert stake(world, 0) == ETHER
    world.slash(other, 0)  # another task, another risk
    assert stake(world, 0) == ETHER - STAKE


def test_takes_no_more_than_there_is(world: World, task: TaskId) -> None:
    """After a first loss the second is smaller, and the third nothing."""
    world.writer(world.servers[0]).add_stake(Wei(5))
    tasks = [world.task(), world.task()]
    world.slash(task, 0)
    (event,) = world.slash(tasks[0], 0).events
    assert isinstance(event, Slashed)
    assert (event.amount_wei, event.share_wei) == (5, 0)
    assert stake(world, 0) == 0
    with refused("nothing at risk"):
        world.slash(tasks[1], 0)
    assert burnt(world) == STAKE - STAKE // 20 + 5


def test_a_server_without_stake_can_still_leave(world: World, task: TaskId) -> None:
    world.slash(task, 0)
    writer = world.writer(world.servers[0])
    with refused("stake too small"):
        world.task()
    world.owner_writer.close_task(task)
    writer.leave()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    writer.withdraw_stake()
    writer.register_server("http://x", world.hash(), STAKE)
    world.task()


def test_a_quorum_is_needed(world: World, task: TaskId) -> None:
    fault = fault_of(world, task, world.committee[0], FaultKind.SERVER)
    with refused("too few signatures"):
        report(world, fault, signers=(1, 2, 3))
    with refused("too few signatures"):
        report(world, fault, signers=())
    report(world, fault, signers=(0, 1, 2, 3))  # it may even sign against itself


@pytest.mark.parametrize("colluding", range(5))
def test_e_servers_and_the_model_owner_slash_nobody(
    world: World, task: TaskId, colluding: int
) -> None:
    """Neither a server nor a bonded owner: not with e signatures, nor with those repeated."""
    owner = Owner(world, task)
    for party, kind, submission in (
        (world.committee[(colluding + 1) % 5], FaultKind.SERVER, None),
        (owner.address, FaultKind.OWNER, owner.signed),
    ):
        fault = fault_of(world, task, party, kind)
        own = world.keys[colluding].sign(fault, world.reader.domain)
        by_owner = world.owner_key.sign(fault, world.reader.domain)
        with refused("too few signatures"):
            world.owner_writer.report_fault(fault, world.committee, {colluding: own}, submission)
        for forged in (own, by_owner):
            signatures = dict.fromkeys(range(5), forged)
            signatures[colluding] = own
            with refused("bad signature"):
                world.owner_writer.report_fault(fault, world.committee, signatures, submission)
        alone = (world.committee[colluding],)
        with refused("wrong committee"):
            world.owner_writer.report_fault(fault, alone, {0: own}, submission)
    assert burnt(world) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"task": TaskId(2)},
        {"round": Round(2)},
        {"party": "another"},
        {"kind": 2},
        {"evidence_hash": Hash32(b"\x05" * 32)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_fault_binds_all_it_says(world: World, task: TaskId, changes: dict[str, object]) -> None:
    """The others signed something else."""
    world.task()
    if "party" in changes:
        changes = {"party": world.committee[1]}
    fault = fault_of(world, task, world.committee[0], FaultKind.SERVER)
    votes = world.votes(replace(fault, **changes))  # type: ignore[arg-type]
    with refused("bad signature"):
        world.owner_writer.report_fault(fault, world.committee, votes)
    world.owner_writer.report_fault(fault, world.committee, world.votes(fault))


@pytest.mark.parametrize("field", ["chain", "contract"])
def test_a_fault_is_of_one_market_on_one_chain(world: World, task: TaskId, field: str) -> None:
    fault = fault_of(world, task, world.committee[0], FaultKind.SERVER)
    here = world.reader.domain
    there = (
        Domain(here.chain_id + 1, here.contract)
        if field == "chain"
        else Domain(here.chain_id, world.reader.registry)
    )
    votes = {j: world.keys[j].sign(fault, there) for j in range(4)}
    with refused("bad signature"):
        world.owner_writer.report_fault(fault, world.committee, votes)


def test_a_report_names_the_tasks_committee(world: World, task: TaskId) -> None:
    stranger = world.server()
    fault = fault_of(world, task, stranger.address, FaultKind.SERVER)
    with refused("not in the committee"):
        report(world, fault)
    with refused("wrong committee"):
        world.owner_writer.report_fault(
            fault, (*world.committee[:4], stranger.address), world.votes(fault)
        )
    for unknown in (TaskId(0), TaskId(9)):
        with refused("wrong committee"):
            report(world, replace(fault, task=unknown))
    drawing = world.owner_writer.create_drawn_task(world.terms())
    with refused("wrong committee"):  # nobody is in it yet
        world.send(
            "report_fault", drawing, 1, stranger.address, 1, bytes(32), [], 0, [], bytes(32),
            NO_SIGNATURE,
        )  # fmt: skip


@pytest.mark.parametrize("kind", [0, 3, 4, 5, 2**256 - 1])
def test_only_two_kinds_are_reported(world: World, task: TaskId, kind: int) -> None:
    """What proves itself needs its proof."""
    fault = fault_of(world, task, world.committee[0], kind)
    with refused("no such kind"):
        report(world, fault)


def test_reports_a_data_owner(world: World, task: TaskId) -> None:
    owner = Owner(world, task, bond_wei=BOND + 7)
    fault = fault_of(world, task, owner.address, FaultKind.OWNER)
    reporter = world.account()
    before = world.chain.balance(reporter.address)
    receipt = report(world, fault, owner.signed, reporter=reporter)
    (event,) = receipt.events
    assert isinstance(event, Slashed)
    assert (event.party, event.task, event.round, event.kind) == (owner.address, task, 1, 2)
    assert (event.amount_wei, event.share_wei) == (BOND, BOND // 20)
    assert world.reader.bond(owner.address).amount_wei == 7
    assert burnt(world) == BOND - BOND // 20
    assert world.chain.balance(reporter.address) == before + BOND // 20 - receipt.gas_cost_wei
    with refused("already judged"):
        report(world, replace(fault, evidence_hash=world.hash()), owner.signed)


def test_a_data_owner_is_reported_once_a_round(world: World, task: TaskId) -> None:
    owner = Owner(world, task, bond_wei=2 * BOND)
    fault = fault_of(world, task, owner.address, FaultKind.OWNER)
    report(world, fault, owner.signed)
    second = replace(owner.submission, round=Round(2))
    signed = second, owner.key.sign(second, world.reader.domain)
    with refused("not its submission"):  # the first round's proves nothing of the second
        report(world, replace(fault, round=Round(2)), owner.signed)
    report(world, replace(fault, round=Round(2)), signed)
    assert world.reader.bond(owner.address).amount_wei == 0
    third = replace(owner.submission, round=Round(3))
    with refused("nothing at risk"):
        report(
            world,
            replace(fault, round=Round(3)),
            (third, owner.key.sign(third, world.reader.domain)),
        )


def test_a_leaving_bond_still_answers(world: World, task: TaskId) -> None:
    owner = Owner(world, task, bond_wei=BOND + 1)
    owner.writer.leave_bond()
    free_at = world.reader.bond(owner.address).free_at
    report(world, fault_of(world, task, owner.address, FaultKind.OWNER), owner.signed)
    bond = world.reader.bond(owner.address)
    assert (bond.amount_wei, bond.free_at) == (1, free_at)
    world.chain.wait_for_time(free_at)
    owner.writer.withdraw_bond()


def test_a_bond_answers_for_its_round_to_the_end(world: World) -> None:
    """Whoever submits in a round and leaves at once still has its bond when it can be judged."""
    five_days = 5 * 86400
    task = world.task(min_bond_wei=Wei(BOND), submission_seconds=five_days, seal_seconds=five_days)
    owner = Owner(world, task)
    world.open(task)
    owner.writer.leave_bond()
    world.seal(task)
    world.to_settle_time(task)
    world.settle(task)
    with refused("still unbonding"):
        owner.writer.withdraw_bond()
    report(world, fault_of(world, task, owner.address, FaultKind.OWNER), owner.signed)
    with refused("bad seconds"):
        world.task(min_bond_wei=Wei(1), submission_seconds=five_days + 1, seal_seconds=five_days)


def test_a_bond_of_nothing_is_not_taken(world: World, task: TaskId) -> None:
    owner = Owner(world, task, bond_wei=0)
    with refused("nothing at risk"):
        report(world, fault_of(world, task, owner.address, FaultKind.OWNER), owner.signed)
    free = world.task()  # asks for no bond, so none is at risk
    bonded = Owner(world, free)
    with refused("nothing at risk"):
        report(world, fault_of(world, free, bonded.address, FaultKind.OWNER), bonded.signed)
    assert world.reader.bond(bonded.address).amount_wei == BOND


def test_a_data_owner_is_framed_by_no_quorum(world: World, task: TaskId) -> None:
    """Without its own signature on a submission of that round, all servers together cannot."""
    owner, other = Owner(world, task), Owner(world, task)
    fault = fault_of(world, task, owner.address, FaultKind.OWNER)
    submission, signature = owner.signed
    elsewhere = Domain(world.chain.chain_id + 1, world.address)
    wrong = [
        other.signed,
        (replace(submission, commitment=world.hash()), signature),
        (submission, owner.key.sign(replace(submission, task=TaskId(9)), world.reader.domain)),
        (submission, owner.key.sign(submission, elsewhere)),
        (submission, world.keys[0].sign(submission, world.reader.domain)),
    ]
    for signed in wrong:
        with refused("not its submission"):
            report(world, fault, signed, signers=range(5))
    report(world, fault, owner.signed)


def test_nobody_signs_for_the_zero_address(world: World, task: TaskId) -> None:
    """What is no signature recovers to it; it has no bond to lose."""
    nobody = Address(bytes(20))
    fault = fault_of(world, task, nobody, FaultKind.OWNER)
    votes = world.votes(fault)
    arguments = world.fault_arguments(fault, votes)
    with refused("nothing at risk"):
        world.send("report_fault", *arguments, bytes(32), NO_SIGNATURE)
    with refused("high s"):
        high = Signature(r=Hash32(b"\x01" * 32), vs=2**255 - 1)
        world.send("report_fault", *arguments, bytes(32), high)


def test_the_writer_asks_for_what_a_report_needs(world: World, task: TaskId) -> None:
    owner = Owner(world, task)
    with pytest.raises(UsageError, match="needs its submission"):
        report(world, fault_of(world, task, owner.address, FaultKind.OWNER))
    with pytest.raises(UsageError, match="needs its submission"):
        report(world, fault_of(world, task, world.committee[0], FaultKind.SERVER), owner.signed)


def test_reports_end_two_weeks_after_the_task(world: World, task: TaskId) -> None:
    owners = Owner(world, task), Owner(world, task)
    world.owner_writer.close_task(task)
    closed = world.chain.head_timestamp()
    assert world.of_registry(registry.released_at(task)) == closed
    world.chain.wait_for_time(closed + UNBONDING - 3)
    world.slash(task, 0)
    report(world, fault_of(world, task, owners[0].address, FaultKind.OWNER), owners[0].signed)
    assert world.chain.head_timestamp() == closed + UNBONDING - 1
    with refused("too late to report"):
        world.slash(task, 1)
    with refused("too late to report"):
        report(world, fault_of(world, task, owners[1].address, FaultKind.OWNER), owners[1].signed)


def test_who_left_answers_until_the_stake_is_free(world: World, task: TaskId) -> None:
    """The last report comes before the first withdrawal."""
    writer = world.writer(world.servers[0])
    writer.leave()
    world.owner_writer.close_task(task)
    free_at = world.reader.server(writer.address).free_at
    assert free_at == world.of_registry(registry.released_at(task)) + UNBONDING
    world.chain.wait_for_time(free_at - 2)
    with refused("still unbonding"):
        writer.withdraw_stake()
    world.slash(task, 0)
    with refused("too late to report"):
        world.slash(task, 1)
    before = world.chain.balance(writer.address)
    receipt = writer.withdraw_stake()
    assert world.chain.balance(writer.address) == before - receipt.gas_cost_wei


def test_a_server_that_owns_data_too_answers_for_both(world: World, task: TaskId) -> None:
    """Its bond and its stake are different money, judged apart."""
    key = world.keys[0]
    writer = world.writer(world.servers[0])
    writer.add_bond(Wei(BOND))
    submission = Submission(task=task, round=Round(1), commitment=world.hash())
    signed = submission, key.sign(submission, world.reader.domain)
    report(world, fault_of(world, task, key.address, FaultKind.OWNER), signed)
    assert (stake(world, 0), world.reader.bond(key.address).amount_wei) == (STAKE, 0)
    world.slash(task, 0)
    assert stake(world, 0) == 0


def test_burnt_money_stays(world: World, task: TaskId) -> None:
    """Nobody takes it out: all stakes and bonds go, and exactly that is left."""
    owner = Owner(world, task)
    report(world, fault_of(world, task, owner.address, FaultKind.OWNER), owner.signed)
    world.slash(task, 0)
    lost = STAKE - STAKE // 20 + BOND - BOND // 20
    world.owner_writer.close_task(task)
    for server in world.servers:
        world.writer(server).leave()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    for server in world.servers:
        world.writer(server).withdraw_stake()
    assert burnt(world) == lost == world.chain.balance(world.reader.registry)
