"""How fast a function grows towards a kink: whether it, or its square, has an average at all.

|g(k + h)| ~ h**-alpha is integrable over h for alpha < 1, its square for alpha < 1/2. The root of abs(x) has a slope of
alpha = 1/2: no average over weights sees a finite second moment of the gradient behind it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SQUARE, FIRST = 0.5, 1.0
"""From this exponent on the average of the square, and of the function itself, does not exist."""
_TOLERANCE = 4e-3
_HALVINGS = 8


def growth(function: Callable[[Array], Array], point: float) -> float:
    """The larger exponent alpha of |function| ~ |x - point|**-alpha over both sides; 0 where it stays bounded.

    Taken from steps as small as the position is known, where a logarithm no longer looks like a power.
    """
    farthest = 1e-40 if point == 0.0 else 2.0**12 * np.spacing(abs(point)) * 2.0**_HALVINGS
    steps = farthest * 2.0 ** -np.arange(_HALVINGS + 1.0)
    found = [0.0]
    for side in (-1.0, 1.0):
        with np.errstate(all="ignore"):
            sizes = np.abs(function(point + side * steps))
            rates = np.diff(np.log2(sizes))
        if np.all(np.isfinite(rates)) and np.ptp(rates) < 0.1:
            found.append(float(np.mean(np.sort(rates)[_HALVINGS // 2 - 1 : _HALVINGS // 2 + 1])))  # the median
    return max(found)


def has_no_average(exponent: float, bound: float) -> bool:
    return exponent > bound - _TOLERANCE
