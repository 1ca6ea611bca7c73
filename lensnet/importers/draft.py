"""The network that is being drawn: items with names, what feeds them, and where each is seen in the graph."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from torch.fx import Node

from lensnet.importers.layout import CHANNELS, EXAMPLES, Layout, LayoutError


class Unmapped(Exception):
    """An operation that no rule describes; the message says what it is."""


@dataclass(frozen=True)
class Beam:
    """A float signal: who made it, its shape as the network has it, and how this tensor is laid out."""

    path: str
    layout: Layout
    positions: tuple[int, ...]
    channels: int

    def laid(self, layout: Layout) -> Beam:
        return Beam(self.path, layout, self.positions, self.channels)

    def plain(self) -> Layout:
        """The layout (examples, positions, channels) without cuts."""
        roles = [EXAMPLES, *range(len(self.positions)), CHANNELS]
        return Layout.of(roles, [self.layout.size_of(EXAMPLES), *self.positions, self.channels])


@dataclass(frozen=True)
class Static:
    """A tensor that does not depend on the input: parameters, buffers, constants and what is made of them."""

    node: Node


@dataclass(frozen=True)
class Index:
    """Whole numbers or truth values: token ids (`ids`: as they came in), masks, positions."""

    layout: Layout | None = None
    ids: bool = False


@dataclass(frozen=True)
class Lost:
    """A value inside something that is not described: the tensors that went in, and what happened on the way."""

    sources: tuple[Node, ...]
    reason: str
    operations: tuple[str, ...] = ()


Value = Beam | Static | Index | Lost | None


@dataclass
class Item:
    """One component: parameters as in a spec, producers in port order, and its place in the graph.

    `taps`: for every port the node whose value enters there, and its layout as the producer sees it. `output`: the node
    whose value is this component's output, laid out as `beam` says.
    """

    path: str
    component: str
    parameters: dict[str, Any]
    taps: list[tuple[Node, Beam | None]]
    output: Node
    beam: Beam
    operation: str
    module: str = ""
    place: str = ""
    reason: str = ""
    owns: list[str] = field(default_factory=list)
    inner: tuple[Node, ...] = ()

    @property
    def sources(self) -> list[str]:
        return [beam.path if beam is not None else "input" for _, beam in self.taps]


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


class Names:
    """Dotted names, each used once: the path of the module, the operation where that is not the whole of it."""

    def __init__(self) -> None:
        self.taken: set[str] = {"input"}

    def free(self, wanted: str) -> str:
        wanted = clean(wanted)
        name, count = wanted, 1
        while name in self.taken or name.endswith(".fork"):
            count += 1
            stem, mark, call = wanted.partition("@")
            name = f"{stem}_{count}{mark}{call}"
        self.taken.add(name)
        return name


def clean(path: str) -> str:
    """A module path as a name that a spec may carry."""
    segments = [re.sub(r"[^\w-]", "_", segment) for segment in path.partition("@")[0].split(".") if segment]
    call = path.partition("@")[2]
    if not segments or not segments[0][0].isalpha():
        segments = ["model", *segments]
    return ".".join(segments) + (f"@{call}" if call else "")


def module_of(node: Node) -> tuple[str, str, int]:
    """(dotted path, class name, which call) of the innermost module that a node belongs to."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return "", "", 0
    key, (path, kind) = list(stack.items())[-1]
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return str(path).partition("@")[0], kind, int(str(key).partition("@")[2] or 0)


def sizes_of(node: Node) -> tuple[int, ...]:
    """The shape of a node's value. Raises Unmapped where it depends on the data."""
    value = node.meta.get("val")
    shape = getattr(value, "shape", None)
    if shape is None:
        raise Unmapped("a value without a shape")
    if not all(isinstance(size, int) for size in shape):
        raise Unmapped("a size that depends on the data")
    return tuple(shape)


def settled(layout: Layout, positions: tuple[int, ...], channels: int) -> None:
    """Raises LayoutError unless a tensor holds a whole signal of that shape."""
    sizes = layout.order(positions)[2]
    if sizes[1:-2] != positions or sizes[-1] != channels:
        raise LayoutError(f"{sizes} is not a whole signal of {channels} channels at {positions}")
