"""Checking what was slashed: against the audited transcripts, or the two messages themselves.

Every signature is checked again from the calldata, for whoever trusts neither node nor contract.

Not guaranteed: a report that came through another contract carries no calldata that can be read
here; then only what it says is checked, and `AuditedSlash.signed` is False.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omnilytics.chain.abi import Signature
from omnilytics.chain.bindings import registry
from omnilytics.chain.bindings.registry import Slashed
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import FaultKind
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Hash32, Round, show_address
from omnilytics.roles.task_view import TaskView
from omnilytics.wire.eip712 import SignedMessage
from omnilytics.wire.messages import Fault, Final, Seed, Word
from omnilytics.wire.signatures import verify

_CALLS = {
    FaultKind.SERVER: "report_fault",
    FaultKind.OWNER: "report_fault",
    FaultKind.TWO_WORDS: "convict_of_two_words",
    FaultKind.TWO_SEEDS: "convict_of_two_seeds",
    FaultKind.TWO_FINALS: "convict_of_two_finals",
}


@dataclass(frozen=True)
class AuditedSlash:
    """Something that was slashed, found right."""

    slashed: Slashed
    signed: bool
    """Whether the signatures that it took were checked too."""


def check_slash(
    market: MarketReader,
    view: TaskView,
    slashed: Slashed,
    faults: Mapping[Round, tuple[Fault, ...]],
) -> AuditedSlash:
    """Return the slash if it is right.

    Args:
        market: The chain.
        view: The task.
        slashed: What was slashed in it.
        faults: By round, what its audited transcript shows.

    Raises:
        VerificationError: No transcript shows the fault, too much was taken, or a signature fails.
    """
    kind = FaultKind(slashed.kind)
    arguments = _arguments(market, slashed, _CALLS[kind])
    if kind in (FaultKind.SERVER, FaultKind.OWNER):
        fault = _fault(slashed)
        if fault not in faults.get(slashed.round, ()):
            raise VerificationError(
                "slashed for what no transcript shows",
                round=slashed.round,
                party=show_address(slashed.party),
            )
        _check_amount(view, slashed, kind)
        if arguments is not None:
            _check_quorum(market, view, fault, arguments)
    elif arguments is not None:
        _check_two(market, slashed, kind, arguments)
    return AuditedSlash(slashed, signed=arguments is not None)


def _fault(slashed: Slashed) -> Fault:
    return Fault(
        task=slashed.task,
        round=slashed.round,
        party=slashed.party,
        kind=slashed.kind,
        evidence_hash=slashed.evidence_hash,
    )


def _check_amount(view: TaskView, slashed: Slashed, kind: FaultKind) -> None:
    specification = view.specification
    server = kind == FaultKind.SERVER
    most = specification.min_stake_wei if server else specification.admission.min_bond_wei
    if slashed.amount_wei > most:
        raise VerificationError(
            "more was slashed than the task puts at risk", got=slashed.amount_wei, want=most
        )


def _arguments(market: MarketReader, slashed: Slashed, name: str) -> tuple[Any, ...] | None:
    target, data = market.chain.calldata(slashed.position.transaction_hash)
    if target != market.registry:
        return None
    return registry.codec().arguments(name, data)


def _check_quorum(
    market: MarketReader, view: TaskView, fault: Fault, arguments: tuple[Any, ...]
) -> None:
    """Raise VerificationError unless n - e servers signed the fault."""
    signers, signatures = arguments[6], arguments[7]
    indices = [index for index in range(signers.bit_length()) if signers >> index & 1]
    if len(indices) != len(signatures) or len(indices) < view.parameters.quorum:
        raise VerificationError("fewer than n - e servers signed the fault", got=len(indices))
    for index, compact in zip(indices, signatures, strict=True):
        member = view.parameters.member(index + 1)
        verify(fault, _full(compact), member, market.domain)


def _check_two(
    market: MarketReader, slashed: Slashed, kind: FaultKind, arguments: tuple[Any, ...]
) -> None:
    """Raise VerificationError unless the party signed two different messages."""
    first, second, signatures = _messages(kind, arguments)
    if first == second:
        raise VerificationError("convicted of the same message twice", round=slashed.round)
    for message, compact in zip((first, second), signatures, strict=True):
        if (message.task, message.round) != (slashed.task, slashed.round):
            raise VerificationError("convicted in another round", round=slashed.round)
        verify(message, _full(compact), slashed.party, market.domain)


def _messages(
    kind: FaultKind, arguments: tuple[Any, ...]
) -> tuple[SignedMessage, SignedMessage, tuple[Signature, ...]]:
    task, number = arguments[:2]
    if kind == FaultKind.TWO_WORDS:
        root, seed, owner, commitment, words, signatures = arguments[2:8]
        first, second = (
            Word(
                task=task,
                round=number,
                submissions_root=root,
                seed=seed,
                owner=owner,
                commitment=commitment,
                word=word,
            )
            for word in words
        )
        return first, second, signatures
    if kind == FaultKind.TWO_SEEDS:
        roots, seeds, signatures = arguments[2:5]
        one, other = (
            Seed(task=task, round=number, submissions_root=root, seed=seed)
            for root, seed in zip(roots, seeds, strict=True)
        )
        return one, other, signatures
    accepted, signatures = arguments[2:4]
    last, another = (Final(task=task, round=number, accepted_root=root) for root in accepted)
    return last, another, signatures


def _full(compact: Signature) -> bytes:
    """Return r | s | v of a compact signature (EIP-2098)."""
    s = compact.vs % 2**255
    return compact.r + Hash32(s.to_bytes(32, "big")) + bytes([27 + (compact.vs >> 255)])
