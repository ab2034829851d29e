"""Certificates, manifests, verdicts, payouts and settlements, from the two pages alone.

Records are plain maps as reference_cbor decodes them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reference_cbor import CERTIFICATE, ascending, check_transcript_order, encode
from reference_field import RefusedError
from reference_hashes import (
    RoundContext,
    accepted_root,
    content_hash,
    joint_randomness,
    lot,
    payouts_root,
    submissions_root,
)
from reference_messages import Value, digest_of, signer_of_digest
from reference_packages import check_opening
from reference_statement import (
    Terms,
    batch_word,
    joint_decoding,
    on_codeword,
    word_bytes,
    word_of_bytes,
    word_pair,
)
from reference_streams import challenge_of_seed


@dataclass(frozen=True)
class Market:
    """A task as the judge of one round needs it; members are the servers' addresses."""

    terms: Terms
    context: RoundContext
    members: tuple[bytes, ...]
    max_owners: int
    reward_wei: int
    admitted: frozenset[bytes] | None = None

    def check_signature(
        self, signature: bytes, signer: bytes, kind: str, fields: Mapping[str, Value]
    ) -> None:
        whole = {"task": self.context.task, "round": self.context.round, **fields}
        digest = digest_of(self.context.chain_id, self.context.contract, kind, whole)
        if signer_of_digest(signature, digest) != signer:
            raise RefusedError(f"{kind} is not signed by who must sign it")

    def member(self, server: int) -> bytes:
        if server > len(self.members):
            raise RefusedError("no such server in the committee")
        return self.members[server - 1]


# --- certificates and manifests ----------------------------------------------------------------


def check_certificate(market: Market, certificate: Any) -> None:
    """Wire.md, Certificate."""
    CERTIFICATE(certificate)
    owner, commitment = certificate["owner"], certificate["commitment"]
    if market.admitted is not None and owner not in market.admitted:
        raise RefusedError("the task does not admit the owner")
    receipts, held = certificate["receipts"], certificate["held"]
    receipted = [entry["server"] for entry in receipts]
    if not ascending(receipted):
        raise RefusedError("receipts by server ascending, each once")
    if not ascending([(entry["server"], entry["holder"]) for entry in held]):
        raise RefusedError("held by (server, holder) ascending, each once")
    if any(entry["server"] in receipted for entry in held):
        raise RefusedError("held for a server with a receipt")

    signature = certificate["submission_signature"]
    market.check_signature(signature, owner, "Submission", {"commitment": commitment})
    submission = {"owner": owner, "commitment": commitment}
    for entry in receipts:
        signer = market.member(entry["server"])
        market.check_signature(entry["signature"], signer, "Receipt", submission)
    for entry in held:
        fields = {
            **submission,
            "for_server": market.member(entry["server"]),
            "package_hash": entry["package_hash"],
        }
        signer = market.member(entry["holder"])
        market.check_signature(entry["signature"], signer, "Held", fields)

    terms = market.terms
    if len(receipts) < terms.servers - terms.errors:
        raise RefusedError("fewer than n - e receipts")
    for server in set(range(1, terms.servers + 1)) - set(receipted):
        holders = {entry["holder"] for entry in held if entry["server"] == server}
        hashes = {entry["package_hash"] for entry in held if entry["server"] == server}
        if len(hashes) > 1:
            raise RefusedError("two package hashes for one server")
        if len(holders - {server}) < terms.errors + 1:
            raise RefusedError("fewer than e + 1 holders")


def merge_certificates(first: Any, second: Any) -> Any:
    """Two that hold for one commitment."""
    receipts = {entry["server"]: entry for entry in second["receipts"]}
    receipts |= {entry["server"]: entry for entry in first["receipts"]}
    held_by_first = {entry["server"] for entry in first["held"]}
    held = first["held"] + [
        entry for entry in second["held"] if entry["server"] not in held_by_first
    ]
    return {
        **first,
        "receipts": [receipts[server] for server in sorted(receipts)],
        "held": sorted(
            (entry for entry in held if entry["server"] not in receipts),
            key=lambda entry: (entry["server"], entry["holder"]),
        ),
    }


def manifest_root(manifest: Any) -> bytes:
    return submissions_root(
        {entry["owner"]: entry["commitment"] for entry in manifest["certificates"]}
    )


