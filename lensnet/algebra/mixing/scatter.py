"""Averages over a positive variable that is not sharp: sums of few squares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NODES = 8
_NEARLY_NORMAL = 150.0


def gamma_nodes(relative_variance: float) -> tuple[Array, Array]:
    """Nodes and weights for the average over a gamma variable of mean 1 (stands in for a product of chi-squares).

    A mean of n squares of Gaussians has the relative variance 2/n. At small scatter the cube root is nearly Gaussian
    (Wilson and Hilferty 1931).
    """
    shape = 1 / relative_variance
    if shape < _NEARLY_NORMAL:
        from scipy.special import roots_genlaguerre

        node, weight = roots_genlaguerre(_NODES, shape - 1)
        return node / shape, weight / weight.sum()
    normal, weight = np.polynomial.hermite_e.hermegauss(_NODES)
    return (1 - relative_variance / 9 + normal * np.sqrt(relative_variance) / 3) ** 3, weight / weight.sum()
