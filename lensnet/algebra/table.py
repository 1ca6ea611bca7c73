"""Interpolation of Gaussian averages over large fields of (mean, std) pairs.

The averages are smooth functions of mean and log std, so millions of pairs need only a few hundred integrals: Chebyshev
patches, one octave of std high, halved until points between the nodes agree to 1e-8 (to 1e-12 where the whole field has
one mean). Patches are kept with the function, so the next field costs evaluation only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from lensnet.algebra.pointwise import PointwiseFunction
from lensnet.algebra.quadrature import INTEGRANDS, integrate, integrate_coarsely

Array = NDArray[np.float64]

_TOLERANCE, _TOLERANCE_ONE_MEAN = 1e-8, 1e-12
_FLOOR = 0.1
"""Times tolerance and average over the field: a pair far below it needs no relative accuracy of its own."""
_NODES_ALONE, _STD_NODES, _MEAN_NODES = 14, 10, 11
_STD_CHECKS, _MEAN_CHECKS = (-0.93, -0.4, 0.17, 0.61), (-0.96, -0.55, 0.08, 0.47, 0.9)
_MOST_HALVINGS = 7
_MOST_PATCHES = 400
"""Per call, old and new; further patches are left as they are, with the error they have."""
_MOST_KEPT = 10_000
_BLOCK = 1024


@dataclass(frozen=True)
class _Box:
    """A rectangle in mean and log2(std); a fixed mean has width 0."""

    mean_low: float
    mean_high: float
    std_low: float
    std_high: float
    depth: int = 0

    def coordinates(self, mean: Array, log_std: Array) -> tuple[Array, Array]:
        """The two coordinates on [-1, 1]."""
        width = self.mean_high - self.mean_low
        u = (2.0 * mean - self.mean_low - self.mean_high) / width if width else np.zeros_like(mean)
        return u, (2.0 * log_std - self.std_low - self.std_high) / (self.std_high - self.std_low)

    def points(self, u: Array, t: Array) -> tuple[Array, Array]:
        """Means and stds of the product grid of two coordinates, flat."""
        mean = 0.5 * (self.mean_low + self.mean_high) + 0.5 * (self.mean_high - self.mean_low) * u
        log_std = 0.5 * (self.std_low + self.std_high) + 0.5 * (self.std_high - self.std_low) * t
        grid = np.meshgrid(mean, np.exp2(log_std), indexing="ij")
        return grid[0].ravel(), grid[1].ravel()

    def halves(self, along_mean: bool) -> tuple[_Box, _Box]:
        if along_mean:
            middle = 0.5 * (self.mean_low + self.mean_high)
            return (
                _Box(self.mean_low, middle, self.std_low, self.std_high, self.depth + 1),
                _Box(middle, self.mean_high, self.std_low, self.std_high, self.depth + 1),
            )
        middle = 0.5 * (self.std_low + self.std_high)
        return (
            _Box(self.mean_low, self.mean_high, self.std_low, middle, self.depth + 1),
            _Box(self.mean_low, self.mean_high, middle, self.std_high, self.depth + 1),
        )


@dataclass(frozen=True)
class _Patch:
    """Chebyshev coefficients (5, mean degree, std degree) on a box, the error at the checks, and how to refine."""

    box: _Box
    coefficients: Array
    error: Array
    deviation: Array
    scale: Array
    along_mean: bool

    def good(self, tolerance: float, floor: Array) -> bool:
        """Whether the checks agree to the tolerance, or to an absolute floor (one per integrand)."""
        # what is not finite stays so however small the patch
        return not bool(np.any(self.deviation > tolerance * self.scale + floor[:, None]))


def interpolate(function: PointwiseFunction, mean: Array, std: Array) -> tuple[Array, Array]:
    """As `quadrature.integrate`, for very many pairs: relative errors of 1e-8 (one mean: 1e-12), estimated per patch.

    Args:
        mean, std: 1-d arrays of equal length; std > 0 and finite.
    """
    log_std = np.log2(std)
    value, error = np.empty((INTEGRANDS, mean.size)), np.empty((INTEGRANDS, mean.size))
    budget = [_MOST_PATCHES]
    tolerance = _TOLERANCE_ONE_MEAN if np.all(mean == mean[0]) else _TOLERANCE
    floor = _FLOOR * tolerance * _typical_scale(function, mean, std)
    if len(function.tables.get("patches", ())) > _MOST_KEPT:
        function.tables["patches"].clear()
    for box, members in _roots(mean, log_std):
        stack = [(box, members)]
        while stack:
            box, members = stack.pop()
            patch = _patch(function, box, budget)
            if patch.good(tolerance, floor) or box.depth >= _MOST_HALVINGS or budget[0] <= 0:
                _evaluate(patch, mean, log_std, members, value)
                error[:, members] = patch.error[:, None]
                continue
            lower, upper = box.halves(patch.along_mean)
            edge = lower.mean_high if patch.along_mean else lower.std_high
            below = (mean if patch.along_mean else log_std)[members] < edge
            parts = ((lower, members[below]), (upper, members[~below]))
            stack.extend((half, part) for half, part in parts if part.size)
    return value, error


def _roots(mean: Array, log_std: Array) -> Iterator[tuple[_Box, NDArray[np.intp]]]:
    """Boxes of one octave of std and, when the mean varies, four or four std of mean; with the pairs in each."""
    octave = np.floor(log_std).astype(np.int64)
    if np.all(mean == mean[0]):
        cell = np.zeros_like(octave)
        width = np.zeros(0)
    else:
        width = 4.0 * np.exp2(np.maximum(octave, 0))
        cell = np.floor(mean / width).astype(np.int64)
    code = (octave - octave.min()) * (cell.max() - cell.min() + 1) + (cell - cell.min())
    code = code.astype(np.int16) if code.max() < 2**15 else code  # numpy sorts short integers by radix
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=code[order[0]] - 1))
    for members in np.split(order, starts[1:]):
        first = members[0]
        low, high = (mean[0], mean[0])
        if width.size:
            low, high = cell[first] * width[first], (cell[first] + 1) * width[first]
        yield _Box(float(low), float(high), float(octave[first]), float(octave[first] + 1)), members


def _patch(function: PointwiseFunction, box: _Box, budget: list[int]) -> _Patch:
    patches: dict[_Box, _Patch] = function.tables.setdefault("patches", {})
    budget[0] -= 1  # also for a patch that is there already: the same field gives the same numbers again
    patch = patches.get(box)
    if patch is None:
        patch = patches[box] = _fitted(function, box)
    return patch


def _fitted(function: PointwiseFunction, box: _Box) -> _Patch:
    fixed = box.mean_high == box.mean_low
    u, to_mean = (np.zeros(1), np.ones((1, 1))) if fixed else _transform(_MEAN_NODES)
    t, to_std = _transform(_NODES_ALONE if fixed else _STD_NODES)
    check_u, check_t = (np.zeros(1) if fixed else np.array(_MEAN_CHECKS)), np.array(_STD_CHECKS)
    nodes = integrate_coarsely(function, *box.points(u, t)).reshape(INTEGRANDS, u.size, t.size)
    coefficients = np.einsum("am,imt,bt->iab", to_mean, nodes, to_std)
    mean, std = box.points(check_u, check_t)
    truth, error = integrate(function, mean, std)
    guess = np.einsum("am,iab,bt->imt", _basis(check_u, u.size), coefficients, _basis(check_t, t.size))
    deviation = np.abs(guess.reshape(INTEGRANDS, -1) - truth)
    scale = relative_scale(truth, mean, std)
    tails = np.abs(coefficients) / np.maximum(scale.max(axis=1), 1e-300)[:, None, None]
    along_mean = not fixed and tails[:, -2:, :].max() > tails[:, :, -2:].max()
    worst = 2.0 * deviation.max(axis=1) + error.max(axis=1)
    return _Patch(box, coefficients, worst, deviation, scale, bool(along_mean))


def _typical_scale(function: PointwiseFunction, mean: Array, std: Array) -> Array:
    """Average of the scale of each integrand over a few pairs of the field."""
    some = np.unique(np.linspace(0, mean.size - 1, 12).astype(np.intp))
    value, _ = integrate(function, mean[some], std[some])
    return np.asarray(np.mean(relative_scale(value, mean[some], std[some]), axis=1))


def relative_scale(value: Array, mean: Array, std: Array) -> Array:
    """What an error of each average is compared with: E f and E f' with the root of their second moments."""
    root, slope = np.sqrt(np.abs(value[1])), np.sqrt(np.abs(value[3]))
    return np.stack([root, np.abs(value[1]), slope, np.abs(value[3]), root * np.hypot(mean, std)])


