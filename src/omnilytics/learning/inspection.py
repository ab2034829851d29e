"""What a data owner finds in a task and in a published model before it computes for them.

A sound artefact is not a benign one: this looks for signs that a model owner wants samples rather
than gradients, and says `refuse`, `warn` or `ok` for each. Refusals are set so that honest
networks, fresh or trained, cause none (docs/inspection.md has what was measured on both kinds).
"ok" is no promise: what a data owner is promised rests on how many owners and samples are in a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from omnilytics.foundation.errors import VerificationError
from omnilytics.learning.datasets import Batch
from omnilytics.learning.inspection_layers import Layer, copying_convolutions, measure_layers
from omnilytics.learning.inspection_numbers import (
    lonely_share,
    measure_outputs,
    measure_scales,
    measure_weights,
)
from omnilytics.perturbation.artefact import Artefact
from omnilytics.wire.task_specification import TaskSpecification

WARNED_OWNERS = 5
WARNED_BATCH, REFUSED_BATCH = 16, 1
WARNED_GRADED, REFUSED_GRADED = 8, 24
WARNED_PICKERS, REFUSED_PICKERS = 0.25, 0.5
REFUSED_MIRRORED = 0.25
WARNED_FAN_OUT, REFUSED_FAN_OUT = (4, 512), (64, 4096)
"""Units for each input, together with units at all, of a layer that reads the input."""
WARNED_SCALE_RATIO, REFUSED_SCALE_RATIO = 1e3, 1e5
WARNED_SCALE_PER_WEIGHT, REFUSED_SCALE_PER_WEIGHT = 1e3, 1e6
WARNED_WEIGHT, REFUSED_WEIGHT = 1e2, 1e4
WARNED_CONSTANT, REFUSED_CONSTANT = 1e3, 1e6
"""Of an operation that multiplies by a constant."""
WARNED_NOISE, REFUSED_NOISE = 10.0, 1e4
"""Largest noise factor by the scale of the secret ones; a mean of targets is about 1."""
LONELY_SAMPLES = 128
"""Samples that it takes to judge how many stand alone; a sum has that many soon."""
WARNED_LONELY, REFUSED_LONELY = 0.1, 0.3


class Level(StrEnum):
    """What follows from a finding."""

    OK = "ok"
    WARN = "warn"
    REFUSE = "refuse"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check: its name, what follows, what was seen, and where."""

    check: str
    level: Level
    said: str
    place: str | None = None
    """Node, tensor or field of the specification."""

    def as_dict(self) -> dict[str, Any]:
        """The finding as plain JSON values."""
        return {
            "check": self.check,
            "level": str(self.level),
            "said": self.said,
            "place": self.place,
        }


def worst(findings: list[Finding]) -> Level:
    """Return the worst level among findings."""
    return max((finding.level for finding in findings), key=list(Level).index, default=Level.OK)


def refuse_risks(findings: list[Finding], **ids: object) -> None:
    """Raise VerificationError if any finding is a refusal; it says the first of them."""
    refused = [finding for finding in findings if finding.level is Level.REFUSE]
    if refused:
        more = f" ({len(refused) - 1} more)" if len(refused) > 1 else ""
        raise VerificationError(
            f"the task asks for more than a gradient: {refused[0].said}{more}",
            hint="omnilytics data inspect-task tells all; --accept-risks (accept_risks=True) "
            "computes for it all the same",
            check=refused[0].check,
            **({"place": refused[0].place} if refused[0].place else {}),
            **ids,
        )


def inspect_terms(
    specification: TaskSpecification, *, fewest_owners: int = 2, batch_size: int | None = None
) -> list[Finding]:
    """Return what the terms of a task mean for the privacy of one owner's samples.

    Args:
        specification: The checked specification.
        fewest_owners: A sum over fewer is refused.
        batch_size: Samples that the owner means to use in a round, if it says.
    """
    owners = specification.min_owners
    said = f"a sum may be released over {owners} owners"
    found = [_enough("owners", said, owners, WARNED_OWNERS, fewest_owners, "min_owners")]
    if batch_size is not None:
        said = f"the gradient is a mean over {batch_size} of your samples"
        found.append(_enough("batch", said, batch_size, WARNED_BATCH, REFUSED_BATCH + 1))
    ratio, place = max(
        measure_scales({slot.name: slot.scale for slot in component.tensors})
        for component in specification.components
    )
    said = f"published scales of one component differ by a factor of up to {ratio:.3g}"
    room = _room(specification.magnitude_bits) ** 2
    warned, refused = WARNED_SCALE_RATIO * room, REFUSED_SCALE_RATIO * room
    found.append(_judged("scales", said, ratio, warned, refused, place))
    if specification.noise_factors:
        found.append(_noise_finding(specification))
    return found


def _noise_finding(specification: TaskSpecification) -> Finding:
    factors = [abs(factor) for factor in specification.noise_factors]
    largest = specification.noise_scale * max(factors)
    said = (
        f"noise of up to {largest:.3g}; each owner sends {specification.noise_groups + 2} sums "
        "more than a gradient"
    )
    return _judged("noise", said, largest, WARNED_NOISE, REFUSED_NOISE, "noise_scale")


def _room(magnitude_bits: int) -> float:
    """Return by how much the profile's scales may enlarge a tensor: 2^bits from either side."""
    return 4.0**magnitude_bits


