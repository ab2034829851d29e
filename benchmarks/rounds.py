"""Print what a round of the demo costs: gas by call, seconds and bytes by phase.

Run it from the repository with `.venv/bin/python benchmarks/rounds.py`; it runs the demo once.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from omnilytics.demo.options import check_options
from omnilytics.demo.result import RoundReport, machine
from omnilytics.demo.run import run_demo


class _Quiet:
    def stage(self, text: str) -> None:
        pass

    def round_done(self, report: RoundReport) -> None:
        pass


def main() -> None:
    """Run the demo and print its costs."""
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(run_demo(check_options(), Path(folder), _Quiet()))
    rounds = len(result.rounds)
    print(f"{machine()}; {rounds} rounds, {result.dimension:,} parameters\n")
    print("| call | gas (median) |\n| --- | --- |")
    for name, gas in result.gas.items():
        print(f"| {name} | {gas:,} |")
    print(f"| open_round + seal + settle, from the second round | {result.gas_per_round:,} |")
    print("\n| phase | seconds a round | bytes a round |\n| --- | --- | --- |")
    for phase in sorted(set(result.seconds) | set(result.bytes)):
        seconds = result.seconds.get(phase, 0.0) / rounds
        print(f"| {phase} | {seconds:.3f} | {result.bytes.get(phase, 0) // rounds:,} |")
    print(f"\naltogether {result.total_seconds:.0f} s")


if __name__ == "__main__":
    main()
