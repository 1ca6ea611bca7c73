"""Components that rearrange a tensor and compute nothing."""

from __future__ import annotations

from torch import Tensor, nn

from lensnet.measure.layers.registry import implementation
from lensnet.network.graph import Node


class Transpose(nn.Module):
    """Positions and channels change places: `(N, T, C)` -> `(N, C, T)`; of an image all positions in a row."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2) if x.dim() == 3 else x.flatten(2)


@implementation("transpose")
def transpose(node: Node) -> Transpose:
    return Transpose()
