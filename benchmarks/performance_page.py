"""The tables of docs/performance.md, from what `performance.measure_all` found."""

from __future__ import annotations

from typing import Any

from pages import table
from stages import stages_table
from start import table as starts_table

BOUNDS = {"protect": 60, "check": 50, "aggregate": 3, "aggregate seeded": 5, "recover": 25}
"""Memory passes that each work may take at D = 10^6, n = 5."""
BOUND_DIMENSION = 1_000_000
GROWING = ("protect", "recover")
"""Works that grow with the number of servers; the others are one server's."""


def page_sections(found: dict[str, Any]) -> dict[str, str]:
    """Return the text of every section that is written, by its name in the page."""
    return {
        "work": f"{found['machine']}\n\n{works_table(found)}",
        "growth": growth_table(found["growth"]),
        "committees": committees_table(found["committees"]),
        "stages": stages_table(found["stages"]),
        "wire": wire_table(found["wire"]),
        "round": "\n\n".join(round_table(row) for row in found["rounds"][1:]),
        "start": starts_table(found["starts"]),
        "comparison": found["comparison"],
    }


def works_table(found: dict[str, Any]) -> str:
    """Return what each work costs at each D, and how its time grows."""
    rows = [
        (
            row["work"],
            f"{row['dimension']:,}",
            f"{row['milliseconds']:.2f}",
            f"{row['cold_milliseconds']:.2f}",
            f"{row['ns_per_parameter']:.2f}",
            f"{row['memory_passes']:.1f}",
            _bound(row),
            f"{row['cached_passes']:.1f}",
            f"{row['bytes_per_parameter']:.2f}",
            f"{row['peak_bytes'] / 1e6:.1f}",
        )
        for row in found["rows"]
    ]
    headings = ("work", "parameters", "ms", "cold, ms", "ns/parameter", "memory passes", "at most")
    headings += ("cached passes", "bytes/parameter", "peak MB")
    slopes = ", ".join(
        f"{work} {slope:.2f}" for work, slope in found["exponents"].items() if slope is not None
    )
    first = found["rows"][0]
    yardsticks = (
        f"At 10,000 parameters a memory pass was {first['memory_pass_ns']:.2f} ns a word and a "
        f"cached pass {first['cached_pass_ns']:.2f} ns."
    )
    return f"{table(headings, rows)}\n\nTime grows as D to the power of: {slopes}.\n{yardsticks}"


def growth_table(rows: list[dict[str, Any]]) -> str:
    """Return what a parameter costs at the two largest D."""
    small, large = rows[0]["dimensions"]
    return table(
        ("work", f"ns/parameter at {small:,}", f"at {large:,}", "ratio"),
        (
            (
                row["work"],
                *(f"{ns:.2f}" for ns in row["ns_per_parameter"]),
                f"{row['ratio']:.2f}",
            )
            for row in rows
        ),
    )


def committees_table(rows: list[dict[str, Any]]) -> str:
    """Return each work's time by committee."""
    return table(
        ("work", "servers", "t", "ms", "times n = 5", "for each server, times n = 5"),
        (
            (
                row["work"],
                row["servers"],
                row["privacy"],
                f"{row['milliseconds']:.2f}",
                f"{row['times_default']:.2f}",
                f"{row['for_each_server']:.2f}" if row["work"] in GROWING else "",
            )
            for row in rows
        ),
    )


def wire_table(rows: list[dict[str, Any]]) -> str:
    """Return the bytes of a round's messages by D."""
    shown = {
        "upload to all five servers": "upload_bytes",
        "of it, what (n - t) 8 D is": "least_bytes",
        "proof: bits and masks": "proof_bytes",
        "headers": "header_bytes",
        "seeds": "seed_bytes",
        "keys, tags, blinds, lengths": "sealing_bytes",
        "to a server with a seed": "upload_bytes_seeded",
        "to a server with a share": "upload_bytes_explicit",
        "a server's word, signed": "signed_word_bytes",
        "a server's share of the sum": "aggregate_bytes",
        f"transcript, {rows[0]['owners']} owners": "transcript_bytes",
    }
    lines = [(name, *(f"{row[key]:,}" for row in rows)) for name, key in shown.items()]
    beyond = ("**upload beyond (n - t) 8 D**", *(f"{row['beyond_percent']:.3f}%" for row in rows))
    return table(("bytes", *(f"D = {row['dimension']:,}" for row in rows)), [*lines, beyond])


def round_table(row: dict[str, Any]) -> str:
    """Return one round by phase, the longest first."""
    total = row["milliseconds"] * row["owners"]
    phases = sorted(row["phases"], key=lambda phase: -phase["milliseconds"])
    lines = [
        (
            phase["party"],
            phase["phase"],
            f"{phase['count']:,}",
            f"{phase['milliseconds']:,.1f}",
            f"{phase['milliseconds'] / total:.0%}",
            f"{phase['ns_per_parameter']:.2f}",
            f"{phase['memory_passes']:.1f}",
        )
        for phase in phases
    ]
    headings = ("party", "phase", "times", "ms in all", "share", "ns/parameter", "memory passes")
    peak, before = (row[key] / 2**20 for key in ("peak_bytes", "bytes_before"))
    return (
        f"{row['dimension']:,} parameters, {row['owners']} owners, {row['servers']} servers: "
        f"{total / 1e3:,.2f} s of processor time, at most {peak:,.0f} MiB resident "
        f"({before:,.0f} MiB before it begins)\n\n{table(headings, lines)}"
    )


def _bound(row: dict[str, Any]) -> str:
    return str(BOUNDS.get(row["work"], "")) if row["dimension"] == BOUND_DIMENSION else ""
