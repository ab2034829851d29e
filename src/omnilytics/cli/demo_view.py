"""What the demo shows while it runs and at its end."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from omnilytics.demo.options import DemoOptions
from omnilytics.demo.result import DemoResult, RoundReport

ETHER = 10**18
WIDTH_WITHOUT_TERMINAL = 120
LINES_WITHOUT_TERMINAL = 8
"""How many progress lines a run prints where no live view is possible."""
ROUNDS_SHOWN = 8
"""How many rounds the summary compares with the plain run."""


class DemoView:
    """A live progress view on stderr; a few plain lines where stderr is no terminal."""

    def __init__(self, options: DemoOptions) -> None:
        self._options = options
        self._console = Console(stderr=True, highlight=False)
        if not self._console.is_terminal:
            self._console.width = WIDTH_WITHOUT_TERMINAL
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[status]}"),
            console=self._console,
        )
        self._rounds = self._progress.add_task(
            "rounds", total=options.rounds, status="", visible=False
        )

    def __enter__(self) -> Self:
        committee = self._options.committee
        self._console.print(
            f"OmniLytics demo: {self._options.dataset} with a {self._options.model}, "
            f"{self._options.owners} data owners (3 cheat), {committee.servers} servers "
            f"(any {committee.privacy} learn nothing, {committee.errors} may lie), "
            f"chain: {self._options.chain_url or 'embedded'}"
        )
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def stage(self, text: str) -> None:
        """Print what begins."""
        self._console.print(f"- {text}")

    def round_done(self, report: RoundReport) -> None:
        """Move the bar; without a terminal print a line now and then."""
        named = ", ".join(report.named_servers)
        status = (
            f"accuracy {report.accuracy:.3f} (plain {report.plain_accuracy:.3f}), "
            f"accepted {len(report.accepted)}, "
            f"rejected {len(report.rejected)}{', named ' + named if named else ''}, "
            f"{report.round_gas:,} gas"
        )
        if not report.settled:
            status = "did not settle: voided, escrow kept for the model owner"
        self._progress.update(self._rounds, advance=1, status=status, visible=True)
        every = max(1, self._options.rounds // LINES_WITHOUT_TERMINAL)
        if not self._console.is_terminal and (report.round % every == 0 or report.round == 1):
            self._console.print(f"  round {report.round}: {status}")


def print_summary(result: DemoResult) -> None:
    """Print the outcome on stdout."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    _print_training(console, result)
    _print_verdicts(console, result)
    _print_balances(console, result)
    _print_costs(console, result)


def _print_training(console: Console, result: DemoResult) -> None:
    accuracy = result.rounds[-1].accuracy
    plain = result.plain_accuracies[-1]
    exact = all(report.exact_sum for report in result.settled)
    every = -(-len(result.rounds) // ROUNDS_SHOWN)
    shown = [report for report in result.rounds if report.round % every == 0]
    console.print()
    console.print(
        f"[bold]Training[/bold]: {len(result.settled)} of {len(result.rounds)} rounds settled"
    )
    console.print(f"  test accuracy through the market      {accuracy:.4f}")
    console.print(f"  the same training without protection  {plain:.4f}")
    console.print(f"  after round     {_columns(str(report.round) for report in shown)}")
    console.print(f"    the market    {_columns(f'{report.accuracy:.3f}' for report in shown)}")
    console.print(
        f"    unprotected   {_columns(f'{report.plain_accuracy:.3f}' for report in shown)}"
    )
    console.print(
        f"  decoded sums equal the accepted owners' integers exactly: {'yes' if exact else 'NO'}"
    )


def _columns(entries: Iterable[str]) -> str:
    return "".join(f"{entry:>8}" for entry in entries)


def _print_verdicts(console: Console, result: DemoResult) -> None:
    console.print()
    console.print("[bold]Verdicts[/bold]")
    console.print(f"  accepted in every round: {', '.join(result.accepted) or 'nobody'}")
    for owner, reason in result.rejected.items():
        rounds = sum(owner in report.rejected for report in result.settled)
        console.print(f"  rejected in {rounds} of {len(result.settled)} rounds: {owner}: {reason}")
    for server, reason in result.named_servers.items():
        console.print(f"  named: {server}: {reason}")
    for slash in result.slashes:
        console.print(
            f"  slashed in round {slash.round}: {slash.party}, at fault as {slash.kind}, lost "
            f"{_ether(slash.amount_wei)} ether; {slash.reporter} reported it for "
            f"{_ether(slash.share_wei)}"
        )
    for owner, (rounds, reason) in result.refused.items():
        console.print(f"  not admitted in {rounds} rounds: {owner}: {reason}")
    how = f"drawn from {len(result.committee) + result.options.spare_servers} that offered"
    if result.options.committee_mode == "named":
        how = "named by the model owner, with their consent"
    console.print(f"  committee ({how}): {', '.join(result.committee)}")


def _print_balances(console: Console, result: DemoResult) -> None:
    table = Table(title="Balances in ether", title_justify="left", title_style="bold")
    for heading in ("party", "does"):
        table.add_column(heading)
    for heading in ("before", "earned", "gas", "after", "adds up"):
        table.add_column(heading, justify="right")
    for balance in result.balances:
        table.add_row(
            balance.party,
            balance.note,
            _ether(balance.before_wei),
            _ether(balance.earned_wei),
            _ether(balance.gas_wei),
            _ether(balance.after_wei),
            "to the wei" if balance.adds_up else "NO",
        )
    console.print()
    console.print(table)
    console.print(
        f"  burnt: {_ether(result.burnt_wei)}; the market keeps {result.contract_wei} wei; "
        f"all together add up to the wei: {'yes' if result.books_close else 'NO'}"
    )


def _print_costs(console: Console, result: DemoResult) -> None:
    console.print()
    console.print(
        f"[bold]Gas[/bold]: a round costs {result.gas_per_round:,} "
        f"(open, seal, settle; median from the second round), whatever the model and the owners"
    )
    for name, gas in result.gas.items():
        console.print(f"  {name:<18}{gas:>10,}")
    console.print("[bold]Seconds[/bold] (all parties share this machine)")
    for phase, seconds in result.seconds.items():
        console.print(f"  {phase:<18}{seconds:>10.2f}")
    console.print(f"  {'all':<18}{result.total_seconds:>10.2f}")
    console.print("[bold]Bytes over HTTP[/bold]")
    for phase, count in result.bytes.items():
        console.print(f"  {phase:<18}{count:>14,}")


def _ether(wei: int) -> str:
    return f"{wei / ETHER:.6f}"
