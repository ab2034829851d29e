"""Every rule marked (!) in protocol.md: switched off, its attack succeeds (docs/rules.md).

Each test runs one attack twice: with the rule, where it fails, and with the one function or
constant that enforces the rule replaced, where it must succeed. A rule whose attack does not
succeed without it would be decoration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from attack_owners import (
    HONEST,
    Cheat,
    CheatingBuilder,
    Draft,
    add_at,
    add_secret,
    attack_world,
    claimed_bits,
    extrapolate_extension,
    resolve_case,
    submit,
)
from attack_servers import TRUE_BLOCK, Bench
from attack_split import split_codewords
from attack_table import Attacks
from protocol_world import Case, Submission, World

from omnilytics.algebra import kernels
from omnilytics.algebra.extension import ZERO, ExtensionElement
from omnilytics.algebra.field import MODULUS, FieldVector, inverse
from omnilytics.algebra.fixed_point import from_field, to_field
from omnilytics.foundation.errors import UsageError, VerificationError
from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.protocol import certificate as certificates
from omnilytics.protocol import locks, settlement
from omnilytics.protocol import resolve as verdicts
from omnilytics.protocol.aggregate import sum_shares
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.locks import agreed_value
from omnilytics.protocol.package import check_package
from omnilytics.protocol.resolve import Resolution
from omnilytics.protocol.settlement import judge
from omnilytics.roles.server import answering, board, settling
from omnilytics.sharing.codewords import (
    WordPair,
    is_extension_codeword,
    is_joint_codeword,
)
from omnilytics.sharing.committee import DEFAULT, Committee
from omnilytics.sharing.interpolation import interpolate_at_zero, interpolate_vectors_at_zero
from omnilytics.sharing.shamir import Dealer, Share
from omnilytics.validity import challenge as challenges
from omnilytics.validity import statement as statements
from omnilytics.validity.challenge import Challenge, batch_weight
from omnilytics.validity.evaluate import evaluate
from omnilytics.validity.statement import Statement
from omnilytics.validity.word import Word, batch_word
from omnilytics.wire.messages import Final
from omnilytics.wire.messages import Submission as SubmissionMessage
from omnilytics.wire.transcript import ServerWords, Transcript

ON, OFF = "fails", "SUCCEEDS"


def report(attacks: Attacks, rule: str, section: str, *, on: Iterable[bool], off: bool) -> None:
    """Enter both runs: the attack fails with the rule and succeeds without it."""
    with attacks(f"rule on: {rule}", section, ON) as attack:
        for succeeded in on:
            attack.saw(OFF if succeeded else ON)
    with attacks(f"rule off: {rule}", section, OFF) as attack:
        attack.saw(OFF if off else ON)


# --- section 1: n >= 3t + e -------------------------------------------------------------------


def framed(committee: Committee, seed: int) -> bool:
    """Let t servers fit their words to push one honest server off an honest owner's codeword."""
    world = attack_world(committee, seed, components=(8,))
    entry, other = submit(world), submit(world)
    case = world.seal(entry, other)
    place, t = case.owners.index(entry.owner), committee.privacy
    victim, liars = committee.servers, list(committee.points[:t])
    honest = [point for point in committee.points if point not in (*liars, victim)]
    words = {p: Word.from_bytes(case.honest_words[p][place]) for p in committee.points}
    c = {0: ZERO, victim: ExtensionElement(1, 2)} | {p: words[p].c for p in honest[: 2 * t - 1]}
    lies = []
    for liar in liars:
        said = list(case.honest_words[liar])
        said[place] = Hash32(Word(extrapolate_extension(c, liar), words[liar].d).to_bytes())
        lies.append(case.sign(liar, said))
    first = judge(case.sealed, case.words(*lies), [], {})
    if (entry.owner, victim) not in first.accused:
        return False
    # The honest victim opens the honest owner's package: it matches and gives the signed word.
    opened = {(entry.owner, victim): case.opening(entry.owner, victim)}
    return entry.owner in judge(case.sealed, case.words(*lies), [], opened).rejected


def test_n_at_least_3t_plus_e(attacks: Attacks, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="impossible size"):
        Committee(9, 3, 1)
    on = [framed(Committee(10, 3, 1), seed) for seed in range(4)]
    monkeypatch.setattr(Committee, "__post_init__", lambda _self: None)
    report(attacks, "n >= 3t + e", "1", on=on, off=framed(Committee(9, 3, 1), 1))


