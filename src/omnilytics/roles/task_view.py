"""A task and a round as a party reads them from the chain and checks them.

The chain is the only thing believed: the specification must hash to what the contract recorded and
agree with the terms that the contract enforces; a round's context comes from the event of its
opening.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from omnilytics.chain.bindings.market import RoundSettled
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import TaskRecord, TaskTerms
from omnilytics.chain.records import Windows as ChainWindows
from omnilytics.foundation.errors import OmniLyticsError, PeerError, VerificationError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, Wei, show_address
from omnilytics.learning.encoding import Layout
from omnilytics.perturbation.profiles import Profile, ProfileName
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.transport.client import ServerClient
from omnilytics.validity.statement import TESTS
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.task_specification import (
    MAX_SPECIFICATION_BYTES,
    CommitteeMember,
    TaskSpecification,
)
from omnilytics.wire.transcript import Transcript

MAX_TRANSCRIPT_BYTES = 256 << 20

Connect = Callable[[str], ServerClient]
"""Makes the client of the server at an endpoint."""


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """One task: its number, its checked specification, and what follows from it.

    The specification's committee is filled in where it was drawn, so it may hash to something else
    than the task's.
    """

    task: TaskId
    model_owner: Address
    specification: TaskSpecification
    parameters: TaskParameters

    @property
    def endpoints(self) -> list[str]:
        """Where the committee's servers are, in order."""
        return [member.endpoint for member in self.specification.committee]

    def server_of(self, address: Address) -> int:
        """Return the evaluation point of a committee member, from 1."""
        if address not in self.parameters.members:
            raise VerificationError("not in the task's committee", server=show_address(address))
        return self.parameters.members.index(address) + 1


def chain_terms(specification: TaskSpecification) -> TaskTerms:
    """Return the terms that the contract must have for this specification."""
    windows = specification.windows
    return TaskTerms(
        spec_hash=specification.hash(),
        n=specification.servers,
        t=specification.privacy,
        e=specification.errors,
        reward_wei=Wei(specification.reward_wei),
        fee_wei=Wei(specification.fee_wei),
        opening_fee_wei=Wei(specification.opening_fee_wei),
        rounds=specification.rounds,
        max_rounds=specification.max_rounds,
        min_owners=specification.min_owners,
        max_owners=specification.max_owners,
        min_stake_wei=Wei(specification.min_stake_wei),
        min_bond_wei=Wei(specification.admission.min_bond_wei),
        allow_root=specification.admission.allow_root(),
        token=Address(specification.token),
        windows=ChainWindows(
            submission_seconds=windows.submission_seconds,
            forced_seconds=windows.forced_seconds,
            seal_seconds=windows.seal_seconds,
            delta=windows.delta_blocks,
            confirmations=windows.confirmations,
            words_blocks=windows.words_blocks,
            openings_blocks=windows.openings_blocks,
            settlement_blocks=windows.settlement_blocks,
        ),
    )


def read_specification(content: bytes) -> TaskSpecification:
    """Return the specification in `content` if it is sound in itself, whatever the chain says.

    Raises:
        VerificationError: Not a specification, or too few wraparound tests.
        UsageError: Numbers that no committee or statement can have.
    """
    specification = TaskSpecification.decode(content, max_bytes=MAX_SPECIFICATION_BYTES)
    if specification.tests != TESTS:
        raise VerificationError("too few wraparound tests", got=specification.tests, want=TESTS)
    TaskParameters.of(specification)
    return specification


def check_specification(market: MarketReader, task: TaskId, content: bytes) -> TaskView:
    """Return the task whose specification is `content`.

    Raises:
        VerificationError: The bytes are not those the contract recorded, or contradict its terms.
    """
    record = market.task(task)
    if content_hash(content) != record.terms.spec_hash:
        raise VerificationError("not the specification that the contract recorded", task=task)
    specification = read_specification(content)
    # More rounds may have been paid for since.
    if replace(chain_terms(specification), rounds=record.terms.rounds) != record.terms:
        raise VerificationError("the specification contradicts the contract's terms", task=task)
    if specification.model_owner != record.model_owner:
        raise VerificationError("the specification names another model owner", task=task)
    members = _members(market, record)
    if specification.committee_mode == "named" and specification.committee != members:
        raise VerificationError(
            "the specification gives a server another endpoint or key than it registered", task=task
        )
    resolved = specification.model_copy(update={"committee": members})
    return TaskView(
        task=task,
        model_owner=record.model_owner,
        specification=resolved,
        parameters=TaskParameters.of(resolved),
    )


