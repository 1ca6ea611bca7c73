"""Mixtures of experts: gates that open the best few paths, banks of experts, and both in one."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.mixing import GATES
from lensnet.measure.layers.registry import RandomLayer, implementation, parameter
from lensnet.network.graph import Node


class MixtureOfExperts(RandomLayer):
    """Sum over the best experts of softmax share * W_outer relu(W_inner x), over the channels of any layout."""

    router: Tensor
    router_bias: Tensor | None
    inner: Tensor
    inner_bias: Tensor | None
    outer: Tensor

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shapes_in[0]
        self.axis = shape.channel_axis
        experts, self.active = int(node.parameters["experts"]), int(parameter(node, "active", 2))
        hidden, units = int(node.parameters["hidden"]), node.shape.channels
        self.renormalize = bool(parameter(node, "renormalize", True))
        if self.active > experts:
            raise ImplementationError(f"{node.path}: {self.active} active experts of {experts}")
        self.add_weight("router", node.weights["router"], (experts, shape.channels), (experts,))
        self.add_weight("inner", node.weights["inner"], (experts, hidden, shape.channels), (experts, hidden), 1)
        self.add_weight("outer", node.weights["outer"], (experts, units, hidden), None, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.movedim(self.axis, -1)
        logits = F.linear(rows, self.router, self.router_bias)
        lowest = logits.topk(self.active, dim=-1).values[..., -1:]
        kept = logits >= lowest
        share = logits.masked_fill(~kept, float("-inf")).softmax(-1) if self.renormalize else logits.softmax(-1) * kept
        inner = torch.einsum("...c,ehc->...eh", rows, self.inner)
        if self.inner_bias is not None:
            inner = inner + self.inner_bias
        out = torch.einsum("...eh,euh,...e->...u", F.relu(inner), self.outer, share)
        return out.movedim(-1, self.axis)


@implementation("mixture_of_experts")
def mixture_of_experts(node: Node) -> MixtureOfExperts:
    return MixtureOfExperts(node)


class TopKGate(nn.Module):
    """Shares of the largest ratings among the channels, zero for the others."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.axis, self.active = node.shapes_in[0].channel_axis, int(node.parameters["active"])
        self.soft, self.whole = node.parameters["score"] == "softmax", bool(node.parameters["renormalize"])
        self.factor = float(node.parameters["factor"])
        self.near = float(node.parameters["near"]) if node.parameters["score"] == "sparsemixer" else 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.near:
            return self.factor * sparsemixer(x.movedim(self.axis, -1), self.active, self.near).movedim(-1, self.axis)
        score = x.softmax(self.axis) if self.soft else x.sigmoid()
        lowest = x.topk(self.active, dim=self.axis).values.narrow(self.axis, self.active - 1, 1)
        share = torch.where(x >= lowest, score, torch.zeros_like(score))
        return self.factor * (share / share.sum(self.axis, keepdim=True) if self.whole else share)


def sparsemixer(ratings: Tensor, active: int, near: float) -> Tensor:
    """Shares of the best of the last axis in turn: each in a softmax with what is left and no further away than `near`
    times the larger of the two (Liu et al. 2024, without noise)."""
    left, out = ratings, torch.zeros_like(ratings)
    for _ in range(active):
        best, place = left.max(-1, keepdim=True)
        away = (best - ratings) / torch.maximum(ratings.abs(), best) > near
        share = left.masked_fill(away, float("-inf")).softmax(-1).gather(-1, place)
        out, left = out.scatter(-1, place, share), left.scatter(-1, place, float("-inf"))
    return out


@implementation("top_k_gate")
def top_k_gate(node: Node) -> TopKGate:
    return TopKGate(node)


_UNITS: dict[str, Callable[[Tensor], Tensor]] = {
    **GATES, "relu": F.relu, "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "identity": lambda x: x,
}  # fmt: skip


class Experts(RandomLayer):
    """Sum over experts of share * (W_outer activation(W_inner x) [* W_value x]), or (`inside`) of the same of
    share * x; an expert whose share is zero does not run where fewer are active than there are."""

    inner: Tensor
    inner_bias: Tensor | None
    outer: Tensor
    outer_bias: Tensor | None

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.axes = [shape.channel_axis for shape in node.shapes_in]
        channels, units = node.shapes_in[0].channels, node.shape.channels
        experts, hidden = (int(node.parameters[name]) for name in ("experts", "hidden"))
        self.closed = int(node.parameters["active"]) < experts
        if node.shapes_in[1].channels != experts:
            raise ImplementationError(f"{node.path}: {experts} experts, but {node.shapes_in[1].channels} shares")
        self.inside = bool(node.parameters["inside"])
        self.activation, self.gated = _UNITS[str(node.parameters["activation"])], bool(node.parameters["gated"])
        for name in ("inner", "value") if self.gated else ("inner",):
            self.add_weight(name, node.weights[name], (experts, hidden, channels), (experts, hidden), 1)
        self.add_weight("outer", node.weights["outer"], (experts, units, hidden), (experts, units), 1)

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        rows, share = (one.movedim(axis, -1) for one, axis in zip((x, shares), self.axes, strict=True))
        text = "...c,ehc->...eh"
        if self.inside:
            rows, text = rows[..., None, :] * share[..., None], "...ec,ehc->...eh"
        made = self.activation(self._layer(rows, "inner", text))
        if self.gated:
            made = made * self._layer(rows, "value", text)
        each = self._layer(made, "outer", "...eh,euh->...eu")
        if self.closed:
            each = torch.where((share != 0)[..., None], each, torch.zeros_like(each))
        if self.inside:
            return each.sum(-2).movedim(-1, self.axes[0])
        return torch.einsum("...eu,...e->...u", each, share).movedim(-1, self.axes[0])

    def _layer(self, rows: Tensor, name: str, text: str) -> Tensor:
        out = torch.einsum(text, rows, getattr(self, name))
        bias = getattr(self, f"{name}_bias")
        return out if bias is None else out + bias


@implementation("experts")
def experts(node: Node) -> Experts:
    return Experts(node)
