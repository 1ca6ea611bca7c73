"""Recurrent cells and bags of embeddings as what they are made of."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import Graph, Node

from lensnet.importers.lowering import ATEN, Writer
from lensnet.importers.operations import argument, arguments, name_of

CELLS = ("gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell")
_BLANK = ("zeros", "zeros_like", "new_zeros")


def cell(graph: Graph, node: Node) -> None:
    """One step of a recurrence: dense layers of input and state, gates, products. A state of zero is left out."""
    name, (source, state, *weights) = name_of(node), arguments(node)
    write = Writer(graph, node)
    first, memory = state if name == "lstm_cell" else (state, None)
    weights += [None] * (4 - len(weights))
    felt = write(ATEN.linear.default, source, weights[0], weights[2])
    kept = write(ATEN.linear.default, first, weights[1], weights[3]) if not _blank(first) or weights[3] else None
    if name == "gru_cell":
        made: Any = _gru(write, felt, kept, first)
    elif name == "lstm_cell":
        made = _lstm(write, felt, kept, memory)
    else:
        bend = ATEN.tanh.default if "tanh" in name else ATEN.relu.default
        made = write(bend, _with(write, felt, kept))
    if name != "lstm_cell":
        node.replace_all_uses_with(made)
    for user in list(node.users):
        assert user.target is operator.getitem
        user.replace_all_uses_with(made[int(arguments(user)[1])])
        graph.erase_node(user)
    graph.erase_node(node)


def _gru(write: Writer, felt: Node, kept: Node | None, state: Node) -> Node:
    """h' = (1 - z) n + z h with n = tanh(x + r h)."""
    inputs, states = _parts(write, felt, 3), _parts(write, kept, 3)
    reset, update = (write(ATEN.sigmoid.default, _with(write, inputs[i], states[i])) for i in (0, 1))
    new = inputs[2] if states[2] is None else _with(write, inputs[2], write(ATEN.mul.Tensor, reset, states[2]))
    new = write(ATEN.tanh.default, new)
    fresh = write(ATEN.mul.Tensor, write(ATEN.rsub.Scalar, update, 1), new)
    return fresh if _blank(state) else write(ATEN.add.Tensor, fresh, write(ATEN.mul.Tensor, update, state))


def _lstm(write: Writer, felt: Node, kept: Node | None, memory: Any) -> tuple[Node, Node]:
    """c' = f c + i g and h' = o tanh(c')."""
    gates = [_with(write, a, b) for a, b in zip(_parts(write, felt, 4), _parts(write, kept, 4), strict=True)]
    let, forget, out = (write(ATEN.sigmoid.default, gates[place]) for place in (0, 1, 3))
    held = write(ATEN.mul.Tensor, let, write(ATEN.tanh.default, gates[2]))
    if not _blank(memory):
        held = write(ATEN.add.Tensor, write(ATEN.mul.Tensor, forget, memory), held)
    return write(ATEN.mul.Tensor, out, write(ATEN.tanh.default, held)), held


def _parts(write: Writer, whole: Node | None, count: int) -> list[Any]:
    if whole is None:
        return [None] * count
    axis = whole.meta["val"].dim() - 1
    size = int(whole.meta["val"].shape[axis]) // count
    return [write(ATEN.slice.Tensor, whole, axis, place * size, (place + 1) * size) for place in range(count)]


def _with(write: Writer, one: Node, other: Node | None) -> Node:
    return one if other is None else write(ATEN.add.Tensor, one, other)


def _blank(node: Any) -> bool:
    return isinstance(node, Node) and node.op == "call_function" and name_of(node) in _BLANK


def single(graph: Graph, node: Node) -> None:
    """A table looked up by one id for each example: by sequences of one id."""
    ids = argument(node, 1, "indices")
    if not isinstance(ids, Node) or ids.meta["val"].dim() != 1:
        return
    write = Writer(graph, node)
    rows = write(ATEN.embedding.default, arguments(node)[0], write(ATEN.unsqueeze.default, ids, 1))
    node.replace_all_uses_with(write(ATEN.select.int, rows, 1, 0))
    graph.erase_node(node)


def bag(graph: Graph, node: Node) -> None:
    """Bags of equally many ids each: a table, and the mean, sum or largest over the ids of a bag."""
    table, ids, starts = arguments(node)[:3]
    mode, weights = int(argument(node, 4, "mode", 0)), argument(node, 6, "per_sample_weights")
    users = list(node.users)
    if weights is not None or any(user.target is not operator.getitem or user.args[1] != 0 for user in users):
        return
    each = _each(ids, starts)
    if not each or bool(argument(node, 7, "include_last_offset", False)):
        return
    write = Writer(graph, node)
    rows = write(ATEN.reshape.default, ids, [-1, each])
    found = write(ATEN.embedding.default, table, rows)
    if mode == 2:
        made = write(ATEN.amax.default, found, [1])
    else:
        made = write(ATEN.mean.dim, found, [1])
        made = write(ATEN.mul.Tensor, made, float(each)) if mode == 0 and each > 1 else made
    for user in users:
        user.replace_all_uses_with(made)
        graph.erase_node(user)
    graph.erase_node(node)


def _each(ids: Any, starts: Any) -> int:
    """How many ids every bag has; zero where that is not told by the graph."""
    if not isinstance(starts, Node) or name_of(starts) != "arange":
        return 0
    bags, total = int(starts.meta["val"].shape[0]), int(ids.meta["val"].shape[0])
    given = [int(one) for one in arguments(starts)]
    step = given[2] if len(given) > 2 else 1
    return step if step * bags == total else 0


def values_first(graph: Graph, node: Node) -> None:
    """v w^T, with w a softmax, as (w v^T)^T: attention whose channels stand before its tokens."""
    left, right = arguments(node)[:2]
    softmax, turns = _behind(right)
    if softmax is None or not turns % 2 or _behind(left)[0] is not None:
        return
    write = Writer(graph, node)
    upright = write(ATEN.transpose.int, right, -2, -1)
    product = write(ATEN.matmul.default, upright, write(ATEN.transpose.int, left, -2, -1))
    node.replace_all_uses_with(write(ATEN.transpose.int, product, -2, -1))
    graph.erase_node(node)


def _behind(node: Any) -> tuple[Node | None, int]:
    """The softmax that a tensor is, and how often its last two axes were exchanged since."""
    turns = 0
    while isinstance(node, Node) and node.op == "call_function":
        name, rank = name_of(node), node.meta["val"].dim() if torch.is_tensor(node.meta.get("val")) else 0
        if name in ("softmax", "_softmax"):
            return (node, turns) if argument(node, 1, "dim") in (-1, rank - 1) else (None, 0)
        if name in ("transpose", "swapaxes") and {int(a) % rank for a in arguments(node)[1:3]} == {rank - 2, rank - 1}:
            turns += 1
        elif name == "permute" and [int(a) % rank for a in _order(node)][-2:] == [rank - 1, rank - 2]:
            turns += 1
        elif name in ("mT", "adjoint"):
            turns += 1
        elif name not in ("dropout", "contiguous", "clone", "to", "type_as", "float", "_to_copy", "alias"):
            return None, 0
        node = arguments(node)[0]
    return None, 0


def _order(node: Node) -> list[Any]:
    """The axes of a permutation: a list in an exported graph, numbers in a traced one."""
    given = argument(node, 1, "dims")
    return list(given) if isinstance(given, list | tuple) else list(arguments(node)[1:])
