"""Run the audit on the digits preset and write its table into docs/audit.md.

Run it from the repository with `.venv/bin/python benchmarks/audit.py`; about a minute on one core.
"""

from __future__ import annotations

from pathlib import Path

from omnilytics.demo.result import machine
from omnilytics.learning.audit.run import run_audit
from omnilytics.learning.audit.subject import preset_subject
from omnilytics.learning.threads import pin_threads

DOCUMENT = Path(__file__).parent.parent / "docs" / "audit.md"
BEGIN, END = "<!-- audit: begin -->", "<!-- audit: end -->"


def main() -> None:
    """Attack, print, write."""
    pin_threads()
    audit = run_audit(preset_subject("digits", seed=1), rounds=40, steps=300)
    rows = [[each.who, each.sees, each.learns, each.measured, each.said] for each in audit.findings]
    lines = [["who", "sees", "learns", "measured", "in words"], ["---"] * 5, *rows]
    table = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
    text = f"{machine()}\n\n{table}"
    print(text)
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