def check_manifest(
    market: Market,
    manifest: Any,
    *,
    must_hold: Collection[bytes] = (),
    forbidden: Collection[bytes] = (),
    may_miss: Collection[bytes] = (),
) -> bytes:
    """What a server demands before it votes; gives the root.

    Args:
        market: The task.
        manifest: The record.
        must_hold: Owners whose certificates reached the server itself by the deadline.
        forbidden: Owners with an unanswered complaint that forbids to seal them.
        may_miss: Owners with an unanswered complaint heard before 2q.
    """
    if (manifest["task"], manifest["round"]) != (market.context.task, market.context.round):
        raise RefusedError("another round")
    owners = [entry["owner"] for entry in manifest["certificates"]]
    if not ascending(owners):
        raise RefusedError("owners strictly ascending")
    for certificate in manifest["certificates"]:
        check_certificate(market, certificate)
    if set(owners) & set(forbidden):
        raise RefusedError("an owner that a complaint forbids")
    if set(must_hold) - set(owners) - set(may_miss) - set(forbidden):
        raise RefusedError("an owner is left out")
    return manifest_root(manifest)


# --- words and verdicts ------------------------------------------------------------------------


def word_fields(manifest: Any, seed: bytes, index: int, word: bytes) -> dict[str, Value]:
    certificate = manifest["certificates"][index]
    return {
        "submissions_root": manifest_root(manifest),
        "seed": seed,
        "owner": certificate["owner"],
        "commitment": certificate["commitment"],
        "word": word,
    }


def check_server_words(market: Market, manifest: Any, seed: bytes, entry: Any) -> None:
    """One signed word for every certificate, limbs below p."""
    if (entry["submissions_root"], entry["seed"]) != (manifest_root(manifest), seed):
        raise RefusedError("words of another root or seed")
    count = len(manifest["certificates"])
    if (len(entry["words"]), len(entry["signatures"])) != (count, count):
        raise RefusedError("not one word for every owner")
    signer = market.member(entry["server"])
    for index, (word, signature) in enumerate(
        zip(entry["words"], entry["signatures"], strict=True)
    ):
        word_of_bytes(word)
        market.check_signature(signature, signer, "Word", word_fields(manifest, seed, index, word))


def check_two_words(market: Market, manifest: Any, seed: bytes, evidence: Any) -> None:
    """Two different words of one sealed owner, both signed."""
    owners = [entry["owner"] for entry in manifest["certificates"]]
    if evidence["owner"] not in owners or evidence["first_word"] == evidence["second_word"]:
        raise RefusedError("no conviction")
    index, signer = owners.index(evidence["owner"]), market.member(evidence["server"])
    for side in ("first", "second"):
        fields = word_fields(manifest, seed, index, evidence[f"{side}_word"])
        market.check_signature(evidence[f"{side}_signature"], signer, "Word", fields)


def opening_reproduces(
    market: Market, opening: Any, commitment: bytes, seed: bytes, signed_word: bytes
) -> bool:
    """True if an opening matches C and gives the word that its server signed."""
    header = opening["header"]
    try:
        share = check_opening(market.terms, market.context, opening)
    except RefusedError:
        return False
    joint = joint_of_header(market.context, header)
    challenge = challenge_of_seed(seed, market.terms.tests)
    word = word_pair(market.terms, share, joint, challenge)
    return bool(header["commitment"] == commitment) and word_bytes(word) == signed_word


def joint_of_header(context: RoundContext, header: Any) -> bytes:
    return joint_randomness(context.of_owner(header["owner"]), header["x_parts"])


@dataclass(frozen=True)
class Verdict:
    """What resolve() says: A ascending, V, who is accused and at fault, who is rejected how."""

    accepted: list[bytes]
    v: set[int]
    at_fault: set[int]
    accused: set[tuple[bytes, int]]
    opened: set[bytes]


def resolve(
    terms: Terms,
    max_owners: int,
    seed: bytes,
    owners: Sequence[bytes],
    words: Mapping[int, Mapping[bytes, bytes]],
    convicted: Collection[int],
    opening_convicts: Collection[tuple[bytes, int]],
) -> Verdict:
    """Protocol.md section 6.6.

    Args:
        terms: n, t, e.
        max_owners: At most so many are accepted.
        seed: The challenge seed.
        owners: All sealed owners.
        words: By server, then owner.
        convicted: Servers with two words.
        opening_convicts: (owner, server) of openings that match C and give the signed word.
    """
    counting = {j for j in words if j not in convicted and all(o in words[j] for o in owners)}
    agreeing: dict[bytes, set[int]] = {}
    for owner in owners:
        found = joint_decoding(terms, {j: word_of_bytes(words[j][owner]) for j in counting})
        if found is not None:
            agreeing[owner] = found
    accused = {(o, j) for o, fitting in agreeing.items() for j in counting - fitting}
    opened = {owner for owner, server in accused if (owner, server) in opening_convicts}
    # The page's "otherwise" is taken per owner: one that an opening rejects accuses nobody else.
    at_fault = {j for o, j in accused if o not in opened}
    least = terms.servers - terms.errors
    passing = [
        owner
        for owner, fitting in agreeing.items()
        if owner not in opened and len(fitting - at_fault) >= least
    ]
    passing = sorted(passing, key=lambda owner: lot(seed, owner))[:max_owners]
    return Verdict(sorted(passing), counting - at_fault, at_fault, accused, opened)


