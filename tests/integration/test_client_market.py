"""The Python API against a market in one process: the documented snippets, restarts, exactness."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from client_world import client_world, in_threads

from omnilytics.client import buyer as buyer_module
from omnilytics.client import seller as seller_module
from omnilytics.client.connection import Connection
from omnilytics.client.settings import ClientSettings
from omnilytics.learning.datasets import Batch

PAGE = Path(__file__).parents[2] / "docs" / "python-api.md"


def write_table(path: Path, batch: Batch) -> None:
    names = [*(f"column {index}" for index in range(30)), "diagnosis"]
    rows = np.column_stack([batch.inputs, batch.labels])
    lines = [
        ",".join([*(repr(float(each)) for each in row[:-1]), str(int(row[-1]))]) for row in rows
    ]
    path.write_text("\n".join([",".join(names), *lines]) + "\n")


def test_the_documented_snippets_train_and_pay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buying, selling = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for snippet in (buying, selling):
        lines = [line for line in snippet.splitlines() if line and "import" not in line]
        assert len(lines) <= 12
    monkeypatch.chdir(tmp_path)
    with client_world(tmp_path / "servers") as world:
        published = threading.Event()

        def open_connection(settings: ClientSettings) -> Connection:
            assert settings.keys.keystore is not None
            return world.connection(settings.keys.keystore.name, settings.client.data)

        monkeypatch.setattr(buyer_module, "open_connection", open_connection)
        monkeypatch.setattr(seller_module, "open_connection", open_connection)
        world.expect("buyer", "owner-1", "owner-2", "owner-3")
        market = world.market.reader
        write_table(tmp_path / "sample.csv", world.market.data.sample)
        (tmp_path / "buyer.toml").write_text('[keys]\nkeystore = "buyer"\n[client]\ndata = "b"\n')
        bought: dict[str, object] = {}
        sold: list[dict[str, object]] = [{}, {}, {}]
        wait = world._pause

        async def pause(name: str) -> None:
            published.set()
            await wait(name)

        monkeypatch.setattr(world, "_pause", pause)

        def buy() -> None:
            exec(compile(buying, "python-api.md", "exec"), bought)  # noqa: S102 - our own page

        def sell(index: int) -> Callable[[], None]:
            shard = world.market.data.shards[index]
            folder = tmp_path / f"hospital-{index}"
            folder.mkdir()
            write_table(folder / "patients.csv", shard)
            (folder / "hospital.toml").write_text(
                f'[keys]\nkeystore = "owner-{index + 1}"\n[client]\ndata = "state"\n'
            )
            code = selling.replace("patients.csv", str(folder / "patients.csv"))
            code = code.replace("hospital.toml", str(folder / "hospital.toml"))

            def run() -> None:
                assert published.wait(120)
                exec(compile(code, "python-api.md", "exec"), sold[index])  # noqa: S102

            return run

        in_threads(buy, *(sell(index) for index in range(3)))
        assert [each["earned_wei"] for each in sold] == [3 * 10**15] * 3
        record = market.task(1)  # type: ignore[arg-type]
        assert record.settled_rounds == 3
        assert record.closed
        test = world.market.data.test
        net = bought["net"]
        assert isinstance(net, torch.nn.Module)
        outputs = net(torch.from_numpy(test.inputs)).detach().numpy()
        assert outputs.argmax(axis=1).shape == test.labels.shape
        kept = [path.name for path in (tmp_path / "hospital-0" / "state").rglob("*")]
        assert not [name for name in kept if name.startswith(("package", "sealed", "round"))]
