"""Small valid records, keys and a seeded generator for the tests of wire, transport and api."""

from __future__ import annotations

import hashlib

from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.protocol.context import RoundContext
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.messages import Consent
from omnilytics.wire.package import CHUNK_BYTES, Opening, PackageHeader, SealedPackage
from omnilytics.wire.record import Record
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.task_specification import (
    ETHER_TOKEN,
    Admission,
    CommitteeMember,
    Component,
    TaskSpecification,
    TensorSlot,
    Windows,
)
from omnilytics.wire.transcript import (
    Certificate,
    HeldSignature,
    Manifest,
    OpeningReference,
    Payout,
    ReceiptSignature,
    ServerWords,
    Transcript,
    TwoWords,
)

BLIND = b"BLINDBLINDBLINDBLINDBLINDBLIND!!"
SEED = b"SEEDSEEDSEEDSEEDSEEDSEEDSEEDSEED"
CONTENT = b"SHARE..." * 3
SECRETS = (BLIND, SEED, CONTENT)


class SeededRandomness:
    """Deterministic bytes, for tests only."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls = 0

    def bytes(self, count: int) -> bytes:
        self._calls += 1
        return hashlib.shake_256(f"{self._seed}/{self._calls}".encode()).digest(count)


def digest(label: str) -> Hash32:
    return Hash32(hashlib.sha256(label.encode()).digest())


def address(label: str) -> Address:
    return Address(digest(label)[:20])


def signature(label: str) -> bytes:
    return digest(label) + digest(label + "'") + b"\x1b"


TASK, ROUND = TaskId(3), Round(7)
DOMAIN = Domain(31_337, address("contract"))
OTHER_DOMAIN = Domain(1, address("contract"))
KEY = SigningKey(digest("key"))
OTHER_KEY = SigningKey(digest("other key"))
CONTEXT = RoundContext(
    domain=DOMAIN,
    task=TASK,
    round=ROUND,
    artefact_hash=digest("artefact"),
    block_hash=digest("block"),
)


def header(server: int = 1, content_bytes: int = 0, **changes: object) -> PackageHeader:
    fields: dict[str, object] = {
        "version": 1,
        "task": TASK,
        "round": ROUND,
        "owner": address("owner"),
        "server": server,
        "commitment": digest("commitment"),
        "submission_signature": signature("submission"),
        "x_parts": tuple(digest(f"x{j}") for j in range(3)),
        "proof_parts": tuple(digest(f"proof{j}") for j in range(3)),
        "content_bytes": content_bytes,
    }
    return PackageHeader.model_validate({**fields, **changes})


def seeded_opening() -> Opening:
    return Opening(header=header(1), blind=BLIND, seed=SEED)


def explicit_opening(content: bytes = CONTENT) -> Opening:
    return Opening(header=header(2, len(content)), blind=BLIND, content=content)


def long_content() -> bytes:
    """Content of three chunks, the last one short, all different."""
    return hashlib.shake_128(b"content").digest(2 * CHUNK_BYTES + 24)


def sealed_package() -> SealedPackage:
    return SealedPackage(header=header(), chunks=(bytes(48), b"\x01" * 60))


def certificate(label: str = "owner") -> Certificate:
    return Certificate(
        owner=address(label),
        commitment=digest(f"commitment of {label}"),
        submission_signature=signature(f"submission of {label}"),
        receipts=tuple(
            ReceiptSignature(server=j, signature=signature(f"receipt {j}")) for j in (1, 2)
        ),
        held=(
            HeldSignature(
                holder=1, server=3, package_hash=digest("package"), signature=signature("held")
            ),
        ),
    )


def manifest() -> Manifest:
    certificates = tuple(certificate(f"owner {index}") for index in range(2))
    return Manifest(task=TASK, round=ROUND, certificates=certificates)


def server_words() -> ServerWords:
    return ServerWords(
        server=1,
        submissions_root=digest("root"),
        seed=digest("seed"),
        words=(digest("word 0"), digest("word 1")),
        signatures=(signature("word 0"), signature("word 1")),
    )


def two_words() -> TwoWords:
    return TwoWords(
        server=2,
        owner=address("owner"),
        first_word=digest("first"),
        first_signature=signature("first"),
        second_word=digest("second"),
        second_signature=signature("second"),
    )


def opening_reference() -> OpeningReference:
    return OpeningReference(owner=address("owner"), server=2, opening_hash=digest("opening"))


def transcript(**changes: object) -> Transcript:
    fields: dict[str, object] = {
        "manifest": manifest(),
        "seed": digest("seed"),
        "words": (server_words(),),
        "openings": (opening_reference(),),
        "convictions": (two_words(),),
        "accepted": (address("owner 0"),),
        "v_bitmap": 0b101,
        "previous_payouts_root": digest("previous"),
        "payouts": (Payout(owner=address("owner 0"), cumulative_wei=10**18),),
    }
    return Transcript.model_validate({**fields, **changes})


def windows(**changes: object) -> Windows:
    fields: dict[str, object] = {
        "submission_seconds": 600,
        "forced_seconds": 120,
        "complaint_seconds": 60,
        "seal_seconds": 120,
        "rotation_seconds": 30,
        "delta_blocks": 2,
        "confirmations": 6,
        "words_blocks": 15,
        "openings_blocks": 30,
        "settlement_blocks": 100,
    }
    return Windows.model_validate({**fields, **changes})


def admission(**changes: object) -> Admission:
    owners = sorted(address(label) for label in ("owner", "another owner", "a third one"))
    fields: dict[str, object] = {"mode": "listed", "owners": owners, "min_bond_wei": 10**16}
    return Admission.model_validate({**fields, **changes})


def drawn_specification() -> TaskSpecification:
    """A specification whose servers are not known yet, and that admits anybody."""
    return specification(
        committee=(), committee_mode="drawn", token=ETHER_TOKEN, admission=open_admission()
    )


def open_admission() -> Admission:
    return Admission(mode="open", min_bond_wei=0)


def member(label: str) -> CommitteeMember:
    return CommitteeMember(
        address=address(label), endpoint=f"http://{label}", hpke_key=digest(label)
    )


def specification(**changes: object) -> TaskSpecification:
    tensors = (
        TensorSlot(name="weight", shape=(3, 4), scale=0.5),
        TensorSlot(name="bias", shape=(), scale=0.1),
    )
    fields: dict[str, object] = {
        "title": "digits",
        "description": "A demonstration.",
        "model_licence": "Apache-2.0",
        "contact": "somebody",
        "servers": 5,
        "committee": tuple(member(f"server-{j}") for j in range(5)),
        "min_stake_wei": 10**17,
        "privacy": 1,
        "errors": 1,
        "tests": 128,
        "fractional_bits": 16,
        "components": (Component(name="gradient", tensors=tensors),),
        "profile": "gauge",
        "input_shape": (1, 8, 8),
        "preprocessing": "standardised",
        "loss": "cross_entropy",
        "rounds": 40,
        "max_rounds": 60,
        "min_owners": 1,
        "max_owners": 10,
        "reward_wei": 10**15,
        "fee_wei": 10**12,
        "opening_fee_wei": 0,
        "token": address("token"),
        "admission": admission(),
        "windows": windows(),
        "model_owner": address("model owner"),
        "model_owner_hpke_key": digest("model owner"),
    }
    return TaskSpecification.model_validate({**fields, **changes})


def consent(**changes: object) -> Consent:
    fields = {"model_owner": address("owner"), "terms_hash": digest("terms"), "expires": 2_000}
    return Consent(**{**fields, **changes})  # type: ignore[arg-type]


def records() -> list[Record]:
    """One of every kind of record that travels or is stored."""
    return [
        header(),
        sealed_package(),
        seeded_opening(),
        explicit_opening(),
        certificate(),
        manifest(),
        server_words(),
        two_words(),
        opening_reference(),
        Payout(owner=address("owner"), cumulative_wei=(1 << 128) - 1),
        transcript(),
        windows(),
        admission(),
        open_admission(),
        specification(),
        drawn_specification(),
    ]
