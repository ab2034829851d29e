"""Cases of HPKE, packages and openings (see make_vectors.py)."""

from __future__ import annotations

from typing import Any

from reference_cbor import encode
from reference_field import P
from reference_messages import digest_of, sign_digest
from reference_packages import (
    aggregate_binding,
    hpke_seal,
    package_binding,
    public_key,
    seal_chunks,
)
from reference_parties import OFFERED, Round
from vector_cases import Cases, changed, flipped, plain_context, plain_terms, whole_round


def core_packages(c: Cases) -> None:
    for length in (0, 1, 32, 100):
        key, ephemeral, info = (c.random.randbytes(size) for size in (32, 32, 40))
        message = c.random.randbytes(length)
        sealed = hpke_seal(public_key(key), info, message, ephemeral)
        c.good("hpke_opened", key=key, info=info, sealed=sealed)
        for place in (0, 31, 32, -1):
            sealed_badly = bytearray(sealed)
            sealed_badly[place] ^= 1
            c.bad("hpke_opened", f"byte {place}", key=key, info=info, sealed=bytes(sealed_badly))
        c.bad("hpke_opened", "info", key=key, info=flipped(info), sealed=sealed)
        c.bad("hpke_opened", "key", key=flipped(key, 5), info=info, sealed=sealed)
        c.bad("hpke_opened", "enc is 0", key=key, info=info, sealed=bytes(32) + sealed[32:])
    for n, t, e in OFFERED:
        party = whole_round(c.random.randrange(2**32), n, t, e, owners=1)
        for server in (1, t + 1):
            core_package(c, party, server)
    content = c.random.randbytes(80)
    key, root = c.random.randbytes(32), c.random.randbytes(32)
    binding = aggregate_binding(party.context, root, 2)
    chunks = seal_chunks(public_key(key), binding, [content], [c.random.randbytes(32)])
    given = {"key": key, "chunks": chunks, "accepted_root": root, "context": plain_context(party)}
    c.good("released_sum", server=2, **given)
    c.bad("released_sum", "another server", server=3, **given)
    c.bad("released_sum", "another set", server=2, **{**given, "accepted_root": flipped(root)})


def core_package(c: Cases, party: Round, server: int) -> None:
    owner, t = party.owners[0], party.terms.privacy
    given = {
        "terms": plain_terms(party.terms),
        "context": plain_context(party),
        "key": party.hpke_keys[server],
        "server": server,
    }
    sealed, made = party.sealed(owner, server), party.openings[owner][server - 1]
    c.good("package", **given, bytes=encode(sealed))
    other = 1 + server % party.terms.servers
    bad: list[tuple[str, Any]] = [
        ("a chunk too many", changed(sealed, "chunks", to=lambda old: [*old, old[0]])),
        ("altered chunk", changed(sealed, "chunks", -1, to=lambda old: flipped(old, 40))),
        ("another server's", changed(sealed, "header", "server", to=other)),
        ("altered part", changed(sealed, "header", "x_parts", 0, to=flipped)),
        ("altered proof part", changed(sealed, "header", "proof_parts", -1, to=flipped)),
        ("altered C", changed(sealed, "header", "commitment", to=flipped)),
        ("another round", changed(sealed, "header", "round", to=lambda old: old - 1)),
        ("content_bytes", changed(sealed, "header", "content_bytes", to=lambda old: old + 8)),
        ("a part too many", changed(sealed, "header", "x_parts", to=lambda old: [*old, old[0]])),
        (
            "not signed by the owner",
            changed(
                sealed,
                "header",
                "submission_signature",
                to=party.sign(
                    party.server_keys[1], "Submission", {"commitment": made["header"]["commitment"]}
                ),
            ),
        ),
    ]
    bad += [
        (f"another {name}, signed for it", resigned(party, sealed, name))
        for name in ("task", "round")
    ]
    if party.terms.servers == 5 and party.terms.errors:
        for why, package in bad:
            c.bad("package", why, **given, bytes=encode(package))
        core_resealed(c, party, server, given)
    share = {name: value for name, value in given.items() if name != "key"}
    c.good("opening", **share, bytes=encode(made))
    openings: list[tuple[str, Any]] = [
        ("another blind", changed(made, "blind", to=flipped)),
        ("the other form", changed(made, "seed", to=None if server <= t else bytes(32))),
    ]
    if server <= t:
        openings.append(("another seed", changed(made, "seed", to=flipped)))
        openings.append(("content besides a seed", changed(made, "content", to=bytes(8))))
    else:
        openings.append(("another share of x", changed(made, "content", to=flipped)))
        openings.append(
            ("other bits", changed(made, "content", to=lambda old: flipped(old, len(old) - 8)))
        )
        openings.append(
            (
                "element p",
                changed(made, "content", to=lambda old: P.to_bytes(8, "little") + old[8:]),
            )
        )
        openings.append(("short content", changed(made, "content", to=lambda old: old[:-8])))
    for why, opening in openings if party.terms.servers <= 5 else ():
        c.bad("opening", why, **share, bytes=encode(opening))


def resigned(party: Round, sealed: Any, name: str) -> Any:
    """A package whose owner signed its commitment for another task or round."""
    header = {**sealed["header"], name: sealed["header"][name] - 1}
    fields = {member: header[member] for member in ("task", "round", "commitment")}
    digest = digest_of(party.context.chain_id, party.context.contract, "Submission", fields)
    header["submission_signature"] = sign_digest(party.owner_keys[header["owner"]], digest)
    return {**sealed, "header": header}


def core_resealed(c: Cases, party: Round, server: int, given: dict[str, Any]) -> None:
    """Chunks that open but hold something of the wrong form."""
    owner, receiver = party.owners[0], public_key(party.hpke_keys[server])
    made = party.openings[owner][server - 1]
    ctx = party.context.of_owner(owner)
    binding = package_binding(ctx, made["header"]["commitment"], server)
    whole = made["blind"] + (made["seed"] or made["content"])
    for why, plain in (
        ("empty", b""),
        ("no blind", whole[32:]),
        ("only a blind", whole[:32]),
        ("a byte more", whole + b"\x00"),
        ("a byte less", whole[:-1]),
        ("a seed as well", whole[:32] + bytes(32) + whole[32:]),
    ):
        sealed = seal_chunks(receiver, binding, [plain], [c.random.randbytes(32)])
        c.bad("package", why, **given, bytes=encode({"header": made["header"], "chunks": sealed}))
