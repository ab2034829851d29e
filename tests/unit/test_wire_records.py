"""Records: one encoding, a hash that means something, bounds on every field, no secrets shown."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from eth_hash.auto import keccak
from wire_samples import (
    BLIND,
    SECRETS,
    SEED,
    address,
    admission,
    certificate,
    digest,
    drawn_specification,
    explicit_opening,
    header,
    manifest,
    member,
    open_admission,
    opening_reference,
    records,
    sealed_package,
    seeded_opening,
    server_words,
    signature,
    specification,
    transcript,
    two_words,
    windows,
)

from omnilytics.foundation.errors import MalformedError, VerificationError
from omnilytics.wire import cbor
from omnilytics.wire.hashing import EMPTY_ROOT, content_hash, merkle_leaf, merkle_proof
from omnilytics.wire.package import CHUNK_BYTES, Opening, SealedPackage, chunk_count
from omnilytics.wire.record import MAX_CHUNKS, MAX_COMMITTEE, Record
from omnilytics.wire.task_specification import ETHER_TOKEN
from omnilytics.wire.transcript import Payout, Transcript

LIMIT = 4 << 20
SAMPLES = {f"{type(record).__name__}-{index}": record for index, record in enumerate(records())}


def altered(record: Record, path: str, value: object) -> bytes:
    """The record's encoding with one field, named by a dotted path, replaced."""
    plain = cbor.decode(record.encode(), max_bytes=LIMIT)
    place: Any = plain
    *steps, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    for step in steps:
        place = place[step]
    place[last] = value
    return cbor.encode(plain)


def refuse(record: Record, path: str, value: object) -> MalformedError:
    """Check that the record with the value is refused by an error that names the field."""
    with pytest.raises(MalformedError) as caught:
        type(record).decode(altered(record, path, value), max_bytes=LIMIT)
    assert path in str(caught.value)
    assert type(record).__name__ in str(caught.value)
    return caught.value


@pytest.mark.parametrize("record", SAMPLES.values(), ids=SAMPLES)
def test_round_trip_in_one_form(record: Record) -> None:
    data = record.encode()
    again = type(record).decode(data, max_bytes=len(data))
    assert again == record
    assert again.encode() == data
    with pytest.raises(MalformedError, match="too large"):
        type(record).decode(data, max_bytes=len(data) - 1)


@pytest.mark.parametrize("record", SAMPLES.values(), ids=SAMPLES)
def test_fields_are_exactly_those_of_the_record(record: Record) -> None:
    plain = cbor.decode(record.encode(), max_bytes=LIMIT)
    kind = type(record)
    with pytest.raises(MalformedError, match="surprise"):
        kind.decode(cbor.encode({**plain, "surprise": 0}), max_bytes=LIMIT)
    for name in plain:
        fewer = {key: value for key, value in plain.items() if key != name}
        with pytest.raises(MalformedError, match=rf"{name}|only form|a drawn one none"):
            kind.decode(cbor.encode(fewer), max_bytes=LIMIT)
    others: list[object] = [[], 0, None, "x", list(plain.values()), {}]
    for other in others:
        if other != {} or plain:
            with pytest.raises(MalformedError):
                kind.decode(cbor.encode(other), max_bytes=LIMIT)


@pytest.mark.parametrize("record", SAMPLES.values(), ids=SAMPLES)
def test_every_field_refuses_other_types(record: Record) -> None:
    plain = cbor.decode(record.encode(), max_bytes=LIMIT)
    kind = type(record)
    for name, value in plain.items():
        others: list[object] = [True, 1.5, "text", b"bytes", 7, [], {}, {"a": 1}, [[]], -1]
        if isinstance(value, int):
            others += [float(value), bool(value), str(value)]
        if isinstance(value, (bytes, str)):
            others += [value.decode("latin-1") if isinstance(value, bytes) else value.encode()]
        for other in others:
            if type(other) is type(value) or (name == "seed" and other is None):
                continue
            with pytest.raises(MalformedError):
                kind.decode(cbor.encode({**plain, name: other}), max_bytes=LIMIT)


@pytest.mark.parametrize("record", SAMPLES.values(), ids=SAMPLES)
def test_records_are_frozen(record: Record) -> None:
    name = next(iter(type(record).model_fields))
    with pytest.raises(ValueError, match="frozen"):
        setattr(record, name, None)


