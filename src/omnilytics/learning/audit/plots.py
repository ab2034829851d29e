"""The audit's plots, one SVG file each; their text stays text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from omnilytics.foundation.errors import ConfigError
from omnilytics.learning.audit.findings import Audit
from omnilytics.learning.audit.inversion import Inverted

_COLORS = ("#1f6f8b", "#c8553d", "#6a8d3b", "#8a8f98")
_QUIET = "#8a8f98"
_SHOWN = 8
Draw = Callable[[Any], None]


def write_plots(audit: Audit, folder: Path) -> list[Path]:
    """Write the plots of an audit into a folder and return their paths; raises ConfigError."""
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, size, draw in _plots(audit):
            path = folder / f"{name}.svg"
            path.write_text(_svg(draw, size), encoding="utf-8")
            paths.append(path)
    except OSError as error:
        raise ConfigError(
            "cannot write the plots",
            got=error.strerror,
            hint="name a writable folder with --output",
            folder=folder,
        ) from None
    return paths


def _plots(audit: Audit) -> Iterator[tuple[str, tuple[float, float], Draw]]:
    if audit.inversions:
        yield "sums", (7.2, 3.4), lambda figure: _draw_sums(figure, audit)
        series = next(iter(audit.inversions.values()))
        if series[0].true.ndim == 4:
            shown = [each for each in series if each.samples in {1, 4, 16}]
            size = (7.2, 1.9 * len(shown))
            yield "reconstructions", size, lambda figure: _draw_images(figure, shown)
    if audit.imprints:
        yield "imprint", (7.2, 3.2), lambda figure: _draw_imprints(figure, audit)
    if audit.scales is not None:
        yield "scales", (4.6, 4.2), lambda figure: _draw_scales(figure, audit)


def _draw_sums(figure: Any, audit: Audit) -> None:
    axes = _axes(figure, "samples in the sum", "correlation with the sample")
    for color, (name, series) in zip(_COLORS, audit.inversions.items(), strict=False):
        sizes = [each.samples for each in series]
        axes.plot(sizes, [each.correlation for each in series], color=color, marker="o", label=name)
        best = [each.best for each in series]
        axes.plot(sizes, best, color=color, linestyle=":", label="the best of them")
    series = next(iter(audit.inversions.values()))
    guesses = [each.baseline for each in series]
    sizes = [each.samples for each in series]
    axes.plot(sizes, guesses, color=_QUIET, linestyle="--", label="a guess without gradients")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(top=1.03)
    axes.legend(frameon=False, fontsize=8)


def _draw_imprints(figure: Any, audit: Audit) -> None:
    axes = _axes(figure, "units of the imprint layer", "share of samples")
    units = [each.units for each in audit.imprints]
    exact = [each.reconstructed for each in audit.imprints]
    rounded = [each.rounded for each in audit.imprints]
    axes.plot(units, exact, color=_COLORS[1], marker="o", label="reconstructed exactly")
    axes.plot(units, rounded, color=_COLORS[0], marker="o", label="alike, after market rounding")
    axes.set_xscale("log", base=2)
    axes.set_xticks(units, [str(each) for each in units])
    axes.set_ylim(0, 1)
    axes.legend(frameon=False)


def _draw_scales(figure: Any, audit: Audit) -> None:
    assert audit.scales is not None
    axes = _axes(figure, "true log2 r", "estimated log2 r")
    for index, (name, true) in enumerate(audit.scales.true.items()):
        color = _COLORS[index % len(_COLORS)]
        label = name if len(audit.scales.true) <= len(_COLORS) else None
        axes.scatter(true, audit.scales.estimated[name], s=14, color=color, label=label)
    if len(audit.scales.true) <= len(_COLORS):
        axes.legend(frameon=False)


def _draw_images(figure: Any, shown: list[Inverted]) -> None:
    columns = min(_SHOWN, max(len(each.true) for each in shown))
    grid = figure.subplots(2 * len(shown), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, each in enumerate(shown):
        low, high = float(each.true.min()), float(each.true.max())
        for column in range(min(columns, len(each.true))):
            for below, images in enumerate((each.true, each.found)):
                axes = grid[2 * row + below, column]
                axes.imshow(_pixels(images[column], low, high), cmap="gray", vmin=0, vmax=1)
        word = "sample" if each.samples == 1 else "samples"
        title = f"{each.samples} {word} in the sum; below: reconstructed"
        grid[2 * row, 0].set_title(title, fontsize=8, loc="left")


def _pixels(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return (height, width) or (height, width, 3), 0 to 1."""
    values = np.clip((image - low) / ((high - low) or 1.0), 0, 1)
    return np.asarray(values.transpose(1, 2, 0) if len(values) == 3 else values[0])


def _axes(figure: Any, across: str, up: str) -> Any:
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return axes


def _svg(draw: Draw, size: tuple[float, float]) -> str:
    import io

    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "audit", "font.size": 10}
    with rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        canvas = FigureCanvasSVG(figure)
        draw(figure)
        buffer = io.StringIO()
        canvas.print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()
