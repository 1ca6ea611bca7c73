"""Covariances between the gradients on different edges: of the uses of one value, and of the same weights.

Unrolled towards the output: fresh weights end a correlation, slopes pass it on, and weights that both gradients have
passed hand back the covariance of what is behind them (Yang 2020: a matrix that the way back meets acts as one of its
own, independent of the way forward).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lensnet.levels.bands import BandPairs
from lensnet.levels.covariance import Covariance
from lensnet.levels.pairs import FullPairs, Pairs
from lensnet.network.geometry import Pointwise
from lensnet.network.graph import Network, Node
from lensnet.predict.edges import OUTPUT, Edge, total_of, uses_of
from lensnet.predict.kernel.cross import ForwardCross, Places, is_linear, linear_factor, source_of
from lensnet.predict.kernel.environment import Environment
from lensnet.predict.kernel.pointwise import behind, between, mean_slopes
from lensnet.predict.moments.pointwise import function_of, slope_of


class BackwardCross:
    """E[g1 g2] between the gradients that two uses of one value send back, `(N, N)`.

    An edge is named by its consumer `(path, port)`; `OUTPUT` is the edge that leaves the network. The edge whose
    consumer stands earlier is a function of the gradients beyond it, so it is the one that is unrolled. The first
    sample of a pair belongs to the first edge.
    """

    def __init__(
        self,
        network: Network,
        states: Mapping[str, Covariance],
        gradients: Mapping[Edge, Pairs],
        places: Places,
        forward: ForwardCross,
    ) -> None:
        self.network, self.states, self.gradients, self.places = network, states, gradients, places
        self.forward = forward
        self.order = {node.path: place for place, node in enumerate(network)} | {OUTPUT[0]: len(network)}

    def moment(self, first: Edge, second: Edge) -> Pairs | None:
        """E[g1 g2]; None where no rule reaches."""
        if first == second:
            return self.gradients[first]
        found = self._unrolled(first, second)
        if found is None and (self._changes_sign(first, second) or self._changes_sign(second, first)):
            return np.zeros(())
        return found

    def _unrolled(self, first: Edge, second: Edge) -> Pairs | None:
        if self.order[first[0]] > self.order[second[0]]:
            found = self._unrolled(second, first)
            return None if found is None else self._turned(found, first)
        node = self.network[first[0]]
        if node.component.coherence.kind == "fresh":
            return self._behind_fresh(node, first, second)
        if node.component.is_fork:
            return self._beyond(node.path, second)
        if second[0] == first[0]:
            return self._same_merge(node, first[1], second[1])
        if not isinstance(node.geometry, Pointwise):
            return None
        twin = self.network[second[0]] if second != OUTPUT else None
        if twin is not None and self._twins(node, twin):
            return self._both_pointwise(node, twin)
        joint = None if twin is None else self._joint_slopes(node, twin)
        if joint is not None and twin is not None:
            beyond = self.outputs(node.path, twin.path)
            return None if beyond is None else joint * beyond
        slope = self._slope(node, first[1])
        if slope is None:
            return None
        beyond = self._beyond(node.path, second)
        return None if beyond is None else self.places(node).given.first(slope) * beyond

    def _turned(self, pairs: Pairs, edge: Edge) -> Pairs:
        layout = self.places(self.network[edge[0]]).given if edge != OUTPUT else None
        return layout.transposed(pairs) if isinstance(layout, BandPairs) and pairs.ndim else pairs.T

    def _passes_twin(self, node: Node, second: Edge) -> bool:
        """Whether weights of this component are used again further on."""
        return any(self.order[other.path] >= self.order[second[0]] for other in self.network.sharing(node))

    def _behind_fresh(self, node: Node, first: Edge, second: Edge) -> Pairs | None:
        """E[W^T h1 g2]: zero where g2 has not passed W. Where it has, W^T h1 is a Gaussian that g2's slopes know
        nothing of, and g2 is followed to where it meets the same weights."""
        later = self.network[second[0]] if second != OUTPUT else None
        if later is None or later is node or not self._passes_twin(node, second):
            return np.zeros(())
        if later in self.network.sharing(node):
            return self._handed_back(node, later)
        if later.component.coherence.kind == "fresh":
            return np.zeros(())
        if not later.component.is_fork and not isinstance(later.geometry, Pointwise):
            return None
        beyond = self._beyond(later.path, first)
        if beyond is None or later.component.is_fork:
            return None if beyond is None else self._turned(beyond, first)
        slope = self._slope(later, second[1])
        return None if slope is None else self._turned(self.places(later).given.first(slope) * beyond, first)

    def _handed_back(self, node: Node, twin: Node) -> Pairs | None:
        """What the same weights make of the covariance of the gradients at the outputs of two of their uses."""
        model = node.component.port_effects("kernel", "backward_kernel").get("")
        above = self.outputs(node.path, twin.path)
        place = self.places(node)
        if model is None or above is None or not model.formula.uses <= {"p"} | set(place.static):
            return None
        if not above.any():
            return np.zeros(())
        if above.shape != place.made.shape or node.kind != twin.kind or not isinstance(place.made, FullPairs):
            return None
        state = self.states[node.inputs[0]]
        return np.asarray(place.given.whole(Environment(place, [state], p=above).evaluate(model.formula)))

    def outputs(self, a: str, b: str) -> Pairs | None:
        """E[g_a g_b] of the gradients at the outputs of two components; None where no rule reaches."""
        return total_of(self._beyond(a, edge) for edge in uses_of(self.network, b))

    def _joint_slopes(self, a: Node, b: Node) -> Pairs | None:
        """E f'(x) g'(y) of two functions of different Gaussians that the graph knows to be correlated, else None."""
        if {a.component.coherence.kind, b.component.coherence.kind} != {"pointwise"}:
            return None
        first, second = (self.states[node.inputs[0]].population for node in (a, b))
        if first is None or second is None or not (first.plain and second.plain) or first.origin == second.origin:
            return None
        if not (isinstance(first.layout, FullPairs) and isinstance(second.layout, FullPairs)):
            return None
        covariance = self.forward.covariance(a.inputs[0], b.inputs[0])
        if covariance is None or not covariance.any():
            return None
        return between(first, second, covariance, slope_of(function_of(a)), slope_of(function_of(b)))

    def _slope(self, node: Node, port: str) -> Any:
        kind = node.component.coherence.kind
        if kind == "linear":
            return linear_factor(self.places(node), self.states, port)
        if kind == "pointwise":
            return mean_slopes(node, self.states[node.inputs[node.ports.index(port)]])
        return None

    def _same_merge(self, node: Node, a: str, b: str) -> Pairs | None:
        slopes = self._slope(node, a), self._slope(node, b)
        if slopes[0] is None or slopes[1] is None:
            return None
        above = self._beyond_both(node.path)
        layout = self.places(node).given
        return None if above is None else layout.first(slopes[0]) * layout.second(slopes[1]) * above

    def _beyond_both(self, path: str) -> Pairs | None:
        """The gradient's own covariance at a component's output."""
        uses = uses_of(self.network, path)
        return self.gradients.get(uses[0]) if len(uses) == 1 else None

    def _twins(self, a: Node, b: Node) -> bool:
        """Two pointwise functions of one and the same value."""
        kinds = {a.component.coherence.kind, b.component.coherence.kind}
        return kinds == {"pointwise"} and source_of(self.network, a.inputs[0]) == source_of(self.network, b.inputs[0])

    def _both_pointwise(self, a: Node, b: Node) -> Pairs | None:
        beyond = self.outputs(a.path, b.path)
        if beyond is None:
            return None
        population = behind(self.states[a.inputs[0]])
        if isinstance(population.layout, BandPairs):
            return None
        slopes = between(
            population, population, population.covariance, slope_of(function_of(a)), slope_of(function_of(b))
        )
        return np.asarray(slopes * beyond)

    def _beyond(self, path: str, edge: Edge) -> Pairs | None:
        """Cross moment of the gradient at a component's output with that of another edge."""
        return total_of(self.moment(use, edge) for use in uses_of(self.network, path))

    def _changes_sign(self, edge: Edge, other: Edge) -> bool:
        """Whether a gradient is a linear function, of any geometry, of fresh weights that the other does not pass."""
        while edge != OUTPUT:
            node = self.network[edge[0]]
            if node.component.coherence.kind == "fresh":
                return not self.network.sharing(node) and self.order[node.path] < self.order[other[0]]
            uses = uses_of(self.network, node.path)
            if not is_linear(node) or len(node.ports) > 1 or len(uses) > 1:
                return False
            edge = uses[0]
        return False
