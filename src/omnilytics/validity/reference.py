"""The statement's weighted sums in plain Python, line by line from protocol.md section 6.5.

Slow, and meant to be read beside `evaluate.py`; tests hold the two equal. It works on whatever
it is given: on a share it yields the server's word, on the plain vector with zero masks it
yields sum_i rho^i Q_i(y), which is zero exactly (but for chance) if the vector is valid.
"""

from __future__ import annotations

from omnilytics.algebra import extension
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import FieldVector
from omnilytics.algebra.streams import (
    LABEL_CHALLENGE,
    LABEL_TESTS,
    LABEL_WRAPAROUND_WEIGHTS,
    Stream,
)
from omnilytics.validity.statement import Statement
from omnilytics.validity.word import Word

_TEST_OF_TWO_BITS = (-1, 0, 0, 1)


def evaluate_plainly(
    statement: Statement, share: FieldVector, joint_randomness: bytes, seed: bytes
) -> Word:
    """Return the word of a share, as `evaluate` does, from the round's 32-byte seed."""
    y = [int(element) for element in share]
    masks = y[-4:]
    entries = y[:-4]
    rho = Stream(LABEL_CHALLENGE, seed).extension_element(0)
    chi = Stream(LABEL_CHALLENGE, seed).extension_element(1)
    values = constraint_values(statement, entries, joint_randomness, seed)
    c = _weighted_sum(rho, values)
    d = _weighted_sum(chi, [extension.embed(entry) for entry in entries])
    return Word(
        extension.add(c, ExtensionElement(masks[0], masks[1])),
        extension.add(d, ExtensionElement(masks[2], masks[3])),
    )


def constraint_values(
    statement: Statement, entries: list[int], joint_randomness: bytes, seed: bytes
) -> list[ExtensionElement]:
    """Return Q_1(y), Q_2(y), ... in the protocol's order, from x followed by the bits."""
    x, bits = entries[: statement.dimension], entries[statement.dimension :]
    values = [extension.embed(bit * (bit - 1)) for bit in bits]
    width = statement.norm_bits
    for k, component in enumerate(statement.component_slices()):
        norm = sum(entry * entry for entry in x[component])
        values.append(extension.embed(_from_bits(bits[k * width : (k + 1) * width]) - norm))
    test_bits = bits[width * len(statement.components) :]
    wraparound = extension.ZERO
    for k in range(statement.tests):
        projection = sum(_test(statement, joint_randomness, i, k) * x[i] for i in range(len(x)))
        start = k * statement.test_bits
        value = _from_bits(test_bits[start : start + statement.test_bits])
        deviation = projection - value + statement.wraparound_bound - 1
        wraparound = extension.add(wraparound, extension.scale(_weight(seed, k), deviation))
    return [*values, wraparound]


def _weighted_sum(base: ExtensionElement, values: list[ExtensionElement]) -> ExtensionElement:
    weights = extension.powers(base, 1, len(values))
    pairs = zip(weights, values, strict=True)
    return extension.total(extension.multiply(weight, value) for weight, value in pairs)


def _from_bits(bits: list[int]) -> int:
    return sum(bit << position for position, bit in enumerate(bits))


def _test(statement: Statement, joint_randomness: bytes, entry: int, test: int) -> int:
    offset = entry * statement.test_bytes + test // 4
    byte = Stream(LABEL_TESTS, joint_randomness).read(offset, 1)[0]
    return _TEST_OF_TWO_BITS[byte >> (2 * (test % 4)) & 3]


def _weight(seed: bytes, test: int) -> ExtensionElement:
    data = Stream(LABEL_WRAPAROUND_WEIGHTS, seed).read(14 * test, 14)
    return ExtensionElement(int.from_bytes(data[:7], "little"), int.from_bytes(data[7:], "little"))
