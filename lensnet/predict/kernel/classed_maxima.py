"""Max pooling where pairs are known by class: every window with itself, and typical windows of two examples.

A window with itself is integrated over its own taps, place by place, as in `max_pooling`. Two windows are taken as
typical ones of their examples, at the correlations of their displacement: how alike their maxima are is what a pair
then has of the sizes at both ends. Taps outside the input exist in the windows at the rim alone.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.classes import ClassedPairs
from lensnet.levels.covariance import Covariance
from lensnet.levels.pairs import Field, Pairs
from lensnet.network.geometry import Window
from lensnet.predict.kernel.maxima import Array, Maxima, Places, maxima, sampled
from lensnet.predict.kernel.pointwise import behind, channel
from lensnet.predict.window_taps import tap_table

_ENTRIES, _TRIED = 1 << 21, 48


class ClassedPool:
    """The windows of one max pool over one state, given and made by classes of pairs."""

    def __init__(self, window: Window, state: Covariance, made: ClassedPairs) -> None:
        self.window, self.made = window, made
        self.given: ClassedPairs = state.layout
        self.population = behind(state)
        self.function = channel(self.population)
        pieces = self.function.pieces
        self.sharp = pieces is not None and all(len(polynomial) <= 2 for polynomial in pieces[1])
        size = np.sqrt(self.population.variance)
        self.cosine = np.clip(self.given.cosines(self.population.covariance, size), -1.0, 1.0)
        taps = np.stack(np.unravel_index(np.arange(int(np.prod(window.kernel))), window.kernel), axis=-1)
        self.offsets = (taps[None, :] - taps[:, None]) * np.array(window.dilation)
        self.own_cosine = np.einsum("ee...->e...", self.given.at(self.cosine, self.offsets))

    @cached_property
    def _alone(self) -> tuple[Field, Field]:
        """E F and E F^2 of every window, fields of the output."""
        layout, table = self.given, tap_table(self.window, self.given.positions)
        fields = (self.population.mean, np.sqrt(self.population.variance), self.population.scale, self.population.shift)
        whole = [np.broadcast_to(x, layout.field_shape).reshape(layout.examples, -1)[:, table.index] for x in fields]
        inside = np.broadcast_to(table.inside, whole[0].shape)
        level, size, scale, shift = ((x * inside).reshape(-1, inside.shape[-1]) for x in whole)
        own = self._near(table.index) if self.population.near is not None else self._near_typical(inside.shape[1])
        own = own * size[:, :, None] * size[:, None, :]
        found = self._maxima(level, own, inside.reshape(level.shape), scale, shift)
        return found.mean.reshape(self.made.field_shape), found.second_moment.reshape(self.made.field_shape)

    def _near_typical(self, count: int) -> Array:
        """Correlations of the taps of every window, `(windows, T, T)`: those of their displacement."""
        return np.repeat(self.own_cosine, count, axis=0)

    def _near(self, index: NDArray[np.int64]) -> Array:
        """The same, where covariances are known place by place; `index`: the taps' places, `(outputs, T)`."""
        near, examples = self.population.near, self.given.examples
        assert near is not None
        size = np.sqrt(near.at((0,) * len(self.given.positions))).reshape(examples, -1)
        out = np.ones((examples, *index.shape, index.shape[1]))
        known: dict[tuple[int, ...], Array] = {}
        for a, b in zip(*np.triu_indices(index.shape[1], 1), strict=True):
            offset = tuple(int(x) for x in self.offsets[a, b])
            if offset not in known:
                known[offset] = near.at(offset).reshape(examples, -1)
            both = size[:, index[:, a]] * size[:, index[:, b]]
            cosine = np.divide(known[offset][:, index[:, a]], both, out=np.zeros(both.shape), where=both > 0)
            out[:, :, a, b] = out[:, :, b, a] = np.clip(cosine, -1.0, 1.0)
        return out.reshape(-1, *out.shape[2:])

    @property
    def mean(self) -> Field:
        return self._alone[0]

    @property
    def own(self) -> Field:
        return self._alone[1]

    def _maxima(self, level: Array, covariance: Array, inside: NDArray[np.bool_], scale: Array, shift: Array) -> Maxima:
        return maxima(
            level, covariance, inside, scale, shift, self.function, self.function.derivative, self.sharp
        )  # fmt: skip

    @cached_property
    def _typical(self) -> tuple[Array, Array, Array, Array]:
        """Level, standard deviation, scale and shift of a typical tap, each `(E,)`."""
        known, typical = self.population, self.given.typical
        return typical(known.mean), np.sqrt(typical(known.variance)), typical(known.scale), typical(known.shift)

    @cached_property
    def _windows(self) -> Maxima:
        level, size, scale, shift = (np.repeat(x[:, None], len(self.offsets), axis=1) for x in self._typical)
        own = self.own_cosine * size[:, :, None] * size[:, None, :]
        return self._maxima(level, own, np.ones(level.shape, bool), scale, shift)

    def pairs(self) -> Pairs:
        """E F_u F_v, averaged over the pairs of a class."""
        made, (first, second) = self.made, self.made.upper
        steps = self.made.steps()
        out = np.empty((len(first), len(steps)))
        count = max(1, _ENTRIES // (len(steps) * len(self.offsets) ** 2))
        for start in range(0, len(first), count):
            e, f = first[start : start + count], second[start : start + count]
            cross = self._cross(e, f, steps)
            u, v = (np.repeat(x, len(steps)) for x in (e, f))
            power = self._windows.second_moment
            found = self._windows.products(u, v, cross.reshape(-1, *cross.shape[2:])) / np.sqrt(power[u] * power[v])
            out[start : start + count] = found.reshape(len(e), -1)
        alike = first == second
        out[alike, np.flatnonzero(~steps.any(axis=1))] = 1.0
        root = np.sqrt(self.own)
        return np.asarray(made.mirrored(out.reshape(-1, *made.classes)) * made.products(root, root))

    def _cross(self, e: Places, f: Places, steps: NDArray[np.int64]) -> Array:
        """Covariances of the taps of typical windows so far apart: `(n, steps, T, T)`."""
        where = steps[:, None, None] * np.array(self.window.stride) + self.offsets
        size = self._typical[1]
        cosine = self.given.at(self.cosine[e[:, None], f[:, None]], where)[:, 0]
        return np.asarray(cosine * (size[e] * size[f])[:, None, None, None])

    @cached_property
    def error(self) -> float:
        """Twice the root mean square difference of the expansion from direct integrals over some pairs of windows,
        relative to their size."""
        rng, (first, second) = np.random.default_rng(0), self.made.upper
        some, steps = rng.integers(len(first), size=_TRIED), self.made.steps()
        u, v = first[some], second[some]
        at = steps[rng.integers(len(steps), size=_TRIED)]
        near = rng.integers(2, size=_TRIED)[:, None]  # half of them close to each other
        at = np.where(near > 0, np.sign(at) * np.minimum(np.abs(at), 2), at)
        cross = np.stack([self._cross(u[i : i + 1], v[i : i + 1], at[i : i + 1])[0, 0] for i in range(_TRIED)])
        level, size, scale, shift = (np.repeat(x[:, None], len(self.offsets), axis=1) for x in self._typical)
        own = self.own_cosine * size[:, :, None] * size[:, None, :]
        joint = np.block([[own[u], cross], [cross.transpose(0, 2, 1), own[v]]])
        both = [np.concatenate([x[u], x[v]], axis=1) for x in (level, scale, shift)]
        truth = sampled(both[0], joint, np.ones(both[0].shape, bool), both[1], both[2], self.function)
        power = np.sqrt(self._windows.second_moment[u] * self._windows.second_moment[v])
        return float(2 * np.sqrt(np.mean(((self._windows.products(u, v, cross) - truth) / power) ** 2)))
