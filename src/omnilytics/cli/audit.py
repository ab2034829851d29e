"""`omnilytics audit model`: attack one's own model as each party could, before owners do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnilytics.cli.options import Json, grouped
from omnilytics.cli.output import narrate, print_json, reported_errors
from omnilytics.cli.sources import SourceOptions, read_samples

if TYPE_CHECKING:
    from omnilytics.learning.audit.subject import Subject

application = typer.Typer(
    help="Attack your own model and data, and see what each party learns.",
    no_args_is_help=True,
    add_completion=False,
)

_DEFAULT = "digits"


@application.command()
@grouped
def model(
    source: SourceOptions,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODULE:FUNCTION",
            help="Your own code, from the current folder; makes the network. Default: the digits "
            "preset with its data.",
        ),
    ] = None,
    loss: Annotated[
        str, typer.Option("--loss", help="cross_entropy, mse or binary_cross_entropy.")
    ] = "cross_entropy",
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="Of Adam, for those rounds.", min=0.0)
    ] = 1e-2,
    rounds: Annotated[
        int,
        typer.Option("--rounds", help="Train so many steps before attacks on a trained model."),
    ] = 40,
    steps: Annotated[int, typer.Option("--steps", help="Of each gradient inversion.", min=1)] = 300,
    seed: Annotated[
        int, typer.Option("--seed", help="Fixes everything random; public, never a secret.", min=0)
    ] = 1,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the plots (SVG).")
    ] = Path("omnilytics-audit"),
    json: Json = False,
) -> None:
    """Attack a model under every profile, as data owners, servers and its owner could.

    Nothing is sent anywhere. Figures are what these attacks reach, hence lower bounds.
    """
    with reported_errors(as_json=json):
        from omnilytics.cli.audit_view import print_audit
        from omnilytics.learning.audit.plots import write_plots
        from omnilytics.learning.audit.run import run_audit
        from omnilytics.learning.audit.subject import preset_subject
        from omnilytics.learning.threads import pin_threads

        pin_threads()
        if model is None and source == SourceOptions():
            subject = preset_subject(_DEFAULT, seed=seed)
            narrate(f"no --model: the {_DEFAULT} preset")
        else:
            subject = _own(model, source, loss, seed)
        subject = replace(subject, learning_rate=learning_rate)
        audit = run_audit(
            subject, rounds=rounds, steps=steps, told=lambda name: narrate(f"- {name}")
        )
        paths = write_plots(audit, output)
        if json:
            print_json(audit.as_dict())
        else:
            print_audit(audit)
        for path in paths:
            narrate(f"wrote {path}")


def _own(reference: str | None, source: SourceOptions, loss: str, seed: int) -> Subject:
    """Return the user's network and data."""
    from omnilytics.cli.training import Training
    from omnilytics.foundation.errors import UsageError
    from omnilytics.learning.audit.subject import own_subject
    from omnilytics.perturbation.losses import read_loss

    if reference is None:
        raise UsageError("data without a model", want="--model MODULE:FUNCTION, or neither")
    chosen = read_loss(loss)
    network = Training(model=reference, optimiser="adam", learning_rate=0.0).make_model()
    return own_subject(network, read_samples(source), loss=chosen, seed=seed)
