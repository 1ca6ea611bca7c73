"""The blocks of CRATE, a transformer derived from sparse rate reduction, and the gate that its relatives share."""

from __future__ import annotations

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import RandomLayer, implementation, parameter
from lensnet.network.graph import Node


class SubspaceAttention(RandomLayer):
    """Per head softmax(W W') W with W = x U_h, on (N, T, C).

    code: logits over sqrt(head size), then an output map of its own. paper: plain logits, then the transposed
    projection and the factor head size/(T*eps2).
    """

    projection: Tensor
    output: Tensor
    output_bias: Tensor | None

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shapes_in[0]
        self.heads, self.as_in_code = int(parameter(node, "heads", 1)), parameter(node, "form", "code") == "code"
        self.eps2 = float(parameter(node, "eps2", 1.0))
        if len(shape.positions) != 1:
            raise ImplementationError(f"{node.path}: attention needs tokens (one position axis), not {shape}")
        if shape.channels % self.heads:
            raise ImplementationError(f"{node.path}: {shape.channels} channels do not divide among {self.heads} heads")
        size = (shape.channels, shape.channels)
        self.add_weight("projection", node.weights["projection"], size, None)
        if self.as_in_code:
            self.add_weight("output", node.weights["output"], size, size[:1])

    def forward(self, x: Tensor) -> Tensor:
        seen = F.linear(x, self.projection).unflatten(-1, (self.heads, -1)).transpose(-3, -2)
        size, tokens = seen.shape[-1], seen.shape[-2]
        logits = seen @ seen.transpose(-2, -1)
        mixed = (logits / sqrt(size) if self.as_in_code else logits).softmax(-1) @ seen
        joined = mixed.transpose(-3, -2).flatten(-2)
        if self.as_in_code:
            return F.linear(joined, self.output, self.output_bias)
        return size / (tokens * self.eps2) * F.linear(joined, self.projection.T)


@implementation("mssa")
def mssa(node: Node) -> SubspaceAttention:
    return SubspaceAttention(node)


class Sparsification(RandomLayer):
    """relu(x + s (D'x - D'D x) - s lam1) over the channels of any layout."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shapes_in[0]
        self.axis = shape.channel_axis
        self.step, self.threshold = float(parameter(node, "step", 0.1)), float(parameter(node, "threshold", 0.1))
        self.add_weight("weight", node.weights["weight"], (shape.channels, shape.channels), None)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.movedim(self.axis, -1)
        unexplained = rows - F.linear(rows, self.weight)
        moved = rows + self.step * F.linear(unexplained, self.weight.T) - self.step * self.threshold
        return F.relu(moved).movedim(-1, self.axis)


@implementation("ista")
def ista(node: Node) -> Sparsification:
    return Sparsification(node)


class SoftmaxGate(RandomLayer):
    """softmax(lam (W x + b)) over the paths; `switch` keeps the best share alone, `hard` makes it 1."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shapes_in[0]
        self.axis, self.lam = shape.channel_axis, float(parameter(node, "lam", 1.0))
        self.routing = parameter(node, "routing", "soft")
        paths = node.shape.channels
        self.add_weight("weight", node.weights["weight"], (paths, shape.channels), (paths,))

    def forward(self, x: Tensor) -> Tensor:
        ratings = self.lam * F.linear(x.movedim(self.axis, -1), self.weight, self.bias)
        shares = ratings.softmax(-1)
        if self.routing != "soft":
            best = ratings.argmax(-1, keepdim=True)
            kept = shares.gather(-1, best) if self.routing == "switch" else torch.ones_like(best, dtype=shares.dtype)
            shares = torch.zeros_like(shares).scatter(-1, best, kept)
        return shares.movedim(-1, self.axis)


@implementation("softmax_gate")
def softmax_gate(node: Node) -> SoftmaxGate:
    return SoftmaxGate(node)
