"""Names for the quantities of a stack: gains of its weights, parameters that are not plain, moments at its outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import sympy as sp

from lensnet.expressions.symbolic import exact
from lensnet.network.geometry import Window
from lensnet.network.graph import Network, Node
from lensnet.predict.environment import static_symbols


@dataclass
class StackSymbols:
    """`meanings`: symbol -> what it is; `values`: symbol -> its number in this network."""

    network: Network
    meanings: dict[str, str] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._labels = _labels(self.network)
        self._tensors = sum(len(node.weights) for node in self.network)
        self._known: dict[str, dict[str, Any]] = {}

    def label(self, node: Node) -> str:
        """A short unique name, usable as an index."""
        return self._labels[node.path]

    def moment(self, kind: str, node: Node, about: str) -> sp.Symbol:
        """m_up, q_up, p_up: a moment at a component, as a symbol."""
        name = f"{kind}_{self.label(node)}"
        self.meanings[name] = about
        return sp.Symbol(name, positive=True) if kind != "m" else sp.Symbol(name, real=True)

    def side(self, name: str, about: str, node: Node) -> sp.Symbol:
        """A quantity at a component that this level does not carry."""
        if len(self.network) > 1:
            name = f"{name}_{self.label(node)}"
        self.meanings[name] = about
        return sp.Symbol(name, real=True)

    def constants(self, node: Node) -> dict[str, Any]:
        """Everything fixed that the node's formulas may name: numbers where plain, symbols where worth a name."""
        if node.path not in self._known:
            self._known[node.path] = self._constants(node)
        return self._known[node.path]

    def _constants(self, node: Node) -> dict[str, Any]:
        out: dict[str, Any] = {name: exact(value) for name, value in static_symbols(node).items()}
        for name, spec in node.component.parameters.items():
            value = node.parameters.get(name)
            if isinstance(value, bool | int) or not isinstance(value, float) or value == int(value):
                continue
            chosen = self._named(spec.symbol or name, node, value, spec.about or name)
            out[name] = chosen
            if spec.symbol:
                out[spec.symbol] = chosen
        for name, law in node.weights.items():
            suffix = "" if name == "weight" else f"_{name}"
            tensor = node.path if name == "weight" else f"{node.path}, {name}"
            gain = self._named(f"g{suffix}", node, law.gain, f"gain of {tensor}", self._tensors > 1)
            out[f"g{suffix}"], out[f"w2{suffix}"] = gain, gain**2 / law.fan_in
            for kind, value, about in (
                ("sigma_b", law.bias_std, f"standard deviation of the biases of {tensor}"),
                ("b_0", law.bias_mean, f"mean of the biases of {tensor}"),
            ):
                known = value == 0.0
                out[f"{kind}{suffix}"] = (
                    sp.S.Zero if known else self._named(f"{kind}{suffix}", node, value, about, self._tensors > 1)
                )
        out["drawn"], out["examples"] = sp.S.One, sp.Integer(node.examples)
        taps = prod(node.geometry.kernel) if isinstance(node.geometry, Window) else 1
        out["window_taps"] = out["window_count"] = sp.Integer(taps)
        return out

    def _named(self, name: str, node: Node, value: float, about: str, index: bool | None = None) -> sp.Symbol:
        taken = name in self.meanings and self.meanings[name] != about
        full = f"{name}_{self.label(node)}" if (taken if index is None else index) else name
        self.meanings[full] = about
        self.values[full] = float(value)
        return sp.Symbol(full, positive=True) if value > 0 else sp.Symbol(full, real=True)


def _labels(network: Network) -> dict[str, str]:
    """The shortest end of each path that no other component shares, dots as underscores."""
    out = {}
    paths = [node.path for node in network]
    for path in paths:
        parts = path.split(".")
        for count in range(1, len(parts) + 1):
            end = parts[-count:]
            if sum(other.split(".")[-count:] == end for other in paths) == 1:
                break
        out[path] = "_".join(end)
    return out
