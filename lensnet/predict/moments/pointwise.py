"""Pointwise components at the level of moments: every effect is a Gaussian expectation of the function.

A signal that is a Gaussian pushed through functions (`Law.chain`) is integrated over that Gaussian, so relu after relu,
or a ReLU seen by a second activation, comes out exactly; a signal of unknown law is taken as Gaussian with its mean and
variance, and the row says that this is an assumption.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import floor, isfinite, isnan, log, sqrt

import numpy as np

from lensnet.algebra.gaussian import GaussianMoments, expect, jump_density
from lensnet.algebra.pointwise import PointwiseFunction, compose, pointwise, product
from lensnet.algebra.pointwise import X as _X
from lensnet.catalog.functions import bound_function
from lensnet.levels.signal import Field, Law, Signal, average
from lensnet.network.graph import Node

_GRID = 0.0625
_POINTS = 16
"""Grid points of ln std that are worked out together: starting an integral costs more than one point of it."""


def function_of(node: Node) -> PointwiseFunction:
    """The node's own function, parameters bound."""
    known = node.known
    if "function" not in known:
        known["function"] = bound_function(node.component, node.parameters)
    return known["function"]


def chained(law: Law, function: PointwiseFunction) -> PointwiseFunction:
    """`function` of the law's own pushforward: a function of the law's Gaussian."""
    return compose(function, law.chain[0]) if law.chain else function


def under(law: Law, function: PointwiseFunction) -> GaussianMoments:
    """Averages of a function over the law's Gaussian, worked out once."""
    if function not in law.expectations:
        law.expectations[function] = expect(function, law.mean, np.sqrt(law.variance))
    moments: GaussianMoments = law.expectations[function]
    return moments


def pointwise_moments(node: Node, signal: Signal) -> tuple[Field, Field, float]:
    """Mean and second moment at the output, and the relative error bound of the second moment's quadrature."""
    if signal.distribution is not None:
        result = signal.distribution.averages(function_of(node))
        error = _relative(result.second_moment) + 1 / signal.distribution.terms
        return result.mean.value, result.second_moment.value, error
    law = gaussian_behind(signal)
    result = under(law, chained(law, function_of(node)))
    return result.mean.value, result.second_moment.value, _relative(result.second_moment) + _finite_width(law)


def mean_square_slope(node: Node, signal: Signal) -> tuple[Field, float]:
    """E f'(x)^2: the factor on the gradient's second moment, and its relative error bound."""
    function = function_of(node)
    if signal.distribution is not None:
        result = signal.distribution.averages(function).slope_second_moment
        return result.value, _relative(result) + 1 / signal.distribution.terms
    law = gaussian_behind(signal)
    if law.chain:  # the slope at the chain's value, not the slope of the whole chain
        result = under(law, chained(law, slope_of(function))).second_moment
    else:
        result = under(law, function).slope_second_moment
    return result.value, _relative(result) + _finite_width(law)


def mean_slope(node: Node, signal: Signal) -> Field:
    """E f'(x) almost everywhere: the share of a gradient that comes through on average."""
    law = gaussian_behind(signal)
    function = function_of(node)
    if law.chain:
        return under(law, chained(law, slope_of(function))).mean.value
    return under(law, function).slope_mean.value


def stein_factor(node: Node, signal: Signal) -> Field:
    """Cov(f(x), b) / Cov(x, b) for jointly Gaussian x and b (Stein's lemma): E f'(x), jumps included."""
    law = gaussian_behind(signal)
    return mean_slope(node, signal) + jump_density(function_of(node), law.mean, np.sqrt(law.variance))


def mean_slope_product(a: Node, b: Node, signal: Signal) -> Field:
    """E f'(x) g'(x) of two functions of the same value."""
    law = gaussian_behind(signal)
    both = product(slope_of(function_of(a)), slope_of(function_of(b)))
    return under(law, chained(law, both)).mean.value


def mean_product(a: Law, b: Law) -> Field:
    """E f(z) g(z) of two pushforwards of one Gaussian."""
    identity = pointwise(_X, name="identity")
    both = product(a.chain[0] if a.chain else identity, b.chain[0] if b.chain else identity)
    return expect(both, a.mean, np.sqrt(a.variance)).mean.value


