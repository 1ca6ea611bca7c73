"""Averages of pointwise functions over Gaussian inputs: what an activation does to mean and second moment.

    moments = expect(relu, mean, std)              # fields of any shape, broadcast
    moments.second_moment.value, moments.second_moment.error
    cross_moment(identity, relu, mean, std)        # E[f(x) g(x)]: branches of one input that meet

Closed forms where the function has one, else quadrature, else (very many different pairs) interpolation of quadrature.
Every number carries an error estimate.

Derivatives are those almost everywhere: E f'**2 of a step is 0, as autograd measures it. The gradient that a jump hides
from autograd is `jump_density`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensnet.algebra.closed_forms import closed_form
from lensnet.algebra.mesh import SMALLEST
from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.algebra.quadrature import INTEGRANDS, REACH, integrate
from lensnet.algebra.singularities import FIRST, SQUARE, has_no_average
from lensnet.algebra.table import interpolate, relative_scale

Array = NDArray[np.float64]

_DIRECT, _DIRECT_ONE_MEAN = 1500, 48
"""Up to so many different pairs are integrated one by one; more are interpolated. A table for one mean is cheap."""
_BLOCK = 8192
"""Pairs that a closed form handles at a time, so that its intermediates stay in the cache."""
_CLOSED_FORM_LOSS = 1e-9
"""A closed form that loses more than this to cancellation is replaced by quadrature."""


@dataclass(frozen=True)
class Expectation:
    """An average and an estimate of its absolute error, arrays of one shape."""

    value: Array
    error: Array


@dataclass(frozen=True)
class GaussianMoments:
    """Averages over x ~ N(mean, std**2).

    Attributes:
        mean: E f(x).
        second_moment: E f(x)**2.
        slope_mean: E f'(x).
        slope_second_moment: E f'(x)**2: the factor on the second moment of a gradient.
        cross: E x*f(x).
    """

    mean: Expectation
    second_moment: Expectation
    slope_mean: Expectation
    slope_second_moment: Expectation
    cross: Expectation


_NEGLIGIBLE = 1e-12


def expect(function: PointwiseFunction, mean: ArrayLike, std: ArrayLike) -> GaussianMoments:
    """The averages of a function, elementwise over fields of means and standard deviations.

    std = 0 is exact: f(mean), f(mean)**2; a slope at a kink is then the average of both sides (the limit of std -> 0).
    Non-finite means or stds give nan.

    Raises:
        ValueError: a standard deviation is negative.
    """
    means, stds = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64))
    shape = means.shape
    m, s = means.ravel(), stds.ravel()
    spread = np.isfinite(m) & np.isfinite(s) & (s > 0)
    if spread.size and spread.all():
        value, error = _spread(function, m, s)
        _mark_infinite(function, m, s, value, error)
    else:
        value, error = _some_spread(function, m, s, spread)
    pairs = zip(value, error, strict=True)
    return GaussianMoments(*(Expectation(v.reshape(shape), e.reshape(shape)) for v, e in pairs))


def _some_spread(
    function: PointwiseFunction, mean: Array, std: Array, spread: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """The averages where some stds are 0 or no number. Raises ValueError for one that is negative."""
    if np.any(std < 0):
        raise ValueError(f"a standard deviation is negative: {std.min()}")
    value, error = np.full((INTEGRANDS, mean.size), np.nan), np.full((INTEGRANDS, mean.size), np.nan)
    if spread.any():
        value[:, spread], error[:, spread] = _spread(function, mean[spread], std[spread])
    _mark_infinite(function, mean, np.where(spread, std, 0.0), value, error)
    fixed = np.isfinite(mean) & (std == 0)
    if fixed.any():
        value[:, fixed] = _fixed(function, mean[fixed])
        error[:, fixed] = 0.0
    return value, error


def _mark_infinite(function: PointwiseFunction, mean: Array, std: Array, value: Array, error: Array) -> None:
    """Averages that do not exist, of functions or slopes with a pole: infinite squares, and means that are no number.

    Wherever the pole lies within the reach of the quadrature.
    """
    for point, of_value, of_slope in function.growths:
        near = np.abs(point - mean) < REACH * std
        for row, exponent in ((0, of_value), (2, of_slope)):
            if has_no_average(exponent, FIRST):
                value[row, near], error[row, near] = np.nan, np.inf
            if has_no_average(exponent, SQUARE):
                value[row + 1, near], error[row + 1, near] = np.inf, 0.0
            elif exponent > 0:  # the smallest panel does not reach the pole
                missing = SMALLEST ** (1 - 2 * exponent)
                error[row + 1, near] += np.abs(value[row + 1, near]) * missing / (1 - missing)


def jump_density(function: PointwiseFunction, mean: ArrayLike, std: ArrayLike) -> Array:
    """What the jumps contribute to the mean derivative: sum of height * density of x at the jump.

    E f' of `expect` is almost everywhere, hence 0 for a step; this term completes it, so that
    E[(x - mean) f(x)] = std**2 * (E f' + jump_density) (Stein's lemma). 0 for continuous functions and for std = 0.
    """
    m, s = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64))
    density = np.zeros(m.shape)
    safe = np.where(s > 0, s, 1.0)
    for position, height in function.jumps:
        with np.errstate(over="ignore"):
            z = (position - m) / safe
            density += height * np.where(s > 0, np.exp(-0.5 * z * z) / (np.sqrt(2 * np.pi) * safe), 0.0)
    return density


def _spread(function: PointwiseFunction, mean: Array, std: Array) -> tuple[Array, Array]:
    form = closed_form(function)
    if form is None:
        return _integrated(function, mean, std)
    with np.errstate(all="ignore"):
        if mean.size <= _BLOCK:
            value, error = form(mean, std)
        else:
            blocks = [slice(start, start + _BLOCK) for start in range(0, mean.size, _BLOCK)]
            parts = [form(mean[block], std[block]) for block in blocks]
            value, error = (np.concatenate(rows, axis=1) for rows in zip(*parts, strict=True))
        kept = error <= _CLOSED_FORM_LOSS * relative_scale(value, mean, std)
        if kept.all():
            return value, error
        # infinite second moments (exp at a large std) are answers, not losses; and what is nothing beside the rest
        # of the field (relu ten std below its kink) needs no digits of its own
        known = np.where(error[1] < 1e-3 * np.abs(value[1]), value[1], 0.0)
        lost = ~np.all(kept, axis=0) & ~np.any(np.isinf(value), axis=0)
        lost &= ~(np.abs(value[1]) + error[1] < _NEGLIGIBLE * np.max(known))
    if lost.any():
        other, other_error = _integrated(function, mean[lost], std[lost])
        # beyond 12 std quadrature sees nothing; the closed form still does
        better = (other_error < error[:, lost]) & ((other != 0.0) | (np.abs(value[:, lost]) <= error[:, lost]))
        value[:, lost] = np.where(better, other, value[:, lost])
        error[:, lost] = np.where(better, other_error, error[:, lost])
    return value, error


def _integrated(function: PointwiseFunction, mean: Array, std: Array) -> tuple[Array, Array]:
    """Quadrature of each different pair, or of the nodes of a table when there are too many."""
    direct = _DIRECT_ONE_MEAN if np.all(mean == mean[0]) else _DIRECT
    if mean.size <= 8:
        return integrate(function, mean, std)
    if mean.size > 4 * direct:
        sample = np.linspace(0, mean.size - 1, 2 * direct).astype(np.intp)
        if np.unique(mean[sample] + 1j * std[sample]).size > direct:
            return interpolate(function, mean, std)
    pairs, inverse = np.unique(mean + 1j * std, return_inverse=True)
    method = integrate if pairs.size <= direct else interpolate
    value, error = method(function, np.ascontiguousarray(pairs.real), np.ascontiguousarray(pairs.imag))
    return value[:, inverse], error[:, inverse]


def _fixed(function: PointwiseFunction, mean: Array) -> Array:
    """The averages at std = 0."""
    value = function(mean)
    points = np.array(function.kinks.points)
    kink = np.isin(mean, points)
    step = np.where(kink, np.where(mean == 0.0, 1e-60, 64.0 * np.spacing(np.abs(mean))), 0.0)
    left, right = function.derivative(mean - step), function.derivative(mean + step)
    return np.stack([value, value**2, (left + right) / 2, (left**2 + right**2) / 2, mean * value])
