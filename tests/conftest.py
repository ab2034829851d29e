"""Makes the modules in tests/support and tests/reference importable by their file names."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))
sys.path.insert(0, str(Path(__file__).parent / "reference"))

from attack_table import attacks, pytest_sessionfinish, pytest_terminal_summary

__all__ = ["attacks", "pytest_sessionfinish", "pytest_terminal_summary"]
