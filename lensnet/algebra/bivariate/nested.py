"""E f(u) g(v) by quadrature in two nested steps, for pairs near correlation +-1 where the Mehler series is too slow.

v given u is normal with standard deviation d = sqrt(det/k11): the inner average is split at the kinks of g, the outer
one at the kinks of f and, ever finer towards it, around the places where d smears out a kink of g. Both use n and then
more nodes per panel; the difference is the error. Many pairs of equal means and variances are a function of the
correlation alone: it is interpolated in the root of 1 - |rho|, in which it is smooth even behind a kink, and checked
between.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.bivariate.law import Law, geometric_mean
from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.algebra.quadrature import mesh_of

Array = NDArray[np.float64]

MOST_PAIRS = 400
"""Integrated one by one in one call; what is beyond keeps the series and its bound."""
_REACH, _STEP = 9.0, 2.25
_COARSE, _FINE = 14, 20
_GRADES = 2.0 ** np.arange(-2, 5)
_DEGREE, _CHECKS = 20, 9
_ROUNDING = 16.0 * np.finfo(float).eps


def improved(
    f: PointwiseFunction, g: PointwiseFunction, law: Law, value: Array, bound: Array, enough: Array
) -> tuple[Array, Array]:
    """Value and bound, with those pairs integrated whose bound is above `enough` and gets smaller by it."""
    poor = np.broadcast_to((bound > enough) & np.isfinite(bound), value.shape)
    if not poor.any() or not (_integrable(f) and _integrable(g)):
        return value, bound
    value, bound = np.array(value), np.array(np.broadcast_to(bound, value.shape))
    part = law.part(poor)
    zeros = np.zeros(part.k11.shape)
    mean1, mean2 = (zeros if mean is None else mean for mean in (part.mean1, part.mean2))
    size = geometric_mean(part.k11, part.k22)
    rho = np.clip(part.k12 / size, -1.0, 1.0)
    gap = part.det / (size * size * (1.0 + np.abs(rho)))  # 1 - |rho| without cancellation
    found, error = np.full(zeros.shape, np.nan), np.full(zeros.shape, np.inf)
    sides = np.stack([part.k11, part.k22, mean1, mean2, np.sign(rho)])
    _, group = np.unique(sides, axis=1, return_inverse=True)
    left = MOST_PAIRS
    for index in np.argsort(-np.bincount(group.ravel())):
        members = np.flatnonzero(group.ravel() == index)
        k11, k22, m1, m2, sign = (float(row[members[0]]) for row in sides)
        gaps, back = np.unique(gap[members], return_inverse=True)
        if gaps.size > 2 * _DEGREE:
            left -= _DEGREE + _CHECKS + 2
            if left < 0:
                break
            answer = _interpolated(f, g, (k11, k22, m1, m2, sign), gaps)
        else:
            left -= gaps.size
            if left < 0:
                break
            answer = _each(f, g, (k11, k22, m1, m2, sign), gaps)
        found[members], error[members] = answer[0][back.ravel()], answer[1][back.ravel()]
    better = error < bound[poor]
    value[poor] = np.where(better, found, value[poor])
    bound[poor] = np.where(better, error, bound[poor])
    return value, bound


def _integrable(function: PointwiseFunction) -> bool:
    return function.kinks.complete and len(function.kinks.points) <= 24


Sides = tuple[float, float, float, float, float]


def _interpolated(f: PointwiseFunction, g: PointwiseFunction, sides: Sides, gaps: Array) -> tuple[Array, Array]:
    low, high = np.sqrt(gaps[0]), np.sqrt(gaps[-1])
    nodes = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))
    checks = np.cos(np.pi * (np.arange(_CHECKS) + 0.31) / _CHECKS)
    roots = 0.5 * (high + low) + 0.5 * (high - low) * np.concatenate([nodes, checks])
    values, errors = _each(f, g, sides, roots * roots)
    fit = np.polynomial.chebyshev.chebfit(nodes, values[: nodes.size], _DEGREE)
    off = np.abs(np.polynomial.chebyshev.chebval(checks, fit) - values[nodes.size :])
    at = (2.0 * np.sqrt(gaps) - high - low) / (high - low)
    error = 2.0 * float(off.max()) + 4.0 * float(errors.max())
    return np.polynomial.chebyshev.chebval(at, fit), np.full(gaps.shape, error)


def _each(f: PointwiseFunction, g: PointwiseFunction, sides: Sides, gaps: Array) -> tuple[Array, Array]:
    k11, k22, m1, m2, sign = sides
    results = [_pair(f, g, k11, k22, m1, m2, sign, float(gap)) for gap in gaps]
    return np.array([r[0] for r in results]), np.array([r[1] for r in results])


def _pair(
    f: PointwiseFunction, g: PointwiseFunction, k11: float, k22: float, m1: float, m2: float, sign: float, gap: float
) -> tuple[float, float]:
    s1, s2 = np.sqrt(k11), np.sqrt(k22)
    spread = s2 * np.sqrt(gap * (2.0 - gap))
    slope = sign * (1.0 - gap)  # of v by u, both standardised
    ends = _outer_ends(f, g, s1, s2, m1, m2, slope, spread)
    totals = []
    size = tail = 0.0
    for count in (_COARSE, _FINE):
        z, weight = _nodes(ends, count)
        # m2 + s2*slope*z is the mean of v; near correlation 1 of equal sides it is x itself less a small part
        x, middle = m1 + s1 * z, m2 + s2 * sign * z - s2 * sign * gap * z
        terms = weight * f(x) * _inner(g, middle, spread, count)
        totals.append(float(np.sum(terms)))
        size = float(np.sum(np.abs(terms)))
        # what the outermost unit holds bounds what is missing beyond it
        tail = float(np.sum(np.abs(terms[np.abs(z) > _REACH - 1.0])))
    return totals[1], abs(totals[1] - totals[0]) + _ROUNDING * size + tail


def _outer_ends(
    f: PointwiseFunction, g: PointwiseFunction, s1: float, s2: float, m1: float, m2: float, slope: float, spread: float
) -> Array:
    own = mesh_of(f).ends(m1 - _REACH * s1, m1 + _REACH * s1)
    parts = [np.arange(-_REACH, _REACH + _STEP / 2, _STEP), (own - m1) / s1]
    other = mesh_of(g).ends(m2 - _REACH * s2, m2 + _REACH * s2)
    kinks = np.array(g.kinks.points)
    if slope:
        parts.append((other - m2) / (s2 * slope))
        steps = np.concatenate([-_GRADES, [0.0], _GRADES]) * spread / abs(s2 * slope)
        parts.append((((kinks - m2) / (s2 * slope))[:, None] + steps).ravel())
    return _cut(np.concatenate(parts))


def _inner(g: PointwiseFunction, middle: Array, spread: float, count: int) -> Array:
    """E g(middle + spread*w) for every middle, w standard normal."""
    if spread == 0.0:
        return g(middle)
    ends = mesh_of(g).ends(float(middle.min()) - _REACH * spread, float(middle.max()) + _REACH * spread)
    ends = np.union1d(ends, np.array(g.kinks.points))
    place = np.searchsorted(ends, [middle - _REACH * spread, middle + _REACH * spread])
    most = int(np.max(place[1] - place[0], initial=0))
    grid = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
    edges = np.broadcast_to(grid, (middle.size, grid.size))
    if most:
        # each row its own ends, those beyond the reach cut off to panels of no width
        index = np.minimum(place[0][:, None] + np.arange(most), ends.size - 1)
        inside = np.clip((ends[index] - middle[:, None]) / spread, -_REACH, _REACH)
        edges = np.sort(np.concatenate([edges, inside], axis=1), axis=1)
    nodes, weights = _rule(count)
    half = 0.5 * np.diff(edges, axis=1)[..., None]
    w = 0.5 * (edges[:, 1:] + edges[:, :-1])[..., None] + half * nodes
    weight = half * weights * np.exp(-0.5 * w * w)
    return np.asarray(np.sum(weight * g(middle[:, None, None] + spread * w), axis=(1, 2)))


def _cut(ends: Array) -> Array:
    kept = np.unique(np.clip(ends[np.isfinite(ends)], -_REACH, _REACH))
    return kept[np.concatenate([[True], np.diff(kept) > 1e-14])]


def _nodes(ends: Array, count: int) -> tuple[Array, Array]:
    nodes, weights = _rule(count)
    half = 0.5 * np.diff(ends)[:, None]
    z = (0.5 * (ends[1:] + ends[:-1])[:, None] + half * nodes).ravel()
    return z, (half * weights).ravel() * np.exp(-0.5 * z * z)


@lru_cache(maxsize=4)
def _rule(count: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes on [-1, 1], and weights over sqrt(2*pi)."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return nodes, weights / np.sqrt(2.0 * np.pi)
