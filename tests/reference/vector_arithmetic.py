"""Cases of streams, numbers, shares, words and recovery (see make_vectors.py)."""

from __future__ import annotations

from random import Random
from typing import Any

from reference_field import P, bytes_of_elements, value_at
from reference_parties import OFFERED, random_dealing, random_pair, random_vector
from reference_statement import Terms, word_bytes
from vector_cases import Cases, altered_word, plain_terms, random_codeword, small_terms


def core_streams(c: Cases) -> None:
    labels = {"share": 32, "tests": 32, "challenge": 32, "batch": 84, "wraparound-weights": 32}
    for label, length in labels.items():
        value = c.random.randbytes(length)
        for start in (0, 1, 8190, 16384 + 5):
            c.good("stream_elements", label=label, input=value, start=start, count=4)
        for first in (0, 7, 1000):
            c.good("stream_bytes", label=label, input=value, start=first, length=40)
    for tests in (4, 12, 128):
        joint = c.random.randbytes(32)
        c.good("wraparound_tests", joint=joint, entries=7, tests=tests)
        c.good("challenge", seed=c.random.randbytes(32), tests=tests)
    for _ in range(3):
        seed, root, owner = (c.random.randbytes(size) for size in (32, 32, 20))
        c.good("kappa", seed=seed, accepted_root=root, owner=owner)


