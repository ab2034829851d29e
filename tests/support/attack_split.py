"""An owner and one server that make an invalid vector's c and d fit n - e servers each.

The vector is too long; its norm is off by q(0). The owner alters the share of one server m so that
the norm constraint's shares of m and of 2t honest servers lie on a polynomial that is 0 at 0. The
lying server, which speaks last, puts its c on that polynomial as well: c fits n - e servers. The
altered share shows in d, but d fits all the others: n - e again. Only together do they show it.

With 4 wraparound tests it is easy to find an entry that no test looks at, to alter the share there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from attack_owners import (
    HONEST,
    CheatingBuilder,
    Draft,
    MutableDealer,
    attack_world,
    extrapolate,
    extrapolate_extension,
    field_norms,
    square_root,
    submit,
)
from protocol_world import Case

from omnilytics.algebra.extension import ZERO
from omnilytics.algebra.field import MODULUS, FieldVector
from omnilytics.algebra.fixed_point import to_field
from omnilytics.foundation.units import Address, Hash32
from omnilytics.sharing.committee import Committee
from omnilytics.sharing.shamir import SEED_BYTES, Share
from omnilytics.validity.joint import blocks_of_tests
from omnilytics.validity.word import Word
from omnilytics.wire.package import Opening
from omnilytics.wire.transcript import ServerWords

_UNSEEN = {0b01, 0b10}
BOOST = 4


@dataclass(frozen=True)
class Split:
    """A sealed round with such an owner, and what its server says."""

    case: Case
    owner: Address
    honest_owner: Address
    liar: int
    lie: ServerWords


def split_codewords(committee: Committee, seed: int) -> Split:
    """Return a round of this attack; for committees with n - e = 2t + 2 and e = 1."""
    t = committee.privacy
    assert (committee.quorum, committee.errors) == (2 * t + 2, 1)
    world = attack_world(committee, seed, components=(50,), tests=4)
    liar, victim = t + 1, committee.servers
    helpers = [point for point in committee.points if point not in (liar, victim)][: 2 * t]
    builder = _SplitBuilder(world, world.new_key(), HONEST)
    packages = builder.split_packages(victim, helpers)
    attacker = world.submit(builder._key, packages)
    honest = submit(world)
    case = world.seal(honest, attacker)
    words = {server: list(entries) for server, entries in case.honest_words.items()}
    place = case.owners.index(attacker.owner)
    c = {server: Word.from_bytes(words[server][place]).c for server in helpers}
    own = Word.from_bytes(words[liar][place])
    lie = Word(extrapolate_extension({0: ZERO, **c}, liar), own.d)
    words[liar][place] = Hash32(lie.to_bytes())
    return Split(case, attacker.owner, honest.owner, liar, case.sign(liar, words[liar]))


class _SplitBuilder(CheatingBuilder):
    def draft(self) -> Draft:
        values = self.world.vector(1.0) * BOOST
        draft = Draft(self.random, self.parameters, to_field(values), [])
        draft.norms = [norm % 2**32 for norm in field_norms(draft.statement, draft.x)]
        return draft

    def split_packages(self, victim: int, helpers: list[int]) -> list[Opening]:
        while True:
            draft = self.draft()
            seeds = [self._randomness.bytes(SEED_BYTES) for _ in range(draft.committee.privacy)]
            dealer = self._dealer(draft, seeds)
            rows = dealer.deal_vector(draft.x)
            row = rows[victim - draft.committee.privacy - 1]
            excess = self._excess(draft, seeds, victim, helpers)
            for entry in draft.random.sample(range(len(row)), len(row)):
                honest = int(row[entry])
                root = square_root(honest**2 + excess)
                if root is None:
                    continue
                row[entry] = root
                blinds, x_parts = self.commit_to_vector(seeds, rows)
                if self._unseen(draft, entry, self.joint(x_parts)):
                    return self.finish(draft, dealer, seeds, blinds, x_parts)
                row[entry] = honest

    def _excess(self, draft: Draft, seeds: list[bytes], victim: int, helpers: list[int]) -> int:
        """Return by how much the victim's share of the norm must fall."""
        probe = self._dealer(draft, seeds)
        probe.deal_vector(draft.x)
        width = draft.statement.norm_bits
        bits = np.zeros(draft.statement.bit_count, dtype=np.uint64)
        bits[:width] = [draft.norms[0] >> b & 1 for b in range(width)]
        probe.deal_proof(bits, self._randomness)
        shares = dict(enumerate(probe.shares(), start=1))
        norm = {point: _norm_share(draft, shares[point]) for point in (*helpers, victim)}
        wanted = extrapolate({0: 0} | {point: norm[point] for point in helpers}, victim)
        return norm[victim] - wanted

    def _dealer(self, draft: Draft, seeds: list[bytes]) -> MutableDealer:
        statement = draft.statement
        return MutableDealer(draft.committee, statement.dimension, statement.bit_count, seeds)

    def _unseen(self, draft: Draft, entry: int, joint: Hash32) -> bool:
        """Tell whether no test sees the entry, and the vector passes them all."""
        statement = draft.statement
        ((_, tests),) = blocks_of_tests(statement, joint)
        if any(int(tests[entry, 0]) >> 2 * k & 3 not in _UNSEEN for k in range(4)):
            return False
        signs = np.array((-1, 0, 0, 1))[tests[:, 0][:, None] >> np.arange(4) * 2 & 3]
        values = np.array([v - MODULUS if v > MODULUS // 2 else v for v in map(int, draft.x)])
        return bool(np.all(np.abs(values @ signs) < statement.wraparound_bound))


def _norm_share(draft: Draft, share: Share) -> int:
    """Return a server's share of V - sum x_i^2."""
    x: FieldVector = share.elements(0, draft.statement.dimension)
    bits = share.elements(draft.statement.dimension, draft.statement.norm_bits)
    spelt = sum(int(bit) << position for position, bit in enumerate(bits))
    return (spelt - sum(int(entry) ** 2 for entry in x)) % MODULUS
