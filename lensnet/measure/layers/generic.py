"""Components that a user makes of parts: random mixing, and expressions over tensors."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import RandomLayer, implementation, parameter
from lensnet.network.graph import Node


class Mix(RandomLayer):
    """Independent random weights over channels, over positions (the same for every channel), or over both at once.

    The positions are taken as one row-by-row list, and their number stays the same.
    """

    def __init__(self, node: Node, over: str) -> None:
        super().__init__()
        self.over = over
        self.given, self.made = node.shapes_in[0], node.shape
        outputs, inputs = self.made.channels, self.given.channels
        places = self.given.position_count
        if over == "positions":
            if outputs != inputs:
                raise ImplementationError(f"{node.path}: mixing over positions keeps the {inputs} channels")
            shape, bias = (places, places), (places,)
        elif over == "channels":
            shape, bias = (outputs, inputs), (outputs,)
        elif over == "both":
            shape, bias = (places * outputs, places * inputs), (places * outputs,)
        else:
            raise ImplementationError(f"{node.path}: over is channels, positions or both, not {over!r}")
        self.add_weight("weight", node.weights["weight"], shape, bias)

    def forward(self, x: Tensor) -> Tensor:
        examples, places = x.shape[0], self.given.position_count
        channels_axis = self.given.channel_axis
        rows = x.movedim(channels_axis, -1).reshape(examples, places, self.given.channels)
        if self.over == "channels":
            rows = F.linear(rows, self.weight, self.bias)
        elif self.over == "positions":
            rows = F.linear(rows.transpose(1, 2), self.weight, self.bias).transpose(1, 2)
        else:
            rows = F.linear(rows.flatten(1), self.weight, self.bias)
        rows = rows.reshape(examples, *self.made.positions, self.made.channels)
        return rows.movedim(-1, self.made.channel_axis)


@implementation("mix")
def mix(node: Node) -> Mix:
    return Mix(node, str(parameter(node, "over", "channels")))
