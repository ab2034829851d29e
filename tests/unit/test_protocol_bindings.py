"""Fields that repeat what is bound elsewhere must agree with it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from protocol_world import World, altered

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Round, TaskId
from omnilytics.protocol.package import check_header, check_package, opening_matches
from omnilytics.protocol.words import find_two_words
from omnilytics.wire.messages import Submission


@pytest.mark.parametrize(("task", "round_number"), [(4, 2), (3, 3), (3, 1)])
def test_a_header_cannot_name_another_round_even_if_its_owner_signs_it(
    task: int, round_number: int
) -> None:
    """The parts and C bind this round; only the header's own fields and signature are another's."""
    world = World()
    key = world.new_key()
    package = world.packages(key)[0]
    message = Submission(
        task=TaskId(task), round=Round(round_number), commitment=package.header.commitment
    )
    changes = {
        "task": task,
        "round": round_number,
        "submission_signature": key.sign(message, world.context.domain),
    }
    header = package.header.model_copy(update=changes)
    with pytest.raises(VerificationError, match="another round"):
        check_header(header, parameters=world.parameters, context=world.context)
    with pytest.raises(VerificationError, match="another round"):
        check_package(
            package.model_copy(update={"header": header}),
            server=1,
            parameters=world.parameters,
            context=world.context,
        )


@pytest.mark.parametrize("changed", [(0, 1, 2), (1, 2), (2,), (0, 2)])
def test_evidence_is_about_the_first_owner_with_two_words(changed: Sequence[int]) -> None:
    """So all servers make the same evidence of the same words."""
    world = World()
    case = world.seal(*(world.submit() for _ in range(3)))
    honest = case.honest_words[2]
    other = case.sign(2, [altered(word) if k in changed else word for k, word in enumerate(honest)])
    third = case.sign(2, [altered(word, 3) for word in honest])
    (evidence,) = find_two_words(case.sealed.manifest, [case.entries[2], other, third])
    assert evidence.owner == case.owners[changed[0]]
    assert evidence.first_word == honest[changed[0]]
    assert evidence.second_word == other.words[changed[0]]


@pytest.mark.parametrize(
    ("sealed", "package", "server", "matches"),
    [(0, 0, 2, True), (0, 1, 2, False), (0, 0, 3, False)],
)
def test_an_opening_matches_one_submission_and_server(
    sealed: int, package: int, server: int, matches: bool
) -> None:
    world = World()
    submissions = [world.submit(), world.submit()]
    told = opening_matches(
        submissions[package].packages[1],
        server=server,
        certificate=submissions[sealed].certificate,
        parameters=world.parameters,
        context=world.context,
    )
    assert told is matches
