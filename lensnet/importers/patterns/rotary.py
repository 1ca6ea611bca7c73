"""Rotary positions: pairs of channels turned by angles from a table."""

from __future__ import annotations

from torch.fx import Node

from lensnet.importers.operations import argument, arguments, name_of, table
from lensnet.importers.patterns.cluster import Cluster, IsSignal, Looker, between, computes, grown

_CUTS = ("slice", "split", "chunk", "getitem", "select", "unbind", "split_with_sizes", "narrow", "tensor_split")
_LINEAR = {"neg", "cat", "concat", "stack", "add", "sub", *_CUTS}


def rotary(root: Node, is_signal: IsSignal, look: Looker) -> Cluster | None:
    """Products of parts of one tensor with static tensors, put together again: a rotation of pairs of channels."""
    if name_of(root) not in ("add", "cat", "stack", "view", "flatten", "reshape") or not is_signal(root):
        return None
    if computes(arguments(root)[0], "view_as_real"):
        return _complex(root, is_signal, look)
    if name_of(root) in ("view", "flatten", "reshape"):
        under = arguments(root)[0]
        if not (isinstance(under, Node) and name_of(under) in ("stack", "cat")):
            return None
    layout = table()["layout"]

    def belongs(node: Node, members: set[Node]) -> bool:
        name = name_of(node) if node.op != "placeholder" else "placeholder"
        by_table = name == "mul" and any(look.static(one) and one.meta["val"].dim() >= 2 for one in arguments(node))
        cut = (
            name == "slice" and int(argument(node, 1, "dim", 0)) % node.meta["val"].dim() != node.meta["val"].dim() - 1
        )
        return not cut and (name in _LINEAR or name in layout or by_table)

    members, ends = grown(root, belongs, lambda one: not look.static(one))
    tables = [n for n in members if name_of(n) == "mul"]
    if len(ends) != 1 or len(tables) < 2 or not any(name_of(n) in ("neg", "sub") for n in members):
        return None
    (source,) = ends
    # the narrowest node that everything passes: views in front of the rotation are edges
    source = _narrowest(source, members, root)
    if root.meta["val"].shape != source.meta["val"].shape:
        return None
    return Cluster("cluster rotary", root, between(root, source), source, {"tables": tables})


def _complex(root: Node, is_signal: IsSignal, look: Looker) -> Cluster | None:
    """Pairs of channels read as complex numbers and multiplied with a static table of them."""
    product = arguments(arguments(root)[0])[0]
    if not computes(product, "mul"):
        return None
    left, right = arguments(product)[:2]
    pairs = left if look.static(right) else right
    if not computes(pairs, "view_as_complex") or look.static(left) == look.static(right):
        return None
    source = arguments(pairs)[0]
    while computes(source, *table()["layout"]) and source.meta["val"].shape != root.meta["val"].shape:
        source = arguments(source)[0]
    if not is_signal(source) or source.meta["val"].shape != root.meta["val"].shape:
        return None
    return Cluster("cluster rotary", root, between(root, source), source, {"tables": [product]})


def _narrowest(source: Node, members: set[Node], root: Node) -> Node:
    layout, wanted = table()["layout"], root.meta["val"].shape
    while True:
        users = [user for user in source.users if user in members]
        part = source.meta["val"].shape != wanted and len(users) == 1 and name_of(users[0]) in _CUTS
        if len(users) != 1 or not (part or name_of(users[0]) in layout):
            return source
        source = users[0]
