"""Monte Carlo truth for one component, and its formulas evaluated on their own: neither needs the propagation engine.

A component is placed on inputs of given shapes, drawn many times with its weights and inputs, and run forward and
backward in torch. Beside that stand its YAML formulas, fed the known moments of the input (`drawn`: expectations over
draws) and of the gradient at its output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lensnet.catalog.catalog import catalog
from lensnet.language.source import Source
from lensnet.language.yaml_tree import read_yaml
from lensnet.levels.signal import Law, Signal
from lensnet.measure.estimators import gradient_quantities, signal_quantities
from lensnet.measure.layers.registry import NoiseLayer, RandomLayer, build
from lensnet.network.graph import Node
from lensnet.network.placed import Placed
from lensnet.network.resolve import Resolver
from lensnet.network.shape import Shape
from lensnet.predict.constants import constants_for
from lensnet.predict.environment import static_symbols
from lensnet.predict.operators import operators_for

Field = NDArray[np.float64]
torch.set_num_threads(1)


def place(name: str, shapes: Shape | Sequence[Shape], examples: int = 8, **parameters: Any) -> Node:
    """The component `name` on inputs of these shapes, parameters as in a spec."""
    shapes = (shapes,) if isinstance(shapes, Shape) else tuple(shapes)
    document = read_yaml(Source("test", "network: test"))
    placed = Placed("tried", catalog()[name], parameters, {}, {}, (), ())
    return Resolver(document, examples).node("tried", placed, tuple(f"in{i}" for i in range(len(shapes))), shapes)


@dataclass
class Draws:
    """Sums over draws of what is measured: fields `(E, *positions)` by name, and each draw's overall mean."""

    totals: dict[str, Field] = field(default_factory=dict)
    each: dict[str, list[float]] = field(default_factory=dict)
    sides: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def add(self, name: str, value: Field) -> None:
        self.totals[name] = self.totals.get(name, 0.0) + value
        self.each.setdefault(name, []).append(float(np.mean(value)))

    def mean(self, name: str) -> Field:
        return self.totals[name] / self.count

    def standard_error(self, name: str) -> float:
        """Of the overall mean, over draws."""
        values = np.array(self.each[name])
        return float(values.std(ddof=1) / np.sqrt(len(values)))


Sampler = Callable[[torch.Generator], Sequence[Tensor]]


def channel_average(x: Tensor, shape: Shape) -> Field:
    return x.double().mean(shape.channel_axis).numpy()


def simulate(node: Node, inputs: Sampler, draws: int, gradient_size: Field | None = None, seed: int = 0) -> Draws:
    """Draw inputs and weights `draws` times. `gradient_size`: standard deviation of dL/dy per position (default 1)."""
    layer = build(node).train()
    out = Draws()
    for draw in range(draws):
        source = torch.Generator().manual_seed(1000 * seed + draw)
        xs = [x.clone().requires_grad_(torch.is_floating_point(x)) for x in inputs(source)]
        for part in layer.modules():
            if isinstance(part, RandomLayer):
                part.redraw(seed * 100003 + draw, "tried")
            if isinstance(part, NoiseLayer):
                part.redraw_noise(seed * 100003 + draw, "tried", tuple(xs[0].shape))
        y = layer(*xs)
        g = torch.randn(y.shape, generator=source)
        if gradient_size is not None:
            g = g * torch.tensor(np.array(gradient_size), dtype=g.dtype).unsqueeze(node.shape.channel_axis)
        out.count += 1
        out.add("mean", channel_average(y.detach(), node.shape))
        out.add("second_moment", channel_average(y.detach() ** 2, node.shape))
        if xs[0].requires_grad:
            for port, shape, grad in zip(node.ports, node.shapes_in, torch.autograd.grad(y, xs, g), strict=True):
                out.add(f"gradient {port}", channel_average(grad**2, shape))
            measured = {
                **signal_quantities(node, *(x.detach() for x in xs)),
                **gradient_quantities(node, g, xs[0].detach()),
            }
            for (_, quantity), value in measured.items():
                before = out.sides.get(quantity, 0.0)
                out.sides[quantity] = before + (value.numpy() - before) / out.count
    return out


