"""Covariances between different edges: E[a b] for the samples of two outputs (of two gradients: `cross_back`).

The rules are those of the moments level (`lensnet.predict.moments.cross`), for pairs of samples instead of one: fresh
zero-mean weights end a correlation, a linear component passes it on, a pointwise one by Gaussian expectation. Two
functions of Gaussians whose covariance the graph knows (x and relu(x), relu(x) and relu(x + W x)) are exact; layers
that share their weights hand the covariance of their inputs on. Where no rule reaches the answer is None, never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lensnet.levels.bands import BandPairs
from lensnet.levels.covariance import Covariance, Population
from lensnet.levels.pairs import Pairs
from lensnet.network.geometry import Pointwise
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.kernel.environment import Environment, KernelPlace
from lensnet.predict.kernel.pointwise import behind, between, mean_slopes

Places = Callable[[Node], KernelPlace]
_SHALLOW = 32


class ForwardCross:
    """E[a b] over channels and weight draws, `(N_a, N_b)`, for two producers; results are cached per pair."""

    def __init__(self, network: Network, states: Mapping[str, Covariance], places: Places) -> None:
        self.network, self.states, self.places = network, states, places
        self.order = {INPUT: -1} | {node.path: place for place, node in enumerate(network)}
        self._known: dict[tuple[str, str], Pairs | None] = {}

    def moment(self, a: str, b: str) -> Pairs | None:
        """E[a b], or None where no rule reaches."""
        a, b = source_of(self.network, a), source_of(self.network, b)
        if self.order[a] < self.order[b]:
            found = self.moment(b, a)
            return None if found is None else self._turned(found, a)
        if (a, b) not in self._known:
            if self.order[a] - self.order[b] > _SHALLOW:  # fill in order, so that the recursion stays shallow
                for node in self.network.nodes[self.order[b] + 1 : self.order[a]]:
                    self._fill(source_of(self.network, node.path), b)
            self._fill(a, b)
        return self._known[a, b]

    def covariance(self, a: str, b: str) -> Pairs | None:
        moment = self.moment(a, b)
        means = self.means(a, b)
        return moment if moment is None or means is None else moment - means

    def means(self, a: str, b: str) -> Pairs | None:
        """E a E b; None where one of them is zero."""
        first, second = self.states[a], self.states[b]
        if not (first.mean.any() and second.mean.any()):
            return None
        return np.asarray(first.layout.first(first.mean) * second.layout.second(second.mean))

    def _turned(self, pairs: Pairs, path: str) -> Pairs:
        """First and second sample exchanged; every sample of the first is one at `path`."""
        layout = self.states[path].layout
        return layout.transposed(pairs) if isinstance(layout, BandPairs) and pairs.ndim else pairs.T

    def _alike(self, a: str, b: str) -> bool:
        """Whether pairs of samples at two edges can be told: some displacements only where both have the same."""
        layouts = [self.states[path].layout for path in (a, b)]
        return layouts[0] == layouts[1] or not any(isinstance(layout, BandPairs) for layout in layouts)

    def _fill(self, later: str, earlier: str) -> None:
        if (later, earlier) in self._known:
            return
        if later not in self.states or earlier not in self.states:
            self._known[later, earlier] = None
            return
        if not self._alike(later, earlier):
            apart = self._changes_sign(later, earlier) and self.means(later, earlier) is None
            self._known[later, earlier] = np.zeros(()) if apart else None
            return
        found = self._work_out(later, earlier)
        if found is None and self._changes_sign(later, earlier):
            found = self._product_of_means(later, earlier)
        self._known[later, earlier] = found

    def _product_of_means(self, later: str, earlier: str) -> Pairs:
        means = self.means(later, earlier)
        return np.zeros(()) if means is None else means

    def _work_out(self, later: str, earlier: str) -> Pairs | None:
        if later == earlier:
            return self.states[later].pairs
        node = self.network[later]
        kind = node.component.coherence.kind
        if kind == "fresh":
            return self._fresh(node, earlier)
        if kind == "pointwise":
            return self._pointwise(node, earlier)
        return self._linear(node, earlier) if is_linear(node) else None

    def _fresh(self, node: Node, earlier: str) -> Pairs | None:
        """Weights that `earlier` has not seen end the correlation; weights that were used before do not, and `earlier`
        is followed back to where they were."""
        before = [one for one in self.network.sharing(node) if self.order[one.path] <= self.order[earlier]]
        other = self.network[earlier] if earlier != INPUT else None
        if not before or other is None:
            return self._product_of_means(node.path, earlier)
        if any(one.kind != node.kind for one in before):  # a table and a head: channels and words are no channels alike
            return None
        if other in before:
            return self._shared(node, other)
        if other.component.coherence.kind == "fresh":
            return self._product_of_means(node.path, earlier)
        if other.component.coherence.kind == "pointwise":
            later, mine = self.states[node.path].population, self.states[earlier].population
            covariance = None if mine is None else self.covariance(node.path, mine.origin)
            if later is None or mine is None or covariance is None:
                return None
            return between(later, mine, covariance)
        return self._linear(other, node.path, turned=True) if is_linear(other) else None

    def _shared(self, node: Node, twin: Node) -> Pairs | None:
        """One and the same weights for two inputs: the kernel formula at the covariance of these inputs."""
        model = node.component.effects("kernel").get("kernel")
        inner = self.moment(node.inputs[0], twin.inputs[0])
        if model is None or inner is None or not model.formula.uses <= _SHARED_SYMBOLS | set(self.places(node).static):
            return None
        state = self.states[node.inputs[0]]
        if inner.ndim and inner.shape != state.layout.shape:
            return None
        met = Covariance(state.mean, inner, state.layout)
        found = Environment(self.places(node), [met]).evaluate(model.formula)
        return np.asarray(self.places(node).made.whole(found))

    def _linear(self, node: Node, earlier: str, turned: bool = False) -> Pairs | None:
        """E[a b] for the linear component `node` and another signal; `turned`: for that signal and the component."""
        total = self._product_of_means(node.path, earlier)
        for port, producer in zip(node.ports, node.inputs, strict=True):
            covariance = self.covariance(producer, earlier)
            passed = None if covariance is None else self._passed_on(node, port, covariance)
            if passed is None:
                return None
            total = total + passed
        return self._turned(total, earlier) if turned else total

    def _passed_on(self, node: Node, port: str, covariance: Pairs) -> Pairs | None:
        """What a linear component makes of the covariance of its input with another signal."""
        if covariance.ndim == 0:
            return covariance
        place, factor = self.places(node), linear_factor(self.places(node), self.states, port)
        if factor is None:
            return None
        if isinstance(node.geometry, Pointwise):
            return np.asarray(place.given.first(factor) * covariance)
        if isinstance(place.given, BandPairs):
            return None
        return np.asarray(place.made.first(factor) * place.operators.left(covariance))

    def _pointwise(self, node: Node, earlier: str) -> Pairs | None:
        source = node.inputs[0]
        mine, other = self.states[node.path], self.states[earlier]
        if mine.population is not None and other.population is not None:
            covariance = self._between_origins(mine.population, other.population)
            if covariance is not None:
                return between(mine.population, other.population, covariance)
        if other.population is None or not other.population.plain or not behind(self.states[source]).plain:
            return None
        covariance = self.covariance(source, earlier)
        if covariance is None:
            return None
        slope = mean_slopes(node, self.states[source], stein=True)
        return self._product_of_means(node.path, earlier) + mine.layout.first(slope) * covariance

    def _between_origins(self, a: Population, b: Population) -> Pairs | None:
        """The covariance of the two Gaussians that two states are functions of."""
        if a.origin == b.origin:
            return a.covariance
        return self.covariance(a.origin, b.origin)

    def _changes_sign(self, later: str, earlier: str) -> bool:
        """Whether `later` is a linear function, of any geometry, of fresh weights that `earlier` has not seen: turning
        the sign of these weights turns its sign alone, so that the two are uncorrelated."""
        path = source_of(self.network, later)
        while path != INPUT and self.order[path] > self.order[earlier]:
            node = self.network[path]
            if node.component.coherence.kind == "fresh":
                return not self.network.sharing(node) and not any(law.bias_mean for law in node.weights.values())
            if not is_linear(node) or len(node.ports) > 1:
                return False
            path = source_of(self.network, node.inputs[0])
        return False


_SHARED_SYMBOLS = {"k"}


TRANSFER = "transfer"
"""The kernel effect of a component that is its geometry's sum over a window times a factor: that factor."""


def is_linear(node: Node) -> bool:
    """Whether the output is a linear function of the input, given everything else."""
    return node.component.coherence.kind == "linear" or TRANSFER in node.component.effects("kernel")


def linear_factor(place: KernelPlace, states: Mapping[str, Covariance], port: str) -> Any:
    """The factor of a linear component on what comes in at `port`; None where channels become other ones."""
    node = place.node
    if node.component.spec.shape.positions is not None or node.component.spec.shape.channels is not None:
        return None
    transfer = node.component.effects("kernel").get(TRANSFER)
    formula = transfer.formula if transfer else node.component.coherence.factor_formula(port)
    return Environment(place, [states[producer] for producer in node.inputs], fields=True).evaluate(formula)


def source_of(network: Network, path: str) -> str:
    """The producer behind any forks."""
    while path != INPUT and network[path].component.is_fork:
        path = network[path].inputs[0]
    return path
