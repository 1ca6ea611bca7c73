"""Exact moments of the softmax of n independent Gaussian logits, by deterministic quadrature.

With a = softmax(l), l_j iid N(0, v), every average that lensnet needs is one of a product of power sums

    P(r, s) = sum_j a_j^r l_j^s.

Expanding the product over distinct indices and writing 1/S^R = integral u^(R-1) exp(-u S) du / Gamma(R) for the
normalisation S = sum_j exp(l_j) makes the logits independent again, so that each average is a one-dimensional integral

    E prod_m P(r_m, s_m) = sum over set partitions of the factors  n (n-1) ... (n-k+1)
                           * integral dy/Gamma(R) prod_blocks f(r, s; y) f(0, 0; y)^(n-k),      u = exp(y), k blocks,
    f(r, s; y) = E[exp(r (l + y)) l^s exp(-exp(l + y))],   l ~ N(0, v),   R = sum r_m,

valid at every n and v: no large-n expansion, no freezing condition. Both integrals are trapezoidal sums of analytic
functions (relative error below 1e-6, see the tests). `v` may be any array: the functions of v are tabulated on
Chebyshev nodes in sqrt(v).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from math import gamma, log, pi, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensnet.algebra.mixing.chebyshev import interpolation, nodes, range_of
from lensnet.algebra.mixing.scatter import gamma_nodes
from lensnet.algebra.special import special

Array = NDArray[np.float64]
Factor = tuple[int, int]

LARGEST_VARIANCE = 64.0
_STEP = 0.3  # of log u and of the logit: the trapezoidal error is about exp(-pi^2 / step)
_SMALLEST_ROOT = 3e-3


@dataclass(frozen=True)
class SoftmaxMoments:
    """Averages over n iid N(0, v) logits l, with a = softmax(l), J = diag(a) - a a^T. Arrays of one common shape.

    Those that vanish with v are divided by the power of v that keeps them finite.
    """

    square_sum: Array  # E sum a^2
    cube_sum: Array  # E sum a^3
    square_sum_squared: Array  # E (sum a^2)^2
    mean_logit: Array  # E (sum a l)^2 / v
    jacobian: Array  # E tr J^2
    jacobian_trace: Array  # E (tr J)^2
    slope: Array  # E |J l|^2 / v
    curvature: Array  # E (l^T J l)^2 / v^2
    drift: Array  # E a^T J l / v
    skew: Array  # E (l^T J l) (a^T l) / v^2


# 1/n + v + ... has a branch point of its logarithm near v = 0: it is tabulated as 1 + itself
_OFFSETS = np.array([1.0 if field.name == "mean_logit" else 0.0 for field in fields(SoftmaxMoments)])


class LogitIntegrals:
    """The integrals f(r, s; y) of one variance on a grid of y, and averages of products of power sums built of them."""

    def __init__(self, variance: float, counts: Array) -> None:
        self.counts = counts
        deviation = sqrt(variance)
        step = min(0.4, _STEP / max(deviation, 1e-300))
        z = np.arange(-9.0, 9.0 + step, step)
        weight = np.exp(-z * z / 2)
        self._weight = weight / weight.sum()
        self._logit = deviation * z
        # S lies between exp(-9 sd) and n exp(sd (sqrt(2 log n) + 7)) up to a probability of 1e-12
        most = log(max(counts.max(), 1.0))
        y = np.arange(-most - deviation * (sqrt(2 * most) + 7) - 17, 9 * deviation + 4, _STEP)
        self.grid = y
        self._sum = y[:, None] + self._logit
        self._load = np.exp(np.minimum(self._sum, 50.0))
        self._decay = np.exp(-self._load)
        self._integrals: dict[Factor, Array] = {}
        self._powers: dict[int, Array] = {}

    def integral(self, factor: Factor) -> Array:
        """f(r, s; y) on the grid of y."""
        if factor not in self._integrals:
            r, s = factor
            self._integrals[factor] = np.exp(r * self._sum - self._load) @ (self._weight * self._logit**s)
        return self._integrals[factor]

    def rest(self, used: int) -> Array:
        """f(0, 0; y)^(n - used), shape (counts, y)."""
        if used not in self._powers:
            whole = self._decay @ self._weight
            near_one = np.expm1(-self._load) @ self._weight
            logarithm = np.where(whole > 0.5, np.log1p(np.maximum(near_one, -0.9)), np.log(np.maximum(whole, 1e-300)))
            self._powers[used] = np.exp(np.maximum(self.counts - used, 0.0)[:, None] * logarithm)
        return self._powers[used]

    def average(self, *factors: Factor) -> Array:
        """E prod_m P(r_m, s_m) for every count n."""
        total = np.zeros(self.counts.shape)
        for blocks in set_partitions(factors):
            falling = np.prod([np.maximum(self.counts - i, 0.0) for i in range(len(blocks))], axis=0)
            merged = [(sum(r for r, _ in block), sum(s for _, s in block)) for block in blocks]
            product = np.prod([self.integral(factor) for factor in merged], axis=0)
            total += falling * (self.rest(len(blocks)) @ product)
        return total * _STEP / gamma(sum(r for r, _ in factors))

    def log_sum(self) -> tuple[Array, Array]:
        """(mean, variance) of log sum_j exp(l_j) for every count n: with an exponential variable E of its own,
        P(log E - log S > y) = f(0, 0; y)^n, so that the density n f(1, 0; y) f(0, 0; y)^(n-1) has the mean -gamma less
        that of log S and the variance pi^2/6 more."""
        density = self.counts[:, None] * self.rest(1) * self.integral((1, 0)) * _STEP
        mean = density @ self.grid
        spread = (density * (self.grid - mean[:, None]) ** 2).sum(axis=1)
        return -np.euler_gamma - mean, np.maximum(spread - pi**2 / 6, 0.0)


def set_partitions(items: Sequence[Factor]) -> Iterator[list[list[Factor]]]:
    """All ways to put the items into unlabelled boxes."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for boxes in set_partitions(rest):
        yield [[first], *boxes]
        for i, box in enumerate(boxes):
            yield [*boxes[:i], [first, *box], *boxes[i + 1 :]]


