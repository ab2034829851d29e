"""Owners and servers of a whole round, made by the reference alone; seeded, so that it repeats."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from random import Random
from typing import Any

import reference_packages as packages
import reference_rounds as rounds
from reference_cbor import encode
from reference_field import P, Pair, RefusedError, bytes_of_elements
from reference_hashes import RoundContext, content_hash, joint_randomness, payouts_root
from reference_messages import Value, address_of_key, digest_of, sign_digest
from reference_statement import (
    DealingRandomness,
    Terms,
    deal,
    proof_bits,
    word_bytes,
    word_pair,
)
from reference_streams import challenge_of_seed

OFFERED = ((5, 1, 1), (7, 2, 1), (10, 3, 1), (13, 4, 1), (11, 3, 2), (3, 1, 0), (5, 2, 0))


def random_vector(random: Random, terms: Terms) -> list[int]:
    """Signed integers with every component's squared norm within S."""
    integers: list[int] = []
    for size in terms.sizes:
        most = int((terms.norm_bound / size) ** 0.5)
        integers += [random.randint(-most, most) for _ in range(size)]
    return integers


def random_pair(random: Random) -> Pair:
    return random.randrange(P), random.randrange(P)


def random_dealing(random: Random, terms: Terms) -> DealingRandomness:
    return DealingRandomness(
        seeds=tuple(random.randbytes(32) for _ in range(terms.privacy)),
        m0_free=tuple(random_pair(random) for _ in range(terms.privacy)),
        m1_secret=random_pair(random),
    )


