"""A round of the market that has everything on chain, on the embedded chain, with real vectors."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from omnilytics.algebra.fixed_point import IntegerVector, round_vector, squared_norm_bound
from omnilytics.chain.abi import Codec
from omnilytics.chain.compile import compile_contract
from omnilytics.chain.embedded import EmbeddedChain
from omnilytics.chain.sender import Sender
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address, Wei
from omnilytics.wire.signatures import SigningKey

FRACTIONAL_BITS = 16
SLICE = 256
BIAS = 1 << 32
LANES = (1, 4)
_ETHER = 10**18
_GAS = 16_000_000
"""Of one transaction; below the limit of 2^24 that Ethereum has since Osaka."""
_DEPLOY_GAS = 3_000_000


@dataclass(frozen=True)
class Cost:
    """What a round cost.

    Attributes:
        dimension: D.
        owners: All of them accepted.
        lanes: Entries in a word.
        gas: Of all transactions but the deployment.
        largest: Gas of the dearest transaction.
        transactions: How many there were.
        seconds: Processor time of this process, signing included.
    """

    dimension: int
    owners: int
    lanes: int
    gas: int
    largest: int
    transactions: int
    seconds: float


class OnChainMarket:
    """One deployed contract for one round.

    Args:
        dimension: D, a multiple of `lanes`.
        lanes: Entries in a word, 1 or 4.
    """

    def __init__(self, dimension: int, lanes: int) -> None:
        if dimension % lanes:
            raise ValueError("D must be a multiple of lanes")
        self.chain = EmbeddedChain()
        self.words, self.lanes = dimension // lanes, lanes
        self.gas: list[int] = []
        artefact = _artefact()
        self._codec = Codec(artefact["abi"])
        arguments = (lanes, self.words, squared_norm_bound(FRACTIONAL_BITS))
        code = bytes.fromhex(str(artefact["bytecode"]).removeprefix("0x"))
        code += b"".join(value.to_bytes(32, "big") for value in arguments)
        created = self.new_account().send(None, code, gas=_DEPLOY_GAS).contract
        assert created is not None
        self.address: Address = created

    def new_account(self) -> Sender:
        """Return a funded account."""
        key = SigningKey.generate(SystemRandomness())
        self.chain.fund(key.address, Wei(1_000 * _ETHER))
        return Sender(self.chain, key.secret)

    def submit(self, sender: Sender, vector: IntegerVector) -> None:
        """Store a vector (D,) on chain, in slices."""
        words = packed(vector, self.lanes)
        for start in range(0, self.words, SLICE):
            self._send(sender, "submit", words[start : start + SLICE])

    def accept(self, sender: Sender, owner: Address) -> None:
        """Add an owner's vector to the sums, in slices; raises ChainError if it is too long."""
        for start in range(0, self.words, SLICE):
            self._send(sender, "accept", owner, min(SLICE, self.words - start))

    def total(self) -> IntegerVector:
        """Return the sums, (D,)."""
        accepted = self._read("accepted")
        words = [self._read("sums", place) for place in range(self.words)]
        return unpacked(words, self.lanes, accepted)

    def _read(self, name: str, *arguments: object) -> Any:
        call = self._codec.call(name, *arguments)
        return call.result(self.chain.call(self.address, call.data))

    def _send(self, sender: Sender, name: str, *arguments: object) -> None:
        data = self._codec.calldata(name, *arguments)
        self.gas.append(sender.send(self.address, data, gas=_GAS).gas_used)


def packed(vector: IntegerVector, lanes: int) -> list[int]:
    """Return words of so many biased entries, the first one lowest."""
    biased = [int(entry) + BIAS for entry in vector]
    return [
        sum(biased[start + lane] << (64 * lane) for lane in range(lanes))
        for start in range(0, len(biased), lanes)
    ]


def unpacked(words: list[int], lanes: int, added: int) -> IntegerVector:
    """Return the entries of sums over `added` vectors."""
    mask = (1 << 64) - 1
    entries = [
        (word >> (64 * lane) & mask) - added * BIAS for word in words for lane in range(lanes)
    ]
    return np.array(entries, dtype=np.int64)


def made_up_vector(dimension: int) -> IntegerVector:
    """Return an encoded random vector of norm 0.9 bounds."""
    vector = np.random.default_rng().normal(size=dimension)
    return round_vector(
        0.9 * vector / np.linalg.norm(vector),
        components=(dimension,),
        fractional_bits=FRACTIONAL_BITS,
        randomness=SystemRandomness(),
    ).values


def measure_round(dimension: int, owners: int, lanes: int) -> Cost:
    """Run a round, check its sums, and return what it cost."""
    market = OnChainMarket(dimension, lanes)
    vectors = [made_up_vector(dimension) for _ in range(owners)]
    senders = [market.new_account() for _ in range(owners)]
    start = time.process_time()
    for sender, vector in zip(senders, vectors, strict=True):
        market.submit(sender, vector)
    for sender in senders:
        market.accept(sender, sender.address)
    seconds = time.process_time() - start
    assert np.array_equal(market.total(), np.sum(vectors, axis=0))
    return Cost(
        dimension=dimension,
        owners=owners,
        lanes=lanes,
        gas=sum(market.gas),
        largest=max(market.gas),
        transactions=len(market.gas),
        seconds=seconds,
    )


@cache
def _artefact() -> dict[str, Any]:
    return compile_contract("OnChainMarket", Path(__file__).parent)
