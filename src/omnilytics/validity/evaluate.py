"""A server's word for one owner, from its share alone (protocol.md section 6.5).

c = sum_i rho^i Q_i(y) + M0 over the constraints Q_i: every bit b(b - 1); per component
V - sum x_i^2; the wraparound sum, sum_k w_k (Y_k - v_k + W - 1). d = sum_i chi^i y_i + M1. Both
start at i = 1. On shares of degree t, c is a share of degree 2t of the same sum on the secret;
a constant is its own share.

The share is read block by block, so memory does not grow with it. Words reveal a secret if two are
given under different seeds: the seed lock is the caller's.
"""

from __future__ import annotations

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
    if share.length != statement.share_length:
        raise MalformedError("share of wrong length", got=share.length, want=statement.share_length)
    if challenge.statement != statement:
        raise UsageError("challenge of another statement")
    d, norms, projection = _read_vector(statement, share, joint_randomness, challenge)
    rest = share.elements(statement.dimension, statement.bit_count + MASK_ELEMENTS)
    bits, masks = rest[:-MASK_ELEMENTS], [int(element) for element in rest[-MASK_ELEMENTS:]]
    c = _constraints(statement, bits, norms, projection, challenge)
    d = extension.add(d, challenge.chi_weights.inner_product(bits, statement.dimension))
    return Word(
        extension.add(c, ExtensionElement(*masks[:2])),
        extension.add(d, ExtensionElement(*masks[2:])),
    )


def _read_vector(
    statement: Statement, share: ElementReader, joint_randomness: bytes, challenge: Challenge
) -> tuple[ExtensionElement, list[int], ExtensionElement]:
    """Return sum chi^i x_i, each component's sum x_i^2, and sum_k w_k Y_k, in one pass."""
    kernel = kernels.current()
    d = projection = extension.ZERO
    norms = [0] * len(statement.components)
    for start, tests in blocks_of_tests(statement, joint_randomness):
        block = share.elements(start, len(tests))
        d = extension.add(d, challenge.chi_weights.inner_product(block, start))
        coefficients = kernel.combined_coefficients(tests, challenge.tables)
        projection = extension.add(projection, kernel.extension_inner_product(coefficients, block))
        for k, component in enumerate(statement.component_slices()):
            part = block[max(component.start - start, 0) : max(component.stop - start, 0)]
            norms[k] = (norms[k] + kernel.sum_of_squares(part)) % MODULUS
    return d, norms, projection


def _constraints(
    statement: Statement,
    bits: FieldVector,
    norms: list[int],
    projection: ExtensionElement,
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
    for k, norm in enumerate(norms):
        value = kernel.inner_product(bits[k * width : (k + 1) * width], powers_of_two)
        terms.append(extension.scale(_column(powers, len(bits) + k), value - norm))

    test_values = bits[width * len(norms) :]
    values = kernel.extension_inner_product(challenge.bit_weights, test_values)
    wraparound = extension.add(extension.subtract(projection, values), challenge.constant)
    terms.append(extension.multiply(_column(powers, len(bits) + len(norms)), wraparound))
    return extension.total(terms)


def _column(vector: FieldVector, index: int) -> ExtensionElement:
    return ExtensionElement(int(vector[0, index]), int(vector[1, index]))
