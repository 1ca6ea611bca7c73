"""Backward: the scatter of ln p, the second moment of dL/dx for L = <r, y>, over weight draws and r.

The same sources in the other direction: a dense layer multiplies by chi^2_n/n (n its inputs), a rectifier by its open
gates. Two things are new.

Every row sends back its own random question r, so the gradients of different rows start out unrelated and the batch
average hides their noise; they turn towards each other on the way (`alignment.py`). The average of cos^2 is the share
of a layer's noise that two rows have in common.

And the slopes depend on the forward signal: what chance does to v there moves ln p by d ln E f'^2/d ln v, along the
forward sources; a normalisation divides the gradient by the signal that came in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.signal import Field, Signal
from lensnet.network.graph import Network, Node
from lensnet.predict.edges import OUTPUT, Edge
from lensnet.predict.fluctuation.alignment import EQUAL, Alignment, bounded, unrelated
from lensnet.predict.fluctuation.forward import STEP, Forward
from lensnet.predict.fluctuation.laws import (
    average,
    mask_law,
    normalised,
    one_by_one,
    orthogonal,
    removes_mean,
    scaled,
    standardises_batch,
)
from lensnet.predict.fluctuation.log_law import LogLaw, chi_square
from lensnet.predict.fluctuation.neuron import Energy, energy, slope_energy, slope_overlap
from lensnet.predict.fluctuation.response import Response, Sources, met
from lensnet.predict.moments.backward import backward
from lensnet.predict.moments.cross import BackwardCross
from lensnet.predict.moments.pointwise import chained, function_of, gaussian_behind, slope_of

Array = NDArray[np.float64]
Shared = Callable[[Array], Array]


@dataclass(frozen=True)
class GradientResponse:
    """Of one edge: the response of ln p; `alike`: squared cosine of the gradients of two different rows; `along`: that
    of gradient and signal, times their length (1 where they know nothing of each other, 0 below a norm)."""

    response: Response
    alike: Alignment
    along: float = 1.0


class Backward:
    """The responses of the gradient at every input port, from the network's output."""

    def __init__(self, network: Network, forward: Forward, gradients: Mapping[tuple[str, str], Field]) -> None:
        self.network = network
        self.forward = forward
        self.sources: Sources = forward.sources
        self.gradients = gradients
        self.cross = BackwardCross(network, forward.signals, gradients)
        last = network.nodes[-1]
        rows, units = last.examples * last.shape.position_count, last.shape.channels
        start = Response(self.sources.add(OUTPUT[0], "question", chi_square(units), 1.0 if rows == 1 else 0.0, 1.0))
        self.responses: dict[Edge, GradientResponse] = {
            OUTPUT: GradientResponse(start, EQUAL if rows == 1 else unrelated(units))
        }
        for node in reversed(network.nodes):
            uses: list[Edge] = [(user.path, port) for user, port in network.consumers(node.path)] or [OUTPUT]
            if all(use in self.responses for use in uses):
                self._before(node, uses)

    def _before(self, node: Node, uses: list[Edge]) -> None:
        known = [self.responses[use] for use in uses]
        for index, port in enumerate(node.ports):
            edge = (node.path, port)
            if node.shapes_in[index].kind == "ids" or edge not in self.gradients:
                continue
            if node.component.is_fork:
                self.responses[edge] = self._fork(node, uses, known)
            elif node.component.function is not None:
                self.responses[edge] = self._pointwise(node, known[0])
            else:
                self.responses[edge] = self._other(node, port, index, known[0])

    def _pointwise(self, node: Node, after: GradientResponse) -> GradientResponse:
        signal = self.forward.signals[node.inputs[0]]
        law = gaussian_behind(signal)
        origin = law.origin if law.origin in self.forward.responses else node.inputs[0]
        mean, std = average(law)
        if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
            return after
        if law.chain:  # the slope at the chain's value, not the slope of the whole chain
            gate = energy(chained(law, slope_of(function_of(node))), mean, std)
        else:
            gate = slope_energy(function_of(node), mean, std)
        base = self.forward.responses[origin]
        n = node.shape.channels
        pairs = self.forward.pairs(origin)
        close = self.forward.closeness[origin]
        pair = pairs.average(close.averaged(gate.pair))

        def turn(c: Field) -> Field:
            return slope_overlap(function_of(node), mean, std, c) ** 2

        overlap = pairs.average(close.averaged(turn)) if not law.chain else 1.0
        own = self._slopes(node, gate, after.alike, lambda part: pairs.average(close.averaged(part)))
        sensitivity = gate.elasticity * (mean**2 + std**2) / std**2
        batch, single = self.sources.variance(base, pairs.rows), self.sources.variance(base)
        shift = gate.log_curvature * batch / 2 + gate.bend * (single - batch) / 2 - gate.bend / n
        bent = gate.log_curvature * float(np.sqrt(batch))
        response = met([after.response, base.passed(sensitivity, shift, bent)], [1.0, 1.0])
        if not node.component.homogeneous:
            return GradientResponse(response.with_noise(own, n), after.alike.sloped(n, overlap, pair))
        neuron = self.forward.neurons.get(node.path)
        passed = 0.0 if neuron is None else neuron.product(gate)  # the part along the signal meets large neurons alone
        response = response.moved((after.along - 1) * passed / n)
        return GradientResponse(response.with_noise(own, n), after.alike.sloped(n, overlap, pair), after.along)

    def _slopes(self, node: Node, gate: Energy, alike: Alignment, averaged: Callable[[Shared], float]) -> Array:
        """What squared slopes d_i of n neurons make of a gradient, as gains: sum_i g_i^2 d_i/|g|^2 relative to E d.

        The average of the d_i varies with the length of the pre-activations, which the forward sources hold, and with
        what the neurons do beyond it, which is partly the noise of the activation itself; the weighting by g_i^2, of
        which two rows share the squared cosine of their gradients, is the gradient's own. Together 3 Var d/n.
        """
        n, noise = node.shape.channels, self.sources.index(node.path, "activation")
        neuron = self.forward.neurons.get(node.path)
        beta = 0.0
        if neuron is not None and noise is not None and not gate.is_gate and neuron.own_variance > 1e-9:
            beta = gate.own_product(neuron) / neuron.own_variance
        explained = 2 * gate.elasticity**2 + (beta**2 * neuron.own_variance if neuron is not None and beta else 0.0)
        left = max(3 * gate.variance - explained, 0.0)
        plain = gate.slope_law(n) if gate.is_gate else LogLaw(-left / (2 * n + 4), left / (n + 2))
        row = plain + self._masked_gates(node, gate.variance)

        def common(c: Array) -> Array:
            shared = 2 * alike.mean * gate.pair(c) + gate.pair(c, own=True)
            return shared - beta**2 * neuron.pair(c, own=True) if neuron is not None and beta else shared

        share = averaged(common) / left if left > 1e-12 else 0.0
        share *= plain.variance / row.variance if row.variance > 0 else 1.0  # masks are each row's own
        turned = 2 * (1 - alike.mean) * alike.turned * gate.variance / left if left > 1e-12 else 0.0
        if beta and noise is not None:  # 1 + beta A is not (1 + A)^beta
            row = row + LogLaw(beta * (1 - beta) * self.sources.row(noise).variance / 2)
        gains = self.sources.add(node.path, "slopes", row, share, turned)
        if gate.is_gate and neuron is not None and noise is not None:
            one, two = gate.own_product(neuron) / n, averaged(lambda c: gate.own_overlap(neuron, c)) / n
            self.sources.couple(noise, int(np.argmax(gains)), one, two)
        if beta and noise is not None:
            gains[noise] += beta
        return gains

    def _other(self, node: Node, port: str, index: int, after: GradientResponse) -> GradientResponse:
        response, a, along = after.response, after.alike, after.along if len(node.ports) == 1 else 1.0
        if not node.component.homogeneous and not (node.component.coherence.kind == "fresh" and len(node.weights) == 1):
            for place, e in enumerate(self._sensitivities(node, port)):
                response = met([response, self.forward.responses[node.inputs[place]].passed(e)], [1.0, 1.0])
        mask = mask_law(node, 3.0)  # a gradient is Gaussian from channel to channel
        if mask.variance:
            response = response.with_noise(self.sources.add(node.path, "mask back", mask, 0.0), node.shape.channels)
        if node.component.coherence.kind == "fresh" and node.weights:
            n = node.shapes_in[index].channels
            row = LogLaw()
            for law in node.weights.values():
                one = chi_square(n) if law.distribution != "orthogonal" else orthogonal(law.fan_out, n)
                row = row + one
            gains = self.sources.add(node.path, "weights back", row, a.mean, a.turned)
            forward = self.sources.index(node.path, "weights")
            drawn = all(one.distribution != "orthogonal" for one in node.weights.values())
            if forward is not None and len(node.weights) == 1 and drawn:
                covariance = 2.0 / (n * node.shape.channels)
                self.sources.couple(forward, int(np.argmax(gains)), covariance, covariance)
            response = response.with_noise(gains, n, one_by_one(node))
            a = a.mixed(n)
            bias = sum(law.bias_mean**2 + law.bias_std**2 for law in node.weights.values())
            share = bias / max(float(np.mean(self.forward.signals[node.path].second_moment)), 1e-300)
            along = min(share, 1.0) + max(1 - share, 0.0) * along if len(node.weights) == 1 else 1.0
            response = response.moved((along - 1) / n if drawn else 0.0)  # orthogonal ones keep every length
        elif node.component.scale_invariant and not standardises_batch(node):
            along = 0.0
            response = response.moved(-(1.0 + removes_mean(node)) / normalised(node))
        elif not node.component.homogeneous:
            along = 1.0
        return GradientResponse(response, self._spread_over_positions(node, index, a), along)

    def _masked_gates(self, node: Node, slope_variance: float) -> LogLaw:
        """What gates add because a mask behind them has left few channels to the gradient."""
        users = [user for user, _ in self.network.consumers(node.path)]
        return mask_law(users[0], 3.0 * slope_variance) if len(users) == 1 else LogLaw()

    @staticmethod
    def _spread_over_positions(node: Node, index: int, alike: Alignment) -> Alignment:
        """A gradient that one position sends to several: the same for a pool, unrelated parts of it for a flatten."""
        out, into = node.shape, node.shapes_in[index]
        copies = into.position_count // max(out.position_count, 1)
        if node.weights or copies < 2:
            return alike
        among = EQUAL if out.channels == into.channels else unrelated(into.channels)
        rows = node.examples * out.position_count
        return alike.with_others((copies - 1) / (rows * copies - 1), among)

    def _sensitivities(self, node: Node, port: str) -> list[float]:
        """d ln p_in/d ln q of every forward port, at a fixed gradient above, from the component's own formula."""
        signals = [self.forward.signals[producer] for producer in node.inputs]
        arriving = np.ones((signals[0].mean.shape[0], *node.shape.positions))

        def level(place: int, factor: float) -> float:
            changed: list[Signal] = [scaled(s, factor) if k == place else s for k, s in enumerate(signals)]
            effect = backward(node, changed, arriving, self.forward.crosses(node)).get(port)
            return float("nan") if effect is None or effect.value is None else effect.value

        out = []
        for place in range(len(signals)):
            low, high = level(place, 1 - STEP), level(place, 1 + STEP)
            known = low > 0 and high > 0
            out.append(float(np.log(high / low) / np.log((1 + STEP) / (1 - STEP))) if known else 0.0)
        return out

    def _fork(self, node: Node, uses: list[Edge], known: list[GradientResponse]) -> GradientResponse:
        """Gradients of several uses add; each counts with its share, and uncorrelated ones overlap by chance."""
        power = [float(np.mean(self.gradients[use])) for use in uses]
        crosses = {(i, j): self._cross(uses[i], uses[j]) for i, j in combinations(range(len(uses)), 2)}
        total = sum(power) + 2 * sum(crosses.values())
        if not total > 0:
            return known[0]
        shares = [(p + sum(value for pair, value in crosses.items() if i in pair)) / total for i, p in enumerate(power)]
        responses = [k.response for k in known]
        response = met(responses, shares)
        variance = self.sources.common_variance
        spread = sum(s * variance(r.gains) for s, r in zip(shares, responses, strict=True))
        response = replace(response, shift=response.shift + (spread - variance(response.gains)) / 2)
        mean = sum(s * k.alike.mean for s, k in zip(shares, known, strict=True))
        alike = bounded(mean, sum(s * k.alike.square for s, k in zip(shares, known, strict=True)))
        alike = replace(alike, same=sum(s * k.alike.same for s, k in zip(shares, known, strict=True)))
        n = node.shapes_in[0].channels
        overlap = sum(4 * max(power[i] * power[j] - cross**2, 0.0) for (i, j), cross in crosses.items()) / total**2 / n
        row = LogLaw(-overlap / 2, overlap)
        if overlap > 0:
            gains = self.sources.add(node.path, "overlap back", row, alike.mean)
            response = response.with_noise(gains, n)
        along = sum(s * k.along for s, k in zip(shares, known, strict=True))
        return GradientResponse(response, alike, along)

    def _cross(self, first: Edge, second: Edge) -> float:
        field = self.cross.moment(first, second)
        return 0.0 if field is None else float(np.mean(field))
