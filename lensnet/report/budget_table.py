"""The budget as a table: predicted and measured contributions side by side, sum and strain last."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from lensnet.compare.budget import COLUMNS, STRAIN, SUM, BudgetRow, Cell, Column
from lensnet.compare.report import Report
from lensnet.report.fold import fold, unfolded
from lensnet.report.grid import Column as GridColumn
from lensnet.report.grid import Grid
from lensnet.report.numbers import NONE, short
from lensnet.report.words import said

NAME, CELL = 22, 8
"""Least width of the name, and width of a number with its space."""


def budget_lines(report: Report, width: int, folded: bool) -> list[Text]:
    """At most `width` wide: columns are left out from the right where there is no room for them."""
    parts = [row for row in report.budget if row.component not in (SUM, STRAIN)]
    totals = [row for row in report.budget if row.component in (SUM, STRAIN)]
    numbers = {row.component: i + 1 for i, row in enumerate(parts)}
    sides = {"prediction": ("predicted",), "measurement": ("measured",)}.get(report.kind, ("predicted", "measured"))
    columns = _fitting(report, width, sides)
    grid = Grid([GridColumn("#", right=True, style="dim"), GridColumn("component", gives=True)])
    for column in columns:
        titles = [column.title if i == 0 else "meas." for i, _ in enumerate(_sides(column, sides))]
        grid.columns = [*grid.columns, *(GridColumn(title, right=True) for title in titles)]
    by_path = {row.component: row for row in parts}
    for group in fold(by_path) if folded else unfolded(by_path):
        members = [by_path[path] for path in group.members]
        chain = members[0].chain
        cells = [cell for column in columns for cell in _cells(members, column, sides)]
        name = said(group.label)
        grid.add(str(numbers[group.members[0]]), name if chain else f"┆ {name}", *cells, style="" if chain else "dim")
    for row in totals:
        cells = [cell for column in columns for cell in _cells([row], column, sides)]
        grid.add("", row.component, *cells, style="bold")
    return grid.lines(width)


def legend(report: Report, width: int) -> str:
    """What the columns that are shown mean."""
    sides = {"prediction": ("predicted",), "measurement": ("measured",)}.get(report.kind, ("predicted", "measured"))
    return "; ".join(f"{column.title} {column.about}" for column in _fitting(report, width, sides)) + "."


def _fitting(report: Report, width: int, sides: Sequence[str]) -> list[Column]:
    used = [column for column in COLUMNS if any(column.name in row.cells for row in report.budget)]
    out: list[Column] = []
    taken = 5 + NAME
    for column in used:
        taken += len(_sides(column, sides)) * CELL
        if taken > width:
            break
        out.append(column)
    return out


def _sides(column: Column, sides: Sequence[str]) -> Sequence[str]:
    return sides if column.additive else ("measured",)


def _cells(rows: Sequence[BudgetRow], column: Column, sides: Sequence[str]) -> list[str]:
    """Folded components add up; what does not add up is left out."""
    out = []
    for side in _sides(column, sides):
        values = [getattr(row.cells.get(column.name, Cell()), side) for row in rows]
        known = [value for value in values if value is not None]
        if len(known) < len(values) or (len(values) > 1 and not column.additive):
            out.append(NONE)
        else:
            out.append(_signed(sum(known), column))
    return out


def _signed(value: float, column: Column) -> str:
    if column.name.startswith("log_gain"):
        return f"{value:+.3f}" if abs(value) < 9.9995 else f"{value:+.2f}" if abs(value) < 99.995 else f"{value:+.0f}"
    if abs(value) < 1e-9:
        return "0"
    if column.name == "mean_leak":
        return f"{value:+.3f}" if abs(value) >= 0.0005 else "0"
    return short(value, 2)
