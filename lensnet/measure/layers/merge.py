"""Where signals part and meet: forks, sums, products, concatenations, and plain scaling."""

from __future__ import annotations

from functools import reduce
from operator import mul

import torch
from torch import Tensor, nn

from lensnet.measure.layers.registry import implementation, parameter
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
    """The channels of the inputs one after another."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *xs: Tensor) -> Tensor:
        return torch.cat(xs, dim=self.axis)


@implementation("concat")
def concat(node: Node) -> Concatenation:
    return Concatenation(node.shape.channel_axis)


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
