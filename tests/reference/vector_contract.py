"""Cases of what the contracts hash, sign and draw for a task (see make_vectors.py)."""

from __future__ import annotations

from random import Random
from typing import Any

from reference_cbor import encode
from reference_contract import (
    DRAW_STEPS,
    TERMS,
    consent_digest,
    draw_place,
    draw_randomness,
    draw_seed,
    rlp_list,
    terms_hash,
)
from reference_hashes import keccak
from reference_messages import address_of_key, sign_digest
from reference_parties import Round
from vector_cases import Cases, changed, flipped, small_terms
from vector_wire import drawn, random_fields, specification


def market_tasks(c: Cases) -> None:
    core_terms(c)
    core_consents(c)
    core_allow_lists(c)
    core_draws(c)
    core_convictions(c)


def random_terms(random: Random) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for solidity_type, name in TERMS:
        if solidity_type == "uint256":
            made[name] = random.choice([0, 1, random.randrange(2**96), 2**256 - 1])
        else:
            made[name] = random.randbytes(32 if solidity_type == "bytes32" else 20)
    return made


def core_terms(c: Cases) -> None:
    for size in (3, 5, 13, 0):
        committee = [c.random.randbytes(20) for _ in range(size)]
        c.good("terms_hash", committee=committee, **random_terms(c.random))
    terms, committee = random_terms(c.random), [c.random.randbytes(20) for _ in range(5)]
    c.good("terms_hash", committee=committee, **terms)
    for name in terms:
        other = changed(terms, name, to=lambda old: old ^ 1 if type(old) is int else flipped(old))
        c.good("terms_hash", f"another {name}", committee=committee, **other)
    c.good("terms_hash", "servers in another order", committee=committee[::-1], **terms)
    for name, value in (
        ("t", 2**256),
        ("rounds", -1),
        ("token", bytes(19)),
        ("allow_root", bytes(33)),
    ):
        bad = changed(terms, name, to=value)
        c.bad("terms_hash", f"{name} does not fit its type", committee=committee, **bad)
    for why, members in (
        ("an address of 19 bytes", [bytes(19)]),
        ("an address of 32 bytes", [bytes(32)]),
    ):
        c.bad("terms_hash", why, committee=members, **terms)
    named = specification(c.random, Round(small_terms(3, 1, 0), 5, owners=2))
    c.good("specification_terms", bytes=encode(named))
    c.good("specification_terms", "drawn and open", bytes=encode(drawn(named)))
    others: tuple[tuple[str, tuple[Any, ...], Any], ...] = (
        ("another title: another hash alone", ("title",), "Letters"),
        ("another bond", ("admission", "min_bond_wei"), 1),
        ("one owner", ("admission", "owners"), named["admission"]["owners"][:1]),
        ("another window", ("windows", "forced_seconds"), 0),
    )
    for why, path, value in others:
        c.good("specification_terms", why, bytes=encode(changed(named, *path, to=value)))
    owners = named["admission"]["owners"]
    refused: tuple[tuple[str, tuple[Any, ...], Any], ...] = (
        ("owners not sorted", ("admission", "owners"), owners[::-1]),
        ("version 1", ("version",), 1),
        ("more rounds than may be", ("max_rounds",), 1),
    )
    for why, path, value in refused:
        c.bad("specification_terms", why, bytes=encode(changed(named, *path, to=value)))


def core_consents(c: Cases) -> None:
    keys = [c.random.randbytes(32) for _ in range(5)]
    committee = [address_of_key(key) for key in keys]
    terms, expires = random_terms(c.random), 1_800_000_000
    domain: dict[str, Any] = {"chain_id": 31337, "contract": c.random.randbytes(20)}
    model_owner = c.random.randbytes(20)

    def signed(**changes: Any) -> list[bytes]:
        """Consents to something else where it is said."""
        given = {"model_owner": model_owner, "terms": terms_hash(terms, committee)}
        digest = consent_digest(**{**domain, **given, "expires": expires, **changes})
        return [sign_digest(key, digest) for key in keys]

    whole = {
        **domain,
        "model_owner": model_owner,
        "terms": terms,
        "committee": committee,
        "expires": expires,
        "now": expires - 1,
        "signatures": signed(),
    }
    c.good("consents", **whole)
    c.good("consents", "in the last second", **whole | {"now": expires})
    others = {
        "another model owner": signed(model_owner=committee[0]),
        "other terms": signed(terms=terms_hash(changed(terms, "t", to=9), committee)),
        "the committee in another order": signed(terms=terms_hash(terms, committee[::-1])),
        "another time": signed(expires=expires + 1),
        "another chain": signed(chain_id=1),
        "another market": signed(contract=model_owner),
        "in another order": signed()[::-1],
        "one is missing": signed()[:4],
        "one too many": [*signed(), signed()[0]],
        "one of another server": [signed()[1], *signed()[1:]],
    }
    for why, signatures in others.items():
        c.bad("consents", why, **whole | {"signatures": signatures})
    c.bad("consents", "a second too late", **whole | {"now": expires + 1})
    twice = [committee[0], *committee[:4]]
    c.bad("consents", "a server twice", **whole | {"committee": twice})
    fewer = {"committee": committee[:4], "signatures": signed()[:4]}
    c.bad("consents", "to a larger committee", **whole | fewer)


