"""Parts of pages in docs/ that scripts write: tables, sections between markers, the machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from omnilytics.demo.result import machine

DOCS = Path(__file__).parent.parent / "docs"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def write_section(page: Path, name: str, text: str) -> None:
    """Put text between the page's markers of that name, in place of what was there."""
    page.write_text(with_section(page.read_text(encoding="utf-8"), name, text), encoding="utf-8")


def with_section(document: str, name: str, text: str) -> str:
    """Return a document with text between its markers of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = document.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def machine_name() -> str:
    """Return the system, the processor, its cores and Python."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return ", ".join([*models[:1], machine()])
