"""Maxima over windows of jointly Gaussian taps: averages of one window, and of two windows at once.

A tap is f(g) of a Gaussian g, the maximum F of a window a function of its T Gaussians. For two windows u, v whose
Gaussians have the cross covariance C (T, T), the Hermite expansion over both (Mehler's formula in T dimensions) reads

    E F_u F_v = E F_u E F_v + a_u^T C a_v + tr(H_u C H_v C^T)/2 + rest,

with a = E grad F (which tap wins, times its slope) and H = E of the second derivatives: numbers of one window alone,
found by quasi Monte Carlo over its T Gaussians. The rest is what a window with itself leaves, the square root of both
windows' rests, times a function of their correlation that is the exact one for a single rectified tap. The same
expansion, one order lower, holds for which tap wins in both windows: what a gradient needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lensnet.predict.window_integrals import normal_points, points_for

Array = NDArray[np.float64]
Places = NDArray[np.intp]
Function = Callable[[Array], Array]

_EVALUATIONS, _BLOCK = 1 << 21, 1 << 22
_CUT = 1e-3
"""Directions of a window with less of its variance than this are left out of the derivatives."""


@dataclass(frozen=True)
class Winners:
    """Which tap wins, weighted: D_s = 1 where tap s is the largest, times a function of its Gaussian.

    `share`, `power`: E D, E D^2, `(W, T)`; `pull`: E of the derivative of D_s by the Gaussian t, `(W, T, T)`; `linear`:
    trace of pull covariance pull^T, `(W,)`; `rest`: a square root of what share and pull leave of E D_s D_t,
    `(W, T, T)`.
    """

    share: Array
    power: Array
    pull: Array
    linear: Array
    rest: Array


@dataclass(frozen=True)
class Maxima:
    """Averages over single windows: E F, E F^2 `(W,)`; a `(W, T)`; H `(W, T, T)`; what orders 1, 2 and the others make
    of the variance `(W,)`; and the winners, alone and with the slope of their tap."""

    mean: Array
    second_moment: Array
    slope: Array
    bend: Array
    linear: Array
    quadratic: Array
    rest: Array
    wins: Winners
    passes: Winners
    sharp: bool

    def products(self, u: Places, v: Places, cross: Array) -> Array:
        """E F_u F_v for windows u, v `(n,)` whose Gaussians have these covariances `(n, T, T)`."""
        along = np.einsum("ns,nst,nt->n", self.slope[u], cross, self.slope[v], optimize=True)
        curved = 0.5 * ((self.bend[u] @ cross @ self.bend[v]) * cross).sum(axis=(1, 2))
        linear, quadratic = (np.sqrt(part[u] * part[v]) for part in (self.linear, self.quadratic))
        alike = along * np.abs(along) / np.maximum(linear, 1e-300) + curved
        square = alike / np.maximum(linear + quadratic, 1e-300)
        rest = np.sqrt(self.rest[u] * self.rest[v]) * (_kinked(square) if self.sharp else _smooth(square))
        return np.asarray(self.mean[u] * self.mean[v] + along + curved + rest)


def joint_wins(of: Winners, u: Places, v: Places, cross: Array, aligned: NDArray[np.bool_]) -> Array:
    """E D_s(u) D_t(v), `(n, T, T)`. `aligned`: where both windows are at one place (of two examples)."""
    along = of.pull[u] @ cross @ of.pull[v].transpose(0, 2, 1)
    out = of.share[u][:, :, None] * of.share[v][:, None, :] + along
    size = np.sqrt(of.linear[u] * of.linear[v])
    cosine = np.einsum("nss->n", along) / np.maximum(size, 1e-300)
    weight = _stepped(cosine) * aligned
    out += weight[:, None, None] * (of.rest[u] @ of.rest[v].transpose(0, 2, 1))
    return np.maximum(out, 0.0)


def maxima(
    level: Array,
    covariance: Array,
    inside: NDArray[np.bool_],
    scale: Array,
    shift: Array,
    f: Function,
    slope: Function,
    sharp: bool,
) -> Maxima:
    """Averages over every window.

    level, covariance: of the Gaussians, `(W, T)`, `(W, T, T)`; inside: taps that take part; scale, shift: `(W, T)`, a
    tap is scale*f(g) + shift. `sharp`: f is piecewise linear, so that the rest is that of a kink.
    """
    windows, count = level.shape
    points = points_for(count, windows, _EVALUATIONS)
    values, vectors = _axes(covariance)
    kept = values > _CUT * values.sum(axis=1, keepdims=True)
    root = vectors * np.sqrt(values)[:, None, :]
    back = np.where(kept, 1 / np.sqrt(np.where(kept, values, 1.0)), 0.0)[:, :, None] * vectors.transpose(0, 2, 1)
    first, second = np.zeros(windows), np.zeros(windows)
    sums = [np.zeros((windows, count, 2 + count)) for _ in range(3)]  # E D, E D^2, E D z of wins, passes, scaled
    step = max(1, _BLOCK // (count * points))
    for number, start in enumerate(range(0, windows, step)):
        block = slice(start, start + step)
        z = np.asarray(normal_points(count, points, number), dtype=float)
        for sign in (1.0, -1.0):
            g = level[block, :, None] + sign * (root[block] @ z)
            taps = np.where(inside[block, :, None], scale[block, :, None] * f(g) + shift[block, :, None], -np.inf)
            winner = taps.argmax(axis=1)[:, None, :]
            largest = np.take_along_axis(taps, winner, axis=1)[:, 0]
            first[block] += largest.mean(axis=1) / 2
            second[block] += (largest**2).mean(axis=1) / 2
            won = winner == np.arange(count)[:, None]
            passed = won * slope(g)
            for total, weight in zip(sums, (won * 1.0, passed, passed * scale[block, :, None]), strict=True):
                total[block, :, 0] += weight.mean(axis=2) / 2
                total[block, :, 1] += (weight**2).mean(axis=2) / 2
                total[block, :, 2:] += sign * (weight @ z.T) / (2 * points)
    wins, passes = (_winners(total, back, covariance) for total in sums[:2])
    a, bend = sums[2][:, :, 0], sums[2][:, :, 2:] @ back
    bend = (bend + bend.transpose(0, 2, 1)) / 2
    linear = np.einsum("ws,wst,wt->w", a, covariance, a, optimize=True)
    turned = bend @ covariance
    quadratic = 0.5 * np.einsum("wst,wts->w", turned, turned)
    rest = np.maximum(second - first**2 - linear - quadratic, 0.0)
    return Maxima(first, second, a, bend, linear, quadratic, rest, wins, passes, sharp)


def sampled(
    level: Array, covariance: Array, inside: NDArray[np.bool_], scale: Array, shift: Array, f: Function, seed: int = 0
) -> Array:
    """E F_u F_v of single pairs by quasi Monte Carlo over all 2T Gaussians, `(n,)`: what the expansion is held against.

    Arguments as for `maxima`, the taps of u and v one behind the other: `(n, 2T)`, `(n, 2T, 2T)`.
    """
    count = level.shape[1]
    values, vectors = _axes(covariance)
    z = np.asarray(normal_points(count, 2048, seed), dtype=float)
    out = np.zeros(len(level))
    for sign in (1.0, -1.0):
        spread = (vectors * np.sqrt(values)[:, None, :]) @ z
        g = level[:, :, None] + sign * spread
        taps = np.where(inside[:, :, None], scale[:, :, None] * f(g) + shift[:, :, None], -np.inf)
        half = count // 2
        out += (taps[:, :half].max(axis=1) * taps[:, half:].max(axis=1)).mean(axis=1) / 2
    return out


def _axes(covariance: Array) -> tuple[Array, Array]:
    """Eigenvalues, none below 0, and eigenvectors, each on a fixed side: rounding alone would turn them round, and a
    mirrored set of points gives another estimate."""
    values, vectors = np.linalg.eigh(covariance)
    side = np.cos(1.0 + np.arange(covariance.shape[-1])) @ vectors
    return np.maximum(values, 0.0), vectors * np.where(side < 0, -1.0, 1.0)[..., None, :]


def _winners(total: Array, back: Array, covariance: Array) -> Winners:
    share, power, pull = total[:, :, 0], total[:, :, 1], total[:, :, 2:] @ back
    seen = pull @ covariance @ pull.transpose(0, 2, 1)
    own = power[:, :, None] * np.eye(share.shape[1])
    values, vectors = np.linalg.eigh(own - share[:, :, None] * share[:, None, :] - seen)
    rest = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :] @ vectors.transpose(0, 2, 1)
    return Winners(share, power, pull, np.einsum("wss->w", seen), rest)


def _kinked(square: Array) -> Array:
    """What the arc-cosine kernel keeps beyond its second order, 1 at correlation 1; of the square of a correlation."""
    r = np.sqrt(np.clip(square, 0.0, 1.0))
    kernel = np.sqrt(1 - r * r) + r * (np.pi - np.arccos(r))
    return np.asarray((kernel - 1 - r * np.pi / 2 - r * r / 2) / (np.pi - 1.5 - np.pi / 2))


def _smooth(square: Array) -> Array:
    """The third order, of the square of a correlation."""
    return np.asarray(np.sign(square) * np.minimum(np.abs(square), 1.0) ** 1.5)


def _stepped(cosine: Array) -> Array:
    """What the kernel of a step keeps beyond its first order, 1 at correlation 1."""
    r = np.clip(cosine, -1.0, 1.0)
    return np.asarray((np.arcsin(r) - r) / (np.pi / 2 - 1))
