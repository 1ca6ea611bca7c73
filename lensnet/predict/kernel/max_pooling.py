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
from lensnet.levels.pairs import Field, Pairs
from lensnet.network.geometry import Window
from lensnet.predict.kernel.environment import Environment, state_operator
from lensnet.predict.kernel.maxima import Maxima, joint_wins, maxima, sampled
from lensnet.predict.kernel.pointwise import behind, channel
from lensnet.predict.window_taps import tap_table

_ENTRIES = 1 << 21
_TRIED = 48


class Pool:
    """The windows of one max pool over one state. Windows and samples are counted example-major."""

    def __init__(self, window: Window, state: Covariance, measured: bool, known: Pool | None = None) -> None:
        self.state, self.population = state, behind(state)
        layout = state.layout
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
        self._error: float | None = None if known is None else known._error
        if known is not None:  # other displacements of the same windows
            self.maxima: Maxima = known.maxima
            return
        own = self.between(np.arange(len(self.index)), np.arange(len(self.index)))
        self.maxima = maxima(
            self.level, own, self.inside, self.scale, self.shift, self.function, self.function.derivative, sharp
        )

    def between(self, u: NDArray[np.intp], v: NDArray[np.intp]) -> Pairs:
        """Covariances of the Gaussians behind the taps of windows u and v, `(n, T, T)`; 0 for taps outside."""
        slots = self.state.layout.slots(self.index[u][:, :, None], self.index[v][:, None, :])
        known = (slots >= 0) & self.inside[u][:, :, None] & self.inside[v][:, None, :]
        return np.where(known, self.covariance.reshape(-1)[slots], 0.0)

    def blocks(self, made: Any) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """All pairs of windows that the layout `made` follows, each once, some at a time."""
        first, second = made.unordered()
        step = max(1, _ENTRIES // self.taps**2)
        for start in range(0, len(first), step):
            yield first[start : start + step], second[start : start + step]

    def error(self, made: Any) -> float:
        """Twice the root mean square difference of the expansion from direct integrals over some pairs, relative to
        their size."""
        if self._error is not None:
            return self._error
        rng, windows = np.random.default_rng(0), len(self.index)
        here = rng.integers(windows, size=_TRIED // 2)  # the same place in two examples, and any pair
        pairs = made.unordered()
        some = rng.integers(len(pairs[0]), size=_TRIED // 2)
        u, v = (
            np.concatenate([a, b[some]]) for a, b in zip((here, (here + self.outputs) % windows), pairs, strict=True)
        )
        cross = self.between(u, v)
        covariance = np.block([[self.between(u, u), cross], [cross.transpose(0, 2, 1), self.between(v, v)]])
        both = (np.concatenate([x[u], x[v]], axis=1) for x in (self.level, self.inside, self.scale, self.shift))
        level, inside, scale, shift = both
        truth = sampled(level, covariance, inside, scale, shift, self.function)
        size = np.sqrt(self.maxima.second_moment[u] * self.maxima.second_moment[v])
        off = (self.maxima.products(u, v, cross) - truth) / np.where(size > 0, size, 1.0)
        self._error = float(2 * np.sqrt(np.mean(off**2)))
        return self._error


@state_operator("window_max_level")
def window_max_level(environment: Environment, k: Any) -> Field:
    """E of the maximum over every window, a field of the output."""
    pool = _pool(environment)
    return pool.maxima.mean.reshape(environment.place.made.field_shape)


@state_operator("window_max_kernel")
def window_max_kernel(environment: Environment, k: Any) -> Pairs:
    """E of the product of the maxima of every two windows."""
    pool, made = _pool(environment), environment.place.made
    out = np.zeros(made.shape)
    flat = out.reshape(-1)
    for u, v in pool.blocks(made):
        found = pool.maxima.products(u, v, pool.between(u, v))
        flat[made.slots(u, v)] = flat[made.slots(v, u)] = np.where(u == v, pool.maxima.second_moment[u], found)
    fresh = pool.population.plain and np.isfinite(pool.population.terms)  # behind a function it was counted there
    environment.sampled = max(environment.sampled, pool.error(made) + (1.0 / pool.population.terms if fresh else 0.0))
    return out


@state_operator("window_max_gradient")
def window_max_gradient(environment: Environment, p: Any) -> Pairs:
    """Each gradient goes to the winner of its window; `environment.passed` gets the same times the slopes there."""
    pool, place = _pool(environment), environment.place
    gradient = np.ascontiguousarray(place.made.whole(p)).reshape(-1)
    plain, passed = (np.zeros(place.given.shape) for _ in range(2))
    for u, v in pool.blocks(place.made):
        there, back = gradient[place.made.slots(u, v)], gradient[place.made.slots(v, u)]
        some = (there != 0) | (back != 0)
        u, v, there, back = u[some], v[some], there[some], back[some]
        if not len(u):
            continue
        cross, aligned = pool.between(u, v), u % pool.outputs == v % pool.outputs
        for total, of in ((plain, pool.maxima.wins), (passed, pool.maxima.passes)):
            joint = joint_wins(of, u, v, cross, aligned)
            same = u == v
            joint[same] = of.power[u[same]][:, :, None] * np.eye(pool.taps)
            _give(total, pool, u, v, joint * there[:, None, None])
            other = ~same
            turned = joint[other].transpose(0, 2, 1) * back[other][:, None, None]
            _give(total, pool, v[other], u[other], turned)
    environment.passed = passed
    return plain


def _give(total: Pairs, pool: Pool, u: NDArray[np.intp], v: NDArray[np.intp], joint: Pairs) -> None:
    real = pool.inside[u][:, :, None] & pool.inside[v][:, None, :]
    slots = pool.state.layout.slots(pool.index[u][:, :, None], pool.index[v][:, None, :])
    real &= slots >= 0
    total += np.bincount(slots[real], joint[real], minlength=total.size).reshape(total.shape)


def _pool(environment: Environment) -> Pool:
    """The pool over this state; forward, backward and the mean ask for the same one."""
    state, place = environment.states[0], environment.place
    known = place.memory.get("pool")
    if known is None or known.state is not state:
        assert isinstance(place.node.geometry, Window)
        known = place.memory["pool"] = Pool(place.node.geometry, state, place.measured, known)
    found: Pool = known
    return found
