"""Runs every attack on one task; no attack is left out in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from omnilytics.learning.audit import data_rows, model_rows
from omnilytics.learning.audit.findings import Audit, Finding
from omnilytics.learning.audit.structure import NotApplicable
from omnilytics.learning.audit.subject import Subject, train_on
from omnilytics.learning.audit.task import Found, Task


@dataclass(frozen=True)
class Attack:
    """Its name, who can do it, what that party sees, and what runs it."""

    name: str
    who: str
    sees: str
    run: Callable[[Task], Found]


_PUBLISHED = "the published model"

ATTACKS = (
    Attack("use the model", "a data owner", _PUBLISHED, model_rows.use_model),
    Attack(
        "match rounds", "a data owner", "two rounds' published models", model_rows.match_two_rounds
    ),
    Attack(
        "balance norms", "a data owner", "a model under secret scales", model_rows.balance_norms
    ),
    Attack(
        "use a noisy model", "a data owner", "a model under noise (mse)", model_rows.use_noisy_model
    ),
    Attack(
        "remove noise by labels",
        "a data owner",
        "that, and labelled samples",
        model_rows.remove_noise_by_labels,
    ),
    Attack(
        "remove noise by weights",
        "a data owner",
        "that alone",
        model_rows.remove_noise_by_weights,
    ),
    Attack(
        "stretch messages",
        "a malicious data owner",
        "a model under noise (mse)",
        model_rows.stretch_messages,
    ),
    Attack("guess from shares", "t servers", "shares of one message", data_rows.guess_from_servers),
    Attack(
        "invert one message",
        "whoever saw one message",
        f"{_PUBLISHED}, its gradient",
        data_rows.invert_one_message,
    ),
    Attack(
        "invert sums",
        "the model owner",
        "the mean of many samples' gradients",
        data_rows.invert_sums,
    ),
    Attack(
        "imprint layer",
        "a hostile model owner",
        "the sum, on a network of its making",
        data_rows.imprint_sum,
    ),
)
"""In the order of the table."""


def run_audit(
    subject: Subject,
    *,
    rounds: int = 40,
    steps: int = 300,
    told: Callable[[str], None] = lambda name: None,
) -> Audit:
    """Run all attacks.

    Args:
        subject: The model as the first round publishes it, and data like the owners'.
        rounds: Steps that are taken on these data before the attacks on a trained model.
        steps: Of each gradient inversion; most of the time goes there.
        told: Called with the name of each attack before it is run.
    """
    told("training")
    task = Task(subject, train_on(subject, steps=rounds), rounds, steps)
    findings = tuple(_run_all(task, told))
    return Audit(findings, task.inversions, task.imprints, task.scales)


def _run_all(task: Task, told: Callable[[str], None]) -> Iterator[Finding]:
    for attack in ATTACKS:
        told(attack.name)
        try:
            learns, measured, said, figures = attack.run(task)
        except NotApplicable as reason:
            yield Finding(
                attack.name,
                attack.who,
                attack.sees,
                "not applicable",
                str(reason),
                f"Not applicable: {reason}.",
                applies=False,
            )
        else:
            yield Finding(attack.name, attack.who, attack.sees, learns, measured, said, figures)
