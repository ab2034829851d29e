"""The data owner: computes a gradient on private data, shares it, and is paid."""

from omnilytics.roles.data_owner.owner import BatchSource, Contribution, DataOwner

__all__ = ["BatchSource", "Contribution", "DataOwner"]
