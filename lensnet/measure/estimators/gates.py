"""What a channel gate that looks at all positions needs to know of the gradient."""

from __future__ import annotations

from torch import Tensor

from lensnet.measure.estimators.registry import estimator
from lensnet.measure.estimators.tokens import tokens
from lensnet.network.graph import Node


@estimator("gradient_signal_coherence", subject="gradient")
def gradient_signal_coherence(g: Tensor, x: Tensor, node: Node) -> Tensor:
    """E_c[(sum_i g_i x_i)^2] / sum_i E_c[g_i^2] E_c[x_i^2] over the positions i, shape (E,).

    g is the gradient at the component's output, x its input. 1 where the gradients of positions and channels are
    independent, up to the number of positions where gradient and signal look alike everywhere.
    """
    gradient, signal = tokens(g, node.shape).double(), tokens(x, node.shapes_in[0]).double()
    together = (gradient * signal).sum(1).square().mean(1)
    alone = (gradient.square().mean(2) * signal.square().mean(2)).sum(1)
    return together / alone.clamp_min(1e-300)
