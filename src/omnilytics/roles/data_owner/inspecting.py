"""Fetching a round's model, and looking at it before anything is computed on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omnilytics.chain.reader import MarketReader
from omnilytics.foundation.errors import OmniLyticsError, PeerError, VerificationError
from omnilytics.foundation.units import Hash32, Round
from omnilytics.learning.datasets import Batch
from omnilytics.learning.inspection import (
    Finding,
    Level,
    inspect_artefact,
    inspect_terms,
    refuse_risks,
)
from omnilytics.perturbation.artefact import Artefact, decode_artefact, frozen_hash_of
from omnilytics.protocol.context import RoundContext
from omnilytics.roles.data_owner.sent import Forgetful, SentKeeper
from omnilytics.roles.task_view import (
    Connect,
    TaskView,
    fetch_blob,
    round_context,
    task_layout,
    task_profile,
)
from omnilytics.wire.hashing import content_hash

Inspect = Callable[[TaskView, Artefact], None]
"""Raises VerificationError where an owner does not want to compute on a published model."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What was found about a task and its present model.

    Attributes:
        view: The checked task.
        round: The round whose model was looked at; None where there is none yet.
        findings: In the order of the checks.
    """

    view: TaskView
    round: Round | None
    findings: list[Finding]


async def fetch_artefact(
    view: TaskView, context: RoundContext, connect: Connect, keeper: SentKeeper | None = None
) -> Artefact:
    """Fetch, check and decode the model of a round; a keeper spares frozen weights the second time.

    Raises:
        PeerError: No server has it.
        VerificationError: It is malformed or not the task's model.
        ModelError: It is unsound or larger than the limits.
    """
    content = await fetch_blob("fetch", context.artefact_hash, view.endpoints, connect)
    frozen = await _frozen_weights(view, content, connect, keeper or Forgetful())
    artefact = decode_artefact(content, frozen=frozen)
    specification = view.specification
    profile, graph = task_profile(specification), artefact.graph
    task_layout(specification).matches(graph, profile)
    read = (specification.input_kind, specification.input_shape)
    if (graph.input_kind, graph.input_shape) != read or graph.dtype is not profile.dtype:
        raise VerificationError(
            "the artefact reads another input than the task says",
            got=(graph.input_kind.value, graph.input_shape, graph.dtype.value),
            want=(*read, profile.dtype.value),
        )
    return artefact


async def _frozen_weights(
    view: TaskView, artefact: bytes, connect: Connect, keeper: SentKeeper
) -> bytes | None:
    """Return the frozen weights that an artefact refers to."""
    name = frozen_hash_of(artefact)
    if name is None:
        return None
    kept = keeper.frozen(view.task)
    if kept is None or content_hash(kept) != name:
        kept = await fetch_blob("fetch", Hash32(name), view.endpoints, connect)
        keeper.keep_frozen(view.task, kept)
    return kept


def refuse_risky(view: TaskView, artefact: Artefact) -> None:
    """Raise VerificationError where inspection refuses a task's terms or published model.

    How few owners an owner accepts is its own matter, and not judged here.
    """
    terms = inspect_terms(view.specification, fewest_owners=1)
    refuse_risks([*terms, *_inspect(view, artefact)], task=view.task)


async def look_at(
    market: MarketReader,
    view: TaskView,
    connect: Connect,
    *,
    fewest_owners: int = 2,
    batch_size: int | None = None,
    read_samples: Callable[[TaskView], Batch | None] = lambda _view: None,
) -> Looked:
    """Return what there is to find about a task's terms and the model of its latest round.

    Args:
        market: The market.
        view: The checked task.
        connect: Reaches servers.
        fewest_owners: A sum over fewer is refused.
        batch_size: Samples that the owner means to use in a round, if it says.
        read_samples: Gives some of the owner's own samples, if it wants them looked at.
    """
    terms = inspect_terms(view.specification, fewest_owners=fewest_owners, batch_size=batch_size)
    number = market.round_state(view.task).round
    if not number:
        said = "no round was opened yet, so there is no model to look at"
        unseen = Finding(check="artefact", level=Level.WARN, said=said)
        return Looked(view=view, round=None, findings=[*terms, unseen])
    found = await _model_findings(market, view, connect, number, read_samples)
    return Looked(view=view, round=number, findings=[*terms, *found])


async def _model_findings(
    market: MarketReader,
    view: TaskView,
    connect: Connect,
    number: Round,
    read_samples: Callable[[TaskView], Batch | None],
) -> list[Finding]:
    context = round_context(market, view.task, number)
    place = f"round {number}"
    try:
        artefact = await fetch_artefact(view, context, connect)
    except PeerError as error:
        said = f"the model is not to be had: {error}"
        return [Finding(check="artefact", level=Level.WARN, said=said, place=place)]
    except OmniLyticsError as error:
        said = f"the model is refused: {error}"
        return [Finding(check="artefact", level=Level.REFUSE, said=said, place=place)]
    graph = artefact.graph
    said = (
        f"hash, form and limits are right: {len(graph.nodes)} operations, "
        f"{graph.parameter_count:,} parameters, {graph.multiply_adds:,} multiply-adds a sample"
    )
    sound = Finding(check="artefact", level=Level.OK, said=said, place=place)
    return [sound, *_inspect(view, artefact, read_samples(view))]


def _inspect(view: TaskView, artefact: Artefact, samples: Batch | None = None) -> list[Finding]:
    task = view.specification
    return inspect_artefact(
        artefact, task.scales, magnitude_bits=task.magnitude_bits, samples=samples
    )
