"""What data owners learn of the model, in words."""

from __future__ import annotations

from dataclasses import asdict, replace
from math import isnan

from omnilytics.learning.audit.amplify import ROOM, amplification
from omnilytics.learning.audit.function import FunctionSeen, gauge_function
from omnilytics.learning.audit.matching import match_rounds
from omnilytics.learning.audit.noise import NoiseRemoved, last_layer, remove_noise
from omnilytics.learning.audit.scales import recover_scales
from omnilytics.learning.audit.subject import Subject, train_on
from omnilytics.learning.audit.task import Found, Task
from omnilytics.perturbation.losses import Loss

GAMMAS = (0.0, 0.01, 0.1, 1.0)
NOISE_SCALES = (0.01, 1.0)
"""The default of tasks, and one that spoils every output."""
USEFUL = 0.8
"""Share of decisions from which on a model is called usable."""
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


def _under_noise(task: Task) -> list[NoiseRemoved]:
    """Return the attack on noise of each scale."""
    for scale in NOISE_SCALES:
        if scale not in task.noise:
            task.noise[scale] = remove_noise(under_mse(task), scale)
    return [task.noise[scale] for scale in NOISE_SCALES]


def _decisions(seen: list[tuple[float, FunctionSeen]]) -> str:
    each = ", ".join(f"{one.agreement:.1%} (noise_scale {scale:g})" for scale, one in seen)
    return f"same decision on {each}"


def use_noisy_model(task: Task) -> Found:
    """A data owner uses a model under noise as it is."""
    seen = [(found.noise_scale, found.noisy) for found in _under_noise(task)]
    useless = seen[0][1].agreement < USEFUL
    return (
        "little, as it stands" if useless else "what the model decides, mostly",
        _decisions(seen),
        "Noise on the last layer spoils the outputs of the published model; but see the next rows."
        if useless
        else "Noise of the default scale leaves most decisions of the published model alone.",
        {str(scale): asdict(one) for scale, one in seen},
    )


def _removed(errors: list[str], seen: list[tuple[float, FunctionSeen]], by: str) -> Found:
    removed = min(one.agreement for _, one in seen) > USEFUL
    return (
        "the noise" if removed else "part of the noise",
        "; ".join([*errors, _decisions(seen)]),
        f"{by} are enough to take the noise off."
        if removed
        else f"{by} do not take all the noise off; {MORE}.",
        {str(scale): asdict(one) for scale, one in seen},
    )


def remove_noise_by_labels(task: Task) -> Found:
    """A data owner takes noise off by what it knows of its samples."""
    found = _under_noise(task)
    one = max(each.from_one_sample for each in found)
    every = max(each.from_samples for each in found)
    errors = [f"gamma to {one:.1e} from one sample, {every:.1e} from {len(task.last.data):,}"]
    learns, measured, said, figures = _removed(
        errors, [(each.noise_scale, each.without_all) for each in found], "Labelled samples"
    )
    single = {str(each.noise_scale): asdict(each.without_one) for each in found}
    figures |= {"from_one_sample": one, "from_samples": every, "without_one": single}
    return learns, measured, said, figures


def remove_noise_by_weights(task: Task) -> Found:
    """A data owner takes noise off without data."""
    found = _under_noise(task)
    error = max(each.from_weights for each in found)
    learns, measured, said, figures = _removed(
        [f"gamma to {error:.1e}"],
        [(each.noise_scale, each.without_weights) for each in found],
        "The weights alone",
    )
    return learns, measured, said, figures | {"from_weights": error}


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
