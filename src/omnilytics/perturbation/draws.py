"""Uniform draws of secret permutations, scales and orthogonal matrices from random bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omnilytics.foundation.randomness import Randomness

Order = NDArray[np.int64]
Reals = NDArray[np.float64]


def uniform_permutation(size: int, randomness: Randomness) -> Order:
    """Return a uniform permutation of 0..size-1, shape (size,).

    Sorting distinct uniform keys favours no order; on a tie (below size^2 / 2^65) all keys are
    drawn again, so there is no bias.
    """
    while True:
        keys = np.frombuffer(randomness.bytes(8 * size), dtype="<u8")
        if len(np.unique(keys)) == size:
            return np.argsort(keys).astype(np.int64)


def uniform_signs(size: int, randomness: Randomness) -> Reals:
    """Return `size` independent uniform signs, +1.0 or -1.0."""
    packed = np.frombuffer(randomness.bytes((size + 7) // 8), dtype=np.uint8)
    return 1.0 - 2.0 * np.unpackbits(packed, count=size).astype(np.float64)


def uniform_powers(size: int, bits: int, randomness: Randomness) -> Reals:
    """Return `size` independent powers 2^u, u uniform in -bits .. bits."""
    choices = 2 * bits + 1
    # The remainder of 64 bits favours no choice by more than 2^-59.
    drawn = np.frombuffer(randomness.bytes(8 * size), dtype="<u8") % np.uint64(choices)
    return np.ldexp(1.0, drawn.astype(np.int64) - bits)


def uniform_angles(size: int, randomness: Randomness) -> Reals:
    """Return `size` independent uniform angles in 0 .. 2 pi."""
    return uniform(size, randomness) * (2 * np.pi)


def uniform_orthogonal(size: int, randomness: Randomness) -> Reals:
    """Return an orthogonal matrix (size, size) of the Haar measure.

    The Q of a Gaussian matrix, with the signs of R's diagonal (Mezzadri, arXiv math-ph/0609050).
    """
    q, r = np.linalg.qr(_normal(size * size, randomness).reshape(size, size))
    signed: Reals = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return signed


def orthogonal_keeping_ones(size: int, randomness: Randomness) -> Reals:
    """Return a uniform orthogonal matrix (size, size) with Q 1 = 1."""
    inner = np.eye(size)
    inner[1:, 1:] = uniform_orthogonal(size - 1, randomness)
    # A reflection takes the first unit vector to that of ones, and back.
    normal = np.full(size, -1.0 / np.sqrt(size))
    normal[0] += 1.0
    reflection = np.eye(size) - 2.0 * np.outer(normal, normal) / (normal @ normal)
    kept: Reals = reflection @ inner @ reflection
    return kept


def orthogonal_by_frequency(size: int, randomness: Randomness) -> Reals:
    """Return an orthogonal matrix that turns each pair (i, i + size/2) by a uniform angle."""
    half = size // 2
    angles = uniform_angles(half, randomness)
    cosine, sine = np.diag(np.cos(angles)), np.diag(np.sin(angles))
    turned: Reals = np.block([[cosine, -sine], [sine, cosine]])
    return turned


def uniform(size: int, randomness: Randomness) -> Reals:
    """Return `size` independent uniform numbers in 0 .. 1, multiples of 2^-53."""
    drawn = np.frombuffer(randomness.bytes(8 * size), dtype="<u8") >> np.uint64(11)
    return np.ldexp(drawn.astype(np.float64), -53)


def _normal(size: int, randomness: Randomness) -> Reals:
    """Return `size` independent standard normal numbers (Box and Muller, 1958)."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(size, randomness)))
    normal: Reals = radius * np.cos(uniform_angles(size, randomness))
    return normal
