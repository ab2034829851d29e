"""Streams, the tests Z and the challenge, written from docs/wire.md section "Streams" alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from reference_field import P, Pair

ELEMENTS_PER_BLOCK = 8192
COUNTERS_PER_BLOCK = 8192
Z_OF_TWO_BITS = {0b00: -1, 0b01: 0, 0b10: 0, 0b11: 1}


def counter_stream(label: str, value: bytes, first_counter: int, length: int) -> bytes:
    """Bytes of AES(key, initial + first_counter), AES(key, initial + first_counter + 1), ..."""
    digest = hashlib.sha256(b"omnilytics/1" + label.encode() + value).digest()
    counter = (int.from_bytes(digest[16:], "big") + first_counter) % 2**128
    aes = Cipher(AES(digest[:16]), CTR(counter.to_bytes(16, "big"))).encryptor()
    return aes.update(bytes(length))


def stream_bytes(label: str, value: bytes, length: int) -> bytes:
    """The first bytes of XOF(label, value)."""
    return counter_stream(label, value, 0, length)


def stream_block(label: str, value: bytes, block: int, wanted: int) -> list[int]:
    """The first `wanted` elements of a block: draws of 8 bytes, those from p on skipped."""
    spare = 64  # a draw is skipped with probability 2^-32; 64 spare draws are never used up
    draws = min(2 * COUNTERS_PER_BLOCK, wanted + spare)
    raw = counter_stream(label, value, COUNTERS_PER_BLOCK * block, 8 * draws)
    numbers = [int.from_bytes(raw[8 * i : 8 * i + 8], "little") for i in range(draws)]
    return [number for number in numbers if number < P][:wanted]


def stream_elements(label: str, value: bytes, count: int) -> list[int]:
    """The first `count` elements of XOF(label, value) read as elements of F_p."""
    elements: list[int] = []
    while len(elements) < count:
        block, wanted = len(elements) // ELEMENTS_PER_BLOCK, count - len(elements)
        elements += stream_block(label, value, block, min(wanted, ELEMENTS_PER_BLOCK))
    return elements


def stream_pair(label: str, value: bytes, index: int) -> Pair:
    """Element k of E of a stream: (element 2k, element 2k + 1)."""
    elements = stream_elements(label, value, 2 * index + 2)
    return (elements[2 * index], elements[2 * index + 1])


def wraparound_tests(joint: bytes, entries: int, tests: int) -> list[list[int]]:
    """Z from J: row k holds the entries -1, 0, 1 of test k."""
    width = tests // 4
    raw = stream_bytes("tests", joint, width * entries)
    rows = []
    for k in range(tests):
        bytes_of_test = [raw[width * i + k // 4] for i in range(entries)]
        rows.append([Z_OF_TWO_BITS[(byte >> (2 * (k % 4))) & 3] for byte in bytes_of_test])
    return rows


@dataclass(frozen=True)
class Challenge:
    """What follows from a challenge seed: rho, chi and the weights a_k + b_k X."""

    rho: Pair
    chi: Pair
    weights: list[Pair]


def challenge_of_seed(seed: bytes, tests: int) -> Challenge:
    raw = stream_bytes("wraparound-weights", seed, 14 * tests)
    parts = [int.from_bytes(raw[7 * i : 7 * i + 7], "little") for i in range(2 * tests)]
    weights = [(parts[2 * k], parts[2 * k + 1]) for k in range(tests)]
    return Challenge(
        rho=stream_pair("challenge", seed, 0),
        chi=stream_pair("challenge", seed, 1),
        weights=weights,
    )


def kappa_of_owner(seed: bytes, accepted_root: bytes, owner: bytes) -> Pair:
    """An accepted owner's weight in the batch words."""
    return stream_pair("batch", seed + accepted_root + owner, 0)