def softmax_moments(variance: ArrayLike, count: ArrayLike) -> SoftmaxMoments:
    """All moments at logit variance `variance` with `count` terms (broadcast together, any shapes).

    A variance above LARGEST_VARIANCE (one logit wins almost surely) is read as that; NaN gives NaN. Raises ValueError
    for a negative variance or a count below one.
    """
    v, n = np.broadcast_arrays(np.asarray(variance, float), np.asarray(count, float))
    if np.any(v < 0):
        raise ValueError("a variance cannot be negative")
    if not np.all(n >= 1):
        raise ValueError("a softmax needs at least one term")
    counts, which = np.unique(n, return_inverse=True)
    unknown = np.isnan(v)
    v = np.where(unknown, 0.0, np.minimum(v, LARGEST_VARIANCE))
    top = range_of(v)
    table = _table(top, tuple(counts))
    weights = interpolation(np.where(unknown, np.nan, np.sqrt(v)).ravel(), top)
    values = np.exp(np.einsum("xk,fkx->fx", weights, table[:, :, which.ravel()]))
    values -= _OFFSETS[:, None]
    return SoftmaxMoments(*(row.reshape(v.shape) for row in values))


@lru_cache(maxsize=64)
def _table(top: float, counts: tuple[float, ...]) -> Array:
    """Logarithms of all moments on the Chebyshev nodes of sqrt(v) in [0, top]: shape (moments, nodes, counts).

    All are positive, or zero at a single term; as logarithms they keep their digits over many orders of magnitude.
    """
    n = np.array(counts)
    rows = [_moments_at(root**2, n) for root in np.maximum(nodes(top), _SMALLEST_ROOT)]
    values = np.array([[getattr(row, field.name) for row in rows] for field in fields(SoftmaxMoments)])
    values += _OFFSETS[:, None, None]
    return np.log(np.where((n > 1) | (values > 0.5), np.maximum(values, 1e-30), 1e-30))


def _moments_at(v: float, n: Array) -> SoftmaxMoments:
    average = LogitIntegrals(v, n).average
    a2, a3, al, a_l2, a2_l, a2_l2 = (2, 0), (3, 0), (1, 1), (1, 2), (2, 1), (2, 2)
    square, cube, square_squared = average(a2), average(a3), average(a2, a2)
    return SoftmaxMoments(
        square_sum=square,
        cube_sum=cube,
        square_sum_squared=square_squared,
        mean_logit=average(al, al) / v,
        jacobian=square - 2 * cube + square_squared,
        jacobian_trace=1 - 2 * square + square_squared,
        slope=(average(a2_l2) - 2 * average(a2_l, al) + average(a2, al, al)) / v,
        curvature=(average(a_l2, a_l2) - 2 * average(a_l2, al, al) + average(al, al, al, al)) / v**2,
        drift=(average(a2_l) - average(a2, al)) / v,
        skew=(average(a_l2, al) - average(al, al, al)) / v**2,
    )


