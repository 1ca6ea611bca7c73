"""The joint normal law of two inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    """

    k11: Array
    k22: Array
    k12: Array
    det: Array
    mean1: Array | None = None
    mean2: Array | None = None
    slack1: Array | None = None
    slack2: Array | None = None

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
        if (first.size and np.nanmin(first) < 0) or (second.size and np.nanmin(second) < 0):
            raise ValueError("a variance is negative")
        size = np.sqrt(first) * np.sqrt(second)
        if gap is None:
            with np.errstate(all="ignore"):
                correlation = both / np.where(size > 0, size, 1.0)
            correlation = np.clip(np.where(size > 0, correlation, 0.0), -1.0, 1.0)
            spread = (1.0 - correlation) * (1.0 + correlation)
        else:
            distance = np.asarray(gap, dtype=np.float64)
            correlation = 1.0 - distance
            spread = distance * (2.0 - distance)
        return cls(first, second, size * correlation, first * second * spread, _mean(mean1), _mean(mean2))

    @property
    def swapped(self) -> Law:
        """v and u."""
        return Law(self.k22, self.k11, self.k12, self.det, self.mean2, self.mean1, self.slack2, self.slack1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all its arrays, broadcast."""
        arrays = (self.k11, self.k22, self.k12, self.mean1, self.mean2)
        return np.broadcast_shapes(*(np.shape(array) for array in arrays if array is not None))

    @property
    def centred(self) -> bool:
        return self.mean1 is None and self.mean2 is None

    def shifted(self, first: float, second: float) -> Law:
        """u - first and v - second."""
        return replace(self, mean1=_less(self.mean1, first), mean2=_less(self.mean2, second))


def _mean(mean: ArrayLike) -> Array | None:
    values = np.asarray(mean, dtype=np.float64)
    return values if values.any() else None


def _less(mean: Array | None, by: float) -> Array | None:
    return mean if by == 0 else np.asarray((0.0 if mean is None else mean) - by)
