"""The table of ATen operations as data, and how an operation of a graph is named."""

from __future__ import annotations

import operator
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from torch.fx import Node


@cache
def table() -> dict[str, Any]:
    """`pointwise`: name -> component or {function}; `layout`, `ignored`: sets of names."""
    data = yaml.safe_load((files("lensnet.importers") / "operations.yaml").read_text(encoding="utf-8"))
    return {
        "pointwise": data["pointwise"],
        "layout": frozenset(data["layout"]),
        "static": frozenset(data["static"]),
        "shaped_like": frozenset(data["shaped_like"]),
        "ignored": frozenset(data["ignored"]),
    }


def name_of(node: Node) -> str:
    """The operation's name: overload and a trailing underscore left out (`aten.relu_.default` is `relu`)."""
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    target = node.target
    if target is operator.getitem:
        return "getitem"
    name = str(getattr(target, "_opname", "") or getattr(target, "__name__", str(target)))
    if name.startswith("__") and name.endswith("__"):
        return _DUNDER.get(name, name)
    name = name.rstrip("_") if not name.startswith("__") else name
    return _ALIASES.get(name, name)


_ALIASES = {
    "multiply": "mul", "divide": "div", "true_divide": "div", "subtract": "sub", "concatenate": "cat", "concat": "cat",
    "negative": "neg", "absolute": "abs", "special_expit": "sigmoid", "special_erf": "erf",
}  # fmt: skip
_DUNDER = {
    "__add__": "add", "__radd__": "add", "__iadd__": "add", "__sub__": "sub", "__rsub__": "rsub", "__mul__": "mul",
    "__rmul__": "mul", "__imul__": "mul", "__truediv__": "div", "__itruediv__": "div", "__matmul__": "matmul",
    "__pow__": "pow", "__neg__": "neg", "__getitem__": "getitem_index", "__and__": "and", "__or__": "or",
}  # fmt: skip


def felt(node: Node) -> list[Node]:
    """The inputs of an operation whose numbers enter its value, not only their shapes or types."""
    name = name_of(node)
    if name in table()["static"]:
        return [one for one in node.all_input_nodes if one not in node.args[:1]]
    return node.all_input_nodes[:1] if name in table()["shaped_like"] else node.all_input_nodes


def arguments(node: Node) -> tuple[Any, ...]:
    """The arguments of an operation by place."""
    return node.args


def argument(node: Node, place: int, name: str, default: Any = None) -> Any:
    """An argument by place or by name."""
    if len(node.args) > place:
        return node.args[place]
    return node.kwargs.get(name, default)


def axes_of(node: Node, place: int) -> list[int]:
    """The axes that a reduction runs over, of its argument `dim`; none where it runs over all. An exported graph has a
    list, a traced one what the user wrote."""
    axes = argument(node, place, "dim")
    return [axes] if isinstance(axes, int) else list(axes or [])
