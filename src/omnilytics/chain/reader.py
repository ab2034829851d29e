"""Reading a market contract. Holds no key; all an auditor needs of the chain.

Not guaranteed: reads are of the latest block, which may still be replaced; what must be final waits
for a task's `confirmations`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TypeVar

from eth_hash.auto import keccak

from omnilytics.chain.abi import Call
from omnilytics.chain.artefact import load_artefact
from omnilytics.chain.bindings import market, registry
from omnilytics.chain.bindings.market import (
    CommitteeFixed,
    RoundOpened,
    RoundSealed,
    RoundSettled,
    RoundVoided,
    SubmissionForced,
)
from omnilytics.chain.bindings.registry import ServerRegistered, Slashed, StakeWithdrawn
from omnilytics.chain.connection import Chain
from omnilytics.chain.events import EventIndex, EventStore
from omnilytics.chain.happenings import MarketEvent
from omnilytics.chain.packing import unpack_round, unpack_task
from omnilytics.chain.records import (
    BondRecord,
    OfferRecord,
    Phase,
    Profile,
    RoundRecord,
    ServerRecord,
    TaskRecord,
    challenge_seed,
)
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, Wei, show_address
from omnilytics.wire.eip712 import Domain

_Result = TypeVar("_Result")

# Appended to the code: the registry, or market, stake and fee; each with the domain's three words.
_IMMUTABLES_BYTES = {"Market": 4 * 32, "Registry": 6 * 32}


class MarketReader:
    """Typed views and events of the market at an address.

    Args:
        chain: Where the contract lives.
        address: The contract.
        first_block: Block from which to look for events; the deployment's saves time.

    Raises:
        ChainError: No contract there, or another one.
    """

    def __init__(self, chain: Chain, address: Address, *, first_block: int = 0) -> None:
        self.chain = chain
        self.address = address
        self.domain = Domain(chain.chain_id, address)
        _check_code(chain, address, "Market")
        if self._market(market.domain_separator()) != self.domain.separator():
            raise ChainError("the contract signs for another chain", got=f"chain {chain.chain_id}")
        self.registry = self._market(market.registry())
        _check_code(chain, self.registry, "Registry")
        self.codecs = {address: market.codec(), self.registry: registry.codec()}
        self.index = EventIndex(chain, self.codecs, first_block)
        self._checked_openings: dict[TaskId, RoundOpened] = {}

    def keep_events_in(self, store: EventStore) -> None:
        """Go on from the events that a store has, and keep there what is read."""
        self.index.keep_in(store)

    def steady(self) -> AbstractContextManager[object]:
        """Let this thread see the same blocks meanwhile (`Chain.steady`): fewer requests."""
        return self.chain.steady()

    def min_stake(self) -> Wei:
        """Return the smallest stake of a server."""
        return Wei(self._registry(registry.min_stake_wei()))

    def draw_fee(self) -> Wei:
        """Return what drawing a committee costs."""
        return Wei(self._registry(registry.draw_fee_wei()))

    def task_count(self) -> int:
        """Return the number of tasks; their ids are 1 .. this."""
        return self._market(market.task_count())

    def task(self, task: TaskId) -> TaskRecord:
        """Return a task; raises ChainError("no such task")."""
        stored = self._market(market.task(task))
        fixed = _last(self.index.of_kind(CommitteeFixed, task))
        committee = fixed.committee if fixed else ()
        want = committee_hash(committee) if fixed else Hash32(bytes(32))
        if stored.committee_hash != want:
            raise ChainError("the node's state and events disagree", task=task)
        return unpack_task(task, stored, committee)

    def task_of(self, model_owner: Address, spec_hash: Hash32) -> TaskId | None:
        """Return the task that a model owner created on a specification, or None."""
        return TaskId(self._market(market.task_of(model_owner, spec_hash))) or None

    def round_state(self, task: TaskId) -> RoundRecord:
        """Return the latest round of a task; raises ChainError("no such task")."""
        return unpack_round(task, self._market(market.task(task)))

    def draw_state(self, task: TaskId) -> registry.Draw:
        """Return the latest draw of a task's committee; all zero where none was asked for."""
        return self._registry(registry.draws(task))

    def server(self, address: Address) -> ServerRecord:
        """Return a registered server; raises ChainError if it is not."""
        found = self._registry(registry.server(address))
        if found.since_block == 0:
            raise ChainError("server not registered", server=show_address(address))
        return ServerRecord(
            address=address,
            endpoint=found.endpoint,
            hpke_key=found.hpke_key,
            profile=found.profile,
            stake_wei=Wei(found.stake_wei),
            active_tasks=found.active_tasks,
            since_block=found.since_block,
            leaving_block=found.leaving_block,
            free_at=found.free_at,
        )

    def profile(self, address: Address, number: int) -> Profile:
        """Return a profile of a server, also an earlier one; raises ChainError if there is none."""
        hpke_key, endpoint = self._registry(registry.profile(address, number))
        if not endpoint:
            raise ChainError("no such profile", got=number, server=show_address(address))
        return Profile(hpke_key=hpke_key, endpoint=endpoint)

    def profiles(self, task: TaskId) -> tuple[Profile, ...]:
        """Return the profiles that the servers of a task had when its committee was fixed."""
        record = self.task(task)
        members = zip(record.committee, record.profiles, strict=True)
        return tuple(self.profile(address, number) for address, number in members)

    def offer(self, address: Address, token: Address) -> OfferRecord | None:
        """Return for what a server offers to be drawn, or None."""
        is_open, min_fee_wei, max_stake_wei = self._registry(registry.offer(address, token))
        if not is_open:
            return None
        return OfferRecord(min_fee_wei=Wei(min_fee_wei), max_stake_wei=Wei(max_stake_wei))

    def bond(self, owner: Address) -> BondRecord:
        """Return a data owner's bond, zero without one."""
        found = self._registry(registry.bond(owner))
        return BondRecord(amount_wei=Wei(found.amount_wei), free_at=found.free_at)

    def servers(self) -> tuple[ServerRecord, ...]:
        """Return the servers registered now, oldest registration first."""
        present: dict[Address, None] = {}
        for event in self.index.events():
            if isinstance(event, ServerRegistered):
                present[event.server] = None
            elif isinstance(event, StakeWithdrawn):
                present.pop(event.server, None)
        return tuple(self.server(address) for address in present)

    def claimed(self, task: TaskId, owner: Address) -> Wei:
        """Return what a data owner was paid in a task."""
        return Wei(self._market(market.claimed(task, owner)))

    def attested_rounds(self, task: TaskId, index: int) -> int:
        """Return in how many settled rounds the server with this committee index was in V."""
        return self.task(task).attested_rounds[index]

    def fees_paid(self, task: TaskId, index: int) -> Wei:
        """Return the fees that a server was paid in a task."""
        return Wei(self._market(market.fees_paid(task, index)))

    def fees_due(self, task: TaskId, index: int) -> Wei:
        """Return the fees that `claim_fees` would pay a server now."""
        return Wei(self.task(task).fees_earned(index) - self.fees_paid(task, index))

    def seed(self, task: TaskId) -> Hash32:
        """Return the challenge seed of the sealed round.

        Raises:
            ChainError: The round is not sealed, or the challenge block is not confirmed yet.
        """
        state = self.round_state(task)
        if state.phase is not Phase.SEALED:
            raise ChainError("round not sealed", task=task, round=state.round)
        if self.chain.head() < state.challenge_final_block:
            want = f"block {state.challenge_final_block}"
            raise ChainError("seed not final", want=want, task=task, round=state.round)
        block_hash = self.chain.block_hash(state.challenge_block)
        return challenge_seed(block_hash, task, state.round, state.submissions_root)

    def round_opened(self, task: TaskId, round_number: Round) -> RoundOpened | None:
        """Return how a round was opened, or None.

        Raises:
            ChainError: The contract saw another block hash than the chain reports. Such a chain's
                seeds could not be checked, so it is refused.
        """
        opened = _last(self.index.of_round(RoundOpened, task, round_number))
        if opened is not None and opened != self._checked_openings.get(task):
            before = self.chain.block_hash(opened.position.block_number - 1)
            if before != opened.block_hash:
                raise ChainError(
                    "this chain's BLOCKHASH is not its own", task=task, round=round_number
                )
            self._checked_openings[task] = opened  # its block's hash settles what came before
        return opened

    def round_sealed(self, task: TaskId, round_number: Round) -> RoundSealed | None:
        """Return how a round was sealed, or None."""
        return _last(self.index.of_round(RoundSealed, task, round_number))

    def round_settled(self, task: TaskId, round_number: Round) -> RoundSettled | None:
        """Return how a round was settled, or None."""
        return _last(self.index.of_round(RoundSettled, task, round_number))

    def round_voided(self, task: TaskId, round_number: Round) -> RoundVoided | None:
        """Return that a round was voided, or None."""
        return _last(self.index.of_round(RoundVoided, task, round_number))

    def forced_submissions(self, task: TaskId, round_number: Round) -> tuple[SubmissionForced, ...]:
        """Return the certificates that were put on chain for a round, oldest first."""
        return self.index.of_round(SubmissionForced, task, round_number)

    def settled_rounds(self, task: TaskId) -> tuple[RoundSettled, ...]:
        """Return all settled rounds of a task, oldest first."""
        return self.index.of_kind(RoundSettled, task)

    def slashes(self, task: TaskId) -> tuple[Slashed, ...]:
        """Return what was slashed in a task, oldest first."""
        return self.index.of_kind(Slashed, task)

    def events(self, task: TaskId | None = None) -> tuple[MarketEvent, ...]:
        """Return all events of the market, or of one task, in chain order."""
        return self.index.events() if task is None else self.index.of_task(task)

    def _market(self, call: Call[_Result]) -> _Result:
        return call.result(self.chain.call(self.address, call.data))

    def _registry(self, call: Call[_Result]) -> _Result:
        return call.result(self.chain.call(self.registry, call.data))


def _last(events: tuple[_Result, ...]) -> _Result | None:
    return events[-1] if events else None


def committee_hash(committee: tuple[Address, ...]) -> Hash32:
    """Return the hash that the contract keeps of a committee: keccak256(abi.encode(address[]))."""
    members = b"".join(address.rjust(32, b"\0") for address in committee)
    head = (32).to_bytes(32, "big") + len(committee).to_bytes(32, "big")
    return Hash32(keccak(head + members))


def _check_code(chain: Chain, address: Address, contract: str) -> None:
    want = load_artefact(contract).runtime_bytecode
    got = chain.code(address)
    if got[: len(want)] == want and len(got) == len(want) + _IMMUTABLES_BYTES[contract]:
        return
    problem = "another contract" if got else "no contract"
    raise ChainError(
        f"{problem} at this address",
        got=show_address(address),
        want=f"the {contract.lower()} of this version",
        hint="check the contract's address and the chain",
    )
