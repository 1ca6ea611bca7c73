"""The table of rows: per component what was predicted on the left and what was measured on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from lensnet.compare.report import Report
from lensnet.compare.row import Row
from lensnet.report.fold import Fold, fold, unfolded
from lensnet.report.numbers import NONE, clip, percent, short, spread, with_error
from lensnet.report.palette import SEVERE_FIRST, VERDICTS, severest, symbol

WIDE = 108
"""From this width on there is room for slack, words and the propagated numbers."""

PULLED_OUT = 3
"""Deviating members of a folded block that get lines of their own."""


@dataclass(frozen=True)
class Line:
    """Both views of one quantity at one component, or at several that are told as one."""

    what: str
    local: tuple[Row, ...]
    through: tuple[Row, ...]

    @property
    def first(self) -> tuple[Row, ...]:
        """The view whose numbers are shown in full."""
        return self.local or self.through


def rows_table(report: Report, width: int, folded: bool) -> Table:
    """A rich table at most `width` wide; components keep the numbers that they have in the drawing."""
    numbers = {path: i + 1 for i, path in enumerate(dict.fromkeys(row.component for row in report.rows))}
    groups = _groups(report, list(numbers), folded)
    both = {row.view for row in report.rows} == {"local", "through"}
    wide = width >= WIDE
    verdicts = report.kind == "comparison"
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, header_style="bold dim")
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    table.add_column("component", no_wrap=True)
    table.add_column("", no_wrap=True, style="dim")
    columns = _columns(report, both, wide)
    for title, justify in columns:
        table.add_column(title, justify="right" if justify else "left", no_wrap=True)
    room = _room(width, both, wide, verdicts)
    by_component: dict[str, list[Row]] = {}
    for row in report.rows:
        by_component.setdefault(row.component, []).append(row)
    for group in groups:
        members = [row for path in group.members for row in by_component[path]]
        label = Text(clip(group.label, room), style="" if len(group.members) == 1 else "bold")
        number = str(numbers[group.members[0]])
        for i, line in enumerate(_lines(members)):
            cells = _cells(line, both, wide, verdicts)
            table.add_row(number if i == 0 else "", label if i == 0 else _members(group, i), line.what, *cells)
    return table


def _groups(report: Report, components: Sequence[str], folded: bool) -> list[Fold]:
    """Folded blocks, each followed by the members that deviate on their own account."""
    if not folded:
        return unfolded(components)
    guilty = {row.component for row in report.rows if row.view == "local" and row.verdict == "deviates"}
    out: list[Fold] = []
    for group in fold(components):
        out.append(group)
        if len(group.members) > 1:
            out += unfolded([path for path in group.members if path in guilty][:PULLED_OUT])
    return out


def _members(group: Fold, line: int) -> Text | str:
    return Text(f"  x {len(group.members)}", style="dim") if line == 1 and len(group.members) > 1 else ""


def _columns(report: Report, both: bool, wide: bool) -> list[tuple[str, bool]]:
    """(title, right-justified) of the columns of numbers."""
    if report.kind == "prediction":
        return [("predicted", True), ("assumptions", False)]
    if report.kind == "measurement":
        return [("measured ± se", True), ("median", True)]
    only = "" if both else f" ({report.rows[0].view})" if report.rows else ""
    columns = [("predicted", True), ("measured ± se", True)]
    if not wide:
        return [*columns, ("local" if both else f"error{only}", True), *([("through", True)] if both else [])]
    columns += [("error", True), ("slack", True), (f"verdict{only or ' (local)'}", False)]
    return [*columns, *([("through", True), ("error", True)] if both else [])]


def _room(width: int, both: bool, wide: bool, verdicts: bool) -> int:
    """Characters left for the component's name."""
    if not verdicts:
        return max(width - 55, 14)
    taken = (68 + 20 * both) if wide else (40 + 10 * both)
    return max(width - taken - 4, 12)


