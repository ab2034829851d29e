"""Both contracts on a thin chain beside their model, and parties that call them.

`World.call` makes a call on both sides and compares: success or revert reason, logs, balances and
every task, server and bond that the call changed.
"""

from __future__ import annotations

import pickle
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_hash.auto import keccak
from machine_audit import Audit
from machine_chain import CHAIN_ID, LightChain, Log, Outcome
from machine_compare import compare_everything, compare_task, compare_with_registry
from machine_model import Model
from machine_state import NOBODY, Call, Manner, Phase, State, Token

from omnilytics.chain.abi import Codec, Signature
from omnilytics.chain.artefact import load_artefact
from omnilytics.chain.bindings import market, registry
from omnilytics.chain.happenings import MarketEvent, Position
from omnilytics.foundation.units import Address, Hash32
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.signatures import SigningKey

MARKET = Address(b"\x4d" * 20)
REGISTRY = Address(b"\x52" * 20)
MIN_STAKE = 1_000
DRAW_FEE = 7
FUNDS = 2**80
TOKEN_FUNDS = 2**150
HARNESS = Path(__file__).parent / "harness"
REFUSE = bytes.fromhex("5f5ffd")  # PUSH0 PUSH0 REVERT
TOKENS = {Address(bytes([0x60 + manner.value]) * 20): manner for manner in Manner}
OWNERS = ("M0", "M1", "M2")
SERVERS = ("S0", "S1", "S2", "S3", "S4", "S5", "S6")
DATA_OWNERS = ("D0", "D1", "D2", "D3")
OTHERS = ("R", "X")
KEYS = {name: SigningKey(keccak(name.encode())) for name in OWNERS + SERVERS + DATA_OWNERS + OTHERS}
NAMES = {key.address: name for name, key in KEYS.items()}
DOMAIN = Domain(CHAIN_ID, MARKET)


@dataclass(frozen=True)
class Bytecode:
    """Creation code of both contracts: the project's, or one with a bug planted in it."""

    market: bytes
    registry: bytes


def present_bytecode() -> Bytecode:
    """Return the compiled contracts of the project."""
    return Bytecode(load_artefact("Market").bytecode, load_artefact("Registry").bytecode)


@cache
def _token_codec() -> tuple[Codec, bytes]:
    from vyper.compiler import compile_from_file_input
    from vyper.compiler.input_bundle import FilesystemInputBundle

    bundle = FilesystemInputBundle([HARNESS])
    source = bundle.load_file("MachineToken.vy")
    output = compile_from_file_input(source, bundle, output_formats=["abi", "bytecode"])
    return Codec(output["abi"]), bytes.fromhex(output["bytecode"][2:])


class _Base:
    """Contracts, tokens and funded parties, made once and gone back to for every example."""

    def __init__(self, code: Bytecode) -> None:
        self.chain = LightChain()
        parameters = encode(["address", "uint256", "uint256"], [MARKET, MIN_STAKE, DRAW_FEE])
        self.chain.deploy(REGISTRY, code.registry + parameters)
        self.chain.deploy(MARKET, code.market + encode(["address"], [REGISTRY]))
        state = State(MARKET, REGISTRY, MIN_STAKE, DRAW_FEE)
        token_codec, token_code = _token_codec()
        for token, manner in TOKENS.items():
            self.chain.deploy(token, token_code + encode(["uint256"], [manner.value]))
            state.tokens[token] = Token(manner)
        for party in NAMES:
            self.chain.fund(party, FUNDS)
            state.ether[party] = FUNDS
        for name in OWNERS:
            party = KEYS[name].address
            for token in TOKENS:
                for call in (("mint", party, TOKEN_FUNDS), ("approve", MARKET, TOKEN_FUNDS)):
                    self.chain.send(party, token, token_codec.calldata(*call))
                state.tokens[token].balances[party] = TOKEN_FUNDS
                state.tokens[token].allowances[party] = TOKEN_FUNDS
        self.state = pickle.dumps(state)
        self.chain.save()


@cache
def _base(code: Bytecode) -> _Base:
    return _Base(code)


@dataclass
class Tally:
    """What was reached so far, over all examples of a run."""

    steps: int = 0
    examples: int = 0
    started: float = field(default_factory=time.process_time)
    succeeded: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def table(self) -> str:
        """Return steps, calls and reasons as text."""
        names = sorted(set(self.succeeded) | set(self.refused))
        rows = [f"{n:24}{self.succeeded[n]:8}{self.refused[n]:8}" for n in names]
        calls = self.succeeded.total() + self.refused.total()
        spent = (time.process_time() - self.started) * 1_000 / max(1, self.steps)
        head = f"{self.steps} steps, {self.examples} examples, {calls} calls, {spent:.1f} ms a step"
        reasons = [f"{count:8}  {reason}" for reason, count in self.reasons.most_common()]
        return "\n".join([head, f"{'call':24}{'ok':>8}{'refused':>8}", *rows, *reasons])


