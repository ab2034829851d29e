"""What each kind of vector computes, by the reference; and how values stand in JSON.

In JSON, bytes are 0x and hex, integers decimal text, floats their hexadecimal text. A kind takes a
case's input and gives its output, or raises RefusedError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import reference_contract as contract
import reference_messages as messages
import reference_packages as packages
import reference_rounds as rounds
import reference_statement as statement
import reference_streams as streams
from reference_cbor import decode_record, encode
from reference_field import (
    RefusedError,
    bytes_of_elements,
    elements_of_bytes,
    field_of_integer,
    integer_of_field,
)
from reference_hashes import (
    RoundContext,
    accepted_root,
    challenge_seed,
    commitment_of_parts,
    content_hash,
    joint_randomness,
    lot,
    merkle_proof,
    merkle_proves,
    merkle_root,
    payouts_root,
    submissions_root,
    tagged_hash,
)


def to_plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, dict):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value]


def from_plain(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch("0x([0-9a-f]{2})*", value):
        return bytes.fromhex(value[2:])
    if isinstance(value, str) and re.fullmatch("-?[0-9]+", value):
        return int(value)
    if isinstance(value, dict):
        return {from_plain(key): from_plain(item) for key, item in value.items()}
    return [from_plain(item) for item in value] if isinstance(value, list) else value


def difference(old: Any, new: Any) -> Any:
    """What of a plain input differs from another one's; long texts without what they share."""
    if not (isinstance(old, str) and isinstance(new, str) and len(new) > 200):
        return new
    most = min(len(old), len(new))
    start = next((i for i in range(most) if old[i] != new[i]), most)
    end = next((i for i in range(most - start) if old[-1 - i] != new[-1 - i]), most - start)
    return {"keep_first": start, "put": new[start : len(new) - end], "keep_last": end}


def completed(old: Any, change: Any) -> Any:
    """The inverse of `difference`."""
    if not (isinstance(change, dict) and "keep_first" in change):
        return change
    tail = old[len(old) - change["keep_last"] :]
    return old[: change["keep_first"]] + change["put"] + tail