def inspect_artefact(
    artefact: Artefact,
    scales: Mapping[str, float],
    *,
    magnitude_bits: int = 0,
    samples: Batch | None = None,
) -> list[Finding]:
    """Return what a published model looks like.

    Args:
        artefact: A decoded artefact of the task; nothing in it is executed but listed operations.
        scales: Published scale of every trained tensor.
        magnitude_bits: Of the task's profile.
        samples: Some of the owner's own, as the model takes them; they say more than random
            inputs about which of them would stand alone in a gradient.
    """
    layers = measure_layers(artefact, magnitudes=magnitude_bits > 0)
    found = [finding for layer in layers for finding in _layer_findings(layer)]
    found += _copy_findings(artefact, layers)
    found = [finding for finding in found if finding.level is not Level.OK] or [
        _ok("layers", f"none of {len(layers)} hidden linear layers looks built to copy samples")
    ]
    size, room = measure_weights(artefact, scales), _room(magnitude_bits)
    found += [
        _judged(check, most.said, most.factor, warned * room, refused * room, most.tensor)
        for check, most, warned, refused in (
            ("weights", size.weight, WARNED_WEIGHT, REFUSED_WEIGHT),
            ("scale", size.scale, WARNED_SCALE_PER_WEIGHT, REFUSED_SCALE_PER_WEIGHT),
            ("constants", size.constant, WARNED_CONSTANT, REFUSED_CONSTANT),
        )
    ]
    found.append(_output_finding(artefact, samples))
    if samples is not None:
        found.append(_lonely_finding(artefact, samples))
    return found


def _layer_findings(layer: Layer) -> list[Finding]:
    size = f"layer {layer.outputs} x {layer.inputs}"
    bins = "units measure one thing against different thresholds, as bins for samples do"
    judged = [
        _judged(
            "graded-rows",
            f"{size}: {layer.graded} {bins}",
            layer.graded,
            WARNED_GRADED,
            REFUSED_GRADED,
            layer.node,
        ),
        _judged(
            "graded-rows",
            f"{size}, with its neighbour: {layer.composed} {bins}",
            layer.composed,
            WARNED_GRADED,
            max(REFUSED_GRADED, layer.outputs / 2),
            layer.node,
        ),
        _judged(
            "one-input-rows",
            f"{size}: {layer.pickers} units read one input each",
            layer.pickers / layer.outputs,
            WARNED_PICKERS,
            REFUSED_PICKERS,
            layer.node,
        ),
        _judged(
            "trap-rows",
            f"{size}: {layer.mirrored} units have weights that cancel for nearly every input",
            layer.mirrored / layer.outputs,
            REFUSED_MIRRORED,
            REFUSED_MIRRORED,
            layer.node,
        ),
    ]
    if layer.reads_input:
        said = f"{size}: {layer.outputs} units read {layer.inputs} inputs"
        wide = [
            level
            for level, (factor, least) in (
                (Level.REFUSE, REFUSED_FAN_OUT),
                (Level.WARN, WARNED_FAN_OUT),
            )
            if layer.outputs >= max(factor * layer.inputs, least)
        ]
        level = wide[0] if wide else Level.OK
        judged.append(Finding(check="fan-out", level=level, said=said, place=layer.node))
    return judged


def _copy_findings(artefact: Artefact, layers: list[Layer]) -> list[Finding]:
    carried = {layer.copied_by: layer for layer in layers if layer.copied_by}
    found = []
    for name in copying_convolutions(artefact.graph, artefact.weights):
        layer = carried.get(name)
        goal = f"linear layer {layer.node}" if layer else "later layers"
        said = f"the convolution hands its input on, unchanged, to {goal}"
        level = Level.REFUSE if layer else Level.WARN
        found.append(Finding(check="copying-convolution", level=level, said=said, place=name))
    return found


def _output_finding(artefact: Artefact, samples: Batch | None) -> Finding:
    seen = measure_outputs(artefact, samples)
    place = artefact.graph.nodes[-1].name
    if not seen.finite:
        said, level = "outputs are NaN or infinite", Level.REFUSE
    elif seen.constant:
        said, level = "outputs are the same for all inputs", Level.WARN
    else:
        said, level = "outputs are finite and depend on the input", Level.OK
    return Finding(check="outputs", level=level, said=said, place=place)


def _lonely_finding(artefact: Artefact, samples: Batch) -> Finding:
    if len(samples) < LONELY_SAMPLES:
        said = f"{len(samples)} samples are too few to say how many would stand alone in a sum"
        return _ok("lonely-samples", said)
    share, place = lonely_share(artefact, samples)
    said = f"{share:.0%} of {len(samples)} samples alone switch a unit, which then shows them"
    return _judged("lonely-samples", said, share, WARNED_LONELY, REFUSED_LONELY, place)


def _judged(
    check: str, said: str, got: float, warned: float, refused: float, place: str | None = None
) -> Finding:
    """Return the finding of a number that is worse the larger it is."""
    level = Level.REFUSE if got >= refused else Level.WARN if got >= warned else Level.OK
    return Finding(check=check, level=level, said=said, place=place)


def _enough(
    check: str, said: str, got: int, wanted: int, needed: int, place: str | None = None
) -> Finding:
    """Return the finding of a number that is worse the smaller it is."""
    level = Level.REFUSE if got < needed else Level.WARN if got < wanted else Level.OK
    return Finding(check=check, level=level, said=said, place=place)


def _ok(check: str, said: str) -> Finding:
    return Finding(check=check, level=Level.OK, said=said)
