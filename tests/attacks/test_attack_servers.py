"""Servers that deviate in the words, openings and receipts they give (sections 6.2 to 6.6).

At most e of them lie; two owners are honest, one has a false norm, one deals a bad share. Whatever
the liars do, the honest owners are accepted, the others are not, and no honest party is blamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import pytest
from attack_owners import (
    Cheat,
    add_at,
    attack_world,
    extrapolate_extension,
    resolve_case,
    show,
    submit,
)
from attack_table import Attacks
from protocol_words import random_word
from protocol_world import Case, World, altered

from omnilytics.algebra.extension import ZERO
from omnilytics.algebra.field import MODULUS
from omnilytics.foundation.errors import OmniLyticsError, VerificationError
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.certificate import check_certificate
from omnilytics.protocol.resolve import Resolution
from omnilytics.protocol.settlement import judge
from omnilytics.protocol.words import check_server_words, check_two_words, find_two_words
from omnilytics.sharing.committee import OFFERED, Committee
from omnilytics.validity.word import Word
from omnilytics.wire.package import Opening
from omnilytics.wire.transcript import Certificate, ServerWords, TwoWords

TOLERANT = tuple(committee for committee in OFFERED if committee.errors)


@dataclass(frozen=True)
class Scene:
    """A sealed round and who is who in it."""

    case: Case
    honest: tuple[Address, ...]
    invalid: Address
    misdealing: Address
    victim: int


@cache
def scene(committee: Committee) -> Scene:
    world = attack_world(committee, seed=21)
    victim = committee.privacy + 2

    def too_long(draft: object) -> None:
        draft.norms[0] ^= 1  # type: ignore[attr-defined]

    def misdeal(_draft: object, rows: object) -> None:
        add_at(rows, victim - committee.privacy - 1, 0, 1)  # type: ignore[arg-type]

    honest = [submit(world), submit(world)]
    invalid = submit(world, Cheat(vector=too_long))
    misdealing = submit(world, Cheat(x_rows=misdeal))
    case = world.seal(*honest, invalid, misdealing)
    owners = tuple(entry.owner for entry in honest)
    return Scene(case, owners, invalid.owner, misdealing.owner, victim)


def outcome(
    scene: Scene, resolution: Resolution, liars: Iterable[int], *, expect_named: bool
) -> str:
    """Say what became of the liars; shout if anybody honest suffers or anything invalid passes."""
    liars = set(liars)
    honest = set(scene.case.world.committee.points) - liars
    if set(resolution.faults) - liars or not honest <= set(resolution.standing):
        return "HONEST SERVER BLAMED"
    if set(resolution.accepted) != set(scene.honest):
        return "WRONG OWNERS ACCEPTED"
    if not expect_named:
        return "left out" if not liars & set(resolution.standing) else "LIAR STANDS"
    return "named" if liars <= set(resolution.faults) else "LIAR NOT NAMED"


Lie = Callable[[Scene, int, Random], list[Hash32]]


def honest_words(scene: Scene, server: int) -> list[Hash32]:
    return list(scene.case.honest_words[server])


def one_limb(scene: Scene, server: int, random: Random) -> list[Hash32]:
    words = honest_words(scene, server)
    place = scene.case.owners.index(random.choice(scene.honest))
    words[place] = altered(words[place], random.randrange(4))
    return words


def all_random(scene: Scene, server: int, random: Random) -> list[Hash32]:
    return [Hash32(random_word(random).to_bytes()) for _ in honest_words(scene, server)]


def all_zero(scene: Scene, server: int, _random: Random) -> list[Hash32]:
    return [Hash32(bytes(32)) for _ in honest_words(scene, server)]


def anothers(scene: Scene, server: int, random: Random) -> list[Hash32]:
    others = [point for point in scene.case.world.committee.points if point != server]
    return honest_words(scene, random.choice(others))


def exchanged(scene: Scene, server: int, random: Random) -> list[Hash32]:
    words = honest_words(scene, server)
    first, second = (scene.case.owners.index(owner) for owner in scene.honest)
    words[first], words[second] = words[second], words[first]
    return words


def only_c_or_d(scene: Scene, server: int, random: Random) -> list[Hash32]:
    """Give a true c and a random d, or the reverse."""
    words = honest_words(scene, server)
    place = scene.case.owners.index(random.choice(scene.honest))
    true, lie = Word.from_bytes(words[place]), random_word(random)
    mixed = Word(true.c, lie.d) if random.random() < 0.5 else Word(lie.c, true.d)
    words[place] = Hash32(mixed.to_bytes())
    return words


def not_below_p(scene: Scene, server: int, random: Random) -> list[Hash32]:
    words = honest_words(scene, server)
    place, limb = random.randrange(len(words)), random.randrange(4)
    value = random.choice([MODULUS, 2**64 - 1]).to_bytes(8, "big")
    words[place] = Hash32(words[place][: 8 * limb] + value + words[place][8 * limb + 8 :])
    return words


LIES: dict[str, Lie] = {
    "one limb wrong": one_limb,
    "all words random": all_random,
    "all words zero": all_zero,
    "another server's words": anothers,
    "words of two owners exchanged": exchanged,
    "c right and d wrong, or the reverse": only_c_or_d,
}


@pytest.mark.parametrize("committee", TOLERANT, ids=show)
@pytest.mark.parametrize("name", LIES)
def test_wrong_words(attacks: Attacks, name: str, committee: Committee) -> None:
    """With no opening of its own: a server that admits its fault by opening nothing is named."""
    place = scene(committee)
    with attacks(f"e servers lie: {name}", "6.6", "named", show(committee)) as attack:
        for trial in range(8):
            random = Random(trial)
            liars = pick_liars(place, random)
            lies = [place.case.sign(liar, LIES[name](place, liar, random)) for liar in liars]
            attack.saw(outcome(place, resolve_case(place.case, lies), liars, expect_named=True))


def pick_liars(place: Scene, random: Random) -> list[int]:
    """Return e servers; not the misdealt one, whose word would be off in any case."""
    points = [p for p in place.case.world.committee.points if p != place.victim]
    return random.sample(points, place.case.world.committee.errors)


@pytest.mark.parametrize("committee", TOLERANT, ids=show)
def test_words_that_help_an_invalid_owner(attacks: Attacks, committee: Committee) -> None:
    """Liars that know everything put c on a polynomial with c(0) = 0, through 2t honest ones."""
    place = scene(committee)
    name = "e servers fit their words to an invalid owner's"
    with attacks(name, "6.6", "rejected", show(committee)) as attack:
        for trial in range(8):
            random = Random(trial)
            liars = pick_liars(place, random)
            lies = [_helping(place, liar, liars, place.invalid, random) for liar in liars]
            resolution = resolve_case(place.case, lies)
            wrong = set(resolution.faults) - set(liars)
            accepted = place.invalid in resolution.accepted or wrong
            attack.saw("ACCEPTED" if accepted else "rejected")


def _helping(
    place: Scene, liar: int, liars: Sequence[int], owner: Address, random: Random
) -> ServerWords:
    committee, index = place.case.world.committee, place.case.owners.index(owner)
    honest = [point for point in committee.points if point not in liars]
    chosen = random.sample(honest, 2 * committee.privacy)
    c = {p: Word.from_bytes(place.case.honest_words[p][index]).c for p in chosen}
    words = honest_words(place, liar)
    own = Word.from_bytes(words[index])
    words[index] = Hash32(Word(extrapolate_extension({0: ZERO, **c}, liar), own.d).to_bytes())
    return place.case.sign(liar, words)


@pytest.mark.parametrize("committee", TOLERANT, ids=show)
def test_words_that_frame_an_honest_server(attacks: Attacks, committee: Committee) -> None:
    """Up to t deviate, more than the budget: the round may fail, but it blames nobody honest.

    No honest server is off an honest owner's codeword, so none opens that owner's package.
    """
    place = scene(committee)
    name = "t servers fit their words to exclude an honest one"
    with attacks(name, "1", "nobody honest accused", show(committee)) as attack:
        for trial in range(12):
            random = Random(trial)
            liars = pick_liars(place, random)
            more = [p for p in committee.points if p not in liars and p != place.victim]
            liars += random.sample(more, committee.privacy - committee.errors)
            lies = [_helping(place, liar, liars, place.honest[0], random) for liar in liars]
            first = judge(place.case.sealed, place.case.words(*lies), [], {})
            framed = [
                server
                for owner, server in first.accused
                if owner in place.honest and server not in liars
            ]
            attack.saw("HONEST SERVER ACCUSED" if framed else "nobody honest accused")


@pytest.mark.parametrize("committee", TOLERANT, ids=show)
def test_two_words(attacks: Attacks, committee: Committee) -> None:
    """Two words for one owner under one key: convicted, whichever words the transcript holds."""
    place = scene(committee)
    with attacks("e servers sign two words", "6.6", "named", show(committee)) as attack:
        for trial in range(8):
            random = Random(trial)
            liars = pick_liars(place, random)
            lies = [place.case.lie(liar, random.sample(place.case.owners, 1)) for liar in liars]
            sealed = place.case.sealed
            held = [place.case.entries[liar] for liar in liars] + lies
            random.shuffle(held)
            found = find_two_words(sealed.manifest, held)
            shown = lies if trial % 2 else []
            words = place.case.words(*shown)
            opened = {
                (place.misdealing, place.victim): place.case.opening(place.misdealing, place.victim)
            }
            resolution = judge(sealed, words, found, opened)
            attack.saw(outcome(place, resolution, liars, expect_named=True))


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_false_evidence_of_two_words(attacks: Attacks, committee: Committee) -> None:
    """Nobody can make an honest server look as if it had signed two words."""
    place, refused = scene(committee), 0
    sealed = place.case.sealed
    with attacks(
        "forged evidence of two words against an honest server", "6.6", "refused", show(committee)
    ) as attack:
        for trial in range(12):
            random = Random(trial)
            server = random.choice(committee.points)
            other = random.choice([p for p in committee.points if p != server])
            true = place.case.conviction(other)
            own = place.case.entries[server]
            owner = place.case.owners.index(true.owner)
            forgeries = [
                true.model_copy(update={"server": server}),
                TwoWords(
                    server=server,
                    owner=true.owner,
                    first_word=own.words[owner],
                    first_signature=own.signatures[owner],
                    second_word=true.second_word,
                    second_signature=true.second_signature,
                ),
                TwoWords(
                    server=server,
                    owner=true.owner,
                    first_word=own.words[owner],
                    first_signature=own.signatures[owner],
                    second_word=own.words[owner - 1],
                    second_signature=own.signatures[owner - 1],
                ),
                TwoWords(
                    server=server,
                    owner=true.owner,
                    first_word=own.words[owner],
                    first_signature=own.signatures[owner],
                    second_word=own.words[owner],
                    second_signature=own.signatures[owner],
                ),
            ]
            try:
                check_two_words(
                    forgeries[trial % 4],
                    manifest=sealed.manifest,
                    submissions_root=sealed.submissions_root,
                    seed=sealed.seed,
                    parameters=sealed.parameters,
                    domain=sealed.context.domain,
                )
            except VerificationError:
                attack.saw("refused")
                refused += 1
            else:
                attack.saw("CONVICTED")


@pytest.mark.parametrize("committee", TOLERANT, ids=show)
def test_silence(attacks: Attacks, committee: Committee) -> None:
    """Silent or late: left out of V, never at fault. A late word may still be included."""
    place = scene(committee)
    with attacks("e servers are silent or late", "6.6", "left out", show(committee)) as attack:
        for trial in range(8):
            liars = pick_liars(place, Random(trial))
            # n - e words remain, one of them the victim's: the misdealing owner is not decodable
            resolution = resolve_case(place.case, silent=liars)
            assert not resolution.faults
            attack.saw(outcome(place, resolution, liars, expect_named=False))


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_too_few_words(attacks: Attacks, committee: Committee) -> None:
    """Fewer than n - e words decide nothing: nobody is accepted and nobody blamed."""
    place = scene(committee)
    with attacks("e + 1 servers are silent", "6.6", "nothing decided", show(committee)) as attack:
        for trial in range(6):
            silent = Random(trial).sample(committee.points, committee.errors + 1)
            resolution = resolve_case(place.case, silent=silent)
            decided = resolution.accepted or resolution.faults or resolution.accused
            attack.saw("DECIDED" if decided else "nothing decided")


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_words_that_are_no_words(attacks: Attacks, committee: Committee) -> None:
    """Not below p, too few, under another seed or root, with another's signature."""
    place, random = scene(committee), Random(4)
    case, sealed = place.case, place.case.sealed
    with attacks(
        "words of a wrong form or under another key", "6.5", "refused", show(committee)
    ) as a:
        for _ in range(4):
            server, other = random.sample(committee.points, 2)
            true = case.entries[server]
            entries = [
                case.sign(server, not_below_p(place, server, random)),
                true.model_copy(update={"words": true.words[1:]}),
                true.model_copy(
                    update={"words": true.words[1:], "signatures": true.signatures[1:]}
                ),
                true.model_copy(update={"seed": Hash32(random.randbytes(32))}),
                true.model_copy(update={"submissions_root": Hash32(random.randbytes(32))}),
                true.model_copy(update={"server": other}),
                case.lie(server).model_copy(update={"signatures": true.signatures}),
            ]
            for entry in entries:
                try:
                    check_server_words(
                        entry,
                        manifest=sealed.manifest,
                        submissions_root=sealed.submissions_root,
                        seed=sealed.seed,
                        parameters=sealed.parameters,
                        domain=sealed.context.domain,
                    )
                except VerificationError:
                    a.saw("refused")
                else:
                    a.saw("TAKEN")


