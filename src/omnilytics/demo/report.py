"""`report.json` and `report.html` of a demo run; the page is one file without scripts."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from omnilytics.demo.result import DemoResult
from omnilytics.foundation.errors import ConfigError

PROTECTED, PLAIN, QUIET = "#1f6f8b", "#c8553d", "#8a8f98"
ETHER = 10**18


def write_reports(result: DemoResult, folder: Path) -> list[Path]:
    """Write both reports into `folder` and return their paths; raises ConfigError if it cannot."""
    pages = {
        "report.html": render_html(result),
        "report.json": json.dumps(result.as_dict(), indent=2) + "\n",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in pages.items():
            (folder / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "cannot write the reports",
            got=error.strerror,
            hint="name a writable folder with --output",
            folder=folder,
        ) from None
    return [folder / name for name in pages]


def render_html(result: DemoResult) -> str:
    """Return the report as one self-contained HTML page."""
    environment = Environment(
        loader=PackageLoader("omnilytics.demo", "templates"),
        autoescape=select_autoescape(default=True),
    )
    environment.filters["ether"] = lambda wei: f"{wei / ETHER:.6f}"
    environment.filters["grouped"] = lambda number: f"{number:,}"
    rejected_rounds = {
        owner: sum(owner in report.rejected for report in result.settled)
        for owner in result.rejected
    }
    return environment.get_template("report.html").render(
        result=result,
        values=result.as_dict(),
        rejected_rounds=rejected_rounds,
        accuracy_plot=_accuracy_plot(result),
        gas_plot=_bars(_round_gas(result), "gas", PROTECTED),
        seconds_plot=_bars(result.seconds, "seconds", PROTECTED),
        bytes_plot=_bars(
            {phase: count / 1e6 for phase, count in result.bytes.items()}, "megabytes", PROTECTED
        ),
    )


def _round_gas(result: DemoResult) -> dict[str, int]:
    return {
        name: result.gas[name] for name in ("open_round", "seal", "settle") if name in result.gas
    }


def _accuracy_plot(result: DemoResult) -> Markup:
    rounds = range(1, len(result.rounds) + 1)

    def draw(axes: Any) -> None:
        axes.plot(rounds, result.plain_accuracies, color=PLAIN, linewidth=6, alpha=0.45)
        axes.plot(
            rounds, [report.accuracy for report in result.rounds], color=PROTECTED, linewidth=1.8
        )
        axes.legend(["without protection", "through the market"], frameon=False, loc="lower right")
        axes.set_xlabel("round")
        axes.set_ylabel("test accuracy")
        axes.set_ylim(0, 1)

    return _svg(draw, height=3.2)


def _bars(values: Mapping[str, float], unit: str, color: str) -> Markup:
    names = list(values)[::-1]

    def draw(axes: Any) -> None:
        bars = axes.barh(names, [values[name] for name in names], color=color, height=0.62)
        labels = [
            f"{values[name]:,.0f}" if unit == "gas" else f"{values[name]:,.2f}" for name in names
        ]
        axes.bar_label(bars, labels=labels, padding=4, fontsize=9, color=QUIET)
        axes.set_xlabel(unit)
        axes.margins(x=0.16)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)

    return _svg(draw, height=0.7 + 0.34 * len(names))


def _svg(draw: Callable[[Any], None], *, height: float) -> Markup:
    """Return a plot as inline SVG; its text stays text."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "font.size": 10, "font.family": "sans-serif"}
    with rc_context(settings):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        buffer = io.StringIO()
        canvas.print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    # The figure's own numbers and names are all that is in it: nothing from a peer.
    return Markup(buffer.getvalue()[buffer.getvalue().index("<svg") :])  # noqa: S704
