"""Mixtures of experts: ratings by a dense layer, shares for some or all experts, two dense layers for each.

How the tokens reach the experts differs between libraries (sorted and multiplied in groups, masked and added back, all
experts for all tokens); what goes in and what comes out does not. A mixture is found from its ratings: everything
behind them runs together in one tensor, the output, and on the way there meets nothing but the signal that was rated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch.fx import Graph, Node

from lensnet.importers.operations import arguments, felt, name_of, table
from lensnet.importers.patterns.cluster import IsSignal, Looker, between, computes

_RATING = ("linear", "matmul", "mm", "addmm")
_CHOOSING = ("topk", "argmax", "max", "sort")
_TAKING = ("slice", "select", "narrow", "index", "getitem_index", "index_select")
_FURTHER = 4000  # operations behind the ratings that are looked at
_MOST_EXPERTS = 1024


@dataclass
class Mixture:
    """`ratings` of `source`; `shares` are what experts are weighed by; `root`: the sum. `first`, `second`: products
    with the weights of the two layers; `depth`: how many of them stand before an operation. `routing`: everything that
    depends on the ratings alone; `weighing`: where shares meet anything else."""

    ratings: Node
    source: Node
    shares: Node
    root: Node
    experts: int
    first: list[Node]
    second: list[Node]
    depth: dict[Node, int]
    routing: set[Node] = field(default_factory=set)
    weighing: set[Node] = field(default_factory=set)

    @property
    def chooses(self) -> bool:
        """Whether some experts are left out."""
        return any(computes(node, *_CHOOSING) for node in self.routing)


class Finder:
    """Looks for mixtures in one graph."""

    def __init__(self, graph: Graph, is_signal: IsSignal, look: Looker) -> None:
        self.is_signal, self.look = is_signal, look
        self.nodes = [node for node in graph.nodes if node.op != "output"]
        self.place = {node: place for place, node in enumerate(self.nodes)}
        self.live: set[Node] = set()
        todo = [one for node in graph.nodes if node.op == "output" for one in node.all_input_nodes]
        while todo:
            node = todo.pop()
            if node not in self.live:
                self.live.add(node)
                todo += node.all_input_nodes

    def mixtures(self) -> Iterator[Mixture]:
        for node in self.nodes:
            if node in self.live and computes(node, *_RATING) and self._weight(node) is not None:
                count = int(node.meta["val"].shape[-1])
                routing = self._routing(node) if 2 <= count <= _MOST_EXPERTS else set()
                if any(computes(one, "softmax", "_softmax", *_CHOOSING) for one in routing):
                    found = self._mixture(node, count, routing)
                    if found is not None:
                        yield found

    def _weight(self, node: Node) -> Node | None:
        """The weight that a signal is multiplied with."""
        given = [one for one in arguments(node)[:3] if isinstance(one, Node)]
        given = given[1:] if name_of(node) == "addmm" else given[:2]
        kinds = [self.is_signal(one) for one in given]
        return given[1] if kinds == [True, False] and self.look.static(given[1]) else None

    def _routing(self, ratings: Node) -> set[Node]:
        """What depends on the ratings, and on nothing else that depends on the input."""
        out = {ratings}
        todo = list(ratings.users)
        while todo:
            node = todo.pop()
            if node in out or node.op == "output" or len(out) > _FURTHER:
                continue
            if all(one in out or self.look.static(one) for one in felt(node)):
                out.add(node)
                todo += list(node.users)
        # a node that was looked at before its other inputs were known
        for node in self.nodes[self.place[ratings] + 1 :]:
            inputs = felt(node) if node.op != "placeholder" else []
            if any(one in out for one in inputs) and all(one in out or self.look.static(one) for one in inputs):
                out.add(node)
        return out

    def _mixture(self, ratings: Node, count: int, routing: set[Node]) -> Mixture | None:
        chain = [arguments(ratings)[1 if name_of(ratings) == "addmm" else 0]]
        while computes(chain[-1], *table()["layout"]):
            chain.append(arguments(chain[-1])[0])
        for end in self._gathering(ratings):
            if not self.is_signal(end) or end in routing:
                continue
            for source in chain:
                members = between(end, source)
                if self._alone(members, source):
                    break
            else:
                return None
            order = sorted(members, key=self.place.__getitem__)
            depth, products = _layers(order, {one for one in order if one is not ratings and self._product(one)})
            if products:
                return self._read(Mixture(ratings, source, ratings, end, count, *products, depth, routing), order)
        return None

    def _alone(self, members: set[Node], source: Node) -> bool:
        """Whether no other signal comes in."""
        return all(one is source or one in members or not self.is_signal(one) or not self._depends(one)
                   for node in members for one in node.all_input_nodes)  # fmt: skip

    def _depends(self, node: Node) -> bool:
        return not self.look.static(node)

    def _product(self, node: Node) -> bool:
        """A product of a signal with weights, of one expert or of all."""
        if name_of(node) not in (*_RATING, "bmm") and "grouped_mm" not in name_of(node):
            return False
        given = [one for one in arguments(node)[:3] if isinstance(one, Node)]
        given = given[1:] if name_of(node) == "addmm" else given[:2]
        return len(given) == 2 and (held(given[0], self.look) is None) != (held(given[1], self.look) is None)

    def _gathering(self, ratings: Node) -> Iterator[Node]:
        """The operations that everything behind the ratings passes, the first first."""
        behind, waiting, opened = {ratings}, dict[Node, int](), {ratings}
        waiting[ratings] = sum(user in self.live for user in ratings.users)
        start = self.place[ratings] + 1
        for node in self.nodes[start : start + _FURTHER]:
            mine = [one for one in node.all_input_nodes if one in behind]
            if not mine or node not in self.live:
                continue
            for one in mine:
                waiting[one] -= 1
                if not waiting[one]:
                    opened.discard(one)
            behind.add(node)
            waiting[node] = sum(user in self.live for user in node.users)
            if waiting[node]:
                opened.add(node)
            if opened <= {node}:
                yield node

    def _read(self, found: Mixture, order: list[Node]) -> Mixture | None:
        """The shares, and the end of the sum over experts."""
        cuts = set[Node]()
        for node in order:
            mine = [one for one in felt(node) if one in found.routing and self._share(one)]
            if node not in found.routing and mine:
                cuts |= set(mine)
                found.weighing.add(node)
        shares = {self._whole(one, found.routing) for one in cuts}
        if len(shares) != 1:
            return None
        (found.shares,) = shares
        return found

    def _share(self, node: Node) -> bool:
        """Whether a tensor holds numbers that are no rows of a table (biases) at the places of the experts."""
        value: Any = node.meta.get("val")
        if not getattr(value, "is_floating_point", bool)():
            return False
        while computes(node, *table()["layout"]):
            node = arguments(node)[0]
        return not (computes(node, "index", "getitem_index", "embedding") and self.look.static(arguments(node)[0]))

    def _whole(self, node: Node, routing: set[Node]) -> Node:
        """What was put in another order, or cut into its parts."""
        while computes(node, *table()["layout"], *_TAKING) and arguments(node)[0] in routing:
            node = arguments(node)[0]
        return node

    def summed(self, found: Mixture, size: int) -> Node:
        """The first operation behind the sum with `size` numbers: averages over the choices and factors."""
        node = found.root
        while prod(_sizes(node)) != size:
            users = [user for user in node.users if user in self.live]
            if len(users) != 1 or not computes(users[0], *table()["layout"], "mean", "mul", "sum"):
                break
            node = users[0]
        if computes(node, "mean") and len(node.users) == 1:  # a sum is an average and a factor
            (user,) = node.users
            node = user if computes(user, "mul") and self.look.number(arguments(user)[1]) is not None else node
        return node


def held(node: Any, look: Looker) -> Node | None:
    """The tensor that depends on no input whose entries these are, though the ratings may say which; else None."""
    while not look.static(node) and computes(node, *table()["layout"], *_TAKING):
        node = arguments(node)[0]
    return node if look.static(node) else None


def _sizes(node: Any) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else 1 for size in node.meta["val"].shape)


def _layers(order: list[Node], products: set[Node]) -> tuple[dict[Node, int], tuple[list[Node], list[Node]] | None]:
    """How many products stand before each operation, and the products of two layers; None where there are not two."""
    depth: dict[Node, int] = {}
    for node in order:
        before = max((depth.get(one, 0) for one in node.all_input_nodes), default=0)
        depth[node] = before + (node in products)
    layers = [[node for node in order if node in products and depth[node] == level] for level in (1, 2)]
    whole = all(layers) and sum(map(len, layers)) == len(products)
    return depth, (layers[0], layers[1]) if whole else None
