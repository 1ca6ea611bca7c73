"""Moments of the shares of a gate that keeps the k largest of n independent Gaussian ratings.

Shares by a softmax are those of `top_k_moments`. Of sigmoids there is no trick that undoes the normalisation: these are
averages over one fixed sample of ratings (the same at every mean and variance, so that they are smooth in both),
accurate to about half a per cent.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.mixing.chebyshev import interpolation, nodes, range_of
from lensnet.algebra.mixing.softmax_moments import seen
from lensnet.algebra.mixing.top_k_moments import gate_jacobian, gate_square_sum, gate_sum
from lensnet.algebra.normal import expit
from lensnet.algebra.special import special

Array = NDArray[np.float64]

_NUMBERS, _FEWEST = 1 << 16, 4096
"""Ratings in the sample, and fewest draws."""
_SMALLEST = 1e-6  # standard deviation: that ratings are near is relative, and has a limit


@special("share_sum", 8, r"\mathbb{{E}}\textstyle\sum_{{\mathrm{{top}}\,{3}}} a\left({0}, {1}, {2}\right)")
def share_sum(
    mean: Array,
    variance: Array,
    count: Array,
    kept: Array,
    renormalised: Array,
    sigmoid: Array,
    near: Array,
    drawn: Array,
) -> Array:
    """E sum a_e over the `kept` largest of `count` ratings N(mean, variance), a their softmax or their sigmoids
    (`sigmoid`), renormalised to sum 1 or not. near: above zero, each has a share of its own instead, that of its rating
    in a softmax with what is left and not further away than `near` times the larger of the two (sparsemixer).
    drawn: as for softmax_square_sum."""
    return _either(0, mean, variance, count, kept, renormalised, sigmoid, near, drawn)


@special("share_square_sum", 8, r"\mathbb{{E}}\textstyle\sum_{{\mathrm{{top}}\,{3}}} a^2\left({0}, {1}, {2}\right)")
def share_square_sum(
    mean: Array,
    variance: Array,
    count: Array,
    kept: Array,
    renormalised: Array,
    sigmoid: Array,
    near: Array,
    drawn: Array,
) -> Array:
    """E sum a_e^2, arguments as for share_sum."""
    return _either(1, mean, variance, count, kept, renormalised, sigmoid, near, drawn)


@special("share_jacobian", 8, r"\mathbb{{E}}\,\mathrm{{tr}}J_{{\mathrm{{top}}\,{3}}}^2\left({0}, {1}, {2}\right)")
def share_jacobian(
    mean: Array,
    variance: Array,
    count: Array,
    kept: Array,
    renormalised: Array,
    sigmoid: Array,
    near: Array,
    drawn: Array,
) -> Array:
    """E sum_{e kept, f} (da_e/dl_f)^2, arguments as for share_sum."""
    return _either(2, mean, variance, count, kept, renormalised, sigmoid, near, drawn)


def _either(which: int, mean: Array, variance: Array, *numbers: Array) -> Array:
    count, kept, renormalised, sigmoid, near, drawn = numbers
    close = float(np.max(near))
    if not float(np.max(sigmoid)) and not close:
        soft = (gate_sum, gate_square_sum, gate_jacobian)[which]
        return seen(lambda v: soft(v, count, kept, renormalised), variance, count, drawn)
    n, k, whole = (round(float(np.max(number))) for number in (count, kept, renormalised))
    if not 1 <= k <= n:
        raise ValueError(f"cannot keep {k} of {n}")
    centre = round(float(np.nanmean(mean)), 3)
    return seen(lambda v: _sampled(which, centre, v, n, k, bool(whole), close), variance, count, drawn)


def _sampled(which: int, mean: float, variance: Array, count: int, kept: int, renormalised: bool, near: float) -> Array:
    known = np.isfinite(variance)
    root = np.sqrt(np.maximum(np.where(known, variance, 0.0), 0.0))
    top = range_of(np.square(root))
    found = interpolation(root.ravel(), top) @ _table(mean, top, count, kept, renormalised, near)[:, which]
    return np.where(known, found.reshape(root.shape), np.nan)


@lru_cache(maxsize=64)
def _table(mean: float, top: float, count: int, kept: int, renormalised: bool, near: float) -> Array:
    """The three averages at the Chebyshev nodes of the standard deviation in [0, top]: (nodes, 3)."""
    if near:
        return np.array([_mixed(mean, max(root, _SMALLEST), count, kept, near) for root in nodes(top)])
    return np.array([_one(mean, root, count, kept, renormalised) for root in nodes(top)])


def _one(mean: float, root: float, count: int, kept: int, renormalised: bool) -> tuple[float, float, float]:
    opened = expit(mean + root * _largest(count, kept))
    slope = opened * (1 - opened)
    if not renormalised:
        return float(opened.sum(1).mean()), float((opened**2).sum(1).mean()), float((slope**2).sum(1).mean())
    total = opened.sum(1, keepdims=True)
    share = opened / total
    squares = (share**2).sum(1)
    # da_e/dl_f = slope_f (1[e = f] - a_e)/total
    jacobian = ((slope / total) ** 2 * (1 - 2 * share + squares[:, None])).sum(1)
    return 1.0, float(squares.mean()), float(jacobian.mean())


def _mixed(mean: float, root: float, count: int, kept: int, near: float) -> tuple[float, float, float]:
    ratings = mean + root * np.sort(_largest(count, count), axis=1)[:, ::-1]
    sums = np.zeros(3)
    for place in range(kept):
        best, rest = ratings[:, place : place + 1], ratings[:, place:]
        meet = best - rest <= near * np.maximum(np.abs(rest), best)
        share = np.where(meet, np.exp(rest - best), 0.0)
        share = share / share.sum(1, keepdims=True)
        own, squares = share[:, 0], (share[:, 1:] ** 2).sum(1)
        sums += [own.mean(), (own**2).mean(), (own**2 * ((1 - own) ** 2 + squares)).mean()]
    return float(sums[0]), float(sums[1]), float(sums[2])


@lru_cache(maxsize=16)
def _largest(count: int, kept: int) -> Array:
    """(samples, kept): the largest of `count` independent standard normal numbers."""
    source = np.random.default_rng([count, kept])
    drawn = source.standard_normal((max(_NUMBERS // count, _FEWEST), count))
    drawn = np.concatenate([drawn, -drawn])
    return np.partition(drawn, min(count - kept, count - 1), axis=1)[:, count - kept :]