def core_allow_lists(c: Cases) -> None:
    anybody = {"mode": "open", "owners": [], "min_bond_wei": 5}
    c.good("allow_list", admission=anybody)
    for count in (1, 2, 3, 5, 8):
        owners = sorted(c.random.randbytes(20) for _ in range(count))
        listed = {"mode": "listed", "owners": owners, "min_bond_wei": 0}
        c.good("allow_list", admission=listed)
    c.good("allow_list", "the zero address", admission={**listed, "owners": [bytes(20)]})
    for why, bad in (
        ("not sorted", {**listed, "owners": owners[::-1]}),
        ("an owner twice", {**listed, "owners": [owners[0], *owners]}),
        ("listed without owners", {**listed, "owners": []}),
        ("open with owners", {**listed, "mode": "open"}),
        ("another mode", {**listed, "mode": "bond"}),
        ("a padded owner", {**listed, "owners": [owners[0].rjust(32, b"\0")]}),
        ("no bond said", {"mode": "open", "owners": []}),
        ("bond of 2^96", {**listed, "min_bond_wei": 2**96}),
    ):
        c.bad("allow_list", why, admission=bad)


def random_header(random: Random, prevrandao: bytes, more: int = 6) -> bytes:
    """A block's header; chains have between none and six members after the nonce."""
    fixed = [random.randbytes(size) for size in (32, 32, 20, 32, 32, 32, 256)]
    numbers = [0, random.randrange(2**27), 2**25, random.randrange(2**25), random.randrange(2**34)]
    extra = random.randbytes(random.choice([0, 1, 32]))
    later = [random.randbytes(size) for size in (4, 32, 3, 1, 32, 32)[:more]]
    lengths = [value.to_bytes((value.bit_length() + 7) // 8, "big") for value in numbers]
    return rlp_list([*fixed, *lengths, extra, prevrandao, bytes(8), *later])


def core_draws(c: Cases) -> None:
    def given(size: int, n: int, prevrandao: bytes | None = None) -> dict[str, Any]:
        pool = [c.random.randbytes(20) for _ in range(size)]
        header = random_header(c.random, prevrandao or c.random.randbytes(32), size % 7)
        block = {"header": header, "block_hash": keccak(header)}
        draw = {"task": c.random.randrange(1, 2**63), "draws": 1}
        return {**block, **draw, "pool": pool, "eligible": pool, "n": n}

    for size, n in ((5, 5), (13, 13), (40, 7), (3, 3)):
        c.good("draw", **given(size, n))
    for prevrandao in (bytes(31) + b"\x01", b"\xff" * 32):
        c.good("draw", "PREVRANDAO at an edge", **given(6, 3, prevrandao))
    case = given(12, 5)
    c.good("draw", **case)
    c.good("draw", "the second draw of the task", **case | {"draws": 2})
    c.good("draw", "of another task", **case | {"task": 1})
    c.good("draw", "half may be drawn", **case | {"eligible": case["pool"][::2]})
    c.good("draw", "just enough may be drawn", **case | {"eligible": case["pool"][:5]})
    smaller = case["pool"][:11]
    c.good("draw", "one place fewer", **case | {"pool": smaller, "eligible": smaller})
    c.bad("draw", "too few may be drawn", **case | {"eligible": case["pool"][:4]})
    c.bad("draw", "nobody may be drawn", **case | {"eligible": []})
    large = given(300, 2)
    one = {**large, "eligible": [large["pool"][0], large["pool"][299]]}
    while not {0, 299} - places(one):
        one["task"] += 1
    c.bad("draw", "not found in 256 steps", **one)
    c.bad("draw", "another block's hash", **case | {"block_hash": bytes(32)})
    c.bad("draw", "another header", **case | {"header": flipped(case["header"], 100)})
    c.bad("draw", "a byte after the header", **case | {"header": case["header"] + b"\0"})


def places(case: dict[str, Any]) -> set[int]:
    """All places that a draw looks at."""
    randomness = draw_randomness(case["header"], case["block_hash"])
    seed = draw_seed(randomness, case["task"], case["draws"])
    return {draw_place(seed, step, len(case["pool"])) for step in range(DRAW_STEPS)}


def core_convictions(c: Cases) -> None:
    for kind, differing in (("Word", "word"), ("Seed", "seed"), ("Final", "accepted_root")):
        first = random_fields(c.random, kind)
        second = changed(first, differing, to=flipped)
        c.good("evidence_of_two", kind=kind, first=first, second=second)
        c.good("evidence_of_two", "in the other order", kind=kind, first=second, second=first)
        c.bad("evidence_of_two", "the same twice", kind=kind, first=first, second=first)
        later = {**second, "round": first["round"] ^ 1}
        c.bad("evidence_of_two", "of two rounds", kind=kind, first=first, second=later)
    word = random_fields(c.random, "Word")
    other = {**word, "word": bytes(32), "owner": bytes(20)}
    c.bad("evidence_of_two", "words about two owners", kind="Word", first=word, second=other)
    vote = random_fields(c.random, "SealVote")
    c.bad("evidence_of_two", "votes", kind="SealVote", first=vote, second={**vote, "count": 2})
