"""Reading a market contract. Holds no key; all an auditor needs of the chain.

Not guaranteed: reads are of the latest block, which may still be replaced; what must be final waits
for a task's `confirmations`.
"""

from __future__ import annotations

from typing import Any

from omnilytics.chain.abi import market_codec
from omnilytics.chain.artefact import load_artefact
from omnilytics.chain.connection import Chain
from omnilytics.chain.events import EventIndex, terms_of
from omnilytics.chain.records import (
    MarketEvent,
    Phase,
    RoundOpened,
    RoundRecord,
    RoundSealed,
    RoundSettled,
    RoundVoided,
    ServerRecord,
    ServerRegistered,
    ServerUnregistered,
    TaskCreated,
    TaskRecord,
    challenge_seed,
)
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, Wei, show_address
from omnilytics.wire.eip712 import Domain

_IMMUTABLES_BYTES = 3 * 32  # minimum stake, chain id, domain separator, appended to the code


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
        self._codec = market_codec()
        _check_code(chain, address)
        if self._view("domain_separator")[0] != self.domain.separator():
            raise ChainError("the contract signs for another chain", got=f"chain {chain.chain_id}")
        self.index = EventIndex(chain, address, self._codec, first_block)

    def min_stake(self) -> Wei:
        """Return the smallest stake of a server."""
        return Wei(self._view("min_stake_wei")[0])

    def task_count(self) -> int:
        """Return the number of tasks; their ids are 1 .. this."""
        return int(self._view("task_count")[0])

    def task(self, task: TaskId) -> TaskRecord:
        """Return a task; raises ChainError("no such task")."""
        fields = self._struct("task", task)
        created = self._created(task)
        for name in ("n", "committee_hash"):
            fields.pop(name)
        if terms_of(fields.pop("terms"), created.terms.committee) != created.terms:
            raise ChainError("the node's state and events disagree", task=task)
        return TaskRecord(task=task, terms=created.terms, **fields)

    def round_state(self, task: TaskId) -> RoundRecord:
        """Return the latest round of a task; raises ChainError("no such task")."""
        fields = self._struct("round_state", task)
        return RoundRecord(task=task, phase=Phase(fields.pop("phase")), **fields)

    def server(self, address: Address) -> ServerRecord:
        """Return a registered server; raises ChainError if it is not."""
        fields = self._struct("server", address)
        if fields["stake_wei"] == 0:
            raise ChainError("server not registered", server=show_address(address))
        return ServerRecord(address=address, **fields)

    def servers(self) -> tuple[ServerRecord, ...]:
        """Return the servers registered now, oldest registration first."""
        present: dict[Address, None] = {}
        for event in self.index.events():
            if isinstance(event, ServerRegistered):
                present[event.server] = None
            elif isinstance(event, ServerUnregistered):
                present.pop(event.server, None)
        return tuple(self.server(address) for address in present)

    def registration(self, address: Address, block_number: int) -> ServerRegistered:
        """Return how a server was registered at a block, also if it has left since.

        Raises:
            ChainError: It was not registered then.
        """
        found: ServerRegistered | None = None
        for event in self.index.events():
            if event.position.block_number > block_number:
                break
            if isinstance(event, ServerRegistered) and event.server == address:
                found = event
        if found is None:
            raise ChainError("server not registered", server=show_address(address))
        return found

    def claimed(self, task: TaskId, owner: Address) -> Wei:
        """Return what a data owner was paid in a task."""
        return Wei(self._view("claimed", task, owner)[0])

    def attested_rounds(self, task: TaskId, index: int) -> int:
        """Return in how many settled rounds the server with this committee index was in V."""
        return int(self._view("attested_rounds", task, index)[0])

    def fees_paid(self, task: TaskId, index: int) -> Wei:
        """Return the fees that a server was paid in a task."""
        return Wei(self._view("fees_paid", task, index)[0])

    def fees_due(self, task: TaskId, index: int) -> Wei:
        """Return the fees that `claim_fees` would pay a server now."""
        return Wei(self._view("fees_earned", task, index)[0] - self.fees_paid(task, index))

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
        opened = self.index.of_round(RoundOpened, task, round_number)
        if opened is not None:
            before = self.chain.block_hash(opened.position.block_number - 1)
            if before != opened.block_hash:
                raise ChainError(
                    "this chain's BLOCKHASH is not its own", task=task, round=round_number
                )
        return opened

    def round_sealed(self, task: TaskId, round_number: Round) -> RoundSealed | None:
        """Return how a round was sealed, or None."""
        return self.index.of_round(RoundSealed, task, round_number)

    def round_settled(self, task: TaskId, round_number: Round) -> RoundSettled | None:
        """Return how a round was settled, or None."""
        return self.index.of_round(RoundSettled, task, round_number)

    def round_voided(self, task: TaskId, round_number: Round) -> RoundVoided | None:
        """Return that a round was voided, or None."""
        return self.index.of_round(RoundVoided, task, round_number)

    def settled_rounds(self, task: TaskId) -> tuple[RoundSettled, ...]:
        """Return all settled rounds of a task, oldest first."""
        return tuple(e for e in self.index.of_task(task) if isinstance(e, RoundSettled))

    def events(self, task: TaskId | None = None) -> tuple[MarketEvent, ...]:
        """Return all events of the market, or of one task, in chain order."""
        return self.index.events() if task is None else self.index.of_task(task)

    def _created(self, task: TaskId) -> TaskCreated:
        for event in self.index.of_task(task):
            if isinstance(event, TaskCreated):
                return event
        raise ChainError("the node does not report the task's creation", task=task)

    def _view(self, name: str, *arguments: object) -> tuple[Any, ...]:
        data = self.chain.call(self.address, self._codec.call(name, *arguments))
        return self._codec.result(name, data)

    def _struct(self, name: str, *arguments: object) -> dict[str, Any]:
        return self._codec.named(name, self._view(name, *arguments)[0])


def _check_code(chain: Chain, address: Address) -> None:
    want = load_artefact().runtime_bytecode
    got = chain.code(address)
    if got[: len(want)] == want and len(got) == len(want) + _IMMUTABLES_BYTES:
        return
    problem = "another contract" if got else "no contract"
    raise ChainError(
        f"{problem} at this address",
        got=show_address(address),
        want="the market of this version",
        hint="check the contract's address and the chain",
    )
