"""Gaussian averages of two gates that see correlated signals (kinds as in `gate_moments`), by dual activations."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.dual import Dual, dual
from lensnet.algebra.mixing.gate_moments import QUICK
from lensnet.algebra.pointwise import PointwiseFunction, X, pointwise
from lensnet.algebra.special import special
from lensnet.expressions.functions import maximum, normal_distribution, sigmoid
from lensnet.expressions.tree import ZERO

Array = NDArray[np.float64]


GATES = ("sigmoid", "gelu", "silu", "relu", "quick_gelu", "identity")
"""Names of the gates, in the order of their numbers."""


def gate_function(kind: int) -> PointwiseFunction:
    """The gate of this number."""
    functions = (
        sigmoid(X), X * normal_distribution(X), X * sigmoid(X), maximum(X, ZERO), X * sigmoid(QUICK * X), X
    )  # fmt: skip
    return pointwise(functions[kind], name=GATES[kind])


@lru_cache(maxsize=8)
def _gate(kind: int) -> Dual:
    return dual(gate_function(kind))


def rectifier() -> PointwiseFunction:
    """relu."""
    return pointwise(maximum(X, ZERO), name="relu")


@lru_cache(maxsize=1)
def _relu() -> Dual:
    return dual(rectifier())


@special("gate_kernel", 5, r"\mathbb{{E}}f f\left({1}; {2}, {3}, {4}\right)")
def gate_kernel(kind: Array, mean: Array, first: Array, second: Array, both: Array) -> Array:
    """E f(u) f(v) for u, v of one mean, variances `first` and `second`, covariance `both`; f as in gate_mean."""
    return _gate(round(float(np.max(kind)))).kernel(first, second, both, mean, mean).value


@special("gate_slope_kernel", 5, r"\mathbb{{E}}f' f'\left({1}; {2}, {3}, {4}\right)")
def gate_slope_kernel(kind: Array, mean: Array, first: Array, second: Array, both: Array) -> Array:
    """E f'(u) f'(v), arguments as for gate_kernel."""
    return _gate(round(float(np.max(kind)))).gradient_kernel(first, second, both, mean, mean).value


@special("relu_kernel", 5, r"\mathbb{{E}}[u]_+[v]_+\left({0}, {1}; {2}, {3}, {4}\right)")
def relu_kernel(mean_1: Array, mean_2: Array, first: Array, second: Array, both: Array) -> Array:
    """E relu(u) relu(v) for u, v of these means, variances `first` and `second`, covariance `both`."""
    return _relu().kernel(first, second, both, mean_1, mean_2).value


@special("relu_slope_kernel", 5, r"\mathbb{{P}}(u>0,v>0)\left({0}, {1}; {2}, {3}, {4}\right)")
def relu_slope_kernel(mean_1: Array, mean_2: Array, first: Array, second: Array, both: Array) -> Array:
    """Probability that both u and v are above zero: E relu'(u) relu'(v), arguments as for relu_kernel."""
    return _relu().gradient_kernel(first, second, both, mean_1, mean_2).value
