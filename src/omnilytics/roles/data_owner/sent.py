"""What an owner prepared for a round, kept to send it again and to answer complaints.

A second commitment in one round would be refused, so a restarted owner needs the same packages.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from omnilytics.algebra.fixed_point import IntegerVector
from omnilytics.foundation.units import TaskId
from omnilytics.protocol.context import RoundContext
from omnilytics.transport.sealed_files import Sealed
from omnilytics.wire.package import Opening
from omnilytics.wire.transcript import Certificate


@dataclass
class Sent:
    """One round's packages; the repr shows nothing of them."""

    context: RoundContext
    packages: Sequence[Opening]
    sealed: Sequence[Sealed]
    vector: IntegerVector
    clip_factor: float
    certificate: Certificate | None = None
    taken_by: set[int] = field(default_factory=set)
    forced: bool = False
    answered: set[int] = field(default_factory=set)

    def __repr__(self) -> str:
        return f"Sent(round={self.context.round})"


class SentKeeper(Protocol):
    """Keeps what was prepared until its round is over."""

    def place(self, context: RoundContext) -> Path:
        """Return an empty folder for the sealed packages of a round."""
        ...

    def keep(self, sent: Sent) -> None:
        """Keep packages that were prepared in that folder; durable once this returns."""
        ...

    def keep_certificate(self, sent: Sent) -> None:
        """Keep the certificate of packages that are kept; durable once this returns."""
        ...

    def kept(self, context: RoundContext) -> Sent | None:
        """Return what was prepared for exactly this round, or None."""
        ...

    def keep_frozen(self, task: TaskId, content: bytes) -> None:
        """Keep a task's frozen weights, so that they are fetched once."""
        ...

    def frozen(self, task: TaskId) -> bytes | None:
        """Return the frozen weights that are kept of a task, or None; check their hash."""
        ...


class Forgetful:
    """Keeps no packages: for owners whose process outlives a round, or who skip what it broke.

    Sealed packages lie in a temporary folder that goes with this object.
    """

    def __init__(self) -> None:
        self._frozen: dict[TaskId, bytes] = {}
        self._folder: Path | None = None

    def place(self, context: RoundContext) -> Path:
        """Return an empty folder, in place of that of the task's round before."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="omnilytics-sealed-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        folder = self._folder / f"task-{context.task}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return folder

    def keep(self, sent: Sent) -> None:
        """Do nothing."""

    def keep_certificate(self, sent: Sent) -> None:
        """Do nothing."""

    def kept(self, context: RoundContext) -> Sent | None:
        """Return None."""
        return None

    def keep_frozen(self, task: TaskId, content: bytes) -> None:
        """Keep them while the process lives."""
        self._frozen[task] = content

    def frozen(self, task: TaskId) -> bytes | None:
        """Return what is kept."""
        return self._frozen.get(task)
