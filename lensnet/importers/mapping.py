"""From a graph of operations to a network of named components: one walk, with a rule for every operation.

What only rearranges becomes an edge, what depends on no input (masks, positions, tables) is left out, and what no rule
describes becomes an `opaque` component that is measured and claimed nothing about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from lensnet.importers.capture import Captured, output_nodes
from lensnet.importers.constants import Evaluator
from lensnet.importers.draft import (
    Beam,
    Index,
    Item,
    Lost,
    Names,
    Static,
    Unmapped,
    Value,
    module_of,
    settled,
    sizes_of,
)
from lensnet.importers.inputs import beam_of, grid_parameters, lone_operations, placeholder
from lensnet.importers.laws import TensorLaw
from lensnet.importers.layout import CHANNELS, EXAMPLES, LayoutError
from lensnet.importers.operations import arguments, name_of, table
from lensnet.importers.patterns import Cluster, clusters

Rule = Callable[["Mapper", Node], Value]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of one or more operations."""

    def register(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"two rules for {name}")
            RULES[name] = function
        return function

    return register


@dataclass
class Draft:
    """What was drawn: items in order, the formulas that they define, and what should be said about it."""

    items: list[Item]
    define: dict[str, dict[str, Any]]
    input_node: Node
    input_beam: Beam | None
    vocabulary: int
    output: Node
    operations: int = 0
    notes: list[str] = field(default_factory=list)


