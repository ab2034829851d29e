"""Who is at fault in a round, and what proves it (protocol.md sections 6.6 and 8).

Two kinds of faults are found by judging a settled transcript: servers that `resolve` puts at fault,
and owners whose own opened package shows that they dealt a server a bad share. n - e servers sign
what they found. Two different Words under one key, two Seeds or two Finals prove themselves.

Not guaranteed: silence is no fault here, but a server that sends words, is accused because an owner
misdealt, and then shows nobody its opening is judged as if it had lied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from omnilytics.chain.records import FaultKind
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.package import opening_convicts
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.protocol.resolve import Resolution
from omnilytics.protocol.settlement import SealedRound, judge
from omnilytics.validity.word import Word as WordValue
from omnilytics.wire.envelope import Signed
from omnilytics.wire.messages import Fault, Final, Seed, Word
from omnilytics.wire.package import Opening
from omnilytics.wire.task_specification import TaskSpecification
from omnilytics.wire.transcript import Manifest, Transcript, TwoWords

Openings = Mapping[tuple[Address, int], Opening]
"""Opened packages by owner and server."""


@dataclass(frozen=True, kw_only=True)
class Equivocation:
    """Two different messages of a server where it may sign one: it needs no further witness."""

    server: Address
    messages: tuple[Word, Word] | tuple[Seed, Seed] | tuple[Final, Final]
    signatures: tuple[bytes, bytes]


def judge_settled(sealed: SealedRound, transcript: Transcript, openings: Openings) -> Resolution:
    """Return the resolution of a transcript's evidence.

    Raises:
        VerificationError: A signature does not hold, or the transcript decides otherwise.
    """
    resolution = judge(sealed, transcript.words, transcript.convictions, openings)
    if (resolution.accepted, resolution.v_bitmap) != (transcript.accepted, transcript.v_bitmap):
        raise VerificationError("the transcript does not follow from its evidence")
    return resolution


def find_faults(
    sealed: SealedRound,
    transcript: Transcript,
    resolution: Resolution,
    openings: Openings,
    specification: TaskSpecification,
) -> tuple[Fault, ...]:
    """Return the faults in a settled round for which the task puts something at risk.

    Args:
        sealed: The round, with the transcript's manifest.
        transcript: What was settled.
        resolution: What its evidence shows.
        openings: The packages it names, opened.
        specification: Of the task; says what is at risk.
    """
    found: list[tuple[Address, FaultKind]] = []
    if specification.min_stake_wei > 0:
        servers = sorted(resolution.faults)
        found += [(sealed.parameters.member(server), FaultKind.SERVER) for server in servers]
    if specification.admission.min_bond_wei > 0:
        owners = sorted(misdealing_owners(sealed, transcript, resolution, openings))
        found += [(owner, FaultKind.OWNER) for owner in owners]
    return tuple(
        Fault(
            task=sealed.context.task,
            round=sealed.context.round,
            party=party,
            kind=int(kind),
            evidence_hash=transcript.hash(),
        )
        for party, kind in found
    )


def misdealing_owners(
    sealed: SealedRound, transcript: Transcript, resolution: Resolution, openings: Openings
) -> set[Address]:
    """Return the owners whose own package, opened by the accused server, convicts them."""
    words = {entry.server: entry.words for entry in transcript.words}
    places = {owner: place for place, owner in enumerate(sealed.manifest.owners)}
    return {
        owner
        for owner, server in resolution.accused
        if (owner, server) in openings
        and opening_convicts(
            openings[owner, server],
            server=server,
            signed_word=WordValue.from_bytes(words[server][places[owner]]),
            certificate=sealed.manifest.certificates[places[owner]],
            parameters=sealed.parameters,
            context=sealed.context,
            challenge=sealed.challenge,
        )
    }


def two_words(
    evidence: TwoWords, manifest: Manifest, seed: Hash32, parameters: TaskParameters
) -> Equivocation:
    """Return the equivocation in checked evidence of two words under one key."""
    commitments = {entry.owner: entry.commitment for entry in manifest.certificates}

    def message(word: Hash32) -> Word:
        return Word(
            task=manifest.task,
            round=manifest.round,
            submissions_root=manifest.root(),
            seed=seed,
            owner=evidence.owner,
            commitment=commitments[evidence.owner],
            word=word,
        )

    return Equivocation(
        server=parameters.member(evidence.server),
        messages=(message(evidence.first_word), message(evidence.second_word)),
        signatures=(evidence.first_signature, evidence.second_signature),
    )


def two_answers(server: Address, signed: Iterable[Signed]) -> Equivocation | None:
    """Return the equivocation in a server's checked Seeds, or Finals, of one round, if any."""
    first: Signed | None = None
    for entry in signed:
        first = first or entry
        pair = (first.message, entry.message)
        if pair[0] == pair[1]:
            continue  # the same once more
        signatures = (first.signature, entry.signature)
        if isinstance(pair[0], Seed) and isinstance(pair[1], Seed):
            return Equivocation(server=server, messages=(pair[0], pair[1]), signatures=signatures)
        if isinstance(pair[0], Final) and isinstance(pair[1], Final):
            return Equivocation(server=server, messages=(pair[0], pair[1]), signatures=signatures)
    return None
