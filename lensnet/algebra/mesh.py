"""Panels on which a function of one variable is smooth enough for a fixed number of Gauss-Legendre nodes.

Kinks are panel ends; between them panels are halved until polynomial interpolation through the nodes reproduces the
function at points in between. So tanh(50*x) gets fine panels around 0 and wide ones outside, whatever Gaussian it is
averaged over later. A kink that nobody declared ends up in a geometric sequence of ever smaller panels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NODES = 16
"""Nodes per panel of the coarser of the two quadrature rules."""
_CHECKS = 41
_TOLERANCE = 1e-12
_DEEPEST = 44
SMALLEST = 2.0**-_DEEPEST
"""Width of a panel beside a pole."""
_DEEPEST_NON_FINITE = 6
_NO_GAIN, _ROUNDING = 0.3, 1e4
"""A misfit that halving leaves above 0.3 of itself is rounding, if it is below 1e4 times what is allowed."""
_MOST_TURNS = 24
_MOST_PANELS = 1024
"""Per shell; a function that still is not resolved (sin(exp(x))) shows in the error estimate of the integral."""
_FIRST_PANELS = 4


class Mesh:
    """Panel ends for one function, found shell by shell ([0, 1], [1, 2], [2, 4], ... and their mirror) when needed.

    Args:
        sample: x (any shape) -> stack of the functions to resolve, shape (k, *x.shape).
        kinks: points at which panels must end.
    """

    def __init__(self, sample: Callable[[Array], Array], kinks: tuple[float, ...]) -> None:
        self._sample = sample
        self._kinks = np.array(kinks, dtype=np.float64)
        self._shells: dict[int, Array] = {}
        self._spans: dict[tuple[int, int], Array] = {}
        self._scale: Array | None = None
        self._unresolved = np.zeros((0, 2))

    def unresolved(self, x: Array) -> NDArray[np.bool_]:
        """Whether points lie in panels that no halving resolved: at a pole, a jump nobody declared, or in wild parts.

        Only the shells looked at so far are known.
        """
        if not self._unresolved.size:
            return np.zeros(x.shape, dtype=bool)
        intervals = self._unresolved[np.argsort(self._unresolved[:, 0])]
        place = np.searchsorted(intervals[:, 0], x, side="right") - 1
        return (place >= 0) & (x <= intervals[np.maximum(place, 0), 1])

    def ends(self, low: float, high: float) -> Array:
        """Ascending panel ends that cover [low, high] (and somewhat more)."""
        first, last = -_shell(-low) if low < 0 else 0, _shell(high) if high > 0 else 0
        key = (min(first, last), max(first, last))
        if key not in self._spans:
            shells = [self._shell_ends(index) for index in range(key[0], key[1] + 1) if index != 0]
            self._spans[key] = np.unique(np.concatenate([np.zeros(1), *shells]))
        return self._spans[key]

    def _shell_ends(self, index: int) -> Array:
        if index not in self._shells:
            size = abs(index)
            inner, outer = (0.0, 1.0) if size == 1 else (2.0 ** (size - 2), 2.0 ** (size - 1))
            low, high = (inner, outer) if index > 0 else (-outer, -inner)
            inside = self._kinks[(self._kinks > low) & (self._kinks < high)]
            start = np.unique(np.concatenate([np.linspace(low, high, _FIRST_PANELS + 1), inside]))
            self._shells[index] = self._joined(self._refined(start), inside)
        return self._shells[index]

    def _refined(self, ends: Array) -> Array:
        """Halve panels until each is resolved, or halving stops helping because only rounding is left."""
        kept = [ends]
        low, high = ends[:-1], ends[1:]
        before = np.full(low.shape, np.inf)
        for depth in range(_DEEPEST):
            misfit, finite = self._misfit(low, high)
            split = (misfit > 1.0) & ~((misfit > _NO_GAIN * before) & (misfit < _ROUNDING))
            split |= ~finite & (depth < _DEEPEST_NON_FINITE)
            if not split.any():
                break
            if depth == _DEEPEST - 1 or sum(map(len, kept)) + split.sum() > _MOST_PANELS:
                self._unresolved = np.concatenate([self._unresolved, np.stack([low[split], high[split]], axis=1)])
                break
            middle = 0.5 * (low + high)[split]
            low, high = np.concatenate([low[split], middle]), np.concatenate([middle, high[split]])
            before = np.tile(misfit[split], 2)
            kept.append(middle)
        return np.unique(np.concatenate(kept))

    def _joined(self, ends: Array, kinks: Array) -> Array:
        """Join neighbouring panels wherever the joint panel is resolved as well: smooth tails need few."""
        idle = 0
        for turn in range(_MOST_TURNS):  # every other inner end in turn: never two neighbours at once
            inner = np.arange(1 + turn % 2, ends.size - 1, 2)
            inner = inner[~np.isin(ends[inner], kinks)]
            misfit, finite = self._misfit(ends[inner - 1], ends[inner + 1])
            resolved = finite & (misfit <= 1.0)
            ends = np.delete(ends, inner[resolved])
            idle = 0 if resolved.any() else idle + 1
            if idle == 2:
                break
        return ends

    def _misfit(self, low: Array, high: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Error of interpolation over what is allowed, per panel (0 where not finite), and whether all is finite."""
        nodes, checks, interpolate = _interpolation()
        half, middle = 0.5 * (high - low)[:, None], 0.5 * (high + low)[:, None]
        known = self._sample(middle + half * nodes)
        truth = self._sample(middle + half * checks)
        with np.errstate(all="ignore"):
            error = np.max(np.abs(known @ interpolate.T - truth), axis=-1)
            size = np.maximum(np.max(np.abs(known), axis=-1), np.max(np.abs(truth), axis=-1))
            # rounding of x alone moves f by f'*ulp(x); the last function of the stack may be the slope
            noise = 4e-16 * np.max(np.abs(middle) + half, axis=-1) * np.max(size, axis=0)
            allowed = _TOLERANCE * (size + 1e-3 * self._global_scale()[:, None]) + noise
            misfit = np.max(np.where(error <= allowed, 1.0, error / allowed), axis=0)
        finite = np.all(np.isfinite(size), axis=0)
        return np.where(finite, misfit, 0.0), finite

    def _global_scale(self) -> Array:
        """Typical size of each function over [-4, 4]: panels where it is far smaller need no relative accuracy."""
        if self._scale is None:
            values = np.abs(self._sample(np.linspace(-4.0, 4.0, 257) + 1e-3))
            finite = [row[np.isfinite(row)] for row in values]
            self._scale = np.array([np.median(row) if row.size else 0.0 for row in finite])
        return self._scale


def _shell(distance: float) -> int:
    """Number of the shell that holds a positive distance: 1 for [0, 1], 2 for [1, 2], 3 for [2, 4], ..."""
    return 1 if distance <= 1.0 else int(np.ceil(np.log2(distance))) + 1


@lru_cache(maxsize=1)
def _interpolation() -> tuple[Array, Array, Array]:
    """Gauss nodes, check points between them, and the matrix from values at the nodes to values at the checks."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    checks = np.cos(np.pi * (np.arange(_CHECKS) + 0.437) / _CHECKS)
    barycentric = (-1.0) ** np.arange(NODES) * np.sqrt((1.0 - nodes**2) * weights)
    terms = barycentric / (checks[:, None] - nodes)
    return nodes, checks, terms / terms.sum(axis=1, keepdims=True)