def kurtosis(node: Node, signal: Signal) -> float:
    """E f^4 / (E f^2)^2 at the average signal, to about 1 %: 3 for a Gaussian, 6 for ReLU at zero mean."""
    return _at_average(_kurtosis, node, signal)


def pointwise_elasticity(node: Node, signal: Signal) -> float:
    """d ln E f^2 / d ln v at the average signal, to about 1 %: 1 for ReLU, 0 where the function saturates."""
    return _at_average(_elasticity, node, signal)


def _at_average(figure: Callable[[PointwiseFunction, float, int], Field], node: Node, signal: Signal) -> float:
    """A figure of (function, mean/std, ln std), interpolated between the points of a grid: layers share those."""
    law = gaussian_behind(signal)
    function = chained(law, function_of(node))
    key = figure, function
    if key not in law.expectations:
        law.expectations[key] = _on_grid(figure, law, function)
    return float(law.expectations[key])


def _on_grid(figure: Callable[[PointwiseFunction, float, int], Field], law: Law, function: PointwiseFunction) -> float:
    mean, std = average(law.mean), sqrt(average(law.variance))
    if not (isfinite(mean) and isfinite(std) and std > 0):
        return float("nan")
    # the figures of a homogeneous function are the same at every scale
    log_std = 0.0 if function.homogeneity is not None else log(std)
    return sum(
        near * close * float(figure(function, ratio * _GRID, point // _POINTS)[point % _POINTS])
        for ratio, near in _neighbours(mean / std)
        for point, close in _neighbours(log_std)
    )


def _neighbours(value: float) -> list[tuple[int, float]]:
    """The numbers of the grid points around a value, and their weights."""
    low = floor(value / _GRID + 1e-6)
    share = max(value / _GRID - low, 0.0)
    return [(low, 1.0)] if share < 1e-3 else [(low, 1 - share), (low + 1, share)]


def _stds(block: int) -> Field:
    """The standard deviations at the grid points of a block, `(_POINTS,)`."""
    return np.exp(_GRID * np.arange(block * _POINTS, (block + 1) * _POINTS))


@lru_cache(maxsize=1024)
def _kurtosis(function: PointwiseFunction, ratio: float, block: int) -> Field:
    """At all grid points of a block: a stack whose signal drifts passes most of them."""
    stds = _stds(block)
    result = expect(product(function, function), ratio * stds, stds)
    square, fourth = result.mean.value, result.second_moment.value
    with np.errstate(all="ignore"):
        return np.where(square > 0, fourth / square**2, np.nan)


@lru_cache(maxsize=1024)
def _elasticity(function: PointwiseFunction, ratio: float, block: int) -> Field:
    stds, step = _stds(block), 0.01
    low, high = expect(function, ratio * stds, stds * np.exp([[-step], [step]])).second_moment.value
    with np.errstate(all="ignore"):
        return np.where((low > 0) & (high < np.inf), np.log(high / low) / (4 * step), np.nan)


def slope_of(function: PointwiseFunction) -> PointwiseFunction:
    """f' as a function of its own, with the kinks of f."""
    expression = function.slope.expressions[""]
    return pointwise(expression, name=f"{function.name}'", kinks=function.kinks.points)


def gaussian_behind(signal: Signal) -> Law:
    """The signal's law, or a Gaussian with its moments where nothing better is known."""
    if signal.law is not None:
        return signal.law
    return Law(signal.mean, signal.variance, terms=float("inf"), origin="")


def _relative(result: object) -> float:
    value, error = np.abs(result.value), result.error  # type: ignore[attr-defined]
    if value.size == 1:
        size = value.item()
        return float(error.item() / (size if size > 1e-300 or isnan(size) else 1e-300))
    with np.errstate(invalid="ignore"):  # nothing is known of an infinite value with an infinite error
        return float(np.max(error / np.maximum(value, 1e-300))) if np.size(value) else 0.0


def _finite_width(law: Law) -> float:
    """A sum of n terms is Gaussian up to O(1/n) in its even moments."""
    return 0.0 if np.isinf(law.terms) else 1.0 / law.terms