# --- openings ---------------------------------------------------------------------------------


def false_openings(place: Scene, liar: int, owner: Address, random: Random) -> list[Opening]:
    """Return what a liar can open instead of the package that matches."""
    case = place.case
    own = case.opening(owner, liar)
    other_owner = case.opening(next(o for o in place.honest if o != owner), liar)
    other_server = case.opening(owner, liar % case.world.committee.servers + 1)
    stranger = submit(case.world).packages[liar - 1]
    flipped = bytes([own.blind[0] ^ 1]) + own.blind[1:]
    if own.seed is not None:
        changed = own.model_copy(update={"seed": random.randbytes(32)})
    else:
        place_of = random.randrange(len(own.content))
        content = bytearray(own.content)
        content[place_of] ^= 1
        changed = own.model_copy(update={"content": bytes(content)})
    return [
        own,  # true, but it does not give the false word that was signed
        changed,
        own.model_copy(update={"blind": flipped}),
        own.model_copy(update={"header": other_owner.header}),
        other_owner.model_copy(update={"header": own.header}),
        other_server,
        stranger,
    ]


@pytest.mark.parametrize("committee", TOLERANT, ids=show)
def test_false_openings(attacks: Attacks, committee: Committee) -> None:
    """A liar that is off an honest owner's codeword cannot put the blame on the owner."""
    place = scene(committee)
    name = "a lying server opens something that does not convict the owner"
    with attacks(name, "6.6", "named", show(committee)) as attack:
        for trial in range(3):
            random = Random(trial)
            liar = pick_liars(place, random)[0]
            owner = random.choice(place.honest)
            for opening in false_openings(place, liar, owner, random):
                lie = place.case.lie(liar, [owner])
                resolution = resolve_case(place.case, [lie], openings={(owner, liar): opening})
                attack.saw(outcome(place, resolution, [liar], expect_named=True))


