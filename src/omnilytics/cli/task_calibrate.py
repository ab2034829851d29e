"""`omnilytics task calibrate`: scales and fractional bits for a task, from one's own sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnilytics.cli.options import Json, grouped
from omnilytics.cli.output import narrate, print_json, reported_errors
from omnilytics.cli.sources import SourceOptions, read_samples

if TYPE_CHECKING:
    from omnilytics.learning.calibration import Calibration
    from omnilytics.learning.precision import Forecast

FORMAT = "omnilytics/scales"
_SEED = 0


@grouped
def calibrate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION", help="Your own code, from the current folder; a network."
        ),
    ],
    source: SourceOptions,
    owners: Annotated[int, typer.Option("--owners", help="Expected in a round.", min=2)] = 10,
    max_owners: Annotated[
        int | None, typer.Option("--max-owners", help="Most in a round; default: --owners.", min=2)
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Samples an owner uses in a round.", min=1)
    ] = 32,
    rounds: Annotated[
        int, typer.Option("--rounds", help="Rounds of the simulated training.", min=1, max=1000)
    ] = 40,
    loss: Annotated[
        str, typer.Option("--loss", help="cross_entropy, mse or binary_cross_entropy.")
    ] = "cross_entropy",
    optimiser: Annotated[str, typer.Option("--optimiser", help="adam or sgd.")] = "adam",
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="Of the optimiser.", min=0.0)
    ] = 1e-2,
    json: Json = False,
) -> None:
    """Measure gradients in a training simulated on your sample; propose what a task publishes.

    Nothing is sent. `task publish --scales FILE` takes what `--json` prints.
    """
    with reported_errors(as_json=json):
        from omnilytics.cli.training import Training
        from omnilytics.client.buyer import MOST_SAMPLES
        from omnilytics.learning import calibration
        from omnilytics.learning.precision import forecast_precision
        from omnilytics.learning.training import OptimiserSettings, Trainer
        from omnilytics.learning.user_data import collect
        from omnilytics.perturbation.losses import read_loss

        network = Training(model=model, optimiser=optimiser, learning_rate=learning_rate)
        sample = collect(read_samples(source), most=MOST_SAMPLES)
        trainer = Trainer(
            network.make_model(),
            input_shape=sample.inputs.shape[1:],
            loss=read_loss(loss),
            optimiser=OptimiserSettings(optimiser, learning_rate),
        )
        measured = calibration.calibrate(
            trainer, sample, owners=owners, batch_size=batch_size, rounds=rounds, seed=_SEED
        )
        forecast = forecast_precision(
            trainer,
            sample,
            measured.scales,
            owners=owners,
            most_owners=max_owners or owners,
            batch_size=batch_size,
            rounds=rounds,
            seed=_SEED,
        )
        expected = {"owners": owners, "batch_size": batch_size, "samples": len(sample)}
        found = _fields(measured, forecast, expected)
        if json:
            print_json(found)
        else:
            _print(found)
        narrate("next: omnilytics task publish --scales FILE, with what --json prints in FILE")


def read_scales(path: Path) -> dict[str, Any]:
    """Return `scales` and `fractional_bits` of a file that `task calibrate --json` made.

    Raises:
        ConfigError: It cannot be read, or is no such file.
    """
    import json

    from omnilytics.foundation.errors import ConfigError

    try:
        found = json.loads(path.read_bytes())
        scales = {str(name): float(scale) for name, scale in found["scales"].items()}
        bits, known = found["fractional_bits"], found["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            "no file of scales",
            got=f"{path}: {error}",
            hint="omnilytics task calibrate --json prints one",
        ) from None
    if not known or type(bits) is not int:
        raise ConfigError("no file of scales", got=path, want=f"format {FORMAT}")
    return {"scales": scales, "fractional_bits": bits}


def _fields(measured: Calibration, forecast: Forecast, expected: dict[str, int]) -> dict[str, Any]:
    proposed = forecast.proposed()
    return {
        "format": FORMAT,
        **expected,
        "gradients_measured": measured.batches_measured,
        "scales": measured.scales,
        "largest_norms": measured.largest_norms,
        "clipping_rate": measured.clipping_rate,
        "sampling_noise": forecast.sampling_noise,
        "fractional_bits": proposed.fractional_bits,
        "enough": proposed.enough,
        "rounding_error": proposed.rounding_error,
        "choices": [
            {
                "fractional_bits": each.fractional_bits,
                "rounding_error": each.rounding_error,
                "enough": each.enough,
                "refusal": each.refusal,
            }
            for each in forecast.precisions
        ],
    }


def _print(found: dict[str, Any]) -> None:
    typer.echo(f"{'tensor':<32} {'largest norm':>13} {'scale':>13}")
    for name, scale in found["scales"].items():
        typer.echo(f"{name:<32} {found['largest_norms'][name]:>13.4g} {scale:>13.4g}")
    typer.echo("")
    bits, error = "fractional bits", "rounding error"
    typer.echo(f"{bits:<16} {error:>15}   of the mean over {found['owners']} owners")
    for each in found["choices"]:
        chosen = "  <- proposed" if each["fractional_bits"] == found["fractional_bits"] else ""
        said = each["refusal"] or ("enough" if each["enough"] else "too coarse")
        error = f"{each['rounding_error']:.2g}"
        typer.echo(f"{each['fractional_bits']:<16} {error:>15}   {said}{chosen}")
    typer.echo("")
    typer.echo(f"sampling noise of that mean: {found['sampling_noise']:.2g} of its norm")
    typer.echo(f"honest gradients that will be shortened: {found['clipping_rate']:.1%}")
    if not found["enough"]:
        typer.echo("even the most bits that are possible are too coarse")
