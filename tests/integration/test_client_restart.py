"""A buyer that is killed at the edges of a round, and sums that come out exactly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from client_world import Conductor, client_world

from omnilytics.chain.bindings.market import RoundOpened
from omnilytics.client.bought import BoughtRound, BoughtTask
from omnilytics.client.buyer import ModelOwner
from omnilytics.client.events import Event
from omnilytics.client.joined import JoinedTask
from omnilytics.client.seller import DataOwner
from omnilytics.foundation.errors import ConfigError, KeyMaterialError, UsageError
from omnilytics.foundation.units import Hash32, TaskId
from omnilytics.perturbation.round_secret import restore_round_secret
from omnilytics.roles.task_view import task_layout, task_profile


class KilledError(Exception):
    """Stands for the end of the process."""


def small_net(seed: int) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(30, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))


def killed_at(kind: str) -> Callable[[Event], None]:
    def kill(event: Event) -> None:
        if event.kind == kind:
            raise KilledError

    return kill


def weights(net: torch.nn.Module) -> list[np.ndarray]:
    return [parameter.detach().numpy().copy() for parameter in net.parameters()]


def sell(world: Conductor, folder: Path, index: int, joined: dict[int, JoinedTask]) -> None:
    connection = world.connection(f"owner-{index}", folder / f"owner-{index}")
    with DataOwner(connection=connection) as owner:
        task = owner.join(task=1)
        joined[index] = task
        for round_ in task.rounds():
            first = round_.submit(world.market.data.shards[index])
            again = round_.submit(world.market.data.shards[index + 2])  # not looked at
            assert (first.round, first.clip_factor) == (again.round, again.clip_factor)
            sent = task._owner.sent(task.number)
            assert sent is not None
            kept = task._folder.kept(sent.context)  # what a restarted owner goes on with
            assert kept is not None
            assert list(kept.packages) == list(sent.packages)
            assert [each.encode() for each in kept.sealed] == [
                each.encode() for each in sent.sealed
            ]
            assert kept.certificate == sent.certificate
            assert np.array_equal(kept.vector, sent.vector)
            elsewhere = replace(sent.context, block_hash=Hash32(bytes(32)))
            assert task._folder.kept(elsewhere) is None
            modes = {path.stat().st_mode & 0o777 for path in task._folder.path.rglob("*-*")}
            assert modes == {0o600, 0o700}


def expected(
    world: Conductor, task: BoughtTask, found: BoughtRound, joined: dict[int, JoinedTask]
) -> dict[str, np.ndarray]:
    """Return the mean of what the owners shared, back in the true model's coordinates."""
    vectors = []
    for each in joined.values():
        sent = each._owner.sent(task.number)
        assert sent is not None
        assert sent.context.round == found.number
        vectors.append(sent.vector)
    kept = task._folder.kept(found.number)
    assert kept is not None
    owner = task._owner
    profile = task_profile(task.specification)
    secret = restore_round_secret(owner.model.graph, owner._structure, profile, kept[0])
    mean = task_layout(task.specification).mean_of_sum(
        np.sum(vectors, axis=0), fraction_bits=16, accepted=len(vectors)
    )
    return dict(secret.recover(mean).gradients)


def test_a_buyer_killed_at_every_edge_loses_and_pays_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_world(tmp_path / "servers") as world:
        world.expect("buyer", "owner-1", "owner-2")
        writer = world.market.model_owner.writer
        market, send = world.market.reader, writer.open_round
        terms = {"sample": world.market.data.sample, "rounds": 2, "calibration": "weights"}

        def buyer(on_event: Callable[[Event], None] | None = None) -> ModelOwner:
            connection = world.connection("buyer", tmp_path / "buyer")
            return ModelOwner(connection=connection, on_event=on_event)

        def before(_task: TaskId, _name: Hash32) -> RoundOpened:
            raise KilledError

        def after(task: TaskId, name: Hash32) -> RoundOpened:
            send(task, name)
            raise KilledError

        net = small_net(1)
        start = weights(net)
        for edge in (before, after):
            monkeypatch.setattr(writer, "open_round", edge)
            with buyer() as owner:
                task = owner.publish(net, **terms)  # type: ignore[arg-type]
                with pytest.raises(KilledError):
                    next(task.rounds())
                if edge is before:
                    assert market.round_state(TaskId(1)).round == 0
                    kept = list((tmp_path / "buyer").rglob("round-*"))
                    assert [path.stat().st_mode & 0o777 for path in kept] == [0o600]
                    with buyer() as second, pytest.raises(ConfigError, match="in use"):
                        second.resume(1, net)
            world.expect("buyer")
        monkeypatch.setattr(writer, "open_round", send)
        assert market.task_count() == 1
        assert market.round_state(TaskId(1)).round == 1
        joined: dict[int, JoinedTask] = {}
        threads = [
            threading.Thread(target=sell, args=(world, tmp_path, index, joined), daemon=True)
            for index in (1, 2)
        ]
        for thread in threads:
            thread.start()
        net = small_net(2)  # of another process: what it holds does not matter
        with buyer(killed_at("settled")) as owner, pytest.raises(KilledError):
            next(owner.resume(1, net).rounds())
        world.expect("buyer")
        net = small_net(3)
        with buyer() as owner:
            task = owner.resume(1, net)
            for mine, theirs in zip(weights(net), start, strict=True):
                assert np.array_equal(mine, theirs)
            optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
            numbers = []
            for found in task.rounds():
                numbers.append(found.number)
                assert found.owners == 2
                want = expected(world, task, found, joined)
                for name, gradient in found.gradients.items():
                    assert np.array_equal(gradient, want[name])
                found.fill_gradients(net)
                for name, parameter in net.named_parameters():
                    assert parameter.grad is not None
                    assert np.array_equal(parameter.grad.numpy(), want[name].astype(np.float32))
                optimiser.step()
            assert numbers == [1, 2]
            with pytest.raises(UsageError, match="other terms"):
                owner.draft(net, **{**terms, "rounds": 3})  # type: ignore[arg-type]
            assert owner.draft(net, **terms).task == 1  # type: ignore[arg-type]
            assert task.close() > 0
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        world.expect("buyer")
        other = ModelOwner(connection=world.connection("buyer", tmp_path / "elsewhere"))
        with other, pytest.raises(KeyMaterialError, match="not here"):
            other.resume(1, net)
