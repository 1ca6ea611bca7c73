"""How far one weight draw strays from the expectation: leading order in 1/width.

The second moment of a layer of n units is a sum of n nearly independent terms, so its relative variance over weight
draws is (kurtosis - 1)/n: 2/n for Gaussian units, 5/n after a ReLU (Hanin and Rolnick 2018: 1 + 5/n per layer). Along
a chain the relative variances of homogeneous layers add up; a scale-invariant component starts afresh. The number only
decides how a row is compared (means, or medians and logarithms); the law itself is the fluctuation level's.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from lensnet.levels.signal import Signal
from lensnet.network.graph import Node
from lensnet.predict.moments.pointwise import kurtosis

GAUSSIAN_KURTOSIS = 3.0


def own_scatter(node: Node, signals: Sequence[Signal]) -> float:
    """What this component adds to the relative variance of the second moment over weight draws."""
    coherence = node.component.coherence.kind
    if coherence == "fresh" and node.weights:
        return (GAUSSIAN_KURTOSIS - 1.0) / node.shape.channels
    if coherence == "pointwise":
        excess = kurtosis(node, signals[0]) - GAUSSIAN_KURTOSIS
        return max(excess, 0.0) / node.shape.channels if isfinite(excess) else 0.0
    return 0.0
