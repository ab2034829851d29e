"""A stored package, whose share is read from its file as it is needed.

A package is stored as the encoded `Opening`, in which the content comes last; so all but the share
is in the first bytes, and an element of the share is at a known place.

Not guaranteed: that the file is what was stored; `verify` compares its hash.
"""

from __future__ import annotations

import os
from pathlib import Path

from omnilytics.algebra.field import ELEMENT_BYTES, FieldVector, from_bytes
from omnilytics.foundation.errors import ConfigError, MalformedError, UsageError
from omnilytics.foundation.units import Hash32
from omnilytics.sharing.shamir import Share
from omnilytics.storage.files import ContentFiles
from omnilytics.wire.package import MAX_HEAD_BYTES, OpeningHead, PackageHeader


class StoredPackage:
    """A server's package of one submission.

    Args:
        files: Where it is.
        name: Its hash.

    Raises:
        ConfigError: There is no such file, or it does not begin as a package.
    """

    def __init__(self, files: ContentFiles, name: Hash32) -> None:
        self._files, self._name = files, name
        self._path = files.path(name)
        try:
            with self._path.open("rb") as file:
                start = file.read(MAX_HEAD_BYTES)
                size = os.fstat(file.fileno()).st_size
            self._head, self._offset = OpeningHead.read(start)
        except (OSError, MalformedError):
            raise ConfigError("a stored package is damaged", file=self._path) from None
        if size != self._offset + self.header.content_bytes:
            raise ConfigError("a stored package is damaged", file=self._path)

    def __repr__(self) -> str:
        return f"StoredPackage({self._name.hex()})"

    def __reduce__(self) -> tuple[type[StoredPackage], tuple[ContentFiles, Hash32]]:
        """Go to other processes as a name, without blind and seed, to be read again there."""
        return StoredPackage, (self._files, self._name)

    @property
    def header(self) -> PackageHeader:
        """The clear part."""
        return self._head.header

    def verify(self) -> StoredPackage:
        """Return this package; raises ConfigError where the file is not what was stored."""
        self._files.verify(self._name)
        return self

    def share(self, length: int) -> Share | FileShare:
        """Return the share, of so many elements.

        Raises:
            MalformedError: The share has another length.
        """
        if self._head.seed is not None:
            return Share(length, seed=self._head.seed)
        if self.header.content_bytes != ELEMENT_BYTES * length:
            raise MalformedError(
                "share of wrong length",
                got=self.header.content_bytes,
                want=ELEMENT_BYTES * length,
            )
        return FileShare(self._path, self._offset, length)


class FileShare:
    """An explicit share in a file.

    Args:
        path: The file.
        offset: At which byte the share begins.
        length: Its elements.
    """

    def __init__(self, path: Path, offset: int, length: int) -> None:
        self._path, self._offset, self._length = path, offset, length

    def __repr__(self) -> str:
        return f"FileShare({self._length} elements)"

    @property
    def length(self) -> int:
        """Elements of the share."""
        return self._length

    def elements(self, start: int, count: int) -> FieldVector:
        """Return elements start, start+1, ..., `count` of them.

        The file is opened for each call: a server may sum more shares than it can have files open.

        Raises:
            ConfigError: The file is gone or too short.
            MalformedError: An element is not canonical.
            UsageError: They reach beyond the share.
        """
        if not 0 <= start <= start + count <= self._length:
            raise UsageError("beyond the share", got=(start, count), want=self._length)
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                content = os.pread(
                    descriptor, ELEMENT_BYTES * count, self._offset + ELEMENT_BYTES * start
                )
            finally:
                os.close(descriptor)
        except OSError:
            raise ConfigError("a stored package is damaged", file=self._path) from None
        if len(content) != ELEMENT_BYTES * count:
            raise ConfigError("a stored package is damaged", file=self._path)
        return from_bytes(content)
