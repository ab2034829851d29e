"""JSON-RPC: nodes that are away, that lie, that refuse; what is bounded and what is hidden."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from eth_abi.abi import encode

from omnilytics.chain.abi import revert_reason
from omnilytics.chain.connection import Chain, RefusedError, connect
from omnilytics.foundation.errors import ChainError, ResumableTimeoutError
from omnilytics.foundation.units import Address, Hash32, Wei

Answer = Callable[[str, list[Any]], Any]
ADDRESS = Address(b"\x0a" * 20)
GREETING = {"web3_clientVersion": "Geth/v1", "eth_chainId": "0x7"}


class Refusal(Exception):  # noqa: N818 - a JSON-RPC error object, not an error of ours
    """Makes the stub answer with an error object."""


@contextmanager
def node(answer: Answer) -> Iterator[str]:
    """Serve JSON-RPC answers on a local port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply: Any = {"jsonrpc": "2.0", "id": request["id"]}
            try:
                reply["result"] = answer(request["method"], request["params"])
            except Refusal as refusal:
                reply["error"] = refusal.args[0]
            body = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fixed(**answers: Any) -> Answer:
    """Return answers by method, after a greeting."""

    def answer(method: str, _: list[Any]) -> Any:
        found = {**GREETING, **answers}[method]
        if isinstance(found, Refusal):
            raise found
        return found

    return answer


@contextmanager
def chain_with(**answers: Any) -> Iterator[Chain]:
    with node(fixed(**answers)) as url:
        yield connect(url)


def test_reads() -> None:
    block = {"hash": "0x" + "ab" * 32, "timestamp": "0x10", "baseFeePerGas": "0x5"}
    with chain_with(
        eth_blockNumber="0x20",
        eth_getBlockByNumber=block,
        eth_getBalance="0x64",
        eth_getCode="0x6001",
        eth_call="0x02",
        eth_getTransactionCount="0x3",
        eth_maxPriorityFeePerGas="0x2",
        eth_getTransactionReceipt=None,
    ) as chain:
        assert (chain.chain_id, chain.is_development, chain.head()) == (7, False, 32)
        assert chain.block_hash(32) == b"\xab" * 32
        assert chain.head_timestamp() == 16
        assert chain.balance(ADDRESS) == 100
        assert chain.code(ADDRESS) == b"\x60\x01"
        assert chain.call(ADDRESS, b"") == b"\x02"
        assert chain.next_nonce(ADDRESS) == 3
        assert chain.fees_wei() == (12, 2)
        assert chain.receipt(Hash32(bytes(32))) is None


def test_the_time_takes_one_question() -> None:
    """Nor can a block come in between two of them."""
    asked: list[tuple[str, list[Any]]] = []

    def answer(method: str, parameters: list[Any]) -> Any:
        asked.append((method, parameters))
        return {**GREETING, "eth_getBlockByNumber": {"timestamp": "0x10"}}[method]

    with node(answer) as url:
        chain = connect(url)
        asked.clear()
        assert chain.head_timestamp() == 16
    assert asked == [("eth_getBlockByNumber", ["latest", False])]


def test_an_unreachable_node() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ChainError, match="no answer") as caught:
        connect(f"http://user:secret@127.0.0.1:{port}/key")
    assert caught.value.exit_code == 6
    assert caught.value.hint is not None
    assert "secret" not in str(caught.value)
    assert "key" not in str(caught.value)


def test_a_silent_node_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ChainError, match="no answer"):
            connect(url, timeout_seconds=0.05)


@pytest.mark.parametrize("url", ["", "ftp://x", "file:///etc/passwd", "127.0.0.1:8545"])
def test_only_http(url: str) -> None:
    with pytest.raises(ChainError, match="not an http URL"):
        connect(url)


