"""The gradient of a short stack in symbols: p at its output, a definition at every port on the way back."""

from __future__ import annotations

from itertools import combinations

import sympy as sp

from lensnet.algebra.pointwise import compose
from lensnet.catalog.functions import bound_function
from lensnet.derivation.errors import DeriveError
from lensnet.derivation.stack import Stack, slope_of
from lensnet.derivation.stack_cross import OUTPUT, Edge, SymbolicBackwardCross
from lensnet.levels.ladder import Level
from lensnet.network.graph import INPUT, Node

P = sp.Symbol("p", positive=True)


class BackwardStack:
    """`definitions`: symbol -> expression in the symbols behind it (towards the output); `result`: p at the input."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.definitions: dict[sp.Symbol, sp.Expr] = {}
        self.gradients: dict[Edge, sp.Expr] = {OUTPUT: P}
        self.cross = SymbolicBackwardCross(stack, self.gradients)
        stack.symbols.meanings[P.name] = "second moment of the gradient at the output"
        for node in reversed(stack.network.nodes):
            self._backward(node)
        first = stack.network.consumers(INPUT)
        self.result: sp.Expr = self.gradients[first[0][0].path, first[0][1]]

    def composed(self) -> sp.Expr:
        """The gradient's second moment at the input, in p and the symbols of the input and the parameters."""
        return self.stack.composed(self.stack.composed(self.result, self.definitions))

    def _backward(self, node: Node) -> None:
        stack, component = self.stack, node.component
        uses: list[Edge] = [(user.path, port) for user, port in stack.network.consumers(node.path)] or [OUTPUT]
        if component.is_fork:
            self._fork(node, uses)
            return
        p = self.gradients[uses[0]]
        if component.function is not None:
            law = stack.law_at(node)
            function = bound_function(component, node.parameters)
            if law.function is None:
                factor = stack.average(function, law, "backward_second_moment")
            else:
                factor = stack.average(compose(slope_of(function), law.function), law, "second_moment")
            self._define(node, node.ports[0], p * factor)
            return
        env = stack.environment(node) | {"p": p}
        for index, port in enumerate(node.ports):
            model = component.backward_effect(Level.MOMENTS, port)
            if model is None:
                raise DeriveError(f"{node.path}: {component.name} has no effect model for its gradient")
            here = dict(env)
            if component.variadic:
                here |= {f"{name}_here": env[name][index] for name in ("m", "q", "v")}
                here["channels_here"] = sp.Integer(node.shapes_in[index].channels)
            self._define(node, port, stack.evaluate(node, model.formula.expression, here))

    def _fork(self, node: Node, uses: list[Edge]) -> None:
        total = sp.Add(*(self.gradients[use] for use in uses))
        for a, b in combinations(uses, 2):
            value = self.cross.moment(a, b)
            if value is None:
                about = f"cross moment of the gradients that meet at {node.path}: this level does not know it"
                value = self.stack.symbols.side("k_p", about, node)
            total += 2 * value
        self._define(node, node.ports[0], total)

    def _define(self, node: Node, port: str, value: sp.Expr) -> None:
        edge = (node.path, port)
        if value.is_Symbol or value.is_number:
            self.gradients[edge] = value
            return
        about = f"second moment of the gradient in front of {node.path}"
        symbol = self.stack.symbols.moment("p", node, about)
        if len(node.ports) > 1:
            name = f"{symbol.name}_{port.replace('.', '_')}"
            self.stack.symbols.meanings[name] = f"{self.stack.symbols.meanings.pop(symbol.name)}, port {port}"
            symbol = sp.Symbol(name, positive=True)
        self.definitions[symbol] = value
        self.gradients[edge] = symbol