def test_a_float_or_a_bool_is_not_another_spelling_of_a_number() -> None:
    for other in (True, 1.0):
        with pytest.raises(MalformedError, match="only form"):
            type(header()).decode(altered(header(), "version", other), max_bytes=LIMIT)
    with pytest.raises(MalformedError, match="only form"):
        type(specification()).decode(
            altered(specification(), "components.0.tensors.0.scale", 1), max_bytes=LIMIT
        )


def test_hashes_are_of_the_encoding() -> None:
    for record in (sealed_package(), seeded_opening(), specification(), transcript()):
        assert record.hash() == content_hash(record.encode())
    assert specification().hash() == specification().hash()
    assert specification().hash() != specification(title="other").hash()
    assert transcript().hash() != transcript(v_bitmap=1).hash()
    assert seeded_opening().hash() != explicit_opening().hash()


def test_an_error_quotes_a_bounded_part_of_a_name() -> None:
    for name in ("n" * 100_000, b"n" * 100_000):
        plain = cbor.decode(header().encode(), max_bytes=LIMIT)
        with pytest.raises(MalformedError) as caught:
            type(header()).from_plain({**plain, name: 0})
        assert len(str(caught.value)) < 500


# Packages


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 0),
        ("version", 2),
        ("task", 0),
        ("task", 1 << 63),
        ("round", 0),
        ("round", 1 << 31),
        ("owner", bytes(19)),
        ("owner", bytes(21)),
        ("server", 0),
        ("server", MAX_COMMITTEE + 1),
        ("commitment", bytes(31)),
        ("submission_signature", bytes(64)),
        ("submission_signature", bytes(66)),
        ("x_parts", [bytes(32)] * 2),
        ("x_parts", [bytes(32)] * (MAX_COMMITTEE + 1)),
        ("x_parts.1", bytes(33)),
        ("proof_parts", []),
        ("proof_parts.0", b""),
        ("content_bytes", -1),
        ("content_bytes", 1 << 63),
    ],
)
def test_header_bounds(path: str, value: object) -> None:
    refuse(header(), path, value)


def test_header_at_its_bounds() -> None:
    parts = (bytes(32),) * MAX_COMMITTEE
    largest = header(
        MAX_COMMITTEE,
        (1 << 63) - 1,
        task=(1 << 63) - 1,
        round=(1 << 31) - 1,
        x_parts=parts,
        proof_parts=parts,
    )
    assert type(largest).decode(largest.encode(), max_bytes=LIMIT) == largest


@pytest.mark.parametrize(
    "chunks",
    [[], [bytes(47)], [bytes(CHUNK_BYTES + 257)], [bytes(48)] * (MAX_CHUNKS + 1), [[]]],
    ids=["none", "short", "long", "many", "nested"],
)
def test_sealed_package_bounds(chunks: list[object]) -> None:
    refuse(sealed_package(), "chunks", chunks)


def test_the_longest_chunk_is_taken() -> None:
    data = altered(sealed_package(), "chunks", [bytes(CHUNK_BYTES + 256)])
    assert len(SealedPackage.decode(data, max_bytes=LIMIT).chunks[0]) == CHUNK_BYTES + 256


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
@pytest.mark.parametrize("field", ["blind", "seed"])
def test_opening_bounds(field: str, length: int) -> None:
    refuse(seeded_opening(), field, bytes(length))


@pytest.mark.parametrize(
    ("content_bytes", "count"),
    [(0, 1), (1, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (5 * CHUNK_BYTES, 5)],
)
def test_chunk_count(content_bytes: int, count: int) -> None:
    assert chunk_count(content_bytes) == count


@pytest.mark.parametrize("opening", [seeded_opening(), explicit_opening()])
def test_the_repr_of_an_opening_hides_its_secrets(opening: Opening) -> None:
    for text in (repr(opening), str(opening), f"{opening!r:s}", repr([opening])):
        for secret in SECRETS:
            assert repr(secret)[2:10] not in text
            assert secret.hex()[:16] not in text
    assert "commitment" in repr(opening)  # the header is public


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("blind", BLIND + b"x"),
        ("blind", BLIND.decode()),
        ("seed", SEED[:-1]),
        ("seed", SEED.decode()),
        ("seed", [SEED]),
        ("content", [BLIND]),
        ("content", SEED.decode()),
    ],
)
def test_errors_about_an_opening_hide_its_secrets(path: str, value: object) -> None:
    error = refuse(seeded_opening(), path, value)
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.as_dict())
    for secret in SECRETS:
        assert repr(secret)[2:10] not in shown
        assert secret.hex()[:16] not in shown


