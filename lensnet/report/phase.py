"""A phase diagram in a terminal: depth as shades, the edge of chaos as a line, its course as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group
from rich.text import Text

from lensnet.report.grid import Column, Grid
from lensnet.report.numbers import short

if TYPE_CHECKING:
    from lensnet.predict.kernel.phase import Edge, PhaseDiagram

SHADES = " ░▒▓█"
DEPTHS = (2.0, 5.0, 15.0, 50.0)
"""From which depth on the next shade begins."""
DIVERGES, DIES = "^", "_"
_STYLES = {"ordered": "blue", "chaotic": "red", "critical": "bold"}


def render(diagram: PhaseDiagram, edge: Edge, width: int) -> Group:
    """The diagram (gains to the right, biases upwards: one character each) and the edge at a few biases."""
    head = Text(f"Phase diagram of {diagram.name}", style="bold")
    about = Text("dense layers of one gain and bias_std, an activation after each, at large width", style="dim")
    return Group(head, about, Text(), *_map(diagram), Text(), *_legend(diagram, width), Text(), *_edge(edge, width))


def _map(diagram: PhaseDiagram) -> list[Text]:
    phase, depth = diagram.phase, diagram.depth
    lines = []
    for row in reversed(range(diagram.bias_std.size)):
        label = short(float(diagram.bias_std[row]), 2) if row % 5 == 0 else ""
        line = Text(f"{label:>9} │", style="dim")
        for column in range(diagram.gain.size):
            place = column, row
            line.append(_cell(diagram, depth, place), style=_STYLES[str(phase[place])])
        lines.append(line)
    count = diagram.gain.size
    axis = Text(" " * 10 + "└" + "─" * count, style="dim")
    ends = [short(float(diagram.gain[at]), 3) for at in (0, count // 2, count - 1)]
    middle = max(1, count // 2 - len(ends[0]) - len(ends[1]) // 2)
    scale = ends[0] + " " * middle + ends[1]
    scale += " " * max(1, count - len(scale) - len(ends[2])) + ends[2]
    lines += [axis, Text(" " * 11 + scale + "  gain", style="dim")]
    lines.insert(0, Text(f"{'bias_std':>9}", style="dim"))
    return lines


def _cell(diagram: PhaseDiagram, depth: Any, place: tuple[int, int]) -> str:
    second = diagram.second_moment[place]
    if np.isinf(second):
        return DIVERGES
    if second == 0.0:
        return DIES
    return SHADES[int(np.searchsorted(DEPTHS, depth[place]))]


def _legend(diagram: PhaseDiagram, width: int) -> list[Text]:
    lines = []
    lines.append(Text("xi, the layers that a difference between two inputs lives:"))
    shades = Text()
    for shade, (low, high) in zip(SHADES, zip(("", *DEPTHS), (*DEPTHS, ""), strict=True), strict=True):
        name = f"< {high:g}" if low == "" else f"> {low:g}" if high == "" else f"{low:g} to {high:g}"
        shades.append(f"[{shade}] {name}  ")
    lines.append(shades)
    seen = set(diagram.phase[(diagram.second_moment > 0) & np.isfinite(diagram.second_moment)].tolist())
    said = {
        "ordered": "blue, left: ordered (chi_1 < 1): all inputs end up alike",
        "chaotic": "red, right: chaotic (chi_1 > 1): neighbours end up apart",
    }
    lines += [Text(text, style=_STYLES[name]) for name, text in said.items() if name in seen]
    if np.isinf(diagram.second_moment).any():
        lines.append(Text(f"{DIVERGES} the second moment grows without end"))
    if (diagram.second_moment == 0).any():
        lines.append(Text(f"{DIES} the signal dies out"))
    for line in lines:
        line.truncate(max(width, 20))
    return lines


def _edge(edge: Edge, width: int) -> list[Text]:
    title = Text("Edge of chaos, chi_1 = gain^2 E f'^2 = 1", style="bold")
    if not np.isfinite(edge.gain).any():
        return [title, Text("none in this range of bias_std")]
    grid = Grid([
        Column("bias_std", right=True),
        Column("gain", right=True),
        Column("gain^2", right=True),
        Column("second moment q*", right=True),
    ])  # fmt: skip
    for bias, gain, second in zip(edge.bias_std, edge.gain, edge.second_moment, strict=True):
        cells = ["none", "", ""]
        if np.isfinite(gain):
            cells = [short(float(gain), 6), short(float(gain**2), 6), short(float(second), 6)]
            cells[2] = cells[2] if np.isfinite(second) else "any"
        grid.add(short(float(bias), 3), *cells)
    return [title, *grid.lines(width, gap=3)]
