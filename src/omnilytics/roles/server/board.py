"""The kinds of public records on a server's board.

Every server keeps the public records of a round that it made or checked, and serves them to whoever
asks; peers pull from each other, so a record reaches every honest server through any of them, and a
restart or a lost message costs only another pull.
"""

from __future__ import annotations

from omnilytics.protocol.parameters import TaskParameters
from omnilytics.wire.record import MAX_COMMITTEE

CERTIFICATE = "certificate"
"""Certificates that reached this server itself by the submission deadline: it insists on them."""
PULLED_CERTIFICATE = "pulled-certificate"
"""Certificates that it learned of from peers, after the deadline: it accepts them. A peer that
brings out one after the other could otherwise hold up the sealing for ever. Not public: whoever
holds one as its own serves it."""
MANIFEST = "manifest"
SEAL_VOTE = "seal-vote"
COMPLAINT = "complaint"
SEED = "seed"
WORDS = "words"
TWO_WORDS = "two-words"
OPENING = "opening"
TRANSCRIPT = "transcript"
SETTLEMENT = "settlement"
FINAL = "final"
FAULT = "fault"

PUBLIC_KINDS = frozenset(
    {
        CERTIFICATE,
        MANIFEST,
        SEAL_VOTE,
        COMPLAINT,
        SEED,
        WORDS,
        TWO_WORDS,
        OPENING,
        TRANSCRIPT,
        SETTLEMENT,
        FINAL,
        FAULT,
    }
)

MAX_MANIFEST_BYTES = 128 << 20

MAX_SIGNED = {SEED: 2, FINAL: 2, SETTLEMENT: 4 * MAX_COMMITTEE}
"""Signed messages of one server that are kept: two of a kind convict it; it may agree to a few
transcripts of every sequencer."""


def most_new(kind: str, parameters: TaskParameters) -> int:
    """Return how many new records of a kind one peer may bring at a time."""
    servers = parameters.committee.servers
    submissions = 4 * parameters.max_owners
    return {
        CERTIFICATE: submissions,
        COMPLAINT: submissions,
        OPENING: submissions,
        MANIFEST: 4,
        TRANSCRIPT: 4,
        SEAL_VOTE: 4 * servers,
        WORDS: 2 * servers,
        TWO_WORDS: servers,
        SEED: 2 * servers,
        FINAL: 2 * servers,
        SETTLEMENT: 4 * servers * servers,
        FAULT: servers * (servers + submissions),
    }.get(kind, 0)