@pytest.mark.parametrize("nonsense", [None, 5, "zz", {"a": 1}, []])
def test_nonsense_numbers_and_bytes(nonsense: Any) -> None:
    with chain_with(eth_blockNumber=nonsense, eth_getCode=nonsense) as chain:
        with pytest.raises(ChainError, match="nonsense"):
            chain.head()
        with pytest.raises(ChainError, match="nonsense"):
            chain.code(ADDRESS)


@pytest.mark.parametrize("nonsense", [5, "zz", {"hash": "0x1"}, {}, []])
def test_nonsense_records(nonsense: Any) -> None:
    answers = {"eth_getBlockByNumber": nonsense, "eth_getTransactionReceipt": nonsense}
    with chain_with(**answers) as chain:
        with pytest.raises(ChainError):
            chain.block_hash(1)
        with pytest.raises(ChainError):
            chain.fees_wei()
        with pytest.raises(ChainError):
            chain.receipt(Hash32(bytes(32)))


def test_a_missing_block() -> None:
    with chain_with(eth_getBlockByNumber=None) as chain, pytest.raises(ChainError, match="no such"):
        chain.block_hash(5)


@pytest.mark.parametrize("nested", [False, True])
def test_revert_reasons(nested: bool) -> None:
    data = "0x08c379a0" + encode(["string"], ["round active"]).hex()
    error = {"code": 3, "message": "reverted", "data": {"data": data} if nested else data}
    with (
        chain_with(eth_call=Refusal(error)) as chain,
        pytest.raises(ChainError, match=r"^round active$"),
    ):
        chain.preflight(ADDRESS, ADDRESS, b"", Wei(0), 1)


def test_refusals_without_a_reason() -> None:
    for error in ({"code": -1, "message": "m" * 5_000}, "text", {"data": "0x"}):
        with chain_with(eth_call=Refusal(error)) as chain:
            with pytest.raises(ChainError, match="the node refused eth_call") as caught:
                chain.call(ADDRESS, b"")
            assert len(str(caught.value)) < 400


def test_reasons_that_are_none() -> None:
    assert revert_reason(b"") == "reverted without a reason"
    assert revert_reason(bytes.fromhex("08c379a0") + b"\xff" * 40) == "reverted without a reason"


def test_a_real_chain_gives_nothing_away() -> None:
    with chain_with(eth_getBalance="0x0") as chain:
        with pytest.raises(ChainError, match="only a development chain"):
            chain.fund(ADDRESS, Wei(1))
        with pytest.raises(ChainError, match="only a development chain"):
            chain.mine(1)
        with pytest.raises(ChainError, match="only a development chain"):
            chain.jump(5)


@pytest.mark.parametrize("version", ["anvil/v1.7.1", "HardhatNetwork/2.22"])
def test_development_chains_are_recognised(version: str) -> None:
    with chain_with(web3_clientVersion=version) as chain:
        assert chain.is_development


def test_waits_end() -> None:
    block = {"hash": "0x" + "ab" * 32, "timestamp": "0x10"}
    with chain_with(
        eth_blockNumber="0x20", eth_getBlockByNumber=block, eth_getTransactionReceipt=None
    ) as chain:
        chain.wait_for_block(32, timeout_seconds=0)
        chain.wait_for_time(16, timeout_seconds=0)
        with pytest.raises(ResumableTimeoutError):
            chain.wait_for_block(33, timeout_seconds=0)
        with pytest.raises(ResumableTimeoutError):
            chain.wait_for_time(17, timeout_seconds=0)
        with pytest.raises(ResumableTimeoutError):
            chain.wait_for_receipt(Hash32(bytes(32)), timeout_seconds=0)


class CountingNode:
    """A node whose head moves as a test says; remembers what it was asked."""

    def __init__(self) -> None:
        self.number = 5
        self.asked: list[str] = []

    def __call__(self, method: str, parameters: list[Any]) -> Any:
        if method in GREETING:
            return GREETING[method]
        self.asked.append(method)
        if method == "eth_blockNumber":
            return hex(self.number)
        if method == "eth_getBlockByNumber":
            number = self.number if parameters[0] == "latest" else int(parameters[0], 16)
            name = f"0x{number:064x}"
            return {"number": hex(number), "hash": name, "timestamp": hex(10 * number)}
        return "0x"

    def forget(self) -> int:
        count = len(self.asked)
        self.asked.clear()
        return count


