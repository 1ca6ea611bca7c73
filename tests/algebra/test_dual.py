"""Dual activations against nested quadrature split at the kinks, exact values of the literature, and each other."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import sympy as sp

from lensnet.algebra.dual import Dual, dual, slope_of
from lensnet.algebra.gaussian import expect
from lensnet.algebra.pointwise import PointwiseFunction, compose, pointwise, product
from lensnet.expressions.symbolic import X
from tests.algebra.functions import CASES

NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)
ROOT = math.sqrt(2 * math.pi)
LAWS = [
    (1.0, 1.0, 0.5, 0.0, 0.0),
    (2.0, 0.5, -0.9, 0.0, 0.0),
    (0.09, 0.25, 0.1, -1.0, 0.5),
    (4.0, 9.0, 5.5, 0.3, 1.0),
    (1.0, 1.0, 0.999, 0.0, 0.0),
]
NAMES = [name for name in CASES if name not in ("abs sin", "tanh 50x", "x + relu", "step", "sign")]


def panels(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and normal weights on panels between the ends (last axis), which are cut to [-12, 12] and sorted."""
    cut = np.sort(np.clip(ends, -12.0, 12.0), axis=-1)
    half = 0.5 * np.diff(cut)[..., None]
    z = 0.5 * (cut[..., 1:] + cut[..., :-1])[..., None] + half * NODES
    z, weight = (a.reshape(*ends.shape[:-1], -1) for a in (z, half * WEIGHTS))
    return z, weight * np.exp(-z * z / 2) / ROOT


def nested(
    f: PointwiseFunction, g: PointwiseFunction, law: tuple[float, ...], features: tuple[float, ...] = ()
) -> float:
    """E f(u) g(v): v given u on panels that end at the kinks of g, u on panels that crowd where those smear out."""
    k11, k22, k12, m1, m2 = law
    s1, slope = math.sqrt(k11), k12 / k11
    rest = math.sqrt(k22 - k12 * slope)
    outer = list(np.arange(-12.0, 12.1, 0.75))
    own, other = (sorted({*h.kinks.points[:9], *features}) if features else h.kinks.points for h in (f, g))
    if len(f.kinks.points) > 9:
        own = other = features
    for kink in own:
        outer += [(kink - m1) / s1 + r for r in (0.0, -0.1, 0.1)]
    for kink in other:
        at, width = (kink - m2) / slope / s1, rest / abs(slope) / s1
        outer += [at + side * width * 2.0**power for side in (-1, 1) for power in range(-2, 5)] + [at]
    z, weight = panels(np.array(outer))
    u = m1 + s1 * z
    middle = (m2 + slope * (u - m1))[:, None]
    grid = np.broadcast_to(np.arange(-12.0, 12.1, 1.5), (u.size, 17))
    y, w = panels(np.concatenate([grid, *((kink - middle) / rest for kink in other)], axis=1))
    return float(weight @ (f(u) * np.sum(w * g(middle + rest * y), axis=1)))


def size(f: PointwiseFunction, variance: float, mean: float) -> float:
    return math.sqrt(float(expect(f, mean, math.sqrt(variance)).second_moment.value))


@pytest.mark.parametrize("name", NAMES)
def test_kernels_against_nested_quadrature(name: str) -> None:
    function = CASES[name].function
    activation = dual(function)
    for f, method in ((function, activation.kernel), (slope_of(function), activation.gradient_kernel)):
        for law in LAWS:
            value, error = method(*law)
            scale = size(f, law[0], law[3]) * size(f, law[1], law[4]) + 1e-300
            off = abs(float(value) - nested(f, f, law))
            assert off <= float(error) + 2e-13 * scale, f"{law}: off by {off}, bound {error}"


def unit(name: str) -> Dual:
    return dual(CASES[name].function)


