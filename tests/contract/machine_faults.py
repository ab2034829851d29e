"""A model of the registry's faults: reports by a quorum, and convictions by one's own words."""

from __future__ import annotations

from eth_hash.auto import keccak
from machine_books import Books
from machine_state import (
    DAYS_14,
    Bond,
    Where,
    check_quorum,
    check_signature,
    refuse_if,
)

from omnilytics.chain.abi import Signature
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.wire.eip712 import TypedMessage
from omnilytics.wire.messages import Fault, Final, Seed, Submission, Word


class FaultModel:
    """What a report or a conviction does, or why it is refused."""

    def __init__(self, books: Books) -> None:
        self.books = books

    def report_fault(
        self,
        sender: Address,
        value: int,
        task: int,
        round_number: int,
        party: Address,
        kind: int,
        evidence: Hash32,
        servers: tuple[Address, ...],
        signers: int,
        signatures: list[Signature],
        commitment: Hash32,
        submission: Signature,
    ) -> None:
        e = self._check_committee(task, servers)
        state, terms = self.books.state, self.books.state.tasks[task].terms
        released_at = state.tasks[task].released_at
        late = released_at is not None and self.books.time >= released_at + DAYS_14
        refuse_if(late, "too late to report")
        where = Where(task=TaskId(task), round=Round(round_number))
        fault = Fault(**where, party=party, kind=kind, evidence_hash=evidence)
        check_quorum(fault, self.books.domain, tuple(servers), e, signers, signatures)
        refuse_if(kind not in (1, 2), "no such kind")
        if kind == 1:
            refuse_if(party not in servers, "not in the committee")
        else:
            signed = Submission(**where, commitment=commitment)
            wrong = "not its submission"
            check_signature(signed, self.books.domain, submission, party, wrong)
        # A server is reported once in a task: there the round is only the quorum's word.
        self._judge(task, 0 if kind == 1 else round_number, party, by_itself=False)
        if kind == 1:
            server = state.servers.get(party)
            amount = min(server.stake, terms.min_stake_wei) if server else 0
            refuse_if(amount == 0, "nothing at risk")
            assert server is not None
            server.stake -= amount
        else:
            bond = state.bonds.get(party, Bond())
            amount = min(bond.amount, terms.min_bond_wei)
            refuse_if(amount == 0, "nothing at risk")
            bond.amount -= amount
        self._slash(sender, party, task, round_number, kind, evidence, amount, amount // 20)

    def convict_of_two_words(
        self,
        sender: Address,
        value: int,
        task: int,
        round_number: int,
        submissions_root: Hash32,
        seed: Hash32,
        owner: Address,
        commitment: Hash32,
        words: list[Hash32],
        signatures: list[Signature],
        server: Address,
        servers: list[Address],
    ) -> None:
        key = {"submissions_root": submissions_root, "seed": seed}
        about = {"owner": owner, "commitment": commitment}
        where = Where(task=TaskId(task), round=Round(round_number))
        pair = [Word(**where, **key, **about, word=word) for word in words]  # type: ignore[arg-type]
        self._convict(sender, 3, pair, signatures, server, servers)

    def convict_of_two_seeds(
        self,
        sender: Address,
        value: int,
        task: int,
        round_number: int,
        roots: list[Hash32],
        seeds: list[Hash32],
        signatures: list[Signature],
        server: Address,
        servers: list[Address],
    ) -> None:
        where = Where(task=TaskId(task), round=Round(round_number))
        both = zip(roots, seeds, strict=True)
        pair = [Seed(**where, submissions_root=root, seed=seed) for root, seed in both]
        self._convict(sender, 4, pair, signatures, server, servers)

    def convict_of_two_finals(
        self,
        sender: Address,
        value: int,
        task: int,
        round_number: int,
        roots: list[Hash32],
        signatures: list[Signature],
        server: Address,
        servers: list[Address],
    ) -> None:
        where = Where(task=TaskId(task), round=Round(round_number))
        pair = [Final(**where, accepted_root=root) for root in roots]
        self._convict(sender, 5, pair, signatures, server, servers)

    def _convict(
        self,
        sender: Address,
        kind: int,
        pair: list[Word] | list[Seed] | list[Final],
        signatures: list[Signature],
        server: Address,
        servers: list[Address],
    ) -> None:
        task, round_number = pair[0].task, pair[0].round
        self._check_committee(task, servers)
        refuse_if(server not in servers, "not in the committee")
        refuse_if(pair[0] == pair[1], "the same twice")
        for message, signature in zip(pair, signatures, strict=True):
            check_signature(message, self.books.domain, signature, server, "bad signature")
        self._judge(task, round_number, server, by_itself=True)
        standing = self.books.state.servers.get(server)
        refuse_if(standing is None or standing.stake == 0, "nothing at risk")
        assert standing is not None
        amount, standing.stake = standing.stake, 0
        evidence = _evidence(pair)
        self._slash(sender, server, task, round_number, kind, evidence, amount, amount // 4)

    def _check_committee(self, task: int, servers: list[Address] | tuple[Address, ...]) -> int:
        found = self.books.state.tasks.get(task)
        right = found is not None and found.committee == tuple(servers)
        refuse_if(not right, "wrong committee")
        assert found is not None
        return found.terms.e

    def _judge(self, task: int, round_number: int, party: Address, *, by_itself: bool) -> None:
        case = task, round_number, party, by_itself
        refuse_if(case in self.books.state.judged, "already judged")
        self.books.state.judged.add(case)

    def _slash(
        self,
        reporter: Address,
        party: Address,
        task: int,
        round_number: int,
        kind: int,
        evidence: Hash32,
        amount: int,
        share: int,
    ) -> None:
        """Pay the reporter a share (a quarter of a conviction, a twentieth else), burn the rest."""
        self.books.state.burnt += amount - share
        what = {"task": task, "round": round_number, "kind": kind, "evidence_hash": evidence}
        money = {"amount_wei": amount, "reporter": reporter, "share_wei": share}
        self._log("Slashed", party=party, **what, **money)
        self._send(reporter, share)

    def _send(self, receiver: Address, amount: int) -> None:
        self.books.transfer(self.books.state.registry, receiver, amount)

    def _log(self, event: str, **values: object) -> None:
        self.books.log(self.books.state.registry, event, **values)


def _evidence(pair: list[Word] | list[Seed] | list[Final]) -> Hash32:
    messages: list[TypedMessage] = list(pair)
    return Hash32(keccak(b"".join(message.struct_hash() for message in messages)))
