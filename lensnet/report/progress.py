"""A progress bar over seeds, on stderr, and only where somebody is looking."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from lensnet.measure.ensemble import Progress as Counter


class _Bar:
    """Shown from entering to leaving; silent when stderr is not a terminal. Use as a context manager."""

    def __init__(self, label: str, silent: bool) -> None:
        self.label = label
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._silent = silent or not sys.stderr.isatty()
        self._done = 0

    def __enter__(self) -> Self:
        if not self._silent:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(file=sys.stderr, markup=False), transient=True)
            self._bar.start()
            self._begin(self._bar)
        return self

    def _begin(self, bar: Progress) -> None:
        """What is shown before anything is counted."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class SeedBar(_Bar):
    """Counts weight draws (or what `counted` says)."""

    def __init__(self, label: str, silent: bool = False, counted: str = "weight seeds") -> None:
        super().__init__(label, silent)
        self.counted = counted

    def _begin(self, bar: Progress) -> None:
        self._task = bar.add_task(self.label, total=None)

    def start(self, total: int) -> None:
        """`total` more seeds are to be measured (from the beginning again when the batch was halved)."""
        if self._bar is not None and self._task is not None:
            counts = f"{self.label}: {self.counted}"
            self._bar.update(self._task, total=self._done + total, completed=self._done, description=counts)

    def advance(self, seeds: int) -> None:
        self._done += seeds
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, seeds)


class StepBar(_Bar):
    """Counts named steps of a known number."""

    def __init__(self, label: str, total: int, silent: bool = False) -> None:
        super().__init__(label, silent)
        self.total = total

    def begin(self, name: str) -> None:
        """The step `name` begins; the one before it is done."""
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task(self.label, total=self.total)
        self._bar.update(self._task, completed=self._done, description=f"{self.label}: {name}")
        self._done += 1


@contextmanager
def counted(label: str, progress: Counter | bool, what: str = "weight seeds") -> Iterator[Counter]:
    """The bar of a call that takes `progress`: one on stderr where that is a terminal (True), none (False), or the
    caller's own."""
    if isinstance(progress, bool):
        with SeedBar(label, not progress, what) as bar:
            yield bar
    else:
        yield progress
