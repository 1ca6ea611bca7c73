"""Where a component stands in its network: depth from either end, and the chain that the budget adds up along."""

from __future__ import annotations

from collections.abc import Mapping

from lensnet.network.graph import INPUT, Network, Node


def depth_from_input(network: Network) -> dict[str, int]:
    """Components on the longest path from the input up to and including each component."""
    depth = {INPUT: 0}
    for node in network:
        depth[node.path] = 1 + max(depth[producer] for producer in node.inputs)
    return depth


def depth_from_output(network: Network) -> dict[str, int]:
    """Components on the longest path from each component, included, to the output."""
    depth: dict[str, int] = {}
    for node in reversed(network.nodes):
        behind = depth.get(node.path, 0) + 1
        depth[node.path] = behind
        for producer in node.inputs:
            depth[producer] = max(depth.get(producer, 0), behind)
    return depth


def main_chain(network: Network) -> list[Node]:
    """From the input to the output along the first port of every component: where logarithms of gains add up.

    What hangs on the other ports (branches) changes the gain of the component where it meets the chain.
    """
    chain: list[Node] = []
    path = network.nodes[-1].path if network.nodes else INPUT
    while path != INPUT:
        node = network[path]
        chain.append(node)
        path = node.inputs[0]
    return chain[::-1]


def edge_after(network: Network, chain: Mapping[str, Node], path: str) -> tuple[str, str] | None:
    """(component, port) that uses the output of `path`, along the chain where it is on it; None at the output."""
    uses = [(user.path, port) for user, port in network.consumers(path)]
    follower = chain.get(path)
    for use in uses:
        if follower is not None and use == (follower.path, follower.ports[0]):
            return use
    return uses[0] if uses else None