@special("softmax_square_sum", 3, r"\mathbb{{E}}\textstyle\sum a^2\left({0}, {1}\right)")
def softmax_square_sum(variance: Array, count: Array, drawn: Array) -> Array:
    """E sum_j a_j^2 for the softmax a of `count` independent Gaussian logits: exact; exp(variance)/count when large.

    drawn: 1 when `variance` is that of the law, 0 when it was measured (biased) on these same logits.
    """
    return seen(lambda v: softmax_moments(v, count).square_sum, variance, count, drawn)


@special("softmax_jacobian", 3, r"\mathbb{{E}}\,\mathrm{{tr}}J^2\left({0}, {1}\right)")
def softmax_jacobian(variance: Array, count: Array, drawn: Array) -> Array:
    """E tr J^2 for the Jacobian J = diag(a) - a a^T of the softmax of `count` independent Gaussian logits: exact.

    drawn: as for softmax_square_sum.
    """
    return seen(lambda v: softmax_moments(v, count).jacobian, variance, count, drawn)


@special("log_sum_mean", 3, r"\mathbb{{E}}\log\textstyle\sum e^{{l}}\left({0}, {1}\right)")
def log_sum_mean(variance: Array, count: Array, drawn: Array) -> Array:
    """E log sum_j exp(l_j) of `count` independent Gaussian logits without mean: exact; log(count) + variance/2 when
    large. drawn: as for softmax_square_sum.
    """
    return seen(lambda v: _log_sum(v, count)[0], variance, count, drawn)


@special("log_sum_square", 3, r"\mathbb{{E}}(\log\textstyle\sum e^{{l}} - \bar l)^2\left({0}, {1}\right)")
def log_sum_square(variance: Array, count: Array, drawn: Array) -> Array:
    """E (log sum_j exp(l_j) - average l_j)^2 of the same logits: exact. drawn: as for softmax_square_sum."""

    def average(v: Array) -> Array:
        mean, spread = _log_sum(v, count)
        return mean**2 + np.maximum(spread - v / np.max(count), 0.0)

    return seen(average, variance, count, drawn)


def _log_sum(variance: Array, count: Array) -> tuple[Array, Array]:
    v = np.asarray(variance, float)
    known = np.minimum(np.where(np.isnan(v), 0.0, v), LARGEST_VARIANCE)
    top = range_of(known)
    at = interpolation(np.sqrt(known).ravel(), top)
    rows = _log_sum_rows(top, float(np.max(count)))
    mean, spread = (np.where(np.isnan(v), np.nan, (at @ row).reshape(v.shape)) for row in rows)
    return mean, spread


@lru_cache(maxsize=64)
def _log_sum_rows(top: float, count: float) -> Array:
    """Mean and variance of log sum exp on the Chebyshev nodes of sqrt(v) in [0, top], (2, nodes)."""
    one = np.array([count])
    rows = [LogitIntegrals(root**2, one).log_sum() for root in np.maximum(nodes(top), _SMALLEST_ROOT)]
    return np.array([[float(part[0]) for part in row] for row in rows]).T


def seen(average: Callable[[Array], Array], variance: Array, count: Array, drawn: Array) -> Array:
    """`average` at a variance of the law, or what it is on logits whose sample variance is known.

    In the second case some f gives E f(sample variance) = average(variance), where the sample variance scatters like a
    chi-square of count - 1 degrees of freedom. With A the average over that scatter, f is the sum over n of (1 - A)^n
    average; three terms are kept.
    """
    size = float(np.max(count))
    if np.all(np.asarray(drawn) > 0.5) or size < 2:
        return average(np.asarray(variance, float))
    v, relative = np.asarray(variance, float) * size / (size - 1), 2 / (size - 1)
    known = np.where(np.isnan(v), 0.0, v)
    top = range_of(known)
    law = nodes(top) ** 2
    once, twice = (
        sum(w * average(f * law) for f, w in zip(*gamma_nodes(scatter), strict=True))
        for scatter in (relative, (1 + relative) ** 2 - 1)
    )
    weights = interpolation(np.sqrt(known).ravel(), top)
    found = (weights @ (3 * average(law) - 3 * once + twice)).reshape(v.shape)
    return np.where(np.isnan(v), np.nan, found)
