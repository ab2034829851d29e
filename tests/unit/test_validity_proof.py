"""Completeness, and every single cheat is rejected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from omnilytics.algebra.field import MODULUS, inverse
from omnilytics.algebra.fixed_point import from_field, round_vector, to_field
from omnilytics.algebra.streams import LABEL_TESTS, Stream
from omnilytics.foundation.errors import MalformedError, UsageError
from omnilytics.sharing.codewords import decode_joint, is_joint_codeword
from omnilytics.sharing.committee import DEFAULT, OFFERED, Committee
from omnilytics.sharing.shamir import Share, share_submission
from omnilytics.validity.challenge import Challenge, batch_weight
from omnilytics.validity.evaluate import evaluate
from omnilytics.validity.joint import blocks_of_tests
from omnilytics.validity.prover import WraparoundTestError, project, prove
from omnilytics.validity.reference import constraint_values, evaluate_plainly
from omnilytics.validity.statement import Statement
from omnilytics.validity.word import Word, batch_word

Field = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

STATEMENT = Statement((40, 25))
SMALL = Statement((6, 3), fractional_bits=6, tests=4)
TRIALS = 25


class SeededRandomness:
    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def bytes(self, count: int) -> bytes:
        return self._generator.bytes(count)


def _values(statement: Statement, seed: int) -> Integers:
    """An honest vector on the edge of the bound, so that everything is clipped and rounded."""
    vector = np.random.default_rng(seed).normal(size=statement.dimension) * 10
    return round_vector(
        vector,
        components=statement.components,
        fractional_bits=statement.fractional_bits,
        randomness=SeededRandomness(seed),
    ).values


def _deal(committee: Committee, vector: Field, bits: Field, seed: int = 1) -> list[Share]:
    randomness = SeededRandomness(seed)
    seeds = [randomness.bytes(32) for _ in range(committee.privacy)]
    return share_submission(vector, bits, committee=committee, seeds=seeds, randomness=randomness)


def _words(
    statement: Statement, shares: list[Share], joint_randomness: bytes, challenge: Challenge
) -> dict[int, Word]:
    return {
        point: evaluate(statement, share, joint_randomness, challenge)
        for point, share in enumerate(shares, start=1)
    }


def _verdict(
    vector: Field,
    bits: Field,
    joint_randomness: bytes,
    seed: bytes,
    spoil: Callable[[list[Field]], None] | None = None,
    committee: Committee = DEFAULT,
    statement: Statement = STATEMENT,
) -> tuple[int, ...] | None:
    shares = _deal(committee, vector, bits, seed[0])
    if spoil:
        # Servers that got seeds are spoilt too, as if their share had been explicit.
        rows = [share.elements(0, share.length).copy() for share in shares]
        spoil(rows)
        shares = [Share(len(row), explicit=row) for row in rows]
    words = _words(statement, shares, joint_randomness, Challenge(statement, seed))
    return decode_joint(words, committee)


def _random(trial: int) -> tuple[bytes, bytes]:
    generator = np.random.default_rng(1000 + trial)
    return generator.bytes(32), generator.bytes(32)


# --- completeness ----------------------------------------------------------------------------


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_honest_vectors_pass(committee: Committee) -> None:
    for trial in range(4):
        joint_randomness, seed = _random(trial)
        values = _values(STATEMENT, trial)
        bits = prove(STATEMENT, values, joint_randomness)
        verdict = _verdict(to_field(values), bits, joint_randomness, seed, committee=committee)
        assert verdict == committee.points


@pytest.mark.parametrize("fractional_bits", [8, 16, 23])
def test_honest_vectors_pass_at_other_precisions(fractional_bits: int) -> None:
    statement = Statement((100, 5, 1, 30), fractional_bits=fractional_bits)
    joint_randomness, seed = _random(fractional_bits)
    values = _values(statement, 2)
    bits = prove(statement, values, joint_randomness)
    verdict = _verdict(to_field(values), bits, joint_randomness, seed, statement=statement)
    assert verdict == DEFAULT.points


def test_zero_and_the_longest_vector_pass() -> None:
    statement = Statement((7,), fractional_bits=16)
    longest = np.array([65535, 362, 5, 1, 0, 0, 0], dtype=np.int64)
    assert 2**32 - 1 - int(longest @ longest) == 0
    for values in (np.zeros(7, dtype=np.int64), longest, -longest):
        joint_randomness, seed = _random(3)
        bits = prove(statement, values, joint_randomness)
        verdict = _verdict(to_field(values), bits, joint_randomness, seed, statement=statement)
        assert verdict == DEFAULT.points


def test_vectors_across_blocks_pass() -> None:
    statement = Statement((8000, 9000), fractional_bits=16, tests=8)
    joint_randomness, seed = _random(4)
    values = _values(statement, 4)
    bits = prove(statement, values, joint_randomness)
    verdict = _verdict(to_field(values), bits, joint_randomness, seed, statement=statement)
    assert verdict == DEFAULT.points


def test_batch_word_of_accepted_owners_is_a_codeword() -> None:
    _, seed = _random(9)
    challenge = Challenge(STATEMENT, seed)
    batches: dict[int, list[Word]] = {point: [] for point in DEFAULT.points}
    owners = [bytes([owner]) * 20 for owner in range(3)]
    for trial, _ in enumerate(owners):
        joint_randomness, _ = _random(trial)
        values = _values(STATEMENT, trial)
        shares = _deal(DEFAULT, to_field(values), prove(STATEMENT, values, joint_randomness), trial)
        for point, word in _words(STATEMENT, shares, joint_randomness, challenge).items():
            batches[point].append(word)
    kappas = [batch_weight(seed, bytes(32), owner) for owner in owners]
    summed = {
        point: batch_word(zip(kappas, words, strict=True)) for point, words in batches.items()
    }
    assert is_joint_codeword(summed, DEFAULT)
    bad = dict(summed)
    bad[2] = batch_word(zip(kappas[1:], batches[2][1:], strict=True))
    assert not is_joint_codeword(bad, DEFAULT)


# --- agreement with the readable reference ---------------------------------------------------


def test_words_equal_the_reference() -> None:
    joint_randomness, seed = _random(5)
    values = _values(SMALL, 5)
    bits = prove(SMALL, values, joint_randomness)
    for share in _deal(DEFAULT, to_field(values), bits):
        fast = evaluate(SMALL, share, joint_randomness, Challenge(SMALL, seed))
        plain = share.elements(0, share.length)
        assert fast == evaluate_plainly(SMALL, plain, joint_randomness, seed)


def test_plain_constraints_vanish_exactly_for_valid_vectors() -> None:
    joint_randomness, seed = _random(6)
    values = _values(SMALL, 6)
    bits = prove(SMALL, values, joint_randomness)
    entries = [int(value) for value in (*to_field(values), *bits)]
    assert not any(any(q) for q in constraint_values(SMALL, entries, joint_randomness, seed))
    for index in range(len(entries)):
        changed = [*entries]
        changed[index] = (changed[index] + 1) % MODULUS
        assert any(any(q) for q in constraint_values(SMALL, changed, joint_randomness, seed))


@pytest.mark.parametrize("components", [(6, 3), (8192, 1000)])
def test_projections_are_those_of_the_stream(components: tuple[int, ...]) -> None:
    statement = Statement(components, fractional_bits=10, tests=8)
    joint_randomness, _ = _random(7)
    values = _values(statement, 7)
    data = Stream(LABEL_TESTS, joint_randomness).read(0, 2 * statement.dimension)
    crumbs = np.frombuffer(data, dtype=np.uint8).reshape(-1, 2)[:, :, None] >> (0, 2, 4, 6) & 3
    signs = np.array([-1, 0, 0, 1])[crumbs].reshape(-1, 8)
    assert project(statement, values, joint_randomness).tolist() == (values @ signs).tolist()


# --- soundness: one cheat each, many challenges ----------------------------------------------


def _honest(trial: int) -> tuple[Field, Field, bytes, bytes]:
    joint_randomness, seed = _random(trial)
    values = _values(STATEMENT, trial)
    return to_field(values), prove(STATEMENT, values, joint_randomness), joint_randomness, seed


@pytest.mark.parametrize("trial", range(TRIALS))
def test_entries_that_are_no_bits_are_rejected(trial: int) -> None:
    vector, bits, joint_randomness, seed = _honest(trial)
    # 2 * 2^b = 2^(b+1): the number that the bits spell stays right, only the bit is not one.
    ones = np.flatnonzero((bits[1:32] == 1) & (bits[:31] == 0))
    position = int(ones[trial % len(ones)])
    bits[position], bits[position + 1] = 2, 0
    assert _verdict(vector, bits, joint_randomness, seed) is None


@pytest.mark.parametrize("trial", range(TRIALS))
def test_false_squared_norm_is_rejected(trial: int) -> None:
    vector, bits, joint_randomness, seed = _honest(trial)
    position = (trial * 7) % 64  # V of both components
    bits[position] = 1 - int(bits[position])
    assert _verdict(vector, bits, joint_randomness, seed) is None


@pytest.mark.parametrize("trial", range(TRIALS))
def test_norm_one_above_the_bound_is_rejected(trial: int) -> None:
    statement = Statement((7,), fractional_bits=16)
    values = np.array([65536, 0, 0, 0, 0, 0, 0], dtype=np.int64)  # squared norm S + 1 = 2^32
    joint_randomness, seed = _random(trial)
    with pytest.raises(UsageError, match="norm bound"):
        prove(statement, values, joint_randomness)
    bits = _forged_bits(
        statement, to_field(values), joint_randomness, norms=[trial % 2 * (2**32 - 1)]
    )
    verdict = _verdict(to_field(values), bits, joint_randomness, seed, statement=statement)
    assert verdict is None
    bits[31] = 2  # V = 2^32 spelt with an entry that is no bit
    bits[:31] = 0
    verdict = _verdict(to_field(values), bits, joint_randomness, seed, statement=statement)
    assert verdict is None


@pytest.mark.parametrize("tests", [4, 128])
@pytest.mark.parametrize("trial", range(TRIALS))
def test_wrapped_norm_is_rejected(trial: int, tests: int) -> None:
    statement = Statement((40,), fractional_bits=16, tests=tests)
    vector = _vector_with_field_norm(40, trial, 12345)
    assert sum(int(v) ** 2 for v in vector) % MODULUS == 12345
    joint_randomness, seed = _random(trial)
    bits = _forged_bits(statement, vector, joint_randomness, norms=[12345])
    verdict = _verdict(vector, bits, joint_randomness, seed, statement=statement)
    assert verdict is None


@pytest.mark.parametrize("trial", range(TRIALS))
def test_false_wraparound_value_is_rejected(trial: int) -> None:
    vector, bits, joint_randomness, seed = _honest(trial)
    position = 64 + (trial * 103) % (len(bits) - 64)
    bits[position] = 1 - int(bits[position])
    assert _verdict(vector, bits, joint_randomness, seed) is None


@pytest.mark.parametrize("trial", range(TRIALS))
def test_compensating_false_wraparound_values_are_rejected(trial: int) -> None:
    # v_1 one too high, v_2 one too low: a plain sum of the tests would not notice.
    vector, bits, joint_randomness, seed = _honest(trial)
    width = STATEMENT.test_bits
    for test, change in ((0, 1), (1, -1)):
        part = bits[64 + test * width : 64 + (test + 1) * width]
        value = sum(int(bit) << b for b, bit in enumerate(part)) + change
        part[:] = [value >> b & 1 for b in range(width)]
    assert _verdict(vector, bits, joint_randomness, seed) is None


@pytest.mark.parametrize("trial", range(TRIALS))
def test_another_vector_than_the_proved_one_is_rejected(trial: int) -> None:
    vector, bits, joint_randomness, seed = _honest(trial)
    vector[[0, 1]] = vector[[1, 0]]  # same norm, other vector
    assert _verdict(vector, bits, joint_randomness, seed) is None


@pytest.mark.parametrize("trial", range(TRIALS))
def test_proof_for_other_joint_randomness_is_rejected(trial: int) -> None:
    vector, bits, _, seed = _honest(trial)
    assert _verdict(vector, bits, bytes(32), seed) is None


@pytest.mark.parametrize("trial", range(TRIALS))
def test_shares_off_their_degree_are_rejected(trial: int) -> None:
    vector, bits, joint_randomness, seed = _honest(trial)
    index = (trial * 131) % (len(vector) + len(bits))

    def raise_degree(rows: list[Field]) -> None:
        for point, row in enumerate(rows, start=1):
            row[index] = (int(row[index]) + point**2) % MODULUS

    assert _verdict(vector, bits, joint_randomness, seed, raise_degree) is None


@pytest.mark.parametrize("trial", range(TRIALS))
def test_one_bad_share_is_named_two_are_rejected(trial: int) -> None:
    vector, bits, joint_randomness, seed = _honest(trial)
    index = (trial * 131) % (len(vector) + len(bits) + 4)
    bad = trial % 5

    def spoil(count: int) -> Callable[[list[Field]], None]:
        def change(rows: list[Field]) -> None:
            for offset in range(count):
                row = rows[(bad + offset) % 5]
                row[index] = (int(row[index]) + 1) % MODULUS

        return change

    others = tuple(point for point in DEFAULT.points if point != bad + 1)
    assert _verdict(vector, bits, joint_randomness, seed, spoil(1)) == others
    assert _verdict(vector, bits, joint_randomness, seed, spoil(2)) is None


@pytest.mark.parametrize("limb", [0, 1])
@pytest.mark.parametrize("trial", range(TRIALS))
def test_mask_that_is_not_zero_is_rejected(trial: int, limb: int) -> None:
    vector, bits, joint_randomness, seed = _honest(trial)

    def shift(rows: list[Field]) -> None:
        for row in rows:
            row[-4 + limb] = (int(row[-4 + limb]) + 1 + trial) % MODULUS

    assert _verdict(vector, bits, joint_randomness, seed, shift) is None


@pytest.mark.parametrize("trial", range(TRIALS))
def test_mask_cannot_cancel_the_first_constraint(trial: int) -> None:
    # Were constraints weighted from rho^0 on, M0 could cancel the first one without knowing rho.
    vector, bits, joint_randomness, seed = _honest(trial)
    bits[0] = int(bits[0]) + 2
    deviation = int(bits[0]) * (int(bits[0]) - 1)

    def cancel(rows: list[Field]) -> None:
        for row in rows:
            row[-4] = (int(row[-4]) - deviation) % MODULUS

    assert _verdict(vector, bits, joint_randomness, seed, cancel) is None


# --- interfaces ------------------------------------------------------------------------------


def test_failed_wraparound_test_asks_for_new_blinds(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = STATEMENT.wraparound_bound
    for projection, passes in (
        (bound, True),
        (bound + 1, False),
        (1 - bound, True),
        (-bound, False),
    ):
        monkeypatch.setattr(
            "omnilytics.validity.prover.project",
            lambda *_, value=projection: np.full(128, value, dtype=np.int64),
        )
        if passes:
            prove(STATEMENT, _values(STATEMENT, 1), bytes(32))
        else:
            with pytest.raises(WraparoundTestError):
                prove(STATEMENT, _values(STATEMENT, 1), bytes(32))


def test_prover_refuses_what_does_not_fit() -> None:
    with pytest.raises(UsageError, match="length"):
        prove(STATEMENT, np.zeros(64, dtype=np.int64), bytes(32))
    with pytest.raises(UsageError, match="entry exceeds"):
        prove(STATEMENT, np.full(65, -(2**62), dtype=np.int64), bytes(32))
    with pytest.raises(UsageError, match="component 1"):
        prove(STATEMENT, np.array([0] * 40 + [65536] + [0] * 24), bytes(32))
    with pytest.raises(MalformedError, match="joint"):
        prove(STATEMENT, np.zeros(65, dtype=np.int64), bytes(31))


def test_server_refuses_what_does_not_fit() -> None:
    challenge = Challenge(STATEMENT, bytes(32))
    with pytest.raises(MalformedError, match="length"):
        evaluate(STATEMENT, Share(10, seed=bytes(32)), bytes(32), challenge)
    share = Share(STATEMENT.share_length, seed=bytes(32))
    with pytest.raises(MalformedError, match="joint"):
        evaluate(STATEMENT, share, b"", challenge)
    with pytest.raises(UsageError, match="challenge"):
        evaluate(STATEMENT, share, bytes(32), Challenge(SMALL, bytes(32)))


def _forged_bits(
    statement: Statement, vector: Field, joint_randomness: bytes, norms: list[int]
) -> Field:
    """The best a cheat can do with true bits: any V, and v_k right modulo 2W."""
    signs = np.array((-1, 0, 0, 1), dtype=object)
    bits = [norm >> b & 1 for norm in norms for b in range(statement.norm_bits)]
    entries = from_field(vector).astype(object)
    ((_, tests),) = blocks_of_tests(statement, joint_randomness)
    for k in range(statement.tests):
        projection = int(signs[tests[:, k // 4] >> 2 * (k % 4) & 3] @ entries)
        value = (projection + statement.wraparound_bound - 1) % (2 * statement.wraparound_bound)
        bits += [value >> b & 1 for b in range(statement.test_bits)]
    return np.array(bits, dtype=np.uint64)


def _vector_with_field_norm(length: int, seed: int, norm: int) -> Field:
    """Random field elements whose squares sum to `norm` modulo p, by a^2 + b^2 = (a+ib)(a-ib)."""
    vector = np.random.default_rng(seed).integers(0, MODULUS, length, dtype=np.uint64)
    root = 2**48  # 2^96 = -1
    target = (norm - sum(int(v) ** 2 for v in vector[2:])) % MODULUS
    u, half = 3, inverse(2)
    other = target * inverse(u) % MODULUS
    vector[0] = (u + other) * half % MODULUS
    vector[1] = (u - other) * half * inverse(root) % MODULUS
    return vector


# --- pinned values: a change of any layout or stream shows here ------------------------------


def test_known_answers() -> None:
    statement = Statement((10,))
    joint_randomness, seed = bytes(range(32)), bytes(range(32, 64))
    share = Share(statement.share_length, seed=bytes(range(64, 96)))
    word = evaluate(statement, share, joint_randomness, Challenge(statement, seed))
    assert (
        word.to_bytes().hex() == "9753f98c8e94dece8927bdaaf6f9645cf284e4bdab7f68b0a2abfcb3ac32a854"
    )
    elements = share.elements(0, share.length)
    assert word == evaluate_plainly(statement, elements, joint_randomness, seed)
    bits = prove(statement, np.arange(-5, 5) * 1000, joint_randomness)
    assert (
        hashlib.sha256(bits.astype("<u8").tobytes()).hexdigest()
        == "9311966b62599a3124d46619b269f8e3ea28d8495e96c5697917b22227091ff3"
    )
    kappa = batch_weight(joint_randomness, seed, bytes(20))
    assert kappa == (14604479513134978848, 15343266732999330227)