def _lines(rows: Sequence[Row]) -> list[Line]:
    """Rows by quantity, direction and port, in the order in which they come."""
    grouped: dict[tuple[str, str, str | None], list[Row]] = {}
    ports = {row.port for row in rows if row.direction == "backward"}
    for row in rows:
        grouped.setdefault((row.quantity, row.direction, row.port), []).append(row)
    lines = []
    for (quantity, direction, port), members in grouped.items():
        what = symbol(quantity, direction)
        if port is not None and len(ports) > 1:
            what = clip(f"{what} {port}", 8)
        local = tuple(row for row in members if row.view == "local")
        lines.append(Line(what, local, tuple(row for row in members if row.view == "through")))
    return lines


def _cells(line: Line, both: bool, wide: bool, verdicts: bool) -> list[Text | str]:
    rows = line.first
    predicted, measured = _number(rows, "predicted"), _number(rows, "measured")
    if not verdicts:
        if rows[0].measured is None and rows[0].predicted is not None:
            return [predicted, _assumptions(rows)]
        return [measured, _number(rows, "median")]
    cells: list[Text | str] = [predicted, measured]
    if not wide:
        return [*cells, _mark(rows), *([_mark(line.through)] if both else [])]
    verdict = severest([row.verdict for row in rows])
    look = VERDICTS[verdict]
    cells += [percent(_worst_error(rows)), short(_least_slack(rows), 2), Text(f"{_count(rows)}", style=look.style)]
    if both:
        cells += [_number(line.through, "predicted"), _mark(line.through)]
    return cells


def _number(rows: Sequence[Row], name: str) -> str:
    values = [value for row in rows if (value := getattr(row, name)) is not None]
    if not values:
        return NONE
    if len(rows) == 1:
        return with_error(values[0], rows[0].standard_error) if name == "measured" else short(values[0])
    return spread(min(values), max(values))


def _mark(rows: Sequence[Row]) -> Text:
    """Error and verdict symbol, as in `+5.1% ✓`; for several components the worst error and how many do not agree."""
    if not rows:
        return Text("")
    verdict = severest([row.verdict for row in rows])
    count = sum(row.verdict == verdict for row in rows)
    look = VERDICTS[verdict]
    tail = look.symbol + (str(count) if verdict != "agrees" and len(rows) > 1 else "")
    error = percent(_worst_error(rows))
    return Text.assemble(("" if error == NONE else error) + " ", (tail, look.style))


def _count(rows: Sequence[Row]) -> str:
    """`✓ agrees`, or for several components `✗ 1 deviates, ✓ 11`."""
    verdicts = [row.verdict for row in rows]
    if len(verdicts) == 1:
        return f"{VERDICTS[verdicts[0]].symbol} {VERDICTS[verdicts[0]].word}"
    counts = [(name, verdicts.count(name)) for name in SEVERE_FIRST if name in verdicts]
    (name, count), rest = counts[0], counts[1:]
    text = f"{VERDICTS[name].symbol} {count} {VERDICTS[name].word}" if rest else f"{VERDICTS[name].symbol} all {count}"
    return text + "".join(f" {VERDICTS[other].symbol}{many}" for other, many in rest)


def _worst_error(rows: Sequence[Row]) -> float | None:
    errors = [row.error for row in rows if row.error is not None]
    return max(errors, key=abs, default=None)


def _least_slack(rows: Sequence[Row]) -> float | None:
    return min((row.slack for row in rows if row.slack is not None), default=None)


def _assumptions(rows: Sequence[Row]) -> Text:
    failed = list(dict.fromkeys(a.text for row in rows for a in row.assumptions if a.fails))
    if failed:
        return Text(f"○ needs: {failed[0]}", style=VERDICTS["out-of-regime"].style)
    checked = sum(1 for row in rows for a in row.assumptions if a.margin is not None)
    return Text(f"{checked} checked" if checked else "", style="dim")
