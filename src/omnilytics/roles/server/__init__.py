"""The server of a committee: stores and checks shares, settles rounds, releases sums."""

from omnilytics.roles.server.server import Server, StepResult

__all__ = ["Server", "StepResult"]
