"""The maximum over a window of correlated values: moments forward, and who wins the gradient backward.

The taps of a window are functions f of jointly Gaussian variables (a convolution's outputs over weight draws, after
an activation). Photographs make them strongly and unequally correlated, window by window: treating the taps as
independent, or giving all windows one average correlation, puts the second moment off by 20 to 60 %. So every window
gets its own covariance: variances from the signal, correlations from the measured products of taps, turned back into
correlations of the Gaussians behind f. The moments of the maximum are then integrals over as many dimensions as taps,
done with scrambled Sobol points and their mirror images: few per window where windows are many, since every block of
windows gets points of its own and the errors average out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc

from lensnet.levels.signal import Law, Signal
from lensnet.predict.gaussian_copula import Chain, CorrelationTable, push
from lensnet.predict.window_taps import TapTable

Array = NDArray[np.float64]

_EVALUATIONS = 1 << 19  # windows x points, about: a pool takes about a second, and its error stays below 0.3 %
_BLOCK = 1 << 11
_NODES = 64
_RIDGE = 1e-6  # keeps the roots of nearly singular correlations real


@dataclass(frozen=True)
class Maximum:
    """`mean`, `second_moment`: fields `(E, *positions_out)`; `wins`: probability that a tap is the largest (the first
    of equals), `(E, outputs, taps)`."""

    mean: Array
    second_moment: Array
    wins: Array


class WindowMaximum:
    """The maximum over every window of one signal.

    `products`: E[x_s x_t] of the taps s <= t of every window over the channels of a measured signal,
    `(E, *positions_out, taps*(taps+1)/2)`; or one number: the correlation common to all pairs of Gaussians. Where the
    law of the signal is unknown its values themselves are taken as Gaussian. The law gives the shape of the
    distribution and the signal's second moment its size, so a law known up to a factor is enough.
    """

    def __init__(self, taps: TapTable, signal: Signal, products: Array | float) -> None:
        self.taps = taps
        self.products = np.asarray(products, dtype=float)
        law = signal.law or Law(signal.mean, signal.variance, float("inf"), "")
        self.chain: Chain = tuple(law.chain)
        fields = np.broadcast_arrays(law.mean, law.variance, signal.second_moment, signal.mean)
        self.level, variance, self.second_moment, self.mean = (np.asarray(field, dtype=float) for field in fields)
        self.sd = np.sqrt(np.maximum(variance, 1e-300))

    @cached_property
    def result(self) -> Maximum:
        levels, sds = self.taps.take(self.level), self.taps.take(self.sd)
        correlations = self._correlations(levels, sds)
        examples, outputs, count = sds.shape
        windows = examples * outputs
        levels = np.where(self.taps.inside, levels, 0.0).reshape(windows, count)
        inside = np.broadcast_to(self.taps.inside, sds.shape).reshape(windows, count)
        sds, correlations = sds.reshape(windows, count), correlations.reshape(windows, count, count)
        first, second, wins = np.empty(windows), np.empty(windows), np.empty((windows, count))
        points = _points(count, windows)
        for number, start in enumerate(range(0, windows, _BLOCK)):
            block = slice(start, start + _BLOCK)
            roots = (sds[block, :, None] * _roots(correlations[block])).astype(np.float32)
            spread = (roots.reshape(-1, count) @ _sobol(count, points, number)).reshape(len(roots), count, points)
            first[block], second[block], wins[block] = self._moments(levels[block], spread, inside[block])
        shape = (examples, *self.taps.positions_out)
        size, mean, law_mean = (field.reshape(shape) for field in self._size())
        return Maximum(
            mean + size * (first.reshape(shape) - law_mean),
            size**2 * second.reshape(shape),
            wins.reshape(examples, outputs, count),
        )

    def _moments(
        self, level: Array, spread: NDArray[np.float32], inside: NDArray[np.bool_]
    ) -> tuple[Array, Array, Array]:
        """Mean and second moment of the maximum and the win probabilities, over the points (last axis of `spread`,
        `(windows, taps, points)`) and their mirror images."""
        windows, count, points = spread.shape
        first, second, wins = np.zeros(windows), np.zeros(windows), np.zeros((windows, count))
        for sign in (np.float32(1), np.float32(-1)):
            largest = np.full((windows, points), -np.inf, np.float32)
            winner = np.zeros((windows, points), np.int8)
            for tap in range(count):
                values = push(self.chain, level[:, tap, None].astype(np.float32) + sign * spread[:, tap])
                better = (values > largest) & inside[:, tap, None]
                np.copyto(largest, values, where=better, casting="unsafe")
                np.copyto(winner, np.int8(tap), where=better)
            first += largest.mean(axis=1, dtype=float) / 2
            second += np.einsum("wp,wp->w", largest, largest) / (2 * points)
            for tap in range(count):
                wins[:, tap] += np.count_nonzero(winner == tap, axis=1) / (2 * points)
        return first, second, wins

    def _correlations(self, levels: Array, sds: Array) -> Array:
        """Correlation matrix of the Gaussians behind the taps, `(E, outputs, taps, taps)`."""
        examples, outputs, count = sds.shape
        eye = np.eye(count)
        if self.products.ndim == 0:
            common = np.clip(self.products, -1 / max(count - 1, 1), 1.0)
            return np.broadcast_to(eye + common * (1 - eye), (examples, outputs, count, count))
        rows, columns = np.triu_indices(count)
        products = self.products.reshape(len(self.products), outputs, -1)
        power = np.sqrt(np.maximum(products[..., rows == columns], 1e-300))
        share = self.taps.take(self.mean / np.sqrt(np.maximum(self.second_moment, 1e-300)))
        left = np.sqrt(np.maximum(1 - share**2, 1e-9))
        pairs = products / (power[..., rows] * power[..., columns]) - share[..., rows] * share[..., columns]
        pairs = pairs / (left[..., rows] * left[..., columns])
        if self.chain:
            ratios = levels / sds
            table = CorrelationTable(self.chain, ratios, sds)
            pairs = table(
                pairs, (ratios[..., rows] + ratios[..., columns]) / 2, np.sqrt(sds[..., rows] * sds[..., columns])
            )
        out = np.empty((len(pairs), outputs, count, count))
        out[..., rows, columns] = out[..., columns, rows] = np.clip(pairs, -1.0, 1.0)
        out[..., np.arange(count), np.arange(count)] = 1.0
        return out

    def _size(self) -> tuple[Array, Array, Array]:
        """By how much the signal is larger than its law says (a root of second moments), the signal's mean, and the
        mean that its law says: averages over the taps of each window."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        law, law_mean = np.zeros_like(self.sd), np.zeros_like(self.sd)
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            values = push(self.chain, self.level + self.sd * node)
            law += weight * values**2
            law_mean += weight * values
        averages = [
            np.where(self.taps.inside, self.taps.take(field), 0.0).sum(axis=-1) / self.taps.inside.sum(axis=-1)
            for field in (self.second_moment, law, self.mean, law_mean)
        ]
        return np.sqrt(averages[0] / np.maximum(averages[1], 1e-300)), averages[2], averages[3]


