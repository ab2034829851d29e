"""Random inputs through both implementations: what one makes the other takes, and all is alike."""

from __future__ import annotations

import copy
from itertools import islice
from random import Random
from typing import Any

import numpy as np
import pytest
import reference_packages
import reference_rounds
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_world import SeededRandomness, Submission, World
from reference_cbor import decode, decode_record, encode
from reference_field import (
    P,
    RefusedError,
    bytes_of_elements,
    pair_multiply,
    real_of_field,
)
from reference_hashes import RoundContext, content_hash, merkle_proof, merkle_proves, merkle_root
from reference_messages import MESSAGE_TYPES, ROUND_MESSAGES, digest_of, signer_of_digest
from reference_parties import OFFERED, Round, random_pair
from reference_statement import (
    Terms,
    word_bytes,
    word_pair,
)
from reference_streams import challenge_of_seed
from reference_vectors import KINDS, to_plain
from sums import sealed_sum
from test_reference_vectors import PACKAGE, RECORDS, context_of, decoded, outcome
from vector_cases import small_terms
from vector_rounds import random_evidence
from vector_wire import random_fields, sample_records

from omnilytics.algebra import extension, fixed_point
from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.context import RoundContext as PackageContext
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.protocol.settlement import (
    PayoutState,
    build_transcript,
    payout_leaves,
)
from omnilytics.sharing.committee import OFFERED as PACKAGE_OFFERED
from omnilytics.sharing.committee import Committee
from omnilytics.transport import hpke
from omnilytics.wire import cbor, envelope, hashing, messages
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.package import Opening
from omnilytics.wire.signatures import SigningKey

EACH_COMMITTEE = pytest.mark.parametrize("committee", OFFERED, ids=str)


def same(kind: str, given_: Any) -> Any:
    """Both implementations' outcome of one kind of vector, which must be the same."""
    theirs = outcome(KINDS[kind], given_, RefusedError)
    ours = outcome(PACKAGE[kind], given_, OmniLyticsError)
    assert ours == theirs, (kind, to_plain(given_))
    return ours


def terms_of(parameters: TaskParameters) -> Terms:
    committee, statement = parameters.committee, parameters.statement
    return Terms(
        committee.servers,
        committee.privacy,
        committee.errors,
        statement.fractional_bits,
        statement.tests,
        statement.components,
    )


def plain_terms(terms: Terms) -> dict[str, Any]:
    return {
        "n": terms.servers,
        "t": terms.privacy,
        "e": terms.errors,
        "f": terms.fractional_bits,
        "tests": terms.tests,
        "sizes": list(terms.sizes),
    }


def market_of(world: World) -> reference_rounds.Market:
    """The package's world as the reference sees it."""
    context, parameters = world.context, world.parameters
    admission = parameters.admission
    return reference_rounds.Market(
        terms=terms_of(parameters),
        context=RoundContext(
            chain_id=context.domain.chain_id,
            contract=context.domain.contract,
            task=context.task,
            round=context.round,
            artefact_hash=context.artefact_hash,
            block_hash=context.block_hash,
        ),
        members=parameters.members,
        max_owners=parameters.max_owners,
        reward_wei=parameters.reward_wei,
        admitted=frozenset(admission.owners) if admission.mode == "listed" else None,
    )


def plain_market(market: reference_rounds.Market) -> dict[str, Any]:
    return {
        "terms": plain_terms(market.terms),
        "context": dict(vars(market.context)),
        "members": list(market.members),
        "max_owners": market.max_owners,
        "reward_wei": market.reward_wei,
        "admitted": None if market.admitted is None else sorted(market.admitted),
    }


def test_reference_offered_committees_are_the_packages() -> None:
    assert tuple((c.servers, c.privacy, c.errors) for c in PACKAGE_OFFERED) == OFFERED


def test_reference_every_committee_size_is_judged_alike() -> None:
    for n in range(16):
        for t in range(8):
            for e in range(8):
                terms = {"n": n, "t": t, "e": e, "f": 16, "tests": 128, "sizes": [3]}
                same("task_numbers", {"terms": terms, "max_owners": 1})


def test_reference_every_statement_is_judged_alike() -> None:
    for f in range(4, 25):
        for components in range(1, 9):
            for size in (1, 2, 1000):
                sizes = [size] * components
                terms = {"n": 5, "t": 1, "e": 1, "f": f, "tests": 128, "sizes": sizes}
                for owners in (1, 2 ** (63 - f) - 1, 2 ** (63 - f), 100_000):
                    same("task_numbers", {"terms": terms, "max_owners": owners})


