"""The last route: run the model once and write down every torch function that it calls.

What is written down holds for that run. Names are those of Python functions (`linear`, `__add__`,
`multi_head_attention`), which the table of operations knows as well; modules are known by hooks that are removed
afterwards.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.overrides import TorchFunctionMode

_READS = ("size", "dim", "stride", "is_floating_point", "numel", "__len__", "item", "__bool__", "__format__",
          "__repr__", "is_complex", "tolist", "__hash__", "storage_offset", "data_ptr", "get_device", "__int__",
          "__index__", "__float__", "is_contiguous", "has_names", "requires_grad_", "_is_view")  # fmt: skip


_PROPERTIES = {
    "T": torch.ops.aten.numpy_T.default, "mT": torch.ops.aten.mT.default, "H": torch.ops.aten.adjoint.default,
    "mH": torch.ops.aten.adjoint.default, "data": torch.ops.aten.alias.default,
}  # fmt: skip


class TraceStopped(Exception):
    """The model itself raised; the message says what and behind which module."""


class _Tracer(TorchFunctionMode):
    """Builds the graph while the model runs. Tensors are known by identity and kept alive meanwhile."""

    def __init__(self, graph: Graph, known: dict[int, Node], stack: list[tuple[str, str, int]]) -> None:
        super().__init__()
        self.graph, self.known, self.stack = graph, known, stack
        self.alive: list[Any] = []
        self.constants: dict[str, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        tensors = [one for one in torch.utils._pytree.tree_leaves(out) if torch.is_tensor(one)]
        if name == "__setitem__" and torch.is_tensor(args[0]):
            self._written(args)
        elif tensors and name == "__get__":  # x.T, and the like
            operation = _PROPERTIES.get(getattr(getattr(func, "__self__", None), "__name__", ""))
            if operation is not None:
                self._record(operation, args, kwargs, out)
        elif tensors and name not in _READS:
            self._record(func, args, kwargs, out)
        return out

    def _record(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        given, named = torch.utils._pytree.tree_map(self._node, (args, kwargs))
        func = torch.ops.aten.copy_.default if getattr(func, "__name__", "") == "copy_" else func  # of a part: a write
        made = self.graph.call_function(func, tuple(given), dict(named))
        self._describe(made, out)
        if torch.is_tensor(out):
            self.known[id(out)] = made
        else:
            for place, one in enumerate(out if isinstance(out, tuple | list) else ()):
                if torch.is_tensor(one):
                    part = self.graph.call_function(operator.getitem, (made, place))
                    self._describe(part, one)
                    self.known[id(one)] = part
        self.alive.append(out)

    def _written(self, args: Any) -> None:
        """x[i] = y changes x; it becomes an operation whose value is x from here on."""
        given = torch.utils._pytree.tree_map(self._node, args)
        made = self.graph.call_function(_set_item, tuple(given))
        self._describe(made, args[0])
        self.known[id(args[0])] = made
        self.alive.append(args)

    def _describe(self, node: Node, value: Any) -> None:
        node.meta["val"] = _shape_only(value)
        node.meta["nn_module_stack"] = {
            f"{path}@{call}" if call else path: (path, kind) for path, kind, call in self.stack
        }

    def _node(self, value: Any) -> Any:
        packed = isinstance(value, torch.ScriptObject)  # the weights of a quantised module
        if not torch.is_tensor(value) and not packed:
            return value
        if id(value) not in self.known:
            name = f"constant_{len(self.constants)}"
            with self.graph.inserting_before(next(iter(self.graph.nodes))):
                node = self.graph.placeholder(name)
            node.meta["val"] = None if packed else _shape_only(value)
            self.constants[node.name] = value if packed else value.detach()
            self.known[id(value)] = node
            self.alive.append(value)
        return self.known[id(value)]


def _set_item(target: Tensor, key: Any, value: Any) -> Tensor:
    out = target.clone()
    out[key] = value
    return out


def _shape_only(value: Any) -> Any:
    if torch.is_tensor(value):
        return torch.empty(value.shape, dtype=value.dtype, device="meta")
    if isinstance(value, tuple | list):
        return [_shape_only(one) for one in value]
    return value


@contextmanager
def _watched(model: nn.Module, stack: list[tuple[str, str, int]]) -> Iterator[None]:
    """The stack of modules that are running, by hooks that are taken off again."""
    calls: dict[str, int] = {}
    handles = []

    def enter(path: str, kind: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            stack.append((path, kind, calls.get(path, 0)))
            calls[path] = calls.get(path, 0) + 1

        return hook

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        stack.pop()

    for path, module in model.named_modules():
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        handles.append(module.register_forward_pre_hook(enter(path, kind), with_kwargs=True))
        handles.append(module.register_forward_hook(leave, with_kwargs=True, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def trace(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Graph, dict[str, str], dict[str, Tensor], dict[str, Any]]:
    """(graph, placeholder -> name of its parameter, placeholder -> constant, placeholder -> example input)."""
    graph, known, stack = Graph(), {}, []  # type: ignore[var-annotated]
    owned: dict[str, str] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        node = graph.placeholder(f"owned_{len(owned)}")
        node.meta["val"] = _shape_only(tensor)
        owned[node.name] = name
        known[id(tensor)] = node
    inputs: dict[str, Any] = {}
    for place, value in enumerate(torch.utils._pytree.tree_leaves((args, kwargs))):
        if torch.is_tensor(value):
            node = graph.placeholder(f"input_{place}")
            node.meta["val"] = _shape_only(value)
            inputs[node.name] = value
            known[id(value)] = node
    tracer = _Tracer(graph, known, stack)
    try:
        with _watched(model, stack), tracer:
            result = model(*args, **kwargs)
    except Exception as error:  # whatever the model raises
        done = [path for node in graph.nodes for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
        after = f", after {done[-1]}" if done and done[-1] else ""
        raise TraceStopped(f"the model raises {type(error).__name__}: {error}{after}") from error
    leaves = [one for one in torch.utils._pytree.tree_leaves(_plain(result)) if torch.is_tensor(one)]
    graph.output(tuple(known[id(one)] for one in leaves if id(one) in known))
    return graph, owned, tracer.constants, inputs


def _plain(result: Any, depth: int = 0) -> Any:
    """What is returned, in containers that torch looks into: outputs of Hugging Face models, dataclasses, objects."""
    if depth > 8 or torch.is_tensor(result):
        return result
    if isinstance(result, dict):
        return {key: _plain(value, depth + 1) for key, value in result.items()}
    if isinstance(result, tuple | list):
        return [_plain(value, depth + 1) for value in result]
    if hasattr(result, "__dataclass_fields__"):
        return [_plain(getattr(result, name), depth + 1) for name in result.__dataclass_fields__]
    return result
