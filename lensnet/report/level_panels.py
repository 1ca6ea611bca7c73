"""What the levels below the moments add to a report: a panel each in the figure, and the same as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from lensnet.compare.report import Report
from lensnet.report import trajectory

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure


@dataclass(frozen=True)
class LevelPanel:
    """A panel: whether a report has what it shows, its height in inches, how it is drawn, and its form as text."""

    name: str
    applies: Callable[[Report], bool]
    height: float
    draw: Callable[[SubFigure, Report], None]
    lines: Callable[[Report, int], list[Text]]


PANELS: tuple[LevelPanel, ...] = (
    LevelPanel(
        "trajectory", lambda report: len(trajectory.trajectory(report)) > 1, 3.2, trajectory.draw, trajectory.lines
    ),
)


def panels_of(report: Report) -> list[LevelPanel]:
    """The panels that apply, in the order of the ladder."""
    return [panel for panel in PANELS if panel.applies(report)]
