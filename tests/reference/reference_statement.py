"""Task numbers, dealing, bits, words and codewords: docs/protocol.md sections 1 to 6, wire.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isqrt

from reference_field import (
    P,
    Pair,
    RefusedError,
    field_of_integer,
    integer_of_field,
    pair_add,
    pair_multiply,
    pair_scale,
    pairs_have_degree,
    value_at,
)
from reference_streams import Challenge, kappa_of_owner, stream_elements, wraparound_tests


@dataclass(frozen=True)
class Terms:
    """What of a task decides about shares and words; sizes are those of the components."""

    servers: int
    privacy: int
    errors: int
    fractional_bits: int
    tests: int
    sizes: tuple[int, ...]

    @property
    def dimension(self) -> int:
        """D."""
        return sum(self.sizes)

    @property
    def norm_bound(self) -> int:
        """S = 2^(2f) - 1."""
        return (1 << (2 * self.fractional_bits)) - 1

    @property
    def wraparound_bound(self) -> int:
        """W: the least power of two >= ceil(sqrt(7569 c 2^(2f) / 100)) + 1."""
        under_root = 7569 * len(self.sizes) << (2 * self.fractional_bits)
        ceiling = isqrt(under_root // 100)
        while 100 * ceiling * ceiling < under_root:
            ceiling += 1
        power = 1
        while power < ceiling + 1:
            power *= 2
        return power

    @property
    def test_bits(self) -> int:
        """b1."""
        return (2 * self.wraparound_bound - 1).bit_length()

    @property
    def bit_count(self) -> int:
        return 2 * self.fractional_bits * len(self.sizes) + self.test_bits * self.tests

    @property
    def share_length(self) -> int:
        return self.dimension + self.bit_count + 4


def check_committee(servers: int, privacy: int, errors: int) -> None:
    """The inequalities of section 1."""
    n, t, e = servers, privacy, errors
    if not (t >= 1 and 0 <= e <= t and 2 * t + 1 + 2 * e <= n <= 13):
        raise RefusedError("committee")
    if e > 0 and n < 3 * t + e:
        raise RefusedError("committee: n < 3t + e")


def check_terms(terms: Terms, max_owners: int) -> None:
    """What everyone who reads a task checks about its numbers."""
    check_committee(terms.servers, terms.privacy, terms.errors)
    if 16 * terms.dimension > terms.norm_bound:
        raise RefusedError("D > S/16")
    if 2 * max_owners * 2**terms.fractional_bits > P:
        raise RefusedError("max_owners 2^f > p/2")
    if 81 * terms.wraparound_bound**2 > P:
        raise RefusedError("81 W^2 > p")


def low_to_high(number: int, bits: int) -> list[int]:
    if not 0 <= number < 2**bits:
        raise RefusedError("a number does not fit its bits")
    return [(number >> place) & 1 for place in range(bits)]


def by_component(terms: Terms, entries: Sequence[int]) -> list[Sequence[int]]:
    parts, start = [], 0
    for size in terms.sizes:
        parts.append(entries[start : start + size])
        start += size
    return parts


def proof_bits(terms: Terms, integers: Sequence[int], joint: bytes) -> list[int]:
    """bits(V) of every component, then bits(v_k); refused if a number has no such bits."""
    bits: list[int] = []
    for component in by_component(terms, integers):
        bits += low_to_high(sum(entry * entry for entry in component), 2 * terms.fractional_bits)
    for row in wraparound_tests(joint, terms.dimension, terms.tests):
        projection = sum(z * entry for z, entry in zip(row, integers, strict=True))
        bits += low_to_high(projection + terms.wraparound_bound - 1, terms.test_bits)
    return bits


@dataclass(frozen=True)
class DealingRandomness:
    """The seeds of servers 1..t, M0's explicit values at t+1..2t and M1's value at 0."""

    seeds: tuple[bytes, ...]
    m0_free: tuple[Pair, ...]
    m1_secret: Pair


def share_columns(known: Mapping[int, Sequence[int]], servers: int) -> dict[int, list[int]]:
    """Every server's share, entry by entry through the known places (0 is the secret)."""
    length = len(next(iter(known.values())))
    return {
        j: [
            known[j][i] if j in known else value_at({a: known[a][i] for a in known}, j)
            for i in range(length)
        ]
        for j in range(1, servers + 1)
    }


def deal(
    terms: Terms, integers: Sequence[int], bits: Sequence[int], randomness: DealingRandomness
) -> dict[int, list[int]]:
    """All servers' whole shares: x, bits, M0 low, M0 high, M1 low, M1 high."""
    t, plain = terms.privacy, terms.dimension + terms.bit_count
    expanded = {
        j: stream_elements("share", seed, terms.share_length)
        for j, seed in enumerate(randomness.seeds, start=1)
    }
    if len(expanded) != t or len(randomness.m0_free) != t:
        raise RefusedError("the dealing needs t seeds and t free values")
    secret = [field_of_integer(entry) for entry in integers] + list(bits)
    straight = share_columns(
        {0: secret, **{j: e[:plain] for j, e in expanded.items()}}, terms.servers
    )
    m0_known: dict[int, Sequence[int]] = {0: [0, 0]}
    m0_known |= {j: e[plain : plain + 2] for j, e in expanded.items()}
    m0_known |= {t + 1 + place: list(pair) for place, pair in enumerate(randomness.m0_free)}
    m0 = share_columns(m0_known, terms.servers)
    m1_known: dict[int, Sequence[int]] = {0: list(randomness.m1_secret)}
    m1_known |= {j: e[plain + 2 :] for j, e in expanded.items()}
    m1 = share_columns(m1_known, terms.servers)
    return {j: straight[j] + m0[j] + m1[j] for j in straight}


