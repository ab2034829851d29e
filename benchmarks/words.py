"""What a pool of processes brings: a server's words for many owners, inline, pooled, on Ray.

    python benchmarks/words.py --dimension 61706 1000000 --owners 20 --workers 2 [--ray]

All packages are made first, by one process, and lie in files; then rounds of words are made with
each executor in turn, the page cache warm, and the median of the wall times is told. Processor
time is that of all processes.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from omnilytics.algebra import kernels
from omnilytics.algebra.fixed_point import round_vector
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package_builder import PackageBuilder
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.protocol.word_jobs import InlineWords, WordExecutor, WordRound
from omnilytics.service.word_cluster import ClusterWords
from omnilytics.service.word_pool import PoolWords
from omnilytics.sharing.committee import DEFAULT
from omnilytics.storage.files import ContentFiles
from omnilytics.storage.packages import StoredPackage
from omnilytics.validity.statement import Statement
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.task_specification import Admission

RANDOMNESS = SystemRandomness()


def prepare(
    dimension: int, owners: int, server: int, folder: Path
) -> tuple[WordRound, list[StoredPackage]]:
    """Return a round of one task, and one server's packages of so many owners."""
    statement = Statement((dimension,))
    parameters = TaskParameters(
        committee=DEFAULT,
        statement=statement,
        members=tuple(SigningKey.generate(RANDOMNESS).address for _ in DEFAULT.points),
        min_owners=1,
        max_owners=owners,
        reward_wei=1,
        admission=Admission(mode="open", owners=(), min_bond_wei=0),
    )
    context = RoundContext(
        domain=Domain(31_337, Address(bytes(20))),
        task=TaskId(1),
        round=Round(1),
        artefact_hash=Hash32(bytes(32)),
        block_hash=Hash32(bytes(32)),
    )
    files = ContentFiles(folder)
    packages = []
    for _ in range(owners):
        real = np.random.default_rng().normal(size=dimension)
        vector = round_vector(
            real / np.linalg.norm(real),
            components=statement.components,
            fractional_bits=statement.fractional_bits,
            randomness=RANDOMNESS,
        ).values
        key = SigningKey.generate(RANDOMNESS)
        made = PackageBuilder(parameters, context, key, RANDOMNESS).build(vector)
        packages.append(StoredPackage(files, files.put(made[server - 1].encode())))
    return WordRound(parameters=parameters, context=context, seed=Hash32(os.urandom(32))), packages


def processor_seconds() -> float:
    """Return what this process took; ended children come with it, running ones do not."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


def measure(
    dimension: int, executors: dict[str, WordExecutor], owners: int, server: int, repeats: int
) -> None:
    """Print a row for each executor."""
    with tempfile.TemporaryDirectory() as folder:
        work, packages = prepare(dimension, owners, server, Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in executors}
        want = executors["inline"].words(work, packages)
        for name, executor in executors.items():
            assert executor.words(work, packages) == want, name  # and processes are warm
        for _ in range(repeats):
            for name, executor in executors.items():
                start = time.perf_counter()
                executor.words(work, packages)
                seconds[name].append(time.perf_counter() - start)
    inline = statistics.median(seconds["inline"])
    for name, found in seconds.items():
        median = statistics.median(found)
        print(
            f"| {dimension:>10,} | {owners:>6,} | {name:>14} | {median * 1e3:>10.1f} "
            f"| {median / owners * 1e3:>8.2f} | {inline / median:>5.2f} |",
            flush=True,
        )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimension", type=int, nargs="+", default=[61_706])
    parser.add_argument("--owners", type=int, default=20)
    parser.add_argument("--server", type=int, default=5, help="1 has a seed, 5 an explicit share")
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    kernels.warm_up()
    executors: dict[str, WordExecutor] = {"inline": InlineWords()}
    executors |= {f"{count} processes": PoolWords(count) for count in options.workers}
    if options.ray:
        executors["Ray, local"] = ClusterWords("local", max(options.workers))
    print("|  dimension | owners |             by | all, ms    | an owner | times |")
    print("| ---------- | ------ | -------------- | ---------- | -------- | ----- |")
    for dimension in options.dimension:
        measure(dimension, executors, options.owners, options.server, options.repeats)
    for executor in executors.values():
        executor.close()


if __name__ == "__main__":
    main()
