"""Why powers start at i = 1 (protocol.md 6.5): from 0 a mask cancels the first term for good.

This is not a leak but a way to be accepted with an invalid vector, so it is counted over all
challenges of a small field instead of over all randomness of the owner.
"""

from __future__ import annotations

import pytest
from tiny_market import Challenge, Element, Ring, Statement, share, word

from omnilytics.sharing.committee import Committee

RING = Ring(7, 3)
ONE_BIT = Statement((1,), norm_bits=1)
COMMITTEE = Committee(3, 1, 0)


def words_at_zero(first: int, entries: tuple[int, ...], offset: Element) -> list[Element]:
    """Return c(0) for every rho, when the dealer has put `offset` where M0(0) must be zero."""
    nothing = RING.zero
    return [
        word(RING, ONE_BIT, Challenge(rho, nothing, first=first), entries, (offset, nothing))[0]
        for rho in RING.elements()
    ]


@pytest.mark.parametrize(("x", "bit"), [(2, 4), (3, 2)])
def test_a_mask_must_not_cancel_a_constraint(x: int, bit: int) -> None:
    assert (bit - x * x) % 7 == 0  # only "is a bit" is violated
    bad = RING.embed(-bit * (bit - 1))
    assert words_at_zero(0, (x, bit), bad).count(RING.zero) == 49  # accepted whatever rho is
    best = max(words_at_zero(1, (x, bit), offset).count(RING.zero) for offset in RING.elements())
    assert best <= 1  # rho * Q_1 = -M0(0) has one solution


def test_several_violated_constraints_pass_for_few_challenges() -> None:
    """A polynomial of degree 3 without its constant: at most 3 of 49 rho, whatever M0(0) is."""
    best = max(words_at_zero(1, (3, 4), offset).count(RING.zero) for offset in RING.elements())
    assert 1 <= best <= 3


def d_passes(first: int, wrong: tuple[int, int], mask: Element) -> int:
    """Count the chi under which d lies on a line although server 3's share is off by `wrong`."""
    shares = [share(RING, COMMITTEE, secret, (5,)) for secret in (1, 1)]
    passed = 0
    for chi in RING.elements():
        d = []
        for j in range(3):
            off = wrong if j == 2 else (0, 0)
            entries = tuple(column[j] + error for column, error in zip(shares, off, strict=True))
            masks = (RING.zero, mask if j == 2 else RING.zero)
            d.append(word(RING, ONE_BIT, Challenge(RING.zero, chi, first=first), entries, masks)[1])
        line = RING.add(d[0], RING.scale(d[1], -2), d[2])
        passed += line == RING.zero
    return passed


def test_a_mask_must_not_cancel_a_misdealt_share() -> None:
    wrong = (1, 0)
    assert d_passes(0, wrong, RING.embed(-1)) == 49
    assert max(d_passes(1, wrong, mask) for mask in RING.elements()) <= 1
    assert max(d_passes(1, (1, 3), mask) for mask in RING.elements()) <= 2
