"""The state of a market and its registry, rebuilt from their logs and block times alone.

What an indexer or an auditor without an archive node would keep (protocol.md section 8). It calls
no view: that it equals the views shows that the events tell everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from eth_hash.auto import keccak

from omnilytics.chain.bindings import market, registry
from omnilytics.chain.happenings import MarketEvent, TaskEvent
from omnilytics.chain.records import (
    EMPTY_ROOT,
    BondRecord,
    FaultKind,
    OfferRecord,
    Phase,
    Profile,
    RoundRecord,
    ServerRecord,
    TaskRecord,
    TaskTerms,
    Windows,
)
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, Wei

UNBONDING_SECONDS = 14 * 86400
DRAW_BLOCKS = 256
_ZERO = Hash32(bytes(32))
_NO_BOND = BondRecord(amount_wei=Wei(0), free_at=0)


@dataclass
class ReplayedState:
    """Everything that the contracts' views tell. `timestamp` gives the time of a block."""

    timestamp: Callable[[int], int]
    tasks: dict[TaskId, TaskRecord] = field(default_factory=dict)
    rounds: dict[TaskId, RoundRecord] = field(default_factory=dict)
    claimed: dict[tuple[TaskId, Address], int] = field(default_factory=dict)
    fees_paid: dict[tuple[TaskId, int], int] = field(default_factory=dict)
    servers: dict[Address, ServerRecord] = field(default_factory=dict)
    profiles: dict[Address, list[Profile]] = field(default_factory=dict)
    offers: dict[tuple[Address, Address], OfferRecord] = field(default_factory=dict)
    bonds: dict[Address, BondRecord] = field(default_factory=dict)
    pool: list[Address] = field(default_factory=list)
    draws: dict[TaskId, registry.Draw] = field(default_factory=dict)
    draws_until: int = 0
    released_at: dict[TaskId, int] = field(default_factory=dict)
    judged: set[Hash32] = field(default_factory=set)
    burnt_wei: int = 0

    def follow(self, events: Iterable[MarketEvent]) -> ReplayedState:
        """Apply events in chain order."""
        for event in events:
            if isinstance(event, TaskEvent):
                self._task_event(event)
            self._registry_event(event)
        return self

    def _task_event(self, event: TaskEvent) -> None:
        task, block = event.task, event.position.block_number
        match event:
            case market.TaskCreated():
                self.tasks[task] = _created(event)
                self._idle(task, Phase.DRAWING, block)
            case market.CommitteeFixed():
                n = self.tasks[task].terms.n
                numbers = tuple(event.profiles >> 16 * index & 0xFFFF for index in range(n))
                self._change(task, committee=event.committee, profiles=numbers)
                self._idle(task, Phase.IDLE, block)
            case market.RoundsAdded():
                terms = self.tasks[task].terms
                self._change(task, terms=replace(terms, rounds=terms.rounds + event.rounds))
            case market.RewardClaimed():
                key = (task, event.owner)
                self.claimed[key] = self.claimed.get(key, 0) + event.amount_wei
                total = self.tasks[task].claimed_wei + event.amount_wei
                self._change(task, claimed_wei=total)
            case market.FeesClaimed():
                place = (task, event.index)
                self.fees_paid[place] = self.fees_paid.get(place, 0) + event.amount_wei
            case market.TaskClosed():
                self._change(task, closed=True)
            case market.TaskRefunded():
                self._change(task, refunded=True)
            case _:
                self._round_event(event)

    def _round_event(self, event: TaskEvent) -> None:
        task, block = event.task, event.position.block_number
        windows = self.tasks[task].terms.windows
        match event:
            case market.RoundOpened():
                self._change(task, opened_rounds=event.round)
                self.rounds[task] = _opened(event, windows)
            case market.RoundSealed():
                challenge = block + windows.delta
                self.rounds[task] = replace(
                    self.rounds[task],
                    phase=Phase.SEALED,
                    submissions_root=event.submissions_root,
                    count=event.count,
                    sealed_block=block,
                    challenge_block=challenge,
                    challenge_final_block=challenge + windows.confirmations,
                    settlement_deadline_block=block + windows.settlement_blocks,
                )
            case market.RoundSettled():
                self._settled(event)
                self._over(task)
            case market.RoundVoided():
                self._over(task)
            case _:
                pass

    def _registry_event(self, event: MarketEvent) -> None:
        block = event.position.block_number
        match event:
            case registry.ServersEnlisted():
                for member in event.servers:
                    self._serve(member, active_tasks=self.servers[member].active_tasks + 1)
            case registry.ServersReleased():
                self._released(event)
            case registry.DrawPinned():
                self.burnt_wei += event.fee_wei
                self.draws_until = block + DRAW_BLOCKS
                self.draws[event.task] = registry.Draw(
                    draws=event.draws,
                    pinned_block=event.pinned_block,
                    pool=event.pool,
                    randomness=_ZERO,
                )
                self._idle(event.task, Phase.DRAWING, block)
            case registry.DrawRevealed():
                draw = self.draws[event.task]
                self.draws[event.task] = replace(draw, randomness=event.randomness)
            case registry.Slashed():
                self._slashed(event)
            case _:
                self._server_event(event)
                self._bond_event(event)

    def _server_event(self, event: MarketEvent) -> None:
        block = event.position.block_number
        match event:
            case registry.ServerRegistered():
                self.servers[event.server] = ServerRecord(
                    address=event.server,
                    endpoint="",
                    hpke_key=_ZERO,
                    profile=0,
                    stake_wei=Wei(event.stake_wei),
                    active_tasks=0,
                    since_block=block,
                    leaving_block=0,
                    free_at=0,
                )
                if event.server not in self.pool:
                    self.pool.append(event.server)
            case registry.ProfileSet():
                profile = Profile(hpke_key=event.hpke_key, endpoint=event.endpoint)
                self.profiles.setdefault(event.server, []).append(profile)
                self._serve(event.server, profile=event.profile, **vars(profile))
            case registry.StakeAdded():
                stake_wei = self.servers[event.server].stake_wei + event.amount_wei
                self._serve(event.server, stake_wei=stake_wei, since_block=block)
            case registry.OfferSet():
                self.offers.pop((event.server, event.token), None)
                if event.open:
                    self.offers[event.server, event.token] = OfferRecord(
                        min_fee_wei=Wei(event.min_fee_wei), max_stake_wei=Wei(event.max_stake_wei)
                    )
            case registry.ServerLeaving():
                self._serve(event.server, leaving_block=block, free_at=event.free_at)
            case registry.StakeWithdrawn():
                del self.servers[event.server]
            case registry.PoolSwept():
                mover, place = self.pool[-1], self.pool.index(event.server)
                self.pool[place] = mover
                self.pool.pop()
            case _:
                pass

    def _bond_event(self, event: MarketEvent) -> None:
        match event:
            case registry.BondAdded():
                amount_wei = self.bond(event.owner).amount_wei + event.amount_wei
                self.bonds[event.owner] = BondRecord(amount_wei=Wei(amount_wei), free_at=0)
            case registry.OwnerLeaving():
                bond = self.bonds[event.owner]
                self.bonds[event.owner] = replace(bond, free_at=event.free_at)
            case registry.BondWithdrawn():
                del self.bonds[event.owner]
            case _:
                pass

    def bond(self, owner: Address) -> BondRecord:
        """Return a data owner's bond, zero without one."""
        return self.bonds.get(owner, _NO_BOND)

    def _change(self, task: TaskId, **changes: object) -> None:
        self.tasks[task] = replace(self.tasks[task], **changes)  # type: ignore[arg-type]

    def _serve(self, server: Address, **changes: object) -> None:
        self.servers[server] = replace(self.servers[server], **changes)  # type: ignore[arg-type]

    def _idle(self, task: TaskId, phase: Phase, block: int) -> None:
        """Note that a task without rounds counts as idle from a block on."""
        now, windows = self.timestamp(block), self.tasks[task].terms.windows
        self.rounds[task] = RoundRecord(
            task=task,
            round=Round(0),
            phase=phase,
            opened_block=0,
            submission_deadline=now,
            seal_deadline=now + windows.seal_seconds,
            submissions_root=_ZERO,
            count=0,
            sealed_block=0,
            challenge_block=0,
            challenge_final_block=0,
            settlement_deadline_block=0,
        )

    def _over(self, task: TaskId) -> None:
        self.rounds[task] = replace(
            self.rounds[task],
            phase=Phase.IDLE,
            submissions_root=_ZERO,
            count=0,
            sealed_block=0,
            challenge_block=0,
            challenge_final_block=0,
            settlement_deadline_block=0,
        )

    def _settled(self, event: market.RoundSettled) -> None:
        record = self.tasks[event.task]
        credit = event.accepted_count * record.terms.reward_wei
        attested = record.attested_rounds
        self._change(
            event.task,
            settled_rounds=record.settled_rounds + 1,
            credited_wei=record.credited_wei + credit,
            payouts_root=event.payouts_root,
            previous_payouts_root=event.previous_payouts_root,
            attested_rounds=tuple(
                rounds + (event.v_bitmap >> index & 1) for index, rounds in enumerate(attested)
            ),
        )

    def _released(self, event: registry.ServersReleased) -> None:
        now = self.timestamp(event.position.block_number)
        self.released_at[event.task] = now
        for member in event.servers:
            server = self.servers[member]
            self._serve(
                member,
                active_tasks=server.active_tasks - 1,
                free_at=now + UNBONDING_SECONDS if server.free_at else 0,
            )

    def _slashed(self, event: registry.Slashed) -> None:
        self.burnt_wei += event.amount_wei - event.share_wei
        if event.kind == FaultKind.OWNER:
            bond = self.bonds[event.party]
            left = Wei(bond.amount_wei - event.amount_wei)
            self.bonds[event.party] = replace(bond, amount_wei=left)
        else:
            stake_wei = self.servers[event.party].stake_wei - event.amount_wei
            self._serve(event.party, stake_wei=stake_wei)
        # A server is reported once in a task, all else is judged once a round.
        number = 0 if event.kind == FaultKind.SERVER else event.round
        by_itself = event.kind >= FaultKind.TWO_WORDS
        self.judged.add(case_hash(event.task, number, event.party, by_itself=by_itself))


