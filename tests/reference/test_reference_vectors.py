"""Both implementations against tests/vectors/core_*.json and market_*.json.

The reference made the files from the pages alone; here the package computes the same cases.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import make_vectors
import numpy as np
import pytest
import reference_vectors as reference
from eth_abi.exceptions import EncodingError
from protocol_world import SeededRandomness
from reference_field import RefusedError
from sums import open_sum, readers

from omnilytics.algebra import field, fixed_point
from omnilytics.algebra.streams import Stream
from omnilytics.chain.reader import committee_hash
from omnilytics.chain.records import TaskTerms, Windows, challenge_seed
from omnilytics.chain.writer import compact_signature, contract_terms
from omnilytics.chain.writer import terms_hash as package_terms_hash
from omnilytics.foundation.errors import OmniLyticsError, VerificationError
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol import certificate as certificates
from omnilytics.protocol import commitment as commitments
from omnilytics.protocol import package as packages
from omnilytics.protocol import settlement as settlements
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.protocol.resolve import Evidence, Resolution, resolve
from omnilytics.roles.task_view import chain_terms
from omnilytics.sharing.codewords import decode_joint, is_joint_codeword
from omnilytics.sharing.committee import Committee
from omnilytics.sharing.recovery import recover_sum
from omnilytics.sharing.shamir import Share, share_submission
from omnilytics.transport import hpke
from omnilytics.transport.consents import MAX_CONSENT_BYTES, ConsentRequest
from omnilytics.validity import joint, word
from omnilytics.validity.challenge import Challenge, batch_weight
from omnilytics.validity.evaluate import evaluate
from omnilytics.validity.prover import prove
from omnilytics.validity.statement import Statement
from omnilytics.wire import envelope, hashing, messages, signatures
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.package import Opening, SealedPackage
from omnilytics.wire.record import Record
from omnilytics.wire.task_specification import Admission, TaskSpecification
from omnilytics.wire.transcript import (
    Certificate,
    Manifest,
    OpeningReference,
    Payout,
    ServerWords,
    Transcript,
    TwoWords,
)

FOLDER = Path(__file__).parent.parent / "vectors"


def statement_of(v: Any) -> Statement:
    return Statement(tuple(v["sizes"]), v["f"], v["tests"])


def committee_of(v: Any) -> Committee:
    return Committee(v["n"], v["t"], v["e"])


def context_of(v: Any) -> RoundContext:
    return RoundContext(
        domain=Domain(v["chain_id"], Address(v["contract"])),
        task=v["task"],
        round=v["round"],
        artefact_hash=v["artefact_hash"],
        block_hash=v["block_hash"],
    )


def parameters_of(terms: Any, market: Any = None) -> TaskParameters:
    """The package's parameters; the record of a specification would refuse tests other than 128."""
    known = market or {"members": [], "max_owners": 1, "reward_wei": 0, "admitted": None}
    listed = known["admitted"]
    return TaskParameters(
        committee=committee_of(terms),
        statement=statement_of(terms),
        members=tuple(known["members"]),
        min_owners=1,
        max_owners=known["max_owners"],
        reward_wei=known["reward_wei"],
        admission=Admission(
            mode="open" if listed is None else "listed",
            owners=tuple(sorted(listed or ())),
            min_bond_wei=0,
        ),
    )


def vector(elements: list[int]) -> field.FieldVector:
    return np.array(elements, dtype=np.uint64)


class ScriptedRandomness:
    """Gives the bytes of known elements, in order."""

    def __init__(self, elements: list[int]) -> None:
        self.left = b"".join(element.to_bytes(8, "little") for element in elements)

    def bytes(self, count: int) -> bytes:
        taken, self.left = self.left[:count], self.left[count:]
        assert len(taken) == count
        return taken


# --- kinds -------------------------------------------------------------------------------------


def stream_elements(v: Any) -> Any:
    elements = Stream(v["label"].encode(), v["input"]).elements(v["start"], v["count"])
    return elements.tolist()


def stream_bytes(v: Any) -> Any:
    return Stream(v["label"].encode(), v["input"]).read(v["start"], v["length"])


