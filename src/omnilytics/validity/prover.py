"""The owner's proof: the bits of V and of every v_k (protocol.md section 3).

The bits are part of the shared vector; together with the masks they are the whole proof. An honest
vector fails a wraparound test with probability below 2^-100; its owner then draws new blinds, and
with them J, and proves again.

Not guaranteed: soundness, which is the verifiers' business; this code only helps the honest.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from omnilytics.algebra import kernels
from omnilytics.algebra.field import FieldVector
from omnilytics.algebra.fixed_point import IntegerVector, squared_norms
from omnilytics.foundation.errors import UsageError, VerificationError
from omnilytics.validity.joint import blocks_of_tests
from omnilytics.validity.statement import Statement


class WraparoundTestError(VerificationError):
    """A wraparound test failed on the owner's own vector: draw new blinds and prove again."""

    code: ClassVar[str] = "wraparound-test"


def prove(statement: Statement, values: IntegerVector, joint_randomness: bytes) -> FieldVector:
    """Return the proof's bits for a vector.

    Args:
        statement: The task's statement.
        values: int64, shape (D,), every component's squared norm <= S.
        joint_randomness: J, 32 bytes.

    Returns:
        uint64, shape (bit_count,): per component V's bits, low to high; then v_1's, v_2's, ...

    Raises:
        UsageError: If the vector is too long for the bound, or of the wrong length.
        WraparoundTestError: If a test fails for this J.
    """
    norms = _checked_norms(statement, values)
    shifted = project(statement, values, joint_randomness) + (statement.wraparound_bound - 1)
    if int(shifted.min()) < 0 or int(shifted.max()) >= 2 * statement.wraparound_bound:
        raise WraparoundTestError(
            "a wraparound test failed on an honest vector", hint="draw new blinds and prove again"
        )
    norm_bits = _bits(np.array(norms, dtype=np.int64), statement.norm_bits)
    return np.concatenate([norm_bits, _bits(shifted, statement.test_bits)])


def project(
    statement: Statement, values: IntegerVector, joint_randomness: bytes
) -> npt.NDArray[np.int64]:
    """Return Y_k = <Z_k, values> for every test, for entries of at most 2^24."""
    kernel = kernels.current()
    sums = np.zeros(statement.tests, dtype=np.int64)
    for start, tests in blocks_of_tests(statement, joint_randomness):
        small = values[start : start + len(tests)].astype(np.int32)
        sums += kernel.projections(tests, small)
    return sums


def _checked_norms(statement: Statement, values: IntegerVector) -> list[int]:
    if values.shape != (statement.dimension,):
        raise UsageError("vector of wrong length", got=values.shape, want=statement.dimension)
    norms = squared_norms(values, statement.components, 1 << statement.fractional_bits)
    for component, norm in enumerate(norms):
        if norm > statement.norm_bound:
            raise UsageError(
                "a component exceeds the norm bound",
                want=f"squared norm at most {statement.norm_bound}",
                component=component,
            )
    return norms


def _bits(values: npt.NDArray[np.int64], width: int) -> FieldVector:
    """Return the lowest `width` bits of each value, low to high, one after the other."""
    shifts = np.arange(width, dtype=np.int64)
    return ((values[:, None] >> shifts) & 1).astype(np.uint64).reshape(-1)
