"""Submissions over HTTP to a real server: first answers hold, and what differs is a conflict."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from market_world import market_world
from submitting import start_submitting

from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.storage.errors import StorageUnavailableError
from omnilytics.storage.repository import Repository
from omnilytics.transport import client, retries
from omnilytics.transport.client import parts_path


def test_a_repeat_gets_the_first_answer_and_another_body_a_conflict(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            submitting = await start_submitting(world)
            others = await submitting.another()
            repository = world.market.servers[0].node.repository
            for server in (1, 2):  # its own package, and one that it holds
                path, body = submitting.path(server), submitting.body(server)
                first = await submitting.put(path, body)
                again = await submitting.put(path, body)
                assert (first.status_code, again.status_code) == (200, 200)
                assert first.content == again.content
                refused = await submitting.put(path, others[server - 1].encode())
                assert refused.status_code == 409
                assert refused.json()["code"] == "conflict"
                assert (await submitting.put(path, body)).content == first.content
            number, owner = submitting.round, submitting.address
            first_header, other = submitting.sealed[0].header, others[0].header
            assert first_header.commitment != other.commitment
            assert repository.has_package(submitting.task, number, owner, first_header.commitment)
            assert not repository.has_package(submitting.task, number, owner, other.commitment)
            assert repository.held(submitting.task, number, 2, owner) == submitting.body(2)

    asyncio.run(scenario())


def test_an_upload_in_parts_survives_a_crash_of_the_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            submitting = await start_submitting(world)
            for server in (1, 2):
                path, body = submitting.path(server), submitting.body(server)
                middle, last = len(body) // 2, len(body) - 1
                stored = await submitting.part(path, body, 0, middle)
                assert stored.status_code == 202
                assert stored.headers["Upload-Offset"] == str(middle + 1)
                world.restart(1)
                headers = submitting.headers(submitting.signed_path(path), body)
                told = await submitting.call("HEAD", path, headers=headers)
                assert (told.status_code, told.headers["Upload-Offset"]) == (204, str(middle + 1))
                for first in (0, middle, middle + 2):
                    elsewhere = await submitting.part(path, body, first, last)
                    assert elsewhere.status_code == 409
                    assert elsewhere.headers["Upload-Offset"] == str(middle + 1)
                whole = await submitting.part(path, body, middle + 1, last)
                assert whole.status_code == 200
                assert whole.content == (await submitting.put(path, body)).content
            uploads = world.market.servers[0].node.repository.uploads
            assert list(uploads.folder.iterdir()) == []

    asyncio.run(scenario())


def test_parts_ask_the_chain_once_in_a_while_and_the_whole_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            submitting = await start_submitting(world)
            path, body = submitting.path(), submitting.body()
            uploading = world.market.servers[0].uploading
            plain, asked, now = uploading._intake.check_takes, [], [0.0]

            async def counted(task: TaskId, number: Round, owner: Address) -> None:
                asked.append(now[0])
                await plain(task, number, owner)

            uploading._intake.check_takes = counted  # type: ignore[method-assign, assignment]
            uploading._clock = lambda: now[0]
            for index, seconds in enumerate((0.0, 1.0, 4.9, 5.0, 9.9)):
                now[0] = seconds
                stored = await submitting.part(path, body, index, index)
                assert stored.status_code == 202
            assert asked == [0.0, 5.0]
            world.market.chain.wait_for_time(
                world.market.reader.round_state(submitting.task).submission_deadline
            )
            late = await submitting.part(path, body, 5, len(body) - 1)
            assert late.status_code == 403  # on the word of the part before, but not the whole
            assert asked == [0.0, 5.0]
            now[0] = 10.0
            assert (await submitting.part(path, body, 0, 0)).status_code == 403
            assert asked == [0.0, 5.0, 10.0]
            folder = world.market.servers[0].node.repository.uploads.folder
            assert list(folder.iterdir()) == []

    asyncio.run(scenario())


def test_nobody_else_adds_to_an_upload_and_a_wrong_whole_is_dropped(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            submitting = await start_submitting(world)
            path, body = submitting.path(), submitting.body()
            headers, last = submitting.headers(path, body), len(body) - 1
            for bad in (
                submitting.headers(submitting.path(2), body),  # for another route
                submitting.headers(path, body, method="HEAD"),
                {},
                replace(submitting, owner=world.market.owners[1]).headers(path, body),
            ):
                assert (await submitting.part(path, body, 0, 99, bad)).status_code in (400, 403)
                told = await submitting.call("HEAD", path, headers=bad)
                assert told.status_code in (400, 403)
            for form in ("bytes 0-99/200000000", "bytes 0-98/400", "bytes 0-1", "bytes 9-0/10"):
                place = headers | {"Content-Range": form}
                assert (await submitting.call("PUT", path, body[:100], place)).status_code in (
                    400,
                    413,
                )
            uploads = world.market.servers[0].node.repository.uploads
            assert list(uploads.folder.iterdir()) == []
            # Bytes that are not those of the signed hash are dropped as a whole.
            false = bytes(100) + body[100:]
            assert (await submitting.part(path, false, 0, 199, headers)).status_code == 202
            refused = await submitting.part(path, false, 200, last, headers)
            assert refused.status_code == 403
            assert list(uploads.folder.iterdir()) == []
            assert (await submitting.put(path, body)).status_code == 200

    asyncio.run(scenario())


def test_a_holder_begins_no_upload_at_another_with_the_owners_header(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            submitting = await start_submitting(world)
            path, body = submitting.path(2), submitting.body(2)
            first, other = (world.market.servers[index].node.address for index in (0, 2))
            for signed in (path, parts_path(path, other)):  # for any, and for server 3
                headers = submitting.headers(signed, body)
                assert (await submitting.part(path, body, 0, 99, headers)).status_code == 403
                assert (await submitting.call("HEAD", path, headers=headers)).status_code == 403
            headers = submitting.headers(parts_path(path, first), body)
            assert (await submitting.part(path, body, 0, 99, headers)).status_code == 202
            last = len(body) - 1
            answer = await submitting.part(path, body, 100, last, headers)
            assert answer.status_code == 200

    asyncio.run(scenario())


def test_a_whole_upload_waits_for_a_store_that_does_not_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            submitting = await start_submitting(world)
            path, body = submitting.path(), submitting.body()
            last = len(body) - 1

            def gone(*_arguments: object) -> None:
                raise StorageUnavailableError("the database is busy")

            assert (await submitting.part(path, body, 0, 199)).status_code == 202
            with monkeypatch.context() as patch:
                patch.setattr(Repository, "claim_receipt", gone)
                busy = await submitting.part(path, body, 200, last)
                assert (busy.status_code, busy.headers["Retry-After"]) == (503, "2")
            assert (await submitting.part(path, body, 200, last)).status_code == 200

    asyncio.run(scenario())


def test_owners_submit_in_parts_over_connections_that_break(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PARTS_ABOVE_BYTES", 1_000)
    monkeypatch.setattr(retries, "PART_BYTES", 5_000)
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.0)
    seen: list[str] = []

    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            world.cut_off(5)  # so that packages are held in parts too
            for server in range(1, 5):
                endpoint = world.endpoint(server)
                inner = world.market.network._clients[endpoint]
                transport = Breaking(inner, seen)
                world.market.network._clients[endpoint] = httpx.AsyncClient(transport=transport)
            opened, contributions = await world.open_and_contribute([0, 1])
            for contribution in contributions.values():
                assert len(contribution.certificate.receipts) == 4
                assert len(contribution.certificate.held) >= 2
            for server in range(1, 5):
                world.reconnect(server)
            settled = await world.settle(opened)
            assert settled is not None
            assert settled.accepted_count == 2

    asyncio.run(scenario())
    assert seen.count("HEAD") > 5
    assert seen.count("PUT") > 50


class Breaking(httpx.AsyncBaseTransport):
    """Breaks every third part off, after the server took it or before."""

    def __init__(self, inner: httpx.AsyncClient, seen: list[str]) -> None:
        self._inner = inner
        self._seen = seen
        self._parts = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._seen.append(request.method)
        is_part = "Content-Range" in request.headers
        self._parts += is_part
        if is_part and self._parts % 6 == 3:
            raise httpx.WriteError("connection reset", request=request)
        answer = await self._inner._transport.handle_async_request(request)
        if is_part and self._parts % 6 == 0:
            raise httpx.ReadError("connection reset", request=request)
        return answer
