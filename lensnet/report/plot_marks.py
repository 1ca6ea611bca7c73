"""What the panels of a figure share: markers that tell the verdict, remarks, columns of points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lensnet.report.palette import VERDICTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Mark = tuple[float, float, float, float, str]
"""x, low, middle, high, verdict."""


def draw_marks(ax: Axes, marks: Sequence[Mark], size: float, round_mark: str = "o") -> None:
    """A vertical bar and a marker each, drawn verdict by verdict: one artist per point would take seconds."""
    from matplotlib.collections import LineCollection

    for verdict in VERDICTS:
        chosen = [mark for mark in marks if mark[4] == verdict]
        if not chosen:
            continue
        lines = [[(x, low), (x, high)] for x, low, _, high, _ in chosen]
        ax.add_collection(LineCollection(lines, colors=VERDICTS[verdict].colour, linewidths=1.1, alpha=0.8, zorder=3))
        style = marker(verdict, size)
        if style["marker"] == "o":
            style["marker"] = round_mark
        ax.plot(*columns([(x, middle) for x, _, middle, _, _ in chosen]), zorder=4, **style)


def marker(verdict: str, size: float) -> dict[str, Any]:
    """Shape as well as colour tells the verdict."""
    look = VERDICTS[verdict]
    shape = {"deviates": "X", "undecided": "D", "not-modelled": "."}.get(verdict, "o")
    hollow = verdict in ("out-of-regime", "undecided")
    return {
        "marker": shape,
        "color": look.colour,
        "markersize": size + (1.5 if verdict == "deviates" else 0),
        "markerfacecolor": "white" if hollow else look.colour,
        "markeredgecolor": "white" if verdict == "deviates" else look.colour,
        "markeredgewidth": 0.6 if verdict == "deviates" else 1.2,
        "linestyle": "none",
    }


def columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def remark(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="right", fontsize=8.5, fontweight="normal", color="#52606d")