class Round:
    """One round of one task with the keys of everybody."""

    def __init__(
        self,
        terms: Terms,
        seed: int,
        *,
        max_owners: int = 3,
        listed: bool = False,
        owners: int = 3,
    ) -> None:
        self.random = Random(seed)
        self.terms = terms
        self.server_keys = {j: self.random.randbytes(32) for j in range(1, terms.servers + 1)}
        self.hpke_keys = {j: self.random.randbytes(32) for j in self.server_keys}
        keys = [self.random.randbytes(32) for _ in range(owners)]
        self.owner_keys = {address_of_key(key): key for key in keys}
        context = RoundContext(
            chain_id=31337,
            contract=self.random.randbytes(20),
            task=self.random.randrange(1, 2**63),
            round=self.random.randrange(1, 2**31),
            artefact_hash=self.random.randbytes(32),
            block_hash=self.random.randbytes(32),
        )
        self.market = rounds.Market(
            terms=terms,
            context=context,
            members=tuple(address_of_key(key) for key in self.server_keys.values()),
            max_owners=max_owners,
            reward_wei=10**15,
            admitted=frozenset(self.owner_keys) if listed else None,
        )
        self.seed = self.random.randbytes(32)
        self.openings: dict[bytes, list[dict[str, Any]]] = {}

    @property
    def context(self) -> RoundContext:
        return self.market.context

    @property
    def owners(self) -> list[bytes]:
        return sorted(self.owner_keys)

    def sign(self, key: bytes, kind: str, fields: Mapping[str, Value]) -> bytes:
        context = self.context
        whole = {"task": context.task, "round": context.round, **fields}
        return sign_digest(key, digest_of(context.chain_id, context.contract, kind, whole))

    def submit(
        self, owner: bytes, vector: list[int] | None = None, spoiled: Iterable[int] = ()
    ) -> list[dict[str, Any]]:
        """Everybody's package in clear; `spoiled` servers get a bad share that matches C."""
        terms, drawn = self.terms, random_dealing(self.random, self.terms)
        integers = random_vector(self.random, terms) if vector is None else vector
        blinds = [self.random.randbytes(32) for _ in self.server_keys]
        ctx = self.context.of_owner(owner)
        nothing = [0] * terms.bit_count
        shares = deal(terms, integers, nothing, drawn)
        joint = self.joint_of(ctx, shares, drawn.seeds, blinds)
        shares = deal(terms, integers, proof_bits(terms, integers, joint), drawn)
        for server in spoiled:
            if server <= terms.privacy:
                raise RefusedError("a seed cannot be spoiled")
            shares[server][terms.dimension] = (shares[server][terms.dimension] + 1) % P
        commitment, openings = packages.openings_of_dealing(
            terms, self.context, owner, shares, drawn.seeds, blinds
        )
        signature = self.sign(self.owner_keys[owner], "Submission", {"commitment": commitment})
        for opening in openings:
            opening["header"]["submission_signature"] = signature
        self.openings[owner] = openings
        return openings

    def joint_of(
        self,
        ctx: bytes,
        shares: Mapping[int, list[int]],
        seeds: Sequence[bytes],
        blinds: Sequence[bytes],
    ) -> bytes:
        secrets = {j: bytes_of_elements(shares[j]) for j in shares}
        secrets |= dict(enumerate(seeds, start=1))
        x_parts = [
            packages.parts_of(self.terms, ctx, j, blinds[j - 1], secrets[j])[0]
            for j in sorted(secrets)
        ]
        return joint_randomness(ctx, x_parts)

    def sealed(self, owner: bytes, server: int) -> Any:
        """A sealed package."""
        opening = self.openings[owner][server - 1]
        pieces = max(1, len(packages.pieces_of(opening["content"])))
        ephemerals = [self.random.randbytes(32) for _ in range(pieces)]
        public = packages.public_key(self.hpke_keys[server])
        return packages.seal_opening(self.context, opening, public, ephemerals)

    def receipt(self, owner: bytes, server: int) -> dict[str, Any]:
        fields = {"owner": owner, "commitment": self.commitment(owner)}
        return {
            "server": server,
            "signature": self.sign(self.server_keys[server], "Receipt", fields),
        }

    def held(self, owner: bytes, holder: int, server: int, package_hash: bytes) -> dict[str, Any]:
        fields = {
            "owner": owner,
            "commitment": self.commitment(owner),
            "for_server": self.market.member(server),
            "package_hash": package_hash,
        }
        signature = self.sign(self.server_keys[holder], "Held", fields)
        return {
            "holder": holder,
            "server": server,
            "package_hash": package_hash,
            "signature": signature,
        }

    def commitment(self, owner: bytes) -> bytes:
        return bytes(self.openings[owner][0]["header"]["commitment"])

    def certificate(self, owner: bytes, without: Collection[int] = ()) -> dict[str, Any]:
        """Receipts of all but `without`; for those, e + 1 Held by the lowest others."""
        held = []
        for server in sorted(without):
            package_hash = content_hash(b"package %d" % server)
            holders = [j for j in self.server_keys if j != server][: self.terms.errors + 1]
            held += [self.held(owner, holder, server, package_hash) for holder in holders]
        return {
            "owner": owner,
            "commitment": self.commitment(owner),
            "submission_signature": self.openings[owner][0]["header"]["submission_signature"],
            "receipts": [self.receipt(owner, j) for j in self.server_keys if j not in without],
            "held": held,
        }

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return {
            "task": self.context.task,
            "round": self.context.round,
            "certificates": [self.certificate(owner) for owner in sorted(self.openings)],
        }

    def honest_word(self, owner: bytes, server: int) -> bytes:
        opening = self.openings[owner][server - 1]
        share = packages.check_opening(self.terms, self.context, opening)
        joint = rounds.joint_of_header(self.context, opening["header"])
        challenge = challenge_of_seed(self.seed, self.terms.tests)
        return word_bytes(word_pair(self.terms, share, joint, challenge))

    def server_words(
        self, server: int, lies: Mapping[bytes, bytes] | None = None
    ) -> dict[str, Any]:
        """A ServerWords; `lies` are the words of some owners instead of the true ones."""
        lied = lies or {}
        words = [
            lied[owner] if owner in lied else self.honest_word(owner, server)
            for owner in sorted(self.openings)
        ]
        return {
            "server": server,
            "submissions_root": rounds.manifest_root(self.manifest),
            "seed": self.seed,
            "words": words,
            "signatures": [self.signed_word(server, i, word) for i, word in enumerate(words)],
        }

    def signed_word(self, server: int, index: int, word: bytes) -> bytes:
        fields = rounds.word_fields(self.manifest, self.seed, index, word)
        return self.sign(self.server_keys[server], "Word", fields)

    def two_words(self, server: int, index: int, first: bytes, second: bytes) -> dict[str, Any]:
        return {
            "server": server,
            "owner": sorted(self.openings)[index],
            "first_word": first,
            "first_signature": self.signed_word(server, index, first),
            "second_word": second,
            "second_signature": self.signed_word(server, index, second),
        }

    def transcript(
        self,
        words: Sequence[Any],
        *,
        opened: Collection[tuple[bytes, int]] = (),
        convictions: Sequence[Any] = (),
        earlier: Sequence[Collection[bytes]] = (),
    ) -> dict[str, Any]:
        """The transcript that follows from evidence."""
        owners = sorted(self.openings)
        signed = {
            entry["server"]: dict(zip(owners, entry["words"], strict=True)) for entry in words
        }
        convicts = {
            (owner, server)
            for owner, server in opened
            if server in signed
            and rounds.opening_reproduces(
                self.market,
                self.openings[owner][server - 1],
                self.commitment(owner),
                self.seed,
                signed[server][owner],
            )
        }
        convicted = {entry["server"] for entry in convictions}
        verdict = rounds.resolve(
            self.terms, self.market.max_owners, self.seed, owners, signed, convicted, convicts
        )
        reward = self.market.reward_wei
        payouts = rounds.cumulative_payouts([*earlier, verdict.accepted], reward)
        references = [
            {
                "owner": owner,
                "server": server,
                "opening_hash": content_hash(encode(self.openings[owner][server - 1])),
            }
            for owner, server in sorted(opened)
        ]
        return {
            "version": 1,
            "manifest": self.manifest,
            "seed": self.seed,
            "words": sorted(words, key=lambda entry: entry["server"]),
            "openings": references,
            "convictions": list(convictions),
            "accepted": verdict.accepted,
            "v_bitmap": rounds.v_bitmap(verdict.v),
            "previous_payouts_root": payouts_root(rounds.cumulative_payouts(earlier, reward)),
            "payouts": [
                {"owner": owner, "cumulative_wei": payouts[owner]} for owner in sorted(payouts)
            ],
        }
