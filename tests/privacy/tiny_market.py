"""Sharing, masks and words over any prime, in plain Python, and what an adversary sees of them.

Over a prime of a few units all randomness of an owner can be counted through, so "learns nothing"
becomes "two tables are equal" (protocol.md sections 4, 6.5, 6.7, 6.8 and 10.6). Over the protocol's
own prime the same functions must give the shares and words of `omnilytics`; a test holds the two
together.

Not modelled: hashes, seals and signatures. Parts and sealed packages are taken to say nothing, the
joint randomness J to be public and the same for both vectors that are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import TypeAlias

from omnilytics.sharing.committee import Committee

Element: TypeAlias = tuple[int, ...]
"""An element of E, its limbs low to high."""
Elements: TypeAlias = tuple[Element, ...]
Entries: TypeAlias = tuple[int, ...]
"""A secret or a share: x, then the bits."""
WordPair: TypeAlias = tuple[Element, Element]
View: TypeAlias = tuple[object, ...]


@dataclass(frozen=True)
class Ring:
    """F_p and E = F_p[X]/(X^2 - non_residue); without a non-residue E = F_p."""

    modulus: int
    non_residue: int | None = None

    @property
    def limbs(self) -> int:
        return 1 if self.non_residue is None else 2

    @property
    def zero(self) -> Element:
        return (0,) * self.limbs

    def embed(self, value: int) -> Element:
        return (value % self.modulus, *self.zero[1:])

    def add(self, *terms: Element) -> Element:
        if self.non_residue is None:
            return (sum(term[0] for term in terms) % self.modulus,)
        return tuple(sum(limbs) % self.modulus for limbs in zip(self.zero, *terms, strict=True))

    def scale(self, element: Element, factor: int) -> Element:
        return tuple(limb * factor % self.modulus for limb in element)

    def multiply(self, left: Element, right: Element) -> Element:
        if self.non_residue is None:
            return (left[0] * right[0] % self.modulus,)
        low = left[0] * right[0] + self.non_residue * left[1] * right[1]
        return (low % self.modulus, (left[0] * right[1] + left[1] * right[0]) % self.modulus)

    def weighted_sum(self, base: Element, first: int, terms: Sequence[Element]) -> Element:
        """Return the sum of base^(first + k) * term_k, k from 0."""
        weight = self.embed(1)
        for _ in range(first):
            weight = self.multiply(weight, base)
        total = self.zero
        for term in terms:
            total = self.add(total, self.multiply(weight, term))
            weight = self.multiply(weight, base)
        return total

    def elements(self) -> Iterator[Element]:
        """Return all of E."""
        return product(range(self.modulus), repeat=self.limbs)


@dataclass(frozen=True)
class Statement:
    """The norm statement with its wraparound tests already drawn (section 3).

    Attributes:
        components: Lengths of the components of x.
        norm_bits: Bits of each component's V.
        tests: Z, a row for every test.
        test_bits: Bits of every v_k.
        wraparound_bound: W.
    """

    components: tuple[int, ...]
    norm_bits: int
    tests: tuple[tuple[int, ...], ...] = ()
    test_bits: int = 0
    wraparound_bound: int = 1

    @property
    def dimension(self) -> int:
        return sum(self.components)

    @property
    def bit_count(self) -> int:
        return self.norm_bits * len(self.components) + self.test_bits * len(self.tests)

    def deviations(self, entries: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return what must vanish: bits and norms in order, and each wraparound test."""
        x, bits = entries[: self.dimension], entries[self.dimension :]
        values = [bit * (bit - 1) for bit in bits]
        start = place = 0
        for length in self.components:
            norm = sum(entry * entry for entry in x[start : start + length])
            values.append(_binary(bits[place : place + self.norm_bits]) - norm)
            start, place = start + length, place + self.norm_bits
        tests = []
        for row in self.tests:
            projection = sum(sign * entry for sign, entry in zip(row, x, strict=True))
            value = _binary(bits[place : place + self.test_bits])
            tests.append(projection - value + self.wraparound_bound - 1)
            place += self.test_bits
        return values, tests

    def valid_entries(self, ring: Ring) -> list[tuple[int, ...]]:
        """Return every x with its bits that satisfies the statement in the field."""
        found = []
        for x in product(range(ring.modulus), repeat=self.dimension):
            for bits in product((0, 1), repeat=self.bit_count):
                values, tests = self.deviations((*x, *bits))
                if not any(value % ring.modulus for value in values + tests):
                    found.append((*x, *bits))
        return found


