"""A sealed round whose packages lie in a server's store, as words are computed from them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol_world import Case, World

from omnilytics.foundation.units import Hash32
from omnilytics.protocol.word_jobs import WordJob, WordRound
from omnilytics.storage.files import ContentFiles
from omnilytics.storage.packages import StoredPackage


@dataclass
class StoredCase:
    """The round, and one server's view of it."""

    case: Case
    files: ContentFiles
    server: int

    @property
    def work(self) -> WordRound:
        sealed = self.case.sealed
        return WordRound(parameters=sealed.parameters, context=sealed.context, seed=sealed.seed)

    @property
    def packages(self) -> list[StoredPackage]:
        """The server's packages in the manifest's order, stored if they were not."""
        return [
            StoredPackage(
                self.files, self.files.put(self.case.opening(owner, self.server).encode())
            )
            for owner in self.case.owners
        ]

    @property
    def words(self) -> list[Hash32]:
        """What packages in memory give, each as a whole."""
        return list(self.case.honest_words[self.server])


def stored_case(
    folder: Path, *, owners: int = 3, server: int = 4, components: tuple[int, ...] = (20, 12)
) -> StoredCase:
    world = World(components=components, max_owners=max(owners, 1))
    case = world.seal(*(world.submit() for _ in range(owners)))
    return StoredCase(case, ContentFiles(folder / "files"), server)


@dataclass(frozen=True)
class Deadly(WordJob):
    """Kills the process that does it, as long as its file is not there."""

    mark: Path
    job: WordJob

    def run(self) -> Any:
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.job.run()


@dataclass(frozen=True)
class AlwaysDeadly(WordJob):
    """Kills every process that does it."""

    def run(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class WhoRuns(WordJob):
    """Tells which process does it."""

    def run(self) -> int:
        return os.getpid()
