"""What a server holds in memory does not grow with the number of owners."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from stored_case import StoredCase, stored_case

from omnilytics.protocol.aggregate import sum_blocks
from omnilytics.protocol.word_jobs import InlineWords

DIMENSION = 60_000
SHARE_BYTES = 8 * DIMENSION


def _words(stored: StoredCase) -> None:
    InlineWords().words(stored.work, stored.packages)


def _words_in_parts(stored: StoredCase) -> None:
    InlineWords(10_000).words(stored.work, stored.packages)


def _sum(stored: StoredCase) -> None:
    length = stored.work.parameters.share_elements
    shares = [package.share(length) for package in stored.packages]
    for _ in sum_blocks(shares, DIMENSION):
        pass


def _peak(use: Callable[[StoredCase], None], stored: StoredCase) -> int:
    use(stored)  # kernels, the challenge and its weights are made once
    tracemalloc.start()
    try:
        use(stored)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> StoredCase:
    return _stored(tmp_path_factory, 2)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> StoredCase:
    return _stored(tmp_path_factory, 24)


def _stored(folders: pytest.TempPathFactory, owners: int) -> StoredCase:
    return stored_case(folders.mktemp("store"), owners=owners, components=(DIMENSION,))


@pytest.mark.parametrize("use", [_words, _words_in_parts, _sum])
def test_many_owners_take_the_memory_of_few(
    use: Callable[[StoredCase], None], few: StoredCase, many: StoredCase
) -> None:
    of_few, of_many = _peak(use, few), _peak(use, many)
    assert of_many - of_few < SHARE_BYTES  # of 22 owners more: their headers alone
