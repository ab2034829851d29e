from __future__ import annotations

import pytest

from omnilytics.foundation.errors import UsageError
from omnilytics.sharing.committee import DEFAULT, OFFERED, Committee


def test_offered_committees_are_those_of_the_protocol() -> None:
    triples = [(c.servers, c.privacy, c.errors) for c in OFFERED]
    assert triples == [
        (5, 1, 1),
        (7, 2, 1),
        (10, 3, 1),
        (13, 4, 1),
        (11, 3, 2),
        (3, 1, 0),
        (5, 2, 0),
    ]
    assert OFFERED[0] == DEFAULT


def test_derived_numbers() -> None:
    committee = Committee(7, 2, 1)
    assert committee.points == (1, 2, 3, 4, 5, 6, 7)
    assert committee.explicit_points == (3, 4, 5, 6, 7)
    assert committee.quorum == 6


@pytest.mark.parametrize(
    ("servers", "privacy", "errors"),
    [
        (4, 1, 1),  # below 2t + 1 + 2e
        (2, 1, 0),
        (5, 0, 0),
        (9, 1, 2),  # e > t
        (5, 1, -1),
        (12, 4, 1),  # satisfies 2t + 1 + 2e, not 3t + e
        (14, 4, 1),
    ],
)
def test_unsound_committees_are_refused(servers: int, privacy: int, errors: int) -> None:
    with pytest.raises(UsageError):
        Committee(servers, privacy, errors)