def read_cases(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All cases with whole inputs: one that is `like` another names what differs."""
    whole: list[dict[str, Any]] = []
    for case in cases:
        base = whole[case["like"]]["input"] if "like" in case else {}
        own = {name: completed(base.get(name), part) for name, part in case["input"].items()}
        whole.append({**case, "input": {**base, **own}})
    return whole


def terms_of(value: Any) -> statement.Terms:
    return statement.Terms(
        servers=value["n"],
        privacy=value["t"],
        errors=value["e"],
        fractional_bits=value["f"],
        tests=value["tests"],
        sizes=tuple(value["sizes"]),
    )


def context_of(value: Any) -> RoundContext:
    return RoundContext(**value)


def market_of(value: Any) -> rounds.Market:
    admitted = value["admitted"]
    return rounds.Market(
        terms=terms_of(value["terms"]),
        context=context_of(value["context"]),
        members=tuple(value["members"]),
        max_owners=value["max_owners"],
        reward_wei=value["reward_wei"],
        admitted=None if admitted is None else frozenset(admitted),
    )


# --- kinds -------------------------------------------------------------------------------------


def stream_elements(v: Any) -> Any:
    return streams.stream_elements(v["label"], v["input"], v["start"] + v["count"])[v["start"] :]


def stream_bytes(v: Any) -> Any:
    return streams.stream_bytes(v["label"], v["input"], v["start"] + v["length"])[v["start"] :]


def wraparound_tests(v: Any) -> Any:
    rows = streams.wraparound_tests(v["joint"], v["entries"], v["tests"])
    return ["".join("-0+"[z + 1] for z in row) for row in rows]


def challenge(v: Any) -> Any:
    result = streams.challenge_of_seed(v["seed"], v["tests"])
    return {"rho": result.rho, "chi": result.chi, "weights": result.weights}


def kappa(v: Any) -> Any:
    return streams.kappa_of_owner(v["seed"], v["accepted_root"], v["owner"])


def task_numbers(v: Any) -> Any:
    terms = terms_of(v["terms"])
    statement.check_terms(terms, v["max_owners"])
    return {
        "norm_bound": terms.norm_bound,
        "wraparound_bound": terms.wraparound_bound,
        "test_bits": terms.test_bits,
        "bit_count": terms.bit_count,
        "share_length": terms.share_length,
        "package_bytes": packages.package_bound(terms),
    }


def integers_to_elements(v: Any) -> Any:
    return [field_of_integer(integer) for integer in v["integers"]]


def elements_to_integers(v: Any) -> Any:
    return [integer_of_field(element) for element in elements_of_bytes(v["bytes"])]


def proof_bits(v: Any) -> Any:
    bits = statement.proof_bits(terms_of(v["terms"]), v["integers"], v["joint"])
    return "bits " + "".join(str(bit) for bit in bits)


def deal(v: Any) -> dict[int, list[int]]:
    terms = terms_of(v["terms"])
    randomness = statement.DealingRandomness(
        tuple(v["seeds"]),
        tuple((pair[0], pair[1]) for pair in v["m0"]),
        (v["m1"][0], v["m1"][1]),
    )
    bits = statement.proof_bits(terms, v["integers"], v["joint"])
    return statement.deal(terms, v["integers"], bits, randomness)


def shares(v: Any) -> Any:
    return {
        j: {"first": share[0], "masks": share[-4:], "hash": content_hash(bytes_of_elements(share))}
        for j, share in deal(v).items()
    }


def words(v: Any) -> Any:
    terms = terms_of(v["terms"])
    drawn = streams.challenge_of_seed(v["seed"], terms.tests)
    return {
        j: statement.word_bytes(statement.word_pair(terms, share, v["joint"], drawn))
        for j, share in deal(v).items()
    }


def word(v: Any) -> Any:
    terms = terms_of(v["terms"])
    drawn = streams.challenge_of_seed(v["seed"], terms.tests)
    elements = elements_of_bytes(v["share"])
    return statement.word_bytes(statement.word_pair(terms, elements, v["joint"], drawn))


def limbs_of_word(v: Any) -> Any:
    return statement.word_of_bytes(v["word"])


def batch_word(v: Any) -> Any:
    return statement.batch_word(v["words"], v["seed"], v["accepted_root"])


def joint_decoding(v: Any) -> Any:
    terms = statement.Terms(v["n"], v["t"], v["e"], 16, 128, (1,))
    parsed = {j: statement.word_of_bytes(content) for j, content in v["words"].items()}
    found = statement.joint_decoding(terms, parsed)
    return None if found is None else sorted(found)


def batch_codeword(v: Any) -> Any:
    return rounds.batch_words_hold(v["words"], v["t"])


def hash_of_parts(v: Any) -> Any:
    return tagged_hash(v["tag"], *v["parts"])


def commitment_of_hashes(
    ctx: bytes,
    blinds: Sequence[bytes],
    seeds: Sequence[bytes],
    x_hashes: Sequence[bytes],
    proof_hashes: Sequence[bytes],
) -> tuple[list[bytes], list[bytes], bytes]:
    """(x_parts, proof_parts, C); the hashes are those of the shares of servers t + 1..n."""
    t = len(seeds)
    secrets = [(b"seed", seed) for seed in seeds] + [(b"hash", value) for value in x_hashes]
    proofs = [(b"none", b"")] * t + [(b"hash", value) for value in proof_hashes]
    numbered = [(bytes([j]), blind) for j, blind in enumerate(blinds, start=1)]
    x_parts = [tagged_hash("x", ctx, *n, *s) for n, s in zip(numbered, secrets, strict=True)]
    proof_parts = [tagged_hash("proof", ctx, *n, *s) for n, s in zip(numbered, proofs, strict=True)]
    return x_parts, proof_parts, commitment_of_parts(ctx, x_parts, proof_parts)


def commitment(v: Any) -> Any:
    """Seeds of servers 1..t, then explicit shares of x and of the proof."""
    ctx = context_of(v["context"]).of_owner(v["owner"])
    x_hashes = [content_hash(share) for share in v["x_shares"]]
    proof_hashes = [content_hash(share) for share in v["proof_shares"]]
    x_parts, proof_parts, made = commitment_of_hashes(
        ctx, v["blinds"], v["seeds"], x_hashes, proof_hashes
    )
    return {
        "ctx": ctx,
        "x_parts": x_parts,
        "proof_parts": proof_parts,
        "joint": joint_randomness(ctx, x_parts),
        "commitment": made,
    }


def seed_of_block(v: Any) -> Any:
    return challenge_seed(v["block_hash"], v["task"], v["round"], v["submissions_root"])


def lot_of_owner(v: Any) -> Any:
    return lot(v["seed"], v["owner"])


def merkle(v: Any) -> Any:
    leaves = v["leaves"]
    root = merkle_root(leaves)
    proofs = [merkle_proof(leaves, index) for index in range(len(leaves))]
    assert all(merkle_proves(root, *pair) for pair in zip(leaves, proofs, strict=True))
    return {"root": root, "proofs": proofs}


def round_roots(v: Any) -> Any:
    return {
        "submissions_root": submissions_root(v["submissions"]),
        "accepted_root": accepted_root(v["accepted"]),
        "payouts_root": payouts_root(v["payouts"]),
    }


def terms_hash(v: Any) -> Any:
    terms = {name: value for name, value in v.items() if name != "committee"}
    return {
        "terms_hash": contract.terms_hash(terms, v["committee"]),
        "committee_hash": contract.committee_hash(v["committee"]),
    }


def specification_terms(v: Any) -> Any:
    """What the contract has of a specification."""
    return contract.terms_of_specification(v["bytes"])


def allow_list(v: Any) -> Any:
    admitted = v["admission"]
    root = contract.allow_root(admitted)
    proofs = [contract.allow_proof(admitted, owner) for owner in admitted["owners"]]
    return {"allow_root": root, "proofs": proofs}


def consents(v: Any) -> Any:
    """Whether they make a task; the digest that all of them sign."""
    digest = contract.consent_digest(
        v["chain_id"],
        v["contract"],
        v["model_owner"],
        contract.terms_hash(v["terms"], v["committee"]),
        v["expires"],
    )
    contract.check_consents(digest, v["committee"], v["signatures"], v["expires"], v["now"])
    return digest


def draw(v: Any) -> Any:
    randomness = contract.draw_randomness(v["header"], v["block_hash"])
    seed = contract.draw_seed(randomness, v["task"], v["draws"])
    return {
        "randomness": randomness,
        "seed": seed,
        "places": [contract.draw_place(seed, step, len(v["pool"])) for step in range(8)],
        "committee": contract.drawn_committee(seed, v["pool"], v["eligible"], v["n"]),
    }


def evidence_of_two(v: Any) -> Any:
    return contract.evidence_of_two(v["kind"], v["first"], v["second"])


def message(v: Any) -> Any:
    domain = v["chain_id"], v["contract"]
    digest = messages.digest_of(*domain, v["kind"], v["fields"])
    signature = messages.sign_digest(v["key"], digest)
    return {
        "separator": messages.domain_separator(*domain),
        "hash_struct": messages.hash_struct(v["kind"], v["fields"]),
        "digest": digest,
        "signature": signature,
        "compact": messages.compact_signature(signature),
        "signer": messages.signer_of_digest(signature, digest),
    }


def signer(v: Any) -> Any:
    return messages.signer_of_digest(v["signature"], v["digest"])


def record(v: Any) -> Any:
    return decode_record(v["record"], v["bytes"])


def certificate(v: Any) -> Any:
    rounds.check_certificate(market_of(v["market"]), decode_record("Certificate", v["bytes"]))
    return True


def merged_certificate(v: Any) -> Any:
    both = [decode_record("Certificate", v[name]) for name in ("first", "second")]
    return encode(rounds.merge_certificates(*both))


def manifest(v: Any) -> Any:
    decoded = decode_record("Manifest", v["bytes"])
    return rounds.check_manifest(market_of(v["market"]), decoded, must_hold=v["known"])


def hpke_opened(v: Any) -> Any:
    return packages.hpke_open(v["key"], v["info"], v["sealed"])


def package(v: Any) -> Any:
    sealed = decode_record("SealedPackage", v["bytes"])
    terms, context = terms_of(v["terms"]), context_of(v["context"])
    if sealed["header"]["server"] != v["server"]:
        raise RefusedError("another server's package")
    opening, elements = packages.open_package(terms, context, sealed, v["key"])
    share_hash = content_hash(bytes_of_elements(elements))
    return {"opening": encode(opening), "share_hash": share_hash}


def opening(v: Any) -> Any:
    decoded = decode_record("Opening", v["bytes"])
    if decoded["header"]["server"] != v["server"]:
        raise RefusedError("another server's package")
    elements = packages.check_opening(terms_of(v["terms"]), context_of(v["context"]), decoded)
    return content_hash(bytes_of_elements(elements))


def released_sum(v: Any) -> Any:
    binding = packages.aggregate_binding(context_of(v["context"]), v["accepted_root"], v["server"])
    return b"".join(packages.open_chunks(v["key"], binding, v["chunks"]))


def verdict(v: Any) -> Any:
    terms = statement.Terms(v["n"], v["t"], v["e"], 16, 128, (1,))
    openings = {(pair[0], pair[1]) for pair in v["openings"]}
    found = rounds.resolve(
        terms, v["max_owners"], v["seed"], v["owners"], v["words"], v["convicted"], openings
    )
    return verdict_plain(found)


def verdict_plain(found: rounds.Verdict) -> Any:
    return {
        "accepted": found.accepted,
        "v_bitmap": rounds.v_bitmap(found.v),
        "at_fault": sorted(found.at_fault),
        "accused": sorted([owner, server] for owner, server in found.accused),
    }


def transcript(v: Any) -> Any:
    decoded = decode_record("Transcript", v["bytes"])
    market = market_of(v["market"])
    openings = {
        content_hash(content): decode_record("Opening", content) for content in v["openings"]
    }
    found = rounds.judge_transcript(market, decoded, openings, v["earlier"])
    settlements = {
        server: rounds.settlement_fields(market, decoded, server) for server in sorted(found.v)
    }
    words = {server: fields.pop("word") for server, fields in settlements.items()}
    assert all(fields == settlements[min(settlements)] for fields in settlements.values())
    return {**verdict_plain(found), "settlement": settlements[min(settlements)], "words": words}


def recovered_sum(v: Any) -> Any:
    terms = statement.Terms(v["n"], v["t"], v["e"], 16, 128, (1,))
    total, liars = statement.recover_sum(terms, v["vectors"])
    return {"sum": total, "liars": sorted(liars)}


KINDS: dict[str, Callable[[Any], Any]] = {
    function.__name__: function
    for function in (
        stream_elements,
        stream_bytes,
        wraparound_tests,
        challenge,
        kappa,
        task_numbers,
        integers_to_elements,
        elements_to_integers,
        proof_bits,
        shares,
        words,
        word,
        limbs_of_word,
        batch_word,
        joint_decoding,
        batch_codeword,
        hash_of_parts,
        commitment,
        seed_of_block,
        lot_of_owner,
        merkle,
        round_roots,
        terms_hash,
        specification_terms,
        allow_list,
        consents,
        draw,
        evidence_of_two,
        message,
        signer,
        record,
        certificate,
        merged_certificate,
        manifest,
        hpke_opened,
        package,
        opening,
        released_sum,
        verdict,
        transcript,
        recovered_sum,
    )
}