def test_closed_forms_of_the_literature() -> None:
    k11, k22 = np.array([1.0, 0.3, 7.0]), np.array([1.0, 2.0, 0.1])
    for c in (-0.999, -0.4, 0.0, 0.7, 0.99999):
        k12 = c * np.sqrt(k11 * k22)
        forms: dict[str, tuple[np.ndarray, np.ndarray]] = {
            "relu": (
                np.sqrt(k11 * k22) * (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / (2 * math.pi),
                (math.pi - math.acos(c)) / (2 * math.pi) * np.ones(3),
            ),
            "abs": (
                np.sqrt(k11 * k22) * 2 / math.pi * (math.sqrt(1 - c * c) + c * math.asin(c)),
                2 / math.pi * math.asin(c) * np.ones(3),
            ),
            "erf": (
                2 / math.pi * np.arcsin(2 * k12 / np.sqrt((1 + 2 * k11) * (1 + 2 * k22))),
                4 / math.pi / np.sqrt((1 + 2 * k11) * (1 + 2 * k22) - 4 * k12**2),
            ),
            "sin": (np.exp(-(k11 + k22) / 2) * np.sinh(k12), np.exp(-(k11 + k22) / 2) * np.cosh(k12)),
            "exp": (np.exp((k11 + k22) / 2 + k12),) * 2,
            "square": (k11 * k22 + 2 * k12**2, 4 * k12),
        }
        for name, (kernel, gradient) in forms.items():
            value, slope = unit(name).both(k11, k22, k12)
            np.testing.assert_allclose(value.value, kernel, rtol=2e-14, atol=1e-15)
            np.testing.assert_allclose(slope.value, gradient, rtol=2e-14, atol=1e-15)


def test_gelu_of_the_literature() -> None:
    k11, k22 = np.array([1.0, 0.3, 7.0]), np.array([1.0, 2.0, 0.1])
    k12 = np.array([0.5, -0.6, 0.8])
    a = (1 + k11) * (1 + k22)
    inner = (k12**2 + k11 * k22 * (a - k12**2)) / (a * np.sqrt(a - k12**2))
    expected = k12 / 4 + (k12 * np.arcsin(k12 / np.sqrt(a)) + inner) / (2 * math.pi)
    np.testing.assert_allclose(unit("gelu").kernel(k11, k22, k12).value, expected, rtol=1e-14)


@pytest.mark.parametrize("name", ["relu", "elu", "gelu", "tanh", "hardtanh", "sin", "square", "silu"])
def test_correlation_one_is_the_second_moment(name: str) -> None:
    mean, variance = np.array([0.0, 0.4, -2.0]), np.array([1.0, 4.0, 0.2])
    moments = expect(CASES[name].function, mean, np.sqrt(variance))
    value, error = unit(name).kernel(variance, variance, variance, mean, mean)
    assert np.all(np.abs(value - moments.second_moment.value) <= error + moments.second_moment.error + 1e-14)
    slope, wrong = unit(name).gradient_kernel(variance, variance, variance, mean, mean)
    assert np.all(np.abs(slope - moments.slope_second_moment.value) <= wrong + 1e-12 * np.abs(slope))


def test_two_functions_that_meet() -> None:
    pairs = [("relu", "tanh"), ("gelu", "relu"), ("elu", "step"), ("sin", "gelu"), ("erf", "hardtanh"), ("exp", "sign")]
    for first, second in pairs:
        f, g = CASES[first].function, CASES[second].function
        both = dual(f).pair(dual(g))
        for law in LAWS[:4]:
            value, error = both.kernel(*law)
            assert abs(float(value) - nested(f, g, law)) <= float(error) + 3e-13, (first, second, law)


@pytest.mark.parametrize("name", ["relu", "leaky", "abs", "identity"])
def test_a_cube_that_meets_its_root(name: str) -> None:
    """Powers 3 and 1, of centred inputs from the angle alone."""
    root = pointwise(X) if name == "identity" else CASES[name].function
    cube = product(product(root, root), root)
    for f, g in ((cube, root), (root, cube)):
        both = dual(f).pair(dual(g))
        assert both.method == "arc-cosine"
        for law in LAWS:
            value, error = both.kernel(*law)
            scale = size(f, law[0], law[3]) * size(g, law[1], law[4])
            assert abs(float(value) - nested(f, g, law)) <= float(error) + 1e-12 * scale, (law, f is cube)
        slope, wrong = both.both(2.0, 0.5, -0.9)[1]
        assert abs(float(slope) - nested(slope_of(f), slope_of(g), LAWS[1])) <= float(wrong) + 1e-12
    fourth = float(expect(product(root, root), 0.0, 1.0).second_moment.value)
    assert float(dual(cube).pair(dual(root)).kernel(2.0, 0.5, 1.0).value) == pytest.approx(2.0 * fourth, rel=1e-14)


@pytest.mark.parametrize("name", ["relu", "step", "tanh", "gelu", "sin"])
def test_an_identity_that_meets_a_function(name: str) -> None:
    identity = dual(pointwise(X))
    for law in LAWS:
        value, error = unit(name).cross(*law)
        other, bound = identity.pair(unit(name)).kernel(*law)
        assert abs(float(value - other)) <= float(error + bound) + 1e-14


@pytest.mark.parametrize("name", ["relu", "abs", "step", "elu", "gelu", "hardtanh", "tanh", "softsign"])
@pytest.mark.parametrize("mean", [0.0, 0.4])
def test_what_separates_two_inputs_is_the_difference_of_two_kernels(name: str, mean: float) -> None:
    activation, gaps = unit(name), np.array([1.9, 1.0, 0.1, 1e-3, 1e-5])
    value, error = activation.semivariogram(gaps, 2.0, mean)
    top, wrong = activation.kernel(2.0, 2.0, 2.0, mean, mean)
    below, off = activation.kernel(2.0, 2.0, 2.0 * (1 - gaps), mean, mean)
    rounding = 2.0 * 2e-16 * np.abs(activation.gradient_kernel(2.0, 2.0, 2.0, mean, mean).value)
    rounding += 1e-15 * (name == "step") / np.sqrt(gaps)  # 1 - gap is rounded: the kernel moves by its slope
    assert np.all(np.abs(value - (top - below)) <= error + wrong + off + rounding)


@pytest.mark.parametrize("name", ["gelu", "tanh", "silu", "sin", "erf"])
def test_near_correlation_one_a_smooth_function_separates_inputs_by_its_mean_square_slope(name: str) -> None:
    gap = np.array([1e-9, 1e-13, 1e-40, 1e-200])
    value, error = unit(name).semivariogram(gap, 0.7)
    slope = float(expect(CASES[name].function, 0.0, math.sqrt(0.7)).slope_second_moment.value)
    np.testing.assert_allclose(value, 0.7 * slope * gap, rtol=2e-8)
    assert np.all(error <= 1e-11 * value)


def test_relu_correlations_down_a_deep_stack_follow_the_exact_map_and_its_power_law() -> None:
    """1 - c after l layers, from the gap; 50 digits of the textbook formula say the same."""
    relu = unit("relu")
    gap, exact = np.array(0.7), mpmath.mpf(7) / 10
    with mpmath.workdps(50):
        for layer in range(1, 10001):
            gap = 2.0 * relu.semivariogram(gap).value
            if layer <= 60:
                c = 1 - exact
                exact = 1 - (mpmath.sqrt(1 - c * c) + c * (mpmath.pi - mpmath.acos(c))) / mpmath.pi
            if layer == 60:
                assert abs(float(gap) / float(exact) - 1) < 1e-13
    assert float(gap) * 2 * 10000**2 / (9 * math.pi**2) == pytest.approx(1.0, abs=0.01)


def test_closed_forms_after_fifty_layers() -> None:
    """NNGP and NTK of a stack of 50 layers against the same recursion in 40 digits."""

    def relu(k11: mpmath.mpf, k22: mpmath.mpf, k12: mpmath.mpf) -> tuple[mpmath.mpf, mpmath.mpf]:
        size = mpmath.sqrt(k11 * k22)
        angle = mpmath.acos(min(k12 / size, mpmath.mpf(1)))
        slope = (mpmath.pi - angle) / (2 * mpmath.pi)
        return (size * mpmath.sin(angle) / (2 * mpmath.pi) + k12 * slope), slope

    def erf(k11: mpmath.mpf, k22: mpmath.mpf, k12: mpmath.mpf) -> tuple[mpmath.mpf, mpmath.mpf]:
        a = (1 + 2 * k11) * (1 + 2 * k22)
        return 2 / mpmath.pi * mpmath.asin(2 * k12 / mpmath.sqrt(a)), 4 / mpmath.pi / mpmath.sqrt(a - 4 * k12**2)

    def gelu(k11: mpmath.mpf, k22: mpmath.mpf, k12: mpmath.mpf) -> tuple[mpmath.mpf, mpmath.mpf]:
        def kernel(c: mpmath.mpf) -> mpmath.mpf:
            a = (1 + k11) * (1 + k22)
            rest = (c**2 + k11 * k22 * (a - c**2)) / (a * mpmath.sqrt(a - c**2))
            return c / 4 + (c * mpmath.asin(c / mpmath.sqrt(a)) + rest) / (2 * mpmath.pi)

        return kernel(k12), mpmath.diff(kernel, k12, h=mpmath.mpf(10) ** -13)

    for name, form, gain in (("relu", relu, 2.0), ("erf", erf, 1.5), ("gelu", gelu, 2.0)):
        gram = np.array([[1.3, 0.9, -0.4], [0.9, 0.8, 0.1], [-0.4, 0.1, 1.0]])
        tangent = gram.copy()
        with mpmath.workdps(40):
            exact = [[mpmath.mpf(x) for x in row] for row in gram]
            theta = [list(row) for row in exact]
            for _ in range(50):
                both = [[form(exact[i][i], exact[j][j], exact[i][j]) for j in range(3)] for i in range(3)]
                theta = [[gain * (both[i][j][0] + both[i][j][1] * theta[i][j]) for j in range(3)] for i in range(3)]
                exact = [[gain * both[i][j][0] for j in range(3)] for i in range(3)]
            for _ in range(50):
                d = np.diag(gram)
                value, slope = unit(name).both(d[:, None], d[None, :], gram)
                tangent = gain * (value.value + slope.value * tangent)
                gram = gain * value.value
            np.testing.assert_allclose(gram, np.array(exact, dtype=float), rtol=1e-12)
            np.testing.assert_allclose(tangent, np.array(theta, dtype=float), rtol=1e-9)


def test_shapes_zero_variances_and_bad_input() -> None:
    d = np.array([1.0, 0.0, 4.0])
    gram = np.array([[1.0, 0.0, 0.6], [0.0, 0.0, 0.0], [0.6, 0.0, 4.0]])
    for name in ("relu", "gelu", "tanh", "sigmoid", "elu"):
        value, error = unit(name).kernel(d[:, None], d[None, :], gram)
        mean = float(CASES[name].value(0.0))
        assert value.shape == (3, 3) and np.broadcast_to(error, (3, 3)).shape == (3, 3)
        assert math.isclose(value[1, 1], mean * mean, abs_tol=1e-15)
        first = float(expect(CASES[name].function, 0.0, 1.0).mean.value)
        assert math.isclose(value[0, 1], first * mean, rel_tol=1e-12, abs_tol=1e-15)
    with pytest.raises(ValueError, match="negative"):
        unit("tanh").kernel(-1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="negative"):
        unit("relu").kernel(-1.0, 1.0, 0.0)


KINKED = {
    "softsign": CASES["softsign"].function,
    "tanh of relu": compose(CASES["tanh"].function, CASES["relu"].function),
    "steep tanh": pointwise(sp.tanh(12 * X)),
}


@pytest.mark.parametrize("name", KINKED)
def test_near_correlation_one_behind_a_kink(name: str) -> None:
    function = KINKED[name]
    for gap, sign in ((1e-2, 1), (1e-3, -1), (1e-5, 1)):
        law = (1.0, 2.25, sign * 1.5 * (1.0 - gap), 0.2, 0.3 * sign)
        for f, method in ((function, dual(function).kernel), (slope_of(function), dual(function).gradient_kernel)):
            value, error = method(*law)
            scale = size(f, law[0], law[3]) * size(f, law[1], law[4])
            assert error <= 1e-9 * scale
            features = () if name != "steep tanh" else tuple(np.linspace(-0.8, 0.8, 9))
            rounding = 1e-15 * scale / math.sqrt(gap)  # a slope that jumps: the oracle's own sqrt(k22 - k12**2/k11)
            assert abs(float(value) - nested(f, f, law, features)) <= float(error) + 1e-13 * scale + rounding


def test_many_pairs_near_correlation_one() -> None:
    """A field of them is interpolated; one by one they are integrated."""
    softsign, gaps = unit("softsign"), np.geomspace(1e-7, 0.05, 300).reshape(15, 20)
    value, error = softsign.gradient_kernel(1.0, 1.0, 1.0 - gaps)
    for place in ((0, 0), (7, 3), (14, 19)):
        alone, bound = softsign.gradient_kernel(1.0, 1.0, 1.0 - gaps[place])
        assert abs(float(value[place] - alone)) <= float(error[place] + bound)
    assert np.all(error < 1e-8)


def test_what_neither_reaches_is_in_the_bound() -> None:
    """abs(sin(x)) has a kink at every multiple of pi: the series alone, and its bound holds."""
    f = CASES["abs sin"].function
    for gap in (1e-2, 1e-4):
        law = (1.0, 1.0, 1.0 - gap, 0.0, 0.0)
        value, error = dual(f).kernel(*law)
        near = [k * math.pi for k in range(-4, 5)]
        assert abs(float(value) - nested(f, f, law, tuple(near))) <= float(error) + 1e-12


FAMILY = [sp.sin(X) + X**3, X * sp.exp(-(X**2)), X**2 * sp.erf(X / 3) + 1, sp.exp(-(X**2) / 2) * sp.cos(X)]


@pytest.mark.parametrize("expression", FAMILY, ids=str)
def test_sums_and_products_inside_the_family(expression: sp.Expr) -> None:
    function = pointwise(expression)
    assert dual(function).method == "closed form"
    for law in LAWS[:4]:
        value, error = dual(function).kernel(*law)
        scale = size(function, law[0], law[3]) * size(function, law[1], law[4])
        assert abs(float(value) - nested(function, function, law)) <= float(error) + 2e-13 * scale
