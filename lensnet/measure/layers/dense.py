"""Dense layer: one weight matrix over the channels, shared by all positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lensnet.measure.layers.registry import RandomLayer, implementation
from lensnet.network.graph import Node


class Linear(RandomLayer):
    """y = W x + b over the channels of any layout; W has shape (out, in)."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shapes_in[0]
        self.axes = len(shape.positions)
        outputs = node.shape.channels
        self.add_weight("weight", node.weights["weight"], (outputs, shape.channels), (outputs,))

    def forward(self, x: Tensor) -> Tensor:
        if self.axes > 2:
            return F.linear(x.movedim(1, -1), self.weight, self.bias).movedim(-1, 1)
        if self.axes == 2:
            return F.conv2d(x, self.weight[:, :, None, None], self.bias)
        return F.linear(x, self.weight, self.bias)


@implementation("linear")
def linear(node: Node) -> Linear:
    return Linear(node)


class Bilinear(RandomLayer):
    """y_u = a^T W_u b + bias over the channels of two inputs of any layout."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.axis = node.shape.channel_axis
        left, right = (shape.channels for shape in node.shapes_in)
        self.add_weight("weight", node.weights["weight"], (node.shape.channels, left, right), (node.shape.channels,))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        left, right = (one.movedim(self.axis, -1).contiguous() for one in (left, right))
        return F.bilinear(left, right, self.weight, self.bias).movedim(-1, self.axis)


@implementation("bilinear")
def bilinear(node: Node) -> Bilinear:
    return Bilinear(node)


class HeadLinear(RandomLayer):
    """y = W x + b for every head of the channels, with one matrix or one for each."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.axis, self.heads = node.shape.channel_axis, int(node.parameters["heads"])
        width, units = node.shapes_in[0].channels // self.heads, node.shape.channels // self.heads
        count = 1 if node.parameters["tied"] else self.heads
        self.add_weight("weight", node.weights["weight"], (count, units, width), (count, units), output_axis=1)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.movedim(self.axis, -1).unflatten(-1, (self.heads, -1))
        out = torch.einsum("...hc,huc->...hu", rows, self.weight.expand(self.heads, -1, -1))
        return (out if self.bias is None else out + self.bias).flatten(-2).movedim(-1, self.axis)


@implementation("head_linear")
def head_linear(node: Node) -> HeadLinear:
    return HeadLinear(node)
