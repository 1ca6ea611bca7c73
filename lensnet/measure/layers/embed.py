"""Entrances: token ids, positions and image patches become vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import RandomLayer, implementation, parameter
from lensnet.network.geometry import Patches
from lensnet.network.graph import Node


class Embedding(RandomLayer):
    """A table (vocabulary, channels): every id is replaced by its row."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        vocabulary = int(parameter(node, "vocabulary", node.shapes_in[0].channels))
        self.add_weight("weight", node.weights["weight"], (vocabulary, node.shape.channels), None, output_axis=1)

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


@implementation("embedding")
def embedding(node: Node) -> Embedding:
    return Embedding(node)


def sinusoids(positions: int, channels: int, base: float = 10000.0) -> Tensor:
    """The table (positions, channels) of Vaswani et al. 2017, section 3.5: sin in even, cos in odd channels."""
    place = torch.arange(positions, dtype=torch.float64)[:, None]
    rate = base ** (-2.0 * torch.arange((channels + 1) // 2, dtype=torch.float64) / channels)
    table = torch.stack((torch.sin(place * rate), torch.cos(place * rate)), dim=2).flatten(1)
    return table[:, :channels]


class SinusoidalPositions(nn.Module):
    """Adds a fixed table to every example; the positions of an image count row by row."""

    table: Tensor

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shape
        table = sinusoids(shape.position_count, shape.channels, float(parameter(node, "base", 10000.0)))
        table = table * float(parameter(node, "amplitude", 1.0))
        if len(shape.positions) == 2:
            table = table.T.reshape(shape.channels, *shape.positions)
        self.register_buffer("table", table)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table.to(x)


class LearnedPositions(RandomLayer):
    """Adds a table that is drawn once per seed and shared by all examples."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.add_weight("weight", node.weights["weight"], node.shape.tensor_shape(1)[1:], None)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


@implementation("positional_encoding")
def positional_encoding(node: Node) -> nn.Module:
    kind = parameter(node, "encoding", "sinusoidal")
    return LearnedPositions(node) if kind == "learned" else SinusoidalPositions(node)


class Rotary(nn.Module):
    """Pairs of channels (i, i + width/2) of every head of (N, T, C), turned by position * base**(-2 i/width)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shapes_in[0]
        self.heads = int(parameter(node, "heads", 1))
        width, odd = divmod(shape.channels, self.heads)
        if odd or width % 2 or len(shape.positions) != 1:
            raise ImplementationError(f"{node.path}: rotary positions need tokens and heads of even width, not {shape}")
        rate = float(parameter(node, "base", 10000.0)) ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        angle = torch.arange(shape.position_count, dtype=torch.float64)[:, None, None] * rate.repeat(2)
        self.register_buffer("cos", angle.cos().float())
        self.register_buffer("sin", angle.sin().float())

    def forward(self, x: Tensor) -> Tensor:
        split = x.unflatten(-1, (self.heads, -1))
        first, second = split.chunk(2, -1)
        return (split * self.cos.to(x) + torch.cat([-second, first], -1) * self.sin.to(x)).flatten(-2)


@implementation("rotary")
def rotary(node: Node) -> Rotary:
    return Rotary(node)


class PatchEmbedding(RandomLayer):
    """An image (N, C, H, W) becomes tokens (N, T, channels): one matrix applied to every patch, row by row."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        if not isinstance(node.geometry, Patches):
            raise ImplementationError(f"{node.path}: a patch embedding needs patches")
        self.patch = node.geometry.patch
        outputs = node.shape.channels
        shape = (outputs, node.shapes_in[0].channels, *self.patch)
        self.add_weight("weight", node.weights["weight"], shape, (outputs,))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, stride=self.patch).flatten(2).transpose(1, 2)


@implementation("patch_embedding")
def patch_embedding(node: Node) -> PatchEmbedding:
    return PatchEmbedding(node)
