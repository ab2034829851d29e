"""The server of a committee: stores shares, checks them on shares, settles rounds, releases sums."""

from omnilytics.roles.server.server import Server, StepResult

__all__ = ["Server", "StepResult"]
