"""A chain in this process that takes transactions and does not mine them all."""

from __future__ import annotations

from omnilytics.chain.embedded import EmbeddedChain
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Hash32


class Mempool(EmbeddedChain):
    """A chain that takes transactions and mines some of them."""

    def __init__(self) -> None:
        super().__init__()
        self.ignored = 0
        """How many of the next transactions are taken and never mined."""
        self.is_silent = False
        """Whether the node mines what comes, and answers nothing about it."""
        self.forgetful = False
        """Whether the node that answers takes nothing and is behind the others."""
        self.seen: list[bytes] = []

    def send(self, transaction: bytes) -> Hash32:
        if self.forgetful:
            raise ChainError("the node refused eth_sendRawTransaction: header not found")
        self.seen.append(transaction)
        if self.ignored > 0:
            self.ignored -= 1
            return Hash32(bytes(32))
        mined = super().send(transaction)
        if self.is_silent:
            raise ChainError("no answer from the node")
        return mined