@dataclass(frozen=True)
class Challenge:
    """rho, chi and the weights of the wraparound tests; powers start at `first`."""

    rho: Element
    chi: Element
    weights: Elements = ()
    first: int = 1


def word(
    ring: Ring, statement: Statement, challenge: Challenge, entries: Sequence[int], masks: WordPair
) -> WordPair:
    """Return (c, d) of one server's share: its entries and its shares of M0 and M1."""
    values, tests = statement.deviations(entries)
    pairs = zip(challenge.weights, tests, strict=True)
    wraparound = ring.add(*(ring.scale(weight, deviation) for weight, deviation in pairs))
    terms = [*map(ring.embed, values), wraparound]
    c = ring.weighted_sum(challenge.rho, challenge.first, terms)
    d = ring.weighted_sum(challenge.chi, challenge.first, [ring.embed(y) for y in entries])
    return ring.add(c, masks[0]), ring.add(d, masks[1])


def batch_word(ring: Ring, weights: Sequence[Element], words: Sequence[WordPair]) -> WordPair:
    """Return the sum of kappa_o * (c_o, d_o)."""
    pairs = list(zip(weights, words, strict=True))
    return (
        ring.add(*(ring.multiply(kappa, pair[0]) for kappa, pair in pairs)),
        ring.add(*(ring.multiply(kappa, pair[1]) for kappa, pair in pairs)),
    )


def share(ring: Ring, committee: Committee, secret: int, free: Sequence[int]) -> tuple[int, ...]:
    """Return the shares of the servers 1..n through the secret at 0 and free shares at 1, 2, ..."""
    known = (secret, *free)
    return (
        *free,
        *(
            sum(w * v for w, v in zip(weights, known, strict=True)) % ring.modulus
            for weights in _lagrange(ring.modulus, len(known), committee.servers)
        ),
    )


@dataclass(frozen=True)
class MaskRule:
    """How masks are dealt: the protocol's rule, and wrong ones to be caught.

    Attributes:
        zero_degree: Degree of M0 as a multiple of t: 2.
        random_secret: Whether M1(0) is random.
    """

    zero_degree: int = 2
    random_secret: bool = True

    def free_values(self, ring: Ring, committee: Committee) -> int:
        """Return how many random field elements the masks of one owner take."""
        t = committee.privacy
        return ring.limbs * (self.zero_degree * t + t + self.random_secret)

    @cache  # noqa: B019 - of two or three rules, and counting deals the same masks again and again
    def deal(self, ring: Ring, committee: Committee, free: Entries) -> list[WordPair]:
        """Return every server's shares of (M0, M1).

        Args:
            ring: Where they live.
            committee: The servers.
            free: For each limb of M0 its values at 1..2t; then for each limb of M1 its secret and
                its values at 1..t.
        """
        values = iter(free)
        t = committee.privacy

        def take(count: int) -> list[int]:
            return [next(values) for _ in range(count)]

        zero = [share(ring, committee, 0, take(self.zero_degree * t)) for _ in range(ring.limbs)]
        mask = [
            share(ring, committee, take(1)[0] if self.random_secret else 0, take(t))
            for _ in range(ring.limbs)
        ]
        return list(zip(zip(*zero, strict=True), zip(*mask, strict=True), strict=True))