def test_reference_extension_agrees() -> None:
    random = Random(1)
    edges = [0, 1, P - 1, P - 2, 2**32, 2**32 - 1, 2**63]
    pairs = [(a, b) for a in edges for b in edges] + [random_pair(random) for _ in range(200)]
    for a in pairs:
        b = random.choice(pairs)
        made = extension.multiply(extension.ExtensionElement(*a), extension.ExtensionElement(*b))
        assert pair_multiply(a, b) == tuple(made)


def test_reference_streams_agree() -> None:
    random = Random(2)
    for label, length in (("share", 32), ("challenge", 32), ("batch", 84), ("rounding", 32)):
        for _ in range(5):
            value = random.randbytes(length)
            start, count = random.randrange(30_000), random.randrange(1, 9_000)
            same(
                "stream_elements", {"label": label, "input": value, "start": start, "count": count}
            )
            same("stream_bytes", {"label": label, "input": value, "start": start, "length": count})


def test_reference_challenges_agree() -> None:
    random = Random(3)
    for tests in range(4, 129, 4):
        same("challenge", {"seed": random.randbytes(32), "tests": tests})
        entries = random.randrange(1, 40)
        same(
            "wraparound_tests", {"joint": random.randbytes(32), "entries": entries, "tests": tests}
        )
        same(
            "kappa",
            {
                "seed": random.randbytes(32),
                "accepted_root": random.randbytes(32),
                "owner": random.randbytes(20),
            },
        )


@EACH_COMMITTEE
def test_reference_dealings_and_words_agree(committee: tuple[int, int, int]) -> None:
    random = Random(str(committee))
    n, t, e = committee
    for f, tests, sizes in ((4, 4, (15,)), (7, 20, (1, 2)), (16, 128, (9,)), (23, 8, (2,) * 8)):
        terms = Terms(n, t, e, f, tests, sizes)
        integers = party_vector(random, terms)
        given_ = {
            "terms": plain_terms(terms),
            "integers": integers,
            "joint": random.randbytes(32),
            "seeds": [random.randbytes(32) for _ in range(t)],
            "m0": [random_pair(random) for _ in range(t)],
            "m1": random_pair(random),
            "seed": random.randbytes(32),
        }
        assert same("shares", given_) is not None
        assert same("words", given_) is not None
        same("proof_bits", given_ | {"integers": [2 * integer for integer in integers]})


def party_vector(random: Random, terms: Terms) -> list[int]:
    integers: list[int] = []
    for size in terms.sizes:
        most = int((terms.norm_bound / size) ** 0.5)
        integers += [
            random.choice([0, most, -most, random.randint(-most, most)]) for _ in range(size)
        ]
    return integers


@EACH_COMMITTEE
def test_reference_words_of_any_shares_agree(committee: tuple[int, int, int]) -> None:
    random = Random(str(committee))
    terms = Terms(*committee, 12, 8, (3, 4))
    edges = [0, 1, P - 1, P - 2, 2**32 - 1, 2**32]
    for _ in range(5):
        share = [random.choice([*edges, random.randrange(P)]) for _ in range(terms.share_length)]
        given_ = {
            "terms": plain_terms(terms),
            "share": bytes_of_elements(share),
            "joint": random.randbytes(32),
            "seed": random.randbytes(32),
        }
        assert same("word", given_) is not None


@EACH_COMMITTEE
def test_reference_decodings_agree(committee: tuple[int, int, int]) -> None:
    random = Random(str(committee))
    n, t, e = committee
    for _ in range(6):
        evidence = random_evidence(random, n, t, e)
        same("verdict", evidence)
        for owner in evidence["owners"]:
            words = {j: by[owner] for j, by in evidence["words"].items() if owner in by}
            same("joint_decoding", {"n": n, "t": t, "e": e, "words": words})


@EACH_COMMITTEE
def test_reference_recoveries_agree(committee: tuple[int, int, int]) -> None:
    random = Random(str(committee))
    n, t, e = committee
    for _ in range(8):
        dimension, m = random.randrange(1, 6), random.randint(1, n)
        coefficients = [[random.randrange(P) for _ in range(t + 1)] for _ in range(dimension)]
        vectors = {
            j: [sum(c * j**k for k, c in enumerate(column)) % P for column in coefficients]
            for j in random.sample(range(1, n + 1), m)
        }
        for j in random.sample(sorted(vectors), min(m, random.randint(0, e + 1))):
            place = random.randrange(dimension)
            vectors[j][place] = (vectors[j][place] + random.randrange(1, P)) % P
        same("recovered_sum", {"n": n, "t": t, "e": e, "vectors": vectors})


