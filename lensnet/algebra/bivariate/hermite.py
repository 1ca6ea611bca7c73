"""Mehler series: E f(u) g(v) = sum over k of a_k b_k rho**k, for any two functions.

a_k = E f(mean + std*z) h_k(z) with the orthonormal Hermite polynomials h_k. After the terms up to K, Cauchy and Schwarz
bound the rest by |rho|**(K+1) * sqrt(A B) with A = E f**2 - sum a_k**2 (Parseval), and B likewise: a bound, not an
estimate. Smooth functions need a few dozen terms; a kink leaves A of order K**-1.5, a jump K**-0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.bivariate.law import Law
from lensnet.algebra.gaussian import expect
from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.algebra.quadrature import mesh_of

Array = NDArray[np.float64]

MOST_TERMS = 512
_FIRST_TERMS = 96
_NODES = 32
_REACH = 13.0
_CHUNK = 40_000
"""Nodes at a time."""
_ENOUGH = 1e-15
_EPS = 4.0 * np.finfo(float).eps
_MOST_KEPT = 4096


@dataclass(frozen=True)
class Series:
    """Hermite coefficients of f(mean + std*z) for several inputs.

    Attributes:
        coefficients: (K+1, n).
        rest: E f**2 minus the sum of the squares, (n,), at least the rounding of that difference.
        power: E f**2, (n,).
        error: of the coefficients, root of the sum of squares, (n,).
        largest: size of each coefficient at most, over the inputs, (K+1,).
    """

    coefficients: Array
    rest: Array
    power: Array
    error: Array
    largest: Array


def series_of(function: PointwiseFunction, mean: Array, variance: Array, terms: int) -> Series:
    """The coefficients 0 .. terms of each (mean, variance); 1-d arrays. Kept with the function."""
    kept: dict[tuple[float, float, int], tuple[Array, float, float, float]] = function.tables.setdefault("hermite", {})
    if mean.size and np.all(mean == mean[0]):
        variances, inverse = np.unique(variance, return_inverse=True)
        different = np.stack([np.full(variances.shape, mean[0]), variances], axis=1)
    else:
        different, inverse = np.unique(np.stack([mean, variance], axis=1), axis=0, return_inverse=True)
    keys = [(float(m), float(v), terms) for m, v in different]
    missing = [index for index, key in enumerate(keys) if key not in kept]
    if missing:
        if len(kept) > _MOST_KEPT:
            kept.clear()
            missing = list(range(len(keys)))
        found = _computed(function, different[missing, 0], np.sqrt(different[missing, 1]), terms)
        for place, index in enumerate(missing):
            kept[keys[index]] = tuple(part[..., place] for part in found)  # type: ignore[assignment]
    parts = [kept[key] for key in keys]
    rows = [np.stack([np.asarray(part[row]) for part in parts], axis=-1) for row in range(4)]
    largest = np.max(np.abs(rows[0]), axis=1, initial=0.0)
    coefficients, rest, power, error = (row[..., inverse.ravel()] for row in rows)
    return Series(coefficients, rest, power, error, largest)


def product(f: PointwiseFunction, g: PointwiseFunction, law: Law, tolerance: float) -> tuple[Array, Array, Array]:
    """E f(u) g(v) over arrays that broadcast, its error bound, and sqrt(E f**2 E g**2), which it cannot exceed.

    The number of terms is doubled until the bound is below `tolerance` times the root of E f**2 E g**2 for every pair,
    or the most terms are reached: then the bound says what is left.
    """
    mean1, mean2 = (np.zeros(()) if mean is None else mean for mean in (law.mean1, law.mean2))
    rho = _correlation(law)
    terms = _FIRST_TERMS
    while True:
        a = shaped_series(f, mean1, law.k11, terms, rho.ndim)
        b = shaped_series(g, mean2, law.k22, terms, rho.ndim)
        scale = np.sqrt(a.power) * np.sqrt(b.power)
        left = np.sqrt(a.rest) * np.sqrt(b.rest)
        used = _needed(a, b, float(np.max(np.abs(rho), initial=0.0)))
        with np.errstate(invalid="ignore"):  # a function without a finite power: 0 * inf, which the scale tells
            bound = np.abs(rho) ** (terms + 1) * left
        if terms >= MOST_TERMS or np.all(bound <= tolerance * scale) or not np.all(np.isfinite(scale)):
            break
        terms = min(2 * terms, MOST_TERMS)
    value = _summed(a.coefficients[: used + 1], b.coefficients[: used + 1], rho)
    error = bound + _EPS * scale + a.error * np.sqrt(b.power) + b.error * np.sqrt(a.power)
    return value, np.broadcast_to(error, value.shape), scale


def shaped_series(function: PointwiseFunction, mean: Array, variance: Array, terms: int, ndim: int = 0) -> Series:
    """`series_of` for arrays of any shape, filled up to `ndim` axes: coefficients (K+1, *shape)."""
    means, variances = np.broadcast_arrays(mean, variance)
    shape = (1,) * (ndim - means.ndim) + means.shape
    found = series_of(function, means.ravel(), variances.ravel(), terms)
    rest, power, error = (row.reshape(shape) for row in (found.rest, found.power, found.error))
    return Series(found.coefficients.reshape(-1, *shape), rest, power, error, found.largest)


def _correlation(law: Law) -> Array:
    size = np.sqrt(law.k11) * np.sqrt(law.k22)
    with np.errstate(all="ignore"):
        return np.asarray(np.where(size > 0, law.k12 / np.where(size > 0, size, 1.0), 0.0))


def _needed(a: Series, b: Series, largest: float) -> int:
    """The last term that can matter to rounding."""
    sizes = a.largest * b.largest
    with np.errstate(under="ignore"):
        sizes = sizes * largest ** np.arange(sizes.size)
    after = np.cumsum(sizes[::-1])[::-1]
    keep = np.flatnonzero(after > 1e-17 * after[0]) if after[0] > 0 else np.zeros(1, dtype=np.intp)
    return int(keep[-1]) if keep.size else 0


def _summed(a: Array, b: Array, rho: Array) -> Array:
    """Horner's rule in rho; for odd and even functions every other coefficient is 0 and is skipped."""
    terms = a.shape[0]
    parts = []
    live = [bool(np.any(a[start::2]) and np.any(b[start::2])) for start in (0, 1)]
    step = 1 if all(live) else 2
    square = rho if step == 1 else rho * rho
    for start in (0,) if step == 1 else (0, 1):
        if step == 2 and not live[start]:
            continue
        places = range(start, terms, step)
        total = np.zeros(np.broadcast_shapes(a.shape[1:], b.shape[1:], rho.shape))
        for k in reversed(places):
            total *= square
            total += a[k] * b[k]
        if start == 1:
            total *= rho
        parts.append(total)
    if not parts:
        return np.zeros(np.broadcast_shapes(a.shape[1:], b.shape[1:], rho.shape))
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _computed(function: PointwiseFunction, mean: Array, std: Array, terms: int) -> tuple[Array, Array, Array, Array]:
    """Coefficients, rest, E f**2 and the error of the coefficients in the root of the sum of squares."""
    coefficients = np.zeros((terms + 1, mean.size))
    resolved = np.zeros(mean.size)
    spread = std > 0
    where = np.flatnonzero(spread)
    # h_k turns as fast as exp(i*sqrt(k)*z): a panel holds what 32 nodes resolve of it
    step = min(3.0, 36.0 / np.sqrt(terms + 1.0))
    for start in range(0, where.size, 64):
        members = where[start : start + 64]
        coefficients[:, members], resolved[members] = _projected(function, mean[members], std[members], terms, step)
    moments = expect(function, mean, std)
    power, error = moments.second_moment.value, moments.second_moment.error
    fixed = ~spread
    coefficients[0, fixed] = function(mean[fixed]) if fixed.any() else 0.0
    with np.errstate(invalid="ignore"):
        missing = power - np.sum(coefficients * coefficients, axis=0)
        rest = np.where(fixed, 0.0, np.maximum(missing, 0.0) + _EPS * power + error)
        # both integrate f**2, on different panels: what they differ by bounds the quadrature of f*h_k
        wrong = np.where(fixed, 0.0, np.abs(resolved - power) / np.sqrt(np.maximum(power, 1e-300)))
    return coefficients, rest, power, _EPS * np.sqrt(power) + wrong


