"""The selective scan of a state-space model, unrolled token by token or in chunks of products and running sums.

How it is written out differs between libraries; what goes in does not: input, step, b and c, with a softplus and an
exponential between them and what comes out. Whether it is one is told by what it computes, when it is drawn.
"""

from __future__ import annotations

from torch.fx import Node

from lensnet.importers.operations import arguments, felt, name_of, table
from lensnet.importers.patterns.cluster import Cluster, IsSignal, Looker, computes, through

_INSIDE = frozenset({
    "exp", "cumsum", "mul", "add", "sub", "neg", "mean", "matmul", "bmm", "select", "slice", "narrow", "stack", "cat",
    "pad", "constant_pad_nd", "masked_fill", "where", "clamp", "clamp_min", "softplus", "tril", "triu", "index",
})  # fmt: skip
_COPYING = ("expand", "expand_as", "repeat", "repeat_interleave")
_PORTS = 4


def scan(root: Node, is_signal: IsSignal, look: Looker) -> Cluster | None:
    """From the last operation of a scan. `info`: `ends`, the four signals that go in."""
    shared: set[Node] = set()
    while True:
        members, ends = _grown(root, shared, is_signal)
        if len(ends) > _PORTS:
            return None
        first = {node for node in members - {root} if all(one in ends for one in felt(node) if is_signal(one))}
        seen = {node for node in first if any(one not in members and is_signal(one) for one in node.users)}
        if not seen:
            break
        shared |= seen  # a factor whose product goes elsewhere too stands before the scan
    names = {name_of(node) for node in members}
    if not {"exp", "softplus"} <= names or not names & {"cumsum", "stack", "cat"}:
        return None
    found = [last for end in ends for last in _narrowed(end, members)]
    if len(found) != _PORTS or root in found:
        return None
    return Cluster("cluster scan", root, members, found[0], {"ends": found})


def _grown(root: Node, shared: set[Node], is_signal: IsSignal) -> tuple[set[Node], list[Node]]:
    """From the root back to what is shared or does not belong: what lies between, and where that ends."""
    members: set[Node] = set()
    ends: list[Node] = []
    todo = [root]
    while todo and len(ends) <= _PORTS:
        node = todo.pop()
        if node in members or node in ends or not is_signal(node):
            continue
        if node in shared or not _belongs(node, is_signal):
            ends.append(node)
            continue
        members.add(node)
        todo += felt(node)
    return members, ends


def _belongs(node: Node, is_signal: IsSignal) -> bool:
    if node.op != "call_function" or not is_signal(node):
        return False
    name = name_of(node)
    if name in ("matmul", "bmm"):  # a product with a weight is a layer
        return all(is_signal(one) for one in arguments(node)[:2])
    return (name in _INSIDE or name in table()["layout"]) and not _normed(node)


def _normed(node: Node) -> bool:
    """Whether a product is the end of a norm, or of its gain."""
    factors = [through(one) for one in arguments(node)[:2]] if computes(node, "mul") else []
    return any(computes(one, "rsqrt") or (isinstance(one, Node) and _normed(one)) for one in factors)


def _narrowed(end: Node, members: set[Node]) -> list[Node]:
    """The signal at an end as the scan takes it: behind views, and its parts where it is cut into some. What is passed
    leaves the members."""
    while True:
        users = [user for user in end.users if user in members]
        if len(users) > 1 and all(computes(user, "slice") for user in users):
            members -= set(users)
            return [last for user in users for last in _narrowed(user, members)]
        if len(users) != 1 or not computes(users[0], *table()["layout"], "slice") or computes(users[0], *_COPYING):
            return [end]
        members -= {users[0]}
        end = users[0]
