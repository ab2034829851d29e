"""OmniLytics: a data market for machine learning.

Model owners buy gradients that data owners compute on data they keep; n servers check them on
secret shares; an Ethereum contract holds the money. See README.md and docs/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnilytics.client import datasets
    from omnilytics.client.buyer import ModelOwner
    from omnilytics.client.seller import DataOwner

__version__ = "0.1.0"
__all__ = ["DataOwner", "ModelOwner", "__version__", "datasets"]


def __getattr__(name: str) -> Any:
    """Import what users import when it is asked for: the command line must start without it."""
    if name == "ModelOwner":
        from omnilytics.client.buyer import ModelOwner

        return ModelOwner
    if name == "DataOwner":
        from omnilytics.client.seller import DataOwner

        return DataOwner
    if name == "datasets":
        from omnilytics.client import datasets

        return datasets
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
