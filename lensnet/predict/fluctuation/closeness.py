"""How alike two rows are in a network of finite width, against the kernel level's average over infinite width.

With g = 1 - c, c the correlation of two rows, a dense layer of n units multiplies g by a random factor: c becomes a
sample correlation (Fisher's z has the variance 1/n and the bias c/(2n)), so ln g has the variance (1 + c)^2/n and
drifts by -(1 + c)/(2n). An activation adds noise of its own, for close rows by the slopes and values of n neurons,

    Var ln g = (3 k_s - 1 + k_e - 1 - 2 (x - 1))/n     E ln g = -((3 k_s - 1) - (k_e - 1))/(2n) - k_s/n

with k_s = E f'^4/(E f'^2)^2, k_e = E f^4/(E f^2)^2, x = E f'^2 f^2/(E f'^2 E f^2), dense layer included. The map of g
passes a deviation on with its elasticity, and where that changes (of rectifiers g' = g - a g^(3/2)) noise pulls the
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
        self, n: int, correlation: float, overlap: Callable[[Array], Array], noise: float, drift: float
    ) -> Closeness:
        """Behind an activation with this overlap of slopes E f'_a f'_b/E f'^2; `noise`, `drift`: n times variance and
        mean of ln(1 - c) for close rows, of the dense layer and the activation together."""
        typical = float(np.clip((1 - correlation) * np.exp(self.mean), 1e-6, 1.0))
        low, e, high = (_elasticity(overlap, typical * factor) for factor in (np.exp(-_STEP), 1.0, np.exp(_STEP)))
        bend = (high - low) / (2 * _STEP)
        near = ((1 + correlation) / 2) ** 2
        own = max(noise - 4 * e**2, 0.0) * near / n
        mean = e * self.mean + bend * self.variance / 2 + (drift + e) * near / n
        return Closeness(mean, e**2 * self.variance + own)

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


def _elasticity(overlap: Callable[[Array], Array], g: float) -> float:
    """d ln g'/d ln g: the new 1 - c is proportional to the integral of the overlap from 0 to g."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    t = (nodes + 1) / 2
    g = min(g, 2.0)
    mean = float(weights @ (overlap(1 - g * t**2) * 2 * t)) / 2  # squares: the integrand may go like sqrt(t)
    return float(overlap(np.array([1 - g]))[0]) / mean if mean > 0 else 1.0
