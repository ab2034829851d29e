"""Which runs the experiments are, and how each network is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from experiment_attacks import Attack, Mode, modes_of

from omnilytics.learning.datasets import Batch, MarketData

OWNERS = 10
PERCENTAGES = (10, 20, 30)
MODELS = ("mlp", "lenet", "resnet20")


@dataclass(frozen=True)
class Training:
    """How a network is trained on a data set.

    Attributes:
        learning_rate: For Adam.
        batch_size: Samples per owner and round.
        rounds: Rounds.
        enlarge: Every pixel becomes so many a side: LeNet needs 12 pixels, and has its usual
            61,706 parameters from 32.
        seeds: Public seeds that the full experiments take.
    """

    learning_rate: float
    batch_size: int
    rounds: int
    enlarge: int = 1
    seeds: int = 1


TRAININGS = {
    ("digits", "mlp"): Training(1e-2, 32, 40, seeds=3),
    ("digits", "lenet"): Training(3e-3, 32, 40, enlarge=4),
    ("digits", "resnet20"): Training(5e-3, 32, 24),
    ("mnist", "mlp"): Training(5e-3, 64, 100, seeds=3),
    ("mnist", "lenet"): Training(2e-3, 64, 100),
    ("mnist", "resnet20"): Training(5e-3, 64, 60),
    ("cifar10", "mlp"): Training(2e-3, 64, 200),
    ("cifar10", "lenet"): Training(2e-3, 64, 200),
    ("cifar10", "resnet20"): Training(5e-3, 64, 200),
}


@dataclass(frozen=True)
class Run:
    """One training run of the experiments.

    Attributes:
        dataset: Name of the data set.
        model: Name of the network.
        attack: What malicious owners do.
        percentage: How many of a hundred owners are malicious.
        mode: Whether submissions are validated, and the form of the attack.
        seed: Public seed of data, weights and batches.
        rounds: Rounds of training.
    """

    dataset: str
    model: str
    attack: Attack
    percentage: int
    mode: Mode
    seed: int
    rounds: int

    @property
    def key(self) -> str:
        """Name of the run's row."""
        return "/".join(str(value) for value in asdict(self).values())

    @property
    def training(self) -> Training:
        """How the network is trained."""
        return replace(TRAININGS[self.dataset, self.model], rounds=self.rounds)

    @property
    def malicious(self) -> int:
        """How many of `OWNERS` are malicious: the last ones."""
        return round(OWNERS * self.percentage / 100)


def all_runs(dataset: str, models: tuple[str, ...] = MODELS, *, quick: bool = False) -> list[Run]:
    """Return the runs, the cheapest networks and the honest runs first.

    Args:
        dataset: Name of the data set.
        models: Names of networks.
        quick: One seed of the mlp, and a few rounds of the others with 30% malicious owners.
    """
    runs = []
    for model in models:
        training = TRAININGS[dataset, model]
        rounds = training.rounds if not quick or model == "mlp" else 8
        percentages = PERCENTAGES if not quick or model == "mlp" else PERCENTAGES[-1:]
        for seed in range(1, 1 + (1 if quick else training.seeds)):
            honest = (Attack.NONE, 0, Mode.UNVALIDATED), (Attack.NONE, 0, Mode.WITHIN)
            attacked = [
                (attack, percentage, mode)
                for attack in tuple(Attack)[1:]
                for percentage in percentages
                for mode in modes_of(attack)
            ]
            runs += [Run(dataset, model, *case, seed, rounds) for case in (*honest, *attacked)]
    return runs


def enlarged(data: MarketData, times: int) -> MarketData:
    """Return the same images with every pixel repeated so many times a side."""
    if times == 1:
        return data

    def repeated(batch: Batch) -> Batch:
        return Batch(batch.inputs.repeat(times, axis=-2).repeat(times, axis=-1), batch.labels)

    channels, height, width = data.input_shape
    return replace(
        data,
        input_shape=(channels, height * times, width * times),
        sample=repeated(data.sample),
        test=repeated(data.test),
        shards=tuple(map(repeated, data.shards)),
    )
