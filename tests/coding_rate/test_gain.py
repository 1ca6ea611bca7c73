"""The predicted gain of a layer beside the measured one: orders, bars and the flag beyond."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lensnet
from lensnet.measure.redunet import step
from lensnet.measure.redunet.coefficients import Transform
from lensnet.measure.redunet.gain import gain_series
from lensnet.measure.redunet.operators import construct
from lensnet.network.shape import Shape

FLAG = 0.07  # of the component's own regime


def errors(shape: Shape, m: int, eps2: float, etas: list[float], lam: float | None, orthonormal: bool = False) -> list:
    """Per step size: relative errors of the first, second and third order, and what the third says of the second.

    lam None: true gates.
    """
    source = torch.Generator().manual_seed(4)
    x = step.project(torch.randn(shape.tensor_shape(m), dtype=torch.float64, generator=source))
    y = torch.arange(m) % 3
    transform = Transform(shape, orthonormal)
    v = transform.forward(x)
    weights = transform.weights(v)
    made = construct(v, y, 3, eps2, weights)
    gates = step.one_hot(y, 3, v)
    if lam is not None:
        gates = step.soft_gate(step.class_norms(made.operators, v, weights), lam)
    direction = step.ascent(made.operators, v, gates)
    orders = gain_series(made, v, direction, weights, orthonormal).reduction_orders.numpy()
    out = []
    for eta in etas:
        moved = step.project(x + eta * transform.backward(direction))
        gain = float(construct(transform.forward(moved), y, 3, eps2, weights).rates.reduction - made.rates.reduction)
        terms = orders * eta ** np.arange(1, 4)
        partial = np.cumsum(terms)
        out.append([*np.abs(partial / gain - 1), abs(terms[2] / partial[1])])
    return out


@pytest.mark.parametrize(("lam", "orthonormal"), [(None, False), (10.0, False), (10.0, True)])
@pytest.mark.parametrize("shape", [Shape(8), Shape(3, (7,)), Shape(3, (4, 5))], ids=str)
def test_each_order_falls_at_its_rate(shape: Shape, lam: float | None, orthonormal: bool) -> None:
    """Halving the step divides the error of the n-th order by 2^n, with true and soft gates, on vectors and spectra."""
    eps2 = 0.1 if not orthonormal else 0.1 / shape.position_count
    if orthonormal and not shape.positions:
        pytest.skip("a vector has one transform")
    etas = [(0.05 if shape.positions else 0.012) * 2.0**-i for i in range(4)]
    etas = [eta / shape.position_count for eta in etas] if orthonormal else etas
    found = np.array(errors(shape, 24, eps2, etas, lam, orthonormal))
    for n in range(3):
        rate = np.polyfit(np.log(etas), np.log(found[:, n]), 1)[0]
        assert rate == pytest.approx(n + 1, abs=0.12), (n, found[:, n])


@pytest.mark.parametrize(("d", "m", "eps2"), [(8, 24, 0.1), (8, 24, 0.5), (16, 48, 0.3), (16, 200, 0.3)])
def test_the_bars(d: int, m: int, eps2: float) -> None:
    """At 0.5 the worst of these is beyond 8 %, and its third order says so."""
    tenth, half = errors(Shape(d), m, eps2, [0.1, 0.5], None)
    assert tenth[0] < 0.06 and tenth[1] < 0.005
    assert half[1] < 0.08 or half[3] > FLAG
    assert half[3] == pytest.approx(half[1], rel=0.4)


def gain_rows(eta: float) -> list:
    net = lensnet.load(
        "redunet_gaussians", ["constants.depth=2", f"constants.eta={eta}", "input.class_correlation=0.9"]
    )
    return [row for row in net.run(seeds=2, backward=False).rows if row.quantity == "ascent_gain"]


def test_the_report_predicts_a_small_step_and_flags_a_large_one() -> None:
    assert all(row.verdict == "agrees" and abs(row.error) < 0.005 for row in gain_rows(0.1))
    assert all(row.verdict == "out-of-regime" for row in gain_rows(40.0))
