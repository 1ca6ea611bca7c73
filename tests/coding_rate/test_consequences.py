"""What follows from the objective: the singular-value map, the parts of a layer, and classes that arrive later."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lensnet
from lensnet.construct.incremental import add_classes, apply_layers, build_layers, covariances
from lensnet.derivation.api import derive
from lensnet.measure.redunet.operators import construct
from lensnet.measure.redunet.step import ascent, one_hot, project


def test_derive_shows_skip_sphere_and_gate_as_consequences() -> None:
    text = str([(step.title, step.parts) for step in derive("redunet_layer").steps])
    for title in ("skip connection is the step", "normalisation is the sphere", "gate is the soft assignment"):
        assert title in text
    assert "1.879849" in text


def test_orthogonal_classes_keep_their_directions_and_their_rank() -> None:
    """s' = s (1 + eta alpha (1/(1 + alpha s^2) - 1/(1 + alpha_j s^2))), exactly, before the projection."""
    source = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(10, 5, dtype=torch.float64, generator=source))[0]
    sizes, ranks, eps2, eta = (12, 20), (2, 3), 0.2, 0.7
    points = [torch.randn(n, r, dtype=torch.float64, generator=source) for n, r in zip(sizes, ranks, strict=True)]
    z = torch.cat([points[0] @ basis[:, :2].T, points[1] @ basis[:, 2:].T])
    y = torch.tensor([0] * 12 + [1] * 20)
    made = construct(z[None], y, 2, eps2)
    moved = z + eta * ascent(made.operators, z[None], one_hot(y, 2, z))[0]
    alpha = 10 / (32 * eps2)
    for j, (n, r) in enumerate(zip(sizes, ranks, strict=True)):
        s, after = (torch.linalg.svdvals(rows[y == j]) for rows in (z, moved))
        alpha_j = 10 / (n * eps2)
        expected = s[:r] * (1 + eta * alpha * (1 / (1 + alpha * s[:r] ** 2) - 1 / (1 + alpha_j * s[:r] ** 2)))
        np.testing.assert_allclose(after[:r], expected.sort(descending=True)[0], rtol=1e-12)
        assert (after[:r] >= s[:r]).all() and after[r:].max() < 1e-12


def test_the_operators_of_old_classes_are_all_that_is_needed() -> None:
    source = torch.Generator().manual_seed(1)
    x = torch.randn(60, 12, dtype=torch.float64, generator=source)
    y = torch.arange(60) % 4
    old = y < 3
    first = build_layers(x[old], y[old], 3, 0.3, 0.2, 100.0)
    later = add_classes(first, x[~old], y[~old] - 3, 0.3, 0.2, 100.0)
    joint = build_layers(x, y, 3, 0.3, 0.2, 100.0)
    torch.testing.assert_close(later[0].operators.expansion, joint[0].operators.expansion, rtol=0, atol=1e-12)
    torch.testing.assert_close(later[0].operators.compression, joint[0].operators.compression, rtol=0, atol=1e-12)
    for i in range(3):
        assert float(later[i].rates.reduction) == pytest.approx(float(joint[i].rates.reduction), rel=0.02)
    shares = [apply_layers(layers, x, 0.2, 100.0)[1] for layers in (later, joint)]
    torch.testing.assert_close(shares[0], shares[1], rtol=0, atol=1e-9)
    z = project(x[y == 2])
    back = covariances(joint[0].operators.compression[:, 0], joint[0].sizes, 0.3)
    torch.testing.assert_close(back[2], z.T @ z, rtol=0, atol=1e-10)


def test_the_report_predicts_that_the_rank_of_a_class_is_kept() -> None:
    net = lensnet.load("redunet_subspaces", ["constants.depth=2", "input.noise=0", "input.batch=60"])
    rows = [row for row in net.run(seeds=2, backward=False).rows if row.quantity == "class_rank"]
    assert len(rows) == 4
    assert all(row.predicted == row.measured == 3 and row.verdict == "agrees" for row in rows)
