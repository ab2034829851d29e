"""The signatures behind a seal and a settlement, as they stand in the calldata on chain.

The contract verified them; an auditor who trusts neither node nor contract verifies them again
(protocol.md section 8). Only transactions sent straight to the market can be read this way.
"""

from __future__ import annotations

from typing import Any

from omnilytics.chain.abi import Signature
from omnilytics.chain.bindings import market
from omnilytics.chain.bindings.market import RoundSealed, RoundSettled
from omnilytics.chain.happenings import RoundEvent
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import SignedSettlement, settlement_of
from omnilytics.foundation.errors import ChainError
from omnilytics.wire.messages import SealVote


def seal_votes(reader: MarketReader, sealed: RoundSealed) -> tuple[SealVote, dict[int, bytes]]:
    """Return the vote and its signatures by committee index.

    Raises:
        ChainError: The round was sealed through another contract, or the node's answers disagree.
    """
    arguments = _arguments(reader, sealed, "seal")
    task, root, count, _committee, signers, signatures = arguments
    if (task, root, count) != (sealed.task, sealed.submissions_root, sealed.count):
        raise ChainError("calldata and event disagree", task=sealed.task, round=sealed.round)
    vote = SealVote(task=sealed.task, round=sealed.round, submissions_root=root, count=count)
    return vote, _by_index(signers, signatures)


def settlements(reader: MarketReader, settled: RoundSettled) -> dict[int, SignedSettlement]:
    """Return the signed settlements by committee index.

    Raises:
        ChainError: The round was settled through another contract, or the node's answers disagree.
    """
    arguments = _arguments(reader, settled, "settle")
    task, _settlement, _committee, signers, words, signatures = arguments
    if (task, signers, words) != (settled.task, settled.signers, settled.words):
        raise ChainError("calldata and event disagree", task=settled.task, round=settled.round)
    signed = _by_index(signers, signatures)
    return {
        index: SignedSettlement(settlement=settlement_of(settled, word), signature=signature)
        for (index, signature), word in zip(signed.items(), words, strict=True)
    }


def _arguments(reader: MarketReader, event: RoundEvent, name: str) -> tuple[Any, ...]:
    target, data = reader.chain.calldata(event.position.transaction_hash)
    if target != reader.address:
        raise ChainError(f"{name} came through another contract", round=event.round)
    return market.codec().arguments(name, data)


def _by_index(signers: int, compact: tuple[Signature, ...]) -> dict[int, bytes]:
    indices = [index for index in range(signers.bit_length()) if signers >> index & 1]
    if len(indices) != len(compact):
        raise ChainError("calldata with a wrong number of signatures", got=len(compact))
    return {
        index: _full(signature.r, signature.vs)
        for index, signature in zip(indices, compact, strict=True)
    }


def _full(r: bytes, vs: int) -> bytes:
    """Return r | s | v of a compact signature (EIP-2098)."""
    s = vs % 2**255
    return r + s.to_bytes(32, "big") + bytes([27 + (vs >> 255)])
