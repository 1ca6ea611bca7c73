"""Gaussian averages of gates, for arrays of means and variances: sigmoid, gelu, silu, relu, gelu by a sigmoid and the
identity (numbered 0 to 5).

The integrand is smooth and decays like a Gaussian, so that a trapezoidal sum over the standard normal variable is
accurate to 1e-7 for standard deviations up to 10, and to 1e-3 up to 40.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensnet.algebra.mixing.scatter import gamma_nodes
from lensnet.algebra.normal import expit, ndtr
from lensnet.algebra.special import special

Array = NDArray[np.float64]
Gate = Callable[[Array], Array]

QUICK = 1.702
"""x sigmoid(1.702 x) is gelu to within 0.02."""
_STEP = 0.05
_NORMAL = np.arange(-9.0, 9.0 + _STEP, _STEP)
_WEIGHT = np.exp(-(_NORMAL**2) / 2) * _STEP / sqrt(2 * pi)


def _density(x: Array) -> Array:
    return np.exp(-x * x / 2) / sqrt(2 * pi)


_GATES: tuple[tuple[Gate, Gate], ...] = (
    (expit, lambda x: expit(x) * expit(-x)),
    (lambda x: x * ndtr(x), lambda x: ndtr(x) + x * _density(x)),
    (lambda x: x * expit(x), lambda x: expit(x) * (1 + x * expit(-x))),
    (lambda x: np.maximum(x, 0.0), lambda x: np.heaviside(x, 0.5)),
    (lambda x: x * expit(QUICK * x), lambda x: expit(QUICK * x) * (1 + QUICK * x * expit(-QUICK * x))),
    (lambda x: x, np.ones_like),
)
"""Value and derivative of each gate."""


def gaussian_average(integrand: Callable[[Array, Array], Array], mean: ArrayLike, variance: ArrayLike) -> Array:
    """E integrand(x, z) for x = mean + sqrt(variance) z, z standard normal; NaN stays NaN."""
    deviation = np.sqrt(np.maximum(np.asarray(variance, float), 0.0))[..., None]
    x = np.asarray(mean, float)[..., None] + deviation * _NORMAL
    return np.asarray(integrand(x, np.broadcast_to(_NORMAL, x.shape)) @ _WEIGHT)


def _gate(kind: ArrayLike) -> tuple[Gate, Gate]:
    return _GATES[round(float(np.max(kind)))]


@special("gate_mean", 3, r"\mathbb{{E}}f\left({1}, {2}\right)")
def gate_mean(kind: Array, mean: Array, variance: Array) -> Array:
    """E f(z) for z ~ N(mean, variance), f = the gate of this kind."""
    value, _ = _gate(kind)
    return gaussian_average(lambda x, z: value(x), mean, variance)


@special("gate_square", 3, r"\mathbb{{E}}f^2\left({1}, {2}\right)")
def gate_square(kind: Array, mean: Array, variance: Array) -> Array:
    """E f(z)^2 for z ~ N(mean, variance), f = the gate of this kind."""
    value, _ = _gate(kind)
    return gaussian_average(lambda x, z: value(x) ** 2, mean, variance)


@special("gate_slope", 3, r"\mathbb{{E}}f'^2\left({1}, {2}\right)")
def gate_slope(kind: Array, mean: Array, variance: Array) -> Array:
    """E f'(z)^2 for z ~ N(mean, variance), f = the gate of this kind."""
    _, slope = _gate(kind)
    return gaussian_average(lambda x, z: slope(x) ** 2, mean, variance)


@special("gate_slope_spread", 3, r"\mathbb{{E}}f'^2 \frac{{(z-\mu)^2}}{{\sigma^2}}\left({1}, {2}\right)")
def gate_slope_spread(kind: Array, mean: Array, variance: Array) -> Array:
    """E f'(z)^2 (z - mean)^2 / variance for z ~ N(mean, variance), f as in gate_slope."""
    _, slope = _gate(kind)
    return gaussian_average(lambda x, z: (slope(x) * z) ** 2, mean, variance)


@special("gate_pull", 3, r"\mathbb{{E}}f f' (z-\mu)\left({1}, {2}\right)")
def gate_pull(kind: Array, mean: Array, variance: Array) -> Array:
    """E f(z) f'(z) (z - mean) for z ~ N(mean, variance), f as in gate_slope."""
    value, slope = _gate(kind)
    deviation = np.sqrt(np.maximum(np.asarray(variance, float), 0.0))
    return deviation * gaussian_average(lambda x, z: value(x) * slope(x) * z, mean, variance)


@special("excitation_mean", 3, r"\mathbb{{E}}\sigma\left({0}, {1}\right)")
def excitation_mean(mean: Array, variance: Array, scatter: Array) -> Array:
    """E sigmoid(z) for z ~ N(mean, variance) whose variance scatters by the relative variance `scatter`."""
    return _scattered(lambda x, z: expit(x), mean, variance, scatter)


@special("excitation_square", 3, r"\mathbb{{E}}\sigma^2\left({0}, {1}\right)")
def excitation_square(mean: Array, variance: Array, scatter: Array) -> Array:
    """E sigmoid(z)^2 for z ~ N(mean, variance) whose variance scatters by the relative variance `scatter`."""
    return _scattered(lambda x, z: expit(x) ** 2, mean, variance, scatter)


@special("excitation_slope", 3, r"\mathbb{{E}}\sigma'^2\left({0}, {1}\right)")
def excitation_slope(mean: Array, variance: Array, scatter: Array) -> Array:
    """E sigmoid'(z)^2 for z ~ N(mean, variance) whose variance scatters by the relative variance `scatter`."""
    return _scattered(lambda x, z: (expit(x) * expit(-x)) ** 2, mean, variance, scatter)


def _scattered(integrand: Callable[[Array, Array], Array], mean: Array, variance: Array, scatter: Array) -> Array:
    """The average over a gamma-distributed variance: a sum of few squares is not sharp."""
    factor, weight = gamma_nodes(max(float(np.max(scatter)), 1e-12))
    parts = [
        w * gaussian_average(integrand, mean, f * np.asarray(variance)) for f, w in zip(factor, weight, strict=True)
    ]
    return np.asarray(sum(parts))
