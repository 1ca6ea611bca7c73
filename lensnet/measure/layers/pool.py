"""Pools: many positions become fewer, or one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import implementation
from lensnet.network.geometry import Adaptive, Resample, Window
from lensnet.network.graph import Node


class Pool(nn.Module):
    """Average or maximum over a sliding window, per channel."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        if not isinstance(node.geometry, Window):
            raise ImplementationError(f"{node.path}: a pool needs a window, not {type(node.geometry).__name__}")
        self.window = node.geometry
        if self.window.mode == "circular":
            raise ImplementationError(f"{node.path}: a pool has no circular padding")
        self.sequence = len(self.window.kernel) == 1

    def pool(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x.transpose(1, 2)).transpose(1, 2) if self.sequence else self.pool(x)


class AveragePool(Pool):
    """Padding counts as zeros where the geometry's mode is `zero`, not at all where it is `ignore`."""

    def pool(self, x: Tensor) -> Tensor:
        window = self.window
        average = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(window.kernel)]
        counts = window.mode == "zero"
        return average(x, window.kernel, window.stride, window.padding, window.ceil, counts)


class MaxPool(Pool):
    """The largest of the real positions in the window; padding never wins."""

    def pool(self, x: Tensor) -> Tensor:
        window = self.window
        largest = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(window.kernel)]
        return largest(x, window.kernel, window.stride, window.padding, window.dilation, window.ceil)


@implementation("avg_pool1d", "avg_pool2d", "avg_pool3d")
def average_pool(node: Node) -> AveragePool:
    if isinstance(node.geometry, Window) and set(node.geometry.dilation) != {1}:
        raise ImplementationError(f"{node.path}: an average pool has no dilation")
    return AveragePool(node)


@implementation("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(node: Node) -> MaxPool:
    return MaxPool(node)


class AdaptiveAveragePool(nn.Module):
    """Averages over windows chosen so that the output has the asked positions."""

    def __init__(self, output: tuple[int, ...]) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        if len(self.output) == 1:
            return F.adaptive_avg_pool1d(x.transpose(1, 2), self.output[0]).transpose(1, 2)
        return F.adaptive_avg_pool2d(x, (self.output[0], self.output[1]))


@implementation("adaptive_avg_pool1d", "adaptive_avg_pool2d")
def adaptive_average_pool(node: Node) -> AdaptiveAveragePool:
    if not isinstance(node.geometry, Adaptive):
        raise ImplementationError(f"{node.path}: an adaptive pool needs the output positions")
    return AdaptiveAveragePool(node.geometry.output)


class Resampled(nn.Module):
    """An interpolation of sequences (N, T, C), images and volumes, as torch does it."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        assert isinstance(node.geometry, Resample)
        self.output, self.corners = node.geometry.output, node.geometry.corners
        smooth = {1: {"linear": "linear"}, 2: {"linear": "bilinear", "cubic": "bicubic"}, 3: {"linear": "trilinear"}}
        filter = node.geometry.filter
        self.mode = smooth[len(self.output)].get(filter, filter).replace("_", "-")
        if self.mode == "cubic" or (self.corners and filter not in ("linear", "cubic")):
            raise ImplementationError(f"{node.path}: torch has no {filter} filter of that kind")

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2) if len(self.output) == 1 else x
        smooth = "linear" in self.mode or "cubic" in self.mode
        y = F.interpolate(x, self.output, mode=self.mode, align_corners=self.corners if smooth else None)
        return y.transpose(1, 2) if len(self.output) == 1 else y


@implementation("resample")
def resample(node: Node) -> Resampled:
    return Resampled(node)


class Shuffle(nn.Module):
    """factor^2 channels as a block of pixels, or (`back`) a block of pixels as channels."""

    def __init__(self, node: Node, back: bool) -> None:
        super().__init__()
        self.factor, self.back = int(node.parameters["factor"]), back
        given, made = (node.shape, node.shapes_in[0]) if back else (node.shapes_in[0], node.shape)
        if any(large != small * self.factor for large, small in zip(made.positions, given.positions, strict=True)):
            raise ImplementationError(
                f"{node.path}: {made} is not {given} with {self.factor} times the rows and columns"
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, self.factor) if self.back else F.pixel_shuffle(x, self.factor)


@implementation("pixel_shuffle", "pixel_unshuffle")
def shuffle(node: Node) -> Shuffle:
    return Shuffle(node, node.component.implementation == "pixel_unshuffle")


class PositionMean(nn.Module):
    """The average over all positions of an example."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.axes) if self.axes else x.view_as(x)


@implementation("global_avg_pool", "token_mean")
def position_mean(node: Node) -> PositionMean:
    return PositionMean({0: (), 1: (1,), 2: (2, 3), 3: (2, 3, 4)}[len(node.shapes_in[0].positions)])


class Flatten(nn.Module):
    """All positions become channels, in torch's own order."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(x, 1)


@implementation("flatten")
def flatten(node: Node) -> Flatten:
    return Flatten()


class OverChannels(nn.Module):
    """The average of each group of neighbouring channels (of all of them), or the largest of each group."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.axis, self.pieces = node.shape.channel_axis, int(node.parameters.get("pieces", 0))
        self.groups = int(node.parameters.get("groups", 1))

    def forward(self, x: Tensor) -> Tensor:
        if not self.pieces:
            return x.unflatten(self.axis, (self.groups, -1)).mean(self.axis + 1)
        return x.unflatten(self.axis, (-1, self.pieces)).amax(self.axis + 1)


@implementation("channel_mean", "maxout")
def over_channels(node: Node) -> OverChannels:
    return OverChannels(node)
