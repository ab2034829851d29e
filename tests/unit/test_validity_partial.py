"""A word made range by range equals the word made at once."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest

from omnilytics.algebra.field import MODULUS
from omnilytics.foundation.errors import MalformedError, UsageError
from omnilytics.sharing.shamir import Share
from omnilytics.validity.challenge import Challenge
from omnilytics.validity.evaluate import Partial, evaluate, evaluate_part, finish
from omnilytics.validity.statement import Statement

STATEMENT = Statement((9_000, 12_000, 700))
JOINT = bytes(range(32))


def _share() -> Share:
    elements = np.random.default_rng(5).integers(
        0, MODULUS, STATEMENT.share_length, dtype=np.uint64
    )
    return Share(STATEMENT.share_length, explicit=elements)


@pytest.mark.parametrize(
    "cuts",
    [(), (8_192,), (1, 8_191, 9_000, 16_384, 16_385, 21_699), (9_000, 9_000, 21_000)],
    ids=str,
)
def test_the_ranges_add_up(cuts: tuple[int, ...]) -> None:
    share, challenge = _share(), Challenge(STATEMENT, bytes(32))
    ends = [0, *cuts, STATEMENT.dimension]
    parts: list[Partial] = [
        evaluate_part(STATEMENT, share, JOINT, challenge, first, stop)
        for first, stop in pairwise(ends)
    ]
    word = finish(STATEMENT, share, reduce(add, parts), challenge)
    assert word == evaluate(STATEMENT, share, JOINT, challenge)


@pytest.mark.parametrize("wrong", [(-1, 5), (6, 5), (0, STATEMENT.dimension + 1)])
def test_ranges_beyond_the_vector_are_refused(wrong: tuple[int, int]) -> None:
    challenge = Challenge(STATEMENT, bytes(32))
    with pytest.raises(UsageError, match="beyond the vector"):
        evaluate_part(STATEMENT, _share(), JOINT, challenge, *wrong)


def test_what_does_not_fit_the_statement_is_refused_before_a_word_is_made() -> None:
    share, challenge = _share(), Challenge(STATEMENT, bytes(32))
    partial = evaluate_part(STATEMENT, share, JOINT, challenge, 0, 10)
    with pytest.raises(MalformedError, match="wrong length"):
        finish(STATEMENT, Share(9, seed=bytes(32)), partial, challenge)
    with pytest.raises(UsageError, match="another statement"):
        finish(STATEMENT, share, partial, Challenge(Statement((5,)), bytes(32)))
