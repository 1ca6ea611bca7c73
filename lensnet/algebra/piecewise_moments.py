"""Gaussian averages of piecewise polynomials, from truncated moments of the normal distribution."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.normal import ndtr
from lensnet.algebra.pieces import Coefficients

Array = NDArray[np.float64]
Form = Callable[[Array, Array], tuple[Array, Array]]
"""(mean, std) -> averages of f, f**2, f', f'**2, x*f and their errors, both of shape (5, n); std > 0."""

_EPS = 4 * np.finfo(float).eps


def piecewise_form(breaks: tuple[float, ...], polynomials: tuple[Coefficients, ...], degree: int | None) -> Form:
    """The form of a piecewise polynomial; one that is homogeneous of a degree scales at mean 0: c*std**degree."""
    unit, unit_error = piecewise_polynomial(breaks, polynomials, np.zeros(1), np.ones(1))

    def form(mean: Array, std: Array) -> tuple[Array, Array]:
        if degree is None or mean.any():
            return piecewise_polynomial(breaks, polynomials, mean, std)
        scale = np.stack([std**power for power in (degree, 2 * degree, degree - 1, 2 * degree - 2, degree + 1)])
        return unit * scale, 2.0 * unit_error * scale

    return form


def piecewise_polynomial(
    breaks: tuple[float, ...], polynomials: tuple[Coefficients, ...], mean: Array, std: Array
) -> tuple[Array, Array]:
    """Averages of a function that is a polynomial between each two breaks (coefficients in x, constant first)."""
    value, error = np.zeros((5, mean.size)), np.zeros((5, mean.size))
    edges = [None, *((point - mean) / std for point in breaks), None]
    for low, high, polynomial in zip(edges[:-1], edges[1:], polynomials, strict=True):
        if not any(polynomial):
            continue
        f = _standardised(polynomial, mean, std)
        slope = _standardised(tuple(j * c for j, c in enumerate(polynomial))[1:] or (0.0,), mean, std)
        x = [mean, std]
        moments, sizes = _truncated_moments(low, high, 2 * len(polynomial), mean.size)
        for row, integrand in enumerate((f, _times(f, f), slope, _times(slope, slope), _times(x, f))):
            for j, coefficient in enumerate(integrand):
                value[row] += coefficient * moments[j]
                error[row] += np.abs(coefficient) * sizes[j]
    return value, _EPS * error


def _standardised(polynomial: Coefficients, mean: Array, std: Array) -> list[Array]:
    """Coefficients in z of the polynomial at mean + std*z (Taylor coefficients at the mean, by Horner's scheme)."""
    work: list[Array] = [np.full(mean.shape, c) for c in polynomial]
    degree = len(work) - 1
    for start in range(degree):
        for j in range(degree - 1, start - 1, -1):
            work[j] = work[j] + mean * work[j + 1]
    scale = np.ones_like(std)
    for j in range(1, degree + 1):
        scale = scale * std
        work[j] = work[j] * scale
    return work


def _times(first: list[Array], second: list[Array]) -> list[Array]:
    result: list[Array] = [np.zeros(1)] * (len(first) + len(second) - 1)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            result[i + j] = result[i + j] + a * b
    return result


def _truncated_moments(low: Array | None, high: Array | None, count: int, size: int) -> tuple[list[Array], list[Array]]:
    """Integrals of z**j times the normal density over (low, high), None = infinite, for j < count; and the sizes of
    the terms that were added, for the rounding error.

    Integration by parts: I_j = (j-1)*I_(j-2) + low**(j-1)*phi(low) - high**(j-1)*phi(high).
    """
    if low is None and high is None:
        mass = np.ones(size)
    elif low is None:
        mass = ndtr(high)
    elif high is None:
        mass = ndtr(-low)
    else:
        # both differences are exact where their terms are small: take the one on the side of the interval
        upper, lower = ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low)
        mass = np.where(low + high > 0, upper, lower)
    # beyond 39 the density is 0, and its products with powers of the edge must be too, not 0 times infinity
    low, high = (None if edge is None else np.clip(edge, -40.0, 40.0) for edge in (low, high))
    moments, sizes = [mass], [mass]
    boundary = [(edge, sign, _density(edge)) for edge, sign in ((low, 1.0), (high, -1.0)) if edge is not None]
    # an edge is rounded too: that moves the integral by edge**2 times the terms below
    boundary_size = [density * (1.0 + edge * edge) for edge, _, density in boundary]
    for term in boundary_size:
        sizes[0] = sizes[0] + term
    for j in range(1, count):
        moment = (j - 1) * moments[j - 2] if j > 1 else np.zeros(size)
        added = (j - 1) * sizes[j - 2] if j > 1 else np.zeros(size)
        for index, (edge, sign, density) in enumerate(boundary):
            moment = moment + density if sign > 0 else moment - density
            added = added + boundary_size[index]
            if j + 1 < count:
                boundary[index] = (edge, sign, density * edge)
                boundary_size[index] = boundary_size[index] * np.abs(edge)
        moments.append(moment)
        sizes.append(added)
    return moments, sizes


def _density(z: Array) -> Array:
    """Normal density; 0 beyond 39."""
    return np.where(np.abs(z) > 39.0, 0.0, np.exp(-0.5 * z * z)) / math.sqrt(2 * math.pi)