def core_fixed_point(c: Cases) -> None:
    for n, t, e in OFFERED:
        for f, sizes in ((16, (61_706,)), (4, (15,)), (24, (10, 20, 30)), (20, (1,) * 8)):
            c.good("task_numbers", terms=plain_terms(Terms(n, t, e, f, 128, sizes)), max_owners=9)
    for n, t, e in (
        (4, 1, 1),
        (3, 1, 1),
        (6, 2, 1),
        (9, 3, 1),
        (5, 0, 0),
        (14, 3, 2),
        (7, 1, 2),
        (2, 1, 0),
        (10, 3, 2),
    ):
        wrong = plain_terms(Terms(n, t, e, 16, 128, (10,)))
        c.bad("task_numbers", "committee", terms=wrong, max_owners=1)
    plain = plain_terms(Terms(5, 1, 1, 16, 128, (10,)))
    c.good("task_numbers", "largest number of owners", terms=plain, max_owners=(P // 2) >> 16)
    c.bad("task_numbers", "max_owners 2^f > p/2", terms=plain, max_owners=((P // 2) >> 16) + 1)
    c.bad("task_numbers", "D > S/16", terms={**plain, "f": 4, "sizes": [16]}, max_owners=1)
    c.bad("task_numbers", "81 W^2 > p", terms={**plain, "f": 24, "sizes": [9] * 4}, max_owners=1)
    integers = [0, 1, -1, 2**24, -(2**24), P // 2, -(P // 2)]
    c.good("integers_to_elements", integers=integers)
    edges = [0, 1, P - 1, P // 2, P // 2 + 1, 2**32, 2**63]
    c.good("elements_to_integers", bytes=bytes_of_elements(edges))
    for element in (P, P + 1, 2**64 - 1):
        c.bad("elements_to_integers", "not below p", bytes=element.to_bytes(8, "little"))
    c.bad("elements_to_integers", "cut short", bytes=bytes(15))


def dealing_input(random: Random, terms: Terms) -> dict[str, Any]:
    drawn = random_dealing(random, terms)
    return {
        "terms": plain_terms(terms),
        "integers": random_vector(random, terms),
        "joint": random.randbytes(32),
        "seeds": list(drawn.seeds),
        "m0": list(drawn.m0_free),
        "m1": drawn.m1_secret,
    }


def core_shares(c: Cases) -> None:
    for n, t, e in OFFERED:
        for terms in (
            small_terms(n, t, e),
            Terms(n, t, e, 4, 12, (4,)),
            Terms(n, t, e, 16, 128, (5, 7)),
        ):
            given = dealing_input(c.random, terms)
            if terms.tests < 128:
                names = ("terms", "integers", "joint")
                c.good("proof_bits", **{name: given[name] for name in names})
            c.good("shares", **given)
    small = plain_terms(small_terms(5, 1, 1))
    joint = c.random.randbytes(32)
    edge = [255, 22, 5, 0, 1]  # 255^2 + 22^2 + 5^2 = 65,534 <= S = 65,535
    c.good("proof_bits", "near the bound", terms=small, integers=edge, joint=joint)
    c.bad("proof_bits", "V > S", terms=small, integers=[256, 0, 0, 0, 0], joint=joint)
    c.bad("proof_bits", "V > S", terms=small, integers=[0, 0, 0, -200, 200], joint=joint)


def core_words(c: Cases) -> None:
    for n, t, e in OFFERED:
        for terms in (
            small_terms(n, t, e),
            Terms(n, t, e, 16, 128, (4,)),
            Terms(n, t, e, 12, 8, (2, 3, 1)),
        ):
            c.good("words", **dealing_input(c.random, terms), seed=c.random.randbytes(32))
    terms = small_terms(5, 1, 1)
    for _ in range(4):
        share = bytes_of_elements([c.random.randrange(P) for _ in range(terms.share_length)])
        c.good(
            "word",
            "a share that no dealing made",
            terms=plain_terms(terms),
            share=share,
            joint=c.random.randbytes(32),
            seed=c.random.randbytes(32),
        )
    top = bytes_of_elements([P - 1] * terms.share_length)
    both = {"joint": bytes(32), "seed": b"\xff" * 32, "terms": plain_terms(terms)}
    c.good("word", "all elements p - 1", share=top, **both)
    c.bad("word", "an element is p", share=P.to_bytes(8, "little") + top[8:], **both)
    for word in (
        bytes(32),
        word_bytes(((P - 1, 0), (1, P - 1))),
        word_bytes((random_pair(c.random), random_pair(c.random))),
    ):
        c.good("limbs_of_word", word=word)
    for place in range(4):
        limbs = [1, 2, 3, 4]
        limbs[place] = P
        word = b"".join(limb.to_bytes(8, "big") for limb in limbs)
        c.bad("limbs_of_word", "a limb is p", word=word)
    c.bad("limbs_of_word", "31 bytes", word=bytes(31))
    c.bad("limbs_of_word", "33 bytes", word=bytes(33))
    for count in (0, 1, 3):
        words = {
            c.random.randbytes(20): word_bytes((random_pair(c.random), random_pair(c.random)))
            for _ in range(count)
        }
        c.good(
            "batch_word",
            words=words,
            seed=c.random.randbytes(32),
            accepted_root=c.random.randbytes(32),
        )
    core_codewords(c)


def core_codewords(c: Cases) -> None:
    for n, t, e in OFFERED:
        words = random_codeword(c.random, n, t)
        given = {"n": n, "t": t, "e": e}
        c.good("joint_decoding", "all agree", **given, words=words)
        c.good("batch_codeword", words=words, t=t)
        for limb in range(4):
            j = c.random.randint(1, n)
            lied = {**words, j: altered_word(words[j], limb)}
            c.good("joint_decoding", f"limb {limb} of {j} is off", **given, words=lied)
            if limb in (1, 2):
                c.good("batch_codeword", words=lied, t=t)
        pair = c.random.sample(range(1, n + 1), 2)
        two = {**words, pair[0]: altered_word(words[pair[0]], 0)}
        two[pair[1]] = altered_word(words[pair[1]], 2)
        c.good("joint_decoding", "c of one and d of another are off", **given, words=two)
        few = {j: word for j, word in words.items() if j > e}
        c.good("joint_decoding", "n - e words", **given, words=few)
        c.good("joint_decoding", "n - e - 1 words", **given, words=dict(list(few.items())[1:]))
        shifted = random_codeword(c.random, n, t, at_zero=1)
        c.good("joint_decoding", "c(0) is 1", **given, words=shifted)


def core_recovery(c: Cases) -> None:
    for n, t, e in OFFERED:
        for m in range(t + 1 + e, n + 1):
            for lies in range(e + 1):
                core_recovered(c, (n, t, e), m, lies)
        short = random_sum(c.random, n, t, t + e)
        c.bad("recovered_sum", "too few", n=n, t=t, e=e, vectors=short)


def random_sum(random: Random, n: int, t: int, m: int) -> dict[int, list[int]]:
    """Shares of m servers of two small signed sums."""
    servers = sorted(random.sample(range(1, n + 1), m))
    columns = []
    for _ in range(2):
        known = {place: random.randrange(P) for place in range(1, t + 1)}
        known[0] = random.randint(-(2**40), 2**40) % P
        columns.append([value_at(known, j) for j in servers])
    return {j: [column[i] for column in columns] for i, j in enumerate(servers)}


def core_recovered(c: Cases, committee: tuple[int, int, int], m: int, lies: int) -> None:
    n, t, e = committee
    vectors = random_sum(c.random, n, t, m)
    for j in c.random.sample(sorted(vectors), lies):
        vectors[j][c.random.randrange(2)] = c.random.randrange(P)
    given = {"n": n, "t": t, "e": e, "vectors": vectors}
    if lies <= m - t - 1 - e:
        c.good("recovered_sum", f"{m} vectors, {lies} lies", **given)
    else:
        c.bad("recovered_sum", f"{m} vectors, {lies} lies", **given)
