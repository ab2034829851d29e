"""Finding rotary positions in a traced module: x cos + rotate_half(x) sin, with constant tables.

Recognised as one operation because its gauge (turns by frequency) is lost on its parts. The tables
must be those of Su et al. (arXiv 2104.09864): angle t * base^(-2i/d), the halves repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx

from omnilytics.perturbation.interpreter import rotary_angles

_TOLERANCE = 1e-4
_DEFAULT_BASE = 10_000.0


@dataclass(frozen=True)
class Rotation:
    """The parts of x cos + cat(-second, first) sin in a traced graph."""

    value: fx.Node
    first: fx.Node
    second: fx.Node
    cosine: fx.Node
    sine: fx.Node
    inner: tuple[fx.Node, ...]
    """Nodes of the pattern that nothing else reads."""


def find_rotations(graph: fx.Graph) -> dict[fx.Node, Rotation]:
    """Return the rotations by the sum that each ends with."""
    found = {}
    for node in graph.nodes:
        if str(node.target) == "aten.add.Tensor":
            for rotation in _candidates(node):
                if all(len(each.users) == 1 for each in rotation.inner):
                    found[node] = rotation
    return found


def _candidates(total: fx.Node) -> Iterator[Rotation]:
    first, second = (cast("fx.Node", each) for each in total.args[:2])
    for straight, turned in ((first, second), (second, first)):
        if not (_is_call(straight, "mul") and _is_call(turned, "mul")):
            continue
        for value, cosine in _both_ways(straight):
            for joined, sine in _both_ways(turned):
                if not _is_call(joined, "cat"):
                    continue
                parts = cast("list[fx.Node]", joined.args[0])
                if len(parts) == 2 and _is_call(parts[0], "neg") and _comes_from(parts[1], value):
                    yield Rotation(
                        value=value,
                        first=parts[1],
                        second=cast("fx.Node", parts[0].args[0]),
                        cosine=cosine,
                        sine=sine,
                        inner=(straight, turned, joined, parts[0]),
                    )


def _comes_from(part: object, value: fx.Node) -> bool:
    """Tell whether a part was taken out of a value."""
    while isinstance(part, fx.Node):
        if part is value:
            return True
        part = part.args[0] if part.args else None
    return False


def _is_call(node: object, name: str) -> bool:
    return isinstance(node, fx.Node) and str(node.target).startswith(f"aten.{name}.")


def _both_ways(product: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    one, other = product.args[:2]
    if isinstance(one, fx.Node) and isinstance(other, fx.Node):
        yield one, other
        yield other, one


def base_of(cosine: Tensor, sine: Tensor, tokens: int, features: int) -> float | None:
    """Return the base whose tables these are, or None.

    Args:
        cosine: `tokens * features` numbers, in any shape that broadcasts as such.
        sine: Likewise.
        tokens: Tokens of a sequence.
        features: Features of a head.
    """
    if cosine.numel() != tokens * features or sine.numel() != tokens * features:
        return None
    cosine, sine = (each.reshape(tokens, features).double() for each in (cosine, sine))
    bases = [_DEFAULT_BASE]
    if tokens > 1 and features > 2:
        angle = float(torch.atan2(sine[1, 1], cosine[1, 1]))
        if 0 < angle < 1:
            exact = angle ** (-features / 2)
            bases += [float(round(exact)), exact]
    for base in bases:
        angles = rotary_angles(tokens, features, base).repeat(1, 2)
        close = (angles.cos() - cosine).abs().max() < _TOLERANCE
        if bool(close) and bool((angles.sin() - sine).abs().max() < _TOLERANCE):
            return base
    return None
