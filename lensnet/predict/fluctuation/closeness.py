"""How alike two rows are in a network of finite width, against the kernel level's average over infinite width.

With g = 1 - c, c the correlation of two rows, a dense layer of n units multiplies g by a random factor: c becomes a
sample correlation (Fisher's z has the variance 1/n and the bias c/(2n)), so ln g has the variance (1 + c)^2/n and
drifts by -(1 + c)/(2n). An activation hands on the sample correlation of a = f(z_1), b = f(z_2) over n neurons,
uncentred; with E a^2 = E b^2 = 1 and rho = E ab (delta method; for a line it is Fisher's)

    n Var r = E (ab - rho (a^2 + b^2)/2)^2
    n (E r - rho) = rho (3/4 (E a^4 - 1) + (E a^2 b^2 - 1)/4) - E a^3 b + rho

of which the dense layer has explained what the map of g passes on. That map takes a deviation along with its
elasticity, and where that changes (of rectifiers g' = g - a g^(3/2)) noise pulls the
typical g down: in deep narrow networks two rows are typically much closer than the average over draws says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_STEP = 0.1
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_GRID = np.linspace(-6.5, 6.5, 105)
_CELLS = np.exp(-(_GRID[:, None] ** 2 + _GRID[None, :] ** 2) / 2)
_CELLS = _CELLS / _CELLS.sum()


@dataclass(frozen=True)
class Closeness:
    """Mean and variance over weight draws of ln(1 - c), the mean relative to the kernel level's."""

    mean: float = 0.0
    variance: float = 0.0

    def dense(self, n: int, correlation: float) -> Closeness:
        """Behind a dense layer of n units with independent weights."""
        c = correlation
        return Closeness(self.mean - (1 + c) / (2 * n), self.variance + (1 + c) ** 2 / n)

    def activated(
        self, n: int, correlation: float, overlap: Callable[[Array], Array], value: Callable[[Array], Array]
    ) -> Closeness:
        """Behind an activation with this overlap of slopes E f'_a f'_b/E f'^2; `value`: f of a standard normal."""
        typical = float(np.clip((1 - correlation) * np.exp(self.mean), 1e-6, 1.0))
        low, e, high = (_elasticity(overlap, typical * factor) for factor in (np.exp(-_STEP), 1.0, np.exp(_STEP)))
        bend = (high - low) / (2 * _STEP)
        c = 1 - typical
        variance, mean = _sample(value, c)
        own = max(variance - e**2 * (1 + c) ** 2, 0.0) / n
        drift = (mean + e * (1 + c) / 2 - bend * (1 + c) ** 2 / 2) / n
        return Closeness(e * self.mean + bend * self.variance / 2 + drift, e**2 * self.variance + own)

    def averaged(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """The function of a correlation, averaged over what weight draws make of it."""
        if self.variance < 1e-6:
            return function
        factors = np.exp(self.mean + np.sqrt(self.variance) * _NODES)

        def over_draws(c: Array) -> Array:
            values = (weight * function(np.clip(1 - (1 - c) * factor, -1.0, 1.0))
                      for weight, factor in zip(_WEIGHTS, factors, strict=True))  # fmt: skip
            return np.asarray(sum(values))

        return over_draws


def _sample(value: Callable[[Array], Array], c: float) -> tuple[float, float]:
    """n times variance and mean of ln(1 - r) - ln(1 - rho), r the correlation of f(z_1) and f(z_2) over n neurons."""
    common, apart = np.sqrt((1 + c) / 2) * _GRID[:, None], np.sqrt((1 - c) / 2) * _GRID[None, :]
    a, b = value(common + apart), value(common - apart)
    power = float(np.sum(_CELLS * (a**2 + b**2))) / 2
    if not power > 0:
        return 0.0, 0.0
    a, b = a / np.sqrt(power), b / np.sqrt(power)
    rho = float(np.sum(_CELLS * a * b))
    if not rho < 1:
        return 0.0, 0.0
    variance = float(np.sum(_CELLS * (a * b - rho * (a**2 + b**2) / 2) ** 2)) / (1 - rho) ** 2
    fourth, both, third = (float(np.sum(_CELLS * part)) for part in (a**4, a**2 * b**2, a**3 * b))
    bias = rho * (0.75 * (fourth - 1) + (both - 1) / 4) - third + rho
    return variance, -bias / (1 - rho) - variance / 2


def _elasticity(overlap: Callable[[Array], Array], g: float) -> float:
    """d ln g'/d ln g: the new 1 - c is proportional to the integral of the overlap from 0 to g."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    t = (nodes + 1) / 2
    g = min(g, 2.0)
    mean = float(weights @ (overlap(1 - g * t**2) * 2 * t)) / 2  # squares: the integrand may go like sqrt(t)
    return float(overlap(np.array([1 - g]))[0]) / mean if mean > 0 else 1.0
