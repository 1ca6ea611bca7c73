"""Layers that let positions, channels or experts decide about each other: softmax, attention, gates, mixtures."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import RandomLayer, implementation, parameter
from lensnet.network.graph import Node
from lensnet.network.windows import logit_bias, logit_sink, windows_of


class Softmax(nn.Module):
    """Softmax over the channels of any layout, or of each group of them, or its logarithm."""

    def __init__(self, axis: int, groups: int, logarithm: bool) -> None:
        super().__init__()
        self.axis, self.groups, self.logarithm = axis, groups, logarithm

    def forward(self, x: Tensor) -> Tensor:
        cut, axis = x.unflatten(self.axis, (self.groups, -1)), self.axis + 1
        return (cut.log_softmax(axis) if self.logarithm else cut.softmax(axis)).flatten(self.axis, axis)


@implementation("softmax", "log_softmax")
def softmax(node: Node) -> Softmax:
    groups, logarithm = int(parameter(node, "groups", 1)), node.component.implementation == "log_softmax"
    return Softmax(node.shapes_in[0].channel_axis, groups, logarithm)


class PositionSoftmax(nn.Module):
    """Softmax over the positions of every channel, along one axis of them or all."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        along, shape = str(parameter(node, "along", "all")), node.shape
        axes = [axis for axis in range(1, 2 + len(shape.positions)) if axis != shape.channel_axis]
        self.axes = axes if along == "all" else [axes[("rows", "columns", "slices").index(along)]]
        if along == "all" and shape.position_count != int(node.parameters["places"]):
            raise ImplementationError(f"{node.path}: {shape} has other places than {node.parameters['places']}")

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.logsumexp(self.axes, keepdim=True)).exp()


@implementation("position_softmax")
def position_softmax(node: Node) -> PositionSoftmax:
    return PositionSoftmax(node)


class Attention(RandomLayer):
    """Self-attention on (N, T, C): per head softmax(Q K^T / sqrt(C / heads)) V, then an output projection."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shapes_in[0]
        self.heads, self.causal = int(parameter(node, "heads", 1)), bool(parameter(node, "causal", False))
        if len(shape.positions) != 1:
            raise ImplementationError(f"{node.path}: attention needs tokens (one position axis), not {shape}")
        if shape.channels % self.heads:
            raise ImplementationError(f"{node.path}: {shape.channels} channels do not divide among {self.heads} heads")
        size = shape.channels
        for name in ("query", "key", "value", "output"):
            self.add_weight(name, node.weights[name], (size, size), (size,))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self._split(self._project(x, name)) for name in ("query", "key", "value"))
        logits = query @ key.transpose(-2, -1) / sqrt(query.shape[-1])
        if self.causal:
            ahead = torch.ones(logits.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
            logits = logits.masked_fill(ahead, float("-inf"))
        mixed = logits.softmax(-1) @ value
        return self._project(mixed.transpose(-3, -2).flatten(-2), "output")

    def _project(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, getattr(self, name), getattr(self, f"{name}_bias"))

    def _split(self, x: Tensor) -> Tensor:
        """(N, T, C) -> (N, heads, T, C / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


@implementation("attention")
def attention(node: Node) -> Attention:
    return Attention(node)


GATES: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "gelu": F.gelu, "silu": F.silu}


class GatedLinearUnit(RandomLayer):
    """(W x + b) * activation(V x + c) over the channels of any layout."""

    value: Tensor
    value_bias: Tensor | None
    gate: Tensor
    gate_bias: Tensor | None

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shapes_in[0]
        self.axis = shape.channel_axis
        self.activation = GATES[str(parameter(node, "activation", "silu"))]
        units = node.shape.channels
        for name in ("value", "gate"):
            self.add_weight(name, node.weights[name], (units, shape.channels), (units,))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.movedim(self.axis, -1)
        value = F.linear(rows, self.value, self.value_bias)
        gate = F.linear(rows, self.gate, self.gate_bias)
        return (value * self.activation(gate)).movedim(-1, self.axis)


@implementation("gated_linear_unit")
def gated_linear_unit(node: Node) -> GatedLinearUnit:
    return GatedLinearUnit(node)


class SqueezeExcite(RandomLayer):
    """x times sigmoid(W2 relu(W1 mean over positions of x)), one factor per channel."""

    squeeze: Tensor
    squeeze_bias: Tensor | None
    excite: Tensor
    excite_bias: Tensor | None

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shapes_in[0]
        if not shape.positions:
            raise ImplementationError(f"{node.path}: squeeze_excite needs positions to average over")
        self.axis = shape.channel_axis
        hidden = shape.channels // int(parameter(node, "reduction", 16))
        if hidden < 1:
            raise ImplementationError(f"{node.path}: a reduction beyond the {shape.channels} channels leaves no unit")
        self.add_weight("squeeze", node.weights["squeeze"], (hidden, shape.channels), (hidden,))
        self.add_weight("excite", node.weights["excite"], (shape.channels, hidden), (shape.channels,))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.movedim(self.axis, -1)
        reading = rows.flatten(1, -2).mean(1)
        hidden = F.relu(F.linear(reading, self.squeeze, self.squeeze_bias))
        factor = F.linear(hidden, self.excite, self.excite_bias).sigmoid()
        places = factor.reshape(-1, *[1] * (rows.dim() - 2), factor.shape[-1])
        return (rows * places).movedim(-1, self.axis)


