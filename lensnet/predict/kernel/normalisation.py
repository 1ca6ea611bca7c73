"""Normalisation over samples at the kernel level: batch normalisation, and norms over the positions of an example.

Batch normalisation divides every channel by its own length over the batch: a random number that no Gram matrix holds.
For a Gaussian channel x with covariance S over the N samples (centred), averages of x x^T and of four factors x over
powers of s = x^T x/N + eps are one-dimensional integrals, since 1/s^k = integral t^(k-1) exp(-t s) dt / Gamma(k) leaves
a Gaussian of covariance S/(1 + 2 t S/N) (docs/effects/kernels.md). They are exact at every batch size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lensnet.levels.bands import BandPairs
from lensnet.levels.ladder import Level
from lensnet.levels.pairs import Pairs
from lensnet.predict.kernel.environment import Environment, state_operator
from lensnet.predict.prediction import Check

_STEP, _FROM, _TO = 0.25, -34.0, 40.0
MOST_SAMPLES = 1536
"""Most samples whose covariance is diagonalised; beyond them the length of a channel is taken as sharp."""
SHARP = 0.2


@state_operator("batch_normalised")
def batch_normalised(environment: Environment, k: Any, eps: Any) -> Pairs:
    """E of two samples of a channel after its mean over the batch is taken off and it is divided by its length."""
    layout = environment.place.given
    if isinstance(layout, BandPairs):
        return banded(environment, k, float(eps))
    return _normalised(layout.whole(k), float(eps))


def _normalised(k: Pairs, eps: float) -> Pairs:
    centred = _centred(k)
    count, trace = len(centred), float(np.trace(centred))
    if count > MOST_SAMPLES or trace <= 0:
        return np.asarray(centred / (max(trace, 0.0) / count + eps or 1.0))
    values, vectors = _eigen(centred)
    weight, shrunk = _average(values, eps, count)
    return np.asarray((vectors * (weight @ shrunk)) @ vectors.T)


@state_operator("batch_normalised_back")
def batch_normalised_back(environment: Environment, p: Any, k: Any, eps: Any) -> Pairs:
    """Covariance of the gradient below: (H g - x (x.g)/(N s))/sqrt(s), averaged over x; H takes the mean off."""
    layout = environment.place.given
    if isinstance(layout, BandPairs):
        return banded_back(environment, p, k, float(eps))
    return _normalised_back(layout.whole(p), layout.whole(k), float(eps))


def _normalised_back(p: Pairs, k: Pairs, eps: float) -> Pairs:
    gradient, centred = _centred(p), _centred(k)
    count, trace = len(centred), float(np.trace(centred))
    if trace <= 0:
        return gradient / (eps or 1.0)
    if count > MOST_SAMPLES:
        power = trace / count + eps
        unit = centred / power
        along = unit @ gradient
        both = unit * np.sum(unit * gradient) + 2 * along @ unit
        return np.asarray((gradient - (along + along.T) / count + both / count**2) / power)
    values, vectors = _eigen(centred)
    weight, shrunk, t = _weights(values, eps, count)
    seen = vectors.T @ gradient @ vectors
    inverse = float(weight.sum())
    second = (weight * t) @ shrunk
    fourth = weight * t**2 / 2
    pull = fourth * (shrunk @ np.diagonal(seen))
    both = np.diag(pull @ shrunk) + 2 * (shrunk.T * fourth) @ shrunk * seen
    found = inverse * seen - (second[:, None] + second[None, :]) * seen / count + both / count**2
    return np.asarray(vectors @ found @ vectors.T)


@state_operator("normalised_back")
def normalised_back(environment: Environment, p: Any, unit: Any, channels: Any) -> Pairs:
    """Gradient below a norm over the positions of an example and `channels` channels, times its length.

    `unit`: covariance of the normalised signal. What the mean and the length take off, and the scatter of the length
    itself (relative variance r of its square: E 1/length^2 is larger by 1 + r), to leading order in 1/numbers.
    """
    layout, count = environment.place.given, float(np.max(channels))
    gradient, c = layout.split(p), layout.split(unit)
    places = layout.places
    left, right = gradient.mean(axis=1, keepdims=True), gradient.mean(axis=3, keepdims=True)
    total = gradient - (left + right - gradient.mean(axis=(1, 3), keepdims=True)) / count
    own = np.einsum("apaq->apq", c) / places
    along = np.einsum("apq,aqbr->apbr", own, gradient, optimize=True)
    against = np.einsum("apbq,bqr->apbr", gradient, own, optimize=True)
    length = (gradient * c).mean(axis=(1, 3), keepdims=True)
    shared = 2 * np.einsum("apbq,apbq->ab", c, c) / (count * places**2)
    own_scatter = np.diagonal(shared)
    scatter = 1 + 0.375 * (own_scatter[:, None] + own_scatter[None, :]) + 0.25 * shared
    return layout.joined((total - (along + against - c * length) / count) * scatter[:, None, :, None])


def banded(environment: Environment, k: Any, eps: float) -> Pairs:
    """Batch normalisation where few displacements are followed: a sharp length, and means over the batch read off those
    that are. A quarter of the relative variance of the length, 2 tr C^2/(tr C)^2, is the error: what it was seen to be
    for smooth images and photographs."""
    layout, memory = environment.place.given, environment.place.memory
    if layout.complete and layout.count <= MOST_SAMPLES:
        return layout.from_full(_normalised(layout.to_full(k), eps))
    if "batch" not in memory:
        row = layout.mean_second(k).mean(axis=1)
        total = float(max(row.mean(), 0.0))
        most = np.sqrt(total * layout.diagonal(k))  # of a few displacements, an average may be off; never beyond this
        row = np.clip(row, -most, most)
        power = float(np.maximum(layout.diagonal(k) - 2 * row + total, 0.0).mean())
        centred = layout.whole(k) - layout.first(row) - layout.second(row) + total
        scatter = 2 * float(layout.mean_all(centred**2).mean()) / power**2 if power > 0 else 0.0
        memory["batch"] = row, total, power, scatter
    row, total, power, scatter = memory["batch"]
    environment.sampled = max(environment.sampled, 0.25 * scatter)
    environment.checks.append(sharp(scatter))
    return np.asarray(
        layout.whole(layout.whole(k) - layout.first(row) - layout.second(row) + total) / (power + eps or 1.0)
    )


def banded_back(environment: Environment, p: Any, k: Any, eps: float) -> Pairs:
    """The gradient below it. What is along the mean over the batch or along the signal is left in: of N samples each is
    1/N of it, and a norm above, followed at every displacement, has taken off what all samples have in common."""
    layout = environment.place.given
    if layout.complete and layout.count <= MOST_SAMPLES:
        return layout.from_full(_normalised_back(layout.to_full(p), layout.to_full(k), eps))
    if "batch" not in environment.place.memory:
        banded(environment, k, eps)
    return np.asarray(layout.whole(p) / (environment.place.memory["batch"][2] + eps or 1.0))


def sharp(scatter: float) -> Check:
    """Whether channels have one and the same length over the batch, from the relative variance of its square."""
    text = f"the length of a channel over the batch is sharp (relative variance at most {SHARP:g})"
    return Check(text, max(1.0 - scatter / SHARP, -1.0), Level.FLUCTUATION)


def length_weights(values: Pairs, eps: float) -> Pairs:
    """E w_i^2/s of independent standard normal w with s = sum_j values_j w_j^2 + eps, `(n,)`."""
    weight, shrunk, _ = _weights(values * len(values), eps, len(values))
    whole = np.where(values > 0, values * len(values), 1.0)
    fine = weight.sum()
    return np.asarray(np.where(values > 0, (weight @ shrunk) / whole, fine))


def _centred(pairs: Pairs) -> Pairs:
    left = pairs - pairs.mean(axis=0, keepdims=True)
    return np.asarray(left - left.mean(axis=1, keepdims=True))


def _eigen(centred: Pairs) -> tuple[Pairs, Pairs]:
    values, vectors = np.linalg.eigh(centred)
    return np.maximum(values, 0.0), vectors


def _average(values: Pairs, eps: float, count: int) -> tuple[Pairs, Pairs]:
    weight, shrunk, _ = _weights(values, eps, count)
    return weight, shrunk


def _weights(values: Pairs, eps: float, count: int) -> tuple[Pairs, Pairs, Pairs]:
    """Nodes t with weights dt exp(-t eps) det(1 + 2 t S/N)^(-1/2), and S/(1 + 2 t S/N) at each: (T,), (T, N), (T,)."""
    scale = float(values.sum()) / count
    t = np.exp(np.arange(_FROM, _TO, _STEP)) / scale
    grown = 1.0 + 2.0 * t[:, None] * values / count
    weight = _STEP * t * np.exp(-t * eps - 0.5 * np.log(grown).sum(axis=1))
    return weight, values / grown, t


__all__ = ["batch_normalised", "batch_normalised_back", "normalised_back"]
