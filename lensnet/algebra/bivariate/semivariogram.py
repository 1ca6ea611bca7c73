"""How far two inputs of one law end up apart: D(gap) = E (f(u) - f(v))**2 / 2 at correlation 1 - gap.

D(gap) = E f**2 - E f(u) f(v), but never computed as that difference: near correlation 1 it would lose every digit, and
a deep network lives there. Geostatistics calls D the semivariogram.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.bivariate.hermite import MOST_TERMS, Series
from lensnet.algebra.bivariate.homogeneous import ROUNDING, Sides

Array = NDArray[np.float64]

_NODES = 10
_FIRST = 96


def homogeneous(side: Sides, variance: Array, gap: Array) -> tuple[Array, Array]:
    """Degrees 0 and 1, from the angle between the inputs."""
    angle = 2.0 * np.arcsin(np.sqrt(0.5 * gap))
    squares, cross = side.above**2 + side.below**2, 2.0 * side.above * side.below
    if side.degree == 0:
        value = (squares - cross) / (2.0 * math.pi) * angle
        return value, ROUNDING * value
    bent = (squares + cross) / (2.0 * math.pi) * _sine_less(angle)
    straight = 0.5 * squares * gap
    value = variance * (straight - bent)
    return value, ROUNDING * variance * (straight + bent)


def _sine_less(angle: Array) -> Array:
    """sin(t) - t*cos(t), by its power series where the two agree."""
    t2 = angle * angle
    series = np.full_like(angle, 1.0 / 3.0)
    term = series
    for n in range(2, 9):
        # coefficients (-1)**(n-1) * 2n/(2n+1)!
        term = term * -t2 * (2 * n) / ((2 * n + 1) * (2 * n) * (2 * n - 2))
        series = series + term
    with np.errstate(all="ignore"):
        return np.where(angle < 1.0, series * angle * t2, np.sin(angle) - angle * np.cos(angle))


def integrated(gradient: Callable[[Array], tuple[Array, Array]], variance: Array, gap: Array) -> tuple[Array, Array]:
    """D from its slope: dD/dgap = variance * E f'(u) f'(v) for a function without jumps.

    The gradient kernel is smooth in the root of the gap, also behind a kink: Gauss-Legendre there, n and 2n nodes.

    Args:
        gradient: gap -> E f'(u) f'(v) and its error, for arrays with a trailing axis beyond `gap`.
    """
    root = np.sqrt(gap)[..., None]
    estimates = []
    for count in (_NODES, 2 * _NODES):
        nodes, weights = _rule(count)
        at = root * nodes
        slope, wrong = gradient(at * at)
        measure = 2.0 * at * weights * root * variance[..., None]
        estimates.append((np.sum(measure * slope, axis=-1), np.sum(measure * (np.abs(wrong)), axis=-1)))
    (coarse, _), (fine, error) = estimates
    return fine, np.abs(fine - coarse) + error + ROUNDING * np.abs(fine)


def of_series(series: Callable[[int], Series], slope_power: Array, gap: Array) -> tuple[Array, Array]:
    """D = sum of a_k**2 * (1 - rho**k), every term positive, and what the terms beyond the last can add.

    Args:
        series: coefficients up to a number of terms.
        slope_power: variance * E f'**2 = sum of k*a_k**2; infinite for a function with jumps.
    """
    terms = _FIRST
    while True:
        found = series(terms)
        squares = found.coefficients**2
        order = np.arange(squares.shape[0]).reshape(-1, *([1] * gap.ndim))
        with np.errstate(divide="ignore", invalid="ignore"):
            lost = -np.expm1(order * np.log1p(-gap)) if np.all(gap < 1) else 1.0 - (1.0 - gap) ** order
        value = np.sum(squares * np.where(order == 0, 0.0, lost), axis=0)
        # sum over k > K of a_k**2 (1 - rho**k), by 1 - rho**k <= k*gap and by 1 - rho**k <= 1 (2 at negative rho)
        slopes = np.maximum(slope_power - np.sum(order * squares, axis=0), 0.0) + ROUNDING * slope_power
        rest = np.minimum(np.where(gap <= 1, 1.0, 2.0) * found.rest, gap * slopes)
        if terms >= MOST_TERMS or np.all(rest <= 1e-13 * value):
            break
        terms = min(2 * terms, MOST_TERMS)
    wrong = found.error * np.sqrt(found.power) * np.minimum(1.0, gap * terms)
    return value, rest + wrong + ROUNDING * value


@lru_cache(maxsize=4)
def _rule(count: int) -> tuple[Array, Array]:
    """Gauss-Legendre on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return 0.5 * (nodes + 1.0), 0.5 * weights
