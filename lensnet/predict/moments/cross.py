"""Cross moments of signals that meet: E[a b] between two outputs, and between two gradients of one fork.

Branches that meet are correlated exactly as far as the graph says. A component's `coherence` tells what its output
keeps of a correlation that its input had with something else: nothing (`fresh` zero-mean weights), a factor of it
(`linear`), or what the slope of a pointwise function lets through (Stein's lemma: Cov(f(x), b) = E[f'(x)] Cov(x, b)
for jointly Gaussian x and b). Where none of these rules reaches, the answer is None: unknown, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lensnet.levels.signal import Signal
from lensnet.network.geometry import Pointwise, Strided
from lensnet.network.graph import INPUT, Network, Node
from lensnet.network.shape import Shape
from lensnet.predict.edges import OUTPUT, Edge, total_of, uses_of
from lensnet.predict.environment import linear_factor
from lensnet.predict.moments.pointwise import mean_product, mean_slope, mean_slope_product, stein_factor

Field = NDArray[np.float64]
_SHALLOW = 32


def parts_apart(a: Node, b: Node) -> bool:
    """Whether two components take different channels: they have no channel in common."""
    if a.component.coherence.kind != "part" or b.component.coherence.kind != "part":
        return False
    (start, width, period), (other, wide, same) = (
        tuple(int(node.parameters[name]) for name in ("start", "width", "period")) for node in (a, b)
    )
    return period == same and (start + width <= other or other + wide <= start)


def places_apart(a: Node, b: Node) -> bool:
    """Whether two components put what they take at different positions, with nothing at the other's: one is zero where
    the other is not."""
    if not isinstance(a.geometry, Strided) or not isinstance(b.geometry, Strided) or a.weights or b.weights:
        return False
    for axis, sizes in enumerate(zip(a.shapes_in[0].positions, b.shapes_in[0].positions, strict=True)):
        mine, other = np.array(a.geometry.places(axis, sizes[0])), np.array(b.geometry.places(axis, sizes[1]))
        if len(mine) == len(other) and not ((mine >= 0) & (other >= 0)).any():
            return True
    return False


class ForwardCross:
    """E[a b] over channels and weight draws, per example and position, for two producers of a network.

    `signals` are those of the outputs seen so far; results are cached per pair.
    """

    def __init__(self, network: Network, signals: Mapping[str, Signal]) -> None:
        self.network = network
        self.signals = signals
        self.order = {INPUT: -1} | {node.path: place for place, node in enumerate(network)}
        self._known: dict[tuple[str, str], Field | None] = {}

    def moment(self, a: str, b: str) -> Field | None:
        """E[a b], or None where no rule reaches."""
        a, b = _source(self.network, a), _source(self.network, b)
        if self.order[a] < self.order[b]:
            a, b = b, a
        if (a, b) not in self._known:
            if self.order[a] - self.order[b] > _SHALLOW:  # fill in order, so that the recursion stays shallow
                for node in self.network.nodes[self.order[b] + 1 : self.order[a]]:
                    self._fill(_source(self.network, node.path), b)
            self._fill(a, b)
        return self._known[a, b]

    def _fill(self, later: str, earlier: str) -> None:
        if (later, earlier) not in self._known:
            found = self._work_out(later, earlier)
            if found is None and self._shape(later) == self._shape(earlier) and self._changes_sign(later, earlier):
                found = self.signals[later].mean * self.signals[earlier].mean
            self._known[later, earlier] = found

    def covariance(self, a: str, b: str) -> Field | None:
        moment = self.moment(a, b)
        return None if moment is None else moment - self.signals[a].mean * self.signals[b].mean

    def _work_out(self, later: str, earlier: str) -> Field | None:
        if later == earlier:
            return self.signals[later].second_moment
        if self._shape(later) != self._shape(earlier):
            return None
        node = self.network[later]
        means = self.signals[later].mean * self.signals[earlier].mean
        coherence = node.component.coherence
        if self._parts_apart(later, earlier):
            return means
        if earlier != INPUT and places_apart(node, self.network[earlier]):
            return np.zeros_like(means)
        if coherence.kind == "fresh":
            return self._fresh(node, earlier, means)
        if not isinstance(node.geometry, Pointwise):
            return None
        if coherence.kind == "linear":
            total: Field = np.zeros_like(means)
            for port, producer in zip(node.ports, node.inputs, strict=True):
                covariance = self.covariance(producer, earlier)
                if covariance is None:
                    return None
                total = (
                    total + linear_factor(node, port, [self.signals[producer] for producer in node.inputs]) * covariance
                )
            return means + total
        if coherence.kind == "pointwise":
            return self._pointwise(node, earlier, means)
        return None

    def independent(self, gaussian: str, other: str, origin: str) -> bool:
        """Whether a Gaussian output is independent of another one, which is a function of the Gaussian at `origin`: one
        of the two comes from fresh weights that the other has not seen."""
        return self._changes_sign(gaussian, other) or self._changes_sign(origin, gaussian)

    def _fresh(self, node: Node, earlier: str, means: Field) -> Field | None:
        """Uncorrelated, unless the weights were used before: then one dense matrix for two inputs hands their cross
        moment on, and what has passed it on the way is unknown here."""
        before = [one for one in self.network.sharing(node) if self.order[one.path] <= self.order[earlier]]
        if not before:
            return means
        inner = (
            self.moment(node.inputs[0], self.network[earlier].inputs[0]) if self.network[earlier] in before else None
        )
        if inner is None or node.kind != "linear":
            return None
        law = node.weights["weight"]
        return law.fan_in * law.variance * inner + law.bias_std**2 + law.bias_mean**2

    def _parts_apart(self, later: str, earlier: str) -> bool:
        """Whether the two are different channels of one signal that fresh weights made."""
        if earlier == INPUT or not parts_apart(self.network[later], self.network[earlier]):
            return False
        whole = [_source(self.network, self.network[path].inputs[0]) for path in (later, earlier)]
        return whole[0] == whole[1] != INPUT and self.network[whole[0]].component.coherence.kind == "fresh"

    def _changes_sign(self, later: str, earlier: str) -> bool:
        """Whether `later` is a linear function, of any geometry, of fresh weights that `earlier` has not seen: turning
        the sign of these weights turns its sign alone, so that the two are uncorrelated."""
        path = _source(self.network, later)
        while path != INPUT and self.order[path] > self.order[earlier]:
            node = self.network[path]
            if node.component.coherence.kind == "fresh":
                return not self.network.sharing(node) and not any(law.bias_mean for law in node.weights.values())
            if node.component.coherence.kind != "linear" or len(node.ports) > 1:
                return False
            path = _source(self.network, node.inputs[0])
        return False

    def _shape(self, path: str) -> Shape:
        return self.network.input.shape if path == INPUT else self.network[path].shape

    def _pointwise(self, node: Node, earlier: str, means: Field) -> Field | None:
        source = self.signals[node.inputs[0]]
        other, mine = self.signals[earlier], self.signals[node.path]
        if mine.law is not None and other.law is not None and mine.law.origin == other.law.origin:
            return mean_product(mine.law, other.law)
        if any(law is None or law.chain for law in (source.law, other.law)):
            return None
        covariance = self.covariance(node.inputs[0], earlier)
        return None if covariance is None else means + stein_factor(node, source) * covariance


class BackwardCross:
    """E[g1 g2] between the gradients that two uses of one value send back.

    An edge is named by its consumer `(path, port)`; `OUTPUT` is the edge that leaves the network. `gradients` holds
    the second moments predicted so far. The edge whose consumer stands earlier is a function of the gradients beyond
    it, so it is the one that is unrolled.
    """

    def __init__(self, network: Network, signals: Mapping[str, Signal], gradients: Mapping[Edge, Field]) -> None:
        self.network = network
        self.signals = signals
        self.gradients = gradients
        self.order = {node.path: place for place, node in enumerate(network)} | {OUTPUT[0]: len(network)}

    def moment(self, first: Edge, second: Edge) -> Field | None:
        """E[g1 g2] per example and position; None where no rule reaches."""
        if first == second:
            return self.gradients[first]
        found = self._unrolled(first, second)
        if found is None and (self._changes_sign(first, second) or self._changes_sign(second, first)):
            return np.zeros_like(self.gradients[first])
        return found

    def _changes_sign(self, edge: Edge, other: Edge) -> bool:
        """Whether a gradient is a linear function, of any geometry, of fresh weights that the other does not pass."""
        while edge != OUTPUT:
            node = self.network[edge[0]]
            if node.component.coherence.kind == "fresh":
                return self.order[node.path] < self.order[other[0]]
            uses = uses_of(self.network, node.path)
            if node.component.coherence.kind != "linear" or len(node.ports) > 1 or len(uses) > 1:
                return False
            edge = uses[0]
        return False

    def _unrolled(self, first: Edge, second: Edge) -> Field | None:
        if self.order[first[0]] > self.order[second[0]]:
            first, second = second, first
        node = self.network[first[0]]
        if node.component.coherence.kind == "fresh":
            return np.zeros_like(self.gradients[second])
        if node.component.is_fork:
            return self._beyond(node.path, second)
        if second[0] == first[0]:
            return self._same_merge(node, first[1], second[1])
        if not isinstance(node.geometry, Pointwise):
            return None
        twin = self.network[second[0]] if second != OUTPUT else None
        if twin is not None and parts_apart(node, twin):
            return np.zeros_like(self.gradients[second])
        if twin is not None and self._twins(node, twin):
            return self._both_pointwise(node, twin)
        slope = self._slope(node, first[1])
        if slope is None:
            return None
        beyond = self._beyond(node.path, second)
        return None if beyond is None else slope * beyond

    def _slope(self, node: Node, port: str) -> Field | float | None:
        kind = node.component.coherence.kind
        if kind == "linear":
            return linear_factor(node, port, [self.signals[producer] for producer in node.inputs])
        if kind == "pointwise":
            return mean_slope(node, self.signals[node.inputs[node.ports.index(port)]])
        return None

    def _same_merge(self, node: Node, a: str, b: str) -> Field | None:
        slopes = self._slope(node, a), self._slope(node, b)
        if slopes[0] is None or slopes[1] is None:
            return None
        return slopes[0] * slopes[1] * self.gradients[uses_of(self.network, node.path)[0]]

    def _twins(self, a: Node, b: Node) -> bool:
        """Two pointwise functions of one and the same value."""
        kinds = {a.component.coherence.kind, b.component.coherence.kind}
        return kinds == {"pointwise"} and _source(self.network, a.inputs[0]) == _source(self.network, b.inputs[0])

    def _both_pointwise(self, a: Node, b: Node) -> Field | None:
        total = total_of(self._beyond(a.path, edge) for edge in uses_of(self.network, b.path))
        return None if total is None else mean_slope_product(a, b, self.signals[a.inputs[0]]) * total

    def _beyond(self, path: str, edge: Edge) -> Field | None:
        """Cross moment of the gradient at a component's output with that of another edge."""
        return total_of(self.moment(use, edge) for use in uses_of(self.network, path))


def _source(network: Network, path: str) -> str:
    """The producer behind any forks."""
    while path != INPUT and network[path].component.is_fork:
        path = network[path].inputs[0]
    return path
