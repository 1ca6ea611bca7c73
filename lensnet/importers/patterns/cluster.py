"""A group of operations that is one component, and what the searches for such groups share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch.fx import Node

from lensnet.importers.operations import arguments, name_of

MOST = 48  # operations in one group
RETYPED = ("to", "_to_copy", "float", "type_as", "contiguous", "clone", "alias")


class Looker(Protocol):
    """What a pattern may ask about a node."""

    def static(self, node: Any) -> bool: ...
    def number(self, value: Any) -> float | None: ...
    def scale(self, value: Any) -> float | None: ...


@dataclass
class Cluster:
    """`kind`: the rule that draws it; `root`: whose value is its output; `source`: what goes in; `info`: parameters."""

    kind: str
    root: Node
    members: set[Node]
    source: Node
    info: dict[str, Any] = field(default_factory=dict)


IsSignal = Callable[[Node], bool]
Find = Callable[[Node, IsSignal, Looker], Cluster | None]


def computes(node: Any, *names: str) -> bool:
    """Whether a value is made by one of these operations."""
    return isinstance(node, Node) and node.op != "placeholder" and name_of(node) in names


def through(node: Any) -> Any:
    """What a tensor was before it was only copied or given another type."""
    while computes(node, *RETYPED):
        node = arguments(node)[0]
    return node


def grown(
    root: Node, belongs: Callable[[Node, set[Node]], bool], inner: Callable[[Node], bool]
) -> tuple[set[Node], set[Node]]:
    """From `root` back along the inputs that are `inner`, as far as operations belong: these, and what they end at.

    `belongs` is told what belongs so far.
    """
    members: set[Node] = set()
    ends: set[Node] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if node in members or node in ends:
            continue
        if len(members) > MOST or not belongs(node, members):
            ends.add(node)
            continue
        members.add(node)
        todo += [one for one in node.all_input_nodes if inner(one)]
    return members, ends


def between(root: Node, source: Node) -> set[Node]:
    """Every operation on a way from `source` to `root`, the root included."""
    reach: dict[Node, bool] = {source: True}

    def leads(node: Node, depth: int = 0) -> bool:
        if node not in reach:
            reach[node] = False
            reach[node] = depth < 400 and any([leads(one, depth + 1) for one in node.all_input_nodes])
        return reach[node]

    leads(root)
    return {node for node, yes in reach.items() if yes and node is not source}
