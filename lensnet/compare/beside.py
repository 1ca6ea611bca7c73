"""Two reports side by side: a model before and after a change, or two checkpoints of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot, inf, log
from typing import TYPE_CHECKING, Any

from lensnet.compare.report import Report, strict
from lensnet.compare.row import Direction, Row

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult


@dataclass(frozen=True)
class Change:
    """One second moment in both reports. `known`: whether it was measured in both (else predicted, where it was not).

    `sigmas`: the difference of the logarithms over its standard error; None where there are no error bars.
    """

    component: str
    direction: Direction
    port: str | None
    first: float
    second: float
    sigmas: float | None = None
    known: bool = True

    @property
    def nats(self) -> float:
        """ln(second/first): 0 for no change, infinite from or to nothing."""
        if self.first > 0 and self.second > 0:
            return log(self.second / self.first)
        return 0.0 if self.first == self.second else inf if self.second else -inf


@dataclass(frozen=True)
class Beside:
    """What two reports say about the components that both have. Prints as a table, the largest change first."""

    first: Report
    second: Report
    names: tuple[str, str] = ("first", "second")

    @property
    def changes(self) -> list[Change]:
        """Second moments through the network, measured where they were, the largest change first."""
        left, right = _rows(self.first), _rows(self.second)
        both = [_change(left[key], right[key]) for key in left if key in right]
        return sorted((one for one in both if one is not None), key=lambda one: -abs(one.nats))

    @property
    def only(self) -> tuple[list[str], list[str]]:
        """Components that one of the two lacks: (only in the first, only in the second)."""
        left, right = ({key[0] for key in _rows(one)} for one in (self.first, self.second))
        return sorted(left - right), sorted(right - left)

    @property
    def structure(self) -> list[tuple[str, Mapping[str, float] | None, Mapping[str, float] | None]]:
        """Components whose weights are no random ones in at least one report, with the numbers of both."""
        left, right = _learned(self.first), _learned(self.second)
        return [(name, left.get(name), right.get(name)) for name in dict.fromkeys((*left, *right))]

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON data."""
        out = {
            "names": list(self.names),
            "networks": [self.first.network, self.second.network],
            "changes": [{**vars(one), "nats": one.nats} for one in self.changes],
            "only": [list(paths) for paths in self.only],
            "structure": [{"component": name, "numbers": [a, b]} for name, a, b in self.structure],
        }
        return {name: strict(value) for name, value in out.items()}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from lensnet.report.beside import render

        yield from render(self)

    def __str__(self) -> str:
        from lensnet.report.beside import as_text

        return as_text(self)

    __repr__ = __str__


def _rows(report: Report) -> dict[tuple[str, str, str | None], Row]:
    out: dict[tuple[str, str, str | None], Row] = {}
    for row in report.rows:
        if row.kind != "fork" and row.view == "through" and row.quantity == "second_moment" and row.level == "moments":
            out.setdefault((row.component, row.direction, row.port), row)
    return out


def _change(first: Row, second: Row) -> Change | None:
    known = first.measured is not None and second.measured is not None
    values = [row.measured if known else row.predicted for row in (first, second)]
    if values[0] is None or values[1] is None:
        return None
    change = Change(first.component, first.direction, first.port, values[0], values[1], None, known)
    errors = [_relative_error(row) for row in (first, second)] if known else [None, None]
    if errors[0] is None or errors[1] is None or not 0 < (total := hypot(errors[0], errors[1])) < inf:
        return change
    return Change(first.component, first.direction, first.port, values[0], values[1], change.nats / total)


def _relative_error(row: Row) -> float | None:
    if row.standard_error is None or not row.measured:
        return None
    return row.standard_error / abs(row.measured)


def _learned(report: Report) -> dict[str, Mapping[str, float]]:
    return {one.component: one.numbers for one in report.findings if one.kind == "structure" and one.component}
