"""The gain that keeps a signal of second moment 1 through dense layer and activation, and what becomes of errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from lensnet.algebra.fixed_points import fixed_points, solve_for
from lensnet.algebra.gaussian import GaussianMoments, expect
from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.algebra.worker import AlgebraFailed, AlgebraTimeout
from lensnet.derivation.effects_of_function import Q

G = sp.Symbol("g", positive=True)


@dataclass(frozen=True)
class CriticalGain:
    """At q = 1: the gain g with g**2 E f(z)**2 = 1, the slope of q -> g**2 E f(sqrt(q) z)**2 there, and the gradient
    factor g**2 E f'(z)**2. `everywhere`: this gain preserves every q."""

    gain: float
    slope: float
    gradient: float
    everywhere: bool


def unit_moments(function: PointwiseFunction) -> GaussianMoments:
    """The averages over z ~ N(0, 1), with error bounds."""
    return expect(function, 0.0, 1.0)


def critical_gain(function: PointwiseFunction) -> CriticalGain | None:
    """None when the function kills the signal, or its second moment is not finite."""
    moments = unit_moments(function)
    second = float(moments.second_moment.value)
    if not (np.isfinite(second) and second > 0):
        return None
    found = fixed_points(second_moment_map(function, 1 / second), 0.5, 2.0)
    slope = next((point.slope for point in found.points if abs(point.q - 1) < 1e-6), 1.0)
    return CriticalGain(second**-0.5, slope, float(moments.slope_second_moment.value) / second, found.every)


def second_moment_map(function: PointwiseFunction, squared_gain: float = 1.0) -> Callable[[Any], Any]:
    """q -> g**2 E f(sqrt(q) z)**2."""
    return lambda q: squared_gain * expect(function, 0.0, np.sqrt(q)).second_moment.value


def preserving_gain(centred: sp.Expr) -> sp.Expr | None:
    """The gain g > 0 that solves g**2 * E f**2 = q, by sympy; None when it finds none."""
    try:
        solutions = solve_for(sp.Eq(G**2 * centred, Q), G)
    except (AlgebraTimeout, AlgebraFailed):
        return None
    return next((solution for solution in solutions if _positive(solution)), None)


def _positive(expression: sp.Expr) -> bool:
    """At some values of its symbols: a solver that does not know signs gives both roots."""
    value = expression.subs({symbol: sp.Rational(7, 10) for symbol in expression.free_symbols}).evalf()
    return bool(value.is_real and value > 0)