# --- section 3: 81 W^2 <= p -------------------------------------------------------------------


class _EightTimesTooLong(CheatingBuilder):
    """A vector of norm about sqrt(p), 8 times the bound at f = 29: V is small modulo p."""

    def draft(self) -> Draft:
        statement = self.parameters.statement
        real = np.random.default_rng(self.random.randrange(2**32)).normal(size=statement.dimension)
        target = (MODULUS + 2**57) ** 0.5
        values = np.rint(real * (target / np.linalg.norm(real))).astype(np.int64)
        norm = sum(int(value) ** 2 for value in values)
        assert 0 <= norm - MODULUS <= statement.norm_bound
        return Draft(self.random, self.parameters, to_field(values), [norm - MODULUS])


def wraps(seed: int) -> bool:
    world = attack_world(DEFAULT, seed, components=(24,))
    statement = Statement((24,), fractional_bits=29)
    world.parameters = replace(world.parameters, statement=statement)
    cheats = []
    for _ in range(8):  # each passes its 128 tests with probability one half
        key = world.new_key()
        packages = _EightTimesTooLong(world, key, HONEST).packages()
        cheats.append(world.submit(key, packages))
    return bool(resolve_case(world.seal(*cheats)).accepted)


def test_81_w_squared_at_most_p(attacks: Attacks, monkeypatch: pytest.MonkeyPatch) -> None:
    def allowed(fractional_bits: int) -> bool:
        try:
            Statement((24,), fractional_bits=fractional_bits)
        except UsageError:
            return False
        return True

    assert allowed(24)
    on = [allowed(bits) for bits in range(25, 30)]
    monkeypatch.setattr("omnilytics.algebra.fixed_point.MAX_FRACTIONAL_BITS", 29)
    on.append(allowed(29))  # refused by 81 W^2 <= p itself
    monkeypatch.setattr(statements, "MODULUS", 2**200)
    report(attacks, "81 W^2 <= p", "3", on=on, off=wraps(1))


# --- section 4: M0 has 2t free values ---------------------------------------------------------


def told_apart(seed: int) -> bool:
    """One server's share and everybody's words: which of two vectors was shared?

    The highest coefficient of c is a quadratic form of the slopes y_1 - y(0); the attacker computes
    it for both candidates and looks which one it is.
    """
    world = attack_world(DEFAULT, seed, components=(10,))
    statement, random = world.parameters.statement, Random(seed)
    joint, challenge = Hash32(random.randbytes(32)), Challenge(statement, random.randbytes(32))
    candidates = []
    for _ in range(2):
        values = np.array([random.randrange(-9_000, 9_000) for _ in range(10)])
        norm = int(values @ values)
        bits = claimed_bits(statement, to_field(values), joint, [norm])
        candidates.append((to_field(values), bits))
    truth = random.randrange(2)
    dealer = Dealer(DEFAULT, 10, statement.bit_count, [random.randbytes(32)])
    dealer.share_vector(candidates[truth][0])
    dealer.share_proof(candidates[truth][1], world.randomness)
    shares = dealer.shares()
    c = {p: evaluate(statement, shares[p - 1], joint, challenge).c for p in (1, 2, 3)}
    seen = tuple(_highest({p: value[limb] for p, value in c.items()}) for limb in (0, 1))
    own = shares[0].elements(0, statement.dimension + statement.bit_count)
    matches = [
        _quadratic(statement, own, np.concatenate(candidate), joint, challenge) == seen
        for candidate in candidates
    ]
    return matches == [truth == 0, truth == 1]


def _highest(values: Mapping[int, int]) -> int:
    """Return the coefficient of X^2 through three points."""
    total = 0
    for point, value in values.items():
        bottom = 1
        for other in values:
            if other != point:
                bottom = bottom * (point - other) % MODULUS
        total += value * inverse(bottom)
    return total % MODULUS


def _quadratic(
    statement: Statement,
    share: FieldVector,
    secret: FieldVector,
    joint: Hash32,
    challenge: Challenge,
) -> tuple[int, ...]:
    """Return the quadratic part of c on the slope: (Q(a) + Q(-a)) / 2 - Q(0)."""
    slope = [(int(a) - int(b)) % MODULUS for a, b in zip(share, secret, strict=True)]
    values = []
    for factor in (1, -1, 0):
        row = np.array([factor * a % MODULUS for a in slope] + [0] * 4, dtype=np.uint64)
        values.append(evaluate(statement, Share(len(row), explicit=row), joint, challenge).c)
    half = inverse(2)
    return tuple(
        ((values[0][limb] + values[1][limb]) * half - values[2][limb]) % MODULUS for limb in (0, 1)
    )


