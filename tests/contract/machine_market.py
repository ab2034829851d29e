"""A model of the market: tasks, rounds and payment (Market.vy's NatSpec, in Python)."""

from __future__ import annotations

from dataclasses import replace

from eth_hash.auto import keccak
from machine_books import Books
from machine_codewords import on_codewords
from machine_registry import RegistryModel
from machine_state import (
    DAYS_14,
    Phase,
    RefusedError,
    Task,
    check_quorum,
    check_signature,
    check_signers,
    refuse_if,
)

from omnilytics.chain.abi import Signature
from omnilytics.chain.bindings import market
from omnilytics.chain.records import EMPTY_ROOT, challenge_seed
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.wire.messages import Consent, SealVote, Settlement

MAX_SERVERS = 13
DAY = 86_400
DAYS_30 = 30 * DAY
TASK_DAYS = 366
ANY_BLOCK_HASH = 256
NO_WORD = Hash32(bytes(32))


class MarketModel:
    """What each call of the market does, or why it is refused."""

    def __init__(self, books: Books, registry: RegistryModel) -> None:
        self.books = books
        self.registry = registry

    # Tasks

    def create_task(
        self,
        sender: Address,
        value: int,
        terms: market.Terms,
        committee: list[Address],
        expires: int,
        consents: list[Signature],
    ) -> None:
        refuse_if(self.books.time > expires, "consents expired")
        number = self._create(sender, value, terms, len(committee), 0)
        servers = tuple(committee)
        consent = Consent(
            model_owner=sender, terms_hash=hash_of_terms(terms, committee), expires=expires
        )
        profiles = self.registry.join_named(servers, terms.min_stake_wei, consent, consents)
        self._fix_committee(number, servers, profiles)

    def create_drawn_task(self, sender: Address, value: int, terms: market.Terms, n: int) -> None:
        fee = self.books.state.draw_fee
        number = self._create(sender, value, terms, n, fee)
        self.registry.ask_for_draw(number, fee)

    def redraw(self, sender: Address, value: int, number: int) -> None:
        task = self._of_owner(sender, number)
        refuse_if(task.phase is not Phase.DRAWING, "not drawing")
        self.registry.ask_for_draw(number, value)
        task.idle_since = self.books.time

    def draw_committee(self, sender: Address, value: int, number: int) -> None:
        task = self.books.state.tasks.get(number)
        drawing = task is not None and task.phase is Phase.DRAWING and not task.closed
        refuse_if(not drawing, "not drawing")
        assert task is not None
        terms = task.terms
        servers, profiles = self.registry.join_drawn(
            number, task.n, terms.min_stake_wei, terms.token, terms.fee_wei
        )
        self._fix_committee(number, servers, profiles)

    def top_up(self, sender: Address, value: int, number: int, rounds: int) -> None:
        task = self._of_owner(sender, number)
        left = task.terms.max_rounds - task.paid_rounds
        refuse_if(not 1 <= rounds <= left, "bad rounds")
        amount = rounds * task.round_price
        task.paid_rounds += rounds
        self._log("RoundsAdded", task=number, rounds=rounds, amount_wei=amount)
        self._take(sender, value, task.terms.token, amount, 0)

    def close_task(
        self, sender: Address, value: int, number: int, committee: list[Address]
    ) -> None:
        task = self.books.state.tasks.get(number)
        refuse_if(task is None, "no such task")
        assert task is not None
        refuse_if(task.phase not in (Phase.IDLE, Phase.DRAWING), "not idle")
        refuse_if(task.refunded, "already refunded")
        if not task.closed:
            finished = task.opened == task.paid_rounds
            forgotten = self.books.time > task.idle_since + task.terms.seal_seconds + DAYS_14
            allowed = sender == task.owner or finished or forgotten
            refuse_if(not allowed, "not model owner")
            if task.phase is Phase.IDLE:
                self._check_committee(task, committee)
                self.registry.part(number, tuple(committee))
            self._log("TaskClosed", task=number, unspent_wei=task.unspent)
            task.closed = True
            if sender != task.owner:
                return
        task.refunded, task.refund = True, task.unspent
        what = {"model_owner": task.owner, "amount_wei": task.refund}
        self._log("TaskRefunded", task=number, **what)
        self._pay(task.terms.token, task.owner, task.refund)

    # Rounds

    def open_round(self, sender: Address, value: int, number: int, artefact: Hash32) -> None:
        task = self._of_owner(sender, number)
        refuse_if(task.phase is not Phase.IDLE, "not idle")
        refuse_if(self.books.time // DAY > task.created_day + TASK_DAYS, "task expired")
        refuse_if(task.opened == task.paid_rounds, "no rounds left")
        task.opened += 1
        task.phase = Phase.OPEN
        task.idle_since = self.books.time + task.terms.submission_seconds
        task.opened_block = self.books.block
        self._log(
            "RoundOpened",
            task=number,
            round=task.opened,
            artefact_hash=artefact,
            block_hash=self.books.block_hash(self.books.block - 1),
            submission_deadline=task.idle_since,
        )

    def force_submission(self, sender: Address, value: int, number: int, data: bytes) -> None:
        task = self._in_phase(number, Phase.OPEN, "round not open")
        last = task.idle_since - task.terms.forced_seconds
        refuse_if(self.books.time >= last, "too late to force")
        what = {"round": task.opened, "sender": sender, "certificate": data}
        self._log("SubmissionForced", task=number, **what)

    def seal(
        self,
        sender: Address,
        value: int,
        number: int,
        root: Hash32,
        count: int,
        committee: list[Address],
        signers: int,
        signatures: list[Signature],
    ) -> None:
        task = self._in_phase(number, Phase.OPEN, "round not open")
        terms = task.terms
        refuse_if(self.books.time < task.idle_since, "submissions open")
        late = self.books.time >= task.idle_since + terms.seal_seconds
        refuse_if(late, "seal deadline passed")
        refuse_if(not terms.min_owners <= count < 2**32, "bad count")
        self._check_committee(task, committee)
        vote = SealVote(
            task=TaskId(number), round=Round(task.opened), submissions_root=root, count=count
        )
        domain = self.books.domain
        check_quorum(vote, domain, tuple(committee), terms.e, signers, signatures)
        task.phase, task.sealed_block = Phase.SEALED, self.books.block
        task.submissions_root, task.sealed_count = root, count
        what = {"round": task.opened, "submissions_root": root, "count": count}
        self._log("RoundSealed", task=number, **what)

    def settle(
        self,
        sender: Address,
        value: int,
        number: int,
        given: market.Settlement,
        committee: list[Address],
        signers: int,
        words: list[Hash32],
        signatures: list[Signature],
    ) -> None:
        task = self._in_phase(number, Phase.SEALED, "round not sealed")
        terms = task.terms
        self._check_settlement(number, task, given)
        self._check_committee(task, committee)
        check_signers(task.n, terms.e, signers, len(signatures))
        refuse_if(len(words) != len(signatures), "words missing")
        refuse_if(given.v_bitmap >= 1 << task.n, "V beyond committee")
        signed = [index for index in range(task.n) if signers >> index & 1]
        in_v = [index for index in range(task.n) if given.v_bitmap >> index & 1]
        refuse_if(not set(signed) <= set(in_v), "signer outside V")
        agreed = signed_settlement(number, task.opened, given)
        for index, word, signature in zip(signed, words, signatures, strict=True):
            own, domain = replace(agreed, word=word), self.books.domain
            check_signature(own, domain, signature, committee[index], "bad signature")
        self._check_words(signed, words, terms.t)
        for index in in_v:
            task.attested[index] += 1
        task.credited += given.accepted_count * terms.reward_wei
        task.previous_root, task.root = task.root, given.payouts_root
        task.settled += 1
        task.phase = Phase.IDLE
        what = {"round": task.opened, "signers": signers, "words": tuple(words)}
        self._log("RoundSettled", task=number, **what, **vars(given))

    def void_round(self, sender: Address, value: int, number: int) -> None:
        task = self.books.state.tasks.get(number)
        active = task is not None and task.phase in (Phase.OPEN, Phase.SEALED)
        refuse_if(not active, "no active round")
        assert task is not None
        if task.phase is Phase.OPEN:
            last_second = task.idle_since + task.terms.seal_seconds
            refuse_if(self.books.time < last_second, "still sealable")
        else:
            last_block = task.sealed_block + task.terms.settlement_blocks
            refuse_if(self.books.block <= last_block, "still settleable")
        task.phase = Phase.IDLE
        self._log("RoundVoided", task=number, round=task.opened)

    # Payment

    def claim(
        self,
        sender: Address,
        value: int,
        number: int,
        owner: Address,
        cumulative: int,
        proof: list[Hash32],
    ) -> None:
        task = self.books.state.tasks.get(number)
        roots = (task.root, task.previous_root) if task else (NO_WORD,)
        refuse_if(folded(owner, cumulative, proof) not in roots, "not in payouts")
        assert task is not None
        amount = cumulative - task.claimed.get(owner, 0)
        refuse_if(amount <= 0, "nothing to claim")
        refuse_if(task.total_claimed + amount > task.credited, "beyond credit")
        task.claimed[owner] = cumulative
        self._log("RewardClaimed", task=number, owner=owner, amount_wei=amount)
        self._pay(task.terms.token, owner, amount)

    def claim_many(
        self, sender: Address, value: int, owner: Address, claims: list[market.Claim]
    ) -> None:
        for each in claims:
            self.claim(sender, value, each.task, owner, each.cumulative_wei, list(each.proof))

    def claim_fees(
        self, sender: Address, value: int, number: int, committee: list[Address], index: int
    ) -> None:
        task = self.books.state.tasks.get(number)
        refuse_if(task is None, "wrong committee")
        assert task is not None
        self._check_committee(task, committee)
        refuse_if(index >= task.n, "no such server")
        amount = task.fees(index) - task.fees_paid.get(index, 0)
        refuse_if(amount <= 0, "nothing to claim")
        task.fees_paid[index] = task.fees(index)
        server = committee[index]
        self._log("FeesClaimed", task=number, server=server, index=index, amount_wei=amount)
        self._pay(task.terms.token, server, amount)

    # Shared

    def _create(self, sender: Address, value: int, terms: market.Terms, n: int, extra: int) -> int:
        state, block, time = self.books.state, self.books.block, self.books.time
        today, drawing = time // DAY, Phase.DRAWING
        self._check_terms(terms, n)
        refuse_if((sender, terms.spec_hash) in state.used_specifications, "specification used")
        state.used_specifications.add((sender, terms.spec_hash))
        number = len(state.tasks) + 1
        task = Task(sender, terms, n, terms.rounds, block, today, time, drawing, EMPTY_ROOT)
        state.tasks[number] = task
        what = {"model_owner": sender, "escrow_wei": task.escrow, "n": n}
        self._log("TaskCreated", task=number, **what, terms=terms)
        self._take(sender, value, terms.token, task.escrow, extra)
        return number

    def _check_terms(self, terms: market.Terms, n: int) -> None:
        t, e = terms.t, terms.e
        state = self.books.state
        refuse_if(t < 1 or e > t or n > MAX_SERVERS, "bad threshold")
        refuse_if(n < t or n < 2 * t + 1 + 2 * e, "too few servers")
        refuse_if(e > 0 and n < 3 * t + e, "too few servers")
        in_range = state.min_stake <= terms.min_stake_wei < 2**96
        refuse_if(not in_range or terms.min_bond_wei >= 2**96, "bad stake")
        refuse_if(not 1 <= terms.rounds <= terms.max_rounds < 2**16, "bad rounds")
        refuse_if(not 1 <= terms.min_owners <= terms.max_owners < 2**32, "bad owners")
        prices = terms.reward_wei, terms.fee_wei, terms.opening_fee_wei
        most = terms.max_rounds * terms.max_owners * terms.reward_wei
        refuse_if(max(prices) >= 2**96 or most >= 2**120, "bad price")
        forced_fits = terms.forced_seconds <= terms.submission_seconds
        windows = terms.submission_seconds, terms.seal_seconds
        in_month = all(1 <= window <= DAYS_30 for window in windows)
        # Bonds leave after 14 days: rounds that rely on them are over before.
        outlasts = terms.min_bond_wei > 0 and sum(windows) > 10 * DAY
        refuse_if(not forced_fits or not in_month or outlasts, "bad seconds")
        small = 1 <= terms.delta < 256 and terms.confirmations < 256
        final = terms.delta + terms.confirmations
        ordered = final < terms.words_blocks <= terms.openings_blocks < terms.settlement_blocks
        refuse_if(not small or not ordered or terms.settlement_blocks >= 8_000, "bad blocks")
        long = terms.settlement_blocks + final >= ANY_BLOCK_HASH
        refuse_if(long and not self.books.has_history, "block hash missed")

    def _fix_committee(
        self, number: int, committee: tuple[Address, ...], profiles: tuple[int, ...]
    ) -> None:
        task = self.books.state.tasks[number]
        task.phase, task.idle_since = Phase.IDLE, self.books.time
        task.committee, task.profiles = committee, profiles
        packed = sum(profile << 16 * index for index, profile in enumerate(profiles))
        self._log("CommitteeFixed", task=number, committee=committee, profiles=packed)

    def _check_settlement(self, number: int, task: Task, given: market.Settlement) -> None:
        terms, block = task.terms, self.books.block
        challenge = task.sealed_block + terms.delta
        refuse_if(block <= challenge + terms.confirmations, "seed not final")
        late = block > task.sealed_block + terms.settlement_blocks
        refuse_if(late, "settlement deadline passed")
        root = task.submissions_root
        refuse_if(given.submissions_root != root, "wrong submissions root")
        round_number = Round(task.opened)
        seed = challenge_seed(self.books.block_hash(challenge), TaskId(number), round_number, root)
        refuse_if(given.seed != seed, "wrong seed")
        refuse_if(given.previous_payouts_root != task.root, "wrong previous root")
        refuse_if(given.accepted_count < terms.min_owners, "too few owners")
        most = min(terms.max_owners, task.sealed_count)
        refuse_if(given.accepted_count > most, "too many owners")

    def _check_words(self, signed: list[int], words: list[Hash32], t: int) -> None:
        limbs = [[int.from_bytes(word[k : k + 8], "big") for k in (0, 8, 16, 24)] for word in words]
        too_big = any(limb >= 2**64 - 2**32 + 1 for word in limbs for limb in word)
        refuse_if(too_big, "limb not canonical")
        points = [index + 1 for index in signed]
        refuse_if(not on_codewords(points, limbs, t), "not a codeword")

    def _of_owner(self, sender: Address, number: int) -> Task:
        task = self.books.state.tasks.get(number)
        refuse_if(task is None or sender != task.owner, "not model owner")
        assert task is not None
        refuse_if(task.closed, "task closed")
        return task

    def _in_phase(self, number: int, phase: Phase, reason: str) -> Task:
        task = self.books.state.tasks.get(number)
        if task is None or task.phase is not phase:
            raise RefusedError(reason)
        return task

    def _check_committee(self, task: Task, committee: list[Address]) -> None:
        refuse_if(task.committee != tuple(committee), "wrong committee")

    def _take(self, sender: Address, value: int, token: Address, amount: int, extra: int) -> None:
        self.books.take(sender, value, token, amount, extra)

    def _pay(self, token: Address, receiver: Address, amount: int) -> None:
        self.books.pay(token, receiver, amount)

    def _log(self, event: str, **values: object) -> None:
        self.books.log(self.books.state.market, event, **values)


def signed_settlement(number: int, round_number: int, given: market.Settlement) -> Settlement:
    """Return what servers sign of a settlement, but for their words."""
    return Settlement(task=TaskId(number), round=Round(round_number), word=NO_WORD, **vars(given))


def hash_of_terms(terms: market.Terms, committee: list[Address]) -> Hash32:
    """Return what servers consent to: keccak256(abi.encode(terms, committee)), by hand."""
    words = [_word(value) for value in vars(terms).values()]
    # The list comes after the terms and the word that says where it starts.
    head = b"".join(words) + _word(32 * (len(words) + 1))
    return Hash32(keccak(head + _word(len(committee)) + b"".join(map(_word, committee))))


def _word(value: int | bytes) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def folded(owner: Address, cumulative: int, proof: list[Hash32]) -> bytes:
    """Return the root that a payouts proof leads to."""
    node = keccak(b"\0" + _word(owner) + _word(cumulative))
    for sibling in proof:
        node = keccak(b"\1" + min(node, sibling) + max(node, sibling))
    return node
