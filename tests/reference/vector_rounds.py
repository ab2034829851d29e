"""Cases of certificates, manifests, verdicts and transcripts (see make_vectors.py)."""

from __future__ import annotations

from random import Random
from typing import Any

from reference_cbor import encode
from reference_hashes import content_hash
from reference_parties import OFFERED, Round
from reference_statement import Terms
from vector_cases import (
    Cases,
    altered_word,
    changed,
    flipped,
    plain_market,
    random_codeword,
    whole_round,
)


def core_certificates(c: Cases) -> None:
    for n, t, e in OFFERED:
        party = whole_round(c.random.randrange(2**32), n, t, e, owners=1, listed=n % 2 == 0)
        market, owner = plain_market(party), party.owners[0]
        c.good("certificate", market=market, bytes=encode(party.certificate(owner)))
        out = c.random.sample(range(1, n + 1), e)
        made = party.certificate(owner, without=out)
        c.good("certificate", f"no receipt of {out}", market=market, bytes=encode(made))
        bad: list[tuple[str, Any]] = [
            ("fewer than n - e receipts", party.certificate(owner, without=range(1, e + 2))),
            ("receipts not sorted", changed(made, "receipts", to=lambda old: old[::-1])),
            ("a receipt twice", changed(made, "receipts", to=lambda old: [old[0], *old])),
            (
                "a receipt of another server",
                changed(made, "receipts", 0, "signature", to=made["receipts"][1]["signature"]),
            ),
            ("another commitment", changed(made, "commitment", to=flipped)),
            ("another owner", changed(made, "owner", to=flipped)),
            (
                "not signed by the owner",
                changed(made, "submission_signature", to=made["receipts"][0]["signature"]),
            ),
            (
                "server beyond the committee",
                changed(made, "receipts", -1, "server", to=13 if n < 13 else 12),
            ),
        ]
        if e:
            held = made["held"]
            again = party.held(owner, held[0]["holder"], held[0]["server"], content_hash(b"other"))
            idle = party.held(owner, 1, 2, content_hash(b"idle"))
            own = party.held(owner, out[0], out[0], held[0]["package_hash"])
            bad += [
                ("a holder missing", changed(made, "held", to=lambda old: old[1:])),
                ("two hashes", changed(made, "held", 0, to=again)),
                ("held not sorted", changed(made, "held", to=lambda old: old[::-1])),
                ("a Held twice", changed(made, "held", to=lambda old: [old[0], *old])),
                ("Held of another", changed(made, "held", 0, "signature", to=held[1]["signature"])),
                ("Held besides a receipt", {**party.certificate(owner), "held": [idle]}),
                ("held by itself", {**made, "held": held_by_itself(held, own)}),
            ]
        if e and n in (5, 11):
            merged = party.certificate(owner, without=[])
            c.good("merged_certificate", first=encode(made), second=encode(merged))
            c.good("merged_certificate", first=encode(merged), second=encode(made))
            second = changed(merged, "receipts", 0, "signature", to=flipped)
            c.good(
                "merged_certificate",
                "a server with two signatures: the first one's stands",
                first=encode(merged),
                second=encode(second),
            )
            rest = party.certificate(owner, without=[1 + out[0] % n])
            other = party.held(owner, 1 + (out[0] + 1) % n, out[0], content_hash(b"another"))
            c.good(
                "merged_certificate",
                "two lists of Held: the first one's stands",
                first=encode(made),
                second=encode({**made, "held": [other]}),
            )
            c.good("merged_certificate", first=encode(made), second=encode(rest))
            c.good("merged_certificate", first=encode(rest), second=encode(made))
        for why, certificate in bad if n == 5 and e else ():  # more ones fill the file
            c.bad("certificate", why, market=market, bytes=encode(certificate))
        stranger = {**market, "admitted": [c.random.randbytes(20)]}
        c.bad("certificate", "not admitted", market=stranger, bytes=encode(made))
        elsewhere = changed(market, "context", "contract", to=flipped)
        c.bad("certificate", "another contract", market=elsewhere, bytes=encode(made))
    core_manifests(c)


def held_by_itself(held: list[Any], own: dict[str, Any]) -> list[Any]:
    """One of the e + 1 holders of a server's package replaced by the server."""
    first = next(entry for entry in held if entry["server"] == own["server"])
    rest = [entry for entry in held if entry is not first]
    return sorted([*rest, own], key=lambda entry: (entry["server"], entry["holder"]))


def core_manifests(c: Cases) -> None:
    party = whole_round(c.random.randrange(2**32), 3, 1, 0, owners=2)
    market, owners, made = plain_market(party), party.owners, party.manifest
    c.good("manifest", market=market, bytes=encode(made), known=owners)
    one = changed(made, "certificates", to=lambda old: old[:1])
    none = changed(made, "certificates", to=[])
    c.good("manifest", "one known", market=market, bytes=encode(one), known=owners[:1])
    c.good("manifest", "nobody", market=market, bytes=encode(none), known=[])
    for why, manifest in (
        ("not ascending", changed(made, "certificates", to=lambda old: old[::-1])),
        ("an owner twice", changed(made, "certificates", to=lambda old: [old[0], *old])),
        ("another round", changed(made, "round", to=lambda old: old + 1)),
        ("another task", changed(made, "task", to=lambda old: old - 1)),
        ("a known owner is missing", one),
        ("a bad certificate", changed(made, "certificates", 1, "receipts", to=lambda old: old[2:])),
    ):
        c.bad("manifest", why, market=market, bytes=encode(manifest), known=owners)


