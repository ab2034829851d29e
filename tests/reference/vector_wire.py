"""Cases of hashes, signed messages and records (see make_vectors.py)."""

from __future__ import annotations

from random import Random
from typing import Any

from reference_cbor import encode
from reference_hashes import merkle_leaf
from reference_messages import GROUP_ORDER, MESSAGE_TYPES, members_of
from reference_parties import OFFERED, Round
from vector_cases import Cases, altered_word, changed, plain_context, small_terms, whole_round


def core_commitments(c: Cases) -> None:
    for tag in ("x", "proof", "joint", "submission", "sealed package", "lot", ""):
        for parts in ([], [b""], [b"", b""], [b"ab", b"c"], [b"a", b"bc"]):
            c.good("hash_of_parts", tag=tag, parts=parts)
    for n, t, e in OFFERED:
        party = Round(small_terms(n, t, e), c.random.randrange(2**32))
        blob = c.random.randbytes
        c.good(
            "commitment",
            context=plain_context(party),
            owner=party.owners[0],
            blinds=[blob(32) for _ in range(n)],
            seeds=[blob(32) for _ in range(t)],
            x_shares=[blob(24) for _ in range(n - t)],
            proof_shares=[blob(40) for _ in range(n - t)],
        )
    for count in (0, 1, 2, 3, 4, 5, 7, 8, 11):
        c.good("merkle", leaves=[merkle_leaf(c.random.randbytes(20)) for _ in range(count)])
    for count in (0, 1, 5):
        owners = [c.random.randbytes(20) for _ in range(count)]
        c.good(
            "round_roots",
            submissions={owner: c.random.randbytes(32) for owner in owners},
            accepted=owners,
            payouts={owner: c.random.randrange(2**128) for owner in owners},
        )
    for task, number in ((1, 1), (2**63 - 1, 2**31 - 1)):
        block, root = c.random.randbytes(32), c.random.randbytes(32)
        c.good("seed_of_block", block_hash=block, task=task, round=number, submissions_root=root)
    c.good("lot_of_owner", seed=c.random.randbytes(32), owner=c.random.randbytes(20))


