"""Packages that arrive in parts: stored part by part, then taken like those of one request.

Every part carries the signed Request of the whole upload, which binds the path and the hash of the
whole body; so only the owner adds to its upload, and a whole that is not what was signed is
dropped. A part is looked at only while its round takes packages of its owner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from omnilytics.foundation.errors import VerificationError
from omnilytics.roles.server.intake import Intake
from omnilytics.roles.server.node import ServerNode
from omnilytics.storage.uploads import UploadKey
from omnilytics.transport.parts import Part


class Uploading:
    """Collects parts; see the module docstring."""

    def __init__(self, node: ServerNode, intake: Intake) -> None:
        self._node = node
        self._intake = intake

    def offset(self, key: UploadKey) -> int:
        """Return at which byte an upload goes on."""
        return self._node.repository.uploads.offset(key)

    async def check(self, key: UploadKey) -> None:
        """Raise VerificationError unless the round takes packages of the owner now."""
        await self._intake.check_takes(key.task, key.round, key.owner)

    def add(self, key: UploadKey, part: Part, content: bytes) -> int:
        """Store a part durably; return at which byte the upload goes on.

        The last part of an upload that is whole may come again: its answer may have been lost.

        Raises:
            ConflictError: The part does not begin where the upload ends.
        """
        if part.is_final and self._node.repository.uploads.offset(key) == part.total:
            return part.total
        return self._node.repository.uploads.append(key, part.first, content)

    async def finish(
        self, key: UploadKey, accept: Callable[[bytes | memoryview], Awaitable[bytes]]
    ) -> bytes:
        """Return what `accept` answers to the whole body.

        The parts stay where the store or the chain did not serve: the last part may come again.

        Raises:
            VerificationError: The body was refused, and the parts are dropped.
        """
        try:
            answer = await accept(self._node.repository.uploads.content(key))
        except VerificationError:
            self._node.repository.uploads.drop(key)
            raise
        self._node.repository.uploads.drop(key)  # the package itself is durable by now
        return answer
