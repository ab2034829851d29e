"""The task specification: everything the parties agree on before a task opens (wire.md).

Its content hash is on chain; every party checks the bytes it fetched against that hash and the
fields that the contract also knows against the contract.
"""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from omnilytics.foundation.units import Address, Hash32
from omnilytics.wire.hashing import content_hash, merkle_leaf, merkle_root
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
)

MAX_SPECIFICATION_BYTES = 4 << 20
MAX_DIMENSION = 1 << 31
MAX_SETTLEMENT_BLOCKS = 8_000
"""The challenge's block hash must be known until a round is settled: for 256 blocks everywhere, for
8,191 on chains that keep older hashes (EIP-2935); the contract checks which."""
ETHER_TOKEN = Address(bytes(20))
"""What stands for ether where a token is named."""

Price = Annotated[int, Field(strict=True, ge=0, lt=1 << 96)]
"""What a task pays or puts at risk; the contracts keep it in 96 bits."""


Factor = Annotated[float, Field(strict=True, ge=-1e6, le=1e6, allow_inf_nan=False)]
"""The public part of one output's noise."""
MAX_OUTPUTS = 65_536


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
    forced_seconds: Annotated[int, Field(strict=True, ge=0, lt=1 << 24)]
    complaint_seconds: Count
    seal_seconds: Count
    rotation_seconds: Annotated[int, Field(strict=True, ge=1, lt=1 << 31)]
    delta_blocks: Annotated[int, Field(strict=True, ge=1, lt=256)]
    confirmations: Annotated[int, Field(strict=True, ge=0, lt=256)]
    words_blocks: Annotated[int, Field(strict=True, ge=1, lt=MAX_SETTLEMENT_BLOCKS)]
    openings_blocks: Annotated[int, Field(strict=True, ge=1, lt=MAX_SETTLEMENT_BLOCKS)]
    settlement_blocks: Annotated[int, Field(strict=True, ge=1, lt=MAX_SETTLEMENT_BLOCKS)]

    @model_validator(mode="after")
    def _in_order(self) -> Windows:
        if self.forced_seconds > self.submission_seconds:
            raise ValueError("forced submissions must close within the submission window")
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
    """Who may submit: anybody, or the listed accounts; and the bond each must have."""

    mode: Literal["open", "listed"]
    owners: Annotated[tuple[Bytes20, ...], Field(max_length=MAX_OWNERS)] = ()
    min_bond_wei: Price

    @model_validator(mode="after")
    def _listed(self) -> Admission:
        if (self.mode == "listed") != bool(self.owners):
            raise ValueError("exactly a list of owners admits listed ones")
        if list(self.owners) != sorted(set(self.owners)):
            raise ValueError("listed owners must be sorted and distinct")
        return self

    def admits(self, owner: Address) -> bool:
        """Tell whether `owner` is admitted, if it has the bond."""
        return self.mode == "open" or owner in self.owners

    def allow_root(self) -> Hash32:
        """Return the Merkle root over the listed owners that the contract records; zero if open."""
        if self.mode == "open":
            return Hash32(bytes(32))
        return merkle_root([merkle_leaf(owner.rjust(32, b"\0")) for owner in self.owners])


class TaskSpecification(Record):
    """What data owners and servers need to know of a task.

    The committee is named here, or drawn when the task is there and then read from the chain.
    """

    version: Literal[3] = 3
    title: Name
    description: Text
    model_licence: Name
    contact: Name
    servers: Annotated[int, Field(strict=True, ge=3, le=MAX_COMMITTEE)]
    committee: Annotated[tuple[CommitteeMember, ...], Field(max_length=MAX_COMMITTEE)]
    committee_mode: Literal["named", "drawn"] = "named"
    min_stake_wei: Price
    privacy: Annotated[int, Field(strict=True, ge=1, le=MAX_COMMITTEE)]
    errors: Annotated[int, Field(strict=True, ge=0, le=MAX_COMMITTEE)]
    tests: Annotated[int, Field(strict=True, ge=4, le=128, multiple_of=4)]
    fractional_bits: Annotated[int, Field(strict=True, ge=4, le=24)]
    components: Annotated[tuple[Component, ...], Field(min_length=1, max_length=8)]
    profile: Literal["gauge", "scales", "noise"]
    magnitude_bits: Annotated[int, Field(strict=True, ge=0, le=8)] = 0
    noise_groups: Annotated[int, Field(strict=True, ge=0, le=4)] = 0
    noise_factors: Annotated[tuple[Factor, ...], Field(max_length=MAX_OUTPUTS)] = ()
    noise_scale: Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False)] = 0.0
    input_kind: Literal["numbers", "tokens"] = "numbers"
    input_shape: Annotated[tuple[Count, ...], Field(max_length=8)]
    preprocessing: Text
    loss: Literal["cross_entropy", "mse", "binary_cross_entropy"]
    batch_rule: Literal["mean"] = "mean"
    rounds: Annotated[int, Field(strict=True, ge=1, le=65_535)]
    max_rounds: Annotated[int, Field(strict=True, ge=1, le=65_535)]
    min_owners: Annotated[int, Field(strict=True, ge=1, le=MAX_OWNERS)]
    max_owners: Annotated[int, Field(strict=True, ge=1, le=MAX_OWNERS)]
    reward_wei: Price
    fee_wei: Price
    opening_fee_wei: Price
    token: Bytes20
    admission: Admission
    windows: Windows
    model_owner: Bytes20
    model_owner_hpke_key: Bytes32

    @model_validator(mode="after")
    def _consistent(self) -> TaskSpecification:
        if self.min_owners > self.max_owners:
            raise ValueError("min_owners exceeds max_owners")
        if self.rounds > self.max_rounds:
            raise ValueError("rounds exceed max_rounds")
        if len(self.committee) != (self.servers if self.committee_mode == "named" else 0):
            raise ValueError("a named committee has all its servers, a drawn one none")
        windows = self.windows
        turns = (self.errors + 1) * windows.rotation_seconds
        if windows.complaint_seconds + turns > windows.seal_seconds:
            raise ValueError("sealing needs time for complaints and for e + 1 sequencers' turns")
        if (self.profile == "scales") != (self.magnitude_bits > 0):
            raise ValueError("magnitudes are for the profile scales, and it has some")
        noise = (self.noise_groups > 0, bool(self.noise_factors), self.noise_scale > 0)
        if set(noise) != {self.profile == "noise"}:
            raise ValueError("groups, factors and scale of noise are for the profile noise")
        if self.noise_groups > len(self.noise_factors):
            raise ValueError("more groups of noise than outputs")
        if self.profile == "noise" and self.loss != "mse":
            raise ValueError("the profile noise needs the loss mse")
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
    def slots(self) -> tuple[TensorSlot, ...]:
        """The tensors of all components, in the order in which they are shared."""
        return tuple(slot for component in self.components for slot in component.tensors)

    @property
    def scales(self) -> dict[str, float]:
        """The published scale of every tensor, by name."""
        return {slot.name: slot.scale for slot in self.slots}

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
