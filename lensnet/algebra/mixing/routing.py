"""Shares that two samples give to the same paths: softmax and top-k gates on ratings of any covariance, by sampling.

Every path rates every sample by weights of its own, so that the ratings of one path are Gaussian over weight draws with
the covariance of the samples, and those of different paths are independent. What two samples a, b have in common is

    E sum_e s_e(a) s_e(b)          the covariance behind experts of independent weights
    E tr J(a) J(b)^T               J = ds/drating: the same of the gradient

Each is an average over ratings of all samples together (no two samples can be averaged apart and stay a covariance).
A sample with itself is known exactly (`top_k_moments`, `softmax_moments`), and the rest is scaled to that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.mixing.softmax_moments import softmax_moments
from lensnet.algebra.mixing.token_gram import gram_root
from lensnet.algebra.mixing.top_k_moments import gate_jacobian, gate_square_sum

Array = NDArray[np.float64]

_WORK = 1e10
"""Multiplications that one sample may cost."""
_SLOPE_WORK = 3e8
"""The same for products of all pairs, draw by draw."""
_MEMORY = 1e7
"""Numbers that it may hold."""
MOST = 2**16
"""Most ratings of one sample."""


@dataclass(frozen=True)
class Routing:
    """Sampled shares. `variance`: of the ratings of each sample, (N,); `kept`: paths that a sample uses (all: a plain
    softmax); `renormalised`: the shares of these sum to one. `ratings`: (S, count, N).
    """

    variance: Array
    count: int
    kept: int
    renormalised: bool
    ratings: Array

    @classmethod
    def draw(cls, covariance: Array, count: int, kept: int, renormalised: bool, most: int = MOST) -> Routing:
        """Sample at most `most` ratings of each sample, of covariance (N, N), by `count` paths; the same every time."""
        root = gram_root(covariance, len(covariance))
        size, rank = root.shape
        draws = max(4, round(min(most, _WORK / (2.0 * size * (size + rank)), _MEMORY / size) / count))
        source = np.random.default_rng([crc32(np.round(covariance, 9).tobytes()), count, kept])
        noise = source.standard_normal((rank, draws // 2 * count))
        noise = np.concatenate([noise, -noise], axis=1)
        if noise.shape[1] > 2 * rank:  # the sample's own covariance is that of the ratings exactly
            noise = np.asarray(np.linalg.solve(np.linalg.cholesky(noise @ noise.T / noise.shape[1]), noise))
        ratings = (root @ noise).reshape(size, -1, count).transpose(1, 2, 0)
        return cls(np.diagonal(covariance).copy(), count, kept, renormalised, np.ascontiguousarray(ratings))

    @cached_property
    def whole(self) -> Array:
        """The softmax over all paths, (S, count, N)."""
        raw = np.exp(self.ratings - self.ratings.max(axis=1, keepdims=True))
        return np.asarray(raw / raw.sum(axis=1, keepdims=True))

    @cached_property
    def shares(self) -> Array:
        """The shares of the paths in use, 0 for the others."""
        if self.kept == self.count:
            return self.whole
        lowest = np.partition(self.ratings, self.count - self.kept, axis=1)[:, self.count - self.kept]
        used = np.where(self.ratings >= lowest[:, None], self.whole, 0.0)
        return np.asarray(used / used.sum(axis=1, keepdims=True) if self.renormalised else used)

    def together(self) -> tuple[Array, float]:
        """E sum_e s_e(a) s_e(b) for all pairs of samples, (N, N), and its largest standard error (absolute)."""
        exact = self._known("square_sum", gate_square_sum)
        rows = self.shares.reshape(-1, self.shares.shape[-1])
        found = rows.T @ rows / len(self.shares)
        over = (self.shares.mean(axis=2) ** 2).sum(axis=1)
        return _scaled(found, exact), float(over.std() / np.sqrt(len(over)))

    def slopes(self) -> Array:
        """E tr J(a) J(b)^T for all pairs of samples, (N, N)."""
        if self.kept == 1 and self.renormalised:
            return np.zeros((len(self.variance),) * 2)  # the share of the only path is 1 whatever its rating
        exact = self._known("jacobian", gate_jacobian)
        full = self.shares if self.renormalised else self.whole
        found = np.zeros((len(self.variance),) * 2)
        step = max(1, round(len(full) * found.size / _SLOPE_WORK))
        for share, all_of_it in zip(self.shares[::step], full[::step], strict=True):
            both = share.T @ share
            crossed = share.T @ (share * all_of_it)
            found += both - crossed - crossed.T + both * (all_of_it.T @ all_of_it)
        return _scaled(found / len(full[::step]), exact)

    def _known(self, name: str, of_gate: Callable[..., Array]) -> Array:
        """The number of every sample with itself, (N,)."""
        if self.kept == self.count:
            return np.asarray(getattr(softmax_moments(self.variance, self.count), name))
        return np.asarray(of_gate(self.variance, self.count, self.kept, float(self.renormalised)))


def _scaled(found: Array, own: Array) -> Array:
    """The pairs with these numbers on the diagonal."""
    ratio = np.sqrt(own / np.maximum(np.diagonal(found), 1e-300))
    return np.asarray(ratio[:, None] * found * ratio[None, :])
