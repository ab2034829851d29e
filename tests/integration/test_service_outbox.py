"""A server's calls to the chain outlive its process, on both databases and on a real node."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from devnet import anvil_binary, running_anvil
from mempool import Mempool
from server_process import wait_for
from storage_databases import (
    BOTH,
    NEEDS_POSTGRESQL,
    POSTGRESQL,
    new_url,
    open_store,
    opened,
    url_fixture,
)

from omnilytics.chain.connection import RawReceipt, connect
from omnilytics.chain.jsonrpc import JsonRpcChain
from omnilytics.chain.outbox import OutgoingCall
from omnilytics.chain.sender import Sender
from omnilytics.foundation.errors import ChainError, ConflictError
from omnilytics.foundation.units import Address, Hash32, Wei
from omnilytics.service.outbox import DatabaseOutbox, keep_finishing
from omnilytics.storage.repository import Repository
from omnilytics.wire.signatures import SigningKey

url = pytest.fixture(params=BOTH)(url_fixture)
KEY = SigningKey(b"\x11" * 32)
FRIEND = Address(b"\x22" * 20)
GAS = 21_000
ETHER = Wei(10**18)
NEEDS_ANVIL = pytest.mark.skipif(anvil_binary() is None, reason="needs anvil: make devnet-tools")
SHARE = 8
"""Calls of each of two processes."""


class Crash(BaseException):
    """The process is gone."""


class Fragile(Mempool):
    """A chain whose caller dies where a test says."""

    dies_before_sending = False
    dies_after_sending = False

    def send(self, transaction: bytes) -> Hash32:
        if self.dies_before_sending:
            raise Crash
        return super().send(transaction)

    def wait_for_receipt(self, *hashes: Hash32, timeout_seconds: float = 600.0) -> RawReceipt:
        if self.dies_after_sending:
            raise Crash
        return super().wait_for_receipt(*hashes, timeout_seconds=timeout_seconds)


@pytest.fixture
def chain() -> Fragile:
    chain = Fragile()
    chain.fund(KEY.address, ETHER)
    chain.seen.clear()
    return chain


@pytest.fixture
def store(tmp_path: Path, url: str) -> Iterator[Repository]:
    with opened(tmp_path / "data", url) as store:
        yield store


def outbox_of(store: Repository) -> DatabaseOutbox:
    return DatabaseOutbox(store.outbox, KEY.address)


def pay(sender: Sender, wei: int = 1) -> RawReceipt:
    return sender.send(FRIEND, b"", value=Wei(wei), gas=GAS)


def left(store: Repository) -> OutgoingCall:
    (call,) = outbox_of(store).pending()
    return call


def after_a_restart(tmp_path: Path, url: str, chain: Fragile) -> tuple[Repository, Sender]:
    chain.dies_before_sending = chain.dies_after_sending = False
    store = open_store(tmp_path / "data", url)
    return store, Sender(chain, KEY.secret, outbox=outbox_of(store), patience_seconds=0.05)


def test_a_crash_before_sending(
    tmp_path: Path, url: str, store: Repository, chain: Fragile
) -> None:
    chain.dies_before_sending = True
    with pytest.raises(Crash):
        pay(Sender(chain, KEY.secret, outbox=outbox_of(store)))
    call = left(store)
    assert chain.seen == []
    again, sender = after_a_restart(tmp_path, url, chain)
    (receipt,) = sender.resume()
    assert receipt.transaction_hash == call.hashes[0]
    assert chain.seen == list(call.transactions)
    assert (chain.balance(FRIEND), outbox_of(store).pending()) == (1, ())
    again.close()


@pytest.mark.parametrize("by", ["resume", "step"])
def test_a_crash_before_the_receipt(
    tmp_path: Path, url: str, store: Repository, chain: Fragile, by: str
) -> None:
    """Neither resuming nor a step that makes the call again makes a second one."""
    chain.dies_after_sending = True
    with pytest.raises(Crash):
        pay(Sender(chain, KEY.secret, outbox=outbox_of(store)))
    call = left(store)
    again, sender = after_a_restart(tmp_path, url, chain)
    receipt = pay(sender) if by == "step" else sender.resume()[0]
    assert receipt.transaction_hash == call.hashes[0]
    assert (chain.balance(FRIEND), outbox_of(store).pending()) == (1, ())
    again.close()


def test_a_restart_goes_on_replacing_and_knows_every_transaction(
    tmp_path: Path, url: str, store: Repository, chain: Fragile
) -> None:
    chain.dies_after_sending, chain.ignored = True, 2
    with pytest.raises(Crash):
        pay(Sender(chain, KEY.secret, outbox=outbox_of(store)))
    first = left(store)
    again, sender = after_a_restart(tmp_path, url, chain)
    dearer = sender._dearer(first)
    assert left(store) == dearer
    assert dearer.transactions[:1] == first.transactions
    assert dearer.max_fee_wei > first.max_fee_wei
    chain.send(first.transactions[0])  # the cheaper one is mined after all
    (receipt,) = sender.resume()
    assert receipt.transaction_hash == first.hashes[0]
    assert (chain.balance(FRIEND), outbox_of(store).pending()) == (1, ())
    again.close()


def test_a_transaction_is_not_taken_for_another_in_its_place(
    store: Repository, chain: Fragile
) -> None:
    """Else it would be sent without being written down."""
    chain.dies_before_sending = True
    with pytest.raises(Crash):
        pay(Sender(chain, KEY.secret, outbox=outbox_of(store)))
    call = left(store)
    outbox_of(store).put(call)
    other = replace(call, hashes=(Hash32(b"\x01" * 32),), transactions=(b"other",))
    dearer = (*other.transactions, b"dearer"), (*other.hashes, Hash32(b"\x02" * 32))
    with pytest.raises(ConflictError, match="another transaction in this place"):
        outbox_of(store).put(replace(other, transactions=dearer[0], hashes=dearer[1]))
    assert left(store) == call


def test_outboxes_of_two_accounts_are_apart(store: Repository, chain: Fragile) -> None:
    other = SigningKey(b"\x12" * 32)
    chain.fund(other.address, ETHER)
    chain.ignored, chain.dies_after_sending = 1, True
    with pytest.raises(Crash):
        pay(Sender(chain, KEY.secret, outbox=outbox_of(store)))
    chain.dies_after_sending = False
    theirs = DatabaseOutbox(store.outbox, other.address)
    pay(Sender(chain, other.secret, outbox=theirs), 2)
    assert len(outbox_of(store).pending()) == 1
    assert theirs.pending() == ()


def test_what_is_left_is_finished_beside_all_else(
    store: Repository, chain: Fragile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the node does not answer at first."""
    monkeypatch.setattr("omnilytics.service.outbox.LOOK_SECONDS", 0.01)
    chain.dies_before_sending = True
    with pytest.raises(Crash):
        pay(Sender(chain, KEY.secret, outbox=outbox_of(store)))
    chain.dies_before_sending, asked = False, []

    def silent_twice(transaction: bytes) -> Hash32:
        asked.append(transaction)
        if len(asked) <= 2:
            raise ChainError("no answer from the node")
        return Mempool.send(chain, transaction)

    def silent(_address: Address) -> int:
        raise ChainError("no answer from the node")

    monkeypatch.setattr(chain, "send", silent_twice)
    monkeypatch.setattr(chain, "next_nonce", silent)
    stopping = threading.Event()
    sender = Sender(chain, KEY.secret, outbox=outbox_of(store), patience_seconds=0.05)
    thread = threading.Thread(target=keep_finishing, args=(sender, stopping))
    thread.start()
    wait_for(lambda: outbox_of(store).pending() == (), "finished", thread.is_alive)
    stopping.set()
    thread.join(20)
    assert not thread.is_alive()
    assert chain.balance(FRIEND) == 1


