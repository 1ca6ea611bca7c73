"""The kernel level by bands: of every pair field those displacements alone that what follows asks for, exactly.

Planned from the head: `wanted[path]` are the displacements of an output that reach any number of the report. States too
large to be kept are worked out again, in parts, when a pool asks for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, cast

import numpy as np

from lensnet.levels.bands import BandPairs, Displacements, displacement_set, every_displacement
from lensnet.levels.covariance import Covariance, Population
from lensnet.levels.pairs import Field, Pairs
from lensnet.network.geometry import Pointwise
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.kernel.backward import BackStep, backward
from lensnet.predict.kernel.band_operators import APART, EVERY, SPREAD, Layout, answers, asked_for, coarse, layout_of
from lensnet.predict.kernel.environment import CrossPairs, KernelPlace
from lensnet.predict.kernel.forward import Step, forward, operators_of, placed
from lensnet.predict.kernel.input_pairs import InputPairs
from lensnet.predict.kernel.propagate import Kernels, swept

MOST_KEPT = 1 << 24
"""Most numbers of a pair field that is kept; more are worked out in parts."""
MOST_NUMBERS, MOST_OF_TWO = 1 << 26, 5 << 27
"""Most numbers of all pair fields together: for as many examples as that allows, and for two."""

_NEARLY = 0.8
"""Part of the examples that are followed at least where fewer allow every state to be kept."""


def wanted_displacements(network: Network) -> Mapping[str, Displacements] | None:
    """By path, `(D, axes)`; None for a network with a component that needs every pair, or has no rule."""
    shapes = {INPUT: network.input.shape, **{node.path: node.shape for node in network}}
    if network.input.shape.kind == "ids":
        return None
    out = {path: displacement_set([], shape.positions) for path, shape in shapes.items() if shape.positions}
    for node in reversed(network.nodes):
        if not node.shapes_in[0].positions:
            continue
        asked = asked_for(node, operators_of(node), out.get(node.path, np.zeros((1, 0), np.int64)))
        if asked is None or placed(node) or len({shape.positions for shape in node.shapes_in}) > 1:
            return None
        for producer in node.inputs:
            positions = shapes[producer].positions
            out[producer] = displacement_set(np.concatenate([out[producer], asked]), positions)
    return out


def numbers(network: Network, wanted: Mapping[str, Displacements]) -> Mapping[str, int]:
    """Numbers of every pair field, for one pair of examples."""
    places = {INPUT: network.input.shape.position_count, **{node.path: node.shape.position_count for node in network}}
    return {path: len(rows) * places[path] for path, rows in wanted.items()}


def affordable(network: Network, batch: int, wanted: Mapping[str, Displacements]) -> int:
    """How many examples can be followed, 0 where not even two (or the only one).

    A state just too large to be kept is worked out anew for all that ask for it: then somewhat fewer are followed.
    """
    sizes, few = numbers(network, wanted), min(batch, 2)
    size = sum(sizes.values())
    examples = min(batch, int((MOST_NUMBERS / size) ** 0.5))
    whole = int((MOST_KEPT / max((n for path, n in sizes.items() if path != INPUT), default=1)) ** 0.5)
    if examples * _NEARLY <= whole:
        examples = min(examples, whole)
    return max(examples, few) if few**2 * size <= MOST_OF_TWO else 0


def propagate_bands(network: Network, batch: Field, examples: int, wanted: Mapping[str, Displacements]) -> BandKernels:
    """All states of the first `examples` of a batch in torch layout."""
    shape = network.input.shape
    x = np.moveaxis(np.asarray(batch[:examples], dtype=float), shape.channel_axis, 1)
    out = BandKernels(network, images=x, wanted=wanted)
    out.states[INPUT] = out.input_state(out.kept(INPUT))
    swept(out)
    return out


@dataclass
class BandKernels(Kernels):
    """States by bands. `images`: the batch, `(E, C, *positions)`."""

    images: Any = None
    wanted: Mapping[str, Displacements] = field(default_factory=dict)
    memories: dict[str, dict[str, Any]] = field(default_factory=dict)
    reached: dict[str, Displacements] = field(default_factory=dict)
    """Displacements at which gradients are followed: those that reach equal positions below."""

    @property
    def examples(self) -> int:
        return len(self.images)

    def kept(self, path: str) -> Layout:
        """The layout of the state that is kept: all that is wanted, or where that is too much equal positions and a
        coarse grid."""
        rows = self.wanted.get(path)
        shape = self.network.input.shape if path == INPUT else self.network[path].shape
        if rows is not None and self.examples**2 * len(rows) * shape.position_count > MOST_KEPT:
            rows = coarse(shape.positions)
        return layout_of(self.examples, shape.positions, rows)

    def input_state(self, layout: Any) -> Covariance:
        x, pairs = self.images, InputPairs(self.images, layout)
        return Covariance(x.mean(axis=1), cast(Pairs, pairs), layout, own=(x**2).mean(axis=1))

    def state(self, path: str, layout: Layout) -> Covariance:
        """The state at the displacements of a layout: out of the one that is kept, or worked out again."""
        kept = self.states.get(path)
        if kept is not None and (not isinstance(kept.layout, BandPairs) or kept.layout == layout):
            return kept
        assert isinstance(layout, BandPairs)
        if kept is not None and kept.layout.holds(layout):
            return restricted(kept, layout)
        if path == INPUT:
            return self.input_state(layout)
        found = self.made(self.network[path], layout).state
        assert found is not None
        return found

    def step(self, node: Node) -> Step:
        return self.made(node, self.kept(node.path))

    def made(self, node: Node, made: Layout, divide: bool = True) -> Step:
        """One component at the displacements of a layout of its output; `divide`: in parts where that saves memory."""
        given = self._given(node, made.displacements if isinstance(made, BandPairs) else np.zeros((1, 0), np.int64))
        if divide and self._too_large(node, given, made):
            return self._in_parts(node, made)
        if (
            isinstance(node.geometry, Pointwise)
            and isinstance(given, BandPairs)
            and isinstance(made, BandPairs)
            and given != made
        ):
            if "batch" not in self._memory(node):  # an average over the batch sees more than is wanted behind it
                step = self.made(node, given)
                return step if step.state is None else replace(step, state=restricted(step.state, made))
            given = made
        place = KernelPlace(node, given, made, node.inputs[0] in self.definite, memory=self._memory(node))
        states = [self.state(producer, given) for producer in node.inputs]
        return forward(place, states, self._crosses_at(node, given))

    def _given(self, node: Node, displacements: Displacements) -> Layout:
        shape = node.shapes_in[0]
        rows = asked_for(node, operators_of(node), displacements) if shape.positions else None
        return layout_of(self.examples, shape.positions, rows)

    def _too_large(self, node: Node, given: Layout, made: Layout) -> bool:
        if not operators_of(node) & APART or not isinstance(made, BandPairs) or not isinstance(given, BandPairs):
            return False
        held = all(self.states[producer].layout.holds(given) for producer in node.inputs)
        return not held and int(np.prod(given.shape)) > MOST_KEPT and len(made.displacements) > 1

    def _in_parts(self, node: Node, made: Any) -> Step:
        """Some displacements at a time, with their negatives."""
        half, pairs, step = made.displacements[: made.centre + 1][::-1], np.zeros(made.shape), Step(None)
        given = self._given(node, made.displacements)
        count = max(1, len(half) * MOST_KEPT // (2 * int(np.prod(given.shape))))
        for start in range(0, len(half), count):
            part = BandPairs(
                made.examples, made.positions, displacement_set(half[start : start + count], made.positions)
            )
            found = self.made(node, part, divide=False)
            if found.state is None:
                return found
            where = [made.index[tuple(int(x) for x in row)] for row in part.displacements]
            pairs[:, :, where] = found.state.pairs
            step = found if not start else replace(step, error=max(step.error, found.error))
        assert step.state is not None
        population = step.state.population
        if population is not None:
            population = replace(population, pairs=pairs, layout=made) if population.plain else None
        return replace(step, state=replace(step.state, pairs=pairs, layout=made, population=population))

    def _memory(self, node: Node) -> dict[str, Any]:
        return self.memories.setdefault(node.path, {})

    def _crosses_at(self, node: Node, given: Layout) -> CrossPairs:
        """What is known of two ports, at the displacements of a layout."""
        kept = self.states[node.inputs[0]].layout
        out: dict[tuple[int, int], Pairs | None] = {}
        for key, value in self.crosses(node).items():
            if value is not None and value.ndim and isinstance(kept, BandPairs) and isinstance(given, BandPairs):
                value = kept.chosen_from(np.broadcast_to(value, kept.shape), given) if kept.holds(given) else None
            out[key] = value
        return out

    def plan_gradients(self) -> None:
        """Which displacements of gradients reach equal positions at any edge below."""
        out: dict[str, Displacements] = {}
        shapes = {INPUT: self.network.input.shape, **{node.path: node.shape for node in self.network}}
        for path, shape in shapes.items():
            rows = [np.zeros((1, len(shape.positions)), np.int64)]
            if path != INPUT:
                node = self.network[path]
                names = operators_of(node)
                if node.shapes_in[0].positions:
                    rows += [answers(node, names, out[producer]) for producer in node.inputs]
                whole = prod(2 * n - 1 for n in shape.positions)
                # a batch norm of few positions is exact where all of them are followed
                if shape.positions and (names & EVERY or (names & SPREAD and len(coarse(shape.positions)) == whole)):
                    rows.append(every_displacement(shape.positions))
            if shape.positions:
                out[path] = displacement_set(np.concatenate(rows), shape.positions)
        self.reached = out

    def gradient_layout(self, path: str) -> Layout:
        shape = self.network.input.shape if path == INPUT else self.network[path].shape
        return layout_of(self.examples, shape.positions, self.reached.get(path))

    def gradient_place(self, node: Node) -> KernelPlace:
        given, made = self.gradient_layout(node.inputs[0]), self.gradient_layout(node.path)
        return KernelPlace(node, given, made, memory=self._memory(node))

    def step_back(self, node: Node, p: Pairs, passing: Pairs | None) -> dict[str, BackStep]:
        below, made = self.gradient_layout(node.inputs[0]), self.gradient_layout(node.path)
        given, names = below, operators_of(node)
        states = [self.states[producer] for producer in node.inputs]
        if isinstance(below, BandPairs) and isinstance(node.geometry, Pointwise):
            given = made  # what is followed above includes what is followed below
            states = [self.state(producer, given) for producer in node.inputs]
        elif isinstance(below, BandPairs) and isinstance(made, BandPairs):
            p = made.whole(p)
            there = made.displacements[np.any(p != 0, axis=(0, 1, *range(3, p.ndim)))]
            some = BandPairs(made.examples, made.positions, displacement_set(there, made.positions))
            p, made = made.chosen_from(p, some), some
            asked = asked_for(node, names, made.displacements)
            assert asked is not None
            rows = displacement_set(np.concatenate([below.displacements, asked]), below.positions)
            given = BandPairs(self.examples, below.positions, rows)
            if names & APART:
                states = [self.state(producer, given) for producer in node.inputs]
        place = KernelPlace(node, given, made, node.inputs[0] in self.definite, memory=self._memory(node))
        out = backward(place, states, p, self._crosses_at(node, given), passing)
        if not isinstance(given, BandPairs) or not isinstance(below, BandPairs) or given == below:
            return out
        return {port: _restricted_step(step, given, below) for port, step in out.items()}


def restricted(state: Covariance, layout: BandPairs) -> Covariance:
    """Some displacements of a state."""
    pairs, population = state.layout.chosen_from(state.pairs, layout), state.population
    if population is not None:
        known: Population = population
        given = pairs if known.pairs is state.pairs else known.layout.chosen_from(known.pairs, layout)
        population = replace(known, pairs=given, layout=layout)
    return replace(state, pairs=pairs, layout=layout, population=population)


def _restricted_step(step: BackStep, given: BandPairs, below: BandPairs) -> BackStep:
    def some(pairs: Pairs | None) -> Pairs | None:
        return None if pairs is None else given.chosen_from(np.broadcast_to(pairs, given.shape), below)

    return replace(step, pairs=some(step.pairs), passing=some(step.passing))
