"""The bivariate normal distribution function, elementwise on arrays."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.normal import ndtr, owens_t

Array = NDArray[np.float64]


def both_positive(h: Array | None, k: Array | None, r: Array, rest: Array) -> Array:
    """P(X < h and Y < k) for standard normal X and Y of correlation r; absolute error about 2e-16.

    Args:
        h, k: None stands for exactly 0.
        r: correlation.
        rest: sqrt(1 - r**2), which the caller knows without cancellation.

    Sheppard's formula at h = k = 0, Owen's (1956) elsewhere.
    """
    angle = np.arctan2(r, rest)
    if h is None and k is None:
        return np.asarray(0.25 + angle / (2.0 * math.pi))
    h, k, r, rest, angle = np.broadcast_arrays(
        np.asarray(0.0 if h is None else h), np.asarray(0.0 if k is None else k), r, rest, angle
    )
    # 1 - r and 1 + r from the root: r alone has lost them where |r| is near 1
    near, far = rest * rest / (1.0 + np.abs(r)), 1.0 + np.abs(r)
    less, more = np.where(r >= 0, near, far), np.where(r >= 0, far, near)
    # k - r*h, written with whichever of k - h and k + h is small
    upper = np.where(r >= 0, (k - h) + less * h, (k + h) - more * h)
    lower = np.where(r >= 0, (h - k) + less * k, (h + k) - more * k)
    with np.errstate(all="ignore"):
        first = _tail(h, upper, h * rest)
        second = _tail(k, lower, k * rest)
    opposite = (h * k < 0) | ((h * k == 0) & (h + k < 0))
    below_h, below_k = ndtr(h), ndtr(k)
    value = 0.5 * (below_h + below_k) - first - second - np.where(opposite, 0.5, 0.0)
    centre = (h == 0) & (k == 0)
    if centre.any():
        value = np.where(centre, 0.25 + angle / (2.0 * math.pi), value)
    return np.clip(value, 0.0, np.minimum(below_h, below_k))


def _tail(h: Array, above: Array, below: Array) -> Array:
    """Owen's T(h, above/below), in the limit where `below` is 0; both are 0 at h = k, r = 1, where T is not needed."""
    infinite = np.copysign(np.inf, above) * np.where(h < 0, -1.0, 1.0)
    ratio = np.where(below != 0, above / np.where(below != 0, below, 1.0), np.where(above != 0, infinite, 0.0))
    return np.asarray(owens_t(h, ratio))
