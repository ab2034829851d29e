"""Making, drawing, paying for and closing tasks."""

from __future__ import annotations

from dataclasses import replace

from machine_chain import block_header
from machine_choices import (
    PARTIES,
    SERVER_ADDRESSES,
    Choosing,
    Dice,
    one_of,
    sign,
    spoilt,
)
from machine_market import hash_of_terms
from machine_registry import DRAW_BLOCKS, DRAW_DELAY
from machine_state import DAYS_14, NOBODY, Phase
from machine_terms import SHAPES, escrow_of, flawed, random_terms
from machine_world import (
    DRAW_FEE,
    KEYS,
    OWNERS,
)

from omnilytics.chain.bindings import market
from omnilytics.foundation.units import Address, Hash32
from omnilytics.wire.messages import Consent


class TaskActions(Choosing):
    """Calls about tasks."""

    def create_task(self, dice: Dice) -> None:
        """Create a task with named servers."""
        self.tick(dice)
        owner = KEYS[dice.choice(OWNERS)].address
        terms = random_terms(dice)
        fit = [server for server in SERVER_ADDRESSES if self._fit(server, terms)]
        n, terms = _shaped(dice, terms, len(fit))
        flaw = one_of(dice, 0.3, "terms", "specification", "twice", "stranger", "expired", "few")
        flaw = flaw or one_of(dice, 0.2, "signer", "high s", "other terms", "escrow", "any server")
        if flaw == "any server" or len(fit) < n:
            fit = SERVER_ADDRESSES
        committee = dice.sample(fit, n)
        if flaw == "terms":
            terms = flawed(terms, dice)
        if flaw == "specification" and self.world.state.used_specifications:
            owner, used = sorted(self.world.state.used_specifications)[0]
            terms = replace(terms, spec_hash=used)
        if flaw == "twice":
            committee[-1] = committee[0]
        if flaw == "stranger":
            committee[dice.randrange(n)] = dice.choice([KEYS["X"].address, KEYS["D0"].address])
        now = self.world.chain.time
        expires = now - 1 if flaw == "expired" else now + dice.choice([0, 60])
        asked = replace(terms, rounds=terms.rounds + 1) if flaw == "other terms" else terms
        consent = Consent(
            model_owner=owner, terms_hash=_terms_hash(asked, committee), expires=expires
        )
        consents = [sign(member, consent) for member in committee]
        consents = spoilt(consents, flaw, dice, consent)
        value = 0 if terms.token != NOBODY else escrow_of(terms, n, terms.rounds)
        value += 1 if flaw == "escrow" else 0
        sender = self.caller(dice, owner)
        arguments = terms, committee, expires, consents
        self.world.call(sender, "create_task", *arguments, value=self.value(dice, value))

    def create_drawn_task(self, dice: Dice) -> None:
        """Create a task whose servers are to be drawn."""
        self.tick(dice)
        # Now and then nobody offers; else terms that somebody does.
        tried = [random_terms(dice) for _ in range(8)]
        wanted = [terms for terms in tried if self._offering(terms) >= SHAPES[0][0]]
        terms = wanted[0] if wanted else tried[0]
        n, terms = _shaped(dice, terms, self._offering(terms))
        if dice.random() < 0.15:
            terms = flawed(terms, dice)
        if dice.random() < 0.05:
            n = dice.choice([0, 14, 2**256 - 1])
        owner = KEYS[dice.choice(OWNERS)].address
        most = n if n < 99 else 0
        value = 0 if terms.token != NOBODY else escrow_of(terms, most, terms.rounds)
        value = self.value(dice, value + DRAW_FEE)
        self.world.call(self.caller(dice, owner), "create_drawn_task", terms, n, value=value)

    def _offering(self, terms: market.Terms) -> int:
        offers = self.world.state.offers.items()
        return sum(
            self._fit(server, terms)
            for (server, token), offer in offers
            if token == terms.token and offer.min_fee <= terms.fee_wei
        )

    def _fit(self, server: Address, terms: market.Terms) -> bool:
        standing = self.world.state.servers.get(server)
        if standing is None or standing.left_time is not None:
            return False
        return standing.stake >= terms.min_stake_wei

    def redraw(self, dice: Dice) -> None:
        """Ask for another draw."""
        number = self.pick(dice, self.tasks(Phase.DRAWING))
        task = self.task(number)
        pinned = self.world.state.draws.get(number)
        if pinned:
            self.arrive(dice, first=pinned.pinned_block + DRAW_BLOCKS + 1, blocks=True)
        sender = self.caller(dice, task.owner if task else None)
        self.world.call(sender, "redraw", number, value=self.value(dice, DRAW_FEE))

    def reveal_draw(self, dice: Dice) -> None:
        """Show the header of a draw's block."""
        number = self.pick(dice, self.tasks(Phase.DRAWING))
        pinned = self.world.state.draws.get(number)
        decisive = self.world.chain.block
        if pinned:
            decisive = pinned.pinned_block + DRAW_DELAY
            last = pinned.pinned_block + DRAW_BLOCKS
            self.arrive(dice, first=decisive + 1, last=last, blocks=True)
        header = block_header(decisive + (dice.random() < 0.05))
        if dice.random() < 0.05:
            header = dice.choice([b"", header[:-1], header + b"\0", dice.randbytes(500)])
        self.world.call(dice.choice(PARTIES), "reveal_draw", number, header)

    def draw_committee(self, dice: Dice) -> None:
        """Draw a committee."""
        drawing, draws = self.tasks(Phase.DRAWING), self.world.state.draws
        revealed = [number for number in drawing if any(draws[number].randomness)]
        number = self.pick(dice, revealed or drawing)
        pinned = draws.get(number)
        if pinned and dice.random() < 0.15:
            self.arrive(dice, first=pinned.pinned_block + DRAW_BLOCKS, blocks=True)
        else:
            self.tick(dice)
        reason = self.world.call(dice.choice(PARTIES), "draw_committee", number)
        if reason == "too few servers offer":
            self.hopeless.add(number)

    def top_up(self, dice: Dice) -> None:
        """Pay for more rounds."""
        self.tick(dice)
        number = self.pick(dice, self.tasks())
        task = self.task(number)
        rounds = dice.choice([1, 1, 1, 2, 0, 99, 2**256 - 1])
        right = 0
        if task and task.terms.token == NOBODY:
            right = min(rounds * task.round_price, 2**79)
        sender = self.caller(dice, task.owner if task else None)
        self.world.call(sender, "top_up", number, rounds, value=self.value(dice, right))

    def close_task(self, dice: Dice) -> None:
        """Close a task, as its owner or as anyone after a long time."""
        number = self.pick(dice, self.tasks(Phase.IDLE, Phase.DRAWING) or self.tasks())
        if dice.random() < 0.15:
            number = self.pick(dice, self.tasks(closed=True))
        task = self.task(number)
        owner = task.owner if task else None
        if task and dice.random() < 0.25:
            owner = dice.choice(PARTIES)
            self.arrive(dice, first=task.idle_since + task.terms.seal_seconds + DAYS_14 + 1)
        else:
            self.tick(dice)
        committee = self.committee(dice, number)
        self.world.call(self.caller(dice, owner), "close_task", number, committee)


def _shaped(dice: Dice, terms: market.Terms, servers: int) -> tuple[int, market.Terms]:
    """Return n and terms for a committee that there are servers for; seldom for any."""
    shapes = [shape for shape in SHAPES if shape[0] <= servers]
    n, t, e = dice.choice(shapes if shapes and dice.random() < 0.93 else SHAPES)
    return n, replace(terms, t=t, e=e)


def _terms_hash(terms: market.Terms, committee: list[Address]) -> Hash32:
    """Terms out of all bounds are nothing to agree to."""
    try:
        return hash_of_terms(terms, committee)
    except OverflowError:
        return Hash32(bytes(32))
