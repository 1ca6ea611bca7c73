"""What a component's geometry does to a pair field: the pair operators that kernel formulas may call.

For a pair field K over samples a = (example, position):

    gather_same(k)     sum over the taps of two windows that move together, K[p + t, p' + t]
    gather_all(k)      sum over all pairs of taps of the two windows: K[p + t, p' + t'] (a pool)
    scatter_same(p), scatter_all(p)     their adjoints
    mean_same(k)       average over equal positions of two examples; mean_all(k): over all pairs of positions
    mean_left(k), mean_right(k)         average over the positions of the first, of the second sample
    sum_all(p)         sum over all pairs of positions: a number per pair of examples, for a port without positions
    everywhere_same(p) a number per pair of examples onto all equal positions; everywhere_all(p): onto all pairs
    at_same(k)         only pairs at equal positions are kept
    at_phase(k, n)     only pairs at equal places of their blocks, n positions long on every axis

All act on full pair fields `(N, N)` and are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from lensnet.levels.pairs import FullPairs, Pairs
from lensnet.network.geometry import Collapse, Flatten, Patches, Pointwise, Window, WindowTranspose
from lensnet.network.graph import Node
from lensnet.predict.operators import FieldOperators
from lensnet.predict.taps import AxisTaps, TransposedTaps, WindowTaps


class PairOperators:
    """The operators of one component between a layout of its input and one of its output."""

    def __init__(self, node: Node, given: FullPairs, made: FullPairs) -> None:
        self.node, self.given, self.made = node, given, made
        self.field = FieldOperators(node.geometry, given.positions, made.positions)

    @cached_property
    def table(self) -> Mapping[str, Callable[..., Any]]:
        names = (
            "gather_same", "gather_all", "scatter_same", "scatter_all", "mean_same", "mean_all", "mean_left",
            "mean_right", "sum_all", "everywhere_same", "everywhere_all", "at_same", "at_phase",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def gather_same(self, k: Any) -> Pairs:
        if isinstance(self.node.geometry, Pointwise):
            return self.given.whole(k)
        return self._jointly(self.given.whole(k), self.given, self.made, "gather")

    def scatter_same(self, p: Any) -> Pairs:
        if isinstance(self.node.geometry, Pointwise):
            return self.made.whole(p)
        return self._jointly(self.made.whole(p), self.made, self.given, "scatter")

    def gather_all(self, k: Any) -> Pairs:
        return self.right(self.left(self.given.whole(k)))

    def scatter_all(self, p: Any) -> Pairs:
        """Both samples apart: the adjoint of `gather_all`."""
        back = _onto(self.made.whole(p), self.made, self.field.scatter)
        return _onto(back.T, self.made, self.field.scatter).T

    def left(self, k: Pairs) -> Pairs:
        """The geometry's sum over a window, of the first sample alone: (N, M) -> (N_out, M)."""
        return _onto(k.T, self.given, self.field.gather).T

    def right(self, k: Pairs) -> Pairs:
        return _onto(k, self.given, self.field.gather)

    def mean_same(self, k: Any) -> Pairs:
        """(E, E), as a pair field of the output where that has no positions, else at every pair."""
        split = self.given.split(k)
        return self._per_example(np.einsum("apbp->ab", split) / self.given.places)

    def mean_all(self, k: Any) -> Pairs:
        return self._per_example(self.given.split(k).mean(axis=(1, 3)))

    def mean_left(self, k: Any) -> Pairs:
        split = self.given.split(k).mean(axis=1, keepdims=True)
        return self.given.joined(np.broadcast_to(split, self.given.split(0.0).shape))

    def mean_right(self, k: Any) -> Pairs:
        split = self.given.split(k).mean(axis=3, keepdims=True)
        return self.given.joined(np.broadcast_to(split, self.given.split(0.0).shape))

    def sum_all(self, p: Any) -> Pairs:
        return np.asarray(self.made.split(p).sum(axis=(1, 3)))

    def everywhere_all(self, p: Any) -> Pairs:
        return self._spread(p)

    def everywhere_same(self, p: Any) -> Pairs:
        return self._spread(p) * self.given.same_place

    def at_same(self, k: Any) -> Pairs:
        k = np.asarray(k, dtype=float)
        layout = self.made if k.shape in ((), self.made.shape) else self.given
        return k * layout.same_place

    def at_phase(self, k: Any, length: float) -> Pairs:
        k = np.asarray(k, dtype=float)
        layout = self.made if k.shape in ((), self.made.shape) else self.given
        phase = np.array([index % int(length) for index in np.indices(layout.positions)]).reshape(
            len(layout.positions), -1
        )
        alike = np.all(phase[:, :, None] == phase[:, None, :], axis=0)
        return k * np.tile(alike, (layout.examples, layout.examples))

    def _spread(self, p: Any) -> Pairs:
        """A number per pair of examples, of the output or of a port without positions, onto every pair of samples."""
        table = np.asarray(p, dtype=float)
        if table.shape != (self.given.examples,) * 2:
            table = np.einsum("apbp->ab", self.made.split(p)) / self.made.places
        return np.asarray(np.kron(table, np.ones((self.given.places, self.given.places))), dtype=float)

    def _per_example(self, table: Pairs) -> Pairs:
        if not self.made.positions:
            return table
        return np.asarray(np.kron(table, np.ones((self.made.places, self.made.places))), dtype=float)

    def _jointly(self, k: Pairs, given: FullPairs, made: FullPairs, direction: str) -> Pairs:
        geometry = self.node.geometry
        if not isinstance(geometry, Window | WindowTranspose | Patches):
            raise TypeError(f"{type(geometry).__name__} has no windows that move together")
        grid, grid_out = self._grids(given, made, direction)
        rank = len(grid)
        split = k.reshape(given.examples, *grid, given.examples, *grid)
        for axis, taps in enumerate(self.field._axes):
            split = along_both(taps, split, 1 + axis, 2 + rank + axis, direction)
        del grid_out
        return np.ascontiguousarray(split).reshape(made.shape)

    def _grids(self, given: FullPairs, made: FullPairs, direction: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        geometry = self.node.geometry
        if not isinstance(geometry, Patches):
            return given.positions, made.positions
        grid = self.given.positions[0] // geometry.patch[0], self.given.positions[1] // geometry.patch[1]
        return (given.positions, grid) if direction == "gather" else (grid, made.positions)


def along_both(taps: AxisTaps, k: Pairs, first: int, second: int, direction: str) -> Pairs:
    """Sum over the taps of two windows that move together along one position axis of both samples."""
    if isinstance(taps, TransposedTaps):
        return along_both(taps.window, k, first, second, "scatter" if direction == "gather" else "gather")
    assert isinstance(taps, WindowTaps)
    if taps.trivial:
        return k
    k = np.moveaxis(k, (first, second), (-2, -1))
    out = _window_both(taps, k) if direction == "gather" else _window_both_back(taps, k)
    return np.moveaxis(out, (-2, -1), (first, second))


def _window_both(taps: WindowTaps, k: Pairs) -> Pairs:
    if taps.mode == "circular":
        taps, places = taps.unrolled
        k = k[..., places[:, None], places[None, :]]
    out = np.zeros((*k.shape[:-2], taps.size_out, taps.size_out))
    for into, source in taps.lines():
        out[..., into, into] += k[..., source, source]
    return out


def _window_both_back(taps: WindowTaps, p: Pairs) -> Pairs:
    wrapped = taps.mode == "circular"
    inner, places = taps.unrolled if wrapped else (taps, None)
    out = np.zeros((*p.shape[:-2], inner.size_in, inner.size_in))
    for into, source in inner.lines():
        out[..., source, source] += p[..., into, into]
    if places is None:
        return out
    fold = np.eye(taps.size_in)[places]
    return np.asarray(np.einsum("...ij,ia,jb->...ab", out, fold, fold, optimize=True))


def _onto(k: Pairs, layout: FullPairs, change: Callable[[Pairs], Pairs]) -> Pairs:
    """A change of fields applied to the second sample: (M, N) -> (M, N_out)."""
    fields = np.ascontiguousarray(k).reshape(len(k) * layout.examples, *layout.positions)
    return change(fields).reshape(len(k), -1)


def ordered(node: Node) -> bool:
    """Whether a component keeps positions apart (every output position has its own input position)."""
    return isinstance(node.geometry, Pointwise)


__all__ = ["Collapse", "Flatten", "PairOperators", "along_both", "ordered"]