def _projected(function: PointwiseFunction, mean: Array, std: Array, terms: int, step: float) -> tuple[Array, Array]:
    """E f(mean + std*z) h_k(z) for k up to `terms`, and E f**2 on the same nodes."""
    ends = mesh_of(function).ends(float(np.min(mean - _REACH * std)), float(np.max(mean + _REACH * std)))
    grid = np.arange(-_REACH, _REACH + step / 2, step)
    z = np.clip((ends - mean[:, None]) / std[:, None], -_REACH, _REACH)
    z = np.sort(np.concatenate([z, np.broadcast_to(grid, (mean.size, grid.size))], axis=1), axis=1)
    owner, place = np.nonzero(z[:, 1:] > z[:, :-1])
    low, high = z[owner, place], z[owner, place + 1]
    nodes, weights = _rule()
    half = 0.5 * (high - low)[:, None]
    at = (0.5 * (high + low)[:, None] + half * nodes).ravel()
    owner = np.repeat(owner, _NODES)
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    values = function(mean[owner] + std[owner] * at)
    weight = (half * weights).ravel() * np.exp(-0.25 * at * at) / np.sqrt(2.0 * np.pi)
    values = np.where(weight == 0.0, 0.0, values)
    # Hermite functions: the polynomials with the other half of the density, so that neither overflows
    now, before = np.exp(-0.25 * at * at), np.zeros_like(at)
    square = np.add.reduceat(weight * now * values * values, starts)
    values *= weight
    result = np.empty((terms + 1, mean.size))
    for k in range(terms + 1):
        result[k] = np.add.reduceat(values * now, starts)
        now, before = (at * now - np.sqrt(float(k)) * before) / np.sqrt(k + 1.0), now
    return result, square


@lru_cache(maxsize=1)
def _rule() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights
