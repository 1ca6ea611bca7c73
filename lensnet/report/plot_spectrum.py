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

_WORDS = {
    "coding_rate": "coding rate",
    "rank": "rank",
    "effective_rank": "effective rank",
    "participation_ratio": "participation ratio",
    "stable_rank": "stable rank",
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
            if len(self.quantities) > 1:
                _name(ax, quantity, _rows(report, quantity, "spectrum"))
        if self.logarithmic:
            from matplotlib.ticker import NullFormatter

            ax.set_yscale("log")
            ax.yaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(lambda value, _: short(value, 1))
        ax.margins(y=0.12)
        ax.set_title(self.title)
        if any(_rows(report, quantity, "kernel") for quantity in self.quantities):
            remark(ax, "dashed: infinite width (kernel level)")


PANELS = {
    "coding_rate": Panel("coding rate, nats per sample matrix", ("coding_rate",), False),
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


def _name(ax: Axes, quantity: str, rows: list[Row]) -> None:
    """The name of a curve, above its first point."""
    if rows and (value := rows[0].predicted if rows[0].predicted is not None else rows[0].measured):
        ax.annotate(
            _WORDS[quantity], (0.5, value), (2, 4), textcoords="offset points", fontsize=7.5, color=INK, va="bottom"
        )