PROTOCOL_MASKS = MaskRule()


@dataclass(frozen=True)
class Answer:
    """All servers' words about one owner under one challenge, hidden by one set of masks."""

    owner: int
    challenge: Challenge
    masks: int


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What honest owners share and what is made public about it.

    Attributes:
        ring: F_p and E.
        committee: The servers.
        statement: Of every owner.
        answers: The words that servers give.
        kappas: Weights of the batch word, one for each answer; the transcript holds it too.
        released: Sets of owners whose sum of x is released, by all servers.
        released_entries: How many entries of a share are summed; by default x only.
        mask_rule: How owners deal masks.
        same_seeds: Whether all owners use the seeds of the first.
    """

    ring: Ring
    committee: Committee
    statement: Statement
    answers: tuple[Answer, ...]
    kappas: Elements
    released: tuple[tuple[int, ...], ...] = ()
    released_entries: int | None = None
    mask_rule: MaskRule = PROTOCOL_MASKS
    same_seeds: bool = False
    _words: dict[object, WordPair] = field(default_factory=dict, compare=False, repr=False)

    @property
    def mask_count(self) -> int:
        """Sets of masks, drawn independently."""
        return max(answer.masks for answer in self.answers) + 1

    def every_dealing(self, secrets: Sequence[Sequence[int]]) -> Iterator[list[list[Entries]]]:
        """Yield, for all free shares, each owner's shares: owner -> server -> entries."""
        t, p = self.committee.privacy, self.ring.modulus
        length = len(secrets[0])
        seeds = 1 if self.same_seeds else len(secrets)
        for free in product(product(range(p), repeat=t * length), repeat=seeds):
            yield [
                self._deal(tuple(secret), free[owner % seeds])
                for owner, secret in enumerate(secrets)
            ]

    def _deal(self, secret: Entries, free: tuple[int, ...]) -> list[Entries]:
        t = self.committee.privacy
        columns = [
            share(self.ring, self.committee, value, free[k * t : k * t + t])
            for k, value in enumerate(secret)
        ]
        return list(zip(*columns, strict=True))

    def every_mask(self) -> Iterator[tuple[int, ...]]:
        """Yield all free values of all sets of masks."""
        count = self.mask_count * self.mask_rule.free_values(self.ring, self.committee)
        return product(range(self.ring.modulus), repeat=count)

    def plain_part(self, dealing: list[list[Entries]], coalition: Sequence[int]) -> View:
        """Return what is seen without masks: the coalition's shares and the released sums."""
        entries = self.released_entries or self.statement.dimension
        shares = tuple(tuple(owner[j - 1] for j in coalition) for owner in dealing)
        sums = tuple(
            tuple(
                tuple(
                    sum(dealing[o][j][i] for o in chosen) % self.ring.modulus
                    for i in range(entries)
                )
                for j in range(self.committee.servers)
            )
            for chosen in self.released
        )
        return shares, sums

    def masked_part(
        self, dealing: list[list[Entries]], free: Entries, coalition: Sequence[int]
    ) -> list[int]:
        """Return the coalition's masks, all words, all batch words: affine in the free values."""
        size = self.mask_rule.free_values(self.ring, self.committee)
        masks = [
            self.mask_rule.deal(self.ring, self.committee, free[k * size : (k + 1) * size])
            for k in range(self.mask_count)
        ]
        seen: list[WordPair] = [dealt[j - 1] for dealt in masks for j in coalition]
        for j in range(self.committee.servers):
            words = [
                self._word(answer.challenge, dealing[answer.owner][j], masks[answer.masks][j])
                for answer in self.answers
            ]
            seen += [*words, batch_word(self.ring, self.kappas, words)]
        return [limb for pair in seen for element in pair for limb in element]

    def _word(self, challenge: Challenge, entries: Entries, masks: WordPair) -> WordPair:
        key = (challenge, entries)
        if key not in self._words:
            none = (self.ring.zero, self.ring.zero)
            self._words[key] = word(self.ring, self.statement, challenge, entries, none)
        c, d = self._words[key]
        return self.ring.add(c, masks[0]), self.ring.add(d, masks[1])