# on a node


def ask(chain: JsonRpcChain, method: str, *parameters: object) -> object:
    return chain._ask(method, *parameters)


@pytest.fixture
def waiting_node() -> Iterator[JsonRpcChain]:
    """A node that mines only when it is told to."""
    with running_anvil("--no-mining") as node:
        chain = connect(node, moves=False)
        assert isinstance(chain, JsonRpcChain)
        chain.fund(KEY.address, ETHER)
        yield chain


@NEEDS_ANVIL
@pytest.mark.parametrize("fee", ["taken", "too low"])
def test_a_node_mines_a_dearer_transaction_for_one_that_waits(
    waiting_node: JsonRpcChain, tmp_path: Path, fee: str
) -> None:
    chain = waiting_node
    with (
        opened(tmp_path, new_url("sqlite", tmp_path)) as store,
        ThreadPoolExecutor(1) as pool,
    ):
        outbox = outbox_of(store)
        sender = Sender(chain, KEY.secret, outbox=outbox, patience_seconds=0.2)
        paid = pool.submit(pay, sender)
        wait_for(lambda: len(outbox.pending()) == 1, "sent")
        (first,) = outbox.pending()
        if fee == "too low":  # the network's fee rose above what it offers
            ask(chain, "anvil_setNextBlockBaseFeePerGas", hex(first.max_fee_wei * 2))
            ask(chain, "evm_mine")
            assert chain.receipt(first.hashes[0]) is None
        wait_for(lambda: len(outbox.pending()[0].hashes) >= 3, "replaced")

        def mined() -> bool:
            ask(chain, "evm_mine")
            return paid.done()

        wait_for(mined, "mined")
        assert paid.result().transaction_hash != first.hashes[0]
        assert chain.spent_nonces(KEY.address) == 1
        assert (chain.balance(FRIEND), outbox.pending()) == (1, ())


