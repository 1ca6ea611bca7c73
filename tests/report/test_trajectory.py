"""The path through the plane of size and similarity."""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path

import pytest

from lensnet.compare.report import Report
from lensnet.compare.row import Row
from lensnet.report.terminal import as_text
from lensnet.report.trajectory import trajectory


def kernel_report(count: int = 3) -> Report:
    first = Row(
        "layer.0",
        "linear",
        "second_moment",
        "forward",
        "kernel",
        "through",
        2.0,
        2.1,
        0.01,
        2.1,
        0.1,
        0.05,
        0.0,
        (),
        "agrees",
    )
    rows = []
    for i in range(count):
        q = replace(first, component=f"layer.{i}", predicted=2.0 / (i + 1), measured=2.1 / (i + 1))
        rows += [q, replace(q, quantity="correlation", predicted=0.3 + 0.2 * i, measured=0.31 + 0.2 * i)]
    return Report("made-up", seeds=4, levels=("kernel",), rows=tuple(rows))


def test_every_component_has_its_place() -> None:
    places = trajectory(kernel_report())
    assert [place.component for place in places] == ["layer.0", "layer.1", "layer.2"]
    assert places[1].predicted == pytest.approx((log(1.0), 0.5))
    assert places[2].measured == pytest.approx((log(0.7), 0.71))


def test_it_is_drawn_within_the_width(tmp_path: Path) -> None:
    text = as_text(kernel_report(), width=80)
    assert "trajectory" in text and max(map(len, text.splitlines())) <= 80
    pytest.importorskip("matplotlib")
    kernel_report().plot(tmp_path / "path.png")
    assert (tmp_path / "path.png").stat().st_size > 10_000


def test_without_correlations_there_is_no_path() -> None:
    report = replace(kernel_report(), rows=tuple(row for row in kernel_report().rows if row.quantity != "correlation"))
    assert not trajectory(report) and "trajectory" not in as_text(report)