def random_fields(random: Random, kind: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for solidity_type, name in members_of(kind):
        if solidity_type == "uint256":
            fields[name] = random.choice([0, 1, random.randrange(2**63), 2**256 - 1])
        elif solidity_type == "string":
            fields[name] = random.choice(["", "POST", "/v1/tasks/1", "\u00e9\u4e2d\U0001f600"])
        else:
            fields[name] = random.randbytes(32 if solidity_type == "bytes32" else 20)
    return fields


def core_messages(c: Cases) -> None:
    digest = c.random.randbytes(32)
    for kind in MESSAGE_TYPES:
        domain = {
            "chain_id": c.random.choice([1, 31337, 2**64]),
            "contract": c.random.randbytes(20),
        }
        for _ in range(2):
            fields, key = random_fields(c.random, kind), c.random.randbytes(32)
            made = c.good("message", kind=kind, fields=fields, key=key, **domain)
        for solidity_type, name in members_of(kind):
            misfits: dict[str, list[Any]] = {"uint256": [-1, 2**256], "string": ["x" * 1025]}
            for value in misfits.get(solidity_type, [b"", bytes(31)]):
                given = {"kind": kind, "fields": {**fields, name: value}, "key": key, **domain}
                c.bad("message", f"{name} does not fit {solidity_type}", **given)
    signature, digest = made["signature"], made["digest"]
    c.good("signer", signature=signature, digest=digest)
    s = int.from_bytes(signature[32:64], "big")
    high = (GROUP_ORDER - s).to_bytes(32, "big")
    other_v = bytes([27 + 28 - signature[64]])
    c.good(
        "signer",
        "v of the other point: another address",
        signature=signature[:64] + other_v,
        digest=digest,
    )
    c.bad("signer", "high s", signature=signature[:32] + high + other_v, digest=digest)
    for v in (0, 1, 26, 29, 255):
        c.bad("signer", f"v = {v}", signature=signature[:64] + bytes([v]), digest=digest)
    c.bad("signer", "64 bytes", signature=signature[:64], digest=digest)
    c.bad("signer", "66 bytes", signature=signature + b"\x1b", digest=digest)
    c.bad("signer", "r = 0", signature=bytes(32) + signature[32:], digest=digest)
    c.bad("signer", "s = 0", signature=signature[:32] + bytes(32) + b"\x1b", digest=digest)
    order = GROUP_ORDER.to_bytes(32, "big")
    c.bad("signer", "r = group order", signature=order + signature[32:], digest=digest)


def specification(random: Random, party: Round) -> dict[str, Any]:
    """The map of a task specification."""
    members = [
        {"address": address, "endpoint": f"https://s{j}.example", "hpke_key": random.randbytes(32)}
        for j, address in enumerate(party.market.members, start=1)
    ]
    return {
        "version": 3,
        "title": "Digits",
        "model_licence": "CC0-1.0",
        "contact": "owner@example",
        "description": "",
        "preprocessing": "\u00e9",
        "servers": len(members),
        "committee": members,
        "committee_mode": "named",
        "min_stake_wei": 10**17,
        "privacy": party.terms.privacy,
        "errors": 1,
        "tests": 128,
        "fractional_bits": 16,
        "components": [
            {
                "name": "gradient",
                "tensors": [
                    {"name": "w", "shape": [3, 4], "scale": 1.0},
                    {"name": "b", "shape": [], "scale": 0.1},
                    {"name": "c", "shape": [5], "scale": 100000.0},
                ],
            }
        ],
        "profile": "gauge",
        "magnitude_bits": 0,
        "noise_groups": 0,
        "noise_factors": [],
        "noise_scale": 0.0,
        "input_kind": "numbers",
        "input_shape": [1, 28, 28],
        "loss": "cross_entropy",
        "batch_rule": "mean",
        "rounds": 65534,
        "max_rounds": 65535,
        "min_owners": 2,
        "max_owners": 100_000,
        "reward_wei": 2**96 - 1,
        "fee_wei": 2**64,
        "opening_fee_wei": 0,
        "token": random.randbytes(20),
        "admission": {"mode": "listed", "owners": sorted(party.owners), "min_bond_wei": 2**70},
        "windows": {
            "submission_seconds": 600,
            "forced_seconds": 120,
            "complaint_seconds": 80,
            "seal_seconds": 100,
            "rotation_seconds": 10,
            "delta_blocks": 1,
            "confirmations": 2,
            "words_blocks": 10,
            "openings_blocks": 14,
            "settlement_blocks": 7_999,
        },
        "model_owner": random.randbytes(20),
        "model_owner_hpke_key": random.randbytes(32),
    }


def sample_records(random: Random) -> dict[str, Any]:
    party = whole_round(random.randrange(2**32), 5, 1, 1, owners=2)
    owner = party.owners[0]
    words = [party.server_words(j) for j in (1, 2, 3, 4)]
    other = altered_word(words[0]["words"][0], 0)
    evidence = party.two_words(1, 0, words[0]["words"][0], other)
    transcript = party.transcript(words, opened=[(owner, 2)], convictions=[evidence])
    fields = {"task": 3, "round": 2**31 - 1, "commitment": random.randbytes(32)}
    named = specification(random, Round(small_terms(3, 1, 0), 5, owners=1))
    return {
        "Envelope": {"kind": "Submission", "fields": fields, "signature": random.randbytes(65)},
        "SealedPackage": party.sealed(owner, 3),
        "Opening": party.openings[owner][0],
        "Certificate": party.certificate(owner, without=[4]),
        "Manifest": party.manifest,
        "ServerWords": words[0],
        "TwoWords": evidence,
        "OpeningReference": transcript["openings"][0],
        "Transcript": transcript,
        "ConsentRequest": {"specification": encode(named), "expires": 1_800_000_000},
        "TaskSpecification": named,
    }


def bad_encodings(name: str, value: Any) -> list[tuple[str, bytes]]:
    """What the decoder refuses of any record."""
    content, entries = encode(value), sorted((encode(k), encode(v)) for k, v in value.items())
    count = len(entries)
    pairs = [key + item for key, item in entries]
    head = content[:1] if count < 24 else content[:2]
    swapped = head + b"".join([pairs[1], pairs[0], *pairs[2:]])
    twice = encode(dict.fromkeys(map(str, range(count + 1))))[: len(head)] + b"".join(
        [pairs[0], *pairs]
    )
    without = {key: item for key, item in value.items() if key != min(value)}
    long_head = bytes([0xB8 if count < 24 else 0xB9]) + count.to_bytes(
        1 if count < 24 else 2, "big"
    )
    indefinite = b"\xbf" + b"".join(pairs) + b"\xff"
    return [
        ("trailing byte", content + b"\x00"),
        ("cut short", content[:-1]),
        ("empty", b""),
        ("keys not sorted", swapped),
        ("a key twice", twice),
        ("a field is missing", encode(without)),
        ("a field too many", encode({**value, "more": 0})),
        ("head not shortest", long_head + content[len(head) :]),
        ("indefinite map", indefinite),
        ("in a tag", b"\xd9\xd9\xf7" + content),
        ("in an array", encode([value])),
        (f"null for a {name}", b"\xf6"),
        ("a field is [null]", encode({**value, sorted(value)[-1]: [None]})),
        ("a field is a negative integer", encode({**value, sorted(value)[0]: -1})),
        ("a field is true", encode({**value, sorted(value)[0]: True})),
        ("a field is a float", encode({**value, sorted(value)[0]: 1.0})),
    ]


def drawn(specification_: dict[str, Any]) -> dict[str, Any]:
    """The same task with servers to be drawn, open to anybody, paid in ether."""
    return {
        **specification_,
        "committee": [],
        "committee_mode": "drawn",
        "token": bytes(20),
        "admission": {"mode": "open", "owners": [], "min_bond_wei": 0},
    }


def core_specifications(c: Cases, named: dict[str, Any]) -> None:
    """Specifications at the edges of what two fields allow together."""
    c.good("record", "drawn and open", record="TaskSpecification", bytes=encode(drawn(named)))
    at_the_edge: tuple[tuple[str, tuple[Any, ...], Any], ...] = (
        ("as many rounds as may be", ("rounds",), 65_535),
        ("no submission can be forced", ("windows", "forced_seconds"), 600),
        ("the last round that complaints leave time for", ("windows", "complaint_seconds"), 80),
        ("cut-offs next to each other", ("windows", "settlement_blocks"), 15),
        ("one listed owner", ("admission", "owners"), [bytes(20)]),
        ("no stake", ("min_stake_wei",), 0),
    )
    for why, path, value in at_the_edge:
        content = encode(changed(named, *path, to=value))
        c.good("record", why, record="TaskSpecification", bytes=content)
    beyond: tuple[tuple[str, tuple[Any, ...], Any], ...] = (
        ("drawn with one member", ("committee",), named["committee"][:1]),
        ("named without members", ("committee_mode",), "named"),
        ("open with an owner", ("admission", "owners"), [bytes(20)]),
        ("listed without owners", ("admission", "mode"), "listed"),
    )
    for why, path, value in beyond:
        content = encode(changed(drawn(named), *path, to=value))
        c.bad("record", why, record="TaskSpecification", bytes=content)


def core_records(c: Cases) -> None:
    samples = sample_records(c.random)
    for name, value in samples.items():
        if name == "Transcript":
            continue  # core_verdicts has them
        c.good("record", record=name, bytes=encode(value))
        if name not in ("Envelope", "Opening", "OpeningReference", "TwoWords"):  # others are long
            continue
        for why, content in bad_encodings(name, value):
            c.bad("record", why, record=name, bytes=content)
    wrong: list[tuple[str, tuple[Any, ...], Any, str]] = [
        ("Envelope", ("kind",), "Nothing", "unknown kind"),
        ("Envelope", ("fields", "task"), -1, "negative uint256"),
        ("Envelope", ("fields", "commitment"), bytes(20), "no bytes32"),
        ("Envelope", ("fields",), {"task": 1, "round": 1}, "a member is missing"),
        ("Envelope", ("signature",), bytes(64), "64 bytes"),
        ("SealedPackage", ("header", "version"), 2, "version"),
        ("SealedPackage", ("header", "server"), 14, "server 14"),
        ("SealedPackage", ("header", "server"), 0, "server 0"),
        ("SealedPackage", ("header", "round"), 2**31, "round"),
        ("SealedPackage", ("header", "task"), 0, "task 0"),
        ("SealedPackage", ("header", "task"), 2**63, "task"),
        ("SealedPackage", ("header", "x_parts"), [bytes(32)] * 2, "two parts"),
        ("SealedPackage", ("header", "x_parts"), [bytes(32)] * 14, "14 parts"),
        ("SealedPackage", ("header", "content_bytes"), 2**63, "count"),
        ("SealedPackage", ("chunks",), [], "no chunk"),
        ("SealedPackage", ("chunks",), [bytes(47)], "short chunk"),
        ("Opening", ("blind",), bytes(31), "short blind"),
        ("Opening", ("seed",), b"", "empty seed"),
        ("Certificate", ("receipts",), [{"server": 1, "signature": bytes(65)}] * 14, "14 receipts"),
        ("OpeningReference", ("owner",), bytes(32), "long address"),
        ("TaskSpecification", ("components", 0, "tensors", 0, "scale"), 1, "integer scale"),
        ("TaskSpecification", ("components", 0, "tensors", 0, "scale"), 0.0, "scale 0"),
        ("TaskSpecification", ("components", 0, "tensors", 0, "scale"), -1.0, "scale < 0"),
        ("TaskSpecification", ("components", 0, "tensors", 0, "scale"), float("inf"), "infinite"),
        ("TaskSpecification", ("components", 0, "tensors", 0, "scale"), float("nan"), "NaN"),
        ("TaskSpecification", ("components", 0, "tensors", 0, "shape"), [2**31], "shape"),
        ("TaskSpecification", ("components", 0, "tensors", 0, "shape"), [2**16, 2**15 + 1], "D"),
        ("TaskSpecification", ("components", 0, "tensors"), [], "no tensor"),
        ("TaskSpecification", ("tests",), 6, "tests"),
        ("TaskSpecification", ("tests",), 132, "tests"),
        ("TaskSpecification", ("fractional_bits",), 3, "f"),
        ("TaskSpecification", ("fractional_bits",), 25, "f"),
        ("TaskSpecification", ("loss",), "hinge", "loss"),
        ("TaskSpecification", ("profile",), "scales", "scales without magnitudes"),
        ("TaskSpecification", ("magnitude_bits",), 1, "magnitudes of gauge"),
        ("TaskSpecification", ("magnitude_bits",), 9, "magnitudes"),
        ("TaskSpecification", ("profile",), "noise", "noise without groups"),
        ("TaskSpecification", ("noise_groups",), 1, "groups of gauge"),
        ("TaskSpecification", ("noise_factors",), [1.0], "factors of gauge"),
        ("TaskSpecification", ("noise_scale",), 1.0, "noise of gauge"),
        ("TaskSpecification", ("noise_scale",), 0, "integer noise"),
        ("TaskSpecification", ("input_kind",), "words", "input kind"),
        ("TaskSpecification", ("title",), "", "empty title"),
        ("TaskSpecification", ("title",), "x" * 257, "long title"),
        ("TaskSpecification", ("reward_wei",), 2**96, "wei"),
        ("TaskSpecification", ("rounds",), 0, "rounds"),
        ("TaskSpecification", ("min_owners",), 0, "min_owners"),
        ("TaskSpecification", ("max_owners",), 1, "min > max"),
        ("TaskSpecification", ("max_owners",), 100_001, "max_owners"),
        ("ConsentRequest", ("specification",), b"", "no specification"),
        ("ConsentRequest", ("expires",), 2**63, "a time beyond a count"),
        ("ConsentRequest", ("expires",), -1, "a time before 1970"),
        ("TaskSpecification", ("version",), 1, "version 1"),
        ("TaskSpecification", ("servers",), 4, "fewer members than servers"),
        ("TaskSpecification", ("servers",), 2, "two servers"),
        ("TaskSpecification", ("servers",), 14, "14 servers"),
        ("TaskSpecification", ("committee",), [], "named without members"),
        ("TaskSpecification", ("committee_mode",), "drawn", "drawn with members"),
        ("TaskSpecification", ("committee_mode",), "voted", "committee mode"),
        ("TaskSpecification", ("min_stake_wei",), 2**96, "stake"),
        ("TaskSpecification", ("max_rounds",), 65_533, "rounds > max_rounds"),
        ("TaskSpecification", ("max_rounds",), 65_536, "max_rounds"),
        ("TaskSpecification", ("token",), "ether", "token by name"),
        ("TaskSpecification", ("token",), bytes(32), "padded token"),
        ("TaskSpecification", ("admission", "mode"), "bond", "admission"),
        ("TaskSpecification", ("admission", "mode"), "open", "open with a list"),
        ("TaskSpecification", ("admission", "owners"), [], "listed without a list"),
        ("TaskSpecification", ("admission", "owners"), [b"\2" * 20, b"\1" * 20], "not sorted"),
        ("TaskSpecification", ("admission", "owners"), [b"\1" * 20] * 2, "an owner twice"),
        ("TaskSpecification", ("admission", "min_bond_wei"), 2**96, "bond"),
        ("TaskSpecification", ("windows", "forced_seconds"), 601, "forced > submission"),
        ("TaskSpecification", ("windows", "forced_seconds"), -1, "forced"),
        ("TaskSpecification", ("windows", "complaint_seconds"), 81, "no time for two turns"),
        ("TaskSpecification", ("windows", "rotation_seconds"), 0, "rotation"),
        ("TaskSpecification", ("windows", "openings_blocks"), 13, "openings - words < 4"),
        ("TaskSpecification", ("windows", "settlement_blocks"), 8_000, "beyond 8,000 blocks"),
        ("TaskSpecification", ("windows", "settlement_blocks"), 14, "cut-offs"),
        ("TaskSpecification", ("windows", "confirmations"), 9, "seed after the words"),
        ("TaskSpecification", ("windows", "delta_blocks"), 0, "delta"),
        (
            "TaskSpecification",
            ("committee", 1, "address"),
            samples["TaskSpecification"]["committee"][0]["address"],
            "a server twice",
        ),
    ]
    for name, path, value, why in wrong:
        content = encode(changed(samples[name], *path, to=value))
        c.bad("record", why, record=name, bytes=content)
    for value in (2**-24, 65504.0, 1 / 3, 1.5, 2.0**127, 5e-324):
        spec = changed(
            samples["TaskSpecification"], "components", 0, "tensors", 0, "scale", to=value
        )
        c.good("record", f"scale {value}", record="TaskSpecification", bytes=encode(spec))
    core_specifications(c, samples["TaskSpecification"])
    envelope = encode(samples["Envelope"])
    for why, item in (
        ("33 bytes as tag 2", b"\xc2\x58\x21\x01" + bytes(32)),
        ("leading zero in tag 2", b"\xc2\x49\x00" + bytes([1] * 8)),
        ("tag 2 below 2^64", b"\xc2\x48" + bytes([1] * 8)),
        ("tag 3", b"\xc3\x49" + bytes([1] * 9)),
        ("integer not shortest", b"\x18\x03"),
        ("float", b"\xf9\x42\x00"),
    ):
        raw = envelope.replace(b"dtask\x03", b"dtask" + item)
        c.bad("record", why, record="Envelope", bytes=raw)
    raw = envelope.replace(b"dtask\x03", b"dtask\xc2\x49\x01" + bytes(8))
    c.good("record", "2^64 as tag 2", record="Envelope", bytes=raw)
    reference = samples["OpeningReference"]
    key = encode(reference)[: -len(encode(reference["opening_hash"]))]
    for depth in (11, 13, 400):
        raw = key + b"\x81" * depth + b"\x00"
        c.bad("record", f"{depth + 2} levels", record="OpeningReference", bytes=raw)
    for why, item in (
        ("a count of 2^63", b"\x9b\x80" + bytes(7)),
        ("a length of 2^63", b"\x5b\x80" + bytes(7)),
        ("text", b"\x78\x20" + b"a" * 32),
        ("text that is no UTF-8", b"\x78\x20" + b"\xff" * 32),
        ("undefined", b"\xf7"),
        ("reserved head", b"\x1c"),
        ("break", b"\xff"),
        ("indefinite bytes", b"\x5f\x58\x20" + bytes(32) + b"\xff"),
    ):
        c.bad("record", why, record="OpeningReference", bytes=key + item)
