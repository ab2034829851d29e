"""One key, one nonce counter: crashes, refusals, and transactions that nobody mines."""

from __future__ import annotations

import pytest
from eth_hash.auto import keccak
from mempool import Mempool

from omnilytics.chain.connection import RawReceipt
from omnilytics.chain.outbox import MemoryOutbox, OutgoingCall
from omnilytics.chain.sender import MOST_ABOVE_PRESENT, Sender
from omnilytics.foundation.errors import ChainError, FundsError, ResumableTimeoutError
from omnilytics.foundation.units import Address, Hash32, Wei

KEY = b"\x11" * 32
FRIEND = Address(b"\x22" * 20)
GAS = 21_000
ETHER = Wei(10**18)


@pytest.fixture
def chain() -> Mempool:
    chain = Mempool()
    chain.fund(Sender(chain, KEY).address, ETHER)
    chain.seen.clear()
    return chain


def pay(sender: Sender, wei: int = 1) -> int:
    return sender.send(FRIEND, b"", value=Wei(wei), gas=GAS).gas_used


def stuck(chain: Mempool, outbox: MemoryOutbox) -> OutgoingCall:
    """Leave one call in the outbox whose transaction was not even sent: a crash in between."""
    chain.ignored = 1
    with pytest.raises(ResumableTimeoutError):
        pay(Sender(chain, KEY, outbox=outbox, patience_seconds=1e9))
    chain.seen.clear()
    (call,) = outbox.pending()
    return call


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look once for a receipt, then give up."""
    monkeypatch.setattr("omnilytics.chain.sender.MAX_WAIT_SECONDS", 0.0)


def test_a_call_is_written_down_before_it_is_sent(chain: Mempool) -> None:
    kept: list[int] = []

    class Watching(MemoryOutbox):
        def put(self, call: OutgoingCall) -> None:
            kept.append(len(chain.seen))
            super().put(call)

    outbox = Watching()
    pay(Sender(chain, KEY, outbox=outbox))
    assert (kept, len(chain.seen), outbox.pending()) == ([0], 1, ())


def test_what_a_crash_left_is_sent_as_it_was(chain: Mempool, no_wait: None) -> None:
    outbox = MemoryOutbox()
    call = stuck(chain, outbox)
    (receipt,) = Sender(chain, KEY, outbox=outbox).resume()
    assert chain.seen == list(call.transactions)
    assert receipt.transaction_hash == call.hashes[0]
    assert (chain.balance(FRIEND), outbox.pending()) == (1, ())


def test_what_was_mined_meanwhile_is_not_sent_twice(chain: Mempool, no_wait: None) -> None:
    outbox = MemoryOutbox()
    call = stuck(chain, outbox)
    chain.send(call.transactions[0])
    (receipt,) = Sender(chain, KEY, outbox=outbox).resume()
    assert receipt.transaction_hash == call.hashes[0]
    assert (chain.balance(FRIEND), outbox.pending()) == (1, ())


@pytest.mark.parametrize("by", ["resume", "the caller"])
def test_a_call_that_is_out_is_not_made_twice_whatever_a_node_says(
    chain: Mempool, no_wait: None, by: str
) -> None:
    """One that lags knows neither the transaction nor its nonce."""
    outbox = MemoryOutbox()
    call = stuck(chain, outbox)
    sender = Sender(chain, KEY, outbox=outbox)
    chain.forgetful = True
    with pytest.raises(ResumableTimeoutError):
        sender.resume() if by == "resume" else pay(sender)
    assert outbox.pending() == (call,)
    chain.forgetful = False
    assert pay(sender) == GAS
    assert (chain.balance(FRIEND), outbox.pending()) == (1, ())
    assert chain.spent_nonces(sender.address) == 1


def test_a_new_call_stays_unless_its_refusal_is_final(chain: Mempool, no_wait: None) -> None:
    outbox = MemoryOutbox()
    sender = Sender(chain, KEY, outbox=outbox)
    chain.forgetful = True
    with pytest.raises(ResumableTimeoutError):
        pay(sender)
    (call,) = outbox.pending()
    chain.forgetful = False
    chain.send(call.transactions[0])  # another node had it
    assert pay(sender) == GAS
    assert (chain.balance(FRIEND), outbox.pending()) == (1, ())


def test_a_gap_is_filled_for_what_waits_behind_it(chain: Mempool, no_wait: None) -> None:
    outbox = MemoryOutbox()
    first = stuck(chain, outbox)
    sender = Sender(chain, KEY, outbox=outbox)
    chain.ignored = 1
    with pytest.raises(ResumableTimeoutError):
        pay(sender, 10)
    outbox.finish(first.nonce)
    chain.seen.clear()
    assert [receipt.succeeded for receipt in sender.resume()] == [True, True]
    assert (chain.balance(FRIEND), outbox.pending()) == (10, ())
    target, data = chain.calldata(Hash32(keccak(chain.seen[0])))
    assert (target, data) == (sender.address, b"")
    chain.seen.clear()
    assert sender.resume() == ()
    assert chain.seen == []


def test_a_new_call_does_not_take_the_nonce_of_one_that_waits(
    chain: Mempool, no_wait: None
) -> None:
    outbox = MemoryOutbox()
    call = stuck(chain, outbox)
    sender = Sender(chain, KEY, outbox=outbox)
    chain.ignored = 1
    with pytest.raises(ResumableTimeoutError):
        pay(sender, 10)
    assert [waiting.nonce for waiting in outbox.pending()] == [call.nonce, call.nonce + 1]
    assert len(sender.resume()) == 2
    assert chain.balance(FRIEND) == 11


def test_a_transaction_that_nobody_mines_is_replaced_by_a_dearer_one(chain: Mempool) -> None:
    chain.ignored = 3
    outbox = MemoryOutbox()
    pay(Sender(chain, KEY, outbox=outbox, patience_seconds=0.0))
    assert len(set(chain.seen)) == 4
    assert (chain.balance(FRIEND), outbox.pending()) == (1, ())


def test_replacements_raise_the_fee_by_an_eighth_and_end(
    chain: Mempool, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.ignored = 10**6
    outbox = MemoryOutbox()
    sender = Sender(chain, KEY, outbox=outbox, patience_seconds=0.0)
    monkeypatch.setattr("omnilytics.chain.sender.MAX_WAIT_SECONDS", 0.3)
    most_wei = MOST_ABOVE_PRESENT * chain.fees_wei()[0]
    with pytest.raises(ResumableTimeoutError):
        pay(sender)
    (call,) = outbox.pending()
    assert len(call.transactions) == len(set(call.hashes)) > 5
    assert most_wei * 8 // 9 - 1 <= call.max_fee_wei <= most_wei
    assert call.priority_fee_wei <= call.max_fee_wei


def test_no_fee_is_offered_above_the_most(chain: Mempool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By replacements neither; and what is dearer at present is not sent at all."""
    chain.ignored = 10**6
    outbox = MemoryOutbox()
    most_wei = Wei(chain.fees_wei()[0] * 3 // 2)
    sender = Sender(chain, KEY, outbox=outbox, patience_seconds=0.0, most_fee_wei=most_wei)
    monkeypatch.setattr("omnilytics.chain.sender.MAX_WAIT_SECONDS", 0.3)
    with pytest.raises(ResumableTimeoutError):
        pay(sender)
    (call,) = outbox.pending()
    assert len(call.transactions) > 2
    assert call.max_fee_wei <= most_wei
    chain.seen.clear()
    monkeypatch.setattr(chain, "fees_wei", lambda: (Wei(10**14), Wei(10**14 - 10**9)))
    with pytest.raises(ChainError, match=r"dearer than allowed") as caught:
        pay(sender, 2)
    assert "chain.most_fee" in str(caught.value.hint)
    assert (chain.seen, outbox.pending()) == ([], (call,))


def test_a_refused_transaction_leaves_nothing_behind(chain: Mempool) -> None:
    outbox = MemoryOutbox()
    sender = Sender(chain, KEY, outbox=outbox)
    with pytest.raises(ChainError, match="refused"):
        sender.send(FRIEND, b"", value=Wei(1), gas=GAS - 1)
    assert outbox.pending() == ()
    assert pay(sender) == GAS


def test_a_node_that_took_it_and_did_not_answer(chain: Mempool) -> None:
    chain.is_silent = True
    outbox = MemoryOutbox()
    assert pay(Sender(chain, KEY, outbox=outbox)) == GAS
    assert (chain.balance(FRIEND), len(chain.seen), outbox.pending()) == (1, 1, ())


def test_an_account_that_cannot_pay_signs_nothing(chain: Mempool) -> None:
    outbox = MemoryOutbox()
    with pytest.raises(FundsError, match="cannot pay"):
        pay(Sender(chain, KEY, outbox=outbox), int(ETHER))
    assert (chain.seen, outbox.pending()) == ([], ())


def test_what_was_signed_is_not_shown(chain: Mempool, no_wait: None) -> None:
    call = stuck(chain, MemoryOutbox())
    assert call.transactions[0].hex() not in repr(call)
    assert KEY.hex() not in repr(Sender(chain, KEY))


def test_a_call_that_is_left_over_is_not_made_again(chain: Mempool, no_wait: None) -> None:
    outbox = MemoryOutbox()
    call = stuck(chain, outbox)
    pay(Sender(chain, KEY, outbox=outbox))
    assert chain.seen == list(call.transactions)
    assert (chain.balance(FRIEND), outbox.pending()) == (1, ())


def test_a_call_that_is_left_over_and_mined_is_not_made_again(
    chain: Mempool, no_wait: None
) -> None:
    outbox = MemoryOutbox()
    call = stuck(chain, outbox)
    chain.send(call.transactions[0])
    pay(Sender(chain, KEY, outbox=outbox))
    assert (chain.balance(FRIEND), outbox.pending()) == (1, ())


def test_a_call_whose_nonce_another_transaction_has_is_given_up(
    chain: Mempool, no_wait: None
) -> None:
    outbox = MemoryOutbox()
    stuck(chain, outbox)
    pay(Sender(chain, KEY), 5)  # by another program with the same key
    sender = Sender(chain, KEY, outbox=outbox)
    with pytest.raises(ChainError, match="another transaction has the call's nonce"):
        pay(sender)
    assert outbox.pending() == ()
    pay(sender)
    assert chain.balance(FRIEND) == 6
    stuck(chain, outbox)
    pay(Sender(chain, KEY), 5)
    assert sender.resume() == ()
    assert outbox.pending() == ()


def test_a_nonce_that_was_left_free_is_used_first(chain: Mempool, no_wait: None) -> None:
    """A gap stops everything after it."""
    outbox = MemoryOutbox()
    first = stuck(chain, outbox)
    sender = Sender(chain, KEY, outbox=outbox)
    chain.ignored = 1
    with pytest.raises(ResumableTimeoutError):
        pay(sender, 10)
    outbox.finish(first.nonce)
    pay(sender, 100)
    assert len(sender.resume()) == 1
    assert chain.balance(FRIEND) == 110


def test_what_another_process_replaced_is_not_replaced_again(chain: Mempool) -> None:
    """Two that wait for one call agree on its transactions by the outbox."""
    chain.ignored = 1
    outbox = MemoryOutbox()
    ours = Sender(chain, KEY, outbox=outbox, patience_seconds=0.0)
    theirs = Sender(chain, KEY, outbox=outbox)
    replaced: list[OutgoingCall] = []
    wait = chain.wait_for_receipt

    def wait_while_they_replace(*hashes: Hash32, timeout_seconds: float) -> RawReceipt:
        if not replaced:
            (call,) = outbox.pending()
            replaced.append(theirs._dearer(call))
            raise ResumableTimeoutError("not yet")
        return wait(*hashes, timeout_seconds=timeout_seconds)

    chain.wait_for_receipt = wait_while_they_replace  # type: ignore[assignment]
    pay(ours)
    assert tuple(chain.seen) == replaced[0].transactions
    assert (chain.balance(FRIEND), outbox.pending()) == (1, ())


def test_what_another_process_finished_is_looked_for_once_more(chain: Mempool) -> None:
    """By a transaction that this one never saw: the caller looks at the chain."""
    chain.ignored = 1
    outbox = MemoryOutbox()

    def finish_elsewhere(*_hashes: Hash32, timeout_seconds: float) -> RawReceipt:
        (call,) = outbox.pending()
        outbox.finish(call.nonce)
        raise ResumableTimeoutError("not yet")

    chain.wait_for_receipt = finish_elsewhere  # type: ignore[assignment]
    with pytest.raises(ChainError, match="another process finished") as caught:
        pay(Sender(chain, KEY, outbox=outbox, patience_seconds=0.0))
    assert caught.value.hint


def test_nobody_gets_the_receipt_of_another_call(chain: Mempool) -> None:
    """Which has its nonce, where two processes do not share what they know."""
    chain.ignored = 1
    outbox = MemoryOutbox()
    wait = chain.wait_for_receipt
    others: list[OutgoingCall] = []

    def put_another(*hashes: Hash32, timeout_seconds: float) -> RawReceipt:
        if others:
            return wait(*hashes, timeout_seconds=timeout_seconds)
        (call,) = outbox.pending()
        signed = Sender(chain, KEY)._signed(FRIEND, b"", Wei(7), GAS, nonce=call.nonce)
        others.append(signed)
        outbox.put(signed)
        raise ResumableTimeoutError("not yet")

    chain.wait_for_receipt = put_another  # type: ignore[assignment]
    with pytest.raises(ChainError, match="another call has the call's nonce") as caught:
        pay(Sender(chain, KEY, outbox=outbox, patience_seconds=0.0))
    assert caught.value.hint
    assert outbox.pending() == tuple(others)


def test_another_calls_transaction_does_not_count_as_ones_own(chain: Mempool) -> None:
    outbox = MemoryOutbox()
    sender = Sender(chain, KEY, outbox=outbox)
    ours, other = (sender._signed(FRIEND, b"", Wei(wei), GAS, nonce=0) for wei in (1, 7))
    outbox.put(other)
    chain.send(other.transactions[0])
    with pytest.raises(ChainError, match="another transaction has the call's nonce"):
        sender._check_possible(ours)
    sender._check_possible(other)
