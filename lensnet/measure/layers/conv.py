"""Convolutions over sequences (N, T, C), images (N, C, H, W) and volumes (N, C, D, H, W), and transposed ones."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import RandomLayer, implementation, parameter
from lensnet.network.geometry import Window, WindowTranspose
from lensnet.network.graph import Node


class Convolution(RandomLayer):
    """Weight (out, in/groups, *kernel), shared over positions; outside is zero or the opposite edge."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        window = node.geometry
        if not isinstance(window, Window):
            raise ImplementationError(f"{node.path}: a convolution needs a window, not {type(window).__name__}")
        self.window = window
        self.groups = int(parameter(node, "groups", 1))
        inputs, outputs = node.shapes_in[0].channels, node.shape.channels
        if inputs % self.groups or outputs % self.groups:
            raise ImplementationError(
                f"{node.path}: {self.groups} groups divide neither evenly {inputs} input and {outputs} output channels"
            )
        self.add_weight("weight", node.weights["weight"], (outputs, inputs // self.groups, *window.kernel), (outputs,))
        self.centred = bool(parameter(node, "centred", False))
        # F.pad lists the last axis first.
        self.wrap = [p for pad in reversed(window.padding) for p in (pad, pad)] if window.mode == "circular" else None

    def forward(self, x: Tensor) -> Tensor:
        window = self.window
        sequence = len(window.kernel) == 1
        if sequence:
            x = x.transpose(1, 2)
        padding: tuple[int, ...] = window.padding
        if self.wrap is not None:
            x, padding = F.pad(x, self.wrap, mode="circular"), (0,) * len(padding)
        convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(window.kernel)]
        weight = _standardised(self.weight) if self.centred else self.weight
        y = convolve(x, weight, self.bias, window.stride, padding, window.dilation, self.groups)
        return y.transpose(1, 2) if sequence else y


def _standardised(weight: Tensor) -> Tensor:
    """Every filter less its mean, with the spread that all have together."""
    axes = tuple(range(1, weight.dim()))
    centred = weight - weight.mean(axes, keepdim=True)
    return centred * (weight.square().mean() / centred.square().mean(axes, keepdim=True).clamp_min(1e-30)).sqrt()


@implementation("conv1d", "conv2d", "conv3d")
def convolution(node: Node) -> Convolution:
    return Convolution(node)


class TransposedConvolution(RandomLayer):
    """Weight (in, out/groups, *kernel): every input position paints a window of outputs."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        window = node.geometry
        if not isinstance(window, WindowTranspose):
            raise ImplementationError(f"{node.path}: a transposed convolution needs a transposed window")
        self.window = window
        self.groups = int(parameter(node, "groups", 1))
        inputs, outputs = node.shapes_in[0].channels, node.shape.channels
        shape = (inputs, outputs // self.groups, *window.kernel)
        self.add_weight("weight", node.weights["weight"], shape, (outputs,), output_axis=1)

    def forward(self, x: Tensor) -> Tensor:
        window = self.window
        sequence = len(window.kernel) == 1
        paint = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[len(window.kernel)]
        y = paint(
            x.transpose(1, 2) if sequence else x,
            self.weight,
            self.bias,
            window.stride,
            window.padding,
            window.output_padding,
            self.groups,
            window.dilation,
        )
        return y.transpose(1, 2) if sequence else y


@implementation("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed_convolution(node: Node) -> nn.Module:
    return TransposedConvolution(node)


class Unfold(nn.Module):
    """The taps of every window as channels: (N, C, H, W) -> (N, C*taps, H', W')."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        assert isinstance(node.geometry, Window)
        self.window, self.size = node.geometry, node.shape.positions

    def forward(self, x: Tensor) -> Tensor:
        window = self.window
        return F.unfold(x, window.kernel, window.dilation, window.padding, window.stride).unflatten(2, self.size)


class Fold(nn.Module):
    """The adjoint: windows laid in their places and added."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        assert isinstance(node.geometry, WindowTranspose)
        self.window, self.size = node.geometry, node.shape.positions

    def forward(self, x: Tensor) -> Tensor:
        window = self.window
        return F.fold(x.flatten(2), self.size, window.kernel, window.dilation, window.padding, window.stride)


@implementation("unfold")
def unfold(node: Node) -> Unfold:
    return Unfold(node)


@implementation("fold")
def fold(node: Node) -> Fold:
    return Fold(node)
