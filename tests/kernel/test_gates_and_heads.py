"""Parts of imported models at the kernel level: gates, rotary positions, heads, and the paths that samples share."""

from __future__ import annotations

from itertools import product
from math import acos, pi, sqrt

import numpy as np
import pytest
from scipy.special import expit

from lensnet.algebra.mixing.routing import Routing
from lensnet.levels.ladder import Level
from lensnet.network.shape import Shape
from lensnet.predict.kernel.backward import backward
from lensnet.predict.kernel.environment import KernelPlace
from lensnet.predict.kernel.forward import forward
from lensnet.run import run
from tests.effects.monte_carlo import place
from tests.kernel.brute import Tried, simulate
from tests.kernel.networks import network

SEQUENCE, PICTURE, VECTOR = Shape(64, (6,)), Shape(96, (3, 4)), Shape(96, ())
CASES = [
    ("gate", [PICTURE, VECTOR], {}, 60),
    ("rotary", [Shape(64, (9,))], {"heads": 2, "base": 20.0}, 60),
    ("attend", [Shape(64, (4,)), SEQUENCE, SEQUENCE], {"heads": 2}, 150),
    ("attend", [SEQUENCE, Shape(32, (6,)), Shape(32, (6,))], {"heads": 4, "key_heads": 2, "causal": True}, 150),
    ("attend", [Shape(64, (4, 6))] * 3, {"heads": 2, "window": [2, 3], "shift": [1, 1]}, 100),
    ("attend", [Shape(64, (4, 4))] * 3, {"heads": 4, "window": 2, "spread": True, "bias_std": 0.7}, 100),
    ("attend", [Shape(64, (10,))] * 3, {"heads": 4, "alibi": True, "causal": True}, 100),
    ("attend", [Shape(64, (6,))] * 3, {"heads": 4, "causal": True, "sink": 2.0, "sink_std": 0.8}, 100),
]


@pytest.mark.parametrize(("name", "shapes", "options", "draws"), CASES, ids=lambda value: str(value)[:40])
def test_ports_of_different_shapes(name: str, shapes: list[Shape], options: dict[str, object], draws: int) -> None:
    """Every entry of the covariances of output and gradients, as far as the draws tell."""
    case = Tried(place(name, shapes, 3, **options), 0.0, 1.0)
    at = KernelPlace(case.node, *case.layouts, ports=case.ports)
    step, found = forward(at, case.states()), simulate(case, draws)
    assert step.state is not None
    told = {"output": np.asarray(step.state.pairs)}
    for port, back in backward(at, case.states(), case.probe()).items():
        told[f"gradient {port}"] = np.asarray(back.pairs)
    for quantity, value in told.items():
        measured, scale = found[quantity], float(np.mean(np.diag(value)))
        within = np.abs(measured.mean - value) / (0.02 * scale + 5 * measured.error)
        assert within.max() < 1, f"{quantity}: {within.max():.2f} of what is allowed"
        mean, error = measured.group(np.ones_like(value))
        assert abs(mean - value.mean()) < 0.006 * scale + 4.5 * error, quantity


def test_rotated_constant_turns_out_of_sight() -> None:
    """One value in all channels is no mean any more, and its copies turn away from each other: exactly."""
    case = Tried(place("rotary", [Shape(32, (8,))], 1, heads=2, base=50.0), 1.0, 0.0)
    step = forward(KernelPlace(case.node, *case.layouts), case.states())
    found = simulate(case, 2)["output"].mean
    assert step.state is not None
    np.testing.assert_allclose(step.state.pairs, found, atol=1e-6)  # torch keeps cosines in float32
    rates = 50.0 ** (-np.arange(0, 16, 2) / 16)
    np.testing.assert_allclose(step.state.mean[0], np.cos(np.arange(8)[:, None] * rates).mean(axis=1), atol=1e-12)


