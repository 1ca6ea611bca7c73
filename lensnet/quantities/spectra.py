"""Numbers read off the eigenvalues of a Gram matrix; the same functions serve a predicted and a measured spectrum.

`eigenvalues` are those of G = Z Z^T/d, `(..., R)` with the R of one matrix last, in any order, for R samples (rows of
Z) of d channels: the squared singular values of Z over d. Rounding leaves tiny negative ones, which count as zero.
Every function gives one number for each matrix, `(...)`; of a single one a float.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Spectrum = NDArray[np.float64]
Numbers = NDArray[np.float64]

RANK_THRESHOLD = 1e-5
"""Eigenvalues above this part of the largest count for the numerical rank (singular values above 0.3 %)."""

DISTORTION = 0.5
"""eps**2, the squared distortion of the coding rate, unless said otherwise (Yu et al. 2020)."""


def spectrum_of(gram: NDArray[np.float64]) -> Spectrum:
    """Eigenvalues of a Gram matrix, ascending, not below zero. All NaN when an entry is not finite."""
    if not np.isfinite(gram).all():
        return np.full(len(gram), np.nan)
    return np.maximum(np.linalg.eigvalsh(gram), 0.0)


def numbers(eigenvalues: Spectrum, channels: ArrayLike) -> dict[str, Numbers]:
    """All five numbers of every spectrum, by the name of the quantity. `channels`: one number, or `(...)`."""
    return {
        "rank": rank(eigenvalues),
        "stable_rank": stable_rank(eigenvalues),
        "effective_rank": effective_rank(eigenvalues),
        "participation_ratio": participation_ratio(eigenvalues),
        "coding_rate": coding_rate(eigenvalues, channels),
    }


def rank(eigenvalues: Spectrum, threshold: float = RANK_THRESHOLD) -> Numbers:
    """How many eigenvalues lie above `threshold` times the largest (count)."""
    largest = eigenvalues.max(axis=-1, initial=0.0)
    count = np.sum(eigenvalues > threshold * largest[..., None], axis=-1)
    known = np.isfinite(eigenvalues).all(axis=-1)
    return np.where(known, count, np.nan)[()]


def stable_rank(eigenvalues: Spectrum) -> Numbers:
    """Sum over the largest: |Z|_F^2 / |Z|_2^2 (count). NaN for a matrix of zeros."""
    return _ratio(eigenvalues.sum(axis=-1), eigenvalues.max(axis=-1, initial=0.0))


def participation_ratio(eigenvalues: Spectrum) -> Numbers:
    """(sum lambda)^2 / sum lambda^2 (count). NaN for a matrix of zeros."""
    return _ratio(eigenvalues.sum(axis=-1) ** 2, np.sum(eigenvalues**2, axis=-1))


def effective_rank(eigenvalues: Spectrum) -> Numbers:
    """exp of the entropy of the singular values over their sum (count; Roy and Vetterli 2007). NaN for zeros."""
    singular = np.sqrt(eigenvalues)
    total = singular.sum(axis=-1, keepdims=True)
    share = _ratio(singular, total)
    logs = np.log(share, out=np.zeros_like(share), where=share != 0)
    return np.exp(-np.sum(share * logs, axis=-1))


def coding_rate(eigenvalues: Spectrum, channels: ArrayLike, distortion: float = DISTORTION) -> Numbers:
    """R = 1/2 logdet(I + d/(R eps^2) G) in nats, for `channels` d and R rows (Yu et al. 2020, eq. 2).

    The rows of Z count as vectors of length |z|/sqrt(d), so that a unit second moment is the unit sphere.
    """
    scale = np.asarray(channels) / (eigenvalues.shape[-1] * distortion)
    return 0.5 * np.sum(np.log1p(scale[..., None] * eigenvalues), axis=-1)


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    """NaN where there is nothing below."""
    known = np.asarray(below) > 0
    out = np.full(np.broadcast_shapes(np.shape(above), known.shape), np.nan)
    return np.divide(above, below, out=out, where=known)[()]
