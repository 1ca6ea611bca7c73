"""A stochastic step that lensnet does not know: a YAML file in a folder of one's own, and one tensor operation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lensnet
from lensnet.measure.steps import operations

STEP = """
component: noisy_descent
title: Step of stochastic gradient descent
optics: a mirror that trembles
intuition: Downhill by a slope that is known but for an error of its own at every step.
acts_on: state
parameters:
  rate: {type: real, min: 0, symbol: eta}
  spread: {type: real, min: 0, symbol: sigma, about: standard deviation of the error of every component of the slope}
effects:
  spectrum:
    iterate: z - eta*g
    noise: eta*sigma
implementation: noisy_descent
trials:
  - {objective: {source: quadratic, dimension: 4}, rate: 1, spread: 0.1}
"""
NET = """
network: noisy
input: {source: SOURCE}
body:
  - {repeat: STEPS, name: step, component: noisy_descent, rate: 0.9, spread: 0.3}
"""
BOWL = "quadratic, dimension: 30, condition: 2, spacing: arithmetic"
STEPS = 12


def noisy_descent(
    problem: Any, state: operations.Tensors, rate: float, spread: float, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    x = state["iterate"]
    slope = problem.gradient(x) + spread * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return {"iterate": x - rate * slope}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setitem(operations._OPERATIONS, "noisy_descent", noisy_descent)
    (tmp_path / "noisy_descent.yaml").write_text(STEP)
    return tmp_path


def net(folder: Path, source: str = BOWL) -> lensnet.Net:
    (folder / "net.yaml").write_text(NET.replace("SOURCE", source).replace("STEPS", str(STEPS)))
    return lensnet.load(folder / "net.yaml")


def test_the_loss_falls_to_the_floor_that_its_noise_holds_up(folder: Path) -> None:
    """E e^2 along a direction becomes (1 - eta lam)^2 E e^2 + (eta sigma)^2."""
    report = net(folder).run(seeds=60, most_seeds=60)
    lam, square, expected = np.linspace(1, 0.5, 30), np.ones(30), []
    for _ in range(STEPS):
        square = (1 - 0.9 * lam) ** 2 * square + (0.9 * 0.3) ** 2
        expected.append((lam * square).sum() / 2)
    through = [row for row in report.rows if row.quantity == "loss" and row.view == "through"]
    for row, value in zip(through, expected, strict=True):
        assert row.predicted == pytest.approx(value, rel=0.02)
        assert row.measured == pytest.approx(value, abs=4.5 * np.std(row.per_seed) / np.sqrt(60))
        assert row.verdict == "agrees"
    assert expected[-1] == pytest.approx(expected[-2], rel=1e-3), "the noise, not the start, makes the end"
    followed = [row for row in report.rows if row.quantity in ("error_norm", "alignment", "condition_number")]
    assert all(row.verdict == "agrees" for row in followed)
    assert not [row for row in report.rows if row.verdict in ("deviates", "out-of-regime")]


def test_noise_beside_the_modes_is_flagged(folder: Path) -> None:
    """A two-layer network has more weights than coordinates of modes: noise leaves the subspace that they follow."""
    report = net(folder, "two_layer_linear, condition: 4, start: 0.5").predict()
    assert {row.verdict for row in report.rows if row.component == "step.0"} == {"out-of-regime"}
