"""Parties that cheat, to show what the market does about it. Only the demo and tests import this.

Each is the honest role with one step replaced; keys, messages and signatures are in order, because
a cheat that is caught by its form shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isqrt

import numpy as np

from omnilytics.algebra.field import MODULUS, FieldVector
from omnilytics.algebra.fixed_point import IntegerVector
from omnilytics.foundation.units import Hash32
from omnilytics.learning.encoding import FloatArray
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package import HeldPackage
from omnilytics.protocol.package_builder import PackageBuilder, Packages
from omnilytics.protocol.settlement import SealedRound
from omnilytics.roles.data_owner import DataOwner
from omnilytics.roles.server import Server
from omnilytics.roles.server.answering import Answering
from omnilytics.roles.task_view import TaskView
from omnilytics.sharing.shamir import Dealer
from omnilytics.validity.joint import blocks_of_tests
from omnilytics.validity.prover import project
from omnilytics.validity.statement import Statement
from omnilytics.validity.word import Word

BOOST = 8
"""How much longer than allowed the false-norm owner's vector is."""


class FalseNormOwner(DataOwner):
    """Sends a gradient eight times as long and proves the norm of the honest one."""

    def encode(
        self, view: TaskView, gradient: dict[str, FloatArray]
    ) -> tuple[IntegerVector, float]:
        """Return the honest encoding, boosted."""
        values, factor = super().encode(view, gradient)
        return values * BOOST, factor

    def build_packages(
        self, view: TaskView, context: RoundContext, vector: IntegerVector
    ) -> Packages:
        """Share the boosted vector with a proof that claims the honest norm."""
        return _FalseNormBuilder(view.parameters, context, self.key, self.randomness).build(vector)


class _FalseNormBuilder(PackageBuilder):
    def prove(self, vector: IntegerVector, joint: Hash32) -> FieldVector:
        statement = self.parameters.statement
        honest = vector // BOOST
        norms = [int(honest[part] @ honest[part]) for part in statement.component_slices()]
        return forged_bits(statement, norms, project(statement, vector, joint))


class WrappingOwner(DataOwner):
    """Sends entries so large that the sum of their squares wraps around the field."""

    def encode(
        self, view: TaskView, gradient: dict[str, FloatArray]
    ) -> tuple[IntegerVector, float]:
        """Return two huge entries a, b with a^2 + b^2 = p + s for a small s."""
        values = np.zeros(view.parameters.statement.dimension, dtype=np.int64)
        values[:2] = wrapping_pair()
        return values, 1.0

    def build_packages(
        self, view: TaskView, context: RoundContext, vector: IntegerVector
    ) -> Packages:
        """Share the vector with the small norm that its squares have modulo p."""
        return _WrappingBuilder(view.parameters, context, self.key, self.randomness).build(vector)


class _WrappingBuilder(PackageBuilder):
    def prove(self, vector: IntegerVector, joint: Hash32) -> FieldVector:
        statement = self.parameters.statement
        norm = sum(int(entry) ** 2 for entry in vector[:2]) % MODULUS
        norms = [norm] + [0] * (len(statement.components) - 1)
        _, tests = next(blocks_of_tests(statement, joint))
        signs = np.array([-1, 0, 0, 1], dtype=np.int64)
        rows = [signs[tests[entry][:, None] >> np.arange(0, 8, 2) & 3].ravel() for entry in (0, 1)]
        return forged_bits(statement, norms, rows[0] * vector[0] + rows[1] * vector[1])


class MisdealingOwner(DataOwner):
    """Deals one server a share that is off its polynomial, and commits to it faithfully."""

    row = 0
    """Which explicit share is off: 0 is that of the first server without a seed."""

    def build_packages(
        self, view: TaskView, context: RoundContext, vector: IntegerVector
    ) -> Packages:
        """Share an honest vector, but alter one explicit share."""
        builder = _MisdealingBuilder(view.parameters, context, self.key, self.randomness)
        builder.row = self.row
        return builder.build(vector)


class _MisdealingBuilder(PackageBuilder):
    row = 0

    def make_dealer(self) -> Dealer:
        honest = super().make_dealer()
        dealer = _Misdealer(honest.committee, honest.dimension, honest.bit_count, honest.seeds)
        dealer.row = self.row
        return dealer


class _Misdealer(Dealer):
    row = 0

    def rows_into(self, start: int, out: FieldVector) -> None:
        super().rows_into(start, out)
        if start == 0 and out.size:
            out[self.row, 0] = (int(out[self.row, 0]) + 1) % MODULUS


class LyingServer(Server):
    """Posts wrong words in every even round, and is honest in the others."""

    def make_answering(self) -> Answering:
        """Return the part that answers challenges, replaced by one that lies."""
        return _LyingAnswering(self.node, self.sealing, self.complaints)


class _LyingAnswering(Answering):
    def compute_words(self, sealed: SealedRound, packages: Iterable[HeldPackage]) -> list[Hash32]:
        words = super().compute_words(sealed, packages)
        if sealed.context.round % 2:
            return words
        return [_altered(word) for word in words]


def _altered(word: Hash32) -> Hash32:
    c, d = Word.from_bytes(word)
    return Hash32(Word(c._replace(low=(c.low + 1) % MODULUS), d).to_bytes())


def forged_bits(statement: Statement, norms: list[int], projections: IntegerVector) -> FieldVector:
    """Return proof bits for claimed squared norms by component; clips projections."""
    bound = statement.wraparound_bound
    shifted = np.clip(projections + (bound - 1), 0, 2 * bound - 1)
    norm_bits = [norm >> bit & 1 for norm in norms for bit in range(statement.norm_bits)]
    test_bits = (shifted[:, None] >> np.arange(statement.test_bits)) & 1
    return np.concatenate(
        [np.array(norm_bits, dtype=np.uint64), test_bits.ravel().astype(np.uint64)]
    )


def wrapping_pair() -> tuple[int, int]:
    """Return (a, b), both below 2^33, whose squares sum to p plus less than 2^20."""
    first = isqrt(MODULUS)
    second = isqrt(MODULUS - first**2) + 1
    return first, second
