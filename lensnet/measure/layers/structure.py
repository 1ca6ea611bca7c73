"""Components that rearrange a tensor and compute nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import RandomLayer, implementation
from lensnet.network.geometry import Stack, Strided, Unflatten
from lensnet.network.graph import Node


class Transpose(nn.Module):
    """Positions and channels change places: `(N, T, C)` -> `(N, C, T)`; of an image all positions in a row."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2) if x.dim() == 3 else x.flatten(2)


@implementation("transpose")
def transpose(node: Node) -> Transpose:
    return Transpose()


class Slice(nn.Module):
    """Of every period of channels those from `start` on, `width` of them."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shapes_in[0]
        self.axis = shape.channel_axis
        self.start, self.width = int(node.parameters["start"]), int(node.parameters["width"])
        self.period = int(node.parameters["period"])
        if shape.channels % self.period or self.start + self.width > self.period:
            raise ImplementationError(f"{node.path}: no {self.width} channels from {self.start} of {self.period}")

    def forward(self, x: Tensor) -> Tensor:
        periods = x.unflatten(self.axis, (-1, self.period))
        return periods.narrow(self.axis + 1, self.start, self.width).flatten(self.axis, self.axis + 1)


@implementation("slice")
def slice_channels(node: Node) -> Slice:
    return Slice(node)


class Tile(nn.Module):
    """All channels, several times one after the other."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.axis, self.times = node.shapes_in[0].channel_axis, int(node.parameters["times"])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x] * self.times, self.axis)


@implementation("tile")
def tile(node: Node) -> Tile:
    return Tile(node)


class Stride(nn.Module):
    """Along each position axis, output i is the input at a place of its own, zero where it has none."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        assert isinstance(node.geometry, Strided)
        self.first_axis = 1 if len(node.shapes_in[0].positions) == 1 else 2
        self.places = [node.geometry.places(axis, size) for axis, size in enumerate(node.shapes_in[0].positions)]

    def forward(self, x: Tensor) -> Tensor:
        for axis, places in enumerate(self.places, self.first_axis):
            index = torch.tensor(places, device=x.device)
            shape = [len(places) if place == axis else 1 for place in range(x.dim())]
            x = x.index_select(axis, index.clamp_min(0)) * (index >= 0).view(shape)
        return x


@implementation("take", "frame")
def stride(node: Node) -> Stride:
    return Stride(node)


class Prepend(RandomLayer):
    """Tokens that are the same for every example, in front of a sequence (N, T, C)."""

    weight: Tensor

    def __init__(self, node: Node) -> None:
        super().__init__()
        assert isinstance(node.geometry, Strided)
        self.count, channels = -node.geometry.start[0], node.shape.channels
        if self.count + node.shapes_in[0].position_count != node.geometry.size[0]:
            raise ImplementationError(f"{node.path}: {self.count} tokens in front do not make {node.geometry.size[0]}")
        self.add_weight("weight", node.weights["weight"], (self.count, channels), (self.count, channels))

    def forward(self, x: Tensor) -> Tensor:
        own = self.weight if self.bias is None else self.weight + self.bias
        return torch.cat([own.expand(len(x), *own.shape), x], 1)


@implementation("prepend")
def prepend(node: Node) -> Prepend:
    return Prepend(node)


class Pick(nn.Module):
    """One position of (N, T, C)."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.index]


@implementation("pick")
def pick(node: Node) -> Pick:
    return Pick(int(node.parameters["index"]))


class Regrid(nn.Module):
    """An image (N, C, H, W) row by row as tokens (N, T, C), or back."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() > 3:
            x = x.flatten(2).transpose(1, 2)
        return x.transpose(1, 2).unflatten(2, self.size) if len(self.size) > 1 else x


@implementation("tokens", "grid")
def regrid(node: Node) -> Regrid:
    return Regrid(node.shape.positions)


class Unflattened(nn.Module):
    """(N, C*P) as (N, C, *positions) with P places, as torch's view does it; a sequence as (N, T, C)."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        assert isinstance(node.geometry, Unflatten)
        self.size = node.geometry.size
        if node.shapes_in[0].channels != node.shape.features:
            raise ImplementationError(f"{node.path}: {node.shapes_in[0].channels} channels do not fill {node.shape}")

    def forward(self, x: Tensor) -> Tensor:
        y = x.unflatten(1, (-1, *self.size))
        return y.transpose(1, 2) if len(self.size) == 1 else y


@implementation("unflatten")
def unflatten(node: Node) -> Unflattened:
    return Unflattened(node)


class ChannelShuffle(nn.Module):
    """Channels written into a table of `groups` rows and read column by column."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.axis, self.groups = node.shape.channel_axis, int(node.parameters["groups"])

    def forward(self, x: Tensor) -> Tensor:
        table = x.unflatten(self.axis, (self.groups, -1))
        return table.transpose(self.axis, self.axis + 1).flatten(self.axis, self.axis + 1)


@implementation("channel_shuffle")
def channel_shuffle(node: Node) -> ChannelShuffle:
    return ChannelShuffle(node)


class Opaque(nn.Module):
    """Its first input, repeated or cut to the shape of the output: it stands in for what nobody has described."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.shape = node.shape

    def forward(self, *xs: Tensor) -> Tensor:
        size = self.shape.tensor_shape(len(xs[0]))
        flat = xs[0].flatten(1)
        wanted = self.shape.features
        return flat.repeat(1, -(-wanted // flat.shape[1]))[:, :wanted].reshape(size)


@implementation("opaque", "opaque_merge")
def opaque(node: Node) -> Opaque:
    return Opaque(node)


class Source(RandomLayer):
    """A tensor of its own, the same for every example, whatever comes in."""

    weight: Tensor

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shape.tensor_shape(1)[1:]
        self.add_weight("weight", node.weights["weight"], shape, shape)

    def forward(self, x: Tensor) -> Tensor:
        own = self.weight if self.bias is None else self.weight + self.bias
        return own.expand(len(x), *own.shape) + 0.0 * x.sum()


@implementation("source")
def source(node: Node) -> Source:
    return Source(node)


class Stacked(nn.Module):
    """One position axis as channels: of every channel its places one after the other."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        assert isinstance(node.geometry, Stack)
        self.axis, self.after = 2 + node.geometry.axis, node.shape

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(self.axis, 2).flatten(1, 2).movedim(1, self.after.channel_axis)


@implementation("stack")
def stack(node: Node) -> Stacked:
    return Stacked(node)
