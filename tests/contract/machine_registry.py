"""A model of the registry: servers, bonds and draws (Registry.vy's NatSpec, in Python)."""

from __future__ import annotations

from eth_hash.auto import keccak
from machine_chain import prev_randao
from machine_faults import FaultModel
from machine_state import (
    DAYS_14,
    NO_HASH,
    Bond,
    Draw,
    Offer,
    Server,
    check_quorum,
    refuse_if,
)

from omnilytics.chain.abi import Signature
from omnilytics.foundation.units import Address, Hash32
from omnilytics.wire.messages import Consent

DRAW_DELAY = 4
DRAW_BLOCKS = 256
DRAW_STEPS = 256
TOO_MUCH = 2**96


class RegistryModel(FaultModel):
    """What each call of the registry does, or why it is refused."""

    # Servers

    def register_server(self, sender: Address, value: int, endpoint: str, key: Hash32) -> None:
        state = self.books.state
        refuse_if(sender in state.servers, "already registered")
        refuse_if(value < state.min_stake, "stake too small")
        _check_profile(endpoint, key)
        state.servers[sender] = Server(stake=value, since_block=self.books.block)
        if sender not in state.pool:
            state.pool.append(sender)
        self._log("ServerRegistered", server=sender, stake_wei=value)
        self._add_profile(sender, endpoint, key)

    def set_profile(self, sender: Address, value: int, endpoint: str, key: Hash32) -> None:
        self._registered(sender)
        _check_profile(endpoint, key)
        self._add_profile(sender, endpoint, key)

    def add_stake(self, sender: Address, value: int) -> None:
        server = self._registered(sender)
        refuse_if(value == 0, "stake too small")
        server.stake += value
        server.since_block = self.books.block
        self._log("StakeAdded", server=sender, amount_wei=value)

    def set_offer(
        self,
        sender: Address,
        value: int,
        token: Address,
        is_open: bool,
        fee: int,
        max_stake: int,
    ) -> None:
        self._registered(sender)
        refuse_if(max(fee, max_stake) >= TOO_MUCH, "bad price")
        self.books.state.offers.pop((sender, token), None)
        if is_open:
            self.books.state.offers[sender, token] = Offer(fee, max_stake, self.books.block)
        what = {"open": is_open, "min_fee_wei": fee, "max_stake_wei": max_stake}
        self._log("OfferSet", server=sender, token=token, **what)

    def leave(self, sender: Address, value: int) -> None:
        server = self._registered(sender)
        refuse_if(server.left_time is not None, "already leaving")
        server.left_block, server.left_time = self.books.block, self.books.time
        self._log("ServerLeaving", server=sender, free_at=self.books.time + DAYS_14)

    def withdraw_stake(self, sender: Address, value: int) -> None:
        state = self.books.state
        server = self._registered(sender)
        refuse_if(server.tasks > 0, "in a task")
        refuse_if(server.left_time is None, "not leaving")
        assert server.left_time is not None
        refuse_if(self.books.time < server.left_time + DAYS_14, "still unbonding")
        del state.servers[sender]
        if self.books.block > state.draws_until:
            self._drop_place(sender)
        self._log("StakeWithdrawn", server=sender, amount_wei=server.stake)
        self._send(sender, server.stake)

    def sweep(self, sender: Address, value: int, server: Address) -> None:
        state = self.books.state
        refuse_if(server in state.servers, "still registered")
        refuse_if(server not in state.pool, "no place")
        refuse_if(self.books.block <= state.draws_until, "draw under way")
        self._drop_place(server)

    # Owners

    def add_bond(self, sender: Address, value: int) -> None:
        refuse_if(value == 0, "no bond")
        bond = self.books.state.bonds.setdefault(sender, Bond())
        bond.amount += value
        bond.left_time = None
        self._log("BondAdded", owner=sender, amount_wei=value)

    def leave_bond(self, sender: Address, value: int) -> None:
        bond = self.books.state.bonds.get(sender, Bond())
        refuse_if(bond.amount == 0, "no bond")
        refuse_if(bond.left_time is not None, "already leaving")
        bond.left_time = self.books.time
        self._log("OwnerLeaving", owner=sender, free_at=self.books.time + DAYS_14)

    def withdraw_bond(self, sender: Address, value: int) -> None:
        bond = self.books.state.bonds.get(sender, Bond())
        refuse_if(bond.left_time is None, "not leaving")
        assert bond.left_time is not None
        refuse_if(self.books.time < bond.left_time + DAYS_14, "still unbonding")
        del self.books.state.bonds[sender]
        self._log("BondWithdrawn", owner=sender, amount_wei=bond.amount)
        self._send(sender, bond.amount)

    # Committees: only the market may ask

    def enlist(self, sender: Address, value: int, *arguments: object) -> None:
        refuse_if(sender != self.books.state.market, "not the market")

    def pin_draw(self, sender: Address, value: int, task: int) -> None:
        refuse_if(sender != self.books.state.market, "not the market")

    def draw(self, sender: Address, value: int, *arguments: object) -> None:
        refuse_if(sender != self.books.state.market, "not the market")

    def release(self, sender: Address, value: int, *arguments: object) -> None:
        refuse_if(sender != self.books.state.market, "not the market")

    def reveal_draw(self, sender: Address, value: int, task: int, header: bytes) -> None:
        """Anyone shows the header of a draw's block; its PREVRANDAO decides."""
        pinned = self.books.state.draws.get(task)
        ready = pinned is not None and self.books.block > pinned.pinned_block + DRAW_DELAY
        refuse_if(not ready, "draw not ready")
        assert pinned is not None
        refuse_if(self.books.block > pinned.pinned_block + DRAW_BLOCKS, "draw missed")
        decisive = pinned.pinned_block + DRAW_DELAY
        refuse_if(keccak(header) != self.books.block_hash(decisive), "wrong header")
        # Hashed as it stands in the header: a string of 32 bytes, after its prefix.
        pinned.randomness = Hash32(keccak(b"\xa0" + prev_randao(decisive)))
        self._log("DrawRevealed", task=task, randomness=pinned.randomness)

    def join_named(
        self,
        committee: tuple[Address, ...],
        min_stake: int,
        consent: Consent,
        consents: list[Signature],
    ) -> tuple[int, ...]:
        """Bind servers that consented; return the numbers of their profiles."""
        everybody = (1 << len(committee)) - 1
        check_quorum(consent, self.books.domain, committee, 0, everybody, consents)
        for index, member in enumerate(committee):
            refuse_if(member in committee[:index], "server twice")
            server = self.books.state.servers.get(member)
            refuse_if(server is None, "server not registered")
            assert server is not None
            refuse_if(server.left_time is not None, "server leaving")
            refuse_if(server.stake < min_stake, "stake too small")
        return self._bind(committee)

    def ask_for_draw(self, task: int, value: int) -> None:
        """Burn the fee and fix block and pool of a draw."""
        state, block = self.books.state, self.books.block
        before = state.draws.get(task)
        refuse_if(value != state.draw_fee, "wrong draw fee")
        drawable = before is not None and block <= before.pinned_block + DRAW_BLOCKS
        refuse_if(drawable, "still drawable")
        draws = before.draws + 1 if before else 1
        state.draws[task] = Draw(draws, block, len(state.pool))
        state.draws_until = block + DRAW_BLOCKS
        state.burnt += value
        state.ether[state.market] -= value
        state.ether[state.registry] += value
        pinned = {"draws": draws, "pinned_block": block, "pool": len(state.pool)}
        self._log("DrawPinned", task=task, fee_wei=value, **pinned)

    def join_drawn(
        self, task: int, n: int, min_stake: int, token: Address, fee: int
    ) -> tuple[tuple[Address, ...], tuple[int, ...]]:
        """Draw a committee and bind it; return it and the numbers of the profiles."""
        pinned = self.books.state.draws[task]
        block = self.books.block
        refuse_if(pinned.randomness == NO_HASH, "draw not revealed")
        refuse_if(block > pinned.pinned_block + DRAW_BLOCKS, "draw missed")
        seed = keccak(pinned.randomness + _word(task) + _word(pinned.draws))
        chosen: list[Address] = []
        for step in range(DRAW_STEPS if pinned.pool else 0):
            place = int.from_bytes(keccak(seed + _word(step)), "big") % pinned.pool
            candidate = self.books.state.pool[place]
            if len(chosen) == n:
                break
            offered = self._offers(candidate, pinned.pinned_block, min_stake, token, fee)
            if offered and candidate not in chosen:
                chosen.append(candidate)
        refuse_if(len(chosen) < n, "too few servers offer")
        return tuple(chosen), self._bind(tuple(chosen))

    def part(self, task: int, committee: tuple[Address, ...]) -> None:
        """Free a closed task's servers; those that left answer for another unbonding period."""
        self.books.state.tasks[task].released_at = self.books.time
        for member in committee:
            server = self.books.state.servers[member]
            server.tasks -= 1
            if server.left_time is not None:
                server.left_time = self.books.time
        self._log("ServersReleased", task=task, servers=committee)

    # Shared

    def _registered(self, sender: Address) -> Server:
        server = self.books.state.servers.get(sender)
        refuse_if(server is None, "not registered")
        assert server is not None
        return server

    def _add_profile(self, sender: Address, endpoint: str, key: Hash32) -> None:
        profiles = self.books.state.profiles.setdefault(sender, [])
        profiles.append((key, endpoint))
        what = {"profile": len(profiles), "hpke_key": key, "endpoint": endpoint}
        self._log("ProfileSet", server=sender, **what)

    def _drop_place(self, server: Address) -> None:
        """The last one in the pool takes the place."""
        pool = self.books.state.pool
        place = pool.index(server)
        pool[place] = pool[-1]
        pool.pop()
        self._log("PoolSwept", server=server)

    def _offers(
        self, server: Address, block: int, min_stake: int, token: Address, fee: int
    ) -> bool:
        """Whether a server may be drawn: it was there by then, stays, has enough and offers."""
        standing = self.books.state.servers.get(server)
        if standing is None or standing.stake < min_stake or standing.since_block > block:
            return False
        if standing.left_block is not None and standing.left_block <= block:
            return False
        offer = self.books.state.offers.get((server, token))
        if offer is None or offer.since_block > block:
            return False
        return offer.min_fee <= fee and min_stake <= offer.max_stake

    def _bind(self, committee: tuple[Address, ...]) -> tuple[int, ...]:
        for member in committee:
            self.books.state.servers[member].tasks += 1
        self._log("ServersEnlisted", servers=committee)
        return tuple(len(self.books.state.profiles[member]) for member in committee)


def _check_profile(endpoint: str, key: Hash32) -> None:
    refuse_if(not endpoint, "no endpoint")
    refuse_if(not any(key), "no key")


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")