# Transcripts


@pytest.mark.parametrize(
    ("record", "path", "value"),
    [
        (certificate(), "owner", bytes(32)),
        (certificate(), "receipts.0.server", 0),
        (certificate(), "receipts.0.server", 14),
        (certificate(), "receipts.1.signature", bytes(64)),
        (
            certificate(),
            "receipts",
            [{"server": 1, "signature": bytes(65)}] * (MAX_COMMITTEE + 1),
        ),
        (certificate(), "held.0.holder", 14),
        (certificate(), "held.0.package_hash", bytes(20)),
        (manifest(), "task", 0),
        (manifest(), "certificates.1.commitment", b""),
        (server_words(), "server", 14),
        (server_words(), "words.0", bytes(31)),
        (server_words(), "signatures.0", bytes(66)),
        (two_words(), "first_word", bytes(33)),
        (two_words(), "second_signature", b""),
        (opening_reference(), "opening_hash", b""),
        (Payout(owner=address("o"), cumulative_wei=0), "cumulative_wei", -1),
        (Payout(owner=address("o"), cumulative_wei=0), "cumulative_wei", 1 << 128),
        (transcript(), "version", 2),
        (transcript(), "v_bitmap", -1),
        (transcript(), "v_bitmap", 1 << MAX_COMMITTEE),
        (transcript(), "seed", bytes(31)),
        (transcript(), "accepted.0", bytes(32)),
        (transcript(), "words.0.seed", bytes(31)),
        (transcript(), "payouts.0.cumulative_wei", 1 << 128),
        (transcript(), "manifest.certificates.0.receipts.0.server", 0),
        (transcript(), "convictions.0.owner", b""),
        (transcript(), "openings.0.server", 0),
        (transcript(), "previous_payouts_root", b""),
    ],
)
def test_transcript_bounds(record: Record, path: str, value: object) -> None:
    refuse(record, path, value)


def test_lists_of_owners_are_bounded() -> None:
    accepted = [address(f"owner {index}") for index in range(100_001)]
    refuse(transcript(), "accepted", accepted)


def test_leaves_and_roots_of_a_transcript() -> None:
    sealed = manifest()
    assert sealed.owners == (address("owner 0"), address("owner 1"))
    leaves = [
        keccak(b"\x00" + bytes(12) + entry.owner + entry.commitment)
        for entry in sealed.certificates
    ]
    assert sealed.root() == keccak(b"\x01" + min(leaves) + max(leaves))
    outcome = transcript()
    assert outcome.accepted_root() == keccak(b"\x00" + bytes(12) + address("owner 0"))
    wei = (10**18).to_bytes(32, "big")
    assert outcome.payouts_root() == keccak(b"\x00" + bytes(12) + address("owner 0") + wei)
    empty = Transcript.model_validate({**outcome.model_dump(), "accepted": (), "payouts": ()})
    assert empty.accepted_root() == empty.payouts_root() == EMPTY_ROOT


def test_signatures_do_not_enter_the_submissions_root() -> None:
    plain = cbor.decode(manifest().encode(), max_bytes=LIMIT)
    plain["certificates"][0]["submission_signature"] = signature("another")
    other = type(manifest()).from_plain(plain)
    assert other != manifest()
    assert other.root() == manifest().root()