def core_verdicts(c: Cases) -> None:
    for n, t, e in OFFERED:
        for _ in range(4):
            c.good("verdict", **random_evidence(c.random, n, t, e))
    core_transcripts(c)


def random_evidence(random: Random, n: int, t: int, e: int) -> dict[str, Any]:
    """Words of a few owners with lies, bad dealings, silence, convictions and openings."""
    owners = sorted(random.randbytes(20) for _ in range(random.randint(1, 4)))
    columns = {
        owner: random_codeword(random, n, t, random.choice([0, 0, 0, 1])) for owner in owners
    }
    words = {j: {owner: columns[owner][j] for owner in owners} for j in range(1, n + 1)}
    openings, convicted = [], []
    for j in random.sample(range(1, n + 1), random.randint(0, e + 1)):
        fault = random.choice(["silent", "silent for one", "lies", "dealt", "convicted"])
        chosen = random.sample(owners, random.randint(1, len(owners)))
        if fault == "silent":
            del words[j]
        elif fault == "silent for one":
            del words[j][chosen[0]]
        elif fault == "convicted":
            convicted.append(j)
        else:
            words[j] |= {o: altered_word(words[j][o], random.randrange(4)) for o in chosen}
            openings += [[o, j] for o in chosen] if fault == "dealt" else []
    return {
        "n": n,
        "t": t,
        "e": e,
        "max_owners": random.choice([1, 2, 9]),
        "seed": random.randbytes(32),
        "owners": owners,
        "words": words,
        "convicted": sorted(convicted),
        "openings": sorted(openings),
    }


def core_transcripts(c: Cases) -> None:
    terms = Terms(5, 1, 1, 4, 4, (2,))
    party = Round(terms, c.random.randrange(2**32), owners=3, max_owners=1)
    cheat, *honest = party.owners
    party.submit(cheat, spoiled=[4])
    for owner in honest:
        party.submit(owner)
    market, earlier = plain_market(party), [[honest[0], cheat], [honest[0]]]
    words = {j: party.server_words(j) for j in range(1, 6)}
    opened = [encode(party.openings[cheat][3])]
    lie = altered_word(words[2]["words"][1], 2)
    lied = party.server_words(2, {honest[0]: lie})
    evidence = party.two_words(2, 1, words[2]["words"][1], lie)

    def judged(made: Any, openings: list[bytes]) -> dict[str, Any]:
        return {"market": market, "bytes": encode(made), "openings": openings, "earlier": earlier}

    every = list(words.values())
    made = party.transcript(every, opened=[(cheat, 4)], earlier=earlier)
    c.good("transcript", "an opening rejects an owner", **judged(made, opened))
    silent = party.transcript(every, earlier=earlier)
    c.good("transcript", "the accused server does not open", **judged(silent, []))
    with_lie = [lied if entry["server"] == 2 else entry for entry in every]
    c.good("transcript", "a server lies", **judged(party.transcript(with_lie, earlier=earlier), []))
    convicted = party.transcript(
        every, opened=[(cheat, 4)], convictions=[evidence], earlier=earlier
    )
    c.good("transcript", "two words", **judged(convicted, opened))
    four = party.transcript(every[:4], opened=[(cheat, 4)], earlier=earlier)
    c.good("transcript", "four servers", **judged(four, opened))
    three = party.transcript(every[:3], earlier=earlier)
    c.good("transcript", "three servers: nobody passes", **judged(three, []))
    unneeded = party.transcript(every, opened=[(cheat, 4), (honest[0], 1)], earlier=earlier)
    both = [*opened, encode(party.openings[honest[0]][0])]
    c.good("transcript", "an opening that nobody asked for", **judged(unneeded, both))
    bad: list[tuple[str, Any]] = [
        ("another accepted set", changed(made, "accepted", to=[])),
        (
            "a loser of the lot",
            changed(
                made, "accepted", to=[owner for owner in honest if owner not in made["accepted"]]
            ),
        ),
        ("another V", changed(made, "v_bitmap", to=lambda old: old ^ 1)),
        ("another previous root", changed(made, "previous_payouts_root", to=flipped)),
        (
            "a payout too high",
            changed(made, "payouts", 0, "cumulative_wei", to=lambda old: old + 1),
        ),
        ("a payout is missing", changed(made, "payouts", to=lambda old: old[1:])),
        ("another seed", changed(made, "seed", to=flipped)),
        ("words not sorted", changed(made, "words", to=lambda old: old[::-1])),
        ("words twice", changed(made, "words", to=lambda old: [old[0], *old])),
        ("a word not signed", changed(made, "words", 0, "words", 0, to=lie)),
        ("words missing", changed(made, "words", 0, "words", to=lambda old: old[1:])),
        ("words under another root", changed(made, "words", 0, "submissions_root", to=flipped)),
        ("an opening left out", changed(made, "openings", to=[])),
        ("an opening of another server", changed(made, "openings", 0, "server", to=3)),
        ("a conviction left out", changed(convicted, "convictions", to=[])),
        (
            "one word twice",
            changed(convicted, "convictions", 0, to=party.two_words(2, 1, lie, lie)),
        ),
        (
            "a conviction not signed",
            changed(
                convicted, "convictions", 0, "second_signature", to=evidence["first_signature"]
            ),
        ),
        ("a conviction of another owner", changed(convicted, "convictions", 0, "owner", to=cheat)),
    ]
    for why, transcript in bad:
        c.bad("transcript", why, **judged(transcript, opened))
