"""Components that a user makes of parts: random mixing, and expressions over tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import RandomLayer, implementation, parameter
from lensnet.network.graph import Node
from lensnet.network.shape import Shape


class Mix(RandomLayer):
    """Independent random weights over channels, over positions (the same for every channel), or over both at once.

    The positions are taken as one row-by-row list, and their number stays the same.
    """

    def __init__(self, node: Node, over: str) -> None:
        super().__init__()
        self.over = over
        self.given, self.made = node.shapes_in[0], node.shape
        outputs, inputs = self.made.channels, self.given.channels
        places = self.given.position_count
        if over == "positions":
            if outputs != inputs:
                raise ImplementationError(f"{node.path}: mixing over positions keeps the {inputs} channels")
            shape, bias = (places, places), (places,)
        elif over == "channels":
            shape, bias = (outputs, inputs), (outputs,)
        elif over == "both":
            shape, bias = (places * outputs, places * inputs), (places * outputs,)
        else:
            raise ImplementationError(f"{node.path}: over is channels, positions or both, not {over!r}")
        self.add_weight("weight", node.weights["weight"], shape, bias)

    def forward(self, x: Tensor) -> Tensor:
        examples, places = x.shape[0], self.given.position_count
        channels_axis = self.given.channel_axis
        rows = x.movedim(channels_axis, -1).reshape(examples, places, self.given.channels)
        if self.over == "channels":
            rows = F.linear(rows, self.weight, self.bias)
        elif self.over == "positions":
            rows = F.linear(rows.transpose(1, 2), self.weight, self.bias).transpose(1, 2)
        else:
            rows = F.linear(rows.flatten(1), self.weight, self.bias)
        rows = rows.reshape(examples, *self.made.positions, self.made.channels)
        return rows.movedim(-1, self.made.channel_axis)


@implementation("mix")
def mix(node: Node) -> Mix:
    return Mix(node, str(parameter(node, "over", "channels")))


def tensor_operators(shape: Shape) -> Mapping[str, Callable[..., Tensor]]:
    """The operators of a `forward:` expression on tensors of one shape; what they average over keeps its axis.

    position_mean, channel_mean, example_mean: averages over the positions, the channels, the examples of the batch.
    shift(x, n): y[t] = x[t - n] along the first position axis (tokens, rows of an image), going round at the end.
    """
    channels = shape.channel_axis
    axes = len(shape.positions)
    positions = tuple(axis for axis in range(1, axes + 2) if axis != channels)

    def shift(x: Tensor, steps: Any) -> Tensor:
        return torch.roll(x, int(steps), dims=positions[0])

    return {
        "position_mean": lambda x: x.mean(positions, keepdim=True) if positions else x,
        "channel_mean": lambda x: x.mean(channels, keepdim=True),
        "example_mean": lambda x: x.mean(0, keepdim=True),
        "shift": shift,
    }


class Expression(nn.Module):
    """A component's `forward:` expression, elementwise in its ports except where an operator mixes."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        from lensnet.algebra.tape import compile_tape
        from lensnet.language.formula import expression_of
        from lensnet.language.symbols import TENSOR_OPERATORS, forward_symbols

        component = node.component
        if component.forward is None:
            raise ImplementationError(f"{node.path}: the component {component.name!r} has no forward expression")
        expression = expression_of(component.forward, forward_symbols(component.spec), TENSOR_OPERATORS)
        self.tape = compile_tape(expression)
        self.ports = node.ports
        self.numbers: dict[str, float] = {}
        for name, declared in component.parameters.items():
            value = node.parameters.get(name)
            if isinstance(value, int | float):
                self.numbers |= dict.fromkeys(filter(None, (name, declared.symbol)), float(value))
        self.operators = tensor_operators(node.shapes_in[0])
        self.made = node.shape

    def forward(self, *xs: Tensor) -> Tensor:
        values = self.numbers | dict(zip(self.ports, xs, strict=True))
        y = self.tape.torch(values, self.operators)
        # An expression that averages everything away still fills the shape that its component declares.
        return y.to(xs[0]).expand(self.made.tensor_shape(xs[0].shape[0]))


@implementation("forward")
def forward(node: Node) -> Expression:
    return Expression(node)
