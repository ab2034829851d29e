"""A whole round among all parties of one process, without chain and network.

Owners protect; servers receive, check, answer the challenge, judge and add up; the model owner
recovers the sum, which must equal the sum of the owners' integers, entry by entry. Packages lie in
files, so memory does not grow with the number of owners.

Not included: the chain, the network, databases, the votes of servers on seals, seeds and finals
(three signatures each), certificates of absent servers, and faults. All parties work one after the
other. A server remembers the signatures that it checked; here each begins each of receiving,
checking the manifest and judging without.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from omnilytics.algebra.fixed_point import IntegerVector
from omnilytics.benchmark.parties import Parties
from omnilytics.benchmark.phases import Phases
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.mapping import mapped
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.certificate import build_manifest, check_manifest
from omnilytics.protocol.settlement import (
    PayoutState,
    SealedRound,
    build_transcript,
    check_transcript,
    settlement_message,
)
from omnilytics.protocol.words import sign_words
from omnilytics.storage.files import ContentFiles
from omnilytics.storage.packages import StoredPackage
from omnilytics.transport.sealed_files import write_sealed
from omnilytics.validity.challenge import Challenge
from omnilytics.wire.hashing import EMPTY_ROOT
from omnilytics.wire.messages import Receipt
from omnilytics.wire.package import PackageHeader, read_sealed
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.transcript import (
    Certificate,
    Manifest,
    ReceiptSignature,
    ServerWords,
    Transcript,
)

_FIRST = PayoutState({}, EMPTY_ROOT)


class WholeRound:
    """One round, run once by `run`; afterwards the attributes say what it took.

    Args:
        parties: The parties; the task pays as many owners as take part.
        folder: An empty folder for packages, n times 8 D bytes for each owner.

    Attributes:
        phases: Time and memory by phase.
        upload_bytes: What all owners sent to all servers.
        aggregate_bytes: What all servers sent to the model owner.
        transcript: The round's record.
    """

    def __init__(self, parties: Parties, folder: Path) -> None:
        self.phases = Phases()
        self.upload_bytes = 0
        self.aggregate_bytes = 0
        self.transcript: Transcript
        self._parties = parties
        self._folder = folder
        self._headers: dict[Address, PackageHeader] = {}
        self._sealed: dict[Address, list[Path]] = {}
        self._stores = {
            server: ContentFiles(folder / f"server-{server}")
            for server in parties.parameters.servers
        }
        self._kept: dict[tuple[int, Address], Hash32] = {}
        self._receipts: dict[Address, list[ReceiptSignature]] = {}
        self._sum: IntegerVector = np.zeros(parties.dimension, dtype=np.int64)

    def run(self) -> None:
        """Run all phases.

        Raises:
            VerificationError: An owner was not accepted, or the recovered sum is not the owners'.
        """
        parties = self._parties
        servers = parties.parameters.servers
        for key in parties.new_keys(parties.parameters.max_owners):
            self._protect(key)
        for server in servers:
            parties.forget_signers()
            for owner in self._headers:
                self._receive(server, owner)
        manifest = self._manifest()
        seed = Hash32(parties.randomness.bytes(32))
        rounds = {server: self._sealed_round(manifest, seed) for server in servers}
        words = [self._words(server, rounds[server]) for server in servers]
        self._judge(rounds, words)
        self._recover([self._aggregate(server) for server in servers])

    def _protect(self, key: SigningKey) -> None:
        """Owner: protect one vector and send it to all servers."""
        parties, phase = self._parties, self.phases.phase
        vector = parties.vector()
        with phase("quantise", "owner"):
            values = parties.quantise(vector)
        self._sum += values
        with phase("share, prove, hash, sign", "owner"):
            packages = parties.build(values, key)
        self._headers[key.address] = packages.headers[0]
        folder = self._folder / key.address.hex()
        folder.mkdir()
        with phase("seal into files", "owner"):
            files = write_sealed(packages, parties.public_keys, parties.context, folder)
        self.upload_bytes += sum(file.path.stat().st_size for file in files)
        self._sealed[key.address] = [file.path for file in files]

    def _receive(self, server: int, owner: Address) -> None:
        """Server: open, check and keep one package, and give a receipt."""
        parties, phase = self._parties, self.phases.phase
        source = self._sealed[owner][server - 1]
        limit = parties.parameters.package_bytes
        with self._stores[server].draft() as draft:
            with phase("open, check, write", "server"):
                parties.receive(read_sealed(mapped(source), max_bytes=limit), draft.write)
            with phase("flush to disk", "server"):
                self._kept[server, owner] = draft.keep()
        source.unlink()
        with phase("give receipt", "server"):
            receipt = Receipt(
                task=parties.context.task,
                round=parties.context.round,
                owner=owner,
                commitment=self._headers[owner].commitment,
            )
            signature = parties.server_keys[server - 1].sign(receipt, parties.context.domain)
        self._receipts.setdefault(owner, []).append(
            ReceiptSignature(server=server, signature=signature)
        )

    def _manifest(self) -> Manifest:
        """Sequencer: list the certified owners; every server: check the list."""
        context, parameters = self._parties.context, self._parties.parameters
        certificates = [
            Certificate(
                owner=owner,
                commitment=header.commitment,
                submission_signature=header.submission_signature,
                receipts=tuple(self._receipts[owner]),
            )
            for owner, header in self._headers.items()
        ]
        manifest = build_manifest(context.task, context.round, certificates)
        for _ in parameters.servers:
            self._parties.forget_signers()
            with self.phases.phase("check manifest", "server"):
                check_manifest(
                    manifest,
                    parameters=parameters,
                    domain=context.domain,
                    task=context.task,
                    round_number=context.round,
                    known=certificates,
                )
        return manifest

    def _sealed_round(self, manifest: Manifest, seed: Hash32) -> SealedRound:
        """Server: expand the challenge."""
        parties = self._parties
        with self.phases.phase("expand challenge", "server"):
            challenge = Challenge(parties.parameters.statement, seed)
        return SealedRound(
            context=parties.context,
            parameters=parties.parameters,
            manifest=manifest,
            seed=seed,
            challenge=challenge,
        )

    def _words(self, server: int, sealed: SealedRound) -> ServerWords:
        """Server: one signed word for every owner."""
        words = []
        for owner in sealed.manifest.owners:
            package = self._stored(server, owner)
            with self.phases.phase("word", "server"):
                words.append(self._parties.word(package, sealed.challenge))
        with self.phases.phase("sign words", "server"):
            return sign_words(
                server,
                words,
                manifest=sealed.manifest,
                submissions_root=sealed.submissions_root,
                seed=sealed.seed,
                key=self._parties.server_keys[server - 1],
                domain=sealed.context.domain,
            )

    def _judge(self, rounds: dict[int, SealedRound], words: list[ServerWords]) -> None:
        """Sequencer: propose a transcript; every server: judge it, and sign the settlement."""
        first = self._parties.parameters.servers[0]
        transcript, _ = build_transcript(rounds[first], words, [], {}, _FIRST)
        for server, sealed in rounds.items():
            self._parties.forget_signers()
            with self.phases.phase("judge", "server"):
                resolution = check_transcript(transcript, sealed, {}, _FIRST)
            with self.phases.phase("sign settlement", "server"):
                message = settlement_message(transcript, words[server - 1], sealed.context)
                self._parties.server_keys[server - 1].sign(message, sealed.context.domain)
            if resolution.rejected or resolution.faults:
                raise VerificationError("an honest party was blamed", got=resolution)
        self.transcript = transcript

    def _aggregate(self, server: int) -> Path:
        """Server: add up its shares and seal the sum into a file."""
        length = self._parties.parameters.share_elements
        packages = [self._stored(server, owner) for owner in self.transcript.accepted]
        answer = self._folder / f"sum-{server}"
        with self.phases.phase("add up, seal sum", "server"), answer.open("xb") as out:
            shares = [package.share(length) for package in packages]
            root = self.transcript.accepted_root()
            out.writelines(self._parties.seal_sum(shares, root, server))
        self.aggregate_bytes += answer.stat().st_size
        return answer

    def _recover(self, answers: list[Path]) -> None:
        """Model owner: open the servers' answers, verify, interpolate and decode."""
        root = self.transcript.accepted_root()
        with self.phases.phase("open, recover", "model owner"):
            released = [
                self._parties.released(mapped(answer), root, server)
                for server, answer in enumerate(answers, start=1)
            ]
            total = self._parties.recover_integers(released)
        if not np.array_equal(total, self._sum):
            raise VerificationError("the recovered sum is not the sum of the owners' integers")

    def _stored(self, server: int, owner: Address) -> StoredPackage:
        """Server: take a package that it keeps, and compare it with its hash."""
        with self.phases.phase("verify kept package", "server"):
            return StoredPackage(self._stores[server], self._kept[server, owner]).verify()
