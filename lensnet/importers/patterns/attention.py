"""Attention written out: softmax of products of queries and keys and whatever is added to them, times values."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from lensnet.importers.operations import argument, arguments, name_of, table
from lensnet.importers.patterns.cluster import Cluster, IsSignal, Looker, computes

_PRODUCTS = ("matmul", "bmm", "baddbmm")
_CAPPED = 10.0  # logits are of order one: a cap this far up does nothing to them


def attention(root: Node, is_signal: IsSignal, look: Looker) -> Cluster | None:
    """matmul(softmax(matmul(q, k^T)*scale + bias), v). `info`: query, key, value; `factor` on the logits; `biases` as
    (tensor, factor); `hidden` and `seen`, masks; `capped`."""
    if not computes(root, "matmul", "bmm") or not all(_signal(one, is_signal) for one in arguments(root)[:2]):
        return None
    layout = table()["layout"]
    here, inside = arguments(root)[0], {root}
    while computes(here, *layout, "dropout"):
        inside.add(here)
        here = arguments(here)[0]
    if not computes(here, "softmax", "_softmax") or argument(here, 1, "dim") not in (-1, here.meta["val"].dim() - 1):
        return None
    inside.add(here)
    logits = _Logits(is_signal, look)
    products = logits.read(arguments(here)[0], inside)
    if products is None or not all(_signal(one, is_signal) for one in products):
        return None
    info = {"query": products[0], "key": products[1], "value": arguments(root)[1], "factor": logits.factor,
            "biases": logits.biases, "hidden": logits.hidden, "seen": logits.seen, "capped": logits.capped}  # fmt: skip
    return Cluster("cluster attention", root, inside, products[0], info)


class _Logits:
    """What happens to a product of queries and keys before the softmax, read from the softmax backwards."""

    def __init__(self, is_signal: IsSignal, look: Looker) -> None:
        self.is_signal, self.look = is_signal, look
        self.factor: float = 1.0
        self.biases: list[tuple[Any, float]] = []
        self.hidden: list[Any] = []
        self.seen: list[Any] = []
        self.capped: float | None = None

    def read(self, here: Any, inside: set[Node]) -> tuple[Any, Any] | None:
        """The two factors of the product; None where something else makes the logits."""
        for _ in range(24):
            if not isinstance(here, Node) or here.op == "placeholder":
                return None
            inside.add(here)
            if computes(here, *_PRODUCTS):
                return self._product(here)
            found = self._before(here)
            if found is None:
                return None
            here = found
        return None

    def _product(self, node: Node) -> tuple[Any, Any] | None:
        if name_of(node) != "baddbmm":
            return arguments(node)[0], arguments(node)[1]
        added = arguments(node)[0]
        beta, alpha = (self.look.number(node.kwargs.get(name, 1)) or 0.0 for name in ("beta", "alpha"))
        if _signal(added, self.is_signal):
            return None
        self.biases.append((added, self.factor * beta))
        self.factor *= alpha
        return arguments(node)[1], arguments(node)[2]

    def _before(self, node: Node) -> Any:
        name, args = name_of(node), arguments(node)
        if name in table()["layout"]:
            return args[0]
        if name in ("mul", "div"):
            left, right = (args[0], args[1]) if _signal(args[0], self.is_signal) else (args[1], args[0])
            number = self.look.scale(right)
            if number is None or _signal(right, self.is_signal) or (name == "div" and right is args[0]):
                return None
            self.factor *= number if name == "mul" else 1 / number
            return left
        if name == "add" and node.kwargs.get("alpha", 1) == 1:
            signals = [_signal(one, self.is_signal) for one in args[:2]]
            if all(signals):
                return None
            self.biases.append((args[signals[0]], self.factor))
            return args[not signals[0]]
        if name == "masked_fill":
            self.hidden.append(args[1])
            return args[0]
        if name == "where" and not _signal(args[2], self.is_signal):
            self.seen.append(args[0])
            return args[1]
        if name == "tanh" and abs(self.factor) >= _CAPPED:
            self.capped = self.factor
            return args[0]
        return None


def _signal(value: Any, is_signal: IsSignal) -> bool:
    return isinstance(value, Node) and is_signal(value)
