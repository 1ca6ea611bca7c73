"""The kernel prediction of each component from the Gram matrices measured at its own ports in one weight draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lensnet.levels.covariance import Covariance, Matrix, Population
from lensnet.levels.ladder import Level
from lensnet.levels.pairs import Field, FullPairs, Pairs
from lensnet.network.geometry import Pointwise
from lensnet.network.graph import INPUT, Network, Node
from lensnet.network.shape import Shape
from lensnet.predict.edges import OUTPUT
from lensnet.predict.engine import Draw, Source
from lensnet.predict.kernel.backward import backward, slopes_met_again
from lensnet.predict.kernel.environment import TABLE, CrossPairs, KernelPlace
from lensnet.predict.kernel.forward import forward, operators_of, placed
from lensnet.predict.kernel.propagate import Kernels
from lensnet.predict.kernel.rows import effect, gram_effects, width_check
from lensnet.predict.prediction import Check, Effect
from lensnet.quantities.rows import RowSample, row_sample

OVER_BATCH = ("batch_normalised", "batch_normalised_back", "mean_batch")


def predict_locally(network: Network, kernels: Kernels, source: Source, draw: Draw) -> list[Effect]:
    """Feed every component with what was measured. Components that mix positions are left out where not all positions
    are among the sampled rows."""
    bench = _Bench(network, kernels, source, draw)
    return [effect for node in network for effect in bench.effects(node)]


class _Bench:
    def __init__(self, network: Network, kernels: Kernels, source: Source, draw: Draw) -> None:
        self.network, self.kernels, self.source, self.draw = network, kernels, source, draw
        first = next(iter(draw.outputs.values()))
        self.examples = len(first.mean) if source.batch is None else min(len(source.batch), len(first.mean))

    def effects(self, node: Node) -> list[Effect]:
        place = self._place(node)
        if place is None or any(producer not in self.draw.grams for producer in node.inputs):
            return []
        states = [self._state(producer, layout) for producer, layout in zip(node.inputs, place.ports, strict=True)]
        crosses = self._crosses(node, states)
        if node.component.is_fork or not all(np.isfinite(state.pairs).all() for state in states):
            return []
        step = forward(place, states, crosses)
        if step.state is None:
            return []
        inverse = 1.0 / node.shape.channels
        sample, gram = self._rows(node.shape), step.state.pairs
        checks = (*step.checks, width_check(inverse))
        own, error = step.state.second_moment, step.error + self._unlike(node)
        out = [effect(node.path, "second_moment", "forward", None, own, error, step.checks, 0.0)]
        out += gram_effects(node.path, "forward", None, gram, sample, checks, step.error + inverse)
        return out + self._backward(node, place, states, crosses)

    def _backward(self, node: Node, place: KernelPlace, states: list[Covariance], crosses: CrossPairs) -> list[Effect]:
        uses = [(user.path, port) for user, port in self.network.consumers(node.path)] or [OUTPUT]
        p = place.made.same_place if uses == [OUTPUT] else self.draw.gradient_grams.get(uses[0])
        if p is None or len(uses) > 1 or not np.isfinite(p).all() or not self.draw.gradient_grams:
            return []
        out: list[Effect] = []
        for port, step in backward(place, states, p, crosses).items():
            if step.pairs is None:
                continue
            sample = self._rows(node.shapes_in[node.ports.index(port)])
            inverse = 1.0 / node.shapes_in[node.ports.index(port)].channels
            checks = (*step.checks, width_check(inverse), *self._met_again(node))
            out += gram_effects(node.path, "backward", port, step.pairs, sample, checks, step.error + inverse)
        return out

    def _met_again(self, node: Node) -> tuple[Check, ...]:
        text = "the gradient from above does not depend on the signal: nothing passes it on without fresh weights"
        pointwise = node.component.function is not None and node.kind != "identity"
        met = pointwise and slopes_met_again(self.network, node.path)
        return (Check(text, -1.0, Level.FLUCTUATION),) if met else ()

    def _unlike(self, node: Node) -> float:
        """How far the sampled rows are from all positions: relative difference of the measured power at the ports."""
        off = [0.0]
        for producer, shape in zip(node.inputs, node.shapes_in, strict=True):
            if producer in self.draw.outputs:
                power = np.asarray(self.draw.outputs[producer].second_moment, dtype=float)
                sample, power = self._rows(shape), power.reshape(len(power), -1)
                some, every = power[: sample.examples][:, list(sample.places)].mean(), power.mean()
                off.append(abs(float(some / every) - 1) if every > 0 else 0.0)
        return max(off)

    def _place(self, node: Node) -> KernelPlace | None:
        """The component between the sampled rows: all positions of its ports, or some where it keeps them apart."""
        shapes = (*node.shapes_in, node.shape)
        samples = [self._rows(shape) for shape in shapes]
        whole = all(len(s.places) == shape.position_count for s, shape in zip(samples, shapes, strict=True))
        if operators_of(node) & set(OVER_BATCH) and samples[0].examples < node.examples:
            return None
        if whole:
            *ports, made = (FullPairs(samples[0].examples, shape.positions) for shape in shapes)
            return KernelPlace(node, ports[0], made, measured=True, ports=ports)
        if not isinstance(node.geometry, Pointwise) or operators_of(node) or placed(node):
            return None
        layout = FullPairs(samples[0].examples, (len(samples[0].places),))
        return KernelPlace(node, layout, layout, measured=True)

    def _rows(self, shape: Shape) -> RowSample:
        return row_sample(self.examples, shape.positions, self.source.rows)

    def _state(self, path: str, layout: FullPairs) -> Covariance:
        mean, gram = self._measured(path, layout)
        predicted = self.kernels.states.get(path)
        population = predicted.population if predicted is not None else None
        return Covariance(mean, gram, layout, self._population(population, mean, gram, layout))

    def _population(
        self, predicted: Population | None, mean: Field, gram: Matrix, layout: FullPairs
    ) -> Population | None:
        if predicted is None:
            return None
        if not predicted.mean.any():
            mean = np.zeros_like(mean)  # of the law; that of one draw is chance
        if predicted.plain and np.all(np.asarray(predicted.scale) == 1.0):
            return replace(predicted, mean=mean, pairs=gram, layout=layout, own=None)
        uniform = np.ptp(predicted.scale) == 0 and np.ptp(predicted.shift) == 0
        if predicted.origin not in self.draw.grams or not uniform:
            return None
        origin, behind = self._measured(predicted.origin, layout)
        if behind.shape != gram.shape:
            return None
        scale, shift = (float(np.mean(x)) for x in (predicted.scale, predicted.shift))
        origin = origin if predicted.mean.any() else np.zeros_like(origin)
        return replace(predicted, mean=origin, pairs=behind, layout=layout, scale=scale, shift=shift, own=None)

    def _measured(self, path: str, layout: FullPairs) -> tuple[Field, Matrix]:
        shape = self.network.input.shape if path == INPUT else self.network[path].shape
        sample, gram = self._rows(shape), np.asarray(self.draw.grams[path], dtype=float)
        if path not in self.draw.outputs:
            return np.zeros(layout.field_shape), gram
        mean = self.draw.outputs[path].mean
        flat = np.asarray(mean, dtype=float).reshape(len(mean), -1)[: sample.examples][:, list(sample.places)]
        return flat.reshape(layout.field_shape if flat.size == layout.count else flat.shape), gram

    def _crosses(self, node: Node, states: list[Covariance]) -> CrossPairs:
        """What the graph says about the signals that meet, at the sampled rows."""
        out = {}
        known = node.path in self.kernels.states and self.kernels.cross is not None
        for key, value in self.kernels.crosses(node).items() if known else ():
            layout = self.kernels.states[node.inputs[0]].layout
            sample = self._rows(node.shapes_in[0])
            if key == TABLE:
                value = value if value is None else _rows_of(value, layout, sample)
            elif value is not None and value.ndim:
                followed = sample.examples <= layout.examples and layout.follows(sample.places)
                value = layout.chosen(value, sample.examples, sample.places) if followed else None
            out[key] = value
        return out


def _rows_of(table: Pairs, layout: FullPairs, sample: RowSample) -> Pairs | None:
    """The rows of a sample out of those of a layout, `(N, words)` -> `(R, words)`."""
    if sample.examples > layout.examples or max(sample.places) >= layout.places:
        return None
    rows = (np.arange(sample.examples)[:, None] * layout.places + np.array(sample.places)).ravel()
    return np.asarray(table[rows])
