"""A task's parameters, read off its specification: also where the servers are not drawn yet."""

from __future__ import annotations

import pytest
from wire_samples import address, drawn_specification, specification

from omnilytics.foundation.errors import OmniLyticsError, VerificationError
from omnilytics.protocol.parameters import MAX_PAID_OWNERS, TaskParameters


def test_parameters_of_a_named_committee() -> None:
    parameters = TaskParameters.of(specification())
    assert parameters.members == tuple(address(f"server-{j}") for j in range(5))
    assert (parameters.servers, parameters.quorum) == ((1, 2, 3, 4, 5), 4)
    assert parameters.member(5) == address("server-4")
    for server in (0, 6):
        with pytest.raises(VerificationError, match="no such server"):
            parameters.member(server)


def test_parameters_of_a_committee_that_is_not_drawn_yet() -> None:
    """Its size is known, so that packages can be measured; who it is, is not."""
    drawn, named = drawn_specification(), specification()
    parameters = TaskParameters.of(drawn)
    assert parameters.committee == TaskParameters.of(named).committee
    assert parameters.package_bytes == TaskParameters.of(named).package_bytes
    assert parameters.members == ()
    with pytest.raises(VerificationError, match="no such server"):
        parameters.member(1)


@pytest.mark.parametrize(
    "changes",
    [
        {"servers": 3},  # n >= 2t + 1 + 2e
        {"servers": 13, "privacy": 7},
        {"privacy": 0},
        {"privacy": 2},
        {"errors": 2},
        {"max_owners": MAX_PAID_OWNERS + 1},
        {"fractional_bits": 63},
    ],
    ids=str,
)
def test_unsound_parameters_are_refused(changes: dict[str, int]) -> None:
    unsound = drawn_specification().model_copy(update=changes)
    with pytest.raises(OmniLyticsError):
        TaskParameters.of(unsound)