# Task specification


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 1),
        ("version", 4),
        ("title", ""),
        ("title", "t" * 257),
        ("description", "d" * 8_193),
        ("servers", 2),
        ("servers", 14),
        ("committee", [member(str(j)).model_dump() for j in range(14)]),
        ("committee.0.hpke_key", bytes(31)),
        ("committee.0.endpoint", ""),
        ("committee_mode", "bonded"),
        ("committee_mode", ""),
        ("min_stake_wei", -1),
        ("min_stake_wei", 1 << 96),
        ("privacy", 0),
        ("privacy", 14),
        ("errors", -1),
        ("tests", 0),
        ("tests", 126),
        ("tests", 132),
        ("fractional_bits", 3),
        ("fractional_bits", 25),
        ("components", []),
        ("components.0.tensors", []),
        ("components.0.tensors.0.shape", [0]),
        ("components.0.tensors.0.shape", [1] * 9),
        ("components.0.tensors.0.shape", [1 << 31]),
        ("components.0.tensors.0.scale", 0.0),
        ("components.0.tensors.0.scale", -1.0),
        ("components.0.tensors.0.scale", float("inf")),
        ("components.0.tensors.0.scale", float("nan")),
        ("profile", "noise"),
        ("input_shape", [1] * 9),
        ("loss", "huber"),
        ("batch_rule", "sum"),
        ("rounds", 0),
        ("rounds", 65_536),
        ("max_rounds", 0),
        ("max_rounds", 65_536),
        ("min_owners", 0),
        ("max_owners", 100_001),
        ("reward_wei", 1 << 96),
        ("fee_wei", -1),
        ("token", "ether"),
        ("token", bytes(19)),
        ("token", bytes(32)),
        ("token", b""),
        ("admission.mode", "closed"),
        ("admission.mode", "bond"),
        ("admission.owners.0", bytes(19)),
        ("admission.min_bond_wei", -1),
        ("admission.min_bond_wei", 1 << 96),
        ("windows.delta_blocks", 0),
        ("windows.confirmations", 256),
        ("windows.submission_seconds", 1 << 63),
        ("windows.forced_seconds", -1),
        ("windows.forced_seconds", 1 << 24),
        ("windows.words_blocks", 0),
        ("windows.words_blocks", 8_000),
        ("windows.openings_blocks", 8_000),
        ("windows.settlement_blocks", 8_000),
        ("model_owner", bytes(32)),
        ("model_owner_hpke_key", bytes(20)),
    ],
)
def test_specification_bounds(path: str, value: object) -> None:
    refuse(specification(), path, value)


MEMBERS = [member(f"server-{j}").model_dump() for j in range(5)]
OWNERS = list(admission().owners)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("min_owners", 11, "min_owners exceeds max_owners"),
        ("rounds", 61, "rounds exceed max_rounds"),
        ("max_rounds", 39, "rounds exceed max_rounds"),
        ("components.0.tensors.0.shape", [(1 << 31) - 1, 2], "parameters"),
        ("components.0.tensors.0.shape", [(1 << 31) - 1] * 8, "parameters"),
        ("committee", [], "has all its servers"),
        ("committee", MEMBERS[:4], "has all its servers"),
        ("committee", [*MEMBERS, member("one more").model_dump()], "has all its servers"),
        ("servers", 4, "has all its servers"),
        ("committee_mode", "drawn", "a drawn one none"),
        ("committee.1", MEMBERS[0], "twice"),
        ("committee.1.address", MEMBERS[0]["address"], "twice"),
        ("windows.words_blocks", 30, "ordered"),
        ("windows.openings_blocks", 100, "ordered"),
        ("windows.settlement_blocks", 30, "ordered"),
        ("windows.openings_blocks", 18, "at least 4 blocks"),
        ("windows.confirmations", 13, "seed must be known"),
        ("windows.delta_blocks", 9, "seed must be known"),
        ("windows.forced_seconds", 601, "within the submission window"),
        ("windows.submission_seconds", 119, "within the submission window"),
        ("windows.complaint_seconds", 91, "time for complaints"),
        ("windows.complaint_seconds", 61, "e \\+ 1 sequencers"),
        ("errors", 2, "e \\+ 1 sequencers"),
        ("admission.mode", "open", "exactly a list"),
        ("admission.owners", [], "exactly a list"),
        ("admission.owners", OWNERS[::-1], "sorted and distinct"),
        ("admission.owners", [OWNERS[0], *OWNERS], "sorted and distinct"),
    ],
)
def test_specification_must_agree_with_itself(path: str, value: object, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        type(specification()).decode(altered(specification(), path, value), max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("committee", MEMBERS, "a drawn one none"),
        ("committee", MEMBERS[:1], "a drawn one none"),
        ("committee_mode", "named", "has all its servers"),
        ("admission.mode", "listed", "exactly a list"),
        ("admission.owners", OWNERS, "exactly a list"),
    ],
)
def test_drawn_and_open_must_agree_with_themselves(path: str, value: object, reason: str) -> None:
    spec = drawn_specification()
    with pytest.raises(MalformedError, match=reason):
        type(spec).decode(altered(spec, path, value), max_bytes=LIMIT)


