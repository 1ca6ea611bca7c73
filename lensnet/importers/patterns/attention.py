"""Attention written out: softmax of products of queries and keys and whatever is added to them, times values."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from lensnet.importers.operations import argument, arguments, name_of, table
from lensnet.importers.patterns.cluster import Cluster, IsSignal, Looker, computes

_PRODUCTS = ("matmul", "bmm", "baddbmm")
_MOVING = ("slice", "narrow", "gather", "index", "index_select", "pad", "constant_pad_nd", "take_along_dim", "roll")
_UNSEEN = -1e4  # a logit below is that of a hidden key
_CAPPED = 10.0  # logits are of order one: a cap this far up does nothing to them


def attention(root: Node, is_signal: IsSignal, look: Looker) -> Cluster | None:
    """matmul(softmax(matmul(q, k^T)*scale + bias), v). `info`: query, key, value; `factor` on the logits; `biases` as
    (tensor, factor); `hidden` and `seen`, masks; `capped`; `tables`, whose products with a signal are added to the
    logits: relative positions; `sink`: (tensor, factor) of one logit more, whose share is dropped."""
    if computes(root, "scaled_dot_product_attention"):
        return _fused(root, is_signal, look)
    if not computes(root, "matmul", "bmm") or not all(_signal(one, is_signal) for one in arguments(root)[:2]):
        return None
    layout = table()["layout"]
    here, inside = arguments(root)[0], {root}
    dropped = None
    while computes(here, *layout, "dropout") or (dropped is None and (dropped := _dropped(here)) is not None):
        inside.add(here)
        here = arguments(here)[0]
    if not computes(here, "softmax", "_softmax") or argument(here, 1, "dim") not in (-1, here.meta["val"].dim() - 1):
        return None
    inside.add(here)
    logits = _Logits(is_signal, look)
    products = logits.read(arguments(here)[0], inside)
    if products is None or not all(_signal(one, is_signal) for one in products):
        return None
    if dropped != (None if logits.sink is None else logits.sink[2]):
        return None
    info = {"query": products[0], "key": products[1], "value": arguments(root)[1], "factor": logits.factor,
            "biases": logits.biases, "hidden": logits.hidden, "seen": logits.seen, "capped": logits.capped,
            "tables": logits.tables, "sink": logits.sink}  # fmt: skip
    return Cluster("cluster attention", root, inside, products[0], info)


def _dropped(node: Any) -> int | None:
    """The place of the one column that a slice leaves out, 0 or -1."""
    if not computes(node, "slice", "narrow") or not computes(arguments(node)[0], "softmax", "_softmax"):
        return None
    whole, kept = arguments(node)[0].meta["val"].shape, node.meta["val"].shape
    if whole[:-1] != kept[:-1] or whole[-1] != kept[-1] + 1:
        return None
    return 0 if int(argument(node, 2, "start", 0) or 0) else -1


def _fused(root: Node, is_signal: IsSignal, look: Looker) -> Cluster | None:
    """Fused attention whose mask depends on the input."""
    query, key, value = arguments(root)[:3]
    mask, scale = argument(root, 3, "attn_mask"), argument(root, 6, "scale")
    if not _signal(mask, is_signal):
        return None
    inside, logits = {root}, _Logits(is_signal, look)
    found = logits.products(mask, 1.0, inside)
    if found is None:
        return None
    factor = float(query.meta["val"].shape[-1]) ** -0.5 if scale is None else float(scale)
    info = {"query": query, "key": key, "value": value, "factor": factor, "biases": logits.biases, "seen": logits.seen,
            "hidden": logits.hidden, "capped": None, "tables": found, "upright": True}  # fmt: skip
    return Cluster("cluster attention", root, inside, query, info)


def trunk(node: Any, look: Looker, is_signal: IsSignal) -> tuple[Any, float, list[Node]]:
    """Where a tensor comes from, before views, factors and tables that were added; the factor; the way there."""
    factor, way = 1.0, []
    while isinstance(node, Node) and node.op != "placeholder":
        args = arguments(node)
        signals = [one for one in args[:2] if _signal(one, is_signal)]
        if computes(node, *table()["layout"], "dropout"):
            step = args[0]
        elif computes(node, "mul", "div", "add") and len(signals) == 1 and node.kwargs.get("alpha", 1) == 1:
            (step,) = signals
            if not computes(node, "add"):
                number = look.number(args[1] if step is args[0] else args[0])
                if number is None or (computes(node, "div") and step is not args[0]):
                    break
                factor *= number if computes(node, "mul") else 1 / number
        else:
            break
        way.append(node)
        node = step
    return node, factor, way[::-1]


Product = tuple[Any, Any, float, bool]


class _Logits:
    """What happens to a product of queries and keys before the softmax, read from the softmax backwards."""

    def __init__(self, is_signal: IsSignal, look: Looker) -> None:
        self.is_signal, self.look = is_signal, look
        self.factor: float = 1.0
        self.biases: list[tuple[Any, float]] = []
        self.hidden: list[Any] = []
        self.seen: list[Any] = []
        self.capped: float | None = None
        self.tables: list[Product] = []
        self.sink: tuple[Any, float, int] | None = None

    def read(self, here: Any, inside: set[Node]) -> tuple[Any, Any] | None:
        """The two factors of the product; None where something else makes the logits."""
        for _ in range(24):
            if not isinstance(here, Node) or here.op == "placeholder":
                return None
            inside.add(here)
            if computes(here, *_PRODUCTS):
                return self._product(here)
            found = self._before(here, inside)
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

    def products(self, here: Any, factor: float, inside: set[Node]) -> list[Product] | None:
        """(signal, table, factor, whether the table stands behind) of the products of a signal with a table that a
        tensor is the sum of; None where it is made of anything else."""
        passed: set[Node] = set()
        for _ in range(32):
            if not _signal(here, self.is_signal) or here.op == "placeholder":
                return None
            passed.add(here)
            name, args = name_of(here), arguments(here)
            signals = [one for one in args[:2] if _signal(one, self.is_signal)]
            if name in ("matmul", "bmm"):
                if len(signals) != 1:
                    return None
                inside |= passed
                first = signals[0] is args[0]
                return [(signals[0], args[1] if first else args[0], factor, first)]
            if name == "add" and len(signals) == 2:
                parts = [self.products(one, factor, passed) for one in args[:2]]
                if parts[0] is None or parts[1] is None:
                    return None
                inside |= passed
                return parts[0] + parts[1]
            found = self._moved(here, name, args, signals)
            if found is None:
                return None
            here, number = found
            factor *= number
        return None

    def _moved(self, node: Node, name: str, args: Any, signals: list[Any]) -> tuple[Any, float] | None:
        """What stands before an operation that moves, scales or masks products with a table, and the factor."""
        if name in table()["layout"] or name in _MOVING:
            return args[0], 1.0
        if name in ("cat", "concat"):
            signals = [one for one in args[0] if _signal(one, self.is_signal)]
            return (signals[0], 1.0) if len(signals) == 1 else None
        if name in ("mul", "div") and len(signals) == 1 and not (name == "div" and args[1] is signals[0]):
            number = self.look.number(args[1] if args[0] is signals[0] else args[0])
            return None if number is None else (signals[0], number if name == "mul" else 1 / number)
        if name == "add" and len(signals) == 1:
            return signals[0], 1.0
        if name == "where" and not _signal(args[2], self.is_signal):
            self.seen.append(args[0])
            return args[1], 1.0
        if name == "masked_fill":
            self.hidden.append(args[1])
            return args[0], 1.0
        return None

    def _before(self, node: Node, inside: set[Node]) -> Any:
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
                return self._beside(args, inside)
            self.biases.append((args[signals[0]], self.factor))
            return args[not signals[0]]
        if name == "masked_fill":
            self.hidden.append(args[1])
            return args[0]
        if name == "where" and not _signal(args[2], self.is_signal):
            self.seen.append(args[0])
            return args[1]
        if name in ("max", "maximum", "clamp", "clamp_min") and self._floor(args) is not None:
            return args[0]
        if name == "sub" and (shift := _largest_of(args[0], args[1])):
            inside |= shift  # what all keys of a query have in common changes nothing
            return args[0]
        if name in ("cat", "concat"):
            return self._beside_keys(node)
        if name == "tanh" and abs(self.factor) >= _CAPPED:
            self.capped = self.factor
            return args[0]
        return None

    def _beside_keys(self, node: Node) -> Any:
        """Of logits and one number more for every query, the logits."""
        parts, rank = list(arguments(node)[0]), node.meta["val"].dim()
        signals = [one for one in parts if _signal(one, self.is_signal)]
        if len(parts) != 2 or len(signals) != 1 or int(argument(node, 1, "dim", 0)) % rank != rank - 1 or self.sink:
            return None
        first = parts[0] is not signals[0]
        other = parts[not first]
        if other.meta["val"].shape[-1] != 1 or not self.look.static(other):
            return None
        self.sink = other, self.factor, 0 if first else -1
        return signals[0]

    def _floor(self, args: Any) -> float | None:
        """A bound from below that no logit comes near."""
        number = self.look.number(args[1]) if len(args) > 1 else None
        return number if number is not None and number < _UNSEEN and args[2:] in ((), (None,)) else None

    def _beside(self, args: Any, inside: set[Node]) -> Any:
        """Of two signals that are added, the one that is more than products with tables."""
        for one, other in (args[:2], args[1::-1]):
            found = self.products(other, self.factor, inside)
            if found is not None:
                self.tables += found
                return one
        return None


def _largest_of(logits: Any, node: Any) -> set[Node]:
    """The operations that find the largest of these logits over the keys; none where a tensor is something else."""
    passed: set[Node] = set()
    while computes(node, *table()["layout"], "getitem"):
        passed.add(node)
        node = arguments(node)[0]
    found = computes(node, "amax", "max", "logsumexp") and arguments(node)[0] is logits
    return {*passed, node} if found else set()


def _signal(value: Any, is_signal: IsSignal) -> bool:
    return isinstance(value, Node) and is_signal(value)
