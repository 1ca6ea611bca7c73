"""The beam as a strip of text: components from left to right, the second moment on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import floor, log10

from rich.text import Text

from lensnet.compare.report import Report
from lensnet.compare.row import Direction
from lensnet.report.beam import Point, beam, bounds, gather, subject
from lensnet.report.numbers import clip, short
from lensnet.report.palette import VERDICTS

LABEL = 8
HEIGHT = 8
LINE = "blue"
BAND = "dim blue"


def strip(report: Report, direction: Direction, width: int, height: int = HEIGHT) -> list[Text]:
    """The drawing as lines no wider than `width`; empty when there is nothing to draw."""
    points = beam(report, direction)
    plot = width - LABEL - 2
    shown = gather(points, max(plot // 2, 1))
    span = bounds(shown)
    if span is None or plot < 10:
        return []
    canvas = _Canvas(plot, height, *span)
    centres = [int((i + 0.5) * plot / len(shown)) for i in range(len(shown))]
    canvas.bands(shown, centres)
    canvas.line(shown, centres)
    canvas.dots(shown, centres)
    name = subject(report, direction)
    about = _key(points, shown, width - len(name) - 2)
    lines = [Text.assemble((name, "bold"), "  ", (about, "dim"))]
    lines += canvas.render()
    lines += _scale(points, len(points) / plot, plot)
    return lines


def _key(points: Sequence[Point], shown: Sequence[Point], room: int) -> str:
    """What the marks mean, in the most words for which there is room."""
    lines = ["─ predicted"] if any(point.predicted for point in points) else []
    dots = ["● measured"] if any(point.measured for point in points) else []
    several = -(-len(points) // len(shown))
    band = any(point.band for point in points)
    for long in (True, False):
        told = [*lines, *dots]
        if several > 1:
            told.append(f"{several} components a mark, ┊ range" if long else f"{several} a mark")
        elif lines and dots and long:
            told.append("┊ half of the seeds")
        if band:
            told.append("╌ 90 % predicted" if long else "╌ 90 %")
        if len("  ".join(told)) <= room:
            break
    return clip("  ".join(told), max(room, 4))


class _Canvas:
    """Characters and styles on a grid; row 0 is the top."""

    def __init__(self, width: int, height: int, low: float, high: float) -> None:
        self.width, self.height = width, height
        self.low, self.high = log10(low), log10(high)
        self.cells = [[(" ", "")] * width for _ in range(height)]

    def row(self, value: float) -> int:
        place = (log10(value) - self.low) / (self.high - self.low)
        return min(max(self.height - 1 - floor(place * self.height), 0), self.height - 1)

    def put(self, column: int, row: int, char: str, style: str) -> None:
        if 0 <= column < self.width:
            self.cells[row][column] = (char, style)

    def bands(self, points: Sequence[Point], centres: Sequence[int]) -> None:
        """The ends of the band that is predicted to hold 90 % of the seeds."""
        for i, point in enumerate(points):
            if point.band is None:
                continue
            start = (centres[i - 1] + centres[i] + 1) // 2 if i else 0
            stop = (centres[i] + centres[i + 1] + 1) // 2 if i + 1 < len(points) else self.width
            for end in point.band:
                for column in range(start, stop):
                    self.put(column, self.row(end), "╌", BAND)

    def line(self, points: Sequence[Point], centres: Sequence[int]) -> None:
        """A step line: level across each component, vertical where it changes."""
        last: int | None = None
        for i, point in enumerate(points):
            if point.predicted is None:
                last = None
                continue
            start = (centres[i - 1] + centres[i] + 1) // 2 if i else 0
            stop = (centres[i] + centres[i + 1] + 1) // 2 if i + 1 < len(points) else self.width
            row = self.row(point.predicted[1])
            for column in range(start, stop):
                self.put(column, row, "─", LINE)
            for other in range(self.row(point.predicted[2]), self.row(point.predicted[0]) + 1):
                if other != row:
                    self.put(centres[i], other, "│", LINE)
            if last is not None and last != row:
                self._step(start, last, row)
            last = row

    def _step(self, column: int, before: int, after: int) -> None:
        for row in range(min(before, after) + 1, max(before, after)):
            self.put(column, row, "│", LINE)
        down = after > before
        self.put(column, before, "╮" if down else "╯", LINE)
        self.put(column, after, "╰" if down else "╭", LINE)

    def dots(self, points: Sequence[Point], centres: Sequence[int]) -> None:
        """The median over seeds, with its quartiles where they are wider apart than a line of text."""
        for point, column in zip(points, centres, strict=True):
            if point.measured is None:
                continue
            look = VERDICTS[point.verdict]
            top, row, bottom = (self.row(point.measured[i]) for i in (2, 1, 0))
            for other in range(top, bottom + 1):
                if self.cells[other][column][0] == " ":
                    self.put(column, other, "┊", "dim")
            self.put(column, row, look.dot, look.style)

    def render(self) -> list[Text]:
        labels = self._labels()
        lines = []
        for row, cells in enumerate(self.cells):
            label = labels.get(row)
            line = Text(f"{label or '':>{LABEL}} ", style="dim")
            line.append("┤" if label else "│", style="dim")
            for style, run in groupby(cells, key=lambda cell: cell[1]):
                line.append("".join(char for char, _ in run), style=style or None)
            line.rstrip()
            lines.append(line)
        return lines

    def _labels(self) -> dict[int, str]:
        """Powers of ten, thinned to one in two rows or wider; ends of the range where no power of ten lies in it."""
        first, last = -(-self.low // 1), self.high // 1
        decades = [int(first) + i for i in range(int(last - first) + 1)]
        per_row = (self.high - self.low) / self.height
        step = next(step for step in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500) if step >= 2 * per_row or step == 500)
        chosen = [decade for decade in decades if decade % step == 0]
        if len(chosen) >= 2:
            return {self.row(10.0**decade): _power(decade) for decade in chosen}
        top, bottom = self.high - per_row / 2, self.low + per_row / 2
        labels = {0: short(10**top, 2), self.height - 1: short(10**bottom, 2)}
        if chosen:
            row = self.row(10.0 ** chosen[0])
            if 0 < row < self.height - 1:
                labels[row] = _power(chosen[0])
        return labels


def _power(decade: int) -> str:
    return f"{10.0**decade:g}" if -4 < decade < 5 else f"1e{decade}"


def _scale(points: Sequence[Point], per_column: float, plot: int) -> list[Text]:
    """Numbers of the components (as in the table), and the names of the parts of the network that they belong to."""
    numbers = [" "] * plot
    step = next(
        step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000) if step / per_column >= 4 or step == 5000
    )
    marks = [i for i in range(len(points)) if (i + 1) % step == 0 or (i == 0 and step > 2)]
    free = 0
    for i in marks:
        text = str(points[i].number)
        start = min(max(int((i + 0.5) / per_column) - (len(text) - 1) // 2, 0), plot - len(text))
        if start < free:
            continue
        numbers[start : start + len(text)] = text
        free = start + len(text) + 1
    pad = " " * LABEL
    lines = [Text(f"{pad} └{''.join(numbers).rstrip()}", style="dim")]
    groups = [(name, len(list(run))) for name, run in groupby(points, key=lambda point: point.label.split(".")[0])]
    if len(groups) > 1:
        lines.append(Text(f"{pad}  {_groups(groups, per_column, plot)}", style="dim"))
    return lines


def _groups(groups: Sequence[tuple[str, int]], per_column: float, plot: int) -> str:
    """`features ─────── classifier ───`: each name over the width of its components, left out where it does not fit."""
    out, done = "", 0
    for name, count in groups:
        done += count
        room = round(done / per_column) - len(out)
        if room < min(len(name) + 1, 9):
            out += " " * max(room, 0)
            continue
        label = clip(name, room - 1)
        out += f"{label} {'─' * (room - len(label) - 2)}".ljust(room)
    return out[:plot].rstrip()
