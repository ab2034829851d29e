"""What is shown before a transaction, and what is sent when it is confirmed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from eth_account import Account

from omnilytics.chain.connection import Chain
from omnilytics.chain.deploy import deploy_market
from omnilytics.chain.embedded import embedded_chain
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import GAS_LIMITS, MarketWriter
from omnilytics.cli.options import Asking
from omnilytics.cli.plans import Payer, plan_call
from omnilytics.cli.transactions import transact
from omnilytics.foundation.errors import ChainError, FundsError, KeyMaterialError, UsageError
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Wei, show_address
from omnilytics.wire.signatures import SigningKey

ETHER = 10**18
HPKE = bytes(range(32))
BACK = "by leaving"


@dataclass
class World:
    chain: Chain
    market: MarketReader
    key: SigningKey

    def register(self, writer: MarketWriter) -> object:
        return writer.register_server("https://a.example", HPKE, Wei(ETHER))

    def transact(self, **asking: bool) -> object:
        return transact(
            self.market,
            Payer(self.key.address, self.key),
            self.register,
            action="Register",
            comes_back=BACK,
            asking=Asking(**asking),
        )


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    chain = embedded_chain()
    yield chain
    chain.close()


@pytest.fixture(scope="module")
def market(chain: Chain) -> MarketReader:
    deployer = SigningKey.generate(SystemRandomness())
    chain.fund(deployer.address, Wei(100 * ETHER))
    return MarketReader(chain, deploy_market(Sender(chain, deployer.secret)))


@pytest.fixture
def world(chain: Chain, market: MarketReader) -> World:
    key = SigningKey.generate(SystemRandomness())
    chain.fund(key.address, Wei(10 * ETHER))
    return World(chain, market, key)


def test_a_plan_is_the_call_and_sends_nothing(world: World) -> None:
    plan = plan_call(world.market, world.key, world.register, action="Register", comes_back=BACK)
    assert plan.value_wei == ETHER
    assert plan.gas_limit == GAS_LIMITS["register_server"]
    assert plan.target == world.market.registry
    assert plan.contract == f"registry {show_address(world.market.registry)}"
    assert 0 < plan.gas_cost_wei <= plan.most_wei - plan.value_wei
    assert plan.balance_wei == 10 * ETHER
    assert world.chain.next_nonce(world.key.address) == 0
    text = "\n".join(plan.lines())
    for phrase in ("1 ether", "10 ether", BACK, f"{plan.gas_limit:,}", f"{world.chain.chain_id}"):
        assert phrase in text
    assert world.key.secret.hex() not in repr(plan)


def test_a_dry_run_sends_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.transact(dry_run=True, as_json=True) is None
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["sent"] is False
    assert found["plan"]["value_wei"] == str(ETHER)
    assert "nothing was sent" in err
    assert world.chain.next_nonce(world.key.address) == 0


def test_yes_sends(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.transact(yes=True, as_json=True) is not None
    found = json.loads(capsys.readouterr().out)
    assert found["sent"] is True
    assert found["receipt"]["gas_used"] <= found["plan"]["gas_limit"]
    spent = 10 * ETHER - world.chain.balance(world.key.address)
    assert spent == ETHER + int(found["receipt"]["gas_cost_wei"])
    assert world.market.server(world.key.address).stake_wei == ETHER


def test_without_a_terminal_or_with_a_no_nothing_is_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="nobody to ask"):
        world.transact()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    with pytest.raises(UsageError, match="not confirmed"):
        world.transact()
    assert world.chain.next_nonce(world.key.address) == 0
    monkeypatch.setattr("typer.confirm", lambda *_, **__: True)
    world.transact()
    assert world.chain.next_nonce(world.key.address) == 1


def test_what_would_revert_is_refused(world: World) -> None:
    world.transact(yes=True)
    with pytest.raises(ChainError):
        world.transact(yes=True)
    assert world.chain.next_nonce(world.key.address) == 1


def test_an_account_that_cannot_pay(chain: Chain, market: MarketReader) -> None:
    poor = World(chain, market, SigningKey.generate(SystemRandomness()))
    chain.fund(poor.key.address, Wei(ETHER))
    with pytest.raises(FundsError) as caught:
        poor.transact(yes=True)
    assert show_address(poor.key.address) in str(caught.value.hint)


def test_a_call_that_sends_nothing_is_a_mistake(world: World) -> None:
    with pytest.raises(UsageError, match="sends nothing"):
        plan_call(world.market, world.key, lambda _: None, action="", comes_back="")


def test_an_unsigned_transaction_signed_elsewhere_does_what_it_says(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    address = Payer(world.key.address)  # no key at all
    asking = Asking(unsigned=True)
    sent = transact(
        world.market, address, world.register, action="Register", comes_back=BACK, asking=asking
    )
    assert sent is None
    out, err = capsys.readouterr()
    assert world.chain.next_nonce(world.key.address) == 0
    assert "1 ether" in err
    transaction = json.loads(out)
    assert set(transaction) == {
        *("type", "chainId", "nonce", "from", "to", "value", "data", "gas"),
        *("maxFeePerGas", "maxPriorityFeePerGas"),
    }
    assert all(value.startswith("0x") for value in transaction.values())
    assert int(transaction["value"], 16) == ETHER
    assert int(transaction["chainId"], 16) == world.chain.chain_id
    assert transaction["to"].lower() == show_address(world.market.registry)
    signed = Account.sign_transaction(transaction, world.key.secret)  # checks "from" too
    world.chain.send(bytes(signed.raw_transaction))
    record = world.market.server(world.key.address)
    assert (record.endpoint, record.stake_wei) == ("https://a.example", ETHER)


def test_unsigned_and_sending_contradict_each_other(world: World) -> None:
    with pytest.raises(UsageError, match="sends nothing"):
        world.transact(unsigned=True, yes=True)


def test_a_payer_without_a_key_sends_nothing(world: World) -> None:
    with pytest.raises(KeyMaterialError, match="only the account's address"):
        transact(
            world.market,
            Payer(world.key.address),
            world.register,
            action="Register",
            comes_back=BACK,
            asking=Asking(yes=True),
        )
    assert world.chain.next_nonce(world.key.address) == 0


def test_no_more_is_paid_than_was_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node may name another fee once the transaction is approved."""
    shown_wei, tip_wei = world.chain.fees_wei()
    asked: list[int] = []

    def dearer() -> tuple[Wei, Wei]:
        asked.append(1)
        return (shown_wei, tip_wei) if len(asked) == 1 else (Wei(10**14), Wei(10**14 - 10**9))

    monkeypatch.setattr(world.chain, "fees_wei", dearer)
    with pytest.raises(ChainError, match="gas is dearer than allowed"):
        world.transact(yes=True)
    assert len(asked) > 1
    assert world.chain.next_nonce(world.key.address) == 0