def two(rho: float, variance: float) -> np.ndarray:
    return variance * np.array([[1.0, rho], [rho, 1.0]])


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.3, 0.9])
def test_two_paths_of_which_the_better_is_taken(rho: float) -> None:
    """Both samples choose alike with probability 1 - arccos(rho)/pi (the difference of two ratings has one sign)."""
    found, error = Routing.draw(two(rho, 1.3), 2, 1, True).together()
    assert found[0, 1] == pytest.approx(1 - acos(rho) / pi, abs=4 * max(error, 0.004))
    assert found[0, 0] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(("rho", "variance"), [(0.0, 1.0), (0.6, 2.0), (0.95, 8.0)])
def test_two_soft_paths_are_a_sigmoid(rho: float, variance: float) -> None:
    """s = sigmoid of the difference of two ratings: averages by independent quadrature over two normal values."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    a = sqrt(2 * variance) * nodes[:, None]
    b = sqrt(2 * variance) * (rho * nodes[:, None] + sqrt(1 - rho**2) * nodes[None, :])
    average = np.outer(weights, weights)
    alike = float((average * (expit(a) * expit(b) + expit(-a) * expit(-b))).sum())
    slopes = float((average * 4 * expit(a) * expit(-a) * expit(b) * expit(-b)).sum())
    routing = Routing.draw(two(rho, variance), 2, 2, True)
    found, error = routing.together()
    assert found[0, 1] == pytest.approx(alike, abs=4 * error + 1e-4)
    assert routing.slopes()[0, 1] == pytest.approx(slopes, rel=0.02)


def test_best_two_of_four_by_counting() -> None:
    """Hard gates of equal shares: at correlation 1 all is shared, at 0 a quarter of the power."""
    for rho, kept in product((0.0, 1.0), (1, 2, 3)):
        found, _ = Routing.draw(two(rho, 1e-6), 4, kept, True).together()
        assert found[0, 1] == pytest.approx(1 / kept if rho else 1 / 4, rel=0.02)


PICTURE_WITH_DIMMERS = """
- {name: c, component: conv2d, filters: 64, kernel: 3, padding: 1}
- {name: a, component: silu}
- {name: pool, component: global_avg_pool, from: a}
- {name: dense, component: linear, units: 64, gain: 3}
- {name: s, component: sigmoid}
- {name: gate, component: gate, from: [a, s]}
- {name: up, component: conv2d, filters: 64, kernel: 1}
"""
BLOCK = """
- {name: norm, component: rmsnorm}
- {name: q, component: linear, units: 96, from: norm}
- {name: k, component: linear, units: 48, from: norm}
- {name: v, component: linear, units: 48, from: norm}
- {name: qr, component: rotary, heads: 4, from: q}
- {name: kr, component: rotary, heads: 2, from: k}
- {name: att, component: attend, heads: 4, key_heads: 2, causal: true, from: [qr, kr, v]}
- {name: o, component: linear, units: 96}
- {name: res, component: sum, from: [o, input]}
- {name: moe, component: mixture_of_experts, experts: 4, active: 2, hidden: 96, units: 96}
"""


@pytest.mark.parametrize(
    ("body", "channels", "positions"),
    [(PICTURE_WITH_DIMMERS, 16, "[4, 4]"), (BLOCK, 96, "[8]")],
    ids=["picture", "text"],
)
def test_in_a_network(body: str, channels: int, positions: str) -> None:
    """From the input on, beside eight weight draws: covariances of outputs and gradients at every component."""
    report = run(network(body, channels, 4, positions), 8, levels=(Level.MOMENTS, Level.KERNEL), most_seeds=8)
    rows = [row for row in report.rows if row.view == "through" and row.level == "kernel"]
    assert not [str(row) for row in rows if row.verdict == "deviates"]
    counted = [row for row in rows if row.quantity in ("second_moment", "correlation", "position_cosine")]
    assert sum(row.verdict == "agrees" for row in counted) > 0.8 * len(counted)
