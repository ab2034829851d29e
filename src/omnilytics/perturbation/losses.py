"""The losses a task may name. All are means over the batch (wire.md, "batch rule")."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Loss(StrEnum):
    """Name of a loss in a task specification."""

    CROSS_ENTROPY = "cross_entropy"
    MSE = "mse"


def loss_value(loss: Loss, outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss of a batch.

    Args:
        loss: Which loss; MSE is the mean over samples of half the squared distance.
        outputs: Shape (batch, outputs).
        labels: Classes (batch,) as int64; for MSE they become one-hot rows, or targets of the
            outputs' shape are given directly.
    """
    from torch.nn import functional

    if loss is Loss.CROSS_ENTROPY:
        return functional.cross_entropy(outputs, labels)
    if labels.dim() == 1:
        labels = functional.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
    return 0.5 * (outputs - labels).square().sum(dim=1).mean()