class World:
    """One example: chain, model, and what was said so far."""

    def __init__(self, code: Bytecode, tally: Tally, *, has_history: bool = True) -> None:
        base = _base(code)
        self.chain = base.chain
        self.chain.restore()
        self.model = Model(pickle.loads(base.state), DOMAIN)  # noqa: S301 - our own bytes
        self.model.books.has_history = has_history
        if not has_history:
            self.chain.forget_history()
        self.tally = tally
        self.audit = Audit(DRAW_FEE)
        self.trace: list[str] = []
        self.broken = False
        self.codecs: Mapping[Address, Codec] = {MARKET: market.codec(), REGISTRY: registry.codec()}
        self.stages: dict[int, tuple[Phase, bool, bool]] = {}
        self._seen: dict[object, bytes] = {}

    @property
    def state(self) -> State:
        """The model's present state."""
        return self.model.state

    def party(self, name: str) -> Address:
        """Return a party's account."""
        return KEYS[name].address

    def advance(self, blocks: int, seconds: int) -> None:
        """Let time pass: at least a second a block."""
        seconds = max(seconds, blocks)
        if blocks:
            self.trace.append(f"    +{blocks} blocks, {seconds} s")
        self.chain.advance(blocks, seconds if blocks else 0)

    def call(self, sender: Address, name: str, *arguments: Any, value: int = 0) -> str | None:
        """Make a call on both sides and compare; return the reason if it is refused."""
        call = Call(sender, name, arguments, value)
        self.model.at(self.chain.block, self.chain.time)
        expected = self.model.execute(call)
        self.trace.append(f"{self._show(call)} -> {expected or 'ok'}")
        contract = MARKET if name in self.codecs[MARKET].names else REGISTRY
        data = self.codecs[contract].calldata(name, *arguments)
        outcome = self.chain.send(sender, contract, data, value)
        self._count(name, outcome.reason)
        assert outcome.reason == expected, f"{name}: {outcome.reason!r}, the model: {expected!r}"
        self._compare_logs(outcome)
        self._compare_state(call)
        return outcome.reason

    def behave(self, party: Address, manner: str, call: Call | None = None) -> None:
        """Choose what an account does with ether: take it, refuse it, or call back."""
        self.state.refusing.discard(party)
        self.state.calling_back.pop(party, None)
        code = b""
        if manner == "refuse":
            self.state.refusing.add(party)
            code = REFUSE
        if manner == "call back":
            assert call is not None
            self.state.calling_back[party] = call
            contract = MARKET if call.name in self.codecs[MARKET].names else REGISTRY
            data = self.codecs[contract].calldata(call.name, *call.arguments)
            code = _calling(contract, data, call.value)
        self.chain.set_code(party, code)
        self.trace.append(f"    {NAMES.get(party)} will {manner} {call.name if call else ''}")

    def block_token(self, token: Address, party: Address, blocked: bool) -> None:
        """Stop a token from giving anything to somebody, or let it again."""
        codec, _ = _token_codec()
        self.chain.send(party, token, codec.calldata("block", party, blocked))
        held_back = self.state.tokens[token].blocked
        (held_back.add if blocked else held_back.discard)(party)
        self.trace.append(f"    {token.hex()[:2]} blocks {NAMES.get(party)}: {blocked}")

    def approve(self, token: Address, party: Address, amount: int) -> None:
        """Let the market take this much of somebody's tokens."""
        codec, _ = _token_codec()
        self.chain.send(party, token, codec.calldata("approve", MARKET, amount))
        self.state.tokens[token].allowances[party] = amount
        self.trace.append(f"    {NAMES.get(party)} approves {amount} of {token.hex()[:2]}")

    def compare_everything(self) -> None:
        """Compare all that the contracts keep with the model, and the logs with both."""
        compare_everything(self)
        self.audit.check(self)

    def _count(self, name: str, reason: str | None) -> None:
        (self.tally.refused if reason else self.tally.succeeded)[name] += 1
        if reason:
            self.tally.reasons[reason] += 1

    def _compare_logs(self, outcome: Outcome) -> None:
        found = [self._event(log) for log in outcome.logs if log.address in self.codecs]
        wanted = [
            (address, name, _flat(values)) for address, name, values in self.model.expected_logs()
        ]
        shown = [
            (log.address, type(event).__name__, _values(event))
            for event, log in zip(found, _ours(outcome.logs), strict=True)
        ]
        assert shown == wanted, f"logs {shown}, the model: {wanted}"
        for event in found:
            self.audit.add(event)

    def _event(self, log: Log) -> MarketEvent:
        where = Position(
            block_number=self.chain.block,
            block_hash=Hash32(bytes(32)),
            transaction_hash=Hash32(bytes(32)),
            log_index=0,
        )
        event = self.codecs[log.address].log(log.topics, log.data, where)
        assert event is not None, "an event without a name"
        return event

    def _compare_state(self, call: Call) -> None:
        """Compare all balances, and whatever the model says has changed."""
        self._compare_money()
        state = self.state
        for number, task in state.tasks.items():
            named = bool(call.arguments) and call.arguments[0] == number
            if self._changed(("task", number), task) or named:
                compare_task(self, number)
        concerned = {call.sender} | {
            party for party, server in state.servers.items() if self._changed(party, server)
        }
        if self._changed("pool", (state.pool, state.burnt, state.draws_until)):
            concerned |= set(state.pool)
        compare_with_registry(self, concerned)

    def _changed(self, key: object, value: object) -> bool:
        now = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        before, self._seen[key] = self._seen.get(key), now
        return now != before

    def _compare_money(self) -> None:
        state = self.state
        for party in (*NAMES, MARKET, REGISTRY):
            has, should = self.chain.balance(party), state.ether.get(party, 0)
            assert has == should, f"{NAMES.get(party, party)} has {has}, the model: {should}"
        for token, books in state.tokens.items():
            for party in (*NAMES, MARKET):
                has = self.chain.storage(token, _balance_slot(party))
                should = books.balances.get(party, 0)
                assert has == should, f"{NAMES.get(party)} has {has} tokens, the model: {should}"
        at_stake = sum(server.stake for server in state.servers.values())
        bonds = sum(bond.amount for bond in state.bonds.values())
        assert at_stake + bonds + state.burnt == self.chain.balance(REGISTRY)
        for token in (NOBODY, *TOKENS):
            tasks = [task for task in state.tasks.values() if task.terms.token == token]
            # A leaf may name the market itself; tokens that it pays to itself stay there.
            held = sum(task.held for task in tasks)
            held += sum(task.claimed.get(MARKET, 0) for task in tasks)
            if token == NOBODY:
                assert held == self.chain.balance(MARKET)
            else:
                assert held == self.chain.storage(token, _balance_slot(MARKET))
        for task in state.tasks.values():
            assert task.total_claimed <= task.credited <= task.escrow

    def _show(self, call: Call) -> str:
        parts = ", ".join(map(_short, call.arguments))
        value = f" with {call.value} wei" if call.value else ""
        return f"{NAMES.get(call.sender, 'somebody')}: {call.name}({parts}){value}"