def test_a_drawn_committee_is_not_known_yet() -> None:
    spec = drawn_specification()
    assert spec.servers == 5
    assert spec.members == ()
    assert spec.hash() != specification().hash()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("windows.settlement_blocks", 7_999),
        ("windows.settlement_blocks", 31),
        ("windows.openings_blocks", 19),
        ("windows.confirmations", 12),
        ("windows.delta_blocks", 8),
        ("windows.forced_seconds", 0),
        ("windows.forced_seconds", 600),
        ("windows.complaint_seconds", 60),
        ("windows.rotation_seconds", 30),
        ("rounds", 60),
        ("max_rounds", 40),
        ("max_rounds", 65_535),
        ("token", ETHER_TOKEN),
        ("token", bytes(19) + b"\x01"),
        ("min_stake_wei", 0),
        ("min_stake_wei", (1 << 96) - 1),
        ("admission.min_bond_wei", 0),
        ("admission.min_bond_wei", (1 << 96) - 1),
        ("admission.owners", OWNERS[:1]),
    ],
)
def test_specification_at_its_bounds(path: str, value: object) -> None:
    data = altered(specification(), path, value)
    assert type(specification()).decode(data, max_bytes=LIMIT).encode() == data


def test_windows_at_their_bounds() -> None:
    longest = windows(words_blocks=7_994, openings_blocks=7_998, settlement_blocks=7_999)
    assert longest.settlement_blocks == 7_999
    assert windows(forced_seconds=600).forced_seconds == 600
    assert windows(submission_seconds=1 << 30, forced_seconds=(1 << 24) - 1).forced_seconds


@pytest.mark.parametrize("servers", [3, 13])
def test_smallest_and_largest_committee(servers: int) -> None:
    members = tuple(member(str(j)) for j in range(servers))
    assert len(specification(servers=servers, committee=members).members) == servers
    drawn = drawn_specification().model_dump() | {"servers": servers}
    assert type(specification()).from_plain(drawn).members == ()


def test_dimensions_and_members() -> None:
    spec = specification()
    assert spec.component_sizes == (13,)  # 3 x 4 and a scalar
    assert spec.dimension == 13
    assert spec.members == tuple(address(f"server-{j}") for j in range(5))


def test_admission() -> None:
    assert specification().admission.admits(address("owner"))
    assert not specification().admission.admits(address("stranger"))
    assert open_admission().admits(address("stranger"))


def test_allow_root_is_the_tree_over_the_listed_owners() -> None:
    leaves = [keccak(b"\x00" + bytes(12) + owner) for owner in OWNERS]
    low, high = sorted(leaves[:2])
    pair = keccak(b"\x01" + low + high)
    assert admission().allow_root() == keccak(b"\x01" + min(pair, leaves[2]) + max(pair, leaves[2]))
    assert admission(owners=OWNERS[:2]).allow_root() == pair
    assert admission(owners=OWNERS[:1]).allow_root() == leaves[0]


def test_allow_root_of_an_open_task_is_zero() -> None:
    assert open_admission().allow_root() == bytes(32)
    assert admission(min_bond_wei=0).allow_root() == admission().allow_root()


def test_an_owner_on_the_list_can_prove_it() -> None:
    leaves = [merkle_leaf(owner) for owner in OWNERS]
    for index, leaf in enumerate(leaves):
        node = bytes(leaf)
        for sibling in merkle_proof(leaves, index):
            node = keccak(b"\x01" + min(node, sibling) + max(node, sibling))
        assert node == admission().allow_root()


def test_malformed_is_a_verification_error() -> None:
    error = refuse(header(), "commitment", digest("x")[:5])
    assert isinstance(error, VerificationError)
    assert error.code == "malformed"
