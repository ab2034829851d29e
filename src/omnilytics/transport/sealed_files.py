"""Sealed packages as files, in the form in which they travel.

An owner seals its packages for all servers in one pass and sends them from disk, so that its memory
does not grow with the number of servers. The content is sealed; the files are still their user's
alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Protocol

from omnilytics.foundation.errors import ConfigError, MalformedError
from omnilytics.foundation.mapping import mapped
from omnilytics.foundation.units import Hash32
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package_builder import Packages
from omnilytics.transport.hpke import sealed_chunks
from omnilytics.wire import cbor
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.package import PackageHeader, chunk_count


class Sealed(Protocol):
    """What is sent to one server: a `wire.package.SealedPackage`, or a file that holds one."""

    @property
    def header(self) -> PackageHeader:
        """The clear part."""
        ...

    def encode(self) -> bytes | memoryview:
        """Return the package as it travels."""
        ...

    def hash(self) -> Hash32:
        """Return the content hash of the package as it travels."""
        ...


class SealedFile:
    """A sealed package in a file.

    Args:
        header: Its clear part.
        path: Where it is; it must stay there, unchanged.
    """

    def __init__(self, header: PackageHeader, path: Path) -> None:
        self.header = header
        self.path = path

    def __repr__(self) -> str:
        return f"SealedFile(server {self.header.server}, {self.path})"

    def encode(self) -> memoryview:
        """Return the file's content, mapped: it is read as it is sent.

        Raises:
            MalformedError: The file is gone or empty.
        """
        try:
            return mapped(self.path)
        except (OSError, ValueError):
            raise MalformedError("a sealed package is missing", got=self.path) from None

    def hash(self) -> Hash32:
        """Return the content hash that `Held` messages name."""
        return content_hash(self.encode())


def write_sealed(
    packages: Packages, public_keys: Sequence[bytes], context: RoundContext, folder: Path
) -> list[SealedFile]:
    """Seal the packages of all servers into files of a folder, sealed-1 for server 1 and so on.

    Not durable before the caller flushes the files and the folder.

    Raises:
        ConfigError: The disk does not take them.
    """
    files = [SealedFile(header, folder / f"sealed-{header.server}") for header in packages.headers]
    try:
        with ExitStack() as stack:
            outputs = [stack.enter_context(_create(each.path)) for each in files]
            for output, header in zip(outputs, packages.headers, strict=True):
                output.write(cbor.map_head(2) + cbor.encode("chunks"))
                output.write(cbor.array_head(chunk_count(header.content_bytes)))
            for server, chunk in sealed_chunks(packages, public_keys, context):
                outputs[server - 1].write(cbor.byte_string_head(len(chunk)))
                outputs[server - 1].write(chunk)
            for output, header in zip(outputs, packages.headers, strict=True):
                output.write(cbor.encode("header") + header.encode())
    except OSError as error:
        raise ConfigError(
            "sealed packages cannot be written",
            got=f"{folder}: {error.strerror}",
            hint="make room, or name another folder (client.data, TMPDIR)",
        ) from None
    return files


def _create(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return os.fdopen(descriptor, "wb")