def maximum_gradient(taps: TapTable, wins: Array, gradient: Array) -> Array:
    """Second moment of the gradient at the pool's input: each output's gradient goes to its winner alone.

    `gradient`: `(E, *positions_out)`. The gradients of overlapping windows are taken as uncorrelated.
    """
    outputs = np.broadcast_to(gradient, (max(len(gradient), len(wins)), *taps.positions_out))
    return taps.give(wins * outputs.reshape(len(outputs), -1, 1))


def _points(count: int, windows: int) -> int:
    """Points (a power of two) per window: few where windows are many."""
    return int(np.clip(2 ** ceil(log2(max(1.0, _EVALUATIONS / windows))), 16, 4096)) if count > 1 else 256


@lru_cache(maxsize=256)
def _sobol(count: int, points: int, seed: int) -> NDArray[np.float32]:
    """Normal points `(count, points)` with unit covariance, scrambled by `seed`."""
    uniform = qmc.Sobol(count, seed=seed).random(points)
    normal = ndtri(np.clip(uniform, 1e-12, 1 - 1e-12)).T
    whiten = np.linalg.inv(np.linalg.cholesky(normal @ normal.T / points))
    return np.asarray(whiten @ normal, dtype=np.float32)


def _roots(correlations: Array) -> Array:
    """Square roots A with A A^T = the correlations, one matrix per window. Sampling noise makes a few of the matrices
    indefinite: these get their negative eigenvalues removed."""
    root, definite = _cholesky(correlations)
    if not definite.all():
        values, vectors = np.linalg.eigh(correlations[~definite])
        mended = vectors * np.sqrt(np.maximum(values, _RIDGE))[..., None, :]
        root[~definite] = mended / np.sqrt((mended**2).sum(axis=-1, keepdims=True))
    return root


def _cholesky(matrices: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Lower triangular roots, and which matrices are positive definite (the roots of the others are meaningless).

    numpy's own raises as soon as one of a million matrices is not.
    """
    count = matrices.shape[-1]
    root = np.zeros_like(matrices)
    definite = np.ones(len(matrices), dtype=bool)
    for i in range(count):
        pivot = matrices[:, i, i] + _RIDGE - (root[:, i, :i] ** 2).sum(axis=-1)
        definite &= pivot > _RIDGE / 2
        root[:, i, i] = np.sqrt(np.where(definite, pivot, 1.0))
        rest = matrices[:, i + 1 :, i] - np.einsum("wtk,wk->wt", root[:, i + 1 :, :i], root[:, i, :i])
        root[:, i + 1 :, i] = np.where(definite[:, None], rest / root[:, i, i, None], 0.0)
    return root, definite
