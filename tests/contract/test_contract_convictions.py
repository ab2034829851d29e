"""Two signatures where there may be one: they convict by themselves, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from contract_world import ETHER, STAKE, World, refused, shared_world
from eth_hash.auto import keccak

from omnilytics.chain.abi import Signature
from omnilytics.chain.bindings import registry
from omnilytics.chain.bindings.registry import Slashed
from omnilytics.chain.records import FaultKind
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import compact_signature
from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Hash32, Round, TaskId, Wei
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.messages import Final, Seed, Word

UNBONDING = 14 * 86400
Message = Word | Seed | Final
Pair = tuple[Any, Any]


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


@pytest.fixture
def task(world: World) -> TaskId:
    return world.task()


def words(world: World, task: TaskId) -> Pair:
    one = Word(
        task=task,
        round=Round(1),
        submissions_root=world.hash(),
        seed=world.hash(),
        owner=world.key().address,
        commitment=world.hash(),
        word=world.hash(),
    )
    return one, replace(one, word=world.hash())


def seeds(world: World, task: TaskId) -> Pair:
    one = Seed(task=task, round=Round(1), submissions_root=world.hash(), seed=world.hash())
    return one, replace(one, seed=world.hash())


def finals(world: World, task: TaskId) -> Pair:
    one = Final(task=task, round=Round(1), accepted_root=world.hash())
    return one, replace(one, accepted_root=world.hash())


KINDS: list[tuple[Callable[[World, TaskId], Pair], FaultKind]] = [
    (words, FaultKind.TWO_WORDS),
    (seeds, FaultKind.TWO_SEEDS),
    (finals, FaultKind.TWO_FINALS),
]
every_kind = pytest.mark.parametrize(("make", "kind"), KINDS, ids=["words", "seeds", "finals"])
every_pair = pytest.mark.parametrize("make", [words, seeds, finals])
Make = Callable[[World, TaskId], Pair]


def signed(
    world: World, pair: tuple[Any, ...], index: int = 0, domain: Domain | None = None
) -> Any:
    return tuple(world.keys[index].sign(m, domain or world.reader.domain) for m in pair)


def convict(
    world: World,
    pair: Pair,
    *,
    index: int = 0,
    signatures: Any = None,
    sender: Sender | None = None,
) -> Any:
    writer = world.writer(sender or world.model_owner)
    proof = signed(world, pair, index) if signatures is None else signatures
    return writer.convict(world.committee[index], world.committee, pair, proof)


def stake(world: World, index: int = 0) -> int:
    return world.reader.server(world.committee[index]).stake_wei


@every_kind
def test_convicts(world: World, task: TaskId, make: Make, kind: FaultKind) -> None:
    """The whole stake goes, whatever the task asked for; a quarter is the convictor's."""
    world.writer(world.servers[0]).add_stake(Wei(ETHER))
    pair = make(world, task)
    sender = world.account()
    before = world.chain.balance(sender.address)
    receipt = convict(world, pair, sender=sender)
    lost = STAKE + ETHER
    (event,) = receipt.events
    assert isinstance(event, Slashed)
    assert (event.party, event.task, event.round) == (world.committee[0], task, 1)
    assert (event.kind, event.reporter) == (kind, sender.address)
    assert event.evidence_hash == keccak(b"".join(m.struct_hash() for m in pair))
    assert (event.amount_wei, event.share_wei) == (lost, lost // 4)
    assert world.chain.balance(sender.address) == before + lost // 4 - receipt.gas_cost_wei
    assert world.of_registry(registry.burnt_wei()) == lost - lost // 4
    assert stake(world) == 0
    assert stake(world, 1) == STAKE
    case = keccak(
        task.to_bytes(32, "big")
        + (1).to_bytes(32, "big")
        + world.committee[0].rjust(32, b"\0")
        + (1).to_bytes(32, "big")
    )
    assert world.of_registry(registry.judged(Hash32(case)))


@every_pair
def test_the_same_message_twice_convicts_nobody(world: World, task: TaskId, make: Make) -> None:
    """Also signed twice in different ways."""
    one, _ = make(world, task)
    signature = world.keys[0].sign(one, world.reader.domain)
    with refused("the same twice"):
        convict(world, (one, one), signatures=(signature, signature))
    assert stake(world) == STAKE


@every_pair
def test_both_must_be_the_servers(world: World, task: TaskId, make: Make) -> None:
    pair = make(world, task)
    own, other = signed(world, pair), signed(world, pair, 1)
    for signatures in ((own[0], other[1]), (other[0], own[1]), other, (own[1], own[0])):
        with refused("bad signature"):
            convict(world, pair, signatures=signatures)
    convict(world, pair, signatures=own)


@every_pair
@pytest.mark.parametrize("where", ["chain", "contract"])
def test_signatures_for_elsewhere_convict_nobody(
    world: World, task: TaskId, make: Make, where: str
) -> None:
    here = world.reader.domain
    there = (
        Domain(here.chain_id + 1, here.contract)
        if where == "chain"
        else Domain(here.chain_id, world.reader.registry)
    )
    pair = make(world, task)
    abroad, at_home = signed(world, pair, domain=there), signed(world, pair)
    for signatures in (abroad, (at_home[0], abroad[1]), (abroad[0], at_home[1])):
        with refused("bad signature"):
            convict(world, pair, signatures=signatures)


@every_pair
@pytest.mark.parametrize("field", ["task", "round"])
def test_messages_of_other_rounds_and_tasks_convict_nobody(
    world: World, task: TaskId, make: Make, field: str
) -> None:
    """One message in each of two rounds is as it should be."""
    world.task()
    one, other = make(world, task)
    changed = {"task": TaskId(2)} if field == "task" else {"round": Round(2)}
    elsewhere = replace(other, **changed)
    signatures = (signed(world, (one,))[0], signed(world, (elsewhere,))[0])
    with refused("bad signature"):
        convict(world, (one, other), signatures=signatures)
    with pytest.raises(UsageError, match="different rounds"):
        convict(world, (one, elsewhere))


@pytest.mark.parametrize("field", ["submissions_root", "seed", "owner", "commitment"])
def test_words_under_different_keys_convict_nobody(world: World, task: TaskId, field: str) -> None:
    """A server answers for each owner, commitment and seed once; a new key has a new word."""
    one, other = words(world, task)
    value = world.key().address if field == "owner" else world.hash()
    moved = replace(other, **{field: value})
    signatures = (signed(world, (one,))[0], signed(world, (moved,))[0])
    with refused("bad signature"):
        convict(world, (one, other), signatures=signatures)
    with pytest.raises(UsageError, match="different keys"):
        convict(world, (one, moved))


def test_seeds_of_different_manifests_convict(world: World, task: TaskId) -> None:
    """The seed lock is one per round, whatever the submissions root."""
    one, _ = seeds(world, task)
    convict(world, (one, replace(one, submissions_root=world.hash())))
    assert stake(world) == 0


def test_one_kind_is_no_other(world: World, task: TaskId) -> None:
    with pytest.raises(UsageError, match="different kinds"):
        convict(world, (seeds(world, task)[0], finals(world, task)[0]))
    a, b = finals(world, task)
    one, two = seeds(world, task)
    with refused("bad signature"):
        convict(world, (a, b), signatures=signed(world, (one, two)))


@every_pair
def test_only_members_of_the_committee(world: World, task: TaskId, make: Make) -> None:
    """A server that is in no such task, or none at all, signs what it likes."""
    stranger = world.server()
    pair = make(world, task)
    key = world.known[stranger.address]
    signatures: Any = tuple(key.sign(m, world.reader.domain) for m in pair)
    with refused("not in the committee"):
        world.owner_writer.convict(stranger.address, world.committee, pair, signatures)
    with refused("wrong committee"):
        world.owner_writer.convict(
            stranger.address, (*world.committee[:4], stranger.address), pair, signatures
        )
    with refused("wrong committee"):
        unknown: Any = tuple(replace(m, task=TaskId(9)) for m in pair)
        convict(world, unknown)


@every_pair
def test_a_server_is_convicted_once_a_round(world: World, task: TaskId, make: Make) -> None:
    """Of whichever kind; another round or task is another case."""
    pair = make(world, task)
    convict(world, pair)
    world.writer(world.servers[0]).add_stake(Wei(7))
    for again in (pair, make(world, task), finals(world, task)):
        with refused("already judged"):
            convict(world, again)
    assert stake(world) == 7
    second: Any = tuple(replace(m, round=Round(2)) for m in pair)
    convict(world, second)
    assert stake(world) == 0


def test_nothing_is_judged_where_nothing_is_lost(world: World, task: TaskId) -> None:
    """A server without stake is convicted once it has some again."""
    convict(world, finals(world, task))
    second: Any = tuple(replace(m, round=Round(2)) for m in finals(world, task))
    with refused("nothing at risk"):
        convict(world, second)
    world.writer(world.servers[0]).add_stake(Wei(3))
    convict(world, second)
    assert stake(world) == 0


def test_a_report_and_a_conviction_are_two_cases(world: World, task: TaskId) -> None:
    world.writer(world.servers[0]).add_stake(Wei(9))
    world.slash(task, 0)
    convict(world, finals(world, task))
    assert stake(world) == 0


def test_who_left_is_convicted_until_it_withdraws(world: World, task: TaskId) -> None:
    writers = [world.writer(server) for server in world.servers]
    for writer in writers[:2]:
        writer.leave()
    world.owner_writer.close_task(task)
    world.chain.wait_for_time(world.reader.server(world.committee[0]).free_at)
    writers[1].withdraw_stake()
    convict(world, finals(world, task), index=0)
    with refused("nothing at risk"):
        convict(world, finals(world, task), index=1)
    before = world.chain.balance(world.committee[0])
    receipt = writers[0].withdraw_stake()  # it has nothing left, but gets out
    assert world.chain.balance(world.committee[0]) == before - receipt.gas_cost_wei


def test_a_closed_task_convicts_for_ever(world: World, task: TaskId) -> None:
    """Unlike reports: nobody else's word is needed."""
    world.owner_writer.close_task(task)
    world.chain.jump(world.chain.head_timestamp() + 100 * UNBONDING)
    convict(world, words(world, task))
    assert stake(world) == 0


def test_malleable_signatures_are_refused(world: World, task: TaskId) -> None:
    one, other = finals(world, task)
    first, second = (compact_signature(signature) for signature in signed(world, (one, other)))
    half = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
    high = Signature(r=second.r, vs=half + 1 | second.vs >> 255 << 255)
    arguments = (task, 1, [one.accepted_root, other.accepted_root])
    with refused("high s"):
        world.send(
            "convict_of_two_finals", *arguments, [first, high], world.committee[0], world.committee
        )
    flipped = Signature(r=second.r, vs=second.vs ^ 1 << 255)
    with refused("bad signature"):
        world.send(
            "convict_of_two_finals", *arguments, [first, flipped], world.committee[0],
            world.committee,
        )  # fmt: skip


def test_an_honest_round_convicts_nobody(world: World, task: TaskId) -> None:
    """What servers sign in a round is one Seed, one Final and one word per key."""
    world.round(task)
    pairs = [make(world, task) for make, _ in KINDS]
    for one, other in pairs:
        own = signed(world, (one,))[0]
        for forged in (
            own,
            signed(world, (other,), 1)[0],
            world.owner_key.sign(other, world.reader.domain),
        ):
            with refused("bad signature"):
                convict(world, (one, other), signatures=(own, forged))
