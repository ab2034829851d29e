"""Groups of channels that must be treated alike, as three union-finds with restrictions.

Scales, permutations and rotations are separate (perturbation.md section 2): an operation may tie or
forbid one and not another. A batch normalisation keeps a permutation and makes a fresh scale. A
restriction says why it is there, for people who ask what their network hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag


class Limit(IntFlag):
    """What the members of a group may not do; together they add up."""

    NOTHING = 0
    SIGN = 1
    """No scale is negative."""
    MAGNITUDE = 2
    """No scale is other than 1 or -1."""
    ORDER = 4
    """Channels stay in their order."""
    ROTATION = 8
    """No orthogonal matrix mixes the channels."""
    ONES = 16
    """An orthogonal matrix must keep the vector of ones."""
    FREQUENCY = 32
    """An orthogonal matrix must turn each pair of channels i and i + d/2 within itself."""


SCALE = Limit.SIGN | Limit.MAGNITUDE
EVERYTHING = SCALE | Limit.ORDER | Limit.ROTATION


@dataclass(frozen=True)
class Segment:
    """Channels of a value that belong to one group of each kind.

    Attributes:
        scale: Group of scales.
        order: Group of permutations.
        rotation: Group of orthogonal matrices.
        channels: How many.
        block: Entries that each channel stands for, one after another.
    """

    scale: int
    order: int
    rotation: int
    channels: int
    block: int = 1


Channels = tuple[Segment, ...]
"""The channels of a value, in order."""


class UnionFind:
    """Groups of channels, each with the restrictions of all its members and why."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self.channels: list[int] = []
        self.limits: list[Limit] = []
        self.reasons: list[dict[Limit, str]] = []

    def fresh(self, channels: int) -> int:
        """Return a new group."""
        self._parents.append(len(self._parents))
        self.channels.append(channels)
        self.limits.append(Limit.NOTHING)
        self.reasons.append({})
        return len(self._parents) - 1

    def find(self, item: int) -> int:
        """Return the root that stands for a group."""
        while self._parents[item] != item:
            self._parents[item] = self._parents[self._parents[item]]
            item = self._parents[item]
        return item

    def unite(self, first: int, second: int) -> None:
        """Make one group of two."""
        first, second = self.find(first), self.find(second)
        if first == second:
            return
        if self.channels[first] != self.channels[second]:
            raise AssertionError("groups of one structure have one size")
        self.limits[first] |= self.limits[second]
        self.reasons[first] = self.reasons[second] | self.reasons[first]
        self._parents[second] = first

    def restrict(self, item: int, limit: Limit, why: str) -> None:
        """Restrict a group."""
        root = self.find(item)
        for each in limit:
            self.reasons[root].setdefault(each, why)
        self.limits[root] |= limit

    def roots(self) -> list[int]:
        """Return the root of every group, in order of creation."""
        return [item for item, parent in enumerate(self._parents) if item == parent]


class Groups:
    """The three union-finds of one graph."""

    def __init__(self) -> None:
        self.scales = UnionFind()
        self.orders = UnionFind()
        self.rotations = UnionFind()

    def fresh(self, channels: int) -> Segment:
        """Return channels that are free in every way."""
        return Segment(
            self.scales.fresh(channels),
            self.orders.fresh(channels),
            self.rotations.fresh(channels),
            channels,
        )

    def rescaled(self, channels: Channels, why: str) -> Channels:
        """Return channels in the same order with fresh scales and no rotation."""
        return tuple(
            Segment(
                self.scales.fresh(each.channels),
                each.order,
                self._unrotated(each.channels, why),
                each.channels,
                each.block,
            )
            for each in channels
        )

    def restrict(self, channels: Channels, limit: Limit, why: str) -> None:
        """Restrict all groups of these channels."""
        for each in channels:
            self.scales.restrict(each.scale, limit & SCALE, why)
            self.orders.restrict(each.order, limit & Limit.ORDER, why)
            rotation = limit & (Limit.ROTATION | Limit.ONES | Limit.FREQUENCY)
            self.rotations.restrict(each.rotation, rotation, why)

    def pin(self, channels: Channels, why: str) -> None:
        """Leave these channels as they are."""
        self.restrict(channels, EVERYTHING, why)

    def tie(self, first: Channels, second: Channels, why: str) -> None:
        """Treat two values alike; where their channels are laid out differently, pin both."""
        if _structure(first) == _structure(second):
            for one, other in zip(first, second, strict=True):
                self.scales.unite(one.scale, other.scale)
                self.orders.unite(one.order, other.order)
                self.rotations.unite(one.rotation, other.rotation)
        else:
            self.pin(first, why)
            self.pin(second, why)

    def _unrotated(self, channels: int, why: str) -> int:
        rotation = self.rotations.fresh(channels)
        self.rotations.restrict(rotation, Limit.ROTATION, why)
        return rotation


def _structure(channels: Channels) -> list[tuple[int, int]]:
    return [(each.channels, each.block) for each in channels]
