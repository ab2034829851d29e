"""Ordinary PyTorch networks by name, for the demo, the benchmarks and the tests."""

from omnilytics.learning.models.zoo import (
    MODEL_NAMES,
    MODELS,
    ModelKind,
    Takes,
    build_model,
    layout_for,
)

__all__ = ["MODELS", "MODEL_NAMES", "ModelKind", "Takes", "build_model", "layout_for"]
