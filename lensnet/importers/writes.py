"""Writes into a part of a tensor (`out[:, t] = h`) as operations that make a new tensor.

An exported graph keeps a write as an operation on a view whose value nobody takes: read as it stands, the tensor that
was written to would still be what it was made as. Here the whole tensor with its new part takes its place for all that
comes later; where every place along an axis was written, that is a stack.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

from lensnet.importers.lowering import ATEN, Writer
from lensnet.importers.operations import argument, arguments, name_of

_VIEWS = ("select", "slice")


def written(graph: Graph) -> None:
    """Rewrites a graph that belongs to us."""
    changed: list[Node] = []
    for node in list(graph.nodes):
        if _writes(node):
            view, source = arguments(node)[0], arguments(node)[1]
            write = Writer(graph, node)
            if source.meta["val"].dtype != view.meta["val"].dtype:
                source = write(ATEN.to.dtype, source, view.meta["val"].dtype)
            if source.meta["val"].shape != view.meta["val"].shape:
                source = write(ATEN.expand.default, source, list(view.meta["val"].shape))
            changed.append(_put_back(graph, node, view, source))
            node.replace_all_uses_with(source)
            graph.erase_node(node)
    for node in reversed(changed):
        graph.eliminate_dead_code()
        if node.users:
            _stacked(graph, node)
        if node.users:
            _laid(graph, node)
    graph.eliminate_dead_code()


def _writes(node: Node) -> bool:
    if node.op != "call_function" or getattr(node.target, "_opname", "") != "copy_":
        return False
    view, source = arguments(node)[:2]
    return all(isinstance(one, Node) for one in (view, source)) and view.op == "call_function" and _is_view(view)


def _is_view(node: Any) -> bool:
    return isinstance(node, Node) and node.op == "call_function" and name_of(node) in _VIEWS


def _put_back(graph: Graph, node: Node, view: Node, value: Node) -> Node:
    """The tensor that a view was taken of, with a new value there; everything behind `node` sees that one."""
    whole, write = _taken_whole(arguments(view)[0]), Writer(graph, node)
    axis = int(argument(view, 1, "dim", 0))
    if name_of(view) == "select":
        made = write(ATEN.select_scatter.default, whole, value, axis, arguments(view)[2])
    elif view.meta["val"].shape == whole.meta["val"].shape:
        made = value
    else:
        rest = [argument(view, place, name) for place, name in ((2, "start"), (3, "end"))]
        made = write(ATEN.slice_scatter.default, whole, value, axis, *rest, argument(view, 4, "step", 1))
    if _is_view(whole):
        return _put_back(graph, node, whole, made)
    place = {one: index for index, one in enumerate(graph.nodes)}
    for user in list(whole.users):
        if place[user] > place[node]:
            user.replace_input_with(whole, made)
    return made


def _taken_whole(node: Node) -> Node:
    """What a slice from one end to the other was taken of."""
    while _is_view(node) and node.meta["val"].shape == arguments(node)[0].meta["val"].shape:
        node = arguments(node)[0]
    return node


def _stacked(graph: Graph, node: Node) -> None:
    """A tensor of which every place along one axis was written in turn."""
    parts: dict[int, Node] = {}
    here: Any = node
    axis = None
    while isinstance(here, Node) and here.op == "call_function" and name_of(here) == "select_scatter":
        whole, value, along, index = arguments(here)[:4]
        if axis not in (None, along) or (here is not node and len(here.users) > 1):
            break
        axis = along
        parts.setdefault(int(index) % whole.meta["val"].shape[along], value)
        here = whole
    if axis is None or len(parts) < node.meta["val"].shape[axis]:
        return
    with graph.inserting_before(node):
        made = graph.call_function(torch.ops.aten.stack.default, ([parts[place] for place in sorted(parts)], axis))
    made.meta = dict(node.meta)
    node.replace_all_uses_with(made)


def _laid(graph: Graph, node: Node) -> None:
    """Parts of one axis that were written, and what is left of the tensor between them, laid side by side."""
    parts: dict[tuple[int, int], Node] = {}
    here: Any = node
    axis = None
    while isinstance(here, Node) and here.op == "call_function" and name_of(here) == "slice_scatter":
        along = int(argument(here, 2, "dim", 0))
        if int(argument(here, 5, "step", 1)) != 1 or axis not in (None, along) or (parts and len(here.users) > 1):
            break
        place = _ends(here, along)
        if any(place[0] < other[1] and other[0] < place[1] for other in parts):
            break
        axis, parts[place], here = along, arguments(here)[1], arguments(here)[0]
    if axis is None or not isinstance(here, Node):
        return
    write, pieces, at = Writer(graph, node), list[Node](), 0
    for start, end in [*sorted(parts), (int(node.meta["val"].shape[axis]),) * 2]:
        if start > at:
            pieces.append(write(ATEN.slice.Tensor, here, axis, at, start))
        pieces += [parts[start, end]] if (start, end) in parts else []
        at = end
    made = pieces[0] if len(pieces) == 1 else write(ATEN.cat.default, pieces, axis)
    node.replace_all_uses_with(made)


def _ends(node: Node, axis: int) -> tuple[int, int]:
    """The first place that a slice is written to, and the first behind it."""
    length = int(node.meta["val"].shape[axis])
    start, end = argument(node, 3, "start"), argument(node, 4, "end")
    start, end = (length if one is None else int(one) for one in (start or 0, end))
    start, end = (max(one + length, 0) if one < 0 else min(one, length) for one in (start, end))
    return start, end
