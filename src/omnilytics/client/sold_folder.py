"""A joined task on disk: the packages of the present round, until it is over.

The gradient is in clear, with the seeds of its shares: mode 0600, deleted when of no more use.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from omnilytics.client import files
from omnilytics.foundation.errors import MalformedError
from omnilytics.foundation.units import Round, TaskId
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package_builder import Packages
from omnilytics.roles.data_owner import Sent
from omnilytics.storage.files import sync
from omnilytics.transport.sealed_files import SealedFile
from omnilytics.wire import cbor
from omnilytics.wire.transcript import Certificate


class SoldFolder:
    """The folder of one joined task; see roles.data_owner.SentKeeper. Its repr is the path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"SoldFolder({self.path})"

    def place(self, context: RoundContext) -> Path:
        """Return the round's folder, emptied."""
        folder = self._round(context.round)
        files.delete_folder(folder)
        return files.private_folder(folder)

    def keep(self, sent: Sent) -> None:
        """Keep what was prepared; the index is written last, so it stands for all."""
        assert isinstance(sent.packages, Packages)
        folder = self._round(sent.context.round)
        for number in range(1, len(sent.packages) + 1):
            sync(folder / f"sealed-{number}")
        files.write_file(folder / "vector", sent.vector.astype("<i8", copy=False).data)
        index = {
            "context": _plain(sent.context),
            "packages": sent.packages.state(),
            "clip_factor": float(sent.clip_factor),
        }
        files.write_file(folder / "index", cbor.encode(index))

    def keep_certificate(self, sent: Sent) -> None:
        """Keep the certificate, for complaints and for the chain."""
        assert sent.certificate is not None
        folder = self._round(sent.context.round)
        files.write_file(folder / "certificate", sent.certificate.encode())

    def kept(self, context: RoundContext) -> Sent | None:
        """Return what was prepared for exactly this round, or None."""
        folder = self._round(context.round)
        content = files.read_file(folder / "index")
        if content is None:
            return None
        index: Any = cbor.decode(content, max_bytes=len(content))
        try:
            if index["context"] != _plain(context):
                return None
            vector = np.fromfile(folder / "vector", dtype="<i8").astype(np.int64, copy=False)
            packages = Packages.restore(index["packages"], vector)
            sent = Sent(
                context=context,
                packages=packages,
                sealed=[
                    SealedFile(header, folder / f"sealed-{header.server}")
                    for header in packages.headers
                ],
                vector=vector,
                clip_factor=float(index["clip_factor"]),
            )
        except (KeyError, TypeError, ValueError, OSError):
            raise MalformedError("a kept round is damaged", got=folder) from None
        certificate = files.read_file(folder / "certificate")
        if certificate is not None:
            sent.certificate = Certificate.decode(certificate, max_bytes=len(certificate))
        return sent

    def keep_frozen(self, task: TaskId, content: bytes) -> None:
        """Keep the task's frozen weights, which are public."""
        files.write_file(self.path / "frozen", content)

    def frozen(self, task: TaskId) -> bytes | None:
        """Return the frozen weights that are kept, or None."""
        return files.read_file(self.path / "frozen")

    def forget(self, round_number: Round) -> None:
        """Delete what is kept of rounds up to this one."""
        for folder in self.path.glob("round-*"):
            if folder.name <= self._round(round_number).name:
                files.delete_folder(folder)

    def _round(self, round_number: Round) -> Path:
        return self.path / f"round-{round_number:06d}"


def _plain(context: RoundContext) -> dict[str, object]:
    return {
        "chain_id": context.domain.chain_id,
        "contract": bytes(context.domain.contract),
        "task": context.task,
        "round": context.round,
        "artefact_hash": bytes(context.artefact_hash),
        "block_hash": bytes(context.block_hash),
    }