def test_reference_rounding_is_within_the_bound_and_next_to_the_scaled_number() -> None:
    random = Random(4)
    for f in (4, 8, 16, 24):
        sizes = [random.randrange(1, 6) for _ in range(2)]
        terms = Terms(5, 1, 1, f, 128, tuple(sizes))
        real = np.array([random.uniform(-2, 2) for _ in range(sum(sizes))])
        made = fixed_point.round_vector(
            real, components=sizes, fractional_bits=f, randomness=SeededRandomness(f)
        )
        assert 0 < made.factor <= 1
        scaled = real * made.factor
        start = 0
        for size in sizes:
            part = made.values[start : start + size].tolist()
            assert sum(entry * entry for entry in part) <= terms.norm_bound
            room = terms.norm_bound - terms.dimension / 4 - 8 * 2**f
            assert sum((2**f * entry) ** 2 for entry in scaled[start : start + size]) <= room
            start += size
        elements = fixed_point.to_field(made.values).tolist()
        for element, number in zip(elements, scaled, strict=True):
            assert abs(float(real_of_field(element, f)) - number) < 2.0**-f


# --- packages ----------------------------------------------------------------------------------


@EACH_COMMITTEE
def test_reference_takes_the_packages_packages(committee: tuple[int, int, int]) -> None:
    world = World(Committee(*committee), seed=sum(committee), components=(4, 3), tests=8)
    market, key = market_of(world), world.new_key()
    secrets = {server: hpke.HpkeKey.generate(world.randomness) for server in world.keys}
    packages = world.packages(key)
    case = world.seal(Submission(key, tuple(packages), world.certify(key, packages[0])))
    drawn = challenge_of_seed(case.sealed.seed, market.terms.tests)
    for opening in packages:
        server = opening.header.server
        sealed = hpke.seal_package(opening, secrets[server].public, world.context).encode()
        opened, share = reference_packages.open_package(
            market.terms,
            market.context,
            decode_record("SealedPackage", sealed),
            secrets[server].secret,
        )
        assert encode(opened) == opening.encode()
        joint = reference_rounds.joint_of_header(market.context, opened["header"])
        word = word_bytes(word_pair(market.terms, share, joint, drawn))
        assert word == case.honest_words[server][0]
        assert len(sealed) <= reference_packages.package_bound(market.terms)


@EACH_COMMITTEE
def test_reference_package_takes_the_references_packages(committee: tuple[int, int, int]) -> None:
    party = Round(small_terms(*committee), sum(committee), owners=1)
    owner = party.owners[0]
    for opening in party.submit(owner):
        server = opening["header"]["server"]
        given_ = {
            "terms": plain_terms(party.terms),
            "context": dict(vars(party.context)),
            "key": party.hpke_keys[server],
            "server": server,
            "bytes": encode(party.sealed(owner, server)),
        }
        assert same("package", given_) is not None


def test_reference_large_packages_are_cut_into_the_same_pieces() -> None:
    terms = Terms(5, 1, 1, 16, 4, (2 * 65_536 + 10,))
    party = Round(terms, 5, owners=1)
    owner = party.owners[0]
    share = [party.random.randrange(P) for _ in range(terms.share_length)]
    shares = dict.fromkeys(range(1, 6), share)
    blinds = [party.random.randbytes(32) for _ in range(5)]
    commitment, openings = reference_packages.openings_of_dealing(
        terms, party.context, owner, shares, [party.random.randbytes(32)], blinds
    )
    signature = party.sign(party.owner_keys[owner], "Submission", {"commitment": commitment})
    for opening in openings:
        opening["header"]["submission_signature"] = signature
    party.openings[owner] = openings
    sealed = party.sealed(owner, 2)
    assert [len(chunk) - 48 for chunk in sealed["chunks"]] == [
        32 + 524_288,
        524_288,
        8 * terms.share_length - 2 * 524_288,
    ]
    given_ = {
        "terms": plain_terms(terms),
        "context": dict(vars(party.context)),
        "key": party.hpke_keys[2],
        "server": 2,
        "bytes": encode(sealed),
    }
    assert same("package", given_) is not None
    swapped = sealed | {"chunks": [sealed["chunks"][i] for i in (0, 2, 1)]}
    assert same("package", given_ | {"bytes": encode(swapped)}) is None
    opening_ = Opening.decode(encode(openings[1]), max_bytes=2**31)
    theirs = hpke.seal_package(
        opening_, reference_packages.public_key(party.hpke_keys[2]), package_context(party)
    )
    assert same("package", given_ | {"bytes": theirs.encode()}) is not None
    assert len(theirs.encode()) <= reference_packages.package_bound(terms)


