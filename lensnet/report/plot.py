"""The report as a figure: the beam forward and backward, the local errors, and the budget. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensnet.compare.budget import STRAIN, SUM, BudgetRow, Cell
from lensnet.compare.report import Report
from lensnet.compare.row import Direction
from lensnet.compare.verdict import coverage_factor
from lensnet.report.beam import Point, beam, bounds, drawn_quantity
from lensnet.report.curves import draw_curves
from lensnet.report.level_panels import panels_of
from lensnet.report.numbers import clip, short
from lensnet.report.palette import FAINT, INK, PREDICTED, VERDICTS
from lensnet.report.plot_marks import Mark, columns, draw_marks, marker, remark
from lensnet.report.plot_spectrum import PANELS
from lensnet.report.words import said

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES_UP_TO = 60
"""More components than this are numbered, not named."""

_HEIGHTS = {"errors": 1.5, "budget": 1.7}

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#e6eaee",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "svg.fonttype": "none",
    "text.usetex": False,
    "text.parse_math": False,
}


def plot(report: Report, file: str | Path | None = None) -> Figure:
    """The figure, also written to `file` when given; the ending chooses the format (png, svg, pdf).

    Raises ImportError when matplotlib is not installed, ValueError for an unknown ending.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install lensnet[plot]") from error
    with matplotlib.rc_context(STYLE):
        figure = _draw(report, Figure)
        if file is not None:
            figure.savefig(file, dpi=160, facecolor="white")
    return figure


def _draw(report: Report, figure_class: type[Figure]) -> Figure:
    spectra = [name for name, panel in PANELS.items() if panel.shows(report)]
    sizes = drawn_quantity(report) in ("second_moment", "median")
    if not sizes and not spectra:
        return draw_curves(report, figure_class)
    components = list(dict.fromkeys(row.component for row in report.rows))
    panels = [name for name in ("forward", "backward") if sizes and beam(report, _direction(name))]
    if sizes and any(row.view == "local" and row.error is not None for row in report.rows):
        panels.append("errors")
    panels += spectra
    if any(row.chain and row.component not in (SUM, STRAIN) for row in report.budget) and len(components) > 1:
        panels.append("budget")
    heights = [_HEIGHTS.get(name, 1.9) for name in panels] or [1.0]
    named = len(components) <= NAMES_UP_TO
    least = 12.5 if len(report.levels) > 1 else 7.5  # more levels, more kinds of verdicts in the legend
    width = min(max(least, 2.2 + 0.26 * len(components)), 15.0)
    below = panels_of(report)
    over = 1.5 + sum(heights) + (1.1 if named else 0.2)
    whole = figure_class(figsize=(width, over + sum(panel.height for panel in below)), layout="constrained")
    figure, *others = whole.subfigures(
        1 + len(below), 1, squeeze=False, height_ratios=[over, *(panel.height for panel in below)]
    ).flat
    for panel, part in zip(below, others, strict=True):
        panel.draw(part, report)
    figure.suptitle(said(report.network), x=0.012, ha="left", fontsize=13, fontweight="bold")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    place = {path: i + 1 for i, path in enumerate(components)}
    for name, ax in zip(panels, axes, strict=False):
        if name in ("forward", "backward"):
            _beam(ax, beam(report, _direction(name), branches=True), place, _direction(name))
        elif name == "errors":
            _errors(ax, report, place)
        elif name in PANELS:
            PANELS[name].draw(ax, report, place)
        else:
            _budget(ax, report.budget, place)
        ax.grid(axis="y")
        ax.set_axisbelow(True)
    remark(axes[0], _caption(report))
    _legend(figure, axes[0], report)
    _names(axes[-1], components, named)
    return whole


def _direction(name: str) -> Direction:
    return "forward" if name == "forward" else "backward"


def _caption(report: Report) -> str:
    facts = [f"{report.seeds} seeds" if report.seeds else "", f"batch {report.batch}" if report.batch else ""]
    return " · ".join(fact for fact in [*facts, report.device, report.dtype, ", ".join(report.levels)] if fact)


def _beam(ax: Axes, points: Sequence[Point], place: dict[str, int], direction: Direction) -> None:
    from matplotlib.collections import LineCollection

    xs = [place[point.label] for point in points]
    path = [
        (x, point.predicted[1] if point.predicted else nan, point.chain) for x, point in zip(xs, points, strict=True)
    ]
    ends: list[tuple[float, float]] = []
    for x, height, chain in path:
        if chain:
            held = [(x - 0.5, ends[-1][1])] if ends else []  # level across the branches between
            ends += [*held, (x - 0.5, height), (x + 0.5, height)]
    ax.plot(*columns(ends), color=PREDICTED, linewidth=1.8, zorder=2)
    aside = [[(x - 0.4, height), (x + 0.4, height)] for x, height, chain in path if not chain and height == height]
    ax.add_collection(LineCollection(aside, colors=PREDICTED, linewidths=1.4, alpha=0.45, zorder=2))
    bands = [(x, *point.band) for x, point in zip(xs, points, strict=True) if point.band is not None]
    if bands:
        sides = [(x + side, low, high) for x, low, high in bands for side in (-0.5, 0.5)]
        xs_twice, lows, highs = ([value[i] for value in sides] for i in range(3))
        ax.fill_between(xs_twice, lows, highs, color=PREDICTED, alpha=0.13, linewidth=0, zorder=0)
    measured = [(x, point) for x, point in zip(xs, points, strict=True) if point.measured is not None]
    cloud = [(x, value) for x, point in measured for value in point.per_seed]
    ax.plot(*columns(cloud), ".", color=FAINT, alpha=0.45, markersize=2.5, zorder=1)
    bars = [(x, *point.measured, point.verdict) for x, point in measured if point.measured is not None]
    draw_marks(ax, bars, 5.5 if len(points) <= 60 else 3.5)
    ax.set_yscale("log")
    span = bounds(points, least=4.0)
    if span is not None:
        from matplotlib.ticker import LogLocator, NullFormatter

        low, high = min([span[0], *(y for _, y in cloud)]), max([span[1], *(y for _, y in cloud)])
        margin = (high / low) ** 0.06
        ax.set_ylim(low / margin, high * margin)
        if high / low < 100:
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(lambda value, _: short(value, 1))
    what = "typical second moment" if bands else "second moment"
    name = f"signal: {what} q, forward" if direction == "forward" else f"gradient: {what} p, backward"
    ax.set_title(name)


