"""Neurons as functions of a Gaussian over samples: z_a = scale_a f(g_a) + shift_a, g ~ N(mean, covariance)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.dual import dual
from lensnet.algebra.gaussian import expect, jump_density
from lensnet.algebra.random_matrix.neurons import draw_neurons
from lensnet.levels.covariance import Covariance, Rows, chosen_rows

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Channel:
    """What happened to a Gaussian since it left its weights, over R samples.

    Attributes:
        function: pointwise, or None for the Gaussian itself.
        scale, shift: `(R,)`.
        mean: of the Gaussian, `(R,)`.
    """

    function: Any
    scale: Vector
    shift: Vector
    mean: Vector

    @classmethod
    def of(cls, state: Covariance, sample: Rows) -> Channel:
        """From the kernel state of an edge whose population is known."""
        known = state.population
        assert known is not None

        def rows(values: Any) -> Vector:
            field = np.broadcast_to(np.asarray(values, dtype=float), state.layout.field_shape)
            return chosen_rows(state.layout, field, sample)

        return cls(known.chain[0] if known.chain else None, rows(known.scale), rows(known.shift), rows(known.mean))

    @property
    def gaussian(self) -> bool:
        """Whether neurons are zero-mean Gaussian vectors."""
        return self.function is None and not self.mean.any() and not self.shift.any()

    def second_moments(self, covariance: Matrix) -> Matrix:
        """E z_a z_b, `(R, R)`."""
        if self.function is None:
            means, values = self.mean, covariance + np.outer(self.mean, self.mean)
        else:
            variance = np.maximum(np.diag(covariance), 0.0)
            own = expect(self.function, self.mean, np.sqrt(variance))
            values = np.array(dual(self.function).kernel(*self._pairs(covariance)).value)
            means = np.broadcast_to(own.mean.value, variance.shape)
            np.fill_diagonal(values, own.second_moment.value)
        if self.shift.any():
            crossed = np.outer(self.scale * means, self.shift)
            return np.outer(self.scale, self.scale) * values + crossed + crossed.T + np.outer(self.shift, self.shift)
        return np.outer(self.scale, self.scale) * values

    def slope(self, covariance: Matrix) -> float:
        """Average over pairs of different samples of dE z_a z_b / dE g_a g_b."""
        size = np.outer(self.scale, self.scale)
        if self.function is not None:
            size = size * dual(self.function).gradient_kernel(*self._pairs(covariance)).value
        apart = ~np.eye(len(size), dtype=bool)
        return float(np.mean(size[apart])) if apart.any() else float(np.mean(size))

    def mean_slopes(self, covariance: Matrix) -> Vector:
        """E dz_a/dg_a, `(R,)`; for a function that jumps, what it does on average to a small shift."""
        if self.function is None:
            return self.scale
        std = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        steps = jump_density(self.function, self.mean, std)
        return np.asarray(self.scale * (expect(self.function, self.mean, std).slope_mean.value + steps))

    def draws(self, covariance: Matrix) -> Matrix | None:
        """`(R, N)` typical neurons; None where they are Gaussian."""
        if self.gaussian:
            return None

        def value(g: Matrix) -> Matrix:
            z = g if self.function is None else self.function(g)
            return self.scale[:, None] * z + self.shift[:, None]

        return draw_neurons(covariance, value, self.mean)

    def _pairs(self, covariance: Matrix) -> tuple[Any, ...]:
        variance = np.maximum(np.diag(covariance), 0.0)
        means = (self.mean[:, None], self.mean[None, :]) if self.mean.any() else ()
        return variance[:, None], variance[None, :], covariance, *means