def package_context(party: Round) -> PackageContext:
    return context_of(dict(vars(party.context)))


def test_reference_released_sums_agree() -> None:
    world = World(seed=3)
    market, key = market_of(world), hpke.HpkeKey.generate(world.randomness)
    content, root = world.randomness.bytes(524_288 + 80), Hash32(world.randomness.bytes(32))
    chunks = sealed_sum(content, key.public, world.context, accepted_root=root, server=4)
    given_ = {
        "context": dict(vars(market.context)),
        "key": key.secret,
        "chunks": list(chunks),
        "accepted_root": root,
        "server": 4,
    }
    assert same("released_sum", given_) == to_plain(content)
    assert same("released_sum", given_ | {"server": 5}) is None


# --- certificates, manifests, transcripts ------------------------------------------------------


def edits(random: Random, value: Any) -> Any:
    """A copy with one random place changed, removed, repeated or moved."""
    result = copy.deepcopy(value)
    node, path = result, []
    while isinstance(node, dict | list) and node:
        step = (
            random.choice(sorted(node)) if isinstance(node, dict) else random.randrange(len(node))
        )
        path.append((node, step))
        node = node[step]
        if random.random() < 0.2:
            break
    if not path:
        return result
    parent, step = path[-1]
    edit = random.randrange(4)
    if isinstance(parent, list) and edit == 0:
        del parent[step]
    elif isinstance(parent, list) and edit == 1:
        parent.insert(random.randrange(len(parent) + 1), copy.deepcopy(node))
    elif isinstance(parent, list) and edit == 2:
        random.shuffle(parent)
    elif isinstance(node, bytes) and node:
        place = random.randrange(len(node))
        parent[step] = (
            node[:place] + bytes([node[place] ^ 1 << random.randrange(8)]) + node[place + 1 :]
        )
    elif type(node) is int:
        parent[step] = max(0, min(2**256 - 1, node + random.choice([-1, 1, 2**31])))
    return result


@EACH_COMMITTEE
def test_reference_certificates_agree(committee: tuple[int, int, int]) -> None:
    random = Random(str(committee))
    n, _, e = committee
    party = Round(small_terms(*committee), sum(committee), owners=2, listed=True)
    for owner in party.owners:
        party.submit(owner)
    market = plain_market(party.market)
    made = [
        party.certificate(party.owners[0], without=random.sample(range(1, n + 1), count))
        for count in range(e + 2)
    ]
    results = set()
    for certificate in made:
        for _ in range(25):
            changed = edits(random, certificate)
            results.add(same("certificate", {"market": market, "bytes": encode(changed)}))
    assert results == {True, None}
    for first in made[: e + 1]:
        for second in made[: e + 1]:
            merged = same("merged_certificate", {"first": encode(first), "second": encode(second)})
            content = bytes.fromhex(merged[2:])
            assert same("certificate", {"market": market, "bytes": content})


@EACH_COMMITTEE
def test_reference_takes_the_packages_certificates(committee: tuple[int, int, int]) -> None:
    world = World(Committee(*committee), seed=9, components=(4,), tests=4)
    market = plain_market(market_of(world))
    submission = world.submit()
    certificate = submission.certificate
    for count in range(committee[2] + 1):
        points = world.committee.points[count:]
        made = world.certify(submission.key, submission.packages[0], points)
        package_hash = hashing.content_hash(b"package")
        held = [
            world.held(holder, server, certificate, package_hash)
            for server in range(1, count + 1)
            for holder in islice(
                (j for j in world.committee.points if j != server), committee[2] + 1
            )
        ]
        whole = made.model_copy(update={"held": tuple(held)})
        assert same("certificate", {"market": market, "bytes": whole.encode()})


