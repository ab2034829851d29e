"""Whether words lie on codewords, by interpolation (the contract uses dual weights instead)."""

from __future__ import annotations

from collections.abc import Sequence

P = 2**64 - 2**32 + 1


def on_codewords(points: Sequence[int], words: Sequence[Sequence[int]], t: int) -> bool:
    """Tell whether c0, c1 have degree <= 2t and value 0 at 0, and d0, d1 degree <= t."""
    for limb, degree in ((0, 2 * t), (1, 2 * t), (2, t), (3, t)):
        pairs = [(point, word[limb]) for point, word in zip(points, words, strict=True)]
        if limb < 2:
            pairs.insert(0, (0, 0))
        if not _of_degree(pairs, degree):
            return False
    return True


def _of_degree(pairs: Sequence[tuple[int, int]], degree: int) -> bool:
    first, rest = pairs[: degree + 1], pairs[degree + 1 :]
    return all(_interpolated(first, point) == value for point, value in rest)


def _interpolated(pairs: Sequence[tuple[int, int]], at: int) -> int:
    total = 0
    for point, value in pairs:
        numerator, denominator = value, 1
        for other, _ in pairs:
            if other != point:
                numerator = numerator * (at - other) % P
                denominator = denominator * (point - other) % P
        total += numerator * pow(denominator, -1, P)
    return total % P
