"""Arc-cosine kernels: functions that are a power of |x| on either side of 0 (step, relu, leaky relu, abs, x**2).

With u = s1*z1, v = s2*z2 of correlation cos(t), f(x) = a*x**n above 0 and b*|x|**n below,

    E f(u) g(v) = (s1*s2)**n * ((a*a' + b*b') * J(t) + (a*b' + b*a') * J(pi - t))

with J(t) = E[max(z1, 0)**n max(z2, 0)**n], of Cho and Saul (2009): 2*pi*J is pi - t for n = 0,
sin(t) + (pi - t)*cos(t) for n = 1 and 3*sin(t)*cos(t) + (pi - t)*(1 + 2*cos(t)**2) for n = 2. The two terms are
regrouped so that nothing cancels at t -> 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.pointwise import PointwiseFunction

Array = NDArray[np.float64]
ROUNDING = 8.0 * np.finfo(float).eps


@dataclass(frozen=True)
class Sides:
    """above * x**degree for x > 0, below * |x|**degree for x < 0."""

    degree: int
    above: float
    below: float

    @property
    def slope(self) -> Sides:
        """The derivative almost everywhere."""
        lower = max(self.degree - 1, 0)
        return Sides(lower, self.degree * self.above, -self.degree * self.below)


def sides(function: PointwiseFunction) -> Sides | None:
    """The two sides of a homogeneous function of degree 0, 1 or 2, or None."""
    degree, pieces = function.homogeneity, function.pieces
    if degree is None or pieces is None or degree > 2:
        return None
    polynomials = pieces[1]
    left, right = polynomials[0], polynomials[-1]
    pick = [p[degree] if degree < len(p) else 0.0 for p in (left, right)]
    return Sides(degree, pick[1], pick[0] * (-1.0) ** degree)


class Angle:
    """What all kernels of one pair of inputs share: the angle between them. Arrays in the shape of k12."""

    def __init__(self, k11: Array, k22: Array, k12: Array) -> None:
        # per input, before anything is broadcast: the pairs are many, the inputs few
        s1, s2 = np.sqrt(k11), np.sqrt(k22)
        self.size = s1 * s2
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = np.divide(k12, self.size)
        if not np.all(self.size > 0):
            correlation = np.where(self.size > 0, correlation, np.where(np.isnan(self.size), np.nan, 0.0))
        correlation = np.asarray(correlation)
        np.minimum(correlation, 1.0, out=correlation)
        np.maximum(correlation, -1.0, out=correlation)
        self.cosine = correlation
        self.angle = np.arccos(correlation)
        self._sine: Array | None = None

    @property
    def sine(self) -> Array:
        if self._sine is None:
            # not sin(angle): both come from one correlation, so their errors cancel where t -> 0
            self._sine = np.sqrt((1.0 - self.cosine) * (1.0 + self.cosine))
        return self._sine


def kernel(first: Sides, second: Sides, at: Angle) -> tuple[Array, Array]:
    """E f(u) g(v) at mean 0 for two functions of the same degree, and its error bound."""
    same = first.above * second.above + first.below * second.below
    cross = first.above * second.below + first.below * second.above
    both, turned = (same + cross) / (2.0 * math.pi), (same - cross) / (2.0 * math.pi)
    if first.degree == 0:
        value = at.angle * -turned
        value += 0.5 * same
        return value, np.asarray(ROUNDING * (abs(same) + abs(cross)))
    if first.degree == 1:
        # at.size * (both*(sin - t cos) + same/2 * cos)
        value = at.angle * -both
        value += 0.5 * same
        value *= at.cosine
        value += both * at.sine
        value *= at.size
        return value, ROUNDING * (abs(same) + abs(both)) * at.size
    square = 1.0 + 2.0 * at.cosine * at.cosine
    # J(pi - t) = t*(1 + 2 cos^2) - 3 sin cos
    value = square * (0.5 * same - turned * at.angle) + 3.0 * turned * at.sine * at.cosine
    value *= at.size * at.size
    return value, ROUNDING * (6.0 * (abs(same) + abs(cross))) * at.size * at.size
