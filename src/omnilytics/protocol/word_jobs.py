"""A server's words of a round, cut into jobs (protocol.md section 6.5).

A job is small to send: it names packages, the round and the seed, and whoever does it reads the
shares where they lie and makes the challenge by itself. Large vectors are cut into ranges of
entries, whose partial words add up to the word; small packages go several to a job. `InlineWords`
does jobs one after the other; `service.word_pool` and `service.word_cluster` do them in other
processes, with the same results.

Not guaranteed: that a process that does jobs is honest; a server answers for its words with its
stake. The seed lock comes before: words under two seeds reveal a secret, and jobs hold no lock.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise
from operator import add
from typing import Any, Final, TypeVar

from omnilytics.algebra.streams import BLOCK_ELEMENTS
from omnilytics.foundation.units import Hash32
from omnilytics.protocol.commitment import joint_randomness
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package import HeldPackage, compute_word
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.validity.challenge import Challenge
from omnilytics.validity.evaluate import Partial, evaluate_part, finish
from omnilytics.validity.statement import Statement

_Item = TypeVar("_Item")

PART_ENTRIES: Final = 64 * BLOCK_ELEMENTS
"""Entries of a part, half a million: some 10 ms of work, beside 0.5 ms to send and to open it."""


@lru_cache(maxsize=4)
def round_challenge(statement: Statement, seed: Hash32) -> Challenge:
    """Return the challenge of a seed, made once in a process as long as few rounds are under way.

    Raises:
        MalformedError: The seed has another size.
    """
    return Challenge(statement, seed)


@dataclass(frozen=True, kw_only=True)
class WordRound:
    """What all words of a round have in common; public.

    Attributes:
        parameters: The task's.
        context: The round's.
        seed: The seed that n - e servers agreed on.
    """

    parameters: TaskParameters
    context: RoundContext
    seed: Hash32

    @property
    def challenge(self) -> Challenge:
        """The challenge, made where it is needed."""
        return round_challenge(self.parameters.statement, self.seed)


class WordJob(ABC):
    """A piece of work that can be sent to another process."""

    @abstractmethod
    def run(self) -> Any:
        """Do it and return the result."""


@dataclass(frozen=True)
class WholeWords(WordJob):
    """The words of a few packages.

    Attributes:
        round: Of the packages.
        packages: Which; each is compared with what was stored before it is used.
    """

    round: WordRound
    packages: tuple[HeldPackage, ...]

    def run(self) -> list[Hash32]:
        """Return the word of each package; raises ConfigError where one is damaged."""
        work = self.round
        return [
            compute_word(package.verify(), work.parameters, work.context, work.challenge)
            for package in self.packages
        ]


@dataclass(frozen=True)
class PartOfWord(WordJob):
    """What a range of entries adds to the word of one package.

    Attributes:
        round: Of the package.
        package: Which; the job of its first entries compares all of it with what was stored.
        first: The first entry.
        stop: The entry after the last one.
    """

    round: WordRound
    package: HeldPackage
    first: int
    stop: int

    def run(self) -> Partial:
        """Return what the range adds; raises ConfigError where the package is damaged."""
        package = self.package if self.first else self.package.verify()
        header, parameters = package.header, self.round.parameters
        owner_context = self.round.context.owner_context(header.owner)
        return evaluate_part(
            parameters.statement,
            package.share(parameters.share_elements),
            joint_randomness(owner_context, header.x_parts),
            self.round.challenge,
            self.first,
            self.stop,
        )


def packed(job: WordJob) -> bytes:
    """Return a job as it goes to another process of this server."""
    return pickle.dumps(job)


def run_packed(content: bytes) -> Any:
    """Do a job that `packed` made, in the process that it went to.

    It is unpacked here because packages are opened then: an error of one is the job's error, where
    an argument that cannot be unpacked would end the process.
    """
    job: WordJob = pickle.loads(content)  # noqa: S301  (!) made by this server alone
    return job.run()


class WordExecutor(ABC):
    """Computes words by doing jobs, somewhere.

    Args:
        part_entries: Entries of a part of a large vector, and of a job of several small ones.
    """

    def __init__(self, part_entries: int = PART_ENTRIES) -> None:
        self._part_entries = part_entries

    @abstractmethod
    def run_all(self, jobs: Iterable[WordJob]) -> Iterator[Any]:
        """Yield the result of each job in order; takes jobs only as it needs them.

        Raises:
            OmniLyticsError: What a job raised, or jobs cannot be done at all.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back what the executor holds; jobs under way may be lost."""

    def words(self, work: WordRound, packages: Iterable[HeldPackage]) -> list[Hash32]:
        """Return the packed word that an honest server signs for each package.

        Raises:
            ConfigError: A stored package is damaged.
            OmniLyticsError: Jobs cannot be done.
        """
        if work.parameters.statement.dimension > self._part_entries:
            return self._words_in_parts(work, packages)
        size = max(1, self._part_entries // work.parameters.share_elements)
        jobs = (WholeWords(work, batch) for batch in _batches(packages, size))
        return [word for words in self.run_all(jobs) for word in words]

    def _words_in_parts(self, work: WordRound, packages: Iterable[HeldPackage]) -> list[Hash32]:
        statement = work.parameters.statement
        ends = [*range(0, statement.dimension, self._part_entries), statement.dimension]
        under_way: list[HeldPackage] = []  # those of which jobs were taken and no word is there

        def jobs() -> Iterator[WordJob]:
            for package in packages:
                under_way.append(package)
                for first, stop in pairwise(ends):
                    yield PartOfWord(work, package, first, stop)

        words = []
        partials = self.run_all(jobs())
        for of_package in _batches(partials, len(ends) - 1):
            share = under_way.pop(0).share(work.parameters.share_elements)
            word = finish(statement, share, reduce(add, of_package), work.challenge)
            words.append(Hash32(word.to_bytes()))
        return words


class InlineWords(WordExecutor):
    """Does the jobs in the thread that asks, one after the other."""

    def run_all(self, jobs: Iterable[WordJob]) -> Iterator[Any]:
        """Yield the result of each job."""
        for job in jobs:
            yield job.run()

    def close(self) -> None:
        """Do nothing: nothing is held."""


def _batches(items: Iterable[_Item], size: int) -> Iterator[tuple[_Item, ...]]:
    batch: list[_Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield tuple(batch)
            batch = []
    if batch:
        yield tuple(batch)
