"""What the `noise` profile costs in protection against owners: how far one can move the result.

The recovered gradient of hidden tensors is ghat - sum_s gamma_s sigma_s + upsilon beta
(perturbation.md section 3), and the market bounds the norm of each message by itself. An owner
whose every message is at the bound, in the worst direction, moves the result by the weighted sum of
their norms: as gamma^2. Without noise there is one message, and the bound holds for the result.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from omnilytics.learning.audit.noise import Noise, add_to_rows, draw_noise, last_layer
from omnilytics.learning.audit.subject import Subject, as_torch
from omnilytics.learning.labels import fitting_labels
from omnilytics.perturbation.interpreter import run_values

ROOM = 1.5
"""The bound on every message over its honest norm."""
_SAMPLES = 64

Tensor = torch.Tensor


def amplification(subject: Subject, gamma: float) -> float:
    """Return how far one owner can move the recovered gradient, over the honest gradient's norm.

    Args:
        subject: Trained under MSE; the scales and orders of the gauge do not matter here.
        gamma: Every secret factor.

    Raises:
        NotApplicable: The profile does not take the network.
    """
    last_layer(subject.graph)
    drawn = draw_noise(subject.graph.output_shape[0], subject.seed, 5, noise_scale=1.0)
    noise = replace(drawn, gammas=np.full_like(drawn.gammas, gamma))
    ghat, sigmas, beta = hidden_messages(subject, noise)
    upsilon = float((noise.rho() ** 2).sum())
    recovered = ghat - sum(
        (each * factor for each, factor in zip(sigmas, noise.gammas, strict=True)),
        torch.zeros_like(ghat),
    )
    recovered = recovered + upsilon * beta
    reach = float(ghat.norm()) + upsilon * float(beta.norm())
    reach += sum(
        abs(factor) * float(each.norm()) for each, factor in zip(sigmas, noise.gammas, strict=True)
    )
    return float(ROOM * reach / float(recovered.norm()))


def hidden_messages(subject: Subject, noise: Noise) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return ghat, every sigma_s and beta of an honest owner, float64, each as one vector."""
    last = last_layer(subject.graph)
    batch = subject.data.take(np.arange(min(_SAMPLES, len(subject.data))))
    weights = as_torch(add_to_rows(subject.weights, last, noise.rho()))
    # Float64: what is left of large messages is a small gradient.
    parameters = {name: each.double() for name, each in weights.items()}
    hidden = [
        parameters[tensor.name].requires_grad_()
        for tensor in subject.graph.trained
        if tensor.name not in {last.weight, last.bias}
    ]
    values = run_values(subject.graph, parameters, torch.from_numpy(batch.inputs).double())
    features = values[last.inputs]
    outputs = values[subject.graph.nodes[-1].name].detach()
    labels = torch.from_numpy(fitting_labels(subject.graph, batch, subject.loss))
    if labels.dtype == torch.int64:
        labels = functional.one_hot(labels, outputs.shape[1])
    differences = outputs - labels
    weight, ones = parameters[last.weight], torch.ones_like(features).detach()
    alpha = features.detach().sum(dim=1, keepdim=True)

    def back(cotangent: Tensor) -> Tensor:
        found = torch.autograd.grad(features, hidden, cotangent, retain_graph=True)
        return torch.cat([each.reshape(-1) for each in found])

    directions = torch.from_numpy(noise.directions)
    masked = [
        torch.where(torch.from_numpy(noise.groups == group), directions, 0.0)
        for group in range(len(noise.gammas))
    ]
    sigmas = [
        back((differences @ each)[:, None] * ones + alpha * (each @ weight)) for each in masked
    ]
    return back(differences @ weight), sigmas, back(alpha * ones)
