"""Reporting and convicting: honestly, wrongly, and framing others."""

from __future__ import annotations

from machine_choices import (
    HIGH_S,
    NO_SIGNATURE,
    PARTIES,
    Choosing,
    Dice,
    hash_from,
    one_of,
    sign,
    votes,
)
from machine_state import DAYS_14, Where
from machine_world import (
    DATA_OWNERS,
    KEYS,
)

from omnilytics.foundation.units import Round, TaskId
from omnilytics.wire.eip712 import TypedMessage
from omnilytics.wire.messages import Fault, Final, Seed, Submission, Word


class FaultActions(Choosing):
    """Calls about faults."""

    def report_fault(self, dice: Dice) -> None:
        """Report a server or a data owner, by n - e servers or by fewer."""
        self.tick(dice)
        number = self.pick(dice, list(self.world.state.tasks))
        task = self.task(number)
        if task and task.released_at and dice.random() < 0.3:
            self.arrive(dice, first=task.released_at + DAYS_14)
        committee = list(task.committee or ()) if task else []
        e = task.terms.e if task else 0
        kind = dice.choice([1, 1, 1, 2, 2, 2, 3, 0])
        party = dice.choice(committee or PARTIES)
        if kind == 2 or dice.random() < 0.05:
            party = KEYS[dice.choice(DATA_OWNERS)].address
        bonded = list(self.world.state.bonds)
        if kind == 2 and bonded and dice.random() < 0.7:
            party = dice.choice(bonded)
        opened = task.opened if task else 1
        round_number = Round(dice.choice([opened, max(opened, 1), 1, 2**256 - 1]))
        where = Where(task=TaskId(number), round=round_number)
        evidence, commitment = hash_from(dice), hash_from(dice)
        fault = Fault(**where, party=party, kind=kind, evidence_hash=evidence)
        flaw = one_of(dice, 0.15, "few", "signer", "high s", "round", "beyond", "thin", "framed")
        signers, signatures = votes(dice, committee, e, fault, flaw)
        signed = Submission(**where, commitment=commitment)
        submission = NO_SIGNATURE
        if kind == 2:
            author = KEYS["X"].address if dice.random() < 0.08 else party
            submission = HIGH_S if dice.random() < 0.05 else sign(author, signed)
        self.world.call(
            dice.choice([KEYS["R"].address, *PARTIES]),
            "report_fault",
            number,
            round_number,
            party,
            kind,
            evidence,
            self.committee(dice, number),
            signers,
            signatures,
            commitment,
            submission,
        )

    def convict(self, dice: Dice) -> None:
        """Convict a server by two of its own signatures."""
        self.tick(dice)
        likely = [n for n, task in self.world.state.tasks.items() if task.committee]
        number = self.pick(dice, likely)
        task = self.task(number)
        committee = list(task.committee or ()) if task else []
        server = dice.choice(committee or PARTIES)
        flaw = one_of(dice, 0.3, "same", "outside", "signer", "high s")
        if flaw == "outside":
            server = dice.choice(PARTIES)
        where = Where(task=TaskId(number), round=Round(dice.choice([1, 1, 2, 2**256 - 1])))
        one, other = hash_from(dice), hash_from(dice)
        if flaw == "same":
            other = one
        kind = dice.choice(["words", "seeds", "finals"])
        pair: list[TypedMessage]
        if kind == "words":
            root, seed, commitment = hash_from(dice), hash_from(dice), hash_from(dice)
            key = {"submissions_root": root, "seed": seed, "commitment": commitment}
            about = {**key, "owner": KEYS["D0"].address}
            pair = [Word(**where, **about, word=word) for word in (one, other)]  # type: ignore[arg-type]
            told: tuple[object, ...] = root, seed, KEYS["D0"].address, commitment, [one, other]
        elif kind == "seeds":
            pair = [Seed(**where, submissions_root=one, seed=seed) for seed in (one, other)]
            told = [one, one], [one, other]
        else:
            pair = [Final(**where, accepted_root=root) for root in (one, other)]
            told = ([one, other],)
        author = dice.choice([p for p in PARTIES if p != server]) if flaw == "signer" else server
        signatures = [sign(server, pair[0]), sign(author, pair[1])]
        if flaw == "high s":
            signatures[dice.randrange(2)] = HIGH_S
        dice.shuffle(signatures) if dice.random() < 0.05 else None
        name, shown = f"convict_of_two_{kind}", self.committee(dice, number)
        sender = dice.choice(PARTIES)
        rest = *told, signatures, server, shown
        self.world.call(sender, name, number, where["round"], *rest)
