"""Print the table of docs/benchmarks.md: what a submission costs its owner and each server.

Run it from the repository with `.venv/bin/python benchmarks/submissions.py`; it takes a minute.
"""

from __future__ import annotations

from omnilytics.benchmark import check, protect
from omnilytics.demo.result import machine

DIMENSIONS = [10_000, 61_706, 100_000, 1_000_000]


def main() -> None:
    """Measure and print."""
    print(f"{machine()}\n")
    print("| work | parameters | ms | ns/parameter | memory passes | bytes/parameter | peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in protect(DIMENSIONS, servers=5, repeats=9) + check(DIMENSIONS, servers=5, repeats=9):
        print(
            f"| {row['work']} | {row['dimension']:,} | {row['milliseconds']:.2f} "
            f"| {row['ns_per_parameter']:.1f} | {row['memory_passes']:.0f} "
            f"| {row['bytes_per_parameter']:.2f} | {row['peak_bytes'] / 1e6:.1f} |"
        )


if __name__ == "__main__":
    main()