def case_hash(task: int, round_number: int, party: Address, *, by_itself: bool) -> Hash32:
    """Return the key under which the registry notes a judgement."""
    numbers = task.to_bytes(32, "big") + round_number.to_bytes(32, "big")
    return Hash32(keccak(numbers + party.rjust(32, b"\0") + int(by_itself).to_bytes(32, "big")))


def _created(event: market.TaskCreated) -> TaskRecord:
    windows = {name: getattr(event, name) for name in Windows.__dataclass_fields__}
    names = TaskTerms.__dataclass_fields__.keys() - {"windows"}
    terms = TaskTerms(windows=Windows(**windows), **{name: getattr(event, name) for name in names})
    return TaskRecord(
        task=event.task,
        model_owner=event.model_owner,
        terms=terms,
        committee=(),
        profiles=(),
        created_block=event.position.block_number,
        opened_rounds=0,
        settled_rounds=0,
        attested_rounds=(0,) * terms.n,
        closed=False,
        refunded=False,
        credited_wei=Wei(0),
        claimed_wei=Wei(0),
        payouts_root=EMPTY_ROOT,
        previous_payouts_root=EMPTY_ROOT,
    )


def _opened(event: market.RoundOpened, windows: Windows) -> RoundRecord:
    return RoundRecord(
        task=event.task,
        round=event.round,
        phase=Phase.OPEN,
        opened_block=event.position.block_number,
        submission_deadline=event.submission_deadline,
        seal_deadline=event.submission_deadline + windows.seal_seconds,
        submissions_root=_ZERO,
        count=0,
        sealed_block=0,
        challenge_block=0,
        challenge_final_block=0,
        settlement_deadline_block=0,
    )
