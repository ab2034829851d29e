"""What is audited: a network with its true weights, and data like the owners'."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from omnilytics.learning.carried import CarriedModel, Module
from omnilytics.learning.datasets import Batch, load_market_data
from omnilytics.learning.labels import fitting_labels
from omnilytics.learning.models import build_model, layout_for
from omnilytics.learning.presets import models_for, preset_for
from omnilytics.learning.user_data import collect
from omnilytics.perturbation.artefact import Tensors
from omnilytics.perturbation.graph import Graph, InputKind
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.losses import Loss, loss_value
from omnilytics.perturbation.operations import Dropout

MOST_SAMPLES = 5_000
"""More say little more, and take longer."""

TorchTensors = dict[str, torch.Tensor]


@dataclass(frozen=True, repr=False)
class Subject:
    """A network as its owner knows it, and samples.

    Attributes:
        graph: The network.
        weights: The true ones, float32 by name.
        loss: The task's loss.
        data: Samples like those of data owners, shuffled.
        learning_rate: Of Adam, for the steps from one round to the next.
        seed: Public; everything random follows from it.
    """

    graph: Graph
    weights: Tensors
    loss: Loss
    data: Batch
    learning_rate: float = 1e-2
    seed: int = 1

    @property
    def least_samples(self) -> int:
        """How few samples a message may be of: batch normalisation needs two."""
        return 2 if self.graph.statistics else 1

    @property
    def has_classes(self) -> bool:
        """Whether labels are classes."""
        labels = fitting_labels(self.graph, self.data.take(np.arange(1)), self.loss)
        return labels.dtype == np.int64

    def with_weights(self, weights: Tensors) -> Subject:
        """Return the same with other weights."""
        return replace(self, weights=weights)


def preset_subject(dataset: str, *, seed: int, model: str | None = None) -> Subject:
    """Return a preset's network as it is before training, and its owners' data.

    Raises:
        ConfigError: There is no such preset.
    """
    preset = preset_for(dataset, model or models_for(dataset)[0])
    data = load_market_data(dataset, owners=1, seed=seed, layout=layout_for(preset.model))
    network = build_model(
        preset.model, input_shape=data.input_shape, outputs=data.classes, seed=seed
    )
    found = own_subject(network, data.shards[0], loss=Loss.CROSS_ENTROPY, seed=seed)
    return replace(found, learning_rate=preset.learning_rate)


def own_subject(network: Module, data: object, *, loss: Loss, seed: int) -> Subject:
    """Return a user's network and data, at most `MOST_SAMPLES` of them, in random order.

    Raises:
        ModelError: The network cannot be carried, or the data do not fit it.
    """
    samples = data if isinstance(data, Batch) else collect(data, most=MOST_SAMPLES)
    order = np.random.default_rng([seed, 0]).permutation(len(samples))[:MOST_SAMPLES]
    samples = samples.take(order)
    kind = InputKind.TOKENS if samples.inputs.dtype == np.int64 else InputKind.NUMBERS
    carried = CarriedModel(network, input_shape=samples.inputs.shape[1:], input_kind=kind)
    graph = without_dropout(carried.graph)
    fitting_labels(graph, samples, loss)
    return Subject(graph, carried.weights(), loss, samples, seed=seed)


def without_dropout(graph: Graph) -> Graph:
    """Return the graph with no entry dropped: figures repeat, and attackers gain by it."""
    nodes = [
        replace(node, operation=Dropout(0.0)) if isinstance(node.operation, Dropout) else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def as_torch(weights: Tensors) -> TorchTensors:
    """Return weights as PyTorch takes them, without gradients."""
    return {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in weights.items()}


def mean_gradient(subject: Subject, weights: Tensors, batch: Batch) -> Tensors:
    """Return the gradient of the mean loss by trained tensor, at other weights than the subject's.

    Float32, as `compute_gradients` gives it.
    """
    parameters = as_torch(weights)
    trained = {
        tensor.name: parameters[tensor.name].requires_grad_() for tensor in subject.graph.trained
    }
    labels = torch.from_numpy(fitting_labels(subject.graph, batch, subject.loss))
    outputs = run_graph(subject.graph, parameters, torch.from_numpy(batch.inputs))
    value = loss_value(subject.loss, outputs, labels)
    gradients = torch.autograd.grad(value, list(trained.values()))
    return {name: each.numpy() for name, each in zip(trained, gradients, strict=True)}


def outputs_of(graph: Graph, weights: Tensors, inputs: Batch) -> np.ndarray:
    """Return the outputs of a network, float32 (samples, *output_shape)."""
    with torch.no_grad():
        found = run_graph(graph, as_torch(weights), torch.from_numpy(inputs.inputs))
    return np.asarray(found.numpy())


def train_on(subject: Subject, *, steps: int, batch_size: int = 320) -> Subject:
    """Return the subject after some steps of Adam on its own data.

    Args:
        subject: What to train; its weights stay as they are.
        steps: How many; one is a market's round.
        batch_size: Samples of each, drawn anew, or all there are.
    """
    names = [tensor.name for tensor in subject.graph.trained]
    weights = {name: each.clone() for name, each in as_torch(subject.weights).items()}
    for name in names:
        weights[name].requires_grad_()
    optimiser = torch.optim.Adam([weights[name] for name in names], lr=subject.learning_rate)
    draw = np.random.default_rng([subject.seed, 7])
    for _ in range(steps):
        size = min(batch_size, len(subject.data))
        batch = subject.data.take(draw.choice(len(subject.data), size=size, replace=False))
        labels = torch.from_numpy(fitting_labels(subject.graph, batch, subject.loss))
        outputs = run_graph(subject.graph, weights, torch.from_numpy(batch.inputs))
        optimiser.zero_grad()
        loss_value(subject.loss, outputs, labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return subject.with_weights({name: each.detach().numpy() for name, each in weights.items()})
