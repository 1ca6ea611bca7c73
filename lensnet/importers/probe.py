"""The measurement of the user's own graph: every component's statistics under its name in the network.

The captured graph is run by an interpreter on a set of weights. Values are measured where a component's output is,
gradients at an alias of every port's tensor. Nothing of the user's model is written to: parameters enter as detached
tensors, and the loss reaches the activations alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Interpreter, Node

from lensnet.importers.draft import Beam, Item
from lensnet.importers.shuffling import Shadow
from lensnet.measure.estimators import gradient_quantities, needed, signal_quantities
from lensnet.measure.fields import channel_moments, gradient_moments, inner_product
from lensnet.measure.passes import fill_silent_ports, nonfinite
from lensnet.measure.statistics import OutputStatistics, SeedStatistics
from lensnet.network.graph import INPUT, Network
from lensnet.network.shape import Shape

_ALIAS = "lensnet_port"


def in_order(value: Tensor, beam: Beam, add_copies: bool = False) -> Tensor:
    """A tensor as the network lays it out: (N, C), (N, T, C) or (N, C, H, W). Copies (an expansion) are added up for
    gradients, and all but one dropped for values."""
    sizes, order, result = beam.layout.order(beam.positions)
    out = value.reshape(sizes).permute(order).reshape(result)
    out = out.sum(-2) if add_copies else out.select(-2, 0)
    return out.movedim(-1, 1) if len(beam.positions) != 1 else out


def out_of_order(plain: Tensor, beam: Beam) -> Tensor:
    """The tensor that the model takes for a signal as the network lays it out: undoes `in_order`."""
    sizes, order, result = beam.layout.order(beam.positions)
    rows = plain if len(beam.positions) == 1 else plain.movedim(1, -1)
    back = sorted(range(len(order)), key=order.__getitem__)
    return rows.reshape([sizes[place] for place in order]).permute(back).reshape(beam.layout.sizes)


class PortGraph:
    """The captured graph with an alias in front of every port."""

    def __init__(self, graph_module: GraphModule, items: Sequence[Item]) -> None:
        self.ports: dict[str, tuple[str, int]] = {}
        graph = Graph()
        copies: dict[Node, Node] = {}
        output = graph.graph_copy(graph_module.graph, copies)
        graph.output(output)
        for item in items:
            inside = _members(item)
            for index, (source, _) in enumerate(item.taps):
                self._tap(graph, copies, item, index, source, inside)
        self.module = GraphModule(graph_module, graph)
        self.copies = copies
        self.items = items

    def places(self, network: Network) -> dict[str, Place]:
        """Item -> where its output and its ports stand in a network, which may take a component apart (`body:`)."""
        return {item.path: place_of(item, network) for item in self.items}

    def shadow(self, weights: Mapping[str, Tensor], owned: Mapping[str, str]) -> Shadow:
        """Beside a run of the graph, every component alone with other weights; `owned` as of the captured graph."""
        inside: dict[Node, set[str]] = {}
        ends: dict[Node, set[str]] = {}
        for item in self.items:
            ends.setdefault(self.copies[item.output], set()).add(item.path)
            for node in _members(item):
                inside.setdefault(self.copies[node], set()).add(item.path)
        names = {copy.name: owned[node.name] for node, copy in self.copies.items() if node.name in owned}
        return Shadow(weights, names, inside, ends)

    def _tap(
        self, graph: Graph, copies: Mapping[Node, Node], item: Item, index: int, source: Node, inside: set[Node]
    ) -> None:
        users = [user for user in source.users if user in inside and user in copies]
        if item.output is source or not users:
            return
        with graph.inserting_after(copies[source]):
            alias = graph.call_function(_port, (copies[source],))
        alias.name = f"{_ALIAS}_{len(self.ports)}"
        self.ports[alias.name] = (item.path, index)
        seen = 0
        for user in users:
            if len(item.taps) > 1 and user is item.output and sum(tap[0] is source for tap in item.taps) > 1:
                seen = self._one_argument(copies[user], copies[source], alias, index, item)
            else:
                copies[user].replace_input_with(copies[source], alias)
        del seen

    def _one_argument(self, user: Node, source: Node, alias: Node, index: int, item: Item) -> int:
        """x + x: each port gets the alias of its own place."""
        place = [tap[0] for tap in item.taps[: index + 1]].count(item.taps[index][0]) - 1
        found = 0
        args = list(user.args)
        for position, one in enumerate(args):
            if one is source:
                if found == 0:
                    args[position] = alias
                    break
                found += 1
        user.args = tuple(args)
        return place


@dataclass(frozen=True)
class Place:
    """`output`: the node whose output an item's output is; `ports`: (node, port, producer) of every tap in order."""

    output: str
    ports: tuple[tuple[str, str, str], ...]


