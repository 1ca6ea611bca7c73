"""What a rule does to the network that is being made: ask for the signal at a node, and draw a component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.fx import Node

from lensnet.importers.capture import Captured
from lensnet.importers.draft import Beam, Item, Names, Unmapped, module_of, settled
from lensnet.importers.inputs import lone_operations
from lensnet.importers.laws import TensorLaw
from lensnet.importers.operations import name_of
from lensnet.importers.statics import Statics

_STRUCTURE = (
    "tokens", "grid", "flatten", "slice", "take", "frame", "frame3d", "pick", "transpose", "prepend", "unflatten",
    "stack",
)  # fmt: skip
_OWN_NAMES = (
    *_STRUCTURE,
    "residual",
    "sum",
    "scale",
    "multiply",
    "rmsnorm",
    "rotary",
    "attend",
    "source",
    "gate",
    "elementwise_gain",
)


class Drawing(Statics):
    """The components that were drawn so far, in order (`items`) and by name (`by_path`)."""

    def __init__(self, captured: Captured, laws: Mapping[str, TensorLaw], fresh: bool) -> None:
        super().__init__(captured, laws, fresh)
        self.graph = captured.graph.graph
        self.alone = lone_operations(self.graph.nodes)
        self.names = Names()
        self.items: list[Item] = []
        self.by_path: dict[str, Item] = {}

    def beam(self, node: Any) -> Beam:
        """The signal at a node. Raises Unmapped where it is none."""
        value = self.values.get(node) if isinstance(node, Node) else None
        if not isinstance(value, Beam):
            raise Unmapped("an argument that is no signal")
        return value

    def name_for(self, node: Node, operation: str) -> str:
        """A name in the node's module that says what is done, not by which operation."""
        path, _, call = module_of(node)
        return (f"{path}.{operation}" if path else operation) + (f"@{call}" if call else "")

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
        self.tables += owners if component == "embedding" else []
        self.by_path[path] = item
        self.values[node] = made
        return made

    def between(self, node: Node, source: Node) -> Node:
        """A new place between an operation and one of its inputs, for a component that only the network needs."""
        made = self.before(node, torch.ops.aten.alias.default, (source,))
        node.replace_input_with(source, made)
        return made

    def before(self, node: Node, operation: Any, args: tuple[Any, ...]) -> Node:
        """A new operation in front of another one, in the same module."""
        with self.graph.inserting_before(node):
            made = self.graph.call_function(operation, args)
        shapes = torch.fx.node.map_arg(args, lambda one: torch.empty_like(one.meta["val"], device="meta"))
        made.meta = {**node.meta, "val": operation(*shapes)}
        return made

    def one(
        self, node: Node, component: str, parameters: Mapping[str, Any], beam: Beam, source: Node, **more: Any
    ) -> Beam:
        """A component of one input."""
        return self.add(node, component, parameters, [(source, self.beam(source))], beam, **more)