class Mapper:
    """One walk through a captured graph. `laws`: the law of every parameter and buffer by name."""

    def __init__(self, captured: Captured, laws: Mapping[str, TensorLaw], batch_axis: int = 0) -> None:
        self.captured = captured
        self.laws = laws
        self.batch_axis = batch_axis
        self.names = Names()
        self.values: dict[Node, Value] = {}
        self.items: list[Item] = []
        self.by_path: dict[str, Item] = {}
        self.define: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.vocabulary = 0
        self.evaluator = Evaluator(captured)
        self.input: Node | None = None
        self.graph = captured.graph.graph
        self.alone = lone_operations(self.graph.nodes)
        self.clusters: dict[Node, Cluster] = {}
        self.inside: set[Node] = set()

    # --- the walk ----------------------------------------------------------------------------------------------------

    def run(self) -> Draft:
        """Raises Unmapped where the model has no float output, or none that the input reaches."""
        self._classify()
        from lensnet.importers.rules.modules import module_clusters

        found = list(module_clusters(self.graph, self))
        inside = {node for cluster in found for node in cluster.members}
        for cluster in [*found, *clusters(self.graph, self.is_signal, self, inside)]:
            self.clusters[cluster.root] = cluster
            self.inside |= cluster.members - {cluster.root}
        live = self._live()
        for node in self.graph.nodes:
            if node.op == "placeholder":
                if node not in self.values:
                    self.values[node] = placeholder(self, node)
            elif node in live and node not in self.values and node not in self.inside:
                self.values[node] = self._node(node)
        output = self._output()
        beam = self.values[output]
        assert isinstance(beam, Beam) and self.input is not None
        source = self.values[self.input]
        return Draft(
            self._used(beam.path),
            self.define,
            self.input,
            source if isinstance(source, Beam) else None,
            self.vocabulary,
            output,
            sum(item.component not in ("tokens", "grid", "flatten", "opaque", "opaque_merge") for item in self.items),
            self.notes,
        )

    def _classify(self) -> None:
        """What does not depend on a float input or on token ids is static; whole numbers are indices."""
        ids: set[Node] = set()
        for node in self.graph.nodes:
            if node.op == "placeholder":
                value = node.meta.get("val")
                if node.name in self.captured.owned or node.name in self.captured.constants:
                    self.values[node] = Static(node)
                elif not torch.is_tensor(value):
                    self.values[node] = None
                elif not value.is_floating_point():
                    ids.add(node)
            elif node.op in ("call_function", "call_method"):
                inputs = node.all_input_nodes
                if name_of(node) in table()["static"] or all(
                    isinstance(self.values.get(one), Static) or self.values.get(one, 0) is None for one in inputs
                ):
                    tensors = torch.is_tensor(node.meta.get("val")) or isinstance(node.meta.get("val"), tuple | list)
                    self.values[node] = Static(node) if tensors else None
                elif all(one in ids or isinstance(self.values.get(one), Static) for one in inputs):
                    value = node.meta.get("val")
                    if torch.is_tensor(value) and not value.is_floating_point():
                        ids.add(node)

    def is_signal(self, node: Node) -> bool:
        """Whether a node's value is a float tensor that depends on the input."""
        value = node.meta.get("val")
        return torch.is_tensor(value) and value.is_floating_point() and not isinstance(self.values.get(node), Static)

    def _live(self) -> set[Node]:
        """Everything that the outputs are made of."""
        live: set[Node] = set()
        todo = [node for node in self.graph.nodes if node.op == "output"]
        while todo:
            node = todo.pop()
            if node not in live:
                live.add(node)
                todo += node.all_input_nodes
        return live

    def _node(self, node: Node) -> Value:
        if node.op not in ("call_function", "call_method"):
            return None
        value = node.meta.get("val")
        name = name_of(node)
        if name in table()["ignored"] or value is None or isinstance(value, bool | int | float):
            return None
        if torch.is_tensor(value) and not value.is_floating_point():
            return self._index(node, name)
        if not any(isinstance(self.values.get(one), Beam | Lost | Index) for one in node.all_input_nodes):
            if node not in self.clusters:
                return Static(node)
        try:
            return self._mapped(node, name)
        except (Unmapped, LayoutError) as reason:
            return self.opaque(node, str(reason))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError) as error:
            return self.opaque(node, f"an unexpected form of {name} ({type(error).__name__})")

    def _mapped(self, node: Node, name: str) -> Value:
        lost = [one for one in node.all_input_nodes if isinstance(self.values.get(one), Lost)]
        if lost:
            raise Unmapped(getattr(self.values[lost[0]], "reason", ""))
        if node in self.clusters:
            cluster = self.clusters[node]
            return RULES[cluster.kind](self, node)
        from lensnet.importers.rules.layout import rearranged

        if name in table()["layout"]:
            return rearranged(self, node, name)
        if name in RULES:
            return RULES[name](self, node)
        raise Unmapped(f"no rule for {name}")

    def _index(self, node: Node, name: str) -> Value:
        source = next((self.values.get(one) for one in node.all_input_nodes), None)
        if name in table()["layout"] and isinstance(source, Index) and source.ids and source.layout is not None:
            from lensnet.importers.rules.layout import relaid

            try:
                return Index(relaid(source.layout, node, name), ids=True)
            except (LayoutError, Unmapped):
                return Index()
        return Index()

    def _output(self) -> Node:
        """The float output that most of the model leads to."""
        beams = {node: value for node in output_nodes(self.graph) if isinstance(value := self.values.get(node), Beam)}
        beams = {node: beam for node, beam in beams.items() if beam.path != "input"}
        if not beams:
            raise Unmapped("no output of the model is a float tensor that depends on its input")
        order = {item.path: place for place, item in enumerate(self.items)}
        last = max(beams, key=lambda node: order[beams[node].path])
        others = {beam.path for beam in beams.values()} - {beams[last].path}
        if others:
            text = f"of {len(others) + 1} outputs the report follows {beams[last].path}; the others have no loss"
            self.notes.append(text)
        return last

    def _used(self, last: str) -> list[Item]:
        """The items that the output is made of."""
        wanted, todo = set(), [last]
        while todo:
            path = todo.pop()
            if path not in wanted and path in self.by_path:
                wanted.add(path)
                todo += self.by_path[path].sources
        return [item for item in self.items if item.path in wanted]

    # --- what rules ask for ------------------------------------------------------------------------------------------

    def beam(self, node: Any) -> Beam:
        """The signal at a node. Raises Unmapped where it is none."""
        value = self.values.get(node) if isinstance(node, Node) else None
        if not isinstance(value, Beam):
            raise Unmapped("an argument that is no signal")
        return value

    def static(self, node: Any) -> bool:
        return isinstance(node, Node) and isinstance(self.values.get(node), Static)

    def number(self, value: Any) -> float | None:
        """A plain number, or a static tensor that holds a single one."""
        if isinstance(value, bool | int | float):
            return float(value)
        if self.static(value) and value.meta["val"].numel() == 1 and (found := self.evaluator(value)) is not None:
            return float(found)
        return None

    def law(self, node: Any) -> TensorLaw:
        """The law of a static tensor: of its parameter, or read off its value."""
        from lensnet.importers.laws import law_of

        owner = self.owner(node)
        if owner is not None and owner in self.laws:
            return self.laws[owner]
        value = self.evaluator(node)
        return TensorLaw("unknown") if value is None else law_of(value)

    def owner(self, node: Any) -> str | None:
        """The parameter or buffer whose entries a static tensor holds, in whatever order."""
        while isinstance(node, Node) and node.op != "placeholder":
            name = name_of(node)
            if name == "embedding":
                node = arguments(node)[0]
            elif name in table()["layout"] or name in ("slice", "select", "narrow"):
                node = arguments(node)[0]
            else:
                return None
        return self.captured.owned.get(node.name) if isinstance(node, Node) else None

    def is_embedding(self, node: Any) -> bool:
        """Whether a weight is the table of an embedding that was drawn before."""
        owner = self.owner(node)
        tables = [name for item in self.items if item.component == "embedding" for name in item.owns]
        held = self.captured.parameters
        return owner is not None and any(held[owner] is held[name] for name in tables)

    def constant(self, node: Any, default: float) -> float:
        """The value of a static tensor that is one number everywhere (a norm's gain); its rms where it is not."""
        if node is None:
            return default
        law = self.law(node)
        if law.kind == "unknown":
            return default
        return law.mean if law.kind == "constant" else law.second_moment**0.5

    def value_of(self, node: Any) -> Tensor | None:
        """A static tensor in numbers; None on the meta device."""
        return self.evaluator(node)

    def name(self, node: Node, operation: str = "", own: bool = True) -> str:
        """The module's path where the operation is all of it, else path and operation."""
        path, _, call = module_of(node)
        operation = operation or name_of(node)
        whole = (
            path if own and path and self.alone.get((path, call)) == 1 else f"{path}.{operation}" if path else operation
        )
        return self.names.free(whole + (f"@{call}" if call else ""))

    def add(
        self,
        node: Node,
        component: str,
        parameters: Mapping[str, Any],
        taps: Sequence[tuple[Node, Beam | None]],
        beam: Beam,
        name: str = "",
        reason: str = "",
        owns: Sequence[Any] = (),
    ) -> Beam:
        """Draw a component whose output is the value of `node`, laid out as `beam`; returns that beam by its name."""
        settled(beam.layout, beam.positions, beam.channels)
        path = (
            self.names.free(name)
            if name
            else self.name(node, component if component in _OWN_NAMES else "", component not in _STRUCTURE)
        )
        made = Beam(path, beam.layout, beam.positions, beam.channels)
        owners = [owner for one in owns if (owner := self.owner(one)) is not None]
        module, kind, _ = module_of(node)
        item = Item(
            path, component, dict(parameters), list(taps), node, made, name_of(node), kind, module, reason, owners
        )
        self.items.append(item)
        self.by_path[path] = item
        return made

    def one(
        self, node: Node, component: str, parameters: Mapping[str, Any], beam: Beam, source: Node, **more: Any
    ) -> Beam:
        """A component of one input."""
        return self.add(node, component, parameters, [(source, self.beam(source))], beam, **more)

    def opaque(self, node: Node, reason: str) -> Value:
        """A component that is only measured; where even the shape of its value cannot be read, a lost value."""
        sources: list[Node] = []
        operations: list[str] = []
        for one in node.all_input_nodes:
            value = self.values.get(one)
            if isinstance(value, Lost):
                sources += value.sources
                operations += value.operations
            elif isinstance(value, Beam):
                sources.append(one)
        sources = list(dict.fromkeys(sources))
        name = name_of(node)
        operations = [*dict.fromkeys((*operations, name))]
        value = node.meta.get("val")
        if not sources or not torch.is_tensor(value) or isinstance(value, tuple | list):
            return Lost(tuple(sources), reason, tuple(operations))
        beams = [self.beam(one) for one in sources]
        try:
            beam = self._guess(node, beams)
            parameters = grid_parameters(beam)
            kind = "opaque" if len(sources) == 1 else "opaque_merge"
            return self.add(
                node, kind, parameters, list(zip(sources, beams, strict=True)), beam,
                reason=f"{' '.join(operations[-4:])}: {reason}",
            )  # fmt: skip
        except (Unmapped, LayoutError):
            return Lost(tuple(sources), reason, tuple(operations))

    def _guess(self, node: Node, beams: Sequence[Beam]) -> Beam:
        """How an unknown operation's value is laid out: as one of its inputs of the same shape, else by rank."""
        sizes = sizes_of(node)
        examples = beams[0].layout.size_of(EXAMPLES)
        for beam in beams:
            if beam.layout.sizes == sizes:
                return beam
        if len(sizes) < 2 or sizes[self.batch_axis if len(sizes) > 2 else 0] != examples:
            raise Unmapped("a shape that does not begin with the examples")
        for beam in beams:
            if beam.layout.sizes[:-1] == sizes[:-1] and beam.layout.roles(-1) <= {CHANNELS}:
                layout = beam.layout.with_axis(-1, CHANNELS, sizes[-1])
                if layout.axes_of(CHANNELS) in ([len(sizes) - 1], []):
                    return Beam("", layout, beam.positions, sizes[-1])
        if len(sizes) > 4:
            raise Unmapped("too many axes")
        return beam_of(self.batch_axis, "", sizes, len(sizes) == 4 and sizes[1] != sizes[2])


_STRUCTURE = ("tokens", "grid", "flatten", "slice", "take", "frame", "pick", "transpose", "fold", "prepend")
_OWN_NAMES = (*_STRUCTURE, "residual", "sum", "scale", "multiply", "rmsnorm", "rotary", "attend", "source", "gate")
