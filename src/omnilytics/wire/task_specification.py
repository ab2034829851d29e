"""The task specification: everything the parties agree on before a task opens (wire.md).

Its content hash is on chain; every party checks the bytes it fetched against that hash and the
fields that the contract also knows against the contract.
"""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from omnilytics.foundation.units import Address, Hash32
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.record import (
    MAX_COMMITTEE,
    MAX_OWNERS,
    MAX_TENSORS,
    Bytes20,
    Bytes32,
    Count,
    Name,
    Record,
    Text,
    WeiAmount,
)

MAX_SPECIFICATION_BYTES = 4 << 20
MAX_DIMENSION = 1 << 31


class CommitteeMember(Record):
    """One server of the committee; its evaluation point is its place in the list, from 1."""

    address: Bytes20
    endpoint: Name
    hpke_key: Bytes32


class TensorSlot(Record):
    """One tensor of a component: its shape and the positive scale it is divided by."""

    name: Name
    shape: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=1, lt=1 << 31)], ...], Field(max_length=8)
    ]
    scale: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]

    @property
    def size(self) -> int:
        """Number of entries."""
        return prod(self.shape)


class Component(Record):
    """A part of the encoding with a norm bound of its own (protocol.md section 2)."""

    name: Name
    tensors: Annotated[tuple[TensorSlot, ...], Field(min_length=1, max_length=MAX_TENSORS)]

    @property
    def size(self) -> int:
        """Number of entries."""
        return sum(tensor.size for tensor in self.tensors)


class Windows(Record):
    """How long each step of a round may take (wire.md, "Windows")."""

    submission_seconds: Count
    complaint_seconds: Count
    seal_seconds: Count
    rotation_seconds: Annotated[int, Field(strict=True, ge=1, lt=1 << 31)]
    delta_blocks: Annotated[int, Field(strict=True, ge=1, lt=256)]
    confirmations: Annotated[int, Field(strict=True, ge=0, lt=256)]
    words_blocks: Annotated[int, Field(strict=True, ge=1, lt=256)]
    openings_blocks: Annotated[int, Field(strict=True, ge=1, lt=256)]
    settlement_blocks: Annotated[int, Field(strict=True, ge=1, lt=256)]

    @model_validator(mode="after")
    def _in_order(self) -> Windows:
        # BLOCKHASH reaches 256 blocks back; the seed must still be checkable at the last moment.
        if self.delta_blocks + self.settlement_blocks + self.confirmations >= 256:
            raise ValueError("delta + settlement + confirmations must stay below 256 blocks")
        if not self.words_blocks < self.openings_blocks < self.settlement_blocks:
            raise ValueError("cut-offs must be ordered: words < openings < settlement")
        if self.complaint_seconds + self.rotation_seconds > self.seal_seconds:
            raise ValueError("sealing needs time for complaints and for a sequencer's turn")
        if self.openings_blocks - self.words_blocks < 4:
            raise ValueError("openings need at least 4 blocks after the words cut-off")
        if self.delta_blocks + self.confirmations >= self.words_blocks:
            raise ValueError("the seed must be known before the words cut-off")
        return self


class Admission(Record):
    """Who may submit: anybody, or the listed accounts."""

    mode: Literal["open", "listed"]
    owners: Annotated[tuple[Bytes20, ...], Field(max_length=MAX_OWNERS)] = ()

    def admits(self, owner: Address) -> bool:
        """Tell whether `owner` may submit."""
        return self.mode == "open" or owner in self.owners


class TaskSpecification(Record):
    """What data owners and servers need to know of a task."""

    version: Literal[1] = 1
    title: Name
    description: Text
    model_licence: Name
    contact: Name
    committee: Annotated[tuple[CommitteeMember, ...], Field(min_length=3, max_length=MAX_COMMITTEE)]
    committee_mode: Literal["named"] = "named"
    privacy: Annotated[int, Field(strict=True, ge=1, le=MAX_COMMITTEE)]
    errors: Annotated[int, Field(strict=True, ge=0, le=MAX_COMMITTEE)]
    tests: Annotated[int, Field(strict=True, ge=4, le=128, multiple_of=4)]
    fractional_bits: Annotated[int, Field(strict=True, ge=4, le=24)]
    components: Annotated[tuple[Component, ...], Field(min_length=1, max_length=8)]
    profile: Literal["gauge"]
    input_shape: Annotated[tuple[Count, ...], Field(max_length=8)]
    preprocessing: Text
    loss: Literal["cross_entropy", "mse"]
    batch_rule: Literal["mean"] = "mean"
    rounds: Annotated[int, Field(strict=True, ge=1, le=65_535)]
    min_owners: Annotated[int, Field(strict=True, ge=1, le=MAX_OWNERS)]
    max_owners: Annotated[int, Field(strict=True, ge=1, le=MAX_OWNERS)]
    reward_wei: WeiAmount
    fee_wei: WeiAmount
    opening_fee_wei: WeiAmount
    token: Literal["ether"] = "ether"  # noqa: S105 - a currency, not a password
    admission: Admission
    windows: Windows
    model_owner: Bytes20
    model_owner_hpke_key: Bytes32

    @model_validator(mode="after")
    def _consistent(self) -> TaskSpecification:
        if self.min_owners > self.max_owners:
            raise ValueError("min_owners exceeds max_owners")
        windows = self.windows
        turns = (self.errors + 1) * windows.rotation_seconds
        if windows.complaint_seconds + turns > windows.seal_seconds:
            raise ValueError("sealing needs time for complaints and for e + 1 sequencers' turns")
        if self.dimension > MAX_DIMENSION:
            raise ValueError(f"more than {MAX_DIMENSION} parameters")
        if len({member.address for member in self.committee}) != len(self.committee):
            raise ValueError("a server is in the committee twice")
        return self

    @property
    def dimension(self) -> int:
        """Number of entries D over all components."""
        return sum(component.size for component in self.components)

    @property
    def component_sizes(self) -> tuple[int, ...]:
        """Number of entries of each component."""
        return tuple(component.size for component in self.components)

    @property
    def members(self) -> tuple[Address, ...]:
        """Addresses of the committee in order."""
        return tuple(member.address for member in self.committee)

    def hash(self) -> Hash32:
        """Return the content hash that the contract records."""
        return content_hash(self.encode())
