"""Groups of operations that are one component: activations and norms written out, rotary positions, attention, scans.

A group is found by what it computes, not by the name of a class, so that it is found in any library. A search is a
function of one node, the last of the group; it is added to `SEARCHES`.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch.fx import Graph, Node

from lensnet.importers.patterns.attention import attention
from lensnet.importers.patterns.cluster import Cluster, Find, IsSignal, Looker
from lensnet.importers.patterns.functions import written_out
from lensnet.importers.patterns.norms import norm, response
from lensnet.importers.patterns.rotary import rotary
from lensnet.importers.patterns.scan import scan

SEARCHES: tuple[Find, ...] = (attention, response, norm, rotary, scan, written_out)


def clusters(graph: Graph, is_signal: IsSignal, look: Looker, taken: set[Node] | None = None) -> Iterator[Cluster]:
    """The groups of a graph, none of which overlap one another or `taken`."""
    taken = set(taken or ())
    for find in SEARCHES:
        for node in reversed(list(graph.nodes)):
            if node.op not in ("call_function", "call_method") or node in taken:
                continue
            found = find(node, is_signal, look)
            if found is not None and find is attention and not found.members & taken:
                _opened(found, is_signal)
            if found is not None and not (found.members & taken) and _closed(found, is_signal):
                taken |= found.members
                yield found


def _closed(cluster: Cluster, is_signal: IsSignal) -> bool:
    """Whether nothing outside looks into the group."""
    inner = cluster.members - {cluster.root}
    return not any(_watched(node, cluster, is_signal) for node in inner)


def _opened(cluster: Cluster, is_signal: IsSignal) -> None:
    """What looks into a group (attention weights that are returned beside what was gathered) gets copies of its own."""
    inner = [node for node in cluster.root.graph.nodes if node in cluster.members and node is not cluster.root]
    if not any(_watched(node, cluster, is_signal) for node in inner):
        return
    copies: dict[Node, Node] = {}
    for node in inner:
        with node.graph.inserting_after(node):
            copies[node] = node.graph.node_copy(node, lambda one: copies.get(one, one))
    for node, copy in copies.items():
        for user in list(node.users):
            if user not in cluster.members and user not in copies.values():
                user.replace_input_with(node, copy)
    for copy in reversed(copies.values()):
        if not copy.users:
            copy.graph.erase_node(copy)


def _watched(node: Node, cluster: Cluster, is_signal: IsSignal) -> bool:
    return any(user not in cluster.members and _felt(user, is_signal) for user in node.users)


def _felt(node: Node, is_signal: IsSignal) -> bool:
    """Whether a value is more than a shape that something else takes."""
    return is_signal(node) and any(user.op == "output" or is_signal(user) for user in node.users)


__all__ = ["Cluster", "Looker", "clusters"]
