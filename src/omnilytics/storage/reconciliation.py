"""Answer once, also after a restored back-up (protocol.md section 7, (!)).

A store that was restored, or lost and begun afresh, has forgotten what the server answered since
the back-up: under which seed, for which accepted set, which commitment of an owner. If it answered
once more, and differently, a secret would be revealed. So

1. `restore` marks the store in the transaction that fills it, and `Repository(...,
   reconcile_when_new=True)` a fresh one. A marked store refuses `lock`, `claim_receipt`,
   `add_held` of anything new and `use_nonce`, on every process, until it is reconciled. Whoever
   puts a database back by other means (a copied file, a snapshot of the machine, PostgreSQL's own
   recovery) marks it by `require_reconciliation`; nothing in the store could tell.
2. `reconcile` takes what the chain and the peers know: the latest round that was ever opened of
   each task. Every round up to it is **barred**: what the back-up holds for it stays, for resending
   the same answer is safe, and what it does not hold is never given. The server stays silent where
   it cannot know what it said; n - e others finish the round, and it takes part in the next.
3. Answers that peers show under this server's own signature (Seed, Final) may be given back as
   `own_answers`: they are what the lock held, so the server can go on under them.

What it takes from its caller: a chain that is not behind (ask several nodes; wait until the head is
fresh and `confirmations` blocks have passed since the store was restored), and every task in whose
committee this server is or was. A round that is opened later, or that a re-organisation opens anew
under a number that is barred, is safe either way. Requests' nonces of after the back-up are
forgotten: do not serve within `MAX_AGE_SECONDS` (transport.authentication) of the restoration.

A daemon's start is then

    try:
        repository.check_reconciled()
    except StorageUnavailableError:
        opened = {task: latest_round(task) for task in tasks_of_this_server}  # from the chain
        reconcile(repository, opened, own_answers=signed_by_me_on_peers_boards(opened))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Round, TaskId
from omnilytics.protocol.locks import FINAL_LOCK, SEED_LOCK
from omnilytics.storage import schema
from omnilytics.storage.repository import Repository

BY_HAND = "put back by hand"


@dataclass(frozen=True, kw_only=True)
class OwnAnswer:
    """The value of a lock that this server's own signature shows."""

    task: TaskId
    round: Round
    kind: str
    value: bytes


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """What `reconcile` did."""

    barred: Mapping[TaskId, Round]
    """Through which round the server gives no new answer, for each task."""
    recovered: int
    """How many answers came back from peers."""
    abandoned: int
    """How many calls of before were given up; the steps that want them make new ones."""


def require_reconciliation(repository: Repository, cause: str = BY_HAND) -> None:
    """Mark a store that may have forgotten answers; it is silent until `reconcile`."""
    repository.database.insert(schema.reconciliation, only=1, cause=cause)


def reconcile(
    repository: Repository,
    opened: Mapping[TaskId, Round],
    *,
    own_answers: Iterable[OwnAnswer] = (),
) -> Reconciled:
    """Bar every round in which this server may have answered; lift the mark.

    All of it is one transaction. Doing it again, or with no need, bars more and harms nothing.

    Args:
        repository: The store.
        opened: For each task of this server the latest round opened, 0 before the first, as the
            chain says, or a higher number that e + 1 peers show.
        own_answers: What this server signed, as found on peers' boards, signatures checked.

    Raises:
        VerificationError: The chain shows less than the store remembers (a task or a round), so
            it is behind or another one; or an own answer contradicts a lock. Nothing changes.
    """
    with repository.database.batch() as connection:
        _check_not_behind(repository, opened)
        recovered = sum(_recover(repository, answer) for answer in own_answers)
        barred = {task: _bar(repository, task, latest) for task, latest in opened.items()}
        abandoned = _forget_work(repository)
        connection.execute(delete(schema.reconciliation))
    return Reconciled(barred=barred, recovered=recovered, abandoned=abandoned)


def _check_not_behind(repository: Repository, opened: Mapping[TaskId, Round]) -> None:
    for table in (schema.locks, schema.receipts, schema.submissions, schema.held_packages):
        query = select(table.c.task, func.max(table.c.round)).group_by(table.c.task)
        if table is schema.locks:  # others, such as an artefact's, come before their round
            query = query.where(schema.locks.c.kind.in_((SEED_LOCK, FINAL_LOCK)))
        with repository.database.reading() as connection:
            rows = connection.execute(query).all()
        for task, latest in rows:
            if latest > opened.get(task, -1):
                raise VerificationError(
                    "the chain shows fewer rounds than this store remembers",
                    got=opened.get(task, "no such task"),
                    want=f">= {latest}",
                    hint="wait until the chain node is in sync, or name the right one",
                    task=task,
                )


def _recover(repository: Repository, answer: OwnAnswer) -> bool:
    if repository.database.insert(schema.locks, **vars(answer)):
        return True
    columns = schema.locks.c
    query = select(columns.value).where(
        columns.task == answer.task, columns.round == answer.round, columns.kind == answer.kind
    )
    with repository.database.reading() as connection:
        held = bytes(connection.execute(query).scalar_one())
    if held != answer.value:
        raise VerificationError(
            "this server signed two answers; find out who else has its key",
            got=answer.value.hex(),
            want=held.hex(),
            task=answer.task,
            round=answer.round,
            kind=answer.kind,
        )
    return False


def _bar(repository: Repository, task: TaskId, latest: Round) -> Round:
    """Bar the task's rounds through `latest`, or further if they were; return through which."""
    barred = schema.barred_rounds
    repository.database.insert(barred, task=task, through_round=latest)
    less = (barred.c.task == task) & (barred.c.through_round < latest)
    with repository.database.batch() as connection:
        connection.execute(update(barred).where(less).values(through_round=latest))
        query = select(barred.c.through_round).where(barred.c.task == task)
        return Round(connection.execute(query).scalar_one())


def _forget_work(repository: Repository) -> int:
    """Release leases of before, give up calls not known to be mined, and forget the chain's logs.

    The calls' nonces may be spent by transactions that the store forgot; the chain knows which, and
    its logs are read again.
    """
    repository.jobs.release_all()
    calls = select(schema.outbox.c.sender, schema.outbox.c.nonce).distinct()
    with repository.database.batch() as connection:
        given_up = len(connection.execute(calls).all())
        for table in (schema.outbox, schema.cursors, schema.chain_logs):
            connection.execute(delete(table))
        return given_up
