"""Opening, sealing, settling and voiding rounds."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

from contract_world import codewords, with_value
from machine_choices import (
    DAY,
    PARTIES,
    Choosing,
    Dice,
    bits,
    hash_from,
    one_of,
    sign,
    spoilt,
    subset,
    votes,
)
from machine_codewords import P
from machine_market import signed_settlement
from machine_state import Phase, Task

from omnilytics.chain.bindings import market
from omnilytics.chain.records import challenge_seed
from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.wire.messages import SealVote


class RoundActions(Choosing):
    """Calls about rounds."""

    def open_round(self, dice: Dice) -> None:
        """Open a round."""
        self.tick(dice)
        tasks = self.world.state.tasks
        if tasks and dice.random() < 0.01:
            self.world.advance(1, 367 * DAY)
        idle = self.tasks(Phase.IDLE)
        ready = [number for number in idle if tasks[number].opened < tasks[number].paid_rounds]
        likely = ready if ready and dice.random() < 0.8 else list(tasks)
        number = self.pick(dice, likely)
        task = self.task(number)
        sender = self.caller(dice, task.owner if task else None)
        self.world.call(sender, "open_round", number, hash_from(dice), value=self.value(dice))

    def force_submission(self, dice: Dice) -> None:
        """Force a submission into a round."""
        number = self.pick(dice, self.tasks(Phase.OPEN))
        task = self.task(number)
        if task and dice.random() < 0.5:
            self.arrive(dice, first=0, last=task.idle_since - task.terms.forced_seconds - 1)
        else:
            self.tick(dice)
        size = dice.choice([0, 1, 100, 8_192])
        sender = dice.choice(PARTIES)
        self.world.call(sender, "force_submission", number, dice.randbytes(size))

    def seal(self, dice: Dice) -> None:
        """Seal a round by its servers' votes."""
        number = self.pick(dice, self.tasks(Phase.OPEN))
        task = self.task(number)
        if task and task.phase is Phase.OPEN:
            last = task.idle_since + task.terms.seal_seconds - 1
            self.arrive(dice, first=task.idle_since, last=last)
        flaw = one_of(dice, 0.15, "few", "signer", "high s", "round", "beyond", "count", "thin")
        least, e = (task.terms.min_owners, task.terms.e) if task else (1, 0)
        count = least + dice.choice([0, 1, 3, 30])
        if flaw == "count":
            count = dice.choice([least - 1, 2**32, 2**256 - 1])
        root = hash_from(dice)
        opened = (task.opened if task else 1) + (flaw == "round")
        vote = SealVote(
            task=TaskId(number), round=Round(opened), submissions_root=root, count=count
        )
        committee = list(task.committee or ()) if task else []
        signers, signatures = votes(dice, committee, e, vote, flaw)
        sender, value = dice.choice(PARTIES), self.value(dice)
        arguments = number, root, count, self.committee(dice, number), signers, signatures
        self.world.call(sender, "seal", *arguments, value=value)

    def settle(self, dice: Dice) -> None:
        """Settle a round, to whatever payouts root n - e servers sign."""
        number = self.pick(dice, self.tasks(Phase.SEALED))
        task = self.task(number)
        if task is None or task.committee is None:
            given = _empty_settlement(dice)
            self.world.call(dice.choice(PARTIES), "settle", number, given, [], 0, [], [])
            return
        terms = task.terms
        if task.phase is Phase.SEALED:
            final = task.sealed_block + terms.delta + terms.confirmations + 1
            last = task.sealed_block + terms.settlement_blocks
            self.arrive(dice, first=final, last=last, blocks=True)
        flaw = one_of(dice, 0.1, "few", "signer", "high s", "round", "beyond", "thin")
        flaw = flaw or one_of(
            dice, 0.2, "root", "seed", "previous", "previous", "fewer", "more", "words"
        )
        flaw = flaw or one_of(dice, 0.1, "V beyond", "outside V", "limb", "word", "d word")
        given = self._settlement(dice, number, task, flaw)
        agreed = signed_settlement(number, task.opened + (flaw == "round"), given)
        committee, n = list(task.committee), task.n
        signers = subset(dice, n, terms.e, flaw)
        if flaw == "outside V":
            given = replace(given, v_bitmap=given.v_bitmap & ~(signers & -signers))
            agreed = replace(agreed, v_bitmap=given.v_bitmap)
        elif flaw != "V beyond" and dice.random() < 0.6:
            given = replace(given, v_bitmap=signers % (1 << n))
            agreed = replace(agreed, v_bitmap=given.v_bitmap)
        words = [self._word_of(dice, task, index, flaw) for index in bits(signers, n)]
        signed = zip(bits(signers, n), words, strict=True)
        signatures = [sign(committee[index], replace(agreed, word=word)) for index, word in signed]
        signatures = spoilt(signatures, flaw, dice, agreed)
        if flaw == "words":
            words = words[:-1]
        sender, shown = dice.choice(PARTIES), self.committee(dice, number)
        self.world.call(sender, "settle", number, given, shown, signers, words, signatures)

    def _settlement(
        self, dice: Dice, number: int, task: Task, flaw: str | None
    ) -> market.Settlement:
        terms, root = task.terms, task.submissions_root
        challenge = task.sealed_block + terms.delta
        challenge_hash = self.world.model.books.block_hash(max(challenge, self._oldest()))
        seed = challenge_seed(challenge_hash, TaskId(number), Round(task.opened), root)
        most = min(terms.max_owners, task.sealed_count)
        accepted = dice.choice([terms.min_owners, max(most, terms.min_owners)])
        if flaw == "fewer":
            accepted = terms.min_owners - 1
        if flaw == "more":
            accepted = dice.choice([most + 1, 2**256 - 1])
        return market.Settlement(
            submissions_root=hash_from(dice) if flaw == "root" else root,
            seed=hash_from(dice) if flaw == "seed" else seed,
            accepted_root=hash_from(dice),
            accepted_count=accepted,
            v_bitmap=1 << task.n if flaw == "V beyond" else (1 << task.n) - 1,
            previous_payouts_root=hash_from(dice) if flaw == "previous" else task.root,
            payouts_root=self.payouts.root_for(dice, task, min(accepted, 9)),
            transcript_hash=hash_from(dice),
        )

    def _oldest(self) -> int:
        return self.world.chain.block - (8_191 if self.world.model.books.has_history else 256)

    def _word_of(self, dice: Dice, task: Task, index: int, flaw: str | None) -> Hash32:
        word = _words(task.n, task.terms.t)[index]
        if flaw == "limb":
            return with_value(word, dice.randrange(4), dice.choice([P, 2**64 - 1]))
        if flaw in ("word", "d word"):
            return with_value(word, 0 if flaw == "word" else 2, dice.randrange(P))
        return word

    def void_round(self, dice: Dice) -> None:
        """End a round whose deadline was missed."""
        number = self.pick(dice, self.tasks(Phase.OPEN, Phase.SEALED))
        task = self.task(number)
        if dice.random() < 0.3:
            self.tick(dice)
        elif task and task.phase is Phase.OPEN:
            self.arrive(dice, first=task.idle_since + task.terms.seal_seconds)
        elif task and task.phase is Phase.SEALED:
            last = task.sealed_block + task.terms.settlement_blocks
            self.arrive(dice, first=last + 1, blocks=True)
        self.world.call(dice.choice(PARTIES), "void_round", number, value=self.value(dice))


@cache
def _words(n: int, t: int) -> list[Hash32]:
    return codewords(random.Random(7), n, t)


def _empty_settlement(dice: Dice) -> market.Settlement:
    return market.Settlement(
        submissions_root=hash_from(dice),
        seed=hash_from(dice),
        accepted_root=hash_from(dice),
        accepted_count=0,
        v_bitmap=0,
        previous_payouts_root=hash_from(dice),
        payouts_root=hash_from(dice),
        transcript_hash=hash_from(dice),
    )
