"""Certificates and manifests (protocol.md 6.2 and 6.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from protocol_world import Submission, World

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.protocol.certificate import (
    build_manifest,
    check_certificate,
    check_manifest,
    merge_certificates,
)
from omnilytics.sharing.committee import OFFERED, Committee
from omnilytics.wire.hashing import merkle_leaf, merkle_root
from omnilytics.wire.transcript import Certificate, HeldSignature, Manifest, ReceiptSignature

PACKAGE, OTHER_PACKAGE = Hash32(b"p" * 32), Hash32(b"q" * 32)
WITH_ERRORS = [committee for committee in OFFERED if committee.errors]


def check(certificate: Certificate, world: World) -> None:
    check_certificate(
        certificate,
        parameters=world.parameters,
        domain=world.context.domain,
        task=world.context.task,
        round_number=world.context.round,
    )


def check_all(manifest: Manifest, world: World, known: Iterable[Certificate] = ()) -> None:
    check_manifest(
        manifest,
        parameters=world.parameters,
        domain=world.context.domain,
        task=world.context.task,
        round_number=world.context.round,
        known=known,
    )


def partial(
    world: World, *, receipts: Iterable[int], held: Sequence[tuple[int, int, Hash32]] = ()
) -> Certificate:
    """Return a certificate with these receipts and these (holder, server, package hash)."""
    key = world.new_key()
    bare = world.certify(key, world.packages(key)[0], receipts)
    return with_held(world, bare, held)


def with_held(
    world: World, certificate: Certificate, held: Sequence[tuple[int, int, Hash32]]
) -> Certificate:
    entries = tuple(world.held(holder, server, certificate, name) for holder, server, name in held)
    return certificate.model_copy(update={"held": certificate.held + entries})


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_all_receipts_certify(committee: Committee) -> None:
    world = World(committee)
    certificate = world.submit().certificate
    check(certificate, world)
    check(Certificate.decode(certificate.encode(), max_bytes=1 << 16), world)


@pytest.mark.parametrize("committee", WITH_ERRORS, ids=str)
def test_missing_receipts_need_e_plus_one_holders_each(committee: Committee) -> None:
    world = World(committee)
    e, n = committee.errors, committee.servers
    present, absent = range(1, n - e + 1), range(n - e + 1, n + 1)
    held = [(holder, server, PACKAGE) for server in absent for holder in range(1, e + 2)]
    certificate = partial(world, receipts=present, held=held)
    check(certificate, world)
    for left_out in range(len(held)):
        fewer = certificate.held[:left_out] + certificate.held[left_out + 1 :]
        with pytest.raises(VerificationError, match="neither given a receipt nor is its package"):
            check(certificate.model_copy(update={"held": fewer}), world)


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_fewer_than_n_minus_e_receipts_never_certify(committee: Committee) -> None:
    world = World(committee)
    present = range(1, committee.quorum)
    held = [
        (holder, server, PACKAGE)
        for server in range(committee.quorum, committee.servers + 1)
        for holder in committee.points
        if holder != server
    ]
    with pytest.raises(VerificationError, match="too few receipts"):
        check(partial(world, receipts=present, held=held), world)


@pytest.mark.parametrize("committee", [entry for entry in OFFERED if not entry.errors], ids=str)
def test_honest_committees_need_every_receipt(committee: Committee) -> None:
    world = World(committee)
    held = [(1, committee.servers, PACKAGE)]
    with pytest.raises(VerificationError, match="too few receipts"):
        check(partial(world, receipts=range(1, committee.servers), held=held), world)


def test_signatures_stand_in_order_each_once_and_none_idle() -> None:
    world = World()
    certificate = partial(world, receipts=[1, 2, 3, 3, 3])
    certificate = with_held(world, certificate, [(h, s, PACKAGE) for s in (4, 5) for h in (1, 2)])
    with pytest.raises(VerificationError, match="receipts are not sorted"):
        check(certificate, world)
    with pytest.raises(VerificationError, match="receipts are not sorted"):
        check(partial(world, receipts=[2, 1, 3, 4, 5]), world)
    idle = partial(world, receipts=[1, 2, 3, 4, 5], held=[(1, 5, PACKAGE), (2, 5, PACKAGE)])
    with pytest.raises(VerificationError, match="held for a server that gave a receipt"):
        check(idle, world)


def test_merging_unites_receipts_and_drops_what_they_replace() -> None:
    world = World()
    whole = world.submit().certificate
    left = whole.model_copy(update={"receipts": whole.receipts[:4]})
    left = with_held(world, left, [(1, 5, PACKAGE), (2, 5, PACKAGE)])
    right = whole.model_copy(update={"receipts": whole.receipts[1:]})
    right = with_held(world, right, [(2, 1, PACKAGE), (3, 1, PACKAGE)])
    for first, second in ((left, right), (right, left)):
        merged = merge_certificates(first, second)
        assert merged == whole
        check(merged, world)
    assert merge_certificates(left, left) == left


def test_a_holder_named_twice_counts_once() -> None:
    world = World()
    with pytest.raises(VerificationError, match="held packages are not sorted"):
        check(partial(world, receipts=[1, 2, 3, 4], held=[(1, 5, PACKAGE)] * 2), world)


def test_a_server_is_no_holder_of_its_own_package() -> None:
    world = World()
    held = [(1, 5, PACKAGE), (5, 5, PACKAGE)]
    certificate = partial(world, receipts=[1, 2, 3, 4], held=held)
    with pytest.raises(VerificationError, match="neither given a receipt"):
        check(certificate, world)
    check(partial(world, receipts=[1, 2, 3, 4], held=[*held[:1], (2, 5, PACKAGE)]), world)


def test_holders_must_keep_the_same_package() -> None:
    world = World()
    held = [(1, 5, PACKAGE), (2, 5, OTHER_PACKAGE)]
    certificate = partial(world, receipts=[1, 2, 3, 4], held=held)
    with pytest.raises(VerificationError, match="different packages"):
        check(certificate, world)
    with pytest.raises(VerificationError, match="different packages"):
        check(with_held(world, certificate, [(3, 5, PACKAGE)]), world)


def receipt_by(world: World, certificate: Certificate, server: int, signer: int) -> Certificate:
    """Put a receipt that `signer` signed in the place of `server`'s."""
    forged = world.receipt(signer, certificate.owner, certificate.commitment)
    forged = forged.model_copy(update={"server": server})
    others = tuple(entry for entry in certificate.receipts if entry.server != server)
    return certificate.model_copy(update={"receipts": (*others, forged)})


