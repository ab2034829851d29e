"""Two processes of one server: one PostgreSQL database, the files on storage that both reach."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from devnet import anvil_at, anvil_binary
from distributed import Distributed, contribute, distributed
from postgres_cluster import cluster, why_not
from server_process import ServerFiles, free_ports, prepare_server, running_server

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(anvil_binary() is None, reason="needs anvil: make devnet-tools"),
    pytest.mark.skipif(why_not() is not None, reason=why_not() or ""),
]


def test_a_standby_takes_over_the_tasks_of_a_server_that_died(tmp_path: Path) -> None:
    async def scenario() -> None:
        (port,) = free_ports(1)
        urls = iter([cluster().new_database()])
        with anvil_at(port, None) as anvil:
            database_url = lambda: next(urls, "")  # noqa: E731 - of the first server alone
            async with distributed(anvil, tmp_path, database_url=database_url) as world:
                await _taken_over(world, tmp_path / "standby")

    asyncio.run(scenario())


async def _taken_over(world: Distributed, folder: Path) -> None:
    await world.publish()
    (number,) = [each for each in world.living if "storage" in world.server(each).files.settings]
    first = world.server(number)
    opened = await world.market.model_owner.open_round()
    entries = await contribute(world, opened, world.market.owners[:2])
    files = _standby_of(first.files, world, folder)
    with running_server(files) as standby:
        standby.wait_for(lambda: "following task" in _events(files), "following")
        first.wait_for(lambda: "took the task" in _events(first.files), "held")
        assert "took the task" not in _events(files)
        world.lose(number)
        standby.wait_for(lambda: "took the task" in _events(files), "taken over")
        settled = await world.settle(opened)
        assert settled.accepted_count == len(entries)
        # It answered in the dead one's place; the others may have settled before its Final.
        text = httpx.get(files.operations + "/metrics").text
        assert 'omnilytics_locks_given_total{kind="seed"} 1.0' in text
        assert standby.stop() == 0


def _standby_of(first: ServerFiles, world: Distributed, folder: Path) -> ServerFiles:
    url, market = str(world.market.options.chain_url), world.market.reader.address
    files = prepare_server(folder, url, market, first.key, first.hpke_key)
    for section in ("chain", "storage", "rounds"):
        files.settings[section] = first.settings[section]
    files.write()
    (folder / "data").mkdir()
    (folder / "data" / "content").symlink_to(first.folder / "data" / "content")
    return files


def _events(files: ServerFiles) -> list[str]:
    return [line["event"] for line in files.lines()]
