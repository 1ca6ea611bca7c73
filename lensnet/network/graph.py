"""The network as a directed acyclic graph of named components with shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import is_not
from typing import TYPE_CHECKING, Any, NamedTuple

from lensnet.network.geometry import Geometry
from lensnet.network.shape import Shape
from lensnet.network.weights import WeightLaw

if TYPE_CHECKING:
    import networkx

    from lensnet.catalog.component import Component
    from lensnet.network.objective import Objective

INPUT = "input"
LARGEST_JACOBIAN = 4096  # numbers in one output
LABELLED = ("gaussians", "subspaces", "digits")  # inputs that know their classes; so does a file with `labels`


class Memo:
    """What is known of one resolved component; see `Node.known`."""

    def __init__(self, of: tuple[Any, ...] = (None,)) -> None:
        self.of = of
        self.known: dict[Any, Any] = {}


@dataclass(frozen=True)
class Node:
    """One component at its place in the network.

    `inputs` are the producers of its ports in port order (`"input"` is the network's input); `ports` the port names in
    the same order (a variadic port `xs` gives `xs.0`, `xs.1`, ...). `examples` is the batch size of the network.
    `shares`: path of the component whose weights it uses instead of its own.
    """

    path: str
    component: Component
    parameters: Mapping[str, Any]
    inputs: tuple[str, ...]
    ports: tuple[str, ...]
    shapes_in: tuple[Shape, ...]
    shape: Shape
    geometry: Geometry
    weights: Mapping[str, WeightLaw] = field(default_factory=dict)
    given: Mapping[str, float] = field(default_factory=dict)
    examples: int = 1
    shares: str | None = None
    memo: Memo = field(default_factory=Memo, repr=False, compare=False)

    @property
    def known(self) -> dict[Any, Any]:
        """What was worked out from component, parameters, shapes and weights alone, by name: once for all components
        that were resolved alike. A node that was changed in any of them since starts anew."""
        of = (
            self.component, self.parameters, self.ports, self.shapes_in, self.shape, self.geometry, self.weights,
            self.given, self.examples,
        )  # fmt: skip
        if any(map(is_not, of, self.memo.of)):
            object.__setattr__(self, "memo", Memo(of))
        return self.memo.known

    @property
    def weights_of(self) -> str:
        """Under whose name the weights are drawn: components that share weights have the same."""
        return self.shares or self.path

    @property
    def kind(self) -> str:
        return self.component.name


class InputSource(NamedTuple):
    """Where the signal comes from: `source` (gaussian, digits, file, ...) and its options as written.

    `objective`: the problem whose start is the input, where the network is the steps of an algorithm.
    """

    source: str
    options: Mapping[str, Any]
    shape: Shape
    batch: int
    objective: Objective | None = None

    @property
    def labelled(self) -> bool:
        """Whether the class of every example is known."""
        return self.source in LABELLED or (self.source == "file" and bool(self.options.get("labels")))


class Gate(NamedTuple):
    """One `expect:` entry: bounds on a quantity at a component."""

    at: str
    quantity: str
    direction: str
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Network:
    """Nodes in topological order; the last node is the network's output."""

    name: str
    about: str
    input: InputSource
    nodes: tuple[Node, ...]
    gates: tuple[Gate, ...] = ()

    def __getitem__(self, path: str) -> Node:
        return self._by_path[path]

    def __contains__(self, path: object) -> bool:
        return path in self._by_path

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @cached_property
    def _by_path(self) -> dict[str, Node]:
        return {node.path: node for node in self.nodes}

    def with_batch(self, examples: int) -> Network:
        """The same network on fewer examples, for formulas that count them."""
        nodes = tuple(replace(node, examples=examples) for node in self.nodes)
        return replace(self, input=self.input._replace(batch=examples), nodes=nodes)

    @property
    def has_jacobians(self) -> bool:
        """Whether singular values of input-output Jacobians are looked at: numbers come in, examples stay apart, and no
        output is larger than `LARGEST_JACOBIAN`."""
        shapes = [self.input.shape, *(node.shape for node in self.nodes)]
        alone = not any(need.startswith("batch_") for node in self.nodes for need in node.component.needs)
        return alone and all(shape.kind == "real" and shape.features <= LARGEST_JACOBIAN for shape in shapes)

    def consumers(self, path: str) -> list[tuple[Node, str]]:
        """The (node, port) pairs fed by a producer."""
        return list(self._consumers.get(path, ()))

    def sharing(self, node: Node) -> tuple[Node, ...]:
        """The other components that use the same weights as this one."""
        return tuple(other for other in self._shared.get(node.weights_of, ()) if other is not node)

    @cached_property
    def _shared(self) -> dict[str, list[Node]]:
        names = {node.shares for node in self.nodes if node.shares}
        out: dict[str, list[Node]] = {}
        for node in self.nodes:
            if node.weights_of in names:
                out.setdefault(node.weights_of, []).append(node)
        return out

    @cached_property
    def _consumers(self) -> dict[str, list[tuple[Node, str]]]:
        out: dict[str, list[tuple[Node, str]]] = {}
        for node in self.nodes:
            for producer, port in zip(node.inputs, node.ports, strict=True):
                out.setdefault(producer, []).append((node, port))
        return out

    @cached_property
    def graph(self) -> networkx.MultiDiGraph:
        """The DAG with component paths as nodes and port names on the edges."""
        import networkx

        graph = networkx.MultiDiGraph(name=self.name)
        graph.add_node(INPUT, shape=self.input.shape)
        for node in self.nodes:
            graph.add_node(node.path, component=node.kind, shape=node.shape)
            for producer, port in zip(node.inputs, node.ports, strict=True):
                graph.add_edge(producer, node.path, port=port)
        return graph
