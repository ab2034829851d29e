"""`omnilytics model check`: whether a network can be carried, and what a secret hides of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnilytics.cli.options import Json
from omnilytics.cli.output import narrate, print_json, reported_errors

if TYPE_CHECKING:
    from omnilytics.learning.model_report import GroupReport, ModelReport, NodeReport

application = typer.Typer(
    help="Your own network: can it be carried, and what is hidden of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with values would show keys
)

SHOWN_GROUPS = 4
"""Groups of a node that a table shows; with --json all are there."""


@application.callback()
def _model() -> None:
    pass


@application.command()
def check(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION", help="Your own code, from the current folder; a network."
        ),
    ],
    shape: Annotated[
        str,
        typer.Option("--input", metavar="SHAPE", help="Of one sample, such as 30 or 1,28,28."),
    ],
    tokens: Annotated[
        bool, typer.Option("--tokens", help="The input is tokens; SHAPE is how many.")
    ] = False,
    json: Json = False,
) -> None:
    """Trace a network, tell what of it every round hides, and try one secret on it.

    A network that cannot be carried is refused by node and operation, with what to change.
    """
    with reported_errors(as_json=json):
        from omnilytics.cli.training import Training
        from omnilytics.learning.model_report import report_model
        from omnilytics.perturbation.graph import InputKind

        sizes = _read_shape(shape)
        module = Training(model=model, optimiser="adam", learning_rate=1.0).make_model()
        kind = InputKind.TOKENS if tokens else InputKind.NUMBERS
        report = report_model(module, sizes, input_kind=kind)
        if json:
            print_json(_fields(report))
        else:
            _print(report)
        if not (report.secret_bits or report.secret_angles):
            narrate("nothing is hidden: every group is pinned")


def _read_shape(text: str) -> tuple[int, ...]:
    from omnilytics.foundation.errors import UsageError

    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise UsageError("not a shape", got=text[:60], want="sizes such as 30 or 1,28,28")
    return tuple(map(int, parts))


def _fields(report: ModelReport) -> dict[str, Any]:
    from omnilytics.learning.model_report import REMARK

    return {
        "input": {"kind": str(report.graph.input_kind), "shape": list(report.graph.input_shape)},
        "parameters": report.graph.parameter_count,
        "multiply_adds": report.graph.multiply_adds,
        "nodes": [_node_fields(node) for node in report.nodes],
        "groups": [_group_fields(group) for group in report.groups],
        "secret_bits": report.secret_bits,
        "secret_angles": report.secret_angles,
        "remark": REMARK,
        "output_error": report.output_error,
        "gradient_error": report.gradient_error,
        "statistics_error": report.statistics_error,
    }


def _node_fields(node: NodeReport) -> dict[str, Any]:
    return {
        "name": node.name,
        "operation": node.operation,
        "shape": list(node.shape),
        "parameters": node.parameters,
        "frozen": node.frozen,
        "groups": list(node.groups),
    }


def _group_fields(group: GroupReport) -> dict[str, Any]:
    return {
        "label": group.label,
        "channels": group.channels,
        "hidden": group.hidden,
        "why": group.why or None,
        "bits": group.bits,
        "angles": group.angles,
    }


def _print(report: ModelReport) -> None:
    from omnilytics.learning.model_report import REMARK

    typer.echo(f"{'node':<28} {'operation':<20} {'output':<16} {'parameters':>11}  groups")
    for node in report.nodes:
        shape = " x ".join(map(str, node.shape))
        count = f"{node.parameters:,}" if node.parameters or not node.frozen else "frozen"
        more = len(node.groups) - SHOWN_GROUPS
        groups = " ".join(node.groups[:SHOWN_GROUPS]) + (f" and {more} more" if more > 0 else "")
        typer.echo(f"{node.name:<28} {node.operation:<20} {shape:<16} {count:>11}  {groups}")
    typer.echo("")
    typer.echo(f"{'group':<6} {'channels':>8}  {'hidden':<34} pinned or restricted by")
    for group in report.groups:
        hidden = group.hidden or "nothing"
        typer.echo(f"{group.label:<6} {group.channels:>8}  {hidden:<34} {group.why}")
    typer.echo("")
    typer.echo(f"parameters that are trained: {report.graph.parameter_count:,}")
    angles = f" and {report.secret_angles:,} angles" if report.secret_angles else ""
    typer.echo(f"secret: {report.secret_bits:,.0f} bits{angles} ({REMARK})")
    tried = f"outputs off by {report.output_error:.1e}, gradient by {report.gradient_error:.1e}"
    if report.graph.statistics:
        tried += f", running statistics by {report.statistics_error:.1e}"
    typer.echo(f"one secret was tried and undone: {tried} (relative, in float64)")
