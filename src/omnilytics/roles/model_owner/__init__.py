"""The model owner: finding a committee for a task, and training through it."""

from omnilytics.roles.model_owner.owner import ModelOwner, RecoveredRound, RoundKeeper

__all__ = ["ModelOwner", "RecoveredRound", "RoundKeeper"]
