"""The joint normal law of two inputs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

TINY = 1e-300


@dataclass(frozen=True)
class Law:
    """Two jointly normal variables u and v; arrays that broadcast against each other.

    Attributes:
        k11, k22: variances.
        k12: covariance, at most sqrt(k11*k22) in size.
        det: k11*k22 - k12**2. It is kept, not recomputed, since it decides everything near correlation 1.
        mean1, mean2: None stands for exactly 0, so that terms which vanish by symmetry are never added.
        slack1, slack2: size of the numbers whose difference a mean is, where it is one.
        less1, less2: k11 - k12 and k22 - k12, where they are known better than the subtraction tells.
        sharp: the distance from correlation 1 was given; otherwise it is known to the rounding of k12.
        averages: of gates under this law, by pair of gates: what functions with the same kinks share.
    """

    k11: Array
    k22: Array
    k12: Array
    det: Array
    mean1: Array | None = None
    mean2: Array | None = None
    slack1: Array | None = None
    slack2: Array | None = None
    less1: Array | None = None
    less2: Array | None = None
    sharp: bool = False
    averages: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        k11: ArrayLike,
        k22: ArrayLike,
        k12: ArrayLike,
        mean1: ArrayLike = 0.0,
        mean2: ArrayLike = 0.0,
        gap: ArrayLike | None = None,
    ) -> Law:
        """The law of given moments. A covariance beyond its bound by rounding is brought back to it.

        Args:
            gap: 1 - correlation, where it is known better than k12 tells.

        Raises:
            ValueError: a variance is negative.
        """
        first, second, both = (np.asarray(k, dtype=np.float64) for k in (k11, k22, k12))
        if (first < 0).any() or (second < 0).any():
            raise ValueError("a variance is negative")
        size = geometric_mean(first, second)
        if gap is None:
            both = np.clip(both, -size, size)
            det = np.maximum(determinant(first, second, both), 0.0)
            less1, less2 = first - both, second - both
        else:
            distance = np.asarray(gap, dtype=np.float64)
            both = size * (1.0 - distance)
            det = first * second * (distance * (2.0 - distance))
            s1, s2 = np.sqrt(first), np.sqrt(second)
            less1, less2 = s1 * ((s1 - s2) + s2 * distance), s2 * ((s2 - s1) + s1 * distance)
        means = _mean(mean1), _mean(mean2)
        return cls(first, second, both, det, *means, less1=less1, less2=less2, sharp=gap is not None)

    @property
    def swapped(self) -> Law:
        """v and u."""
        means = self.mean2, self.mean1, self.slack2, self.slack1
        return Law(self.k22, self.k11, self.k12, self.det, *means, self.less2, self.less1, self.sharp)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all its arrays, broadcast."""
        arrays = (self.k11, self.k22, self.k12, self.mean1, self.mean2)
        return np.broadcast_shapes(*(np.shape(array) for array in arrays if array is not None))

    def part(self, where: NDArray[np.bool_]) -> Law:
        """The pairs that a mask in the law's shape picks."""
        arrays = [np.broadcast_to(a, where.shape)[where] for a in (self.k11, self.k22, self.k12, self.det)]
        mean1, mean2 = (None if m is None else np.broadcast_to(m, where.shape)[where] for m in (self.mean1, self.mean2))
        return Law(arrays[0], arrays[1], arrays[2], arrays[3], mean1, mean2, sharp=self.sharp)

    @property
    def centred(self) -> bool:
        return self.mean1 is None and self.mean2 is None

    def shifted(self, first: float, second: float) -> Law:
        """u - first and v - second."""
        return replace(self, mean1=_less(self.mean1, first), mean2=_less(self.mean2, second), averages={})


def _mean(mean: ArrayLike) -> Array | None:
    values = np.asarray(mean, dtype=np.float64)
    return values if values.any() else None


def _less(mean: Array | None, by: float) -> Array | None:
    return mean if by == 0 else np.asarray((0.0 if mean is None else mean) - by)


def geometric_mean(first: Array, second: Array) -> Array:
    """sqrt(first*second), exactly `first` where both are equal: correlation 1 must come out as 1."""
    with np.errstate(over="ignore", under="ignore"):
        square = first * second
        mean = np.sqrt(square)
        if square.size and 1e-280 < square.min() and square.max() < np.inf:
            return np.asarray(mean)
        extreme = ~((square > 1e-280) & (square < np.inf))
        return np.asarray(np.where(extreme, np.sqrt(first) * np.sqrt(second), mean))


def determinant(first: Array, second: Array, both: Array) -> Array:
    """first*second - both**2 to the last digit, by the rounding errors of both products (Dekker 1971)."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        product, error = _exact_product(first, second)
        square, other = _exact_product(both, both)
        exact = (product - square) + (error - other)
        return np.asarray(np.where(np.isfinite(exact), exact, product - square))


def _exact_product(a: Array, b: Array) -> tuple[Array, Array]:
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(a: Array) -> tuple[Array, Array]:
    wide = 134217729.0 * a
    high = wide - (wide - a)
    return high, a - high
