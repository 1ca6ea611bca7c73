"""Mehler series: E f(u) g(v) = sum over k of a_k b_k rho**k, for any two functions.

a_k = E f(mean + std*z) h_k(z) with the orthonormal Hermite polynomials h_k. After the terms up to K, Cauchy and Schwarz
bound the rest by |rho|**(K+1) * sqrt(A B) with A = E f**2 - sum a_k**2 (Parseval), and B likewise: a bound, not an
estimate. Smooth functions need a few dozen terms; a kink leaves A of order K**-1.5, a jump K**-0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.bivariate.coefficients import EPS, coefficients_of
from lensnet.algebra.bivariate.law import Law
from lensnet.algebra.pointwise import PointwiseFunction

Array = NDArray[np.float64]

MOST_TERMS = 512
_FIRST_TERMS = 96
_AT_ONCE = 1 << 16
"""Pairs that are summed together: what the terms are added to stays in the processor's cache."""


@dataclass(frozen=True)
class Series:
    """Hermite coefficients of f(mean + std*z) for several inputs.

    Attributes:
        distinct: coefficients of the different inputs, (K+1, different ones).
        index: which of them each input is, (n,).
        rest: E f**2 minus the sum of the squares, (n,), at least the rounding of that difference.
        power: E f**2, (n,).
        error: of the coefficients, root of the sum of squares, (n,).
    """

    distinct: Array
    index: NDArray[np.intp]
    rest: Array
    power: Array
    error: Array

    @property
    def coefficients(self) -> Array:
        """Of every input, (K+1, n)."""
        return self.distinct[:, self.index]

    def first(self, count: int) -> Array:
        """The first `count` of the coefficients of every input."""
        return self.distinct[:count, self.index]

    @cached_property
    def largest(self) -> Array:
        """Size of each coefficient at most, over the inputs, (K+1,)."""
        return np.asarray(np.max(np.abs(self.distinct), axis=1, initial=0.0))

    @property
    def share(self) -> float:
        """The root of the largest share that the rest has in the power, over the inputs."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.max(np.sqrt(np.where(self.rest > 0, self.rest / self.power, 0.0)), initial=0.0))


def series_of(function: PointwiseFunction, mean: Array, variance: Array, terms: int) -> Series:
    """The coefficients 0 .. terms of each (mean, variance); 1-d arrays. Kept with the function."""
    if mean.size and np.all(mean == mean[0]):
        variances, inverse = np.unique(variance, return_inverse=True)
        different = np.full(variances.shape, mean[0]), variances
    else:
        pairs, inverse = np.unique(np.stack([mean, variance]), axis=1, return_inverse=True)
        different = pairs[0], pairs[1]
    distinct, rest, power, error = coefficients_of(function, *different, terms)
    inverse = inverse.ravel()
    return Series(distinct, inverse, rest[inverse], power[inverse], error[inverse])


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
            # powers of every correlation cost much, and are not needed where the rest is small at correlation 1 too
            bound = left if a.share * b.share <= tolerance else np.abs(rho) ** (terms + 1) * left
        if terms >= MOST_TERMS or np.all(bound <= tolerance * scale) or not np.all(np.isfinite(scale)):
            break
        terms = min(2 * terms, MOST_TERMS)
    value = _summed(a.first(used + 1), b.first(used + 1), rho)
    error = bound + EPS * scale + a.error * np.sqrt(b.power) + b.error * np.sqrt(a.power)
    return value, np.broadcast_to(error, value.shape), scale


def shaped_series(function: PointwiseFunction, mean: Array, variance: Array, terms: int, ndim: int = 0) -> Series:
    """`series_of` for arrays of any shape, filled up to `ndim` axes: coefficients (K+1, *shape)."""
    means, variances = np.broadcast_arrays(mean, variance)
    shape = (1,) * (ndim - means.ndim) + means.shape
    found = series_of(function, means.ravel(), variances.ravel(), terms)
    rest, power, error = (row.reshape(shape) for row in (found.rest, found.power, found.error))
    return Series(found.distinct, found.index.reshape(shape), rest, power, error)


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
    """sum over k of a_k b_k rho**k, some pairs at a time; coefficients have all axes of the pairs, behind theirs."""
    live = [bool(np.any(a[start::2]) and np.any(b[start::2])) for start in (0, 1)]
    out = np.zeros(np.broadcast_shapes(a.shape[1:], b.shape[1:], rho.shape))
    if any(live):
        _sum_into(out, a, b, np.broadcast_to(rho, out.shape), live)
    return out


def _sum_into(out: Array, a: Array, b: Array, rho: Array, live: list[bool]) -> None:
    if out.size > _AT_ONCE and out.ndim:
        rows = max(1, _AT_ONCE * len(out) // out.size)
        for start in range(0, len(out), rows):
            part: Any = slice(start, start + rows) if rows > 1 or out.ndim == 1 else start
            _sum_into(out[part], _along(a, part), _along(b, part), rho[part], live)
        return
    if all(live):
        _horner(out, a, b, rho)
        return
    # for odd and even functions every other coefficient is 0 and is skipped
    start = live.index(True)
    _horner(out, a[start::2], b[start::2], rho * rho)
    if start:
        out *= rho


def _along(coefficients: Array, part: Any) -> Array:
    if coefficients.shape[1] > 1:
        return coefficients[:, part]
    return coefficients if isinstance(part, slice) else coefficients[:, 0]


def _horner(out: Array, a: Array, b: Array, x: Array) -> None:
    term = np.empty_like(out)
    for k in reversed(range(len(a))):
        out *= x
        out += np.multiply(a[k], b[k], out=term)
