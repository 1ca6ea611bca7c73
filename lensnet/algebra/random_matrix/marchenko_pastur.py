"""Marchenko and Pastur 1967: W is (n, m) with independent entries of variance 1/n, y = m/n; eigenvalues of W^T W.

For y > 1 the m - n eigenvalues that are exactly zero are an atom of weight 1 - 1/y beside the density.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

TRACY_WIDOM_MEAN = -1.2065335745820
"""Mean of the Tracy-Widom law for real matrices (beta = 1)."""
TRACY_WIDOM_VARIANCE = 1.607781034581
"""Its variance."""


def edges(ratio: float) -> tuple[float, float]:
    """Both ends of the density, (1 -+ sqrt(y))^2."""
    return (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2


def density(x: ArrayLike, ratio: float) -> Array:
    """Density of the eigenvalues at `x`; integrates to min(1, 1/y)."""
    x = np.asarray(x, dtype=float)
    low, high = edges(ratio)
    inside = np.maximum((high - x) * (x - low), 0.0)
    return np.where(inside > 0, np.sqrt(inside) / (2 * np.pi * ratio * np.where(x > 0, x, 1.0)), 0.0)


def moment(order: int, ratio: float) -> float:
    """E lambda^k, the Narayana polynomial sum_r y^r/(r+1) C(k, r) C(k-1, r)."""
    from scipy.special import comb

    return float(sum(ratio**r / (r + 1) * comb(order, r) * comb(order - 1, r) for r in range(order)))


def log_determinant(snr: float, ratio: float) -> float:
    """(1/N) logdet(I + snr H H^T), H of (N, K) entries with variance 1/N, `ratio` = K/N (Tulino and Verdu 2004).

    Leading order: the absolute error is O(1) before the division by N.
    """
    near, far = (np.sqrt(snr * (1 + sign * np.sqrt(ratio)) ** 2 + 1) for sign in (-1, 1))
    f = (far - near) ** 2
    return float(ratio * np.log(1 + snr - f / 4) + np.log(1 + snr * ratio - f / 4) - f / (4 * snr))


def largest_eigenvalue(n: int, m: int) -> tuple[float, float]:
    """Mean and standard deviation of the largest eigenvalue of X^T X, X of (n, m) standard normal entries.

    Johnstone 2001: Tracy-Widom with his centring; relative error O(n^(-2/3)) before, a few parts in a thousand now.
    """
    root, other = np.sqrt(n - 1), np.sqrt(m)
    scale = (root + other) * (1 / root + 1 / other) ** (1 / 3)
    return float((root + other) ** 2 + TRACY_WIDOM_MEAN * scale), float(np.sqrt(TRACY_WIDOM_VARIANCE) * scale)


def stable_rank(n: int, m: int) -> float:
    """E |X|_F^2 over E |X|_2^2 of an (n, m) matrix with independent entries."""
    return n * m / largest_eigenvalue(n, m)[0]
