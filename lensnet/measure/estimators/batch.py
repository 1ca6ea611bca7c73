"""How alike the examples of the batch are."""

from __future__ import annotations

import torch
from torch import Tensor

from lensnet.measure.estimators.registry import estimator
from lensnet.measure.estimators.tokens import tokens
from lensnet.network.graph import Node
from lensnet.network.shape import Shape


@estimator("batch_mean_square")
def batch_mean_square(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E_c[xbar_c^2], one number, where xbar_c is the mean of channel c over examples and positions."""
    return _batch_mean(x, shape).square().mean()


@estimator("batch_overlap")
def batch_overlap(x: Tensor, shape: Shape, node: Node) -> Tensor:
    """E_c[x_c xbar_c], a field (E, *positions), where xbar_c is the mean of channel c over examples and positions."""
    overlap = tokens(x, shape).double() @ _batch_mean(x, shape)
    return (overlap / shape.channels).reshape(x.shape[0], *shape.positions)


def _batch_mean(x: Tensor, shape: Shape) -> Tensor:
    """Mean of every channel over examples and positions, float64."""
    axes = [axis for axis in range(x.dim()) if axis != shape.channel_axis]
    return x.mean(axes, dtype=torch.float64)
