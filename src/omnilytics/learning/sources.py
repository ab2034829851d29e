"""The user's data named on a command line: the user's own code, a NumPy file, a random part.

Tables and images are `learning.files`'. Nothing in a file is executed; `module:function` is the
user's own code and runs as such.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset

from omnilytics.foundation.errors import ConfigError, ModelError, UsageError
from omnilytics.learning.datasets import Batch
from omnilytics.learning.user_data import collect

MOST_SAMPLES = 50_000_000


def import_object(reference: str) -> Any:
    """Return what `module:name` names, looked for in the current folder first.

    Raises:
        UsageError: Not of that form.
        ConfigError: No such module or name.
    """
    module, separator, name = reference.partition(":")
    if not separator or not module or not name:
        raise UsageError("not a reference", got=reference[:80], want="module:function")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            "cannot import", got=f"{reference}: {error}", hint=f"run it in the folder of {module}"
        ) from None


def numpy_file(path: Path) -> Batch:
    """Return the samples of a NumPy file with arrays `inputs` and `labels`; raises ConfigError."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = arrays["inputs"], arrays["labels"]
        return collect(found, most=MOST_SAMPLES)
    except (OSError, ValueError, KeyError, TypeError, ModelError) as error:
        raise ConfigError(
            "no data set in NumPy's form", got=f"{path}: {error}", want="inputs and labels"
        ) from None


def random_part(data: Any, size: int | None) -> Any:
    """Return `size` of the samples, by the system's generator; all of them where it is None."""
    if size is None:
        return data
    if not isinstance(data, Batch | Dataset):
        data = collect(data, most=MOST_SAMPLES)
    count = len(data)
    seed = int.from_bytes(os.urandom(16), "big")
    rows = np.random.default_rng(seed).choice(count, size=min(size, count), replace=False)
    if isinstance(data, Batch):
        return data.take(rows.astype(np.int64))
    return Subset(data, rows.tolist())