@pytest.mark.parametrize("committee", TOLERANT, ids=show)
def test_openings_nobody_asked_for(attacks: Attacks, committee: Committee) -> None:
    """Opening an honest owner's package without being accused rejects nobody."""
    place = scene(committee)
    with attacks("packages opened without an accusation", "6.6", "no effect", show(committee)) as a:
        for server in committee.points:
            openings = {
                (owner, server): place.case.opening(owner, server) for owner in place.honest
            }
            resolution = resolve_case(place.case, openings=openings)
            plain = resolve_case(place.case)
            a.saw("no effect" if resolution == plain else "CHANGED")


# --- receipts and held packages ---------------------------------------------------------------


def certified(world: World, certificate: Certificate) -> str:
    try:
        check_certificate(
            certificate,
            parameters=world.parameters,
            domain=world.context.domain,
            task=world.context.task,
            round_number=world.context.round,
        )
    except OmniLyticsError:
        return "refused"
    return "CERTIFIED"


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_certificates_with_too_little(attacks: Attacks, committee: Committee) -> None:
    """A liar's Held alone never stands in for the e + 1 that make one of them honest."""
    world, random = attack_world(committee, seed=31), Random(31)
    e, points = committee.errors, committee.points
    with attacks(
        "certificates with a receipt or a holder too few", "6.2", "refused", show(committee)
    ) as attack:
        for _ in range(4):
            key = world.new_key()
            package = world.packages(key)[0]
            absent = random.sample(points, e + 1)
            few = world.certify(key, package, [p for p in points if p not in absent])
            attack.saw(certified(world, few))
            for own in _held_forgeries(world, few, absent, random):
                attack.saw(certified(world, own))
            if not e:
                continue
            some = world.certify(key, package, [p for p in points if p not in absent[:e]])
            attack.saw(certified(world, some))
            for own in _held_forgeries(world, some, absent[:e], random):
                attack.saw(certified(world, own))


