"""Profiles, running statistics and frozen weights through a market, by the Python API."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from client_world import Conductor, client_world, in_threads
from torch import nn

from omnilytics.client.bought import BoughtRound, BoughtTask
from omnilytics.client.buyer import ModelOwner
from omnilytics.client.joined import JoinedTask
from omnilytics.client.seller import DataOwner
from omnilytics.foundation.units import Hash32
from omnilytics.transport.client import ServerClient
from omnilytics.wire.hashing import content_hash as hash_of

OWNERS = (1, 2)
Pair = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


class Deal:
    """One task bought from two owners of a whole shard each, and what became of it."""

    def __init__(
        self,
        world: Conductor,
        folder: Path,
        net: nn.Module,
        rounds: int = 1,
        data: dict[int, Pair] | None = None,
        **terms: Any,
    ) -> None:
        self.hesitations = 0
        """How often the buyer leaves its loop between filling gradients and the step."""
        self.world, self.folder, self.net = world, folder, net
        self.terms = {"rounds": rounds, "calibration": "weights", **terms}
        shards = dict(enumerate([world.market.data.sample, *world.market.data.shards]))
        self.data = data or {key: (each.inputs, each.labels) for key, each in shards.items()}
        """Inputs and labels of the buyer (0) and of the owners."""
        self.found: list[BoughtRound] = []
        self.clips: list[float] = []
        self.task: BoughtTask | None = None
        self.joined: list[JoinedTask] = []
        self._published = threading.Event()

    def strike(self) -> None:
        """Publish the task, and run all of its rounds."""
        self.world.expect("buyer", *(f"owner-{index}" for index in OWNERS))
        in_threads(self._buy, *(lambda index=index: self._sell(index) for index in OWNERS))

    def shards(self) -> list[Pair]:
        return [self.data[index] for index in OWNERS]

    def _buy(self) -> None:
        connection = self.world.connection("buyer", self.folder / "buyer")
        sample = self.data[0]
        with ModelOwner(connection=connection) as owner:
            self.task = owner.publish(self.net, sample=sample, **self.terms)
            self._published.set()
            for _ in range(self.hesitations):
                for found in self.task.rounds():
                    found.fill_gradients(self.net)
                    self.found.append(found)
                    break
            for found in self.task.rounds():
                self.found.append(found)
            self.task.close()

    def _sell(self, index: int) -> None:
        assert self._published.wait(120)
        connection = self.world.connection(f"owner-{index}", self.folder / f"owner-{index}")
        with DataOwner(connection=connection) as owner:
            task = owner.join(task=1)
            self.joined.append(task)
            for round_ in task.rounds():
                submitted = round_.submit(self.data[index])
                self.clips.append(submitted.clip_factor)


def small_net(*middle: nn.Module) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(30, 6), *middle, nn.ReLU(), nn.Linear(6, 2))


def true_gradients(net: nn.Module, shards: list[Pair], loss: str) -> tuple[dict[str, Any], float]:
    """Return the owners' mean gradient and loss, computed on the true module in float64."""
    twin = copy.deepcopy(net).double().train()
    values = []
    for shard in shards:
        inputs, labels = map(torch.from_numpy, shard)
        outputs = twin(inputs.double() if inputs.is_floating_point() else inputs)
        if loss == "mse":
            targets = nn.functional.one_hot(labels, outputs.shape[1])
            values.append(0.5 * (outputs - targets).square().sum(dim=1).mean())
        else:
            classes = outputs.reshape(-1, outputs.shape[-1])
            values.append(nn.functional.cross_entropy(classes, labels.reshape(-1)))
    value = torch.stack(values).mean()
    trained = {name: each for name, each in twin.named_parameters() if each.requires_grad}
    gradients = torch.autograd.grad(value, list(trained.values()))
    found = {name: each.numpy() for name, each in zip(trained, gradients, strict=True)}
    return found, value.item()


def assert_recovered(found: BoughtRound, want: dict[str, Any]) -> None:
    assert found.gradients.keys() == want.keys()
    for name, gradient in found.gradients.items():
        error = np.linalg.norm(gradient - want[name]) / np.linalg.norm(want[name])
        assert error < 1e-3, name


