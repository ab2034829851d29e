"""Attack two presets and fill docs/audit.md with what each party learned.

Run it from the repository with `.venv/bin/python benchmarks/audit.py`; it takes some minutes on one
core. `--steps 30` is quick and finds less, `--write` puts the tables into docs/audit.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from omnilytics.demo.result import machine
from omnilytics.learning.audit.findings import Audit
from omnilytics.learning.audit.run import run_audit
from omnilytics.learning.audit.subject import preset_subject
from omnilytics.learning.presets import preset_for
from omnilytics.learning.threads import pin_threads

DOCUMENT = Path(__file__).parent.parent / "docs" / "audit.md"
BEGIN, END = "<!-- audit: begin -->", "<!-- audit: end -->"
DATASET, MODELS, SEED = "digits", ("cnn", "transformer"), 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Attack and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--steps", type=int, default=300, help="of each gradient inversion")
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    options = parser.parse_args(arguments)
    pin_threads()
    text = "\n".join(section(model, options.steps) for model in MODELS)
    print(text)
    if options.write:
        before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


def section(model: str, steps: int) -> str:
    """Return one network's tables as Markdown."""
    start = perf_counter()
    rounds = preset_for(DATASET, model).rounds
    audit = run_audit(preset_subject(DATASET, model=model, seed=SEED), rounds=rounds, steps=steps)
    seconds = perf_counter() - start
    lines = [f"### {DATASET}, {model}", ""]
    lines += [f"{machine()}; seed {SEED}, {rounds} rounds, {steps} steps; {seconds:,.0f} s.", ""]
    return "\n".join([*lines, *rows(audit), "", *inversions(audit), ""])


def rows(audit: Audit) -> list[str]:
    """Return the table of findings."""
    lines = ["| attack | who | sees | learns | measured |", "| --- | --- | --- | --- | --- |"]
    for each in audit.findings:
        cells = (each.attack, each.who, each.sees, each.learns, each.measured)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def inversions(audit: Audit) -> list[str]:
    """Return the table of inverted sums."""
    lines = [
        "| samples in the sum | model | mean correlation | best | best PSNR | a guess |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {each.samples} | {model} | {each.correlation:.3f} | {each.best:.3f} "
        f"| {each.best_psnr:.1f} dB | {each.baseline:.3f} |"
        for model, series in audit.inversions.items()
        for each in series
    ]
    return lines if audit.inversions else []


if __name__ == "__main__":
    main()
