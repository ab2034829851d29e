"""The end of a round: a server adds up its shares, the model owner recovers the sum."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import cycle, islice
from typing import Any

import numpy as np

from omnilytics.algebra.field import MODULUS, FieldVector
from omnilytics.benchmark.measure import measure
from omnilytics.benchmark.parties import Parties
from omnilytics.protocol.package import read_share
from omnilytics.sharing.shamir import SEED_BYTES, Share

POOL_BYTES = 256 << 20
"""Memory for different explicit shares; where all owners' take more, some are added repeatedly."""


def aggregate(
    dimensions: list[int], *, servers: int, repeats: int, owners: int = 10
) -> list[dict[str, Any]]:
    """Measure a server's sum over the owners' shares of x, per owner; two rows for each dimension.

    "aggregate" is with explicit shares as they came, with the check that elements are canonical;
    "aggregate seeded" of one of the first t servers, which expands a seed for each owner.
    """
    rows = []
    for dimension in dimensions:
        parties = Parties(dimension, servers, owners)
        length = parties.parameters.share_elements
        pool = [_random_words(length) for _ in range(_pool_size(length, owners))]
        contents = list(islice(cycle(pool), owners))
        seeds = [parties.randomness.bytes(SEED_BYTES) for _ in range(owners)]
        for work, run, size in (
            ("aggregate", partial(sum_explicit, parties, contents), 8 * length),
            ("aggregate seeded", partial(sum_seeded, parties, seeds), SEED_BYTES),
        ):
            row = measure(
                work,
                run,
                dimension=dimension,
                servers=servers,
                wire_bytes=size,
                repeats=repeats,
                parts=owners,
            )
            rows.append(row.as_dict() | {"owners": owners})
    return rows


def recover(dimensions: list[int], *, servers: int, repeats: int) -> list[dict[str, Any]]:
    """Measure the model owner's work on n shares of a sum: verify, interpolate, decode."""
    rows = []
    for dimension in dimensions:
        parties = Parties(dimension, servers)
        row = measure(
            "recover",
            partial(parties.recover, shares_of_x(parties)),
            dimension=dimension,
            servers=servers,
            wire_bytes=8 * dimension * servers,
            repeats=repeats,
        )
        rows.append(row.as_dict())
    return rows


def sum_explicit(parties: Parties, contents: Iterable[bytes]) -> FieldVector:
    """Return the sum of x over shares as they came, which are checked to be canonical."""
    total = np.zeros(parties.dimension, dtype=np.uint64)
    for content in contents:
        explicit = np.frombuffer(content, dtype=np.uint64)
        parties.add_share(total, Share(len(explicit), explicit=explicit))
    return total


def sum_seeded(parties: Parties, seeds: Iterable[bytes]) -> FieldVector:
    """Return the sum of x over shares that are expanded from seeds."""
    total = np.zeros(parties.dimension, dtype=np.uint64)
    for seed in seeds:
        parties.add_share(total, Share(parties.parameters.share_elements, seed=seed))
    return total


def _pool_size(length: int, owners: int) -> int:
    return max(1, min(owners, POOL_BYTES // (8 * length)))


def _random_words(length: int) -> bytes:
    return np.random.default_rng().integers(MODULUS, size=length, dtype=np.uint64).tobytes()


def shares_of_x(parties: Parties) -> list[FieldVector]:
    """Return every server's share of a vector, server 1 first."""
    packages = parties.build(parties.quantise(parties.vector()), *parties.new_keys(1))
    shares = (read_share(opening, parties.parameters) for opening in packages)
    return [share.elements(0, parties.dimension) for share in shares]
