"""The round's challenge, expanded from its 32-byte seed (protocol.md section 6.4 and 6.5).

Everything here is public and the same for all servers and owners of a round, so it is made once:
rho and chi in E, the wraparound weights a_k + b_k X, and the tables that go with them. Every server
must hold n - e `Seed` signatures before it evaluates under a seed; that is not checked here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from omnilytics.algebra import extension, kernels
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS, FieldVector
from omnilytics.algebra.power_weights import PowerWeights
from omnilytics.algebra.streams import (
    LABEL_BATCH,
    LABEL_CHALLENGE,
    LABEL_WRAPAROUND_WEIGHTS,
    Stream,
)
from omnilytics.foundation.errors import MalformedError
from omnilytics.validity.statement import TESTS_PER_BYTE, Statement

SEED_BYTES: Final = 32
ROOT_BYTES: Final = 32
OWNER_BYTES: Final = 20
WEIGHT_BYTES: Final = 7
"""a_k and b_k have 56 bits, so sums of 128 with signs stay within 63 bits and a sign."""

_TEST_OF_TWO_BITS: Final = (-1, 0, 0, 1)


class Challenge:
    """What one seed demands of every submission under one statement.

    Args:
        statement: The task's statement.
        seed: 32 bytes, from the sealed block (section 6.4).

    Attributes:
        rho: Weighs the constraints: constraint i by rho^i, i from 1.
        chi: Weighs the entries of a share: entry i by chi^i, i from 1.
        rho_powers: rho^1 .. rho^constraint_count, shape (2, count).
        chi_weights: The powers of chi.
        weights: a_k + b_k X for every wraparound test.
        tables: For four tests' byte the sum of their signed weights: int64 (tests/4, 256, 2).
        bit_weights: For every bit b of every v_k its factor in sum_k w_k v_k, shape (2, count).
        constant: (W - 1) * sum_k w_k, the wraparound sum's constant.
    """

    def __init__(self, statement: Statement, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise MalformedError("challenge seed of wrong size", got=len(seed), want=SEED_BYTES)
        self.statement = statement
        stream = Stream(LABEL_CHALLENGE, seed)
        self.rho = stream.extension_element(0)
        self.chi = stream.extension_element(1)
        count = statement.constraint_count
        self.rho_powers = kernels.current().extension_powers(self.rho, 1, count)
        self.chi_weights = PowerWeights(self.chi)
        self.weights = _wraparound_weights(seed, statement.tests)
        self.tables = _tables(self.weights)
        self.bit_weights = _bit_weights(self.weights, statement.test_bits)
        total = extension.total(self.weights)
        self.constant = extension.scale(total, statement.wraparound_bound - 1)


def batch_weight(seed: bytes, accepted_root: bytes, owner: bytes) -> ExtensionElement:
    """Return kappa_o, an owner's weight in the batch word (section 6.7).

    Args:
        seed: The round's seed, 32 bytes.
        accepted_root: Root of the accepted set, 32 bytes: the weights are fixed after the set.
        owner: Address, 20 bytes.

    Raises:
        MalformedError: If a size is wrong.
    """
    sizes = (len(seed), len(accepted_root), len(owner))
    if sizes != (SEED_BYTES, ROOT_BYTES, OWNER_BYTES):
        raise MalformedError("inputs of kappa of wrong size", got=sizes)
    return Stream(LABEL_BATCH, seed + accepted_root + owner).extension_element(0)


def _wraparound_weights(seed: bytes, tests: int) -> list[ExtensionElement]:
    """Return a_k + b_k X: 7 bytes little-endian each, a_0, b_0, a_1, b_1, ..."""
    data = Stream(LABEL_WRAPAROUND_WEIGHTS, seed).read(0, 2 * WEIGHT_BYTES * tests)
    limbs = [
        int.from_bytes(data[i : i + WEIGHT_BYTES], "little")
        for i in range(0, len(data), WEIGHT_BYTES)
    ]
    return [ExtensionElement(*limbs[2 * k : 2 * k + 2]) for k in range(tests)]


def _tables(weights: list[ExtensionElement]) -> npt.NDArray[np.int64]:
    """Return the signed sum of four tests' weights for every byte of Z, both limbs."""
    byte = np.arange(256)
    signs = np.array(_TEST_OF_TWO_BITS, dtype=np.int64)
    by_group = np.array(weights, dtype=np.int64).reshape(-1, TESTS_PER_BYTE, 2)
    tables = np.zeros((len(by_group), 256, 2), dtype=np.int64)
    for test in range(TESTS_PER_BYTE):
        sign = signs[byte >> (2 * test) & 3]
        tables += sign[None, :, None] * by_group[:, None, test]  # four times 2^56: below 2^59
    return tables


def _bit_weights(weights: list[ExtensionElement], test_bits: int) -> FieldVector:
    rows = [
        [weight[limb] << bit for weight in weights for bit in range(test_bits)] for limb in (0, 1)
    ]
    return np.array([[value % MODULUS for value in row] for row in rows], dtype=np.uint64)
