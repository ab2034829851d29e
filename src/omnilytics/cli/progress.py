"""A progress bar on standard error, gone when it is done; plain lines where that is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from omnilytics.client.events import Event


class Told:
    """What a long command is told while it works, and shows."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._shown = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[status]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    @contextmanager
    def on_bar(self, what: str, total: int, *, done: int = 0) -> Iterator[None]:
        """Show a bar while the block runs."""
        task = self._shown.add_task(what, total=total, completed=done, status="")
        with self._shown:
            yield
        self._shown.remove_task(task)

    def reached(self, number: int) -> None:
        """So many of all are done."""
        for task in self._shown.task_ids:
            self._shown.update(task, completed=number)

    def happened(self, event: Event) -> None:
        """Show what happened; waiting only on a bar."""
        if self._console.is_terminal:
            for task in self._shown.task_ids:
                self._shown.update(task, status=event.message)
        elif event.kind != "waiting":
            self._console.print(event.message, markup=False, soft_wrap=True)
