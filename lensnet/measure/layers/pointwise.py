"""Pointwise components: a function of one number, applied to every element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.catalog.functions import bound_function
from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import implementation, parameter
from lensnet.network.graph import Node

Pointwise = Callable[[Tensor], Tensor]


def _number(parameters: Mapping[str, Any], name: str, default: float) -> float:
    value = parameters.get(name)
    return default if value is None else float(value)


# Fused kernels of torch for well-known names. They are used only where they equal the component's own function.
FUSED: dict[str, Callable[[Mapping[str, Any]], Pointwise]] = {
    "identity": lambda p: lambda x: x.view_as(x),
    "relu": lambda p: F.relu,
    "leaky_relu": lambda p: lambda x: F.leaky_relu(x, _number(p, "slope", 0.01)),
    "abs": lambda p: torch.abs,
    "erf": lambda p: torch.erf,
    "gelu": lambda p: F.gelu,
    "gelu_tanh": lambda p: lambda x: F.gelu(x, approximate="tanh"),
    "silu": lambda p: F.silu,
    "tanh": lambda p: torch.tanh,
    "sigmoid": lambda p: torch.sigmoid,
    "softplus": lambda p: lambda x: F.softplus(x, _number(p, "beta", 1.0)),
    "hardtanh": lambda p: lambda x: F.hardtanh(x, _number(p, "low", -1.0), _number(p, "high", 1.0)),
    "hardswish": lambda p: F.hardswish,
    "elu": lambda p: lambda x: F.elu(x, _number(p, "alpha", 1.0)),
    "selu": lambda p: F.selu,
    "mish": lambda p: F.mish,
    "sin": lambda p: torch.sin,
    "cos": lambda p: torch.cos,
    "square": lambda p: torch.square,
    "sign": lambda p: torch.sign,
}


class Elementwise(nn.Module):
    """Applies one torch callable to every element."""

    def __init__(self, function: Pointwise, name: str) -> None:
        super().__init__()
        self.function = function
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return self.name


@implementation("pointwise")
def pointwise(node: Node) -> Elementwise:
    """The component's own function, or torch's fused kernel where it is the same function."""
    own = _own_function(node)
    fused = FUSED.get(node.component.name)
    if fused is not None:
        candidate = fused(node.parameters)
        if own is None or _same(own, candidate):
            return Elementwise(candidate, node.component.name)
    if own is None:
        raise ImplementationError(f"{node.path}: the component {node.component.name!r} states no function")
    return Elementwise(own, node.component.name)


for _name in FUSED.keys() - {"identity"}:  # where there is no function, an identity is a merge of one
    implementation(_name)(pointwise)


def _own_function(node: Node) -> Pointwise | None:
    """The torch callable of the component's function with this node's parameters."""
    function = node.component.function
    if function is None or callable(function):
        return function
    return bound_function(node.component, node.parameters).torch


def _same(one: Pointwise, other: Pointwise) -> bool:
    """Equal to 1e-6 (relative to 1 + |value|) on a grid that holds zero and both signs."""
    x = torch.linspace(-6.0, 6.0, 121, dtype=torch.float64)
    a, b = one(x), other(x)
    return bool(torch.all(torch.abs(a - b) <= 1e-6 * (1.0 + torch.abs(b))))


class ParametricReLU(nn.Module):
    """max(x, 0) + slope * min(x, 0), with one slope for all channels."""

    slope: Tensor

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.register_parameter("slope", nn.Parameter(torch.tensor([slope])))

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.slope)


@implementation("prelu")
def prelu(node: Node) -> ParametricReLU:
    return ParametricReLU(float(parameter(node, "slope", 0.25)))
