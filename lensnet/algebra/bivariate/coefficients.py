"""Hermite coefficients a_k = E f(mean + std*z) h_k(z) of functions, with the orthonormal Hermite polynomials h_k.

By quadrature for each mean and standard deviation. Very many standard deviations of one mean (the positions of images
have one each) are interpolated: the coefficients are smooth in the standard deviation, so that Chebyshev nodes on each
octave hold them to rounding. Whether they do is checked between the nodes, over all coefficients together; what is
found there is the error, and an octave on which it is not small is integrated one by one.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.gaussian import expect
from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.algebra.quadrature import mesh_of

Array = NDArray[np.float64]
Rows = tuple[Array, Array, Array, Array]
"""Coefficients (K+1, n), rest, E f**2, and the error of the coefficients in the root of the sum of squares, (n,)."""

_NODES = 32
_REACH = 13.0
EPS = 4.0 * np.finfo(float).eps
_MOST_KEPT = 4096
_DEGREE, _CHECKS = 24, 7
_MANY = 2 * (_DEGREE + 1 + _CHECKS)
"""Standard deviations in an octave from which on they are interpolated."""
_LOSS = 2e-13
"""Relative to the root of E f**2: an octave whose interpolation is worse is not used."""


def coefficients_of(function: PointwiseFunction, mean: Array, variance: Array, terms: int) -> Rows:
    """The coefficients 0 .. terms of each (mean, variance); 1-d arrays without repetitions. Kept with the function."""
    out = np.empty((terms + 1, mean.size)), np.empty(mean.size), np.empty(mean.size), np.empty(mean.size)
    direct = np.ones(mean.size, dtype=bool)
    for members in _octaves(mean, variance):
        found = _interpolated(function, mean[members], np.sqrt(variance[members]), terms)
        if found is not None:
            direct[members] = False
            for row, part in zip(out, found, strict=True):
                row[..., members] = part
    single = np.flatnonzero(direct)
    if single.size:
        for row, part in zip(out, _one_by_one(function, mean[single], variance[single], terms), strict=True):
            row[..., single] = part
    return out


def _octaves(mean: Array, variance: Array) -> list[NDArray[np.intp]]:
    """The members of every octave of standard deviations, at one mean, that holds many."""
    if mean.size < _MANY:
        return []
    octave = np.floor(0.5 * np.log2(np.where(variance > 0, variance, 1.0)))
    octave[variance <= 0] = np.nan
    _, group, count = np.unique(np.stack([mean, octave]), axis=1, return_inverse=True, return_counts=True)
    group = group.ravel()
    return [np.flatnonzero(group == one) for one in np.flatnonzero(count >= _MANY)]


def _interpolated(function: PointwiseFunction, mean: Array, std: Array, terms: int) -> Rows | None:
    """Those of one mean and one octave; None where interpolation loses digits."""
    low = float(2.0 ** np.floor(np.log2(std.min() * (1 + EPS))))
    kept = function.tables.setdefault("hermite octaves", {})
    key = float(mean[0]), low, terms
    if key not in kept:
        kept[key] = _octave(function, key[0], low, terms)
    if kept[key] is None:
        return None
    table, error = kept[key]
    coefficients = table @ _chebyshev(2.0 * (std / low) - 3.0)
    moments = expect(function, mean, std)
    power = moments.second_moment.value
    missing = np.maximum(power - np.sum(coefficients * coefficients, axis=0), 0.0)
    # what the coefficients are off by may hide that much of the rest
    rest = missing + (EPS + 2.0 * error) * power + moments.second_moment.error
    return coefficients, rest, power, error * np.sqrt(power)


def _octave(function: PointwiseFunction, mean: float, low: float, terms: int) -> tuple[Array, float] | None:
    """Chebyshev coefficients in the standard deviation, from `low` to twice that, of every Hermite coefficient, and
    the error relative to the root of E f**2."""
    nodes = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))
    checks = np.cos(np.pi * (np.arange(_CHECKS) + 0.31) / _CHECKS)
    at = np.concatenate([nodes, checks])
    exact, _, power, wrong = _computed(function, np.full(at.shape, mean), low * (1.5 + 0.5 * at), terms)
    if not np.all(np.isfinite(power)) or not power.min() > 0:
        return None
    weight = np.full(_DEGREE + 1, 2.0 / (_DEGREE + 1))
    weight[0] *= 0.5
    table = (exact[:, : nodes.size] @ _chebyshev(nodes).T) * weight
    off = np.sqrt(np.sum((table @ _chebyshev(checks) - exact[:, nodes.size :]) ** 2, axis=0) / power[nodes.size :])
    # twice what the checks show, and four times (more than the nodes' Lebesgue constant) what the nodes are off by
    error = 2.0 * float(off.max()) + 4.0 * float(np.max(wrong / np.sqrt(power)))
    return (table, error) if error < _LOSS else None


def _chebyshev(at: Array) -> Array:
    """T_0 .. T_degree, (degree + 1, n)."""
    return np.asarray(np.polynomial.chebyshev.chebvander(at, _DEGREE).T)


def _one_by_one(function: PointwiseFunction, mean: Array, variance: Array, terms: int) -> Rows:
    kept: dict[tuple[float, float, int], tuple[Array, float, float, float]] = function.tables.setdefault("hermite", {})
    keys = [(float(m), float(v), terms) for m, v in zip(mean, variance, strict=True)]
    missing = [index for index, key in enumerate(keys) if key not in kept]
    if missing:
        if len(kept) > _MOST_KEPT:
            kept.clear()
            missing = list(range(len(keys)))
        found = _computed(function, mean[missing], np.sqrt(variance[missing]), terms)
        for place, index in enumerate(missing):
            kept[keys[index]] = tuple(part[..., place] for part in found)  # type: ignore[assignment]
    parts = [kept[key] for key in keys]
    rows = [np.stack([np.asarray(part[row]) for part in parts], axis=-1) for row in range(4)]
    return rows[0], rows[1], rows[2], rows[3]


def _computed(function: PointwiseFunction, mean: Array, std: Array, terms: int) -> Rows:
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
        rest = np.where(fixed, 0.0, np.maximum(missing, 0.0) + EPS * power + error)
        # both integrate f**2, on different panels: what they differ by bounds the quadrature of f*h_k
        wrong = np.where(fixed, 0.0, np.abs(resolved - power) / np.sqrt(np.maximum(power, 1e-300)))
    return coefficients, rest, power, EPS * np.sqrt(power) + wrong


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
