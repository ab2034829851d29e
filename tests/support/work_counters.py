"""Counts what a piece of work does to bytes and words, whatever the machine and its speed.

Counting sits below our own code: in `cryptography` (AES key streams, HPKE), BLAKE3, `hashlib`, the
curve, and around whatever kernels are in use. So it goes on when modules are rewritten, as long as
bytes still pass through these. What NumPy does outside of kernels is not counted.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import blake3 as blake3_library
import coincurve
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import Suite

from omnilytics.algebra import kernels

_PACKAGE = "omnilytics"
_WORD = 8


class Work:
    """The counts, by name; safe to add to from several threads."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, name: str, amount: int) -> None:
        with self._lock:
            self.counts[name] += amount


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count what happens inside, in this process; modules must be imported before."""
    work = Work()
    with pytest.MonkeyPatch.context() as patch:
        _count_streams(work, patch)
        _count_hashes(work, patch)
        _count_seals(work, patch)
        _count_signatures(work, patch)
        _count_kernels(work, patch)
        yield work.counts


class _CountingStream:
    """An encryptor that says how many bytes went through."""

    def __init__(self, encryptor: Any, work: Work) -> None:
        self._encryptor, self._work = encryptor, work

    def update(self, data: Any) -> bytes:
        self._work.add("bytes expanded by AES", len(memoryview(data).cast("B")))
        result: bytes = self._encryptor.update(data)
        return result

    def update_into(self, data: Any, out: Any) -> int:
        self._work.add("bytes expanded by AES", len(memoryview(data).cast("B")))
        result: int = self._encryptor.update_into(data, out)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encryptor, name)


def _count_streams(work: Work, patch: pytest.MonkeyPatch) -> None:
    true = Cipher.encryptor

    def encryptor(self: Cipher[Any]) -> _CountingStream:
        work.add("AES streams started", 1)
        return _CountingStream(true(self), work)

    patch.setattr(Cipher, "encryptor", encryptor)


class _CountingHash:
    """A hash that says how many bytes it took."""

    def __init__(self, digest: Any, name: str, work: Work) -> None:
        self._digest, self._name, self._work = digest, name, work

    def update(self, data: Any, *arguments: Any, **options: Any) -> _CountingHash:
        self._work.add(self._name, len(memoryview(data).cast("B")))
        self._digest.update(data, *arguments, **options)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._digest, name)


def _count_hashes(work: Work, patch: pytest.MonkeyPatch) -> None:
    def counting(true: Callable[..., Any], name: str) -> Callable[..., _CountingHash]:
        def start(data: Any = b"", *arguments: Any, **options: Any) -> _CountingHash:
            work.add(name, len(memoryview(data).cast("B")))
            return _CountingHash(true(data, *arguments, **options), name, work)

        return start

    patch.setattr(hashlib, "sha256", counting(hashlib.sha256, "bytes hashed by SHA-256"))
    _replace(
        blake3_library.blake3, counting(blake3_library.blake3, "bytes hashed by BLAKE3"), patch
    )


class _CountingSeals:
    """HPKE or AES-GCM that says how many bytes were sealed and opened."""

    def __init__(self, true: Any, work: Work) -> None:
        self._true, self._work = true, work

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._true, name)
        kind = "sealed" if name.startswith("encrypt") else "opened"

        def call(*arguments: Any, **options: Any) -> Any:
            given = [each for each in arguments if isinstance(each, bytes | bytearray | memoryview)]
            self._work.add(f"bytes {kind}", max(len(memoryview(each)) for each in given))
            self._work.add(f"chunks {kind}", 1)
            return method(*arguments, **options)

        return call


def _count_seals(work: Work, patch: pytest.MonkeyPatch) -> None:
    for module in _modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Suite):
                patch.setattr(module, name, _CountingSeals(value, work))
    _replace(AESGCM, lambda *given: _CountingSeals(AESGCM(*given), work), patch)


def _count_signatures(work: Work, patch: pytest.MonkeyPatch) -> None:
    sign = coincurve.PrivateKey.sign_recoverable
    recover = coincurve.PublicKey.from_signature_and_message

    def signing(self: Any, *arguments: Any, **options: Any) -> Any:
        work.add("signatures made", 1)
        return sign(self, *arguments, **options)

    def recovering(*arguments: Any, **options: Any) -> Any:
        work.add("signatures checked", 1)
        return recover(*arguments, **options)

    patch.setattr(coincurve.PrivateKey, "sign_recoverable", signing)
    patch.setattr(coincurve.PublicKey, "from_signature_and_message", staticmethod(recovering))


def _written_window(table: Any, out: Any, column: int) -> int:
    return table.size + len(out) * table.shape[1]  # type: ignore[no-any-return]


_WINDOWS: dict[str, Callable[..., int]] = {"extend_shares": _written_window}
"""Kernels that get an array whole and touch a part of it: the words that they touch."""


class _CountingKernels:
    """Kernels that say how often each is called and how many words its arrays hold."""

    def __init__(self, true: kernels.Kernels, work: Work) -> None:
        self._true, self._work = true, work

    def __getattr__(self, name: str) -> Any:
        kernel = getattr(self._true, name)

        def call(*arguments: Any) -> Any:
            result = kernel(*arguments)
            touched = _WINDOWS.get(name)
            words = touched(*arguments) if touched else _bytes_of((*arguments, result)) // _WORD
            self._work.add(f"words through kernel {name}", words)
            self._work.add(f"calls of kernel {name}", 1)
            return result

        return call


def _count_kernels(work: Work, patch: pytest.MonkeyPatch) -> None:
    true = kernels.load

    def load(name: str) -> Any:
        return _CountingKernels(true(name), work)

    patch.setattr(kernels, "load", load)


def _bytes_of(value: Any) -> int:
    """Return the bytes of all arrays in a value."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return sum(_bytes_of(each) for each in value)
    return 0


def _modules() -> list[Any]:
    return [
        module
        for name, module in sys.modules.items()
        if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")
    ]


def _replace(true: Any, counting: Any, patch: pytest.MonkeyPatch) -> None:
    """Put `counting` in place of `true` wherever a module of ours holds it by name."""
    for module in _modules():
        for name, value in list(vars(module).items()):
            if value is true:
                patch.setattr(module, name, counting)
