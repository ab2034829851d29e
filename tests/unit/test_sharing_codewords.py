from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS
from omnilytics.sharing.codewords import WordPair, decode_joint, is_codeword, parity_rows
from omnilytics.sharing.committee import DEFAULT, OFFERED, Committee

GENERATOR = np.random.default_rng(5)


def _element() -> ExtensionElement:
    low, high = (int(value) for value in GENERATOR.integers(0, MODULUS, 2, dtype=np.uint64))
    return ExtensionElement(low, high)


def _evaluate(coefficients: list[ExtensionElement], point: int) -> ExtensionElement:
    return ExtensionElement(
        *(
            sum(element[limb] * point**k for k, element in enumerate(coefficients)) % MODULUS
            for limb in range(2)
        )
    )


def _words(committee: Committee) -> dict[int, WordPair]:
    t = committee.privacy
    c = [ExtensionElement(0, 0)] + [_element() for _ in range(2 * t)]
    d = [_element() for _ in range(t + 1)]
    return {point: (_evaluate(c, point), _evaluate(d, point)) for point in committee.points}


def _off(word: WordPair, part: int, limb: int) -> WordPair:
    limbs = [list(word[0]), list(word[1])]
    limbs[part][limb] = (limbs[part][limb] + 1) % MODULUS
    return ExtensionElement(*limbs[0]), ExtensionElement(*limbs[1])


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_honest_words_decode_to_all(committee: Committee) -> None:
    assert decode_joint(_words(committee), committee) == committee.points


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_up_to_e_wrong_words_are_found(committee: Committee) -> None:
    words = _words(committee)
    for count in range(1, committee.errors + 1):
        for wrong in combinations(committee.points, count):
            changed = dict(words)
            for index, point in enumerate(wrong):
                changed[point] = _off(words[point], index % 2, (point + index) % 2)
            honest = tuple(point for point in committee.points if point not in wrong)
            assert decode_joint(changed, committee) == honest


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_more_than_e_wrong_words_fail(committee: Committee) -> None:
    words = _words(committee)
    for wrong in combinations(committee.points, committee.errors + 1):
        changed = dict(words)
        for point in wrong:
            changed[point] = _off(words[point], 0, 0)
        assert decode_joint(changed, committee) is None


def test_errors_in_c_and_d_are_not_decoded_apart() -> None:
    # c is wrong at server 1 and d at server 2: each part alone would decode, together they do not.
    words = _words(DEFAULT)
    words[1] = _off(words[1], 0, 0)
    words[2] = _off(words[2], 1, 0)
    assert decode_joint(words, DEFAULT) is None


def test_always_n_minus_e_however_many_arrived() -> None:
    words = _words(DEFAULT)
    del words[3]
    assert decode_joint(words, DEFAULT) == (1, 2, 4, 5)
    words[4] = _off(words[4], 1, 1)
    assert decode_joint(words, DEFAULT) is None  # three of five agree: too few
    del words[4]
    assert decode_joint(words, DEFAULT) is None
    assert decode_joint({}, DEFAULT) is None


def test_words_of_strangers_are_refused() -> None:
    words = _words(DEFAULT)
    words[6] = words[1]
    assert decode_joint(words, DEFAULT) is None


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_c_must_vanish_at_zero(committee: Committee) -> None:
    words = _words(committee)
    shifted = {point: (_off(word, 0, 1)) for point, word in words.items()}
    assert decode_joint(shifted, committee) is None


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_degrees_are_bounded(committee: Committee) -> None:
    words = _words(committee)
    t = committee.privacy
    high_c = {
        point: (ExtensionElement((c.low + point ** (2 * t + 1)) % MODULUS, c.high), d)
        for point, (c, d) in words.items()
    }
    high_d = {
        point: (c, ExtensionElement(d.low, (d.high + point ** (t + 1)) % MODULUS))
        for point, (c, d) in words.items()
    }
    assert decode_joint(high_c, committee) is None
    assert decode_joint(high_d, committee) is None


def test_parity_rows() -> None:
    points = (1, 2, 4, 5)
    assert len(parity_rows(points, 1)) == 2
    assert len(parity_rows(points, 1, zero_at_origin=True)) == 3
    assert parity_rows((1, 2), 1) == ()
    squares = [point * point for point in points]
    assert is_codeword(points, squares, 2, zero_at_origin=True)
    assert not is_codeword(points, squares, 1)
    assert not is_codeword(points, [value + 1 for value in squares], 2, zero_at_origin=True)
    assert is_codeword(points, [value + 1 for value in squares], 2)