def test_foreign_receipts_are_refused() -> None:
    world, elsewhere = World(seed=1), World(seed=2)
    certificate = world.submit().certificate
    with pytest.raises(VerificationError, match="Receipt was signed by another key"):
        check(receipt_by(world, certificate, server=5, signer=4), world)
    stranger = elsewhere.receipt(5, certificate.owner, certificate.commitment)
    signed_elsewhere = (*certificate.receipts[:4], stranger)
    with pytest.raises(VerificationError, match="Receipt was signed by another key"):
        check(certificate.model_copy(update={"receipts": signed_elsewhere}), world)
    beyond = ReceiptSignature(server=6, signature=certificate.receipts[0].signature)
    with pytest.raises(VerificationError, match="no such server"):
        check(certificate.model_copy(update={"receipts": (*certificate.receipts, beyond)}), world)


def test_a_receipt_for_another_owner_or_commitment_is_refused() -> None:
    world = World()
    mine, other = world.submit().certificate, world.submit().certificate
    for receipt in (
        world.receipt(5, other.owner, mine.commitment),
        world.receipt(5, mine.owner, other.commitment),
    ):
        receipts = (*mine.receipts[:4], receipt)
        with pytest.raises(VerificationError, match="Receipt was signed by another key"):
            check(mine.model_copy(update={"receipts": receipts}), world)


def test_held_messages_are_bound_to_what_they_say() -> None:
    world = World()
    certificate = partial(world, receipts=[1, 2, 3, 4], held=[(1, 5, PACKAGE), (2, 5, PACKAGE)])
    check(certificate, world)
    good = certificate.held[0]
    other = partial(world, receipts=[1, 2, 3, 4])
    forgeries: list[HeldSignature] = [
        certificate.held[1].model_copy(update={"holder": 3}),
        good.model_copy(update={"package_hash": OTHER_PACKAGE}),
        world.held(1, 5, other, PACKAGE),
    ]
    for forged in forgeries:
        rest = certificate.held[1] if forged.holder == 1 else good
        held = tuple(sorted((forged, rest), key=lambda entry: entry.holder))
        with pytest.raises(VerificationError, match="Held was signed by another key"):
            check(certificate.model_copy(update={"held": held}), world)
    beyond = good.model_copy(update={"holder": 6})
    with pytest.raises(VerificationError, match="no such server"):
        check(certificate.model_copy(update={"held": (*certificate.held, beyond)}), world)


