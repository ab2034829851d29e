"""Whole rounds among several servers over a bad network, sans IO (protocol.md 6.5 to 6.7).

Every message is a record that servers keep and pass on. The network drops, delays, repeats and
reorders copies; faulty servers lie, stay silent, or tell different servers different things.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from random import Random

import pytest
from protocol_cheats import cheat
from protocol_world import Case, World

from omnilytics.demo.cheats import FalseNormOwner, MisdealingOwner, WrappingOwner
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address
from omnilytics.protocol.package import check_package, compute_word
from omnilytics.protocol.resolve import Resolution
from omnilytics.protocol.settlement import (
    PayoutState,
    build_transcript,
    check_complete,
    check_transcript,
    judge,
    settlement_message,
)
from omnilytics.protocol.words import check_server_words, find_two_words
from omnilytics.sharing.committee import Committee
from omnilytics.wire.hashing import EMPTY_ROOT
from omnilytics.wire.messages import Settlement
from omnilytics.wire.package import Opening
from omnilytics.wire.transcript import ServerWords, Transcript, TwoWords

COMMITTEES = (Committee(5, 1, 1), Committee(7, 2, 1), Committee(11, 3, 2))
BEHAVIOURS = ("lies", "silent", "two-faced", "selective", "forges")
FIRST = PayoutState({}, EMPTY_ROOT)
RUNS = [
    *(pytest.param(committee, seed) for committee in COMMITTEES[:2] for seed in range(7)),
    *(pytest.param(COMMITTEES[2], seed) for seed in range(2)),
    *(
        pytest.param(committee, seed, marks=pytest.mark.slow)
        for committee in COMMITTEES
        for seed in range(7, 30)
    ),
]
PULLS = 12
"""Exchanges before a cut-off: enough for honest records to get through a network that drops half"""


@dataclass
class Node:
    """What one honest server holds, and the steps it takes."""

    server: int
    case: Case
    words: list[ServerWords] = field(default_factory=list)
    openings: dict[tuple[Address, int], Opening] = field(default_factory=dict)

    def receive(self, record: ServerWords | Opening) -> None:
        """Keep a record if it is what it says it is."""
        sealed = self.case.sealed
        try:
            if isinstance(record, Opening):
                server = record.header.server
                check_package(
                    record, server=server, parameters=sealed.parameters, context=sealed.context
                )
                self.openings.setdefault((record.header.owner, server), record)
            elif record not in self.words:
                check_server_words(
                    record,
                    manifest=sealed.manifest,
                    submissions_root=sealed.submissions_root,
                    seed=sealed.seed,
                    parameters=sealed.parameters,
                    domain=sealed.context.domain,
                )
                self.words.append(record)
        except VerificationError:
            pass

    def one_each(self) -> list[ServerWords]:
        return list({entry.server: entry for entry in reversed(self.words)}.values())

    def convictions(self) -> list[TwoWords]:
        return find_two_words(self.case.sealed.manifest, self.words)

    def open_if_accused(self) -> None:
        sealed = self.case.sealed
        outcome = judge(sealed, self.one_each(), self.convictions(), self.openings)
        for owner, server in outcome.accused:
            opening = self.case.opening(owner, server)
            word = compute_word(opening, sealed.parameters, sealed.context, sealed.challenge)
            own = self.case.entries[server].words[self.case.owners.index(owner)]
            if server == self.server and word == own:
                self.openings[owner, server] = opening

    def propose(self) -> Transcript:
        transcript, _ = build_transcript(
            self.case.sealed, self.one_each(), self.convictions(), self.openings, FIRST
        )
        return transcript

    def sign(
        self, transcript: Transcript, openings: dict[tuple[Address, int], Opening]
    ) -> tuple[Settlement, Resolution] | None:
        try:
            check_complete(
                transcript,
                words=self.one_each(),
                convictions=self.convictions(),
                openings=self.openings,
            )
            resolution = check_transcript(transcript, self.case.sealed, openings, FIRST)
        except VerificationError:
            return None
        if self.server not in resolution.standing:
            return None
        own = next(entry for entry in transcript.words if entry.server == self.server)
        return settlement_message(transcript, own, self.case.sealed.context), resolution


@dataclass
class Simulation:
    """One round with a seeded network and seeded faults."""

    case: Case
    random: Random
    behaviour: dict[int, str]
    nodes: dict[int, Node]

    @classmethod
    def of(cls, case: Case, seed: int, behaviour: dict[int, str]) -> Simulation:
        honest = [server for server in case.world.committee.points if server not in behaviour]
        nodes = {server: Node(server, case) for server in honest}
        return cls(case, Random(seed), behaviour, nodes)

    def send_words(self) -> None:
        """Every server gives its words to itself, and to some others at first."""
        for server, node in self.nodes.items():
            node.receive(self.case.entries[server])
        for server, kind in self.behaviour.items():
            for receiver, entry in self._faulty_words(server, kind):
                self.nodes[receiver].receive(entry)

    def _faulty_words(self, server: int, kind: str) -> Iterator[tuple[int, ServerWords]]:
        true, lie = self.case.entries[server], self.case.lie(server)
        for receiver in self.nodes:
            if kind == "lies":
                yield receiver, lie
            if kind == "two-faced":
                yield receiver, self.random.choice([true, lie])
            if kind == "selective" and self.random.random() < 0.4:
                yield receiver, true
            if kind == "forges":  # somebody else's words under its own name, and the reverse
                victim = self.random.choice(list(self.nodes))
                yield receiver, self.case.entries[victim].model_copy(update={"server": server})
                yield receiver, lie.model_copy(update={"server": victim})

    def gossip(self, pulls: int = PULLS, loss: float = 0.5) -> None:
        """Let servers pull from random peers; copies get lost, repeated and reordered."""
        for _ in range(pulls):
            for puller in self.random.sample(list(self.nodes), len(self.nodes)):
                peer = self.nodes[self.random.choice(list(self.nodes))]
                records: list[ServerWords | Opening] = [*peer.words, *peer.openings.values()]
                copies = [record for record in records for _ in range(self.random.randint(0, 2))]
                self.random.shuffle(copies)
                for record in copies:
                    if self.random.random() >= loss:
                        self.nodes[puller].receive(record)

    def finish_gossip(self) -> None:
        """Deliver what honest servers hold: they pull again until the cut-off."""
        for puller in self.nodes.values():
            for peer in self.nodes.values():
                for words in list(peer.words):
                    puller.receive(words)
                for opening in list(peer.openings.values()):
                    puller.receive(opening)

    def settle(self, sequencer: int) -> list[tuple[Settlement, Resolution]]:
        proposer = self.nodes[sequencer]
        transcript, openings = proposer.propose(), dict(proposer.openings)
        signed = (node.sign(transcript, openings) for node in self.nodes.values())
        return [entry for entry in signed if entry is not None]


@cache
def honest_and_cheating(committee: Committee, misdealing: bool) -> tuple[Case, dict[Address, str]]:
    world = World(committee, seed=91, components=(24,))
    kinds = {world.submit(): "honest", world.submit(): "honest"}
    kinds[cheat(FalseNormOwner, world)] = "invalid"
    kinds[cheat(WrappingOwner, world)] = "invalid"
    if misdealing:
        kinds[cheat(MisdealingOwner, world)] = "misdealing"
    return world.seal(*kinds), {entry.owner: kind for entry, kind in kinds.items()}


def faults_of(committee: Committee, seed: int, most: int) -> dict[int, str]:
    random = Random(seed)
    servers = random.sample(committee.points, random.randint(0, most))
    return {server: random.choice(BEHAVIOURS) for server in servers}


def assert_nobody_honest_is_blamed(
    simulation: Simulation, resolution: Resolution, kinds: dict[Address, str]
) -> None:
    assert not set(resolution.faults) & set(simulation.nodes)
    assert not [owner for owner in resolution.accepted if kinds[owner] == "invalid"]
    blamed = {reason for owner, reason in resolution.rejected.items() if kinds[owner] == "honest"}
    assert blamed <= {
        "fewer than n - e servers sent words",
        "fewer than n - e servers hold shares that agree",
        "fewer than n - e servers without fault agree on it",
    }


@pytest.mark.parametrize(("committee", "seed"), RUNS)
def test_n_minus_e_responsive_servers_finish_the_round(committee: Committee, seed: int) -> None:
    """At most e servers are faulty; honest records arrive before the cut-offs."""
    case, kinds = honest_and_cheating(committee, misdealing=True)
    behaviour = faults_of(committee, seed, committee.errors)
    simulation = Simulation.of(case, seed, behaviour)
    simulation.send_words()
    simulation.gossip()
    simulation.finish_gossip()
    for node in simulation.nodes.values():
        node.open_if_accused()
    simulation.gossip()
    simulation.finish_gossip()
    honest = {owner for owner, kind in kinds.items() if kind == "honest"}
    outcomes = set()
    for sequencer in simulation.random.sample(list(simulation.nodes), 2):
        signed = simulation.settle(sequencer)
        assert len(signed) == len(simulation.nodes) >= committee.quorum
        for settlement, resolution in signed:
            assert_nobody_honest_is_blamed(simulation, resolution, kinds)
            assert set(simulation.nodes) <= set(resolution.standing)
            assert honest <= set(resolution.accepted)
            outcomes.add((settlement.transcript_hash, resolution.accepted, resolution.standing))
        shared = {
            field: len({getattr(settlement, field) for settlement, _ in signed})
            for field in ("accepted_root", "v_bitmap", "payouts_root", "transcript_hash")
        }
        assert set(shared.values()) == {1}
    assert len({(accepted, standing) for _, accepted, standing in outcomes}) == 1
    for server, kind in behaviour.items():
        if kind in ("lies", "silent", "forges"):
            assert server not in next(iter(outcomes))[2]


@pytest.mark.parametrize(
    ("committee", "runs"),
    [
        (COMMITTEES[0], 14),
        (COMMITTEES[1], 10),
        (COMMITTEES[2], 8),
        *(pytest.param(committee, 60, marks=pytest.mark.slow) for committee in COMMITTEES),
    ],
)
def test_late_and_lost_words_never_blame_or_split(committee: Committee, runs: int) -> None:
    """The network may lose anything and up to t servers deviate: a round may fail, not go wrong."""
    case, kinds = honest_and_cheating(committee, misdealing=False)
    honest = {owner for owner, kind in kinds.items() if kind == "honest"}
    finished = 0
    for seed in range(runs):
        random = Random(seed)
        most = committee.privacy if seed % 3 else committee.errors
        behaviour = faults_of(committee, seed, most)
        simulation = Simulation.of(case, seed, behaviour)
        simulation.send_words()
        simulation.gossip(pulls=random.choice([1, 4, 16, 40]), loss=random.choice([0, 0.3, 0.6]))
        outcomes: dict[bytes, Resolution] = {}
        settled: list[Resolution] = []
        for sequencer in random.sample(list(simulation.nodes), 2):
            signed = simulation.settle(sequencer)
            for settlement, resolution in signed:
                assert_nobody_honest_is_blamed(simulation, resolution, kinds)
                known = outcomes.setdefault(settlement.transcript_hash, resolution)
                assert known == resolution  # whoever resolves a transcript resolves it alike
            if len(signed) >= committee.quorum:
                settled.append(signed[0][1])
        finished += bool(settled)
        for resolution in settled:
            assert len(resolution.standing) >= committee.quorum
            if len(behaviour) <= committee.errors:
                assert set(resolution.accepted) == honest
    assert 0 < finished < runs  # both happen, else this shows nothing


@pytest.mark.parametrize("committee", COMMITTEES, ids=str)
def test_a_sequencer_that_leaves_something_out_finds_no_quorum(committee: Committee) -> None:
    """Everything reached everybody; each omission changes the outcome, and nobody signs it."""
    case, kinds = honest_and_cheating(committee, misdealing=True)
    liar = committee.servers
    simulation = Simulation.of(case, 1, {liar: "two-faced"})
    simulation.send_words()
    for node in simulation.nodes.values():
        node.receive(case.lie(liar))
        node.receive(case.entries[liar])
    simulation.finish_gossip()
    for node in simulation.nodes.values():
        node.open_if_accused()
    simulation.finish_gossip()
    victim = committee.privacy + 1
    misdealing = next(owner for owner, kind in kinds.items() if kind == "misdealing")
    node = simulation.nodes[1]
    words, convictions, openings = node.one_each(), node.convictions(), dict(node.openings)
    if committee.errors > 1:  # else too few agree on the misdealt owner to accuse anyone
        assert list(openings) == [(misdealing, victim)]
    proposals = {
        "words": (words[1:], convictions, openings),
        "conviction": (words, [], openings),
    }
    if openings:
        proposals["opening"] = (words, convictions, {})
    for left_out in proposals.values():
        transcript, _ = build_transcript(case.sealed, *left_out, FIRST)
        assert not [n for n in simulation.nodes.values() if n.sign(transcript, left_out[2])]
    full, _ = build_transcript(case.sealed, words, convictions, openings, FIRST)
    signed = [n for n in simulation.nodes.values() if n.sign(full, openings)]
    assert len(signed) == len(simulation.nodes)
