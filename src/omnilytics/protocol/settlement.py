"""Transcripts and settlements: a round's record and what servers sign (protocol.md 6.6, 6.7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package import opening_convicts, opening_matches
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.protocol.resolve import Evidence, Resolution, resolve
from omnilytics.protocol.words import check_server_words, check_two_words
from omnilytics.validity.challenge import Challenge, batch_weight
from omnilytics.validity.word import Word, batch_word
from omnilytics.wire.messages import Settlement
from omnilytics.wire.package import Opening
from omnilytics.wire.transcript import (
    Manifest,
    OpeningReference,
    Payout,
    ServerWords,
    Transcript,
    TwoWords,
)


@dataclass(frozen=True, kw_only=True)
class SealedRound:
    """A sealed round with its challenge: all that judging it takes besides the evidence."""

    context: RoundContext
    parameters: TaskParameters
    manifest: Manifest
    seed: Hash32
    challenge: Challenge

    @property
    def submissions_root(self) -> Hash32:
        """The root that was sealed on chain."""
        return self.manifest.root()

    def check_words(self, entry: ServerWords) -> tuple[Word, ...]:
        """Return one server's words of this round; raises VerificationError unless they hold."""
        return check_server_words(
            entry,
            manifest=self.manifest,
            submissions_root=self.submissions_root,
            seed=self.seed,
            parameters=self.parameters,
            domain=self.context.domain,
        )

    def check_conviction(self, evidence: TwoWords) -> None:
        """Raise VerificationError unless the evidence convicts a server in this round."""
        check_two_words(
            evidence,
            manifest=self.manifest,
            submissions_root=self.submissions_root,
            seed=self.seed,
            parameters=self.parameters,
            domain=self.context.domain,
        )


@dataclass(frozen=True)
class PayoutState:
    """How often each owner was accepted in the settled rounds of a task, and the root it gives."""

    accepted_rounds: Mapping[Address, int]
    root: Hash32

    def after(self, accepted: Iterable[Address]) -> dict[Address, int]:
        """Return the counts once `accepted` are paid for one more round."""
        counts = dict(self.accepted_rounds)
        for owner in accepted:
            counts[owner] = counts.get(owner, 0) + 1
        return counts


def payout_leaves(accepted_rounds: Mapping[Address, int], reward_wei: int) -> tuple[Payout, ...]:
    """Return the payout tree's leaves, sorted by owner."""
    return tuple(
        Payout(owner=owner, cumulative_wei=accepted_rounds[owner] * reward_wei)
        for owner in sorted(accepted_rounds)
    )


def judge(
    sealed: SealedRound,
    words: Sequence[ServerWords],
    convictions: Sequence[TwoWords],
    openings: Mapping[tuple[Address, int], Opening],
) -> Resolution:
    """Check the signatures of the evidence and resolve the round.

    Raises:
        VerificationError: A word, a conviction or a signature does not hold, or a server stands
            twice among the words.
    """
    checked: dict[int, tuple[Word, ...]] = {}
    for entry in words:
        if entry.server in checked:
            raise VerificationError("two sets of words of one server", server=entry.server)
        checked[entry.server] = sealed.check_words(entry)
    for conviction in convictions:
        sealed.check_conviction(conviction)
    places = {owner: place for place, owner in enumerate(sealed.manifest.owners)}

    def convicts(owner: Address, server: int) -> bool:
        opening = openings.get((owner, server))
        return opening is not None and opening_convicts(
            opening,
            server=server,
            signed_word=checked[server][places[owner]],
            certificate=sealed.manifest.certificates[places[owner]],
            parameters=sealed.parameters,
            context=sealed.context,
            challenge=sealed.challenge,
        )

    evidence = Evidence(
        owners=sealed.manifest.owners,
        words=checked,
        convicted=frozenset(entry.server for entry in convictions),
        opening_convicts=convicts,
        seed=sealed.seed,
    )
    return resolve(evidence, sealed.parameters)


