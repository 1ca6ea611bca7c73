"""Operations that stand for several: what they are made of, as operations of the graph."""

from __future__ import annotations

import operator
from math import prod
from typing import Any

import torch
from torch.fx import Graph, Node

from lensnet.importers.operations import argument, arguments, name_of

ATEN = torch.ops.aten


class Writer:
    """Writes operations in front of a node, in its module; shapes are followed on the meta device."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph, self.node = graph, node

    def __call__(self, operation: Any, *args: Any) -> Node:
        with self.graph.inserting_before(self.node):
            made = self.graph.call_function(operation, args)
        made.meta = {**self.node.meta, "val": operation(*_shapes(args))}
        return made


def _shapes(args: Any) -> Any:
    return torch.fx.node.map_arg(args, lambda one: torch.utils._pytree.tree_map(_bare, one.meta["val"]))


def _bare(value: Any) -> Any:
    return torch.empty_like(value, device="meta") if torch.is_tensor(value) else value


def einsum(graph: Graph, node: Node) -> bool:
    """einsum as matrix products and products between permutations and views, two operands at a time; whether it could
    be written so."""
    text, *operands = arguments(node)
    text, operands = text.replace(" ", ""), list(operands[0] if isinstance(operands[0], list | tuple) else operands)
    terms = text.split("->")[0].split(",")
    if text.count("...") == len(terms) + 1:  # axes that all of them have
        others = {one.meta["val"].dim() - len(term) + 3 for one, term in zip(operands, terms, strict=True)}
        text = text.replace("...", "αβγδεζηθ"[: max(others)]) if len(others) == 1 else text
    if len(operands) < 2 or "." in text or "->" not in text:
        return False
    inputs, out = text.split("->")
    terms = inputs.split(",")
    if any(len(set(one)) < len(one) for one in (*terms, out)) or set(out) - set(inputs):
        return False
    write, here, have = Writer(graph, node), operands[0], terms[0]
    for place, (other, letters) in enumerate(zip(operands[1:], terms[1:], strict=True)):
        later = set("".join(terms[place + 2 :])) | set(out)
        here, have = _reduced(write, here, have, later | set(letters))
        other, letters = _reduced(write, other, letters, later | set(have))
        here, have = _pair(write, here, have, other, letters, later)
    made = _ordered(write, here, have, list(out))
    node.replace_all_uses_with(made)
    graph.erase_node(node)
    return True


def _reduced(write: Writer, node: Node, have: str, wanted: set[str]) -> tuple[Node, str]:
    """The sum over the indices that nothing else has."""
    gone = [place for place, index in enumerate(have) if index not in wanted]
    if not gone:
        return node, have
    count = prod(int(node.meta["val"].shape[place]) for place in gone)
    made = write(ATEN.mul.Tensor, write(ATEN.mean.dim, node, gone), float(count))
    return made, "".join(index for index in have if index in wanted)


def _pair(write: Writer, a: Node, left: str, b: Node, right: str, later: set[str]) -> tuple[Node, str]:
    """Two operands multiplied and summed over what is not asked for later, and the indices of the result."""
    summed = [index for index in left if index in right and index not in later]
    both = [index for index in left if index in right and index in later]
    rows, columns = ([i for i in one if i not in two] for one, two in ((left, right), (right, left)))
    if not summed:
        want = "".join((left, *columns)) if not columns else "".join((*both, *rows, *columns))
        first, second = (_spread(write, one, have, want) for one, have in ((a, left), (b, right)))
        return write(ATEN.mul.Tensor, first, second), want
    size = dict(zip(left, a.meta["val"].shape, strict=True)) | dict(zip(right, b.meta["val"].shape, strict=True))
    first = _ordered(write, a, left, [*both, *rows, *summed])
    second = _ordered(write, b, right, [*both, *summed, *columns])
    shape = [size[i] for i in both], prod(size[i] for i in rows), prod(size[i] for i in columns)
    inner = prod(size[i] for i in summed)
    first = write(ATEN.reshape.default, first, [*shape[0], shape[1], inner])
    second = write(ATEN.reshape.default, second, [*shape[0], inner, shape[2]])
    made = write(ATEN.matmul.default, first, second)
    order = (*both, *rows, *columns)
    return write(ATEN.reshape.default, made, [size[index] for index in order]), "".join(order)


def _spread(write: Writer, node: Node, have: str, want: str) -> Node:
    """The axes in the order of `want`, with one place where an index is missing."""
    node = _ordered(write, node, have, [index for index in want if index in have])
    for place, index in enumerate(want):
        if index not in have:
            node = write(ATEN.unsqueeze.default, node, place)
    return node


def _ordered(write: Writer, node: Node, have: str, want: list[str]) -> Node:
    order = [have.index(index) for index in want]
    return node if order == sorted(order) else write(ATEN.permute.default, node, order)


def recurrence(graph: Graph, node: Node) -> None:
    """LSTM, GRU and plain recurrences of several layers or two directions, one operation for each; the last state as
    the last step of the sequence. What looks at an LSTM's cell state keeps it as it is."""
    for user in list(node.users):
        if user.target is operator.getitem and not user.users:
            graph.erase_node(user)
    long, takes = name_of(node) == "lstm", [int(arguments(user)[1]) for user in node.users if len(user.args) > 1]
    if any(user.target is not operator.getitem for user in node.users) or max(takes, default=9) > 1:
        return
    source, hidden, params = (arguments(node)[place] for place in (0, 1, 2))
    biased, layers = bool(argument(node, 3, "has_biases")), int(argument(node, 4, "num_layers"))
    both, first = bool(argument(node, 7, "bidirectional")), bool(argument(node, 8, "batch_first"))
    if not isinstance(params, list | tuple) or len(params) != (4 if biased else 2) * layers * (1 + both):
        return
    operation = node.target
    assert callable(operation)
    write, time, each = Writer(graph, node), 1 if first else 0, 4 if biased else 2
    last: list[Node] = []
    for layer in range(layers):
        sides = []
        for direction in range(1 + both):
            place = layer * (1 + both) + direction
            states = [write(ATEN.narrow.default, one, 0, place, 1) for one in (hidden if long else [hidden])]
            taken = write(ATEN.flip.default, source, [time]) if direction else source
            rest = (params[place * each : (place + 1) * each], biased, 1, 0.0, False, False, first)
            with graph.inserting_before(node):
                state: Any = states if long else states[0]
                made = graph.call_function(operation, (taken, state, *rest))
                out = graph.call_function(operator.getitem, (made, 0))
            given = taken.meta["val"]
            width = int(params[place * each + 1].meta["val"].shape[1])
            shaped = torch.empty((*given.shape[:-1], width), dtype=given.dtype, device="meta")
            made.meta, out.meta = {**node.meta, "val": (shaped,)}, {**node.meta, "val": shaped}
            last.append(write(ATEN.select.int, out, time, -1))
            sides.append(write(ATEN.flip.default, out, [time]) if direction else out)
        source = write(ATEN.cat.default, sides, -1) if both else sides[0]
    for user in list(node.users):
        if int(arguments(user)[1]) == 0:
            user.replace_all_uses_with(source)
        else:
            _states(graph, user, last)
        graph.erase_node(user)
    graph.erase_node(node)


