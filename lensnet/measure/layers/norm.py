"""Normalisations: each divides by a scale that it takes from some set of its own inputs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import implementation, parameter
from lensnet.network.graph import Node
from lensnet.network.shape import Shape


class Norm(nn.Module):
    """y = scale * normalised(x) + shift, with constants for scale and shift as at initialisation."""

    def __init__(self, node: Node, eps: float = 1e-5) -> None:
        super().__init__()
        self.shape: Shape = node.shapes_in[0]
        self.eps = float(parameter(node, "eps", eps))
        self.scale = float(parameter(node, "scale", 1.0))
        self.shift = float(parameter(node, "shift", 0.0))

    def normalise(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y = self.normalise(x)
        if self.scale != 1.0:
            y = y * self.scale
        return y if self.shift == 0.0 else y + self.shift

    def channels_first(self, x: Tensor) -> Tensor:
        """Sequences (N, T, C) as (N, C, T), what torch's norms over positions expect; its own inverse."""
        return x.transpose(1, 2) if len(self.shape.positions) == 1 else x

    def channels_last(self, x: Tensor, norm: str) -> Tensor:
        """Apply a norm over the channels of each position."""
        axis = self.shape.channel_axis
        moved = x.movedim(axis, -1)
        channels = (self.shape.channels,)
        if norm == "layer":
            y = F.layer_norm(moved, channels, eps=self.eps)
        else:
            y = F.rms_norm(moved, channels, eps=self.eps)
        return y.movedim(-1, axis)


class LayerNorm(Norm):
    """Over the channels of one position: mean 0, variance 1."""

    def normalise(self, x: Tensor) -> Tensor:
        return self.channels_last(x, "layer")


class RMSNorm(Norm):
    """Over the channels of one position: second moment 1; the mean stays in."""

    def normalise(self, x: Tensor) -> Tensor:
        return self.channels_last(x, "rms")


class GroupNorm(Norm):
    """Over a group of channels and all positions of one example."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.groups = int(parameter(node, "groups", 32))
        if self.shape.channels % self.groups:
            raise ImplementationError(f"{node.path}: {self.groups} groups do not divide {self.shape.channels} channels")

    def normalise(self, x: Tensor) -> Tensor:
        return self.channels_first(F.group_norm(self.channels_first(x), self.groups, eps=self.eps))


class InstanceNorm(Norm):
    """Over the positions of one channel of one example."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        if self.shape.position_count < 2:
            raise ImplementationError(f"{node.path}: an instance norm needs at least two positions, got {self.shape}")

    def normalise(self, x: Tensor) -> Tensor:
        return self.channels_first(F.instance_norm(self.channels_first(x), eps=self.eps))


class BatchNorm(Norm):
    """Over examples and positions of one channel: by the batch's own (biased) variance in train mode, by running
    statistics in eval mode (at initialisation mean 0 and variance 1)."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.own = parameter(node, "mode", "train") == "train"
        self.mean = float(parameter(node, "running_mean", 0.0))
        self.variance = float(parameter(node, "running_var", 1.0))

    def normalise(self, x: Tensor) -> Tensor:
        if self.own and self.training:
            return self.channels_first(F.batch_norm(self.channels_first(x), None, None, training=True, eps=self.eps))
        return (x - self.mean) / (self.variance + self.eps) ** 0.5


class LocalResponseNorm(Norm):
    """x / (offset + alpha * sum of x^2 over `size` neighbouring channels) ** beta.

    As published (Krizhevsky et al. 2012, section 3.3): alpha multiplies the sum, where torch's own layer divides it by
    the size. Beyond the first and last channel the sum has fewer terms.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.size = int(parameter(node, "size", 5))
        self.alpha = float(parameter(node, "alpha", 1e-4))
        self.beta = float(parameter(node, "beta", 0.75))
        self.offset = float(parameter(node, "offset", 2.0))

    def normalise(self, x: Tensor) -> Tensor:
        before = self.size // 2
        window = _neighbour_sum(x * x, self.shape.channel_axis, before, self.size - 1 - before)
        base = window * self.alpha + self.offset
        if self.beta == 0.75:
            root = torch.rsqrt(base)
            return x * (root * torch.sqrt(root))
        return x * base.pow(-self.beta)


class _NeighbourSum(torch.autograd.Function):
    """Sum over `before` previous and `after` next entries along an axis. Its adjoint is the mirrored sum, which costs
    no more than itself; autograd's own chain of slices costs several times as much."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, axis: int, before: int, after: int) -> Tensor:
        size = x.shape[axis]
        out = x.clone()
        for step in range(-min(before, size - 1), min(after, size - 1) + 1):
            if step:
                out.narrow(axis, max(-step, 0), size - abs(step)).add_(x.narrow(axis, max(step, 0), size - abs(step)))
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, int, int], output: Tensor) -> None:
        ctx.window = inputs[1:]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        axis, before, after = ctx.window
        return _neighbour_sum(gradients[0], axis, after, before), None, None, None


def _neighbour_sum(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    return _NeighbourSum.apply(x, axis, before, after)


@implementation("layernorm")
def layernorm(node: Node) -> LayerNorm:
    return LayerNorm(node)


@implementation("rmsnorm")
def rmsnorm(node: Node) -> RMSNorm:
    return RMSNorm(node, eps=1e-6)


@implementation("batchnorm")
def batchnorm(node: Node) -> BatchNorm:
    return BatchNorm(node)


@implementation("groupnorm")
def groupnorm(node: Node) -> GroupNorm:
    return GroupNorm(node)


@implementation("instancenorm")
def instancenorm(node: Node) -> InstanceNorm:
    return InstanceNorm(node)


@implementation("local_response_norm")
def local_response_norm(node: Node) -> LocalResponseNorm:
    return LocalResponseNorm(node)
