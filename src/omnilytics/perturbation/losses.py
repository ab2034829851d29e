"""The losses a task may name. All are means over the batch (wire.md, "batch rule")."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from omnilytics.foundation.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


class Loss(StrEnum):
    """Name of a loss in a task specification."""

    CROSS_ENTROPY = "cross_entropy"
    MSE = "mse"
    BINARY_CROSS_ENTROPY = "binary_cross_entropy"


def read_loss(name: str) -> Loss:
    """Return the loss of a name; raises UsageError."""
    try:
        return Loss(name)
    except ValueError:
        raise UsageError("unknown loss", got=str(name)[:40], want=" or ".join(Loss)) from None


def loss_value(loss: Loss, outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss of a batch, of sequences over all their tokens.

    Args:
        loss: Which loss; MSE is the mean over samples of half the squared distance, binary
            cross-entropy that of the sum over outputs, which are logits.
        outputs: Shape (batch, outputs) or (batch, tokens, outputs).
        labels: Classes (batch,) or (batch, tokens) as int64 for cross-entropy; for MSE they
            become one-hot rows, or targets of the outputs' shape are given directly; these alone
            for binary cross-entropy, each between 0 and 1.
    """
    from torch.nn import functional

    if outputs.dim() == 3:
        outputs = outputs.flatten(0, 1)
        labels = labels.flatten(0, 1)
    if loss is Loss.CROSS_ENTROPY:
        return functional.cross_entropy(outputs, labels)
    if loss is Loss.BINARY_CROSS_ENTROPY:
        each = functional.binary_cross_entropy_with_logits(outputs, labels, reduction="none")
        return each.sum(dim=1).mean()
    if labels.dim() == 1:
        labels = functional.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
    return 0.5 * (outputs - labels).square().sum(dim=1).mean()
