"""The moments of a short stack in symbols: what the engine does with numbers, here with a name for every output.

Each component gives a definition (`q_relu = q_up/2`) in the names of those before it; `composed` puts them into each
other. The rules are those of `lensnet.predict.moments`, and `stack_steps.agreement` holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef

from lensnet.algebra.pointwise import PointwiseFunction, compose, pointwise, product
from lensnet.catalog.functions import bound_function
from lensnet.derivation.effects_of_function import Q, closed_form, middle, unevaluated
from lensnet.derivation.errors import DeriveError
from lensnet.derivation.normal_average import MU, S
from lensnet.derivation.pieces import cut_numeric
from lensnet.derivation.stack_operators import without_operators
from lensnet.derivation.stack_symbols import StackSymbols
from lensnet.expressions.symbolic import X, exact
from lensnet.levels.ladder import Level
from lensnet.network.graph import INPUT, Network, Node
from lensnet.predict.environment import static_symbols


@dataclass(frozen=True)
class SymbolicLaw:
    """A normal variable of this mean and variance, made at `origin`, pushed through `function` (None: as it is)."""

    mean: sp.Expr
    variance: sp.Expr
    origin: str
    function: PointwiseFunction | None = None


@dataclass(frozen=True)
class SymbolicSignal:
    mean: sp.Expr
    second: sp.Expr
    law: SymbolicLaw | None

    @property
    def variance(self) -> sp.Expr:
        return self.second - self.mean**2


class Stack:
    """Symbolic forward pass over a network of one input.

    centred: the input has mean 0, else mean m. gaussian: it is normal. `definitions`: symbol -> expression in the
    symbols before it, in the order of the signal; `assumptions`: what had to be taken for granted on the way.
    """

    def __init__(self, network: Network, centred: bool = True, gaussian: bool = True) -> None:
        self.network = network
        self.symbols = StackSymbols(network)
        self.q, self.m = Q, sp.S.Zero if centred else sp.Symbol("m", real=True)
        self.symbols.meanings[Q.name] = "second moment of what comes in"
        if not centred:
            self.symbols.meanings["m"] = "mean of what comes in"
        law = SymbolicLaw(self.m, Q - self.m**2, INPUT) if gaussian else None
        self.signals: dict[str, SymbolicSignal] = {INPUT: SymbolicSignal(self.m, Q, law)}
        self.definitions: dict[sp.Symbol, sp.Expr] = {}
        self.assumptions: dict[str, None] = {}
        from lensnet.derivation.stack_cross import SymbolicForwardCross

        self.cross = SymbolicForwardCross(self)
        for node in network:
            self._forward(node)

    @property
    def output(self) -> SymbolicSignal:
        return self.signals[self.network.nodes[-1].path]

    def composed(self, expression: sp.Expr, definitions: Mapping[sp.Symbol, sp.Expr] | None = None) -> sp.Expr:
        """The expression in the symbols of the input and of the parameters alone."""
        chosen = self.definitions if definitions is None else definitions
        for symbol, value in reversed(list(chosen.items())):
            expression = expression.xreplace({symbol: value})
        return expression

    def average(self, function: PointwiseFunction, law: SymbolicLaw, quantity: str) -> sp.Expr:
        """E f, E f**2, ... under a law: in closed form where there is one, else as `E[...]`."""
        form = closed_form(cut_numeric(function), quantity, centred=law.mean == 0)
        if form is not None and law.mean == 0:
            return form.centred.subs(Q, law.variance)
        if form is not None and form.general:
            return form.expression.subs({MU: law.mean, S: sp.sqrt(law.variance)}, simultaneous=True)
        if quantity == "mean" and law.mean == 0 and (half := middle(function)) is not None:
            return half
        return unevaluated(function, quantity, law.mean, sp.sqrt(law.variance))

    def law_at(self, node: Node) -> SymbolicLaw:
        """The law at the input of a pointwise component; a signal of unknown law is taken as normal."""
        signal = self.signals[node.inputs[0]]
        if signal.law is not None:
            return signal.law
        self.assumptions[f"what enters {node.path} is taken as normal"] = None
        return SymbolicLaw(signal.mean, signal.variance, node.inputs[0])

    def environment(self, node: Node) -> dict[str, Any]:
        """Name -> expression for everything that the node's formulas may use."""
        env = self.environment_without_crosses(node)
        if node.component.uses_cross_moments:
            pairs = {pair: self._cross(node, *pair) for pair in combinations(range(len(node.ports)), 2)}
            env |= {f"k_{node.ports[a]}_{node.ports[b]}": value for (a, b), value in pairs.items()}
            if node.component.variadic:
                env["k"] = list(pairs.values())
        return env

    def environment_without_crosses(self, node: Node) -> dict[str, Any]:
        env = dict(self.symbols.constants(node))
        here = [self.signals[producer] for producer in node.inputs]
        env |= {"m": here[0].mean, "q": here[0].second, "v": here[0].variance, "law_known": 1, "gaussian": 1}
        if node.component.variadic:
            env |= {"m": [s.mean for s in here], "q": [s.second for s in here], "v": [s.variance for s in here]}
            env["port_channels"] = [sp.Integer(shape.channels) for shape in node.shapes_in]
        for port, signal in zip(node.ports, here, strict=True):
            env |= {f"m_{port}": signal.mean, f"q_{port}": signal.second, f"v_{port}": signal.variance}
        active = node.component.active_needs(static_symbols(node))
        for name, need in node.component.needs.items():
            symbol = need.symbol or name
            if name in node.given:
                env[symbol] = exact(node.given[name])
            elif name not in active:
                env[symbol] = exact(float(need.otherwise or 0.0))
            else:
                about = f"{need.about or name.replace('_', ' ')}, at {node.path}"
                env[symbol] = self.symbols.side(symbol, about, node)
        return env

    def evaluate(self, node: Node, expression: sp.Expr, env: Mapping[str, Any]) -> sp.Expr:
        """A formula of the node with its symbols put in; operators over positions as they act on a uniform field."""
        if any(call.func.__name__ in ("gather", "scatter") for call in expression.atoms(AppliedUndef)):
            self.assumptions["positions are alike, away from the edges"] = None
        expression = without_operators(node, expression, env)
        plain = {
            symbol: env[symbol.name]
            for symbol in expression.free_symbols
            if symbol.name in env and not isinstance(env[symbol.name], list)
        }
        return expression.subs(plain, simultaneous=True)

    def _cross(self, node: Node, a: int, b: int) -> sp.Expr:
        if "cross_moment" in node.given:
            return exact(node.given["cross_moment"])
        value = self.cross.moment(node.inputs[a], node.inputs[b])
        if value is None:
            about = f"E[{node.ports[a]} {node.ports[b]}] at {node.path}: this level does not know it"
            return self.symbols.side("k", about, node)
        return value

    def _forward(self, node: Node) -> None:
        component = node.component
        signal = self.signals[node.inputs[0]]
        if component.is_fork:
            self.signals[node.path] = signal
            return
        function: PointwiseFunction | None = None
        if component.function is not None:
            law = self.law_at(node)
            function = bound_function(component, node.parameters)
            function = compose(function, law.function) if law.function is not None else function
            mean, second = self.average(function, law, "mean"), self.average(function, law, "second_moment")
        else:
            models = component.effects(Level.MOMENTS)
            if "second_moment" not in models:
                raise DeriveError(f"{node.path}: {component.name} has no effect model, it is measured only")
            env = self.environment(node)
            second = self.evaluate(node, models["second_moment"].formula.expression, env)
            mean = self.evaluate(node, models["mean"].formula.expression, env) if "mean" in models else sp.S.Zero
        mean = self._named("m", node, mean, f"mean behind {node.path}")
        second = self._named("q", node, second, f"second moment behind {node.path}")
        self.signals[node.path] = SymbolicSignal(mean, second, self._law(node, mean, second, function))

    def _named(self, kind: str, node: Node, value: sp.Expr, about: str) -> sp.Expr:
        if value.is_number or value.is_Symbol:
            return value
        value = sp.factor_terms(value)
        known = next((symbol for symbol, other in self.definitions.items() if other == value), None)
        if known is not None:
            return known
        symbol = self.symbols.moment(kind, node, about)
        self.definitions[symbol] = value
        return symbol

    def _law(
        self, node: Node, mean: sp.Expr, second: sp.Expr, function: PointwiseFunction | None
    ) -> SymbolicLaw | None:
        component = node.component
        if component.law == "broken":
            return None
        if component.coherence.kind == "fresh":
            return SymbolicLaw(mean, second - mean**2, node.path)
        if function is not None:
            law = self.law_at(node)
            return SymbolicLaw(law.mean, law.variance, law.origin, function)
        laws = [self.signals[producer].law for producer in node.inputs]
        known = [law for law in laws if law is not None]
        if component.coherence.kind != "linear" or len(known) < len(laws):
            return None
        if any(law.function is not None for law in known):
            return known[0] if component.law == "kept" and len(known) == 1 else None
        return SymbolicLaw(mean, second - mean**2, node.path)


def slope_of(function: PointwiseFunction) -> PointwiseFunction:
    """f' as a function of its own."""
    return pointwise(function.slope.expressions[""], name=f"{function.name}'", kinks=function.kinks.points)


def product_of(first: SymbolicLaw, second: SymbolicLaw) -> PointwiseFunction:
    """f*g of two pushforwards of one normal variable."""
    identity = pointwise(X, name="identity")
    return product(first.function or identity, second.function or identity)
