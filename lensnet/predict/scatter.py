"""How far one weight draw strays from the expectation: leading order in 1/width.

The second moment of a layer of n units is a sum of n nearly independent terms, so its relative variance over weight
draws is (kurtosis - 1)/n: 2/n for Gaussian units, 5/n after a ReLU (Hanin and Rolnick 2018: 1 + 5/n per layer). Along
a chain these variances add up, each multiplied by the square of the elasticity d ln q_out / d ln q_in of what follows:
1 for homogeneous components, 0 for scale-invariant ones, below 1 where an activation saturates, above 1 near an
unstable point of the map, where chance decides and the average map says nothing about one draw.

The number decides how a row is compared (means, or medians and logarithms) and whether the average map applies at all;
the law itself is the fluctuation level's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from lensnet.levels.ladder import Level
from lensnet.levels.signal import Field, Signal, average
from lensnet.network.graph import Node
from lensnet.predict.moments.pointwise import kurtosis, pointwise_elasticity
from lensnet.predict.prediction import Check

GAUSSIAN_KURTOSIS = 3.0


DRAWS_FOLLOW = "single draws follow the average map"
AMPLIFIED = 0.05  # relative variance above which an unstable map has left the average


@dataclass(frozen=True)
class Scatter:
    """Relative variance of a second moment over weight draws; `plain`: if every component were homogeneous."""

    variance: float = 0.0
    plain: float = 0.0

    def after(self, own: float, elasticity: float) -> Scatter:
        return Scatter(own + elasticity**2 * self.variance, own + (self.plain if elasticity else 0.0))

    def check(self) -> Check | None:
        """A failed check where instability has amplified the scatter of single draws."""
        if self.variance <= max(AMPLIFIED, 2 * self.plain):
            return None
        text = f"{DRAWS_FOLLOW} (relative variance {self.variance:.2g}, at most {AMPLIFIED:g})"
        return Check(text, AMPLIFIED / self.variance - 1, Level.FLUCTUATION)


def scatter_after(node: Node, signals: Sequence[Signal], before: Sequence[Scatter], second_moment: Field) -> Scatter:
    """The scatter at a component's output from that at its ports (the largest counts where several meet)."""
    worst = max(before, key=lambda scatter: scatter.variance)
    return worst.after(own_scatter(node, signals), elasticity(node, signals, second_moment))


def own_scatter(node: Node, signals: Sequence[Signal]) -> float:
    """What this component adds to the relative variance of the second moment over weight draws."""
    coherence = node.component.coherence.kind
    if coherence == "fresh" and node.weights:
        return (GAUSSIAN_KURTOSIS - 1.0) / node.shape.channels
    if coherence == "pointwise":
        excess = kurtosis(node, signals[0]) - GAUSSIAN_KURTOSIS
        return max(excess, 0.0) / node.shape.channels if isfinite(excess) else 0.0
    return 0.0


def elasticity(node: Node, signals: Sequence[Signal], second_moment: Field) -> float:
    """d ln q_out / d ln q_in at the average signal."""
    if node.component.scale_invariant:
        return 0.0
    if node.component.function is not None:
        value = pointwise_elasticity(node, signals[0])
        return value if isfinite(value) else 1.0
    if len(node.weights) == 1 and len(node.ports) == 1:
        (law,) = node.weights.values()
        total = average(second_moment)
        return 1.0 - (law.bias_mean**2 + law.bias_std**2) / total if total > 0 else 1.0
    return 1.0