def test_the_owner_must_have_signed_the_commitment() -> None:
    world = World()
    certificate, other = world.submit().certificate, world.submit().certificate
    forged = certificate.model_copy(update={"submission_signature": other.submission_signature})
    with pytest.raises(VerificationError, match="Submission was signed by another key"):
        check(forged, world)


def test_a_certificate_of_another_round_task_or_contract_is_refused() -> None:
    world = World()
    certificate = world.submit().certificate
    for change in ({"round_number": Round(9)}, {"task": TaskId(9)}):
        where = {"task": world.context.task, "round_number": world.context.round} | change
        with pytest.raises(VerificationError, match="signed by another key"):
            check_certificate(
                certificate,
                parameters=world.parameters,
                domain=world.context.domain,
                **where,  # type: ignore[arg-type]
            )
    with pytest.raises(VerificationError, match="signed by another key"):
        check_certificate(
            certificate,
            parameters=world.parameters,
            domain=World(seed=3).context.domain,
            task=world.context.task,
            round_number=world.context.round,
        )


def test_only_admitted_owners_are_certified() -> None:
    listed = World().new_key()
    world = World(listed=[listed.address])
    check(world.submit(listed).certificate, world)
    with pytest.raises(VerificationError, match="does not admit"):
        check(world.submit(world.new_key()).certificate, world)


# manifests


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=4)


@pytest.fixture(scope="module")
def submissions(world: World) -> list[Submission]:
    return sorted((world.submit() for _ in range(4)), key=lambda entry: entry.owner)


def test_manifest_holds_all_certified_owners_in_order(
    world: World, submissions: list[Submission]
) -> None:
    certificates = [entry.certificate for entry in submissions]
    manifest = world.manifest(reversed(certificates))
    check_all(manifest, world, certificates)
    assert manifest.owners == tuple(entry.owner for entry in submissions)
    assert manifest == world.manifest([*certificates, certificates[0]])
    leaves = [merkle_leaf(entry.owner, entry.commitment) for entry in certificates]
    assert manifest.root() == merkle_root(leaves)


def test_a_manifest_may_hold_more_than_the_signer_knows(
    world: World, submissions: list[Submission]
) -> None:
    certificates = [entry.certificate for entry in submissions]
    check_all(world.manifest(certificates), world, certificates[:1])


def test_a_manifest_that_leaves_out_a_known_owner_is_refused(
    world: World, submissions: list[Submission]
) -> None:
    certificates = [entry.certificate for entry in submissions]
    for place in range(len(certificates)):
        manifest = world.manifest(certificates[:place] + certificates[place + 1 :])
        check_all(manifest, world)
        with pytest.raises(VerificationError, match="leaves out a certified owner"):
            check_all(manifest, world, certificates)


def test_unsorted_or_repeated_owners_are_refused(
    world: World, submissions: list[Submission]
) -> None:
    first, second, *_ = (entry.certificate for entry in submissions)
    for order in ((second, first), (first, first, second)):
        manifest = Manifest(task=world.context.task, round=world.context.round, certificates=order)
        with pytest.raises(VerificationError, match="not sorted by owner, or holds an owner twice"):
            check_all(manifest, world)


def test_an_owner_with_two_commitments_is_sealed_once(world: World) -> None:
    key = world.new_key()
    first, second = world.submit(key).certificate, world.submit(key).certificate
    assert first.commitment != second.commitment
    manifest = world.manifest([first, second])
    assert len(manifest.certificates) == 1
    check_all(manifest, world, [first, second])
    both = Manifest(
        task=world.context.task, round=world.context.round, certificates=(first, second)
    )
    with pytest.raises(VerificationError, match="holds an owner twice"):
        check_all(both, world)


def test_a_manifest_of_another_round_is_refused(
    world: World, submissions: list[Submission]
) -> None:
    certificates = [entry.certificate for entry in submissions]
    context = world.context
    for task, round_number in (
        (context.task, Round(context.round + 1)),
        (TaskId(context.task + 1), context.round),
    ):
        with pytest.raises(VerificationError, match="another round"):
            check_all(build_manifest(task, round_number, certificates), world)


def test_a_manifest_with_an_uncertified_owner_is_refused(
    world: World, submissions: list[Submission]
) -> None:
    certificates = [entry.certificate for entry in submissions]
    thin = certificates[0].model_copy(update={"receipts": certificates[0].receipts[:3]})
    with pytest.raises(VerificationError, match="too few receipts"):
        check_all(world.manifest([thin, *certificates[1:]]), world)