def v_bitmap(v: Iterable[int]) -> int:
    return sum(2 ** (server - 1) for server in v)


def cumulative_payouts(
    accepted_sets: Iterable[Collection[bytes]], reward_wei: int
) -> dict[bytes, int]:
    """From the accepted sets of all settled rounds of the task, this one included."""
    payouts: dict[bytes, int] = {}
    for accepted in accepted_sets:
        for owner in accepted:
            payouts[owner] = payouts.get(owner, 0) + reward_wei
    return payouts


# --- transcripts and settlements ---------------------------------------------------------------


def judge_transcript(
    market: Market,
    transcript: Any,
    openings: Mapping[bytes, Any],
    earlier_sets: Sequence[Collection[bytes]],
) -> Verdict:
    """Checks a transcript with the openings that it names and gives the verdict that follows."""
    manifest, seed = transcript["manifest"], transcript["seed"]
    check_transcript_order(transcript)
    check_manifest(market, manifest)
    sealed = {entry["owner"]: entry["commitment"] for entry in manifest["certificates"]}
    words: dict[int, dict[bytes, bytes]] = {}
    for entry in transcript["words"]:
        check_server_words(market, manifest, seed, entry)
        words[entry["server"]] = dict(zip(sealed, entry["words"], strict=True))
    for evidence in transcript["convictions"]:
        check_two_words(market, manifest, seed, evidence)
    convicts = set()
    for reference in transcript["openings"]:
        opening, owner, server = (
            openings[reference["opening_hash"]],
            reference["owner"],
            reference["server"],
        )
        header = opening["header"]
        if (header["owner"], header["server"]) != (owner, server):
            raise RefusedError("an opening of another package")
        if content_hash(encode(opening)) != reference["opening_hash"]:
            raise RefusedError("an opening with another hash")
        check_opening(market.terms, market.context, opening)
        if header["commitment"] != sealed.get(owner):
            raise RefusedError("an opening that matches no sealed commitment")
        if server in words and opening_reproduces(
            market, opening, sealed[owner], seed, words[server][owner]
        ):
            convicts.add((owner, server))
    convicted = {evidence["server"] for evidence in transcript["convictions"]}
    verdict = resolve(
        market.terms, market.max_owners, seed, list(sealed), words, convicted, convicts
    )
    if transcript["accepted"] != verdict.accepted:
        raise RefusedError("another accepted set")
    if transcript["v_bitmap"] != v_bitmap(verdict.v):
        raise RefusedError("another V")
    before = cumulative_payouts(earlier_sets, market.reward_wei)
    if transcript["previous_payouts_root"] != payouts_root(before):
        raise RefusedError("another previous root")
    after = cumulative_payouts([*earlier_sets, verdict.accepted], market.reward_wei)
    listed = [{"owner": owner, "cumulative_wei": after[owner]} for owner in sorted(after)]
    if transcript["payouts"] != listed:
        raise RefusedError("other payouts")
    return verdict


def settlement_fields(market: Market, transcript: Any, server: int) -> dict[str, Value]:
    """What a server of V signs."""
    manifest = transcript["manifest"]
    owners = [entry["owner"] for entry in manifest["certificates"]]
    own = next(entry for entry in transcript["words"] if entry["server"] == server)
    words = dict(zip(owners, own["words"], strict=True))
    root = accepted_root(transcript["accepted"])
    accepted_words = {owner: words[owner] for owner in transcript["accepted"]}
    payouts = {entry["owner"]: entry["cumulative_wei"] for entry in transcript["payouts"]}
    return {
        "task": market.context.task,
        "round": market.context.round,
        "submissions_root": manifest_root(manifest),
        "seed": transcript["seed"],
        "accepted_root": root,
        "accepted_count": len(transcript["accepted"]),
        "v_bitmap": transcript["v_bitmap"],
        "previous_payouts_root": transcript["previous_payouts_root"],
        "payouts_root": payouts_root(payouts),
        "transcript_hash": content_hash(encode(transcript)),
        "word": batch_word(accepted_words, transcript["seed"], root),
    }


def batch_words_hold(words: Mapping[int, bytes], privacy: int) -> bool:
    """The contract's check of the posted words."""
    return on_codeword({j: word_of_bytes(word) for j, word in words.items()}, privacy)
