"""Normal points and square roots of many small correlation matrices, for integrals over windows."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

from lensnet.predict.gaussian_copula import Chain, correlation_table

Array = NDArray[np.float64]

_RIDGE = 1e-6  # keeps the roots of nearly singular correlations real


def gaussian_correlations(chain: Chain, levels: Array, sds: Array, share: Array, products: Array) -> Array:
    """Correlation matrices of the Gaussians behind the taps, `(windows, taps, taps)`.

    levels, sds: mean and standard deviation of those Gaussians, `(windows, taps)`; share: mean over root mean square of
    the values; products: mean products of the values, `(windows, pairs)`, pairs as an upper triangle.
    """
    count = sds.shape[1]
    rows, columns = np.triu_indices(count)
    power = np.sqrt(np.maximum(products[:, rows == columns], 1e-300))
    left = np.sqrt(np.maximum(1 - share**2, 1e-9))
    pairs = products / (power[:, rows] * power[:, columns]) - share[:, rows] * share[:, columns]
    pairs = pairs / (left[:, rows] * left[:, columns])
    if chain:
        ratios = levels / sds
        table = correlation_table(chain, ratios, sds)
        pairs = table(pairs, (ratios[:, rows] + ratios[:, columns]) / 2, np.sqrt(sds[:, rows] * sds[:, columns]))
    out = np.empty((len(pairs), count, count))
    out[:, rows, columns] = out[:, columns, rows] = np.clip(pairs, -1.0, 1.0)
    out[:, np.arange(count), np.arange(count)] = 1.0
    return out


def points_for(count: int, windows: int, evaluations: int) -> int:
    """Points (a power of two) per window: few where windows are many."""
    return int(np.clip(2 ** ceil(log2(max(1.0, evaluations / windows))), 16, 4096)) if count > 1 else 256


@lru_cache(maxsize=256)
def normal_points(count: int, points: int, seed: int) -> NDArray[np.float32]:
    """Normal points `(count, points)` with unit covariance, scrambled by `seed`."""
    from scipy.special import ndtri
    from scipy.stats import qmc  # takes longer to load than all of this to run

    uniform = qmc.Sobol(count, seed=seed).random(points)
    normal = ndtri(np.clip(uniform, 1e-12, 1 - 1e-12)).T
    whiten = np.linalg.inv(np.linalg.cholesky(normal @ normal.T / points))
    return np.asarray(whiten @ normal, dtype=np.float32)


def square_roots(correlations: Array) -> Array:
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
