"""The two sides of a submission: what an owner and what each server spends on it."""

from __future__ import annotations

from functools import partial
from typing import Any

from omnilytics.benchmark.measure import measure
from omnilytics.benchmark.parties import Parties
from omnilytics.foundation.units import Hash32
from omnilytics.validity.challenge import Challenge
from omnilytics.wire.package import SealedPackage


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
        sealed = parties.submission()[-1]
        row = measure(
            "check",
            partial(check_submission, parties, sealed, parties.new_challenge()),
            dimension=dimension,
            servers=servers,
            wire_bytes=len(sealed.encode()),
            repeats=repeats,
        )
        rows.append(row.as_dict())
    return rows


def check_submission(parties: Parties, sealed: SealedPackage, challenge: Challenge) -> Hash32:
    """Open, check against the commitment, and compute the word."""
    opening = parties.open(sealed)
    parties.check(opening)
    return parties.word(opening, challenge)