def test_m0_has_2t_free_values(attacks: Attacks, monkeypatch: pytest.MonkeyPatch) -> None:
    on = [told_apart(seed) for seed in range(8)]

    def degree_t(dealer: Any, proof: FieldVector, _randomness: object) -> None:
        zeros, column = np.zeros(2, dtype=np.uint64), dealer.bit_count
        dealer._share(zeros, dealer.dimension + column, proof, column)

    monkeypatch.setattr(Dealer, "_share_zero_mask", degree_t)
    off = all(told_apart(seed) for seed in range(8))
    report(attacks, "M0 has 2t free values", "4", on=on, off=off)


# --- section 5: ctx ---------------------------------------------------------------------------


def replayed(seed: int) -> bool:
    """Last round's packages, and somebody else's, are accepted and paid again."""
    world = attack_world(DEFAULT, seed)
    key, thief = world.new_key(), world.new_key()
    packages = CheatingBuilder(world, key, HONEST).packages()
    world.next_round()
    copies = []
    for signer in (key, thief):
        message = SubmissionMessage(
            task=world.context.task,
            round=world.context.round,
            commitment=packages[0].header.commitment,
        )
        update = {
            "round": world.context.round,
            "owner": signer.address,
            "submission_signature": signer.sign(message, world.context.domain),
        }
        moved = [
            package.model_copy(update={"header": package.header.model_copy(update=update)})
            for package in packages
        ]
        try:
            for server, package in enumerate(moved, start=1):
                check_package(
                    package, server=server, parameters=world.parameters, context=world.context
                )
        except VerificationError:
            return False
        copies.append(world.submit(signer, moved))
    accepted = resolve_case(world.seal(*copies)).accepted
    return {entry.owner for entry in copies} == set(accepted)


def test_ctx_binds_round_and_owner(attacks: Attacks, monkeypatch: pytest.MonkeyPatch) -> None:
    on = [replayed(seed) for seed in range(4)]
    monkeypatch.setattr(RoundContext, "owner_context", lambda *_: Hash32(bytes(32)))
    report(attacks, "ctx holds owner, round, artefact", "5", on=on, off=replayed(1))


# --- section 6.3: certificates that the signer held -------------------------------------------


def excluded(world: World, entries: list[Submission]) -> bool:
    """A sequencer leaves an owner out that all servers know; n - e sign."""
    manifest = world.manifest(entry.certificate for entry in entries[1:])
    votes = world.committee.errors
    for _ in range(world.committee.quorum):
        try:
            certificates.check_manifest(
                manifest,
                parameters=world.parameters,
                domain=world.context.domain,
                task=world.context.task,
                round_number=world.context.round,
                known=[entry.certificate for entry in entries],
            )
        except VerificationError:
            continue
        votes += 1
    return votes >= world.committee.quorum


def test_certificates_are_included(attacks: Attacks, monkeypatch: pytest.MonkeyPatch) -> None:
    world = attack_world(DEFAULT, seed=1)
    entries = [submit(world) for _ in range(3)]
    on = [excluded(world, entries[k:] + entries[:k]) for k in range(3)]
    check = certificates.check_manifest

    def without_known(manifest: Any, *, known: object, **context: Any) -> None:
        check(manifest, known=(), **context)

    monkeypatch.setattr(certificates, "check_manifest", without_known)
    report(
        attacks,
        "a signer insists on certificates it held",
        "6.3",
        on=on,
        off=excluded(world, entries),
    )


# --- section 6.4 and 7: the seed lock ---------------------------------------------------------

FORK = Hash32(b"f" * 32)


def words_of(bench: Bench, point: int) -> dict[Hash32, list[Word]]:
    """Return a server's words by seed."""
    records = bench.servers[point].node.repository.records(
        bench.view.task, bench.state.round, (board.WORDS,)
    )
    entries = [ServerWords.decode(record.body, max_bytes=1 << 20) for record in records]
    return {
        entry.seed: [Word.from_bytes(word) for word in entry.words]
        for entry in entries
        if entry.server == point
    }


