"""Gaussian averages against independent integration, Monte Carlo and exact identities."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache

import mpmath
import numpy as np
import pytest
import sympy as sp
from scipy.integrate import quad, quad_vec

from lensnet.algebra.closed_forms import closed_form
from lensnet.algebra.gaussian import Expectation, GaussianMoments, expect, jump_density
from lensnet.algebra.pointwise import compose, pointwise
from lensnet.algebra.quadrature import integrate
from lensnet.expressions.symbolic import X
from tests.algebra.functions import CASES

MEANS = (-3.0, -1.0, 0.0, 0.3, 2.0)
STDS = (1e-6, 0.05, 0.3, 1.0, 3.0, 30.0)
QUANTITIES = ("mean", "second_moment", "slope_mean", "slope_second_moment", "cross")
ROUNDING = 3e-13
NOTHING = 1e-30


@pytest.fixture(autouse=True)
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def stacked(moments: GaussianMoments) -> tuple[np.ndarray, np.ndarray]:
    results: list[Expectation] = [getattr(moments, name) for name in QUANTITIES]
    return np.stack([r.value for r in results]), np.stack([r.error for r in results])


@cache
def truth(name: str, mean: float, std: float) -> np.ndarray:
    """The five averages by scipy's adaptive vector quadrature of independently written value and slope."""
    case = CASES[name]

    def integrand(z: float) -> np.ndarray:
        x = mean + std * z
        value, slope = case.value(x), case.slope(x)
        return np.array([value, value * value, slope, slope * slope, x * value]) * math.exp(-z * z / 2)

    ends = {-15.0, -9.0, -4.0, 0.0, 4.0, 9.0, 15.0} | {
        (scale - mean) / std for scale in (-8, -1, -0.2, -0.03, 0.03, 0.2, 1, 8)
    }
    ends |= {(kink - mean) / std for kink in case.kinks}
    points = sorted(z for z in ends if -15.0 <= z <= 15.0)
    sizes = np.max([np.abs(integrand(z)) for z in np.linspace(-14.9, 14.9, 301)], axis=0) + 1e-300
    result, _ = quad_vec(
        lambda z: integrand(z) / sizes,
        -15.0,
        15.0,
        epsabs=1e-15,
        epsrel=1e-15,
        norm="max",
        points=points[1:-1],
        limit=800,
    )
    return result * sizes / math.sqrt(2 * math.pi)


def scale_of(averages: np.ndarray, mean: float, std: float) -> np.ndarray:
    root, slope = math.sqrt(abs(averages[1])), math.sqrt(abs(averages[3]))
    return np.array([root, averages[1], slope, averages[3], root * math.hypot(mean, std)])


def skipped(name: str, std: float) -> bool:
    return name == "exp" and std > 3  # its second moment is exp(1800); test_exponential


@pytest.mark.parametrize("std", STDS)
@pytest.mark.parametrize("name", CASES)
def test_expectations_and_their_errors(name: str, std: float) -> None:
    """Every value is within its own error estimate (plus the rounding of the truth), and the estimates are small."""
    if skipped(name, std):
        return
    value, error = stacked(expect(CASES[name].function, np.array(MEANS), std))
    for column, mean in enumerate(MEANS):
        expected = truth(name, mean, std)
        scale = scale_of(expected, mean, std)
        # the truth is evaluated at mean + std*z, which is rounded
        blur = 4e-16 * abs(mean) * math.sqrt(expected[3]) * np.array([1, 2 * scale[0], 0, 0, math.hypot(mean, std)])
        gap = np.abs(value[:, column] - expected)
        assert np.all(gap <= error[:, column] + ROUNDING * scale + blur + NOTHING), (
            mean,
            gap / scale,
            error[:, column] / scale,
        )
        # x + 3 of hardswish near x = -3 has the digits of x alone: 1e-6 * z beside 3
        assert np.all(error[:, column] <= 1e-8 * scale + NOTHING), (mean, error[:, column] / scale)


@pytest.mark.parametrize("name", [name for name in CASES if closed_form(CASES[name].function) is not None])
def test_closed_forms_against_panels(name: str) -> None:
    mean, std = (grid.ravel() for grid in np.meshgrid(MEANS, [s for s in STDS if not skipped(name, s)]))
    form = closed_form(CASES[name].function)
    assert form is not None
    with np.errstate(all="ignore"):
        value, error = form(mean, std)
    panels, panel_error = integrate(CASES[name].function, mean, std)
    reached = np.abs(panels) > NOTHING  # the panels end at 12 std
    assert np.all((np.abs(value - panels) <= error + panel_error + 1e-300) | ~reached)


