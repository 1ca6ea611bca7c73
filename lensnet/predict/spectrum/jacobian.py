"""Singular values of the Jacobian from the network's input to every output of a chain of weight layers and functions.

Dense layers with fresh weights, pointwise functions of their outputs, dropout, and what only multiplies by a number.
Slopes are those of the Gaussian pre-activations, example by example, independent from neuron to neuron.

A convolution whose window wraps around is a matrix too, positions times channels large. A random diagonal matrix A
comes back from W A W^T as the same average at every position, as from a dense layer. So the law of the singular values
is that of dense layers with as many neurons and the same sum of squared weights per row; what it is averaged over are
the channels, and errors are of order 1/channels. Edges (zero padding) and strides tell positions apart and are not
followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lensnet.algebra.pointwise import PointwiseFunction, product
from lensnet.algebra.random_matrix.jacobian import Slopes, Stage, Traces, Weights
from lensnet.algebra.random_matrix.singular_values import Singular, singular
from lensnet.levels.ladder import Level
from lensnet.levels.signal import Field, Law, Signal
from lensnet.network.geometry import Window
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.environment import linear_factor
from lensnet.predict.moments.pointwise import chained, function_of, slope_of, under
from lensnet.predict.prediction import Check, Effect
from lensnet.quantities import jacobian

MOST_DEPTH = 0.25
"""Largest sum of 1/width along the way: beyond it single draws differ too much for an average over them."""
ROUNDING = 1e-7
"""Singular values below this part of the large ones are lost to rounding (float64, by way of their squares)."""
_ATOMS = 64
"""Slopes that stand for the law of a smooth function's."""
_SHALLOW = f"few layers for their width (sum of 1/width at most {MOST_DEPTH:g})"


@dataclass(frozen=True)
class Way:
    """From the input to one output.

    stages: dense layers so far, with the slopes behind each.
    origin: path of the last one; `at_origin`: traces there, before any slope, one for each example followed.
    second, fourth: E d and E d^2 of the product d of squared slopes since, `(examples,)`.
    traces: here.
    inverse_widths: sum of 1/width over the dense layers.
    """

    stages: tuple[Stage, ...]
    origin: str
    at_origin: Traces
    traces: Traces
    second: Field | float = 1.0
    fourth: Field | float = 1.0
    inverse_widths: float = 0.0

    def times(self, second: Field | float, fourth: Field | float, slopes: Slopes) -> Way:
        """Behind independent factors with these moments."""
        last = self.stages[-1]
        every = slopes if last.slopes is None else last.slopes.times(slopes)
        return self.with_slopes(self.second * second, self.fourth * fourth, every)

    def with_slopes(self, second: Field | float, fourth: Field | float, slopes: Slopes) -> Way:
        """With these in place of all slopes since the last dense layer."""
        stages = (*self.stages[:-1], replace(self.stages[-1], slopes=slopes))
        traces = self.at_origin.sloped(second, fourth)
        return replace(self, stages=stages, second=second, fourth=fourth, traces=traces)


def ways(network: Network, signals: Mapping[str, Signal]) -> dict[str, Way]:
    """The way to every output of the chain that starts at the input, up to the first component that is not followed."""
    out: dict[str, Way] = {}
    if not network.has_jacobians:
        return out
    for node in network:
        if len(node.ports) != 1:
            continue
        found = _after(node, out.get(node.inputs[0]), signals)
        if found is not None:
            out[node.path] = found
    return out


def _after(node: Node, before: Way | None, signals: Mapping[str, Signal]) -> Way | None:
    signal = signals[node.inputs[0]]
    matrix = _matrix(node)
    if matrix is not None:
        return _weighted(node, matrix, before) if before is not None or node.inputs[0] == INPUT else None
    if before is None:
        return None
    if node.component.implementation == "flatten":
        return before
    if node.component.function is not None:
        return _pointwise(node, before, signal)
    if node.component.implementation == "dropout":
        kept = 1.0 if node.parameters.get("mode") == "eval" else 1 - float(node.parameters["rate"])
        mask = Slopes.of([0.0, kept**-2], [1 - kept, kept])
        return before.times(1 / kept, kept**-3, mask)
    if node.component.coherence.kind == "linear" and not node.shape.positions:
        factor = linear_factor(node, node.ports[0], [signal])
        if np.size(factor) == 1:
            square = float(np.mean(factor)) ** 2
            return before.times(square, square**2, Slopes.of([square]))
    return None


