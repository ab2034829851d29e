"""Print what a profile costs: how far one owner can move the result, and what rounding leaves.

Run it from the repository with `.venv/bin/python benchmarks/profile_reach.py` (two minutes). The
bound of a round is on what is shared, component by component. An owner that puts all of it where
recovery enlarges it most moves the recovered sum by the *reach*; the honest gradient's norm is the
unit. The error is that of one owner's recovered gradient, relative, from fixed-point numbers alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from omnilytics.algebra.fixed_point import round_vector
from omnilytics.learning.calibration import calibrate
from omnilytics.learning.datasets import MarketData, load_market_data, owner_batch
from omnilytics.learning.encoding import Layout
from omnilytics.learning.gradients import compute_gradients
from omnilytics.learning.models import build_model
from omnilytics.learning.public_randomness import PublicRandomness
from omnilytics.learning.training import OptimiserSettings, Trainer
from omnilytics.perturbation.gauge import analyse
from omnilytics.perturbation.losses import Loss
from omnilytics.perturbation.profiles import Profile, ProfileName, messages
from omnilytics.perturbation.round_secret import RoundSecret, sample_round_secret

FRACTIONAL_BITS = (16, 22)
OWNERS, BATCH, ROUNDS, SEEDS = 4, 64, 10, 10
MAGNITUDE_BITS = (1, 2, 4, 8)
NOISE_SCALES = (0.001, 0.01, 0.1, 1.0)


@dataclass(frozen=True)
class _Row:
    reaches: list[float]
    errors: dict[int, list[float]]


def main() -> None:
    """Measure every profile on the digits network and print a table."""
    data = load_market_data("digits", owners=OWNERS, seed=1)
    errors = " | ".join(f"error, {bits} bits" for bits in FRACTIONAL_BITS)
    print(f"| profile | components | reach, median | largest | {errors} |")
    print("| --- | --- | --- | --- |" + " --- |" * len(FRACTIONAL_BITS))
    for profile in _profiles(data.classes):
        trainer = _trainer(data, profile)
        row = _measure(trainer, data, profile)
        count = len(messages(trainer.graph, profile))
        cells = [_name(profile), str(count), _short(median(row.reaches)), _short(max(row.reaches))]
        cells += [_short(median(row.errors[bits])) for bits in FRACTIONAL_BITS]
        print(f"| {' | '.join(cells)} |")


def _profiles(outputs: int) -> list[Profile]:
    found = [Profile()]
    found += [Profile(ProfileName.SCALES, magnitude_bits=bits) for bits in MAGNITUDE_BITS]
    factors = tuple(np.linspace(0.5, 1.5, outputs).tolist())
    found += [
        Profile(ProfileName.NOISE, noise_groups=1, noise_factors=factors, noise_scale=scale)
        for scale in NOISE_SCALES
    ]
    return found


def _trainer(data: MarketData, profile: Profile) -> Trainer:
    module = build_model("cnn", input_shape=data.input_shape, outputs=data.classes, seed=1)
    loss = Loss.MSE if profile.name is ProfileName.NOISE else Loss.CROSS_ENTROPY
    return Trainer(
        module, input_shape=data.input_shape, loss=loss, optimiser=OptimiserSettings("adam", 1e-2)
    )


def _measure(trainer: Trainer, data: MarketData, profile: Profile) -> _Row:
    scales = calibrate(
        trainer,
        data.sample,
        owners=OWNERS,
        batch_size=BATCH,
        rounds=ROUNDS,
        seed=1,
        profile=profile,
    ).scales
    layout, structure = Layout.of(trainer.graph, scales, profile), analyse(trainer.graph)
    sizes = [_entries(part) for part in messages(trainer.graph, profile).values()]
    row = _Row([], {bits: [] for bits in FRACTIONAL_BITS})
    for seed in range(SEEDS):
        secret = sample_round_secret(trainer.graph, structure, profile, PublicRandomness(seed))
        batch = owner_batch(data.shards[0], owner=0, round_number=seed + 1, size=BATCH, seed=1)
        sent = compute_gradients(trainer.artefact(secret), batch, trainer.loss, profile)
        exact = secret.recover(sent).gradients
        row.reaches.append(_reach(trainer, secret, profile, scales) / _norm(exact))
        for bits in FRACTIONAL_BITS:
            rounded = round_vector(
                layout.flatten(sent),
                components=sizes,
                fractional_bits=bits,
                randomness=PublicRandomness(seed),
            ).values
            mean = layout.mean_of_sum(rounded, fraction_bits=bits, accepted=1)
            back = secret.recover(mean).gradients
            error = _norm({name: back[name] - each for name, each in exact.items()})
            row.errors[bits].append(error / _norm(exact))
    return row


def _reach(
    trainer: Trainer, secret: RoundSecret, profile: Profile, scales: Mapping[str, float]
) -> float:
    """Return the largest norm of what one admitted vector adds to the recovered gradients.

    Every component has norm 1 at most, so that the best is one entry of each. Recovery is linear
    and gives an entry back in one place; only one of `sums` reaches a column of the last layer.
    """
    shapes = messages(trainer.graph, profile)
    nothing = {name: np.zeros(shape) for part in shapes.values() for name, shape in part.items()}
    total = 0.0
    for component, part in shapes.items():
        best = 0.0
        for name, shape in part.items():
            vector = np.full(shape, scales[name])
            if component == "sums":
                vector[1:] = 0.0
            alone = secret.recover(nothing | {name: vector}).gradients
            if component == "sums":
                best = max(best, _norm(alone))
            else:
                best = max(best, *(float(np.abs(each).max()) for each in alone.values()))
        total += best
    return total


def _entries(part: Mapping[str, tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape)) for shape in part.values())


def _norm(gradients: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(float(np.sum(np.square(each))) for each in gradients.values())))


def _name(profile: Profile) -> str:
    if profile.name is ProfileName.SCALES:
        return f"scales, magnitude_bits {profile.magnitude_bits}"
    if profile.name is ProfileName.NOISE:
        return f"noise, noise_scale {profile.noise_scale:g}"
    return "gauge"


def _short(value: float) -> str:
    return f"{value:.1e}" if value < 0.01 or value >= 1e5 else f"{value:,.3g}"


if __name__ == "__main__":
    main()