def wraparound_tests(v: Any) -> Any:
    statement = Statement((v["entries"],), 16, v["tests"])
    blocks = np.concatenate(
        [rows.copy() for _, rows in joint.blocks_of_tests(statement, v["joint"])]
    )
    signs = "-00+"
    return [
        "".join(signs[int(row[k // 4]) >> (2 * (k % 4)) & 3] for row in blocks)
        for k in range(v["tests"])
    ]


def challenge(v: Any) -> Any:
    drawn = Challenge(Statement((1,), 16, v["tests"]), v["seed"])
    return {"rho": drawn.rho, "chi": drawn.chi, "weights": drawn.weights}


def kappa(v: Any) -> Any:
    return batch_weight(v["seed"], v["accepted_root"], v["owner"])


def task_numbers(v: Any) -> Any:
    terms = v["terms"]
    parameters = parameters_of(terms)
    statement = parameters.statement
    fixed_point.check_parameters(
        dimension=statement.dimension, fractional_bits=terms["f"], max_owners=v["max_owners"]
    )
    return {
        "norm_bound": statement.norm_bound,
        "wraparound_bound": statement.wraparound_bound,
        "test_bits": statement.test_bits,
        "bit_count": statement.bit_count,
        "share_length": statement.share_length,
        "package_bytes": parameters.package_bytes,
    }


def integers_to_elements(v: Any) -> Any:
    return fixed_point.to_field(np.array(v["integers"], dtype=np.int64)).tolist()


def elements_to_integers(v: Any) -> Any:
    return fixed_point.from_field(field.from_bytes(v["bytes"])).tolist()


def proof_bits(v: Any) -> Any:
    values = np.array(v["integers"], dtype=np.int64)
    bits = prove(statement_of(v["terms"]), values, v["joint"])
    return "bits " + "".join(str(bit) for bit in bits)


def deal(v: Any) -> list[Share]:
    values = np.array(v["integers"], dtype=np.int64)
    masks = [*(limb for pair in v["m0"] for limb in pair), *v["m1"]]
    return share_submission(
        fixed_point.to_field(values),
        prove(statement_of(v["terms"]), values, v["joint"]),
        committee=committee_of(v["terms"]),
        seeds=v["seeds"],
        randomness=ScriptedRandomness(masks),
    )


def shares(v: Any) -> Any:
    dealt = [share.elements(0, share.length) for share in deal(v)]
    return {
        server: {
            "first": int(share[0]),
            "masks": share[-4:].tolist(),
            "hash": hashing.content_hash(field.to_bytes(share)),
        }
        for server, share in enumerate(dealt, start=1)
    }


def words(v: Any) -> Any:
    statement = statement_of(v["terms"])
    drawn = Challenge(statement, v["seed"])
    return {
        server: evaluate(statement, share, v["joint"], drawn).to_bytes()
        for server, share in enumerate(deal(v), start=1)
    }


def one_word(v: Any) -> Any:
    statement = statement_of(v["terms"])
    share = Share(statement.share_length, explicit=field.from_bytes(v["share"]))
    return evaluate(statement, share, v["joint"], Challenge(statement, v["seed"])).to_bytes()


def limbs_of_word(v: Any) -> Any:
    return word.Word.from_bytes(v["word"])


def batch_word(v: Any) -> Any:
    return word.batch_word(
        (batch_weight(v["seed"], v["accepted_root"], owner), word.Word.from_bytes(content))
        for owner, content in v["words"].items()
    ).to_bytes()


def joint_decoding(v: Any) -> Any:
    parsed = {server: word.Word.from_bytes(content) for server, content in v["words"].items()}
    return decode_joint(parsed, committee_of(v))


def batch_codeword(v: Any) -> Any:
    parsed = {server: word.Word.from_bytes(content) for server, content in v["words"].items()}
    committee = Committee(len(parsed), v["t"], 0)
    return is_joint_codeword(parsed, committee)


def hash_of_parts(v: Any) -> Any:
    return hashing.tagged_hash(v["tag"], *v["parts"])


def commitment(v: Any) -> Any:
    ctx = context_of(v["context"]).owner_context(v["owner"])
    n, t = len(v["blinds"]), len(v["seeds"])
    x_hashes = [None] * t + [hashing.content_hash(share) for share in v["x_shares"]]
    proof_hashes = [None] * t + [hashing.content_hash(share) for share in v["proof_shares"]]
    seeds = [*v["seeds"], *[None] * (n - t)]
    x_parts = [
        commitments.x_part(ctx, j, v["blinds"][j - 1], seed=seeds[j - 1], x_hash=x_hashes[j - 1])
        for j in range(1, n + 1)
    ]
    proof_parts = [
        commitments.proof_part(ctx, j, v["blinds"][j - 1], proof_hashes[j - 1])
        for j in range(1, n + 1)
    ]
    randomness = commitments.joint_randomness(ctx, x_parts)
    return {
        "ctx": ctx,
        "x_parts": x_parts,
        "proof_parts": proof_parts,
        "joint": randomness,
        "commitment": commitments.submission_commitment(ctx, x_parts, proof_parts, randomness),
    }


def seed_of_block(v: Any) -> Any:
    return challenge_seed(v["block_hash"], v["task"], v["round"], v["submissions_root"])


def lot_of_owner(v: Any) -> Any:
    return hashing.tagged_hash("lot", v["seed"], v["owner"])


def merkle(v: Any) -> Any:
    leaves = v["leaves"]
    proofs = [hashing.merkle_proof(leaves, index) for index in range(len(leaves))]
    return {"root": hashing.merkle_root(leaves), "proofs": proofs}


def round_roots(v: Any) -> Any:
    def certificate_of(owner: Address) -> Certificate:
        return Certificate(
            owner=owner,
            commitment=v["submissions"][owner],
            submission_signature=bytes(65),
            receipts=(),
        )

    certified = map(certificate_of, v["submissions"])
    manifest_ = certificates.build_manifest(1, 1, certified)  # type: ignore[arg-type]
    made = Transcript(
        manifest=manifest_,
        seed=Hash32(bytes(32)),
        words=(),
        openings=(),
        convictions=(),
        accepted=tuple(sorted(v["accepted"])),
        v_bitmap=0,
        previous_payouts_root=Hash32(bytes(32)),
        payouts=tuple(
            Payout(owner=owner, cumulative_wei=v["payouts"][owner])
            for owner in sorted(v["payouts"])
        ),
    )
    return {
        "submissions_root": manifest_.root(),
        "accepted_root": made.accepted_root(),
        "payouts_root": made.payouts_root(),
    }


def task_terms(terms: dict[str, Any], n: int) -> TaskTerms:
    """The package's terms of the contract's."""
    windows = {field.name: terms[field.name] for field in fields(Windows)}
    rest = {name: v for name, v in terms.items() if name not in {*windows, "committee"}}
    return TaskTerms(**rest, n=n, windows=Windows(**windows))


def terms_hash(v: Any) -> Any:
    terms = task_terms(v, len(v["committee"]))
    try:
        hashed = package_terms_hash(terms, v["committee"])
    except (EncodingError, ValueError) as error:  # nothing of a specification comes this far
        raise VerificationError("terms that no contract has") from error
    return {"terms_hash": hashed, "committee_hash": committee_hash(tuple(v["committee"]))}


def specification_terms(v: Any) -> Any:
    return asdict(contract_terms(chain_terms(decoded("TaskSpecification", v["bytes"]))))


def allow_list(v: Any) -> Any:
    admission = Admission.from_plain(v["admission"])
    leaves = [hashing.merkle_leaf(owner) for owner in admission.owners]
    assert all(map(admission.admits, admission.owners))
    return {
        "allow_root": admission.allow_root(),
        "proofs": [hashing.merkle_proof(leaves, index) for index in range(len(leaves))],
    }


def consents(v: Any) -> Any:
    """Digest and signers; that no server and no consent is missing is the registry's to check."""
    domain = Domain(v["chain_id"], v["contract"])
    consent = messages.Consent(
        model_owner=v["model_owner"],
        terms_hash=package_terms_hash(task_terms(v["terms"], 0), v["committee"]),
        expires=v["expires"],
    )
    numbers = len(set(v["committee"])), len(v["signatures"])
    if v["now"] > v["expires"] or numbers != (len(v["committee"]),) * 2:
        raise VerificationError("the registry's to check")
    for server, signature in zip(v["committee"], v["signatures"], strict=True):
        signatures.verify(consent, signature, server, domain)
    return consent.digest(domain)


def message(v: Any) -> Any:
    domain = Domain(v["chain_id"], v["contract"])
    made = getattr(messages, v["kind"])(**v["fields"])
    digest = made.digest(domain)
    signature = signatures.SigningKey(v["key"]).sign(made, domain)
    compact = compact_signature(signature)
    return {
        "separator": domain.separator(),
        "hash_struct": made.struct_hash(),
        "digest": digest,
        "signature": signature,
        "compact": (compact.r, compact.vs.to_bytes(32, "big")),
        "signer": signatures.recover_address(digest, signature),
    }


def signer(v: Any) -> Any:
    return signatures.recover_address(v["digest"], v["signature"])


RECORDS: dict[str, tuple[type[Record], int]] = {
    "SealedPackage": (SealedPackage, 2**31),
    "Opening": (Opening, 2**31),
    "Certificate": (Certificate, 65_536),
    "Manifest": (Manifest, 128 << 20),
    "ServerWords": (ServerWords, 32 << 20),
    "TwoWords": (TwoWords, 32 << 20),
    "OpeningReference": (OpeningReference, 4_096),
    "Transcript": (Transcript, 256 << 20),
    "TaskSpecification": (TaskSpecification, 4 << 20),
    "ConsentRequest": (ConsentRequest, MAX_CONSENT_BYTES),
}


def decoded(name: str, content: bytes) -> Any:
    record_type, most_bytes = RECORDS[name]
    return record_type.decode(content, max_bytes=most_bytes)


def record(v: Any) -> Any:
    if v["record"] == "Envelope":
        signed = envelope.decode_signed(v["bytes"])
        assert signed.encode() == v["bytes"]
        return {
            "kind": type(signed.message).__name__,
            "fields": asdict(signed.message),
            "signature": signed.signature,
        }
    made = decoded(v["record"], v["bytes"])
    assert made.encode() == v["bytes"]
    return made.model_dump()


def certificate(v: Any) -> Any:
    context = context_of(v["market"]["context"])
    certificates.check_certificate(
        decoded("Certificate", v["bytes"]),
        parameters=parameters_of(v["market"]["terms"], v["market"]),
        domain=context.domain,
        task=context.task,
        round_number=context.round,
    )
    return True


def merged_certificate(v: Any) -> Any:
    both = [decoded("Certificate", v[name]) for name in ("first", "second")]
    return certificates.merge_certificates(*both).encode()


def manifest(v: Any) -> Any:
    context = context_of(v["market"]["context"])
    made = decoded("Manifest", v["bytes"])
    known = [
        Certificate(
            owner=owner,
            commitment=Hash32(bytes(32)),
            submission_signature=bytes(65),
            receipts=(),
        )
        for owner in v["known"]
    ]
    certificates.check_manifest(
        made,
        parameters=parameters_of(v["market"]["terms"], v["market"]),
        domain=context.domain,
        task=context.task,
        round_number=context.round,
        known=known,
    )
    return made.root()


def hpke_opened(v: Any) -> Any:
    return hpke.HpkeKey(v["key"]).open(v["sealed"], v["info"])


def package(v: Any) -> Any:
    """What a server does with an upload: header, opening, contents."""
    parameters, context = parameters_of(v["terms"]), context_of(v["context"])
    sealed = decoded("SealedPackage", v["bytes"])
    packages.check_header(sealed.header, parameters=parameters, context=context)
    opened = hpke.open_package(sealed, hpke.HpkeKey(v["key"]), context)
    share = packages.check_package(
        opened, server=v["server"], parameters=parameters, context=context
    )
    elements = share.elements(0, share.length)
    return {
        "opening": opened.encode(),
        "share_hash": hashing.content_hash(field.to_bytes(elements)),
    }


def opening(v: Any) -> Any:
    share = packages.check_package(
        decoded("Opening", v["bytes"]),
        server=v["server"],
        parameters=parameters_of(v["terms"]),
        context=context_of(v["context"]),
    )
    return hashing.content_hash(field.to_bytes(share.elements(0, share.length)))


def released_sum(v: Any) -> Any:
    return open_sum(
        v["chunks"],
        hpke.HpkeKey(v["key"]),
        context_of(v["context"]),
        accepted_root=v["accepted_root"],
        server=v["server"],
    )


def verdict(v: Any) -> Any:
    terms = {"n": v["n"], "t": v["t"], "e": v["e"], "f": 16, "tests": 128, "sizes": [1]}
    known = {"members": [], "max_owners": v["max_owners"], "reward_wei": 0, "admitted": None}
    complete = {
        server: tuple(word.Word.from_bytes(by_owner[owner]) for owner in v["owners"])
        for server, by_owner in v["words"].items()
        if all(owner in by_owner for owner in v["owners"])
    }
    evidence = Evidence(
        owners=tuple(v["owners"]),
        words=complete,
        convicted=frozenset(v["convicted"]),
        opening_convicts=lambda owner, server: [owner, server] in v["openings"],
        seed=v["seed"],
    )
    return verdict_of(resolve(evidence, parameters_of(terms, known)), v["convicted"])


def verdict_of(resolution: Resolution, convicted: list[int]) -> Any:
    """The package lists convicted servers among the faults."""
    return {
        "accepted": resolution.accepted,
        "v_bitmap": resolution.v_bitmap,
        "at_fault": sorted(set(resolution.faults) - set(convicted)),
        "accused": sorted([owner, server] for owner, server in resolution.accused),
    }


def transcript(v: Any) -> Any:
    market = v["market"]
    context = context_of(market["context"])
    parameters = parameters_of(market["terms"], market)
    made: Transcript = decoded("Transcript", v["bytes"])
    sealed = settlements.SealedRound(
        context=context,
        parameters=parameters,
        manifest=made.manifest,
        seed=made.seed,
        challenge=Challenge(parameters.statement, made.seed),
    )
    certificates.check_manifest(
        made.manifest,
        parameters=parameters,
        domain=context.domain,
        task=context.task,
        round_number=context.round,
        known=(),
    )
    blobs = {hashing.content_hash(blob): decoded("Opening", blob) for blob in v["openings"]}
    named = {(entry.owner, entry.server): blobs[entry.opening_hash] for entry in made.openings}
    rounds: dict[Address, int] = {}
    for accepted in v["earlier"]:
        rounds |= {owner: rounds.get(owner, 0) + 1 for owner in accepted}
    leaves = settlements.payout_leaves(rounds, parameters.reward_wei)
    before = hashing.merkle_root([leaf.leaf() for leaf in leaves])
    resolution = settlements.check_transcript(
        made, sealed, named, settlements.PayoutState(rounds, before)
    )
    signed = {
        entry.server: asdict(settlements.settlement_message(made, entry, context))
        for entry in made.words
        if entry.server in resolution.standing
    }
    batch = {server: fields.pop("word") for server, fields in signed.items()}
    convicted = [entry.server for entry in made.convictions]
    return {
        **verdict_of(resolution, convicted),
        "settlement": signed[min(signed)],
        "words": batch,
    }


def recovered_sum(v: Any) -> Any:
    vectors = {server: vector(elements) for server, elements in v["vectors"].items()}
    found = recover_sum(readers(vectors), committee_of(v), SeededRandomness(1))
    return {"sum": fixed_point.from_field(found.values).tolist(), "liars": found.liars}


ON_CHAIN = {"draw", "evidence_of_two"}
"""What only the contracts compute: test_reference_contract.py holds them against the reference."""

PACKAGE: dict[str, Callable[[Any], Any]] = {
    name: one_word if name == "word" else globals()[name]
    for name in reference.KINDS
    if name not in ON_CHAIN
}


def outcome(compute: Callable[[Any], Any], given: Any, refusals: type[Exception]) -> Any:
    """The plain output, or None if it is refused."""
    try:
        return reference.to_plain(compute(given))
    except refusals:
        return None


@pytest.mark.parametrize("name", make_vectors.FILES)
def test_reference_vectors_hold_for_both(name: str) -> None:
    cases = reference.read_cases(json.loads((FOLDER / f"{name}.json").read_text())["cases"])
    assert any("output" in case for case in cases)
    wrong = []
    for index, case in enumerate(cases):
        given, kind, want = reference.from_plain(case["input"]), case["kind"], case.get("output")
        theirs = outcome(reference.KINDS[kind], given, RefusedError)
        ours = want if kind in ON_CHAIN else outcome(PACKAGE[kind], given, OmniLyticsError)
        note = case.get("note") or case.get("refused", "")
        wrong += [(index, kind, note, "reference", theirs)] if theirs != want else []
        wrong += [(index, kind, note, "package", ours)] if ours != want else []
    assert not wrong, wrong[:3]


def test_reference_vectors_are_what_the_generator_makes() -> None:
    for name in make_vectors.FILES:
        assert (FOLDER / f"{name}.json").read_text() == make_vectors.make(name), name


def test_reference_vectors_are_small() -> None:
    sizes = [(FOLDER / f"{name}.json").stat().st_size for name in make_vectors.FILES]
    assert sum(sizes) < 1_200_000
