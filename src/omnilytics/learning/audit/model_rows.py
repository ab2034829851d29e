"""What data owners learn of the model, in words."""

from __future__ import annotations

from dataclasses import asdict, replace

from omnilytics.learning.audit.function import gauge_function
from omnilytics.learning.audit.matching import match_rounds
from omnilytics.learning.audit.noise import NoiseRemoved, last_layer, remove_noise
from omnilytics.learning.audit.scales import recover_scales
from omnilytics.learning.audit.subject import train_on
from omnilytics.learning.audit.task import Found, Task
from omnilytics.perturbation.losses import Loss


def use_model(task: Task) -> Found:
    """A data owner uses the model as it is."""
    seen = gauge_function(task.last)
    accuracy = ""
    if task.last.has_classes:
        accuracy = f"; accuracy {seen.published_accuracy:.3f}, true {seen.true_accuracy:.3f}"
    return (
        "everything the model computes",
        f"same decision on {seen.agreement:.1%} of samples{accuracy}",
        "A data owner can use the published model, and copy what it does.",
        asdict(seen),
    )


def match_two_rounds(task: Task) -> Found:
    """A data owner of two rounds compares them."""
    figures = {}
    for name, apart in (("next", 1), ("tenth", 10)):
        matched = match_rounds(task.last, train_on(task.last, steps=apart))
        figures[name] = matched.share
        figures["units"] = sum(matched.units.values())
    return (
        "which unit became which",
        f"{figures['next']:.1%} of {figures['units']} units after one round, "
        f"{figures['tenth']:.1%} after ten",
        "Fresh secrets do not keep two rounds' models from being compared unit by unit.",
        dict(figures),
    )


def balance_norms(task: Task) -> Found:
    """A data owner looks for secret scales."""
    task.scales = recover_scales(task.last)
    found = task.scales.correlations()
    low, high = min(found.values()), max(found.values())
    return (
        "secret positive scales",
        f"correlation of estimated with true log r: {low:.4f} to {high:.4f} by layer",
        "Positive scales hide little: the norms of a unit's weights give them away.",
        {"correlations": found},
    )


def _under_noise(task: Task) -> NoiseRemoved:
    """Return the attack on the model, or on a copy trained under the profile's only loss."""
    if task.noise is None:
        last_layer(task.first.graph)
        task.noise = remove_noise(train_on(replace(task.first, loss=Loss.MSE), steps=task.rounds))
    return task.noise


def use_noisy_model(task: Task) -> Found:
    """A data owner uses a model under noise as it is."""
    found = _under_noise(task)
    seen = found.noisy
    return (
        "no output, as it stands",
        f"same decision on {seen.agreement:.1%} of samples",
        "Noise on the last layer makes the published model useless as it stands; read on.",
        {"agreement": seen.agreement, "accuracy": seen.published_accuracy},
    )


def remove_noise_by_label(task: Task) -> Found:
    """A data owner takes noise off by what it knows of its samples."""
    found = _under_noise(task)
    return (
        "the noise",
        f"gamma to {found.from_one_sample:.1e} from one sample, {found.from_samples:.1e} from all "
        f"(|gamma| >= {found.smallest_gamma:.2f}); then same decision on "
        f"{found.cleaned.agreement:.1%}",
        "One labelled sample is enough to take the noise off.",
        {
            "one_sample": found.from_one_sample,
            "all_samples": found.from_samples,
            "smallest_gamma": found.smallest_gamma,
            "cleaned_agreement": found.cleaned.agreement,
        },
    )


def remove_noise_by_weights(task: Task) -> Found:
    """A data owner takes noise off without data."""
    found = _under_noise(task)
    return (
        "the noise",
        f"gamma to {found.from_weights:.1e} (|gamma| >= {found.smallest_gamma:.2f})",
        "The weights alone give the noise away, without any data.",
        {"weights": found.from_weights, "smallest_gamma": found.smallest_gamma},
    )
