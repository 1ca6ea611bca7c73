"""The table of rows: per component what was predicted on the left and what was measured on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from lensnet.compare.report import Report
from lensnet.compare.row import Row
from lensnet.report.fold import Fold, fold, unfolded
from lensnet.report.grid import Column, Grid
from lensnet.report.numbers import NONE, clip, percent, short, spread, with_error
from lensnet.report.palette import SEVERE_FIRST, VERDICTS, severest, symbol
from lensnet.report.words import said

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


def rows_lines(report: Report, width: int, folded: bool, level: str) -> list[Text]:
    """The table of one level, at most `width` wide; components keep the numbers that they have in the drawing."""
    rows = [
        row for row in report.rows if row.level == level and not (row.kind == "fork" and row.direction == "forward")
    ]
    numbers = {path: i + 1 for i, path in enumerate(dict.fromkeys(row.component for row in report.rows))}
    both = {row.view for row in rows} == {"local", "through"}
    wide = width >= WIDE
    verdicts = report.kind == "comparison"
    grid = Grid([Column("#", right=True, style="dim"), Column("component", gives=True), Column("", style="dim")])
    grid.columns = [*grid.columns, *_columns(report, both, wide)]
    by_component: dict[str, list[Row]] = {}
    for row in rows:
        by_component.setdefault(row.component, []).append(row)
    for group in _groups(rows, list(by_component), folded):
        members = [row for path in group.members for row in by_component[path]]
        label = Text(said(group.label), style="" if len(group.members) == 1 else "bold")
        number = str(numbers[group.members[0]])
        for i, line in enumerate(_lines(members)):
            cells = _cells(line, both, wide, verdicts)
            grid.add(number if i == 0 else "", label if i == 0 else _members(group, i), line.what, *cells)
    return grid.lines(width)


def _groups(rows: Sequence[Row], components: Sequence[str], folded: bool) -> list[Fold]:
    """Folded blocks, each followed by the members that deviate on their own account."""
    if not folded:
        return unfolded(components)
    guilty = {row.component for row in rows if row.view == "local" and row.verdict == "deviates"}
    out: list[Fold] = []
    for group in fold(components):
        out.append(group)
        if len(group.members) > 1:
            out += unfolded([path for path in group.members if path in guilty][:PULLED_OUT])
    return out


def _members(group: Fold, line: int) -> Text | str:
    return Text(f"  x {len(group.members)}", style="dim") if line == 1 and len(group.members) > 1 else ""


def _columns(report: Report, both: bool, wide: bool) -> list[Column]:
    """The columns of numbers."""
    if report.kind == "prediction":
        return [Column("predicted", right=True), Column("assumptions", gives=True)]
    if report.kind == "measurement":
        return [Column("measured ± se", right=True), Column("median", right=True)]
    only = "" if both else f" ({report.rows[0].view})" if report.rows else ""
    columns = [Column("predicted", right=True), Column("measured ± se", right=True)]
    if not wide:
        columns.append(Column("local" if both else f"error{only}", right=True))
        return [*columns, *([Column("through", right=True)] if both else [])]
    columns += [Column("error", right=True), Column("slack", right=True), Column(f"verdict{only or ' (local)'}")]
    return [*columns, *([Column("through", right=True), Column("error", right=True)] if both else [])]


def _lines(rows: Sequence[Row]) -> list[Line]:
    """Rows by quantity, direction and port, in the order in which they come."""
    grouped: dict[tuple[str, str, str | None], list[Row]] = {}
    ports = {row.port for row in rows if row.direction == "backward"}
    for row in rows:
        grouped.setdefault((row.quantity, row.direction, row.port), []).append(row)
    lines = []
    for (quantity, direction, port), members in grouped.items():
        what = symbol(quantity, direction)
        if port is not None and (len(ports) > 1 or direction == "forward"):
            what = clip(f"{what} {port}", 8)
        local = tuple(row for row in members if row.view == "local")
        lines.append(Line(what, local, tuple(row for row in members if row.view == "through")))
    return lines


def _cells(line: Line, both: bool, wide: bool, verdicts: bool) -> list[Text | str]:
    rows = line.first
    predicted, measured = _number(rows, "predicted"), _number(rows, "measured")
    if not verdicts:
        if rows[0].measured is None and rows[0].predicted is not None:
            return [predicted, Text.assemble(_band(rows), _assumptions(rows))]
        return [measured, _number(rows, "median")]
    cells: list[Text | str] = [predicted, measured]
    if not wide:
        return [*cells, *([_mark(line.local), _mark(line.through)] if both else [_mark(rows)])]
    if both and not line.local:  # a number of the whole way from the input
        cells += ["", "", ""]
    else:
        look = VERDICTS[severest([row.verdict for row in rows])]
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


def _band(rows: Sequence[Row]) -> str:
    """Where nine of ten weight draws should lie; the widest of several."""
    bands = [row.band for row in rows if row.band is not None and row.quantity == "median"]
    if not bands:
        return ""
    return f"90 % in {spread(min(band[0] for band in bands), max(band[1] for band in bands))}  "


def _assumptions(rows: Sequence[Row]) -> Text:
    verdict = severest([row.verdict for row in rows])
    if verdict in ("out-of-regime", "not-modelled"):
        look = VERDICTS[verdict]
        return Text(f"{look.symbol} {look.word if verdict == 'out-of-regime' else 'not modelled'}", style=look.style)
    margins = [a.margin for row in rows for a in row.assumptions if a.margin is not None]
    if not margins:
        return Text("")
    told = f"{len(margins)} hold" if len(margins) > 1 else "holds"
    return Text(f"{told}, least margin {short(min(margins), 2)}", style="dim")
