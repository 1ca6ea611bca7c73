"""Singular values of the input-output Jacobian: rows of a report, predicted and measured, where they stand and fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lensnet
from lensnet.measure import jacobians
from lensnet.measure.module import draw, to_module
from lensnet.measure.sources import load_batch
from lensnet.quantities import jacobian

NET = """
network: net
input: {{source: gaussian, channels: {width}, batch: 8, std: {std}}}
body:
  - repeat: {depth}
    name: layer
    body:
      - {{name: dense, component: linear, units: {width}, {law}}}
      - {{name: act, component: {kind}}}
      {extra}
"""


def load(tmp_path: Path, kind: str, law: str, width: int = 96, depth: int = 3, std: float = 1.0, extra: str = ""):
    file = tmp_path / "net.yaml"
    file.write_text(NET.format(kind=kind, law=law, width=width, depth=depth, std=std, extra=extra))
    return lensnet.load(file)


def rows(report: Any, quantity: str) -> dict[str, Any]:
    return {row.component: row for row in report.rows if row.quantity == quantity}


@pytest.mark.parametrize(
    ("kind", "law", "extra"),
    [
        ("tanh", "gain: 1.5, bias_std: 0.2", ""),
        ("relu", "init: orthogonal, gain: sqrt(2)", ""),
        ("gelu", "gain: 1.5", ""),
        ("tanh", "gain: 1", "- {name: drop, component: dropout, rate: 0.3}"),
    ],
)
def test_predicted_beside_measured(tmp_path: Path, kind: str, law: str, extra: str) -> None:
    report = load(tmp_path, kind, law, extra=extra).run(seeds=4, level="spectrum", backward=False)
    for quantity in jacobian.QUANTITIES:
        found = rows(report, quantity)
        assert len(found) == (9 if extra else 6)
        for row in found.values():
            assert row.view == "through"
            size = max(row.measured, 0.02 * rows(report, "jacobian_high")[row.component].measured, 1e-9)
            error = 3 * row.standard_error + (0.06 + 3 / 96) * size
            assert row.predicted == pytest.approx(row.measured, abs=error), (quantity, row.component)


CONVOLUTIONS = """
network: net
input: {{source: gaussian, channels: 3, positions: [6, 6], batch: 4}}
body:
  - repeat: 2
    name: layer
    body:
      - {{name: conv, component: conv2d, filters: 16, kernel: 3, padding: 1, padding_mode: {mode}, gain: 1.5}}
      - {{name: act, component: tanh}}
  - {{name: flat, component: flatten}}
  - {{name: head, component: linear, units: 48}}
"""


def test_convolutions_that_wrap_around_are_dense_layers_over_channels(tmp_path: Path) -> None:
    """To the order 1/channels; with edges positions differ, and nothing is predicted behind the first convolution."""
    file = tmp_path / "net.yaml"
    file.write_text(CONVOLUTIONS.format(mode="circular"))
    report = lensnet.load(file).run(seeds=4, most_seeds=4, level="spectrum", backward=False)
    for quantity in jacobian.QUANTITIES:
        found = rows(report, quantity)
        assert len(found) == 6
        for row in found.values():
            allowed = 3 * row.standard_error + 1.5 / 16 * row.measured
            assert row.predicted == pytest.approx(row.measured, abs=allowed), (quantity, row.component)
    file.write_text(CONVOLUTIONS.format(mode="zero"))
    edges = rows(lensnet.load(file).predict(level="spectrum"), "jacobian_gain")
    assert all(row.predicted is None for row in edges.values())


def test_forward_differentiation_is_the_jacobian_of_autograd(tmp_path: Path) -> None:
    network = load(tmp_path, "tanh", "gain: 1.2", width=12, depth=2).network
    module, batch = to_module(network), load_batch(network.input)
    draw(module, network, 5)
    whole = torch.autograd.functional.jacobian(module.double(), batch[:1].double())[0, :, 0]
    exact = jacobian.of_singular_values(torch.linalg.svdvals(whole).square().numpy()[None])
    found = jacobians.jacobian_numbers(to_module(network), network, batch, 5)["layer.1.act"]
    for name, value in exact.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def test_probes_estimate_the_first_two_moments() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((40, 60)) * np.geomspace(0.1, 2, 60)
    exact = jacobian.of_singular_values((np.linalg.svd(matrix, compute_uv=False) ** 2)[None])
    draws = [jacobian.of_probes(rng.standard_normal((1, 32, 60)) @ matrix.T, 40) for _ in range(400)]
    for name in jacobian.OF_MOMENTS:
        values = np.array([found[name] for found in draws])
        error = 3.5 * values.std() / np.sqrt(len(values))
        assert values.mean() == pytest.approx(exact[name], abs=error + 0.02 * exact[name])


def test_wide_inputs_have_moments_alone(tmp_path: Path) -> None:
    report = load(tmp_path, "tanh", "gain: 1", width=300, depth=2).run(seeds=8, level="spectrum", backward=False)
    assert not rows(report, "jacobian_low")
    for quantity in jacobian.OF_MOMENTS:
        for row in rows(report, quantity).values():
            assert row.predicted == pytest.approx(row.measured, abs=3.5 * row.standard_error + 0.03 * row.measured)


def test_examples_that_see_each_other_have_no_jacobian_of_their_own(tmp_path: Path) -> None:
    net = load(tmp_path, "relu", "init: he", width=32, depth=1, extra="- {component: batchnorm}")
    report = net.run(seeds=2, level="spectrum", backward=False)
    assert not any(row.quantity in jacobian.QUANTITIES for row in report.rows)


def test_narrow_and_deep_is_told(tmp_path: Path) -> None:
    report = load(tmp_path, "relu", "init: he", width=16, depth=6).predict(level="spectrum")
    last = rows(report, "jacobian_gain")["layer.5.act"]
    assert any("few layers" in assumption.text and assumption.margin < 0 for assumption in last.assumptions)