def place_of(item: Item, network: Network) -> Place:
    """A node of the item's name; of a component made of others, its last part and the ports that lead into it."""
    if item.path in network:
        node = network[item.path]
        return Place(item.path, tuple((node.path, *pair) for pair in zip(node.ports, node.inputs, strict=True)))
    parts = {node.path: node for node in network if node.path.startswith(f"{item.path}.")}
    if not parts:
        return Place(item.path, ())
    leading = [
        (node.path, port, producer) for node in parts.values()
        for port, producer in zip(node.ports, node.inputs, strict=True) if producer not in parts
    ]  # fmt: skip
    return Place(list(parts)[-1], tuple(leading) if len(leading) == len(item.taps) else ())


def _port(value: Any) -> Any:
    return value.view_as(value) if torch.is_tensor(value) else value


def _members(item: Item) -> set[Node]:
    """The operations of a component: from its output back to its ports."""
    sources = {source for source, _ in item.taps}
    out: set[Node] = set()
    todo = [item.output]
    while todo:
        node = todo.pop()
        if node in out or (node in sources and node is not item.output):
            continue
        out.add(node)
        todo += [one for one in node.all_input_nodes if one not in sources]
    return out


class ModelProbe(Interpreter):
    """One forward and backward pass, leaving statistics behind and no tensors."""

    def __init__(
        self, ports: PortGraph, network: Network, items: Mapping[str, Item], input_node: Node, input_beam: Beam | None,
        output: Node, backward: bool, sides: bool, shadow: Shadow | None = None,
    ) -> None:  # fmt: skip
        super().__init__(ports.module)
        self.shadow, self.alone = shadow, dict[tuple[str, str], float]()
        self.extra_traceback = False
        self.network, self.items = network, items
        self.backward, self.with_sides = backward, sides
        self.shapes: dict[str, Shape] = {INPUT: network.input.shape, **{node.path: node.shape for node in network}}
        self.port_of = ports.ports
        self.places = ports.places(network)
        self.seen: dict[str, list[tuple[str, Beam]]] = {}
        for item in items.values():
            here = self.places[item.path].output
            self.seen.setdefault(ports.copies[item.output].name, []).append((here, item.beam))
        if input_beam is not None:
            self.seen.setdefault(ports.copies[input_node].name, []).insert(0, (INPUT, input_beam))
        self.last = ports.copies[output].name
        self.result: Tensor | None = None
        self.outputs: dict[str, tuple[Tensor, Tensor]] = {}
        self.gradients: dict[tuple[str, str], Tensor] = {}
        self.side: dict[tuple[str, str, str], Tensor] = {}
        self.invariant: dict[str, Tensor] = {}
        self.held: dict[tuple[str, int], Tensor] = {}
        self.forks = {path for path in self.shapes if f"{path}.fork" in self.shapes}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if self.shadow is not None and (other := self.shadow.of(n, self.env)) is not None and n.name in self.seen:
            self._alone(n.name, other[0] if isinstance(other, tuple | list) else other)
        if n.name in self.port_of:
            return self._at_port(n.name, value)
        if n.name in self.seen:
            value = self._at_output(n.name, value)
        if n.name == self.last:
            self.result = value
        return value

    def _at_output(self, name: str, value: Any) -> Any:
        if isinstance(value, tuple | list):
            value = [self._at_output(name, value[0]), *value[1:]]
            return tuple(value)
        if not torch.is_tensor(value) or not value.is_floating_point():
            return value
        if self.backward and not value.requires_grad:
            value = value.detach().requires_grad_()
        for path, beam in self.seen[name]:
            if path not in self.shapes:
                continue
            with torch.no_grad():
                plain = in_order(value.detach(), beam)
                self.outputs[path] = channel_moments(plain, self.shapes[path])
                self._pair_sides(path)
                if path in self.forks:
                    self.outputs[f"{path}.fork"] = self.outputs[path]
            if self.backward and value.requires_grad:
                if path in self.forks:
                    value.register_hook(partial(self._keep, f"{path}.fork", "x", path, beam, plain))
                if path in self.network and needed(self.network[path], "gradient") and self.with_sides:
                    value.register_hook(partial(self._gradient_sides, path, beam, self._first(path)))
        return value

    def _alone(self, name: str, other: Tensor) -> None:
        for path, beam in self.seen[name]:
            if path in self.network:
                mean, second = channel_moments(in_order(other, beam), self.shapes[path])
                self.alone[path, "mean"], self.alone[path, "second_moment"] = float(mean.mean()), float(second.mean())

    def _first(self, path: str) -> Tensor | None:
        return self.held.get((path, 0))

    def _at_port(self, name: str, value: Any) -> Any:
        path, index = self.port_of[name]
        item = self.items[path]
        beam, ports = item.taps[index][1], self.places[path].ports
        if beam is None or not torch.is_tensor(value) or not value.is_floating_point() or not ports:
            return value
        at, port, producer = ports[index]
        node = self.network[at]
        asked = self.with_sides and at == path
        asked = asked and any(needed(node, subject) for subject in ("signal", "pair", "gradient"))
        if asked:
            with torch.no_grad():
                self.held[path, index] = in_order(value.detach(), beam)
                if len(item.taps) == 1:
                    self._signal_sides(path)
        if self.backward and value.requires_grad:
            held = in_order(value.detach(), beam)
            value.register_hook(partial(self._keep, at, port, producer, beam, held))
        return value

    def _pair_sides(self, path: str) -> None:
        if path in self.items and len(self.items[path].taps) > 1 and (path, 0) in self.held:
            self._signal_sides(path)

    def _signal_sides(self, path: str) -> None:
        node = self.network[path]
        values = [self.held.get((path, index)) for index in range(len(node.ports))]
        if any(value is None for value in values):
            values = [values[0] if value is None else value for value in values]
        if any(value is None for value in values):
            return
        for (port, quantity), found in signal_quantities(node, *values).items():  # type: ignore[arg-type]
            self.side[path, port, quantity] = found
        if not needed(node, "gradient") or not self.backward:
            for index in range(len(node.ports)):
                self.held.pop((path, index), None)

    def _keep(self, path: str, port: str, producer: str, beam: Beam, held: Tensor, gradient: Tensor) -> None:
        with torch.no_grad():
            plain = in_order(gradient, beam, add_copies=True)
            self.gradients[path, port], product = gradient_moments(held, plain, self._shape(beam))
        if port != "x" or not path.endswith(".fork"):
            name = producer.removesuffix(".fork")
            for one in {producer, name}:
                total = self.invariant.get(one)
                self.invariant[one] = product if total is None else total + product

    def _shape(self, beam: Beam) -> Shape:
        return Shape(beam.channels, beam.positions)

    def _gradient_sides(self, path: str, beam: Beam, x: Tensor | None, gradient: Tensor) -> None:
        if x is None:
            return
        with torch.no_grad():
            plain = in_order(gradient, beam, add_copies=True)
            for (port, quantity), found in gradient_quantities(self.network[path], plain, x).items():
                self.side[path, port, quantity] = found

    def send_back(self, weights: Tensor) -> None:
        assert self.result is not None
        self.invariant[self.network.nodes[-1].path] = inner_product(self.result.detach(), weights)
        torch.autograd.backward(self.result, weights)
        self.result = None  # the graph's hooks hold this probe: it must not hold the graph (see measure.passes)
        self.env.clear()

    def collect(self, seed: int) -> SeedStatistics:
        out = SeedStatistics(seed)
        for path, (mean, second) in self.outputs.items():
            out.outputs[path] = OutputStatistics(mean.cpu().numpy(), second.cpu().numpy())
        out.gradients = {key: value.cpu().numpy() for key, value in self.gradients.items()}
        out.side = {key: value.cpu().numpy() for key, value in self.side.items()}
        out.invariant = {path: float(value) for path, value in self.invariant.items()}
        if self.backward:
            fill_silent_ports(self.network, out)
        out.nonfinite = nonfinite(out)
        return out