@EACH_COMMITTEE
def test_reference_manifests_agree(committee: tuple[int, int, int]) -> None:
    random = Random(str(committee))
    party = Round(small_terms(*committee), sum(committee), owners=3)
    for owner in party.owners:
        party.submit(owner)
    market = plain_market(party.market)
    assert same(
        "manifest", {"market": market, "bytes": encode(party.manifest), "known": party.owners}
    )
    for _ in range(12):
        changed = edits(random, party.manifest)
        known = random.sample(party.owners, random.randint(0, 3))
        same("manifest", {"market": market, "bytes": encode(changed), "known": known})


@EACH_COMMITTEE
def test_reference_judges_the_packages_transcripts(committee: tuple[int, int, int]) -> None:
    """Rounds by the package with lies, silence and openings; transcripts, also edited ones."""
    random = Random(str(committee))
    n, _, e = committee
    world = World(Committee(*committee), seed=n, components=(3, 2), tests=4, max_owners=2)
    case = world.seal(*(world.submit() for _ in range(3)))
    market = plain_market(market_of(world))
    for _ in range(3):
        liars = random.sample(range(1, n + 1), random.randint(0, e + 1))
        silent = random.sample(range(1, n + 1), random.randint(0, 1))
        lies = [case.lie(j, random.sample(case.owners, random.randint(1, 3))) for j in liars]
        words = case.words(*lies, without=silent)
        convictions = [case.conviction(liars[0])] if liars and random.random() < 0.3 else []
        openings = {
            (owner, server): case.opening(owner, server)
            for owner in case.owners
            for server in liars
            if random.random() < 0.5
        }
        earlier = [random.sample(case.owners, random.randint(0, 3)) for _ in range(2)]
        counts = {o: sum(o in done for done in earlier) for o in case.owners}
        paid = {owner: count for owner, count in counts.items() if count}
        leaves = payout_leaves(paid, world.parameters.reward_wei)
        root = hashing.merkle_root([leaf.leaf() for leaf in leaves])
        made, resolution = build_transcript(
            case.sealed, words, convictions, openings, PayoutState(paid, root)
        )
        given_ = {
            "market": market,
            "bytes": made.encode(),
            "openings": [opening.encode() for opening in openings.values()],
            "earlier": earlier,
        }
        if not resolution.standing:
            continue
        assert same("transcript", given_) is not None
        plain = decode(made.encode(), 2**28)
        for _ in range(3):
            edited = edits(random, {name: plain[name] for name in plain if name != "manifest"})
            changed = encode(edited | {"manifest": plain["manifest"]})
            if known_openings(changed, given_["openings"]):
                same("transcript", given_ | {"bytes": changed})


def known_openings(content: bytes, openings: Any) -> bool:
    """Whether a transcript is readable and names openings that are there to fetch."""
    try:
        made = decode_record("Transcript", content)
    except RefusedError:
        return True
    known = {content_hash(opening) for opening in openings}
    return all(entry["opening_hash"] in known for entry in made["openings"])


@EACH_COMMITTEE
def test_reference_bad_dealings_are_judged_alike(committee: tuple[int, int, int]) -> None:
    """Whole rounds by the reference: a cheat's bad shares that match C, opened or not."""
    random = Random(str(committee))
    n, t, e = committee
    party = Round(Terms(n, t, e, 4, 4, (2,)), sum(committee), owners=2)
    cheat, honest = party.owners
    for count in range(e + 2):
        party.openings.clear()
        party.__dict__.pop("manifest", None)
        spoiled = random.sample(range(t + 1, n + 1), count)
        party.submit(cheat, spoiled=spoiled)
        party.submit(honest)
        words = [party.server_words(server) for server in range(1, n + 1)]
        for opening in range(count + 1):
            opened = [(cheat, server) for server in spoiled[:opening]]
            made = party.transcript(words, opened=opened)
            blobs = [encode(party.openings[owner][server - 1]) for owner, server in opened]
            given_ = {
                "market": plain_market(party.market),
                "bytes": encode(made),
                "openings": blobs,
                "earlier": [],
            }
            judged = same("transcript", given_)
            assert ("0x" + honest.hex() in judged["accepted"]) or count > opening


# --- messages, records, hashes -----------------------------------------------------------------


def test_reference_messages_agree() -> None:
    random = Random(5)
    for kind in MESSAGE_TYPES:
        for _ in range(10):
            given_ = {
                "kind": kind,
                "fields": random_fields(random, kind),
                "key": random.randbytes(32),
                "chain_id": random.choice([0, 1, 2**256 - 1]),
                "contract": random.randbytes(20),
            }
            assert same("message", given_) is not None