@implementation("squeeze_excite")
def squeeze_excite(node: Node) -> SqueezeExcite:
    return SqueezeExcite(node)


class Fourier(nn.Module):
    """Real part of the two-dimensional Fourier transform (not normalised) of a sequence (N, T, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fftn(x, dim=(1, 2)).real


@implementation("fourier")
def fourier(node: Node) -> Fourier:
    return Fourier()


class Attend(nn.Module):
    """softmax(factor Q K^T / sqrt(head width) + bias) V per head and window, on tokens or images; several query heads
    may share a key head."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.heads = int(node.parameters["heads"])
        self.key_heads = int(node.parameters["key_heads"])
        self.factor = float(node.parameters["factor"])
        self.shapes = node.shapes_in
        if not all(shape.positions for shape in node.shapes_in):
            raise ImplementationError(f"{node.path}: attention needs positions")
        if node.shapes_in[0].channels % self.heads or self.heads % self.key_heads:
            raise ImplementationError(f"{node.path}: channels, heads and key heads do not divide")
        try:
            self.windows = [windows_of(node, port) for port in range(3)]
            self.bias = torch.from_numpy(logit_bias(node)).float()
            self.sink = torch.from_numpy(logit_sink(node)).float() if float(node.parameters["sink"]) else None
            self.offset = self._offset(node)
            self.tables = [self._table(node, f"{port}_table") for port in ("key", "query")]
        except ValueError as error:
            raise ImplementationError(f"{node.path}: {error}") from None

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q = self._cut(query, 0, self.heads)
        k, v = (
            self._cut(x, port, self.key_heads).repeat_interleave(self.heads // self.key_heads, -3)
            for port, x in ((1, key), (2, value))
        )
        if self.offset is not None:
            q = q + self.offset.to(q)
        products = q @ k.transpose(-2, -1)
        for rows, relative, text in zip((q, k), self.tables, ("nvhtw,htsw->nvhts", "nvhsw,htsw->nvhts"), strict=True):
            products = products if relative is None else products + torch.einsum(text, rows, relative.to(q))
        logits = products * (self.factor / sqrt(q.shape[-1])) + self.bias.to(q)
        out = (self._weights(logits) @ v).transpose(-3, -2).flatten(-2).flatten(1, 2)
        out = out[:, torch.from_numpy(self.windows[0].inverse).to(out.device)]
        places = self.windows[0].positions
        return out if len(places) == 1 else out.unflatten(1, places).movedim(-1, 1)

    def _weights(self, logits: Tensor) -> Tensor:
        """The softmax over the keys and, where there is one, a sink that gives nothing."""
        if self.sink is None:
            return logits.softmax(-1)
        lost = self.sink.to(logits)[:, None, None].expand(*logits.shape[:-1], 1)
        return torch.cat([logits, lost], -1).softmax(-1)[..., :-1]

    def _offset(self, node: Node) -> Tensor | None:
        """A fixed vector for each head, (heads, 1, head width)."""
        rms, width = float(node.parameters["query_offset"]), node.shapes_in[0].channels // self.heads
        rows = torch.randn(self.heads, 1, width, generator=torch.Generator().manual_seed(width))
        return rms * rows / rows.square().mean(-1, keepdim=True).sqrt() if rms else None

    def _table(self, node: Node, name: str) -> Tensor | None:
        """A fixed table of relative positions, (heads, queries, keys, head width): one row for each distance."""
        rms, width = float(node.parameters[name]), node.shapes_in[0].channels // self.heads
        if not rms:
            return None
        asks, answers = (window.length for window in self.windows[:2])
        source = torch.Generator().manual_seed(asks + answers + len(name))
        rows = torch.randn(self.heads, asks + answers - 1, width, generator=source)
        rows = rms * rows / rows.square().mean(-1, keepdim=True).sqrt()
        return rows[:, torch.arange(asks)[:, None] - torch.arange(answers) + answers - 1]

    def _cut(self, x: Tensor, port: int, heads: int) -> Tensor:
        """(N, windows, heads, places, head width)."""
        rows = x.movedim(self.shapes[port].channel_axis, -1).flatten(1, -2)
        order = torch.from_numpy(self.windows[port].order).to(x.device)
        return rows[:, order].unflatten(-1, (heads, -1)).transpose(2, 3)


@implementation("attend")
def attend(node: Node) -> Attend:
    return Attend(node)
