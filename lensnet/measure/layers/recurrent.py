"""Recurrent layers over (N, T, C): every hidden state of one layer, from a state of zero."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import RandomLayer, implementation, parameter
from lensnet.network.graph import Node


class _Recurrent(RandomLayer):
    gates: int
    input_bias: Tensor | None
    hidden_bias: Tensor | None

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shapes_in[0]
        if len(shape.positions) != 1:
            raise ImplementationError(f"{node.path}: a recurrent layer needs a sequence, not {shape}")
        self.units = node.shape.channels
        for name, width in (("input", shape.channels), ("hidden", self.units)):
            rows = self.gates * self.units
            self.add_weight(name, node.weights[name], (rows, width), (rows,))

    def forward(self, x: Tensor) -> Tensor:
        given = F.linear(x, self.get_parameter("input"), self.input_bias)
        state = given.new_zeros(len(x), self.units)
        memory, out = state, []
        for step in range(x.shape[1]):
            again = F.linear(state, self.get_parameter("hidden"), self.hidden_bias)
            state, memory = self.step(given[:, step], again, state, memory)
            out.append(state)
        return torch.stack(out, 1)

    def step(self, given: Tensor, again: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class LSTM(_Recurrent):
    gates = 4

    def step(self, given: Tensor, again: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        opened, kept, new, out = (given + again).chunk(4, -1)
        memory = kept.sigmoid() * memory + opened.sigmoid() * new.tanh()
        return out.sigmoid() * memory.tanh(), memory


class GRU(_Recurrent):
    gates = 3

    def step(self, given: Tensor, again: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        (reset, update, new), (reset_, update_, new_) = given.chunk(3, -1), again.chunk(3, -1)
        share = (update + update_).sigmoid()
        candidate = (new + (reset + reset_).sigmoid() * new_).tanh()
        return (1 - share) * candidate + share * state, memory


class Plain(_Recurrent):
    gates = 1

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.bend = torch.relu if parameter(node, "activation", "tanh") == "relu" else torch.tanh

    def step(self, given: Tensor, again: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return self.bend(given + again), memory


@implementation("rnn")
def rnn(node: Node) -> Plain:
    return Plain(node)


@implementation("lstm")
def lstm(node: Node) -> LSTM:
    return LSTM(node)


@implementation("gru")
def gru(node: Node) -> GRU:
    return GRU(node)


class SelectiveScan(nn.Module):
    """h_t = exp(-a dt_t) h_(t-1) + dt_t b_t x_t and y_t = <c_t, h_t> + skip x_t over (N, T, C), with
    dt = softplus(step + bias); the bias is drawn once for every step of a token."""

    decays: Tensor
    bias: Tensor

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.heads, self.groups = node.shapes_in[1].channels, int(parameter(node, "groups", 1))
        self.states = node.shapes_in[2].channels // self.groups
        self.skip = float(parameter(node, "skip", 1.0))
        low, high = float(parameter(node, "decay_low", 1.0)), float(parameter(node, "decay_high", 1.0))
        by_head = parameter(node, "decay_by", "state") == "head"
        count = self.heads if by_head else self.states
        decays = torch.linspace(low, high, count)
        self.register_buffer("decays", decays[:, None].expand(-1, self.states) if by_head else decays)
        mean, spread = float(parameter(node, "step_bias", 0.0)), float(parameter(node, "step_spread", 0.0))
        even = (torch.arange(self.heads, dtype=torch.float64) + 0.5) / self.heads
        values = 12**0.5 * (even - 0.5) if parameter(node, "step_law", "uniform") == "uniform" else _quantile(even)
        # heads are told apart by their decay: the constants of their steps come in an order that knows nothing of it
        order = torch.randperm(self.heads, generator=torch.Generator().manual_seed(self.heads))
        self.register_buffer("bias", (mean + spread * values[order]).float())

    def forward(self, x: Tensor, step: Tensor, b: Tensor, c: Tensor) -> Tensor:
        time = F.softplus(step + self.bias)  # (N, T, heads)
        rows = x.unflatten(-1, (self.heads, -1))
        each = self.heads // self.groups
        write, read = (one.unflatten(-1, (self.groups, -1)).repeat_interleave(each, -2) for one in (b, c))
        kept = torch.exp(-self.decays * time[..., None])
        held, out = x.new_zeros(()), []
        for t in range(x.shape[1]):
            new = (time[:, t, :, None] * write[:, t])[:, :, None] * rows[:, t, ..., None]
            held = kept[:, t, :, None] * held + new
            out.append((held * read[:, t, :, None]).sum(-1))
        return torch.stack(out, 1).flatten(-2) + self.skip * x


def _quantile(share: Tensor) -> Tensor:
    return 2**0.5 * torch.erfinv(2 * share - 1)


@implementation("selective_scan")
def selective_scan(node: Node) -> SelectiveScan:
    if len(node.shapes_in[0].positions) != 1:
        raise ImplementationError(f"{node.path}: a selective scan needs a sequence, not {node.shapes_in[0]}")
    return SelectiveScan(node)