def test_reference_envelopes_agree() -> None:
    random = Random(6)
    domain = Domain(5, Address(random.randbytes(20)))
    for kind in ROUND_MESSAGES:
        fields = random_fields(random, kind)
        key = SigningKey(random.randbytes(32))
        signed = envelope.sign_message(getattr(messages, kind)(**fields), key, domain)
        record = decode_record("Envelope", signed.encode())
        digest = digest_of(5, domain.contract, kind, record["fields"])
        assert signer_of_digest(record["signature"], digest) == key.address
        for _ in range(30):
            same("record", {"record": "Envelope", "bytes": encode(edits(random, record))})


def test_reference_signatures_agree() -> None:
    random = Random(7)
    key = SigningKey(random.randbytes(32))
    for _ in range(200):
        digest = random.randbytes(32)
        signature = bytearray(key.sign_digest(digest))
        for _ in range(random.randrange(3)):
            signature[random.choice([0, 31, 32, 63, 64])] ^= 1 << random.randrange(8)
        same("signer", {"signature": bytes(signature), "digest": digest})


@pytest.mark.parametrize("name", sorted({"Envelope", *RECORDS}))
def test_reference_records_agree(name: str) -> None:
    """Records of the reference, edited as values and as bytes."""
    random = Random(name)
    value = sample_records(random)[name]
    content = encode(value)
    assert same("record", {"record": name, "bytes": content}) is not None
    if name in RECORDS:
        assert decoded(name, content).encode() == content
    for _ in range(60):
        same("record", {"record": name, "bytes": encode(edits(random, value))})
    for _ in range(150):
        raw = bytearray(content)
        place = random.randrange(min(len(raw), 600))
        if random.random() < 0.5:
            raw[place] ^= 1 << random.randrange(8)
        elif random.random() < 0.5:
            raw[place] = random.choice([0x00, 0x18, 0x5F, 0x9F, 0xA0, 0xC2, 0xF6, 0xF9, 0xFF])
        else:
            del raw[place]
        same("record", {"record": name, "bytes": bytes(raw)})


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**256 - 1)
    | st.floats(allow_nan=False, max_value=32_767, min_value=-32_767)
    | st.binary(max_size=40)
    | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=300), inner, max_size=5)
    ),
    max_leaves=15,
)


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_reference_cbor_encodes_alike(value: Any) -> None:
    content = encode(value)
    assert cbor.encode(value) == content
    assert to_plain(cbor.decode(content, max_bytes=10**6)) == to_plain(decode(content, 10**6))


@settings(max_examples=300, deadline=None)
@given(PLAIN, st.data())
def test_reference_cbor_refuses_alike(value: Any, data: st.DataObject) -> None:
    raw = bytearray(encode(value))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(raw)
    if has_other_keys(content):
        return
    theirs = outcome(lambda given_: decode(given_, 10**6), content, RefusedError)
    ours = outcome(lambda given_: cbor.decode(given_, max_bytes=10**6), content, OmniLyticsError)
    assert ours == theirs


def has_other_keys(content: bytes) -> bool:
    """Keys that are no text: the pages do not speak of them, as no record has any."""
    try:
        value = cbor.decode(content, max_bytes=10**6)
    except OmniLyticsError:
        return False
    return any(
        not isinstance(key, str) for node in nodes(value) if isinstance(node, dict) for key in node
    )


def nodes(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(node for item in inner for node in nodes(item))]


def test_reference_half_precision_floats_encode_alike() -> None:
    """All 65,536 of them: the shortest form that keeps the value has 2 bytes."""
    halves = np.arange(65_536, dtype=np.uint16).view(np.float16)
    wrong = [
        float(half)
        for half in halves
        if not np.isnan(half) and cbor.encode(float(half)) != encode(float(half))
    ]
    assert not wrong, (len(wrong), min(map(abs, wrong)), max(map(abs, wrong)))


def test_reference_merkle_trees_agree() -> None:
    random = Random(8)
    for count in range(40):
        leaves = [Hash32(random.randbytes(32)) for _ in range(count)]
        root = hashing.merkle_root(leaves)
        assert root == merkle_root(leaves)
        for index in range(count):
            proof = hashing.merkle_proof(leaves, index)
            assert list(proof) == merkle_proof(leaves, index)
            assert merkle_proves(root, leaves[index], proof)
            assert not merkle_proves(root, random.randbytes(32), proof)
