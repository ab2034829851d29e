"""The parameters of a task that the protocol's checks need, read off its specification."""

from __future__ import annotations

from dataclasses import dataclass

from omnilytics.algebra.fixed_point import check_parameters
from omnilytics.foundation.errors import UsageError, VerificationError
from omnilytics.foundation.units import Address
from omnilytics.sharing.committee import Committee
from omnilytics.validity.statement import Statement
from omnilytics.wire.package import chunk_count
from omnilytics.wire.task_specification import Admission, TaskSpecification

MAX_PAID_OWNERS = 4_000
"""Four times as many may be sealed before the lot; with 13 servers' words a transcript then has
1.8 million items, just within the bound of wire/cbor.py."""


@dataclass(frozen=True)
class TaskParameters:
    """Committee, statement and limits of one task (protocol.md sections 1 to 3)."""

    committee: Committee
    statement: Statement
    members: tuple[Address, ...]
    min_owners: int
    max_owners: int
    reward_wei: int
    admission: Admission

    @classmethod
    def of(cls, specification: TaskSpecification) -> TaskParameters:
        """Read the parameters; raises an OmniLyticsError where they are unsound."""
        if specification.max_owners > MAX_PAID_OWNERS:
            raise UsageError(
                "more owners than one transcript can list",
                got=specification.max_owners,
                want=f"<= {MAX_PAID_OWNERS}",
                hint="open several tasks",
            )
        committee = Committee(
            servers=specification.servers,
            privacy=specification.privacy,
            errors=specification.errors,
        )
        statement = Statement(
            components=specification.component_sizes,
            fractional_bits=specification.fractional_bits,
            tests=specification.tests,
        )
        check_parameters(
            dimension=statement.dimension,
            fractional_bits=statement.fractional_bits,
            max_owners=specification.max_owners,
        )
        return cls(
            committee=committee,
            statement=statement,
            members=specification.members,
            min_owners=specification.min_owners,
            max_owners=specification.max_owners,
            reward_wei=specification.reward_wei,
            admission=specification.admission,
        )

    @property
    def quorum(self) -> int:
        """The n - e servers that every decision takes."""
        return self.committee.quorum

    @property
    def servers(self) -> tuple[int, ...]:
        """Evaluation points of the servers, 1..n."""
        return self.committee.points

    @property
    def share_elements(self) -> int:
        """Elements of one share: x, bits and the two masks."""
        return self.statement.share_length

    @property
    def package_bytes(self) -> int:
        """Upper bound of an encoded package, sealed or open."""
        content = 8 * self.share_elements
        return content + chunk_count(content) * 256 + 16_384

    def member(self, server: int) -> Address:
        """Return the address of the server at evaluation point `server`, from 1."""
        if not 1 <= server <= len(self.members):  # none before they are drawn
            raise VerificationError("no such server", got=server, want=f"1..{len(self.members)}")
        return self.members[server - 1]
