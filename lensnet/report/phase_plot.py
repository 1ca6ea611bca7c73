"""A phase diagram as a figure: depth scale and correlation over gain and bias_std, the edge of chaos on both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lensnet.report.palette import FAINT, INK
from lensnet.report.plot import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lensnet.predict.kernel.phase import Edge, PhaseDiagram

_DEEPEST = 100.0
_SECOND_MOMENTS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def plot(diagram: PhaseDiagram, edge: Edge, file: str | Path | None = None) -> Figure:
    """The figure, also written to `file` when given; the ending chooses the format (png, svg, pdf).

    Raises ImportError when matplotlib is not installed, ValueError for an unknown ending.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install lensnet[plot]") from error
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 4.4), layout="constrained")
        figure.suptitle(f"Phase diagram of {diagram.name}", x=0.012, ha="left", fontsize=13, fontweight="bold")
        left, right = figure.subplots(1, 2, sharey=True)
        _depth(figure, left, diagram, edge)
        _correlation(figure, right, diagram, edge)
        left.set_ylabel("bias_std")
        if file is not None:
            figure.savefig(file, dpi=160, facecolor="white")
    return figure


def _depth(figure: Figure, ax: Axes, diagram: PhaseDiagram, edge: Edge) -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        layers = np.log10(np.clip(diagram.depth, 1.0, _DEEPEST))
    layers = np.where(np.isinf(diagram.second_moment), np.nan, layers)
    image = _field(ax, diagram, layers, "magma", (0.0, np.log10(_DEEPEST)))
    bar = figure.colorbar(image, ax=ax, ticks=[0, 1, 2], pad=0.02)
    bar.ax.set_yticklabels(["1", "10", "100 or more"])
    ax.set_title("layers over which a difference between two inputs decays, ξ")
    _overlay(ax, diagram, edge, "white")


def _correlation(figure: Figure, ax: Axes, diagram: PhaseDiagram, edge: Edge) -> None:
    known = np.where(np.isinf(diagram.second_moment), np.nan, diagram.correlation)
    image = _field(ax, diagram, known, "viridis", (0.0, 1.0))
    figure.colorbar(image, ax=ax, pad=0.02)
    ax.set_title("correlation of two inputs after many layers, c*; lines: q*")
    values = np.where(np.isfinite(diagram.second_moment), diagram.second_moment, np.nan)
    if min(diagram.gain.size, diagram.bias_std.size) > 1 and np.isfinite(values).any():
        levels = [q for q in _SECOND_MOMENTS if np.nanmin(values) < q < np.nanmax(values)]
        if levels:
            lines = ax.contour(diagram.gain, diagram.bias_std, values.T, levels=levels, colors="white", linewidths=0.7)
            ax.clabel(lines, fmt="%g", fontsize=7)
    _overlay(ax, diagram, edge, INK)


def _field(ax: Axes, diagram: PhaseDiagram, values: Any, colours: str, limits: tuple[float, float]) -> Any:
    ax.set_facecolor(FAINT)
    ax.set_xlabel("gain")
    return ax.pcolormesh(
        diagram.gain, diagram.bias_std, values.T, cmap=colours, vmin=limits[0], vmax=limits[1], shading="nearest",
        rasterized=True,
    )  # fmt: skip


def _overlay(ax: Axes, diagram: PhaseDiagram, edge: Edge, colour: str) -> None:
    """The edge, and the name of each phase where it has its middle."""
    inside = (edge.gain >= diagram.gain[0]) & (edge.gain <= diagram.gain[-1])
    ax.plot(np.where(inside, edge.gain, np.nan), edge.bias_std, "--", color=colour, linewidth=1.4)
    ax.set_xlim(diagram.gain[0], diagram.gain[-1])
    ax.set_ylim(diagram.bias_std[0], diagram.bias_std[-1])
    phase = np.where(np.isinf(diagram.second_moment), "q diverges", diagram.phase)
    names = {"ordered": "ordered", "chaotic": "chaotic", "q diverges": "q diverges"}
    for name, label in names.items():
        where = phase == name
        if where.mean() > 0.04:
            columns, rows = np.nonzero(where)
            # the point of the region nearest to its centre, so that the name stands inside
            centre = np.argmin((columns - columns.mean()) ** 2 + (rows - rows.mean()) ** 2)
            ax.annotate(
                label, (diagram.gain[columns[centre]], diagram.bias_std[rows[centre]]), ha="center", va="center",
                color="white", fontsize=10, fontweight="bold",
                bbox={"boxstyle": "round,pad=0.25", "facecolor": INK, "alpha": 0.55, "edgecolor": "none"},
            )  # fmt: skip
