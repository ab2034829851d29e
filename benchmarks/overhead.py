"""What protection costs beside federated SGD in the clear, phase by phase.

Run it from the repository with `.venv/bin/python benchmarks/overhead.py` (two minutes); `--write`
puts the tables into docs/experiments.md. Every phase runs the functions that the parties run, on
one network's real gradients; phases run in turn, and medians of processor time are shown. Traffic
between them, messages and waiting for blocks are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from omnilytics.algebra import kernels
from omnilytics.benchmark.gas import _Scenario as Scenario
from omnilytics.chain.embedded import EmbeddedChain
from omnilytics.demo.result import machine
from omnilytics.foundation.units import Hash32
from omnilytics.learning.threads import pin_threads

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "benchmarks" / part) for part in ("experiments", "baselines")]

from experiment_report import markdown, with_section  # noqa: E402
from experiment_round import COMMITTEE  # noqa: E402

from overhead_parties import Parties  # noqa: E402

DOCUMENT = ROOT / "docs" / "experiments.md"
RESULTS = ROOT / "docs" / "experiments"
MODELS = ("lenet", "resnet20")
TARGET = 0.10
"""Of its own gradient's time is what an owner's protection may take."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(arguments)
    pin_threads(options.threads)
    kernels.warm_up()
    chain = chain_seconds()
    found: dict[str, Any] = {"machine": machine(), "batch": options.batch, "owners": options.owners}
    found |= {"threads": options.threads, "chain": chain, "models": {}}
    texts = [f"{machine()}; {options.threads} thread(s); batch {options.batch}"]
    for model in options.model or MODELS:
        parties = Parties.of(model, samples=options.batch, owners=options.owners)
        seconds = measure(parties, options.repeats) | chain
        found["models"][model] = {"dimension": parties.layout.length, "seconds": seconds}
        texts.append(table(parties, seconds, options.owners))
    text = "\n\n".join(texts)
    print(json.dumps(found, indent=2) if options.json else text)
    if options.write:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "overhead.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        written = with_section(DOCUMENT.read_text(encoding="utf-8"), "overhead", text)
        DOCUMENT.write_text(written, encoding="utf-8")


def measure(parties: Parties, repeats: int) -> dict[str, float]:
    """Return the median processor time of every phase, all phases run in turn."""
    phases = parties.phases()
    found: dict[str, list[float]] = {name: [] for name in phases}
    for turn in range(1 + repeats):  # the first is not counted
        for name, phase in phases.items():
            seconds = _seconds(phase.run)
            if turn:
                found[name].append(seconds / phase.times)
    return {name: median(values) for name, values in found.items()}


def chain_seconds() -> dict[str, float]:
    """Return the processor time of a round's three calls on the embedded chain, second round."""
    chain = _TimedChain()
    rows = Scenario(chain, COMMITTEE, 10).run()
    calls = {row.gas: row.call for row in rows if row.round == 2}
    used = {calls[gas]: seconds for gas, seconds in chain.seconds.items() if gas in calls}
    return {f"chain: {call}": used[call] for call in ("open_round", "seal", "settle")}


def table(parties: Parties, seconds: dict[str, float], owners: int) -> str:
    """Return phases and parties of a round, in the clear and protected, as Markdown."""
    gradient = seconds["owner: gradient in the clear"]
    rows = [
        (name, f"{1e3 * value:.2f}", f"{value / gradient:.1%}") for name, value in seconds.items()
    ]
    phases = markdown(("phase", "ms", "of the plain gradient"), rows)
    own = seconds["owner: gradient of the published model"]
    share = seconds["owner: protect, for five servers"] / own
    clear, protected = _parties(seconds, owners)
    lines = [
        (
            name,
            f"{1e3 * clear[name]:.1f}",
            f"{1e3 * protected[name]:.1f}",
            f"{protected[name] / clear[name]:.2f}" if clear[name] else "",
        )
        for name in protected
    ]
    headings = ("a whole round", "in the clear, ms", "protected, ms", "times")
    verdict = "within" if share <= TARGET else "above"
    return (
        f"### {parties.name}, D = {parties.layout.length:,}, {owners} owners\n\n{phases}\n\n"
        f"The owner's protection is {share:.1%} of its own gradient, {verdict} the target of "
        f"{TARGET:.0%}.\n\n{markdown(headings, lines)}"
    )


def _parties(seconds: dict[str, float], owners: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return each party's time of a round, in the clear and protected."""
    server = owners * seconds["server: open, check, word, an owner"]
    server += owners * seconds["server: aggregate, an owner"]
    chain = sum(value for name, value in seconds.items() if name.startswith("chain"))
    clear = {
        "an owner": seconds["owner: gradient in the clear"],
        "a server": owners * seconds["server in the clear: add, an owner"],
        "the model owner": seconds["model owner: step in the clear"],
        "the chain's calls": 0.0,
    }
    names = ("perturb and encode", "recover", "step")
    protected = {
        "an owner": sum(
            seconds[f"owner: {name}"]
            for name in ("decode the model", "gradient of the published model")
        )
        + seconds["owner: protect, for five servers"],
        "a server": server,
        "the model owner": sum(seconds[f"model owner: {name}"] for name in names),
        "the chain's calls": chain,
    }
    for found, servers in ((clear, 1), (protected, COMMITTEE.servers)):
        found["all parties together"] = (
            owners * found["an owner"]
            + servers * found["a server"]
            + found["the model owner"]
            + found["the chain's calls"]
        )
    return clear, protected


class _TimedChain(EmbeddedChain):
    """Keeps the processor time of every transaction by the gas it used."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[int, float] = {}

    def send(self, transaction: bytes) -> Hash32:
        """Execute a transaction."""
        start = time.process_time()
        found = super().send(transaction)
        spent = time.process_time() - start
        receipt = self.receipt(found)
        assert receipt is not None
        self.seconds[receipt.gas_used] = spent
        return found


def _seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--model", action="append", choices=MODELS, help="both by default")
    parser.add_argument("--batch", type=int, default=256, help="samples of an owner")
    parser.add_argument("--owners", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=9, help="of every phase")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