def word_pair(
    terms: Terms, share: Sequence[int], joint: bytes, challenge: Challenge
) -> tuple[Pair, Pair]:
    """(c_j, d_j) of one server from its share of one owner."""
    size, f, w = terms.dimension, terms.fractional_bits, terms.wraparound_bound
    x, bits = share[:size], share[size : size + terms.bit_count]
    m0_low, m0_high, m1_low, m1_high = share[size + terms.bit_count :]

    constraints: list[Pair] = [(bit * (bit - 1) % P, 0) for bit in bits]
    place = 0
    for component in by_component(terms, x):
        v = sum(2**m * bits[place + m] for m in range(2 * f))
        constraints.append(((v - sum(entry * entry for entry in component)) % P, 0))
        place += 2 * f
    wraparound: Pair = (0, 0)
    rows = wraparound_tests(joint, size, terms.tests)
    for row, weight in zip(rows, challenge.weights, strict=True):
        v = sum(2**m * bits[place + m] for m in range(terms.test_bits))
        projection = sum(z * entry for z, entry in zip(row, x, strict=True))
        wraparound = pair_add(wraparound, pair_scale(weight, projection - v + w - 1))
        place += terms.test_bits
    constraints.append(wraparound)

    c = weigh(constraints, challenge.rho, (m0_low, m0_high))
    d = weigh(
        [(entry, 0) for entry in share[: size + terms.bit_count]], challenge.chi, (m1_low, m1_high)
    )
    return c, d


def weigh(values: Sequence[Pair], base: Pair, mask: Pair) -> Pair:
    """Sum over i = 1, 2, ... of base^i value_i, plus the mask."""
    total, power = mask, base
    for value in values:
        total = pair_add(total, pair_multiply(power, value))
        power = pair_multiply(power, base)
    return total


def word_bytes(word: tuple[Pair, Pair]) -> bytes:
    return b"".join(limb.to_bytes(8, "big") for pair in word for limb in pair)


def word_of_bytes(content: bytes) -> tuple[Pair, Pair]:
    """Refuses other lengths and limbs from p on."""
    if len(content) != 32:
        raise RefusedError("a word has 32 bytes")
    limbs = [int.from_bytes(content[place : place + 8], "big") for place in range(0, 32, 8)]
    if any(limb >= P for limb in limbs):
        raise RefusedError("a limb is not below p")
    return (limbs[0], limbs[1]), (limbs[2], limbs[3])


def batch_word(words: Mapping[bytes, bytes], seed: bytes, accepted_root: bytes) -> bytes:
    """Of one server's words of the accepted owners."""
    c: Pair = (0, 0)
    d: Pair = (0, 0)
    for owner, word in words.items():
        kappa = kappa_of_owner(seed, accepted_root, owner)
        c_owner, d_owner = word_of_bytes(word)
        c = pair_add(c, pair_multiply(kappa, c_owner))
        d = pair_add(d, pair_multiply(kappa, d_owner))
    return word_bytes((c, d))


def on_codeword(words: Mapping[int, tuple[Pair, Pair]], privacy: int) -> bool:
    """Jointly: c on degree <= 2t with value 0 at 0, d on degree <= t, over these servers."""
    c: dict[int, Pair] = {0: (0, 0)} | {j: word[0] for j, word in words.items()}
    d = {j: word[1] for j, word in words.items()}
    return pairs_have_degree(c, 2 * privacy) and pairs_have_degree(d, privacy)


def joint_decoding(terms: Terms, words: Mapping[int, tuple[Pair, Pair]]) -> set[int] | None:
    """The largest set of at least n - e servers on one codeword, or None; by trying all sets."""
    least = terms.servers - terms.errors
    for size in range(len(words), least - 1, -1):
        for servers in combinations(sorted(words), size):
            if on_codeword({j: words[j] for j in servers}, terms.privacy):
                return set(servers)
    return None


def recover_sum(terms: Terms, vectors: Mapping[int, Sequence[int]]) -> tuple[list[int], set[int]]:
    """The signed sum and the servers that lie, from m >= t + 1 + e vectors, by trying all sets."""
    t, e, m = terms.privacy, terms.errors, len(vectors)
    if m < t + 1 + e:
        raise RefusedError("too few vectors")
    for left_out in range(min(e, m - t - 1 - e) + 1):
        for servers in combinations(sorted(vectors), m - left_out):
            columns = [{j: vectors[j][i] for j in servers} for i in range(len(vectors[servers[0]]))]
            first = servers[: t + 1]
            values = [value_at({j: column[j] for j in first}, 0) for column in columns]
            if all(_fits(column, first) for column in columns):
                return [integer_of_field(value) for value in values], set(vectors) - set(servers)
    raise RefusedError("no set of vectors fits")


def _fits(column: Mapping[int, int], first: Sequence[int]) -> bool:
    known = {j: column[j] for j in first}
    return all(value_at(known, j) == column[j] for j in column)