def _matrix(node: Node) -> Stage | None:
    """The weights of a layer as one matrix between all of its inputs and outputs, positions included."""
    fresh = node.component.coherence.kind == "fresh" and len(node.weights) == 1 and node.shares is None
    if not fresh or node.shape.kind != "real" or node.shapes_in[0].kind != "real":
        return None
    (law,), (into,), out = node.weights.values(), node.shapes_in, node.shape
    if not out.positions and not into.positions and (law.fan_in, law.fan_out) == (into.channels, out.channels):
        kind: Weights = "orthogonal" if law.distribution == "orthogonal" else "gaussian"
        return Stage(law.fan_in, law.fan_out, law.variance, kind)
    window = node.geometry
    if not isinstance(window, Window) or window.mode != "circular" or law.distribution == "orthogonal":
        return None
    taps = law.fan_in / into.channels
    if into.positions != out.positions or set(window.stride) != {1} or taps != np.prod(window.kernel):  # groups
        return None
    return Stage(into.features, out.features, law.variance * taps / out.position_count)


def _weighted(node: Node, matrix: Stage, before: Way | None) -> Way:
    start = Traces.identity(matrix.inputs) if before is None else before.traces
    traces = start.dense(matrix.outputs, matrix.variance, matrix.weights)
    stages, deep = (before.stages, before.inverse_widths) if before is not None else ((), 0.0)
    return Way((*stages, matrix), node.path, traces, traces, inverse_widths=deep + 1 / node.shape.channels)


def _pointwise(node: Node, before: Way, signal: Signal) -> Way | None:
    law = signal.law
    if law is None or law.origin != before.origin:
        return None
    law = _first_examples(law)
    slope = slope_of(chained(law, function_of(node)))
    moments = under(law, _squared(slope))
    second, fourth = (_over_positions(value) for value in (moments.mean.value, moments.second_moment.value))
    if not (np.isfinite(second).all() and np.isfinite(fourth).all()):
        return None
    factor = before.stages[-1].slopes if not law.chain else None  # what multiplied in between, dropout say
    from scipy.special import ndtri

    z = ndtri((np.arange(_ATOMS) + 0.5) / _ATOMS)
    x = float(np.mean(law.mean)) + float(np.sqrt(np.mean(law.variance))) * z
    slopes = Slopes.of(slope(x) ** 2)
    if factor is not None:
        return before.times(second, fourth, slopes)
    return before.with_slopes(second, fourth, slopes)


def _over_positions(field: Field) -> Field:
    """Average over the positions of every example, `(examples,)`."""
    return np.asarray(field.reshape(len(field), -1).mean(axis=1))


def _first_examples(law: Law) -> Law:
    """Of the examples whose Jacobians are looked at."""
    few = jacobian.EXAMPLES
    return Law(law.mean[:few], law.variance[:few], law.terms, law.origin, law.chain)


def _squared(function: PointwiseFunction) -> PointwiseFunction:
    return product(function, function)


def jacobian_effects(network: Network, signals: Mapping[str, Signal]) -> Iterator[Effect]:
    """Rows of the spectrum level about Jacobians."""
    found = {path: way for path, way in ways(network, signals).items() if np.all(way.traces.first > 0)}
    whole = network.input.shape.features <= jacobian.WHOLE
    laws = singular([way.stages for way in found.values()]) if whole and found else []
    for place, (path, way) in enumerate(found.items()):
        gain, spread = float(np.mean(way.traces.gain)), float(np.mean(way.traces.spread))
        values = {"jacobian_gain": gain, "jacobian_spread": spread}
        if whole:
            values |= _quantiles(laws[place])
        checks = (Check(_SHALLOW, MOST_DEPTH / way.inverse_widths - 1, Level.FLUCTUATION),)
        scatter = float(np.mean(way.traces.scatter))
        smallest = ROUNDING * values.get("jacobian_high", 0.0)
        for quantity, value in values.items():
            yield Effect(
                path, quantity, "forward", None, np.array([value]), way.inverse_widths, checks,
                "ok" if way.inverse_widths <= MOST_DEPTH else "out-of-regime",
                scatter if quantity == "jacobian_gain" else 0.0, Level.SPECTRUM,
                floor=smallest if quantity == "jacobian_low" else None,
            )  # fmt: skip


def _quantiles(law: Singular) -> dict[str, float]:
    return {
        name: law.quantile(share)
        for name, share in zip(jacobian.OF_QUANTILES, (jacobian.LOW, jacobian.HIGH), strict=True)
    }


__all__ = ["Way", "jacobian_effects", "ways"]
