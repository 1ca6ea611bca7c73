"""Fixed points of second-moment maps, and gains that come out of a solve."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp

from lensnet.algebra.fixed_points import fixed_points, solve_for
from lensnet.algebra.gaussian import expect
from tests.algebra.functions import CASES

q, g, s, n = sp.symbols("q g sigma_b n", real=True)


def moment_map(name: str, gain: float, bias_std: float = 0.0):
    def step(q: np.ndarray) -> np.ndarray:
        return gain**2 * expect(CASES[name].function, 0.0, np.sqrt(q)).second_moment.value + bias_std**2

    return step


def test_gelu_at_unit_variance_is_unstable() -> None:
    found = fixed_points(moment_map("gelu", math.sqrt(2.35172)))
    (point,) = found.points
    assert point.q == pytest.approx(1.0, abs=2e-5)
    assert point.slope == pytest.approx(1.144, abs=1e-3)
    assert point.stability == "unstable"
    assert found.at_zero is not None and found.at_zero.stability == "stable"


def test_relu_at_gain_root_two_keeps_everything() -> None:
    found = fixed_points(moment_map("relu", math.sqrt(2)))
    assert found.every and not found.points
    assert fixed_points(moment_map("relu", 1.3)).points == ()


def test_tanh_phases() -> None:
    assert fixed_points(moment_map("tanh", 0.9)).points == ()
    chaotic = fixed_points(moment_map("tanh", 1.5))
    (point,) = chaotic.points
    assert point.stability == "stable" and chaotic.at_zero is not None
    assert chaotic.at_zero.slope == pytest.approx(2.25, rel=1e-6)
    assert chaotic.at_zero.stability == "unstable"
    again = moment_map("tanh", 1.5)(np.array([point.q]))[0]
    assert again == pytest.approx(point.q, rel=1e-12)
    step = 1e-4 * point.q
    slope = np.diff(moment_map("tanh", 1.5)(point.q + np.array([-step, step])))[0] / (2 * step)
    assert point.slope == pytest.approx(slope, abs=1e-6)


def test_the_bistable_gelu_stack_has_two_ends() -> None:
    found = fixed_points(moment_map("gelu", 1.5, 0.1))
    assert [point.stability for point in found.points] == ["stable", "unstable"]
    assert found.at_zero is None
    q = np.array([0.5 * found.points[1].q, 1.5 * found.points[1].q])
    for _ in range(60):
        q = moment_map("gelu", 1.5, 0.1)(q)
    assert q[0] == pytest.approx(found.points[0].q, rel=1e-6) and q[1] > 10


def test_touching_and_partial_lines() -> None:
    (touch,) = fixed_points(lambda q: q * np.exp(-((np.log(q) - 1) ** 2))).points
    assert touch.q == pytest.approx(math.e, rel=1e-6) and touch.stability == "neutral"
    clipped = fixed_points(moment_map("hardtanh", 1.0))
    ((low, high),) = clipped.intervals
    assert low == 1e-12 and 0.005 < high < 0.05
    (constant,) = fixed_points(lambda q: 0 * q + 3.0).points
    assert constant.q == pytest.approx(3.0) and constant.slope == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="low"):
        fixed_points(lambda q: q, low=0.0)


def test_three_points_at_once() -> None:
    found = fixed_points(cubic)
    assert [point.q for point in found.points] == pytest.approx([0.01, 1.0, 100.0], rel=1e-10)
    assert [point.stability for point in found.points] == ["stable", "unstable", "stable"]


def cubic(q: np.ndarray) -> np.ndarray:
    """log F - log q = -l*(l - c)*(l + c)/50 in l = log q, c = log 100."""
    log_q, c = np.log(q), math.log(100.0)
    return q * np.exp(-np.clip(log_q * (log_q - c) * (log_q + c) / 50, -50, 50))


def test_he_gain_comes_out_of_a_solve() -> None:
    assert solve_for(sp.Eq(g**2 * q / 2, q), g) == [sp.sqrt(2)]
    assert set(solve_for(g**2 - 4, g, positive=False)) == {-2, 2}
    assert solve_for(sp.Eq(g**2 * q / 2 + s**2, q), q) == [-2 * s**2 / (g**2 - 2)]
    assert solve_for(sp.Eq((1 + g**2) ** n, sp.Integer(2)), g) != []