def second_seed_reveals(folder: Path, seed: int) -> bool:
    """Show t + 1 restored servers another fork: if they answer, d - d' at 0 is a form of y."""
    bench = Bench(folder, DEFAULT, 100 + seed)
    try:
        chosen = [2, 4]
        for point in chosen:
            bench.save(point)
        bench.answer(DEFAULT.points)
        first = {point: words_of(bench, point) for point in chosen}
        for point in chosen:
            bench.restore(point)
        for point in DEFAULT.points:
            bench.blocks[point] = FORK
        bench.unreachable = set(DEFAULT.points) - set(chosen)
        bench.answer(chosen)
        second = {point: words_of(bench, point) for point in chosen}
    finally:
        bench.close()
    seeds = (bench.seed(TRUE_BLOCK), bench.seed(FORK))
    if any(seeds[1] not in second[point] for point in chosen):
        return False
    # M1 cancels: what is left is sum (chi^i - chi'^i) y_i, to be compared with a guess of y
    differences = {
        point: ExtensionElement(
            *(
                (first[point][seeds[0]][0].d[limb] - second[point][seeds[1]][0].d[limb]) % MODULUS
                for limb in (0, 1)
            )
        )
        for point in chosen
    }
    return extrapolate_extension(differences, 0) == _form(bench.case, seeds)


def _form(case: Case, seeds: tuple[Hash32, Hash32]) -> ExtensionElement:
    """Return sum (chi^i - chi'^i) y_i for the first owner's true y."""
    parameters = case.sealed.parameters
    length = parameters.statement.dimension + parameters.statement.bit_count
    packages = case.packages[case.owners[0]]
    rows = {p: packages[p - 1].share(parameters.share_elements).elements(0, length) for p in (1, 2)}
    y = interpolate_vectors_at_zero(rows)
    values = [
        Challenge(parameters.statement, seed).chi_weights.inner_product(y, 0) for seed in seeds
    ]
    low, high = ((values[0][limb] - values[1][limb]) % MODULUS for limb in (0, 1))
    return ExtensionElement(low, high)


def alone(votes: Iterable[tuple[int, Hash32]], _quorum: int) -> Hash32 | None:
    """Agree with oneself."""
    return agreed_value(votes, 1)


