"""Attention in chunks, blocks and bands: what lies between a softmax and the layers around it.

How near tokens, global ones and blocks are gathered differs between libraries; what goes in and what comes out does
not. So everything between the layers that make queries, keys and values and the layer behind is one group, and what it
computes is told by its answers when it is drawn (`lensnet.importers.rules.attended`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from lensnet.importers.operations import arguments, name_of
from lensnet.importers.patterns.cluster import Cluster, computes

if TYPE_CHECKING:
    from lensnet.importers.mapping import Mapper

_LAYERS = frozenset({
    "linear", "addmm", "conv1d", "conv2d", "embedding", "layer_norm", "rms_norm", "batch_norm", "group_norm",
    "scaled_dot_product_attention",
})  # fmt: skip
_MOST = 400  # operations in one group
_ENDS = range(2, 9)


def attended(mapper: Mapper, failed: set[Node], others: Sequence[Cluster]) -> Iterator[Cluster]:
    """Groups around a softmax in which an operation was described by nothing (`failed`), and that overlap none of the
    others; attention that was found in a part of a group is no other."""
    others = [cluster for cluster in others if cluster.kind != "cluster attention"]
    taken = {node for cluster in others for node in cluster.members}
    roots = {cluster.root for cluster in others}
    live = mapper.live()
    nodes = [
        node for node in mapper.graph.nodes if node.op != "placeholder" and node in live and mapper.is_signal(node)
    ]
    for node in nodes:
        if not computes(node, "softmax", "_softmax", "logsumexp") or node in taken:
            continue
        root = _end(mapper, nodes, node, taken)
        found = None if root is None else _group(mapper, root, taken, roots)
        if found is not None and node in found.members and found.members & failed and _alone(found, set(nodes)):
            taken |= found.members
            yield found


def _layer(mapper: Mapper, node: Node) -> bool:
    """Whether an operation has weights, which no attention has inside."""
    if name_of(node) in ("matmul", "mm", "bmm"):
        return any(mapper.owner(one) is not None for one in arguments(node)[:2])
    return name_of(node) in _LAYERS


def _end(mapper: Mapper, nodes: list[Node], start: Node, taken: set[Node]) -> Node | None:
    """The last operation that everything behind `start` passes before it meets a layer; itself excepted."""
    behind, opened, last = {start}, {start}, None
    live = set(nodes)
    waiting = {start: sum(user in live for user in start.users)}
    for node in nodes[nodes.index(start) + 1 :]:
        mine = [one for one in node.all_input_nodes if one in behind]
        if not mine:
            continue
        if opened <= set(mine) and (_layer(mapper, node) or node in taken):
            return last
        if _layer(mapper, node):
            return None
        for one in mine:
            waiting[one] -= 1
            opened -= {one} if not waiting[one] else set()
        behind.add(node)
        waiting[node] = sum(user in live for user in node.users)
        opened |= {node} if waiting[node] else set()
        if opened <= {node}:
            last = node
        if len(behind) > _MOST:
            return None
    return None


def _group(mapper: Mapper, root: Node, taken: set[Node], roots: set[Node]) -> Cluster | None:
    members: set[Node] = set()
    ends: dict[Node, None] = {}
    todo: list[Any] = [root]
    while todo:
        node = todo.pop()
        if node in members or node in ends or not mapper.is_signal(node):
            continue
        if node.op == "placeholder" or node in roots or _layer(mapper, node):
            ends[node] = None
            continue
        if node in taken or len(members) > _MOST:
            return None
        members.add(node)
        todo += node.all_input_nodes
    found = [one for end in ends for one in _parts(end, members)]
    if len(found) not in _ENDS or root in found:
        return None
    order = {node: place for place, node in enumerate(mapper.graph.nodes)}
    found.sort(key=order.__getitem__)
    return Cluster("cluster attended", root, members, found[0], {"sources": found})


def _parts(end: Node, members: set[Node]) -> list[Node]:
    """Queries, keys and values that one layer made, each for itself."""
    users = [user for user in end.users if user in members]
    if len(users) < 2 or not all(computes(user, "slice", "select") for user in users):
        return [end]
    members -= set(users)
    return users


def _alone(cluster: Cluster, live: set[Node]) -> bool:
    """Whether nothing outside looks into the group."""
    inner = cluster.members - {cluster.root}
    return all(user in cluster.members or user not in live for node in inner for user in node.users)
