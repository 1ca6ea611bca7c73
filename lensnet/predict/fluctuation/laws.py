"""What single components add to ln q or leave of it: masks, orthogonal weights, norms; and signals made larger."""

from __future__ import annotations

import numpy as np

from lensnet.levels.ladder import Level
from lensnet.levels.signal import Field, Law, Signal
from lensnet.network.graph import Node
from lensnet.predict.fluctuation.log_law import LogLaw


def one_by_one(node: Node) -> tuple[str, ...]:
    """What is in doubt where several weight layers work together in one component."""
    return (f"the noise of {node.path} is that of its weight layers one by one",) if len(node.weights) > 1 else ()


def flattened(node: Node) -> float:
    """Rows of the input for each row of the output, where these hold the same numbers; else 1."""
    into, out = node.shapes_in[0], node.shape
    if node.weights or into.features != out.features:
        return 1.0
    return into.position_count / out.position_count


def standardises_batch(node: Node) -> bool:
    """Whether every channel leaves with a fixed mean and power over the batch: an average over the batch keeps neither
    the mean nor the power of its neurons as noise."""
    component = node.component
    batch = any(need.startswith("batch_") for need in component.needs) and node.parameters.get("mode") != "eval"
    return component.scale_invariant and batch


def mask_law(node: Node, kurtosis: float) -> LogLaw:
    """What a dropout mask, drawn anew for every row, adds to ln q: the variance rate/(1 - rate) E x^4/(E x^2)^2/n."""
    if node.component.implementation != "dropout" or node.parameters.get("mode") == "eval":
        return LogLaw()
    rate = float(node.parameters["rate"])
    variance = rate / (1 - rate) * kurtosis / node.shape.channels
    return LogLaw(-variance / 2, variance)


def removes_mean(node: Node) -> bool:
    """Whether a normalisation fixes the mean over the channels of a single row as well as their power."""
    component = node.component
    if not component.scale_invariant or any(not need.startswith("gradient_") for need in component.needs):
        return False
    mean = component.effects(Level.MOMENTS).get("mean")
    return mean is not None and "m" not in mean.formula.uses


def normalised(node: Node) -> int:
    """Numbers whose length a norm fixes together."""
    whole = node.parameters.get("over") == "example"
    return node.shape.features if whole else node.shape.channels


def orthogonal(fan_in: int, units: int) -> LogLaw:
    """ln |Q x|^2 of `units` orthonormal rows of length `fan_in`, relative to its average: a beta variable.

    Orthonormal columns (units >= fan_in) keep every length.
    """
    if units >= fan_in:
        return LogLaw()
    from scipy.special import polygamma, psi

    a, b = units / 2, fan_in / 2
    mean = float(psi(a) - psi(b)) - float(np.log(units / fan_in))
    return LogLaw(mean, *(float(polygamma(order, a) - polygamma(order, b)) for order in (1, 2, 3)))


def average(law: Law) -> tuple[float, float]:
    """Mean and standard deviation of the Gaussian behind a signal, at the average over the batch."""
    return float(np.mean(law.mean)), float(np.sqrt(np.mean(law.variance)))


def scaled(signal: Signal, factor: float) -> Signal:
    """The same signal with its second moment multiplied by a factor."""
    root: Field | float = float(np.sqrt(factor))
    law = signal.law
    if law is not None:
        law = Law(law.mean * root, law.variance * factor, law.terms, law.origin, law.chain)
    return Signal(signal.mean * root, signal.second_moment * factor, law, signal.side)
