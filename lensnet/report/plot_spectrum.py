"""Panels of the spectrum level: coding rate and ranks against depth, at finite and at infinite width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lensnet.compare.report import Report
from lensnet.compare.row import Row
from lensnet.compare.verdict import coverage_factor
from lensnet.report.numbers import short
from lensnet.report.palette import FAINT, INK, PREDICTED
from lensnet.report.plot_marks import Mark, columns, draw_marks, remark

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLOSE = 3.0
"""Ratio of two curves below which the name of the lower one goes under it."""

DECADES = 7

_WORDS = {
    "coding_rate": "coding rate",
    "rank": "rank",
    "effective_rank": "effective rank",
    "participation_ratio": "participation ratio",
    "stable_rank": "stable rank",
    "jacobian_low": "10 % of them lie below",
    "jacobian_high": "90 % of them lie below",
}


@dataclass(frozen=True)
class Panel:
    """Quantities of the spectrum that share an axis."""

    title: str
    quantities: tuple[str, ...]
    logarithmic: bool

    def shows(self, report: Report) -> bool:
        return any(row.level == "spectrum" and row.quantity in self.quantities for row in report.rows)

    def draw(self, ax: Axes, report: Report, place: Mapping[str, int]) -> None:
        """Predicted at the spectrum level as steps, at infinite width dashed, measured as marks."""
        for quantity in self.quantities:
            for level in ("kernel", "spectrum"):
                rows = _rows(report, quantity, level)
                ends = [(place[row.component] + side, row.predicted) for row in rows for side in (-0.5, 0.5)]
                points = [(x, value) for x, value in ends if value is not None]
                if level == "spectrum":
                    ax.plot(*columns(points), color=PREDICTED, linewidth=1.8, zorder=2)
                elif points:
                    ax.plot(*columns(points), color=INK, linewidth=1.0, linestyle=(0, (4, 2)), alpha=0.6, zorder=1.5)
            _measured(ax, report, _rows(report, quantity, "spectrum"), place)
        if self.logarithmic:
            from matplotlib.ticker import NullFormatter

            ax.set_yscale("log")
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.yaxis.set_major_formatter(lambda value, _: short(value, 1))
        ax.margins(y=0.12)
        if self.logarithmic:
            _cut(ax)
        if len(self.quantities) > 1:
            found = {name: rows for name in self.quantities if (rows := _rows(report, name, "spectrum"))}
            _names(ax, found, place)
        ax.set_title(self.title)
        if any(_rows(report, quantity, "kernel") for quantity in self.quantities):
            remark(ax, "dashed: infinite width (kernel level)")


PANELS = {
    "coding_rate": Panel("coding rate, nats per sample matrix", ("coding_rate",), False),
    "jacobian": Panel("singular values of the Jacobian from the input", ("jacobian_low", "jacobian_high"), True),
    "ranks": Panel("how many directions", ("rank", "effective_rank", "participation_ratio"), True),
}


def _rows(report: Report, quantity: str, level: str) -> list[Row]:
    return [row for row in report.rows if row.quantity == quantity and row.level == level and row.view == "through"]


def _measured(ax: Axes, report: Report, rows: list[Row], place: Mapping[str, int]) -> None:
    factor = coverage_factor(report.seeds) if report.seeds > 1 else 0.0
    marks: list[Mark] = []
    cloud: list[tuple[float, float]] = []
    for row in rows:
        if row.measured is None:
            continue
        x, bar = place[row.component], factor * (row.standard_error or 0.0)
        marks.append((x, row.measured - bar, row.measured, row.measured + bar, row.verdict))
        cloud += [(x, value) for value in row.per_seed]
    ax.plot(*columns(cloud), ".", color=FAINT, alpha=0.45, markersize=2.5, zorder=1)
    draw_marks(ax, marks, 4.5)


def _cut(ax: Axes) -> None:
    """No more than `DECADES` below the top: singular values that are zero but for rounding tell nothing."""
    low, high = ax.get_ylim()
    top = float(ax.dataLim.y1)
    if low < top / 10**DECADES:
        ax.set_ylim(top / 10**DECADES, 3 * top)


def _names(ax: Axes, rows: Mapping[str, list[Row]], place: Mapping[str, int]) -> None:
    """The name of each curve at its last point in sight: above it, or below where another curve's is above."""
    floor = ax.get_ylim()[0]
    lasts = {name: last for name, found in rows.items() if (last := _last(found, floor)) is not None}
    for name, (path, value) in lasts.items():
        crowded = any(value < other < CLOSE * value for _, other in lasts.values())
        ends = place[path] < max(place.values())  # below the floor from there on: its name stands where it was
        ax.annotate(
            _WORDS[name], (place[path] + 0.5, value), (4 if ends else -2, -4 if crowded else 4),
            textcoords="offset points", fontsize=7.5, color=INK, ha="left" if ends else "right",
            va="top" if crowded else "bottom", zorder=5,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
    zero = [_WORDS[name] for name in rows if name not in lasts]
    if zero:
        remark(ax, "0, not drawn: " + ", ".join(zero))


def _last(rows: list[Row], floor: float) -> tuple[str, float] | None:
    """Where a curve is last above the floor, and its height there."""
    heights = [(row.component, row.measured if row.predicted is None else row.predicted) for row in rows]
    return next(((path, y) for path, y in reversed(heights) if y is not None and y > max(floor, 0.0)), None)
