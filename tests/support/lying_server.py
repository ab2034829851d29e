"""`omnilytics server` as a program whose answers are those of the demo's lying server."""

from __future__ import annotations

from functools import partial

from omnilytics.cli.server import application
from omnilytics.demo.cheats import LyingServer
from omnilytics.service import process
from omnilytics.service.rounds import RoundsLoop

if __name__ == "__main__":
    vars(process)["RoundsLoop"] = partial(RoundsLoop, make_server=LyingServer)
    application()