def _ours(logs: tuple[Log, ...]) -> list[Log]:
    return [log for log in logs if log.address in (MARKET, REGISTRY)]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(vars(value) if is_dataclass(value) else {name: value})
    return flat


def _values(event: MarketEvent) -> dict[str, Any]:
    return {f.name: getattr(event, f.name) for f in fields(event) if f.name != "position"}


@cache
def _balance_slot(party: Address) -> int:
    """Slot of `balanceOf[party]`: the first variable of MachineToken."""
    return int.from_bytes(keccak(bytes(32) + party.rjust(32, b"\0")), "big")


def _calling(target: Address, data: bytes, value: int) -> bytes:
    """Return code that makes one call whenever it is called, and ignores what becomes of it."""
    size = len(data).to_bytes(2, "big").hex()
    # After PUSH2 size, PUSH2 start, PUSH0, CODECOPY: PUSH0 twice, PUSH2 size, PUSH0, PUSH32 value,
    # PUSH20 target, GAS, CALL, POP, STOP; the calldata follow.
    rest = f"5f5f61{size}5f7f{value.to_bytes(32, 'big').hex()}73{target.hex()}5af15000"
    start = 3 + 3 + 1 + 1 + len(rest) // 2
    return bytes.fromhex(f"61{size}61{start.to_bytes(2, 'big').hex()}5f39{rest}") + data


def _short(value: Any) -> str:
    if isinstance(value, Signature):
        return value.r.hex()[:4]
    if isinstance(value, bytes):
        return NAMES.get(Address(value)) or value.hex()[:8]
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_short, value)) + "]"
    if is_dataclass(value) and not isinstance(value, type):
        return "{" + ", ".join(f"{k}={_short(v)}" for k, v in asdict(value).items()) + "}"
    return str(value)
