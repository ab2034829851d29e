"""A progress bar on standard error, gone when it is done; nothing where that is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from omnilytics.client.events import Event


class Bar(Protocol):
    """What a long step tells how far it is."""

    def reached(self, number: int) -> None:
        """So many of all are done."""

    def happened(self, event: Event) -> None:
        """Something happened meanwhile."""


@contextmanager
def progress_bar(what: str, total: int, *, done: int = 0) -> Iterator[Bar]:
    """Show how far something is.

    Where there is no terminal, what happens is told line by line instead, but for waiting.
    """
    console = Console(stderr=True, highlight=False)
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[status]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = shown.add_task(what, total=total, completed=done, status="")

    class _Bar:
        def reached(self, number: int) -> None:
            shown.update(task, completed=number)

        def happened(self, event: Event) -> None:
            if console.is_terminal:
                shown.update(task, status=event.message)
            elif event.kind != "waiting":
                console.print(event.message, markup=False, soft_wrap=True)

    with shown:
        yield _Bar()
