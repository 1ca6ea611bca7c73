"""Max pooling at the kernel level: the maxima of every two windows, and the gradients that their winners receive.

The expansion is that of `maxima`; this module knows where windows lie. Its error is measured where it is used: a few
dozen pairs of windows are integrated directly, and twice the typical difference is the error of the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensnet.algebra.gaussian import expect
from lensnet.levels.covariance import Covariance
from lensnet.levels.pairs import Field, FullPairs, Pairs
from lensnet.network.geometry import Window
from lensnet.predict.kernel.environment import Environment, state_operator
from lensnet.predict.kernel.maxima import Maxima, joint_wins, maxima, sampled
from lensnet.predict.kernel.pointwise import behind, channel
from lensnet.predict.window_taps import tap_table

_ENTRIES = 1 << 21
_TRIED = 48


class Pool:
    """The windows of one max pool over one state. Windows and samples are counted example-major."""

    def __init__(self, window: Window, state: Covariance, measured: bool) -> None:
        self.state, self.population = state, behind(state)
        layout: FullPairs = state.layout
        taps = tap_table(window, layout.positions)
        offsets = np.arange(layout.examples)[:, None, None] * layout.places
        self.examples, (self.outputs, self.taps) = layout.examples, taps.index.shape
        self.index = (taps.index + offsets).reshape(-1, self.taps)
        self.inside = np.tile(taps.inside, (layout.examples, 1))
        self.function = channel(self.population)
        scale, shift = (layout.flat(value) for value in (self.population.scale, self.population.shift))
        if measured:  # the law gives the shape, the measured second moment the size
            law_of = expect(self.function, self.population.mean, np.sqrt(self.population.variance))
            law = scale**2 * layout.flat(law_of.second_moment.value) + shift * (
                2 * scale * layout.flat(law_of.mean.value) + shift
            )
            size = np.sqrt(layout.flat(state.second_moment) / np.where(law > 0, law, 1.0))
            scale, shift = scale * size, shift * size
        level = layout.flat(self.population.mean)
        self.level, self.scale, self.shift = (v[self.index] * self.inside for v in (level, scale, shift))
        pieces = self.function.pieces
        sharp = pieces is not None and all(len(polynomial) <= 2 for polynomial in pieces[1])
        self.covariance = layout.whole(self.population.covariance)
        own = self.between(np.arange(len(self.index)), np.arange(len(self.index)))
        self.maxima: Maxima = maxima(
            self.level, own, self.inside, self.scale, self.shift, self.function, self.function.derivative, sharp
        )

    def between(self, u: NDArray[np.intp], v: NDArray[np.intp]) -> Pairs:
        """Covariances of the Gaussians behind the taps of windows u and v, `(n, T, T)`; 0 for taps outside."""
        found = self.covariance[self.index[u][:, :, None], self.index[v][:, None, :]]
        return np.asarray(found * (self.inside[u][:, :, None] & self.inside[v][:, None, :]))

    def blocks(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """All pairs of windows u <= v, some at a time."""
        windows = len(self.index)
        first, second = np.triu_indices(windows)
        step = max(1, _ENTRIES // self.taps**2)
        for start in range(0, len(first), step):
            yield first[start : start + step], second[start : start + step]

    def error(self) -> float:
        """Twice the root mean square difference of the expansion from direct integrals over some pairs, relative to
        their size."""
        rng = np.random.default_rng(0)
        windows = len(self.index)
        u, apart = rng.integers(windows, size=_TRIED), rng.integers(1, 3, size=_TRIED)
        other = np.where(np.arange(_TRIED) % 2, u + apart, u + self.outputs)  # a neighbour, or the same place
        v = other % windows
        cross = self.between(u, v)
        covariance = np.block([[self.between(u, u), cross], [cross.transpose(0, 2, 1), self.between(v, v)]])
        both = (np.concatenate([x[u], x[v]], axis=1) for x in (self.level, self.inside, self.scale, self.shift))
        level, inside, scale, shift = both
        truth = sampled(level, covariance, inside, scale, shift, self.function)
        size = np.sqrt(self.maxima.second_moment[u] * self.maxima.second_moment[v])
        off = (self.maxima.products(u, v, cross) - truth) / np.where(size > 0, size, 1.0)
        return float(2 * np.sqrt(np.mean(off**2)))


@state_operator("window_max_level")
def window_max_level(environment: Environment, k: Any) -> Field:
    """E of the maximum over every window, a field of the output."""
    pool = _pool(environment)
    return pool.maxima.mean.reshape(environment.place.made.field_shape)


@state_operator("window_max_kernel")
def window_max_kernel(environment: Environment, k: Any) -> Pairs:
    """E of the product of the maxima of every two windows."""
    pool = _pool(environment)
    out = np.empty(environment.place.made.shape)
    for u, v in pool.blocks():
        out[u, v] = out[v, u] = pool.maxima.products(u, v, pool.between(u, v))
    np.fill_diagonal(out, pool.maxima.second_moment)
    fresh = pool.population.plain and np.isfinite(pool.population.terms)  # behind a function it was counted there
    environment.sampled = max(environment.sampled, pool.error() + (1.0 / pool.population.terms if fresh else 0.0))
    return out


@state_operator("window_max_gradient")
def window_max_gradient(environment: Environment, p: Any) -> Pairs:
    """Each gradient goes to the winner of its window; `environment.passed` gets the same times the slopes there."""
    pool, place = _pool(environment), environment.place
    gradient = place.made.whole(p)
    plain, passed = (np.zeros(place.given.shape) for _ in range(2))
    for u, v in pool.blocks():
        some = (gradient[u, v] != 0) | (gradient[v, u] != 0)
        u, v = u[some], v[some]
        if not len(u):
            continue
        cross, aligned = pool.between(u, v), u % pool.outputs == v % pool.outputs
        for total, of in ((plain, pool.maxima.wins), (passed, pool.maxima.passes)):
            joint = joint_wins(of, u, v, cross, aligned)
            same = u == v
            joint[same] = of.power[u[same]][:, :, None] * np.eye(pool.taps)
            _give(total, pool, u, v, joint * gradient[u, v][:, None, None])
            other = ~same
            turned = joint[other].transpose(0, 2, 1) * gradient[v[other], u[other]][:, None, None]
            _give(total, pool, v[other], u[other], turned)
    environment.passed = passed
    return plain


def _give(total: Pairs, pool: Pool, u: NDArray[np.intp], v: NDArray[np.intp], joint: Pairs) -> None:
    real = pool.inside[u][:, :, None] & pool.inside[v][:, None, :]
    places = pool.index[u][:, :, None] * total.shape[1] + pool.index[v][:, None, :]
    total += np.bincount(places[real], joint[real], minlength=total.size).reshape(total.shape)


def _pool(environment: Environment) -> Pool:
    """The pool over this state; forward, backward and the mean ask for the same one."""
    state, place = environment.states[0], environment.place
    known = place.memory.get("pool")
    if known is None or known.state is not state:
        assert isinstance(place.node.geometry, Window)
        known = place.memory["pool"] = Pool(place.node.geometry, state, place.measured)
    found: Pool = known
    return found
