"""What others learn of data owners' samples, in words."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from omnilytics.learning.audit.imprint import imprint
from omnilytics.learning.audit.inversion import invert_means
from omnilytics.learning.audit.model_rows import MORE
from omnilytics.learning.audit.shares import guess_from_shares
from omnilytics.learning.audit.task import Found, Task

SAMPLES = (1, 2, 4, 8, 16)
"""Samples in the sums that are inverted."""
UNITS = (40, 80, 160, 320, 640)
"""Of imprint layers."""
_TOLD_UNITS = 160
_OWNERS = 10
_MARGIN = 0.05
"""By how much a correlation is above a guess's where that counts."""


def guess_from_servers(task: Task) -> Found:
    """Servers guess a message from their shares."""
    seen = guess_from_shares(task.first)
    chance = 1 / np.sqrt(max(1, seen.entries // 2))
    return (
        f"nothing; {seen.privacy + 1} servers together: all of it",
        f"best linear guess correlates by {abs(seen.correlation):.3f} (chance: about "
        f"{chance:.3f}); {seen.privacy + 1} servers recover {seen.recovered:.0%} of entries",
        "A server's share says nothing of a message; more than t servers together read it.",
        {**asdict(seen), "chance": float(chance)},
    )


def invert_one_message(task: Task) -> Found:
    """Somebody who saw one message, which nobody may, inverts it."""
    samples = task.first.least_samples
    found, true = (
        invert_means(task.first, samples=samples, steps=task.steps, published=published)
        for published in (True, False)
    )
    beaten = found.correlation > found.baseline + _MARGIN
    return (
        "its samples" if beaten else "less than one could guess",
        f"correlation {found.correlation:.3f} (a guess: {found.baseline:.3f}), "
        f"{found.psnr:.1f} dB; with the true model: {true.correlation:.3f}",
        "Perturbation does not protect data owners: what does is that no one sees a message alone."
        if beaten
        else f"A guess by the label does better here than this attack; {MORE}.",
        {
            "correlation": found.correlation,
            "psnr": found.psnr,
            "true_correlation": true.correlation,
            "baseline": found.baseline,
            "samples": samples,
        },
    )


def invert_sums(task: Task) -> Found:
    """The model owner inverts what it is given."""
    least, most_samples = task.first.least_samples, len(task.first.data) // 2
    sizes = [size for size in SAMPLES if least <= size <= most_samples]
    models = {"in the first round": task.first}
    if task.rounds:
        models[f"after {task.rounds} rounds"] = task.last
    for name, subject in models.items():
        task.inversions[name] = tuple(
            invert_means(subject, samples=size, steps=task.steps) for size in sizes
        )
    most = {name: series[-1] for name, series in task.inversions.items()}
    each_model = "; ".join(
        f"{found.correlation:.3f} {name}, at best {found.best:.3f}" for name, found in most.items()
    )
    largest = next(iter(most.values()))
    beaten = largest.correlation > largest.baseline + _MARGIN
    return (
        "samples, better the fewer are in it" if not beaten else "samples, even of so many",
        f"of {sizes[-1]} samples: correlation {each_model} (a guess: {largest.baseline:.3f})",
        "What protects samples is how many are in a sum, not whose they are: "
        + (f"{sizes[-1]} do not suffice." if beaten else f"of {sizes[-1]}, a guess is as good."),
        {
            name: {
                str(each.samples): {
                    "correlation": each.correlation,
                    "best": each.best,
                    "psnr": each.psnr,
                    "best_psnr": each.best_psnr,
                    "baseline": each.baseline,
                }
                for each in series
            }
            for name, series in task.inversions.items()
        },
    )


def imprint_sum(task: Task) -> Found:
    """A hostile model owner publishes a network made to extract samples."""
    task.imprints = tuple(imprint(task.first, owners=_OWNERS, units=units) for units in UNITS)
    told = next(each for each in task.imprints if each.units == _TOLD_UNITS)
    refused = f"refuses it ({', '.join(told.refused)})" if told.refused else "passes it"
    return (
        "samples, exactly" if told.reconstructed else "nothing",
        f"{told.reconstructed:.0%} of {told.samples} samples of {told.owners} owners with "
        f"{told.units} units; {told.rounded:.0%} alike after the market's rounding; an owner's "
        f"inspection {refused}",
        "An exact sum over many owners does not stop a network that is built to extract samples; "
        + ("owners that inspect it refuse it." if told.refused else "nor does inspection.")
        if told.reconstructed
        else f"This layer extracted nothing; {MORE}.",
        {
            str(each.units): {
                "reconstructed": each.reconstructed,
                "rounded": each.rounded,
                "refused": each.refused,
            }
            for each in task.imprints
        },
    )
