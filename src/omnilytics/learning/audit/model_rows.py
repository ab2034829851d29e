"""What data owners learn of the model, in words."""

from __future__ import annotations

from dataclasses import asdict, replace
from math import isnan

from omnilytics.learning.audit.amplify import ROOM, amplification
from omnilytics.learning.audit.function import gauge_function
from omnilytics.learning.audit.matching import match_rounds
from omnilytics.learning.audit.noise import NoiseRemoved, last_layer, remove_noise
from omnilytics.learning.audit.scales import recover_scales
from omnilytics.learning.audit.subject import Subject, train_on
from omnilytics.learning.audit.task import Found, Task
from omnilytics.perturbation.losses import Loss

GAMMAS = (0.0, 0.01, 0.1, 1.0)
MORE = "a better attack may"


def use_model(task: Task) -> Found:
    """A data owner uses the model as it is."""
    seen = gauge_function(task.last)
    accuracy = ""
    if not isnan(seen.true_accuracy):
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
    found = figures["next"] > 0.5
    return (
        "which unit became which" if found else "little of which unit became which",
        f"{figures['next']:.1%} of {figures['units']} units after one round, "
        f"{figures['tenth']:.1%} after ten",
        "Fresh secrets do not keep two rounds' models from being compared unit by unit."
        if found
        else f"Most units were not found again; {MORE}.",
        dict(figures),
    )


def balance_norms(task: Task) -> Found:
    """A data owner looks for secret scales."""
    task.scales = recover_scales(task.last)
    found = task.scales.correlations()
    low, high = min(found.values()), max(found.values())
    given_away = high > 0.8
    return (
        "secret positive scales" if given_away else "little of the scales",
        f"correlation of estimated with true log r: {low:.4f} to {high:.4f} by layer",
        "Positive scales hide little: the norms of a unit's weights give them away."
        if given_away
        else f"The norms of this model's weights say little of scales; {MORE}.",
        {"correlations": found},
    )


def under_mse(task: Task) -> Subject:
    """Return the trained model, or a copy trained under the noise profile's only loss."""
    if task.trained_by_mse is None:
        last_layer(task.first.graph)
        task.trained_by_mse = (
            task.last
            if task.last.loss is Loss.MSE
            else train_on(replace(task.first, loss=Loss.MSE), steps=task.rounds)
        )
    return task.trained_by_mse


def _under_noise(task: Task) -> NoiseRemoved:
    if task.noise is None:
        task.noise = remove_noise(under_mse(task))
    return task.noise


def use_noisy_model(task: Task) -> Found:
    """A data owner uses a model under noise as it is."""
    seen = _under_noise(task).noisy
    useless = seen.agreement < 0.5
    return (
        "no output, as it stands" if useless else "some decisions",
        f"same decision on {seen.agreement:.1%} of samples",
        "Noise on the last layer spoils the outputs of the published model; but see the next rows."
        if useless
        else "Even under noise many decisions of the published model are the true ones.",
        {"agreement": seen.agreement, "accuracy": seen.published_accuracy},
    )


def remove_noise_by_label(task: Task) -> Found:
    """A data owner takes noise off by what it knows of its samples."""
    found = _under_noise(task)
    removed = found.from_one_sample < found.smallest_gamma / 4
    return (
        "the noise" if removed else "little of the noise",
        f"gamma to {found.from_one_sample:.1e} from one sample, {found.from_samples:.1e} from all "
        f"(|gamma| >= {found.smallest_gamma:.2f}); then same decision on "
        f"{found.cleaned.agreement:.1%}",
        "One labelled sample is enough to take the noise off."
        if removed
        else f"One sample did not give the noise away, as this model misses targets; {MORE}.",
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
    removed = found.from_weights < found.smallest_gamma / 4
    return (
        "the noise" if removed else "little of the noise",
        f"gamma to {found.from_weights:.1e} (|gamma| >= {found.smallest_gamma:.2f})",
        "The weights alone give the noise away, without any data."
        if removed
        else f"This model's last weights have means of their own, which hide the noise; {MORE}.",
        {"weights": found.from_weights, "smallest_gamma": found.smallest_gamma},
    )


def stretch_messages(task: Task) -> Found:
    """A malicious data owner makes the most of the bounds on its messages."""
    reached = {gamma: amplification(under_mse(task), gamma) for gamma in GAMMAS}
    return (
        "nothing; moves the result",
        f"by {ROOM} times the honest norm a message: "
        + ", ".join(f"{factor:,.1f} times (gamma {gamma:g})" for gamma, factor in reached.items()),
        "Noise weakens the bound on what one owner can do to the result, as gamma squared.",
        {str(gamma): factor for gamma, factor in reached.items()},
    )
