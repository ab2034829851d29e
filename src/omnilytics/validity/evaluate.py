"""A server's word for one owner, from its share alone (protocol.md section 6.5).

c = sum_i rho^i Q_i(y) + M0 over the constraints Q_i: every bit b(b - 1); per component
V - sum x_i^2; the wraparound sum, sum_k w_k (Y_k - v_k + W - 1). d = sum_i chi^i y_i + M1. Both
start at i = 1. On shares of degree t, c is a share of degree 2t of the same sum on the secret;
a constant is its own share.

The share is read block by block, so memory does not grow with it. Words reveal a secret if two are
given under different seeds: the seed lock is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from omnilytics.algebra import extension, kernels
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS, FieldVector
from omnilytics.foundation.errors import MalformedError, UsageError
from omnilytics.sharing.shamir import MASK_ELEMENTS
from omnilytics.validity.challenge import Challenge
from omnilytics.validity.joint import blocks_of_tests
from omnilytics.validity.statement import Statement
from omnilytics.validity.word import Word


class ElementReader(Protocol):
    """A share that can be read in pieces, such as `sharing.shamir.Share`."""

    @property
    def length(self) -> int:
        """Elements it has."""
        ...

    def elements(self, start: int, count: int) -> FieldVector:
        """Return canonical elements start, start+1, ..., `count` of them."""
        ...


@dataclass(frozen=True)
class Partial:
    """What a range of entries of x adds to a word; the partials of all ranges add up.

    Attributes:
        low_degree: sum chi^i x_i.
        projection: sum_k w_k Y_k.
        norms: Each component's sum x_i^2 modulo p.
    """

    low_degree: ExtensionElement
    projection: ExtensionElement
    norms: tuple[int, ...]

    def __add__(self, other: Partial) -> Partial:
        """Return what both ranges add."""
        return Partial(
            extension.add(self.low_degree, other.low_degree),
            extension.add(self.projection, other.projection),
            tuple((a + b) % MODULUS for a, b in zip(self.norms, other.norms, strict=True)),
        )


def evaluate(
    statement: Statement, share: ElementReader, joint_randomness: bytes, challenge: Challenge
) -> Word:
    """Return the word of a share.

    Args:
        statement: The task's statement.
        share: x, bits, M0, M1.
        joint_randomness: J, 32 bytes, as recomputed from the commitment's parts.
        challenge: Of the same statement.

    Raises:
        MalformedError: If the share's length is not the statement's, or J is not 32 bytes.
        UsageError: If the challenge is for another statement.
    """
    partial = evaluate_part(statement, share, joint_randomness, challenge, 0, statement.dimension)
    return finish(statement, share, partial, challenge)


def evaluate_part(
    statement: Statement,
    share: ElementReader,
    joint_randomness: bytes,
    challenge: Challenge,
    first: int,
    stop: int,
) -> Partial:
    """Return what the entries first, ..., stop - 1 of x add to the word, in one pass over them.

    Raises:
        MalformedError: If the share's length is not the statement's, or J is not 32 bytes.
        UsageError: If the challenge is for another statement, or the range is beyond x.
    """
    _check(statement, share, challenge)
    if not 0 <= first <= stop <= statement.dimension:
        raise UsageError("beyond the vector", got=(first, stop), want=statement.dimension)
    kernel = kernels.current()
    weights = challenge.chi_weights
    d = projection = extension.ZERO
    norms = [0] * len(statement.components)
    for start, tests in blocks_of_tests(statement, joint_randomness, first, stop):
        block = share.elements(start, len(tests))
        for k, part in _parts(statement, start, len(tests)):
            weighted, projected, squares = kernel.word_products(
                tests[part],
                challenge.tables,
                weights.block[:, : part.stop - part.start],
                block[part],
            )
            d = extension.add(d, weights.shifted(weighted, start + part.start))
            projection = extension.add(projection, projected)
            norms[k] = (norms[k] + squares) % MODULUS
    return Partial(d, projection, tuple(norms))


def finish(
    statement: Statement, share: ElementReader, partial: Partial, challenge: Challenge
) -> Word:
    """Return the word, given what all of x adds to it.

    Raises:
        MalformedError: If the share's length is not the statement's.
        UsageError: If the challenge is for another statement.
    """
    _check(statement, share, challenge)
    rest = share.elements(statement.dimension, statement.bit_count + MASK_ELEMENTS)
    bits, masks = rest[:-MASK_ELEMENTS], [int(element) for element in rest[-MASK_ELEMENTS:]]
    c = _constraints(statement, bits, partial, challenge)
    d = challenge.chi_weights.inner_product(bits, statement.dimension)
    return Word(
        extension.add(c, ExtensionElement(*masks[:2])),
        extension.total([partial.low_degree, d, ExtensionElement(*masks[2:])]),
    )


def _check(statement: Statement, share: ElementReader, challenge: Challenge) -> None:
    if share.length != statement.share_length:
        raise MalformedError("share of wrong length", got=share.length, want=statement.share_length)
    if challenge.statement != statement:
        raise UsageError("challenge of another statement")


def _parts(statement: Statement, start: int, count: int) -> Iterator[tuple[int, slice]]:
    """Yield each component in a block, and where in the block it lies."""
    for k, component in enumerate(statement.component_slices()):
        part = slice(max(component.start - start, 0), min(component.stop - start, count))
        if part.start < part.stop:
            yield k, part


def _constraints(
    statement: Statement,
    bits: FieldVector,
    partial: Partial,
    challenge: Challenge,
) -> ExtensionElement:
    """Return sum_i rho^i Q_i, i from 1, in the order of section 6.5."""
    kernel = kernels.current()
    powers = challenge.rho_powers
    products = np.empty_like(bits)
    kernel.multiply(bits, bits, products)
    kernel.subtract(products, bits, products)
    terms = [kernel.extension_inner_product(powers[:, : len(bits)], products)]

    width = statement.norm_bits
    powers_of_two = np.uint64(1) << np.arange(width, dtype=np.uint64)  # 2f <= 48 bits
    for k, norm in enumerate(partial.norms):
        value = kernel.inner_product(bits[k * width : (k + 1) * width], powers_of_two)
        terms.append(extension.scale(_column(powers, len(bits) + k), value - norm))

    test_values = bits[width * len(partial.norms) :]
    values = kernel.extension_inner_product(challenge.bit_weights, test_values)
    wraparound = extension.add(extension.subtract(partial.projection, values), challenge.constant)
    terms.append(extension.multiply(_column(powers, len(bits) + len(partial.norms)), wraparound))
    return extension.total(terms)


def _column(vector: FieldVector, index: int) -> ExtensionElement:
    return ExtensionElement(int(vector[0, index]), int(vector[1, index]))
