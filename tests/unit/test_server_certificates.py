"""Certificates at a server: merged and chosen right, whatever the number of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from wire_samples import address, certificate, signature

from omnilytics.chain.reader import MarketReader
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.roles.server import board
from omnilytics.roles.server.node import _RECEIVED_BLOCK, ServerNode
from omnilytics.storage.repository import PublicRecord, Repository
from omnilytics.transport.hpke import HpkeKey
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.transcript import Certificate, ReceiptSignature

TASK, ROUND = TaskId(1), Round(2)


class CountingRepository(Repository):
    """Counts the records that are read."""

    rows = 0

    def _records(self, query: Any, values: dict[str, object]) -> list[PublicRecord]:
        found = super()._records(query, values)
        self.rows += len(found)
        return found


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ServerNode]:
    """Return a node that needs no chain: the block at which records come in is given."""
    key = SigningKey.generate(SystemRandomness())
    repository = CountingRepository(
        tmp_path, chain_id=1, contract=address("contract"), server=key.address
    )
    token = _RECEIVED_BLOCK.set(7)
    yield ServerNode(
        key=key,
        hpke_key=HpkeKey.generate(SystemRandomness()),
        repository=repository,
        market=cast(MarketReader, None),
        writer=cast(MarketWriter, None),
        connect=lambda _endpoint: pytest.fail("nobody is asked"),
    )
    _RECEIVED_BLOCK.reset(token)
    repository.close()


def with_receipts(owner: str, servers: Sequence[int]) -> Certificate:
    receipts = tuple(
        ReceiptSignature(server=server, signature=signature(f"{owner} {server}"))
        for server in servers
    )
    return certificate(owner).model_copy(update={"receipts": receipts, "held": ()})


def publish(node: ServerNode, entry: Certificate, *, pulled: bool = False) -> bool:
    return node.publish_certificate(TASK, ROUND, entry, pulled=pulled)


def receipts(node: ServerNode, owner: Address, kinds: tuple[str, ...]) -> list[int]:
    entry = node.certificates(TASK, ROUND, kinds)[owner]
    return [receipt.server for receipt in entry.receipts]


BOTH = (board.CERTIFICATE, board.PULLED_CERTIFICATE)


def test_what_two_certificates_of_an_owner_show_is_put_together(node: ServerNode) -> None:
    for other in ("before", "between", "zuletzt"):
        assert publish(node, with_receipts(other, (1, 2, 3, 4, 5)))
    owner = address("owner")
    assert publish(node, with_receipts("owner", (1, 2, 3, 4)))
    assert receipts(node, owner, BOTH) == [1, 2, 3, 4]
    assert not publish(node, with_receipts("owner", (1, 2, 3, 4)))  # nothing new
    assert publish(node, with_receipts("owner", (2, 3, 4, 5)), pulled=True)
    assert receipts(node, owner, BOTH) == [1, 2, 3, 4, 5]
    # It insists on what it was given itself, and that is still the first one.
    assert receipts(node, owner, (board.CERTIFICATE,)) == [1, 2, 3, 4]
    assert publish(node, with_receipts("owner", (2, 3, 4, 5)))
    assert receipts(node, owner, (board.CERTIFICATE,)) == [1, 2, 3, 4, 5]
    assert len(node.certificates(TASK, ROUND)) == 4


def test_a_second_commitment_is_not_taken(node: ServerNode) -> None:
    first = with_receipts("owner", (1, 2, 3, 4))
    assert publish(node, first)
    second = with_receipts("owner", (1, 2, 3, 4, 5)).model_copy(
        update={"commitment": certificate("another").commitment}
    )
    assert not publish(node, second)
    assert not publish(node, second, pulled=True)
    assert node.certificates(TASK, ROUND) == {first.owner: first}


@pytest.mark.parametrize("pulled", [False, True])
def test_a_certificate_costs_the_same_among_many_owners(node: ServerNode, pulled: bool) -> None:
    repository = cast(CountingRepository, node.repository)
    read = []
    for index in range(40):
        before = repository.rows
        assert publish(node, with_receipts(f"owner {index}", (1, 2, 3, 4)))
        if pulled:
            assert publish(node, with_receipts(f"owner {index}", (2, 3, 4, 5)), pulled=True)
        read.append(repository.rows - before)
    assert max(read) <= 1
    assert len(node.certificates(TASK, ROUND)) == 40
