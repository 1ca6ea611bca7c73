"""Two summaries side by side: the same model before and after a change, or two checkpoints of it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from lensnet.compare.row import Row
from lensnet.report.numbers import percent, short

if TYPE_CHECKING:
    from lensnet.importers.summary import Summary


@dataclass
class Beside:
    """What two summaries say about the components that both have. Prints as a table, the largest change first."""

    first: Summary
    second: Summary
    names: tuple[str, str] = ("first", "second")

    @property
    def changes(self) -> list[tuple[str, str, float, float]]:
        """(component, direction, first, second): second moments, measured where they were, the largest change first."""
        left, right = _values(self.first), _values(self.second)
        both = [(*key, left[key], right[key]) for key in left if key in right]
        return sorted(both, key=lambda one: -_size(one[2], one[3]))

    @property
    def only(self) -> tuple[list[str], list[str]]:
        """Components that one of the two lacks: (only in the first, only in the second)."""
        left, right = ({key[0] for key in _values(one)} for one in (self.first, self.second))
        return sorted(left - right), sorted(right - left)

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=100, color_system=None, legacy_windows=False)
        console.print(self)
        assert isinstance(console.file, io.StringIO)
        return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"

    __repr__ = __str__

    def __rich__(self) -> Any:
        table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, header_style="dim")
        table.add_column("component", overflow="fold")
        table.add_column("")
        for name in (*self.names, "change"):
            table.add_column(name, justify="right", no_wrap=True)
        changes = self.changes
        for component, direction, a, b in changes[:40]:
            symbol = "q" if direction == "forward" else "p"
            table.add_row(component, symbol, short(a), short(b), percent(b / a - 1 if a else None))
        parts: list[Any] = [Text(f"{self.first.name}: {self.names[0]} beside {self.names[1]}", style="bold"), table]
        if len(changes) > 40:
            parts.append(Text(f"{len(changes) - 40} more with smaller changes", style="dim"))
        for name, paths in zip(self.names, self.only, strict=True):
            if paths:
                parts.append(Text(f"only in {name}: {', '.join(paths[:8])}{', ...' * (len(paths) > 8)}"))
        return Group(*parts)


def _values(summary: Summary) -> dict[tuple[str, str], float]:
    out: dict[tuple[str, str], float] = {}
    for row in summary.rows:
        if row.kind != "fork" and row.view == "through" and row.quantity == "second_moment" and row.level == "moments":
            value = _value(row)
            if value is not None:
                out.setdefault((row.component, row.direction), value)
    return out


def _value(row: Row) -> float | None:
    return row.measured if row.measured is not None else row.predicted


def _size(a: float, b: float) -> float:
    return abs(log(b / a)) if a > 0 and b > 0 else float("inf") if a != b else 0.0