def test_seed_lock(attacks: Attacks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on = [second_seed_reveals(tmp_path / "on", 1)]
    monkeypatch.setattr(answering, "agreed_value", alone)
    off = second_seed_reveals(tmp_path / "off", 1)
    report(attacks, "seed lock: n - e signatures before a word", "6.4", on=on, off=off)


# --- section 6.4: kappa after the set ---------------------------------------------------------


def batch_passes(seed: int) -> bool:
    """Two invalid owners whose errors cancel under weights they could know beforehand."""
    world = attack_world(DEFAULT, seed, components=(8,))
    keys = [world.new_key(), world.new_key()]
    weights = [known_weight(b"", b"", key.address) for key in keys]

    def offset(error: ExtensionElement) -> Cheat:
        def spoil(draft: Draft, rows: FieldVector) -> None:
            for limb in (0, 1):
                add_secret(rows, draft.committee, limb - 4, error[limb])

        return Cheat(proof_rows=spoil)

    negative = ExtensionElement(-weights[0].low % MODULUS, -weights[0].high % MODULUS)
    cheats = [
        submit(world, offset(weights[1]), keys[0]),
        submit(world, offset(negative), keys[1]),
    ]
    case = world.seal(submit(world), *cheats)
    assert not {entry.owner for entry in cheats} & set(resolve_case(case).accepted)
    accepted_root = Hash32(Random(seed).randbytes(32))
    kappas = [
        challenges.batch_weight(case.sealed.seed, accepted_root, owner) for owner in case.owners
    ]
    batch = {
        point: batch_word(
            (kappa, Word.from_bytes(word))
            for kappa, word in zip(kappas, case.honest_words[point], strict=True)
        )
        for point in DEFAULT.points
    }
    return is_joint_codeword(batch, DEFAULT)


def known_weight(_seed: bytes, _accepted_root: bytes, owner: bytes) -> ExtensionElement:
    """Return a weight that depends on the owner alone."""
    return batch_weight(bytes(32), bytes(32), owner)


def test_kappa_comes_after_the_set(attacks: Attacks, monkeypatch: pytest.MonkeyPatch) -> None:
    on = [batch_passes(seed) for seed in range(4)]
    monkeypatch.setattr(challenges, "batch_weight", known_weight)
    report(attacks, "kappa from the seed and the accepted set", "6.4", on=on, off=batch_passes(1))


# --- section 6.5: i from 1 --------------------------------------------------------------------


def mask_cancels(seed: int) -> bool:
    """The first bit is no bit, and M0 takes away what its constraint is off by."""

    def no_bit(draft: Draft, bits: FieldVector) -> None:
        # only that bit constraint: the bit above makes the number right
        above = int(bits[1])
        bits[1], bits[0] = 1 - above, (int(bits[0]) + 2 * (2 * above - 1)) % MODULUS

    def cancel(draft: Draft, rows: FieldVector) -> None:
        points = draft.committee.explicit_points[: draft.committee.privacy + 1]
        bit = interpolate_at_zero({p: int(rows[k, 0]) for k, p in enumerate(points)})
        add_secret(rows, draft.committee, -4, -bit * (bit - 1) % MODULUS)

    world = attack_world(DEFAULT, seed, components=(8,))
    cheat = submit(world, Cheat(bits=no_bit, proof_rows=cancel))
    return cheat.owner in resolve_case(world.seal(submit(world), cheat)).accepted


def test_powers_start_at_one(attacks: Attacks, monkeypatch: pytest.MonkeyPatch) -> None:
    on = [mask_cancels(seed) for seed in range(8)]
    make = Challenge.__init__

    def from_zero(self: Challenge, statement: Statement, seed: bytes) -> None:
        make(self, statement, seed)
        count = statement.constraint_count
        self.rho_powers = kernels.current().extension_powers(self.rho, 0, count)

    monkeypatch.setattr(Challenge, "__init__", from_zero)
    report(attacks, "powers of rho from i = 1", "6.5", on=on, off=mask_cancels(1))


# --- section 6.6: n - e always ----------------------------------------------------------------


def few_words_accept(seed: int) -> bool:
    """Only n - 2e words arrive, one of a server that helps an owner with a false norm."""
    world = attack_world(DEFAULT, seed, components=(8,))

    def false_norm(draft: Draft) -> None:
        draft.norms[0] ^= 1

    cheat = submit(world, Cheat(vector=false_norm))
    case = world.seal(submit(world), cheat)
    place, liar, honest = case.owners.index(cheat.owner), 1, (2, 3)
    c = {p: Word.from_bytes(case.honest_words[p][place]).c for p in honest}
    said = list(case.honest_words[liar])
    own = Word.from_bytes(said[place])
    said[place] = Hash32(Word(extrapolate_extension({0: ZERO, **c}, liar), own.d).to_bytes())
    resolution = resolve_case(case, [case.sign(liar, said)], silent=[4, 5])
    return cheat.owner in resolution.accepted


def test_always_n_minus_e(attacks: Attacks, monkeypatch: pytest.MonkeyPatch) -> None:
    on = [few_words_accept(seed) for seed in range(4)]
    fewer = property(lambda self: self.servers - 2 * self.errors)
    monkeypatch.setattr(Committee, "quorum", fewer)
    report(attacks, "always n - e words", "6.6", on=on, off=few_words_accept(1))


# --- section 6.6: jointly ---------------------------------------------------------------------


def decode_apart(words: Mapping[int, WordPair], committee: Committee) -> tuple[int, ...] | None:
    """Decode c and d each on its own set of n - e servers."""
    t, found = committee.privacy, set()
    for part, degree, zero in ((0, 2 * t, True), (1, t, False)):
        fitting = [
            subset
            for subset in combinations(sorted(words), committee.quorum)
            if is_extension_codeword(
                subset, [words[p][part] for p in subset], degree, zero_at_origin=zero
            )
        ]
        if not fitting:
            return None
        found |= set().union(*fitting)
    return tuple(sorted(found))


def too_long_accepted(seed: int) -> bool:
    split = split_codewords(DEFAULT, seed)
    return split.owner in resolve_case(split.case, [split.lie]).accepted


def test_jointly(attacks: Attacks, monkeypatch: pytest.MonkeyPatch) -> None:
    on = [too_long_accepted(seed) for seed in range(3)]
    monkeypatch.setattr(verdicts, "decode_joint", decode_apart)
    report(attacks, "c and d jointly on one set", "6.6", on=on, off=too_long_accepted(1))


# --- section 6.6: accused is not at fault -----------------------------------------------------


def honest_servers_blamed(seed: int) -> bool:
    """Owners, e + 1, deal bad shares to different servers; the servers open, as they should."""
    world = attack_world(DEFAULT, seed, components=(8,))

    def misdeal(victim: int) -> Cheat:
        def spoil(_draft: Draft, rows: FieldVector) -> None:
            add_at(rows, victim - 2, 0, 1)

        return Cheat(x_rows=spoil)

    cheats = [submit(world, misdeal(victim)) for victim in (2, 4)]
    resolution: Resolution = resolve_case(world.seal(submit(world), *cheats))
    below = len(resolution.standing) < DEFAULT.quorum
    return set(resolution.faults) == {2, 4} and below and not resolution.accepted


def test_accused_is_not_at_fault(attacks: Attacks, monkeypatch: pytest.MonkeyPatch) -> None:
    on = [honest_servers_blamed(seed) for seed in range(4)]
    monkeypatch.setattr(settlement, "opening_convicts", lambda *_arguments, **_named: False)
    report(attacks, "an accused server may open", "6.6", on=on, off=honest_servers_blamed(1))


# --- section 6.8: the final lock --------------------------------------------------------------


def one_vector_isolated(folder: Path, seed: int) -> bool:
    """Half of the servers see one settlement, half another without the first owner."""
    bench = Bench(folder, DEFAULT, 200 + seed, owners=3)
    try:
        first, *others = (entry.owner for entry in bench.submissions)
        sums = []
        for settled, points in (
            (bench.settlement([first, *others]), (1, 2)),
            (bench.settlement(others), (3, 4)),
        ):
            vectors = {}
            bench.unreachable = set(DEFAULT.points) - set(points)
            for point in points:
                server = bench.servers[point]
                bench.finalise(point, settled)
                try:
                    server.settling.may_release(bench.view, settled)
                except VerificationError:
                    return False
                content = server.node.repository.published(settled.transcript_hash)
                assert content is not None
                transcript = Transcript.decode(content, max_bytes=1 << 24)
                vectors[point] = sum_shares(
                    server.releasing.shares(bench.view, settled, transcript),
                    bench.view.parameters.statement.dimension,
                )
            sums.append(from_field(interpolate_vectors_at_zero(vectors)))
    finally:
        bench.close()
    packages = bench.submissions[0].packages
    rows = {
        point: packages[point - 1].share(bench.world.parameters.share_elements).elements(0, 6)
        for point in (4, 5)
    }
    secret = from_field(interpolate_vectors_at_zero(rows))
    return bool(np.array_equal(sums[0] - sums[1], secret))


def test_final_lock(attacks: Attacks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on = [one_vector_isolated(tmp_path / "on", 1)]
    monkeypatch.setattr(settling, "agreed_value", alone)
    off = one_vector_isolated(tmp_path / "off", 1)
    report(attacks, "final lock: n - e signatures before a sum", "6.8", on=on, off=off)


# --- section 7: one value, recorded before it is signed -------------------------------------------


class _Folder:
    """A server's lock store."""

    def __init__(self) -> None:
        self._values: dict[tuple[int, int, str], bytes] = {}

    def lock(self, task: int, round_number: int, kind: str, value: bytes) -> bytes:
        return self._values.setdefault((task, round_number, kind), value)


def two_values_agreed() -> bool:
    """Every honest server is shown two forks in turn, and signs what its lock lets it sign."""
    values = (Hash32(b"a" * 32), Hash32(b"b" * 32))
    votes = [(1, value) for value in values]
    for server in DEFAULT.points[1:]:
        folder = _Folder()
        for value in values if server % 2 else values[::-1]:
            message = Final(task=TaskId(1), round=Round(1), accepted_root=value)
            try:
                locks.lock_final(folder, message)
            except VerificationError:
                continue
            votes.append((server, value))
    counts = [len({server for server, vote in votes if vote == value}) for value in values]
    return min(counts) >= DEFAULT.quorum


def test_one_value_per_lock(attacks: Attacks, monkeypatch: pytest.MonkeyPatch) -> None:
    on = [two_values_agreed()]
    monkeypatch.setattr(locks, "_hold", lambda *_: None)
    report(attacks, "one durable value per lock", "7", on=on, off=two_values_agreed())
