"""Eigenvalue densities as a figure: histogram of the measured draws, the predicted density over it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lensnet.compare.eigenvalues import Eigenvalues
from lensnet.report.numbers import short
from lensnet.report.palette import INK, PREDICTED
from lensnet.report.plot import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 44
_DECADE = 12.0
"""Largest over smallest eigenvalue up to which an axis has ticks at round numbers."""
_MEASURED = "#9cc7ab"


def plot(title: str, found: Sequence[Eigenvalues], file: str | Path | None = None, of: str = "rows") -> Figure:
    """The figure, also written to `file` when given; the ending chooses the format (png, svg, pdf).

    `of`: what there are as many of as eigenvalues.

    Raises ImportError when matplotlib is not installed, ValueError for an unknown ending.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install lensnet[plot]") from error
    with matplotlib.rc_context(STYLE):
        columns = min(len(found), 2)
        down = ceil(len(found) / columns)
        figure = Figure(figsize=(5.4 * columns, 0.7 + 2.6 * down), layout="constrained")
        figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold")
        axes = figure.subplots(down, columns, squeeze=False).flat
        for i, ax in enumerate(axes):
            if i < len(found):
                _panel(ax, found[i], of)
            else:
                ax.set_axis_off()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False, fontsize=8.5)
        if file is not None:
            figure.savefig(file, dpi=160, facecolor="white")
    return figure


def _panel(ax: Axes, found: Eigenvalues, of: str) -> None:
    edges = found.edges(_BINS)
    if edges.size:
        measured = found.measured_counts(edges)
        if measured is not None:
            height = measured[0] / np.diff(np.log10(edges))
            ax.stairs(height, edges, fill=True, color=_MEASURED, label=f"measured, {len(found.measured)} draws")
        if found.x.size:
            ax.plot(found.x, found.density * np.log(10), color=PREDICTED, linewidth=1.7, label="predicted density")
        positive = found.infinite[found.infinite > edges[0]]
        if positive.size:
            ax.plot(positive, np.zeros(positive.size), "|", color=INK, markersize=7, alpha=0.5, clip_on=False,
                label="infinite width")  # fmt: skip
        ax.set_xscale("log")
        ax.set_xlim(edges[0], edges[-1])
        ax.set_ylim(bottom=0)
        _ticks(ax, float(edges[-1] / edges[0]))
    ax.set_title(found.component)
    ax.set_title(f"{found.rows} {of}, {found.channels:,} neurons", loc="right", fontsize=8.5, fontweight="normal")
    ax.set_ylabel("per decade")


def _ticks(ax: Axes, ratio: float) -> None:
    """Powers of ten, or round numbers where the axis spans hardly one."""
    from matplotlib.ticker import MaxNLocator, NullFormatter

    if ratio < _DECADE:
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.xaxis.set_minor_locator(MaxNLocator(1))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if ratio < _DECADE else short(value, 1))
