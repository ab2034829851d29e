"""A server process under load: every receipt is kept, memory stays flat, the chain is spared.

The whole run is `benchmarks/load.py`; this is a short form of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from anvil_process import counted_anvil
from devnet import anvil_binary
from load_run import run_load
from submission_world import submission_world

from omnilytics.sharing.committee import Committee

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(anvil_binary() is None, reason="needs anvil: make devnet-tools"),
]

SUBMISSIONS, DIMENSION = 100, 61_706
FLAT_BYTES = 16 << 20
"""Less than half of what the 80 packages after the first mark would fill, were they kept."""


def test_every_submission_is_stored_in_flat_memory(tmp_path: Path) -> None:
    with (
        counted_anvil(tmp_path) as anvil,
        submission_world(
            anvil.url,
            tmp_path,
            committee=Committee(servers=5, privacy=1, errors=1),
            dimension=DIMENSION,
            max_owners=SUBMISSIONS,
        ) as world,
    ):
        world.set_calm()
        result = run_load(world, anvil, submissions=SUBMISSIONS, clients=8)
    assert {result.receipts, result.rows, result.files} == {SUBMISSIONS}
    assert result.bytes_per_submission > 8 * DIMENSION
    assert result.growth_bytes < FLAT_BYTES
    asked = sum(result.chain_requests.values()) / SUBMISSIONS
    assert 1 < asked < 7.5, result.chain_requests
