"""`omnilytics market`, `task` and `data`, as users type them, on a chain in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_world import ETHER, PASSWORD, CommandWorld, command_world, fails, settled_world
from eth_account import Account
from market_world import MarketWorld

from omnilytics.chain.embedded import embedded_chain
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import IDLE_SECONDS
from omnilytics.chain.writer import GAS_LIMITS
from omnilytics.cli.buying import plan_forcing, plan_rounds, plans_of_draft, refuse_unsigned
from omnilytics.cli.options import AccountOptions, Asking
from omnilytics.cli.party import client
from omnilytics.cli.result_view import read_result
from omnilytics.client.buyer import Draft
from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Address, TaskId, show_address
from omnilytics.roles.task_view import chain_terms

Settled = tuple[CommandWorld, MarketWorld]
ONE = TaskId(1)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[CommandWorld]:
    """A chain without a market."""
    chain = embedded_chain()
    with command_world(chain, None, tmp_path) as world:
        yield world
    chain.close()


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settled]:
    with settled_world(tmp_path_factory.mktemp("settled"), rounds=2) as found:
        yield found


@pytest.fixture(scope="module")
def owner(settled: Settled) -> Any:
    commands, world = settled
    return commands.account("owner", ether=0, key=world.market.owners[0].key)


@pytest.fixture(scope="module")
def buyer(settled: Settled) -> Any:
    commands, world = settled
    return commands.account("buyer", ether=0, key=world.market.model_owner.key)


@pytest.fixture(scope="module")
def stranger(settled: Settled) -> Any:
    return settled[0].account("stranger")


# market


def test_deploying_shows_both_contracts_and_prints_what_to_paste(empty: CommandWorld) -> None:
    deployer = empty.account("deployer")
    looked = empty.data(deployer, "market", "deploy", "--dry-run")
    assert looked["sent"] is False
    assert [plan["action"] for plan in looked["plans"]] == [
        "Create the registry",
        "Create the market",
    ]
    assert empty.chain.next_nonce(deployer.key.address) == 0
    done = empty.run(deployer, "market", "deploy", "--yes", "--min-stake", "2 ether")
    assert done.exit_code == 0, done.output
    lines = dict(line.split(" = ") for line in done.stdout.splitlines() if "=" in line)
    address = Address(bytes.fromhex(json.loads(lines["market"])[2:]))
    first = int(lines["first_block"])
    market = MarketReader(empty.chain, address, first_block=first)
    assert market.min_stake() == 2 * ETHER
    assert int(lines["chain_id"]) == empty.chain.chain_id
    # What was announced is what was made.
    assert looked["plans"][1]["contract"] == f"market {show_address(address)}, new"
    assert looked["plans"][0]["contract"] == f"registry {show_address(market.registry)}, new"
    empty.market = market
    other = empty.account("other")
    shown = empty.data(other, "market", "show")
    assert shown["market"] == show_address(address)
    assert shown["servers"] == []
    assert shown["tasks"] == 0


def test_a_deployment_signed_elsewhere_is_the_market(empty: CommandWorld) -> None:
    deployer = empty.account("deployer")
    unsigned = empty.data(deployer, "market", "deploy", "--unsigned")
    for transaction in unsigned:
        signed = Account.sign_transaction(transaction, deployer.key.secret)
        empty.chain.send(bytes(signed.raw_transaction))
    created = empty.chain.receipt(_hash(signed))
    assert created is not None
    assert created.contract is not None
    assert MarketReader(empty.chain, created.contract).min_stake() == ETHER // 10


def test_a_market_is_shown_with_its_servers(settled: Settled, stranger: Any) -> None:
    commands, world = settled
    shown = commands.data(stranger, "market", "show")
    assert len(shown["servers"]) == len(world.market.servers)
    for server in shown["servers"]:
        assert server["endpoint"].startswith("http://server-")
        address = Address(bytes.fromhex(server["server"][2:]))
        assert int(server["stake_wei"]) == world.market.reader.server(address).stake_wei
        assert server["active_tasks"] == 1
        assert set(server["offer"]) == {"min_fee_wei", "max_stake_wei"}
    text = commands.run(stranger, "market", "show").stdout
    assert shown["registry"] in text
    assert "offers from" in text


# errors and their exit codes


def test_what_goes_wrong_ends_with_its_code(settled: Settled, tmp_path: Path) -> None:
    commands, _ = settled
    poor = commands.account("poor", ether=0)
    fails(commands.run(poor, "task", "top-up", "1", "1", "--yes"), 5, "cannot pay", "send ether to")
    fails(commands.run(poor, "task", "show", "77"), 6, "no such task")
    fails(commands.run(poor, "task", "list", "--set", "chain.chain_id=5"), 6, "another chain")
    fails(commands.run(poor, "task", "list", "--set", "chain.pol=5"), 3, "unknown setting")
    strange = "0x" + "11" * 20
    fails(commands.run(poor, "task", "list", "--set", f"chain.market={strange}"), 6, "no contract")
    wrong = tmp_path / "wrong"
    wrong.write_text("not the password\n")
    leave = ("data", "leave-bond", "--yes")
    fails(commands.run(poor, *leave, "--password-file", str(wrong)), 4, "wrong password")
    fails(commands.run(poor, *leave, "--keystore", str(wrong)), 4, "no keystore V3")
    fails(commands.run(poor, *leave, "--from", strange), 4, "another account than --from")
    both = ("--account", "x", "--keystore", str(wrong))
    fails(commands.run(poor, *leave, *both), 2, "both name the account")
    named = ("--account", "x", "--keystore-dir", str(tmp_path))
    fails(commands.run(poor, *leave, *named), 4, "no such account", "omnilytics account new x")
    fails(commands.run(poor, "data", "leave-bond", "--unsigned", "--yes"), 2, "sends nothing")
    fails(commands.run(poor, "data", "leave-bond", "--from", "0x12"), 2, "not an address")


def test_an_account_by_its_name_in_a_folder(settled: Settled) -> None:
    commands, _ = settled
    rich = commands.account("rich")
    folder = str(rich.folder)
    config = commands.account("configured", ether=0)
    named = ("--account", "account", "--keystore-dir", folder, "--json")
    assert commands.data(config, "data", "status", *named[:-1])["owner"] == show_address(
        rich.key.address
    )
    join = commands.run(config, "data", "join", "1", "--yes", *named)
    fails(join, 8, "admits listed owners only")


# task


def test_tasks_are_listed_and_shown_to_anyone(settled: Settled, stranger: Any) -> None:
    commands, world = settled
    (entry,) = commands.data(stranger, "task", "list", "--open")["tasks"]
    terms = world.market.reader.task(ONE).terms
    assert (entry["task"], entry["settled_rounds"], entry["closed"]) == (1, 2, False)
    assert int(entry["escrow_wei"]) == terms.escrow_wei
    shown = commands.data(stranger, "task", "show", "1")
    assert [each["state"] for each in shown["rounds_shown"]] == ["settled", "settled"]
    accepted = set(shown["rounds_shown"][0]["accepted"])
    honest = [show_address(owner.address) for owner in world.market.owners[:2]]
    assert accepted == set(honest)  # the other three cheat
    assert shown["specification"]["title"] == "breast-cancer, mlp"
    assert len(shown["committee"]) == 5
    text = commands.run(stranger, "task", "show", "1", "--last", "1").stdout
    assert "round 2" in text
    assert "round 1 " not in text
    assert honest[0] in text
    alone = commands.data(stranger, "task", "show", "1", "--chain-only")
    assert alone["specification"] is None
    assert alone["rounds_shown"][0]["accepted"] is None
    assert alone["rounds_shown"][0]["accepted_count"] == 2


def test_only_its_owner_closes_or_tops_up(settled: Settled, stranger: Any) -> None:
    commands, _ = settled
    fails(commands.run(stranger, "task", "close", "1", "--yes"), 6, "not model owner")
    fails(commands.run(stranger, "task", "top-up", "1", "1", "--yes"), 6)


def test_closing_returns_what_is_left(tmp_path: Path) -> None:
    with settled_world(tmp_path) as (commands, world):
        buyer = commands.account("buyer", ether=0, key=world.market.model_owner.key)
        left = int(commands.data(buyer, "task", "show", "1", "--chain-only")["left_wei"])
        assert 0 < left < world.market.reader.task(ONE).terms.escrow_wei
        before = commands.chain.balance(buyer.key.address)
        done = commands.data(buyer, "task", "close", "1", "--yes")
        gas = int(done["receipt"]["gas_cost_wei"])
        assert commands.chain.balance(buyer.key.address) == before + left - gas
        assert commands.data(buyer, "task", "list", "--open")["tasks"] == []
        assert commands.data(buyer, "task", "show", "1", "--chain-only")["left_wei"] == "0"
        fails(commands.run(buyer, "task", "close", "1", "--yes"), 6, "already refunded")


def test_a_summary_names_who_was_paid_and_what_it_cost(settled: Settled) -> None:
    _, world = settled
    market = world.market.reader
    written = [{"round": 1, "accepted": 2, "lying_servers": [5]}]
    found = asyncio.run(read_result(market, ONE, world.market.network.connect, written))
    reward = market.task(ONE).terms.reward_wei
    honest = [show_address(owner.address) for owner in world.market.owners[:2]]
    assert found["payouts"] == dict.fromkeys(honest, str(2 * reward))
    assert [each["lying_servers"] for each in found["rounds"]] == [[5], None]
    for each in found["rounds"]:
        assert set(each["gas"]) == {"open", "seal", "settle"}
        assert set(each["accepted"]) == set(honest)


def test_what_buying_will_send_is_known_before(settled: Settled, buyer: Any) -> None:
    commands, world = settled
    options = AccountOptions(config=buyer.config)
    party = client(options, Asking())
    task = world.view.specification
    draft = Draft(name="x", specification=task, clipping_rate=0.0, task=None)
    (named,) = plans_of_draft(party, draft)
    terms = chain_terms(task)
    assert (named.value_wei, named.gas_limit) == (terms.escrow_wei, GAS_LIMITS["create_task"])
    assert "task close" in named.comes_back
    drawn = task.model_copy(update={"committee": (), "committee_mode": "drawn"})
    first, second = plans_of_draft(party, replace(draft, specification=drawn))
    assert first.value_wei == terms.escrow_wei + world.market.reader.draw_fee()
    assert second.value_wei == 0
    assert second.gas_limit >= GAS_LIMITS["draw_committee"]
    assert plans_of_draft(party, replace(draft, task=ONE)) == []
    plan = plan_rounds(party, ONE)
    assert plan is not None
    assert "Open 1 rounds" in plan.action  # three are paid for, two were opened
    forcing = plan_forcing(party, ONE, 2)
    assert (forcing.value_wei, forcing.gas_limit) == (0, 2 * GAS_LIMITS["force_submission"])
    assert plan.nonce == commands.chain.next_nonce(buyer.key.address)  # nothing was sent
    with pytest.raises(UsageError, match="signs messages"):
        refuse_unsigned(Asking(unsigned=True))


def test_what_publishing_needs_is_said_before_anything_is_read(
    settled: Settled, buyer: Any, tmp_path: Path
) -> None:
    commands, _ = settled
    publish = ("task", "publish", "--model", "json:loads", "--npz", str(tmp_path / "none.npz"))
    fails(commands.run(buyer, *publish, "--unsigned"), 2, "signs messages")
    fails(commands.run(buyer, "task", "train", "1", "--yes"), 2, "was not published from here")
    fails(commands.run(buyer, "task", "result", "1"), 2, "was not published from here")


# data


def test_joining_tells_the_terms_and_adds_only_what_is_missing(
    settled: Settled, owner: Any, stranger: Any
) -> None:
    commands, world = settled
    joined = commands.data(owner, "data", "join", "1", "--yes")
    assert (joined["admitted"], joined["sent"]) == (True, False)  # it has its bond
    words = " ".join(joined["terms"])
    for phrase in (
        "0.001 ether for every round",
        "0.02 ether of your bond",
        "any 4 of the 5 servers",
        "One server learns nothing",
        "any 2 that collude can read it",
        "at least 2 accepted owners",
    ):
        assert phrase in words
    for member in world.view.specification.committee:
        assert member.endpoint in words
    fails(commands.run(owner, "data", "join", "1", "--fewest-owners", "3"), 8, "fewer owners")
    fails(commands.run(stranger, "data", "join", "1", "--yes"), 8, "listed owners only")


def test_a_bond_is_left_kept_and_taken_back(settled: Settled) -> None:
    commands, world = settled
    market, chain = world.market.reader, commands.chain
    other = commands.account("other", ether=0, key=world.market.owners[1].key)
    address = other.key.address
    fails(commands.run(other, "data", "withdraw-bond", "--yes"), 2, "was not asked back")
    assert commands.data(other, "data", "leave-bond", "--yes")["sent"]
    assert market.bond(address).free_at > 0
    fails(commands.run(other, "data", "withdraw-bond", "--yes"), 2, "not free yet")
    kept = commands.data(other, "data", "join", "1", "--yes")
    assert kept["plan"]["value_wei"] == "1"
    assert market.bond(address).covers(20 * 10**15)
    commands.data(other, "data", "leave-bond", "--yes")
    chain.jump(chain.head_timestamp() + IDLE_SECONDS + 1)
    before = chain.balance(address)
    bond = market.bond(address).amount_wei
    done = commands.data(other, "data", "withdraw-bond", "--yes")
    gas = int(done["receipt"]["gas_cost_wei"])
    assert chain.balance(address) == before + bond - gas
    # An external signer needs no key file: the address is enough.
    keyless = ("data", "join", "1", "--unsigned", "--from", show_address(address))
    unsigned = commands.data(
        other, *keyless, "--set", "keys.keystore=/none", "--set", "keys.password_file=/none"
    )
    assert int(unsigned["value"], 16) == 20 * 10**15
    nonce = chain.next_nonce(address)
    assert int(unsigned["nonce"], 16) == nonce
    signed = Account.sign_transaction(unsigned, other.key.secret)
    chain.send(bytes(signed.raw_transaction))
    assert market.bond(address).amount_wei == 20 * 10**15
    assert PASSWORD not in json.dumps(unsigned)


def test_credits_are_shown_and_claimed_once(settled: Settled, owner: Any, stranger: Any) -> None:
    commands, world = settled
    found = commands.data(owner, "data", "status", "1")
    (entry,) = found["tasks"]
    assert [each["accepted"] for each in entry["rounds"]] == [True, True]
    reward = world.market.reader.task(ONE).terms.reward_wei
    assert (entry["credited_wei"], entry["claimed_wei"]) == (str(2 * reward), "0")
    text = commands.run(owner, "data", "status", "1").stdout
    assert "credited 0.002 ether, claimed 0 ether, due 0.002 ether" in text
    before = commands.chain.balance(owner.key.address)
    looked = commands.data(owner, "data", "claim", "--dry-run")
    assert "0.002 ether of task 1" in looked["plan"]["action"]
    done = commands.data(owner, "data", "claim", "--yes")
    gas = int(done["receipt"]["gas_cost_wei"])
    assert commands.chain.balance(owner.key.address) == before + 2 * reward - gas
    fails(commands.run(owner, "data", "claim", "--yes"), 2, "nothing is due")
    assert commands.data(owner, "data", "status")["tasks"][0]["due_wei"] == "0"
    assert commands.data(stranger, "data", "status")["tasks"] == []


def _hash(signed: Any) -> Any:
    return bytes(signed.hash)