def _states(graph: Graph, user: Node, last: list[Node]) -> None:
    """The last states of all layers: each alone where one is picked, else stacked."""
    for one in list(user.users):
        if name_of(one) == "select" and int(arguments(one)[1]) == 0:
            one.replace_all_uses_with(last[int(arguments(one)[2])])
            graph.erase_node(one)
    if user.users:
        user.replace_all_uses_with(Writer(graph, user)(ATEN.stack.default, last, 0))


def gated(graph: Graph, node: Node) -> None:
    """glu(x): one half times the sigmoid of the other."""
    source, write = arguments(node)[0], Writer(graph, node)
    axis = int(argument(node, 1, "dim", -1)) % source.meta["val"].dim()
    half = int(source.meta["val"].shape[axis]) // 2
    value = write(ATEN.slice.Tensor, source, axis, 0, half)
    gate = write(ATEN.sigmoid.default, write(ATEN.slice.Tensor, source, axis, half, 2 * half))
    node.target, node.args, node.kwargs = ATEN.mul.Tensor, (value, gate), {}


def averaged(graph: Graph, node: Node) -> None:
    """A sum over axes as a mean and a factor."""
    source = arguments(node)[0]
    rank = source.meta["val"].dim()
    axes = argument(node, 1, "dim")
    axes = list(range(rank)) if axes is None else [axes] if isinstance(axes, int) else list(axes)
    keep = bool(argument(node, 2, "keepdim", False))
    if not source.meta["val"].is_floating_point() or not axes:
        return
    count = prod(int(source.meta["val"].shape[axis]) for axis in axes)
    mean = Writer(graph, node)(ATEN.mean.dim, source, axes, keep)
    node.target, node.args, node.kwargs = ATEN.mul.Tensor, (mean, float(count)), {}


