"""The captured graph in the form that the rules and the measurement expect, computing the same.

A tensor that is cut into pieces becomes one operation per piece, so that each has a port of its own; operations in
place become those that make a new tensor, so that what was measured is not overwritten; functions of a traced graph
become the operations that an exported one has; sums over named indices and stacks of recurrences become what they are
made of; a part that is written to makes a new tensor; assertions about the example go.
"""

from __future__ import annotations

import inspect
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch.fx import Graph, Node

from lensnet.importers.cells import CELLS, bag, cell, single, values_first
from lensnet.importers.lowering import (
    WITH_PLACES,
    averaged,
    bracketed,
    einsum,
    gated,
    looked_up,
    recurrence,
    smaller,
    without_places,
)
from lensnet.importers.operations import argument, arguments, name_of, table
from lensnet.importers.writes import written

_CUTS = ("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
_ATEN = torch.ops.aten
_MOVING = ("input", "weight", "bias", "running_mean", "running_var")
_REORDERED: dict[Any, tuple[Any, tuple[str, ...]]] = {
    F.embedding: (_ATEN.embedding.default, ("weight", "input")),
    F.batch_norm: (_ATEN.batch_norm.default, (*_MOVING, "training", "momentum", "eps")),
    F.instance_norm: (_ATEN.instance_norm.default, (*_MOVING, "use_input_stats", "momentum", "eps")),
}
"""Functions whose operation takes the same arguments in another order: the operation, and their names in its order."""


def normalise(graph: Graph) -> None:
    """Rewrites a graph that belongs to us."""
    graph.eliminate_dead_code()
    for node in list(graph.nodes):
        if node.op == "call_function" and name_of(node) == "getitem_index":
            bracketed(graph, node)
    written(graph)
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        _reordered(node)
        name = name_of(node)
        if name in _CUTS or name == "unbind":
            _apart(graph, node, name)
        elif name == "einsum":
            einsum(graph, node)
        elif name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
            recurrence(graph, node)
        elif name == "broadcast_tensors":
            _expanded(graph, node)
        elif name in CELLS:
            cell(graph, node)
        elif name == "embedding_bag":
            bag(graph, node)
        elif name == "embedding":
            single(graph, node)
            looked_up(graph, node)
        elif name == "glu":
            gated(graph, node)
        elif name == "sum":
            averaged(graph, node)
        elif name == "minimum":
            smaller(graph, node)
        elif name in WITH_PLACES:
            without_places(node)
        else:
            _functional(node)
    for node in list(graph.nodes):
        if node.op == "call_function" and name_of(node) in ("matmul", "bmm"):
            values_first(graph, node)
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and not node.users and name_of(node) in table()["ignored"]:
            graph.erase_node(node)


def _apart(graph: Graph, node: Node, name: str) -> None:
    """split(x)[i] becomes x[start:end], unbind(x)[i] becomes x.select(i)."""
    if any(user.target is not operator.getitem for user in node.users):
        return
    source, pieces = arguments(node)[0], node.meta["val"]
    axis = int(argument(node, 1 if name == "unbind" else 2, "dim", 0))
    sizes = [int(piece.shape[axis]) if name != "unbind" else 1 for piece in pieces]
    for user in list(node.users):
        index = int(arguments(user)[1]) % len(sizes)
        start = sum(sizes[:index])
        with graph.inserting_before(user):
            if name == "unbind":
                made = graph.call_function(torch.ops.aten.select.int, (source, axis, start))
            else:
                made = graph.call_function(torch.ops.aten.slice.Tensor, (source, axis, start, start + sizes[index]))
        made.meta = dict(user.meta)
        user.replace_all_uses_with(made)
        graph.erase_node(user)
    graph.erase_node(node)


def _expanded(graph: Graph, node: Node) -> None:
    """broadcast_tensors(xs)[i] becomes xs[i].expand(...)."""
    sources = arguments(node)[0] if isinstance(arguments(node)[0], list | tuple) else arguments(node)
    for user in list(node.users):
        if user.target is operator.getitem:
            size = [int(n) for n in user.meta["val"].shape]
            with graph.inserting_before(user):
                made = graph.call_function(_ATEN.expand.default, (sources[int(arguments(user)[1])], size))
            made.meta = dict(user.meta)
            user.replace_all_uses_with(made)
            graph.erase_node(user)
    if not node.users:
        graph.erase_node(node)


def _reordered(node: Node) -> None:
    operation, names = _REORDERED.get(node.target, (None, ()))
    if operation is None:
        return
    given = inspect.signature(node.target).bind(*node.args, **node.kwargs)  # type: ignore[arg-type]
    given.apply_defaults()
    values = given.arguments
    if values.get("max_norm") is not None:  # the table is shortened before it is read
        return
    last = (False,) * ("eps" in names)  # cudnn
    node.target, node.args, node.kwargs = operation, (*(values[name] for name in names), *last), {}


def _functional(node: Node) -> None:
    target: Any = node.target
    name = getattr(target, "_opname", "")
    if name.endswith("_") and not name.endswith("__") and name != "copy_":
        packet = getattr(torch.ops.aten, name[:-1], None)
        overload = getattr(packet, getattr(target, "_overloadname", "default"), None) if packet is not None else None
        if overload is not None:
            node.target = overload
