"""The value of what does not depend on the input: masks, tables, folded parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from lensnet.importers.capture import Captured
from lensnet.importers.operations import felt

_MOST = 1 << 26  # numbers in one tensor


class Evaluator:
    """Evaluates nodes from parameters (`weights` in their place), constants and the example's whole numbers, each once;
    gives CPU tensors."""

    def __init__(self, captured: Captured, weights: Mapping[str, Tensor] | None = None) -> None:
        self.captured, self.weights = captured, weights or {}
        self.known: dict[Node, Any] = {}

    def __call__(self, node: Any) -> Tensor | None:
        """The tensor, or None where it has no value here (meta device, too large, or anything goes wrong)."""
        if not isinstance(node, Node):
            return torch.as_tensor(node) if isinstance(node, int | float) else None
        value = node.meta.get("val")
        if torch.is_tensor(value) and value.numel() > _MOST:
            return None
        try:
            with torch.no_grad():
                found = self._of(node)
        except Exception:  # an operation of the user's model on values that it never saw
            return None
        return found.cpu() if torch.is_tensor(found) and not found.is_meta else None

    def _of(self, node: Node) -> Any:
        if node in self.known:
            return self.known[node]
        order: list[Node] = []
        todo = [node]
        seen: set[Node] = set()
        while todo:
            here = todo.pop()
            if here in seen or here in self.known:
                continue
            seen.add(here)
            order.append(here)
            todo += felt(here) if here.op != "placeholder" else []
        position = {one: place for place, one in enumerate(node.graph.nodes)}
        for here in sorted(order, key=position.__getitem__):
            self.known[here] = self._one(here)
        return self.known[node]

    def _one(self, node: Node) -> Any:
        if node.op == "placeholder":
            owned = self.captured.owned.get(node.name)
            if owned is not None:
                value: Any = self.weights.get(owned, self.captured.parameters[owned]).detach()
                if value.is_meta:
                    raise ValueError("no values on the meta device")
                return value
            if node.name in self.captured.constants:
                return self.captured.constants[node.name]
            value = self.captured.inputs.get(node.name)
            if torch.is_tensor(value) and value.is_floating_point():
                raise ValueError("depends on the input")
            return torch.ones(value.shape, dtype=value.dtype) if torch.is_tensor(value) and value.is_meta else value
        args, kwargs = torch.fx.node.map_arg((node.args, dict(node.kwargs)), self._known)
        args, kwargs = torch.utils._pytree.tree_map(_on_cpu, (args, kwargs))
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _known(self, node: Node) -> Any:
        """A value, or for what gives only its shape, any numbers of that shape."""
        if node in self.known:
            return self.known[node]
        value = node.meta["val"]
        return torch.zeros([int(size) for size in value.shape], dtype=value.dtype)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type == "meta":
        return torch.device("cpu")
    return value
