"""What a model owner asks for, as keyword arguments, and the specification that follows.

Every key has a default but `sample`. Amounts are texts such as "0.001 ether", or integers of wei.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from omnilytics.wire.task_specification import Windows

Amount = str | int
"""Such as "0.001 ether", "20 gwei", or an integer of wei."""


class Terms(TypedDict, total=False):
    """Keyword arguments of `ModelOwner.draft` and `ModelOwner.publish`."""

    sample: Any
    """The buyer's own data (Dataset, DataLoader, NumPy pair), for the scales; it never travels."""
    input_kind: Literal["numbers", "tokens"]
    """What the module reads: float32, or whole numbers into an embedding."""
    loss: Literal["cross_entropy", "mse", "binary_cross_entropy"]
    profile: Literal["gauge", "scales", "noise"]
    """How the model is perturbed: see docs/perturbation-profiles.md."""
    magnitude_bits: int
    """Of the profile scales: they are 2^u with u in -magnitude_bits .. magnitude_bits, 1 to 8.

    One owner's harm grows up to 16-fold with each."""
    noise_groups: int
    """Of the profile noise: into how many groups the outputs are shared out, 1 to 4."""
    noise_scale: float
    """Of the profile noise: how large it is; one owner's harm grows with its square."""
    name: str
    """Folder of the task's state, and its title unless one is given."""
    title: str
    description: str
    preprocessing: str
    """How owners prepare their data, in words; they apply it."""
    contact: str
    model_licence: str
    committee: Sequence[str] | Literal["drawn"]
    """Addresses of the servers, or "drawn" to have the chain draw `servers` of them."""
    servers: int
    """Of a drawn committee: how many."""
    privacy: int
    """t: so many servers together learn nothing."""
    errors: int
    """e: so many servers may lie or be down."""
    rounds: int
    max_rounds: int
    """Up to so many rounds may be paid for later."""
    min_owners: int
    max_owners: int
    owners: Sequence[str]
    """Addresses of the owners that are admitted; everybody where there is none."""
    reward: Amount
    """For each accepted gradient."""
    fee: Amount
    """For each server and settled round."""
    opening_fee: Amount
    """For the committee, by opened round."""
    stake: Amount
    """What each server must have at stake."""
    bond: Amount
    """What each owner must have as a bond."""
    windows: Literal["standard", "quick"] | Windows
    window: Mapping[str, int]
    """Single windows that replace those of the preset, by their names in docs/wire.md."""
    batch_size: int
    """Samples that an owner is expected to use in a round, for the scales."""
    learning_rate: float
    """Step of the simulated training that the scales are measured in."""
    calibration: Literal["training", "weights"]
    """What the scales rest on: a simulated training, or gradients at the present weights alone."""
    scales: Mapping[str, float]
    """Scale of every tensor, where they are known already: nothing is measured then."""
    fractional_bits: int
    """Of the shared numbers, 4 to 24; `omnilytics task calibrate` proposes how many are enough.

    By default 16, and 22 outside the profile gauge."""
