"""What a max pool does to the component in front of it: the gradient that it sends back prefers large values.

A pointwise component blocks E f'(z)**2 of a gradient that knows nothing of z. Behind a max pool the gradient sits on
the winners: after a ReLU nearly all of these are active, so the ReLU passes almost everything instead of one half.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lensnet.levels.signal import Field, Signal
from lensnet.network.geometry import Pointwise, Window
from lensnet.network.graph import Network, Node
from lensnet.predict.moments.pointwise import chained, function_of, gaussian_behind, slope_of
from lensnet.predict.window_maximum import selected_mean, window_maximum

MAXIMA = ("max_pool1d", "max_pool2d", "max_pool3d")
PRODUCTS = "window_products"
SELECTION_ERROR = 0.01  # of the integral over windows


def pool_behind(network: Network, node: Node) -> Node | None:
    """The max pool that alone receives the output of a pointwise component, directly or through components that only
    scale it; None where there is none."""
    if node.component.function is None:
        return None
    path = node.path
    while len(network.consumers(path)) == 1:
        follower, _ = network.consumers(path)[0]
        if follower.component.implementation in MAXIMA:
            return follower
        scales = follower.component.law in ("kept", "scaled") and isinstance(follower.geometry, Pointwise)
        if not scales or len(follower.ports) > 1:
            return None
        path = follower.path
    return None


def selected_slope(
    node: Node, signal: Signal, pool: Node, pool_signal: Signal, gradient: Callable[[], Field | None]
) -> Field | None:
    """E[g**2 f'(z)**2]/E[g**2] for the gradient g that arrives at `node` from `pool`: the factor on its second moment.

    `signal`: at the input of the node; `pool_signal`: at the input of the pool, with its side quantities;
    `gradient()`: second moment of the gradient at the pool's output, `(E, *positions_out)`. None where the law of the
    signal is unknown, or nothing tells how alike the taps are: then the gradient must be taken as indifferent.
    """
    products = pool.given.get(PRODUCTS, pool_signal.side.get(PRODUCTS))
    law = gaussian_behind(signal)
    if products is None or signal.law is None or pool_signal.law is None or not isinstance(pool.geometry, Window):
        return None
    if pool_signal.law.origin != law.origin:
        return None
    arriving = gradient()
    if arriving is None:
        return None
    slope = chained(law, slope_of(function_of(node)))
    maximum = window_maximum(pool.geometry, pool.shapes_in[0].positions, pool_signal, products)
    return selected_mean(maximum, lambda z: np.asarray(slope(z)) ** 2, arriving)
