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
        return _ResponseNorm.apply(x, self.shape.channel_axis, self.size, self.alpha, self.beta, self.offset)


class _ResponseNorm(torch.autograd.Function):
    """Local response normalisation with its gradient written out.

    With b = offset + alpha * W x^2 (W sums over neighbours): y = x b^-beta, and the gradient is
    g b^-beta - 2 alpha beta x W'(g x b^(-beta-1)), W' the mirrored sum. Autograd's own chain of a dozen slices would
    cost several times as much, and this layer dominates the networks that have it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, axis: int, size: int, alpha: float, beta: float, offset: float) -> Tensor:
        return _base(x, axis, size, alpha, offset).pow_(-beta).mul_(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.constants = inputs[1:]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (x,) = ctx.saved_tensors
        axis, size, alpha, beta, offset = ctx.constants
        base = _base(x, axis, size, alpha, offset)
        direct = base.pow(-beta).mul_(gradients[0])
        before = size // 2
        spread = _neighbour_sum((direct * x).div_(base), axis, size - 1 - before, before)
        return direct.sub_(spread.mul_(x).mul_(2.0 * alpha * beta)), None, None, None, None, None


def _base(x: Tensor, axis: int, size: int, alpha: float, offset: float) -> Tensor:
    before = size // 2
    return _neighbour_sum(x * x, axis, before, size - 1 - before).mul_(alpha).add_(offset)


def _neighbour_sum(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Sum over `before` previous and `after` next entries along an axis, fewer at its ends."""
    size = x.shape[axis]
    out = x.clone()
    for step in range(-min(before, size - 1), min(after, size - 1) + 1):
        if step:
            out.narrow(axis, max(-step, 0), size - abs(step)).add_(x.narrow(axis, max(step, 0), size - abs(step)))
    return out


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


class HeadNorm(Norm):
    """Root-mean-square norm, or layer norm, over the channels of every head."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.heads, self.centred = int(node.parameters["heads"]), bool(node.parameters["centred"])
        if self.shape.channels % self.heads:
            raise ImplementationError(f"{node.path}: {self.heads} heads do not divide {self.shape.channels} channels")

    def normalise(self, x: Tensor) -> Tensor:
        axis = self.shape.channel_axis
        heads = x.movedim(axis, -1).unflatten(-1, (self.heads, -1))
        made = F.layer_norm if self.centred else F.rms_norm
        return made(heads, heads.shape[-1:], eps=self.eps).flatten(-2).movedim(-1, axis)


@implementation("head_norm")
def head_norm(node: Node) -> HeadNorm:
    return HeadNorm(node)


class GlobalResponseNorm(nn.Module):
    """Every channel times its length over all positions, over the average length of all channels."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.eps = float(parameter(node, "eps", 1e-6))
        self.channels = node.shape.channel_axis
        self.places = tuple(axis for axis in range(1, len(node.shape.positions) + 2) if axis != self.channels)

    def forward(self, x: Tensor) -> Tensor:
        length = x.square().sum(self.places, keepdim=True).sqrt()
        return x * (length / (length.mean(self.channels, keepdim=True) + self.eps))


@implementation("global_response_norm")
def global_response_norm(node: Node) -> GlobalResponseNorm:
    return GlobalResponseNorm(node)
