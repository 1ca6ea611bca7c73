"""The weights of an interpolation along one axis: which input places an output place is made of, and how much of each.

Places are the middles of pixels, input i at i + 1/2 in units of an input pixel, unless the outermost middles of input
and output are to coincide (`corners`). Beyond the ends the last pixel goes on.
"""

from __future__ import annotations

from functools import cache
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from lensnet.network.geometry import Filter

_SHARPNESS = -0.75  # of the cubic kernel of Keys (1981): its slope at distance 1


@cache
def weights(filter: Filter, size: int, size_out: int, corners: bool = False) -> NDArray[np.float64]:
    """`(outputs, inputs)`; every row sums to 1."""
    out = np.zeros((size_out, size))
    for place in range(size_out):
        for tap, weight in _taps(filter, size, size_out, corners, place):
            out[place, min(max(tap, 0), size - 1)] += weight
    out.setflags(write=False)
    return out


def _taps(filter: Filter, size: int, size_out: int, corners: bool, place: int) -> list[tuple[int, float]]:
    if filter == "nearest":
        return [(place * size // size_out, 1.0)]
    if filter == "nearest_exact":
        return [((2 * place + 1) * size // (2 * size_out), 1.0)]
    if filter == "area":
        first, last = place * size // size_out, ceil((place + 1) * size / size_out)
        return [(tap, 1 / (last - first)) for tap in range(first, last)]
    at = place * (size - 1) / max(size_out - 1, 1) if corners else (place + 0.5) * size / size_out - 0.5
    if filter == "linear":
        at = max(at, 0.0)
        return [(floor(at), 1 - at % 1), (floor(at) + 1, at % 1)]
    return [(floor(at) + step, _cubic(abs(at - floor(at) - step))) for step in (-1, 0, 1, 2)]


def _cubic(distance: float) -> float:
    a, x = _SHARPNESS, distance
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0
