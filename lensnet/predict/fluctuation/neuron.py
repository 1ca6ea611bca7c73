"""One neuron's energy, expanded in Hermite polynomials: everything that the fluctuation level asks of an activation.

A layer's second moment is the average of n independent energies g = f(mean + std z)^2, z ~ N(0, 1). With
r_k = E[g He_k(z)] / (sqrt(k!) E g) the expansion of g/E g is 1 + sum r_k He_k/sqrt(k!), and (Mehler)

    Cov(g_a, g_b)/(E g)^2 = sum_{k>=1} r_k^2 c^k       for two inputs whose pre-activations are correlated by c
    c = 1: the relative variance of one neuron          5 for a rectifier, 2 for a line
    k = 2: what the length of the pre-activation vector explains, 2 elasticity^2; the rest is the neurons' own
    r_2/sqrt(2) = d ln E g/d ln v,   sqrt(4!) r_4/4 = v^2 d^2 E g/dv^2 / E g    (v = std^2; heat equation)

The same expansion of the squared slope f'^2 says how a gradient scatters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.algebra.quadrature import gaussian_nodes
from lensnet.predict.fluctuation.log_law import LogLaw, chi_square, gates, neurons

Array = NDArray[np.float64]

ORDER = 48
"""Hermite coefficients kept; what they leave of the variance is put on the last one (see `pair`)."""
_SQRT2, _SQRT24 = np.sqrt(2.0), np.sqrt(24.0)


@dataclass(frozen=True)
class Energy:
    """A non-negative function of one Gaussian pre-activation, relative to its average.

    `coefficients`: r_0 = 1, r_1, ..., r_ORDER; `moments`: E (g/E g)^j for j = 1..4; `fourth_hermite`: E[(g/E g)^2
    He_4(z)]; `level`: E g; `on`: probability that g > 0.
    """

    coefficients: Array
    moments: tuple[float, float, float, float]
    fourth_hermite: float
    level: float
    on: float

    @property
    def elasticity(self) -> float:
        """d ln E g / d ln v."""
        return float(self.coefficients[2]) / _SQRT2

    @property
    def bend(self) -> float:
        """v^2 d^2 E g/dv^2 / E g: 0 where E g is a straight line in v."""
        return float(self.coefficients[4]) * _SQRT24 / 4

    @property
    def log_curvature(self) -> float:
        """d^2 ln E g / d(ln v)^2."""
        return self.bend + self.elasticity - self.elasticity**2

    @property
    def variance(self) -> float:
        """Relative variance of one neuron's energy."""
        return self.moments[1] - 1.0

    @cached_property
    def cumulants(self) -> tuple[float, float, float]:
        """Relative cumulants c2, c3, c4."""
        _, m2, m3, m4 = self.moments
        second = m2 - 1
        return second, m3 - 3 * m2 + 2, m4 - 4 * m3 + 6 * m2 - 3 - 3 * second**2

    def pair(self, correlation: ArrayLike, own: bool = False, centred: bool = False) -> Array:
        """Cov(g_a, g_b)/(E g)^2 of two inputs at this correlation of their pre-activations.

        `own`: without the part that the length of the pre-activation vector explains (degree 2); `centred`: without
        that of its mean either (degree 1), which a layer normalisation has removed. What the kept coefficients leave of
        the variance counts as degree ORDER + 1: the error is at most that remainder.
        """
        c = np.asarray(correlation, dtype=np.float64)
        weights = self.coefficients**2
        weights = np.append(weights, max(self.variance - float(weights[1:].sum()), 0.0))
        weights[0] = 0.0
        if own:
            weights[2] = 0.0
        if centred:
            weights[1] = 0.0
        return _polynomial(c, weights)

    @property
    def own_variance(self) -> float:
        """Relative variance of one neuron that the length of the pre-activation vector does not explain."""
        return max(self.variance - 2 * self.elasticity**2, 0.0)

    def product(self, other: Energy) -> float:
        """Relative covariance with another energy of the same neuron."""
        return float(self.coefficients[1:] @ other.coefficients[1:])

    def own_product(self, other: Energy) -> float:
        """Covariance with another energy of the same neuron, without what the length of the vector explains."""
        return float(self.own_overlap(other, np.ones(1))[0])

    def own_overlap(self, other: Energy, correlation: ArrayLike) -> Array:
        """The same between two rows whose pre-activations have this correlation."""
        product = self.coefficients * other.coefficients
        product[0] = product[2] = 0.0
        return _polynomial(np.asarray(correlation, dtype=np.float64), product)

    def own_law(self, n: int, centred: bool = False) -> LogLaw:
        """What n neurons add to ln Q for one input, beyond the length of their pre-activation vector (`centred`: and
        beyond its mean).

        Exact for a rectifier (see `log_law.gates`) and 0 for a line or an absolute value. Otherwise what is missing to
        the law of the whole layer (two orders in 1/n) when the length is passed on linearly; the mean then holds the
        difference between a vector of fixed length and a Gaussian one, -bend/n.
        """
        if self.own_variance < 1e-9:
            return LogLaw()
        if centred:
            left = max(self.own_variance - float(self.coefficients[1]) ** 2, 0.0) / n
            return LogLaw(-left / 2 - self.bend / n, left)
        if self.is_rectifier:
            return gates(n)
        e, h = self.elasticity, self.log_curvature
        length = chi_square(n)
        carried = length.power(e) + LogLaw(h * length.variance / 2)
        return neurons(n, *self.cumulants) - carried

    @property
    def is_rectifier(self) -> bool:
        """g = a z^2 on one side of zero and nothing on the other."""
        return bool(np.allclose(self.moments[1:], (6.0, 60.0, 840.0), rtol=1e-9))

    @property
    def is_gate(self) -> bool:
        """A squared slope that is open with probability 1/2 and shut otherwise."""
        return bool(np.allclose(self.moments[1:], (2.0, 4.0, 8.0), rtol=1e-9))

    def slope_law(self, n: int) -> LogLaw:
        """ln of what n independent squared slopes make of an isotropic gradient, relative to its average."""
        if self.is_gate:
            return gates(n)
        variance = 3 * self.variance / (n + 2)
        return LogLaw(-variance / 2, variance)


