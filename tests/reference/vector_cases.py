"""Collects cases of vectors; what several files of cases use (see make_vectors.py)."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

from reference_field import P, RefusedError, value_at
from reference_parties import Round
from reference_statement import Terms, word_bytes, word_of_bytes
from reference_vectors import KINDS, difference, to_plain


class Cases:
    """Collects the cases of one file."""

    def __init__(self, name: str, about: str, seed: int) -> None:
        self.name = name
        self.about = about
        self.random = Random(seed)
        self.cases: list[dict[str, Any]] = []
        self.whole: list[dict[str, Any]] = []
        self.bases: dict[str, int] = {}

    def good(self, kind: str, note: str = "", /, **given: Any) -> Any:
        output = KINDS[kind](given)
        self.add(kind, given, note=note, output=to_plain(output))
        return output

    def bad(self, kind: str, why: str, /, **given: Any) -> None:
        try:
            output = KINDS[kind](given)
        except RefusedError:
            self.add(kind, given, refused=why)
        else:
            raise AssertionError(f"{self.name}: {why}: gave {output}")

    def add(self, kind: str, given: dict[str, Any], **result: Any) -> None:
        """Adds a case, as a change of the last one of its kind with an output if it is shorter."""
        plain = to_plain(given)
        case = {"kind": kind, "input": plain, **result}
        base = self.bases.get(kind)
        if base is not None:
            old = self.whole[base]
            changes = {
                name: difference(old.get(name), value)
                for name, value in plain.items()
                if name not in old or old[name] != value
            }
            if set(old) <= set(plain) and len(json.dumps(changes)) < 0.7 * len(json.dumps(plain)):
                case = {"kind": kind, "like": base, "input": changes, **result}
        if "output" in result:
            self.bases[kind] = len(self.cases)
        self.whole.append(plain)
        self.cases.append(case)

    def text(self) -> str:
        """The file: one case per line."""
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in self.cases)
        return f'{{"description":{json.dumps(self.about)},\n"cases":[\n{lines}\n]}}\n'


def plain_terms(terms: Terms) -> dict[str, Any]:
    return {
        "n": terms.servers,
        "t": terms.privacy,
        "e": terms.errors,
        "f": terms.fractional_bits,
        "tests": terms.tests,
        "sizes": list(terms.sizes),
    }


def small_terms(n: int, t: int, e: int, sizes: tuple[int, ...] = (3, 2)) -> Terms:
    return Terms(n, t, e, fractional_bits=8, tests=4, sizes=sizes)


def plain_context(party: Round) -> dict[str, Any]:
    return dict(vars(party.context))


def plain_market(party: Round) -> dict[str, Any]:
    market = party.market
    return {
        "terms": plain_terms(market.terms),
        "context": plain_context(party),
        "members": list(market.members),
        "max_owners": market.max_owners,
        "reward_wei": market.reward_wei,
        "admitted": None if market.admitted is None else sorted(market.admitted),
    }


def changed(value: Any, *path: Any, to: Any) -> Any:
    """A deep copy with one place changed; `to` may be a function of the old value."""
    result = copy.deepcopy(value)
    place = result
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to(place[path[-1]]) if callable(to) else to
    return result


def flipped(content: bytes, index: int = 0) -> bytes:
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]


def whole_round(seed: int, n: int, t: int, e: int, **options: Any) -> Round:
    party = Round(small_terms(n, t, e), seed, **options)
    for owner in party.owners:
        party.submit(owner)
    return party


def random_codeword(random: Random, n: int, t: int, at_zero: int = 0) -> dict[int, bytes]:
    """Words on a joint codeword; with another `at_zero`, c has that low limb at 0."""
    limbs = []
    for degree, zero in ((2 * t, at_zero), (2 * t, 0), (t, None), (t, None)):
        known = {place: random.randrange(P) for place in range(1, degree + 1)}
        known[0] = random.randrange(P) if zero is None else zero
        limbs.append([value_at(known, j) for j in range(n + 1)])
    return {
        j: word_bytes(((limbs[0][j], limbs[1][j]), (limbs[2][j], limbs[3][j])))
        for j in range(1, n + 1)
    }


def altered_word(word: bytes, limb: int) -> bytes:
    c, d = word_of_bytes(word)
    limbs = [*c, *d]
    limbs[limb] = (limbs[limb] + 1) % P
    return word_bytes(((limbs[0], limbs[1]), (limbs[2], limbs[3])))