def _errors(ax: Axes, report: Report, place: dict[str, int]) -> None:
    """Relative errors of the second moments in the local view, with 2 standard errors, over the tolerance band."""
    percent = 100 * report.settings.tolerance
    ax.axhspan(-percent, percent, color="#e3f1e8", zorder=0)
    ax.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
    factor = coverage_factor(report.seeds)
    marks: dict[str, list[Mark]] = {"forward": [], "backward": []}
    for row in report.rows:
        if row.view != "local" or row.quantity != "second_moment" or row.error is None or not row.predicted:
            continue
        bar = 100 * factor * row.standard_error / abs(row.predicted) if row.standard_error and report.seeds > 1 else 0.0
        x = place[row.component] + (-0.14 if row.direction == "forward" else 0.14)
        error = 100 * row.error
        marks[row.direction].append((x, error - bar, error, error + bar, row.verdict))
    draw_marks(ax, marks["forward"], 4.5)
    draw_marks(ax, marks["backward"], 4.5, round_mark="<")
    limit = max((abs(middle) for many in marks.values() for _, _, middle, _, _ in many), default=percent)
    if limit > 80:
        ax.set_yscale("symlog", linthresh=4 * percent)
    limit = max(1.25 * limit, 2.5 * percent)
    ax.set_ylim(-min(limit, 120.0), limit)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:+.0f} %" if value else "0")
    ax.set_title("local error of q (●) and p (◂), with 2 se")
    remark(ax, "green band: tolerance")


def _budget(ax: Axes, rows: Sequence[BudgetRow], place: dict[str, int]) -> None:
    """Log gains: predicted as outlines, measured as bars."""
    from matplotlib.collections import LineCollection

    parts = [row for row in rows if row.component in place and row.chain]
    for name, shift, colour in (("log_gain_forward", -0.2, "#4c78a8"), ("log_gain_backward", 0.2, "#e0a458")):
        cells = [(place[row.component] + shift, row.cells.get(name, Cell())) for row in parts]
        measured = [(x, cell.measured) for x, cell in cells if cell.measured is not None]
        ax.bar(*columns(measured), 0.38, color=colour, alpha=0.75, zorder=2)
        lines = [[(x - 0.19, v), (x + 0.19, v)] for x, cell in cells if (v := cell.predicted) is not None]
        ax.add_collection(LineCollection(lines, colors=INK, linewidths=1.3, zorder=3))
    ax.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
    totals = {row.component: row for row in rows if row.component in (SUM, STRAIN)}
    told = []
    for name, title in (("log_gain_forward", "forward"), ("log_gain_backward", "backward")):
        cell = totals[SUM].cells.get(name, Cell()) if SUM in totals else Cell()
        strain = totals[STRAIN].cells.get(name, Cell()) if STRAIN in totals else Cell()
        value, size = (
            (cell.measured, strain.measured) if cell.measured is not None else (cell.predicted, strain.predicted)
        )
        if value is not None and size is not None:
            told.append(f"{title} sum {value:+.2f}, strain {size:.2f}")
    ax.margins(y=0.1)
    ax.autoscale_view()
    ax.set_title("log gain, forward (blue), backward (ochre)")
    remark(ax, "; ".join(told))


def _legend(figure: Figure, ax: Axes, report: Report) -> None:
    from matplotlib.artist import Artist
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = []
    if any(row.predicted is not None for row in report.rows):
        handles.append(Line2D([], [], color=PREDICTED, linewidth=1.8, label="predicted"))
    if any(row.band is not None for row in report.rows):
        handles.append(Patch(color=PREDICTED, alpha=0.13, label="90 % of the seeds"))
    seen = {row.verdict for row in report.rows}
    if report.seeds:
        for name, look in VERDICTS.items():
            if name in seen:
                handles.append(Line2D([], [], label=look.word, **marker(name, 5.5)))
        handles.append(Line2D([], [], marker=".", color=FAINT, linestyle="none", markersize=4, label="one seed"))
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), frameon=False, fontsize=8.5)


def _names(ax: Axes, components: Sequence[str], named: bool) -> None:
    count = len(components)
    ax.set_xlim(0.4, count + 0.6)
    if named:
        ax.set_xticks(range(1, count + 1), [clip(said(path), 26) for path in components])
        ax.tick_params(axis="x", rotation=60, length=0)
        for label in ax.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
    else:
        ax.set_xlabel("component, numbered as in the table")
