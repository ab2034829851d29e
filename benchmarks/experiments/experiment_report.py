"""What the runs say, as a Markdown table and as plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from experiment_attacks import Attack, Mode, modes_of
from experiment_settings import MODELS, PERCENTAGES

Row = dict[str, Any]

LAST_ROUNDS = 5
"""A final accuracy is the mean over so many last rounds, and over seeds."""
_STYLES = {
    Mode.UNVALIDATED: {"color": "tab:red"},
    Mode.FORGED: {"color": "tab:blue"},
    Mode.WITHIN: {"color": "tab:green", "linestyle": "--"},  # often on the first
}


def table(rows: Sequence[Row]) -> str:
    """Return final accuracies as Markdown, a line for every network, attack and percentage."""
    headings = [
        *("network", "D", "attack", "malicious"),
        *(mode.value for mode in Mode),
        *("forged ones rejected", "honest ones rejected"),
    ]
    lines = []
    for model in MODELS:
        found = [row for row in rows if row["model"] == model]
        for attack, percentage in _cases():
            case = [
                row for row in found if (row["attack"], row["percentage"]) == (attack, percentage)
            ]
            if case:
                lines.append(
                    (
                        model,
                        f"{case[0]['dimension']:,}",
                        attack,
                        f"{percentage}%",
                        *_cells(attack, case),
                    )
                )
    return markdown(headings, lines)


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_section(document: str, name: str, text: str) -> str:
    """Return a document with `text` between the markers of a name, in place of what was there."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = document.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def final_accuracy(rows: Sequence[Row]) -> float:
    """Return the mean accuracy of the last rounds of all these runs."""
    return float(mean(mean(row["accuracies"][-LAST_ROUNDS:]) for row in rows))


def plot(rows: Sequence[Row], model: str, path: Path) -> None:
    """Draw accuracy over rounds, a panel for every attack and percentage, means over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = [row for row in rows if row["model"] == model]
    attacks = tuple(Attack)[1:]
    shown = [each for each in PERCENTAGES if any(row["percentage"] == each for row in found)]
    figure, grid = pyplot.subplots(
        len(shown),
        len(attacks),
        figsize=(11, 2.4 * len(shown) + 0.8),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for percentage, panels in zip(shown, grid, strict=True):
        for attack, panel in zip(attacks, panels, strict=True):
            panel.set_title(f"{attack}, {percentage}%", fontsize=9)
            panel.set_ylim(0, 1)
            honest = _curve(found, Attack.NONE, 0, Mode.WITHIN)
            panel.plot(range(1, 1 + len(honest)), honest, color="0.7", label="all honest")
            for mode in modes_of(attack):
                curve = _curve(found, attack, percentage, mode)
                panel.plot(range(1, 1 + len(curve)), curve, label=mode.value, **_STYLES[mode])
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, fontsize=9, frameon=False)
    figure.supxlabel("round", fontsize=9, y=0.06)
    figure.supylabel("test accuracy", fontsize=9)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _cases() -> list[tuple[str, int]]:
    attacks = tuple(Attack)[1:]
    return [("none", 0), *((attack.value, each) for attack in attacks for each in PERCENTAGES)]


def _cells(attack: str, case: Sequence[Row]) -> list[str]:
    cells = []
    for mode in Mode:
        rows = [row for row in case if row["mode"] == mode]
        cells.append(f"{final_accuracy(rows):.3f}" if rows else "")
    forged: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    for row in case:
        verdicts.update(row["verdicts"])
        if row["mode"] == Mode.FORGED:
            forged.update(row["verdicts"])
    return [*cells, _share(forged, "malicious"), _share(verdicts, "honest")]


def _share(verdicts: Counter[str], who: str) -> str:
    rejected, accepted = verdicts[f"{who} rejected"], verdicts[f"{who} accepted"]
    return f"{rejected:,} of {rejected + accepted:,}" if rejected + accepted else ""


def _curve(rows: Sequence[Row], attack: Attack, percentage: int, mode: Mode) -> list[float]:
    """Return the mean over seeds of each round's accuracy; nothing where there is no run."""
    wanted = (attack, percentage, mode)
    curves = [
        row["accuracies"]
        for row in rows
        if (row["attack"], row["percentage"], row["mode"]) == wanted
    ]
    return [mean(values) for values in zip(*curves, strict=True)]
