"""Servers and data owners that come, change and go."""

from __future__ import annotations

from machine_choices import (
    NO_SIGNATURE,
    PARTIES,
    SERVER_ADDRESSES,
    Choosing,
    Dice,
    hash_from,
    one_of,
)
from machine_state import DAYS_14, NOBODY, Phase
from machine_terms import token_for
from machine_world import (
    DATA_OWNERS,
    DRAW_FEE,
    KEYS,
    MIN_STAKE,
)

from omnilytics.foundation.units import Address, Hash32


class RegistryActions(Choosing):
    """Calls about stakes, offers and bonds."""

    def register_server(self, dice: Dice) -> None:
        """Register a server."""
        self.tick(dice)
        out = [server for server in SERVER_ADDRESSES if server not in self.world.state.servers]
        sender = dice.choice(out) if out and dice.random() < 0.85 else dice.choice(PARTIES)
        stake = MIN_STAKE * dice.randint(1, 4) + dice.choice([0, 0, 0, 1, -1])
        self.world.call(sender, "register_server", *_profile(dice), value=stake)

    def set_profile(self, dice: Dice) -> None:
        """Change a profile."""
        self.tick(dice)
        self.world.call(self._server(dice), "set_profile", *_profile(dice), value=self.value(dice))

    def add_stake(self, dice: Dice) -> None:
        """Add to a stake."""
        self.tick(dice)
        value = dice.choice([0, 1, MIN_STAKE, 3 * MIN_STAKE])
        self.world.call(self._server(dice), "add_stake", value=value)

    def set_offer(self, dice: Dice) -> None:
        """Offer to be drawn, or no longer."""
        self.tick(dice)
        fee = dice.choice([0, 0, 0, 1, 10, 1_000, 2**96 - 1, 2**96])
        most = dice.choice([2**96 - 1, 2**96 - 1, MIN_STAKE, 0, 2**96])
        token, is_open = token_for(dice), dice.random() < 0.85
        focus = self.task(self.focus or 0)
        if focus is not None and focus.phase is Phase.DRAWING and dice.random() < 0.8:
            # Too late for this draw.
            token, fee, most, is_open = focus.terms.token, 0, 2**96 - 1, dice.random() < 0.9
        self.world.call(self._server(dice), "set_offer", token, is_open, fee, most)

    def leave(self, dice: Dice) -> None:
        """Leave as a server."""
        self.tick(dice)
        self.world.call(self._server(dice), "leave")

    def withdraw_stake(self, dice: Dice) -> None:
        """Take a stake back."""
        servers = self.world.state.servers
        left = [p for p, server in servers.items() if server.left_time is not None]
        free = [party for party in left if not servers[party].tasks]
        sender = dice.choice(free or left) if left and dice.random() < 0.9 else self._server(dice)
        server = servers.get(sender)
        if server is not None and server.left_time is not None:
            self.arrive(dice, first=server.left_time + DAYS_14)
        self.world.call(sender, "withdraw_stake", value=self.value(dice))

    def sweep(self, dice: Dice) -> None:
        """Remove the place of a server that is gone."""
        state = self.world.state
        gone = [party for party in state.pool if party not in state.servers]
        if gone and dice.random() < 0.6:
            self.arrive(dice, first=state.draws_until + 1, blocks=True)
        server = dice.choice(gone) if gone and dice.random() < 0.85 else dice.choice(PARTIES)
        self.world.call(dice.choice(PARTIES), "sweep", server)

    def add_bond(self, dice: Dice) -> None:
        """Add to a bond."""
        self.tick(dice)
        value = dice.choice([0, 1, 60, 400, 1_000])
        self.world.call(self._data_owner(dice), "add_bond", value=value)

    def leave_bond(self, dice: Dice) -> None:
        """Ask for a bond back."""
        self.tick(dice)
        self.world.call(self._data_owner(dice), "leave_bond")

    def withdraw_bond(self, dice: Dice) -> None:
        """Take a bond back."""
        bonds = self.world.state.bonds
        left = [party for party, bond in bonds.items() if bond.left_time is not None]
        sender = dice.choice(left) if left and dice.random() < 0.9 else self._data_owner(dice)
        bond = bonds.get(sender)
        if bond is not None and bond.left_time is not None:
            self.arrive(dice, first=bond.left_time + DAYS_14)
        self.world.call(sender, "withdraw_bond", value=self.value(dice))

    def pose_as_market(self, dice: Dice) -> None:
        """Make a call that is the market's alone."""
        self.tick(dice)
        sender, task = dice.choice(PARTIES), dice.randint(0, 3)
        servers = SERVER_ADDRESSES[:3]
        calls: list[tuple[object, ...]] = [
            ("enlist", servers, 0, hash_from(dice), [NO_SIGNATURE] * 3),
            ("pin_draw", task),
            ("draw", task, 3, 0, NOBODY, 2**96),
            ("release", task, servers),
        ]
        name, *arguments = dice.choice(calls)
        value = DRAW_FEE if name == "pin_draw" else 0
        self.world.call(sender, str(name), *arguments, value=value)

    def _server(self, dice: Dice) -> Address:
        return dice.choice(SERVER_ADDRESSES) if dice.random() < 0.93 else dice.choice(PARTIES)

    def _data_owner(self, dice: Dice) -> Address:
        likely = [KEYS[name].address for name in DATA_OWNERS]
        return dice.choice(likely) if dice.random() < 0.93 else dice.choice(PARTIES)


def _profile(dice: Dice) -> tuple[str, Hash32]:
    flaw = one_of(dice, 0.08, "endpoint", "key")
    endpoint = "" if flaw == "endpoint" else "http://" + "x" * dice.choice([1, 30, 249])
    return endpoint, Hash32(bytes(32)) if flaw == "key" else hash_from(dice)
