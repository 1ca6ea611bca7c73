"""Arc-cosine kernels: functions that are a power of |x| on either side of 0 (step, relu, leaky relu, abs, x**2).

With u = s1*z1, v = s2*z2 of correlation cos(t), f(x) = a*x**n above 0 and b*|x|**n below,

    E f(u) g(v) = (s1*s2)**n * ((a*a' + b*b') * J(t) + (a*b' + b*a') * J(pi - t))

with J(t) = E[max(z1, 0)**n max(z2, 0)**n], of Cho and Saul (2009): 2*pi*J is pi - t for n = 0,
sin(t) + (pi - t)*cos(t) for n = 1 and 3*sin(t)*cos(t) + (pi - t)*(1 + 2*cos(t)**2) for n = 2; with powers 3 and 1 of
the two, sin(t)*(2 + cos(t)**2) + 3*(pi - t)*cos(t). The two terms are regrouped so that nothing cancels at t -> 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.bivariate.law import geometric_mean
from lensnet.algebra.pointwise import PointwiseFunction

Array = NDArray[np.float64]
ROUNDING = 8.0 * np.finfo(float).eps
_KNOWN = {(0, 0), (1, 1), (2, 2), (3, 1), (1, 3)}
_UNIT, _BLUNT, _SHARP = 2.0**-52, 2.0**-26, 1e-3


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
    """The two sides of a homogeneous function of degree 0 to 3, or None."""
    degree, pieces = function.homogeneity, function.pieces
    if degree is None or pieces is None or degree > 3:
        return None
    polynomials = pieces[1]
    left, right = polynomials[0], polynomials[-1]
    pick = [p[degree] if degree < len(p) else 0.0 for p in (left, right)]
    return Sides(degree, pick[1], pick[0] * (-1.0) ** degree)


def together(first: Sides | None, second: Sides | None) -> tuple[Sides, Sides] | None:
    """Both, where `kernel` has a form for these degrees."""
    return (first, second) if first and second and (first.degree, second.degree) in _KNOWN else None


class Angle:
    """What all kernels of one pair of inputs share: the angle between them. Arrays in the shape of the pairs.

    Attributes:
        k11, k22: the variances.
        size: s1*s2, the product of the standard deviations.
        cosine: the correlation; 0 where a variance is 0.
        angle: its arc-cosine.
        sine: not sin(angle): both come from one correlation, so that their errors cancel where the angle is small.
    """

    def __init__(self, k11: Array, k22: Array, k12: Array) -> None:
        self.k11, self.k22 = k11, k22
        self.size = geometric_mean(k11, k22)
        known = self.size.size == 0 or self.size.min() > 0
        cosine = np.asarray(k12 / self.size if known else k12 / np.where(self.size == 0, np.inf, self.size))
        np.clip(cosine, -1.0, 1.0, out=cosine)
        self.cosine = cosine
        self.angle = np.arccos(cosine)
        sine = np.asarray(1.0 - cosine)
        sine *= 1.0 + cosine
        self.sine = np.sqrt(sine, out=sine)


def kernel(first: Sides, second: Sides, at: Angle) -> tuple[Array, Array]:
    """E f(u) g(v) at mean 0 for two functions of the same degree, or of 3 and 1, and its error bound."""
    if first.degree != second.degree:
        return _cubed(first, second, at)
    if first.degree == 1:
        return _linear(first, second, at, gradient_kernel(first, second, at)[0])
    same, cross = _products(first, second)
    turned = (same - cross) / (2.0 * math.pi)
    if first.degree == 0:
        # a correlation known to its rounding leaves the angle uncertain by that over the sine
        least = float(at.sine.min()) if at.sine.size else 1.0
        sine = least if least > _SHARP else np.maximum(at.sine, _BLUNT)
        loose = _UNIT * abs(turned) / sine + ROUNDING * (abs(same) + abs(cross))
        return _switched(same, turned, at), np.asarray(loose)
    # J(pi - t) = t*(1 + 2 cos^2) - 3 sin cos
    value = (1.0 + 2.0 * at.cosine * at.cosine) * _switched(same, turned, at) + 3.0 * turned * at.sine * at.cosine
    square = at.size * at.size
    return value * square, ROUNDING * 6.0 * (abs(same) + abs(cross)) * square


def gradient_kernel(first: Sides, second: Sides, at: Angle) -> tuple[Array, Array]:
    """E f'(u) g'(v) at mean 0, slopes almost everywhere."""
    return kernel(first.slope, second.slope, at)


def both(first: Sides, second: Sides, at: Angle) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """`kernel` and `gradient_kernel`, which share work in degree 1."""
    slopes = gradient_kernel(first, second, at)
    return (_linear(first, second, at, slopes[0]) if first.degree == 1 else kernel(first, second, at)), slopes


def _products(first: Sides, second: Sides) -> tuple[float, float]:
    return first.above * second.above + first.below * second.below, (
        first.above * second.below + first.below * second.above
    )


def _switched(same: float, turned: float, at: Angle) -> Array:
    value = at.angle * -turned
    value += 0.5 * same
    return value


def _cubed(first: Sides, second: Sides, at: Angle) -> tuple[Array, Array]:
    """Degrees 3 and 1."""
    same, cross = _products(first, second)
    both = (same + cross) / (2.0 * math.pi)
    value = at.angle * (-3.0 * both)
    value += 1.5 * same
    value *= at.cosine
    if both:
        value += both * at.sine * (2.0 + at.cosine * at.cosine)
    scale = at.size * (at.k11 if first.degree == 3 else at.k22)
    value *= scale
    return value, ROUNDING * 6.0 * (abs(same) + abs(cross)) * scale


def _linear(first: Sides, second: Sides, at: Angle, slopes: Array) -> tuple[Array, Array]:
    """Degree 1: s1*s2*(cos(t) * E f' g' + (same + cross)/(2 pi) * sin(t))."""
    same, cross = _products(first, second)
    value = at.cosine * slopes
    if same + cross != 0.0:
        value += at.sine * ((same + cross) / (2.0 * math.pi))
    value *= at.size
    return value, at.size * (ROUNDING * (abs(same) + abs(cross)))
