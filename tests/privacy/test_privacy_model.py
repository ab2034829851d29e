"""The tiny market is the market: over the protocol's field it gives the code's shares and words.

So what is counted through over a small prime is the arithmetic of `omnilytics.sharing` and
`omnilytics.validity`, not a retelling of it.
"""

from __future__ import annotations

import numpy as np
import pytest
from protocol_world import SeededRandomness
from tiny_market import PROTOCOL_MASKS, Challenge, Ring, Statement, batch_word, share, word

from omnilytics.algebra.extension import NON_RESIDUE, ExtensionElement
from omnilytics.algebra.field import MODULUS
from omnilytics.algebra.fixed_point import to_field
from omnilytics.algebra.streams import LABEL_SHARE, LABEL_TESTS, Stream
from omnilytics.sharing.committee import OFFERED, Committee
from omnilytics.sharing.shamir import Dealer, random_elements
from omnilytics.validity import challenge as protocol_challenge
from omnilytics.validity.evaluate import evaluate
from omnilytics.validity.prover import prove
from omnilytics.validity.statement import Statement as ProtocolStatement
from omnilytics.validity.word import Word
from omnilytics.validity.word import batch_word as protocol_batch_word

RING = Ring(MODULUS, NON_RESIDUE)
SIGNS = (-1, 0, 0, 1)


def tiny_statement(statement: ProtocolStatement, joint: bytes) -> Statement:
    """Return the statement with its tests read off the stream of J (wire.md)."""
    data = Stream(LABEL_TESTS, joint).read(0, statement.dimension * statement.test_bytes)
    rows = tuple(
        tuple(
            SIGNS[data[i * statement.test_bytes + k // 4] >> (2 * (k % 4)) & 3]
            for i in range(statement.dimension)
        )
        for k in range(statement.tests)
    )
    return Statement(
        statement.components,
        statement.norm_bits,
        rows,
        statement.test_bits,
        statement.wraparound_bound,
    )


def tiny_shares(
    committee: Committee, secret: list[int], seeds: list[bytes], drawn: list[int]
) -> tuple[list[tuple[int, ...]], list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """Return every server's entries and masks, from the seeds and what the dealer draws."""
    t, length = committee.privacy, len(secret)
    streams = [Stream(LABEL_SHARE, seed).elements(0, length + 4).tolist() for seed in seeds]
    columns = [
        share(RING, committee, value, [stream[i] for stream in streams])
        for i, value in enumerate(secret)
    ]
    free = []
    for limb in range(2):  # M0: seeded values at 1..t, drawn ones at t+1..2t
        free += [stream[length + limb] for stream in streams]
        free += [drawn[2 * k + limb] for k in range(t)]
    for limb in range(2):  # M1: its secret, then seeded values
        free += [drawn[2 * t + limb], *(stream[length + 2 + limb] for stream in streams)]
    return list(zip(*columns, strict=True)), PROTOCOL_MASKS.deal(RING, committee, tuple(free))


def plain(word_pair: Word) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(word_pair.c), tuple(word_pair.d)


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_shares_and_words_are_those_of_the_code(committee: Committee) -> None:
    randomness = SeededRandomness(committee.servers)
    statement = ProtocolStatement((5, 3), fractional_bits=8, tests=8)
    joint, seed = randomness.bytes(32), randomness.bytes(32)
    tiny = tiny_statement(statement, joint)
    challenge = protocol_challenge.Challenge(statement, seed)
    tiny_challenge = Challenge(
        tuple(challenge.rho), tuple(challenge.chi), tuple(map(tuple, challenge.weights))
    )
    kappas = [ExtensionElement(3, 5), ExtensionElement(MODULUS - 1, 2)]
    words: list[list[Word]] = []
    tiny_words: list[list[tuple[tuple[int, ...], tuple[int, ...]]]] = []
    for owner in range(2):
        values = np.array([40, -30, 0, 77, -1, owner, 100, -50], dtype=np.int64)
        bits = prove(statement, values, joint)
        vector = to_field(values)
        secret = [int(value) for value in (*vector, *bits)]
        assert not any(value % MODULUS for values in tiny.deviations(secret) for value in values), (
            "the model rejects what the prover proved"
        )

        seeds = [randomness.bytes(32) for _ in range(committee.privacy)]
        dealer = Dealer(committee, statement.dimension, statement.bit_count, seeds)
        dealer.share_vector(vector)
        dealer.share_proof(bits, SeededRandomness(owner))
        shares = dealer.shares()
        drawn = random_elements(2 * committee.privacy + 2, SeededRandomness(owner)).tolist()
        entries, masks = tiny_shares(committee, secret, seeds, drawn)
        for dealt, entry, (zero, mask) in zip(shares, entries, masks, strict=True):
            assert dealt.elements(0, dealt.length).tolist() == [*entry, *zero, *mask]

        words.append([evaluate(statement, dealt, joint, challenge) for dealt in shares])
        tiny_words.append(
            [
                word(RING, tiny, tiny_challenge, entry, pair)
                for entry, pair in zip(entries, masks, strict=True)
            ]
        )
        assert [plain(each) for each in words[-1]] == tiny_words[-1]

    for server in range(committee.servers):
        pairs = [(kappa, own[server]) for kappa, own in zip(kappas, words, strict=True)]
        tiny_batch = batch_word(RING, list(map(tuple, kappas)), [own[server] for own in tiny_words])
        assert plain(protocol_batch_word(pairs)) == tiny_batch
