"""The data owner: computes a gradient on private data, shares it, and is paid."""

from omnilytics.roles.data_owner.owner import BatchSource, Contribution, DataOwner
from omnilytics.roles.data_owner.sent import Sent, SentKeeper

__all__ = ["BatchSource", "Contribution", "DataOwner", "Sent", "SentKeeper"]