@pytest.mark.parametrize(
    "terms",
    [
        {"profile": "scales", "magnitude_bits": 2},
        {"profile": "noise", "loss": "mse", "noise_groups": 2, "noise_scale": 0.05},
    ],
    ids=["scales", "noise"],
)
def test_a_profile_gives_the_true_gradient(tmp_path: Path, terms: dict[str, Any]) -> None:
    with client_world(tmp_path / "servers") as world:
        deal = Deal(world, tmp_path, small_net(), **terms)
        deal.strike()
        assert deal.clips == [1.0, 1.0]
        (found,) = deal.found
        loss = str(terms.get("loss", "cross_entropy"))
        want, value = true_gradients(deal.net, deal.shards(), loss)
        assert_recovered(found, want)
        if terms["profile"] == "noise":
            assert found.loss == pytest.approx(value, rel=1e-3)
        else:
            assert found.loss is None


def test_running_statistics_come_with_the_gradient_and_count_once(tmp_path: Path) -> None:
    with client_world(tmp_path / "servers") as world:
        deal = Deal(world, tmp_path, small_net(nn.BatchNorm1d(6)))
        deal.hesitations = 2
        deal.strike()
        assert deal.clips == [1.0, 1.0]
        first, *again = deal.found
        assert [each.number for each in again] == [1, 1], "a round that was not applied is lost"
        for found in again:
            for name, after in first.statistics.items():
                np.testing.assert_array_equal(found.statistics[name], after)
        found = first
        want, _ = true_gradients(deal.net, deal.shards(), "cross_entropy")
        # A normalisation takes the gradient of the bias before it away: nothing is left of it.
        assert np.abs(found.gradients["0.bias"]).max() < 1e-4
        del found.gradients["0.bias"], want["0.bias"]
        assert_recovered(found, want)
        seen = []
        for inputs, _ in deal.shards():  # what one step of each owner's own would make of them
            twin: Any = copy.deepcopy(deal.net).train()
            twin(torch.from_numpy(inputs))
            seen.append([twin[1].running_mean.numpy(), twin[1].running_var.numpy()])
        means, variances = np.mean(seen, axis=0)
        assert set(found.statistics) == {"1.running_mean", "1.running_var"}
        np.testing.assert_allclose(found.statistics["1.running_mean"], means, atol=1e-4)
        np.testing.assert_allclose(found.statistics["1.running_var"], variances, atol=1e-4)


def test_tokens_train_a_network_that_predicts_the_next(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    data = {}
    for index in (0, *OWNERS):
        tokens = draw.integers(0, 12, size=(40, 5))
        data[index] = (tokens[:, :-1], tokens[:, 1:].copy())
    torch.manual_seed(4)
    net = nn.Sequential(nn.Embedding(12, 6), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 12))
    with client_world(tmp_path / "servers") as world:
        deal = Deal(world, tmp_path, net, data=data, input_kind="tokens", profile="scales")
        deal.strike()
        assert deal.clips == [1.0, 1.0]
        want, _ = true_gradients(net, deal.shards(), "cross_entropy")
        assert_recovered(deal.found[0], want)


def test_frozen_weights_are_fetched_once_by_each_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Hash32] = []
    blob = ServerClient.blob

    async def counted(client: ServerClient, phase: str, content_hash: Hash32) -> bytes:
        asked.append(content_hash)
        return await blob(client, phase, content_hash)

    monkeypatch.setattr(ServerClient, "blob", counted)
    net = small_net()
    for parameter in net[0].parameters():
        parameter.requires_grad = False
    with client_world(tmp_path / "servers") as world:
        deal = Deal(world, tmp_path, net, rounds=2)
        deal.strike()
        want, _ = true_gradients(net, deal.shards(), "cross_entropy")
        assert set(want) == {"2.weight", "2.bias"}
        for found in deal.found:
            assert_recovered(found, want)
        assert len(deal.found) == 2
        assert deal.task is not None
        content = deal.task._owner.model.frozen_content()
        assert content is not None
        assert [task._folder.frozen(task.number) for task in deal.joined] == [content, content]
        assert asked.count(hash_of(content)) == len(OWNERS)
