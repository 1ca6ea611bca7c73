"""Functions and slopes with poles: which averages exist, and that those which do not are never a number."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from scipy.special import gamma

from lensnet.algebra.gaussian import expect
from lensnet.algebra.pointwise import PointwiseFunction, pointwise

X = sp.Symbol("x", real=True)


def power(exponent: float) -> PointwiseFunction:
    return pointwise(sp.Abs(X) ** sp.Rational(str(exponent)))


@pytest.mark.parametrize("exponent", [0.25, 0.4, 0.5])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.3, 0.5), (-2.0, 1.5)])
def test_the_squared_slope_of_a_root_is_infinite(exponent: float, mean: float, std: float) -> None:
    found = expect(power(exponent), mean, std)
    assert np.isposinf(found.slope_second_moment.value)
    assert np.isfinite(found.second_moment.value)


@pytest.mark.parametrize("exponent", [0.55, 0.6, 0.75, 1.5])
def test_where_it_is_finite_the_error_covers_the_truth(exponent: float) -> None:
    """E |x|**s = 2**(s/2) Gamma((1 + s)/2)/sqrt(pi) for a standard normal x."""
    s = 2 * exponent - 2
    truth = exponent**2 * 2 ** (s / 2) * gamma((1 + s) / 2) / np.sqrt(np.pi)
    found = expect(power(exponent), 0.0, 1.0).slope_second_moment
    assert abs(found.value - truth) <= found.error + 1e-9 * truth
    if exponent >= 0.6:
        assert found.error < 0.01 * truth


def test_a_pole_between_the_kinks_of_others_is_found_where_it_lies() -> None:
    found = expect(pointwise(sp.sqrt(sp.Abs(X - 1))), np.array([0.0, 40.0]), np.array([1.0, 1.0]))
    assert np.isposinf(found.slope_second_moment.value[0])
    assert found.slope_second_moment.value[1] == pytest.approx(1 / (4 * 39), rel=2e-3)  # 39 std away


def test_one_over_x_has_no_mean_and_no_second_moment() -> None:
    found = expect(pointwise(1 / X), 0.5, 1.0)
    assert np.isnan(found.mean.value)
    assert np.isposinf(found.second_moment.value)


def test_a_logarithm_has_a_second_moment_and_its_slope_none() -> None:
    found = expect(pointwise(sp.log(sp.Abs(X))), 0.0, 1.0)
    assert found.mean.value == pytest.approx(-(np.euler_gamma + np.log(2)) / 2, rel=1e-8)
    assert np.isposinf(found.slope_second_moment.value)


def test_bends_and_jumps_are_no_poles() -> None:
    for expression in (sp.Abs(X), sp.sign(X), sp.Max(X, 0) ** 2, X * sp.log(sp.Abs(X))):
        found = expect(pointwise(expression), 0.2, 1.0)
        assert np.isfinite(found.slope_second_moment.value), expression