def test_every_common_activation_has_a_closed_form() -> None:
    closed = {name for name, case in CASES.items() if closed_form(case.function) is not None}
    assert closed >= {
        "identity", "relu", "leaky", "abs", "gelu", "hardtanh", "hardswish", "erf", "sin", "cos", "square", "step",
        "sign", "exp", "x^5", "threshold", "x + relu",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["tanh", "gelu", "elu", "tanh 50x", "mish"])
def test_panels_against_scipy_quad(name: str) -> None:
    case = CASES[name]
    for mean, std in ((0.0, 1.0), (0.3, 3.0), (-1.0, 0.3)):
        value, _ = integrate(case.function, np.array([mean]), np.array([std]))
        pieces = sorted({-13.0, 13.0, *((edge - mean) / std for edge in (-2.0, -0.05, 0.0, 0.05, 2.0))})
        for row, integrand in ((0, case.value), (1, lambda x: case.value(x) ** 2), (3, lambda x: case.slope(x) ** 2)):
            expected = pieced_quad(integrand, mean, std, pieces)
            assert value[row, 0] == pytest.approx(expected, rel=1e-12, abs=1e-15)


def pieced_quad(integrand: Callable[[float], float], mean: float, std: float, pieces: list[float]) -> float:
    def weighted(z: float) -> float:
        return integrand(mean + std * z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    ends = zip(pieces[:-1], pieces[1:], strict=True)
    return sum(quad(weighted, low, high, epsabs=1e-13, epsrel=1e-12, limit=200)[0] for low, high in ends)


TABLE = {  # mean, second moment, E f'^2 at N(0, 1), published to nine digits
    "silu": (0.206620964, 0.355775520, 0.379482352),
    "tanh": (0.0, 0.394294490, 0.464402902),
    "softplus": (0.806059183, 0.921245909, 0.293379036),
    "sigmoid": (0.5, 0.293379036, 0.044836241),
    "elu": (0.160520572, 0.644945417, 0.668102001),
}


@pytest.mark.parametrize("name", TABLE)
def test_known_values_at_the_standard_normal(name: str) -> None:
    result = expect(CASES[name].function, 0.0, 1.0)
    found = (result.mean.value, result.second_moment.value, result.slope_second_moment.value)
    assert [float(v) for v in found] == pytest.approx(TABLE[name], abs=6e-10)


def test_gelu_against_mpmath_in_thirty_digits() -> None:
    with mpmath.workdps(30):
        for mean, std in ((0.0, 1.0), (-2.0, 0.5), (0.3, 3.0), (-1.0, 30.0)):

            def average(function, mean=mean, std=std):
                return mpmath.quad(
                    lambda z: function(mean + std * z) * mpmath.npdf(z),
                    [-20, -8, -3, -1, 0, 0.1, 1, 3, 8, 20],
                    maxdegree=5,
                )

            result = expect(CASES["gelu"].function, mean, std)
            second = average(lambda x: (x * mpmath.ncdf(x)) ** 2)
            slope = average(lambda x: (mpmath.ncdf(x) + x * mpmath.npdf(x)) ** 2)
            assert float(result.second_moment.value) == pytest.approx(float(second), rel=2e-13)
            assert float(result.slope_second_moment.value) == pytest.approx(float(slope), rel=2e-13)
    assert float(expect(CASES["gelu"].function, 0.0, 1.0).slope_second_moment.value) == pytest.approx(
        0.45585087, abs=5e-9
    )


@pytest.mark.parametrize("name", ["gelu", "hardswish", "tanh 50x", "abs sin", "threshold", "selu"])
def test_monte_carlo(name: str) -> None:
    rng = np.random.default_rng(11)
    for mean, std in ((0.3, 1.0), (-1.0, 3.0)):
        x = mean + std * rng.standard_normal(400_000)
        value, slope = CASES[name].function(x), CASES[name].function.derivative(x)
        result, _ = stacked(expect(CASES[name].function, mean, std))
        for row, sample in enumerate((value, value**2, slope, slope**2, x * value)):
            assert abs(sample.mean() - result[row]) < 5 * sample.std() / math.sqrt(x.size) + 1e-12


def test_exponential_at_a_large_std() -> None:
    result = expect(CASES["exp"].function, np.array([0.0, -3.0]), 15.0)
    np.testing.assert_allclose(result.mean.value, np.exp([112.5, 109.5]), rtol=1e-12)
    np.testing.assert_allclose(result.second_moment.value, np.exp([450.0, 444.0]), rtol=1e-12)
    assert np.isinf(expect(CASES["exp"].function, 0.0, 30.0).second_moment.value)


@pytest.mark.parametrize("degree", [6, 14, 40])
def test_growth_is_followed_into_the_tails(degree: int) -> None:
    even = pointwise(X**degree * sp.exp(-X / 1000))  # no closed form
    exact = pointwise(X**degree)
    found = integrate(exact, np.zeros(1), np.ones(1))[0][0, 0]
    assert found == pytest.approx(float(sp.factorial2(degree - 1)), rel=1e-12)
    assert float(expect(even, 0.0, 1.0).mean.value) == pytest.approx(found, rel=1e-3)


def test_a_gaussian_bump_against_the_weight() -> None:
    growing = pointwise(sp.exp(X**2 / 9))
    result = expect(growing, 0.0, 1.0)
    assert float(result.mean.value) == pytest.approx(1 / math.sqrt(1 - 2 / 9), rel=1e-13)
    assert float(result.second_moment.value) == pytest.approx(1 / math.sqrt(1 - 4 / 9), rel=1e-13)
    diverging = expect(pointwise(sp.exp(X**2)), 0.0, 1.0)
    assert not diverging.mean.error < np.abs(diverging.mean.value)


def test_no_spread_is_exact() -> None:
    relu = expect(CASES["relu"].function, np.array([-1.0, 0.0, 2.0]), 0.0)
    assert relu.mean.value.tolist() == [0.0, 0.0, 2.0]
    assert relu.second_moment.value.tolist() == [0.0, 0.0, 4.0]
    assert relu.slope_second_moment.value.tolist() == [0.0, 0.5, 1.0]  # the limit of a small std
    assert relu.cross.value.tolist() == [0.0, 0.0, 4.0]
    assert not relu.mean.error.any()
    small = expect(CASES["relu"].function, 0.0, 1e-200)
    assert float(small.slope_second_moment.value) == pytest.approx(0.5)
    assert float(expect(CASES["step"].function, 0.0, 0.0).mean.value) == 0.5
    mixed = expect(CASES["tanh"].function, np.zeros(2), np.array([0.0, 1.0]))
    assert mixed.second_moment.value[0] == 0.0 and mixed.second_moment.value[1] == pytest.approx(0.39429449)


def test_shapes_broadcast_and_bad_values_are_marked() -> None:
    field = expect(CASES["tanh"].function, np.zeros((2, 1, 3)), np.ones((4, 1)))
    assert field.mean.value.shape == field.cross.error.shape == (2, 4, 3)
    assert expect(CASES["tanh"].function, np.zeros((0, 3)), 1.0).mean.value.shape == (0, 3)
    bad = expect(CASES["relu"].function, np.array([0.0, np.nan, 0.0]), np.array([np.inf, 1.0, 1.0]))
    assert np.isnan(bad.mean.value).tolist() == [True, True, False]
    with pytest.raises(ValueError, match="negative"):
        expect(CASES["relu"].function, 0.0, -1.0)


@pytest.mark.parametrize("name", CASES)
def test_steins_lemma_holds_once_jumps_are_counted(name: str) -> None:
    """E (x - mean) f(x) = std^2 E f', where f' includes the density at the jumps."""
    for mean, std in ((0.3, 1.0), (-1.0, 0.4)):
        result = expect(CASES[name].function, mean, std)
        left = float(result.cross.value) - mean * float(result.mean.value)
        slope = float(result.slope_mean.value) + float(jump_density(CASES[name].function, mean, std))
        assert left == pytest.approx(std**2 * slope, rel=1e-11, abs=1e-13)


def test_jump_density_of_a_step_is_the_density_there() -> None:
    density = jump_density(CASES["sign"].function, np.array([0.0, 1.0, 0.0]), np.array([2.0, 1.0, 0.0]))
    np.testing.assert_allclose(density, [1 / math.sqrt(2 * math.pi), 2 * math.exp(-0.5) / math.sqrt(2 * math.pi), 0.0])
    assert not jump_density(CASES["relu"].function, 0.0, 1.0)


def test_a_chain_of_functions_is_one_integrand() -> None:
    chain = compose(CASES["relu"].function, pointwise(sp.tanh(3 * X) - sp.Rational(1, 2)))
    result = expect(chain, 0.0, 1.0)
    edge = math.atanh(0.5) / 3
    expected, _ = quad(
        lambda z: (math.tanh(3 * z) - 0.5) ** 2 * math.exp(-z * z / 2), edge, 14, points=[0.5, 1, 3], epsabs=1e-14
    )
    assert float(result.second_moment.value) == pytest.approx(expected / math.sqrt(2 * math.pi), rel=1e-12)


def test_an_undeclared_kink_is_found_by_refinement() -> None:
    hidden = pointwise(sp.sqrt((X - sp.Rational(1, 3)) ** 2 + sp.Rational(1, 10**16)))  # |x - 1/3|, rounded off at 1e-8
    known = pointwise(sp.Abs(X - sp.Rational(1, 3)))
    found, exact = expect(hidden, 0.1, 1.0), expect(known, 0.1, 1.0)
    assert float(found.mean.value) == pytest.approx(float(exact.mean.value), rel=1e-13)
    assert float(found.slope_second_moment.value) == pytest.approx(1.0, abs=1e-6)


def test_what_has_no_finite_average_says_so() -> None:
    root = expect(pointwise(sp.sqrt(sp.Abs(X))), 0.0, 1.0)
    expected = 2**0.25 * math.gamma(0.75) / math.sqrt(math.pi)
    assert abs(float(root.mean.value) - expected) < 3 * float(root.mean.error) + 1e-14
    assert math.isinf(float(root.slope_second_moment.value))  # E 1/(4|x|) diverges


def test_scaling_of_homogeneous_functions() -> None:
    std = np.geomspace(1e-3, 1e3, 7)
    for name in ("relu", "abs", "leaky", "x + relu"):
        result = expect(CASES[name].function, 0.0, std)
        np.testing.assert_allclose(result.second_moment.value / std**2, result.second_moment.value[3], rtol=1e-13)
        np.testing.assert_allclose(result.slope_second_moment.value, result.slope_second_moment.value[3], rtol=1e-13)


def test_a_pole_has_no_average_and_the_error_says_so() -> None:
    for pole in (1 / X, (1 - X) / (3 + X), sp.tan(X)):
        result = expect(pointwise(pole), 0.3, 1.0)
        assert not float(result.mean.error) < 1e-3
    weak = expect(pointwise(sp.Abs(X) ** sp.Rational(-1, 4)), 0.0, 1.0)
    exact = 2 ** (-1 / 8) * math.gamma(3 / 8) / math.sqrt(math.pi)
    assert abs(float(weak.mean.value) - exact) <= float(weak.mean.error) < 1e-8


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("exp", "x^5", "abs sin", "sin", "cos")])
def test_extreme_means_and_stds(name: str) -> None:
    """Bounded by what the function is far out and near 0: no overflow, no loss hidden from the error estimate."""
    for mean, std in ((0.0, 1e-300), (0.0, 1e5), (0.0, 1e12), (1e6, 1.0), (-1e9, 1e3), (1e-9, 1e-9)):
        result = expect(CASES[name].function, mean, std)
        value, error = float(result.second_moment.value), float(result.second_moment.error)
        assert error <= 1e-8 * value + 1e-290
        if std == 1e12:
            sides = CASES[name].value(1e12) ** 2, CASES[name].value(-1e12) ** 2
            power = 1.0 if max(sides) < 10 else {"square": 3.0}.get(name, 1.0)  # E z^4 = 3
            assert value == pytest.approx(power * (sides[0] + sides[1]) / 2, rel=1e-9)


def test_a_lost_closed_form_beside_a_good_one() -> None:
    """clip(x) at std 1e12 cancels to nothing in closed form; a field that holds it and others comes out right."""
    result = expect(CASES["hardtanh"].function, 0.0, np.array([1e-3, 1.0, 1e12]))
    np.testing.assert_allclose(result.second_moment.value, [1e-6, 0.516058550, 1.0], rtol=1e-8)
