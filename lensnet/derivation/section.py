"""A part of a network as a network of its own: one signal in, one out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lensnet.derivation.errors import DeriveError
from lensnet.language.source import did_you_mean
from lensnet.network.graph import INPUT, InputSource, Network, Node


@dataclass(frozen=True)
class Block:
    """A repeated body: its name, how often, and the paths of its repetitions (`block.0`, `block.1`, ...)."""

    name: str
    paths: tuple[str, ...]

    @property
    def typical(self) -> str:
        """A repetition behind another one: what enters it is what a repetition leaves."""
        return self.paths[min(1, len(self.paths) - 1)]


def repeated_blocks(network: Network) -> list[Block]:
    """The outermost repeated bodies, in the order of the signal."""
    found: dict[str, dict[str, None]] = {}
    for node in network:
        match = re.match(r"(.+?)\.(\d+)\.", node.path)
        if match:
            found.setdefault(match.group(1), {})[f"{match.group(1)}.{match.group(2)}"] = None
    return [Block(name, tuple(paths)) for name, paths in found.items()]


def part_at(network: Network, path: str) -> Network:
    """A component by its path, or everything under a path (`block.0`). Raises DeriveError."""
    nodes = [node for node in network if node.path == path or node.path.startswith(f"{path}.")]
    nodes = [node for node in nodes if not (node.component.is_fork and node.inputs[0] == path)]
    if not nodes:
        raise DeriveError(f"nothing is called {path!r}", did_you_mean(path, _names(network)))
    return isolated(network, nodes, path)


def part_between(network: Network, first: str | None, last: str | None) -> Network:
    """From one component to another, both included, in the order of the signal. Raises DeriveError."""
    order = [node.path for node in network]
    for path in (first, last):
        if path is not None and path not in order:
            raise DeriveError(f"no component is called {path!r}", did_you_mean(path, order))
    start = 0 if first is None else order.index(first)
    end = len(order) if last is None else order.index(last) + 1
    if end <= start:
        raise DeriveError(f"{last} does not stand behind {first}")
    return isolated(network, list(network.nodes[start:end]), f"{order[start]} to {order[end - 1]}")


def isolated(network: Network, nodes: Sequence[Node], name: str) -> Network:
    """The nodes with the one signal that enters them as network input; a fork of it that they alone use comes along.

    Raises DeriveError when several signals enter.
    """
    inside = {node.path for node in nodes}
    chosen = list(nodes)
    sources = {producer for node in nodes for producer in node.inputs} - inside
    for source in list(sources):
        if source != INPUT and network[source].component.is_fork:
            users = {user.path for user, _ in network.consumers(source)}
            if users <= inside and len(users) + sum(len(node.inputs) for node in nodes) > 1:
                chosen.insert(0, network[source])
                sources = sources - {source} | set(network[source].inputs)
    if len(sources) != 1:
        told = ", ".join(sorted(sources))
        raise DeriveError(f"{len(sources)} signals enter {name} ({told}): a map needs one", "take in what joins them")
    entry = next(iter(sources))
    shape = network.input.shape if entry == INPUT else network[entry].shape
    gaussian = InputSource("gaussian", {}, shape, network.input.batch)
    moved = [
        replace(node, inputs=tuple(INPUT if producer == entry else producer for producer in node.inputs))
        for node in chosen
    ]
    while len(moved) > 1 and moved[-1].component.is_fork:  # of what leaves
        moved.pop()
    return Network(name, "", gaussian, tuple(moved))


def entry_of(network: Network, part: Network) -> str:
    """The producer in `network` whose output enters the part."""
    here = {node.path for node in part}
    return next(producer for node in part for producer in network[node.path].inputs if producer not in here)


def _names(network: Network) -> list[str]:
    out: dict[str, None] = {}
    for node in network:
        parts = node.path.split(".")
        out |= dict.fromkeys(".".join(parts[: index + 1]) for index in range(len(parts)))
    return list(out)
