"""The end of a round: a server adds up its shares, the model owner recovers the sum."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from omnilytics.algebra.field import MODULUS
from omnilytics.algebra.fixed_point import FloatVector
from omnilytics.benchmark.measure import measure
from omnilytics.benchmark.parties import Parties
from omnilytics.protocol.aggregate import sum_blocks
from omnilytics.sharing.recovery import VectorReader
from omnilytics.sharing.shamir import SEED_BYTES, Share
from omnilytics.storage.packages import FileShare
from omnilytics.validity.evaluate import ElementReader

POOL_BYTES = 256 << 20
"""Room for different explicit shares; where all owners' take more, some are added repeatedly."""


def aggregate(
    dimensions: list[int], *, servers: int, repeats: int, owners: int = 10
) -> list[dict[str, Any]]:
    """Measure a server's sum over the owners' shares of x, per owner; two rows for each dimension.

    "aggregate" is with explicit shares in files, as a server keeps them (here in the system's
    cache), with the check that elements are canonical; "aggregate seeded" is of one of the first t
    servers, which expands a seed for each owner.
    """
    rows = []
    for dimension in dimensions:
        parties = Parties(dimension, servers, owners)
        length = parties.parameters.share_elements
        with tempfile.TemporaryDirectory(prefix="omnilytics-sum-") as folder:
            explicit = list(islice(cycle(stored_shares(Path(folder), length, owners)), owners))
            seeds = [parties.randomness.bytes(SEED_BYTES) for _ in range(owners)]
            seeded = [Share(length, seed=seed) for seed in seeds]
            for work, shares, size in (
                ("aggregate", explicit, 8 * length),
                ("aggregate seeded", seeded, SEED_BYTES),
            ):
                row = measure(
                    work,
                    partial(add_up, shares, dimension),
                    dimension=dimension,
                    servers=servers,
                    wire_bytes=size,
                    repeats=repeats,
                    parts=owners,
                )
                rows.append(row.as_dict() | {"owners": owners})
    return rows


def recover(dimensions: list[int], *, servers: int, repeats: int) -> list[dict[str, Any]]:
    """Measure the model owner's work on n shares of a sum; two rows for each dimension.

    "recover" is of shares in memory: verify, interpolate, decode; "recover sealed" opens the
    servers' answers as well, as they are read.
    """
    rows = []
    for dimension in dimensions:
        parties = Parties(dimension, servers)
        shares = shares_of_x(parties)
        for work, run in (
            ("recover", partial(parties.recover, shares)),
            ("recover sealed", partial(recover_sealed, parties, sealed_sums(parties, shares))),
        ):
            row = measure(
                work,
                run,
                dimension=dimension,
                servers=servers,
                wire_bytes=8 * dimension * servers,
                repeats=repeats,
            )
            rows.append(row.as_dict())
    return rows


def add_up(shares: Sequence[ElementReader], dimension: int) -> None:
    """Make the sum of x over shares block by block, as it is sealed, and keep none of it."""
    deque(sum_blocks(shares, dimension), maxlen=0)


def stored_shares(folder: Path, length: int, owners: int) -> list[FileShare]:
    """Return random shares in files, as many as there is room for, at most one for each owner."""
    count = max(1, min(owners, POOL_BYTES // (8 * length)))
    generator = np.random.default_rng()
    for number in range(count):
        words = generator.integers(MODULUS, size=length, dtype=np.uint64)
        (folder / str(number)).write_bytes(words.astype("<u8", copy=False).tobytes())
    return [FileShare(folder / str(number), 0, length) for number in range(count)]


def shares_of_x(parties: Parties) -> list[VectorReader]:
    """Return every server's share of a vector, in memory, server 1 first."""
    packages = parties.build(parties.quantise(parties.vector()), *parties.new_keys(1))
    dimension = parties.dimension
    length = parties.parameters.share_elements
    shares = (opening.share(length) for opening in packages)
    return [Share(dimension, explicit=share.elements(0, dimension)) for share in shares]


def sealed_sums(parties: Parties, shares: Sequence[VectorReader]) -> list[bytes]:
    """Return the answers that servers with these shares give the model owner."""
    root = parties.context.artefact_hash  # of any set
    return [
        b"".join(parties.seal_sum([share], root, server))
        for server, share in enumerate(shares, start=1)
    ]


def recover_sealed(parties: Parties, answers: Sequence[bytes]) -> FloatVector:
    """Open the servers' answers, verify, interpolate and decode."""
    root = parties.context.artefact_hash
    released = [  # afresh: a reader remembers the chunk that it opened last
        parties.released(answer, root, server) for server, answer in enumerate(answers, start=1)
    ]
    return parties.recover(released)
