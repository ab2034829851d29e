"""How an audit is shown on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from omnilytics.learning.audit.findings import Audit

WIDTH_WITHOUT_TERMINAL = 140


def print_audit(audit: Audit) -> None:
    """Print one row per attack, then what each means."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    table = Table("", "who", "sees", "learns", "measured", show_lines=True)
    for number, finding in enumerate(audit.findings, 1):
        table.add_row(str(number), finding.who, finding.sees, finding.learns, finding.measured)
    console.print(table)
    for number, finding in enumerate(audit.findings, 1):
        console.print(f"{number:>2}. {finding.attack}: {finding.said}")
