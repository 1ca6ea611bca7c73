"""Recurrent layers over (N, T, C): every hidden state of one layer, from a state of zero."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import RandomLayer, implementation
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


@implementation("lstm")
def lstm(node: Node) -> LSTM:
    return LSTM(node)


@implementation("gru")
def gru(node: Node) -> GRU:
    return GRU(node)
