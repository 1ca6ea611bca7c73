"""Panels of the spectrum level in the figure of a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import lensnet
from lensnet.compare.report import Report
from lensnet.compare.row import Row
from lensnet.report.plot import plot
from lensnet.report.plot_spectrum import PANELS

pytest.importorskip("matplotlib")


def row(component: str, quantity: str, level: str, predicted: float, measured: float | None) -> Row:
    return Row(
        component, "linear", quantity, "forward", level, "through", predicted, measured, 0.1, measured, 1.0, 0.0, 1.0,
        (), "agrees" if measured else "undecided",
    )  # fmt: skip


def report(levels: tuple[str, ...]) -> Report:
    rows = [
        row(component, quantity, level, value, value * 1.01)
        for level in levels
        for component in ("a", "b")
        for quantity, value in (
            ("coding_rate", 60.0),
            ("effective_rank", 12.0),
            ("participation_ratio", 3.0),
            ("jacobian_low", 0.5),
            ("jacobian_high", 2.0),
        )
    ]
    return replace(lensnet.load("bottleneck").predict(), rows=tuple(rows), levels=levels)


def test_rates_and_ranks_are_drawn_with_the_infinite_width_beside_them(tmp_path: Path) -> None:
    figure = plot(report(("kernel", "spectrum")), tmp_path / "figure.png")
    titles = {ax.get_title(loc="left") for ax in figure.axes}
    assert {panel.title for panel in PANELS.values()} <= titles
    rates = next(ax for ax in figure.axes if ax.get_title(loc="left") == PANELS["coding_rate"].title)
    assert any(line.get_linestyle() == "--" for line in rates.lines)
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_nothing_is_drawn_without_the_level() -> None:
    assert not any(panel.shows(report(("kernel",))) for panel in PANELS.values())
