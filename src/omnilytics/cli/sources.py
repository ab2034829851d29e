"""The options that name samples: a file of one of several kinds, or the user's own function."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnilytics.cli.options import OptionGroup

if TYPE_CHECKING:
    from omnilytics.learning.datasets import Batch


@dataclass(frozen=True, kw_only=True)
class SourceOptions(OptionGroup):
    """Where samples come from; exactly one of them is given."""

    csv: Annotated[Path | None, typer.Option("--csv", help="CSV file: a header, then numbers.")] = (
        None
    )
    parquet: Annotated[
        Path | None, typer.Option("--parquet", help="Parquet file with columns of numbers.")
    ] = None
    npz: Annotated[
        Path | None, typer.Option("--npz", help="NumPy file with arrays `inputs` and `labels`.")
    ] = None
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder with one folder of images a class.")
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="MODULE:FUNCTION",
            help="Your own code, from the current folder; returns a data set.",
        ),
    ] = None
    label: Annotated[
        str, typer.Option("--label", help="Column of the labels, for --csv and --parquet.")
    ] = "label"


def read_samples(options: SourceOptions) -> Batch:
    """Return the samples that the options name.

    Raises:
        UsageError: None or more than one of them is given.
        ConfigError: They cannot be read, or are no samples.
    """
    from omnilytics.foundation.errors import UsageError
    from omnilytics.learning import sources

    given = [
        name
        for name in ("csv", "parquet", "npz", "images", "dataset")
        if getattr(options, name) is not None
    ]
    if len(given) != 1:
        raise UsageError(
            "the data are named once",
            got=", ".join(f"--{name}" for name in given) or "nothing",
            want="one of --csv, --parquet, --npz, --images, --dataset",
        )
    if options.csv is not None:
        return sources.read_csv(options.csv, options.label)
    if options.parquet is not None:
        return sources.read_parquet(options.parquet, options.label)
    if options.npz is not None:
        return sources.read_npz(options.npz)
    if options.images is not None:
        return sources.read_images(options.images)
    assert options.dataset is not None
    return sources.samples_from(sources.import_object(options.dataset)())
