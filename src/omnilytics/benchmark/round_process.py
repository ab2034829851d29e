"""`omnilytics bench round`: a whole round in a process of its own, so that its memory is its own.

That process runs `main`, which prints one JSON object.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from omnilytics.benchmark.measure import Row, Yardstick, check_repeats
from omnilytics.benchmark.parties import Parties
from omnilytics.benchmark.phases import resident_bytes
from omnilytics.benchmark.whole_round import WholeRound
from omnilytics.foundation.errors import ConfigError, OmniLyticsError

_YARDSTICK_RUNS = 5
_PROGRAM = "from omnilytics.benchmark.round_process import main; main()"


def whole_round(
    dimensions: list[int], *, servers: int, repeats: int, owners: int = 10
) -> list[dict[str, Any]]:
    """Measure a round of all parties; one row for each dimension, of the run of median time.

    Times, bytes and passes of the row are of all parties together for one owner's vector: over D
    and over the owners. `phases` lists each party's steps: how often it occurs, the time of all its
    occurrences, and for a parameter that of one.

    Args:
        dimensions: Values of D.
        servers: n.
        repeats: Rounds for each D.
        owners: Data owners, all honest.
    """
    check_repeats(repeats)
    rows = []
    for dimension in dimensions:
        Parties(dimension, servers, owners)  # refuse what cannot be before a process starts
        yardstick = Yardstick(dimension)
        runs = []
        for _ in range(repeats):
            for _ in range(_YARDSTICK_RUNS):
                yardstick.run()
            runs.append(_in_process(dimension, servers, owners))
        runs.sort(key=lambda run: float(run["processor_seconds"]))
        rows.append(_row(runs[len(runs) // 2], dimension, servers, owners, yardstick))
    return rows


def _row(
    run: dict[str, Any], dimension: int, servers: int, owners: int, yardstick: Yardstick
) -> dict[str, Any]:
    ns = run["processor_seconds"] * 1e9 / owners / dimension
    passes = yardstick.figures(ns)
    row = Row(
        work="round",
        dimension=dimension,
        servers=servers,
        milliseconds=run["processor_seconds"] * 1e3 / owners,
        wall_milliseconds=run["wall_seconds"] * 1e3 / owners,
        ns_per_parameter=ns,
        **passes,
        bytes_per_parameter=(run["upload_bytes"] + run["aggregate_bytes"]) / owners / dimension,
        peak_bytes=run["peak_bytes"],
    )
    for phase in run["phases"]:
        phase["memory_passes"] = phase["ns_per_parameter"] / passes["memory_pass_ns"]
    return row.as_dict() | {"owners": owners} | run


def _in_process(dimension: int, servers: int, owners: int) -> dict[str, Any]:
    """Run one round in a process of its own and return what it printed."""
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", _PROGRAM, str(dimension), str(servers), str(owners)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ConfigError(
            "the process of the round failed",
            got=done.stderr.strip().splitlines()[-1:],
            hint="free disk and memory, or take fewer owners",
        )
    run: dict[str, Any] = json.loads(done.stdout)
    return run


def run_here(dimension: int, servers: int, owners: int) -> dict[str, Any]:
    """Run one round in this process; return its figures as JSON values.

    Raises:
        ConfigError: The disk of temporary files has too little room.
    """
    parties = Parties(dimension, servers, owners)
    _require_room(parties)
    before = resident_bytes()
    with tempfile.TemporaryDirectory(prefix="omnilytics-round-") as folder:
        measured = WholeRound(parties, Path(folder))
        measured.run()
    phases = measured.phases
    return {
        "processor_seconds": phases.processor_seconds,
        "wall_seconds": phases.wall_seconds,
        "peak_bytes": phases.peak_resident_bytes,
        "bytes_before": before,
        "upload_bytes": measured.upload_bytes,
        "aggregate_bytes": measured.aggregate_bytes,
        "transcript_bytes": len(measured.transcript.encode()),
        "phases": phases.rows(dimension),
    }


def _require_room(parties: Parties) -> None:
    parameters = parties.parameters
    # One server's packages lie there twice, sealed and opened, while it receives them.
    copies = parameters.committee.servers + 1
    needed = copies * parameters.max_owners * parameters.package_bytes
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if needed > free:
        raise ConfigError(
            "too little room for the packages of a round",
            got=f"{free / 1e9:.1f} GB free in {tempfile.gettempdir()}",
            want=f"{needed / 1e9:.1f} GB",
            hint="set TMPDIR to a larger disk, or take fewer owners",
        )


def main() -> None:
    """Run the round that the arguments name and print it."""
    try:
        json.dump(run_here(*(int(value) for value in sys.argv[1:])), sys.stdout)
    except OmniLyticsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
