"""Weights that have learned nothing: the given numbers in random order and of random sign.

A tensor whose entries are independent, alike and symmetric is as likely in any order and with any signs; so what a
fresh tensor does, its shuffled copies do (a permutation test, whatever the law of the entries). A trained tensor does
more, and its excess over the copies is what was learned. Gains and biases are permuted along their channels, together
where they belong to one module; gains keep their signs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from lensnet.importers.laws import TensorLaw
from lensnet.measure.draw import generator

_MOST = 1 << 22  # entries that are permuted one by one; of more, a normal law says the same


def shuffle(tensor: Tensor, source: torch.Generator) -> Tensor:
    """Its entries in random order and of random sign; of very many, as many normal numbers of the same mean square."""
    count = tensor.numel()
    if count > _MOST:
        scale = float(tensor.detach().double().square().mean().sqrt())
        return (torch.randn(count, generator=source) * scale).to(tensor).reshape(tensor.shape)
    order = torch.randperm(count, generator=source).to(tensor.device)
    signs = torch.randint(2, (count,), generator=source).to(tensor) * 2 - 1
    return (tensor.detach().reshape(-1)[order] * signs).reshape(tensor.shape)


def shuffled(parameters: Mapping[str, Tensor], laws: Mapping[str, TensorLaw], seed: int) -> dict[str, Tensor]:
    """Every parameter shuffled, by name; buffers are none, and a tensor of several names is shuffled once."""
    out: dict[str, Tensor] = {}
    made: dict[int, Tensor] = {}
    for name, tensor in parameters.items():
        if not isinstance(tensor, torch.nn.Parameter) or not tensor.is_floating_point():
            continue
        if id(tensor) not in made:
            if sum(size > 1 for size in tensor.shape) > 1:
                made[id(tensor)] = shuffle(tensor, generator(seed, name, "shuffled"))
            else:
                made[id(tensor)] = _permuted(tensor, name, laws[name].mean == 0, seed)
        out[name] = made[id(tensor)]
    return out


def _permuted(tensor: Tensor, name: str, centred: bool, seed: int) -> Tensor:
    """Gains and biases in random order, the same for those of one module; `centred`: of random sign, as biases."""
    source = generator(seed, f"{name.rpartition('.')[0]} {tensor.numel()}", "permuted")
    order = torch.randperm(tensor.numel(), generator=source).to(tensor.device)
    out = tensor.detach().reshape(-1)[order]
    if centred:
        out = out * (torch.randint(2, out.shape, generator=source).to(out) * 2 - 1)
    return out.reshape(tensor.shape)


class Shadow:
    """What every component alone would give with shuffled weights, beside an interpreter that runs the given ones.

    A value has a shadow where it is made of weights alone, or inside a component between its ports and its output.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], owned: Mapping[str, str], members: Mapping[Node, set[str]],
        outputs: Mapping[Node, set[str]],
    ) -> None:  # fmt: skip
        """weights: by name of the parameter; owned: placeholder -> that name. members: operation -> the components it
        is part of; outputs: operation -> the components whose output it gives."""
        self.weights, self.owned, self.members, self.outputs = weights, owned, members, outputs
        self.values: dict[Node, Any] = {}

    def of(self, node: Node, known: Mapping[Node, Any]) -> Any:
        """The shadow of a node that was just run, None where it has none. `known`: the values so far."""
        if node.op == "placeholder":
            made: Any = self.weights.get(self.owned.get(node.name, ""))
        elif node.op in ("call_function", "call_method") and any(one in self.values for one in node.all_input_nodes):
            made = self._run(node, known)
        else:
            return None
        if made is not None and not self._ends(node):
            self.values[node] = made
        return made

    def _ends(self, node: Node) -> bool:
        """Whether behind a node the given weights go on: at an output, and outside of every component."""
        for path in self.outputs.get(node, ()):
            for one in [one for one in self.values if self.members.get(one) == {path}]:
                del self.values[one]
        return node in self.outputs or (node.op != "placeholder" and not self.members.get(node))

    def _run(self, node: Node, known: Mapping[Node, Any]) -> Any:
        def value(one: Node) -> Any:
            return self.values[one] if one in self.values else known[one]

        args, kwargs = torch.fx.node.map_arg((node.args, dict(node.kwargs)), value)
        try:
            with torch.no_grad():
                if node.op == "call_method":
                    return getattr(args[0], str(node.target))(*args[1:], **kwargs)
                assert callable(node.target)
                return node.target(*args, **kwargs)
        except (RuntimeError, ValueError, IndexError, TypeError):  # such weights fit the model no longer
            return None
