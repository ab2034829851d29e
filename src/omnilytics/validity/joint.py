"""The wraparound tests Z, from the joint randomness J (protocol.md sections 3 and 5, wire.md).

Z_k is in {-1, 0, 1}^D with probabilities 1/4, 1/2, 1/4. An entry of x takes tests/4 bytes of the
stream (32 for 128 tests); byte g holds the tests 4g .. 4g+3, low bits first; 00 is -1, 01 and 10
are 0, 11 is +1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from omnilytics.algebra.streams import LABEL_TESTS, Stream
from omnilytics.foundation.errors import MalformedError
from omnilytics.validity.statement import Statement

JOINT_RANDOMNESS_BYTES: Final = 32
BLOCK_ENTRIES: Final = 8192
"""Entries of x handled at a time; also a block of the shares' stream."""


def blocks_of_tests(
    statement: Statement, joint_randomness: bytes, first: int = 0, stop: int | None = None
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield (first entry, Z of up to 8,192 entries as uint8 of shape (entries, tests/4)).

    From entry `first` to before entry `stop`, by default all; blocks begin at multiples of 8,192.
    The array is overwritten by the next one: fresh memory for each would cost as much as the tests.

    Raises:
        MalformedError: If J is not 32 bytes.
    """
    if len(joint_randomness) != JOINT_RANDOMNESS_BYTES:
        raise MalformedError(
            "joint randomness of wrong size", got=len(joint_randomness), want=JOINT_RANDOMNESS_BYTES
        )
    stream = Stream(LABEL_TESTS, joint_randomness)
    width = statement.test_bytes
    end = statement.dimension if stop is None else min(stop, statement.dimension)
    buffer = np.empty(min(BLOCK_ENTRIES, statement.dimension) * width, dtype=np.uint8)
    start = first
    while start < end:
        count = min(BLOCK_ENTRIES - start % BLOCK_ENTRIES, end - start)
        block = buffer[: count * width]
        stream.read_into(start * width, block)
        yield start, block.reshape(count, width)
        start += count