def _members(market: MarketReader, record: TaskRecord) -> tuple[CommitteeMember, ...]:
    """Return a task's servers with the endpoints and keys they had when its committee was fixed.

    A specification must not give others: else a model owner could name servers of good repute and
    its own keys, and read every vector.
    """
    if not record.committee:
        raise VerificationError(
            "the task's servers are not drawn yet", hint="draw them first", task=record.task
        )
    profiles = market.profiles(record.task)
    return tuple(
        CommitteeMember(address=address, endpoint=profile.endpoint, hpke_key=profile.hpke_key)
        for address, profile in zip(record.committee, profiles, strict=True)
    )


async def fetch_task(market: MarketReader, task: TaskId, connect: Connect) -> TaskView:
    """Fetch and check a task's specification from any server of its committee."""
    content = await fetch_specification(market, task, connect)
    return check_specification(market, task, content)


async def fetch_specification(market: MarketReader, task: TaskId, connect: Connect) -> bytes:
    """Fetch the specification that the contract recorded, from any server of its committee."""
    endpoints = [profile.endpoint for profile in market.profiles(task)]
    return await fetch_blob("publish", market.task(task).terms.spec_hash, endpoints, connect)


async def fetch_blob(phase: str, name: Hash32, endpoints: list[str], connect: Connect) -> bytes:
    """Fetch content by hash from the first endpoint that has it; raises PeerError if none does."""
    for endpoint in endpoints:
        try:
            content = await connect(endpoint).blob(phase, name)
        except OmniLyticsError:
            continue
        if content_hash(content) == name:
            return content
    raise PeerError("no server has the content", got=f"{len(endpoints)} asked", want=name.hex())


async def fetch_transcript(
    phase: str, settled: RoundSettled, endpoints: list[str], connect: Connect
) -> Transcript:
    """Fetch the transcript that a settlement recorded; raises where it contradicts the chain."""
    content = await fetch_blob(phase, settled.transcript_hash, endpoints, connect)
    return decode_transcript(content, settled)


def decode_transcript(content: bytes, settled: RoundSettled) -> Transcript:
    """Return the transcript in `content`; raises VerificationError unless the chain agrees."""
    transcript = Transcript.decode(content, max_bytes=MAX_TRANSCRIPT_BYTES)
    on_chain = (settled.accepted_root, settled.payouts_root, settled.v_bitmap)
    if (transcript.accepted_root(), transcript.payouts_root(), transcript.v_bitmap) != on_chain:
        raise VerificationError("the transcript contradicts the settlement", round=settled.round)
    return transcript


def round_context(market: MarketReader, task: TaskId, round_number: Round) -> RoundContext:
    """Return the context of an opened round; raises VerificationError where it was not opened."""
    opened = market.round_opened(task, round_number)
    if opened is None:
        raise VerificationError("the round was not opened", task=task, round=round_number)
    return RoundContext(
        domain=market.domain,
        task=task,
        round=round_number,
        artefact_hash=opened.artefact_hash,
        block_hash=opened.block_hash,
    )


def task_profile(specification: TaskSpecification) -> Profile:
    """Return the profile that a task publishes."""
    return Profile(
        name=ProfileName(specification.profile),
        magnitude_bits=specification.magnitude_bits,
        noise_groups=specification.noise_groups,
        noise_factors=specification.noise_factors,
        noise_scale=specification.noise_scale,
    )


def task_layout(specification: TaskSpecification) -> Layout:
    """Return where each tensor lies in the shared vector, from the task specification."""
    slots = specification.slots
    return Layout(
        names=tuple(slot.name for slot in slots),
        shapes=tuple(slot.shape for slot in slots),
        scales=tuple(slot.scale for slot in slots),
    )
