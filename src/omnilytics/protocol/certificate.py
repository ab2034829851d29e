"""Certificates and manifests: which submissions a round is sealed over (protocol.md 6.2 and 6.3).

An owner is certified by n - e receipts plus, for every server without a receipt, e + 1 servers that
keep its sealed package: at least one of them is honest, so every honest server can get its share.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, show_address
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.messages import Held, Receipt, Submission
from omnilytics.wire.signatures import verify
from omnilytics.wire.transcript import Certificate, HeldSignature, Manifest


def check_certificate(
    certificate: Certificate,
    *,
    parameters: TaskParameters,
    domain: Domain,
    task: TaskId,
    round_number: Round,
) -> None:
    """Raise VerificationError unless the certificate holds for an owner that the task admits."""
    owner = certificate.owner
    _check_form(certificate)
    if not parameters.admission.admits(owner):
        raise VerificationError("the task does not admit this owner", owner=show_address(owner))
    submission = Submission(task=task, round=round_number, commitment=certificate.commitment)
    verify(submission, certificate.submission_signature, owner, domain)
    receipts = _check_receipts(certificate, parameters, domain, task, round_number)
    holders = _check_held(certificate, parameters, domain, task, round_number)
    committee = parameters.committee
    if len(receipts) < parameters.quorum:
        raise VerificationError(
            "too few receipts", got=len(receipts), want=parameters.quorum, owner=show_address(owner)
        )
    for server in range(1, committee.servers + 1):
        if server not in receipts and len(holders.get(server, ())) < committee.errors + 1:
            raise VerificationError(
                "a server has neither given a receipt nor is its package held",
                server=server,
                owner=show_address(owner),
            )


def _check_form(certificate: Certificate) -> None:
    """Raise VerificationError unless signatures are in order, each once, and none is idle."""
    servers = [entry.server for entry in certificate.receipts]
    places = [(entry.server, entry.holder) for entry in certificate.held]
    if any(first >= second for first, second in pairwise(servers)):
        raise VerificationError("receipts are not sorted by server, or one stands twice")
    if any(first >= second for first, second in pairwise(places)):
        raise VerificationError("held packages are not sorted, or one stands twice")
    if {server for server, _ in places} & set(servers):
        raise VerificationError("a package is held for a server that gave a receipt")


def merge_certificates(first: Certificate, second: Certificate) -> Certificate:
    """Return one certificate with the receipts of both, which must be checked.

    What an owner shows to different servers may differ in receipts; merged, all servers come to
    know the same ones, and a complaint of a server that gave one counts nowhere.
    """
    receipts = {entry.server: entry for entry in (*second.receipts, *first.receipts)}
    held: dict[int, tuple[HeldSignature, ...]] = {}
    for certificate in (second, first):
        for entry in certificate.held:
            if entry.server not in receipts:
                held[entry.server] = tuple(
                    other for other in certificate.held if other.server == entry.server
                )
    return first.model_copy(
        update={
            "receipts": tuple(receipts[server] for server in sorted(receipts)),
            "held": tuple(entry for server in sorted(held) for entry in held[server]),
        }
    )


def _check_receipts(
    certificate: Certificate,
    parameters: TaskParameters,
    domain: Domain,
    task: TaskId,
    round_number: Round,
) -> set[int]:
    receipt = Receipt(
        task=task,
        round=round_number,
        owner=certificate.owner,
        commitment=certificate.commitment,
    )
    for entry in certificate.receipts:
        verify(receipt, entry.signature, parameters.member(entry.server), domain)
    return {entry.server for entry in certificate.receipts}


def _check_held(
    certificate: Certificate,
    parameters: TaskParameters,
    domain: Domain,
    task: TaskId,
    round_number: Round,
) -> dict[int, set[int]]:
    """Return, for each server, who keeps the same sealed package of it."""
    holders: dict[int, set[int]] = {}
    package_hashes: dict[int, Hash32] = {}
    for entry in certificate.held:
        message = Held(
            task=task,
            round=round_number,
            owner=certificate.owner,
            commitment=certificate.commitment,
            for_server=parameters.member(entry.server),
            package_hash=entry.package_hash,
        )
        verify(message, entry.signature, parameters.member(entry.holder), domain)
        if package_hashes.setdefault(entry.server, entry.package_hash) != entry.package_hash:
            raise VerificationError(
                "different packages are held for one server", server=entry.server
            )
        if entry.holder != entry.server:
            holders.setdefault(entry.server, set()).add(entry.holder)
    return holders


def build_manifest(
    task: TaskId, round_number: Round, certificates: Iterable[Certificate]
) -> Manifest:
    """Return the manifest over checked certificates, one for each owner, sorted by owner."""
    by_owner = {certificate.owner: certificate for certificate in certificates}
    ordered = tuple(by_owner[owner] for owner in sorted(by_owner))
    return Manifest(task=task, round=round_number, certificates=ordered)


def check_manifest(
    manifest: Manifest,
    *,
    parameters: TaskParameters,
    domain: Domain,
    task: TaskId,
    round_number: Round,
    known: Iterable[Certificate],
) -> None:
    """Raise VerificationError unless it holds exactly certified owners and all of `known`.

    `known` are the certificates that the signer held at the submission deadline (!): a sequencer
    cannot leave out an owner whom an honest signer knows.
    """
    if (manifest.task, manifest.round) != (task, round_number):
        raise VerificationError("manifest of another round", got=(manifest.task, manifest.round))
    _check_sorted(manifest.owners)
    for certificate in manifest.certificates:
        check_certificate(
            certificate, parameters=parameters, domain=domain, task=task, round_number=round_number
        )
    owners = set(manifest.owners)
    for certificate in known:
        # An owner with two certified commitments is sealed once, with either of them.
        if certificate.owner not in owners:
            raise VerificationError(
                "the manifest leaves out a certified owner", owner=show_address(certificate.owner)
            )


def _check_sorted(owners: tuple[Address, ...]) -> None:
    if any(first >= second for first, second in pairwise(owners)):
        raise VerificationError("manifest is not sorted by owner, or holds an owner twice")