def predict(
    node: Node,
    moments: Sequence[tuple[Field, Field]],
    gradient: Field | float = 1.0,
    sides: Mapping[str, Any] | None = None,
    crosses: Mapping[tuple[int, int], Field] | None = None,
    laws: Sequence[Law | None] | None = None,
    drawn: float = 1.0,
) -> dict[str, Field]:
    """The component's formulas at inputs with these (mean, second moment) fields, one pair for every port."""
    laws = laws or [None] * len(moments)
    signals = [
        Signal(np.asarray(m, float), np.asarray(q, float), law) for (m, q), law in zip(moments, laws, strict=True)
    ]
    operators = {**operators_for(node, signals), "sum_ports": _sum, "sum_pairs": _sum}
    env: dict[str, Any] = {**static_symbols(node), **constants_for(node)}
    env |= {"drawn": drawn, "examples": float(node.examples), "p": np.asarray(gradient, float)}
    env |= {
        "law_known": float(laws[0] is not None),
        "gaussian": float(all(w is not None and not w.chain for w in laws)),
    }
    env |= _port_symbols(node, signals, crosses or {})
    for name, need in node.component.needs.items():
        value = np.asarray((sides or {}).get(name, need.otherwise), float)
        env[need.symbol or name] = (
            value.reshape(-1, *[1] * len(node.shapes_in[0].positions)) if value.ndim == 1 else value
        )
    models = node.component.effects("moments")
    out = {name: np.asarray(models[name].evaluate(env, operators), float) for name in ("mean", "second_moment")}
    for index, port in enumerate(node.ports):
        model = node.component.backward_effect("moments", port)
        if model is not None and node.shapes_in[index].kind == "real":
            here = {
                "m_here": signals[index].mean,
                "q_here": signals[index].second_moment,
                "v_here": signals[index].variance,
            }
            out[f"gradient {port}"] = np.asarray(model.evaluate({**env, **here}, operators), float)
    return out


def _port_symbols(node: Node, signals: Sequence[Signal], crosses: Mapping[tuple[int, int], Field]) -> dict[str, Any]:
    first = signals[0]
    if node.component.variadic:
        sizes = np.array([shape.channels for shape in node.shapes_in], float)
        stacked = {
            "m": np.stack([s.mean for s in signals]),
            "q": np.stack([s.second_moment for s in signals]),
            "v": np.stack([s.variance for s in signals]),
            "port_channels": sizes.reshape(-1, *[1] * first.mean.ndim),
        }
        if crosses:
            stacked["k"] = np.stack([crosses[pair] for pair in combinations(range(len(signals)), 2)])
        return stacked
    out: dict[str, Any] = {"m": first.mean, "q": first.second_moment, "v": first.variance}
    for port, signal in zip(node.ports, signals, strict=True):
        out |= {f"m_{port}": signal.mean, f"q_{port}": signal.second_moment, f"v_{port}": signal.variance}
    for (a, b), value in crosses.items():
        out[f"k_{node.ports[a]}_{node.ports[b]}"] = value
    return out


def _sum(stacked: Field) -> Field:
    return np.sum(stacked, axis=0)


@dataclass(frozen=True)
class Difference:
    """Measured against predicted: relative to the prediction, a mean relative to the root mean square."""

    name: str
    error: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.name} {self.error:+.3%} +- {self.standard_error:.3%}"


def differences(draws: Draws, predicted: Mapping[str, Field]) -> list[Difference]:
    """One line for each quantity."""
    out = []
    for name in draws.totals:
        expected = float(np.mean(predicted[name]))
        scale = float(np.sqrt(np.mean(predicted["second_moment"]))) if name == "mean" else abs(expected)
        scale = max(scale, 1e-12)
        out.append(
            Difference(name, (float(np.mean(draws.mean(name))) - expected) / scale, draws.standard_error(name) / scale)
        )
    return out
