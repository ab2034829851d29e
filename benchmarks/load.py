"""Load one real server process on a real chain with submissions of many owners (Linux).

Run it from the repository with `.venv/bin/python benchmarks/load.py`; it needs anvil (`make
devnet-tools`) and a minute. Anvil, the server and the clients share the machine's cores: compare
processor seconds rather than latencies where the machine is small or busy.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from omnilytics.benchmark.submission import check
from omnilytics.demo.result import machine
from omnilytics.sharing.committee import Committee

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from anvil_process import counted_anvil
from devnet import anvil_binary
from load_run import LoadResult, run_load
from submission_world import submission_world

COMMITTEE = Committee(servers=5, privacy=1, errors=1)
FLAT_BYTES = 32 << 20
"""Most that the server may grow from 20 submissions to the last one."""


def main() -> int:
    """Run, print, and tell by the exit code whether everything was stored in flat memory."""
    options = _options()
    if anvil_binary() is None:
        print("anvil is missing: make devnet-tools", file=sys.stderr)
        return 3
    result = measure(options.submissions, options.dimension, options.clients)
    (own,) = check([options.dimension], servers=COMMITTEE.servers, repeats=5)
    check_seconds = own["milliseconds"] / 1e3
    if options.json:
        print(json.dumps({**result.as_dict(), "check_seconds": check_seconds}))
    else:
        _print(result, check_seconds)
    whole = {result.receipts, result.rows, result.files} == {result.submissions}
    flat = result.growth_bytes < FLAT_BYTES
    for holds, text in ((whole, "submissions are missing"), (flat, "memory is not flat")):
        if not holds:
            print(text, file=sys.stderr)
    return 0 if whole and flat else 1


def measure(submissions: int, dimension: int, clients: int) -> LoadResult:
    """Set everything up in a temporary folder and run it."""
    with (
        tempfile.TemporaryDirectory() as place,
        counted_anvil(Path(place)) as anvil,
        submission_world(
            anvil.url,
            Path(place),
            committee=COMMITTEE,
            dimension=dimension,
            max_owners=submissions,
        ) as world,
    ):
        world.set_calm()
        return run_load(
            world,
            anvil,
            submissions=submissions,
            clients=clients,
            tell=lambda text: print(text, file=sys.stderr),
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--submissions", type=int, default=200, help="owners, one each")
    parser.add_argument("--dimension", type=int, default=61_706, help="parameters of a vector")
    parser.add_argument("--clients", type=int, default=8, help="requests at a time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.submissions < 21:
        parser.error("flat memory shows from the 21st submission on")
    if options.dimension < 1 or options.clients < 1:
        parser.error("at least one parameter and one client")
    return options


def _print(result: LoadResult, check_seconds: float) -> None:
    count = result.submissions
    print(f"{machine()}")
    print(f"{count} submissions of {result.dimension:,} parameters from {result.clients} clients\n")
    latencies = [f"{name} {1e3 * value:.1f}" for name, value in result.latencies_seconds.items()]
    print(f"latency, ms           {', '.join(latencies)}")
    print(f"submissions/second    {count / result.seconds:.1f}")
    print(f"bytes/submission      {result.bytes_per_submission:,}")
    print(f"server CPU, ms each   {1e3 * result.server_cpu_seconds / count:.2f}")
    print(f"  times bench check   {result.server_cpu_seconds / count / check_seconds:.1f}")
    print(f"chain CPU, ms each    {1e3 * result.chain_cpu_seconds / count:.2f}")
    print(f"clients CPU, ms each  {1e3 * result.client_cpu_seconds / count:.2f}")
    memory = [f"{name} {value / 2**20:.1f}" for name, value in result.resident_bytes.items()]
    print(f"server RSS, MiB       {', '.join(memory)}")
    print(f"receipts, rows, files {result.receipts}, {result.rows}, {result.files}")
    print(f"chain requests each   {sum(result.chain_requests.values()) / count:.2f}")
    for method, requests in sorted(result.chain_requests.items()):
        print(f"  {method:<26} {requests / count:.2f}")


if __name__ == "__main__":
    sys.exit(main())
