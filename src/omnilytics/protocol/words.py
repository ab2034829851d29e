"""Signed words of servers: making, checking and comparing them (protocol.md section 6.5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Hash32
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.validity.word import Word
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.messages import Word as WordMessage
from omnilytics.wire.signatures import SigningKey, verify
from omnilytics.wire.transcript import Certificate, Manifest, ServerWords, TwoWords


def sign_words(
    server: int,
    words: Sequence[Hash32],
    *,
    manifest: Manifest,
    submissions_root: Hash32,
    seed: Hash32,
    key: SigningKey,
    domain: Domain,
) -> ServerWords:
    """Sign one packed word for every sealed owner, in the manifest's order."""
    signatures = tuple(
        key.sign(_message(manifest, submissions_root, seed, certificate, word), domain)
        for certificate, word in zip(manifest.certificates, words, strict=True)
    )
    return ServerWords(
        server=server,
        submissions_root=submissions_root,
        seed=seed,
        words=tuple(words),
        signatures=signatures,
    )


def check_server_words(
    entry: ServerWords,
    *,
    manifest: Manifest,
    submissions_root: Hash32,
    seed: Hash32,
    parameters: TaskParameters,
    domain: Domain,
) -> tuple[Word, ...]:
    """Return the words of one server; raises VerificationError unless all are there and signed."""
    if (entry.submissions_root, entry.seed) != (submissions_root, seed):
        raise VerificationError("words under another challenge", server=entry.server)
    if not len(entry.words) == len(entry.signatures) == len(manifest.certificates):
        raise VerificationError(
            "not one word for every sealed owner",
            got=len(entry.words),
            want=len(manifest.certificates),
            server=entry.server,
        )
    signer = parameters.member(entry.server)
    for certificate, word, signature in zip(
        manifest.certificates, entry.words, entry.signatures, strict=True
    ):
        message = _message(manifest, submissions_root, seed, certificate, word)
        verify(message, signature, signer, domain)
    return tuple(Word.from_bytes(word) for word in entry.words)


def find_two_words(manifest: Manifest, entries: Iterable[ServerWords]) -> list[TwoWords]:
    """Return evidence against every server that signed two different words for one owner.

    Args:
        manifest: The sealed manifest.
        entries: Checked words, perhaps several entries of one server.
    """
    first: dict[int, ServerWords] = {}
    found: dict[int, TwoWords] = {}
    for entry in entries:
        earlier = first.setdefault(entry.server, entry)
        for place, owner in enumerate(manifest.owners):
            if entry.server not in found and earlier.words[place] != entry.words[place]:
                found[entry.server] = TwoWords(
                    server=entry.server,
                    owner=owner,
                    first_word=earlier.words[place],
                    first_signature=earlier.signatures[place],
                    second_word=entry.words[place],
                    second_signature=entry.signatures[place],
                )
    return [found[server] for server in sorted(found)]


def check_two_words(
    evidence: TwoWords,
    *,
    manifest: Manifest,
    submissions_root: Hash32,
    seed: Hash32,
    parameters: TaskParameters,
    domain: Domain,
) -> None:
    """Raise VerificationError unless the evidence convicts the server it names."""
    if evidence.first_word == evidence.second_word:
        raise VerificationError("the two words are the same", server=evidence.server)
    certificates = [entry for entry in manifest.certificates if entry.owner == evidence.owner]
    if not certificates:
        raise VerificationError("words about an owner that is not sealed", server=evidence.server)
    signer = parameters.member(evidence.server)
    for word, signature in (
        (evidence.first_word, evidence.first_signature),
        (evidence.second_word, evidence.second_signature),
    ):
        message = _message(manifest, submissions_root, seed, certificates[0], word)
        verify(message, signature, signer, domain)


def _message(
    manifest: Manifest,
    submissions_root: Hash32,
    seed: Hash32,
    certificate: Certificate,
    word: Hash32,
) -> WordMessage:
    return WordMessage(
        task=manifest.task,
        round=manifest.round,
        submissions_root=submissions_root,
        seed=seed,
        owner=certificate.owner,
        commitment=certificate.commitment,
        word=word,
    )
