"""Where signals part and meet: forks, sums, products, concatenations, and plain scaling."""

from __future__ import annotations

from functools import reduce
from operator import mul

import torch
from torch import Tensor, nn

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import RandomLayer, implementation, parameter
from lensnet.network.graph import Node


class Identity(nn.Module):
    """The signal itself. As a fork it has several consumers, and its gradient is the sum over them."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view_as(x)


@implementation("identity", "fork")
def identity(node: Node) -> Identity:
    return Identity()


class WeightedSum(nn.Module):
    """The sum of the inputs, each times its own constant."""

    def __init__(self, scales: tuple[float, ...]) -> None:
        super().__init__()
        self.scales = scales

    def forward(self, *xs: Tensor) -> Tensor:
        return reduce(torch.add, (x if scale == 1.0 else x * scale for x, scale in zip(xs, self.scales, strict=True)))


@implementation("residual")
def residual(node: Node) -> WeightedSum:
    """skip_scale * skip + branch_scale * branch, by the names of the ports."""
    return WeightedSum(tuple(float(parameter(node, f"{port}_scale", 1.0)) for port in node.ports))


@implementation("sum")
def total(node: Node) -> WeightedSum:
    return WeightedSum((1.0,) * len(node.inputs))


@implementation("scale")
def scale(node: Node) -> WeightedSum:
    return WeightedSum((float(parameter(node, "factor", 1.0)),))


class Product(nn.Module):
    """The elementwise product of the inputs."""

    def forward(self, *xs: Tensor) -> Tensor:
        return reduce(mul, xs)


@implementation("multiply")
def multiply(node: Node) -> Product:
    return Product()


class Concatenation(nn.Module):
    """The channels of the inputs one after another; in turn, where each is cut into parts."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.axis = node.shape.channel_axis
        self.parts = int(parameter(node, "parts", 1))
        if any(shape.channels % self.parts for shape in node.shapes_in):
            raise ImplementationError(f"{node.path}: {self.parts} parts do not divide the channels of every input")

    def forward(self, *xs: Tensor) -> Tensor:
        cut = [x.unflatten(self.axis, (self.parts, -1)) for x in xs]
        return torch.cat(cut, dim=self.axis + 1).flatten(self.axis, self.axis + 1)


@implementation("concat")
def concat(node: Node) -> Concatenation:
    return Concatenation(node)


class Gate(nn.Module):
    """x times one factor per channel, (N, C), the same at all positions."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        rows = x.movedim(self.axis, -1)
        factor = gate.flatten(1)
        return (rows * factor.reshape(len(x), *[1] * (rows.dim() - 2), -1)).movedim(-1, self.axis)


@implementation("gate")
def gate(node: Node) -> Gate:
    return Gate(node.shapes_in[0].channel_axis)


class PositionGate(nn.Module):
    """x times one factor per position, the same for all channels; (N, 1, *positions) or (N, T, 1)."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x * gate.narrow(self.axis, 0, 1)


@implementation("position_gate")
def position_gate(node: Node) -> PositionGate:
    return PositionGate(node.shapes_in[0].channel_axis)


class Maximum(nn.Module):
    """The larger of two inputs, element by element."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.maximum(left, right)


@implementation("maximum")
def maximum(node: Node) -> Maximum:
    return Maximum()


class ElementwiseGain(RandomLayer):
    """The input times a table that is the same for every example."""

    weight: Tensor

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shape.tensor_shape(1)[1:]
        if parameter(node, "along", "everywhere") == "channels":
            shape = tuple(n if axis == node.shape.channel_axis else 1 for axis, n in enumerate(shape, 1))
        self.add_weight("weight", node.weights["weight"], shape, shape)

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.weight if self.bias is None else self.weight + self.bias)


@implementation("elementwise_gain")
def elementwise_gain(node: Node) -> ElementwiseGain:
    return ElementwiseGain(node)
