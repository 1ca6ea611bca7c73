"""A network's Jacobian J = D_L W_L ... D_1 W_1, and the first moments of its singular values at finite width.

D_l holds the slopes of an activation, independent of the weights: a rectifier opens half of its gates, whatever comes.

With A = J J^T of n outputs, in a basis that fresh weights have made random, u = E tr A^2 and v = E (tr A)^2
obey recursions that are exact at any width (Wishart moments; Weingarten calculus of second order for a Haar basis).
With a diagonal matrix of squared slopes d, or the projector of a wide-to-narrow orthogonal layer, t = tr, s = tr of the
square,

    b = (s - t^2/n)/((n + 2)(n - 1)),  a = (t^2 - 2 b n)/n^2:    u -> a u + b (u + v),   v -> a v + 2 b u
    m Gaussian outputs, variance w:                              u -> w^2 m ((m + 1) u + v),  v -> w^2 m (2 u + m v)

Square layers at large width: the mean squared singular value is prod sigma_w^2 E phi'^2, and the relative variances
E phi'^4/(E phi'^2)^2 - 1 - s_1 of the layers add up, s_1 = -1 for Gaussian weights and 0 for orthogonal ones
(Pennington, Schoenholz and Ganguli 2017).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Weights = Literal["gaussian", "orthogonal"]


@dataclass(frozen=True)
class Slopes:
    """The law of squared slopes d = phi'^2 of one layer: `share[k]` of the neurons have `values[k]`, both `(K,)`."""

    values: Array
    share: Array

    @classmethod
    def of(cls, values: ArrayLike, share: ArrayLike | None = None) -> Slopes:
        """From values of equal or given share; equal values are put together."""
        squares = np.atleast_1d(np.asarray(values, dtype=float))
        weight = np.full(squares.size, 1 / squares.size) if share is None else np.asarray(share, dtype=float)
        found, place = np.unique(np.round(squares, 12), return_inverse=True)
        return cls(found, np.asarray(np.bincount(place, weight), dtype=float))

    def times(self, other: Slopes) -> Slopes:
        """Of the product with independent factors (dropout behind an activation)."""
        return Slopes.of(np.multiply.outer(self.values, other.values).ravel(),
                         np.multiply.outer(self.share, other.share).ravel())  # fmt: skip

    def moment(self, order: int) -> float:
        """E d^order."""
        return float(self.share @ self.values**order)


@dataclass(frozen=True)
class Stage:
    """A dense layer of independent weights of this `variance` (mean square of an entry), and the slopes behind it."""

    inputs: int
    outputs: int
    variance: float
    weights: Weights = "gaussian"
    slopes: Slopes | None = None


@dataclass(frozen=True)
class Traces:
    """Of A = J J^T, `width` x `width`: E tr A, E (tr A)^2 and E tr A^2, numbers or one for each example.

    `inputs`: columns of J.
    """

    first: Array
    squared: Array
    second: Array
    width: int
    inputs: int

    @classmethod
    def identity(cls, n: int) -> Traces:
        return cls(np.array(float(n)), np.array(float(n) ** 2), np.array(float(n)), n, n)

    @property
    def count(self) -> int:
        """Singular values of J."""
        return min(self.width, self.inputs)

    @property
    def gain(self) -> Array:
        """Mean squared singular value."""
        return self.first / self.count

    @property
    def spread(self) -> Array:
        """Relative variance of the squared singular values, as a ratio of means over weight draws."""
        return self.second * self.count / self.squared - 1

    @property
    def scatter(self) -> Array:
        """Relative variance of the gain over weight draws."""
        return np.maximum(self.squared / self.first**2 - 1, 0.0)

    def dense(self, outputs: int, variance: float, weights: Weights = "gaussian") -> Traces:
        """Behind a dense layer with fresh weights."""
        m, w, u, v = outputs, variance, self.second, self.squared
        if weights == "gaussian":
            changed = w * m * self.first, w**2 * m * (2 * u + m * v), w**2 * m * ((m + 1) * u + v)
            return replace(self, first=changed[0], squared=changed[1], second=changed[2], width=m)
        scale = w * max(m, self.width)
        kept = self if m >= self.width else self._among(float(m), float(m) ** 2, float(m))
        out = Traces(scale * kept.first, scale**2 * kept.squared, scale**2 * kept.second, m, self.inputs)
        return out

    def sloped(self, second: ArrayLike, fourth: ArrayLike) -> Traces:
        """Behind slopes with E phi'^2 and E phi'^4, drawn for every neuron."""
        n, p1, p2 = self.width, np.asarray(second, dtype=float), np.asarray(fourth, dtype=float)
        return self._among(n * p1, n * p2 + n * (n - 1) * p1**2, n * p2)

    def _among(self, t: ArrayLike, t_squared: ArrayLike, s: ArrayLike) -> Traces:
        """A^(1/2) B A^(1/2) for B of random basis with E tr B, E (tr B)^2 and E tr B^2."""
        n, t, t2, s = self.width, np.asarray(t), np.asarray(t_squared), np.asarray(s)
        if n == 1:
            return replace(self, first=self.first * t, squared=self.squared * s, second=self.second * s)
        b = (s - t2 / n) / ((n + 2) * (n - 1))
        a = (t2 - 2 * b * n) / n**2
        return replace(
            self,
            first=self.first * t / n,
            squared=a * self.squared + 2 * b * self.second,
            second=a * self.second + b * (self.second + self.squared),
        )


__all__ = ["Slopes", "Stage", "Traces", "Weights"]
