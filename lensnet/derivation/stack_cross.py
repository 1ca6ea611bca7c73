"""Cross moments of signals and of gradients in symbols, by the rules of `lensnet.predict.moments.cross`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sympy as sp

from lensnet.algebra.pointwise import product
from lensnet.catalog.functions import bound_function
from lensnet.derivation.effects_of_function import MEAN_SLOPE
from lensnet.derivation.normal_form import NORMAL_PDF
from lensnet.network.geometry import Pointwise
from lensnet.network.graph import INPUT, Network, Node

if TYPE_CHECKING:
    from lensnet.derivation.stack import Stack

Edge = tuple[str, str]
OUTPUT: Edge = ("", "output")


class SymbolicForwardCross:
    """E[a b] of two outputs of a stack; None where no rule reaches."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.order = {INPUT: -1} | {node.path: place for place, node in enumerate(stack.network)}

    def moment(self, a: str, b: str) -> sp.Expr | None:
        network, signals = self.stack.network, self.stack.signals
        a, b = source(network, a), source(network, b)
        if self.order[a] < self.order[b]:
            a, b = b, a
        if a == b:
            return signals[a].second
        node = network[a]
        means = signals[a].mean * signals[b].mean
        kind = node.component.coherence.kind
        if kind == "fresh":
            return means
        if not isinstance(node.geometry, Pointwise) or kind not in ("linear", "pointwise"):
            return None
        if kind == "pointwise":
            return self._pointwise(node, b, means)
        total = means
        for port, producer in zip(node.ports, node.inputs, strict=True):
            moment = self.moment(producer, b)
            if moment is None:
                return None
            total += linear_factor(self.stack, node, port) * (moment - signals[producer].mean * signals[b].mean)
        return total

    def _pointwise(self, node: Node, earlier: str, means: sp.Expr) -> sp.Expr | None:
        from lensnet.derivation.stack import product_of

        stack = self.stack
        mine, other, into = (stack.signals[path].law for path in (node.path, earlier, node.inputs[0]))
        if mine is not None and other is not None and mine.origin == other.origin:
            return stack.average(product_of(mine, other), mine, "mean")
        if into is None or other is None or into.function is not None or other.function is not None:
            return None
        moment = self.moment(node.inputs[0], earlier)
        if moment is None:
            return None
        covariance = moment - stack.signals[node.inputs[0]].mean * stack.signals[earlier].mean
        return means + self._stein(node) * covariance

    def _stein(self, node: Node) -> sp.Expr:
        """E f', jumps included."""
        law, function = self.stack.law_at(node), bound_function(node.component, node.parameters)
        std = sp.sqrt(law.variance)
        jumps = [height * NORMAL_PDF((place - law.mean) / std) / std for place, height in function.jumps]
        return self.stack.average(function, law, MEAN_SLOPE) + sp.Add(*jumps)


class SymbolicBackwardCross:
    """E[g h] of the gradients at two edges (consumer, port) of a stack; None where no rule reaches."""

    def __init__(self, stack: Stack, gradients: dict[Edge, sp.Expr]) -> None:
        self.stack, self.gradients = stack, gradients
        self.order = {node.path: place for place, node in enumerate(stack.network)} | {OUTPUT[0]: len(stack.network)}

    def moment(self, first: Edge, second: Edge) -> sp.Expr | None:
        if first == second:
            return self.gradients[first]
        if self.order[first[0]] > self.order[second[0]]:
            first, second = second, first
        node = self.stack.network[first[0]]
        if node.component.coherence.kind == "fresh":
            return sp.S.Zero
        if node.component.is_fork:
            return self._beyond(node.path, second)
        if second[0] == first[0]:
            slopes = [self._slope(node, port) for _, port in (first, second)]
            if slopes[0] is None or slopes[1] is None:
                return None
            return slopes[0] * slopes[1] * self.gradients[self._uses(node.path)[0]]
        if not isinstance(node.geometry, Pointwise):
            return None
        twin = self.stack.network[second[0]] if second != OUTPUT else None
        if twin is not None and self._twins(node, twin):
            return self._both(node, twin)
        slope = self._slope(node, first[1])
        beyond = None if slope is None else self._beyond(node.path, second)
        return None if beyond is None else slope * beyond

    def _slope(self, node: Node, port: str) -> sp.Expr | None:
        from lensnet.algebra.pointwise import compose
        from lensnet.derivation.stack import slope_of

        kind = node.component.coherence.kind
        if kind == "linear":
            return linear_factor(self.stack, node, port)
        if kind != "pointwise":
            return None
        law = self.stack.law_at(node)
        slope = slope_of(bound_function(node.component, node.parameters))
        return self.stack.average(compose(slope, law.function) if law.function else slope, law, "mean")

    def _twins(self, a: Node, b: Node) -> bool:
        kinds = {a.component.coherence.kind, b.component.coherence.kind}
        return kinds == {"pointwise"} and source(self.stack.network, a.inputs[0]) == source(
            self.stack.network, b.inputs[0]
        )

    def _both(self, a: Node, b: Node) -> sp.Expr | None:
        from lensnet.derivation.stack import slope_of

        parts = [self._beyond(a.path, edge) for edge in self._uses(b.path)]
        law = self.stack.law_at(a)
        if any(part is None for part in parts) or law.function is not None:
            return None
        both = product(*(slope_of(bound_function(node.component, node.parameters)) for node in (a, b)))
        return self.stack.average(both, law, "mean") * sp.Add(*parts)

    def _uses(self, path: str) -> list[Edge]:
        return [(node.path, port) for node, port in self.stack.network.consumers(path)] or [OUTPUT]

    def _beyond(self, path: str, edge: Edge) -> sp.Expr | None:
        parts = [self.moment(use, edge) for use in self._uses(path)]
        return None if any(part is None for part in parts) else sp.Add(*parts)


def linear_factor(stack: Stack, node: Node, port: str) -> sp.Expr:
    """What a linear component multiplies the signal at a port with."""
    formula = node.component.coherence.factor_formula(port)
    return stack.evaluate(node, formula.expression, stack.environment_without_crosses(node))


def source(network: Network, path: str) -> str:
    """The producer behind any forks."""
    while path != INPUT and network[path].component.is_fork:
        path = network[path].inputs[0]
    return path
