"""The plots of docs/performance.md, as SVG that is the same for the same figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from performance_page import BOUND_DIMENSION, BOUNDS

STYLE = {"svg.hashsalt": "omnilytics", "svg.fonttype": "none", "font.size": 9}
BESIDE: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}


def write_plots(found: dict[str, Any], folder: Path) -> None:
    """Write all plots into a folder."""
    folder.mkdir(exist_ok=True)
    with rc_context(STYLE):
        _save(_passes(found["rows"]), folder / "passes.svg")
        _save(_bounds(found["rows"]), folder / "bounds.svg")
        _save(_committees(found["committees"]), folder / "committees.svg")
        _save(_round(found["rounds"]), folder / "round.svg")


def _passes(rows: list[dict[str, Any]]) -> Figure:
    """Draw memory passes over D, a line for each work."""
    figure, axes = _axes("parameters", "memory passes")
    for work in dict.fromkeys(row["work"] for row in rows):
        series = [row for row in rows if row["work"] == work]
        passes = [row["memory_passes"] for row in series]
        axes.loglog([row["dimension"] for row in series], passes, marker="o", label=work)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(**BESIDE)
    return figure


def _bounds(rows: list[dict[str, Any]]) -> Figure:
    """Draw each work's passes at D = 10^6 beside what they may be."""
    figure, axes = _axes(f"memory passes at {BOUND_DIMENSION:,} parameters", "")
    at = {row["work"]: row for row in rows if row["dimension"] == BOUND_DIMENSION}
    works = list(reversed(BOUNDS))
    axes.barh(works, [BOUNDS[work] for work in works], color="0.85", label="at most")
    measured = [at[work]["memory_passes"] for work in works]
    bars = axes.barh(works, measured, height=0.5, label="measured")
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.legend()
    return figure


def _committees(rows: list[dict[str, Any]]) -> Figure:
    """Draw time by number of servers, in units of n = 5, beside what is linear in n."""
    figure, axes = _axes("servers", "time, times that of five servers")
    sizes = sorted({row["servers"] for row in rows})
    axes.set_xticks(sizes)
    axes.plot(sizes, [size / 5 for size in sizes], "--", color="0.6", label="linear in n")
    for work in dict.fromkeys(row["work"] for row in rows):
        series = [row for row in rows if row["work"] == work]
        times = [row["times_default"] for row in series]
        axes.plot([row["servers"] for row in series], times, marker="o", label=work)
    axes.legend()
    return figure


def _round(rounds: list[dict[str, Any]]) -> Figure:
    """Draw what shares of a round's time the phases take, a bar for each D."""
    figure, axes = _axes("parameters", "share of a round's processor time")
    figure.set_size_inches(7, 4.5)
    largest = rounds[-1]["phases"]
    ordered = [phase["phase"] for phase in sorted(largest, key=lambda p: -p["milliseconds"])]
    labels = [f"{row['dimension']:,}" for row in rounds]
    below = [0.0] * len(rounds)
    for name in [*ordered[:8], "the others"]:
        chosen = ordered[8:] if name == "the others" else [name]
        heights = [_share(row, chosen) for row in rounds]
        axes.bar(labels, heights, bottom=below, label=name, width=0.6)
        below = [low + height for low, height in zip(below, heights, strict=True)]
    axes.legend(**BESIDE)
    return figure


def _share(row: dict[str, Any], names: list[str]) -> float:
    total = sum(phase["milliseconds"] for phase in row["phases"])
    return sum(p["milliseconds"] for p in row["phases"] if p["phase"] in names) / total


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
