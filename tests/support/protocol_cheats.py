"""The cheating parties of the demo, without their market."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from protocol_world import Case, Submission, World

from omnilytics.algebra.fixed_point import IntegerVector
from omnilytics.demo.cheats import (
    BOOST,
    FalseNormOwner,
    LyingServer,
    MisdealingOwner,
    WrappingOwner,
)
from omnilytics.roles.data_owner import DataOwner
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.task_view import TaskView
from omnilytics.wire.package import Opening
from omnilytics.wire.transcript import ServerWords


def make_owner(kind: type[DataOwner], world: World) -> DataOwner:
    nothing: Any = None
    return kind(
        key=world.new_key(),
        market=nothing,
        writer=nothing,
        connect=nothing,
        batches=nothing,
        randomness=world.randomness,
    )


def cheat(kind: type[DataOwner], world: World, scale: float = 1.0) -> Submission:
    """Return the cheat's submission; its form is in order, so every server gives a receipt."""
    owner = make_owner(kind, world)
    view = cast(TaskView, SimpleNamespace(parameters=world.parameters))
    packages: Sequence[Opening] = owner.build_packages(
        view, world.context, _vector(kind, owner, view, world, scale)
    )
    return world.submit(owner.key, packages)


def _vector(
    kind: type[DataOwner], owner: DataOwner, view: TaskView, world: World, scale: float
) -> IntegerVector:
    if kind is WrappingOwner:
        return owner.encode(view, {})[0]
    honest = world.vector(scale)
    return honest * BOOST if kind is FalseNormOwner else honest


def lying_words(case: Case, server: int) -> ServerWords:
    """Return what the demo's lying server posts in an even round."""
    node = ServerNode(*[cast(Any, None)] * 6)
    packages = [case.packages[owner][server - 1] for owner in case.owners]
    return case.sign(server, LyingServer(node).answering.compute_words(case.sealed, packages))


CHEATS: dict[str, type[DataOwner]] = {
    "false norm": FalseNormOwner,
    "wrapping": WrappingOwner,
    "misdealing": MisdealingOwner,
}
