"""How alike the signals are that meet at one component."""

from __future__ import annotations

from torch import Tensor

from lensnet.measure.estimators.registry import estimator
from lensnet.measure.fields import channel_product
from lensnet.network.graph import Node
from lensnet.network.shape import Shape


@estimator("cross_moment", subject="pair")
def cross_moment(a: Tensor, b: Tensor, shape: Shape, node: Node) -> Tensor:
    """E_c[a_c b_c] between two ports, a field (E, *positions)."""
    return channel_product(a, b, shape)
