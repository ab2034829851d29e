"""Gas of a market that has everything on chain, measured at small D, fitted, and beside ours.

Run it from the repository with `.venv/bin/python benchmarks/baselines/onchain.py` (two minutes);
`--write` puts the tables into docs/experiments.md and the plot beside it. What is measured and what
is extrapolated by the fit stands in every table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from fitting import Fit, fit
from onchain_market import LANES, Cost, measure_round

from omnilytics.benchmark.gas import gas
from omnilytics.demo.result import machine

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "experiments"))

from experiment_report import markdown, with_section  # noqa: E402

DOCUMENT = ROOT / "docs" / "experiments.md"
RESULTS = ROOT / "docs" / "experiments"
DIMENSIONS = (64, 128, 256, 512, 1_024)
OWNERS = (2, 4, 5, 8)
COMPARED_OWNERS = (4, 5)
MODELS = {"MLP": 7_450, "LeNet": 61_706, "ResNet-20": 272_474}
"""Parameters of the papers' networks."""
PAPERS_COMPONENTS = 3
"""Components of the papers' encoding; ours has one by default."""
CITED = {("MLP", 4): 2.60, ("MLP", 5): 3.30, ("LeNet", 4): 21.6, ("LeNet", 5): 27.3}
CITED |= {("ResNet-20", 4): 95.0, ("ResNet-20", 5): 121.0}
"""The papers' own figures for everything on chain, in 10^9 gas."""
BLOCK_GAS = 30_000_000
BLOCK_SECONDS = 12
_ROUND = ("open_round", "seal", "settle")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, fit, extrapolate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    options = parser.parse_args(arguments)
    costs = [
        measure_round(dimension, owners, lanes)
        for lanes in LANES
        for dimension in DIMENSIONS
        for owners in OWNERS
    ]
    fits = {lanes: fit(points(costs, lanes)) for lanes in LANES}
    ours = our_gas()
    tables = (measured_table(costs, fits), fits_table(fits), models_table(fits, ours))
    text = "\n\n".join((machine(), *tables))
    found = {
        "machine": machine(),
        "measured": [asdict(cost) for cost in costs],
        "fits": {lanes: asdict(found) for lanes, found in fits.items()},
        "ours": ours,
    }
    print(json.dumps(found, indent=2) if options.json else text)
    if options.write:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "onchain.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        plot(costs, fits, ours, RESULTS / "onchain.png")
        written = with_section(DOCUMENT.read_text(encoding="utf-8"), "onchain", text)
        DOCUMENT.write_text(written, encoding="utf-8")


def points(costs: Iterable[Cost], lanes: int) -> list[tuple[int, int, float]]:
    """Return (D, owners, gas) of a layout."""
    return [(cost.dimension, cost.owners, cost.gas) for cost in costs if cost.lanes == lanes]


def our_gas() -> dict[int, int]:
    """Return what our second round costs, committee (5,1,1), by number of owners."""
    rows = gas(servers=[5], owners=COMPARED_OWNERS)
    return {
        owners: sum(
            row["gas"]
            for row in rows
            if row["owners"] == owners and row["round"] == 2 and row["call"] in _ROUND
        )
        for owners in COMPARED_OWNERS
    }


def measured_table(costs: Sequence[Cost], fits: dict[int, Fit]) -> str:
    """Return what was measured with 4 owners, and how far the fit is off there."""
    headings = ("D (measured)", "owners", "entries a word", "transactions", "gas")
    headings_more = ("dearest transaction", "gas an entry and owner", "the fit is off by", "CPU s")
    rows = (
        (
            f"{cost.dimension:,}",
            str(cost.owners),
            str(cost.lanes),
            str(cost.transactions),
            f"{cost.gas:,}",
            f"{cost.largest:,}",
            f"{cost.gas / cost.dimension / cost.owners:,.0f}",
            f"{fits[cost.lanes].at(cost.dimension, cost.owners) / cost.gas - 1:+.2%}",
            f"{cost.seconds:.2f}",
        )
        for cost in costs
        if cost.owners == COMPARED_OWNERS[0]
    )
    return markdown((*headings, *headings_more), rows)


def fits_table(fits: dict[int, Fit]) -> str:
    """Return the coefficients of both layouts."""
    headings = (
        "entries a word",
        "gas = a constant",
        "+ owners x",
        "+ D x",
        "+ D x owners x",
        "R^2",
    )
    rows = (
        (
            str(lanes),
            *(f"{coefficient:,.0f}" for coefficient in found.coefficients),
            f"{found.r_squared:.7f}",
        )
        for lanes, found in fits.items()
    )
    return markdown(headings, rows)


def models_table(fits: dict[int, Fit], ours: dict[int, int]) -> str:
    """Return what the fits say of the papers' networks, beside the papers and ours."""
    headings = ["network", "entries", "owners", "papers (cited)"]
    headings += ["1 entry a word (extrapolated)", "4 entries a word (extrapolated)"]
    headings += [f"hours of whole blocks, {BLOCK_GAS // 10**6}M gas a {BLOCK_SECONDS} s"]
    headings += ["ours (measured)", "ours is smaller by, at least"]
    rows = [
        _model_row(model, parameters, components, owners, fits, ours[owners])
        for model, parameters in MODELS.items()
        for components in (1, PAPERS_COMPONENTS)
        for owners in COMPARED_OWNERS
    ]
    return markdown(headings, rows)


def _model_row(
    model: str, parameters: int, components: int, owners: int, fits: dict[int, Fit], ours: int
) -> list[str]:
    entries = parameters * components
    found = [fits[lanes].at(entries, owners) for lanes in LANES]
    cited = CITED[model, owners] if components == PAPERS_COMPONENTS else None
    return [
        model,
        f"{parameters:,} x {components}",
        str(owners),
        f"{cited:.3g} G" if cited else "",
        *(f"{value / 1e9:.3g} G" for value in found),
        " to ".join(f"{value / BLOCK_GAS * BLOCK_SECONDS / 3600:.2g}" for value in reversed(found)),
        f"{ours:,}",
        f"{min(found) / ours:,.0f} times",
    ]


def plot(costs: Sequence[Cost], fits: dict[int, Fit], ours: dict[int, int], path: Path) -> None:
    """Draw measured points, the fits as far as ResNet-20, and our round."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    owners = COMPARED_OWNERS[0]
    figure, panel = pyplot.subplots(figsize=(7, 4))
    largest = MODELS["ResNet-20"] * PAPERS_COMPONENTS
    sizes = [int(size) for size in np.geomspace(DIMENSIONS[0], largest, 60)]
    for lanes, colour in zip(LANES, ("tab:red", "tab:orange"), strict=True):
        found = [cost for cost in costs if (cost.lanes, cost.owners) == (lanes, owners)]
        label = f"everything on chain, {lanes} a word"
        panel.plot(
            [cost.dimension for cost in found],
            [cost.gas for cost in found],
            "o",
            color=colour,
            label=f"{label}: measured",
        )
        curve = [fits[lanes].at(dimension, owners) for dimension in sizes]
        panel.plot(sizes, curve, "--", color=colour, label=f"{label}: fit")
    panel.axhline(ours[owners], color="tab:blue", label="OmniLytics: a round, any D (measured)")
    panel.set(xscale="log", yscale="log", xlabel="entries of a vector", ylabel="gas of a round")
    panel.set_title(f"{owners} owners", fontsize=10)
    panel.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
