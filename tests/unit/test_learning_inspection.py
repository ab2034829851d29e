"""What inspection refuses: imprint layers of every kind known, and no honest network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import Tensor, nn
from torch.nn import functional
from wire_samples import specification

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.learning.carried import CarriedModel
from omnilytics.learning.datasets import Batch
from omnilytics.learning.inspection import (
    Finding,
    Level,
    inspect_artefact,
    inspect_terms,
    refuse_risks,
)
from omnilytics.learning.threads import pin_threads
from omnilytics.perturbation.artefact import Artefact, Tensors
from omnilytics.perturbation.gauge import analyse
from omnilytics.perturbation.graph import Graph, InputKind
from omnilytics.perturbation.secret import sample_secret

SIDE = 8
PIXELS = SIDE * SIDE


@pytest.fixture(autouse=True)
def same_start() -> None:
    pin_threads()
    torch.manual_seed(0)


@cache
def digits(side: int = SIDE) -> Batch:
    found = load_digits()
    images = torch.tensor(found.images / 16, dtype=torch.float32)[:, None]
    inputs = functional.interpolate(images, size=(side, side), mode="bilinear")
    return Batch(inputs.numpy(), found.target.astype(np.int64))


@cache
def patients() -> Batch:
    found = load_breast_cancer()
    inputs = (found.data - found.data.mean(axis=0)) / found.data.std(axis=0)
    return Batch(inputs.astype(np.float32), found.target.astype(np.int64))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.hidden, self.last = nn.Linear(8, 32), nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        channels = self.first(images).relu()
        pooled = functional.adaptive_avg_pool2d((channels + self.second(channels)).relu(), 1)
        return self.last(self.hidden(pooled.flatten(1)).relu())  # type: ignore[no-any-return]


def mlp(inputs: int, *hidden: int, outputs: int = 10) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, width in zip((inputs, *hidden), hidden, strict=False):
        layers += [nn.Linear(before, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], outputs))


def cnn() -> nn.Module:
    first, second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
    ends = nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *ends)


def lenet() -> nn.Module:
    first = nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)
    second = nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    ends = nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)
    return nn.Sequential(*first, *second, *ends)


def trained(net: nn.Module, data: Batch, how: str) -> nn.Module:
    """Train; weight decay drives ReLU rows onto one another, which is no imprint."""
    kind, steps, rate, decay = {
        "fresh": (torch.optim.SGD, 0, 0.1, 0.0),
        "adam": (torch.optim.Adam, 200, 3e-3, 0.0),
        "decay": (torch.optim.Adam, 200, 1e-2, 1e-3),
        "momentum": (lambda p, **kw: torch.optim.SGD(p, momentum=0.9, **kw), 200, 0.1, 5e-3),
    }[how]
    optimiser = kind(net.parameters(), lr=rate, weight_decay=decay)  # type: ignore[operator]
    inputs, labels = torch.from_numpy(data.inputs), torch.from_numpy(data.labels)
    for _ in range(steps):
        rows = torch.randint(len(data), (64,))
        optimiser.zero_grad()
        loss = functional.cross_entropy(net(inputs[rows]), labels[rows])
        torch.autograd.backward(loss)
        optimiser.step()
    return net


def published(net: nn.Module, data: Batch) -> Artefact:
    """Return the artefact of a net under a fresh secret."""
    model = CarriedModel(net, input_shape=data.inputs.shape[1:])
    secret = sample_secret(analyse(model.graph), SystemRandomness())
    return Artefact(model.graph, secret.perturb(model.weights()))


def look(artefact: Artefact, samples: Batch | None = None) -> dict[str, Finding]:
    scales = dict.fromkeys(artefact.weights, 0.1)
    found = inspect_artefact(artefact, scales, samples=samples)
    worst_last = sorted(found, key=lambda finding: list(Level).index(finding.level))
    return {finding.check: finding for finding in worst_last}


def refusals(artefact: Artefact, samples: Batch | None = None) -> set[str]:
    found = look(artefact, samples)
    return {name for name, finding in found.items() if finding.level is Level.REFUSE}


@pytest.mark.parametrize("how", ["fresh", "adam", "decay", "momentum"])
@pytest.mark.parametrize(
    ("make", "data"),
    [
        (lambda: mlp(PIXELS, 32), digits),
        (lambda: mlp(PIXELS, 512), digits),
        (lambda: mlp(PIXELS, 64, 64, 64), digits),
        (cnn, digits),
        (Residual, digits),
        (lambda: mlp(30, 16, outputs=2), patients),
        (lambda: mlp(30, 256, outputs=2), patients),
    ],
    ids=["mlp", "wide", "deep", "cnn", "residual", "table", "wide-table"],
)
def test_honest_networks_are_not_refused(
    make: Callable[[], nn.Module], data: Callable[[], Batch], how: str
) -> None:
    samples = data()
    assert refusals(published(trained(make(), samples, how), samples), samples) == set()


@pytest.mark.parametrize("how", ["fresh", "adam"])
def test_an_honest_lenet_is_not_refused(how: str) -> None:
    large = digits(28)
    part = large.take(np.arange(256))
    assert refusals(published(trained(lenet(), part, how), part), part) == set()


def test_a_fresh_network_is_not_even_warned_of() -> None:
    found = look(published(mlp(PIXELS, 32), digits()))
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert found["layers"].said.startswith("none of 1 hidden linear layers")


def linear(net: nn.Module, place: int) -> nn.Linear:
    """Return a layer of a sequence."""
    layer = net.get_submodule(str(place))
    assert isinstance(layer, nn.Linear)
    return layer


def graded(net: nn.Sequential, place: int, direction: Tensor, data: Tensor) -> None:
    """Make a layer sort samples into bins of equal size along a direction."""
    layer, after = linear(net, place), linear(net, place + 2)
    units = layer.out_features
    shares = (torch.arange(units) + 0.5) / units
    with torch.no_grad():
        layer.weight[:] = direction
        layer.bias[:] = -torch.quantile(data @ direction, shares)
        after.weight[:] = after.weight[:, :1].clone()  # neighbours' gradients then differ by a bin


@pytest.mark.parametrize("units", [32, 256])
@pytest.mark.parametrize("kind", ["mean", "random", "scaled", "noisy"])
def test_bins_along_one_direction_are_refused(kind: str, units: int) -> None:
    data = torch.from_numpy(digits().inputs).flatten(1)
    net = mlp(PIXELS, units)
    direction = torch.full((PIXELS,), 1 / PIXELS) if kind == "mean" else torch.randn(PIXELS)
    graded(net, 1, direction, data)
    layer, after = linear(net, 1), linear(net, 3)
    with torch.no_grad():
        if kind == "scaled":
            factor = torch.exp2(torch.randint(-8, 9, (units,)).float())
            layer.weight.mul_(factor[:, None])
            layer.bias.mul_(factor)
            after.weight.div_(factor)
        if kind == "noisy":
            layer.weight.mul_(1 + 0.05 * torch.randn(units, PIXELS))
    assert "graded-rows" in refusals(published(net, digits()))


def test_bins_behind_other_layers_are_refused_too() -> None:
    images = torch.from_numpy(digits().inputs)
    convolution = nn.Conv2d(1, 8, 3, padding=1)
    net = nn.Sequential(
        *(convolution, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    with torch.no_grad():
        features = net[:4](images)
    graded(net, 4, torch.rand(128), features)
    assert refusals(published(net, digits())) == {"graded-rows"}


@pytest.mark.parametrize("kind", ["linear", "norm"])
def test_bins_whose_thresholds_stand_in_another_layer_are_refused_too(kind: str) -> None:
    data = torch.from_numpy(digits().inputs).flatten(1)
    equal, last = nn.Linear(PIXELS, 64), nn.Linear(64, 10)
    direction, shares = torch.rand(PIXELS), (torch.arange(64) + 0.5) / 64
    measured = data @ direction
    after: nn.Module
    with torch.no_grad():
        equal.weight[:] = direction
        equal.bias.zero_()
        if kind == "linear":
            after = nn.Linear(64, 64)
            after.weight[:] = torch.eye(64)
            after.bias[:] = -torch.quantile(measured, shares)
        else:
            after = nn.BatchNorm1d(64)
            normal = (measured - measured.mean()) / measured.std()
            after.bias[:] = -torch.quantile(normal, shares)
    artefact = published(nn.Sequential(nn.Flatten(), equal, after, nn.ReLU(), last), digits())
    assert "graded-rows" in refusals(artefact)
    few = digits().take(np.arange(128))
    lonely = look(artefact, few)["lonely-samples"]
    assert lonely.level is not Level.OK
    assert lonely.place in {"linear_1", "batch_norm"}


def test_convolutions_that_only_copy_are_refused_before_a_layer() -> None:
    convolution, wide = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * PIXELS, 64)
    ends = nn.Flatten(), wide, nn.ReLU(), nn.Linear(64, 10)
    net = nn.Sequential(convolution, nn.ReLU(), *ends)
    nn.init.dirac_(convolution.weight)
    assert refusals(published(net, digits())) == {"copying-convolution"}
    harmless = nn.Sequential(convolution, nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(288, 10))
    found = look(published(harmless, digits()))
    assert found["copying-convolution"].level is Level.WARN


def test_units_that_read_one_input_are_refused() -> None:
    net = mlp(PIXELS, 128)
    with torch.no_grad():
        linear(net, 1).weight[:] = torch.eye(PIXELS)[torch.randint(PIXELS, (128,))]
        linear(net, 1).bias.uniform_(-1, 0)
    assert "one-input-rows" in refusals(published(net, digits()))


@pytest.mark.parametrize("shrunk", [0.99, 0.9])
def test_trap_weights_are_refused(shrunk: float) -> None:
    net = mlp(PIXELS, 64)
    with torch.no_grad():
        for row in linear(net, 1).weight:
            places, half = torch.randperm(PIXELS), torch.randn(PIXELS // 2).abs()
            row[places[: PIXELS // 2]] = -half
            row[places[PIXELS // 2 :]] = shrunk * half[torch.randperm(PIXELS // 2)]
    assert "trap-rows" in refusals(published(net, digits()))


def test_layers_much_wider_than_the_input_are_warned_of_and_refused() -> None:
    table = patients()
    assert look(published(mlp(30, 1024), table))["fan-out"].level is Level.WARN
    assert refusals(published(mlp(30, 4096), table)) == {"fan-out"}


def test_own_samples_show_who_would_stand_alone() -> None:
    inputs = np.eye(256, 30, dtype=np.float32) + np.linspace(0, 9, 256, dtype=np.float32)[:, None]
    samples = Batch(inputs, np.zeros(256, dtype=np.int64))
    net = mlp(30, 20, 300)
    data = torch.from_numpy(inputs)
    with torch.no_grad():
        for layer in (linear(net, 1), linear(net, 3)):
            layer.weight.fill_(1 / 30)
            layer.bias.zero_()
        features = net[:3](data)
        linear(net, 3).bias.uniform_(-float(features.sum(dim=1).max()) / 30, 0)
    found = look(published(net, samples), samples)["lonely-samples"]
    assert found.level is Level.REFUSE
    assert found.place == "linear_1"
    few = samples.take(np.arange(100))
    assert look(published(net, samples), few)["lonely-samples"].level is Level.OK


def test_numbers_beyond_reason() -> None:
    artefact = published(mlp(PIXELS, 32), digits())
    name = "1.weight"
    for factor, level in ((10, Level.OK), (1e3, Level.WARN), (1e5, Level.REFUSE)):
        grown = {**artefact.weights, name: artefact.weights[name] * np.float32(factor)}
        found = look(Artefact(artefact.graph, grown))["weights"]
        assert found.level is level
        assert level is Level.OK or found.place == name
    huge = {key: np.full_like(value, 1e38) for key, value in artefact.weights.items()}
    assert {"weights", "outputs"} <= refusals(Artefact(artefact.graph, huge))
    dead = {**artefact.weights, "3.weight": np.zeros((10, 32), dtype=np.float32)}
    assert look(Artefact(artefact.graph, dead))["outputs"].level is Level.WARN
    for scale, level in ((1e2, Level.OK), (1e5, Level.WARN), (1e8, Level.REFUSE)):
        scales = {**dict.fromkeys(artefact.weights, 0.1), name: scale}
        found = {each.check: each for each in inspect_artefact(artefact, scales)}["scale"]
        assert found.level is level


class Loud(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.layer, self.factor = nn.Linear(PIXELS, 10), factor

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1) * self.factor)  # type: ignore[no-any-return]


def test_large_constants_are_judged() -> None:
    for factor, level in ((0.1, Level.OK), (1e4, Level.WARN), (1e7, Level.REFUSE)):
        artefact = Artefact(*_graph_and_weights(Loud(factor)))
        assert look(artefact)["constants"].level is level


def _graph_and_weights(net: nn.Module) -> tuple[Graph, Tensors]:
    model = CarriedModel(net, input_shape=(1, SIDE, SIDE))
    return model.graph, model.weights()


def test_the_profile_of_magnitudes_is_allowed_what_it_needs() -> None:
    graph, weights = _graph_and_weights(mlp(PIXELS, 32, 32))
    for bits in (1, 4, 8, 8, 8):
        secret = sample_secret(analyse(graph), SystemRandomness(), magnitude_bits=bits)
        artefact = Artefact(graph, secret.perturb(weights))
        scales = dict.fromkeys(artefact.weights, 0.1)
        found = inspect_artefact(artefact, scales, magnitude_bits=bits)
        assert {each.level for each in found} == {Level.OK}
    task = specification(profile="scales", magnitude_bits=8)
    assert {each.level for each in inspect_terms(task) if each.check == "scales"} == {Level.OK}


def test_magnitudes_do_not_hide_bins() -> None:
    data = torch.from_numpy(digits().inputs).flatten(1)
    net = mlp(PIXELS, 48, 64)
    with torch.no_grad():
        features = net[:3](data)
    graded(net, 3, torch.rand(48) + 0.1, features)
    graph, weights = _graph_and_weights(net)
    secret = sample_secret(analyse(graph), SystemRandomness(), magnitude_bits=8)
    artefact = Artefact(graph, secret.perturb(weights))
    found = inspect_artefact(artefact, dict.fromkeys(weights, 0.1), magnitude_bits=8)
    assert {each.check for each in found if each.level is Level.REFUSE} == {"graded-rows"}


def test_noise_is_judged_by_its_size() -> None:
    for scale, level in ((0.1, Level.OK), (100.0, Level.WARN), (1e5, Level.REFUSE)):
        task = specification(
            profile="noise", loss="mse", noise_groups=1, noise_factors=(0.5, 1.5), noise_scale=scale
        )
        found = {each.check: each for each in inspect_terms(task)}["noise"]
        assert found.level is level
        assert "3 sums" in found.said


def test_terms_are_judged() -> None:
    def levels(**changes: object) -> dict[str, Level]:
        fields = {"min_owners": 10, "max_owners": 20}
        task = specification(**{**fields, **changes})
        return {each.check: each.level for each in inspect_terms(task, batch_size=32)}

    assert set(levels().values()) == {Level.OK}
    assert levels(min_owners=3)["owners"] is Level.WARN
    assert levels(min_owners=1)["owners"] is Level.REFUSE
    task = specification()
    for size, level in ((1, Level.REFUSE), (8, Level.WARN), (16, Level.OK)):
        found = {each.check: each.level for each in inspect_terms(task, batch_size=size)}
        assert found["batch"] is level
    assert "batch" not in {each.check for each in inspect_terms(task)}


def test_scales_far_apart_are_judged() -> None:
    task = specification()
    component = task.components[0]
    slot = component.tensors[0]
    other = slot.model_copy(update={"name": "other", "scale": slot.scale * 1e6})
    wider = component.model_copy(update={"tensors": (slot, other)})
    changed = task.model_copy(update={"components": (wider,)})
    found = {each.check: each for each in inspect_terms(changed)}["scales"]
    assert (found.level, found.place) == (Level.REFUSE, slot.name)


def test_a_refusal_says_what_and_how_to_go_on_all_the_same() -> None:
    bad = Finding(check="outputs", level=Level.REFUSE, said="outputs are NaN", place="head")
    refuse_risks([replace(bad, level=Level.WARN)])
    with pytest.raises(VerificationError, match="outputs are NaN") as caught:
        refuse_risks([replace(bad, level=Level.OK), bad], task=7)
    assert caught.value.ids == {"check": "outputs", "place": "head", "task": 7}
    assert "--accept-risks" in (caught.value.hint or "")


class Sequence(nn.Module):
    """Tokens, an embedding, a normalised block of two layers, and outputs for every token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(50, 32), nn.LayerNorm(32)
        self.up, self.down, self.head = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        stream = self.embedding(tokens)
        stream = stream + self.down(self.up(self.norm(stream)).relu())
        return self.head(stream)  # type: ignore[no-any-return]


def test_sequences_and_batch_norms_are_judged_too() -> None:
    model = CarriedModel(Sequence(), input_shape=(12,), input_kind=InputKind.TOKENS)
    secret = sample_secret(analyse(model.graph), SystemRandomness())
    tokens = np.random.default_rng(0).integers(50, size=(128, 12)).astype(np.float32)
    samples = Batch(tokens, np.zeros(128, dtype=np.int64))
    found = look(Artefact(model.graph, secret.perturb(model.weights())), samples)
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert found["lonely-samples"].said.startswith("0% of 128")
    depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    normalised = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), depthwise),
        *(nn.Flatten(), nn.Linear(8 * PIXELS, 32), nn.ReLU(), nn.Linear(32, 10)),
    )
    assert refusals(published(trained(normalised, digits(), "adam"), digits()), digits()) == set()
    nn.init.dirac_(depthwise.weight, groups=8)
    found = look(published(normalised, digits()))
    assert found["copying-convolution"].level is Level.WARN  # the one before it mixes pixels
