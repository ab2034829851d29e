"""The codec: what it writes eth_abi reads, and it believes no answer that is something else."""

from __future__ import annotations

import pytest
from eth_abi.abi import decode, encode
from eth_hash.auto import keccak

from omnilytics.chain.abi import Codec, Signature, constructor_arguments, revert_reason
from omnilytics.chain.bindings import market, registry
from omnilytics.chain.compile import build
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32

build()

SERVER = Address(b"\xab" * 20)
WORD = Hash32(b"\x11" * 32)


def test_calldata_is_the_standards() -> None:
    call = market.claim(7, SERVER, 9, [WORD])
    kinds = ["uint256", "address", "uint256", "bytes32[]"]
    assert call.data[:4] == keccak(b"claim(uint256,address,uint256,bytes32[])")[:4]
    assert decode(kinds, call.data[4:]) == (7, "0x" + "ab" * 20, 9, (WORD,))
    assert (call.name, call.result(b"")) == ("claim", None)


def test_structs_and_lists_travel_both_ways() -> None:
    signatures = (Signature(r=WORD, vs=5), Signature(r=Hash32(bytes(32)), vs=0))
    settlement = market.Settlement(
        submissions_root=WORD,
        seed=WORD,
        accepted_root=WORD,
        accepted_count=1,
        v_bitmap=2,
        previous_payouts_root=WORD,
        payouts_root=WORD,
        transcript_hash=WORD,
    )
    data = market.settle(1, settlement, [SERVER, SERVER], 3, [WORD], signatures).data
    read = market.codec().arguments("settle", data)
    assert read == (1, settlement, (SERVER, SERVER), 3, (WORD,), signatures)
    claims = [market.Claim(task=1, cumulative_wei=2, proof=(WORD, WORD))]
    again = market.codec().arguments("claim_many", market.claim_many(SERVER, claims).data)
    assert again == (SERVER, tuple(claims))


def test_results_are_typed() -> None:
    view = registry.ServerView(
        stake_wei=1,
        active_tasks=2,
        since_block=3,
        leaving_block=4,
        free_at=5,
        profile=6,
        hpke_key=WORD,
        endpoint="http://ü",
    )
    kinds = "(uint256,uint256,uint256,uint256,uint256,uint256,bytes32,string)"
    answer = encode([kinds], [tuple(vars(view).values())])
    assert registry.server(SERVER).result(answer) == view
    assert registry.profile(SERVER, 1).result(encode(["bytes32", "string"], [WORD, "x"])) == (
        WORD,
        "x",
    )
    assert registry.pool(0).result(encode(["address"], ["0x" + "ab" * 20])) == SERVER


@pytest.mark.parametrize("answer", [b"", b"\x01", bytes(31), b"\xff" * 32, b"\xff" * 400])
def test_answers_that_are_something_else(answer: bytes) -> None:
    for call in (registry.server(SERVER), registry.offer(SERVER, SERVER), registry.pool(0)):
        with pytest.raises(ChainError, match="answered something else"):
            call.result(answer)


def test_calldata_of_another_call() -> None:
    data = market.void_round(5).data
    assert market.codec().arguments("void_round", data) == (5,)
    with pytest.raises(ChainError, match="does not call seal"):
        market.codec().arguments("seal", data)
    with pytest.raises(ChainError, match="something else"):
        market.codec().arguments("void_round", data[:-1])


def test_the_first_arguments_alone() -> None:
    kinds = ["uint256", "address"]
    assert market.codec().encoded_inputs("claim", 3, SERVER) == encode(kinds, [3, SERVER])


def test_constructor_arguments_are_the_abis() -> None:
    want = encode(["address", "uint256", "uint256"], [SERVER, 1, 2])
    assert constructor_arguments("Registry", SERVER, 1, 2) == want


def test_every_function_has_its_binding() -> None:
    for module, codec in ((market, market.codec()), (registry, registry.codec())):
        for name in codec.names:
            assert callable(getattr(module, name))
        assert isinstance(codec, Codec)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (keccak(b"Error(string)")[:4] + encode(["string"], ["no place"]), "no place"),
        (keccak(b"Error(string)")[:4] + encode(["string"], ["x" * 5_000]), "x" * 200),
        (b"", "reverted without a reason"),
        (b"\x4e\x48\x7b\x71" + bytes(32), "reverted without a reason"),
        (keccak(b"Error(string)")[:4] + b"\xff" * 64, "reverted without a reason"),
        (keccak(b"Error(string)")[:4] + encode(["bytes"], [b"\xff\xfe"]), "reverted without"),
    ],
)
def test_revert_reasons(data: bytes, reason: str) -> None:
    assert revert_reason(data).startswith(reason)
    assert len(revert_reason(data)) <= 200
