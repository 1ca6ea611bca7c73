"""What a geometry does to pairs of chosen displacements (`BandPairs`), and which displacements it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import numpy as np

from lensnet.levels.bands import BandPairs, Displacements, displacement_set, every_displacement, overlap, pairs_at
from lensnet.levels.pairs import FullPairs, Pairs
from lensnet.network.geometry import Collapse, Flatten, Pointwise, Window
from lensnet.network.graph import Node
from lensnet.predict.kernel.input_pairs import InputPairs
from lensnet.predict.operators import FieldOperators

Layout = BandPairs | FullPairs
TOGETHER = {"gather_same", "scatter_same"}
APART = {"gather_all", "scatter_all", "window_max_kernel", "window_max_level", "window_max_gradient"}
EVERY = {"mean_all", "everywhere_all"}
SPREAD = {"batch_normalised", "batch_normalised_back"}
PLAIN = {
    "response_level",
    "response_kernel",
    "response_gradient",
    "mean_same",
    "everywhere_same",
    "at_same",
    "sum_ports",
    "sum_pairs",
    "mean_positions",
    "mean_batch",
    "gather",
}
_COARSE = 5


def layout_of(examples: int, positions: tuple[int, ...], displacements: Displacements | None) -> Layout:
    """Bands where there are positions, else one number for each pair of examples."""
    if not positions or displacements is None:
        return FullPairs(examples, positions)
    return BandPairs(examples, positions, displacements)


class BandOperators:
    """The operators of one component between a layout of its input and one of its output: those of `PairOperators`."""

    def __init__(self, node: Node, given: Layout, made: Layout) -> None:
        self.node, self.given, self.made = node, given, made
        self.field = FieldOperators(node.geometry, given.positions, made.positions)

    @cached_property
    def table(self) -> Mapping[str, Callable[..., Any]]:
        names = (
            "gather_same", "gather_all", "scatter_same", "scatter_all", "mean_same", "mean_all", "everywhere_same",
            "everywhere_all", "at_same",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def gather_same(self, k: Any) -> Pairs:
        if isinstance(self.node.geometry, Pointwise):
            return self.given.whole(k)
        given, made = self._both
        if isinstance(k, InputPairs):
            return self._gathered(k, made)
        k, stride = given.whole(k), np.array(_window(self.node).stride)
        found = np.array([given.index.get(_key(row * stride), -1) for row in made.displacements])
        out = np.zeros(made.shape)
        near = found >= 0  # farther apart than the input is wide, there is no pair
        out[:, :, near] = self._through(self.field.gather, k[:, :, found[near]], made)
        return made.whole(out)

    def _gathered(self, k: InputPairs, made: BandPairs) -> Pairs:
        """The same of the input, one displacement at a time; the opposite one is the same with samples exchanged."""
        out, stride = np.zeros(made.shape), np.array(_window(self.node).stride)
        half = made.displacements[: made.centre + 1]
        near = [row for row in half if np.all(np.abs(row * stride) < np.array(k.layout.positions))]
        for row, pairs in zip(near, k.along(row * stride for row in near), strict=True):
            to, source = overlap(row, made.positions)
            found = self.field.gather(pairs.reshape(-1, *pairs.shape[2:])).reshape(*out.shape[:2], *out.shape[3:])
            found = found[(slice(None), slice(None), *to)]
            out[pairs_at(made.index[_key(row)], to)] = found
            out[pairs_at(made.index[_key(-row)], source)] = found.swapaxes(0, 1)
        return out

    def scatter_same(self, p: Any) -> Pairs:
        if isinstance(self.node.geometry, Pointwise):
            return self.made.whole(p)
        given, made = self._both
        p, stride = made.whole(p), np.array(_window(self.node).stride)
        found = np.array([given.index.get(_key(row * stride), -1) for row in made.displacements])
        out = np.zeros(given.shape)
        near = found >= 0
        out[:, :, found[near]] = self._through(self.field.scatter, p[:, :, near], given)
        return given.whole(out)

    def gather_all(self, k: Any) -> Pairs:
        given, made = self._both
        k, out = given.whole(k), np.zeros(made.shape)
        for d, lines in self._lines():
            for at, source, into in lines:
                out[pairs_at(d, into)] += k[pairs_at(at, source)]
        return made.whole(out)

    def scatter_all(self, p: Any) -> Pairs:
        given, made = self._both
        p, out = made.whole(p), np.zeros(given.shape)
        for d, lines in self._lines():
            for at, source, into in lines:
                out[pairs_at(at, source)] += p[pairs_at(d, into)]
        return given.whole(out)

    def mean_same(self, k: Any) -> Pairs:
        return self.given.mean_same(k) if isinstance(self.given, BandPairs) else self.given.whole(k)

    def mean_all(self, k: Any) -> Pairs:
        table = self.given.mean_all(k)
        return self._spread(table, self.made)

    def everywhere_same(self, p: Any) -> Pairs:
        return self._spread(np.broadcast_to(p, self.made.shape), self.given) * self.given.same_place

    def everywhere_all(self, p: Any) -> Pairs:
        table = self.made.mean_same(p) if isinstance(self.made, BandPairs) else np.broadcast_to(p, self.made.shape)
        return self.given.whole(self._spread(table, self.given))

    def at_same(self, k: Any) -> Pairs:
        layout = self.made if np.shape(k) in ((), self.made.shape) else self.given
        return np.asarray(k * layout.same_place)

    @property
    def _both(self) -> tuple[BandPairs, BandPairs]:
        assert isinstance(self.given, BandPairs) and isinstance(self.made, BandPairs)
        return self.given, self.made

    @staticmethod
    def _spread(table: Pairs, layout: Layout) -> Pairs:
        return table.reshape(*table.shape, *([1] * (len(layout.shape) - 2)))

    @staticmethod
    def _through(change: Callable[[Pairs], Pairs], pairs: Pairs, layout: BandPairs) -> Pairs:
        """A change of fields for every pair of examples and displacement."""
        lead = pairs.shape[:3]
        return change(pairs.reshape(prod(lead), *pairs.shape[3:])).reshape(*lead, *layout.positions)

    def _lines(self) -> Iterator[tuple[int, list[tuple[int, tuple[slice, ...], tuple[slice, ...]]]]]:
        """For each displacement of the output: the input's displacement, and slices of input and output positions,
        for every pair of taps of the two windows."""
        given, made = self._both
        window = _window(self.node)
        taps = np.array(list(product(*(range(k) for k in window.kernel))))
        stride, dilation, padding = (np.array(x) for x in (window.stride, window.dilation, window.padding))
        for d, row in enumerate(made.displacements):
            lines = []
            for a in taps:
                source, into = _slices(a * dilation - padding, stride, given.positions, made.positions)
                for b in taps:
                    at = given.index.get(_key(row * stride + (b - a) * dilation))
                    if at is not None:
                        lines.append((at, source, into))
            yield d, lines


def asked_for(node: Node, names: set[str], wanted: Displacements) -> Displacements | None:
    """The displacements of the input that those of the output ask for; None where no rule says it.

    `names`: the operators that the formulas of the component call.
    """
    positions, geometry = node.shapes_in[0].positions, node.geometry
    if not names <= TOGETHER | APART | EVERY | SPREAD | PLAIN:
        return None
    rows = [np.zeros((1, len(positions)), np.int64)]
    if names & EVERY:
        rows.append(every_displacement(positions))
    if names & SPREAD:
        rows.append(coarse(positions))
    if isinstance(geometry, Pointwise):
        rows.append(wanted)
    elif isinstance(geometry, Window) and geometry.mode != "circular":
        rows += [wanted * np.array(geometry.stride) + step for step in _steps(geometry, names)]
    elif not isinstance(geometry, Flatten | Collapse):
        return None
    return displacement_set(np.concatenate(rows), positions)


def answers(node: Node, names: set[str], given: Displacements) -> Displacements:
    """The displacements of the output whose gradients reach those of the input."""
    geometry, positions = node.geometry, node.shape.positions
    if not positions or not isinstance(geometry, Window):
        return given
    rows = []
    for step in _steps(geometry, names):
        from_step = given - step
        whole = np.all(from_step % np.array(geometry.stride) == 0, axis=1)
        rows.append(from_step[whole] // np.array(geometry.stride))
    return displacement_set(np.concatenate(rows), positions)


def coarse(positions: tuple[int, ...]) -> Displacements:
    """A few displacements, evenly spread over all: what an average over all pairs is read off."""
    axes = []
    for n in positions:
        step = max(1, n // (_COARSE + 1))
        axes.append(np.arange(-(n - 1) // step, (n - 1) // step + 1) * step)
    return displacement_set(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), positions)


def _steps(window: Window, names: set[str]) -> list[Any]:
    if not names & APART:
        return [np.zeros(len(window.kernel), np.int64)]
    reach = [range(1 - k, k) for k in window.kernel]
    return [np.array(step) * np.array(window.dilation) for step in product(*reach)]


def _slices(
    offset: Any, stride: Any, positions: tuple[int, ...], made: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Output positions o whose tap o*stride + offset lies inside, and these taps."""
    source, into = [], []
    for off, step, n, out in zip(offset, stride, positions, made, strict=True):
        first = max(0, -(off // step)) if off < 0 else 0
        last = min(out, (n - 1 - off) // step + 1)
        last = max(last, first)
        into.append(slice(int(first), int(last)))
        source.append(
            slice(int(first * step + off), int((last - 1) * step + off + 1) if last > first else 0, int(step))
        )
        if last <= first:
            source[-1] = slice(0, 0)
    return tuple(source), tuple(into)


def _window(node: Node) -> Window:
    assert isinstance(node.geometry, Window)
    return node.geometry


def _key(row: Any) -> tuple[int, ...]:
    return tuple(int(x) for x in row)
