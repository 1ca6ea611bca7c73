"""The error function and the normal distribution, without waiting for scipy where a few numbers are asked.

`scipy.special` takes a third of a second to load, as long as predicting several hundred layers: up to 64 numbers are
computed by the standard library, to the same rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

_FEW = 64
_ROOT_HALF = math.sqrt(0.5)


def _few_reals(x: Any) -> bool:
    return np.size(x) <= _FEW and not np.iscomplexobj(x)


def _few(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """Elementwise on a small array; shape kept, a number for a number."""
    return np.vectorize(function, otypes=[np.float64])


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x * _ROOT_HALF)


_ERF, _ERFC, _NDTR = _few(math.erf), _few(math.erfc), _few(_normal_cdf)


def erf(x: Any) -> Any:
    if _few_reals(x):
        return _ERF(x)
    from scipy import special

    return special.erf(x)


def erfc(x: Any) -> Any:
    if _few_reals(x):
        return _ERFC(x)
    from scipy import special

    return special.erfc(x)


def ndtr(x: Any) -> Any:
    """Probability that a standard normal variable is below x."""
    if _few_reals(x):
        return _NDTR(x)
    from scipy import special

    return special.ndtr(x)


def expit(x: Any) -> Any:
    """1/(1 + exp(-x)); every digit of the left tail, and no overflow."""
    decay = np.exp(-np.abs(x))
    return np.where(np.asarray(x) < 0, decay, 1.0) / (1.0 + decay)


def log_ndtr(x: Any) -> Any:
    from scipy import special

    return special.log_ndtr(x)


def owens_t(h: Any, a: Any) -> Any:
    """Owen's T."""
    from scipy import special

    return special.owens_t(h, a)
