"""The y-ybar diagram of a network: its signal on the way through the plane of size and similarity, (ln q, c).

A lens designer draws the marginal ray against the chief ray. Here the marginal ray is the size of one signal (second
moment q), the chief ray the correlation c of two: a network is a path through that plane, and fixed points, collapse
(c to 1) and chaos (c falls) are seen at a glance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from rich.text import Text

from lensnet.compare.report import Report
from lensnet.compare.row import Row
from lensnet.report.palette import FAINT, INK, PREDICTED, VERDICTS, severest

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

HEIGHT, WIDTH = 12, 60
_LABEL = 7


@dataclass(frozen=True)
class Place:
    """Where the signal stands behind one component: (ln q, c), predicted and measured; None where unknown."""

    component: str
    number: int
    predicted: tuple[float, float] | None
    measured: tuple[float, float] | None
    verdict: str


def trajectory(report: Report) -> list[Place]:
    """The path along the chain of the network, in order; empty without correlations."""
    side = {row.component for row in report.budget if not row.chain}
    rows = [row for row in report.rows if row.direction == "forward" and row.component not in side]
    views = {row.view for row in rows}
    view = "through" if "through" in views else "local"
    correlations = {row.component: row for row in rows if row.quantity == "correlation" and row.view == view}
    sizes: dict[str, Row] = {}
    for row in rows:
        if row.quantity == "second_moment" and row.view == view:
            sizes[row.component] = row  # the lowest level that predicts it
    numbers = {path: i + 1 for i, path in enumerate(dict.fromkeys(row.component for row in report.rows))}
    return [
        Place(
            path,
            numbers[path],
            _point(sizes[path].predicted, row.predicted),
            _point(sizes[path].measured, row.measured),
            severest([sizes[path].verdict, row.verdict]),
        )
        for path, row in correlations.items()
        if path in sizes
    ]


def _point(q: float | None, c: float | None) -> tuple[float, float] | None:
    return (log(q), c) if q is not None and c is not None and 0 < q < float("inf") and c == c else None


def draw(figure: SubFigure, report: Report) -> None:
    """The path as a figure: the line predicted, dots measured, numbered as in the table."""
    places = trajectory(report)
    ax = figure.subplots()
    line = [place.predicted for place in places if place.predicted]
    ax.plot([x for x, _ in line], [c for _, c in line], "-", color=PREDICTED, linewidth=1.4, zorder=2)
    for place in places:
        if place.measured:
            colour = VERDICTS[place.verdict].colour
            ax.plot(*place.measured, "o", color=colour, markersize=5, markeredgecolor="white", zorder=3)
        point = place.measured or place.predicted
        if point and _told(place.number, len(places)):
            ax.annotate(str(place.number), point, (4, 4), textcoords="offset points", fontsize=7, color=INK)
    ax.set_title("trajectory: size of one signal, likeness of two")
    ax.set_xlabel("ln q")
    ax.set_ylabel("correlation c")
    ax.axhline(1.0, color=FAINT, linewidth=0.8)
    ax.grid(True)
    ax.set_axisbelow(True)


def lines(report: Report, width: int) -> list[Text]:
    """The path as text, at most `width` wide: circles predicted, dots measured."""
    places = trajectory(report)
    points = [point for place in places for point in (place.predicted, place.measured) if point]
    if len(places) < 2 or not points:
        return []
    columns = min(width - _LABEL - 2, WIDTH)
    low_x, high_x = _span([x for x, _ in points], 0.2)
    low_c, high_c = _span([c for _, c in points], 0.05)

    def cell(point: tuple[float, float]) -> tuple[int, int]:
        x = round((point[0] - low_x) / (high_x - low_x) * (columns - 1))
        y = round((high_c - point[1]) / (high_c - low_c) * (HEIGHT - 1))
        return y, x

    canvas = [[(" ", "")] * columns for _ in range(HEIGHT)]
    for place in places:
        if place.predicted:
            y, x = cell(place.predicted)
            canvas[y][x] = ("○" if place.measured else "·", "blue")
    for place in places:
        if place.measured:
            y, x = cell(place.measured)
            look = VERDICTS[place.verdict]
            canvas[y][x] = (look.dot, look.style)
    out = [
        Text.assemble(
            ("trajectory", "bold"), ("  ln q to the right, correlation c upwards  ○ predicted  ● measured", "dim")
        )
    ]
    for i, row in enumerate(canvas):
        label = {0: f"{high_c:.2f}", HEIGHT - 1: f"{low_c:.2f}"}.get(i, "")
        out.append(Text.assemble((f"{label:>{_LABEL}} {'┤' if label else '│'}", "dim"), *row))
        out[-1].rstrip()
    left, right = f"{low_x:.2f}", f"{high_x:.2f}"
    out.append(Text(f"{'':>{_LABEL}} └{left}{'':{max(columns - len(left) - len(right), 1)}}{right}", style="dim"))
    return out


def _span(values: Sequence[float], least: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low < least:
        middle = (low + high) / 2
        return middle - least / 2, middle + least / 2
    return low, high


def _told(number: int, count: int) -> bool:
    """Every place of a short path has its number, of a long one about twenty."""
    return count <= 20 or number % -(-count // 20) == 1


__all__ = ["Place", "draw", "lines", "trajectory"]
