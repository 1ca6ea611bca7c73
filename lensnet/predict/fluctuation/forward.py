"""Forward: which noise each component adds to ln q, and how it passes on what came before.

dense, convolution   adds ln(chi^2_n/n) (0 for square orthogonal weights), elasticity 1 - bias^2/q
activation           adds what its neurons do beyond the length of their input vector, elasticity d ln E f^2/d ln v
merge                adds the chance overlap of its branches, elasticity: each branch's share
anything else        adds nothing that is modelled, elasticity from its own moments formula
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from lensnet.levels.signal import Field, Signal
from lensnet.network.graph import INPUT, Network, Node
from lensnet.network.weights import WeightLaw
from lensnet.predict.environment import linear_factor
from lensnet.predict.fluctuation.closeness import Closeness
from lensnet.predict.fluctuation.laws import (
    average,
    flattened,
    mask_law,
    orthogonal,
    removes_mean,
    scaled,
    standardises_batch,
)
from lensnet.predict.fluctuation.log_law import LogLaw, chi_square, dead_probability
from lensnet.predict.fluctuation.neuron import Energy, energy, slope_energy, slope_overlap
from lensnet.predict.fluctuation.pairs import RowPairs
from lensnet.predict.fluctuation.response import FORGOTTEN, Response, Sources, met
from lensnet.predict.fluctuation.several import ATTENTION, elasticity, product, several_layers
from lensnet.predict.moments.cross import ForwardCross
from lensnet.predict.moments.forward import CrossFields, forward
from lensnet.predict.moments.pointwise import chained, function_of, gaussian_behind
from lensnet.predict.moments.propagate import forward_crosses

Pairs = Callable[[str], RowPairs]
RARE = 1e-3
"""Probability of a dead layer up to which nobody needs to be told."""
STEP = 1e-3  # relative change of a second moment by which elasticities are found


class Forward:
    """The responses of every output of a network, in topological order.

    `pairs(path)`: how alike the rows of an output are. `head_start`: ln of the batch's own second moment over that of
    `signals` at the input.
    """

    def __init__(
        self,
        network: Network,
        signals: Mapping[str, Signal],
        pairs: Pairs,
        sources: Sources,
        head_start: float = 0.0,
    ) -> None:
        self.network = network
        self.signals = signals
        self.pairs = pairs
        self.sources = sources
        self.cross = ForwardCross(network, signals)
        self.responses: dict[str, Response] = {INPUT: Response(np.zeros(sources.most), head_start)}
        self.closeness: dict[str, Closeness] = {INPUT: Closeness()}
        self.neurons: dict[str, Energy] = {}
        for node in network:
            self.responses[node.path] = self._after(node)
            self.closeness[node.path] = self._close(node)

    def _after(self, node: Node) -> Response:
        signals = [self.signals[producer] for producer in node.inputs]
        before = [self.responses[producer] for producer in node.inputs]
        if node.component.function is not None:
            return self._pointwise(node, signals[0])
        if node.component.coherence.kind == "fresh" and node.weights:
            return self._weights(node, signals, before)
        if len(node.ports) > 1:
            return self._merge(node, signals, before)
        e = 1.0 if node.component.homogeneous else self._elasticities(node, signals)[0]
        response = self._doubted(node, before[0].passed(e)).gathered(flattened(node))
        row = mask_law(node, self.input_kurtosis(node))
        if not row.variance:
            return response
        return response.with_noise(self.sources.add(node.path, "mask", row, 0.0), node.shape.channels)

    def _close(self, node: Node) -> Closeness:
        """How alike two rows are behind a component; what does neither mix nor bend leaves that as it was."""
        before = self.closeness[node.inputs[0]]
        if node.shape.channels < 2 or len(node.inputs) > 1:
            return before
        if node.component.function is not None:
            law = gaussian_behind(self.signals[node.inputs[0]])
            mean, std = average(law)
            if law.origin not in self.network or law.chain or not (np.isfinite(mean) and np.isfinite(std) and std > 0):
                return before
            function = function_of(node)
            if not (slope_energy(function, mean, std).level > 0 and energy(function, mean, std).level > 0):
                return before

            def overlap(c: Field) -> Field:
                return slope_overlap(function, mean, std, c)

            def value(z: Field) -> Field:
                return np.asarray(function(mean + std * z))

            correlation = self.pairs(law.origin).average(lambda c: c)
            return self.closeness[law.origin].activated(node.shape.channels, correlation, overlap, value)
        if node.component.coherence.kind == "fresh" and len(node.weights) == 1:
            (weights,) = node.weights.values()
            if weights.distribution != "orthogonal":
                correlation = self.pairs(node.path).average(lambda c: c)
                return before.dense(node.shape.channels, correlation)
        if set(node.weights) == ATTENTION:
            correlation = self.pairs(node.path).average(lambda c: c)
            return before.dense(node.shape.channels, correlation).dense(node.shape.channels, correlation)
        return before

    def _doubted(self, node: Node, response: Response) -> Response:
        """Whoever mixes channels in a way that no rule knows brings noise that is not modelled."""
        component = node.component
        if component.coherence.kind != "unknown" or component.homogeneous or component.scale_invariant:
            return response
        return replace(response, doubts=(*response.doubts, f"the noise of {node.path} is modelled"))

    def _weights(self, node: Node, signals: Sequence[Signal], before: Sequence[Response]) -> Response:
        last = list(node.weights.values())[-1]
        bias = last.bias_mean**2 + last.bias_std**2
        total = float(np.mean(self.signals[node.path].second_moment))
        if len(node.weights) == 1:
            e = 1.0 - bias / total if total > 0 else 1.0
        else:
            known = elasticity(self, node, signals[0])
            e = self._elasticities(node, signals)[0] if known is None else known
        base, pairs, n = before[0], self.pairs(node.path), node.shape.channels
        variance = self.sources.variance(base, pairs.rows)
        passed = base.passed(e, e * (1 - e) * variance / 2, (1 - e) * float(np.sqrt(variance)))
        if len(node.weights) > 1:
            return several_layers(self, node, signals[0], passed).with_noise(np.zeros(1), n, _unknown(pairs))
        table = node.shapes_in[0].kind == "ids"  # whose rows are drawn one by one
        row = chi_square(n) if table else self.dense_law(node, last, n)
        share = pairs.average(self.closeness[node.inputs[0]].averaged(np.square))
        return passed.with_noise(self.sources.add(node.path, "weights", row, share), n, _unknown(pairs))

    def dense_law(self, node: Node, law: WeightLaw, units: int) -> LogLaw:
        """ln |W x|^2 over weight draws for one input, relative to its average."""
        if law.distribution == "orthogonal":
            return orthogonal(law.fan_in, units)
        one = chi_square(units)
        if law.excess_kurtosis:
            excess = law.excess_kurtosis * self.input_kurtosis(node) / law.fan_in
            one = one + LogLaw(-excess / (2 * units), excess / units)
        return one

    def input_kurtosis(self, node: Node) -> float:
        """E x^4/(E x^2)^2 of what a weight layer multiplies: 3 for Gaussian values, 6 after a rectifier."""
        law = self.signals[node.inputs[0]].law
        if law is None or not law.chain:
            return 3.0
        mean, std = average(law)
        return energy(law.chain[0], mean, std).moments[1] if std > 0 else 3.0

    def _pointwise(self, node: Node, signal: Signal) -> Response:
        law = gaussian_behind(signal)
        origin = law.origin if law.origin in self.responses else node.inputs[0]
        base = self.responses[origin]
        mean, std = average(law)
        if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
            return base.passed(1.0)
        neuron = self.neurons[node.path] = energy(chained(law, function_of(node)), mean, std)
        to_variance = (mean**2 + std**2) / std**2
        n = node.shape.channels
        pairs = self.pairs(origin)
        centred = origin in self.network and (
            removes_mean(self.network[origin]) or standardises_batch(self.network[origin])
        )
        row_variance = float(neuron.pair(1.0, True, centred))

        def common(c: Field) -> Field:
            return neuron.pair(c, True, centred)

        close = self.closeness[origin] if origin in self.closeness else Closeness()
        share = pairs.average(close.averaged(common)) / row_variance if row_variance > 1e-9 else 1.0
        own = neuron.own_law(n, centred) + LogLaw(
            neuron.bend / n
        )  # the bend goes into the shift: no average reduces it
        own, moved = self._not_gaussian(node, origin, neuron, own)
        batch_variance, single_variance = (to_variance**2 * self.sources.variance(base, k) for k in (pairs.rows, 1))
        shift = (
            neuron.log_curvature * batch_variance / 2
            + neuron.bend * (single_variance - batch_variance) / 2
            - neuron.bend / n
            + moved
        )
        e = neuron.elasticity
        new = self.sources.add(node.path, "activation", own, share)
        bent = neuron.log_curvature / e * float(np.sqrt(batch_variance)) if abs(e) > FORGOTTEN else 0.0
        response = base.passed(e * to_variance, shift, bent)
        return response.with_noise(new, n, (*_unknown(pairs), *_dead(node, neuron)))

    def _not_gaussian(self, node: Node, origin: str, neuron: Energy, own: LogLaw) -> tuple[LogLaw, float]:
        """Weights that are not Gaussian leave a fourth cumulant in the pre-activations: more noise, and a shift."""
        producer = self.network[origin] if origin in self.network else None
        if producer is None or len(producer.weights) != 1:
            return own, 0.0
        (law,) = producer.weights.values()
        if not law.excess_kurtosis:
            return own, 0.0
        fourth = law.excess_kurtosis * self.input_kurtosis(producer) / law.fan_in
        quartic = float(neuron.coefficients[4]) * np.sqrt(24.0)
        extra = fourth / 24 * (neuron.fourth_hermite - 2 * quartic) - neuron.elasticity**2 * fourth
        n = node.shape.channels
        return own + LogLaw(-extra / (2 * n), extra / n), fourth / 24 * quartic

    def _merge(self, node: Node, signals: Sequence[Signal], before: Sequence[Response]) -> Response:
        if node.component.implementation == "multiply":
            made = product(self, node, signals, before)
            if made is not None:
                return made
        elasticities = self._elasticities(node, signals)
        response = self._doubted(node, met(before, elasticities))
        if abs(sum(elasticities) - 1) < 0.05:  # ln of a sum of shares is convex: it gains by what its parts differ
            variance = self.sources.common_variance
            spread = sum(e * variance(r.gains) for e, r in zip(elasticities, before, strict=True))
            response = replace(response, shift=response.shift + (spread - variance(response.gains)) / 2)
        overlap = self._overlap(node, signals)
        if overlap > 0:
            alike = [self.pairs(producer) for producer in node.inputs[:2]]
            share = float(np.sqrt(alike[0].square() * alike[1].square()))
            row = LogLaw(-overlap / 2, overlap)
            gains = self.sources.add(node.path, "overlap", row, share)
            response = response.with_noise(gains, node.shape.channels, _unknown(alike[0]))
        return response

    def _overlap(self, node: Node, signals: Sequence[Signal]) -> float:
        """Relative variance of a sum that the chance overlap of independent branches brings, for one row."""
        if node.component.coherence.kind != "linear" or not node.component.uses_cross_moments:
            return 0.0
        factors = [float(np.mean(linear_factor(node, port, signals))) for port in node.ports]
        total = float(np.mean(self.signals[node.path].second_moment))
        if not total > 0:
            return 0.0
        crosses = self.crosses(node)
        out = 0.0
        for i, j in combinations(range(len(signals)), 2):
            a, b = (float(np.mean(signals[k].second_moment)) for k in (i, j))
            field = crosses.get((i, j))
            common = 0.0 if field is None else float(np.mean(field)) ** 2
            out += 4 * (factors[i] * factors[j]) ** 2 * max(a * b - common, 0.0)
        return out / (node.shape.channels * total**2)

    def crosses(self, node: Node) -> CrossFields:
        return forward_crosses(node, self.cross, {})

    def _elasticities(self, node: Node, signals: Sequence[Signal]) -> list[float]:
        """d ln q_out/d ln q_in of every port, from the component's own moments formula."""
        crosses = self.crosses(node)

        def level(port: int, factor: float) -> float:
            changed = [scaled(s, factor) if k == port else s for k, s in enumerate(signals)]
            moved = {
                pair: None if field is None else field * np.sqrt(factor) ** pair.count(port)
                for pair, field in crosses.items()
            }
            return float(np.mean(forward(node, changed, moved)[0].second_moment))

        out = []
        for port in range(len(signals)):
            low, high = level(port, 1 - STEP), level(port, 1 + STEP)
            out.append(float(np.log(high / low) / np.log((1 + STEP) / (1 - STEP))) if low > 0 and high > 0 else np.nan)
        return out


def _unknown(pairs: RowPairs) -> tuple[str, ...]:
    """What is missing where nobody knows how alike the rows are."""
    return () if pairs.known else ("it is known how alike the rows of the batch are (else: the scatter of one row)",)


def _dead(node: Node, neuron: Energy) -> tuple[str, ...]:
    """What is in doubt in a layer so narrow that it may let nothing through: such draws have no logarithm."""
    if neuron.on > 1 - 1e-9 or (probability := dead_probability(node.shape.channels, neuron.on)) < RARE:
        return ()
    return (f"{node.path} lets something through (for one input it is dead in {probability:.1%} of the draws)",)
