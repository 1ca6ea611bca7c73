"""Exact moments of a top-k softmax gate over n independent Gaussian logits, by deterministic quadrature.

The k largest of n iid N(0, v) logits are kept. With the k-th largest at t, one logit sits at t, k - 1 are independent
above it and n - k below it; the normalisation is undone as in `softmax_moments`, 1/S^R = integral u^(R-1) exp(-u S) du
/ Gamma(R), with S the sum over the kept logits (renormalised gate) or over all of them. What is left are integrals over
t and log u of products of one-dimensional integrals.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from math import comb, gamma, log, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensnet.algebra.mixing.chebyshev import interpolation, nodes, range_of
from lensnet.algebra.mixing.softmax_moments import LARGEST_VARIANCE, set_partitions
from lensnet.algebra.special import special

Array = NDArray[np.float64]

_FINE, _COARSE, _LOG_STEP = 0.02, 10, 0.45
_SMALLEST_ROOT = 3e-3


class _Gate:
    """Integrals at one variance, on a grid of log u (rows) and of the threshold t (columns)."""

    def __init__(self, variance: float, count: int, kept: int, renormalised: bool) -> None:
        self.count, self.kept, self.renormalised = count, kept, renormalised
        deviation = sqrt(variance)
        z = np.arange(-8.5, 8.5, _FINE)
        self._density = np.exp(-z * z / 2) / sqrt(2 * np.pi) * _FINE
        self._at = slice(None, None, _COARSE)
        most = log(count)
        low = -most - deviation * (sqrt(2 * most) + 7) - 17
        y = np.arange(low, 9 * deviation + 4, _LOG_STEP)
        self._sum = y[:, None] + deviation * z
        self._load = np.exp(np.minimum(self._sum, 50.0))
        self._known: dict[int, tuple[Array, Array, Array]] = {}
        self._share = np.cumsum(self._density)[self._at] - self._density[self._at] / 2

    def at(self, r: int) -> Array:
        """exp(r (t + y)) exp(-exp(t + y)): what the logit at the threshold contributes."""
        return self._integrals(r)[0]

    def above(self, r: int) -> Array:
        """The same averaged over a logit above the threshold."""
        return self._integrals(r)[1]

    def below(self, r: int) -> Array:
        """The same averaged over a logit below the threshold."""
        return self._integrals(r)[2]

    def _integrals(self, r: int) -> tuple[Array, Array, Array]:
        if r not in self._known:
            value = np.exp(r * self._sum - self._load)
            weighted = value * self._density
            below = np.cumsum(weighted, axis=1) - weighted / 2
            above = below[:, -1:] + weighted[:, -1:] / 2 - below
            self._known[r] = value[:, self._at], above[:, self._at], below[:, self._at]
        return self._known[r]

    def average(self, kept: Sequence[int], dropped: Sequence[int] = ()) -> float:
        """E prod_{r in kept} (sum over kept a^r) prod_{r in dropped} (sum over dropped a^r); at most one dropped."""
        k, total = self.kept - 1, np.zeros_like(self._sum[:, self._at])
        lowest = self.below(0) if not self.renormalised else np.broadcast_to(self._share, total.shape)
        left = self.count - self.kept - len(dropped)
        if left < 0:
            return 0.0
        rest = lowest**left
        for r in dropped:
            rest = rest * (left + 1) * self.below(r)
        for blocks in set_partitions([(r, 0) for r in kept]):
            sizes = [sum(r for r, _ in block) for block in blocks]
            for chosen in (None, *range(len(sizes))):  # the block that falls on the logit at the threshold
                others = [size for i, size in enumerate(sizes) if i != chosen]
                free = k - len(others)
                if free < 0:
                    continue
                ways = np.prod([k - i for i in range(len(others))]) if others else 1.0
                term = self.at(0 if chosen is None else sizes[chosen])
                for size in others:
                    term = term * self.above(size)
                total += ways * term * self.above(0) ** free
        choices = self.count * comb(self.count - 1, self.kept - 1)
        threshold = self._density[self._at] * _COARSE
        power = sum(chain(kept, dropped))
        return float(choices * ((total * rest) @ threshold).sum() * _LOG_STEP / gamma(power))


@special("gate_sum", 4, r"\mathbb{{E}}\textstyle\sum_{{\mathrm{{top}}\,{2}}} a\left({0}, {1}\right)")
def gate_sum(variance: Array, count: Array, kept: Array, renormalised: Array) -> Array:
    """E sum a_e over the `kept` largest of `count` independent Gaussian logits; 1 where a is renormalised."""
    return _tabulated(variance, count, kept, renormalised)[2]


@special("gate_square_sum", 4, r"\mathbb{{E}}\textstyle\sum_{{\mathrm{{top}}\,{2}}} a^2\left({0}, {1}\right)")
def gate_square_sum(variance: Array, count: Array, kept: Array, renormalised: Array) -> Array:
    """E sum a_e^2 over the `kept` largest of `count` independent Gaussian logits, a renormalised to sum 1 or not."""
    return _tabulated(variance, count, kept, renormalised)[0]


@special("gate_jacobian", 4, r"\mathbb{{E}}\,\mathrm{{tr}}J_{{\mathrm{{top}}\,{2}}}^2\left({0}, {1}\right)")
def gate_jacobian(variance: Array, count: Array, kept: Array, renormalised: Array) -> Array:
    """E sum_{e kept, f} (da_e/dl_f)^2 of a top-k softmax gate over `count` independent Gaussian logits."""
    return _tabulated(variance, count, kept, renormalised)[1]


def _tabulated(variance: ArrayLike, count: ArrayLike, kept: ArrayLike, renormalised: ArrayLike) -> list[Array]:
    n, k, whole = (round(float(np.max(number))) for number in (count, kept, renormalised))
    if not 1 <= k <= n:
        raise ValueError(f"cannot keep {k} of {n}")
    given = np.asarray(variance, float)
    v = np.where(np.isnan(given), 0.0, np.clip(given, 0.0, LARGEST_VARIANCE))
    top = range_of(v)
    weights = interpolation(np.where(np.isnan(given), np.nan, np.sqrt(v)).ravel(), top)
    return [np.exp(weights @ row).reshape(v.shape) for row in _table(top, n, k, bool(whole))]


@lru_cache(maxsize=32)
def _table(top: float, count: int, kept: int, renormalised: bool) -> Array:
    """Logarithms of all three moments on the Chebyshev nodes of sqrt(v) in [0, top]: shape (3, nodes)."""
    rows = []
    for root in np.maximum(nodes(top), _SMALLEST_ROOT):
        gate = _Gate(root**2, count, kept, renormalised)
        square, cube = gate.average([2]), gate.average([3])
        jacobian = square - 2 * cube + gate.average([2, 2])
        if not renormalised:
            jacobian += gate.average([2], [2])
        share = 1.0 if renormalised else gate.average([1])
        rows.append((square, jacobian if kept > 1 or not renormalised else 0.0, share))
    return np.log(np.maximum(np.array(rows).T, 1e-30))
