"""The options that name samples: a file of one of several kinds, or the user's own function."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from omnilytics.cli.options import OptionGroup


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
    image_shape: Annotated[
        str | None,
        typer.Option(
            "--image-shape",
            metavar="CxHxW",
            help="What images are brought to; default: the task's input shape.",
        ),
    ] = None
    label: Annotated[
        str, typer.Option("--label", help="Column of the labels, for --csv and --parquet.")
    ] = "label"


_KINDS = ("csv", "parquet", "npz", "images", "dataset")


def names_samples(options: SourceOptions) -> bool:
    """Tell whether any of the options names data."""
    return any(getattr(options, name) is not None for name in _KINDS)


def read_samples(options: SourceOptions, input_shape: tuple[int, ...] | None = None) -> Any:
    """Return the data that the options name, as the Python API takes it.

    Args:
        options: The options.
        input_shape: Shape of one sample, where a task says it: images are brought to it.

    Raises:
        UsageError: None or more than one of them is given.
        ConfigError: They cannot be read, or are no samples.
    """
    from omnilytics.foundation.errors import UsageError
    from omnilytics.learning import files, sources

    given = [name for name in _KINDS if getattr(options, name) is not None]
    if len(given) != 1:
        raise UsageError(
            "the data are named once",
            got=", ".join(f"--{name}" for name in given) or "nothing",
            want="one of --csv, --parquet, --npz, --images, --dataset",
        )
    if options.csv is not None:
        return files.csv_file(options.csv, label=options.label)
    if options.parquet is not None:
        return files.parquet_file(options.parquet, label=options.label)
    if options.npz is not None:
        return sources.numpy_file(options.npz)
    if options.images is not None:
        channels, height, width = _image_shape(options.image_shape, input_shape)
        return files.ImageFolder(options.images, size=(height, width), channels=channels)
    assert options.dataset is not None
    return sources.import_object(options.dataset)()


def _image_shape(text: str | None, input_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return (channels, height, width)."""
    from omnilytics.foundation.errors import UsageError

    shape = input_shape
    if text is not None:
        parts = text.split("x")
        shape = tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()
    if shape is None or len(shape) != 3:
        raise UsageError("images have a shape", got=text or shape, want="--image-shape 3x32x32")
    return shape
