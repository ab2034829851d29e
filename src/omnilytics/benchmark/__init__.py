"""Measured work of owners and servers, for `omnilytics bench` and the scripts in benchmarks/."""

from omnilytics.benchmark.gas import gas
from omnilytics.benchmark.submission import check, protect

__all__ = ["check", "gas", "protect"]