@NEEDS_ANVIL
def test_what_a_reorganisation_takes_out_is_made_again_once(tmp_path: Path) -> None:
    """The step that still wants it makes it again, under the nonce that is free again."""
    with running_anvil() as node, opened(tmp_path, new_url("sqlite", tmp_path)) as store:
        chain = connect(node, moves=False)
        assert isinstance(chain, JsonRpcChain)
        chain.fund(KEY.address, ETHER)
        sender = Sender(chain, KEY.secret, outbox=outbox_of(store))
        before = ask(chain, "evm_snapshot")
        first = pay(sender)
        assert ask(chain, "evm_revert", before) is True
        assert (chain.balance(FRIEND), chain.receipt(first.transaction_hash)) == (0, None)
        assert sender.resume() == ()
        pay(sender)
        assert chain.spent_nonces(KEY.address) == 1
        assert (chain.balance(FRIEND), outbox_of(store).pending()) == (1, ())


def pay_many(folder: Path, url: str, node: str, wei: int) -> list[int]:
    chain = connect(node, moves=False)
    with opened(folder, url) as store:
        sender = Sender(chain, KEY.secret, outbox=outbox_of(store))
        return [pay(sender, wei).block_number for _ in range(SHARE)]


@pytest.mark.parametrize("wei", [1, 2])
def test_the_same_call_of_two_processes_is_one(
    store: Repository, chain: Fragile, monkeypatch: pytest.MonkeyPatch, wei: int
) -> None:
    """As when a task changes hands while a call waits; another call is another one."""
    one, other = (Sender(chain, KEY.secret, outbox=outbox_of(store)) for _ in range(2))
    wait = chain.wait_for_receipt
    ran: list[RawReceipt] = []

    def meanwhile(*hashes: Hash32, timeout_seconds: float) -> RawReceipt:
        monkeypatch.setattr(chain, "wait_for_receipt", wait)
        ran.append(pay(other, wei))
        return wait(*hashes, timeout_seconds=timeout_seconds)

    monkeypatch.setattr(chain, "wait_for_receipt", meanwhile)
    first = pay(one)
    assert (first.transaction_hash == ran[0].transaction_hash) == (wei == 1)
    assert chain.balance(FRIEND) == (1 if wei == 1 else 3)
    assert outbox_of(store).pending() == ()


@NEEDS_ANVIL
@NEEDS_POSTGRESQL
def test_two_processes_share_an_accounts_nonces(tmp_path: Path) -> None:
    url = new_url(POSTGRESQL, tmp_path)
    open_store(tmp_path / "1", url).close()
    spawn = multiprocessing.get_context("spawn")
    with running_anvil() as node, ProcessPoolExecutor(2, mp_context=spawn) as pool:
        chain = connect(node, moves=False)
        chain.fund(KEY.address, ETHER)
        # What both send alike at the same time is one call; these are none alike.
        sent = [pool.submit(pay_many, tmp_path / str(wei), url, node, wei) for wei in (1, 2)]
        blocks = [block for each in sent for block in each.result(timeout=120)]
        assert len(blocks) == 2 * SHARE
        assert (chain.balance(FRIEND), chain.spent_nonces(KEY.address)) == (3 * SHARE, 2 * SHARE)
    with opened(tmp_path / "1", url) as store:
        assert outbox_of(store).pending() == ()
