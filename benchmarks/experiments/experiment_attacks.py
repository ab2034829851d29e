"""Malicious data owners of the experiments: what they send, and how they prove it.

Four attacks of the literature (EIFFeL, CCS 2022, uses the same): a boosted and reversed gradient,
a reversed gradient, Gaussian noise, flipped labels. Each is sent in one of two forms: *raw*, as the
attack has it, with a proof that claims the bound where the vector is longer; or *within*, shortened
to the bound and proved honestly, the most that a validated market lets anyone send.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from omnilytics.algebra.field import FieldVector
from omnilytics.algebra.fixed_point import FloatVector, IntegerVector, round_vector
from omnilytics.demo.cheats import forged_bits
from omnilytics.foundation.randomness import Randomness
from omnilytics.foundation.units import Hash32
from omnilytics.learning.datasets import Batch
from omnilytics.protocol.package_builder import PackageBuilder
from omnilytics.validity.prover import project
from omnilytics.validity.statement import Statement

BOOST = 20.0
"""How many times as long as the owner's gradient a boosted one is."""
NOISE_NORM = 100.0
"""Expected norm of the noise, in bounds."""


class Attack(StrEnum):
    """What a malicious owner does."""

    NONE = "none"
    SCALING = "scaling"
    SIGN_FLIP = "sign flip"
    NOISE = "Gaussian noise"
    LABEL_FLIP = "label flip"


class Mode(StrEnum):
    """Whether submissions are validated, and in which form malicious owners then send."""

    UNVALIDATED = "no validation"
    FORGED = "validation, proof forged"
    WITHIN = "validation, within the bound"


LENGTHENING = (Attack.SCALING, Attack.NOISE)
"""Attacks that make a vector longer; the others keep its norm, so no norm bound meets them."""


def modes_of(attack: Attack) -> tuple[Mode, ...]:
    """Return the modes that differ: an attack that keeps the norm has no proof to forge."""
    if attack in LENGTHENING:
        return tuple(Mode)
    return Mode.UNVALIDATED, Mode.WITHIN


def poisoned_batch(attack: Attack, batch: Batch, classes: int) -> Batch:
    """Return the batch a malicious owner trains on; classes 0, 1, ... become the last ones first.

    Args:
        attack: What it does.
        batch: Its own.
        classes: Labels are 0..classes-1.
    """
    if attack is not Attack.LABEL_FLIP:
        return batch
    return Batch(batch.inputs, classes - 1 - batch.labels)


def poisoned_vector(
    attack: Attack, vector: FloatVector, generator: np.random.Generator
) -> FloatVector:
    """Return the scaled vector a malicious owner wants to send, float64 (D,), of any norm.

    Args:
        attack: What it does.
        vector: What it would send if it were honest, in bounds.
        generator: For noise.
    """
    if attack is Attack.SCALING:
        return -BOOST * vector
    if attack is Attack.SIGN_FLIP:
        return -vector
    if attack is Attack.NOISE:
        deviation = NOISE_NORM / np.sqrt(len(vector))
        return vector + generator.normal(scale=deviation, size=len(vector))
    return vector


def encode(
    vector: FloatVector, statement: Statement, mode: Mode, randomness: Randomness
) -> IntegerVector:
    """Return the integers that are shared; longer than the bound only in a raw form.

    Args:
        vector: float64 (D,).
        statement: The task's.
        mode: `WITHIN` clips as an honest owner does.
        randomness: For rounding.
    """
    if mode is Mode.WITHIN:
        return round_vector(
            vector,
            components=statement.components,
            fractional_bits=statement.fractional_bits,
            randomness=randomness,
        ).values
    return np.rint(vector * 2.0**statement.fractional_bits).astype(np.int64)


class ForgingBuilder(PackageBuilder):
    """Shares any vector, with a proof that claims the bound for every component beyond it."""

    def prove(self, vector: IntegerVector, joint: Hash32) -> FieldVector:
        """Return proof bits: true ones for what is within the bound, forged ones for the rest."""
        statement = self.parameters.statement
        norms = [int(vector[part] @ vector[part]) for part in statement.component_slices()]
        claimed = [min(norm, statement.norm_bound) for norm in norms]
        return forged_bits(statement, claimed, project(statement, vector, joint))
