"""The options of `omnilytics task publish` that make up a task's terms."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnilytics.cli.options import OptionGroup

if TYPE_CHECKING:
    from omnilytics.client.buyer import Draft


@dataclass(frozen=True, kw_only=True)
class TermsOptions(OptionGroup):
    """What is offered; what is not given has the Python API's default (`client.terms`)."""

    name: Annotated[
        str | None, typer.Option("--name", help="Under which it is kept here, to be taken up.")
    ] = None
    title: Annotated[str | None, typer.Option("--title", help="For owners to read.")] = None
    description: Annotated[str | None, typer.Option("--description", help="Likewise.")] = None
    preprocessing: Annotated[
        str | None, typer.Option("--preprocessing", help="How owners prepare their data, in words.")
    ] = None
    contact: Annotated[str | None, typer.Option("--contact", help="How owners reach you.")] = None
    model_licence: Annotated[
        str | None, typer.Option("--licence", help="What may be done with the model.")
    ] = None
    input_kind: Annotated[
        str | None, typer.Option("--input-kind", help="What the module reads: numbers or tokens.")
    ] = None
    loss: Annotated[
        str | None, typer.Option("--loss", help="cross_entropy, mse or binary_cross_entropy.")
    ] = None
    profile: Annotated[
        str | None, typer.Option("--profile", help="How it is perturbed: gauge, scales or noise.")
    ] = None
    magnitude_bits: Annotated[
        int | None,
        typer.Option("--magnitude-bits", help="With scales: 2^-k to 2^k.", min=1, max=8),
    ] = None
    noise_groups: Annotated[
        int | None, typer.Option("--noise-groups", help="With noise.", min=1, max=4)
    ] = None
    noise_scale: Annotated[
        float | None,
        typer.Option("--noise-scale", help="With noise: one owner's harm grows with its square."),
    ] = None
    committee: Annotated[
        list[str] | None,
        typer.Option("--server", metavar="ADDRESS", help="One server; to be repeated, in order."),
    ] = None
    servers: Annotated[
        int | None, typer.Option("--drawn", help="Have the chain draw so many servers.", min=3)
    ] = None
    privacy: Annotated[
        int | None, typer.Option("--privacy", help="t: so many servers together learn nothing.")
    ] = None
    errors: Annotated[
        int | None, typer.Option("--errors", help="e: so many servers may lie or be down.")
    ] = None
    rounds: Annotated[int | None, typer.Option("--rounds", help="Rounds that are paid for.")] = None
    max_rounds: Annotated[
        int | None, typer.Option("--max-rounds", help="Up to so many may be paid for later.")
    ] = None
    min_owners: Annotated[
        int | None, typer.Option("--min-owners", help="A sum over fewer is never released.")
    ] = None
    max_owners: Annotated[
        int | None, typer.Option("--max-owners", help="No more are paid in a round.")
    ] = None
    owners: Annotated[
        list[str] | None,
        typer.Option("--owner", metavar="ADDRESS", help="Admit only these; to be repeated."),
    ] = None
    reward: Annotated[str | None, typer.Option("--reward", help="For each accepted gradient.")] = (
        None
    )
    fee: Annotated[str | None, typer.Option("--fee", help="For each server and settled round.")] = (
        None
    )
    opening_fee: Annotated[
        str | None, typer.Option("--opening-fee", help="For the committee, by opened round.")
    ] = None
    stake: Annotated[
        str | None, typer.Option("--stake", help="What each server must have at stake.")
    ] = None
    bond: Annotated[
        str | None, typer.Option("--bond", help="What each owner must have as a bond.")
    ] = None
    windows: Annotated[str | None, typer.Option("--windows", help="standard or quick.")] = None
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration", help="Scales from a simulated training, or from the first weights."
        ),
    ] = None
    scales: Annotated[
        Path | None,
        typer.Option(
            "--scales",
            metavar="FILE",
            help="Scales and fractional bits, as `task calibrate --json` prints them.",
        ),
    ] = None
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Samples an owner uses in a round.", min=1)
    ] = None

    def given(self) -> Any:
        """Return the terms that were given, as keyword arguments of the Python API.

        Raises:
            UsageError: Servers are both named and drawn, or neither; scales of another profile.
            ConfigError: The file of scales is none.
        """
        from omnilytics.cli.account import parse_address
        from omnilytics.cli.task_calibrate import read_scales
        from omnilytics.foundation.errors import UsageError

        if bool(self.committee) == bool(self.servers):
            raise UsageError("give either --server ADDRESS, several times, or --drawn N")
        for address in [*(self.committee or ()), *(self.owners or ())]:
            parse_address(address)
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.servers:
            values["committee"] = "drawn"
        if self.scales is not None and self.profile not in (None, "gauge"):
            raise UsageError(
                "the file's scales are of the profile gauge",
                got=f"--profile {self.profile}",
                hint="without --scales they are measured under the profile's own secrets",
            )
        if self.scales is not None:
            values |= read_scales(self.scales)
        return {name: value for name, value in values.items() if value not in (None, [])}

    def cost_lines(self, draft: Draft) -> list[str]:
        """Return what a task costs in all and how money comes back, before anything is sent."""
        from omnilytics.foundation.amounts import show_wei

        task = draft.specification
        rate = draft.clipping_rate
        return [
            f'"{task.title}": {task.dimension:,} parameters; {task.servers} servers '
            f"({task.committee_mode}), any {task.privacy} learn nothing, {task.errors} may fail",
            f"a round costs at most {task.max_owners} x {show_wei(task.reward_wei)} for owners, "
            f"{task.servers} x {show_wei(task.fee_wei)} for servers, "
            f"{show_wei(task.opening_fee_wei)} for opening it",
            f"in all {task.rounds} rounds: {show_wei(draft.escrow_wei)} of escrow"
            + ("; published already, nothing is paid again" if draft.task else ""),
            *([] if rate is None else [f"{rate:.1%} of honest gradients will be shortened"]),
        ]
