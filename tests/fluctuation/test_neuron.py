"""One neuron's Hermite expansion: against closed forms, finite differences of the averages, and weight draws."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from lensnet.algebra.gaussian import expect
from lensnet.algebra.pointwise import pointwise
from lensnet.expressions.symbolic import X
from lensnet.predict.fluctuation.log_law import LogLaw, chi_square
from lensnet.predict.fluctuation.neuron import energy, slope_energy, slope_overlap

RELU = pointwise(sp.Max(X, 0), name="relu")
TANH = pointwise(sp.tanh(X), name="tanh")
GELU = pointwise(X * (1 + sp.erf(X / sp.sqrt(2))) / 2, name="gelu")
ERF = pointwise(sp.erf(X), name="erf")


def test_pairs_of_a_rectifier_are_the_arc_cosine_kernel_of_degree_two():
    """Cho and Saul 2009: E relu(u)^2 relu(v)^2 = (3 sin t cos t + (pi - t)(1 + 2 cos^2 t))/(2 pi), t = acos c."""
    c = np.linspace(-1, 1, 41)
    t = np.arccos(c)
    kernel = (3 * np.sin(t) * np.cos(t) + (np.pi - t) * (1 + 2 * np.cos(t) ** 2)) / (2 * np.pi)
    assert energy(RELU, 0, 1.7).pair(c) == pytest.approx(4 * kernel - 1, abs=3e-5)


def test_gates_of_a_rectifier():
    """P(both open) = (pi - acos c)/(2 pi)."""
    c = np.linspace(-0.95, 0.95, 21)
    both = (np.pi - np.arccos(c)) / (2 * np.pi)
    assert slope_energy(RELU, 0, 1).pair(c) == pytest.approx(4 * both - 1, abs=0.01)
    assert slope_energy(RELU, 0, 1).variance == pytest.approx(1)


def test_overlap_of_slopes_is_the_gradient_kernel_of_erf():
    """Williams 1997: E f'f' = 4/pi / sqrt((1 + 2v)^2 - 4 v^2 c^2)."""
    v, c = 0.5625, np.linspace(-1, 1, 21)
    kernel = 4 / np.pi / np.sqrt((1 + 2 * v) ** 2 - 4 * (v * c) ** 2)
    assert slope_overlap(ERF, 0, np.sqrt(v), c) == pytest.approx(kernel / kernel[-1], abs=1e-9)


@pytest.mark.parametrize("function", [RELU, TANH, GELU], ids=str)
@pytest.mark.parametrize("mean", [0.0, 0.7])
def test_elasticity_and_bend_are_derivatives_of_the_average(function, mean):
    v, h = 1.3, 1e-3
    low, here, high = expect(function, mean, np.sqrt([v * (1 - h), v, v * (1 + h)])).second_moment.value
    neuron = energy(function, mean, np.sqrt(v))
    assert neuron.elasticity == pytest.approx((high - low) / (2 * h * here), abs=1e-5)
    assert neuron.bend == pytest.approx((high - 2 * here + low) / (h**2 * here), abs=1e-3)


def test_slopes_of_a_saturating_activation_shrink_with_the_signal():
    v, h = 1.3, 1e-3
    low, here, high = expect(TANH, 0.0, np.sqrt([v * (1 - h), v, v * (1 + h)])).slope_second_moment.value
    assert slope_energy(TANH, 0, np.sqrt(v)).elasticity == pytest.approx((high - low) / (2 * h * here), abs=1e-5)


def test_known_fourth_moments():
    assert energy(RELU, 0, 2).variance == pytest.approx(5)
    assert energy(RELU, 0, 2).own_variance == pytest.approx(3)
    assert energy(pointwise(X, name="line"), 0, 2).variance == pytest.approx(2)
    assert energy(pointwise(sp.Abs(X), name="abs"), 0, 2).own_variance == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("function", [TANH, GELU], ids=str)
def test_one_layer_of_smooth_neurons(function):
    """Length and own noise together: ln of the average of n squares, two orders in 1/n, against draws."""
    n, rng = 24, np.random.default_rng(1)
    logs = np.log((function(rng.standard_normal((60_000, n))) ** 2).mean(1))
    logs -= np.log(expect(function, 0.0, 1.0).second_moment.value)
    neuron = energy(function, 0, 1)
    e, length = neuron.elasticity, chi_square(n)
    law = neuron.own_law(n) + length.power(e) + LogLaw(neuron.log_curvature * length.variance / 2)
    assert logs.mean() == pytest.approx(law.mean, abs=4 * logs.std() / np.sqrt(logs.size) + 5 / n**3)
    assert logs.var() == pytest.approx(law.variance, rel=4 * np.sqrt(2 / logs.size) + 20 / n**2)
