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
        if len(self.quantities) > 1:
            _names(ax, {name: rows for name in self.quantities if (rows := _rows(report, name, "spectrum"))},
                   max(place.values()) + 0.5)  # fmt: skip
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


def _names(ax: Axes, rows: Mapping[str, list[Row]], ends: float) -> None:
    """The name of each curve at its last point: above it, or below where another curve's is above."""
    lasts = {name: value for name, found in rows.items() if (value := _last(found)) is not None and value > 0}
    for name, value in lasts.items():
        crowded = any(value < other < CLOSE * value for other in lasts.values())
        ax.annotate(
            _WORDS[name], (ends, value), (-2, -4 if crowded else 4), textcoords="offset points", fontsize=7.5,
            color=INK, ha="right", va="top" if crowded else "bottom",
        )  # fmt: skip
    zero = [_WORDS[name] for name, found in rows.items() if _last(found) == 0]
    if zero:
        remark(ax, "0, not drawn: " + ", ".join(zero))


def _last(rows: list[Row]) -> float | None:
    return rows[-1].predicted if rows[-1].predicted is not None else rows[-1].measured
