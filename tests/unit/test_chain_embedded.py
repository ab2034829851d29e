"""The embedded chain: blocks, time, ether, refusals."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from omnilytics.chain.connection import MAX_FORCED_BLOCKS
from omnilytics.chain.embedded import embedded_chain
from omnilytics.chain.sender import Sender
from omnilytics.foundation.errors import ChainError, FundsError, KeyMaterialError
from omnilytics.foundation.units import Address, Hash32, Wei

SOURCE = random.Random(5)


def key() -> bytes:
    return SOURCE.randbytes(32)


def test_blocks_and_time_move_on_demand() -> None:
    chain = embedded_chain()
    assert chain.is_development
    start = chain.head()
    chain.wait_for_block(start + 7)
    assert chain.head() == start + 7
    chain.wait_for_block(start)  # the past needs no waiting
    assert chain.head() == start + 7
    future = chain.head_timestamp() + 10_000
    chain.wait_for_time(future)
    assert chain.head_timestamp() == future
    chain.wait_for_time(future - 5)
    assert chain.head() == start + 8
    chain.mine(1)
    assert chain.head_timestamp() == future + 1
    hashes = {chain.block_hash(number) for number in range(chain.head() + 1)}
    assert len(hashes) == chain.head() + 1
    chain.close()


def test_unknown_blocks_are_refused() -> None:
    chain = embedded_chain()
    for number in (-1, chain.head() + 1):
        with pytest.raises(ChainError, match="no such block"):
            chain.block_hash(number)
        with pytest.raises(ChainError, match="no such block"):
            chain.block_timestamp(number)


def test_waits_are_bounded() -> None:
    chain = embedded_chain()
    with pytest.raises(ChainError, match="too many blocks"):
        chain.wait_for_block(chain.head() + MAX_FORCED_BLOCKS + 1)
    with pytest.raises(ChainError, match="backwards"):
        chain.jump(chain.head_timestamp())


def test_threads_that_wait_for_the_same_do_not_overshoot() -> None:
    chain = embedded_chain()
    block, time = chain.head() + 40, chain.head_timestamp() + 5_000
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: chain.wait_for_block(block), range(8)))
        assert chain.head() == block
        list(pool.map(lambda _: chain.wait_for_time(time), range(8)))
    assert (chain.head(), chain.head_timestamp()) == (block + 1, time)


def test_threads_may_send_and_read_at_once() -> None:
    chain = embedded_chain()
    senders = [Sender(chain, key()) for _ in range(4)]
    for sender in senders:
        chain.fund(sender.address, Wei(10**18))
    sink = Address(b"\x78" * 20)

    def pay(sender: Sender) -> int:
        receipt = sender.send(sink, b"", value=Wei(1), gas=21_000)
        return chain.block_timestamp(receipt.block_number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(pay, senders * 8))
    assert chain.balance(sink) == 32


def test_many_accounts_and_transfers() -> None:
    chain = embedded_chain()
    senders = [Sender(chain, key()) for _ in range(20)]
    for sender in senders:
        chain.fund(sender.address, Wei(10**18))
    sink = Address(b"\x77" * 20)
    receipts = [sender.send(sink, b"", value=Wei(5), gas=21_000) for sender in senders * 3]
    assert chain.balance(sink) == 60 * 5
    assert {receipt.gas_used for receipt in receipts} == {21_000}
    for sender in senders:
        paid = sum(r.gas_used * r.gas_price_wei for r in receipts[senders.index(sender) :: 20])
        assert chain.balance(sender.address) == 10**18 - 15 - paid
        assert chain.next_nonce(sender.address) == 3


def test_a_sender_is_told_what_it_lacks() -> None:
    chain = embedded_chain()
    sender = Sender(chain, key())
    sink = Address(b"\x77" * 20)
    with pytest.raises(FundsError, match="cannot pay") as caught:
        sender.send(sink, b"", value=Wei(1), gas=21_000)
    assert caught.value.exit_code == 5
    chain.fund(sender.address, Wei(10**18))
    with pytest.raises(FundsError):
        sender.send(sink, b"", value=Wei(10**18), gas=21_000)
    sender.send(sink, b"", value=Wei(1), gas=21_000)


def test_a_refused_transaction_costs_nothing() -> None:
    chain = embedded_chain()
    sender = Sender(chain, key())
    chain.fund(sender.address, Wei(10**18))
    head = chain.head()
    for data, gas in ((b"\xfe", 100_000), (b"\x60\x00\x60\x00\xfd", 100_000), (b"", 20_000)):
        with pytest.raises(ChainError):
            sender.send(None, data, gas=gas)
    assert (chain.head(), chain.balance(sender.address)) == (head, 10**18)
    receipt = sender.send(None, b"\x60\x00\x60\x00\xf3", gas=100_000)  # nonces have no gap
    assert receipt.contract is not None
    assert chain.code(receipt.contract) == b""


def test_the_faucet_is_not_endless() -> None:
    chain = embedded_chain()
    with pytest.raises(FundsError, match="faucet"):
        chain.fund(Address(b"\x77" * 20), Wei(10**27))


def test_keys_are_hidden_and_checked() -> None:
    chain = embedded_chain()
    secret = key()
    sender = Sender(chain, secret)
    assert secret.hex() not in repr(sender)
    assert sender.address.hex() in repr(sender)
    for wrong in (b"", bytes(32), b"\xff" * 32, secret + b"\x00"):
        with pytest.raises(KeyMaterialError):
            Sender(chain, wrong)


def test_two_chains_differ() -> None:
    one, other = embedded_chain(), embedded_chain()
    one.mine(1)
    other.mine(1)
    assert one.block_hash(1) != other.block_hash(1)
    assert one.receipt(Hash32(bytes(32))) is None
