from __future__ import annotations

import hashlib
from itertools import permutations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from omnilytics.algebra import streams
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS
from omnilytics.algebra.streams import LABEL_SHARE, LABEL_TESTS, LABELS, Stream
from omnilytics.foundation.errors import UsageError


def _key_stream(label: bytes, data: bytes, first_counter: int, counters: int) -> bytes:
    """The specification by single AES blocks, counter by counter."""
    digest = hashlib.sha256(b"omnilytics/1" + label + data).digest()
    encryptor = Cipher(algorithms.AES128(digest[:16]), modes.ECB()).encryptor()  # noqa: S305
    initial = int.from_bytes(digest[16:], "big")
    return b"".join(
        encryptor.update(((initial + first_counter + i) % 2**128).to_bytes(16, "big"))
        for i in range(counters)
    )


def test_no_label_is_a_prefix_of_another() -> None:
    assert all(label.isascii() and label for label in LABELS)
    assert not any(a.startswith(b) for a, b in permutations(LABELS, 2))
    constants = {value for name, value in vars(streams).items() if name.startswith("LABEL_")}
    assert constants == set(LABELS)


def test_bytes_are_aes_in_counter_mode() -> None:
    stream = Stream(LABEL_TESTS, b"input")
    expected = _key_stream(LABEL_TESTS, b"input", 0, 6)
    assert stream.read(0, 96) == expected
    assert stream.read(5, 40) == expected[5:45]
    assert stream.read(7, 0) == b""


@pytest.mark.parametrize("offset", [0, 16, 5])
@pytest.mark.parametrize("count", [0, 1, 40, 200_001])
def test_read_into_writes_the_same_bytes(offset: int, count: int) -> None:
    stream = Stream(LABEL_TESTS, b"input")
    out = np.zeros(count, dtype=np.uint8)
    stream.read_into(offset, out)
    assert out.tobytes() == stream.read(offset, count)


def test_counter_wraps() -> None:
    stream = Stream(LABEL_TESTS, b"")
    stream._counter = 2**128 - 1
    zero = Stream(LABEL_TESTS, b"")
    zero._counter = 0
    assert stream.read(16, 32) == zero.read(0, 32)
    assert stream.read(0, 48)[16:] == zero.read(0, 32)


def test_elements_are_little_endian_in_blocks_of_8192_counters() -> None:
    stream = Stream(LABEL_SHARE, bytes(32))
    for block in (0, 1, 5):
        draws = np.frombuffer(_key_stream(LABEL_SHARE, bytes(32), 8192 * block, 4), dtype="<u8")
        assert (draws < MODULUS).all()
        assert (stream.elements(8192 * block, 8) == draws).all()


@pytest.mark.parametrize("start", [0, 1, 8191, 8192, 16000])
def test_elements_are_seekable(start: int) -> None:
    stream = Stream(LABEL_SHARE, bytes(32))
    whole = stream.elements(0, 20_000)
    assert (stream.elements(start, 3000) == whole[start : start + 3000]).all()


def test_extension_element_is_two_consecutive() -> None:
    stream = Stream(LABEL_SHARE, bytes(32))
    low, high = (int(value) for value in stream.elements(6, 2))
    assert stream.extension_element(3) == ExtensionElement(low, high)


class _CraftedStream(Stream):
    """A stream whose block 1 has draws >= p at the places given."""

    bad: tuple[int, ...] = ()

    def _encryptor(self, counter: int):  # type: ignore[no-untyped-def]
        real, bad = super()._encryptor(counter), self.bad if counter == 8192 else ()

        class Encryptor:
            def update(self, data: bytes) -> bytes:
                draws = np.frombuffer(real.update(data), dtype="<u8").copy()
                for position in bad:
                    if position < len(draws):
                        draws[position] = MODULUS + position % 3
                return draws.tobytes()

            def update_into(self, data: bytes, out: memoryview) -> int:
                out[:] = self.update(bytes(data))
                return len(data)

        return Encryptor()


def test_draws_not_below_p_are_skipped_inside_their_block() -> None:
    honest = Stream(LABEL_SHARE, bytes(32)).elements(0, 8192 * 3)
    stream = _CraftedStream(LABEL_SHARE, bytes(32))
    stream.bad = (0, 7, 8, 8191)
    whole = stream.elements(0, 8192 * 3)
    assert (whole[:8192] == honest[:8192]).all()
    assert (whole[16384:] == honest[16384:]).all()  # the next block does not shift
    kept = np.delete(honest[8192:16384], [0, 7, 8, 8191])
    assert (whole[8192 : 8192 + len(kept)] == kept).all()
    assert whole.max() < MODULUS
    assert len(np.unique(whole)) == len(whole)
    for start, count in ((8192, 1), (8195, 10), (8190, 5), (16380, 8)):
        assert (stream.elements(start, count) == whole[start : start + count]).all()


def test_labels_and_inputs_separate_streams() -> None:
    reads = {Stream(label, data).read(0, 16) for label in LABELS for data in (b"", b"a", b"b")}
    assert len(reads) == 3 * len(LABELS)


def test_unknown_label_is_refused_and_contents_are_hidden() -> None:
    with pytest.raises(UsageError, match="label"):
        Stream(b"other", b"")
    assert "hidden" in repr(Stream(LABEL_SHARE, b"secret"))


@pytest.mark.parametrize(
    ("label", "first_bytes", "element_8192"),
    [
        (streams.LABEL_SHARE, "b891bd9b7e46cd338c0bf64e49f86801", 4602805640939930535),
        (streams.LABEL_TESTS, "2f518e49fef24da7a3c6c1d991ed1503", 15574077973691930495),
        (streams.LABEL_CHALLENGE, "03b14c40c80f7337dd7b8f0c4c2562b4", 1935075495823070194),
        (
            streams.LABEL_WRAPAROUND_WEIGHTS,
            "fc07766d8a860173a2cbc112bb44b547",
            10854344559796387410,
        ),
        (streams.LABEL_BATCH, "5baa9cbf4f487dcbb69d2d659c43a00d", 4519118421926519594),
        (streams.LABEL_ROUNDING, "7dd4e9e7ad7ae0538a6d84d4e0adf6dd", 7158415167484742324),
        (streams.LABEL_PROJECTION, "f2c9dd6f724c1503ef39ac7eae90e658", 9651327882114500055),
    ],
)
def test_known_answers(label: bytes, first_bytes: str, element_8192: int) -> None:
    stream = Stream(label, bytes(range(32)))
    assert stream.read(0, 16).hex() == first_bytes
    assert int(stream.elements(8192, 1)[0]) == element_8192
