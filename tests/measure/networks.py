"""Small networks made by hand from a stand-in for catalogue components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from lensnet.network.geometry import Flatten, Geometry, Pointwise, Window
from lensnet.network.graph import InputSource, Network, Node
from lensnet.network.shape import Shape
from lensnet.network.weights import WeightLaw


def component(name: str, **fields: Any) -> Any:
    facts = {
        "name": name,
        "implementation": name,
        "function": None,
        "needs": {},
        "homogeneous": False,
        "predicted_quantities": frozenset(),
        "observes": (),
    }
    return SimpleNamespace(**{**facts, **fields})


def node(
    path: str,
    kind: str,
    inputs: Sequence[str],
    shapes_in: Sequence[Shape],
    shape: Shape | None = None,
    parameters: Mapping[str, Any] | None = None,
    weights: Mapping[str, WeightLaw] | None = None,
    geometry: Geometry | None = None,
    ports: Sequence[str] | None = None,
    **component_fields: Any,
) -> Node:
    if ports is None:
        ports = ["x"] if len(inputs) == 1 else [f"xs.{i}" for i in range(len(inputs))]
    return Node(
        path,
        component(kind, **component_fields),
        dict(parameters or {}),
        tuple(inputs),
        tuple(ports),
        tuple(shapes_in),
        shape or shapes_in[0],
        geometry or Pointwise(),
        dict(weights or {}),
    )


def linear(path: str, source: str, shape: Shape, units: int, gain: float = 1.0, **law: Any) -> Node:
    law.setdefault("variance", gain**2 / shape.channels)
    weights = {"weight": WeightLaw(shape.channels, units, **law)}
    return node(path, "linear", [source], [shape], Shape(units, shape.positions), weights=weights)


def conv(
    path: str,
    source: str,
    shape: Shape,
    channels: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
    mode: Any = "zero",
    gain: float = 1.0,
    **law: Any,
) -> Node:
    axes = len(shape.positions)
    window = Window((kernel,) * axes, (stride,) * axes, (padding,) * axes, (dilation,) * axes, mode)
    fan_in = shape.channels // groups * kernel**axes
    law.setdefault("variance", gain**2 / fan_in)
    return node(
        path,
        f"conv{axes}d",
        [source],
        [shape],
        Shape(channels, window.out_positions(shape.positions)),
        parameters={"groups": groups},
        weights={"weight": WeightLaw(fan_in, channels * kernel**axes // groups, **law)},
        geometry=window,
    )


def pool(path: str, source: str, shape: Shape, kind: str, kernel: int, stride: int, **fields: Any) -> Node:
    axes = len(shape.positions)
    padding = fields.pop("padding", 0)
    window = Window((kernel,) * axes, (stride,) * axes, (padding,) * axes, (1,) * axes, fields.pop("mode", "ignore"))
    out = Shape(shape.channels, window.out_positions(shape.positions))
    return node(path, kind, [source], [shape], out, geometry=window, **fields)


def flatten(path: str, source: str, shape: Shape) -> Node:
    return node(path, "flatten", [source], [shape], Shape(shape.features), geometry=Flatten())


def network(nodes: Sequence[Node], shape: Shape, batch: int = 4, name: str = "test") -> Network:
    return Network(name, "", InputSource("gaussian", {}, shape, batch), tuple(nodes))


def chain(shape: Shape, *makers: Any, batch: int = 4) -> Network:
    """A sequential network: each maker gets (producer path, shape) and returns the next node."""
    nodes: list[Node] = []
    source = "input"
    for make in makers:
        made = make(source, shape)
        nodes.append(made)
        source, shape = made.path, made.shape
    return network(nodes, nodes[0].shapes_in[0] if nodes else shape, batch)
