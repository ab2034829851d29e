"""How many threads PyTorch computes with."""

from __future__ import annotations

import torch


def pin_threads(count: int = 1) -> None:
    """Let PyTorch compute with `count` threads in this process (small models are fastest with 1).

    Also makes floating-point sums independent of the machine's number of cores.
    """
    torch.set_num_threads(count)
