"""Products of two signals that are summed over one axis."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lensnet.measure.errors import ImplementationError
from lensnet.measure.layers.registry import implementation
from lensnet.network.contraction import operands_of
from lensnet.network.graph import Node


class Contract(nn.Module):
    """y[w, f, g; h, c, d] = sum over k of left[w, f, k; h, c] right[w, g, k; h, d] (`lensnet.network.contraction`)."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        try:
            self.sides = operands_of(node)
        except ValueError as error:
            raise ImplementationError(f"{node.path}: {error}") from None
        self.axes, self.shape = [shape.channel_axis for shape in node.shapes_in], node.shape

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = (
            side.cut(x.movedim(axis, -1)) for side, axis, x in zip(self.sides, self.axes, (left, right), strict=True)
        )
        y = torch.einsum("nwhkfc,nwhkgd->nwfghcd", a, b)
        return y.reshape(len(y), *self.shape.positions, self.shape.channels).movedim(-1, self.shape.channel_axis)


@implementation("contract")
def contract(node: Node) -> Contract:
    return Contract(node)
