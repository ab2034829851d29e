"""Measured work of all parties, for `omnilytics bench` and the scripts in benchmarks/.

What each module measures is in its docstring; docs/performance.md says how to read the figures.
Nothing is imported here: gas needs a chain, and the rest should start without one.
"""
