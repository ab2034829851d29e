"""The market's packed storage words, unpacked (docs/contract.md, "Storage").

The contract returns a task as it is stored, which keeps its code small; the layouts here are those
beside the constants of Market.vy.
"""

from __future__ import annotations

from omnilytics.chain.bindings import market
from omnilytics.chain.records import Phase, RoundRecord, TaskRecord, TaskTerms, Windows
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, Wei

_ADDRESS_BITS = 160
_NO_HASH = Hash32(bytes(32))


def _bits(word: int, start: int, size: int) -> int:
    return word >> start & (1 << size) - 1


def unpack_terms(stored: market.Task) -> TaskTerms:
    """Return a task's terms; `rounds` is what is paid for now."""
    word, prices = stored.terms, stored.prices
    return TaskTerms(
        spec_hash=stored.spec_hash,
        n=_bits(word, 0, 8),
        t=_bits(word, 8, 8),
        e=_bits(word, 16, 8),
        rounds=_bits(word, 24, 16),
        max_rounds=_bits(word, 40, 16),
        min_owners=_bits(word, 120, 32),
        max_owners=_bits(word, 152, 32),
        reward_wei=Wei(_bits(prices, 0, 96)),
        fee_wei=Wei(_bits(prices, 96, 96)),
        opening_fee_wei=Wei(_bits(stored.payer, _ADDRESS_BITS, 96)),
        min_stake_wei=Wei(_bits(stored.risk, 0, 96)),
        min_bond_wei=Wei(_bits(stored.risk, 96, 96)),
        allow_root=stored.allow_root,
        token=stored.token,
        windows=Windows(
            delta=_bits(word, 56, 8),
            confirmations=_bits(word, 64, 8),
            words_blocks=_bits(word, 72, 16),
            openings_blocks=_bits(word, 88, 16),
            settlement_blocks=_bits(word, 104, 16),
            submission_seconds=_bits(word, 184, 24),
            forced_seconds=_bits(word, 208, 24),
            seal_seconds=_bits(word, 232, 24),
        ),
    )


def unpack_task(task: TaskId, stored: market.Task, committee: tuple[Address, ...]) -> TaskRecord:
    """Return a task as a record; its committee comes from the event that fixed it."""
    progress, ledger = stored.progress, stored.ledger
    n = _bits(stored.terms, 0, 8)
    return TaskRecord(
        task=task,
        model_owner=Address(_bits(stored.payer, 0, _ADDRESS_BITS).to_bytes(20, "big")),
        terms=unpack_terms(stored),
        committee=committee,
        profiles=tuple(_bits(stored.profiles, 16 * index, 16) for index in range(len(committee))),
        created_block=_bits(stored.prices, 192, 48),
        opened_rounds=_bits(progress, 16, 16),
        settled_rounds=_bits(progress, 32, 16),
        attested_rounds=tuple(_bits(stored.attested, 16 * index, 16) for index in range(n)),
        closed=bool(_bits(progress, 8, 1)),
        refunded=bool(_bits(progress, 9, 1)),
        credited_wei=Wei(_bits(ledger, 0, 120)),
        claimed_wei=Wei(_bits(ledger, 120, 120)),
        payouts_root=stored.payouts_root,
        previous_payouts_root=stored.previous_payouts_root,
    )


def unpack_round(task: TaskId, stored: market.Task) -> RoundRecord:
    """Return the latest round of a task; number 0 before the first."""
    progress, windows = stored.progress, unpack_terms(stored).windows
    phase = _phase(_bits(progress, 0, 8))
    deadline, sealed_block = _bits(progress, 48, 48), _bits(progress, 144, 48)
    sealed = phase is Phase.SEALED
    challenge_block = sealed_block + windows.delta
    return RoundRecord(
        task=task,
        round=Round(_bits(progress, 16, 16)),
        phase=phase,
        opened_block=_bits(progress, 96, 48),
        submission_deadline=deadline,
        seal_deadline=deadline + windows.seal_seconds,
        submissions_root=stored.submissions_root if sealed else _NO_HASH,
        count=_bits(progress, 192, 32) if sealed else 0,
        sealed_block=sealed_block if sealed else 0,
        challenge_block=challenge_block if sealed else 0,
        challenge_final_block=challenge_block + windows.confirmations if sealed else 0,
        settlement_deadline_block=sealed_block + windows.settlement_blocks if sealed else 0,
    )


def _phase(value: int) -> Phase:
    try:
        return Phase(value)
    except ValueError:
        raise ChainError("the node answered nonsense", got=value, want="a phase") from None
