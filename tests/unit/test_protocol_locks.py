"""Answer once, together: the locks and the quorum on one value (protocol.md section 7)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, permutations
from pathlib import Path

import pytest

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.protocol.locks import agreed_value, lock_final, lock_seed
from omnilytics.storage.repository import Repository
from omnilytics.wire.messages import Final, Seed

A, B, C = (Hash32(letter * 32) for letter in (b"a", b"b", b"c"))


@contextmanager
def opened(folder: Path) -> Iterator[Repository]:
    repository = Repository(
        folder, chain_id=1, contract=Address(b"c" * 20), server=Address(b"s" * 20)
    )
    try:
        yield repository
    finally:
        repository.close()


def seed(value: Hash32, root: Hash32 = A, task: int = 1, round_number: int = 1) -> Seed:
    return Seed(task=TaskId(task), round=Round(round_number), submissions_root=root, seed=value)


def final(value: Hash32, task: int = 1, round_number: int = 1) -> Final:
    return Final(task=TaskId(task), round=Round(round_number), accepted_root=value)


def test_the_same_answer_may_be_repeated_and_no_other_given(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for _ in range(3):
            lock_seed(store, seed(A))
            lock_final(store, final(B))
        with pytest.raises(VerificationError, match="already answered under another seed"):
            lock_seed(store, seed(B))
        with pytest.raises(VerificationError, match="already answered under another seed"):
            lock_seed(store, seed(A, root=B))  # the same seed over another sealing
        with pytest.raises(VerificationError, match="already answered under another final"):
            lock_final(store, final(A))
        lock_seed(store, seed(A))  # the refusals changed nothing
        lock_final(store, final(B))


def test_locks_survive_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        lock_seed(store, seed(A))
        lock_final(store, final(A))
    with opened(tmp_path) as store:
        lock_seed(store, seed(A))
        for attempt in (seed(B), seed(C)):
            with pytest.raises(VerificationError, match="already answered"):
                lock_seed(store, attempt)
        with pytest.raises(VerificationError, match="already answered"):
            lock_final(store, final(B))


def test_two_processes_on_one_folder_share_their_locks(tmp_path: Path) -> None:
    with opened(tmp_path) as first, opened(tmp_path) as second:
        lock_seed(first, seed(A))
        with pytest.raises(VerificationError, match="already answered"):
            lock_seed(second, seed(B))
        lock_seed(second, seed(A))


def test_every_round_and_task_has_locks_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for place, value in ((1, 1), A), ((1, 2), B), ((2, 1), C):
            lock_seed(store, seed(value, task=place[0], round_number=place[1]))
            lock_final(store, final(value, task=place[0], round_number=place[1]))
        for place, value in ((1, 1), B), ((1, 2), C), ((2, 1), A):
            with pytest.raises(VerificationError, match="already answered"):
                lock_seed(store, seed(value, task=place[0], round_number=place[1]))
            with pytest.raises(VerificationError, match="already answered"):
                lock_final(store, final(value, task=place[0], round_number=place[1]))


@pytest.mark.parametrize(
    ("votes", "quorum", "agreed"),
    [
        ([], 4, None),
        ([(1, A), (2, A), (3, A)], 4, None),
        ([(1, A), (2, A), (3, A), (4, A)], 4, A),
        ([(1, A), (2, A), (3, A), (4, A), (5, B)], 4, A),
        ([(1, A), (2, A), (3, A), (4, B), (5, B)], 4, None),
        ([(1, A), (2, A), (3, A), (3, A), (3, A)], 4, None),  # one vote however often it comes
        ([(1, A), (1, B), (2, A), (3, A), (4, B), (5, B)], 4, None),
        ([(1, A), (1, B), (2, A), (3, A), (4, A), (5, B)], 4, A),  # a double vote decides nothing
        ([(1, A), (1, B), (1, C), (2, B), (3, B), (4, B), (5, C)], 4, B),
        ([(server, A) for server in range(1, 10)] + [(10, B), (11, B)], 9, A),
        ([(1, A), (2, A)], 3, None),
        ([(1, A), (2, A), (3, A)], 3, A),
    ],
)
def test_a_value_is_agreed_by_n_minus_e_different_servers(
    votes: list[tuple[int, Hash32]], quorum: int, agreed: Hash32 | None
) -> None:
    assert agreed_value(votes, quorum) == agreed
    assert agreed_value(votes[::-1], quorum) == agreed
    for order in islice(permutations(votes), 50):
        assert agreed_value(order, quorum) == agreed


def test_two_servers_that_voted_twice_cannot_make_two_values_agreed() -> None:
    """With e = 2 of 11: both values would need n - e; honest servers vote once."""
    honest = [(server, A if server <= 5 else B) for server in range(1, 10)]
    double = [(server, value) for server in (10, 11) for value in (A, B)]
    assert agreed_value(honest + double, 9) is None
