"""What benchmarks say about memory is what the system sees, and does not grow as it should not."""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest

from omnilytics.benchmark.measure import peak_bytes
from omnilytics.benchmark.parties import Parties
from omnilytics.benchmark.phases import peak_resident_bytes, reset_peak, resident_bytes
from omnilytics.benchmark.round_process import whole_round
from omnilytics.benchmark.submission import check_submission
from omnilytics.benchmark.summing import add_up, recover_sealed, sealed_sums, shares_of_x
from omnilytics.sharing.shamir import Share

DIMENSION = 2_000_000
SLACK = 4 << 20
"""Scratch of kernels and libraries, pages of the allocator."""


def works(parties: Parties) -> dict[str, Callable[[], object]]:
    vector, (key,) = parties.vector(), parties.new_keys(1)
    body, challenge = parties.submission()[-1].encode(), parties.new_challenge()
    shares = shares_of_x(parties)
    return {
        "protect": partial(parties.protect, vector, key),
        "check": partial(check_submission, parties, body, challenge),
        "aggregate": partial(add_up, shares[-1:], parties.dimension),
        "aggregate seeded": partial(add_up, [seeded_share(parties)], parties.dimension),
        "recover": partial(parties.recover, shares),
        "recover sealed": partial(recover_sealed, parties, sealed_sums(parties, shares)),
    }


def seeded_share(parties: Parties) -> Share:
    return Share(parties.parameters.share_elements, seed=bytes(32))


def resident_growth() -> dict[str, list[int]]:
    """Return what each work allocates as benchmarks say, and by how much resident memory grows."""
    for run in works(Parties(9_000, 5)).values():
        run()  # libraries and kernels are loaded
    found = {}
    for name, run in works(Parties(DIMENSION, 5)).items():
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        before = resident_bytes()
        reset_peak()
        run()
        grown = peak_resident_bytes() - before
        found[name] = [peak_bytes(run), grown]
    return found


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peaks_are_what_resident_memory_grows_by() -> None:
    program = (
        "import json, test_benchmark_memory as here; print(json.dumps(here.resident_growth()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=__file__.rsplit("/", 1)[0],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert len(found) == 6
    for name, (said, grown) in found.items():
        assert grown <= said + SLACK, name
        assert said <= grown + SLACK, name


@pytest.mark.slow
def test_a_round_of_more_owners_takes_no_more_memory() -> None:
    few, many = (
        whole_round([DIMENSION // 10], servers=5, repeats=1, owners=owners)[0]["peak_bytes"]
        for owners in (2, 10)
    )
    package_bytes = 8 * DIMENSION // 10
    assert many < few + 2 * package_bytes  # of 32 packages more
