"""Bulk arithmetic on field vectors: one interface, a readable and a fast implementation.

Callers write `kernels.current().inner_product(a, b)`. The Numba kernels are the default;
`kernels.select("reference")` switches to pure Python inside a `with` block (tests, audits).
Nothing is compiled when this module is imported. The first use compiles everything, in some 5 s
without a cache on disk and in 0.4 s with one (Numba's own import included), so `warm_up()` belongs
into set-up and into the start of a daemon.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import cast

from omnilytics.algebra.kernels.interface import Kernels
from omnilytics.foundation.errors import UsageError

__all__ = ["Kernels", "current", "load", "select", "warm_up"]

_IMPLEMENTATIONS = {
    "numba": "omnilytics.algebra.kernels.numba",
    "reference": "omnilytics.algebra.kernels.reference",
}
_selected = ["numba"]


@cache
def load(name: str) -> Kernels:
    """Return an implementation by name, compiling or loading it from the cache if need be.

    Args:
        name: "numba" or "reference".

    Raises:
        UsageError: If there is no implementation of that name.
    """
    if name not in _IMPLEMENTATIONS:
        raise UsageError("unknown kernels", got=name, want=" or ".join(_IMPLEMENTATIONS))
    return cast(Kernels, import_module(_IMPLEMENTATIONS[name]))


def current() -> Kernels:
    """Return the implementation in use."""
    return load(_selected[-1])


@contextmanager
def select(name: str) -> Iterator[Kernels]:
    """Use another implementation inside the block, in the whole process (not per thread)."""
    chosen = load(name)
    _selected.append(name)
    try:
        yield chosen
    finally:
        _selected.pop()


def warm_up() -> None:
    """Compile every kernel, or load it from the cache on disk.

    Kernels carry explicit types and are compiled when their module is imported, so this is all
    that is ever compiled: no later call can stall.
    """
    load("numba")
