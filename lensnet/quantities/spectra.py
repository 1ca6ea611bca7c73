"""Numbers read off the eigenvalues of a Gram matrix; the same functions serve a predicted and a measured spectrum.

`eigenvalues` are those of G = Z Z^T/d, `(R,)` in any order, for R samples (rows of Z) of d channels: the squared
singular values of Z over d. Rounding leaves tiny negative ones, which count as zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Spectrum = NDArray[np.float64]

RANK_THRESHOLD = 1e-5
"""Eigenvalues above this part of the largest count for the numerical rank (singular values above 0.3 %)."""

DISTORTION = 0.5
"""eps**2, the squared distortion of the coding rate, unless said otherwise (Yu et al. 2020)."""


def spectrum_of(gram: NDArray[np.float64]) -> Spectrum:
    """Eigenvalues of a Gram matrix, ascending, not below zero. All NaN when an entry is not finite."""
    if not np.isfinite(gram).all():
        return np.full(len(gram), np.nan)
    return np.maximum(np.linalg.eigvalsh(gram), 0.0)


def rank(eigenvalues: Spectrum, threshold: float = RANK_THRESHOLD) -> float:
    """How many eigenvalues lie above `threshold` times the largest (count)."""
    if not np.isfinite(eigenvalues).all():
        return float("nan")
    largest = eigenvalues.max(initial=0.0)
    return float(np.sum(eigenvalues > threshold * largest)) if largest > 0 else 0.0


def stable_rank(eigenvalues: Spectrum) -> float:
    """Sum over the largest: |Z|_F^2 / |Z|_2^2 (count). NaN for a matrix of zeros."""
    return _ratio(float(eigenvalues.sum()), float(eigenvalues.max(initial=0.0)))


def participation_ratio(eigenvalues: Spectrum) -> float:
    """(sum lambda)^2 / sum lambda^2 (count). NaN for a matrix of zeros."""
    return _ratio(float(eigenvalues.sum()) ** 2, float(np.sum(eigenvalues**2)))


def effective_rank(eigenvalues: Spectrum) -> float:
    """exp of the entropy of the singular values over their sum (count; Roy and Vetterli 2007). NaN for zeros."""
    singular = np.sqrt(eigenvalues)
    total = float(singular.sum())
    if not total > 0:
        return float("nan")
    share = singular[singular > 0] / total
    return float(np.exp(-np.sum(share * np.log(share))))


def coding_rate(eigenvalues: Spectrum, channels: int, distortion: float = DISTORTION) -> float:
    """R = 1/2 logdet(I + d/(R eps^2) G) in nats, for `channels` d and R rows (Yu et al. 2020, eq. 2).

    The rows of Z count as vectors of length |z|/sqrt(d), so that a unit second moment is the unit sphere.
    """
    scale = channels / (eigenvalues.size * distortion)
    return 0.5 * float(np.sum(np.log1p(scale * eigenvalues)))


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else float("nan")
