"""The two sides of a submission: what an owner and what each server spends on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from omnilytics.algebra import kernels
from omnilytics.algebra.fixed_point import FloatVector, round_vector
from omnilytics.benchmark.measure import measure
from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package import check_package, compute_word
from omnilytics.protocol.package_builder import PackageBuilder, Packages
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.sharing.committee import OFFERED
from omnilytics.transport.hpke import HpkeKey, open_package, seal_package, sealed_chunks
from omnilytics.validity.challenge import Challenge
from omnilytics.validity.statement import Statement
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.package import SealedPackage
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.task_specification import Admission

MAX_DIMENSION = 50_000_000


@dataclass
class _Bench:
    """One owner and a committee, without chain and network."""

    parameters: TaskParameters
    context: RoundContext
    key: SigningKey
    hpke_keys: list[HpkeKey]
    vector: FloatVector

    def packages(self) -> Packages:
        """Quantise, share, prove and hash; the packages are made when they are asked for."""
        randomness = SystemRandomness()
        rounded = round_vector(
            self.vector,
            components=self.parameters.statement.components,
            fractional_bits=self.parameters.statement.fractional_bits,
            randomness=randomness,
        )
        builder = PackageBuilder(self.parameters, self.context, self.key, randomness)
        return builder.build(rounded.values)

    def protect(self) -> int:
        """Do all that, and seal for all servers; return the bytes of the sealed chunks."""
        keys = [key.public for key in self.hpke_keys]
        chunks = sealed_chunks(self.packages(), keys, self.context)
        return sum(len(chunk) for _, chunk in chunks)

    def sealed(self) -> list[SealedPackage]:
        """Return sealed packages for all servers."""
        return [
            seal_package(package, key.public, self.context)
            for package, key in zip(self.packages(), self.hpke_keys, strict=True)
        ]

    def check(self, sealed: SealedPackage, challenge: Challenge) -> Hash32:
        """Open, check against the commitment, and compute the word."""
        server = sealed.header.server
        opening = open_package(sealed, self.hpke_keys[server - 1], self.context)
        check_package(opening, server=server, parameters=self.parameters, context=self.context)
        return compute_word(opening, self.parameters, self.context, challenge)


def protect(dimensions: list[int], *, servers: int, repeats: int) -> list[dict[str, Any]]:
    """Measure the owner's work for all servers; one row for each dimension."""
    rows = []
    for dimension in dimensions:
        bench = _bench(dimension, servers)
        sent = sum(len(package.encode()) for package in bench.sealed())
        row = measure(
            "protect",
            bench.protect,
            dimension=dimension,
            servers=servers,
            wire_bytes=sent,
            repeats=repeats,
        )
        rows.append(row.as_dict())
    return rows


def check(dimensions: list[int], *, servers: int, repeats: int) -> list[dict[str, Any]]:
    """Measure one server's work on one owner, for a server with an explicit share."""
    rows = []
    for dimension in dimensions:
        bench = _bench(dimension, servers)
        sealed = bench.sealed()[-1]
        challenge = Challenge(bench.parameters.statement, SystemRandomness().bytes(32))
        row = measure(
            "check",
            partial(bench.check, sealed, challenge),
            dimension=dimension,
            servers=servers,
            wire_bytes=len(sealed.encode()),
            repeats=repeats,
        )
        rows.append(row.as_dict())
    return rows


def _bench(dimension: int, servers: int) -> _Bench:
    if not 1 <= dimension <= MAX_DIMENSION:
        raise UsageError("impossible dimension", got=dimension, want=f"1 to {MAX_DIMENSION}")
    committee = next((entry for entry in OFFERED if entry.servers == servers), None)
    if committee is None:
        offered = sorted({entry.servers for entry in OFFERED})
        raise UsageError("no such committee is offered", got=servers, want=offered)
    kernels.warm_up()
    randomness = SystemRandomness()
    vector = np.random.default_rng().normal(size=dimension)
    return _Bench(
        parameters=TaskParameters(
            committee=committee,
            statement=Statement((dimension,)),
            members=(),
            min_owners=1,
            max_owners=1,
            reward_wei=0,
            admission=Admission(mode="open", min_bond_wei=0),
        ),
        context=RoundContext(
            domain=Domain(1, Address(bytes(20))),
            task=TaskId(1),
            round=Round(1),
            artefact_hash=Hash32(bytes(32)),
            block_hash=Hash32(bytes(32)),
        ),
        key=SigningKey.generate(randomness),
        hpke_keys=[HpkeKey.generate(randomness) for _ in range(servers)],
        vector=vector / np.linalg.norm(vector),
    )
