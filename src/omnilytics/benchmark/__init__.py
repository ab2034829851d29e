"""Measured work of all parties, for `omnilytics bench` and the scripts in benchmarks/.

What each module measures is in its docstring; docs/performance.md says how to read the figures.
"""

from omnilytics.benchmark.gas import gas
from omnilytics.benchmark.measure import exponents
from omnilytics.benchmark.round_process import whole_round
from omnilytics.benchmark.sizes import wire
from omnilytics.benchmark.submission import check, protect
from omnilytics.benchmark.summing import aggregate, recover

__all__ = ["aggregate", "check", "exponents", "gas", "protect", "recover", "whole_round", "wire"]
