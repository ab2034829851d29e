"""The prime field F_p with p = 2^64 - 2^32 + 1, "Goldilocks" (protocol.md section 2).

A scalar is a Python int in [0, p); a vector is a NumPy uint64 array of such values ("canonical").
Bulk arithmetic lives in `omnilytics.algebra.kernels`; this module holds the constants, the scalar
operations and the gate for vectors that come from outside.

Not guaranteed: constant time. Secret scalars leak through timing to whoever shares the machine.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from omnilytics.foundation.errors import MalformedError, UsageError

MODULUS = 2**64 - 2**32 + 1
"""The prime p."""

_BLOCK = 8192
"""Elements checked at a time: a vector in a mapped file is not read at once."""

ELEMENT_BYTES = 8
"""Bytes of one field element."""

FieldVector: TypeAlias = npt.NDArray[np.uint64]
"""Canonical field elements, uint64, one dimension unless said otherwise."""


def inverse(value: int) -> int:
    """Return the multiplicative inverse of a field element.

    Args:
        value: A scalar in [0, p).

    Returns:
        The scalar in [1, p) whose product with `value` is 1.

    Raises:
        UsageError: If `value` is zero modulo p.
    """
    if value % MODULUS == 0:
        raise UsageError("zero has no inverse")
    return pow(value, -1, MODULUS)


def is_canonical(value: int) -> bool:
    """Return whether an integer is a canonical field element."""
    return 0 <= value < MODULUS


def to_bytes(vector: FieldVector) -> bytes:
    """Return the little-endian bytes of a vector, 8 per element (wire.md, "Streams")."""
    return vector.astype("<u8", copy=False).tobytes()


def from_bytes(data: bytes | bytearray | memoryview) -> FieldVector:
    """Return the vector that little-endian bytes hold, refusing values >= p.

    Args:
        data: 8 bytes per element; bound its length before calling.

    Returns:
        A vector that shares the memory of `data` on a little-endian machine.

    Raises:
        MalformedError: If the length is no multiple of 8, or an element is not canonical.
    """
    if len(data) % ELEMENT_BYTES:
        raise MalformedError(
            "field elements cut short", got=f"{len(data)} bytes", want="a multiple of 8"
        )
    vector = np.frombuffer(data, dtype="<u8").astype(np.uint64, copy=False)
    return require_canonical(vector)


def require_canonical(vector: FieldVector) -> FieldVector:
    """Return the vector itself if every element is < p.

    Args:
        vector: uint64, any shape.

    Raises:
        MalformedError: If its type is not uint64, or an element is >= p (never reduced).
    """
    if vector.dtype != np.uint64:
        raise MalformedError("not a field vector", got=vector.dtype, want="uint64")
    flat = vector.reshape(-1)
    parts = (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))
    if any(int(part.max()) >= MODULUS for part in parts):
        raise MalformedError("a field element is not canonical", want=f"below {MODULUS}")
    return vector
