"""The kinds of public records on a server's board.

Every server keeps the public records of a round that it made or checked, and serves them to whoever
asks; peers pull from each other, so a record reaches every honest server through any of them, and a
restart or a lost message costs only another pull.
"""

from __future__ import annotations

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
    }
)
