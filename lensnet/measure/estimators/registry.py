"""The table of side quantities that a measurement knows, and how a pass asks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from torch import Tensor

from lensnet.network.graph import Node

Subject = Literal["signal", "pair", "gradient", "output"]
Measure = Callable[..., Tensor]


@dataclass(frozen=True)
class Estimator:
    """A registered estimator. `definition` is the docstring of its function."""

    name: str
    measure: Measure
    subject: Subject
    definition: str


_ESTIMATORS: dict[str, Estimator] = {}


def estimator(name: str, subject: Subject = "signal") -> Callable[[Measure], Measure]:
    """Register the measurement of a side quantity under a name. What the function gets depends on the subject:

    - `signal`: `measure(x, shape, node)`, the tensor at an input port (torch layout), its shape, the node that asks;
    - `pair`: `measure(a, b, shape, node)`, the tensors at two ports of the same shape;
    - `gradient`: `measure(g, x, node)`, the gradient dL/dy at the component's output (of shape `node.shape`) and the
      tensor at its first input port (of shape `node.shapes_in[0]`).

    - `output`: `measure(y, shape, node)`, the component's own output, where its effects predict this quantity or it
      says that it observes it: one number.

    It returns a float64 tensor, and must not look at values (no `.item()`): it may run on a GPU.
    """

    def register(measure: Measure) -> Measure:
        if name in _ESTIMATORS:
            raise ValueError(f"two estimators are named {name!r}")
        _ESTIMATORS[name] = Estimator(name, measure, subject, (measure.__doc__ or "").strip())
        return measure

    return register


def estimators() -> dict[str, Estimator]:
    """All registered estimators by name."""
    return dict(_ESTIMATORS)


def needed(node: Node, subject: Subject) -> list[tuple[Estimator, str | None]]:
    """The estimators of a subject that the node's component asks for, with the one port it asks at (None: all).

    A need that has no estimator is left out: what is neither declared nor measured puts the prediction out of its
    regime.
    """
    if subject == "output":
        asked = (*node.component.predicted_quantities, *node.component.observes)
        own = [_ESTIMATORS.get(quantity) for quantity in asked]
        return [(found, None) for found in own if found is not None and found.subject == subject]
    needs: dict[str, Any] = dict(node.component.needs)
    if getattr(node.component, "uses_cross_moments", False):
        needs.setdefault("cross_moment", None)
    known = [(_ESTIMATORS.get(quantity), _port_of(need)) for quantity, need in needs.items()]
    return [(found, port) for found, port in known if found is not None and found.subject == subject]


def signal_quantities(node: Node, *values: Tensor) -> dict[tuple[str, str], Tensor]:
    """What the component needs to know of the tensors at its ports: (port, quantity) -> float64 tensor.

    A quantity of two ports is measured for every pair of ports of one shape, under the port name "a,b".
    """
    out: dict[tuple[str, str], Tensor] = {}
    ports = [port for port in zip(node.ports, node.shapes_in, values, strict=True) if port[2].is_floating_point()]
    for found, wanted in needed(node, "signal"):
        for port, shape, x in ports:
            if wanted in (None, port):
                out[port, found.name] = found.measure(x, shape, node)
    for found, _ in needed(node, "pair"):
        for (a, shape, x), (b, other, y) in combinations(ports, 2):
            if shape == other:
                out[f"{a},{b}", found.name] = found.measure(x, y, shape, node)
    return out


def output_quantities(node: Node, y: Tensor) -> dict[str, Tensor]:
    """The numbers of its output that the component predicts or observes and that have an estimator of their own."""
    return {found.name: found.measure(y, node.shape, node) for found, _ in needed(node, "output")}


def gradient_quantities(node: Node, gradient: Tensor, x: Tensor) -> dict[tuple[str, str], Tensor]:
    """What the component needs to know of the gradient at its output, filed under its first input port."""
    return {(node.ports[0], found.name): found.measure(gradient, x, node) for found, _ in needed(node, "gradient")}


def _port_of(need: Any) -> str | None:
    """The one port that a need names, None for all."""
    return need.get("port") if isinstance(need, dict) else getattr(need, "port", None)