def views_one_by_one(
    scenario: Scenario, secrets: Sequence[Sequence[int]], coalition: Sequence[int]
) -> Counter[View]:
    """Count how often each view occurs over all randomness of the owners, with no shortcut."""
    views: Counter[View] = Counter()
    masks = list(scenario.every_mask())
    for dealing in scenario.every_dealing(secrets):
        plain = scenario.plain_part(dealing, coalition)
        for free in masks:
            views[plain, tuple(scenario.masked_part(dealing, free, coalition))] += 1
    return views


def views_by_cosets(
    scenario: Scenario, secrets: Sequence[Sequence[int]], coalition: Sequence[int]
) -> Counter[View]:
    """Count views up to what the masks make uniform.

    For given shares the masked part runs evenly through a coset of a space that depends on neither
    shares nor secrets. So it is enough to count the shares and to name each coset by the one vector
    in it that is zero at the space's pivots. Equal counts mean equal distributions and the reverse.
    """
    views: Counter[View] = Counter()
    basis = mask_space(scenario, coalition)
    count = scenario.mask_count * scenario.mask_rule.free_values(scenario.ring, scenario.committee)
    nothing = (0,) * count
    for dealing in scenario.every_dealing(secrets):
        masked = scenario.masked_part(dealing, nothing, coalition)
        reduced = reduce_by(basis, masked, scenario.ring.modulus)
        views[scenario.plain_part(dealing, coalition), tuple(reduced)] += 1
    return views


def mask_space(scenario: Scenario, coalition: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Return a basis, (pivot, vector), of all that the masks can add to the masked part."""
    p, n = scenario.ring.modulus, scenario.committee.servers
    count = scenario.mask_count * scenario.mask_rule.free_values(scenario.ring, scenario.committee)
    length = scenario.statement.dimension + scenario.statement.bit_count
    owners = max(answer.owner for answer in scenario.answers) + 1
    dealing = [[(0,) * length] * n] * owners
    origin = scenario.masked_part(dealing, (0,) * count, coalition)
    basis: list[tuple[int, list[int]]] = []
    for k in range(count):
        free = tuple(int(i == k) for i in range(count))
        moved = scenario.masked_part(dealing, free, coalition)
        vector = [(a - b) % p for a, b in zip(moved, origin, strict=True)]
        vector = reduce_by(basis, vector, p)
        pivot = next((i for i, value in enumerate(vector) if value), None)
        if pivot is not None:
            inverse = pow(vector[pivot], -1, p)
            basis.append((pivot, [value * inverse % p for value in vector]))
    return basis


def reduce_by(basis: list[tuple[int, list[int]]], vector: list[int], modulus: int) -> list[int]:
    """Return the vector's coset: the same one for all vectors that differ by the basis."""
    for pivot, row in basis:
        factor = vector[pivot]
        if factor:
            vector = [(v - factor * r) % modulus for v, r in zip(vector, row, strict=True)]
    return vector


def _binary(bits: Sequence[int]) -> int:
    return sum(bit << place for place, bit in enumerate(bits))


@cache
def _lagrange(modulus: int, known: int, servers: int) -> tuple[tuple[int, ...], ...]:
    """Return weights that take values at 0..known-1 to each of the points known..servers."""
    rows = []
    for at in range(known, servers + 1):
        row = []
        for point in range(known):
            top = bottom = 1
            for other in range(known):
                if other != point:
                    top = top * (at - other) % modulus
                    bottom = bottom * (point - other) % modulus
            row.append(top * pow(bottom, -1, modulus) % modulus)
        rows.append(tuple(row))
    return tuple(rows)