def build_transcript(
    sealed: SealedRound,
    words: Sequence[ServerWords],
    convictions: Sequence[TwoWords],
    openings: Mapping[tuple[Address, int], Opening],
    payouts: PayoutState,
) -> tuple[Transcript, Resolution]:
    """Resolve the round and write it down; the same evidence gives the same bytes.

    Openings of anything but sealed packages are left out, so that none can stand in for a true one.
    """
    openings = _matching(sealed, openings)
    resolution = judge(sealed, words, convictions, openings)
    references = tuple(
        OpeningReference(owner=owner, server=server, opening_hash=openings[owner, server].hash())
        for owner, server in sorted(openings)
    )
    leaves = payout_leaves(payouts.after(resolution.accepted), sealed.parameters.reward_wei)
    transcript = Transcript(
        manifest=sealed.manifest,
        seed=sealed.seed,
        words=tuple(sorted(words, key=lambda entry: entry.server)),
        openings=references,
        convictions=tuple(sorted(convictions, key=lambda entry: (entry.server, entry.encode()))),
        accepted=resolution.accepted,
        v_bitmap=resolution.v_bitmap,
        previous_payouts_root=payouts.root,
        payouts=leaves,
    )
    return transcript, resolution


def _matching(
    sealed: SealedRound, openings: Mapping[tuple[Address, int], Opening]
) -> dict[tuple[Address, int], Opening]:
    """Return the openings that are what they are said to be."""
    certificates = {entry.owner: entry for entry in sealed.manifest.certificates}
    return {
        (owner, server): opening
        for (owner, server), opening in openings.items()
        if owner in certificates
        and opening_matches(
            opening,
            server=server,
            certificate=certificates[owner],
            parameters=sealed.parameters,
            context=sealed.context,
        )
    }


def check_transcript(
    transcript: Transcript,
    sealed: SealedRound,
    openings: Mapping[tuple[Address, int], Opening],
    payouts: PayoutState,
) -> Resolution:
    """Return the resolution of a transcript; raises VerificationError unless it follows.

    Args:
        transcript: The proposed transcript.
        sealed: The round as the checker knows it.
        openings: The openings that the transcript names, fetched by hash.
        payouts: The payout state before this round as the checker knows it.
    """
    rebuilt, resolution = build_transcript(
        sealed, transcript.words, transcript.convictions, openings, payouts
    )
    if rebuilt != transcript:
        wrong = [
            name
            for name in Transcript.model_fields
            if getattr(rebuilt, name) != getattr(transcript, name)
        ]
        raise VerificationError("the transcript does not follow from its evidence", got=wrong)
    return resolution


def check_complete(
    transcript: Transcript,
    *,
    words: Iterable[ServerWords],
    convictions: Iterable[TwoWords],
    openings: Iterable[tuple[Address, int]],
) -> None:
    """Raise VerificationError unless it contains all that the signer held at the cut-off.

    More is allowed. A server whose conviction is included may be there with either set of words.
    """
    included_words = {entry.server: entry.words for entry in transcript.words}
    convicted = {entry.server for entry in transcript.convictions}
    missing = {
        entry.server
        for entry in words
        if entry.server not in included_words
        or (entry.server not in convicted and entry.words != included_words[entry.server])
    }
    missing |= {entry.server for entry in convictions} - convicted
    if missing:
        raise VerificationError("the transcript leaves out words", servers=sorted(missing))
    included = {(entry.owner, entry.server) for entry in transcript.openings}
    if left_out := set(openings) - included:
        raise VerificationError("the transcript leaves out an opening", got=len(left_out))


def settlement_message(
    transcript: Transcript, own_words: ServerWords, context: RoundContext
) -> Settlement:
    """Return the Settlement that the server of `own_words` signs, with its batch word."""
    accepted_root = transcript.accepted_root()
    words = dict(zip(transcript.manifest.owners, own_words.words, strict=True))
    weighted = [
        (batch_weight(transcript.seed, accepted_root, owner), Word.from_bytes(words[owner]))
        for owner in transcript.accepted
    ]
    return Settlement(
        task=context.task,
        round=context.round,
        submissions_root=transcript.manifest.root(),
        seed=transcript.seed,
        accepted_root=accepted_root,
        accepted_count=len(transcript.accepted),
        v_bitmap=transcript.v_bitmap,
        previous_payouts_root=transcript.previous_payouts_root,
        payouts_root=transcript.payouts_root(),
        transcript_hash=transcript.hash(),
        word=Hash32(batch_word(weighted).to_bytes()),
    )