def bracketed(graph: Graph, node: Node) -> bool:
    """x[...] of a traced graph as slices, selections and new axes; whether it could be written so."""
    source, given = node.args[0], node.args[1]
    if not isinstance(source, Node) or not torch.is_tensor(source.meta.get("val")):
        return False
    asked: list[Any] = list(given) if isinstance(given, tuple) else [given]
    if any(isinstance(one, bool | list) for one in asked) or sum(one is Ellipsis for one in asked) > 1:
        return False
    lists = [place for place, one in enumerate(asked) if isinstance(one, Node)]
    if len(lists) > 1 or any(not torch.is_tensor(asked[place].meta.get("val")) for place in lists):
        return False
    rank, taken = source.meta["val"].dim(), sum(one is not None and one is not Ellipsis for one in asked)
    if Ellipsis in asked:
        place = asked.index(Ellipsis)
        asked[place : place + 1] = [slice(None)] * (rank - taken)
    write, here, axis = Writer(graph, node), source, 0
    for one in asked:
        if one is None:
            here = write(ATEN.unsqueeze.default, here, axis)
        elif isinstance(one, int):
            here = write(ATEN.select.int, here, axis, one)
            continue
        elif isinstance(one, slice):
            if one != slice(None):
                here = write(ATEN.slice.Tensor, here, axis, one.start or 0, one.stop, one.step or 1)
        elif isinstance(one, Node):
            if one.meta["val"].dtype == torch.bool or one.meta["val"].dim() != 1:
                return False
            here = write(ATEN.index.Tensor, here, [None] * axis + [one])
        else:
            return False
        axis += 1
    if here is source:
        here = write(ATEN.alias.default, source)
    node.replace_all_uses_with(here)
    graph.erase_node(node)
    return True


def looked_up(graph: Graph, node: Node) -> None:
    """Rows of a table at ids that were laid side by side: rows that are laid so."""
    if not node.users:  # it was replaced before
        return
    made = _rows(Writer(graph, node), arguments(node)[0], argument(node, 1, "indices"))
    if name_of(made) == "embedding" and arguments(made)[1] is argument(node, 1, "indices"):
        graph.erase_node(made)
        return
    node.replace_all_uses_with(made)
    graph.erase_node(node)


def _rows(write: Writer, table: Any, ids: Node) -> Node:
    """Operations that give the rows of a table at `ids`."""
    name = name_of(ids) if ids.op == "call_function" and ids.meta["val"].dim() == 2 else ""
    if name in ("cat", "concat") and argument(ids, 1, "dim", 0) in (1, -1):
        parts = [one for one in arguments(ids)[0] if 0 not in one.meta["val"].shape]
        return write(ATEN.cat.default, [_rows(write, table, one) for one in parts], 1)
    if name in ("pad", "constant_pad_nd") and len(arguments(ids)[1]) == 2 and min(arguments(ids)[1]) >= 0:
        source, value = arguments(ids)[0], argument(ids, 2 + (name == "pad"), "value", 0)
        sizes = [(len(source.meta["val"]), amount) for amount in arguments(ids)[1]]
        ends = [write(ATEN.full.default, list(size), int(value or 0)) if size[1] else None for size in sizes]
        parts = [one for one in (ends[0], source, ends[1]) if one is not None]
        return write(ATEN.cat.default, [_rows(write, table, one) for one in parts], 1)
    if name == "slice" and arguments(ids)[0].meta["val"].shape == ids.meta["val"].shape:
        return _rows(write, table, arguments(ids)[0])
    return write(ATEN.embedding.default, table, ids)


def smaller(graph: Graph, node: Node) -> None:
    """min(a, b) = -max(-a, -b)."""
    write = Writer(graph, node)
    signs = [write(ATEN.neg.default, one) for one in arguments(node)[:2]]
    node.target, node.args = ATEN.neg.default, (write(ATEN.maximum.default, *signs),)


WITH_PLACES = (
    "max", "max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d",
)  # fmt: skip
"""Maxima that come with the places where they stand."""


def without_places(node: Node) -> None:
    """A maximum whose places nobody asks for is that alone."""
    name, value = name_of(node), node.meta.get("val")
    if not isinstance(value, tuple | list) or any(
        user.target is not operator.getitem or arguments(user)[1] != 0 for user in node.users
    ):
        return
    if name == "max":
        axis, keep = argument(node, 1, "dim"), bool(argument(node, 2, "keepdim", False))
        node.target, node.args, node.kwargs = ATEN.amax.default, (arguments(node)[0], [axis], keep), {}
    elif "adaptive" not in name:
        node.target = getattr(ATEN, name.removesuffix("_with_indices")).default
    else:
        source, out = arguments(node)[0], [int(n) for n in value[0].shape[2:]]
        sizes = list(zip(source.meta["val"].shape[2:], out, strict=True))
        if any(large % small for large, small in sizes):
            return
        pool = getattr(ATEN, name.removeprefix("adaptive_")).default
        node.target, node.args, node.kwargs = pool, (source, [large // small for large, small in sizes]), {}
    node.meta = {**node.meta, "val": value[0]}
    for user in list(node.users):
        user.replace_all_uses_with(node)
        node.graph.erase_node(user)
