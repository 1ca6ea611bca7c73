"""Closed forms of Gaussian averages, recognised from the expression of the function.

Each form gives E f, E f**2, E f', E f'**2 and E x*f over x ~ N(mean, std**2) as arrays, with the rounding error to
expect: where large terms cancel (1 - exp(x) at small std) the error grows and the caller integrates instead.

    piecewise polynomials      truncated moments of the normal distribution; relu, leaky relu, abs, clip, hardswish
    a + b*sin(c*x + d), cos    characteristic function
    a + b*exp(c*x + d)         log-normal moments
    a + b*erf(c*x + d)         Williams 1997; second moment at mean != 0 by Owen's T
    a*x*Phi(c*x), c > 0        GELU; Tsuchida et al. 2020, with Owen's T at mean != 0
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.constants import number
from lensnet.algebra.normal import erf, erfc, ndtr, owens_t
from lensnet.algebra.piecewise_moments import Form, piecewise_form
from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.expressions.traverse import contains, expanded, polynomial, without
from lensnet.expressions.tree import Expr, Function, Sum

Array = NDArray[np.float64]
_EPS = 4 * np.finfo(float).eps
_OWEN = 1e-16  # absolute error of 2*owens_t


def closed_form(function: PointwiseFunction) -> Form | None:
    """The closed form of a function, or None; found once and kept with it."""
    if "closed form" not in function.tables:
        function.tables["closed form"] = _recognised(function)
    form: Form | None = function.tables["closed form"]
    return form


def _recognised(function: PointwiseFunction) -> Form | None:
    if function.pieces is not None:
        return piecewise_form(*function.pieces, degree=function.homogeneity)
    if function.kinks.points:
        return None
    offset, rest = without(expanded(function.tree, powers=False), "x", of_sum=True)
    factor, core = without(rest, "x", of_sum=False)
    if not (offset.is_constant and factor.is_constant):
        return None
    a, b = number(offset), number(factor)
    if isinstance(core, Sum):
        return _gelu_sum(core, a, b)
    base = _BASES.get(core.name) if isinstance(core, Function) else None
    inner = _affine(core.args[0]) if base is not None else None
    return _shifted(base, a, b, *inner) if base is not None and inner is not None else None


def _gelu_sum(core: Sum, a: float, b: float) -> Form | None:
    """a + b*(p*x + p*x*erf(c*x)) with c > 0, which is a + b*p*sqrt(2)/c * y*Phi(y) at y = c*sqrt(2)*x."""
    if len(core.args) != 2:
        return None
    plain, curved = sorted(core.args, key=lambda term: contains(term, _is_error_function))
    function = curved / plain
    inner = _affine(function.args[0]) if _is_error_function(function) else None
    line = _affine(plain)
    if inner is None or line is None or inner[0] <= 0 or inner[1] != 0 or line[1] != 0:
        return None
    slope = inner[0] * math.sqrt(2.0)
    return _shifted(_gelu, a, 2.0 * b * line[0] / slope, slope, 0.0)


def _is_error_function(expression: Expr) -> bool:
    return isinstance(expression, Function) and expression.name == "erf"


def _affine(expression: Expr) -> tuple[float, float] | None:
    coefficients = polynomial(expression, "x", 1)
    if coefficients is None or len(coefficients) != 2:
        return None
    return number(coefficients[1]), number(coefficients[0])


def _shifted(base: Form, a: float, b: float, c: float, d: float) -> Form:
    """The averages of a + b*base(c*x + d) from those of `base`."""

    def form(mean: Array, std: Array) -> tuple[Array, Array]:
        inner = c * mean + d
        (g, g2, s, s2, ug), errors = base(inner, abs(c) * std)
        xg = (ug - d * g) / c
        second_moment = a * a + 2 * a * b * g + b * b * g2
        value = np.stack([a + b * g, second_moment, b * c * s, (b * c) ** 2 * s2, a * mean + b * xg])
        first, second, slope, slope2, cross = errors + _EPS * np.abs([g, g2, s, s2, ug])
        error = np.stack(
            [
                _EPS * abs(a) + abs(b) * first,
                _EPS * a * a + 2 * abs(a * b) * first + b * b * second,
                abs(b * c) * slope,
                (b * c) ** 2 * slope2,
                _EPS * np.abs(a * mean) + abs(b / c) * (cross + abs(d) * first),
            ]
        )
        return value, error

    return form


# --- functions ----------------------------------------------------------------------------------------------------


def _sine(mean: Array, std: Array) -> tuple[Array, Array]:
    v = std * std
    damp, lost = np.exp(-v / 2), -np.expm1(-2 * v) / 2
    sine, cosine = np.sin(mean), np.cos(mean)
    keep = np.exp(-2 * v)
    first, slope = sine * damp, cosine * damp
    value = np.stack([first, lost + keep * sine**2, slope, lost + keep * cosine**2, mean * first + v * slope])
    # sin and cos of a large mean are as exact as the mean is
    error = _EPS * (np.abs(value) + np.abs(mean) * np.stack([damp, keep, damp, keep, np.abs(mean) * damp]))
    error[4] += _EPS * (np.abs(mean * first) + np.abs(v * slope))
    return value, error


def _cosine(mean: Array, std: Array) -> tuple[Array, Array]:
    value, error = _sine(mean, std)
    value, error = value[[2, 3, 0, 1, 4]], error[[2, 3, 0, 1, 4]]
    value[2] = -value[2]
    value[4] = mean * value[0] + std * std * value[2]
    return value, error


def _exponential(mean: Array, std: Array) -> tuple[Array, Array]:
    v = std * std
    first, second = np.exp(mean + v / 2), np.exp(2 * mean + 2 * v)
    value = np.stack([first, second, first, second, (mean + v) * first])
    exponent = np.abs(mean) + 2 * v
    error = _EPS * (1 + exponent) * np.abs(value)
    error[4] += _EPS * (np.abs(mean) + v) * first
    return value, error


def _error_function(mean: Array, std: Array) -> tuple[Array, Array]:
    v = std * std
    spread, wide = 1 + 2 * v, 1 + 4 * v
    first = erf(mean / np.sqrt(spread))
    slope = 2 / np.sqrt(np.pi * spread) * np.exp(-mean * mean / spread)
    slope2 = 4 / np.pi / np.sqrt(wide) * np.exp(-2 * mean * mean / wide)
    centred = 2 / np.pi * np.arcsin(2 * v / spread)
    owen = 1 - 8 * owens_t(np.sqrt(2) * mean / np.sqrt(spread), 1 / np.sqrt(wide))
    second = np.where(mean == 0, centred, owen)
    value = np.stack([first, second, slope, slope2, mean * first + v * slope])
    error = _EPS * np.abs(value)
    error[1] = _EPS * np.where(mean == 0, centred, 1.0)
    error[2] += _EPS * mean * mean / spread * slope
    error[3] += _EPS * 2 * mean * mean / wide * slope2
    error[4] += v * error[2]
    return value, error


def _gelu(mean: Array, std: Array) -> tuple[Array, Array]:
    """x*Phi(x). With D = 1 + v, times a normal density in x: N(mean/D, v/D), weight phi(mean/sqrt(D))/sqrt(D)."""
    v = std * std
    d = 1 + v
    h = mean / np.sqrt(d)
    below, weight = ndtr(h), np.exp(-h * h / 2) / np.sqrt(2 * np.pi * d)
    squared = below - 2 * owens_t(h, 1 / np.sqrt(1 + 2 * v))  # E Phi^2
    inner, inner_v = mean / d, v / d
    k = inner / np.sqrt(1 + inner_v)
    inner_below, inner_weight = ndtr(k), np.exp(-k * k / 2) / np.sqrt(2 * np.pi * (1 + inner_v))
    first = mean * below + v * weight
    slope = below + weight * inner
    density = weight * inner_below  # E phi*Phi
    x_density = weight * (inner * inner_below + inner_v * inner_weight)  # E x*phi*Phi
    x_squared = mean * squared + 2 * v * density  # E x*Phi^2, by Stein's lemma
    second = mean * x_squared + v * (squared + 2 * x_density)
    both = np.exp(-mean * mean / (1 + 2 * v)) / (2 * np.pi * np.sqrt(1 + 2 * v))  # E phi^2
    x2_both = both * ((mean / (1 + 2 * v)) ** 2 + v / (1 + 2 * v))
    slope2 = squared + 2 * x_density + x2_both
    cross = mean * first + v * slope
    value = np.stack([first, second, slope, slope2, cross])
    exponent = 1 + h * h
    loss = _EPS * below * exponent + _OWEN
    first_error = np.abs(mean) * _EPS * below * exponent + _EPS * v * weight * exponent
    slope_error = _EPS * exponent * (below + weight * np.abs(inner))
    x_squared_error = np.abs(mean) * loss + 2 * v * _EPS * density * exponent
    both_error = _EPS * exponent * (2 * np.abs(x_density) + x2_both)
    error = np.stack(
        [
            first_error,
            np.abs(mean) * x_squared_error + v * (loss + both_error),
            slope_error,
            loss + both_error,
            np.abs(mean) * first_error + v * slope_error + _EPS * np.abs(mean * first),
        ]
    )
    return value, error


def _complement(mean: Array, std: Array) -> tuple[Array, Array]:
    """erfc(x) = 1 - erf(x); the mean keeps its digits where erf is near 1."""
    value, error = _shifted(_error_function, 1.0, -1.0, 1.0, 0.0)(mean, std)
    spread = 1 + 2 * std * std
    value[0] = erfc(mean / np.sqrt(spread))
    error[0] = _EPS * (1 + mean * mean / spread) * value[0]
    return value, error


_BASES: dict[str, Form] = {
    "sin": _sine,
    "cos": _cosine,
    "exp": _exponential,
    "erf": _error_function,
    "erfc": _complement,
}
