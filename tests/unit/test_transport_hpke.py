"""Sealing: what is sealed opens once, for one key, one submission and one place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sums import open_sum, sealed_sum
from wire_samples import (
    BLIND,
    CONTEXT,
    OTHER_DOMAIN,
    SEED,
    SeededRandomness,
    address,
    digest,
    explicit_opening,
    header,
    long_content,
    seeded_opening,
)

from omnilytics.foundation.errors import KeyMaterialError, VerificationError
from omnilytics.foundation.units import Round, TaskId
from omnilytics.protocol.context import RoundContext
from omnilytics.transport.hpke import (
    HpkeKey,
    open_package,
    seal,
    seal_chunks,
    seal_package,
)
from omnilytics.wire.package import (
    CHUNK_BYTES,
    SEALING_OVERHEAD_BYTES,
    Opening,
    PackageHeader,
    SealedPackage,
)

KEY = HpkeKey(digest("hpke key"))
OTHER_KEY = HpkeKey(digest("other hpke key"))
LONG = long_content()
SEALED = seal_package(explicit_opening(LONG), KEY.public, CONTEXT)
ROOT = digest("accepted root")
SEALED_SUM = sealed_sum(LONG, KEY.public, CONTEXT, accepted_root=ROOT, server=2)

OTHER_CONTEXTS = [
    replace(CONTEXT, domain=OTHER_DOMAIN),
    replace(CONTEXT, task=TaskId(4)),
    replace(CONTEXT, round=Round(8)),
    replace(CONTEXT, artefact_hash=digest("other artefact")),
    replace(CONTEXT, block_hash=digest("other block")),
]


def refuse(sealed: SealedPackage, key: HpkeKey = KEY, context: RoundContext = CONTEXT) -> None:
    with pytest.raises(VerificationError):
        open_package(sealed, key, context)


def with_chunks(*chunks: bytes) -> SealedPackage:
    return SealedPackage(header=SEALED.header, chunks=chunks)


def with_header(**changes: object) -> SealedPackage:
    fields = {**SEALED.header.model_dump(), **changes}
    return SealedPackage(header=PackageHeader.model_validate(fields), chunks=SEALED.chunks)


@pytest.mark.parametrize(
    ("opening", "chunks"),
    [
        (seeded_opening(), 1),
        (explicit_opening(), 1),
        (explicit_opening(LONG[:CHUNK_BYTES]), 1),
        (explicit_opening(LONG[: CHUNK_BYTES + 8]), 2),
        (explicit_opening(LONG), 3),
    ],
    ids=["seeded", "short", "one chunk", "a little more", "three chunks"],
)
def test_packages_open_again(opening: Opening, chunks: int) -> None:
    sealed = seal_package(opening, KEY.public, CONTEXT)
    assert len(sealed.chunks) == chunks
    assert open_package(sealed, KEY, CONTEXT) == opening
    travelled = SealedPackage.decode(sealed.encode(), max_bytes=4 << 20)
    assert open_package(travelled, KEY, CONTEXT) == opening


def test_nothing_secret_is_in_the_clear() -> None:
    data = seal_package(seeded_opening(), KEY.public, CONTEXT).encode() + SEALED.encode()
    for secret in (BLIND, SEED, LONG[:32], LONG[-16:]):
        assert secret not in data


def test_sealing_adds_what_is_documented() -> None:
    chunk = SEALED.chunks[1]
    assert len(chunk) == CHUNK_BYTES + SEALING_OVERHEAD_BYTES
    assert len(seal(KEY.public, b"", b"")) == SEALING_OVERHEAD_BYTES


def test_sealing_twice_gives_other_bytes() -> None:
    assert seal(KEY.public, b"same", b"info") != seal(KEY.public, b"same", b"info")


def test_another_key_does_not_open() -> None:
    refuse(SEALED, key=OTHER_KEY)


@pytest.mark.parametrize("context", OTHER_CONTEXTS)
def test_another_round_does_not_open(context: RoundContext) -> None:
    refuse(SEALED, context=context)


@pytest.mark.parametrize(
    "changes",
    [{"server": 3}, {"owner": address("thief")}, {"commitment": digest("other commitment")}],
    ids=["server", "owner", "commitment"],
)
def test_another_submission_does_not_open(changes: dict[str, object]) -> None:
    assert open_package(with_header(), KEY, CONTEXT).content == LONG
    refuse(with_header(**changes))


def test_chunks_keep_their_places() -> None:
    first, middle, last = SEALED.chunks
    refuse(with_chunks(first, last, middle))
    refuse(with_chunks(middle, first, last))
    refuse(with_chunks(first, middle, middle))
    refuse(with_chunks(first, middle))
    refuse(with_chunks(first, middle, last, last))
    refuse(with_chunks(first))


def test_chunks_cannot_be_cut_off_with_a_shorter_header() -> None:
    shorter = PackageHeader.model_validate(
        {**SEALED.header.model_dump(), "content_bytes": 2 * CHUNK_BYTES}
    )
    refuse(SealedPackage(header=shorter, chunks=SEALED.chunks[:2]))


def test_the_length_in_the_header_holds() -> None:
    refuse(with_header(content_bytes=len(LONG) - 1))
    refuse(with_header(content_bytes=len(LONG) + 8))


def test_chunks_of_another_package_are_refused() -> None:
    again = seal_package(explicit_opening(LONG), KEY.public, CONTEXT)
    mixed = with_chunks(*again.chunks[:1], *SEALED.chunks[1:])
    assert open_package(mixed, KEY, CONTEXT).content == LONG  # the same submission and place
    foreign = header(2, len(LONG), commitment=digest("another"))
    other = Opening(header=foreign, blind=BLIND, content=LONG)
    foreign_chunks = seal_package(other, KEY.public, CONTEXT).chunks
    refuse(with_chunks(SEALED.chunks[0], foreign_chunks[1], *SEALED.chunks[2:]))


def test_an_altered_chunk_is_refused() -> None:
    for place in (0, 31, 32, len(SEALED.chunks[2]) - 1):
        chunk = bytearray(SEALED.chunks[2])
        chunk[place] ^= 1
        refuse(with_chunks(*SEALED.chunks[:2], bytes(chunk)))


@pytest.mark.parametrize("opening", [seeded_opening(), explicit_opening()], ids=["seed", "share"])
@pytest.mark.parametrize("change", [-(10**6), -40, -8, -1, 1, 8, 32])
def test_what_is_sealed_has_one_length(
    opening: Opening, change: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong_length(key: bytes, chunks: list[bytes], binding: bytes) -> tuple[bytes, ...]:
        plain = chunks[0] + bytes(32)
        return seal_chunks(key, [plain[: max(0, len(chunks[0]) + change)]], binding)

    monkeypatch.setattr("omnilytics.transport.hpke.seal_chunks", wrong_length)
    sealed = seal_package(opening, KEY.public, CONTEXT)
    with pytest.raises(VerificationError, match="another length"):
        open_package(sealed, KEY, CONTEXT)


# The share of the sum


@pytest.mark.parametrize("length", [8, CHUNK_BYTES, CHUNK_BYTES + 8, len(LONG)])
def test_sums_open_again(length: int) -> None:
    sealed = sealed_sum(LONG[:length], KEY.public, CONTEXT, accepted_root=ROOT, server=2)
    opened = open_sum(sealed, KEY, CONTEXT, accepted_root=ROOT, server=2)
    assert opened == LONG[:length]


def test_sums_are_bound_to_key_set_and_server() -> None:
    for key, root, server in (
        (OTHER_KEY, ROOT, 2),
        (KEY, digest("other root"), 2),
        (KEY, ROOT, 1),
    ):
        with pytest.raises(VerificationError):
            open_sum(SEALED_SUM, key, CONTEXT, accepted_root=root, server=server)


@pytest.mark.parametrize("context", OTHER_CONTEXTS)
def test_sums_are_bound_to_their_round(context: RoundContext) -> None:
    with pytest.raises(VerificationError):
        open_sum(SEALED_SUM, KEY, context, accepted_root=ROOT, server=2)


def test_chunks_of_sums_keep_their_places() -> None:
    a, b, c = SEALED_SUM
    for chunks in ((b, a, c), (a, b), (a,), (a, a, c), (a, b, c, c)):
        with pytest.raises(VerificationError):
            open_sum(chunks, KEY, CONTEXT, accepted_root=ROOT, server=2)


def test_a_package_is_not_a_sum() -> None:
    with pytest.raises(VerificationError):
        open_sum(SEALED.chunks, KEY, CONTEXT, accepted_root=ROOT, server=2)


# Keys


def test_public_keys_are_x25519() -> None:
    # Bob's key pair in RFC 7748, section 6.1.
    private = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
    public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert HpkeKey(bytes.fromhex(private)).public.hex() == public


@pytest.mark.parametrize("length", [0, 31, 33])
def test_private_keys_have_32_bytes(length: int) -> None:
    with pytest.raises(KeyMaterialError):
        HpkeKey(b"\x01" * length)


@pytest.mark.parametrize(
    "public", [b"", bytes(31), bytes(33), bytes(32), b"\x01" + bytes(31)], ids=lambda key: key.hex()
)
def test_unusable_public_keys_are_refused(public: bytes) -> None:
    with pytest.raises(KeyMaterialError):
        seal(public, b"plaintext", b"info")


def test_generated_keys_differ() -> None:
    randomness = SeededRandomness(1)
    first, second = HpkeKey.generate(randomness), HpkeKey.generate(randomness)
    assert first.public != second.public
    assert first.open(seal(first.public, b"x", b""), b"") == b"x"


def test_repr_and_errors_hide_keys_and_content() -> None:
    with pytest.raises(VerificationError) as caught:
        OTHER_KEY.open(seal(KEY.public, SEED, b""), b"")
    for text in (repr(KEY), str(KEY), str(caught.value), repr(caught.value.as_dict())):
        for secret in (bytes(KEY.secret), bytes(OTHER_KEY.secret), SEED):
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
