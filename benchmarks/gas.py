"""Print what every call of the contracts costs, as the tables of docs/benchmarks.md.

Run it from the repository with `.venv/bin/python benchmarks/gas.py` (a minute).
"""

from __future__ import annotations

from omnilytics.benchmark.gas import COMMITTEES, gas

ROUND = ("open_round", "seal", "settle")


def main() -> None:
    """Measure all committees and numbers of owners, and print two tables."""
    rows = gas()
    used = {(row["call"], row["n"], row["owners"], row["round"]): row["gas"] for row in rows}
    print("| committee | owners | open_round | seal | settle | a round | the first round |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for committee in COMMITTEES:
        for owners in (10, 1_000):
            n = committee.servers
            second = [used[call, n, owners, 2] for call in ROUND]
            first = sum(used[call, n, owners, 1] for call in ROUND)
            cells = [*second, sum(second), first]
            shown = " | ".join(f"{cell:,}" for cell in cells)
            print(f"| ({n},{committee.privacy},{committee.errors}) | {owners:,} | {shown} |")
    print("\n| call, (5,1,1) | gas: 10 owners | 1,000 owners |\n| --- | --- | --- |")
    for row in rows:
        call, number = row["call"], row["round"]
        if (row["n"], row["owners"]) == (5, 10) and call not in ROUND:
            when = {0: "", 1: ", first", 2: ", later"}.get(number, "")
            many = used[call, 5, 1_000, number]
            print(f"| {call}{when} | {row['gas']:,} | {many:,} |")


if __name__ == "__main__":
    main()
