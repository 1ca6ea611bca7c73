"""The predicted gain of a layer beside the measured one: orders, bars and the flag beyond."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lensnet
from lensnet.catalog.catalog import catalog
from lensnet.language.formula import evaluate_number
from lensnet.measure.redunet import step
from lensnet.measure.redunet.coefficients import Transform
from lensnet.measure.redunet.gain import gain_series
from lensnet.measure.redunet.operators import construct
from lensnet.network.shape import Shape


def errors(
    shape: Shape,
    m: int,
    eps2: float,
    etas: list[float],
    lam: float | None,
    orthonormal: bool = False,
    classes: int = 3,
    seed: int = 4,
) -> list:
    """Per step size: relative errors of the first, second and third order, what the third says of the second, and
    whether the component's own regime holds.

    lam None: true gates.
    """
    source = torch.Generator().manual_seed(seed)
    x = step.project(torch.randn(shape.tensor_shape(m), dtype=torch.float64, generator=source))
    y = torch.arange(m) % classes
    transform = Transform(shape, orthonormal)
    v = transform.forward(x)
    weights = transform.weights(v)
    made = construct(v, y, classes, eps2, weights)
    gates = step.one_hot(y, classes, v)
    if lam is not None:
        gates = step.soft_gate(step.class_norms(made.operators, v, weights), lam)
    direction = step.ascent(made.operators, v, gates)
    orders = gain_series(made, v, direction, weights, orthonormal).reduction_orders.numpy()
    out = []
    for eta in etas:
        moved = step.project(x + eta * transform.backward(direction))
        gain = float(
            construct(transform.forward(moved), y, classes, eps2, weights).rates.reduction - made.rates.reduction
        )
        terms = orders * eta ** np.arange(1, 4)
        partial = np.cumsum(terms)
        out.append([*np.abs(partial / gain - 1), abs(terms[2] / partial[1]), in_regime(orders, eta)])
    return out


def in_regime(orders: np.ndarray, eta: float) -> bool:
    """What the effect model's own formulas say."""
    spec = catalog()["redunet_layer"].spec
    scope = {"eta": eta} | {f"dR_{n}": float(order) for n, order in enumerate(orders, start=1)}
    scope["next_order"] = evaluate_number(spec.let["next_order"], scope)
    (check,) = spec.effects["spectrum"]["ascent_gain"].assumes
    return evaluate_number(f"where({check.check}, 1, 0)", scope) == 1


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
    """At 0.5 the worst of these is beyond 8 %, and is flagged."""
    tenth, half = errors(Shape(d), m, eps2, [0.1, 0.5], None)
    assert tenth[0] < 0.06 and tenth[1] < 0.005
    assert tenth[4]
    assert half[1] < 0.08 or not half[4]
    assert half[3] == pytest.approx(half[1], rel=0.4)


def test_what_is_not_flagged_is_within_eight_percent() -> None:
    """Forty draws in 8 to 32 dimensions, two to four classes, true, soft and sharp gates; most are not flagged."""
    kept = 0
    for seed in range(40):
        chosen = np.random.default_rng(seed)
        classes, d = int(chosen.integers(2, 5)), int(chosen.integers(8, 33))
        lam = [None, 10.0, 500.0][seed % 3]
        tenth, half = errors(
            Shape(d), int(chosen.integers(6 * classes, 200)), 0.1, [0.1, 0.5], lam, classes=classes, seed=seed
        )
        for found in (tenth, half):
            assert found[1] < 0.08 or not found[4], (seed, found)
        kept += tenth[4] + half[4]
    assert kept > 50


def gain_rows(eta: float) -> list:
    net = lensnet.load(
        "redunet_gaussians", ["constants.depth=2", f"constants.eta={eta}", "input.class_correlation=0.9"]
    )
    return [row for row in net.run(seeds=2, backward=False).rows if row.quantity == "ascent_gain"]


def test_the_report_predicts_a_small_step_and_flags_a_large_one() -> None:
    assert all(row.verdict == "agrees" and abs(row.error) < 0.005 for row in gain_rows(0.1))
    assert all(row.verdict == "out-of-regime" for row in gain_rows(40.0))
