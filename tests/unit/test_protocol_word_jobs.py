"""Words made by jobs equal words made at once, whatever the cut; jobs carry no secrets."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stored_case import stored_case

from omnilytics.foundation.errors import ConfigError
from omnilytics.foundation.units import Hash32
from omnilytics.protocol.word_jobs import (
    InlineWords,
    PartOfWord,
    WholeWords,
    WordJob,
    round_challenge,
)


class Counting(InlineWords):
    """Tells which jobs it did and how many were taken before the first result left."""

    def __init__(self, part_entries: int) -> None:
        super().__init__(part_entries)
        self.jobs: list[WordJob] = []

    def run_all(self, jobs: Iterable[WordJob]) -> Iterator[Any]:
        def noted() -> Iterator[WordJob]:
            for job in jobs:
                self.jobs.append(job)
                yield job

        return super().run_all(noted())


@pytest.mark.parametrize("server", [1, 5], ids=["seeded", "explicit"])
@pytest.mark.parametrize("part_entries", [1, 7, 31, 32, 33, 10_000])
def test_every_cut_gives_the_same_words(tmp_path: Path, server: int, part_entries: int) -> None:
    stored = stored_case(tmp_path, server=server)
    executor = InlineWords(part_entries)
    assert executor.words(stored.work, stored.packages) == stored.words
    executor.close()


def test_ranges_across_blocks_and_components_add_up(tmp_path: Path) -> None:
    stored = stored_case(tmp_path, owners=1, components=(9_000, 12_000, 700))
    for part_entries in (5_000, 8_192, 20_000):
        assert InlineWords(part_entries).words(stored.work, stored.packages) == stored.words


def test_a_round_without_owners_has_no_words(tmp_path: Path) -> None:
    work = stored_case(tmp_path, owners=1).work
    assert InlineWords().words(work, []) == []
    assert InlineWords(1).words(work, []) == []


def test_large_vectors_are_cut_and_small_ones_go_several_to_a_job(tmp_path: Path) -> None:
    stored = stored_case(tmp_path, owners=5)
    cutting = Counting(part_entries=12)
    cutting.words(stored.work, stored.packages)
    ranges = [(job.first, job.stop) for job in cutting.jobs if isinstance(job, PartOfWord)]
    assert ranges == [(0, 12), (12, 24), (24, 32)] * 5
    gathering = Counting(part_entries=2 * stored.work.parameters.share_elements)
    gathering.words(stored.work, stored.packages)
    sizes = [len(job.packages) for job in gathering.jobs if isinstance(job, WholeWords)]
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("part_entries", [12, 10_000], ids=["parts", "whole"])
def test_a_damaged_package_gives_no_word(tmp_path: Path, part_entries: int) -> None:
    stored = stored_case(tmp_path, owners=2)
    packages = stored.packages
    path = next(path for path in stored.files.folder.glob("??/*") if path.is_file())
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # of an element, which stays canonical
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="damaged"):
        InlineWords(part_entries).words(stored.work, packages)


@pytest.mark.parametrize("server", [1, 5], ids=["seeded", "explicit"])
def test_a_job_on_its_way_holds_neither_seed_nor_blind_nor_share(
    tmp_path: Path, server: int
) -> None:
    stored = stored_case(tmp_path, server=server)
    content = pickle.dumps(WholeWords(stored.work, tuple(stored.packages)))
    for owner in stored.case.owners:
        opening = stored.case.opening(owner, server)
        assert opening.blind not in content
        assert opening.seed is None or opening.seed not in content
        assert not opening.content or opening.content[:16] not in content
    assert len(content) < 4_096
    assert pickle.loads(content).run() == stored.words  # noqa: S301  (own bytes)


def test_a_process_makes_a_challenge_once(tmp_path: Path) -> None:
    work = stored_case(tmp_path, owners=1).work
    assert work.challenge is work.challenge
    assert work.challenge is not round_challenge(work.parameters.statement, Hash32(bytes(32)))