def test_a_steady_look_asks_for_a_head_once() -> None:
    counting = CountingNode()
    with node(counting) as url:
        chain = connect(url)
        assert (chain.latest().number, chain.head_timestamp(), counting.forget()) == (5, 50, 2)
        with chain.steady():
            assert (chain.head(), chain.latest().number, chain.head_timestamp()) == (5, 5, 50)
            assert chain.block_hash(5) == chain.latest().hash
            assert counting.forget() == 1
            counting.number = 6
            assert chain.block_timestamp(4) == 40
            assert chain.block_timestamp(4) == 40
            assert (chain.head(), counting.forget()) == (5, 1)
            chain.look_again()
            assert (chain.head(), counting.forget()) == (6, 1)
            with chain.steady():  # a part of the outer one
                assert (chain.head(), counting.forget()) == (6, 0)
            assert (chain.head(), counting.forget()) == (6, 0)
        counting.number = 7
        assert (chain.head(), chain.head(), counting.forget()) == (7, 7, 2)


def test_a_steady_head_is_never_older_than_a_state() -> None:
    """Events that lag behind a state would make a chain look as if it contradicted itself."""
    counting = CountingNode()
    with node(counting) as url:
        chain = connect(url)
        reads: list[Callable[[], object]] = [
            lambda: chain.call(ADDRESS, b""),
            lambda: chain.code(ADDRESS),
            lambda: chain.send(b""),
        ]
        with chain.steady():
            for read in reads:
                before = chain.head()
                counting.number += 1
                read()
                assert chain.head() == before + 1


def test_a_steady_look_is_of_its_thread_and_ends_with_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counting, seen = CountingNode(), []
    with node(counting) as url:
        chain = connect(url)
        with chain.steady():
            assert chain.head() == 5
            counting.number = 6
            other = threading.Thread(target=lambda: seen.append(chain.head()))
            other.start()
            other.join()
            assert (seen, chain.head()) == ([6], 5)
            monkeypatch.setattr("omnilytics.chain.jsonrpc.STEADY_SECONDS", -1.0)
            assert chain.head() == 6


def test_who_shares_a_development_chain_does_not_move_it() -> None:
    with node(fixed(web3_clientVersion="anvil/v1", eth_blockNumber="0x20")) as url:
        chain = connect(url, moves=False)
        assert (chain.is_development, chain.moves, connect(url).moves) == (True, False, True)
        with pytest.raises(ResumableTimeoutError):
            chain.wait_for_block(33, timeout_seconds=0)


@pytest.mark.parametrize(
    ("text", "is_final"),
    [
        ("insufficient funds for gas * price + value", True),
        ("Intrinsic gas too low", True),
        ("execution reverted: no", True),
        ("already known", False),
        ("nonce too low", False),
        ("replacement transaction underpriced", False),
        ("txpool is full", False),
        ("header not found", False),
        ("", False),
    ],
)
def test_a_refusal_is_final_only_where_it_lies_in_the_transaction(
    text: str, is_final: bool
) -> None:
    def answer(method: str, _: list[Any]) -> Any:
        if method in GREETING:
            return GREETING[method]
        raise Refusal({"code": -32000, "message": text})

    with node(answer) as url:
        chain = connect(url)
        with pytest.raises(ChainError) as caught:
            chain.send(b"\x02")
        assert isinstance(caught.value, RefusedError) == is_final
        with pytest.raises(ChainError) as caught:  # of a question, nothing is final
            chain.call(ADDRESS, b"")
        assert not isinstance(caught.value, RefusedError)
