"""Windows, admissions and consents: what is refused, and that hashes mean one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from omnilytics.chain.reader import committee_hash
from omnilytics.foundation.errors import MalformedError
from omnilytics.foundation.units import Address, Hash32
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.hashing import EMPTY_ROOT, merkle_leaf, merkle_proof
from omnilytics.wire.messages import Consent, Final
from omnilytics.wire.record import Record
from omnilytics.wire.task_specification import Admission, Windows

DOMAIN = Domain(1, Address(bytes(20)))
addresses = st.binary(min_size=20, max_size=20).map(Address)
hashes = st.binary(min_size=32, max_size=32).map(Hash32)
words = st.integers(0, 2**256 - 1)
small = st.integers(-1, 12)

WINDOWS = st.fixed_dictionaries(
    {
        "submission_seconds": small,
        "forced_seconds": small | st.sampled_from([2**24 - 1, 2**24]),
        "complaint_seconds": small,
        "seal_seconds": st.integers(0, 20),
        "rotation_seconds": small,
        "delta_blocks": small | st.sampled_from([255, 256]),
        "confirmations": small | st.sampled_from([255, 256]),
        "words_blocks": st.integers(0, 30),
        "openings_blocks": st.integers(0, 40) | st.sampled_from([7_998, 8_000]),
        "settlement_blocks": st.integers(0, 60) | st.sampled_from([7_999, 8_000]),
    }
)


def taken(kind: type[Record], plain: dict[str, Any]) -> bool:
    try:
        kind.from_plain(plain)
    except MalformedError:
        return False
    return True


def sound(w: dict[str, int]) -> bool:
    """Wire.md, "Windows"."""
    cutoffs = w["words_blocks"], w["openings_blocks"], w["settlement_blocks"]
    return (
        min(w["submission_seconds"], w["complaint_seconds"], w["seal_seconds"]) >= 0
        and 0 <= w["forced_seconds"] < 2**24
        and w["forced_seconds"] <= w["submission_seconds"]
        and w["rotation_seconds"] >= 1
        and w["complaint_seconds"] + w["rotation_seconds"] <= w["seal_seconds"]
        and 1 <= w["delta_blocks"] <= 255
        and 0 <= w["confirmations"] <= 255
        and 1 <= cutoffs[0] < cutoffs[1] < cutoffs[2] <= 7_999
        and cutoffs[1] - cutoffs[0] >= 4
        and w["delta_blocks"] + w["confirmations"] < cutoffs[0]
    )


@settings(max_examples=400, deadline=None)
@given(WINDOWS)
def test_windows_are_taken_exactly_if_sound(plain: dict[str, int]) -> None:
    assert taken(Windows, plain) == sound(plain)


GOOD_WINDOWS: dict[str, int] = {
    "submission_seconds": 12,
    "forced_seconds": 2,
    "complaint_seconds": 2,
    "seal_seconds": 10,
    "rotation_seconds": 3,
    "delta_blocks": 2,
    "confirmations": 3,
    "words_blocks": 10,
    "openings_blocks": 20,
    "settlement_blocks": 50,
}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_one_other_window_is_taken_exactly_if_sound(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(GOOD_WINDOWS)))
    value = data.draw(st.integers(-1, 60) | st.sampled_from([255, 256, 7_999, 8_000, 2**24]))
    plain = {**GOOD_WINDOWS, name: value}
    assert sound(GOOD_WINDOWS)
    assert taken(Windows, plain) == sound(plain)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["open", "listed"]), st.lists(addresses, max_size=4), st.booleans())
def test_lists_are_taken_exactly_if_sorted_and_meant(
    mode: str, owners: list[Address], in_order: bool
) -> None:
    listed = sorted(set(owners)) if in_order else owners
    plain = {"mode": mode, "owners": listed, "min_bond_wei": 0}
    meant = (mode == "listed") == bool(listed)
    assert taken(Admission, plain) == (meant and listed == sorted(set(listed)))


def climbed(leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that a leaf and its siblings lead to."""
    for sibling in proof:
        leaf = keccak(b"\x01" + min(leaf, sibling) + max(leaf, sibling))
    return leaf


@settings(max_examples=100, deadline=None)
@given(st.sets(addresses, min_size=1, max_size=9), addresses)
def test_exactly_listed_owners_can_prove_it(owners: set[Address], stranger: Address) -> None:
    admission = Admission(mode="listed", owners=tuple(sorted(owners)), min_bond_wei=0)
    root = admission.allow_root()
    leaves = [merkle_leaf(owner) for owner in admission.owners]
    assert root not in (bytes(32), EMPTY_ROOT)
    for index, owner in enumerate(admission.owners):
        proof = merkle_proof(leaves, index)
        assert climbed(merkle_leaf(owner), proof) == root
        assert (climbed(merkle_leaf(stranger), proof) == root) == (stranger == owner)
    assert admission.admits(stranger) == (stranger in owners)


@settings(max_examples=100, deadline=None)
@given(st.lists(addresses, max_size=13), st.lists(addresses, max_size=13))
def test_committees_have_their_own_hashes(first: list[Address], second: list[Address]) -> None:
    same = committee_hash(tuple(first)) == committee_hash(tuple(second))
    assert same == (first == second)


consents = st.builds(Consent, model_owner=addresses, terms_hash=hashes, expires=words)


@settings(max_examples=100, deadline=None)
@given(consents, consents, words, hashes)
def test_consents_have_their_own_digests(
    first: Consent, second: Consent, number: int, root: Hash32
) -> None:
    assert (first.digest(DOMAIN) == second.digest(DOMAIN)) == (first == second)
    other = Domain(2, DOMAIN.contract)
    assert first.digest(DOMAIN) != first.digest(other)
    final = Final(task=number, round=number, accepted_root=root)  # type: ignore[arg-type]
    assert first.digest(DOMAIN) != final.digest(DOMAIN)
