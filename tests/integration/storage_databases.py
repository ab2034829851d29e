"""The same tests on both databases."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from postgres_cluster import cluster, why_not

from omnilytics.foundation.units import Address, Hash32, Wei
from omnilytics.storage.database import default_url
from omnilytics.storage.outbox import OutboxRow
from omnilytics.storage.repository import Repository

SQLITE, POSTGRESQL = "sqlite", "postgresql"
BOTH = [
    SQLITE,
    pytest.param(
        POSTGRESQL, marks=pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
    ),
]
NEEDS_POSTGRESQL = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


def digest(label: str) -> Hash32:
    return Hash32(hashlib.sha256(label.encode()).digest())


def address(label: str) -> Address:
    return Address(digest(label)[:20])


CONTRACT, SERVER = address("contract"), address("server")


def outbox_row(sender: Address, nonce: int, name: Hash32) -> OutboxRow:
    """Return a row of a call that has one transaction."""
    return OutboxRow(
        sender=sender,
        nonce=nonce,
        replacement=0,
        hash=name,
        raw_transaction=b"raw",
        target=None,
        data=b"",
        value_wei=Wei(1),
        gas=1,
        max_fee_wei=Wei(1),
        priority_fee_wei=Wei(1),
    )


def new_url(kind: str, folder: Path) -> str:
    """Return the URL of a fresh database of a kind."""
    if kind == POSTGRESQL:
        return cluster().new_database()
    folder.mkdir(parents=True, exist_ok=True)
    return default_url(folder)


def url_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_url(str(request.param), tmp_path / "data")


def open_store(
    folder: Path, url: str, *, server: Address = SERVER, reconcile_when_new: bool = False
) -> Repository:
    return Repository(
        folder,
        chain_id=1,
        contract=CONTRACT,
        server=server,
        database_url=url,
        reconcile_when_new=reconcile_when_new,
    )


@contextmanager
def opened(folder: Path, url: str, *, reconcile_when_new: bool = False) -> Iterator[Repository]:
    repository = open_store(folder, url, reconcile_when_new=reconcile_when_new)
    try:
        yield repository
    finally:
        repository.close()
