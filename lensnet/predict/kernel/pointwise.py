"""Pointwise components at the kernel level: Gaussian expectations of two correlated values.

A state that is a Gaussian pushed through a function is integrated over that Gaussian (`Population.chain`); a state of
unknown law is taken as Gaussian with its mean and covariance, and the row says that this is an assumption. Numbers on
the diagonal (a sample with itself) are one-dimensional expectations and as exact as those of the moments level.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lensnet.algebra.dual import Bounded, PairDual, dual, pair
from lensnet.algebra.gaussian import expect, jump_density
from lensnet.algebra.pointwise import PointwiseFunction, X, compose, exact, pointwise, total
from lensnet.levels.bands import BandPairs
from lensnet.levels.covariance import Covariance, Population
from lensnet.levels.pairs import Field, Pairs
from lensnet.network.graph import Node
from lensnet.predict.moments.pointwise import function_of, slope_of

IDENTITY = pointwise(X, name="identity")


def behind(state: Covariance) -> Population:
    """The Gaussian behind a state, or one with its mean and covariance where nothing better is known."""
    if state.population is not None:
        return state.population
    return Population("", 0, float("inf"), state.mean, state.pairs, state.layout)


def applied(population: Population, function: PointwiseFunction) -> PointwiseFunction:
    """`function` of the channels as a function of the Gaussian behind them."""
    inner = population.chain[0] if population.chain else IDENTITY
    scale, shift = np.unique(population.scale), np.unique(population.shift)
    if scale.size == 1 and shift.size == 1 and (scale[0] != 1.0 or shift[0] != 0.0):
        inner = total(compose(pointwise(exact(float(scale[0])) * X, name="scale"), inner), _constant(float(shift[0])))
    return function if inner is IDENTITY else compose(function, inner)


def uniform(population: Population) -> bool:
    """Whether one and the same function is applied to the Gaussian of every sample."""
    return np.ptp(population.scale) == 0 and np.ptp(population.shift) == 0


def pointwise_state(node: Node, state: Covariance) -> tuple[Covariance, float]:
    """The state behind a pointwise component, and the bound on the error of its pairs, relative to their scale."""
    population = behind(state)
    function = applied(population, function_of(node))
    mean, second, found = self_expectations(population, function)
    after = Population(
        population.origin, population.width, population.terms, population.mean, population.pairs, population.layout,
        (function,),
    )  # fmt: skip
    pairs = population.layout.with_diagonal(found.value, second)
    known = after if state.population is not None else None
    return Covariance(mean, pairs, state.layout, known), _relative(found, second)


def self_expectations(population: Population, function: PointwiseFunction) -> tuple[Field, Field, Bounded]:
    """E f and E f^2 of every sample, and E f(g_a) f(g_b) of every pair, with its error bound."""
    own = expect(function, population.mean, np.sqrt(population.variance))
    return own.mean.value, own.second_moment.value, _symmetric(population, dual(function))


def slope_pairs(node: Node, state: Covariance) -> Pairs:
    """E f'(x_a) f'(x_b) for every pair of samples: the factor on a gradient's covariance."""
    population = behind(state)
    slope = applied(population, slope_of(function_of(node)))
    own = expect(slope, population.mean, np.sqrt(population.variance)).second_moment.value
    if population.plain and uniform(population) and np.all(np.asarray(population.scale) == 1.0):
        own = expect(function_of(node), population.mean, np.sqrt(population.variance)).slope_second_moment.value
    return population.layout.with_diagonal(_symmetric(population, dual(slope)).value, own)


def mean_slopes(node: Node, state: Covariance, stein: bool = False) -> Field:
    """E f'(x) of every sample; with `stein` also what jumps contribute, so that Cov(f(x), b) = this * Cov(x, b)."""
    population = behind(state)
    std = np.sqrt(population.variance)
    slope = expect(applied(population, slope_of(function_of(node))), population.mean, std).mean.value
    return slope + (jump_density(function_of(node), population.mean, std) if stein else 0.0)


def between(first: Population, second: Population, covariance: Pairs, f: Any = None, g: Any = None) -> Pairs:
    """E f(a) g(b) for samples a of one population and b of another, whose Gaussians have this covariance (N, M).

    `f`, `g`: pointwise functions of the channels (default: the channels themselves).
    """
    left = applied(first, f) if f is not None else channel(first)
    right = applied(second, g) if g is not None else channel(second)
    one, other = first.layout, second.layout
    variance, mean = (
        (one.first(first.variance), other.second(second.variance)),
        (one.first(first.mean), other.second(second.mean)),
    )
    found = _product(left, right).kernel(variance[0], variance[1], covariance, mean[0], mean[1]).value
    if f is None and g is None:
        found = _rescaled(first, second, left, right, found)
    return found


def channel(population: Population) -> PointwiseFunction:
    """The function since the Gaussian, scale and shift apart."""
    chain: PointwiseFunction = population.chain[0] if population.chain else IDENTITY
    return chain


def _rescaled(first: Population, second: Population, f: Any, g: Any, found: Pairs) -> Pairs:
    """From E f(a) g(b) to the same of scale*f + shift."""
    s, t = (first.layout.first(np.broadcast_to(x, first.mean.shape)) for x in (first.scale, first.shift))
    u, w = (second.layout.second(np.broadcast_to(x, second.mean.shape)) for x in (second.scale, second.shift))
    if not (np.any(t) or np.any(w)):
        return s * u * found
    mean_f = first.layout.first(expect(f, first.mean, np.sqrt(first.variance)).mean.value)
    mean_g = second.layout.second(expect(g, second.mean, np.sqrt(second.variance)).mean.value)
    return s * u * found + s * mean_f * w + t * u * mean_g + t * w


def _product(f: PointwiseFunction, g: PointwiseFunction) -> PairDual:
    return pair(f, g)


def _symmetric(population: Population, product: PairDual) -> Bounded:
    """E f f over all pairs of different samples (the diagonal holds nothing: at correlation 1 it would cost most).

    What depends on one sample alone is done once, since variances come as column and row.
    """
    layout = population.layout
    if layout.count < 2:
        return Bounded(np.zeros(layout.shape), np.zeros(()))
    variance, mean = population.variance, population.mean

    def found(layout: Any, covariance: Pairs) -> Bounded:
        means = (layout.first(mean), layout.second(mean)) if mean.any() else (0.0, 0.0)
        second = layout.second(variance)
        if isinstance(layout, BandPairs):  # no sample is there, and a larger variance than any would ask for more terms
            second = np.where(layout.inside > 0, second, variance.max())
        return product.kernel(layout.first(variance), second, covariance, *means)

    covariance = layout.with_diagonal(population.covariance, np.zeros(layout.field_shape))
    if not isinstance(layout, BandPairs):
        return found(layout, covariance)
    # a series that does not converge is repaired pair by pair, so many in a call: those are not cut small
    most = covariance.size // 6 if product.method == "series" else 0
    value, error = np.empty(layout.shape), 0.0
    for part, some in layout.halves(most):
        value[:, :, part], bound = found(some, covariance[:, :, part])
        error = max(error, float(np.max(bound, initial=0.0)))
    layout.mirror(value)
    return Bounded(value, np.asarray(error))


def _relative(found: Bounded, second: Field) -> float:
    scale = float(np.max(second)) if np.size(second) else 0.0
    return float(np.max(found.error)) / scale if scale > 0 and np.size(found.error) else 0.0


def _constant(value: float) -> PointwiseFunction:
    return pointwise(exact(value) + 0 * X, name="shift")
