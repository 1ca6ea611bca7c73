"""Phase diagrams against published edges of chaos, closed-form maps iterated here, and exact fixed points of relu."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lensnet.algebra.dual import dual
from lensnet.algebra.gaussian import expect
from lensnet.algebra.moment_map import moment_map
from lensnet.predict.kernel.phase import edge_of_chaos, phase_diagram
from tests.algebra.functions import CASES

TANH, ERF, RELU = (CASES[name].function for name in ("tanh", "erf", "relu"))


def test_edge_of_chaos_of_tanh() -> None:
    """At bias variance 0.01 and 0.3 by mpmath, the others as published."""
    edge = edge_of_chaos(TANH, np.sqrt([0.01, 0.3]))
    np.testing.assert_allclose(edge.gain**2, [1.4242052904885957, 2.505127189679765], rtol=1e-12)
    np.testing.assert_allclose(edge.second_moment, [0.2733009134582312, 1.4611694469319795], rtol=1e-10)
    edge = edge_of_chaos(TANH, np.sqrt([0.001, 0.05, 0.1]))
    np.testing.assert_allclose(edge.gain**2, [1.189190, 1.760955, 1.986073], rtol=5e-7)
    np.testing.assert_allclose(edge.second_moment, [0.107292, 0.570048, 0.805799], rtol=5e-6)
    origin = edge_of_chaos(TANH, 0.0)
    assert float(origin.gain) == pytest.approx(1.0, abs=1e-9) and float(origin.second_moment) == 0.0


def test_correlation_depth_of_tanh_as_published() -> None:
    diagram = phase_diagram(TANH, math.sqrt(2.5), math.sqrt(0.1))
    assert diagram.depth[0, 0] == pytest.approx(13.460, rel=5e-5)
    assert diagram.phase[0, 0] == "chaotic"


def erf_kernel(q: float, c: float) -> float:
    return 2 / math.pi * math.asin(2 * c * q / (1 + 2 * q))


@pytest.mark.parametrize(("gain", "bias"), [(0.8, 0.2), (1.6, 0.1), (2.5, 0.5), (1.3, 0.0), (4.0, 1.0)])
def test_fixed_points_are_where_iteration_leads(gain: float, bias: float) -> None:
    q, c = 1.0, 0.3
    for _ in range(4000):
        q = gain**2 * erf_kernel(q, 1.0) + bias**2
    for _ in range(4000):
        c = (gain**2 * erf_kernel(q, c) + bias**2) / q

    def slope(at: float) -> float:
        return gain**2 * 4 / math.pi / math.sqrt((1 + 2 * q) ** 2 - 4 * (at * q) ** 2)

    diagram = phase_diagram(ERF, gain, bias)
    assert diagram.second_moment[0, 0] == pytest.approx(q, rel=1e-10)
    assert diagram.chi[0, 0] == pytest.approx(slope(1.0), rel=1e-9)
    assert diagram.correlation[0, 0] == pytest.approx(c, abs=1e-7)
    assert diagram.chi_correlation[0, 0] == pytest.approx(slope(c), rel=1e-7)


def test_relu_has_one_fixed_point_below_gain_sqrt_2_and_none_above() -> None:
    gains, biases = np.array([0.5, 1.0, 1.41, 1.5]), np.array([0.0, 0.3, 2.0])
    diagram = phase_diagram(RELU, gains, biases)
    exact = biases**2 / (1 - gains[:3, None] ** 2 / 2)
    np.testing.assert_allclose(diagram.second_moment[:3], exact, rtol=1e-10)
    assert np.all(np.isinf(diagram.second_moment[3]))
    np.testing.assert_allclose(diagram.chi, np.broadcast_to(gains[:, None] ** 2 / 2, (4, 3)), rtol=1e-12)
    assert phase_diagram(RELU, math.sqrt(2), 0.0).second_moment[0, 0] == 1.0


def test_a_large_grid_solves_its_own_equations() -> None:
    """Every point of the grid is put back into maps that the diagram did not use."""
    gains, biases = np.linspace(0.2, 3.0, 20), np.linspace(0.0, 1.0, 15)
    for name in ("tanh", "hardtanh", "gelu"):
        function = CASES[name].function
        diagram = phase_diagram(function, gains, biases)
        q = diagram.second_moment
        live = np.isfinite(diagram.correlation)
        squared = np.broadcast_to(gains[:, None] ** 2, q.shape)[live]
        bias = np.broadcast_to(biases**2, q.shape)[live]
        moments = expect(function, 0.0, np.sqrt(q[live]))
        np.testing.assert_allclose(squared * moments.second_moment.value + bias, q[live], rtol=2e-9)
        c = diagram.correlation[live]
        kernel = dual(function).kernel(q[live], q[live], c * q[live]).value
        np.testing.assert_allclose((squared * kernel + bias) / q[live], c, rtol=0, atol=1e-7)
        slope = squared * dual(function).gradient_kernel(q[live], q[live], c * q[live]).value
        np.testing.assert_allclose(diagram.chi_correlation[live], slope, rtol=1e-6)


def test_axes_are_checked() -> None:
    with pytest.raises(ValueError, match="negative"):
        phase_diagram(TANH, [-1.0], [0.0])
    with pytest.raises(ValueError, match="one dimension"):
        phase_diagram(TANH, np.ones((2, 2)), [0.0])


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "hardtanh", "sigmoid", "exp"])
def test_tables_of_moments_are_as_good_as_they_say(name: str) -> None:
    function = CASES[name].function
    q = np.exp(np.random.default_rng(1).uniform(-24.0, 5.0, 300))
    table, moments = moment_map(function), expect(function, 0.0, np.sqrt(q))
    for found, exact in (
        (table.second_moment(q), moments.second_moment),
        (table.mean_square_slope(q), moments.slope_second_moment),
    ):
        np.testing.assert_array_less(np.abs(found / exact.value - 1.0), table.error + exact.error / exact.value + 1e-14)
