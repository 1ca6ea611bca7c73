"""Functions of a variance that are dear to compute, tabulated once on Chebyshev nodes in its square root."""

from __future__ import annotations

from math import ceil, log2, pi, sqrt

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NODES = 40
_SMALLEST_RANGE = 2.0**-4


def range_of(variance: Array) -> float:
    """Upper end of the table of sqrt(v): a ladder with steps of sqrt(2), so that layers share their tables."""
    top = max(sqrt(float(np.max(variance, initial=0.0))), _SMALLEST_RANGE)
    return float(2.0 ** (ceil(2 * log2(top)) / 2))


def nodes(top: float) -> Array:
    """Chebyshev nodes of [0, top]."""
    return np.asarray(top * (1 + np.cos(pi * (np.arange(NODES) + 0.5) / NODES)) / 2)


def interpolation(x: Array, top: float) -> Array:
    """Barycentric weights (points, nodes): value at every `x` from the values at the nodes of [0, top]."""
    sign = (-1.0) ** np.arange(NODES) * np.sin(pi * (np.arange(NODES) + 0.5) / NODES)
    gap = x[:, None] - nodes(top)
    exact = gap == 0
    raw = sign / np.where(exact, 1.0, gap)
    raw = np.where(exact.any(axis=1, keepdims=True), exact.astype(float), raw)
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))
