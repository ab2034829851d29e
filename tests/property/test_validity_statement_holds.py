"""Honest vectors satisfy the statement whatever they are; changed ones do not."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from omnilytics.algebra.field import MODULUS
from omnilytics.algebra.fixed_point import round_vector, squared_norms, to_field
from omnilytics.sharing.codewords import decode_joint
from omnilytics.sharing.committee import OFFERED, Committee
from omnilytics.sharing.shamir import Share, share_submission
from omnilytics.validity.challenge import Challenge
from omnilytics.validity.evaluate import evaluate
from omnilytics.validity.prover import prove
from omnilytics.validity.reference import evaluate_plainly
from omnilytics.validity.statement import Statement


class SeededRandomness:
    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def bytes(self, count: int) -> bytes:
        return self._generator.bytes(count)


statements = st.builds(
    Statement,
    st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    fractional_bits=st.integers(6, 20),
    tests=st.sampled_from([4, 8, 128]),
)


@given(statements, st.sampled_from(OFFERED), st.integers(0, 2**32), st.floats(0, 100), st.data())
@settings(max_examples=40, deadline=None)
def test_valid_passes_and_any_change_fails(
    statement: Statement, committee: Committee, seed: int, scale: float, data: st.DataObject
) -> None:
    randomness = SeededRandomness(seed)
    vector = np.random.default_rng(seed).normal(size=statement.dimension) * scale
    values = round_vector(
        vector,
        components=statement.components,
        fractional_bits=statement.fractional_bits,
        randomness=randomness,
    ).values
    assert max(squared_norms(values, statement.components)) <= statement.norm_bound
    joint_randomness, challenge_seed = randomness.bytes(32), randomness.bytes(32)
    secret = np.concatenate([to_field(values), prove(statement, values, joint_randomness)])
    challenge = Challenge(statement, challenge_seed)
    seeds = [randomness.bytes(32) for _ in range(committee.privacy)]

    def verdict() -> tuple[int, ...] | None:
        shares = share_submission(
            secret[: statement.dimension],
            secret[statement.dimension :],
            committee=committee,
            seeds=seeds,
            randomness=randomness,
        )
        words = {
            point: evaluate(statement, share, joint_randomness, challenge)
            for point, share in enumerate(shares, start=1)
        }
        return decode_joint(words, committee)

    assert verdict() == committee.points
    index = data.draw(st.integers(0, len(secret) - 1))
    old = int(secret[index])
    new = (old + data.draw(st.integers(1, MODULUS - 1))) % MODULUS
    assume(new != MODULUS - old)  # -x has the norm of x, and a few tests may all miss the entry
    secret[index] = new
    assert verdict() is None


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple),
    st.integers(0, 2**32),
)
@settings(max_examples=8, deadline=None)
def test_words_of_arbitrary_shares_equal_the_reference(
    components: tuple[int, ...], seed: int
) -> None:
    statement = Statement(components, fractional_bits=5, tests=4)
    generator = np.random.default_rng(seed)
    elements = generator.integers(0, MODULUS, statement.share_length, dtype=np.uint64)
    joint_randomness, challenge_seed = generator.bytes(32), generator.bytes(32)
    share = Share(statement.share_length, explicit=elements)
    word = evaluate(statement, share, joint_randomness, Challenge(statement, challenge_seed))
    assert word == evaluate_plainly(statement, elements, joint_randomness, challenge_seed)