def _held_forgeries(
    world: World, certificate: Certificate, absent: Sequence[int], random: Random
) -> list[Certificate]:
    """Return the certificate with Held signatures that do not suffice for the first absent one."""
    first, points, e = absent[0], world.committee.points, world.committee.errors
    one, two = Hash32(random.randbytes(32)), Hash32(random.randbytes(32))
    others = [point for point in points if point not in absent]
    rest = [
        world.held(holder, server, certificate, one)
        for server in absent[1:]
        for holder in others[: e + 1]
    ]
    forgeries = [
        [world.held(holder, first, certificate, one) for holder in others[:e]],  # one too few
        [world.held(holder, first, certificate, one) for holder in others[:e]] * 2,  # repeated
        [world.held(holder, first, certificate, one) for holder in (first, *others[:e])],  # itself
        [  # different packages
            world.held(holder, first, certificate, one if k else two)
            for k, holder in enumerate(others[: e + 1])
        ],
        [  # over another commitment
            world.held(
                holder,
                first,
                certificate.model_copy(update={"commitment": two}),
                one,
            )
            for holder in others[: e + 1]
        ],
    ]
    return [
        certificate.model_copy(
            update={
                "held": tuple(
                    sorted([*held, *rest], key=lambda entry: (entry.server, entry.holder))
                )
            }
        )
        for held in (forgeries if e else [])
    ]