def energy(function: PointwiseFunction, mean: float, std: float) -> Energy:
    """Of f(x)^2, x ~ N(mean, std^2): the second moment of an activation."""
    return _expanded(function, _rounded(mean), _rounded(std), False)


def slope_energy(function: PointwiseFunction, mean: float, std: float) -> Energy:
    """Of f'(x)^2: the second moment of a gradient that passes an activation."""
    return _expanded(function, _rounded(mean), _rounded(std), True)


def slope_overlap(function: PointwiseFunction, mean: float, std: float, correlation: ArrayLike) -> Array:
    """E[f'(x_a) f'(x_b)]/E f'^2 of two inputs at this correlation."""
    weights = _slope_powers(function, _rounded(mean), _rounded(std))
    return _polynomial(np.asarray(correlation, dtype=np.float64), weights)


def joint_energy(function: PointwiseFunction, mean: float, std: float) -> float:
    """E f'^2 f^2/(E f'^2 E f^2): whether the neurons that answer strongly are those that speak."""
    mean, std = _rounded(mean), _rounded(std)
    z, weight = gaussian_nodes(function, mean, std)
    with np.errstate(all="ignore"):
        slope, value = function.derivative(mean + std * z) ** 2, function(mean + std * z) ** 2
    both = np.where(np.isfinite(slope * value), slope * value, 0.0)
    apart = slope_energy(function, mean, std).level * energy(function, mean, std).level
    return float(weight @ both) / apart if apart > 0 else 1.0


def _polynomial(x: Array, coefficients: Array) -> Array:
    out: Array = np.zeros_like(x)
    for coefficient in coefficients[::-1]:
        out = out * x + coefficient
    return out


def _rounded(value: float) -> float:
    """Six digits: equal layers share their expansion."""
    return float(f"{value:.6g}")


@lru_cache(maxsize=4096)
def _expanded(function: PointwiseFunction, mean: float, std: float, slope: bool) -> Energy:
    z, weight = gaussian_nodes(function, mean, std)
    x = mean + std * z
    with np.errstate(all="ignore"):
        g = (function.derivative(x) if slope else function(x)) ** 2
    g = np.where(np.isfinite(g), g, 0.0)
    level = float(weight @ g)
    if not level > 0:
        return Energy(np.eye(1, ORDER + 1)[0], (1.0, 1.0, 1.0, 1.0), 0.0, 0.0, 0.0)
    g = g / level
    hermite = _hermite(z)
    moments = tuple(float(weight @ g**power) for power in (1, 2, 3, 4))
    fourth = float(weight @ (g**2 * hermite[4])) * _SQRT24
    on = float(weight @ (g > 0))
    return Energy(hermite @ (weight * g), moments, fourth, level, on)  # type: ignore[arg-type]


@lru_cache(maxsize=4096)
def _slope_powers(function: PointwiseFunction, mean: float, std: float) -> Array:
    z, weight = gaussian_nodes(function, mean, std)
    slope = function.derivative(mean + std * z)
    total = float(weight @ slope**2)
    if not total > 0:
        return np.zeros(ORDER + 2)
    powers = (_hermite(z) @ (weight * slope)) ** 2 / total
    return np.append(powers, max(1.0 - float(powers.sum()), 0.0))


def _hermite(z: Array) -> Array:
    """He_k(z)/sqrt(k!) for k = 0..ORDER, shape (ORDER + 1, nodes)."""
    rows = [np.ones_like(z), z]
    for k in range(1, ORDER):
        rows.append((z * rows[k] - np.sqrt(k) * rows[k - 1]) / np.sqrt(k + 1))
    return np.stack(rows)
