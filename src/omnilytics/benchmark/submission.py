"""The two sides of a submission: what an owner and what each server spends on it."""

from __future__ import annotations

from functools import partial
from typing import Any

from omnilytics.benchmark.measure import measure
from omnilytics.benchmark.parties import Parties
from omnilytics.foundation.units import Hash32
from omnilytics.validity.challenge import Challenge
from omnilytics.wire.package import Opening, OpeningHead, read_sealed


def protect(dimensions: list[int], *, servers: int, repeats: int) -> list[dict[str, Any]]:
    """Measure the owner's work for all servers; one row for each dimension."""
    rows = []
    for dimension in dimensions:
        parties = Parties(dimension, servers)
        vector, (key,) = parties.vector(), parties.new_keys(1)
        sent = sum(len(package.encode()) for package in parties.submission())
        row = measure(
            "protect",
            partial(parties.protect, vector, key),
            dimension=dimension,
            servers=servers,
            wire_bytes=sent,
            repeats=repeats,
        )
        rows.append(row.as_dict())
    return rows


def check(dimensions: list[int], *, servers: int, repeats: int) -> list[dict[str, Any]]:
    """Measure one server's work on one owner, for a server with an explicit share."""
    rows = []
    for dimension in dimensions:
        parties = Parties(dimension, servers)
        body = parties.submission()[-1].encode()
        row = measure(
            "check",
            partial(check_submission, parties, body, parties.new_challenge()),
            dimension=dimension,
            servers=servers,
            wire_bytes=len(body),
            repeats=repeats,
        )
        rows.append(row.as_dict())
    return rows


def check_submission(parties: Parties, body: bytes, challenge: Challenge) -> Hash32:
    """Open a package, check it against the commitment, keep it in memory, compute the word."""
    parties.forget_signers()
    kept: list[bytes] = []
    sealed = read_sealed(body, max_bytes=parties.parameters.package_bytes)
    parties.receive(sealed, kept.append)
    head, _ = OpeningHead.read(kept[0])
    opening = Opening(
        header=head.header, blind=head.blind, seed=head.seed, content=b"".join(kept[1:])
    )
    return parties.word(opening, challenge)
