"""Submissions over HTTP to a real server: first answers hold, and what differs is a conflict."""

from __future__ import annotations

import asyncio
from pathlib import Path

from market_world import market_world
from submitting import start_submitting


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
