"""The steps of an algorithm as curves: a panel for each of its quantities, predicted line and measured dots."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import TYPE_CHECKING, Any

from lensnet.compare.report import Report
from lensnet.quantities.quantity import QUANTITIES
from lensnet.report.beam import Point, beam
from lensnet.report.numbers import short
from lensnet.report.palette import INK, PREDICTED, VERDICTS, symbol
from lensnet.report.words import said

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS = 50
"""Most measured dots of a panel; those that do not agree are drawn all."""

LEAST_DECADES = 0.2
"""Axes span at least this factor (as a power of ten), so that what is constant looks constant."""


def draw_curves(report: Report, figure_class: type[Figure]) -> Figure:
    """The first quantity (the loss) over the whole width, the others in pairs below it."""
    names = list(dict.fromkeys(row.quantity for row in report.rows if row.direction == "backward" or row.port is None))
    rows = 1 + (len(names)) // 2
    figure = figure_class(figsize=(10.5, 3.2 + 2.1 * (rows - 1) + 0.6), layout="constrained")
    figure.suptitle(said(report.network), x=0.012, ha="left", fontsize=13, fontweight="bold")
    grid = figure.add_gridspec(rows, 2, height_ratios=[1.5, *[1.0] * (rows - 1)])
    first = figure.add_subplot(grid[0, :])
    axes = [first]
    for place in range(1, len(names)):
        axes.append(figure.add_subplot(grid[1 + (place - 1) // 2, (place - 1) % 2], sharex=first))
    for ax, name in zip(axes, names, strict=True):
        _panel(ax, report, name)
    for ax in axes[-2:] if len(axes) > 2 else axes:
        ax.set_xlabel("step")
    first.set_title(_caption(report), loc="right", fontsize=8.5, fontweight="normal", color="#52606d")
    _legend(figure, report)
    return figure


def _panel(ax: Axes, report: Report, name: str) -> None:
    known = QUANTITIES.get(name)
    points = beam(report, "forward", quantity=name) if known is None or known.scale != "bounded" else []
    ax.set_title(f"{name.replace('_', ' ')} {symbol(name, 'forward')}")
    if points:
        _sizes(ax, points)
    else:
        _cosines(ax, report, name)
    ax.grid(axis="y")
    ax.set_axisbelow(True)


def _sizes(ax: Axes, points: Sequence[Point]) -> None:
    """Positive numbers, on a logarithmic axis; what a prediction calls zero is left out."""
    xs = range(1, len(points) + 1)
    ax.plot(xs, [point.predicted[1] if point.predicted else nan for point in points], color=PREDICTED, linewidth=1.6)
    _dots(ax, [(x, point.measured[1], point.verdict) for x, point in zip(xs, points, strict=True) if point.measured])
    ax.set_yscale("log")
    low, high = _span(points)
    ax.set_ylim(low, high)
    if high / low < 20:
        from matplotlib.ticker import LogLocator

        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    from matplotlib.ticker import NullFormatter

    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(lambda value, _: short(value, 1))


def _span(points: Sequence[Point]) -> tuple[float, float]:
    """Everything drawn, with room, down to forty decades below the top."""
    sizes = [
        end for point in points for entry in (point.predicted, point.measured) if entry for end in entry if end > 0
    ]
    low, high = min(sizes, default=1.0), max(sizes, default=1.0)
    low = max(low, high * 1e-40)
    room = max((high / low) ** 0.06, 10 ** (LEAST_DECADES / 2))
    return low / room, high * room


def _cosines(ax: Axes, report: Report, name: str) -> None:
    rows = [row for row in report.rows if row.quantity == name and row.view == "through"]
    xs = range(1, len(rows) + 1)
    ax.plot(xs, [nan if row.predicted is None else row.predicted for row in rows], color=PREDICTED, linewidth=1.6)
    found = [(x, row.median, row.verdict) for x, row in zip(xs, rows, strict=True) if row.median is not None]
    _dots(ax, found)
    low = min([0.0, *(y for _, y, _ in found), *(row.predicted or 0.0 for row in rows)])
    ax.set_ylim(1.1 * low if low < 0 else 0.0, 1.05)


def _dots(ax: Axes, found: Sequence[tuple[int, float, str]]) -> None:
    every = -(-len(found) // DOTS)
    for verdict, look in VERDICTS.items():
        shown = [
            (x, y)
            for place, (x, y, given) in enumerate(found)
            if given == verdict and (place % every == 0 or verdict in ("deviates", "undecided"))
        ]
        if shown:
            ax.plot([x for x, _ in shown], [y for _, y in shown], zorder=4, **_marker(verdict, look.colour))


def _marker(verdict: str, colour: str) -> dict[str, Any]:
    """Shape as well as colour tells the verdict."""
    hollow = verdict in ("out-of-regime", "undecided")
    shape = {"deviates": "X", "undecided": "D", "not-modelled": "."}.get(verdict, "o")
    return {
        "marker": shape,
        "color": colour,
        "markersize": 4.0,
        "markerfacecolor": "white" if hollow else colour,
        "linestyle": "none",
    }


def _caption(report: Report) -> str:
    facts = [f"{report.seeds} seeds, median" if report.seeds else "", report.device, report.dtype]
    return " · ".join(fact for fact in [*facts, ", ".join(report.levels)] if fact)


def _legend(figure: Figure, report: Report) -> None:
    from matplotlib.lines import Line2D

    handles = []
    if any(row.predicted is not None for row in report.rows):
        handles.append(Line2D([], [], color=PREDICTED, linewidth=1.6, label="predicted"))
    seen = {row.verdict for row in report.rows}
    if report.seeds:
        for name, look in VERDICTS.items():
            if name in seen:
                handles.append(Line2D([], [], label=f"measured: {look.word}", **_marker(name, look.colour)))
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), frameon=False, labelcolor=INK)