def test_a_second_commitment_cannot_be_certified(attacks: Attacks) -> None:
    """Honest servers give one receipt per owner and round; the e liars give both."""
    for committee in OFFERED:
        world, random = attack_world(committee, seed=32), Random(32)
        with attacks(
            "an owner certifies two commitments with e servers' help",
            "6.2",
            "at most one is",
            show(committee),
        ) as attack:
            for _ in range(10):
                key = world.new_key()
                first, second = world.packages(key)[0], world.packages(key)[0]
                liars = random.sample(committee.points, committee.errors)
                honest = [p for p in committee.points if p not in liars]
                split = random.randint(0, len(honest))
                random.shuffle(honest)
                count = 0
                for package, takers in ((first, honest[:split]), (second, honest[split:])):
                    receipts = sorted([*takers, *liars])
                    certificate = world.certify(key, package, receipts)
                    absent = [p for p in committee.points if p not in receipts]
                    one = Hash32(bytes(32))
                    held = tuple(  # Held costs nothing, so give all there can be
                        world.held(holder, server, certificate, one)
                        for server in sorted(absent)
                        for holder in committee.points
                        if holder != server
                    )
                    count += (
                        certified(world, certificate.model_copy(update={"held": held}))
                        == "CERTIFIED"
                    )
                attack.saw("at most one is" if count <= 1 else "BOTH")