def _evaluate(patch: _Patch, mean: Array, log_std: Array, members: NDArray[np.intp], out: Array) -> None:
    _, mean_count, std_count = patch.coefficients.shape
    flat = patch.coefficients.reshape(INTEGRANDS, mean_count * std_count)
    for start in range(0, members.size, _BLOCK):
        block = members[start : start + _BLOCK]
        u, t = patch.box.coordinates(mean[block], log_std[block])
        basis = _basis(t, std_count)
        if mean_count > 1:
            basis = (_basis(u, mean_count)[:, None, :] * basis).reshape(mean_count * std_count, block.size)
        out[:, block] = flat @ basis


def _basis(x: Array, count: int) -> Array:
    """Chebyshev polynomials T_0 .. T_(count-1) at x: shape (count, len(x))."""
    basis = np.ones((count, x.size))
    if count > 1:
        basis[1] = x
    for degree in range(2, count):
        np.multiply(2.0 * x, basis[degree - 1], out=basis[degree])
        basis[degree] -= basis[degree - 2]
    return basis


@lru_cache(maxsize=4)
def _transform(count: int) -> tuple[Array, Array]:
    """Chebyshev nodes and the matrix from values at them to coefficients."""
    nodes: Array = np.asarray(chebyshev.chebpts1(count))
    matrix: Array = np.asarray(chebyshev.chebvander(nodes, count - 1).T * (2.0 / count))
    matrix[0] /= 2.0
    return nodes, matrix
